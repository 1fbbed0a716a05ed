"""Runs that meet bad batches, spikes and signals, and what is left of them."""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import threading
import warnings
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from tables import assert_refused

import jaxcon as jc
from benchmarks import exploding, faults
from jaxcon.training import DivergedError, Interrupted, NonFiniteError


@cache
def solver_of(name):
    return faults.solver(faults.PROTECTIONS[name])


@cache
def clean_error(name):
    return faults.train(solver_of(name), faults.clean())[1]


# One clip of the gradient and one of each example's; the others repeat the first.
@pytest.mark.parametrize(
    "name",
    [
        "clip_by_percentile()",
        "clip_each_example(1)",
        pytest.param("clip_by_z_score()", marks=pytest.mark.slow),
        pytest.param("clip_by_global_norm(0.3)", marks=pytest.mark.slow),
        pytest.param("huber(0.3)", marks=pytest.mark.slow),
    ],
)
def test_fit_counts_faults_to_the_batch_and_a_clip_makes_them_cost_little(name):
    for fault, break_some in faults.FAULTS.items():
        batches = break_some(faults.clean())
        result, error = faults.train(solver_of(name), batches)
        bad = faults.not_finite(batches)
        np.testing.assert_array_equal(result.history.finite, ~bad, err_msg=fault)
        assert int(result.state.skipped) == bad.sum(), fault
        for leaf in jax.tree.leaves(result.state.multipliers):
            assert np.isfinite(leaf).all(), fault
        assert error < 1.05 * clean_error(name), fault


@pytest.mark.slow
def test_fit_without_a_clip_is_ruined_by_outliers():
    batches = faults.FAULTS["outliers"](faults.clean())
    assert faults.train(solver_of("none"), batches)[1] > 10 * clean_error("none")


@pytest.mark.slow
def test_fit_of_the_exploding_network_explodes_without_a_clip():
    runs = exploding.measure(exploding.CLIPS["none"], 1.5e-3)
    assert runs.blown_up >= 8
    assert np.sort(runs.step)[7] < 3 * exploding.TIMES  # the first epochs


# The others are optax's, and in the benchmark; there is the paper's z-score of 2.5 as well,
# with which it is 8 of 10.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip_by_percentile()", "clip_by_z_score(1.5)"])
def test_fit_of_the_exploding_network_converges_with_each_clip(name):
    assert exploding.measure(exploding.CLIPS[name], 1.5e-3).converged == 10


# A run of one number, pulled by what the batch says: loss, constraint or gradient.


def pulled(params, batch):
    root = jnp.sqrt(
        1 - batch["flat"] + params["x"] - jax.lax.stop_gradient(params["x"])
    )
    return (params["x"] - batch["to"]) ** 2 + 0 * params["y"] + batch["pull"] * root


CAP = jc.Constraints(
    {"level": lambda p, batch: p["y"] - batch["level"]},
    {"cap": lambda p, batch: p["x"] * batch["steep"] - 5.0},
)
USUAL = {"to": 1.0, "flat": 0.0, "pull": 0.0, "level": 0.5, "steep": 1.0}


@cache
def small(primal=None):
    solver = jc.alternating(
        jc.Lagrangian(pulled, CAP, penalty=1.0),
        optax.sgd(0.05) if primal is None else primal,
        jc.dual_ascent(optax.sgd(0.05)),
    )
    return solver, solver.init({"x": 2.0, "y": 0.0}, USUAL)


def stream(n, **changed):
    """`n` batches: stream(9, at_3={"to": 9.0})."""
    for i in range(n):
        batch = USUAL | changed.get(f"at_{i}", {})
        yield {name: np.float32(value) for name, value in batch.items()}


def fit(batches, steps=60, **options):
    solver, state = small()
    return jc.fit(
        solver, state, batches, steps=steps, progress=False, **{"chunk": 10} | options
    )


@cache
def diverging(primal=None):
    """One batch for all steps, and a rate at which the loss doubles in each."""
    solver = jc.alternating(
        jc.Lagrangian(
            lambda p, _: p["x"] ** 2 + p["y"] ** 2,
            jc.Constraints({"level": lambda p, _: p["y"] - 1.0}),
        ),
        optax.sgd(1.2) if primal is None else primal,
        optax.set_to_zero(),
    )
    return solver, solver.init({"x": 1.0, "y": 0.0})


NAN = {"to": np.nan}


