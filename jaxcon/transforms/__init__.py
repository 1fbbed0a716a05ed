"""Moves and remembers: what optax lacks for multipliers, as optax transforms."""

from jaxcon.transforms._ascent import dual_ascent

__all__ = ["dual_ascent"]
