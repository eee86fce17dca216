"""Differential privacy: what is drawn, what it costs one unit, and what an attacker can show of it."""