@pytest.mark.filterwarnings("ignore:step 3")
def test_max_skipped_is_how_many_steps_are_skipped_and_no_more():
    at = {f"at_{i}": NAN for i in (3, 14, 15, 27, 41)}
    assert int(fit(stream(60, **at), max_skipped=5).state.skipped) == 5
    with pytest.raises(NonFiniteError, match=r"max_skipped") as caught:
        fit(stream(60, **at), max_skipped=3)
    result = caught.value.result
    assert int(result.state.skipped) == 4
    assert int(result.state.step) == 28
    assert len(result.history.loss) == 28
    assert not result.history.finite[-1]
    assert "step 27: the loss was nan" in str(caught.value)
    with pytest.raises(NonFiniteError, match="step 3: the loss was nan, and more"):
        fit(stream(60, **at), max_skipped=0)


@pytest.mark.filterwarnings("ignore:step")
def test_max_skipped_allows_a_whole_chunk_of_skipped_steps_too():
    at = {f"at_{i}": NAN for i in (14, 15, 27)}
    result = fit(stream(60, **at), max_skipped=3, chunk=1)
    assert int(result.state.skipped) == 3


@pytest.mark.filterwarnings("ignore:step 3")
def test_max_skipped_counts_what_a_resumed_run_skipped_before(tmp_path):
    at = {f"at_{i}": NAN for i in (3, 14, 41)}
    fit(stream(60, **at), steps=20, checkpoint=tmp_path)
    with pytest.raises(NonFiniteError, match="step 41: the loss was nan, and more"):
        fit(stream(60, **at), checkpoint=tmp_path, max_skipped=2)


def test_fit_names_the_term_of_a_gradient_that_is_not_finite():
    # sqrt at zero: the value is finite, the slope is not.
    broken = {"flat": 1.0, "pull": 1.0}
    with pytest.warns(
        RuntimeWarning, match="step 13: the gradient of the loss was not"
    ):
        result = fit(stream(60, at_13=broken))
    assert np.flatnonzero(~result.history.finite).tolist() == [13]


@pytest.mark.filterwarnings("ignore:step")
def test_fit_that_overflows_says_whose_gradient_was_largest():
    words = "the largest gradient was that of the loss, of norm"
    # SGD stops where the gradient's square overflows. Of a primal that the guard does not
    # know the move is checked, and the loss overflows first.
    for primal, cause in (
        (optax.sgd(1.2), "a gradient's square, or"),
        (
            optax.stateless(lambda g, _: jax.tree.map(lambda g: -1.2 * g, g)),
            "loss was inf",
        ),
    ):
        solver, state = diverging(primal)
        with pytest.raises(NonFiniteError, match=cause) as caught:
            jc.fit(solver, state, steps=500, chunk=10, progress=False)
        assert words in str(caught.value)
        result = caught.value.result
        assert len(result.history.loss) < 200
        assert np.isfinite(list(result.state.params.values())).all()


def answered(name):
    """What a user may put before an optimizer for NaNs, and whether it moves the rest."""
    sgd = optax.sgd(0.05)
    skipping = optax.MultiSteps(sgd, 1, should_skip_update_fn=optax.skip_not_finite)
    return {
        "zero_nans": (optax.chain(optax.zero_nans(), sgd), True),
        "apply_if_finite": (optax.apply_if_finite(sgd, 100), False),
        "skip_not_finite": (skipping.gradient_transformation(), False),
        "none": (sgd, None),
    }[name]


def root_of_zero(params, _):
    """A loss of finite value whose gradient by x is not: sqrt at zero."""
    root = jnp.sqrt(params["x"] - jax.lax.stop_gradient(params["x"]))
    return (params["y"] - 3.0) ** 2 + 0 * jnp.where(root > 0, 0, root)


@pytest.mark.parametrize(
    "name", ["none", "zero_nans", "apply_if_finite", "skip_not_finite"]
)
def test_step_lets_an_answer_of_optax_to_nan_have_its_way(name):
    primal, moves = answered(name)
    cap = jc.Constraints(inequality={"cap": lambda p, _: p["y"] - 1.0})
    solver = jc.alternating(
        jc.Lagrangian(root_of_zero, cap), primal, jc.dual_ascent(optax.sgd(0.1))
    )
    (state, info), gradients = jax.jit(
        lambda state: (solver.step(state), solver.gradients(state))
    )(solver.init({"x": 1.0, "y": 2.0}))
    assert np.isnan(gradients.loss["x"])
    assert bool(info.finite) == (moves is not None)
    assert (float(state.params["y"]) != 2.0) == bool(moves)
    assert (float(state.multipliers.inequality["cap"]) != 0) == (moves is not None)
    assert float(state.params["x"]) == 1.0


