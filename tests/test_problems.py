"""The problems' answers, judged by plain jax.grad, lapack and scipy; and their variety."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize
from tables import assert_each

from benchmarks.problems import PROBLEMS
from jaxcon.constraints import named


class Flat(NamedTuple):
    """A problem as a textbook writes it: one vector each of params and residuals."""

    loss: Callable
    residuals: Callable
    equality: np.ndarray  # which of the residuals
    multipliers: np.ndarray
    start: np.ndarray
    params: np.ndarray

    def lagrangian(self, x):
        return self.loss(x) + self.multipliers @ self.residuals(x)


def flat(name):
    problem = PROBLEMS[name]()
    params, restore = ravel_pytree(jax.tree.map(jnp.array, problem.params))
    start, _ = ravel_pytree(jax.tree.map(jnp.array, problem.start))
    entries = [
        (kind == "equality", constraint, getattr(problem.multipliers, kind)[key])
        for kind, key, constraint in named(problem.constraints)
    ]

    def residuals(x):
        return jnp.concatenate([jnp.ravel(f(restore(x), None)) for _, f, _ in entries])

    return Flat(
        loss=lambda x: problem.loss(restore(x), None),
        residuals=residuals,
        equality=np.concatenate([np.full(np.size(m), kind) for kind, _, m in entries]),
        multipliers=np.concatenate([np.ravel(m) for _, _, m in entries]),
        start=np.array(start),
        params=np.array(params),
    )


class Answer(NamedTuple):
    """What is known at the answer, and which residuals are what."""

    curvature: np.ndarray  # eigenvalues of the Lagrangian's Hessian, rising
    active: np.ndarray
    inequality: np.ndarray
    degenerate: np.ndarray  # active inequalities of multiplier zero
    violated: np.ndarray  # inequalities, at the start
    jacobian: np.ndarray
    hessian: np.ndarray
    straight: bool  # linear constraints


@cache
def answer(name):
    p = flat(name)
    hessian = np.array(jax.hessian(p.lagrangian)(p.params))
    jacobian = np.array(jax.jacobian(p.residuals)(p.params))
    # The answers are right to 1e-15, OSQP's to 1e-12; the smallest residual that is not
    # active is 1/4.
    active = np.abs(p.residuals(p.params)) < 1e-9
    return Answer(
        curvature=np.linalg.eigvalsh(hessian),
        active=active,
        inequality=~p.equality,
        degenerate=active & ~p.equality & (p.multipliers < 1e-9),
        violated=~p.equality & (np.array(p.residuals(p.start)) > 0),
        jacobian=jacobian,
        hessian=hessian,
        straight=np.array_equal(jacobian, jax.jacobian(p.residuals)(p.start)),
    )


def test_problems_meet_the_kkt_conditions_at_their_answers(x64):
    def check(name):
        p = flat(name)
        residuals = np.array(p.residuals(p.params))
        lam, g = p.multipliers[~p.equality], residuals[~p.equality]
        # OSQP polishes to 1e-12; the other answers are closed forms.
        near_zero = partial(np.testing.assert_allclose, desired=0, rtol=0, atol=1e-9)
        near_zero(jax.grad(p.lagrangian)(p.params))
        near_zero(residuals[p.equality])
        near_zero(lam * g)
        assert np.all(g <= 1e-9)
        assert np.all(lam >= -1e-9)

    assert_each(PROBLEMS, check)


@pytest.mark.slow
def test_problems_multipliers_are_those_of_least_squares(x64):
    # min |∇f + Jᵀλ| over the active ones, the smallest where they are not unique.
    def check(name):
        p, at = flat(name), answer(name)
        want = np.zeros_like(p.multipliers)
        slope = np.array(jax.grad(p.loss)(p.params))
        want[at.active] = -np.linalg.pinv(at.jacobian[at.active].T) @ slope
        # No active Jacobian here has a condition number above 7.
        np.testing.assert_allclose(p.multipliers, want, rtol=0, atol=1e-9)

    assert_each(PROBLEMS, check)


def independent(gradients):
    """Which rows are no combination of those before; SLSQP takes no others."""
    ranks = [np.linalg.matrix_rank(gradients[: i + 1]) for i in range(len(gradients))]
    return np.diff(ranks, prepend=0) > 0


@pytest.mark.slow
def test_problems_answers_are_found_by_scipy(x64):
    def check(name):
        p = flat(name)
        residuals, jacobian = jax.jit(p.residuals), jax.jit(jax.jacobian(p.residuals))
        equality, inequality = np.flatnonzero(p.equality), np.flatnonzero(~p.equality)
        equality = equality[independent(np.array(jacobian(p.start))[equality])]
        found = minimize(
            jax.jit(jax.value_and_grad(p.loss)),
            p.start,
            jac=True,
            method="SLSQP",
            constraints=[  # theirs are >= 0
                {
                    "type": kind,
                    "fun": lambda x, rows=rows: -np.array(residuals(x))[rows],
                    "jac": lambda x, rows=rows: -np.array(jacobian(x))[rows],
                }
                for kind, rows in [("eq", equality), ("ineq", inequality)]
                if len(rows)
            ],
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        # ftol is of the loss, and half of its digits are those of the point.
        np.testing.assert_allclose(found.x, p.params, rtol=0, atol=1e-5)

    assert_each(PROBLEMS, check)


def test_problems_start_far_from_their_answers(x64):
    def check(name):
        p = flat(name)
        assert p.start.dtype == p.params.dtype == np.float64
        assert np.abs(p.start - p.params).max() > 0.2

    assert_each(PROBLEMS, check)


@pytest.mark.slow
def test_problems_are_unique_and_convex_where_they_say_so(x64):
    def check(name):
        problem, at = PROBLEMS[name](), answer(name)
        gradients = at.jacobian[at.active]
        # The rank of no rows at all is zero.
        rank = np.linalg.matrix_rank(gradients) if len(gradients) else 0
        assert problem.unique == (rank == len(gradients))
        # Rounding leaves 1e-15 of a zero eigenvalue; the smallest positive one is 0.3.
        assert problem.convex == (at.curvature[0] > 1e-9)

    assert_each(PROBLEMS, check)


@pytest.mark.slow
def test_problems_are_convex_under_penalty_1_and_their_rates_suit_it(x64):
    def check(name):
        problem, at = PROBLEMS[name](), answer(name)

        def curvature(rows):
            gradients = at.jacobian[rows]
            return np.linalg.eigvalsh(at.hessian + gradients.T @ gradients)

        # On the far side of a degenerate one the penalty rests, on the near it pushes.
        smallest = curvature(at.active & ~at.degenerate)[0]
        largest = curvature(at.active)[-1]
        assert smallest > 0
        assert largest / smallest < 60  # HS28's, the worst, is 58
        assert 0.1 < problem.learning_rate * largest < 1.0 + 1e-12

    assert_each(PROBLEMS, check)


def test_problems_keep_shapes_and_dtypes(dtype):
    def check(name):
        problem = PROBLEMS[name]()
        start = jax.tree.map(lambda leaf: jnp.array(leaf, dtype), problem.start)
        loss, gradient = jax.value_and_grad(problem.loss)(start, None)
        assert (loss.shape, loss.dtype) == ((), dtype)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        assert jax.tree.structure(start) == jax.tree.structure(problem.params)
        for kind, key, constraint in named(problem.constraints):
            residual = jax.eval_shape(constraint, start, None)
            assert residual.dtype == dtype
            assert residual.shape == getattr(problem.multipliers, kind)[key].shape
            assert residual.ndim <= 1
        for kind in problem.constraints._fields:
            entries = getattr(problem.multipliers, kind)
            assert entries.keys() == getattr(problem.constraints, kind).keys()

    assert_each(PROBLEMS, check)


def ends(violated, active):
    """Some inequality starts violated (or inside) and ends active (or inactive)."""
    return lambda _, at: np.any(
        at.inequality & (at.violated == violated) & (at.active == active)
    )


CLASSES = {
    "equalities alone": lambda _, at: not at.inequality.any(),
    "inequalities alone": lambda _, at: at.inequality.all(),
    "both": lambda _, at: 0 < at.inequality.sum() < len(at.inequality),
    "curved constraints": lambda _, at: not at.straight,
    "several active inequalities": lambda _, at: (at.inequality & at.active).sum() > 1,
    "active and inactive in one residual": lambda problem, at: (
        len(problem.multipliers.inequality) == 1
        and 0 < (at.inequality & at.active).sum() < at.inequality.sum()
    ),
    "from violated to active": ends(violated=True, active=True),
    "from violated to inactive": ends(violated=True, active=False),
    "from inside to active": ends(violated=False, active=True),
    "from inside to inactive": ends(violated=False, active=False),
    "degenerate": lambda _, at: at.degenerate.any(),
    "redundant": lambda problem, _: not problem.unique,
    "indefinite": lambda _, at: at.curvature[0] < -0.1,
    "flat somewhere": lambda _, at: 0 <= at.curvature[0] + 1e-9 < 2e-9,
    "linear throughout": lambda _, at: at.straight and not at.hessian.any(),
    "scalar params": lambda problem, at: at.hessian.shape == (1, 1),
}


@pytest.mark.slow
def test_problems_are_two_of_each_class_at_least(x64):
    def check(kind):
        belongs = CLASSES[kind]
        members = [name for name, p in PROBLEMS.items() if belongs(p(), answer(name))]
        assert len(members) >= 2, members

    assert_each(CLASSES, check)


def test_problems_are_many_with_a_pytree_and_a_source():
    problems = [make() for make in PROBLEMS.values()]
    assert len(problems) >= 18
    assert any(isinstance(problem.params, dict) for problem in problems)
    assert all(problem.source for problem in problems)
