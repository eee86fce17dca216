"""The public port before the SuperLink: what a node needs of Flower passes, nothing else does."""
