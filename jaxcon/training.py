r"""Repeats: `fit` runs a method's step in chunks on the device and reports from the host.

A chunk is one compiled loop; between chunks the host moves the progress bar, calls back,
saves and looks for trouble, so nothing in the compiled program waits for it. The number
of steps in a chunk is data, not shape: whatever `steps` is, `fit` compiles once.
"""

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.constraints import Constraints, named
from jaxcon.primal_dual import Info, Method, PrimalDualState

Callback = Callable[[PrimalDualState, Info], Any]


class Iterate(NamedTuple):
    """One point a run passed through, with what was seen there.

    Attributes:
        params: theta at that step.
        multipliers: mu and lambda at that step.
        loss: f, shape ().
        max_violation: on the batch of that step, shape ().
        feasible: whether `max_violation` is within the tolerance, boolean of shape ().
        step: which step it was, int32 of shape (); -1 if no step was finite.
    """

    params: Any
    multipliers: Constraints
    loss: jax.Array
    max_violation: jax.Array
    feasible: jax.Array
    step: jax.Array


class FitResult(NamedTuple):
    """What a run came to.

    Attributes:
        state: the last state; pass it to `fit` again to go on.
        best: the feasible iterate of lowest loss, or, if none was feasible (see
            `best.feasible`), the one of smallest violation.
        history: `Info` of NumPy arrays, one row per step of this call.
        seconds: running time, without compilation.
        compile_seconds: time to trace and compile.
    """

    state: PrimalDualState
    best: Iterate
    history: Info
    seconds: float
    compile_seconds: float


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `fit`; `result` holds what was reached."""

    def __init__(self, message: str, result: FitResult):
        super().__init__(message)
        self.result = result


class NonFiniteError(FloatingPointError):
    """No step of a whole chunk was finite; `result` holds what was reached."""

    def __init__(self, message: str, result: FitResult):
        super().__init__(message)
        self.result = result


def fit(
    method: Method,
    state: PrimalDualState,
    batches: Any = None,
    *,
    steps: int,
    key: jax.Array | None = None,
    tolerance: float = 1e-3,
    chunk: int = 100,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Any = None,
) -> FitResult:
    r"""Takes `steps` steps of `method`, compiled once, and keeps the best iterate.

    Args:
        method: what `simultaneous`, `alternating` or `extragradient` returned.
        state: where to start: `method.init(params, batch)`, or an earlier result's.
        batches: one of three. An iterator of batches is read as the run goes. A function
            (key) -> batch is drawn from inside the compiled loop with a fresh key each
            step. Anything else is one batch, used whole at every step; None included.
        steps: how many steps, counted from `state.step`.
        key: a typed key (`jax.random.key`), needed only if `batches` is a function.
        tolerance: largest violation that counts as feasible, in the constraints' units.
        chunk: steps per compiled call, and so between two looks from the host.
        progress: True for a tqdm bar, False for none, None for one where tqdm is
            installed and the output is a terminal.
        callbacks: functions (state, info) called after each chunk with the state and the
            chunk's infos (arrays, one row per step); one that returns True ends the run.
        checkpoint: a folder, saved into about once a minute and at the end, or an
            `orbax.checkpoint.CheckpointManager` with your own policy. If it holds a
            checkpoint, the run resumes there; an iterator is first advanced past the
            batches already used, so the end is the same to the bit.

    Returns:
        A `FitResult`.

    Raises:
        TypeError: `batches` is of no usable kind, or a function without a `key`.
        ValueError: `steps` or `chunk` is below 1, or the checkpoint is of another shape.
        Interrupted: on Ctrl-C, with what was reached in `.result`.
        NonFiniteError: no step of a whole chunk was finite, with `.result`.

    Example:
        >>> import optax, jaxcon as jc
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> method = jc.alternating(
        ...     lambda p, _: jnp.sum(p**2), sums,
        ...     primal=optax.sgd(0.1), dual=jc.dual_ascent(optax.sgd(0.1)), penalty=1.0,
        ... )
        >>> result = jc.fit(method, method.init(jnp.zeros(2)), steps=500)
        >>> print(f"{result.state.params[0]:.4f} {result.best.feasible}")
        0.5000 True
    """
    if steps < 1 or chunk < 1:
        raise ValueError(f"steps and chunk must be at least 1, got {steps} and {chunk}")
    source = _Source(batches, key)
    end = int(state.step) + steps
    with _Checkpoint(checkpoint) as saved:
        reached = saved.restore((state, _first_best(state)))
        ahead = int(reached[0].step) - int(state.step)
        if ahead < 0:
            raise ValueError(
                f"the checkpoint is of step {int(reached[0].step)}, the state given of "
                f"step {int(state.step)}; start from method.init to resume, or save "
                "elsewhere"
            )
        source.skip(ahead)
        run = _Run(method, source, tolerance, chunk, callbacks, saved)
        return run.to(end, reached, progress)


class _Run:
    """The host's side of one call of `fit`."""

    def __init__(
        self,
        method: Method,
        source: "_Source",
        tolerance: float,
        chunk: int,
        callbacks: Sequence[Callback],
        saved: "_Checkpoint",
    ):
        self.source, self.chunk = source, chunk
        self.callbacks, self.saved = callbacks, saved
        compiled = _compiled(method.step, source.draw, source.streamed, chunk)
        self.advance = partial(compiled, tolerance=tolerance)
        self.infos: list[Info] = []
        self.seconds = self.compile_seconds = 0.0
        self.warned = False

    def to(
        self, end: int, reached: tuple[PrimalDualState, Iterate], progress: bool | None
    ) -> FitResult:
        """Runs until step `end`, saving what was reached however it ends."""
        try:
            with _bar(progress, end - int(reached[0].step)) as bar:
                while (left := end - int(reached[0].step)) > 0:
                    data, count = self.source.read(min(self.chunk, left), self.chunk)
                    if count == 0:
                        _warn(f"batches ran out after step {end - left} of {end}", 3)
                        break
                    reached, info = self._chunk(reached, data, count)
                    self.infos.append(info)
                    self._report(bar, info)
                    self.saved.save(reached)
                    self._look_for_trouble(reached, info)
                    if any([_stops(call(reached[0], info)) for call in self.callbacks]):
                        break
        except KeyboardInterrupt:
            taken = int(reached[0].step)
            raise Interrupted(
                f"stopped by Ctrl-C after step {taken} of {end}; .result holds it",
                self._result(reached),
            ) from None
        finally:
            self.saved.save(reached, force=True)
        return self._result(reached)

    def _chunk(self, reached: Any, data: Any, count: int) -> tuple[Any, Info]:
        if not self.infos:
            # A call of zero steps compiles and does nothing else, so that compilation
            # is timed apart from running.
            began = time.perf_counter()
            jax.block_until_ready(self.advance(reached, data, self.source.key, 0))
            self.compile_seconds = time.perf_counter() - began
        began = time.perf_counter()
        reached, info = self.advance(reached, data, self.source.key, count)
        info = jax.tree.map(lambda rows: rows[:count], jax.device_get(info))
        self.seconds += time.perf_counter() - began
        return reached, info

    def _result(self, reached: tuple[PrimalDualState, Iterate]) -> FitResult:
        state, best = reached
        history = _no_history(state)
        if self.infos:
            history = jax.tree.map(lambda *rows: np.concatenate(rows), *self.infos)
        return FitResult(state, best, history, self.seconds, self.compile_seconds)

    def _report(self, bar: Any, info: Info) -> None:
        if bar is not None:
            bar.set_postfix_str(
                f"loss {info.loss[-1]:.4g}, worst violation {info.max_violation[-1]:.2e}",
                refresh=False,
            )
            bar.update(len(info.loss))

    def _look_for_trouble(self, reached: Any, info: Info) -> None:
        if info.finite.all():
            return
        first = int(reached[0].step) - len(info.finite) + int(np.argmin(info.finite))
        message = f"step {first}: {_not_finite(info, int(np.argmin(info.finite)))}"
        if not info.finite.any():
            raise NonFiniteError(
                f"{message}, and so were all of the {len(info.finite)} steps from there; "
                "nothing moved in them",
                self._result(reached),
            )
        if not self.warned:
            _warn(
                f"{message}; the step was skipped (skipped steps are counted in "
                "state.skipped and marked in history.finite)",
                4,
            )
            self.warned = True


