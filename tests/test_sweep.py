"""A sweep is a loop of runs: the same ends, the same histories, compiled once."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_refused

import jaxcon as jc

SUMS = jc.Constraints(equality={"sum": lambda p, batch: jnp.sum(p) - batch})


def solver_of(penalty):
    return jc.alternating(
        jc.Lagrangian(lambda p, _: jnp.sum(p**2), SUMS, penalty=penalty),
        optax.sgd(0.05),
        jc.dual_ascent(optax.sgd(penalty)),
    )


def run(start, penalty, total=1.0):
    return solver_of(penalty), start * jnp.ones(2), jnp.asarray(total)


GRID = {"start": [0.0, 1.0, 2.0], "penalty": [0.1, 1.0]}
STEPS = 23


@pytest.fixture(scope="module")
def fits():
    """Each run of the grid by itself, in the grid's order; one program a penalty."""
    solvers = {penalty: solver_of(penalty) for penalty in GRID["penalty"]}
    results = []
    for start in GRID["start"]:
        for solver in solvers.values():
            state = solver.init(np.full(2, start, np.float32), jnp.asarray(1.0))
            results.append(
                jc.fit(solver, state, jnp.asarray(1.0), steps=STEPS, progress=False)
            )
    return results


# One by one; in batches, the last one smaller and so of its own shape; all at once.
@pytest.mark.parametrize(
    ("together", "keep", "shapes"), [(None, 1, 1), (4, 5, 2), (100, 100, 1)]
)
def test_sweep_is_a_loop_of_fits_and_traced_once(together, keep, shapes, fits):
    traced = []

    def counted(start, penalty):
        traced.append(start)
        return run(start, penalty)

    result = jc.sweep(counted, GRID, steps=STEPS, keep=keep, together=together)
    assert len(traced) == shapes
    np.testing.assert_array_equal(result.values["start"], [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(result.values["penalty"], [0.1, 1] * 3, rtol=1e-6)
    assert len(result.steps) == min(keep, STEPS)
    assert result.steps[0] == 0
    for i, alone in enumerate(fits):
        one = result.run(i)
        kept = jax.tree.map(lambda rows: np.asarray(rows)[result.steps], alone.history)
        # float32; batched and single products may round differently.
        chex.assert_trees_all_close(
            (one.state, one.best, one.history),
            (alone.state, alone.best, kept),
            rtol=1e-5,
            atol=1e-6,
        )


def test_sweep_keeps_whole_numbers_whole_and_hands_over_data():
    def seeded(seed, total):
        assert jnp.issubdtype(seed.dtype, jnp.integer)
        return run(jax.random.normal(jax.random.key(seed)), 1.0, total)

    seeds, totals = np.arange(3), np.float32([0.0, 3.0])
    grid = {"seed": seeds, "total": totals}
    found = jc.sweep(seeded, grid, steps=300, keep=1)
    draws = jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed)))(seeds)
    misses = np.abs(np.subtract.outer(2 * np.array(draws), totals)).ravel()
    np.testing.assert_allclose(
        found.history.violation.equality["sum"][:, 0], misses, rtol=1e-6
    )
    np.testing.assert_allclose(
        found.state.params.sum(axis=1), np.tile(totals, 3), atol=1e-4
    )


def test_sweep_refuses_bad_use():
    whole, nan = "must be a whole number >= 1, got ", float("nan")
    rows = [
        ({}, {}, ValueError, "at least one name"),
        ({"start": []}, {}, ValueError, "grid\\['start'\\].*got shape \\(0,\\)"),
        ({"start": 1.0}, {}, ValueError, "grid\\['start'\\].*got shape \\(\\)"),
        (
            {"start": ["a"]},
            {},
            TypeError,
            "grid\\['start'\\] must be numbers of shape \\(k,\\)",
        ),
        ({3: [1.0]}, {}, TypeError, "a name in grid must be text, got 3"),
        ([1.0], {}, TypeError, "grid must be a dict"),
        ({name: range(1000) for name in "abc"}, {}, ValueError, "1e\\+09 combinations"),
        (GRID, {"steps": 0}, ValueError, f"steps {whole}0"),
        (GRID, {"steps": 1.5}, ValueError, f"steps {whole}1.5"),
        (GRID, {"steps": nan}, ValueError, f"steps {whole}nan"),
        (GRID, {"steps": 2**31}, ValueError, "steps must be at most"),
        (GRID, {"steps": None}, TypeError, "steps must be"),
        (GRID, {"keep": 0}, ValueError, f"keep {whole}0"),
        (GRID, {"together": 0}, ValueError, f"together {whole}0"),
        (GRID, {"tolerance": -1.0}, ValueError, "tolerance must be"),
        (GRID, {"make_run": None}, TypeError, "make_run must be a function"),
        (GRID, {"make_run": lambda **_: 1}, TypeError, "make_run must return"),
        (GRID, {"make_run": lambda **_: (1, 2, 3)}, TypeError, "got 1 as the solver"),
        (GRID, {"make_run": lambda **_: (1, 2)}, TypeError, "got 2 values"),
    ]
    assert_refused(
        [
            (
                partial(
                    jc.sweep, **{"make_run": run, "grid": grid, "steps": 3, **options}
                ),
                error,
                words,
            )
            for grid, options, error, words in rows
        ]
    )
