r"""y = 2x in the mean, and at every point, against targets that are off.

.. math::
    t(x) = 2 x + 0.2 + 0.5 \sin(2 \pi x)

In the mean the answer is t - 0.2, at every point 2x.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start
from benchmarks.problems.networks._tanh import at, draw, root_mean_square

OFFSET, WAVE = 0.2, 0.5


def arrays(seed: int) -> Arrays:
    """Returns targets at 64 midpoints; the seed is of the weights."""
    rng = np.random.default_rng([seed, 5])
    x = (np.arange(64)[:, None] + 0.5) / 64
    dense = (np.arange(1024)[:, None] + 0.5) / 1024
    wave = WAVE * np.sin(2 * np.pi * x[:, 0])
    curve = 2 * dense[:, 0] + WAVE * np.sin(2 * np.pi * dense[:, 0])
    return {
        "x": x.astype(np.float32),
        "y": (2 * x[:, 0] + OFFSET + wave).astype(np.float32),
        "dense": dense.astype(np.float32),
        "truth in the mean": curve.astype(np.float32),
        "weights": draw(rng, (1, 32, 1)),
    }


def misfit(params: Any, batch: Any) -> jax.Array:
    """Evaluates the errors at the targets, (n,)."""
    return at(params, batch["x"]) - batch["y"]


def excess(params: Any, batch: Any) -> jax.Array:
    """Evaluates f(x) - 2x at every point, (n,)."""
    return at(params, batch["x"]) - 2 * batch["x"][:, 0]


def problem_in_the_mean(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Fits the targets by a network that is 2x in the mean."""
    double = {"double": lambda params, batch: jnp.mean(excess(params, batch))}
    return _problem(arrays, double)


def problem_pointwise(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Fits the targets by a network that is 2x at every point."""
    return _problem(arrays, {"double": excess})


def _problem(arrays: Arrays, equality: Any) -> tuple[jc.Lagrangian, Any, Any]:
    loss = jc.MeanSquares({"misfit": misfit})
    batch = {name: jnp.asarray(arrays[name]) for name in ("x", "y")}
    problem = jc.Lagrangian(loss, jc.Constraints(equality=equality))
    return problem, start(arrays), batch


def off_in_the_mean(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the mean's distance to zero on the dense grid, (1,)."""
    return jnp.abs(jnp.mean(excess(params, {"x": arrays["dense"]})))[None]


def off_pointwise(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the distances to 2x on the dense grid."""
    return jnp.abs(excess(params, {"x": arrays["dense"]}))


def error_in_the_mean(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the root mean square distance to t - 0.2."""
    return root_mean_square(at(params, arrays["dense"]) - arrays["truth in the mean"])


def error_pointwise(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the root mean square distance to 2x."""
    return root_mean_square(excess(params, {"x": arrays["dense"]}))


MEAN = NetworkProblem(
    "y = 2x in the mean",
    arrays,
    problem_in_the_mean,
    off_in_the_mean,
    error_in_the_mean,
    "RMSE to the answer",
    enough=1e-3,
)
POINTWISE = NetworkProblem(
    "y = 2x pointwise",
    arrays,
    problem_pointwise,
    off_pointwise,
    error_pointwise,
    "RMSE to 2x",
    enough=1e-3,
)