def test_step_of_an_infinite_gradient_is_skipped_even_by_a_clip():
    solver = jc.alternating(
        jc.Lagrangian(lambda p, batch: jnp.sqrt(p) * batch, jc.Constraints()),
        optax.clip(1.0),
        optax.set_to_zero(),
    )
    state, info = jax.jit(solver.step)(solver.init(0.0, 1.0), 1.0)
    assert not info.finite
    assert float(state.params) == 0.0


SPIKE = {"at_25": {"to": 2000.0}}


@pytest.mark.parametrize("bad", [20, 25, 29])
def test_spike_anywhere_in_a_chunk_leaves_the_state_before_it(bad):
    """A move that its own batch does not show: a steep constraint, met, then left."""
    batch = {f"at_{bad}": {"steep": 1e3}}
    with pytest.warns(RuntimeWarning, match="the run went back to step 20") as caught:
        result = fit(stream(60, **batch), spike=1e3)
    assert "was that of inequality constraint 'cap'" in str(caught[0].message)
    assert result.rollbacks in ((bad,), (bad + 1,))
    assert abs(float(result.state.params["x"]) - 1) < 0.1


def test_spike_is_no_skipped_step():
    at = {f"at_{i}": {"to": np.inf} for i in (15, 25, 35)}
    with pytest.warns(RuntimeWarning, match="step 15: the loss was inf; the step was"):
        result = fit(stream(60, **at), spike=100.0)
    assert result.rollbacks == ()
    assert int(result.state.skipped) == 3


def test_spike_of_a_loss_come_down_to_zero_is_measured_from_its_first_scale():
    solver = jc.alternating(
        jc.Lagrangian(
            lambda p, batch: jnp.maximum(p["x"] - batch, 0.0), jc.Constraints()
        ),
        optax.sgd(0.1),
        optax.set_to_zero(),
    )
    batches = (np.float32(1.0 if i != 35 else 0.97) for i in range(60))
    start = solver.init({"x": 2.0}, np.float32(1.0))
    result = jc.fit(
        solver, start, batches, steps=60, chunk=10, spike=100.0, progress=False
    )
    assert float(result.history.loss[20:35].max()) == 0.0 < result.history.loss[35]
    assert result.rollbacks == ()


def test_spike_makes_fit_go_back_to_where_the_chunk_began():
    with pytest.warns(RuntimeWarning) as caught:
        result = fit(stream(60, **SPIKE), spike=100.0)
    assert len(caught) == 1
    words = str(caught[0].message)
    assert words.startswith("step 25: the loss rose to 4e+06, from at most 0.")
    assert "in that step, the largest gradient was that of the loss" in words
    assert words.endswith("; the run went back to step 20")
    assert caught[0].filename == __file__
    assert result.rollbacks == (25,)
    assert int(result.state.step) == 60
    assert len(result.history.loss) == 60
    # As if the chunk with the spike had not been: its own batches are all alike.
    expected = fit(stream(60), steps=50).state
    for ours, theirs in zip(
        jax.tree.leaves(result.state._replace(step=0, skipped=0)),
        jax.tree.leaves(expected._replace(step=0, skipped=0)),
    ):
        np.testing.assert_array_equal(ours, theirs)
    taken = fit(stream(60, **SPIKE))
    assert taken.rollbacks == ()
    assert float(taken.history.loss[26]) > 1000


def test_spike_of_a_constraint_is_named():
    with pytest.warns(
        RuntimeWarning, match="step 25: the violation of 'level' rose to"
    ):
        result = fit(stream(60, at_25={"level": 90.0}), spike=100.0)
    assert result.rollbacks == (25,)


