"""The host's side of a run."""

import importlib.util
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np

from jaxcon.constraints import Constraints, same
from jaxcon.primal_dual import Info, PrimalDualState, Solver
from jaxcon.primal_dual._parts import clips
from jaxcon.training._checkpoint import Checkpoint
from jaxcon.training._loop import compiled, first_best
from jaxcon.training._resampling import moving_points
from jaxcon.training._result import (
    DivergedError,
    FitResult,
    Interrupted,
    Iterate,
    NonFiniteError,
)
from jaxcon.training._signals import Signals, Terminated
from jaxcon.training._source import Source
from jaxcon.training._trouble import (
    culprit,
    first_spike,
    gradient_norms,
    next_level,
    no_level,
    not_finite,
)

Callback = Callable[[PrimalDualState, Info], Any]


def fit(
    solver: Solver,
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
    max_skipped: int | None = None,
    spike: float | None = None,
) -> FitResult:
    r"""Takes `steps` steps of `method`, compiled once, and keeps the best iterate.

    Args:
        solver: what `simultaneous`, `alternating` or `extragradient` returned.
        state: where to start: `solver.init(params, batch)`, or an earlier result's.
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
        max_skipped: how many of the run's steps may be skipped because loss, residuals,
            gradient or moves were not finite; at the next one it stops. Without it, it
            stops when all steps of a chunk were skipped.
        spike: how many times the largest \|loss\| of the chunk before, or the largest
            violation of a constraint there (`tolerance` at least), a step may reach: above
            it, the run goes back to where the chunk began and on with the next batches.
            The first chunk sets the scale. None to take every step.

    Returns:
        A `FitResult`.

    Raises:
        TypeError: `batches` is of no usable kind, or a function without a `key`.
        ValueError: `steps` or `chunk` is below 1, `max_skipped` below 0, `spike` not above
            1, or the checkpoint is of another shape.
        Interrupted: on Ctrl-C or SIGTERM, after saving, with what was reached in
            `.result`.
        NonFiniteError: too many steps were not finite, with `.result`.
        DivergedError: there was a spike and every step has the same batch, or there were
            three in as many chunks, with the last good state in `.result`.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> solver = jc.alternating(
        ...     lambda p, _: jnp.sum(p**2), sums,
        ...     primal=optax.sgd(0.1), dual=jc.dual_ascent(optax.sgd(0.1)), penalty=1.0,
        ... )
        >>> result = jc.fit(solver, solver.init(jnp.zeros(2)), steps=500)
        >>> print(f"{result.state.params[0]:.4f} {result.best.feasible}")
        0.5000 True
    """
    if steps < 1 or chunk < 1:
        raise ValueError(f"steps and chunk must be at least 1, got {steps} and {chunk}")
    if max_skipped is not None and max_skipped < 0:
        raise ValueError(f"max_skipped must be at least 0, got {max_skipped}")
    if spike is not None and not spike > 1:
        raise ValueError(f"spike must be above 1, got {spike}")
    source = Source(batches, key)
    end = int(state.step) + steps
    with Signals() as signals, Checkpoint(checkpoint) as saved:
        fresh = state, first_best(state), no_level(state.multipliers)
        reached, best, level = saved.restore(fresh)
        ahead = int(reached.step) - int(state.step)
        if ahead < 0:
            raise ValueError(
                f"the checkpoint is of step {int(reached.step)}, the state given of "
                f"step {int(state.step)}; start from solver.init to resume, or save "
                "elsewhere"
            )
        source.skip(ahead)
        run = _Run(solver, source, tolerance, chunk, callbacks, saved, signals)
        run.spike, run.level = spike, level
        if max_skipped is not None:
            # Counted from where the run began, not from where it is resumed.
            run.allowed = int(state.skipped) + max_skipped
        return run.to(end, (reached, best), progress)


# Chunks in a row with a spike, after which going back is no help.
SPIKES = 3


