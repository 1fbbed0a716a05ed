"""Noisy samples of a function that rises, in one input and in two."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start
from benchmarks.problems.networks._tanh import at, draw, grid, net, root_mean_square

NOISE_1D, NOISE_2D = 0.2, 0.1


def arrays_1d(seed: int) -> Arrays:
    """Draws 60 samples of two steps on [0, 1]."""
    rng = np.random.default_rng([seed, 1])
    x = np.sort(rng.uniform(size=(60, 1)), axis=0).astype(np.float32)
    dense = grid(2001)

    def truth(x: np.ndarray) -> np.ndarray:
        return (np.tanh(12 * (x[:, 0] - 0.3)) + np.tanh(12 * (x[:, 0] - 0.8))) / 2

    return {
        "x": x,
        "y": (truth(x) + NOISE_1D * rng.normal(size=60)).astype(np.float32),
        "points": grid(200),
        "dense": dense,
        "truth": truth(dense).astype(np.float32),
        "weights": draw(rng, (1, 64, 64, 1), spread=4.0),
    }


def arrays_2d(seed: int) -> Arrays:
    """Draws 200 samples of a step plus a square on the unit square."""
    rng = np.random.default_rng([seed, 2])
    x = rng.uniform(size=(200, 2)).astype(np.float32)
    dense = grid(81, 81)

    def truth(x: np.ndarray) -> np.ndarray:
        return np.tanh(6 * (x[:, 0] - 0.5)) + x[:, 1] ** 2

    return {
        "x": x,
        "y": (truth(x) + NOISE_2D * rng.normal(size=200)).astype(np.float32),
        "points": grid(31, 31),
        "margin": np.float32(0.05),
        "dense": dense,
        "truth": truth(dense).astype(np.float32),
        "weights": draw(rng, (2, 64, 64, 1), spread=1.5),
    }


def misfit(params: Any, batch: Any) -> jax.Array:
    """Evaluates the errors at the samples, (n,)."""
    return at(params, batch["x"]) - batch["y"]


def problem_1d(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Fits the samples by a network whose slope is at least zero at 200 points."""
    rises = jc.shapes.increasing(net, 0, on="points")
    constraints = jc.Constraints(inequality={"rises": rises})
    batch = {name: jnp.asarray(arrays[name]) for name in ("x", "y", "points")}
    loss = jc.MeanSquares({"misfit": misfit})
    return jc.Lagrangian(loss, constraints), start(arrays), batch


def problem_2d(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Fits the samples by a network whose slopes are at least a margin at 961 points."""
    margin = float(arrays["margin"])
    constraints = jc.Constraints(
        inequality={
            f"rises in {i}": jc.tighten(
                jc.shapes.increasing(net, i, on="points"), margin
            )
            for i in (0, 1)
        }
    )
    batch = {name: jnp.asarray(arrays[name]) for name in ("x", "y", "points")}
    loss = jc.MeanSquares({"misfit": misfit})
    return jc.Lagrangian(loss, constraints), start(arrays), batch


def falls(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates how steeply the network falls on the dense grid, in any input."""
    slopes = jax.vmap(jax.grad(partial(net, params)))(arrays["dense"])
    return jnp.maximum(-slopes, 0.0).ravel()


def error(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the root mean square distance to the truth."""
    return root_mean_square(at(params, arrays["dense"]) - arrays["truth"])


MONOTONE_1D = NetworkProblem(
    "monotone 1-D", arrays_1d, problem_1d, falls, error, "RMSE to the truth"
)
MONOTONE_2D = NetworkProblem(
    "monotone 2-D", arrays_2d, problem_2d, falls, error, "RMSE to the truth"
)