def _stops(answer: Any) -> bool:
    """Whether a callback said True, in Python's word or NumPy's."""
    return isinstance(answer, (bool, np.bool_)) and bool(answer)


def _warn(message: str, frames: int) -> None:
    """Warns at the line that called `fit`, which is `frames` frames above this one."""
    warnings.warn(message, RuntimeWarning, stacklevel=frames + 1)


def _no_history(state: PrimalDualState) -> Info:
    """The history of a run that had nothing left to do."""
    rows: Any = np.zeros(0)
    each = jax.tree.map(lambda _: rows, state.multipliers)
    return Info(rows, rows, each, each, finite=rows.astype(bool), aux=None)


def _not_finite(info: Info, row: int) -> str:
    """Names the first thing that was not finite in one row of infos."""
    if not np.isfinite(info.loss[row]):
        return f"the loss was {info.loss[row]}"
    for kind, name, worst in named(info.violation):
        if not np.isfinite(worst[row]):
            return f"{kind} constraint {name!r} was not finite"
    return "the gradient, or the point looked ahead to, was not finite"


# A second fit of the same method runs the same program; an old method's is let go.
@lru_cache(maxsize=16)
def _compiled(
    step: Callable[..., Any], draw: Any, streamed: bool, length: int
) -> Callable[..., Any]:
    return jax.jit(
        partial(_advance, step=step, draw=draw, streamed=streamed, length=length)
    )


