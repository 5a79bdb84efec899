"""Ablations and what was found by them. Nothing imports this room, and the wheel does not hold it."""
