"""fit: the same steps as a loop, also when a run goes wrong or is killed."""

import itertools
import multiprocessing
import os
import re
import shutil
import signal
import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_refused

import jaxcon as jc
from jaxcon.training import Interrupted, NonFiniteError


def loss(p, batch):
    error = batch["x"] @ p["w"] - 1.0
    return jnp.mean(error**2), {"error": error}


def methods(name):
    """Penalty, dual and transform of terms; of the second, all of them have a state."""
    if name == "augmented":
        return 1.0, jc.dual_ascent(optax.sgd(0.2)), None
    adam = jc.dual_ascent(optax.adam(0.2))
    duals = {
        "sum": jc.every(jc.nupi(0.2, kp=2.0, nu=0.5), 3),
        "cap": jc.capped(jc.when_stalled(adam), 0.5),
    }
    penalties = {
        "sum": jc.growing_penalty(1.0, every=4, factor=2.0),
        "cap": optax.exponential_decay(1.0, 10, 1.5),
    }
    return penalties, duals, jc.each_term(jc.clip_by_percentile())


@cache  # fit compiles once for a method, and these tests share a few
def problem(order=jc.alternating, method="augmented"):
    """Least squares under both kinds of constraints, and its start."""
    penalty, dual, per_term = methods(method)
    constraints = jc.Constraints(
        {"sum": lambda p, _: jnp.sum(p["w"]) - 1.0},
        {"cap": lambda p, batch: jnp.mean(batch["x"] @ p["w"]) - batch["cap"]},
    )
    lagrangian = jc.Lagrangian(loss, constraints, penalty=penalty)
    solver = order(lagrangian, optax.adam(0.05), dual, per_term=per_term)
    return solver, solver.init(
        {"w": jnp.array([2.0, -1.0, 0.5])}, draw(jax.random.key(9))
    )


def draw(key):
    return {"x": jax.random.uniform(key, (4, 3)), "cap": 0.75}


