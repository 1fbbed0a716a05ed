"""Hock and Schittkowski's and other textbooks' problems: shapes, values, known points.

The points are closed forms; SciPy's SLSQP finds the values of some more.
"""

from math import exp, log, pi, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each

from benchmarks._textbook_cases import altered, flat
from benchmarks._textbook_judge import judge
from benchmarks._textbook_solvers import Answer, slsqp
from benchmarks.problems.hock_schittkowski import HOCK_SCHITTKOWSKI
from benchmarks.problems.textbook import textbook

# Solutions that the book prints in closed form.
POINTS = {
    "HS1": (1, 1),
    "HS3": (0, 0),
    "HS4": (1, 0),
    "HS5": (-pi / 3 + 1 / 2, -pi / 3 - 1 / 2),
    "HS6": (1, 1),
    "HS7": (0, sqrt(3)),
    "HS9": (-3, -4),
    "HS10": (0, 1),
    "HS12": (2, 3),
    "HS13": (1, 0),
    "HS14": ((sqrt(7) - 1) / 2, (sqrt(7) + 1) / 4),
    "HS15": (0.5, 2),
    "HS16": (0.5, 0.25),
    "HS17": (0, 0),
    "HS18": (sqrt(250), sqrt(2.5)),
    "HS20": (0.5, sqrt(3) / 2),
    "HS21": (2, 0),
    "HS22": (1, 1),
    "HS23": (1, 1),
    "HS24": (3, sqrt(3)),
    "HS25": (50, 25, 1.5),
    "HS26": (1, 1, 1),
    "HS27": (-1, 1, 0),
    "HS28": (0.5, -0.5, 0.5),
    "HS29": (4, 2 * sqrt(2), 2),
    "HS30": (1, 0, 0),
    "HS31": (1 / sqrt(3), sqrt(3), 0),
    "HS32": (0, 0, 1),
    "HS33": (0, sqrt(2), sqrt(2)),
    "HS34": (log(log(10)), log(10), 10),
    "HS35": (4 / 3, 7 / 9, 4 / 9),
    "HS36": (20, 11, 15),
    "HS37": (24, 12, 12),
    "HS38": (1, 1, 1, 1),
    "HS39": (1, 1, 0, 0),
    "HS40": tuple(2.0**power for power in (-1 / 3, -1 / 2, -11 / 12, -1 / 4)),
    "HS41": (2 / 3, 1 / 3, 1 / 3, 2),
    "HS42": (2, 2, 0.6 * sqrt(2), 0.8 * sqrt(2)),
    "HS43": (0, 1, 2, -1),
    "HS44": (0, 3, 0, 4),
    "HS45": (1, 2, 3, 4, 5),
    "HS46": (1, 1, 1, 1, 1),
    "HS48": (1, 1, 1, 1, 1),
    "HS49": (1, 1, 1, 1, 1),
    "HS50": (1, 1, 1, 1, 1),
    "HS51": (1, 1, 1, 1, 1),
    "HS52": tuple(np.array([-33, 11, 180, -158, 11]) / 349),
    "HS53": tuple(np.array([-33, 11, 27, -5, 11]) / 43),
    "HS55": (0, 4 / 3, 5 / 3, 1, 2 / 3, 1 / 3),
    "HS76": tuple(np.array([3, 23, 0, 6]) / 11),
}
ELSEWHERE = {"HS13", "HS25"}  # not well posed
SOLVED = ("HS19", "HS62", "HS71", "HS93", "HS100", "HS113")


def all_problems():
    return {**HOCK_SCHITTKOWSKI, **textbook()}


def test_problems_are_many_well_posed_and_named_once(x64):
    assert len(HOCK_SCHITTKOWSKI) >= 70
    assert all(name == p.name for name, p in all_problems().items())
    assert not HOCK_SCHITTKOWSKI.keys() & textbook().keys()
    bad = {name for name, p in HOCK_SCHITTKOWSKI.items() if not p.well_posed}
    assert bad == ELSEWHERE


def test_losses_and_residuals_have_shapes_and_the_loss_is_finite_at_the_start(x64):
    def check(problem):
        start = jax.tree.map(jnp.asarray, problem.start)
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(start))
        loss = jax.eval_shape(problem.loss, start, None)
        assert (loss.shape, loss.dtype) == ((), np.float64)
        for kind in problem.constraints:
            for name, constraint in kind.items():
                residual = jax.eval_shape(constraint, start, None)
                assert residual.ndim <= 1, name
                assert residual.dtype == np.float64, name
        assert np.isfinite(problem.loss(start, None))
        assert np.shape(problem.value) == ()
        assert np.isfinite(problem.value)

    assert_each(all_problems().values(), check)


