"""Three sigmoid outputs that must sum to one at every point."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start
from benchmarks.problems.networks._tanh import draw, grid, outputs, root_mean_square

MEANS, DEVIATION, LABELS = np.array([0.25, 0.5, 0.75]), 0.12, 300


def arrays(seed: int) -> Arrays:
    """Draws 300 labelled points around three means."""
    rng = np.random.default_rng([seed, 6])
    label = rng.integers(3, size=4 * LABELS)
    x = MEANS[label] + DEVIATION * rng.normal(size=4 * LABELS)
    kept = np.flatnonzero((x >= 0) & (x <= 1))[:LABELS]
    dense = grid(1001)
    energy = -((dense - MEANS) ** 2) / (2 * DEVIATION**2)
    truth = np.exp(energy) / np.sum(np.exp(energy), axis=1, keepdims=True)
    return {
        "x": x[kept, None].astype(np.float32),
        "label": label[kept].astype(np.int32),
        "points": grid(64),
        "dense": dense,
        "truth": truth.astype(np.float32),
        "weights": draw(rng, (1, 32, 3), spread=4.0),
    }


def probabilities(params: Any, x: jax.Array) -> jax.Array:
    """Evaluates the outputs at one x (1,), shape (3,)."""
    return jax.nn.sigmoid(outputs(params, x))


def cross_entropy(params: Any, batch: Any) -> jax.Array:
    """Evaluates the mean negative logarithm of the labels' outputs, ()."""
    logits = jax.vmap(outputs, (None, 0))(params, batch["x"])
    own = jnp.take_along_axis(logits, batch["label"][:, None], axis=1)
    return jnp.mean(jax.nn.softplus(-own))


def problem(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Maximises the likelihood of outputs that sum to one at 64 points."""
    whole = jc.shapes.sums_to(probabilities, 1.0, on="points")
    constraints = jc.Constraints(equality={"sum": whole})
    batch = {name: jnp.asarray(arrays[name]) for name in ("x", "label", "points")}
    return jc.Lagrangian(cross_entropy, constraints), start(arrays), batch


def off_one(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the sum's distances to one on the dense grid."""
    p = jax.vmap(probabilities, (None, 0))(params, arrays["dense"])
    return jnp.abs(jnp.sum(p, axis=1) - 1)


def error(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the root mean square distance to the true probabilities."""
    p = jax.vmap(probabilities, (None, 0))(params, arrays["dense"])
    return root_mean_square(p - arrays["truth"])


SUM_TO_ONE = NetworkProblem(
    "sum to one", arrays, problem, off_one, error, "RMSE to the truth"
)
