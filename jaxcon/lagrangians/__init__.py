r"""Lagrangians: the problem, the objectives made of it, and rules for penalties.

Four classics for :math:`\min f` s.t. :math:`h = 0, g \le 0`:

- Lagrangian (Arrow-Hurwicz): `lagrangian`, with gradient ascent on the multipliers.
- Quadratic penalty: `augmented_lagrangian` with multipliers that stay zero.
- Method of multipliers (Hestenes, Powell, Rockafellar): `augmented_lagrangian`, and
  multipliers replaced by `multiplier_estimates` after each minimisation.
- Penalty-barrier multipliers (Ben-Tal, Zibulevsky): `penalty_barrier_lagrangian`.
"""

from jaxcon.lagrangians._batch import SplitBatch
from jaxcon.lagrangians._batch import split as split
from jaxcon.lagrangians._formulas import (
    augmented_lagrangian,
    lagrangian,
    multiplier_estimates,
    penalty_barrier_lagrangian,
    safeguarded_estimates,
    zero_multipliers,
)
from jaxcon.lagrangians._formulas import (
    check_match as check_match,
)
from jaxcon.lagrangians._formulas import (
    check_penalty as check_penalty,
)
from jaxcon.lagrangians._formulas import (
    penalty_of as penalty_of,
)
from jaxcon.lagrangians._lagrangian import Evaluation, Lagrangian, Point
from jaxcon.lagrangians._lagrangian import Loss as Loss
from jaxcon.lagrangians._penalty_rules import (
    PenaltyRule,
    adaptive_penalty,
    constant_penalty,
    growing_penalty,
    scheduled_penalty,
)
from jaxcon.lagrangians._penalty_rules import (
    has_stalled as has_stalled,
)
from jaxcon.lagrangians._penalty_rules import (
    penalty_rule as penalty_rule,
)
from jaxcon.lagrangians._penalty_rules import (
    unsettled as unsettled,
)
from jaxcon.lagrangians._sharing import shared as shared

__all__ = [
    "Evaluation",
    "Lagrangian",
    "PenaltyRule",
    "Point",
    "SplitBatch",
    "adaptive_penalty",
    "augmented_lagrangian",
    "constant_penalty",
    "growing_penalty",
    "lagrangian",
    "multiplier_estimates",
    "penalty_barrier_lagrangian",
    "safeguarded_estimates",
    "scheduled_penalty",
    "zero_multipliers",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
