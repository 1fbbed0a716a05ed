"""Textbook problems beside Hock and Schittkowski's: control, games of chance, transport.

Their values come from outside any iteration on the problem itself: a dense linear system,
an enumeration, a linear program, a scalar root, a formula.
"""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq, fsolve, linprog

from benchmarks.problems.closed_form import PROBLEMS
from benchmarks.problems.hock_schittkowski import HOCK_SCHITTKOWSKI
from benchmarks.problems.published import Published
from jaxcon import Constraints


def lqr() -> Published:
    """Twelve steps of a linear system of three states, to the origin at quadratic cost.

    48 variables and 36 equalities; the answer solves the dense KKT system.
    """
    steps, n = 12, 3
    a = np.array([[1.0, 0.2, 0.0], [0.0, 1.0, 0.2], [-0.1, 0.0, 0.95]])
    b, first = np.array([0.0, 0.02, 0.2]), np.array([1.0, -0.5, 0.25])
    states, inputs = np.diag([1.0, 0.5, 0.1]), 0.1

    def loss(p, _):
        return 0.5 * jnp.sum(p["x"] @ states * p["x"]) + 0.5 * inputs * p["u"] @ p["u"]

    def dynamics(p, _):
        before = jnp.concatenate([first[None], p["x"][:-1]])
        return jnp.ravel(p["x"] - before @ a.T - jnp.outer(p["u"], jnp.asarray(b)))

    size = steps * n
    hessian = np.zeros((size + steps, size + steps))
    hessian[:size, :size] = np.kron(np.eye(steps), states)
    hessian[size:, size:] = inputs * np.eye(steps)
    rows = np.hstack(
        [
            np.eye(size) - np.kron(np.eye(steps, k=-1), a),
            -np.kron(np.eye(steps), b[:, None]),
        ]
    )
    right = np.concatenate([a @ first, np.zeros(size - n)])
    kkt = np.block([[hessian, rows.T], [rows, np.zeros((size, size))]])
    answer = np.linalg.solve(kkt, np.concatenate([np.zeros(len(hessian)), right]))
    z = answer[: len(hessian)]
    return Published(
        "LQR",
        loss,
        Constraints(equality={"dynamics": dynamics}),
        {"x": np.zeros((steps, n)), "u": np.zeros(steps)},
        float(0.5 * z @ hessian @ z),
    )


def dice() -> Published:
    """The distribution of greatest entropy on six faces with mean 9/2 (Jaynes').

    p_i ~ exp(-s i), where s is the root of a scalar equation.
    """
    faces = np.arange(1.0, 7.0)

    def gibbs(s):
        weights = np.exp(-s * faces)
        return weights / weights.sum()

    p = gibbs(brentq(lambda s: gibbs(s) @ faces - 4.5, -5, 5, xtol=1e-15))
    return Published(
        "dice",
        lambda p, _: jnp.sum(p * jnp.log(p)),
        Constraints(
            equality={
                "sum": lambda p, _: jnp.sum(p) - 1.0,
                "mean": lambda p, _: faces @ p - 4.5,
            }
        ),
        np.full(6, 1 / 6),
        p @ np.log(p),
    )


def channels() -> Published:
    """Water-filling of ten channels: max Σ log(1 + x_i / a_i), Σ x = 1, x >= 0.

    The water's level is the best of ten sorted candidates.
    """
    noise = 0.05 * np.arange(1.0, 11.0) ** 1.3
    levels = (1 + np.cumsum(noise)) / np.arange(1, 11)
    level = levels[np.flatnonzero(levels > noise)[-1]]
    power = np.maximum(level - noise, 0)
    return Published(
        "channels",
        lambda p, _: -jnp.sum(jnp.log1p(p / noise)),
        Constraints(
            equality={"power": lambda p, _: jnp.sum(p) - 1.0},
            inequality={"lower bounds": lambda p, _: -p},
        ),
        np.full(10, 0.1),
        -np.sum(np.log1p(power / noise)),
        (np.zeros(10), np.full(10, np.inf)),
    )


