"""Problems whose primal *and* dual solutions are known from outside jaxcon."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import Constraints


class Problem(NamedTuple):
    """min loss s.t. constraints, with its answer.

    Attributes:
        loss: (params, batch) -> ().
        constraints: functions (params, batch) -> residual.
        start: where to begin, float64 NumPy array.
        params: the minimiser.
        multipliers: its multipliers, shaped like the residuals.
        learning_rate: a primal step that suits the problem's curvature.
    """

    loss: Callable[[Any, Any], jax.Array]
    constraints: Constraints
    start: np.ndarray
    params: np.ndarray
    multipliers: Constraints
    learning_rate: float


def sum_to_one() -> Problem:
    """Min x² + y² s.t. x + y = 1: x = y = 1/2, mu = -1 (by hand)."""
    return Problem(
        loss=lambda p, _: jnp.sum(p**2),
        constraints=Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0}),
        start=np.array([2.0, -1.0]),
        params=np.array([0.5, 0.5]),
        multipliers=Constraints(equality={"sum": np.array(-1.0)}),
        learning_rate=0.1,
    )


def min_norm() -> Problem:
    """Min |x|² s.t. A x = b: x = A⁺ b, mu = -2 (A Aᵀ)⁻¹ b (pseudoinverse)."""
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    right, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    a = left @ np.diag([1.5, 1.0, 0.75]) @ right[:3]
    b = rng.normal(size=3)
    return Problem(
        loss=lambda p, _: jnp.sum(p**2),
        constraints=Constraints(equality={"A x = b": lambda p, _: a @ p - b}),
        start=np.ones(6),
        params=np.linalg.pinv(a) @ b,
        multipliers=Constraints(equality={"A x = b": -2 * np.linalg.pinv(a @ a.T) @ b}),
        learning_rate=0.1,
    )


def quadratic_program() -> Problem:
    """Min ½ xᵀQx + cᵀx s.t. A x = b, G x <= k; solved by OSQP, primal and dual.

    Of the four inequalities the solver finds some active and some inactive.
    """
    import osqp
    import scipy.sparse as sparse

    q = np.diag([1.0, 2.0, 3.0, 4.0])
    c = np.array([-4.0, -4.0, 1.0, 2.0])
    a, b = np.array([[1.0, 1.0, 1.0, 1.0]]) / 2, np.array([0.5])
    g = np.vstack([np.eye(4)[:2], -np.eye(4)[2:]])
    k = np.array([1.0, 5.0, 0.25, 2.0])
    solver = osqp.OSQP()
    solver.setup(
        P=sparse.csc_matrix(q),
        q=c,
        A=sparse.csc_matrix(np.vstack([a, g])),
        l=np.concatenate([b, np.full(4, -np.inf)]),
        u=np.concatenate([b, k]),
        eps_abs=1e-12,
        eps_rel=1e-12,
        max_iter=100_000,
        polishing=True,
        verbose=False,
    )
    answer = solver.solve(raise_error=True)
    return Problem(
        loss=lambda p, _: 0.5 * p @ (q @ p) + c @ p,
        constraints=Constraints(
            equality={"budget": lambda p, _: a @ p - b},
            inequality={"limits": lambda p, _: g @ p - k},
        ),
        start=np.zeros(4),
        params=answer.x,
        multipliers=Constraints(
            equality={"budget": answer.y[:1]}, inequality={"limits": answer.y[1:]}
        ),
        learning_rate=0.1,
    )


PROBLEMS = {
    "sum to one": sum_to_one,
    "min norm": min_norm,
    "quadratic program": quadratic_program,
}