@cache
def drawn():
    """The first sixty batches that `fit` draws from key 5, as one program makes them."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(5), jnp.arange(60))
    return np.asarray(jax.jit(jax.vmap(draw))(keys)["x"])


def batch_at(i):
    return {"x": drawn()[i], "cap": 0.75}


def stream(n, **broken):
    """`n` batches, those named in `broken` replaced: stream(9, at_3={...})."""
    for i in range(n):
        yield batch_at(i) | broken.get(f"at_{i}", {})


# What is passed to fit, the seed of its key, and the batch of step i.
SOURCES = {
    "one batch": (lambda: batch_at(7), None, lambda i: batch_at(7)),
    "iterator": (lambda: stream(60), None, batch_at),
    "function": (lambda: draw, 5, batch_at),
}


def fit(
    source="one batch",
    steps=37,
    chunk=10,
    state=None,
    order=jc.alternating,
    method="augmented",
    **more,
):
    make, seed, _ = SOURCES[source]
    key = None if seed is None else jax.random.key(seed)
    solver, start = problem(order, method)
    options = {"steps": steps, "chunk": chunk, "progress": False, "key": key} | more
    return jc.fit(solver, start if state is None else state, make(), **options)


def close(got, want, roundings=400):
    """Equal but for fusion: tens of steps, each of some roundings of numbers near 1."""
    tolerance = roundings * np.finfo(np.float32).eps
    jax.tree.map(
        lambda g, w: np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance),
        got,
        want,
    )


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
        assert np.asarray(g).tobytes() == np.asarray(w).tobytes()


@pytest.mark.parametrize(
    ("source", "order"),
    [*((source, jc.alternating) for source in SOURCES), ("iterator", jc.extragradient)],
)
def test_fit_is_a_loop_of_steps(source, order):
    # 37 steps in chunks of 10: three whole ones and a shorter last.
    result = fit(source, order=order)
    solver, state = problem(order)
    step, batch, infos = jax.jit(solver.step), SOURCES[source][2], []
    for i in range(37):
        state, info = step(state, batch(i))
        infos.append(info)
    close(result.state, state)
    want = jax.tree.map(lambda *rows: np.stack(rows), *infos)
    close(result.history[:-1], tuple(want))
    np.testing.assert_array_equal(result.history.step, np.arange(37))
    assert int(result.state.step) == 37
    assert result.history.loss.shape == (37,)
    assert result.history.finite.dtype == bool
    assert result.history.violation.inequality["cap"].shape == (37,)
    assert result.history.aux["error"].shape == (37, 4)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(result.history))
    assert result.history.loss[-1] < 0.9 * result.history.loss[0]


def kept(result):
    return result.state, result.best, result.history


@pytest.mark.parametrize("source", SOURCES)
def test_fit_s_chunk_changes_no_bit(source):
    # Three whole chunks and a shorter one; one that is not full; one for each step.
    want = fit(source, chunk=10)
    assert_same_bits(kept(fit(source, chunk=1000)), kept(want))
    if source == "iterator":  # and one batch: where saving is tested below
        assert_same_bits(kept(fit(source, chunk=1)), kept(want))


@pytest.mark.parametrize("source", ["one batch", "function"])
def test_fit_from_a_result_is_a_longer_fit(source):
    whole, half = fit(source, steps=37), fit(source, steps=20)
    on = fit(source, steps=17, state=half.state)
    assert_same_bits(on.state, whole.state)
    assert len(on.history.loss) == 17


@pytest.mark.parametrize(
    "tolerance", [10.0, 0.05, 0.0], ids=["all feasible", "some", "none"]
)
def test_fit_s_best_is_the_best_by_brute_force(tolerance):
    result = fit("function", steps=150, tolerance=tolerance)
    history, best = result.history, result.best
    feasible = history.max_violation <= tolerance
    assert feasible.all() == (tolerance == 10.0)
    assert feasible.any() == (tolerance > 0.0)
    ranked = np.where(feasible, history.loss, np.inf)
    row = int(np.argmin(ranked if feasible.any() else history.max_violation))
    assert 0 < row < 149  # neither the first nor the last, which would be too easy
    assert int(best.step) == row
    assert bool(best.feasible) == feasible[row]
    assert float(best.loss) == history.loss[row]
    assert float(best.max_violation) == history.max_violation[row]
    # Its parameters and multipliers are those of that row's state, before its move.
    at_row = fit("function", steps=row).state
    assert_same_bits(
        (best.params, best.multipliers), (at_row.params, at_row.multipliers)
    )


def test_fit_s_best_is_never_a_step_that_was_not_finite():
    solver = jc.alternating(
        jc.Lagrangian(
            lambda p, b: (p - 1) ** 2 + b["loss"] + jnp.sqrt(b["root"] * p**2),
            jc.Constraints(inequality={"g": lambda p, b: 0 * p + b["g"]}),
        ),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.1)),
    )
    good = {"loss": 0.0, "g": -1.0, "root": 1.0}
    start = solver.init(5.0, good)
    # Each of these looks feasible, and -inf looks like the lowest loss of all.
    for broken in ({"loss": np.nan}, {"loss": -np.inf}, {"g": -np.inf}, {"root": 0.0}):
        batches = iter([good | broken, good | {"g": 9.0}, good, good | broken])
        with pytest.warns(RuntimeWarning, match="step 0"):
            result = jc.fit(solver, start, batches, steps=4, progress=False)
        assert int(result.best.step) == 2, broken
        assert bool(result.best.feasible), broken
        assert result.history.finite.tolist() == [False, True, True, False], broken


def test_fit_s_diagnosis_says_which_constraints_cannot_hold():
    solver = jc.alternating(
        jc.Lagrangian(
            lambda p, _: p**2,
            jc.Constraints(
                {
                    "at 1": lambda p, _: p - 1.0,
                    "at target": lambda p, target: p - target,
                },
                {"above -9": lambda p, _: -p - 9.0},
            ),
            penalty=1.0,
        ),
        optax.sgd(0.05),
        jc.dual_ascent(optax.sgd(0.05)),
    )
    for target, kind, names in [
        (1.0, "converged", set()),
        (-1.0, "infeasible", {"at 1", "at target"}),
    ]:
        start = solver.init(0.5, target)
        result = jc.fit(solver, start, target, steps=2000, progress=False)
        (verdict,) = result.diagnosis.verdicts
        assert (verdict.kind, set(verdict.constraints)) == (kind, names)
        assert all(repr(name) in str(result.diagnosis) for name in names)


def test_fit_s_seconds_tell_compiling_from_running():
    solver, state = problem.__wrapped__()  # a new one, that nothing has traced before
    result = jc.fit(solver, state, batch_at(7), steps=20, progress=False)
    assert result.compile_seconds > 0.01  # tracing and XLA; a step takes microseconds
    assert 0 < result.seconds < result.compile_seconds
    again = jc.fit(solver, result.state, batch_at(7), steps=20, progress=False)
    assert again.compile_seconds < 0.1 * result.compile_seconds


def test_fit_s_callbacks_see_every_chunk():
    seen = []

    def callback(state, info):
        assert int(state.step) - (seen[-1][0] if seen else 0) == len(info.loss)
        seen.append((int(state.step), len(info.loss), info.loss[-1]))

    result = fit(callbacks=[callback])
    assert [row[:2] for row in seen] == [(10, 10), (20, 10), (30, 10), (37, 7)]
    assert [row[2] for row in seen] == result.history.loss[[9, 19, 29, 36]].tolist()


def test_fit_s_callback_ends_the_run_by_returning_true_only():
    for says in (True, np.True_, None, np.False_, 1):
        stops = says is True or says is np.True_
        also = []
        result = fit(
            callbacks=[
                lambda state, _, says=says: says if int(state.step) == 20 else None,
                lambda state, _, also=also: also.append(int(state.step)),
            ]
        )
        assert int(result.state.step) == (20 if stops else 37), says
        assert also == ([10, 20] if stops else [10, 20, 30, 37]), says
        assert len(result.history.loss) == also[-1], says


@pytest.mark.parametrize(
    ("have", "taken"), [(25, 25), (20, 20), (0, 0)], ids=["within", "between", "empty"]
)
def test_fit_warns_of_batches_that_run_out(have, taken):
    with pytest.warns(
        RuntimeWarning, match=f"ran out after step {taken} of 37"
    ) as caught:
        result = jc.fit(*problem(), stream(have), steps=37, chunk=10, progress=False)
    assert caught[0].filename == __file__  # it points at the line that called fit
    assert int(result.state.step) == taken
    assert len(result.history.loss) == taken
    if taken:
        close(result.state, fit("iterator", steps=taken).state)


def test_fit_reads_an_iterator_no_further_than_needed():
    batches = stream(60)
    jc.fit(*problem(), batches, steps=37, chunk=10, progress=False)
    assert len([*batches]) == 60 - 37


def test_fit_refuses_what_cannot_be_run():
    solver, start = problem()

    def called(batches=None, begin=start, **more):
        options = {"steps": 5, "progress": False} | more
        one = batch_at(7) if batches is None else batches
        return lambda: jc.fit(solver, begin, one, **options)

    whole, forms = "must be a whole number >= ", ["iterator", "function (key)"]
    late = start._replace(step=jnp.array(2**31 - 3, jnp.int32))
    several = start._replace(step=jnp.zeros(3, jnp.int32))
    nan, inf = float("nan"), float("inf")

    def generate():
        yield batch_at(7)

    assert_refused(
        [
            (called(draw), TypeError, ["key=jax.random.key"]),
            (called(draw, key=0), TypeError, ["key must be one key", "0"]),
            (called(draw, key="0"), TypeError, ["key must be one key", "'0'"]),
            (
                called(draw, key=jax.random.split(jax.random.key(0))),
                TypeError,
                ["key must be one key", "(2,)"],
            ),
            (called(generate, key=jax.random.key(0)), TypeError, ["pass generate()"]),
            (called(lambda: 1, key=jax.random.key(0)), TypeError, ["(key, state)"]),
            (called(lambda a, b, c: 1, key=jax.random.key(0)), TypeError, ["(key)"]),
            (
                called(lambda key: "text", key=jax.random.key(0)),
                TypeError,
                ["what <lambda> returned is 'text'"],
            ),
            (called([object()]), TypeError, ["object", "iterator", "iter(loader)"]),
            (called({"x": "text"}), TypeError, ["batches['x'] is 'text'", *forms]),
            (called({"x": np.array(["a"])}), TypeError, ["batches['x']", "numbers"]),
            (called({"x": np.array([None])}), TypeError, ["batches['x']", "object"]),
            (called(iter(["text"])), TypeError, ["batch is 'text'", *forms]),
            (called(range(9)), TypeError, ["batches is range", *forms]),
            (called(steps=0), ValueError, [f"steps {whole}1, got 0"]),
            (called(steps=1.5), ValueError, [f"steps {whole}1, got 1.5"]),
            (called(steps=nan), ValueError, ["steps must be", "got nan"]),
            (called(steps=inf), ValueError, ["steps must be", "got inf"]),
            (called(steps=True), TypeError, ["steps must be", "got True"]),
            (called(steps="9"), TypeError, ["steps must be", "got '9'"]),
            (called(steps=None), TypeError, ["steps must be", "got None"]),
            (called(steps=2**31), ValueError, ["steps", "at most 2,147,483,647"]),
            (called(begin=late), ValueError, ["steps must be at most 2,"]),
            (called(chunk=0), ValueError, [f"chunk {whole}1, got 0"]),
            (called(chunk=2.5), ValueError, [f"chunk {whole}1, got 2.5"]),
            (called(chunk=2**40), ValueError, ["chunk must be at most"]),
            (called(tolerance=-1.0), ValueError, ["tolerance must be", "-1.0"]),
            (called(tolerance=nan), ValueError, ["tolerance must be", "nan"]),
            (called(tolerance=None), TypeError, ["tolerance must be", "None"]),
            (called(spike=1.0), ValueError, ["spike must be", "1.0"]),
            (called(spike=nan), ValueError, ["spike must be", "nan"]),
            (called(max_skipped=-1), ValueError, [f"max_skipped {whole}0, got -1"]),
            (called(max_skipped=0.5), ValueError, ["max_skipped must be", "0.5"]),
            (called(progress="yes"), ValueError, ["progress must be", "'yes'"]),
            (called(callbacks=print), TypeError, ["callbacks must be a list of"]),
            (called(callbacks=3), TypeError, ["callbacks must be a list of"]),
            (called(callbacks=[3]), TypeError, ["callbacks[0] must be a function"]),
            (
                called(callbacks=[lambda state, _: None, lambda state: None]),
                TypeError,
                ["callbacks[1] must be a function (state, info)"],
            ),
            (called(checkpoint=""), ValueError, ["checkpoint must be a folder"]),
            (called(checkpoint="a\0b"), ValueError, ["checkpoint must be a folder"]),
            (called(checkpoint=__file__), ValueError, ["is a file"]),
            (called(checkpoint="gs://a/b"), ValueError, ["'gs://a/b'", "another"]),
            (called(checkpoint=True), TypeError, ["checkpoint must be", "True"]),
            (called(begin=None), TypeError, ["start must be parameters or a state"]),
            (called(begin=several), ValueError, ["start.step has shape (3,)"]),
            (
                lambda: jc.fit(solver.problem, start, steps=1),
                TypeError,
                ["solver must"],
            ),
            (
                lambda: jax.jit(lambda p: jc.fit(solver, p, batch_at(7), steps=1))(
                    start.params
                ),
                TypeError,
                ["outside of jax.jit"],
            ),
        ]
    )
    result = fit(steps=2)
    for begin, part in ((result, ".state"), (result.best, ".params")):
        with pytest.raises(TypeError, match=f"pass its {part}"):
            called(begin=begin)()


def test_fit_refuses_a_list_of_batches_and_takes_one_batch_of_parts():
    x, y = np.ones((4, 3), np.float32), np.ones(4, np.float32)

    def loss(p, batch):
        return sum(jnp.sum(p * jnp.sum(leaf)) for leaf in jax.tree.leaves(batch))

    solver = jc.alternating(
        jc.Lagrangian(loss), optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1))
    )

    def called(batches):
        return lambda: jc.fit(solver, 0.0, batches, steps=1, progress=False)

    many = [
        [{"x": x}, {"x": x}],
        [{"x": x}, {"x": x[:2]}],  # with a smaller last batch
        [(x, y), (x, y)],
        [{"x": x}],
        [x, x, x],
        [x, x[:2]],
        ({"x": x}, {"x": x}),
        ((x, y), (x, y)),
    ]
    rows = [(called(one), ValueError, ["parts alike", "iter(batches)"]) for one in many]
    assert_refused([*rows, (called([]), ValueError, ["an empty list"])])
    for one in [
        (x, x),
        [x, y],
        (x, y),
        ({"x": x}, {"x": x[:2]}),
        {"inside": {"x": x}, "edge": {"x": x}},
        jc.SplitBatch({"x": x}, {"x": x}),
    ]:
        assert int(called(one)().state.step) == 1
    assert int(called(iter([{"x": x}, {"x": x}]))().state.step) == 1


def test_fit_refuses_a_state_of_another_solver_and_names_the_part():
    data = np.zeros(3, np.float32)

    def run(solver):
        state = solver.init({"w": jnp.zeros(3)}, data)
        return jc.fit(other(), state, data, steps=1, progress=False)

    rows = [
        (other(penalty=None), "its penalty has nothing at .equality['h']"),
        (other(growing(2.0)), "its rule has an array"),
        (other(dual=jc.dual_ascent(optax.sgd(0.1))), "its dual has nothing"),
        (other(name="k"), "its multipliers has nothing at .equality['h']"),
        (other(primal=optax.sgd(0.1)), "its primal has nothing at [0].count"),
    ]
    words = "the state is of another method or problem"
    assert_refused(
        [(partial(run, solver), ValueError, [words, part]) for solver, part in rows]
    )


def test_fit_refuses_batches_of_two_shapes():
    odd = {"x": np.ones((2, 3), np.float32)}
    with pytest.raises(ValueError, match=r"\['x'\].*\(4, 3\).*\(2, 3\).*drop"):
        jc.fit(*problem(), stream(9, at_3=odd), steps=9, progress=False)


def terminal(monkeypatch):
    """Lets tqdm believe that the captured stderr is one."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