class _Run:
    """The host's side of one call of `fit`."""

    def __init__(
        self,
        solver: Solver,
        source: Source,
        tolerance: float,
        chunk: int,
        callbacks: Sequence[Callback],
        saved: Checkpoint,
        signals: Signals,
    ):
        self.source, self.chunk = source, chunk
        self.callbacks, self.saved, self.signals = callbacks, saved, signals
        self.solver, self.tolerance = solver, tolerance
        self.program = compiled(solver.step, source.draw, source.streamed, chunk)
        self.look = jax.jit(solver.step)
        self.allowed: int | None = None  # steps skipped
        self.spike: float | None = None
        self.level, self.spikes = no_level(Constraints()), 0
        self.rollbacks: list[int] = []
        self.infos: list[Info] = []
        self.seconds = self.compile_seconds = 0.0
        self.warned = False
        self.moving: set[tuple[str, str]] = set()
        self.told: set[tuple[str, str]] = set()

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
                    # A stream's first chunk may be of one batch, and show no change yet.
                    if len(self.infos) < 1 + self.source.streamed:
                        self.moving |= moving_points(
                            self.solver, reached[0], self.source, data
                        )
                    before = reached
                    after, info = self._chunk(before, data, count)
                    settled, error = self._settled(before, after, data, info)
                    self.infos.append(info)
                    reached = settled
                    if error is not None:
                        raise DivergedError(error, self._result(reached))
                    self._report(bar, info)
                    self.saved.save((*reached, self.level))
                    self._look_for_trouble(before, reached, data, info)
                    if any([_stops(call(reached[0], info)) for call in self.callbacks]):
                        break
                    self.signals.check()
        except KeyboardInterrupt as stop:
            term = isinstance(stop, Terminated)
            kept = f"saved in {place}; " if (place := self.saved.place) else ""
            raise Interrupted(
                f"stopped by {'SIGTERM' if term else 'Ctrl-C'} after step "
                f"{int(reached[0].step)} of {end}; {kept}.result holds it",
                self._result(reached),
                signal.SIGTERM if term else signal.SIGINT,
            ) from None
        finally:
            self.signals.deaf = True
            self.saved.save((*reached, self.level), force=True)
        return self._result(reached)

    def _advance(self, reached: Any, data: Any, count: int) -> Any:
        allowed = np.iinfo(np.int32).max if self.allowed is None else self.allowed
        return self.program(
            reached, data, self.source.key, count, int(allowed), self.tolerance
        )

    def _chunk(self, reached: Any, data: Any, count: int) -> tuple[Any, Info]:
        if not self.compile_seconds:
            # A call of zero steps compiles and does nothing else, so that compilation
            # is timed apart from running.
            began = time.perf_counter()
            jax.block_until_ready(self._advance(reached, data, 0))
            self.compile_seconds = time.perf_counter() - began
        began = time.perf_counter()
        after, info = self._advance(reached, data, count)
        # Fewer than asked for, if too many were skipped.
        taken = int(after[0].step) - int(reached[0].step)
        info = jax.tree.map(lambda rows: rows[:taken], jax.device_get(info))
        self.seconds += time.perf_counter() - began
        return after, info

    def _result(self, reached: tuple[PrimalDualState, Iterate]) -> FitResult:
        state, best = reached
        history = _no_history(state)
        if self.infos:
            history = jax.tree.map(lambda *rows: np.concatenate(rows), *self.infos)
        return FitResult(
            state,
            best,
            history,
            self.seconds,
            self.compile_seconds,
            self.tolerance,
            tuple(self.rollbacks),
        )

    def _report(self, bar: Any, info: Info) -> None:
        if bar is not None:
            bar.set_postfix_str(
                f"loss {info.loss[-1]:.4g}, worst violation {info.max_violation[-1]:.2e}",
                refresh=False,
            )
            bar.update(len(info.loss))

    def _settled(
        self, before: Any, after: Any, data: Any, info: Info
    ) -> tuple[Any, str | None]:
        """Where a chunk leads to: back to its beginning, if there was a spike in it.

        And what to say if that is no help.
        """
        if self.spike is None:
            return after, None
        # What the last move did shows one step later: a look that moves nothing.
        batch = self.source.at(data, len(info.finite) - 1, after[0].step)
        _, last = jax.device_get(self.look(after[0], batch))
        seen = jax.tree.map(lambda rows, row: np.stack([*rows, row]), info, last)
        found = first_spike(seen, self.level, self.spike, self.tolerance)
        if found is None:
            self.spikes = 0
            self.level = next_level(self.level, info)
            return after, None
        row, words = found
        self.spikes += 1
        step = int(before[0].step) + row
        message = f"step {step}: {words}{self._blame(before, data, info, row)}"
        # What was good before the spike may be the best there was.
        back = before[0]._replace(step=after[0].step, skipped=after[0].skipped)
        if self.source.fixed:
            return (before[0], after[1]), (
                f"{message}; all steps have the same batch, so that going back would "
                "lead here again: lower the rates, or clip"
            )
        if self.spikes == SPIKES:
            return (back, after[1]), (
                f"{message}; so did a step in each of the {SPIKES} last chunks"
            )
        self.rollbacks.append(step)
        _warn(f"{message}; the run went back to step {int(before[0].step)}", 4)
        return (back, after[1]), None

    def _norms(self, before: Any, data: Any, row: int) -> dict[str, float]:
        """The norms of the terms' gradients at one step of a chunk, taken once more."""
        (state, _), _ = self._advance(before, data, row)
        return gradient_norms(self.solver, state, self.source.at(data, row, state.step))

    def _blame(self, before: Any, data: Any, info: Info, row: int) -> str:
        """Whose gradients were the largest at a row, and at the one that led to it."""
        said, taken = "", len(info.finite)
        for where, at in (("in that step", row), ("in the one before", row - 1)):
            if 0 <= at < taken:
                norms = self._norms(before, data, at)
                if np.isfinite(list(norms.values())).all():
                    said += f"; {where}, {culprit(norms)}"
        return said

    def _look_for_trouble(
        self, before: Any, reached: Any, data: Any, info: Info
    ) -> None:
        for kind, name in sorted(self.moving - self.told):
            # Multipliers that stay zero, as under a fixed penalty, price nothing.
            if np.any(getattr(info.multiplier, kind)[name] > 0):
                self.told.add((kind, name))
                size = getattr(reached[0].multipliers, kind)[name].size
                _warn(
                    f"{kind} constraint {name!r} keeps one multiplier for each of its "
                    f"{size} points, but other batches bring other points, which they "
                    "do not belong to; give it one number, e.g. its mean, or "
                    "jaxcon.multipliers.network, or indexed if the points are "
                    "numbered samples",
                    4,
                )
        if info.finite.all():
            return
        row = int(np.argmin(info.finite))
        if self.allowed is None:
            fatal = not info.finite.any()
            count = f"so were all of the {len(info.finite)} steps from there"
        else:
            fatal = int(reached[0].skipped) > self.allowed
            count = "more steps were skipped than max_skipped allows"
        if self.warned and not fatal:
            return
        first = int(before[0].step) + row
        message = f"step {first}: {not_finite(info, row)}"
        if not_finite(info, row) is None:
            norms = self._norms(before, data, row)
            what = culprit(norms)
            if np.isfinite(list(norms.values())).all():
                what = (
                    "a move, a penalty, or the point looked ahead to, was not finite; "
                    f"{what}"
                )
            message = f"step {first}: {what}"
        if fatal:
            raise NonFiniteError(
                f"{message}, and {count}; nothing moved in them"
                f"{self._blame(before, data, info, row)}",
                self._result(reached),
            )
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
    each = same(rows, state.multipliers)
    return Info(
        loss=rows,
        max_violation=rows,
        violation=each,
        multiplier=each,
        penalty=jax.tree.map(lambda _: rows, state.penalty or Constraints()),
        capped=jax.tree.map(lambda _: rows.astype(bool), each),
        clipped={
            name: rows.astype(bool)
            for name in clips(state.primal, state.terms, state.dual)
        },
        finite=rows.astype(bool),
        aux=None,
    )


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
