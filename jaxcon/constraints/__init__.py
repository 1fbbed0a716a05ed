r"""Constraints, their residuals and their violations.

The convention is :math:`h = 0` for equalities and :math:`g \le 0` for inequalities. A
constraint is a pure function ``(params, batch) -> residual`` whose residual is a scalar
``()`` or one number per point ``(n,)``, never ``(n, 1)``: a column times a row of
multipliers broadcasts silently to a matrix, a classic bug of this field, so that shape
is refused.

One type, `Constraints`, holds functions, residuals, violations and multipliers alike. It
is a tuple split by kind, so its *structure* shows which multipliers must stay
nonnegative, without a flag.
"""

from jaxcon.constraints._changed import mapped as mapped
from jaxcon.constraints._changed import proxy, tighten
from jaxcon.constraints._checks import check_constraints as check_constraints
from jaxcon.constraints._checks import check_entries as check_entries
from jaxcon.constraints._checks import check_residual as check_residual
from jaxcon.constraints._checks import check_residuals as check_residuals
from jaxcon.constraints._constraints import (
    Constraint,
    Constraints,
    Grouped,
    named,
)
from jaxcon.constraints._constraints import grouped as grouped
from jaxcon.constraints._constraints import merged as merged
from jaxcon.constraints._constraints import only as only
from jaxcon.constraints._constraints import same as same
from jaxcon.constraints._evaluate import batch_part as batch_part
from jaxcon.constraints._evaluate import evaluate
from jaxcon.constraints._violation import (
    feasible,
    max_violation,
    violation,
    worst,
)

__all__ = [
    "Constraint",
    "Constraints",
    "Grouped",
    "evaluate",
    "feasible",
    "max_violation",
    "named",
    "proxy",
    "tighten",
    "violation",
    "worst",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
