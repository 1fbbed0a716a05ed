"""Moves and remembers: what optax lacks for multipliers, as optax transforms."""

from jaxcon.transforms._ascent import dual_ascent, method_of_multipliers
from jaxcon.transforms._balancing import (
    BalanceState,
    balance_by_gradient_norm,
    balance_by_relative_loss,
    balance_by_uncertainty,
    conflict_free,
    project_conflicts,
)
from jaxcon.transforms._bounds import CappedState, capped, restart_when_feasible
from jaxcon.transforms._clipping import (
    ClipState,
    bound_constraints,
    clip_by_percentile,
    clip_by_z_score,
    clip_each_example,
    clip_residual,
    counted,
    fired,
)
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
from jaxcon.transforms._terms import Terms, each_term, like, total
from jaxcon.transforms._timing import every, restart_every, when_stalled

__all__ = [
    "BalanceState",
    "CappedState",
    "ClipState",
    "DualTransform",
    "PenaltyRule",
    "Terms",
    "adaptive_penalty",
    "as_dual",
    "balance_by_gradient_norm",
    "balance_by_relative_loss",
    "balance_by_uncertainty",
    "bound_constraints",
    "capped",
    "clip_by_percentile",
    "clip_by_z_score",
    "clip_each_example",
    "clip_residual",
    "conflict_free",
    "constant_penalty",
    "counted",
    "dual_ascent",
    "each_term",
    "every",
    "fired",
    "fixed_price",
    "growing_penalty",
    "like",
    "method_of_multipliers",
    "nupi",
    "penalty_rule",
    "pid",
    "project_conflicts",
    "proximal",
    "restart_every",
    "restart_when_feasible",
    "scale_by_pi",
    "scheduled_penalty",
    "total",
    "when_stalled",
]