@pytest.mark.parametrize("progress", [True, None])
def test_fit_s_bar_shows_loss_and_violation(monkeypatch, capsys, progress):
    if progress is None:
        terminal(monkeypatch)
    result = fit(progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"100%.*37/37", err)
    assert f"loss {result.history.loss[-1]:.4g}" in err
    assert f"worst violation {result.history.max_violation[-1]:.2e}" in err


def test_fit_has_no_bar_off_a_terminal_or_where_none_is_wanted(monkeypatch, capsys):
    fit(progress=None)
    assert capsys.readouterr() == ("", "")
    terminal(monkeypatch)
    fit(progress=False)
    assert capsys.readouterr() == ("", "")


FAULTS = {
    "loss": ({"x": np.full((4, 3), np.nan, np.float32)}, "the loss was nan"),
    "nan": ({"cap": np.float32(np.nan)}, "inequality constraint 'cap'"),
    "+inf": ({"cap": np.float32(-np.inf)}, "inequality constraint 'cap'"),
    "-inf": ({"cap": np.float32(np.inf)}, "inequality constraint 'cap'"),
}


@pytest.mark.parametrize("order", [jc.alternating, jc.extragradient])
@pytest.mark.parametrize("fault", FAULTS)
def test_fit_warns_once_of_steps_that_are_not_finite_and_names_the_term(fault, order):
    broken, words = FAULTS[fault]
    batches = stream(40, at_13=broken, at_14=broken, at_31=broken)
    with pytest.warns(RuntimeWarning) as caught:
        result = jc.fit(*problem(order), batches, steps=40, chunk=10, progress=False)
    assert len(caught) == 1
    assert f"step 13: {words}" in str(caught[0].message)
    assert "skipped" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert np.flatnonzero(~result.history.finite).tolist() == [13, 14, 31]
    assert int(result.state.skipped) == 3
    assert int(result.state.step) == 40
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.state))