def markowitz() -> Published:
    """The least variance of six assets for a mean return, without short sales.

    The answer is the best of all sets of assets held, each a linear system.
    """
    rng = np.random.default_rng(3)
    factors = rng.normal(size=(6, 3))
    risk = factors @ factors.T + np.diag(rng.uniform(0.2, 1.0, 6))
    gain, target = np.linspace(0.02, 0.12, 6), 0.08
    best = np.inf
    for count in range(2, 7):
        for held in map(list, combinations(range(6), count)):
            rows = np.stack([np.ones(count), gain[held]])
            kkt = np.block(
                [[risk[np.ix_(held, held)], rows.T], [rows, np.zeros((2, 2))]]
            )
            x = np.linalg.solve(kkt, np.r_[np.zeros(count), 1.0, target])[:count]
            if np.all(x >= 0):
                best = min(best, 0.5 * x @ risk[np.ix_(held, held)] @ x)
    return Published(
        "Markowitz",
        lambda p, _: 0.5 * p @ risk @ p,
        Constraints(
            equality={
                "budget": lambda p, _: jnp.sum(p) - 1.0,
                "return": lambda p, _: gain @ p - target,
            },
            inequality={"lower bounds": lambda p, _: -p},
        ),
        np.full(6, 1 / 6),
        best,
        (np.zeros(6), np.full(6, np.inf)),
    )


def cmdp() -> Published:
    """A Markov decision process of four states and three actions, its cost limited.

    Variables are the twelve occupancies x(s, a): flow in equals flow out, a linear program.
    """
    rng = np.random.default_rng(5)
    discount, initial = 0.9, np.array([0.7, 0.1, 0.1, 0.1])
    moves = rng.dirichlet(np.ones(4), size=(4, 3))  # from state and action to state
    reward, cost = rng.uniform(size=12), rng.uniform(size=12)
    leave = np.kron(np.eye(4), np.ones(3))
    flow = leave - discount * moves.reshape(12, 4).T
    enter = (1 - discount) * initial
    limit = 0.35
    answer = linprog(-reward, cost[None], [limit], flow, enter, method="highs")
    return Published(
        "CMDP",
        lambda p, _: -reward @ p,
        Constraints(
            equality={"flow": lambda p, _: flow @ p - enter},
            inequality={
                "cost": lambda p, _: cost @ p - limit,
                "lower bounds": lambda p, _: -p,
            },
        ),
        np.full(12, 1 / 12),
        answer.fun,
        (np.zeros(12), np.full(12, np.inf)),
    )


def transport() -> Published:
    """Hitchcock's transport from three sources to four sinks, a linear program.

    One of the seven balances follows from the others.
    """
    supply, demand = np.array([3.0, 5.0, 4.0]), np.array([2.0, 4.0, 3.0, 3.0])
    cost = np.array([[4.0, 6.0, 9.0, 5.0], [2.0, 7.0, 4.0, 8.0], [6.0, 3.0, 5.0, 4.0]])
    rows = np.vstack([np.kron(np.eye(3), np.ones(4)), np.kron(np.ones(3), np.eye(4))])
    totals = np.r_[supply, demand]
    answer = linprog(cost.ravel(), A_eq=rows, b_eq=totals, method="highs")
    return Published(
        "transport",
        lambda p, _: jnp.sum(cost * p),
        Constraints(
            equality={
                "supply": lambda p, _: jnp.sum(p, axis=1) - supply,
                "demand": lambda p, _: jnp.sum(p, axis=0) - demand,
            },
            inequality={"lower bounds": lambda p, _: -jnp.ravel(p)},
        ),
        np.ones((3, 4)),
        answer.fun,
        (np.zeros(12), np.full(12, np.inf)),
    )


