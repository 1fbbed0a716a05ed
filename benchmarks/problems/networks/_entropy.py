"""Distribution of maximum entropy of a die with a given mean, by logarithms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start

FACES = 6


def arrays(seed: int) -> Arrays:
    """Draws the mean of a die and computes its distribution of maximum entropy."""
    rng = np.random.default_rng([seed, 13])
    mean, faces = rng.uniform(2.0, 5.0), np.arange(1, FACES + 1)

    def tilted(slope: Any) -> np.ndarray:
        weights = np.exp(slope * (faces - mean))
        return weights / weights.sum()

    slope = brentq(lambda slope: tilted(slope) @ faces - mean, -5, 5, xtol=1e-14)
    return {
        "faces": faces.astype(float),
        "mean": np.float64(mean),
        "truth": tilted(slope),
        "weights": {"logarithm": np.full(FACES, np.log(1 / FACES))},
    }


def minus_entropy(params: Any, batch: Any) -> jax.Array:
    """Evaluates the negative entropy of probabilities by their logarithms, ()."""
    return jnp.sum(jnp.exp(params["logarithm"]) * params["logarithm"])


def off_one(params: Any, batch: Any) -> jax.Array:
    """Evaluates the sum of the probabilities less one, ()."""
    return jnp.sum(jnp.exp(params["logarithm"])) - 1


def off_mean(params: Any, batch: Any) -> jax.Array:
    """Evaluates the mean less the given one, ()."""
    return jnp.exp(params["logarithm"]) @ batch["faces"] - batch["mean"]


def problem(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Maximises the entropy of a die of given mean."""
    constraints = jc.Constraints(equality={"sum": off_one, "mean": off_mean})
    batch = {name: jnp.asarray(arrays[name]) for name in ("faces", "mean")}
    return jc.Lagrangian(minus_entropy, constraints), start(arrays), batch


def violations(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates both distances, (2,)."""
    off = jnp.stack([off_one(params, arrays), off_mean(params, arrays)])
    return jnp.abs(off)


def error(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the largest distance to the true probabilities."""
    return jnp.max(jnp.abs(jnp.exp(params["logarithm"]) - arrays["truth"]))


ENTROPY = NetworkProblem(
    "maximum entropy",
    arrays,
    problem,
    violations,
    error,
    "distance to the truth",
    enough=1e-5,
)
