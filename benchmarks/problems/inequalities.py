"""Problems of inequalities whose primal *and* dual solutions are known from outside jaxcon.

Signs are g <= 0 and f + lambda g; sources that write >= 0 are negated.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.problems.problem import Problem
from jaxcon import Constraints


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