@pytest.mark.parametrize("fault", FAULTS)
def test_fit_stops_at_a_chunk_without_a_finite_step_and_names_the_term(fault):
    broken, words = FAULTS[fault]
    batches = stream(40, **{f"at_{i}": broken for i in range(20, 40)})
    with pytest.raises(NonFiniteError, match=f"step 20: {words}") as caught:
        jc.fit(*problem(), batches, steps=40, chunk=10, progress=False)
    result = caught.value.result
    assert int(result.state.step) == 30
    assert int(result.state.skipped) == 10
    assert result.history.finite.tolist() == [True] * 20 + [False] * 10
    reached = fit("iterator", steps=20)
    assert_same_bits(result.state.params, reached.state.params)
    assert_same_bits(result.best, reached.best)


def ctrl_c_at(step):
    def callback(state, _):
        if int(state.step) == step:
            raise KeyboardInterrupt

    return callback


def test_fit_keeps_and_saves_what_was_reached_at_ctrl_c(tmp_path):
    with pytest.raises(Interrupted, match="after step 20 of 37") as caught:
        fit("function", callbacks=[ctrl_c_at(20)], checkpoint=tmp_path)
    assert isinstance(caught.value, KeyboardInterrupt)
    result = caught.value.result
    assert len(result.history.loss) == 20
    assert_same_bits(result.state, fit("function", steps=20).state)
    resumed = fit("function", checkpoint=tmp_path)
    assert len(resumed.history.loss) == 17
    whole = fit("function")
    assert_same_bits((resumed.state, resumed.best), (whole.state, whole.best))


