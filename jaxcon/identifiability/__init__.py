r"""Identifiability of parameters in inverse problems: Fisher information and its rank.

A model predicts observations with normal noise, :math:`y = f(\theta) + e`,
:math:`e \sim N(0, S)`, and :math:`J = \partial f / \partial \theta` is exact. Then

.. math::
    F = J^T S^{-1} J, \qquad \operatorname{cov}(\hat\theta) \succeq F^{-1},

the Fisher information and the Cramér-Rao bound, which least squares reaches as the data
grow. No estimator determines the directions in which F is singular: `identify` finds
them, names the parameters that they touch, and gives no standard errors of those.

All results are local: they hold for small changes around the given parameters.
"""

from jaxcon.identifiability._fisher import fisher_information
from jaxcon.identifiability._identification import identify
from jaxcon.identifiability._report import Identification, NonIdentifiable
from jaxcon.identifiability._spectrum import cramer_rao_bound

__all__ = [
    "Identification",
    "NonIdentifiable",
    "cramer_rao_bound",
    "fisher_information",
    "identify",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
