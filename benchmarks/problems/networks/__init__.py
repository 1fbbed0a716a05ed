"""Network and toy problems as NumPy arrays from fixed seeds, for any framework.

``ALL["monotone 1-D"].arrays(seed)`` has everything that another framework needs, data,
points and initial weights; ``.problem(arrays)`` is the same problem for jaxcon, and
``.violation(arrays, params)`` and ``.accuracy(arrays, params)`` judge anyone's parameters
on a dense grid.
"""

from benchmarks.problems.networks._decisions import CMDP
from benchmarks.problems.networks._diffusion import LAMBDA_CONSTANT, LAMBDA_FUNCTION
from benchmarks.problems.networks._doubling import MEAN, POINTWISE
from benchmarks.problems.networks._entropy import ENTROPY
from benchmarks.problems.networks._lipschitz import LIPSCHITZ
from benchmarks.problems.networks._monotone import MONOTONE_1D, MONOTONE_2D
from benchmarks.problems.networks._poisson import POISSON_1D, POISSON_2D
from benchmarks.problems.networks._problem import Arrays, NetworkProblem
from benchmarks.problems.networks._rates import FAIRNESS, NEYMAN_PEARSON
from benchmarks.problems.networks._regulator import REGULATOR
from benchmarks.problems.networks._sum_to_one import SUM_TO_ONE
from benchmarks.problems.networks._surface import SURFACE

__all__ = ["ALL", "FURTHER", "NETWORKS", "Arrays", "NetworkProblem"]

NETWORKS = (
    MONOTONE_1D,
    MONOTONE_2D,
    SURFACE,
    POISSON_1D,
    POISSON_2D,
    MEAN,
    POINTWISE,
    SUM_TO_ONE,
    LAMBDA_CONSTANT,
    NEYMAN_PEARSON,
    FAIRNESS,
    CMDP,
    LIPSCHITZ,
)
FURTHER = (LAMBDA_FUNCTION, ENTROPY, REGULATOR)
ALL = {problem.name: problem for problem in (*NETWORKS, *FURTHER)}
