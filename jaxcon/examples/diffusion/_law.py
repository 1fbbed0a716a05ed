"""Simulated paths of the diffusion and the moments of their law."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LAMBDA = 1.7  # no power of two, by which rounding would be exact
START = 1.0  # x0
DRIFT = 0.5  # mu, per unit of time
VOLATILITY = 0.8  # sigma, per square root of a unit of time
TIMES = np.arange(1, 51) / 50
PATHS = 200
UNSEEN = 5000  # paths behind a k whose paths are unobserved
NOISE = 0.05  # standard deviation, in units of k
LAW = {"start": START, "drift": DRIFT, "volatility": VOLATILITY}


def simulate(
    key: jax.Array,
    times: jax.Array,
    *,
    start: float,
    drift: float,
    volatility: float,
    paths: int,
) -> jax.Array:
    r"""Simulates paths of a diffusion with constant drift, by exact transitions.

    .. math::
        x_{j+1} = x_j + \mu\, \Delta_j + \sigma \sqrt{\Delta_j}\, z_j, \qquad
        z_j \sim N(0, 1)

    Args:
        key: a typed key.
        times: increasing, the first above 0, (m,).
        start: x0, at time 0.
        drift: mu, per unit of time.
        volatility: sigma, per square root of a unit of time.
        paths: n.

    Returns:
        Shape (m, n).
    """
    steps = jnp.diff(times, prepend=0.0)[:, None]
    shocks = jax.random.normal(key, (len(times), paths), steps.dtype)
    return start + jnp.cumsum(drift * steps + volatility * jnp.sqrt(steps) * shocks, 0)


def second_moments(
    times: jax.Array, start: Any, drift: Any, volatility: Any
) -> jax.Array:
    r"""Computes the expectation of the mean of squared paths.

    .. math::
        E\, x_j^2 = (x_0 + \mu t_j)^2 + \sigma^2 t_j

    Args:
        times: (m,).
        start: x0.
        drift: mu, per unit of time.
        volatility: sigma, per square root of a unit of time.

    Returns:
        Shape (m,).
    """
    return (start + drift * times) ** 2 + volatility**2 * times


def moment_covariance(
    times: jax.Array, start: Any, drift: Any, volatility: Any, paths: int
) -> jax.Array:
    r"""Computes the covariance of means of squares over n paths.

    .. math::
        C_{jl} = \frac{2 c_{jl}^2 + 4 a_j a_l c_{jl}}{n}, \qquad
        c_{jl} = \sigma^2 \min(t_j, t_l), \qquad a_j = x_0 + \mu t_j

    Args:
        times: (m,).
        start: x0.
        drift: mu, per unit of time.
        volatility: sigma, per square root of a unit of time.
        paths: n.

    Returns:
        Shape (m, m).
    """
    c = volatility**2 * jnp.minimum(times[:, None], times[None, :])
    a = start + drift * times
    return (2 * c**2 + 4 * jnp.outer(a, a) * c) / paths


def least_squares(k: jax.Array, m: jax.Array) -> jax.Array:
    r"""Computes the constant of the least-squares fit.

    .. math::
        \hat\lambda = \frac{\sum_j k_j m_j}{\sum_j m_j^2}

    Args:
        k: observed averages, (m,).
        m: means of squared paths, (m,).

    Returns:
        Shape ().
    """
    return k @ m / (m @ m)


def conditional_mean(x: jax.Array, times: jax.Array, k: jax.Array) -> jax.Array:
    r"""Computes the mean of k given x, the optimum of a network of one x alone.

    .. math::
        E[k \mid x] = \frac{\sum_j w_j(x)\, k_j}{\sum_j w_j(x)}, \qquad
        w_j(x) = N(x;\; x_0 + \mu t_j,\; \sigma^2 t_j)

    where w is the density of x at time j under the law that this example simulates, with
    all times equally likely.

    Args:
        x: places, (l,).
        times: (m,).
        k: at those times, (m,).

    Returns:
        Shape (l,).
    """
    mean, deviation = START + DRIFT * times, VOLATILITY * jnp.sqrt(times)
    log_w = jax.scipy.stats.norm.logpdf(x[:, None], mean[None, :], deviation[None, :])
    return jax.nn.softmax(log_w, axis=1) @ k


def mean_squared_error(params: Any, batch: Any) -> jax.Array:
    """Evaluates the mean squared error of k for a constant lambda.

    Args:
        params: {"lambda": ()}.
        batch: "m" and "k", (m,) each.

    Returns:
        The mean of squares, ().
    """
    return jnp.mean((params["lambda"] * batch["m"] - batch["k"]) ** 2)


def data(key: jax.Array, unit: float = 1.0) -> dict[str, jax.Array]:
    """Simulates paths and their noise-free averages.

    Args:
        key: a typed key.
        unit: a factor of the paths, as if measured in other units.

    Returns:
        Paths "x" (m, n), their mean squares "m" (m,) and "k" (m,).
    """
    x = unit * simulate(key, jnp.asarray(TIMES), **LAW, paths=PATHS)
    m = jnp.mean(x**2, axis=1)
    return {"x": x, "m": m, "k": LAMBDA * m}


def normalised(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Normalises data to a root mean square of m of one, which does not change lambda.

    Args:
        batch: "m" and "k", (m,) each.

    Returns:
        Both, divided by the root mean square of m.
    """
    size = jnp.sqrt(jnp.mean(batch["m"] ** 2))
    return {"m": batch["m"] / size, "k": batch["k"] / size}