def chain() -> Published:
    """A hanging chain of ten links between two nails: the discrete catenary.

    The slopes of its links are in arithmetic progression (Hooke): two scalar unknowns.
    """
    links, length, span, drop = 10, 0.15, 1.0, 0.2

    def ends(slopes):
        tangents = slopes[0] + slopes[1] * np.arange(links)
        across = length / np.sqrt(1 + tangents**2)
        return across, tangents * across

    def gap(slopes):
        across, up = ends(slopes)
        return [across.sum() - span, up.sum() + drop]

    slopes = fsolve(gap, [-1.5, 0.3], xtol=1e-13)
    height = np.concatenate([[0.0], np.cumsum(ends(slopes)[1])])

    def nodes(p):
        fix = jnp.array([[0.0, 0.0], [span, -drop]], p.dtype)
        return jnp.concatenate([fix[:1], p, fix[1:]])

    def weight(p, _):
        y = nodes(p)[:, 1]
        return jnp.sum(y[1:] + y[:-1]) / 2

    def lengths(p, _):
        return jnp.sum(jnp.diff(nodes(p), axis=0) ** 2, axis=1) - length**2

    line = np.linspace([0.0, 0.0], [span, -drop], links + 1)[1:-1]
    return Published(
        "chain",
        weight,
        Constraints(equality={"lengths": lengths}),
        line - np.outer(np.sin(np.pi * line[:, 0]), [0.0, 0.2]),
        np.sum(height[1:] + height[:-1]) / 2,
    )


def isoperimetric() -> Published:
    """The greatest area of an octagon of perimeter one: the regular one, 1/(32 tan 22.5°).

    Turned or moved it is as good: the Lagrangian is flat in three directions.
    """
    angles = np.arange(8) * np.pi / 4

    def area(p, _):
        x, y = p[:, 0], p[:, 1]
        return -0.5 * jnp.sum(x * jnp.roll(y, -1) - y * jnp.roll(x, -1))

    def perimeter(p, _):
        sides = jnp.roll(p, -1, axis=0) - p
        return jnp.sum(jnp.sqrt(jnp.sum(sides**2, axis=1))) - 1.0

    return Published(
        "isoperimetric",
        area,
        Constraints(equality={"perimeter": perimeter}),
        np.stack([0.3 * np.cos(angles), 0.1 * np.sin(angles)], axis=1),
        -1 / (32 * np.tan(np.pi / 8)),
    )


def smallest_circle() -> Published:
    """The smallest circle around four points: the best of those by two or three of them."""
    points = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 2.5], [3.0, 1.0]])
    best = np.inf
    for held in (list(c) for k in (2, 3) for c in combinations(range(4), k)):
        chosen = points[held]
        rows = 2 * (chosen[1:] - chosen[0])
        right = np.sum(chosen[1:] ** 2, axis=1) - np.sum(chosen[0] ** 2)
        centre = chosen[0] + np.linalg.lstsq(rows, right - rows @ chosen[0])[0]
        radius = np.linalg.norm(chosen[0] - centre)
        if np.all(np.linalg.norm(points - centre, axis=1) <= radius * (1 + 1e-12)):
            best = min(best, radius)
    return Published(
        "smallest circle",
        lambda p, _: p["r"],
        Constraints(
            inequality={
                "inside": lambda p, _: (
                    jnp.sum((points - p["c"][None]) ** 2, axis=1) - p["r"] ** 2
                ),
                "r >= 0": lambda p, _: -p["r"],
            }
        ),
        {"c": np.zeros(2), "r": np.array(1.0)},
        best,
    )


def from_closed_form(name: str) -> Published:
    """Makes a problem of known primal and dual solution one of known value."""
    problem = PROBLEMS[name]()
    answer = jax.tree.map(jnp.asarray, problem.params)
    return Published(
        name,
        problem.loss,
        problem.constraints,
        problem.start,
        float(problem.loss(answer, None)),
    )


def textbook() -> dict[str, Published]:
    """Returns every problem here and of closed form, by name; call it in float64."""
    made = [
        lqr(),
        dice(),
        channels(),
        markowitz(),
        cmdp(),
        transport(),
        chain(),
        isoperimetric(),
        smallest_circle(),
    ]
    names = [name for name in PROBLEMS if name not in HOCK_SCHITTKOWSKI]
    return {p.name: p for p in [*made, *map(from_closed_form, names)]}
