"""Problems whose primal *and* dual solutions are known from outside jaxcon.

Signs are h = 0, g <= 0 and f + mu h + lambda g; sources that write >= 0 are negated. Those
of equalities alone and of inequalities alone have files of their own.
"""

import jax.numpy as jnp
import numpy as np

from benchmarks.problems import equalities, inequalities
from benchmarks.problems.problem import Problem
from jaxcon import Constraints

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
    "sum to one": equalities.sum_to_one,
    "min norm": equalities.min_norm,
    "equality QP": equalities.equality_qp,
    "HS28": equalities.hs28,
    "circle": equalities.circle,
    "HS7": equalities.hs7,
    "HS40": equalities.hs40,
    "hyperbola": equalities.hyperbola,
    "saddle": equalities.saddle,
    "redundant equalities": equalities.redundant_equalities,
    "max entropy": equalities.max_entropy,
    "inactive from outside": inequalities.inactive_from_outside,
    "inactive from inside": inequalities.inactive_from_inside,
    "active from outside": inequalities.active_from_outside,
    "active from inside": inequalities.active_from_inside,
    "all caps": inequalities.all_four_caps,
    "degenerate": inequalities.degenerate,
    "redundant inequalities": inequalities.redundant_inequalities,
    "half disk": inequalities.half_disk,
    "inequality QP": inequalities.inequality_qp,
    "HS22": inequalities.hs22,
    "HS35": inequalities.hs35,
    "HS43": inequalities.hs43,
    "Rosenbrock wall": inequalities.rosenbrock_wall,
    "Rosenbrock disk": inequalities.rosenbrock_disk,
    "support vectors": inequalities.support_vectors,
    "quadratic program": quadratic_program,
    "HS14": hs14,
    "simplex": simplex,
    "water filling": water_filling,
    "portfolio": portfolio,
    "feasibility": feasibility,
    "bilinear": bilinear,
    "linear program": linear_program,
}