def every_chunk(folder):
    import orbax.checkpoint as ocp

    return ocp.CheckpointManager(
        folder, options=ocp.CheckpointManagerOptions(save_interval_steps=1)
    )


def run_and_die(folder, source):
    """In a process of its own: killed after its third chunk, while saving it."""
    with every_chunk(folder) as manager:

        def callback(state, _):
            if int(state.step) == 20:
                manager.wait_until_finished()
            if int(state.step) == 30:
                os.kill(os.getpid(), signal.SIGKILL)

        fit(source, steps=50, checkpoint=manager, callbacks=[callback])


# An iterator is the one that a resumed run must advance; ctrl-C tests a function.
@pytest.mark.parametrize(
    "source", [pytest.param("function", marks=pytest.mark.slow), "iterator"]
)
def test_fit_resumed_after_a_kill_ends_as_if_never_killed(tmp_path, source):
    process = multiprocessing.get_context("spawn").Process(
        target=run_and_die, args=(tmp_path, source)
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    with every_chunk(tmp_path) as manager:
        saved = manager.latest_step()
        assert saved in (20, 30)  # 30 if its writing had ended in time
        resumed = fit(source, steps=50, checkpoint=manager)
    assert len(resumed.history.loss) == 50 - saved
    whole = fit(source, steps=50)
    assert_same_bits((resumed.state, resumed.best), (whole.state, whole.best))


def test_checkpoint_of_a_schedule_that_was_not_called_yet_resumes(tmp_path):
    """Optax's cosine turns its number of steps into a float when it is called."""

    def run(steps, called):
        schedule = optax.cosine_decay_schedule(0.1, 30)
        if called:
            schedule(0)
        solver = jc.alternating(
            jc.Lagrangian(lambda x, _: x**2), optax.sgd(schedule), optax.set_to_zero()
        )
        return jc.fit(solver, 1.0, steps=steps, checkpoint=tmp_path)

    run(10, called=True)
    assert run(20, called=False).state.step == 20


def test_fit_resumed_at_its_end_does_nothing(tmp_path):
    first = fit(checkpoint=tmp_path)
    again = fit(checkpoint=tmp_path)
    assert len(again.history.loss) == 0
    assert_same_bits((again.state, again.best), (first.state, first.best))


def test_fit_resumed_remembers_what_every_part_of_it_had_seen(tmp_path):
    # After 22 steps every third and every fourth one are both under way.
    whole = fit("iterator", method="memories")
    fit("iterator", steps=22, method="memories", checkpoint=tmp_path)
    resumed = fit("iterator", method="memories", checkpoint=tmp_path)
    rest = jax.tree.map(lambda rows: rows[22:], whole.history)
    assert_same_bits(kept(resumed), (whole.state, whole.best, rest))
    state = problem(method="memories")[1]
    assert (state.extra, state.points, state.weights) == (None, (), ())
    for field, before, after in zip(state._fields, state, whole.state):
        changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
        still = field in ("skipped", "extra", "points", "weights")
        assert any(jax.tree.leaves(changed)) or still
    penalty, capped = whole.history.penalty, whole.history.capped
    assert np.unique(penalty.equality["sum"]).size > 1
    assert np.unique(penalty.inequality["cap"]).size == 37
    assert capped.inequality["cap"].dtype == bool
    again = fit("iterator", method="memories", checkpoint=tmp_path).history
    assert jax.tree.structure(again._replace(aux=whole.history.aux)) == (
        jax.tree.structure(whole.history)
    )


@pytest.mark.parametrize("source", ["one batch", "function"])
def test_fit_resumed_has_the_rest_of_the_run(tmp_path, source):
    whole = fit(source)
    fit(source, steps=22, checkpoint=tmp_path)
    resumed = fit(source, checkpoint=tmp_path)
    rest = jax.tree.map(lambda rows: rows[22:], whole.history)
    assert_same_bits(kept(resumed), (whole.state, whole.best, rest))


def test_checkpoint_s_relative_path_is_below_the_working_directory(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    fit(checkpoint="runs/first")
    assert (tmp_path / "runs" / "first" / "37").is_dir()
    assert len(fit(steps=40, checkpoint="runs/first").history.loss) == 3


def test_checkpoint_of_a_folder_saves_rarely(tmp_path):
    # At once, then every minute, and at the end: milliseconds leave the first and last.
    saved = fit(chunk=1, checkpoint=tmp_path)
    assert_same_bits(kept(saved), kept(fit()))
    assert {folder.name for folder in tmp_path.iterdir()} == {"1", "37"}


def test_checkpoint_of_another_shape_is_refused_in_one_line(tmp_path):
    fit(checkpoint=tmp_path, steps=2)
    _, state = problem()

    def refused(words, **other):
        def call():
            return fit(checkpoint=tmp_path, state=state._replace(**other))

        return call, ValueError, [f"the checkpoint of step 2 in {tmp_path}", *words]

    one, nine = jnp.ones(()), jnp.ones(9)
    cap = ".multipliers.inequality['cap']"
    assert_refused(
        [
            refused([".params['w']", "[3]", "[4]"], params={"w": jnp.ones(4)}),
            refused([".params['w']", "[3]", "[3,1]"], params={"w": jnp.ones((3, 1))}),
            refused(["float32", "bfloat16"], params={"w": jnp.ones(3, jnp.bfloat16)}),
            refused([".params['v']", "nothing"], params={"v": jnp.ones(3)}),
            refused([".params['b']", "nothing"], params={"w": jnp.ones(3), "b": 0.0}),
            refused(
                [cap, "float32[]", "[9]"],
                multipliers=jc.Constraints({"sum": one}, {"cap": nine}),
            ),
            refused(
                ["'sum', inequality 'cap' there, equality 'sum' here"],
                multipliers=jc.Constraints({"sum": one}),
            ),
            refused([".penalty.", "float32[]", "nothing"], penalty=None),
            refused([".primal", "nothing"], primal=optax.sgd(0.1).init(None)),
        ],
        most=300 + len(str(tmp_path)),
    )


def test_checkpoint_of_something_else_is_refused_in_one_line(tmp_path):
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(3, args=ocp.args.StandardSave({"theirs": jnp.ones(2)}))
    with pytest.raises(ValueError, match="the checkpoint of step 3 in ") as caught:
        fit(checkpoint=tmp_path)
    assert "\n" not in str(caught.value)


def other(
    penalty=1.0,
    rate=0.01,
    dual=None,
    goal=1.0,
    name="h",
    order=jc.alternating,
    primal=None,
):
    """A solver, to be compared with that of other arguments."""
    primal = optax.adam(rate) if primal is None else primal
    dual = jc.nupi(0.1, kp=1.0) if dual is None else dual
    rule = jc.Constraints({name: lambda p, _: p["w"][0] - goal})
    problem = jc.Lagrangian(
        lambda p, batch: jnp.sum((p["w"] - batch) ** 2), rule, penalty=penalty
    )
    return order(problem, primal, dual)


def growing(factor):
    return jc.growing_penalty(1.0, every=5, factor=factor)


def test_checkpoint_of_another_run_is_refused_and_the_difference_named(tmp_path):
    data, key = np.arange(3, dtype=np.float32), jax.random.key(0)

    def run(folder, solver=None, start=0.0, batch=data, steps=4, **more):
        return jc.fit(
            other() if solver is None else solver,
            {"w": jnp.full(3, start)},
            batch,
            steps=steps,
            checkpoint=tmp_path / folder,
            progress=False,
            **more,
        )

    def stream(first):
        return (data + np.float32(first + i) for i in range(20))

    run("one")
    run("growing", other(growing(2.0)))
    run("stream", batch=stream(0))
    run("drawn", batch=draw_three, key=key)
    rows = [
        ("one", {"solver": other(7.0)}, "penalty: 1.0 there, 7.0 here"),
        ("one", {"solver": other(growing(2.0))}, "penalty.*growing_penalty"),
        (
            "growing",
            {"solver": other(growing(3.0))},
            r"penalty\.factor: 2.0 there, 3.0",
        ),
        ("one", {"solver": other(rate=0.1)}, r"primal\.step_size: -0.01 there, -0.1"),
        (
            "one",
            {"solver": other(dual=jc.nupi(0.1, kp=2.0))},
            r"dual\.kp: 1.0 there, 2",
        ),
        ("one", {"solver": other(goal=2.0)}, r"'h'\]\.goal: 1.0 there, 2.0 here"),
        ("one", {"solver": other(name="k")}, "constraints: equality 'h' there"),
        ("one", {"solver": other(order=jc.extragradient)}, "order of steps: altern"),
        ("one", {"start": 1.0}, r"the start's params\['w'\]: other values"),
        ("one", {"batch": data + np.float32([0, 1e-4, 0])}, "the batch: other values"),
        ("one", {"batch": data[::-1].copy()}, "the batch: other values"),
        (
            "one",
            {"batch": data * np.float32([1, 1, np.inf])},
            "the batch: other values",
        ),
        (
            "one",
            {"batch": data.astype(np.float16)},
            r"\[3\] there, float16\[3\] here",
        ),
        ("one", {"tolerance": 0.1}, "tolerance: 0.001 there, 0.1 here"),
        ("stream", {"batch": stream(1)}, "the first batch: other values"),
        ("stream", {}, "the batch: nothing there"),
        ("drawn", {"batch": draw_three, "key": jax.random.key(1)}, "the key: other"),
    ]
    assert_refused(
        [
            (
                lambda folder=folder, more=more: run(folder, steps=9, **more),
                ValueError,
                f"the checkpoint of step 4 in {tmp_path}.* is of another run .*{words}",
            )
            for folder, more, words in rows
        ]
    )
    # More steps, other reports, and roundings of another machine are no other run.
    on = run("one", steps=6, chunk=1, spike=1e6, max_skipped=9, callbacks=[print])
    assert len(on.history.loss) == 2
    near = data * np.float32(1 + 2e-7)
    assert int(run("one", batch=near, steps=8).state.step) == 8
    assert int(run("stream", batch=stream(0), steps=8).state.step) == 8
    # A run goes on from its own last state as well.
    last = run("growing", other(growing(2.0)), steps=6).state
    more = jc.fit(
        other(growing(2.0)),
        last,
        data,
        steps=2,
        checkpoint=tmp_path / "growing",
        progress=False,
    )
    assert int(more.state.step) == 8


def draw_three(key):
    return jax.random.uniform(key, (3,))


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """Changes one bit in every thirteenth byte."""
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content), 13):
        content[place] ^= 4
    path.write_bytes(content)