def test_spike_is_measured_from_the_scale_that_a_resumed_run_had(tmp_path):
    fit(stream(60, **SPIKE), steps=20, spike=100.0, checkpoint=tmp_path)
    with pytest.warns(RuntimeWarning, match="step 25: the loss rose"):
        result = fit(stream(60, **SPIKE), spike=100.0, checkpoint=tmp_path)
    with pytest.warns(RuntimeWarning, match="step 25: the loss rose"):
        whole = fit(stream(60, **SPIKE), spike=100.0)
    for ours, theirs in zip(
        jax.tree.leaves(result.state), jax.tree.leaves(whole.state)
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_spike_that_going_back_would_meet_again_ends_the_run():
    solver, state = diverging()
    with pytest.raises(DivergedError, match="all steps have the same batch") as caught:
        jc.fit(solver, state, steps=100, chunk=10, spike=10.0, progress=False)
    assert "the loss rose" in str(caught.value)
    assert "the largest gradient was that of the loss" in str(caught.value)
    assert int(caught.value.result.state.step) == 10
    assert len(caught.value.result.history.loss) == 20


@pytest.mark.filterwarnings("ignore:step")
def test_spike_in_each_of_three_chunks_ends_the_run():
    at = {f"at_{i}": {"to": 2000.0} for i in (25, 35, 45)}
    with pytest.raises(DivergedError, match="in each of the 3 last chunks") as caught:
        fit(stream(60, **at), spike=100.0)
    result = caught.value.result
    assert result.rollbacks == (25, 35)
    assert float(result.state.params["x"]) < 2.0


class Sealed(Exception):
    """An exception that lets no result be set."""

    @property
    def result(self):
        return None


FAILURES = [RuntimeError("down"), KeyError("x"), StopIteration(), SystemExit(3)]


@pytest.mark.parametrize("error", [*FAILURES, Sealed("shut")], ids=repr)
def test_fit_hands_back_what_was_reached_whatever_ends_it(error, tmp_path):
    def callback(state, _):
        if int(state.step) == 20:
            raise error

    kind = RuntimeError if isinstance(error, Sealed) else type(error)
    with pytest.raises(kind) as caught:
        fit(stream(60), callbacks=[callback], checkpoint=tmp_path)
    ended = caught.value
    assert (
        ended if kind is not RuntimeError or ended is error else ended.__cause__
    ) is (error)
    assert int(ended.result.state.step) == len(ended.result.history.loss) == 20
    assert ended.__notes__[-1] == (
        f"step 20 of 60 was reached; saved in {tmp_path}; .result holds it"
    )
    if isinstance(error, RuntimeError):
        assert ended.__notes__[0] == "raised in callbacks[0]"
    assert len(fit(stream(60), checkpoint=tmp_path).history.loss) == 40


def broken_off(last):
    """Seventeen good batches, then `last`, which is raised if it is an exception."""
    yield from stream(17)
    if isinstance(last, Exception):
        raise last
    yield last


def test_fit_takes_all_steps_before_a_batch_that_is_wrong():
    good = next(stream(1))
    rows = [
        (OSError("unreadable"), OSError, "unreadable"),
        (good | {"to": np.ones(2, np.float32)}, ValueError, r"\['to'\] changes shape"),
        ({"to": np.float32(1.0)}, ValueError, "a batch changes structure"),
        (good | {"to": "text"}, TypeError, r"a batch\['to'\] is 'text'"),
        (None, ValueError, "a batch changes structure"),
    ]
    for last, kind, words in rows:
        with pytest.raises(kind, match=words) as caught:
            fit(broken_off(last))
        result = caught.value.result
        assert int(result.state.step) == len(result.history.loss) == 17
        assert caught.value.__notes__ == ["step 17 of 60 was reached; .result holds it"]


def full(monkeypatch):
    """Lets every save fail as on a full disk."""
    import orbax.checkpoint as ocp

    def save(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ocp.CheckpointManager, "save", save)


def test_fit_that_is_done_is_returned_though_its_last_save_fails(tmp_path, monkeypatch):
    def callback(state, _):
        if int(state.step) == 60:
            full(monkeypatch)

    with pytest.warns(RuntimeWarning) as caught:
        result = fit(stream(60), callbacks=[callback], checkpoint=tmp_path)
    assert [str(one.message) for one in caught] == [
        f"the run is done, but the checkpoint of step 60 in {tmp_path} could not be saved "
        "(No space left on device); the result is returned"
    ]
    assert int(result.state.step) == 60


def test_fit_whose_save_fails_on_its_way_hands_back_what_was_reached(
    tmp_path, monkeypatch
):
    full(monkeypatch)
    with pytest.raises(OSError, match="of step 10 in .* could not be saved") as caught:
        fit(stream(60), checkpoint=tmp_path)
    assert "\n" not in str(caught.value)
    assert int(caught.value.result.state.step) == 10


def test_fit_saves_though_its_folder_vanished_meanwhile(tmp_path):
    def callback(state, _):
        if int(state.step) == 30:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)

    result = fit(stream(60), callbacks=[callback], checkpoint=tmp_path / "run")
    assert int(result.state.step) == 60
    assert (tmp_path / "run" / "60").is_dir()


