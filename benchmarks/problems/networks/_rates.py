r"""Rates of a classifier: few false alarms, and equal treatment in minibatches.

Rates count and cannot be differentiated. The constraint is a proxy: the value of the true
rate, the slope of one with a sigmoid of the score over a temperature.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start
from benchmarks.problems.networks._tanh import at, draw

ALARMS = 0.05  # share of negatives that may be called positive
GAP = 0.05  # between the two groups' shares of positives
TEMPERATURE = 0.5
BATCH = 128  # examples of each group


def _sample(rng: np.random.Generator, label: int, count: int) -> np.ndarray:
    """Draws a ring of negatives around two clouds of positives, or the clouds."""
    if label == 0:
        angle = rng.uniform(0, 2 * np.pi, size=count)
        x = np.stack([1.2 * np.cos(angle), 1.2 * np.sin(angle)], axis=1)
    else:
        x = np.where(rng.uniform(size=(count, 1)) < 0.5, 0.3, -0.9) * np.ones(2)
    return (x + 0.35 * rng.normal(size=(count, 2))).astype(np.float32)


def arrays_alarms(seed: int) -> Arrays:
    """Draws 2,000 examples of each class, and 20,000 that are not trained on."""
    rng = np.random.default_rng([seed, 9])
    return {
        "negative": _sample(rng, 0, 2000),
        "positive": _sample(rng, 1, 2000),
        "unseen positive": _sample(rng, 1, 20_000),
        "limit": np.float32(ALARMS),
        "temperature": np.float32(TEMPERATURE),
        "weights": draw(rng, (2, 32, 1)),
    }


def arrays_gap(seed: int) -> Arrays:
    """Draws 2,000 examples of each group, of which one is less often positive."""
    rng = np.random.default_rng([seed, 10])
    arrays: Arrays = {
        "limit": np.float32(GAP),
        "temperature": np.float32(TEMPERATURE),
        "examples": BATCH,
    }
    for prefix, count in (("", 2000), ("unseen ", 10_000)):
        for group, share in enumerate((0.3, 0.6)):
            y = (rng.uniform(size=count) < share).astype(np.float32)
            # The first input tells the label, the second the group.
            x = np.stack([y, np.full(count, float(group))], axis=1)
            x += 0.7 * rng.normal(size=(count, 2))
            arrays[f"{prefix}x{group}"] = x.astype(np.float32)
            arrays[f"{prefix}y{group}"] = y
    return arrays | {"weights": draw(rng, (2, 32, 1))}


def logistic(score: jax.Array, label: Any) -> jax.Array:
    """Evaluates the mean logistic loss, ()."""
    return jnp.mean(jax.nn.softplus(score) - label * score)


def rate(score: jax.Array) -> jax.Array:
    """Computes the share of positive scores, ()."""
    return jnp.mean(jnp.where(score > 0, 1.0, 0.0))


def smooth_rate(score: jax.Array) -> jax.Array:
    """Evaluates the share with a sigmoid in place of the step, ()."""
    return jnp.mean(jax.nn.sigmoid(score / TEMPERATURE))


def both_classes(params: Any, batch: Any) -> jax.Array:
    """Evaluates the logistic loss, averaged over the classes, ()."""
    alarm = logistic(at(params, batch["negative"]), 0.0)
    miss = logistic(at(params, batch["positive"]), 1.0)
    return 0.5 * (alarm + miss)


def problem_alarms(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Classifies with a false alarm for at most 5 % of the negatives."""

    def strict(params: Any, batch: Any) -> jax.Array:
        return rate(at(params, batch["negative"])) - ALARMS

    def smooth(params: Any, batch: Any) -> jax.Array:
        return smooth_rate(at(params, batch["negative"])) - ALARMS

    constraints = jc.Constraints(inequality={"false alarms": jc.proxy(smooth, strict)})
    batch = {name: jnp.asarray(arrays[name]) for name in ("negative", "positive")}
    return jc.Lagrangian(both_classes, constraints), start(arrays), batch


def both_groups(params: Any, batch: Any) -> jax.Array:
    """Evaluates the logistic loss, averaged over the groups, ()."""
    one, other = (logistic(at(params, batch[f"x{g}"]), batch[f"y{g}"]) for g in (0, 1))
    return 0.5 * (one + other)


def problem_gap(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Classifies with rates of positives that differ by at most 5 points."""

    def gap(rate: Any, sign: float) -> Any:
        def constraint(params: Any, batch: Any) -> jax.Array:
            rates = [rate(at(params, batch[f"x{g}"])) for g in (0, 1)]
            return sign * (rates[1] - rates[0]) - GAP

        return constraint

    constraints = jc.Constraints(
        inequality={
            name: jc.proxy(gap(smooth_rate, sign), gap(rate, sign))
            for name, sign in (("group 1 favoured", 1.0), ("group 0 favoured", -1.0))
        }
    )
    data = {name: jnp.asarray(arrays[name]) for name in ("x0", "y0", "x1", "y1")}

    def batches(key: jax.Array, state: Any) -> Any:
        batch = {}
        for group, own in enumerate(jax.random.split(key)):
            rows = jax.random.randint(own, (arrays["examples"],), 0, len(arrays["x0"]))
            batch[f"x{group}"] = data[f"x{group}"][rows]
            batch[f"y{group}"] = data[f"y{group}"][rows]
        return batch

    return jc.Lagrangian(both_groups, constraints), start(arrays), batches


def too_many_alarms(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the share of all training negatives above the limit, (1,)."""
    return jnp.maximum(rate(at(params, arrays["negative"])) - ALARMS, 0.0)[None]


def too_wide(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the gap between all training examples' rates above the limit, (1,)."""
    rates = [rate(at(params, arrays[f"x{group}"])) for group in (0, 1)]
    return jnp.maximum(jnp.abs(rates[1] - rates[0]) - GAP, 0.0)[None]


def misses(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the share of unseen positives that are missed."""
    return 1 - rate(at(params, arrays["unseen positive"]))


def unseen_loss(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the logistic loss on unseen examples."""
    names = ("x0", "y0", "x1", "y1")
    return both_groups(params, {name: arrays[f"unseen {name}"] for name in names})


NEYMAN_PEARSON = NetworkProblem(
    "Neyman-Pearson",
    arrays_alarms,
    problem_alarms,
    too_many_alarms,
    misses,
    "unseen positives missed",
)
FAIRNESS = NetworkProblem(
    "fairness, minibatches",
    arrays_gap,
    problem_gap,
    too_wide,
    unseen_loss,
    "logistic loss on unseen",
    minibatches=True,
)