def resumed(folder):
    """What resuming says, or where it ends."""
    try:
        result = fit(steps=6, checkpoint=folder)
    except ValueError as error:
        return str(error)
    return result.state, result.best


def test_checkpoint_that_is_damaged_is_named_and_an_older_one_offered(tmp_path, capfd):
    saved = tmp_path / "saved"
    fit(steps=2, checkpoint=saved)
    fit(steps=4, checkpoint=saved)
    whole = fit(steps=6)
    damages = [halve, flip, lambda path: path.write_bytes(b""), type(tmp_path).unlink]
    seen = set()
    files = sorted(one for one in (saved / "4").rglob("*") if one.is_file())
    for number, path in enumerate(files):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder)
        damages[number % 4](folder / path.relative_to(saved))
        found = resumed(folder)
        if isinstance(found, str):
            start = f"the checkpoint of step 4 in {folder} is damaged ("
            end = f"that of step 2 is good: delete {folder / '4'} to go on from it"
            assert found.startswith(start)
            assert found.endswith(end)
            seen.add(found.removeprefix(start).split(")")[0])
        else:  # a file that nothing is read from
            assert_same_bits(found, (whole.state, whole.best))
    assert any("arrays" in words for words in seen)
    assert any("description" in words for words in seen)
    assert "Traceback" not in capfd.readouterr().err
    shutil.rmtree(folder / "4")
    assert_same_bits(resumed(folder), (whole.state, whole.best))
    for about in folder.glob("*/about/metadata"):
        about.write_text("{}")
    assert resumed(folder).endswith("no other that is good; save elsewhere")