@pytest.mark.parametrize("format", [jnp.float32])
def test_losses_and_residuals_keep_the_format_of_the_parameters(format):
    def check(problem):
        start = jax.tree.map(lambda leaf: jnp.asarray(leaf, format), problem.start)
        assert jax.eval_shape(problem.loss, start, None).dtype == format
        for kind in problem.constraints:
            for constraint in kind.values():
                assert jax.eval_shape(constraint, start, None).dtype == format

    assert_each(HOCK_SCHITTKOWSKI.values(), check)


def test_printed_points_are_feasible_and_have_the_best_known_value(x64):
    def check(name):
        problem, x = HOCK_SCHITTKOWSKI[name], jnp.array(POINTS[name], float)
        np.testing.assert_allclose(problem.loss(x, None), problem.value, 1e-12, 1e-12)
        for h in problem.constraints.equality.values():
            np.testing.assert_allclose(h(x, None), 0, atol=1e-12)
        for g in problem.constraints.inequality.values():
            assert np.all(g(x, None) <= 1e-12)

    assert_each(POINTS, check)


def test_slsqp_ends_at_the_best_known_value_or_another_kkt_point(x64):
    def check(name):
        f = flat(HOCK_SCHITTKOWSKI[name])
        answer = slsqp(f)
        verdict = judge(f, answer)
        assert verdict.solved
        assert verdict.below < 1e-8

    assert_each(SOLVED, check)


def test_bounds_are_the_constraints_of_their_names(x64):
    def check(problem):
        x, (lower, upper) = jnp.asarray(problem.start) + 0.25, problem.bounds
        beyond = {"lower bounds": np.ravel(lower - x.ravel())}
        beyond["upper bounds"] = np.ravel(x.ravel() - upper)
        for name, rows in beyond.items():
            rows = rows[np.isfinite(rows)]
            assert (name in problem.constraints.inequality) == (len(rows) > 0)
            if len(rows):
                given = problem.constraints.inequality[name](x, None)
                np.testing.assert_allclose(given, rows, rtol=1e-12)

    named = [p for p in all_problems().values() if p.bounds is not None]
    assert_each(named, check)


def test_judge_tells_answers_from_what_are_none(x64):
    f = flat(HOCK_SCHITTKOWSKI["HS22"])  # at (1, 1) with multipliers 2/3 and 2/3

    def verdict(x, multipliers):
        return judge(f, Answer(np.array(x), np.array(multipliers), True, ""))

    right = verdict([1.0, 1.0], [2 / 3, 2 / 3])
    assert right.solved
    assert right.best
    assert right.kkt
    assert right.duals
    assert not verdict([1.0, 1.0], [2 / 3, 2 / 3 + 1e-4]).duals
    inside = verdict([0.9, 0.9], [0.0, 0.0])
    assert inside.feasible
    assert not inside.solved
    outside = verdict([1.1, 1.21], [0.0, 0.0])
    assert outside.best
    assert not outside.feasible
    assert not verdict([np.nan, 1.0], [0.0, 0.0]).feasible


def test_judge_knows_another_kkt_point(x64):
    f = flat(HOCK_SCHITTKOWSKI["HS20"])  # (-1/2, √3/2) is a local minimum
    g = np.array(jax.grad(lambda x: f.loss(x)[0])(jnp.array([-0.5, sqrt(3) / 2])))
    assert np.all(np.isfinite(g))
    verdict = judge(f, Answer(np.array([-0.5, sqrt(3) / 2]), None, True, ""))
    assert verdict.solved
    assert not verdict.best
    assert verdict.below == pytest.approx(-2 / (81.5 - 25 * sqrt(3)))


def test_judge_accepts_any_multipliers_that_fit_where_gradients_are_dependent(x64):
    f = flat(textbook()["redundant inequalities"])  # (2 - t, 2 - t, t), t in [0, 2]

    def right(multipliers):
        answer = Answer(np.ones(2), np.array(multipliers), True, "")
        return judge(f, answer).duals

    assert right([2.0, 2.0, 0.0])
    assert right([0.5, 0.5, 1.5])
    assert not right([-0.5, -0.5, 2.5])
    assert not right([1.0, 1.0, 0.0])


def test_altered_problems_have_the_same_answers_in_other_units(x64):
    problem = HOCK_SCHITTKOWSKI["HS71"]
    other = altered(problem, np.random.default_rng(1))
    x = jnp.array([1.5, 2.0, 3.0, 4.0])
    assert other.problem.value == other.loss * problem.value
    want = other.loss * problem.loss(x, None)
    np.testing.assert_allclose(other.problem.loss(x, None), want, rtol=1e-15)
    for was, now in zip(problem.constraints, other.problem.constraints):
        for name, constraint in was.items():
            want = other.constraints[name] * constraint(x, None)
            np.testing.assert_allclose(now[name](x, None), want, rtol=1e-15)
    assert 0 < np.abs(other.problem.start - problem.start).max() < 3
    assert min(other.constraints.values()) >= exp(-4 * log(10))
