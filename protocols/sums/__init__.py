"""The kinds of sums, one file each: which lanes its vector has, and what its total does."""