def test_checkpoint_whose_arrays_were_exchanged_is_damaged(tmp_path):
    # Orbax reads them without a word: their hashes are other ones.
    fit(steps=2, checkpoint=tmp_path / "a")
    fit("function", steps=2, checkpoint=tmp_path / "b")
    shutil.rmtree(tmp_path / "a" / "2" / "reached")
    shutil.copytree(tmp_path / "b" / "2" / "reached", tmp_path / "a" / "2" / "reached")
    with pytest.raises(ValueError, match=r"is damaged \(.*is not what was saved\)"):
        fit(steps=4, checkpoint=tmp_path / "a")


def test_checkpoint_is_saved_at_a_crash_in_a_callback(tmp_path):
    def crash(state, _):
        if int(state.step) >= 20:
            raise RuntimeError("out of disk")

    with pytest.raises(RuntimeError, match="out of disk"):
        fit(callbacks=[crash], checkpoint=tmp_path / "run", chunk=10)
    resumed = fit(checkpoint=tmp_path / "run", chunk=10)
    assert len(resumed.history.loss) == 37 - 20
    assert_same_bits(resumed.state, fit(chunk=10).state)


def test_checkpoint_behind_the_state_is_refused(tmp_path):
    fit(checkpoint=tmp_path / "run")
    later = problem()[1]._replace(step=jnp.array(1000, jnp.int32))
    with pytest.raises(ValueError, match=r"of step 37.*of step 1000"):
        fit(state=later, checkpoint=tmp_path / "run")


def counting(compiled):
    """A problem whose functions count how often they are traced, and its parts."""

    def loss(p, _):
        compiled.append("loss")
        return jnp.sum((p - 2.0) ** 2)

    rule = jc.Constraints(inequality={"low": lambda p, _: p[0] - 1.0})
    return jc.Lagrangian(loss, rule, penalty=1.0)


def test_fit_chooses_chunks_by_time():
    solver = jc.alternating(
        counting([]), optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1))
    )
    sizes = []
    jc.fit(
        solver,
        jnp.zeros(2),
        steps=30_000,
        progress=False,
        callbacks=[lambda state, info: sizes.append(len(info.loss))],
    )
    assert sum(sizes) == 30_000
    # From one step on, at most tenfold at a time: a first report comes at once.
    assert sizes[0] == 1
    assert all(b <= 10 * a for a, b in itertools.pairwise(sizes))
    assert len(sizes) < 100


def test_fit_compiles_once_for_solvers_of_equal_functions(monkeypatch):
    from jaxcon import _programs

    compiled = []
    lower = jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered,
        "compile",
        lambda self, *args, **more: compiled.append(1) or lower(self, *args, **more),
    )
    _programs._EXECUTABLES.clear()

    def end(cap):
        rule = jc.Constraints(inequality={"low": lambda p, _: p[0] - cap})
        problem = jc.Lagrangian(lambda p, _: jnp.sum((p - 2.0) ** 2), rule, penalty=1.0)
        solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
        run = jc.fit(solver, jnp.zeros(2), steps=600, progress=False)
        return float(run.state.params[0])

    assert end(1.0) == end(1.0) == pytest.approx(1.0, abs=1e-4)
    assert len(compiled) == 1
    # Another number in a closure is another program.
    assert end(0.5) == pytest.approx(0.5, abs=1e-4)
    assert len(compiled) == 2


def test_fit_takes_parameters_or_a_state():
    solver, start = problem()
    batch = batch_at(7)
    ends = [
        jc.fit(solver, begin, batch, steps=5, progress=False).state
        for begin in (start, start.params)
    ]
    assert_same_bits(*ends)
    # A stream is read once for the shapes, and from its first batch on.
    streamed = [
        jc.fit(solver, begin, stream(9), steps=9, chunk=4, progress=False).state
        for begin in (start, start.params)
    ]
    assert_same_bits(*streamed)


