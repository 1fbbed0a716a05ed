"""SciPy's SLSQP and trust-constr, and slsqp-jax, on the small deterministic problems.

In float64, which their users have; `steps` is their limit of iterations.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

from benchmarks.versus._hand_problems import PROBLEMS
from benchmarks.versus._lane import Iterate, Lane

SMALL = (
    "y = 2x in the mean",
    "y = 2x pointwise",
    "sum to one",
    "lambda, a number",
    "CMDP",
    "maximum entropy",
    "linear regulator",
)


def by_scipy(
    method: str, name: str, arrays: Any, steps: int, callback: Callable[..., Any]
) -> Any:
    data = {k: jnp.asarray(v) for k, v in arrays.items() if k != "weights"}
    start, unravel = ravel_pytree(jax.tree.map(doubled, arrays["weights"]))
    equal = PROBLEMS[name](unravel(start), data).equality.size > 0

    @jax.jit
    def residual(x: jax.Array) -> jax.Array:
        parts = PROBLEMS[name](unravel(x), data)
        return parts.equality if equal else -parts.inequality

    loss = jax.jit(jax.value_and_grad(lambda x: PROBLEMS[name](unravel(x), data).loss))
    slopes: Any = jax.jit(jax.jacobian(residual))
    upper = 0.0 if equal else np.inf
    limits = scipy.optimize.NonlinearConstraint(residual, 0.0, upper, jac=slopes)
    return scipy.optimize.minimize(
        lambda x: tuple(map(np.asarray, loss(x))),
        np.asarray(start),
        jac=True,
        method=method,
        constraints=limits,
        options={"maxiter": steps},
        callback=callback,
    ).x


def by_slsqp_jax(
    method: str, name: str, arrays: Any, steps: int, callback: Callable[..., Any]
) -> Any:
    from slsqp_jax import minimize_like_scipy  # pyright: ignore[reportMissingImports]

    data = {k: jnp.asarray(v) for k, v in arrays.items() if k != "weights"}
    start, unravel = ravel_pytree(jax.tree.map(doubled, arrays["weights"]))
    equal = PROBLEMS[name](unravel(start), data).equality.size > 0

    def residual(x: jax.Array) -> jax.Array:
        parts = PROBLEMS[name](unravel(x), data)
        return parts.equality if equal else -parts.inequality

    return minimize_like_scipy(
        lambda x: PROBLEMS[name](unravel(x), data).loss,
        start,
        constraints={"type": "eq" if equal else "ineq", "fun": residual},
        options={"maxiter": steps},
    ).value


def doubled(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, float)


def train(
    solve: Callable[..., Any],
    method: str,
    name: str,
    arrays: Any,
    setting: dict[str, float],
    steps: int,
    every: int,
) -> Iterator[Iterate]:
    """Solves in float64, then yields the iterates that a callback was shown."""
    seen: list[tuple[float, np.ndarray]] = []
    begun = time.perf_counter()

    def record(x: Any, *rest: Any) -> None:
        seen.append((time.perf_counter() - begun, np.array(x)))

    with jax.enable_x64(True):
        x = solve(method, name, arrays, steps, record)
        seen.append((time.perf_counter() - begun, np.asarray(x)))
        _, unravel = ravel_pytree(jax.tree.map(doubled, arrays["weights"]))
        found = [jax.tree.map(np.asarray, unravel(jnp.asarray(x))) for _, x in seen]
    stride = max(len(found) // 60, 1)
    for i in [*range(0, len(found) - 1, stride), len(found) - 1]:
        yield Iterate(i + 1, found[i], seen[i][0])


def _lane(name: str, solve: Callable[..., Any], method: str, *needs: str) -> Lane:
    return Lane(
        name,
        partial(train, solve, method),
        ({},),
        lambda problem: (solve, PROBLEMS[problem]),
        needs,
        SMALL,
        iterative=False,
    )


CLASSICAL = (
    _lane("SciPy, SLSQP", by_scipy, "SLSQP", "scipy"),
    _lane("SciPy, trust-constr", by_scipy, "trust-constr", "scipy"),
    _lane("slsqp-jax", by_slsqp_jax, "SLSQP", "slsqp_jax"),
)
