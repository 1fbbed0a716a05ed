r"""Points where constraints are checked: where they lie, the worst of them, how they move.

A constraint on every input is enforced at finitely many, the rows of an array (n, d).
``grid``, ``uniform`` and ``sobol`` fill a box, ``boundary`` covers its faces and returns
their outward normals, and ``worst_case`` searches it for the point where a residual is
largest. The box's corners ``lower`` and ``upper`` are arrays (d,) in the inputs' units,
known when the program is traced; the points are of the default float dtype.

Points that follow the residual
-------------------------------
``rad``, ``rar_d``, ``r3`` and ``adversarial`` are rules for the ``points=`` of an order:
they move the rows of one key of the batch while the solver runs::

    rule = jc.points.rad(pde, (lower, upper), every=100)
    solver = jc.alternating(problem, primal, dual, points={"interior": rule})

The points begin as the batch has them at ``init`` and live in ``state.points``; there they
are saved, resumed and vectorised with the rest of the state. Their number stays what it
was. Dense multipliers move with them: those of each constraint whose residual depends on
the points and has one entry for each. They are point masses of a measure,

.. math:: \sum_i \lambda_i h(x_i) \approx \int h \, d\lambda

and each mass is divided among the d + 1 new points that are nearest to its old one, in
inverse proportion to their distances, in units of the points' ranges. So the sum of the
multipliers stays what it was, however dense the new points are; in one dimension their
first moment does as well where an old point lies between the two; and a point that stays
keeps its own. What averages residuals, as the momentum of a dual optimizer or the weights
of `MeanSquares`, is a function of the point instead: a new point has the mean of the
nearest old ones, with weights of the same kind.
"""

from jaxcon.points._box import Boundary, boundary, grid, sobol, uniform
from jaxcon.points._rules import PointRule, adversarial, r3, rad, rar_d
from jaxcon.points._transfer import Transfer as Transfer
from jaxcon.points._transfer import transfer as transfer
from jaxcon.points._worst_case import WorstCase, worst_case

__all__ = [
    "Boundary",
    "PointRule",
    "WorstCase",
    "adversarial",
    "boundary",
    "grid",
    "r3",
    "rad",
    "rar_d",
    "sobol",
    "uniform",
    "worst_case",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
