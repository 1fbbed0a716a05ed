"""Problems whose primal *and* dual solutions are known from outside jaxcon.

Signs are h = 0, g <= 0 and f + mu h + lambda g; sources that write >= 0 are negated.
"""

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
        start: where to begin, float64 NumPy arrays in the structure of the parameters.
        params: the minimiser; a local one where the problem is not convex.
        multipliers: its multipliers, shaped like the residuals.
        learning_rate: a primal step of about 1 / the largest curvature that the
            augmented Lagrangian with penalty 1 has on the way; less where ascent on the
            plain Lagrangian would otherwise spiral out.
        source: where problem and answer stand, or "by hand".
        unique: no other multipliers fit, as the gradients of the active constraints are
            linearly independent (LICQ). Where false, `multipliers` are the smallest.
        convex: the Lagrangian's Hessian at the answer is positive definite, in all
            directions and not only along the constraints: small steps of descent and
            ascent on the plain Lagrangian converge from nearby. Where false they may
            circle or run away; with penalty 1 they converge for every problem here.
    """

    loss: Callable[[Any, Any], jax.Array]
    constraints: Constraints
    start: Any
    params: Any
    multipliers: Constraints
    learning_rate: float
    source: str
    unique: bool = True
    convex: bool = True


# Equalities.


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


# Inequalities.


def _capped(aim: Any, start: Any, params: Any, lam: Any) -> Problem:
    """Min |p - aim|² s.t. p <= 1: p = min(aim, 1), lambda = 2 max(aim - 1, 0)."""
    return Problem(
        loss=lambda p, _: jnp.sum((p - np.array(aim)) ** 2),
        constraints=Constraints(inequality={"p <= 1": lambda p, _: p - 1.0}),
        start=np.array(start),
        params=np.array(params),
        multipliers=Constraints(inequality={"p <= 1": np.array(lam)}),
        learning_rate=0.3,
        source="by hand",
    )


def inactive_from_outside() -> Problem:
    """Min p² s.t. p <= 1 from 3/2: p = 0, lambda = 0 (by hand)."""
    return _capped(aim=0.0, start=1.5, params=0.0, lam=0.0)


def inactive_from_inside() -> Problem:
    """Min p² s.t. p <= 1 from 1/2: p = 0, lambda = 0 (by hand)."""
    return _capped(aim=0.0, start=0.5, params=0.0, lam=0.0)


def active_from_outside() -> Problem:
    """Min (p - 2)² s.t. p <= 1 from 3: p = 1, lambda = 2 (by hand)."""
    return _capped(aim=2.0, start=3.0, params=1.0, lam=2.0)


def active_from_inside() -> Problem:
    """Min (p - 2)² s.t. p <= 1 from -1: p = 1, lambda = 2 (by hand)."""
    return _capped(aim=2.0, start=-1.0, params=1.0, lam=2.0)


def all_four_caps() -> Problem:
    """The four above and the one below as one residual of five entries (by hand)."""
    return _capped(
        aim=[0.0, 0.0, 2.0, 2.0, 1.0],
        start=[1.5, 0.5, 3.0, -1.0, 2.0],
        params=[0.0, 0.0, 1.0, 1.0, 1.0],
        lam=[0.0, 0.0, 2.0, 2.0, 0.0],
    )


def degenerate() -> Problem:
    """Min (p - 1)² s.t. p <= 1 from 2: p = 1, g = 0 and lambda = 0 (by hand)."""
    return _capped(aim=1.0, start=2.0, params=1.0, lam=0.0)


def redundant_inequalities() -> Problem:
    """Min (x - 2)² + (y - 2)² s.t. x <= 1, y <= 1, x + y <= 2: x = y = 1 (by hand).

    lambda = (2 - t, 2 - t, t) for t in [0, 2]; the smallest is (2/3, 2/3, 4/3).
    """
    a, b = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([1.0, 1.0, 2.0])
    return Problem(
        loss=lambda p, _: jnp.sum((p - 2.0) ** 2),
        constraints=Constraints(inequality={"A x <= b": lambda p, _: a @ p - b}),
        start=np.array([0.0, -1.0]),
        params=np.ones(2),
        multipliers=Constraints(inequality={"A x <= b": np.array([2.0, 2.0, 4.0]) / 3}),
        learning_rate=0.2,
        source="by hand",
        unique=False,
    )


def half_disk() -> Problem:
    """Min x + y s.t. x² + y² <= 2, y >= 0: (-√2, 0), lambda = (1 / (2 √2), 1).

    Nocedal and Wright (2006), example 12.3.
    """
    return Problem(
        loss=lambda p, _: jnp.sum(p),
        constraints=Constraints(
            inequality={
                "disk": lambda p, _: jnp.sum(p**2) - 2.0,
                "y >= 0": lambda p, _: -p[1],
            }
        ),
        start=np.array([0.5, 1.0]),
        params=np.array([-np.sqrt(2.0), 0.0]),
        multipliers=Constraints(
            inequality={
                "disk": np.array(0.5 / np.sqrt(2.0)),
                "y >= 0": np.array(1.0),
            }
        ),
        learning_rate=0.05,
        source="Nocedal and Wright (2006), example 12.3",
    )


def inequality_qp() -> Problem:
    """Min (x - 1)² + (y - 5/2)² s.t. A x <= b: x = (7/5, 17/10), lambda = (4/5, 0...).

    Nocedal and Wright (2006), example 16.4: one of five is active.
    """
    a = np.array([[-1.0, 2.0], [1.0, 2.0], [1.0, -2.0], [-1.0, 0.0], [0.0, -1.0]])
    b = np.array([2.0, 6.0, 2.0, 0.0, 0.0])
    aim = np.array([1.0, 2.5])
    return Problem(
        loss=lambda p, _: jnp.sum((p - aim) ** 2),
        constraints=Constraints(inequality={"A x <= b": lambda p, _: a @ p - b}),
        start=np.array([2.0, 0.0]),
        params=np.array([1.4, 1.7]),
        multipliers=Constraints(
            inequality={"A x <= b": np.array([0.8, 0.0, 0.0, 0.0, 0.0])}
        ),
        learning_rate=0.1,
        source="Nocedal and Wright (2006), example 16.4",
    )


def hs22() -> Problem:
    """Min (x - 2)² + (y - 1)² s.t. x + y <= 2, x² <= y: x = y = 1, lambda = (⅔, ⅔).

    Hock and Schittkowski (1981), problem 22; multipliers by hand.
    """
    return Problem(
        loss=lambda p, _: (p[0] - 2.0) ** 2 + (p[1] - 1.0) ** 2,
        constraints=Constraints(
            inequality={
                "line": lambda p, _: p[0] + p[1] - 2.0,
                "parabola": lambda p, _: p[0] ** 2 - p[1],
            }
        ),
        start=np.array([2.0, 2.0]),
        params=np.ones(2),
        multipliers=Constraints(
            inequality={"line": np.array(2 / 3), "parabola": np.array(2 / 3)}
        ),
        learning_rate=0.05,
        source="Hock and Schittkowski (1981), problem 22",
    )


def hs35() -> Problem:
    """Min 9 + cᵀx + ½ xᵀQx s.t. x1 + x2 + 2 x3 <= 3, x >= 0: x = (12, 7, 4) / 9.

    lambda = 2/9 of the plane, 0 of the signs. Hock and Schittkowski (1981), problem 35
    (Beale's); multipliers by hand.
    """
    q = np.array([[4.0, 2.0, 2.0], [2.0, 4.0, 0.0], [2.0, 0.0, 2.0]])
    c, a = np.array([-8.0, -6.0, -4.0]), np.array([1.0, 1.0, 2.0])
    return Problem(
        loss=lambda p, _: 9.0 + c @ p + 0.5 * p @ (q @ p),
        constraints=Constraints(
            inequality={"plane": lambda p, _: a @ p - 3.0, "x >= 0": lambda p, _: -p}
        ),
        start=np.array([0.5, 0.5, 0.5]),
        params=np.array([12.0, 7.0, 4.0]) / 9,
        multipliers=Constraints(
            inequality={"plane": np.array(2 / 9), "x >= 0": np.zeros(3)}
        ),
        learning_rate=0.08,
        source="Hock and Schittkowski (1981), problem 35",
    )


def hs43() -> Problem:
    """Min Σ w x² + c·x in three ellipsoids: x = (0, 1, 2, -1), lambda = (1, 0, 2).

    Rosen and Suzuki's. Hock and Schittkowski (1981), problem 43; multipliers by hand.
    """
    w, c = np.array([1.0, 1.0, 2.0, 1.0]), np.array([-5.0, -5.0, -21.0, 7.0])
    squares = np.array([[1, 1, 1, 1], [1, 2, 1, 2], [2, 1, 1, 0]], float)
    lines = np.array([[1, -1, 1, -1], [-1, 0, 0, -1], [2, -1, 0, -1]], float)
    limits = np.array([8.0, 10.0, 5.0])
    return Problem(
        loss=lambda p, _: w @ p**2 + c @ p,
        constraints=Constraints(
            inequality={"ellipsoids": lambda p, _: squares @ p**2 + lines @ p - limits}
        ),
        start=np.zeros(4),
        params=np.array([0.0, 1.0, 2.0, -1.0]),
        multipliers=Constraints(inequality={"ellipsoids": np.array([1.0, 0.0, 2.0])}),
        learning_rate=0.01,
        source="Hock and Schittkowski (1981), problem 43",
    )


def rosenbrock_wall() -> Problem:
    """Min (1 - x)² + 10 (y - x²)² s.t. x <= 1/2: x = 1/2, y = 1/4, lambda = 1.

    Rosenbrock's valley, with 10 for his 100, and a wall in it (by hand).
    """
    return Problem(
        loss=lambda p, _: (1 - p[0]) ** 2 + 10 * (p[1] - p[0] ** 2) ** 2,
        constraints=Constraints(inequality={"wall": lambda p, _: p[0] - 0.5}),
        start=np.array([-0.5, 1.0]),
        params=np.array([0.5, 0.25]),
        multipliers=Constraints(inequality={"wall": np.array(1.0)}),
        learning_rate=0.02,
        source="by hand",
    )


def rosenbrock_disk() -> Problem:
    """Min (1 - x)² + (y - x²)² s.t. x² + y² <= 2: x = y = 1, lambda = 0 (by hand).

    The free minimiser lies on the circle: g = 0 and lambda = 0.
    """
    return Problem(
        loss=lambda p, _: (1 - p[0]) ** 2 + (p[1] - p[0] ** 2) ** 2,
        constraints=Constraints(inequality={"disk": lambda p, _: jnp.sum(p**2) - 2.0}),
        start=np.array([-0.5, 1.0]),
        params=np.ones(2),
        multipliers=Constraints(inequality={"disk": np.array(0.0)}),
        learning_rate=0.05,
        source="by hand",
    )


def support_vectors() -> Problem:
    """Min ½ |w|² s.t. y (w·x + b) >= 1 at four points: w = (½, ½), b = -½ (by hand).

    Two are support vectors, of multipliers 1/4; b has no curvature. Parameters in a dict.
    """
    x = np.array([[2.0, 1.0], [0.0, -1.0], [3.0, 2.0], [-1.0, -1.5]])
    y = np.array([1.0, -1.0, 1.0, -1.0])
    return Problem(
        loss=lambda p, _: 0.5 * jnp.sum(p["w"] ** 2),
        constraints=Constraints(
            inequality={"margin": lambda p, _: 1.0 - y * (x @ p["w"] + p["b"])}
        ),
        start={"w": np.array([1.0, -1.0]), "b": np.array(1.0)},
        params={"w": np.array([0.5, 0.5]), "b": np.array(-0.5)},
        multipliers=Constraints(
            inequality={"margin": np.array([0.25, 0.25, 0.0, 0.0])}
        ),
        learning_rate=0.04,
        source="by hand",
        convex=False,
    )


# Both.


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
        source="OSQP",
    )


def hs14() -> Problem:
    """Min (x - 2)² + (y - 1)² s.t. x - 2 y = -1, x²/4 + y² <= 1.

    x = (√7 - 1)/2, y = (√7 + 1)/4, lambda = 23/(2 √7) - 5/2 and
    mu = 4 - 2 x - lambda x / 2. Hock and Schittkowski (1981), problem 14; multipliers by
    hand.
    """
    x, y = (np.sqrt(7.0) - 1) / 2, (np.sqrt(7.0) + 1) / 4
    lam = 11.5 / np.sqrt(7.0) - 2.5
    return Problem(
        loss=lambda p, _: (p[0] - 2.0) ** 2 + (p[1] - 1.0) ** 2,
        constraints=Constraints(
            equality={"line": lambda p, _: p[0] - 2 * p[1] + 1.0},
            inequality={"ellipse": lambda p, _: p[0] ** 2 / 4 + p[1] ** 2 - 1.0},
        ),
        start=np.array([2.0, 2.0]),
        params=np.array([x, y]),
        multipliers=Constraints(
            equality={"line": np.array(4.0 - 2 * x - lam * x / 2)},
            inequality={"ellipse": np.array(lam)},
        ),
        learning_rate=0.03,
        source="Hock and Schittkowski (1981), problem 14",
    )


def simplex() -> Problem:
    """Min ½ |x - (0.9, 0.5, -0.4)|² s.t. Σ x = 1, x >= 0: x = (0.7, 0.3, 0).

    mu = 0.2, lambda = (0, 0, 0.6) (by hand).
    """
    aim = np.array([0.9, 0.5, -0.4])
    return Problem(
        loss=lambda p, _: 0.5 * jnp.sum((p - aim) ** 2),
        constraints=Constraints(
            equality={"sum": lambda p, _: jnp.sum(p) - 1.0},
            inequality={"x >= 0": lambda p, _: -p},
        ),
        start=np.array([0.0, 0.0, 1.0]),
        params=np.array([0.7, 0.3, 0.0]),
        multipliers=Constraints(
            equality={"sum": np.array(0.2)},
            inequality={"x >= 0": np.array([0.0, 0.0, 0.6])},
        ),
        learning_rate=0.2,
        source="by hand",
    )


def water_filling() -> Problem:
    """Min -Σ log(a + x) s.t. Σ x = 1, x >= 0, a = (½, 7/10, 3/2): x = (3/5, 2/5, 0).

    The water stands at 11/10: mu = 10/11, lambda = (0, 0, 10/11 - 2/3). Boyd and
    Vandenberghe (2004), example 5.2; numbers by hand.
    """
    floor = np.array([0.5, 0.7, 1.5])
    return Problem(
        loss=lambda p, _: -jnp.sum(jnp.log(floor + p)),
        constraints=Constraints(
            equality={"power": lambda p, _: jnp.sum(p) - 1.0},
            inequality={"x >= 0": lambda p, _: -p},
        ),
        start=np.array([0.0, 0.0, 1.0]),
        params=np.array([0.6, 0.4, 0.0]),
        multipliers=Constraints(
            equality={"power": np.array(10 / 11)},
            inequality={"x >= 0": np.array([0.0, 0.0, 10 / 11 - 2 / 3])},
        ),
        learning_rate=0.15,
        source="Boyd and Vandenberghe (2004), example 5.2; numbers by hand",
    )


def portfolio() -> Problem:
    """Min ½ xᵀ diag(1, 2, 7) x s.t. Σ x = 1, (1, 2, 3)·x >= 2, x >= 0: x = (¼, ½, ¼).

    Markowitz's: mu = 1/2, lambda = 3/4 of the return, 0 of the signs (by hand).
    """
    risk, gain = np.array([1.0, 2.0, 7.0]), np.array([1.0, 2.0, 3.0])
    return Problem(
        loss=lambda p, _: 0.5 * risk @ p**2,
        constraints=Constraints(
            equality={"budget": lambda p, _: jnp.sum(p) - 1.0},
            inequality={
                "return": lambda p, _: 2.0 - gain @ p,
                "no short sales": lambda p, _: -p,
            },
        ),
        start=np.array([1.0, 0.0, 0.0]),
        params=np.array([0.25, 0.5, 0.25]),
        multipliers=Constraints(
            equality={"budget": np.array(0.5)},
            inequality={"return": np.array(0.75), "no short sales": np.zeros(3)},
        ),
        learning_rate=0.04,
        source="by hand",
    )


# Linear: descent and ascent on the plain Lagrangian circle or run away at any rate.


def feasibility() -> Problem:
    """Min 0 s.t. x = 0 from 1: x = 0, mu = 0 (by hand)."""
    return Problem(
        loss=lambda p, _: jnp.zeros_like(p),
        constraints=Constraints(equality={"x = 0": lambda p, _: p}),
        start=np.array(1.0),
        params=np.array(0.0),
        multipliers=Constraints(equality={"x = 0": np.array(0.0)}),
        learning_rate=0.5,
        source="by hand",
        convex=False,
    )


def bilinear() -> Problem:
    """Min 2 x s.t. x = 1 from 0: x = 1, mu = -2 (by hand)."""
    return Problem(
        loss=lambda p, _: 2 * p,
        constraints=Constraints(equality={"x = 1": lambda p, _: p - 1.0}),
        start=np.array(0.0),
        params=np.array(1.0),
        multipliers=Constraints(equality={"x = 1": np.array(-2.0)}),
        learning_rate=0.5,
        source="by hand",
        convex=False,
    )


def linear_program() -> Problem:
    """Min -3 x - 5 y s.t. x <= 4, 2 y <= 12, 3 x + 2 y <= 18, x >= 0, y >= 0: (2, 6).

    lambda = (0, 3/2, 1, 0, 0). The Wyndor Glass Co. of Hillier and Lieberman's
    Introduction to Operations Research.
    """
    a = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 2.0], [-1.0, 0.0], [0.0, -1.0]])
    b = np.array([4.0, 12.0, 18.0, 0.0, 0.0])
    c = np.array([-3.0, -5.0])
    return Problem(
        loss=lambda p, _: c @ p,
        constraints=Constraints(inequality={"A x <= b": lambda p, _: a @ p - b}),
        start=np.zeros(2),
        params=np.array([2.0, 6.0]),
        multipliers=Constraints(
            inequality={"A x <= b": np.array([0.0, 1.5, 1.0, 0.0, 0.0])}
        ),
        learning_rate=0.06,
        source="Hillier and Lieberman, the Wyndor Glass Co.",
        convex=False,
    )


PROBLEMS = {
    "sum to one": sum_to_one,
    "min norm": min_norm,
    "equality QP": equality_qp,
    "HS28": hs28,
    "circle": circle,
    "HS7": hs7,
    "HS40": hs40,
    "hyperbola": hyperbola,
    "saddle": saddle,
    "redundant equalities": redundant_equalities,
    "max entropy": max_entropy,
    "inactive from outside": inactive_from_outside,
    "inactive from inside": inactive_from_inside,
    "active from outside": active_from_outside,
    "active from inside": active_from_inside,
    "all caps": all_four_caps,
    "degenerate": degenerate,
    "redundant inequalities": redundant_inequalities,
    "half disk": half_disk,
    "inequality QP": inequality_qp,
    "HS22": hs22,
    "HS35": hs35,
    "HS43": hs43,
    "Rosenbrock wall": rosenbrock_wall,
    "Rosenbrock disk": rosenbrock_disk,
    "support vectors": support_vectors,
    "quadratic program": quadratic_program,
    "HS14": hs14,
    "simplex": simplex,
    "water filling": water_filling,
    "portfolio": portfolio,
    "feasibility": feasibility,
    "bilinear": bilinear,
    "linear program": linear_program,
}
