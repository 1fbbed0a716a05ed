"""judge: the data that feasibility and the best iterate rest on."""

from functools import cache
from itertools import islice, repeat

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon.diagnosis._estimates import estimates

STEPS, RECENT = 350, "recent batches"


@cache  # compiled once
def noisy():
    """Min (x - 2)² s.t. E[x - 1 + noise] <= 0, and its start."""
    at_most_1 = jc.Constraints(inequality={"x <= 1": lambda x, b: x - 1.0 + b["noise"]})
    problem = jc.Lagrangian(lambda x, b: (x - b["aim"]) ** 2, at_most_1, penalty=1.0)
    solver = jc.alternating(problem, optax.sgd(0.05), jc.dual_ascent(optax.sgd(0.05)))
    return solver, solver.init(jnp.array(0.0), truth())


def truth():
    return {"noise": np.float32(0.0), "aim": np.float32(2.0)}


def draw(key):
    return {"noise": 0.5 * jax.random.normal(key), "aim": jnp.float32(2.0)}


def stream(count=STEPS):
    return islice(
        ({"noise": np.float32(0.5 * n), "aim": np.float32(2.0)} for n in NOISE), count
    )


NOISE = np.random.default_rng(0).normal(size=2 * STEPS)


def fit(batches, steps=STEPS, **more):
    key = jax.random.key(3) if batches is draw else None
    options = {"steps": steps, "key": key, "progress": False} | more
    return jc.fit(*noisy(), batches, **options)


def states():
    """The states that are judged: of every 100th step, and the last."""
    return {n: fit(stream(), n).state for n in (100, 200, 300, STEPS)} | {0: noisy()[1]}


def test_judge_given_a_batch_selects_the_best_on_it_by_brute_force():
    def check(tolerance):
        best = fit(stream(), judge=truth(), tolerance=tolerance).best
        reached = {n: float(state.params) for n, state in states().items()}
        violation = {n: max(x - 1.0, 0.0) for n, x in reached.items()}
        feasible = [n for n, each in violation.items() if each <= tolerance]
        assert bool(best.feasible) == bool(feasible)
        wanted = min(feasible, key=lambda n: (reached[n] - 2.0) ** 2)
        assert int(best.step) == wanted
        assert float(best.params) == reached[wanted]
        assert float(best.max_violation) == pytest.approx(violation[wanted], abs=1e-6)
        assert float(best.loss) == pytest.approx((reached[wanted] - 2.0) ** 2, rel=1e-5)

    assert_each([0.5, 0.0], check)


def test_fit_s_best_is_a_lucky_batch_s_unless_it_is_judged():
    lucky = fit(stream())
    assert bool(lucky.best.feasible)
    assert float(lucky.best.params) > 1.1
    step = int(lucky.best.step)
    assert f"rests on the batch of step {step:,} alone (judge=" in repr(lucky)
    judged = fit(stream(), judge=truth())
    assert float(judged.best.params) <= 1.001
    assert "rests on the batch given as judge" in repr(judged)


def test_judge_by_recent_batches_adds_two_standard_errors():
    # Signed residuals are averaged: half of the batches alone would violate.
    def check(kind):
        batches = {"stream": stream, "function": lambda: draw}[kind]()
        best = fit(batches, judge=RECENT, tolerance=1.0).best
        step, x = int(best.step), float(best.params)
        if kind == "stream":
            noise = 0.5 * NOISE[step - 32 : step]
        else:
            keys = [jax.random.fold_in(jax.random.key(3), step + i) for i in range(32)]
            noise = np.array([float(draw(key)["noise"]) for key in keys])
        mean = x - 1.0 + noise.mean()
        upper = max(mean, 0.0) + 2 * noise.std(ddof=1) / np.sqrt(32)
        assert float(best.max_violation) == pytest.approx(upper, rel=1e-4)
        assert bool(best.feasible)

    assert_each(["stream", "function"], check)
    strict = fit(stream(), judge=RECENT)
    assert not bool(strict.best.feasible)
    assert "rests on 32 recent batches, two standard errors above" in repr(strict)


def test_estimates_average_signed_numbers_and_the_worst_of_many_points():
    rows = [
        jc.Constraints({"h": np.array(h)}, {"g": np.array(g), "points": np.array(p)})
        for h, g, p in [(1.0, -3.0, [1.0, -9.0]), (-2.0, 1.0, [0.0, 3.0])]
    ]
    found = estimates(rows)
    assert found["h"].value == 0.5
    assert found["h"].error == pytest.approx(1.5)
    assert found["g"].value == 0.0  # the mean is -1
    assert found["points"].value == 2.0
    assert found["points"].upper == pytest.approx(2.0 + 2 * 1.0)
    (alone,) = [estimates(rows[:1])["h"]]
    assert (alone.value, alone.error) == (1.0, 0.0)
    broken = [jc.Constraints({}, {"g": np.array(np.nan)})]
    assert not estimates(broken)["g"].upper <= 1.0


@pytest.mark.parametrize("judge", [RECENT, "batch"])
def test_judged_runs_resume_to_the_same_best_to_the_bit(tmp_path, judge):
    given = truth() if judge == "batch" else judge
    whole = fit(stream(), judge=given, tolerance=0.3)
    parts = {"judge": given, "checkpoint": tmp_path, "tolerance": 0.3}
    fit(stream(), 230, **parts)
    resumed = fit(stream(), **parts)
    assert int(resumed.state.step) == STEPS
    for mine, theirs in zip(jax.tree.leaves(whole.best), jax.tree.leaves(resumed.best)):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
    with pytest.raises(ValueError, match="judge.* there, nothing here"):
        fit(stream(), 400, checkpoint=tmp_path, tolerance=0.3)


def test_judge_leaves_the_run_as_it_is():
    plain = fit(stream())
    for judge in (truth(), RECENT):
        judged = fit(stream(), judge=judge)
        np.testing.assert_array_equal(plain.history.loss, judged.history.loss)
        assert float(plain.state.params) == float(judged.state.params)


def test_fit_s_result_says_nothing_where_all_batches_are_equal():
    for batches in (truth(), repeat(truth())):
        assert "rests on" not in repr(fit(batches))


def test_judge_is_the_data_of_the_diagnosis():
    # On its own batches the constraint is met at 1, on those of the judge at 0.
    strict = truth() | {"noise": np.float32(1.0)}
    kinds = [
        fit(truth(), steps=1000, judge=judge).diagnosis.verdicts[0].kind
        for judge in (None, strict)
    ]
    assert kinds == ["converged", "stalled"]


def test_judge_is_refused_unless_it_is_a_batch():
    def called(judge, batches=None):
        return lambda: fit(stream() if batches is None else batches, judge=judge)

    assert_refused(
        [
            (called("recent"), TypeError, ["judge must be", "'recent'", RECENT]),
            (called(draw), TypeError, ["judge must be", "function"]),
            (called(stream()), TypeError, ["judge must be", "islice"]),
            (called({"noise": "x"}), TypeError, ["judge['noise'] is 'x'"]),
            (called({"noise": 0.0}), ValueError, ["judge", "aim"]),
            (
                called(truth() | {"noise": np.ones((2, 2))}),
                ValueError,
                ["judge", "x <= 1"],
            ),
            (called(RECENT, truth()), ValueError, ["judge", "the same one"]),
        ]
    )
