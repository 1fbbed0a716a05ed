r"""Constrained Markov decision process, by a softmax policy over exact returns.

.. math::
    \max_\pi \sum_{s, a} d_\pi(s, a)\, r(s, a) \quad \text{subject to} \quad
    \sum_{s, a} d_\pi(s, a)\, c(s, a) \le l

where d is the discounted occupancy, which sums to one. The limit lies halfway between the
least cost and that of the policy of highest return; the best return is a linear program's.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linprog

import jaxcon as jc
from benchmarks.problems.networks._problem import Arrays, NetworkProblem, start

STATES, ACTIONS, DISCOUNT = 6, 2, 0.9


def arrays(seed: int) -> Arrays:
    """Draws transitions, rewards and costs, and solves the linear program."""
    rng = np.random.default_rng([seed, 12])
    moves = rng.dirichlet(np.full(STATES, 0.5), size=(STATES, ACTIONS))
    reward, cost = rng.uniform(size=(2, STATES, ACTIONS))
    first = np.full(STATES, 1 / STATES)
    leaves = np.repeat(np.eye(STATES), ACTIONS, axis=1)
    enters = moves.reshape(-1, STATES).T
    flow: dict[str, Any] = {
        "A_eq": leaves - DISCOUNT * enters,
        "b_eq": (1 - DISCOUNT) * first,
    }
    rewards, costs = reward.ravel(), cost.ravel()
    cheapest = linprog(costs, **flow).fun
    freest = costs @ linprog(-rewards, **flow).x
    limit = 0.5 * (cheapest + freest)
    best = -linprog(-rewards, A_ub=costs[None], b_ub=[limit], **flow).fun
    return {
        "moves": moves.astype(np.float32),
        "reward": reward.astype(np.float32),
        "cost": cost.astype(np.float32),
        "first": first.astype(np.float32),
        "limit": np.float32(limit),
        "discount": np.float32(DISCOUNT),
        "best": np.float32(best),
        "weights": {"logits": np.zeros((STATES, ACTIONS), np.float32)},
    }


def occupancy(params: Any, batch: Any) -> jax.Array:
    """Computes the discounted share of each state and action, (states, actions)."""
    policy = jax.nn.softmax(params["logits"])
    chain = jnp.einsum("sa,sat->ts", policy, batch["moves"])
    entered = (1 - DISCOUNT) * batch["first"]
    visits = jnp.linalg.solve(jnp.eye(STATES) - DISCOUNT * chain, entered)
    return visits[:, None] * policy


def minus_return(params: Any, batch: Any) -> jax.Array:
    """Evaluates the negative return, ()."""
    return -jnp.sum(occupancy(params, batch) * batch["reward"])


def overspent(params: Any, batch: Any) -> jax.Array:
    """Evaluates the cost above the limit, ()."""
    return jnp.sum(occupancy(params, batch) * batch["cost"]) - batch["limit"]


def problem(arrays: Arrays) -> tuple[jc.Lagrangian, Any, Any]:
    """Maximises the return of a policy that keeps to the limit."""
    constraints = jc.Constraints(inequality={"cost": overspent})
    names = ("moves", "reward", "cost", "first", "limit")
    batch = {name: jnp.asarray(arrays[name]) for name in names}
    return jc.Lagrangian(minus_return, constraints), start(arrays), batch


def violations(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the cost above the limit, (1,)."""
    return jnp.maximum(overspent(params, arrays), 0.0)[None]


def error(arrays: Arrays, params: Any) -> jax.Array:
    """Evaluates the return that is missing to the best, either way, as its share."""
    return jnp.abs(minus_return(params, arrays) / arrays["best"] + 1)


CMDP = NetworkProblem(
    "CMDP", arrays, problem, violations, error, "share of return missing", enough=1e-3
)
