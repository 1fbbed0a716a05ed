"""Replications of the estimate under noise."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon.examples._example import Findings
from jaxcon.examples.diffusion._law import (
    LAMBDA,
    NOISE,
    TIMES,
    data,
    mean_squared_error,
    normalised,
)
from jaxcon.identifiability import cramer_rao_bound
from jaxcon.lagrangians import Lagrangian
from jaxcon.primal_dual import Solver, alternating
from jaxcon.report import new_figure


def noisy(seed: int = 0) -> Findings:
    """Simulates many data sets with noise on k and trains lambda on each in one program.

    Args:
        seed: as in `findings`.

    Returns:
        Its `Findings`.
    """
    reached = jax.jit(jax.vmap(replicate))(jax.random.split(jax.random.key(seed), 200))
    many = jax.jit(lambda keys: jax.lax.map(replicate, keys, batch_size=200))(
        jax.random.split(jax.random.key(seed + 1), 2000)
    )
    rows = [
        {"method": f"{len(estimates)} data sets"}
        | estimate_statistics(estimates, errors, bounds)
        for estimates, errors, bounds in (reached, many)
    ]
    return Findings(
        "noise",
        rows,
        "The variance of the trained lambda over the Cramér-Rao bound's, and how many of "
        "the reported 95 % intervals cover the truth. From 200 data sets the ratio is "
        "itself only known to 10 %.",
        {"diffusion-noise": lambda path: _draw_estimates(reached, many, path)},
    )


def replicate(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Simulates one data set and estimates lambda and its error from it.

    Args:
        key: a typed key.

    Returns:
        Estimate, standard error with the noise estimated from residuals, and the
        Cramér-Rao bound of the standard error, each of shape ().
    """
    for_paths, for_noise = jax.random.split(key)
    batch = data(for_paths)
    m = batch["m"]
    k = batch["k"] + NOISE * jax.random.normal(for_noise, m.shape, m.dtype)
    params = _stepped(
        alternating(
            Lagrangian(mean_squared_error),
            optax.sgd(0.3),
            optax.set_to_zero(),
        ),
        {"lambda": jnp.zeros(())},
        normalised({"m": m, "k": k}),
        steps=40,
    )

    def error(noise: Any) -> jax.Array:
        bound = cramer_rao_bound(lambda params: params["lambda"] * m, params, noise)
        return jnp.sqrt(bound[0, 0])

    left = k - params["lambda"] * m
    estimated = jnp.sqrt(jnp.sum(left**2) / (len(m) - 1))
    return params["lambda"], error(estimated), error(NOISE)


def _stepped(solver: Solver, params: Any, batch: Any, steps: int) -> Any:
    """Returns the parameters after some steps; unlike `jaxcon.fit` it runs inside vmap."""

    def step(state: Any, _: None) -> tuple[Any, None]:
        return solver.step(state, batch)[0], None

    state, _ = jax.lax.scan(step, solver.init(params, batch), length=steps)
    return state.params


def estimate_statistics(
    estimates: jax.Array, errors: jax.Array, bounds: jax.Array
) -> dict[str, float]:
    """Compares the scatter of the estimates of lambda with their standard errors.

    Args:
        estimates: of each data set, (r,).
        errors: their reported standard errors, (r,).
        bounds: standard errors by the Cramér-Rao bound, (r,).

    Returns:
        Mean and standard deviation of the estimates, their variance over the bound's, and
        the share of 95 % intervals (Student's t) that cover the truth.
    """
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(TIMES) - 1, 0.975))
    covered = jnp.abs(estimates - LAMBDA) <= quantile * errors
    return {
        "mean": float(jnp.mean(estimates)),
        "standard deviation": float(jnp.std(estimates, ddof=1)),
        "variance / bound": float(jnp.var(estimates, ddof=1) / jnp.mean(bounds**2)),
        "covered": float(jnp.mean(covered)),
    }


def _draw_estimates(reached: Any, many: Any, path: Path) -> None:
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    bound = float(jnp.sqrt(jnp.mean(many[2] ** 2)))
    for estimates, _, _ in (many, reached):
        axes.hist(
            np.asarray(estimates),
            bins=30,
            density=True,
            alpha=0.5,
            label=f"{len(estimates)} data sets",
        )
    x = np.linspace(LAMBDA - 4 * bound, LAMBDA + 4 * bound, 200)
    density = np.exp(-(((x - LAMBDA) / bound) ** 2) / 2) / bound / np.sqrt(2 * np.pi)
    axes.plot(x, density, color="black", label="Cramér-Rao bound")
    axes.set_xlabel("estimate of lambda")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