def test_fit_draws_batches_with_the_state():
    mean = jc.Lagrangian(lambda p, batch: jnp.mean((p - batch) ** 2))
    solver = jc.alternating(mean, optax.sgd(0.1), optax.set_to_zero())

    def follow(key, state):
        return state.params + 1.0 + 0.0 * jax.random.normal(key)

    run = jc.fit(
        solver, 0.0, follow, steps=5, key=jax.random.key(0), chunk=2, progress=False
    )
    np.testing.assert_allclose(run.state.params, 5 * 0.2, rtol=1e-6)


def test_history_is_thinned_above_its_budget(monkeypatch):
    from jaxcon.training import _history

    solver, start = problem()
    whole = jc.fit(solver, start, batch_at(7), steps=90, chunk=10, progress=False)
    monkeypatch.setattr(_history, "BUDGET", 2000)
    thin = jc.fit(solver, start, batch_at(7), steps=90, chunk=10, progress=False)
    stride = thin.history.step[1]
    assert stride in (2, 4, 8)
    np.testing.assert_array_equal(thin.history.step, np.arange(0, 90, stride))
    rows = jax.tree.map(lambda rows: rows[::stride], whole.history)
    assert_same_bits(thin.history, rows)
    assert_same_bits((thin.state, thin.best), (whole.state, whole.best))


def test_fit_result_and_history_show_themselves(tmp_path):
    result = fit()
    assert re.search(r"FitResult after 37 steps .*tolerance 0.001", repr(result))
    assert re.search(r"last +36 ", repr(result))
    assert "<table" in result._repr_html_()
    columns = result.history.columns()
    assert columns["violation cap"].shape == columns["step"].shape == (37,)
    assert len(repr(result.history).splitlines()) == 11
    result.plot(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 1000


def test_fit_names_the_first_step_of_those_skipped_in_a_row():
    # Chunks by time may hold good steps, and a bad one, before those that end the run.
    solver = jc.alternating(
        jc.Lagrangian(lambda p, batch: jnp.sum((p - batch) ** 2)),
        optax.sgd(0.1),
        optax.set_to_zero(),
    )

    def draw(key, state):
        bad = (state.step == 3) | (state.step >= 700)
        return jnp.where(bad, jnp.nan, 1.0) + 0.0 * jax.random.normal(key)

    options = {"key": jax.random.key(0), "progress": False, "chunk": 600}
    with pytest.warns(RuntimeWarning, match="step 3: the loss was nan"):
        with pytest.raises(
            NonFiniteError, match=r"step 700: .*of the \d+ steps"
        ) as stop:
            jc.fit(solver, jnp.zeros(2), draw, steps=3000, **options)
    state = stop.value.result.state
    assert f"so were all of the {int(state.step) - 700} steps" in str(stop.value)
    assert int(state.skipped) == int(state.step) - 700 + 1


def low():
    """At most 1, of which the loss is least at 2: the answer is 1."""
    return jc.Constraints(inequality={"w <= 1": lambda w, _: w - 1.0})


@pytest.mark.parametrize("switch", ["jax_debug_nans", "jax_debug_infs"])
def test_fit_runs_under_jax_s_switches_for_debugging(switch, tmp_path):
    problem = jc.Lagrangian(lambda w, _: (w - 2.0) ** 2, low(), penalty=1.0)
    solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
    jax.config.update(switch, True)
    try:
        options = {"steps": 400, "progress": False, "checkpoint": tmp_path}
        for spike in (None, 1e3):
            run = jc.fit(solver, 0.0, spike=spike, **options)
            assert float(run.state.params) == pytest.approx(1.0, abs=1e-3)
    finally:
        jax.config.update(switch, False)


def test_fit_reads_a_stream_of_keys():
    def loss(p, batch):
        return jnp.sum((p - batch["x"] - jax.random.normal(batch["key"], (2,))) ** 2)

    solver = jc.alternating(
        jc.Lagrangian(loss), optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1))
    )
    batches = [{"x": np.float32(i), "key": jax.random.key(i)} for i in range(9)]
    run = jc.fit(solver, jnp.zeros(2), iter(batches), steps=9, chunk=4, progress=False)
    state, step = solver.init(jnp.zeros(2), batches[0]), jax.jit(solver.step)
    for batch in batches:
        state, _ = step(state, batch)
    close(run.state, state)


def test_fit_with_sam_and_lookahead_or_a_sentence():
    def solved(loss, rule, primal, start):
        problem = jc.Lagrangian(loss, rule, penalty=1.0)
        solver = jc.alternating(problem, primal, jc.dual_ascent(optax.sgd(0.1)))
        return jc.fit(solver, start, steps=400, progress=False).state.params

    def square(w, _):
        return (w - 2.0) ** 2

    for opaque in (False, True):
        ahead = optax.chain(optax.contrib.normalize(), optax.sgd(1e-3))
        sam = optax.contrib.sam(optax.sgd(0.1), ahead, opaque_mode=opaque)
        assert float(solved(square, low(), sam, 0.0)) == pytest.approx(1.0, abs=2e-3)
    two = optax.lookahead(optax.sgd(0.1), sync_period=5, slow_step_size=0.5)
    found = solved(
        lambda w, _: (w.fast - 2.0) ** 2,
        jc.Constraints(inequality={"w <= 1": lambda w, _: w.fast - 1.0}),
        two,
        optax.LookaheadParams.init_synced(jnp.array(0.0)),
    )
    np.testing.assert_allclose(found, [1.0, 1.0], atol=1e-3)
    with pytest.raises(TypeError, match=r"LookaheadParams.init_synced\(params\)"):
        solved(square, low(), two, 0.0)
