"""Phases of a run against single runs, and what ends or resumes them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_refused

import jaxcon as jc

START = {"w": jnp.array([2.0, -1.0, 0.5])}
BATCH = {
    "x": jnp.array([[1.0, 0.5, -1.0], [0.2, -1.0, 0.3]]),
    "y": jnp.array([1.0, 2.0]),
}


def misfit(params, batch):
    return jnp.tanh(batch["x"] @ params["w"]) - batch["y"] / 4


def total(params, _):
    return jnp.sum(params["w"]) - 1.0


def problem(**options):
    rules = jc.Constraints({"sum": total}, {"w <= 1": lambda p, _: p["w"] - 1.0})
    return jc.Lagrangian(jc.MeanSquares({"misfit": misfit}), rules, **options)


PROBLEM = problem(penalty=1.0)


def adam(problem=PROBLEM, rate=0.02):
    return jc.alternating(problem, optax.adam(rate), jc.dual_ascent(optax.sgd(0.1)))


def newton(problem=PROBLEM):
    dual = jc.every(jc.method_of_multipliers(), 3)
    return jc.alternating(problem, jc.gauss_newton(problem), dual)


def lbfgs(problem=PROBLEM):
    dual = jc.every(jc.method_of_multipliers(), 5)
    return jc.alternating(problem, jc.restart_every(optax.lbfgs(), 5), dual)


THREE = [adam(), lbfgs(), newton()]


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def run():
    return jc.fit(THREE, START, BATCH, steps=[60, 20, 20])


def test_phases_are_single_runs_with_what_goes_over(run):
    first, second, third = THREE
    one = jc.fit(first, START, BATCH, steps=60)
    state = second.init(one.state.params, BATCH)._replace(
        multipliers=one.state.multipliers, step=one.state.step
    )
    two = jc.fit(second, state, BATCH, steps=20)
    state = third.init(two.state.params, BATCH)._replace(
        multipliers=two.state.multipliers, step=two.state.step
    )
    three = jc.fit(third, state, BATCH, steps=20)
    assert_same(run.state, three.state)
    assert run.history.step.tolist() == list(range(100))
    losses = [part.history.loss for part in (one, two, three)]
    np.testing.assert_array_equal(run.history.loss, np.concatenate(losses))
    np.testing.assert_allclose(run.state.params["w"].sum(), 1.0, atol=1e-5)
    assert run.diagnosis.verdicts[0].kind == "converged"


def test_best_iterate_of_phases_is_that_of_any():
    # The second phase runs away from where the first came to.
    away = jc.alternating(PROBLEM, optax.sgd(-0.1), optax.set_to_zero())
    found = jc.fit([adam(), away], START, BATCH, steps=[30, 10], tolerance=0.8)
    rows = found.history
    assert rows.loss[-1] > rows.loss[30]
    feasible = rows.max_violation <= 0.8
    assert found.best.feasible
    assert found.best.loss == rows.loss[feasible].min()
    assert found.best.step == np.argmin(np.where(feasible, rows.loss, np.inf)) <= 30


@pytest.mark.parametrize("at", [30, 70, 90])
def test_phases_resume_in_any_of_them_to_the_same_end(run, at, tmp_path):
    def killed(state, info):
        if int(state.step) >= at:
            raise MemoryError("killed")

    options = {"steps": [60, 20, 20], "checkpoint": tmp_path, "chunk": 10}
    with pytest.raises(MemoryError) as caught:
        jc.fit(THREE, START, BATCH, callbacks=[killed], **options)
    result = caught.value.result
    assert result.history.step.tolist() == list(range(at))
    assert f"in phase {1 + (at > 60) + (at > 80)} of 3" in caught.value.__notes__
    again = jc.fit(THREE, START, BATCH, **options)
    assert_same(again.state, run.state)
    assert_same(again.best, run.best)
    assert again.history.step.tolist() == list(range(at, 100))


def stream(seed=0):
    draw = np.random.default_rng(seed)
    while True:
        x = draw.normal(size=(2, 3)).astype("float32")
        yield {"x": x, "y": np.ones(2, "float32")}


def test_phases_read_a_stream_on_and_resume_in_it(tmp_path):
    pair = [adam(), adam(rate=0.005)]
    whole = jc.fit(pair, START, stream(), steps=[12, 9], chunk=5)
    plain = jc.fit(adam(), START, stream(), steps=12, chunk=5)
    assert_same(whole.history.loss[:12], plain.history.loss)

    def killed(state, info):
        if int(state.step) >= 17:
            raise MemoryError("killed")

    options = {"steps": [12, 9], "chunk": 5, "checkpoint": tmp_path}
    with pytest.raises(MemoryError):
        jc.fit(pair, START, stream(), callbacks=[killed], **options)
    again = jc.fit(pair, START, stream(), **options)
    assert_same(again.state, whole.state)


def test_phases_end_where_a_callback_says_so():
    def ends(at):
        return lambda state, info: int(state.step) >= at

    # In the middle of the first phase, and at its very end.
    for at in (5, 10):
        found = jc.fit(
            [adam(), lbfgs()],
            START,
            BATCH,
            steps=[10, 5],
            chunk=5,
            callbacks=[ends(at)],
        )
        assert int(found.state.step) == at


def test_phases_interrupted_hand_back_all_that_was_reached():
    def interrupt(state, info):
        if int(state.step) >= 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        jc.fit(
            [adam(), lbfgs()],
            START,
            BATCH,
            steps=[10, 10],
            chunk=5,
            callbacks=[interrupt],
        )
    assert len(caught.value.result.history.step) == 15
    assert "in phase 2 of 2" in caught.value.__notes__


def test_a_solver_that_is_done_hands_over_early():
    free = problem()
    whole = jc.augmented_lagrangian_method(free)
    last = jc.alternating(free, optax.sgd(1e-3), jc.dual_ascent(optax.sgd(0.0)))
    found = jc.fit([whole, last], START, BATCH, steps=[2000, 5])
    alone = jc.fit(whole, START, BATCH, steps=2000)
    assert int(found.state.step) == int(alone.state.step) + 5 < 2000
    assert_same(found.state.multipliers, alone.state.multipliers)
    # Of the second, which has no penalty, the history says zero.
    assert found.history.penalty.equality["sum"][-5:].tolist() == [0.0] * 5
    assert found.history.penalty.equality["sum"][0] > 0


def test_penalties_go_over_on_the_same_problem_alone():
    growing = problem(penalty=jc.adaptive_penalty(0.1))
    pair = [adam(growing), adam(growing, 1e-3)]
    found = jc.fit(pair, START, BATCH, steps=[20, 20])
    rho = found.history.penalty.equality["sum"]
    whole = jc.fit(adam(growing), START, BATCH, steps=21).history.penalty
    np.testing.assert_array_equal(rho[:21], whole.equality["sum"])
    assert rho[21] > 0.9 * rho[20]  # its memory as well
    other = [adam(growing), adam(problem(penalty=7.0))]
    found = jc.fit(other, START, BATCH, steps=[20, 5])
    assert found.history.penalty.equality["sum"][20:].tolist() == [7.0] * 5


def test_state_that_is_not_trained_goes_over():
    def loss(params, batch, count):
        del batch
        value = jnp.sum(params["w"] ** 2)
        return jc.Evaluation(value, jc.Constraints(), extra=count + 1)

    def counting(rate):
        return jc.alternating(
            jc.Lagrangian(loss), optax.sgd(rate), jc.dual_ascent(optax.sgd(0.1))
        )

    first = counting(0.1)
    begun = first.init(START, None, jnp.zeros((), jnp.int32))
    found = jc.fit([first, counting(0.2)], begun, steps=[7, 4])
    assert int(found.state.extra) == 11


def test_max_skipped_counts_those_of_all_phases():
    def loss(params, batch):
        return jnp.where(batch["bad"], jnp.nan, jnp.sum(params["w"] ** 2))

    def batches():
        return ({"bad": np.array(i % 4 == 3)} for i in range(100))

    once = jc.alternating(
        jc.Lagrangian(loss), optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1))
    )
    options = {"steps": [8, 8], "chunk": 4}
    with pytest.warns(RuntimeWarning, match="the step was skipped"):
        jc.fit([once, once], START, batches(), max_skipped=4, **options)
    with pytest.warns(RuntimeWarning), pytest.raises(FloatingPointError) as caught:
        jc.fit([once, once], START, batches(), max_skipped=3, **options)
    assert int(caught.value.result.state.step) == 16


def test_phases_refuse_what_does_not_belong_together():
    fewer = jc.Lagrangian(PROBLEM.loss, jc.Constraints({"sum": total}), penalty=1.0)
    kept = jc.multipliers.indexed(2, on="number")
    by_sample = jc.Lagrangian(
        PROBLEM.loss,
        jc.Constraints({"sum": total}, {"w <= 1": misfit}),
        multipliers={"w <= 1": kept},
    )
    stochastic = jc.stochastic_lagrangian(problem(), steps=5)
    batch = {**BATCH, "number": jnp.arange(2)}

    def fit(*solvers, steps=(3, 3), **options):
        return lambda: jc.fit([*solvers], START, batch, steps=list(steps), **options)

    assert_refused(
        [
            (fit(steps=()), ValueError, "solver is an empty list"),
            (fit(adam(), PROBLEM), TypeError, "solver must be what"),
            (lambda: jc.fit([adam()], START, BATCH, steps=3), TypeError, "list of 1"),
            (fit(adam(), steps=(3, 3)), ValueError, "1 numbers, one for each"),
            (fit(adam(), adam(), steps=(3, 0)), ValueError, r"steps\[1\] must be"),
            (
                fit(adam(), adam(fewer)),
                ValueError,
                ["solver[0] has inequality constraint 'w <= 1', solver[1] has none"],
            ),
            (
                fit(adam(), adam(by_sample)),
                ValueError,
                "multipliers of another form in solver",
            ),
            (fit(adam(problem()), stochastic), ValueError, "let it be the first"),
            (fit(adam(), checkpoint=3, steps=(3,)), TypeError, "as a path"),
            (
                fit(adam(), certify=jc.certify.Target([0.0], [1.0]), steps=(3,)),
                ValueError,
                "certify goes with one solver",
            ),
        ]
    )


def test_phases_go_on_at_the_points_that_were_reached():
    def below(p, batch):
        return p - batch["x"][:, 0]

    problem = jc.Lagrangian(
        lambda p, _: -p, jc.Constraints(inequality={"below": below}), penalty=1.0
    )
    rule = jc.points.adversarial(below, ([0.5], [1.0]), replace=2, every=10, steps=5)
    dual = jc.dual_ascent(optax.sgd(0.1))

    def moving(rate, points):
        return jc.alternating(problem, optax.sgd(rate), dual, points=points)

    first, second = (moving(rate, {"x": rule}) for rate in (0.1, 0.0))
    batch = {"x": jnp.array([[0.8], [0.9], [1.0]])}
    reached = jc.fit(first, jnp.zeros(()), batch, steps=15, progress=False).state
    # The second phase takes a few steps before its points' turn.
    run = jc.fit([first, second], jnp.zeros(()), batch, steps=[15, 3], progress=False)
    assert not np.array_equal(reached.points["x"], batch["x"])
    np.testing.assert_array_equal(run.state.points["x"], reached.points["x"])
    with pytest.raises(ValueError, match=r"solver\[1\] moves points \[\], solver\[0\]"):
        jc.fit([first, moving(0.1, None)], jnp.zeros(()), batch, steps=[15, 3])
