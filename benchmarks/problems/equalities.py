"""Problems of equalities whose primal *and* dual solutions are known from outside jaxcon.

The sign is f + mu h.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problems.problem import Problem
from jaxcon import Constraints


def sum_to_one() -> Problem:
    """Min x² + y² s.t. x + y = 1: x = y = 1/2, mu = -1 (by hand)."""
    return Problem(
        loss=lambda p, _: jnp.sum(p**2),
        constraints=Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0}),
        start=np.array([2.0, -1.0]),
        params=np.array([0.5, 0.5]),
        multipliers=Constraints(equality={"sum": np.array(-1.0)}),
        learning_rate=0.1,
        source="by hand",
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
        source="pseudoinverse",
    )


def equality_qp() -> Problem:
    """Min ½ xᵀGx + cᵀx s.t. x1 + x3 = 3, x2 + x3 = 0: x = (2, -1, 1), mu = (-3, 2).

    Nocedal and Wright (2006), example 16.2.
    """
    g = np.array([[6.0, 2.0, 1.0], [2.0, 5.0, 2.0], [1.0, 2.0, 4.0]])
    c = np.array([-8.0, -3.0, -3.0])
    a, b = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), np.array([3.0, 0.0])
    return Problem(
        loss=lambda p, _: 0.5 * p @ (g @ p) + c @ p,
        constraints=Constraints(equality={"A x = b": lambda p, _: a @ p - b}),
        start=np.zeros(3),
        params=np.array([2.0, -1.0, 1.0]),
        multipliers=Constraints(equality={"A x = b": np.array([-3.0, 2.0])}),
        learning_rate=0.08,
        source="Nocedal and Wright (2006), example 16.2",
    )


def hs28() -> Problem:
    """Min (x1 + x2)² + (x2 + x3)² s.t. x1 + 2 x2 + 3 x3 = 1: x = (½, -½, ½), mu = 0.

    The loss is flat along (1, -1, 1). Hock and Schittkowski (1981), problem 28.
    """
    a = np.array([1.0, 2.0, 3.0])
    return Problem(
        loss=lambda p, _: (p[0] + p[1]) ** 2 + (p[1] + p[2]) ** 2,
        constraints=Constraints(equality={"plane": lambda p, _: a @ p - 1.0}),
        start=np.array([-4.0, 1.0, 1.0]),
        params=np.array([0.5, -0.5, 0.5]),
        multipliers=Constraints(equality={"plane": np.array(0.0)}),
        learning_rate=0.04,
        source="Hock and Schittkowski (1981), problem 28",
        convex=False,
    )


def circle() -> Problem:
    """Min x + y s.t. x² + y² = 2: x = y = -1, mu = 1/2; the maximiser is (1, 1).

    Nocedal and Wright (2006), example 12.1.
    """
    return Problem(
        loss=lambda p, _: jnp.sum(p),
        constraints=Constraints(equality={"circle": lambda p, _: jnp.sum(p**2) - 2.0}),
        start=np.array([0.5, -1.0]),
        params=np.array([-1.0, -1.0]),
        multipliers=Constraints(equality={"circle": np.array(0.5)}),
        learning_rate=0.05,
        source="Nocedal and Wright (2006), example 12.1",
    )


def hs7() -> Problem:
    """Min log(1 + x²) - y s.t. (1 + x²)² + y² = 4: x = 0, y = √3, mu = 1 / (2 √3).

    Hock and Schittkowski (1981), problem 7; started nearer than there.
    """
    return Problem(
        loss=lambda p, _: jnp.log1p(p[0] ** 2) - p[1],
        constraints=Constraints(
            equality={"curve": lambda p, _: (1 + p[0] ** 2) ** 2 + p[1] ** 2 - 4.0}
        ),
        start=np.array([1.0, 1.0]),
        params=np.array([0.0, np.sqrt(3.0)]),
        multipliers=Constraints(equality={"curve": np.array(0.5 / np.sqrt(3.0))}),
        learning_rate=0.012,
        source="Hock and Schittkowski (1981), problem 7",
    )


def hs40() -> Problem:
    """Min -x1 x2 x3 x4 s.t. x1³ + x2² = 1, x1² x4 = x3, x4² = x2.

    x = 2^(-1/3, -1/2, -11/12, -1/4), mu = (1/2, -2^(-13/12), 2^(-3/2)) / 2, as each
    residual is doubled: undoubled, it takes a penalty of more than 1 to convexify.
    Hock and Schittkowski (1981), problem 40; multipliers by hand.
    """

    def curves(p: jax.Array, _: Any) -> jax.Array:
        return 2 * jnp.stack(
            [p[0] ** 3 + p[1] ** 2 - 1.0, p[0] ** 2 * p[3] - p[2], p[3] ** 2 - p[1]]
        )

    return Problem(
        loss=lambda p, _: -jnp.prod(p),
        constraints=Constraints(equality={"curves": curves}),
        start=np.full(4, 0.8),
        params=2.0 ** -np.array([1 / 3, 1 / 2, 11 / 12, 1 / 4]),
        multipliers=Constraints(
            equality={"curves": np.array([0.5, -(2 ** (-13 / 12)), 2**-1.5]) / 2}
        ),
        learning_rate=0.025,
        source="Hock and Schittkowski (1981), problem 40",
        convex=False,
    )


def hyperbola() -> Problem:
    """Min x² + y² s.t. x y = 1: x = y = 1, mu = -2; (-1, -1) is as good (by hand).

    The Lagrangian (x - y)² is flat along (1, 1), across the constraint.
    """
    return Problem(
        loss=lambda p, _: jnp.sum(p**2),
        constraints=Constraints(equality={"hyperbola": lambda p, _: p[0] * p[1] - 1.0}),
        start=np.array([2.0, 0.25]),
        params=np.ones(2),
        multipliers=Constraints(equality={"hyperbola": np.array(-2.0)}),
        learning_rate=0.1,
        source="by hand",
        convex=False,
    )


def saddle() -> Problem:
    """Min x y s.t. x - y = 1: x = 1/2, y = -1/2, mu = 1/2 (by hand).

    The loss curves by -1 across the constraint, where the plain Lagrangian runs away,
    and by 1 along it; penalty rho adds 2 rho across, so rho > 1/2 convexifies.
    """
    return Problem(
        loss=lambda p, _: p[0] * p[1],
        constraints=Constraints(equality={"line": lambda p, _: p[0] - p[1] - 1.0}),
        start=np.array([-1.0, 2.0]),
        params=np.array([0.5, -0.5]),
        multipliers=Constraints(equality={"line": np.array(0.5)}),
        learning_rate=0.3,
        source="by hand",
        convex=False,
    )


def redundant_equalities() -> Problem:
    """Min x² + y² s.t. x + y = 1, 2 x + 2 y = 2: x = y = 1/2 (by hand).

    mu1 + 2 mu2 = -1; the smallest is (-1/5, -2/5).
    """
    return Problem(
        loss=lambda p, _: jnp.sum(p**2),
        constraints=Constraints(
            equality={
                "sum": lambda p, _: jnp.sum(p) - 1.0,
                "twice the sum": lambda p, _: 2 * jnp.sum(p) - 2.0,
            }
        ),
        start=np.array([2.0, -1.0]),
        params=np.array([0.5, 0.5]),
        multipliers=Constraints(
            equality={"sum": np.array(-0.2), "twice the sum": np.array(-0.4)}
        ),
        learning_rate=0.08,
        source="by hand",
        unique=False,
    )


def max_entropy() -> Problem:
    """Min Σ p log p s.t. Σ p = 1, Σ i p = 11/15, i = 0..3: p = (8, 4, 2, 1) / 15.

    A Gibbs distribution, p ~ 2^-i: mu = (log(15/8) - 1, log 2) (by hand).
    """
    moments, values = np.vstack([np.ones(4), np.arange(4.0)]), np.array([1.0, 11 / 15])
    return Problem(
        loss=lambda p, _: jnp.sum(p * jnp.log(p)),
        constraints=Constraints(
            equality={"moments": lambda p, _: moments @ p - values}
        ),
        start=np.full(4, 0.25),
        params=np.array([8.0, 4.0, 2.0, 1.0]) / 15,
        multipliers=Constraints(
            equality={"moments": np.array([np.log(15 / 8) - 1, np.log(2.0)])}
        ),
        learning_rate=0.03,
        source="by hand",
    )
