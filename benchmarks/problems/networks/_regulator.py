"""Linear regulator: 48 numbers, 36 equalities, solved exactly by its KKT system."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start

STATES, HORIZON = 3, 12


def arrays(seed: int) -> Arrays:
    """Draws a system of three states and one control, and solves it exactly."""
    rng = np.random.default_rng([seed, 14])
    a = np.eye(STATES) + 0.3 * rng.normal(size=(STATES, STATES))
    b, first = rng.normal(size=STATES), rng.normal(size=STATES)
    n = STATES * HORIZON
    size = n + HORIZON
    # Rows of x_{t+1} - A x_t - B u_t = 0, the first with A x_0 on the right.
    rows, right = np.zeros((n, size)), np.zeros(n)
    for t in range(HORIZON):
        here = slice(t * STATES, (t + 1) * STATES)
        rows[here, here] = np.eye(STATES)
        rows[here, n + t] = -b
        if t:
            rows[here, (t - 1) * STATES : t * STATES] = -a
    right[:STATES] = a @ first
    kkt = np.block([[2 * np.eye(size), rows.T], [rows, np.zeros((n, n))]])
    answer = np.linalg.solve(kkt, np.concatenate([np.zeros(size), right]))[:size]
    return {
        "a": a,
        "b": b,
        "first": first,
        "states": answer[:n].reshape(HORIZON, STATES),
        "controls": answer[n:],
        "weights": {
            "states": np.zeros((HORIZON, STATES)),
            "controls": np.zeros(HORIZON),
        },
    }


def squares(params: Any, batch: Any) -> jax.Array:
    """Evaluates the sum of squared states and controls, ()."""
    return jnp.sum(params["states"] ** 2) + jnp.sum(params["controls"] ** 2)


def dynamics(params: Any, batch: Any) -> jax.Array:
    """Evaluates the errors of all transitions, (n,)."""
    states = jnp.concatenate([batch["first"][None], params["states"]])
    moved = states[:-1] @ batch["a"].T + jnp.outer(params["controls"], batch["b"])
    return (states[1:] - moved).ravel()


def problem(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Regulates a linear system: 48 numbers, 36 equalities."""
    constraints = jc.Constraints(equality={"dynamics": dynamics})
    batch = {name: jnp.asarray(arrays[name]) for name in ("a", "b", "first")}
    return jc.Lagrangian(squares, constraints), start(arrays), batch


def violations(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the distances to the dynamics, (n,)."""
    return jnp.abs(dynamics(params, arrays))


def error(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the largest distance to the answer, as a share of its largest number."""
    names = ("states", "controls")
    off = [jnp.max(jnp.abs(params[name] - arrays[name])) for name in names]
    size = [jnp.max(jnp.abs(arrays[name])) for name in names]
    return jnp.maximum(*off) / jnp.maximum(*size)


REGULATOR = NetworkProblem(
    "linear regulator",
    arrays,
    problem,
    violations,
    error,
    "relative distance to the answer",
    enough=1e-5,
)
