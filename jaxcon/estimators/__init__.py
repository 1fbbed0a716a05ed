"""Estimators of scikit-learn's kind whose predictions obey shape rules.

They need scikit-learn, the extra ``jaxcon[sklearn]``, and are not imported by ``import
jaxcon``.
"""

from jaxcon.estimators._classifier import ShapeConstrainedClassifier
from jaxcon.estimators._quantiles import ShapeConstrainedQuantileRegressor
from jaxcon.estimators._regressor import ShapeConstrainedRegressor
from jaxcon.estimators._storage import load, save

__all__ = [
    "ShapeConstrainedClassifier",
    "ShapeConstrainedQuantileRegressor",
    "ShapeConstrainedRegressor",
    "load",
    "save",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
