"""Checkpoint directories: what their files hold, whether it fits the network, reading, writing, and the hash of it all."""
