r"""Inverse problem of one constant behind averages over simulated paths of a diffusion.

Paths of a diffusion with drift, :math:`dX = \mu\, dt + \sigma\, dW`, are averaged at
times t to

.. math::
    k_j = \lambda\, m_j, \qquad m_j = \frac{1}{n} \sum_{i=1}^n x_{ij}^2, \qquad
    E\, m_j = (x_0 + \mu t_j)^2 + \sigma^2 t_j,

and lambda is unknown. The example has five parts, each with its truth:

- With paths and k given it is one number, :math:`\sum km / \sum m^2`. Every method that
  converges ends within a relative 1e-6 of it in float32; descent on raw numbers diverges.
- As a function of x, constant, linear, cubic or a network, lambda is
  :math:`\tfrac12 k''(0)` of :math:`k(x) = \lambda(x)\, x^2`. Polynomials end within a
  relative 1e-5 of the constant, a network whose exact slope is constrained to zero within
  1e-3. An unconstrained network does not reach the constant, although it fits k to less
  than the noise.
- A network of x alone, trained on k, converges to :math:`E[k \mid x]`, within 2 % of its
  closed form, and never to lambda.
- Under noise, the estimator's variance is within 15 % of the Cramér-Rao bound, and 95 %
  intervals cover the truth in 90 to 98 % of data sets.
- Without the paths, k alone gives lambda, mu and sigma if x0 = 1, within four standard
  errors. If x0 = 0, `identify` finds that only lambda mu² and lambda sigma² are
  identifiable.
"""

from collections.abc import Iterator

from jaxcon.examples._example import Findings
from jaxcon.examples.diffusion._constant import constant, descend
from jaxcon.examples.diffusion._functions import (
    FAMILIES,
    average,
    error_at_zero,
    flat,
    functions,
    half_curvature,
    middle,
    naive,
    network,
    network_params,
    polynomial,
)
from jaxcon.examples.diffusion._law import (
    DRIFT,
    LAMBDA,
    LAW,
    NOISE,
    PATHS,
    START,
    TIMES,
    UNSEEN,
    VOLATILITY,
    conditional_mean,
    data,
    least_squares,
    mean_squared_error,
    moment_covariance,
    normalised,
    second_moments,
    simulate,
)
from jaxcon.examples.diffusion._noise import estimate_statistics, noisy, replicate
from jaxcon.examples.diffusion._unobserved import (
    law,
    recovered,
    repeated,
    scatter,
    unobserved,
    unseen,
)

__all__ = [
    "DRIFT",
    "FAMILIES",
    "LAMBDA",
    "LAW",
    "NOISE",
    "PATHS",
    "START",
    "TIMES",
    "UNSEEN",
    "VOLATILITY",
    "average",
    "conditional_mean",
    "constant",
    "data",
    "descend",
    "error_at_zero",
    "estimate_statistics",
    "findings",
    "flat",
    "functions",
    "half_curvature",
    "law",
    "least_squares",
    "mean_squared_error",
    "middle",
    "moment_covariance",
    "naive",
    "network",
    "network_params",
    "noisy",
    "normalised",
    "polynomial",
    "recovered",
    "repeated",
    "replicate",
    "scatter",
    "second_moments",
    "simulate",
    "unobserved",
    "unseen",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of all five parts, in about half a minute on two cores.

    Args:
        seed: of the simulations and of the networks' parameters.
        skip: first parts that are left out.

    Yields:
        `Findings` of the constant, of functions of x, of the set-up that cannot work, of
        noise, and of paths that are not observed.
    """
    for part in (constant, functions, naive, noisy, unobserved)[skip:]:
        yield part(seed)