def _advance(
    reached: tuple[PrimalDualState, Iterate],
    data: Any,
    key: Any,
    count: Any,
    tolerance: Any,
    *,
    step: Callable[..., tuple[PrimalDualState, Info]],
    draw: Callable[[jax.Array], Any] | None,
    streamed: bool,
    length: int,
) -> tuple[tuple[PrimalDualState, Iterate], Info]:
    """Takes `count` steps, at most `length`, and returns the infos of all of them."""

    def batch_at(i: Any, state: PrimalDualState) -> Any:
        if draw is not None:
            # Folding the step into the key makes a resumed run draw the same batches.
            return draw(jax.random.fold_in(key, state.step))
        return jax.tree.map(lambda rows: rows[i], data) if streamed else data

    def body(i: Any, carry: Any) -> Any:
        state, best, infos = carry
        new, info = step(state, batch_at(i, state))
        infos = jax.tree.map(lambda rows, row: rows.at[i].set(row), infos, info)
        return new, _better(best, state, info, tolerance), infos

    state, best = reached
    _, info = jax.eval_shape(lambda s: step(s, batch_at(0, s)), state)
    infos = jax.tree.map(lambda row: jnp.zeros((length, *row.shape), row.dtype), info)
    state, best, infos = jax.lax.fori_loop(0, count, body, (state, best, infos))
    return (state, best), infos


def _first_best(state: PrimalDualState) -> Iterate:
    # jnp.array(jnp.inf) would be weakly typed, and a restored one, which is not, would
    # make the loop compile again.
    return Iterate(
        params=state.params,
        multipliers=state.multipliers,
        loss=jnp.array(jnp.inf, float),
        max_violation=jnp.array(jnp.inf, float),
        feasible=jnp.array(False),
        step=jnp.array(-1, jnp.int32),
    )


def _better(best: Iterate, state: PrimalDualState, info: Info, tolerance: Any):
    """Feasible before infeasible; then by loss among feasible, else by violation."""
    feasible = info.max_violation <= tolerance
    improves = jnp.where(
        best.feasible,
        feasible & (info.loss < best.loss),
        feasible | (info.max_violation < best.max_violation),
    )
    seen = Iterate(
        params=state.params,
        multipliers=state.multipliers,
        loss=info.loss.astype(best.loss.dtype),
        max_violation=info.max_violation.astype(best.max_violation.dtype),
        feasible=feasible,
        step=state.step,
    )
    return jax.tree.map(
        lambda new, old: jnp.where(improves & info.finite, new, old), seen, best
    )


class _Source:
    """Where batches come from: a stream, a function of a key, or one batch for all."""

    def __init__(self, batches: Any, key: jax.Array | None):
        self.streamed = isinstance(batches, Iterator)
        self.draw: Any = batches if callable(batches) and not self.streamed else None
        self.key = key if self.draw is not None else None
        self.batches: Any = batches
        if self.draw is not None and key is None:
            raise TypeError(
                "batches is a function of a key: pass key=jax.random.key(0)"
            )
        if self.draw is None and not self.streamed:
            for leaf in jax.tree.leaves(batches):
                if not isinstance(
                    leaf, (jax.Array, np.ndarray, np.generic, int, float)
                ):
                    raise TypeError(
                        f"batches holds a {type(leaf).__name__}; pass one batch of arrays, "
                        "an iterator of batches (e.g. iter(loader)) or a function (key) "
                        "-> batch"
                    )

            # Once to the device, not once a chunk.
            self.batches = jax.tree.map(
                lambda leaf: (
                    jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf
                ),
                batches,
            )

    def skip(self, count: int) -> None:
        if self.streamed:
            for _ in islice(self.batches, count):
                pass

    def read(self, count: int, length: int) -> tuple[Any, int]:
        """Data for up to `count` steps and how many it is enough for."""
        if self.draw is not None:
            return None, count
        if not self.streamed:
            return self.batches, count
        rows = list(islice(self.batches, count))
        if not rows:
            return None, 0
        # Padded to the full length, a shorter last chunk runs the same program.
        padded = rows + rows[-1:] * (length - len(rows))
        return jax.tree.map_with_path(_stack, *padded), len(rows)


