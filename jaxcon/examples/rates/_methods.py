"""Methods that limit the rate of false alarms."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcon.examples.rates._problems import limited, smooth_alarms, threshold
from jaxcon.methods import (
    Method,
    Problem,
    augmented,
    lagrangian,
    penalty,
    pi_control,
    unconstrained,
)
from jaxcon.transforms import proximal

STEPS = 4000
STRENGTH = 10.0
PRIMAL = optax.adam(optax.cosine_decay_schedule(0.03, STEPS))


def methods() -> dict[str, Method]:
    """Lists methods on the surrogate, through the proxy, and by the threshold.

    Returns:
        Methods by name.
    """

    def surrogate(method: Method) -> Method:
        return method._replace(
            change=lambda problem: problem._replace(trained=limited(smooth_alarms))
        )

    return {
        "unconstrained": unconstrained(PRIMAL),
        "penalty, surrogate": surrogate(penalty(PRIMAL, STRENGTH)),
        "absolute penalty, surrogate": surrogate(penalty(PRIMAL, STRENGTH, "absolute")),
        "lagrangian, surrogate": surrogate(lagrangian(PRIMAL, 1.0)),
        "penalty, proxy": penalty(PRIMAL, STRENGTH),
        "lagrangian, proxy": lagrangian(PRIMAL, 1.0),
        "PI control, proxy": pi_control(PRIMAL, 1.0),
        "augmented, proxy": augmented(PRIMAL, STRENGTH),
        "projection": Method(_projected),
        "threshold moved": unconstrained(PRIMAL)._replace(change=_moved),
        "by construction": unconstrained(PRIMAL)._replace(change=_at_limit),
    }


def _projected(problem: Problem, _: Any) -> Any:
    """Projects the bias onto those that keep the limit."""

    def lowered(params: Any) -> Any:
        above = threshold(problem.apply, params, problem.batch["negative"])
        return params | {"b": params["b"] - jnp.maximum(above, 0)}

    return unconstrained(proximal(PRIMAL, lowered)).solver(problem, None)


def _at_limit(problem: Problem) -> Problem:
    """Shifts a score so that its threshold keeps the limit on the training negatives."""

    def apply(params: Any, x: jax.Array) -> jax.Array:
        above = threshold(problem.apply, params, problem.batch["negative"])
        return problem.apply(params, x) - above

    return problem._replace(apply=apply)


def _moved(problem: Problem) -> Problem:
    """Shifts a score by that threshold after training without it."""
    return _at_limit(problem)._replace(
        loss=lambda _, params, batch: problem.loss(problem.apply, params, batch)
    )
