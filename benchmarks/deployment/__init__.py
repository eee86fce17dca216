"""How long a round takes between processes on one machine, beside stock Flower's."""