def test_fit_interrupted_while_it_compiles_leaves_no_checkpoint(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxcon._programs.Program._compiled", interrupt)
    with pytest.raises(Interrupted) as caught:
        fit(stream(60), checkpoint=tmp_path, chunk=13)
    assert str(caught.value) == "stopped by Ctrl-C after step 0 of 60; .result holds it"
    assert len(caught.value.result.history.loss) == 0
    assert not list(tmp_path.iterdir())


def test_fit_that_warns_of_its_last_save_as_an_error_has_its_result(
    tmp_path, monkeypatch
):
    full(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="the run is done") as caught:
            fit(stream(60), checkpoint=tmp_path, chunk=60, callbacks=[lambda *_: None])
    assert int(caught.value.result.state.step) == 60


def test_fit_refuses_bounds_out_of_range():
    assert_refused(
        [
            (
                lambda: fit(stream(60), max_skipped=-1),
                ValueError,
                "max_skipped must be",
            ),
            (lambda: fit(stream(60), spike=1.0), ValueError, "spike must be"),
        ]
    )


def run_until_told(folder, ready):
    """In a process of its own: more steps than it will be given time for."""

    def callback(state, _):
        ready.set()

    try:
        fit(stream(10**7), steps=10**7, checkpoint=folder, callbacks=[callback])
    except Interrupted as stop:
        (folder / "said").write_text(f"{stop.signal} {stop.result.state.step} {stop}")


def test_fit_saves_at_sigterm_and_says_so(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=run_until_told, args=(tmp_path, ready))
    process.start()
    assert ready.wait(120)
    os.kill(process.pid, signal.SIGTERM)
    process.join(120)
    assert process.exitcode == 0
    number, step, words = (tmp_path / "said").read_text().split(" ", 2)
    assert int(number) == signal.SIGTERM
    expected = (
        rf"stopped by SIGTERM after step {step} of 10000000; saved in (.*); .result"
    )
    assert re.match(expected, words).group(1) == str(tmp_path)
    resumed = fit(stream(10**7), steps=int(step) + 10, checkpoint=tmp_path)
    assert len(resumed.history.loss) == 10


SIGNALS = [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "name"), SIGNALS)
def test_fit_does_not_lose_a_signal_that_is_swallowed(number, name):
    """As one is that arrives while a destructor runs."""

    def swallow(state, _):
        if int(state.step) == 20:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"by {name} after step 20 of 60") as caught:
        fit(stream(60), callbacks=[swallow])
    assert caught.value.signal == number
    assert signal.getsignal(number) == before


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "name"), SIGNALS)
def test_a_save_is_never_cut_short_by_a_signal(number, name, tmp_path):
    """Orbax's threads would keep the process from ending."""
    saved = []

    class Manager(ocp.CheckpointManager):
        def save(self, step, *args, **options):
            if step == 20:
                signal.raise_signal(number)
            saved.append(step)
            return super().save(step, *args, **options)

    often = ocp.checkpoint_managers.FixedIntervalPolicy(interval=10)
    options = ocp.CheckpointManagerOptions(save_decision_policy=often)
    with Manager(tmp_path, options=options) as manager:
        with pytest.raises(Interrupted, match=f"by {name} after step 20 of 60"):
            fit(stream(60), chunk=10, checkpoint=manager)
    assert saved == [10, 20]


def test_fit_leaves_a_signal_handler_set_during_the_run():
    def theirs(*_):
        pass

    try:
        fit(
            stream(60),
            callbacks=[lambda *_: signal.signal(signal.SIGTERM, theirs) and None],
        )
        assert signal.getsignal(signal.SIGTERM) == theirs
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_fit_leaves_a_program_s_own_signal_handler():
    def theirs(*_):
        pass

    before = signal.signal(signal.SIGTERM, theirs)
    try:
        seen = []
        fit(
            stream(60),
            callbacks=[lambda *_: seen.append(signal.getsignal(signal.SIGTERM))],
        )
        assert set(seen) == {theirs}
    finally:
        signal.signal(signal.SIGTERM, before)
    fit(stream(60))
    assert signal.getsignal(signal.SIGTERM) == before


def test_fit_in_another_thread_leaves_signals_alone():
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(stream(60))))
    thread.start()
    thread.join()
    assert int(found[0].state.step) == 60
