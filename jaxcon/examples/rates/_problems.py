"""Rates of a score and the problems that limit them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon.constraints import Constraints, proxy
from jaxcon.examples.rates._data import (
    LIMIT,
    Batch,
    affine_rates,
    breast_cancer,
    gaussians,
    optimal_misses,
)
from jaxcon.methods import (
    Apply,
    Problem,
)


def scores(apply: Apply, params: Any, x: jax.Array) -> jax.Array:
    """Evaluates the scores of many examples (n, d), shape (n,)."""
    return jax.vmap(partial(apply, params))(x)


def logistic_loss(apply: Apply, params: Any, batch: Batch) -> jax.Array:
    """Evaluates the mean logistic loss of each class and averages both, shape ()."""
    cross_entropy = optax.sigmoid_binary_cross_entropy
    alarm = cross_entropy(scores(apply, params, batch["negative"]), 0.0)
    miss = cross_entropy(scores(apply, params, batch["positive"]), 1.0)
    return 0.5 * (jnp.mean(alarm) + jnp.mean(miss))


def alarms(apply: Apply, params: Any, batch: Batch) -> jax.Array:
    """Computes the share of negatives that are classified as positive, shape ()."""
    called = scores(apply, params, batch["negative"]) > 0
    return jnp.mean(jnp.where(called, 1.0, 0.0))


def misses(apply: Apply, params: Any, batch: Batch) -> jax.Array:
    """Computes the share of positives that are classified as negative, shape ()."""
    called = scores(apply, params, batch["positive"]) > 0
    return jnp.mean(jnp.where(called, 0.0, 1.0))


def smooth_alarms(apply: Apply, params: Any, batch: Batch) -> jax.Array:
    """Evaluates the surrogate with sigmoid in place of the indicator, shape ()."""
    return jnp.mean(jax.nn.sigmoid(scores(apply, params, batch["negative"])))


def threshold(apply: Apply, params: Any, negatives: jax.Array) -> jax.Array:
    """Computes the lowest threshold that keeps the limit on given negatives.

    Args:
        apply: (params, x (d,)) -> ().
        params: of it.
        negatives: (n, d).

    Returns:
        Halfway between the last score above it and the next, shape ().
    """
    ordered = jnp.sort(scores(apply, params, negatives))
    last = len(negatives) - int(LIMIT * len(negatives))
    return 0.5 * (ordered[last - 1] + ordered[last])


def limited(rate: Any) -> Callable[[Apply], Constraints]:
    return lambda apply: Constraints(
        inequality={
            "false alarms": lambda params, batch: rate(apply, params, batch) - LIMIT
        }
    )


def _through_proxy(apply: Apply) -> Constraints:
    surrogate, strict = (
        limited(rate)(apply).inequality["false alarms"]
        for rate in (smooth_alarms, alarms)
    )
    return Constraints(inequality={"false alarms": proxy(surrogate, strict)})


def _problem(train: Batch, unseen: Batch, score: Any) -> Problem:
    return Problem(
        init=lambda key: {"w": 0.1 * jax.random.normal(key, (2,)), "b": jnp.zeros(())},
        apply=lambda params, x: x @ params["w"] + params["b"],
        loss=logistic_loss,
        constraints=limited(alarms),
        trained=_through_proxy,
        batch=train,
        unseen=unseen,
        score=score,
    )


def gaussian_problem(seed: int = 0) -> Problem:
    """Builds Neyman and Pearson's problem, scored in closed form.

    Args:
        seed: of the examples.

    Returns:
        A `Problem` trained through the proxy.
    """

    def score(apply: Apply, params: Any) -> dict[str, Any]:
        false, missed = affine_rates(apply, params)
        away = np.hypot(false - LIMIT, missed - optimal_misses(LIMIT))
        return {"distance to optimum": away, "false alarms": false, "misses": missed}

    return _problem(gaussians(1000, seed), gaussians(2**15, seed + 1), score)


def breast_cancer_problem(seed: int = 0) -> Problem:
    """Builds the problem of breast cancer, scored on the held-out half of the cases.

    Args:
        seed: of the split.

    Returns:
        A `Problem` trained through the proxy.
    """
    train, unseen = breast_cancer(seed)

    def score(apply: Apply, params: Any) -> dict[str, Any]:
        return {
            "misses": misses(apply, params, unseen),
            "false alarms": alarms(apply, params, unseen),
            "training alarms": alarms(apply, params, train),
        }

    return _problem(train, unseen, score)


def sampling_deviation(train: Batch, unseen: Batch) -> float:
    r"""Computes the standard deviation between the rates on two samples.

    .. math::
        \sqrt{\alpha (1 - \alpha) (1 / n + 1 / m)}

    Args:
        train: n negatives, with the rate alpha.
        unseen: m negatives.

    Returns:
        The standard deviation, to first order.
    """
    both = sum(1 / len(part["negative"]) for part in (train, unseen))
    return float(np.sqrt(LIMIT * (1 - LIMIT) * both))
