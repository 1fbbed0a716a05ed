"""Classification of two moons by a score whose slope is limited."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start
from benchmarks.problems.networks._tanh import at, draw, grid, net

LIMIT, NOISE = 10.0, 0.12  # of the slope, per side of the unit square
MARGIN = 0.02  # of the limit, kept at the points for what is between them


def _moons(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    angle = rng.uniform(0, np.pi, size=count)
    y = rng.integers(2, size=count)
    sign = 1 - 2 * y
    x = np.stack([sign * np.cos(angle) + y, sign * np.sin(angle) + 0.5 * y], axis=1)
    x += NOISE * rng.normal(size=(count, 2))
    scaled = (x - [-1.5, -1.0]) / [4.0, 2.5]
    return scaled.astype(np.float32), y.astype(np.float32)


def arrays(seed: int) -> Arrays:
    """Draws 200 examples, and 10,000 that are not trained on."""
    rng = np.random.default_rng([seed, 11])
    (x, y), (unseen, label) = _moons(rng, 200), _moons(rng, 10_000)
    return {
        "x": x,
        "y": y,
        "unseen": unseen,
        "unseen label": label,
        "points": grid(31, 31),
        "limit": np.float32((1 - MARGIN) * LIMIT),
        "dense": grid(81, 81),
        "weights": draw(rng, (2, 64, 64, 1), spread=1.5),
    }


def logistic(params: Any, batch: Any) -> jax.Array:
    """Evaluates the mean logistic loss, ()."""
    score = at(params, batch["x"])
    return jnp.mean(jax.nn.softplus(score) - batch["y"] * score)


def problem(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Classifies by a score whose slope keeps a margin to the limit at 961 points."""
    gentle = jc.shapes.lipschitz(net, float(arrays["limit"]), on="points")
    constraints = jc.Constraints(inequality={"gentle": gentle})
    batch = {name: jnp.asarray(arrays[name]) for name in ("x", "y", "points")}
    return jc.Lagrangian(logistic, constraints), start(arrays), batch


def too_steep(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the slope above the limit on the dense grid, as its share."""
    slopes = jax.vmap(jax.grad(partial(net, params)))(arrays["dense"])
    return jnp.maximum(jnp.linalg.norm(slopes, axis=1) / LIMIT - 1, 0.0)


def error(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the logistic loss on unseen examples."""
    batch = {"x": arrays["unseen"], "y": arrays["unseen label"]}
    return logistic(params, batch)


LIPSCHITZ = NetworkProblem(
    "Lipschitz classifier", arrays, problem, too_steep, error, "loss on unseen"
)
