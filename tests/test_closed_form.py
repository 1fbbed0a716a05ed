"""Methods on problems with known primal and dual solutions: a subset of the benchmark.

`python -m benchmarks.methods` runs every method on every problem. Here the recommended
one runs on all of them and the others on a few, and must take the recorded steps.
"""

from functools import cache, partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from tables import assert_each

import jaxcon as jc
from benchmarks import methods as benchmark
from benchmarks.methods import FAILURES, METHODS, TOLERANCE, contradicts, failure, reach
from benchmarks.problems import PROBLEMS

RECOMMENDED = "alt+"
# One converges, one runs away, one circles, one has no curvature, one bends down.
TELLING = ["sum to one", "HS40", "hyperbola", "bilinear", "saddle"]


@cache
def recorded():
    """The cells of the recorded table, by dtype, method and problem."""
    cells, dtype, methods = {}, "", []
    for line in Path(benchmark.__file__).with_suffix(".txt").read_text().splitlines():
        name, row = line[:22].strip(), line[22:].split()
        if line.startswith(tuple(TOLERANCE)):
            dtype = line.split(",")[0]
        elif not name and row:
            methods = row
        elif name in PROBLEMS:
            cells |= {(dtype, method, name): cell for method, cell in zip(methods, row)}
    return cells


def assert_as_recorded(method, dtype, name):
    """Asserts that a run reaches the answer, or not, as theory and the table say."""
    reached, cell = (
        reach(METHODS[method], PROBLEMS[name](), dtype),
        recorded()[dtype, method, name],
    )
    assert not contradicts(method, name, dtype, reached)
    assert (reached.steps is not None) == cell.isdigit(), (reached, cell)
    if reached.steps is None:
        return
    assert max(reached.primal, reached.dual) <= TOLERANCE[dtype]
    # Roundings are 1e-9 of the tolerance in float64, and up to 1e-2 of it in float32; at
    # a constant rate they move the crossing by a step, and by 1e-2 / log(1e4) of all.
    allowed = 1 if dtype == "float64" else 1 + 0.01 * int(cell)
    assert abs(reached.steps - int(cell)) <= allowed, (reached, cell)


def test_methods_recorded_table_is_complete_and_agrees_with_theory():
    rows = {
        (dtype, method, name)
        for dtype in TOLERANCE
        for method in METHODS
        for name in PROBLEMS
    }
    assert recorded().keys() == rows
    for (dtype, method, name), cell in recorded().items():
        assert "!" not in cell, (dtype, method, name)
        if cell == "-":
            assert failure(method, name), (dtype, method, name)
        if (method, name) in FAILURES:
            assert not cell.isdigit(), (dtype, method, name)


def test_alternating_reaches_primal_and_dual_of_every_problem(x64):
    assert_each(PROBLEMS, partial(assert_as_recorded, RECOMMENDED, "float64"))


def test_alternating_reaches_primal_and_dual_of_telling_problems_in_float32():
    assert_each(TELLING, partial(assert_as_recorded, RECOMMENDED, "float32"))


def test_alternating_without_a_penalty_goes_where_its_eigenvalues_say(x64):
    assert_each(TELLING, partial(assert_as_recorded, "alt", "float64"))


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS.keys() - {RECOMMENDED, "alt"}))
def test_methods_reach_primal_and_dual_or_theory_says_why_not(x64, method):
    assert_each(TELLING, partial(assert_as_recorded, method, "float64"))


def test_problems_of_the_table_start_far_from_their_answers():
    # Or the tests above would pass for a method that stands still.
    for name, make in PROBLEMS.items():
        problem = make()
        gaps = jax.tree.map(
            lambda a, b: np.abs(a - b).max(), problem.start, problem.params
        )
        assert max(jax.tree.leaves(gaps)) > 0.2, name


# min (p - a)² s.t. p <= 1 (or p = 1): p = min(a, 1), λ = 2 max(a - 1, 0); from both sides.
@pytest.mark.parametrize("penalty", [None, 1.0])
def test_alternating_ends_an_inequality_active_or_free_from_either_side(x64, penalty):
    # A squared slack variable, started at zero, would hold on to it for ever.
    solver = jc.alternating(
        jc.Lagrangian(
            lambda p, aim: (p - aim) ** 2,
            jc.Constraints(inequality={"p <= 1": lambda p, _: p - 1.0}),
            penalty=penalty,
        ),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.5)),
    )

    def check(row):
        start, aim = row
        state = solver.init(start, aim)
        state = jc.fit(solver, state, aim, steps=1000, progress=False).state
        # 0.8^1000 and less.
        assert float(state.params) == pytest.approx(min(aim, 1.0), abs=1e-12)
        multiplier = state.multipliers.inequality["p <= 1"]
        assert float(multiplier) == pytest.approx(2 * max(aim - 1.0, 0.0), abs=1e-12)

    starts = (-1.0, 0.5, 1.5, 3.0)
    assert_each([(start, aim) for start in starts for aim in (0.0, 2.0)], check)