def _stack(path: Any, *leaves: Any) -> np.ndarray:
    for leaf in leaves:
        if np.shape(leaf) != np.shape(leaves[0]):
            raise ValueError(
                f"batch{jax.tree_util.keystr(path)} changes shape during the run, from "
                f"{np.shape(leaves[0])} to {np.shape(leaf)}; drop the smaller last "
                "batch, or pad it"
            )
    return np.stack(leaves)


def _bar(progress: bool | None, total: int) -> Any:
    """A tqdm bar, or a context that yields None."""
    if progress is False:
        return nullcontext()
    if progress is None and importlib.util.find_spec("tqdm") is None:
        return nullcontext()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("a progress bar needs tqdm: pip install tqdm") from None
    # disable=None: silent where the output is no terminal.
    return tqdm(total=total, unit=" steps", disable=None if progress is None else False)


class _Checkpoint:
    """Saves and restores (state, best) through orbax; does nothing without a place."""

    def __init__(self, place: Any):
        self.manager = place
        self.owned = isinstance(place, (str, Path))
        if self.owned:
            self.manager = _manager(Path(place))

    def __enter__(self) -> "_Checkpoint":
        return self

    def __exit__(self, *_: Any) -> None:
        if self.owned:
            self.manager.close()

    def restore(self, fresh: Any) -> Any:
        if self.manager is None or (step := self.manager.latest_step()) is None:
            return fresh
        import orbax.checkpoint as ocp

        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, fresh)
        place = f"the checkpoint of step {step} in {self.manager.directory}"
        try:
            parts = ocp.args.Composite(shapes=ocp.args.JsonRestore())
            theirs = self.manager.restore(step, args=parts).shapes
        except (ValueError, KeyError, FileNotFoundError):
            raise ValueError(f"{place} is none of jaxcon.fit's") from None
        ours = _shapes(fresh)
        for name in [*ours, *theirs]:
            is_, wanted = theirs.get(name, "nothing"), ours.get(name, "nothing")
            if is_ != wanted:
                raise ValueError(
                    f"{place} is of another shape than this run: it has {is_} for "
                    f"{name}, this run {wanted}; resume with what it was saved from, or "
                    "save elsewhere"
                )
        parts = ocp.args.Composite(reached=ocp.args.StandardRestore(like))
        return self.manager.restore(step, args=parts).reached

    def save(self, reached: Any, force: bool = False) -> None:
        if self.manager is None:
            return
        import orbax.checkpoint as ocp

        step = int(reached[0].step)
        if step != self.manager.latest_step():
            parts = ocp.args.Composite(
                reached=ocp.args.StandardSave(reached),
                shapes=ocp.args.JsonSave(_shapes(reached)),
            )
            self.manager.save(step, args=parts, force=force)
        if force:
            self.manager.wait_until_finished()


def _shapes(reached: Any) -> dict[str, str]:
    """What a checkpoint holds, by path, e.g. {".params['w']": "float32[3]"}."""
    leaves = jax.tree_util.tree_leaves_with_path(reached)
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}".replace(" ", "")
        for path, leaf in ((path, jnp.asarray(leaf)) for path, leaf in leaves)
    }


def _manager(folder: Path) -> Any:
    try:
        import orbax.checkpoint as ocp
    except ImportError:
        raise ImportError(
            "checkpoints need orbax: pip install 'jaxcon[checkpoint]'"
        ) from None
    policies = ocp.checkpoint_managers
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2,
        save_decision_policy=policies.ContinuousCheckpointingPolicy(
            minimum_interval_secs=60
        ),
    )
    # Orbax fails in a background thread on a relative path, and says nothing.
    return ocp.CheckpointManager(folder.resolve(), options=options)
