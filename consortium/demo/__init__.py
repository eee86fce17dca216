"""The demonstration: four hospitals whose notes this package writes itself."""
