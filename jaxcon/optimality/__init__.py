r"""Optimality of a point: KKT residuals, multipliers, conflicts.

A local minimiser of :math:`f` s.t. :math:`h = 0, g \le 0` (under a constraint
qualification) has multipliers with

.. math::
    \nabla f + \sum \mu \nabla h + \sum \lambda \nabla g = 0, \quad
    h = 0, \quad g \le 0, \quad \lambda \ge 0, \quad \lambda g = 0.

`kkt` measures these at given multipliers and runs inside jit.
`polish` solves them from a point near a solution, to the last digits.
`least_squares_multipliers` and `conflict` find the multipliers at a point, on the host.
These two read the Jacobian J of the m active residuals through products with J and its
transpose: it is never formed. What is kept grows with :math:`m^2` up to 64 MB, and
beyond with m alone, and with the number of parameters. For a constraint made by
`jaxcon.proxy` every gradient here is the surrogate's.
"""

from jaxcon.optimality._active_set import active
from jaxcon.optimality._conflict import Conflict, conflict
from jaxcon.optimality._kkt import KKT, kkt
from jaxcon.optimality._least_squares import (
    LeastSquares,
    least_squares_multipliers,
    sensitivity,
)
from jaxcon.optimality._polish import polish

__all__ = [
    "KKT",
    "Conflict",
    "LeastSquares",
    "active",
    "conflict",
    "kkt",
    "least_squares_multipliers",
    "polish",
    "sensitivity",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
