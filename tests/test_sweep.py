"""A sweep is a loop of runs: the same ends, the same histories, compiled once."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc

SUMS = jc.Constraints(equality={"sum": lambda p, batch: jnp.sum(p) - batch})


def run(start, penalty, total=1.0):
    method = jc.alternating(
        lambda p, _: jnp.sum(p**2),
        SUMS,
        optax.sgd(0.05),
        jc.dual_ascent(optax.sgd(penalty)),
        penalty=penalty,
    )
    return method, start * jnp.ones(2), jnp.asarray(total)


GRID = {"start": [0.0, 1.0, 2.0], "penalty": [0.1, 1.0]}
STEPS = 23


@pytest.fixture(scope="module")
def fits():
    """Each run of the grid by itself."""
    results = []
    for start in GRID["start"]:
        for penalty in GRID["penalty"]:
            method, params, batch = run(start, penalty)
            state = method.init(params, batch)
            results.append(jc.fit(method, state, batch, steps=STEPS, progress=False))
    return results


@pytest.mark.parametrize(
    ("together", "keep"), [(None, 5), (1, 1), (4, 100), (100, STEPS)]
)
def test_a_sweep_is_a_loop_of_fits(together, keep, fits):
    result = jc.sweep(run, GRID, steps=STEPS, keep=keep, together=together)
    np.testing.assert_array_equal(result.values["start"], [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(result.values["penalty"], [0.1, 1] * 3, rtol=1e-6)
    assert len(result.steps) == min(keep, STEPS)
    assert result.steps[0] == 0
    for i, alone in enumerate(fits):
        one = result.run(i)
        kept = jax.tree.map(lambda rows: rows[result.steps], alone.history)
        # float32; batched and single products may round differently.
        chex.assert_trees_all_close(
            (one.state, one.best, one.history),
            (alone.state, alone.best, kept),
            rtol=1e-5,
            atol=1e-6,
        )


def test_data_may_differ_between_runs():
    result = jc.sweep(
        lambda total: run(0.0, 1.0, total), {"total": np.arange(4.0)}, steps=300
    )
    np.testing.assert_allclose(result.state.params.sum(axis=1), np.arange(4), atol=1e-4)


def test_it_is_traced_once():
    traced = []

    def counted(start, penalty):
        traced.append(start)
        return run(start, penalty)

    jc.sweep(counted, GRID, steps=3)
    assert len(traced) == 1


def test_whole_numbers_stay_whole():
    def seeded(seed):
        assert jnp.issubdtype(seed.dtype, jnp.integer)
        start = jax.random.normal(jax.random.key(seed))
        return run(start, 1.0)

    found = jc.sweep(seeded, {"seed": np.arange(3)}, steps=1, keep=1)
    starts = [
        2 * float(jax.random.normal(jax.random.key(seed))) - 1 for seed in range(3)
    ]
    np.testing.assert_allclose(
        found.history.violation.equality["sum"][:, 0], np.abs(starts), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("grid", "options", "words"),
    [
        ({}, {}, "at least one name"),
        ({"start": []}, {}, "'start', got \\(0,\\)"),
        ({"start": 1.0}, {}, "'start', got \\(\\)"),
        (GRID, {"steps": 0}, "got 0, 100 and"),
        (GRID, {"keep": 0}, "got 3, 0 and"),
        (GRID, {"together": 0}, "and 0"),
    ],
)
def test_bad_use_is_refused(grid, options, words):
    with pytest.raises(ValueError, match=words):
        jc.sweep(run, grid, **{"steps": 3, **options})
