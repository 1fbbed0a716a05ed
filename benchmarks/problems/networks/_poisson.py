r"""Poisson's equation on the unit box, boundary values as equality constraints.

.. math::
    -\Delta u = f, \qquad u = \sin 2 \pi x + x \quad \text{or} \quad
    u = \sin \pi x \sin \pi y + x y
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start
from benchmarks.problems.networks._tanh import at, draw, grid, net


def arrays_1d(seed: int) -> Arrays:
    """Returns 64 points, both ends and a dense grid; the seed is of the weights."""
    rng = np.random.default_rng([seed, 3])
    x, ends, dense = grid(64), grid(2), grid(1001)

    def u(x: np.ndarray) -> np.ndarray:
        return (np.sin(2 * np.pi * x[:, 0]) + x[:, 0]).astype(np.float32)

    return {
        "x": x,
        "source": (4 * np.pi**2 * np.sin(2 * np.pi * x[:, 0])).astype(np.float32),
        "boundary": ends,
        "values": u(ends),
        "dense": dense,
        "truth": u(dense),
        "dense boundary": ends,
        "dense values": u(ends),
        "weights": draw(rng, (1, 64, 64, 1)),
    }


def arrays_2d(seed: int) -> Arrays:
    """Returns 400 points, 80 on the boundary and a dense grid."""
    rng = np.random.default_rng([seed, 4])
    inside = ((grid(20, 20) * 19 + 0.5) / 20).astype(np.float32)
    dense = grid(51, 51)

    def u(x: np.ndarray) -> np.ndarray:
        waves = np.sin(np.pi * x[:, 0]) * np.sin(np.pi * x[:, 1])
        return (waves + x[:, 0] * x[:, 1]).astype(np.float32)

    def edges(count: int) -> np.ndarray:
        along = np.arange(count) / count
        low, high = np.zeros(count), np.ones(count)
        sides = [(along, low), (high, along), (1 - along, high), (low, 1 - along)]
        return np.concatenate([np.stack(s, axis=1) for s in sides]).astype(np.float32)

    waves = np.sin(np.pi * inside[:, 0]) * np.sin(np.pi * inside[:, 1])
    return {
        "x": inside,
        "source": (2 * np.pi**2 * waves).astype(np.float32),
        "boundary": edges(20),
        "values": u(edges(20)),
        "dense": dense,
        "truth": u(dense),
        "dense boundary": edges(200),
        "dense values": u(edges(200)),
        "weights": draw(rng, (2, 64, 64, 1)),
    }


def equation(params: Any, batch: Any) -> jax.Array:
    """Evaluates the residual of the equation at the points, (n,)."""
    laplacian = jc.derivatives.laplacian(partial(net, params))
    return jax.vmap(laplacian)(batch["x"]) + batch["source"]


def on_boundary(params: Any, batch: Any) -> jax.Array:
    """Evaluates the errors of the boundary values, (m,)."""
    return at(params, batch["boundary"]) - batch["values"]


def problem(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Minimises the mean square of the equation's residual, boundary values given."""
    loss = jc.MeanSquares({"equation": equation})
    constraints = jc.Constraints(equality={"boundary": on_boundary})
    names = ("x", "source", "boundary", "values")
    batch = {name: jnp.asarray(arrays[name]) for name in names}
    return jc.Lagrangian(loss, constraints), start(arrays), batch


def off_boundary(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the distances to the boundary values on a dense boundary."""
    return jnp.abs(at(params, arrays["dense boundary"]) - arrays["dense values"])


def error(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the relative distance to the solution in the 2-norm."""
    missed = at(params, arrays["dense"]) - arrays["truth"]
    return jnp.linalg.norm(missed) / jnp.linalg.norm(arrays["truth"])


_NAMED = {"measure": "relative distance to u", "enough": 1e-4}
POISSON_1D = NetworkProblem(
    "Poisson 1-D", arrays_1d, problem, off_boundary, error, **_NAMED
)
POISSON_2D = NetworkProblem(
    "Poisson 2-D", arrays_2d, problem, off_boundary, error, **_NAMED
)
