"""Every way on every problem with a known primal and dual solution."""

from functools import cache

import jax
import numpy as np
import optax
import pytest

import jaxcon as jc
from benchmarks.methods import (
    FAILURES,
    TOLERANCE,
    WAYS,
    contraction,
    failure,
    reach,
    tight_without_force,
)
from benchmarks.problems import PROBLEMS

# The others, half a minute of compiling each, are with the slow tests.
QUICK = ["alt+"]
# One converges, one runs away, one circles, one has no curvature, one bends down.
TELLING = ["sum to one", "HS40", "hyperbola", "bilinear", "saddle"]
PLAIN = ["sim", "alt", "pri", "ext", "opt"]
SMOOTH = [way for way in WAYS if WAYS[way].smooth]
# What a float64 eigenvalue, possibly a multiple one, is good for.
AT_ONE = 1e-6


@cache  # both tests below ask for the float64 runs
def run(way, name, dtype):
    return reach(WAYS[way], PROBLEMS[name](), dtype)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=() if way in QUICK else pytest.mark.slow) for way in WAYS],
)
def test_primal_and_dual_are_reached_or_theory_says_why_not(dtype, way, name):
    # benchmarks/methods.py holds an answer only if it stays within 1e-4 in float32 and
    # 1e-7 in float64, parameters and multipliers, for twenty steps.
    reached = run(way, name, dtype)
    if reached.steps is not None:
        assert max(reached.primal, reached.dual) <= TOLERANCE[dtype]
        # Theory must not have said the opposite.
        assert (way, name) not in FAILURES
        return
    # Gradients on the plain Lagrangian may fail where it has no curvature, and the next
    # test asks its eigenvalues; PI control and the augmented Lagrangian must not.
    assert failure(way, name) or (way in PLAIN and not PROBLEMS[name]().convex), reached


@pytest.mark.parametrize(
    ("way", "name"),
    [
        pytest.param(way, name, marks=() if quick else pytest.mark.slow)
        for way in SMOOTH
        for name in PROBLEMS
        for quick in [way == "alt" and name in TELLING]
    ],
)
def test_the_step_s_eigenvalues_say_who_gets_there(x64, way, name):
    problem = PROBLEMS[name]()
    radius = contraction(WAYS[way], problem)
    if radius is None:
        assert tight_without_force(problem)
        return
    got_there = run(way, name, "float64").steps is not None
    assert got_there == (radius < 1 - AT_ONE), radius


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_start_is_far_from_the_answer(name):
    # Or the tests above would pass for a way that stands still.
    problem = PROBLEMS[name]()
    gaps = jax.tree.map(lambda a, b: np.abs(a - b).max(), problem.start, problem.params)
    assert max(jax.tree.leaves(gaps)) > 0.2


# min (p - a)² s.t. p <= 1 (or p = 1): p = min(a, 1), λ = 2 max(a - 1, 0); from both sides.
@pytest.mark.parametrize("penalty", [None, 1.0])
@pytest.mark.parametrize("start", [-1.0, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("aim", [0.0, 2.0])
def test_an_inequality_ends_active_or_lets_go_from_either_side(
    x64, aim, start, penalty
):
    # A squared slack variable, started at zero, would hold on to it for ever.
    method = jc.alternating(
        lambda p, _: (p - aim) ** 2,
        jc.Constraints(inequality={"p <= 1": lambda p, _: p - 1.0}),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.5)),
        penalty=penalty,
    )
    state = jc.fit(method, method.init(start), steps=1000, progress=False).state
    # 0.8^1000 and less.
    assert float(state.params) == pytest.approx(min(aim, 1.0), abs=1e-12)
    multiplier = state.multipliers.inequality["p <= 1"]
    assert float(multiplier) == pytest.approx(2 * max(aim - 1.0, 0.0), abs=1e-12)
