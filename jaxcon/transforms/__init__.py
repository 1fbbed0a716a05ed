"""Moves and remembers: what optax lacks for multipliers, as optax transforms."""

from jaxcon.transforms._ascent import dual_ascent, method_of_multipliers
from jaxcon.transforms._bounds import CappedState, capped, restart_when_feasible
from jaxcon.transforms._control import nupi, pid, scale_by_pi
from jaxcon.transforms._entries import DualTransform, as_dual
from jaxcon.transforms._fixed import fixed_price
from jaxcon.transforms._penalty import (
    PenaltyRule,
    adaptive_penalty,
    constant_penalty,
    growing_penalty,
    penalty_rule,
    scheduled_penalty,
)
from jaxcon.transforms._proximal import proximal
from jaxcon.transforms._timing import every, restart_every, when_stalled

__all__ = [
    "CappedState",
    "DualTransform",
    "PenaltyRule",
    "adaptive_penalty",
    "as_dual",
    "capped",
    "constant_penalty",
    "dual_ascent",
    "every",
    "fixed_price",
    "growing_penalty",
    "method_of_multipliers",
    "nupi",
    "penalty_rule",
    "pid",
    "proximal",
    "restart_every",
    "restart_when_feasible",
    "scale_by_pi",
    "scheduled_penalty",
    "when_stalled",
]
