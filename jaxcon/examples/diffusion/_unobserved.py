"""Estimates of the law from averages over unobserved paths."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxcon.derivatives import value_and_jacobian
from jaxcon.examples._example import Findings
from jaxcon.examples.diffusion._law import (
    DRIFT,
    LAMBDA,
    LAW,
    NOISE,
    START,
    TIMES,
    UNSEEN,
    VOLATILITY,
    moment_covariance,
    second_moments,
    simulate,
)
from jaxcon.identifiability import Identification, cramer_rao_bound, identify
from jaxcon.report import new_figure


def unobserved(seed: int = 0) -> Findings:
    """Identifies lambda, mu and sigma from k alone, of many unobserved paths.

    Args:
        seed: as in `findings`.

    Returns:
        Its `Findings`.
    """
    times = jnp.asarray(TIMES)
    find = jax.jit(recovered)
    rows, found = [], []
    for start, guess in ((1.0, 1.0), (0.0, 1.0), (0.0, 0.3), (0.0, 4.0)):
        k = unseen(jax.random.key(seed), start)
        params, noise = find(k, start, {"lambda": guess, "mu": 1.0, "sigma": 1.0})
        found.append(identify(partial(law, times, start), params, noise))
        name = f"x0 = {start:g}, from lambda {guess:g}"
        rows.append({"method": name} | _said(found[-1]))
    many, covered = repeated(jax.random.split(jax.random.key(seed + 1), 200))
    shares = ", ".join(f"{name} in {share:.1%}" for name, share in covered.items())
    first, *_, last = found
    blur = rows[0]["error of sigma"] / rows[0]["sigma"]
    return Findings(
        "unobserved paths",
        rows,
        f"x0 = 1: {first}\n"
        f"Of 200 data sets, 95 % intervals cover {shares}. They are exact for small "
        f"errors only; sigma's standard error above is {blur:.0%} of sigma.\n"
        f"x0 = 0: {last}\n"
        "Where a fit then ends depends on where it began; the two products do not.",
        {"diffusion-unobserved": lambda path: _draw_unobserved(many, rows, path)},
    )


def law(times: jax.Array, start: float, params: Any) -> jax.Array:
    """Computes the expected k for lambda, mu and sigma, (m,)."""
    moments = second_moments(times, start, params["mu"], params["sigma"])
    return params["lambda"] * moments


def scatter(times: jax.Array, start: float, params: Any) -> jax.Array:
    """Computes the covariance of k from finitely many paths and noise, (m, m)."""
    paths = moment_covariance(times, start, params["mu"], params["sigma"], UNSEEN)
    return params["lambda"] ** 2 * paths + NOISE**2 * jnp.eye(len(times))


def unseen(key: jax.Array, start: float) -> jax.Array:
    """Simulates noisy k without its paths, (m,)."""
    for_paths, for_noise = jax.random.split(key)
    times = jnp.asarray(TIMES)
    x = simulate(for_paths, times, **(LAW | {"start": start}), paths=UNSEEN)
    k = LAMBDA * jnp.mean(x**2, axis=1)
    return k + NOISE * jax.random.normal(for_noise, k.shape, k.dtype)


def recovered(k: jax.Array, start: Any, guess: Any) -> tuple[Any, jax.Array]:
    r"""Fits the parameters by Gauss-Newton steps and computes the covariance of k there.

    .. math::
        \theta \leftarrow \theta + (L^{-1} J)^+ L^{-1} (k - f(\theta)), \qquad
        L L^T = S(\theta)

    Where J has no full rank, the shortest step is taken.

    Args:
        k: observed, (m,).
        start: x0.
        guess: the initial parameters.

    Returns:
        Parameters, and the covariance of k (m, m).
    """
    times = jnp.asarray(TIMES)
    theta, unravel = ravel_pytree(guess)

    def step(theta: jax.Array, _: None) -> tuple[jax.Array, None]:
        predicted, slopes = value_and_jacobian(
            lambda theta: law(times, start, unravel(theta))
        )(theta)
        lower = jnp.linalg.cholesky(scatter(times, start, unravel(theta)))
        whiten = partial(jax.scipy.linalg.solve_triangular, lower, lower=True)
        solved = jnp.linalg.lstsq(whiten(slopes), whiten(k - predicted), rcond=1e-4)
        return theta + solved[0], None

    theta, _ = jax.lax.scan(step, theta, length=30)
    params = unravel(theta)
    return params, scatter(times, start, params)


def _said(found: Identification) -> dict[str, float]:
    values = {name: float(v) for name, v in zip(found.names, found.estimate)}
    errors = found.standard_errors
    return (
        values
        | {f"error of {name}": errors.get(name, np.inf) for name in values}
        | {
            f"lambda {name}²": values["lambda"] * values[name] ** 2
            for name in ("mu", "sigma")
        }
    )


def repeated(keys: jax.Array) -> tuple[dict[str, jax.Array], dict[str, float]]:
    """Fits the parameters of many data sets with x0 = 1 and computes the coverage.

    Args:
        keys: typed keys, (r,).

    Returns:
        Parameters, each (r,), and of each the share of 95 % intervals that cover it.
    """
    truth = {"lambda": LAMBDA, "mu": DRIFT, "sigma": VOLATILITY}

    def one(key: jax.Array) -> tuple[Any, jax.Array]:
        guess = {"lambda": 1.0, "mu": 1.0, "sigma": 1.0}
        params, noise = recovered(unseen(key, START), START, guess)
        bound = cramer_rao_bound(partial(law, jnp.asarray(TIMES), START), params, noise)
        return params, jnp.sqrt(jnp.diag(bound))

    params, errors = jax.jit(partial(jax.lax.map, one, batch_size=20))(keys)
    return params, {
        name: float(jnp.mean(jnp.abs(params[name] - truth[name]) <= 1.96 * error))
        for name, error in zip(sorted(truth), errors.T)
    }


def _draw_unobserved(many: Any, rows: Any, path: Path) -> None:
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    cloud = {name: np.asarray(values) for name, values in many.items()}
    axes.scatter(cloud["lambda"], cloud["sigma"], s=6, label="x0 = 1, 200 data sets")
    blind = [row for row in rows if np.isinf(row["error of lambda"])]
    line = np.geomspace(0.4, 5, 100)
    axes.plot(
        line,
        np.sqrt(blind[0]["lambda sigma²"] / line),
        color="0.6",
        label="x0 = 0: the same k all along",
    )
    ends = [(row["lambda"], row["sigma"]) for row in blind]
    axes.scatter(*zip(*ends), color="C3", label="x0 = 0, three fits to one data set")
    axes.scatter(LAMBDA, VOLATILITY, color="black", marker="+", s=100, label="truth")
    axes.set_xlabel("lambda")
    axes.set_title("sigma")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
