"""The host's loop of a run: chunks of steps, watchers between them."""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import jax
import numpy as np

from jaxcon._checks import inside
from jaxcon.constraints import Constraints, same
from jaxcon.primal_dual import Info, PrimalDualState, Solver
from jaxcon.primal_dual._info import clips
from jaxcon.training._checkpoint import Checkpoint
from jaxcon.training._history import Recorder
from jaxcon.training._judging import Judge
from jaxcon.training._loop import compiled
from jaxcon.training._result import FitResult, Interrupted
from jaxcon.training._signals import Signals, Terminated
from jaxcon.training._source import Source
from jaxcon.training._watchers import (
    Chunk,
    MovingPoints,
    ProgressBar,
    Reached,
    Skips,
    Spikes,
    Stop,
    warn,
)

Callback = Callable[[PrimalDualState, Info], Any]

# Seconds between two reports of a run whose chunk is not given.
_REPORT = 0.1
# Most steps of a chunk that reads a stream, whose batches are stacked.
_STREAMED = 100


class Run:
    """One call of `fit`."""

    def __init__(
        self,
        solver: Solver,
        source: Source,
        tolerance: float,
        chunk: int | None,
        allowed: int | None,
        saved: Checkpoint,
        judge: Judge,
    ):
        self.solver, self.source, self.saved = solver, source, saved
        self.judge = judge
        self.tolerance, self.chunk, self.allowed = tolerance, chunk, allowed
        self.recorder = Recorder()
        self.program: Any = None
        self.seconds = self.compile_seconds = self.rate = 0.0
        self.taken = 0

    def to(
        self,
        end: int,
        reached: Reached,
        spikes: Spikes,
        skips: Skips,
        bar: ProgressBar,
        callbacks: Sequence[Callback],
        signals: Signals,
    ) -> FitResult:
        """Runs until step `end`; however it ends, what was reached is saved."""
        self.reached, begun = reached, int(reached[0].step)
        try:
            self._loop(end, spikes, skips, bar, callbacks, signals)
            signals.deferred = True
            if failed := self._save(spikes):
                warn(f"the run is done, but {failed}; the result is returned")
        except BaseException as error:
            signals.deferred = True
            if isinstance(error, Stop):
                self.reached = error.reached or self.reached
            step, where = int(self.reached[0].step), ""
            # A run that never began, e.g. of a loss that raises, leaves nothing behind.
            if self.saved.place and step > begun:
                where = f"; {self._save(spikes) or f'saved in {self.saved.place}'}"
            ended = with_result(error, self._result(spikes))
            if isinstance(ended, Interrupted):
                ended.args = (
                    f"{ended} after step {step} of {end}{where}; .result holds it",
                )
            elif step > begun:
                ended.add_note(
                    f"step {step} of {end} was reached{where}; .result holds it"
                )
            if ended is error:
                raise
            raise ended from ended.__cause__
        return self._result(spikes)

    def _loop(
        self,
        end: int,
        spikes: Spikes,
        skips: Skips,
        bar: ProgressBar,
        callbacks: Sequence[Callback],
        signals: Signals,
    ) -> None:
        """Takes chunks of steps until step `end`, or until something ends the run."""
        moving = MovingPoints(self.solver, self.source)
        while (left := end - int(self.reached[0].step)) > 0:
            if self.solver.finished(self.reached[0]):
                break
            self.reached = self.judge.at(self.reached)
            data, count = self._read(left)
            if count == 0:
                warn(f"batches ran out after step {end - left} of {end}")
                break
            moving.before(self.reached[0], data)
            chunk = self._advance(self.reached, data, count)
            self.reached = spikes.after(chunk)
            chunk.after = self.reached
            bar.after(chunk)
            # The last state is saved when the run is done, and no error then.
            if int(self.reached[0].step) < end:
                with signals.saving():
                    self.saved.save((*self.reached, spikes.level))
            for watcher in (moving, skips):
                watcher.after(chunk)
            state = self.reached[0]
            answers = []
            for i, call in enumerate(callbacks):
                with inside(f"callbacks[{i}]"):
                    answers.append(stops(call(state, chunk.info)))
            if any(answers):
                break
            signals.check()
        skips.finish()

    def _save(self, spikes: Spikes) -> str:
        """Saves what was reached; returns why it could not, or nothing."""
        failed = ""
        for _ in range(2):  # the first error may be that of an earlier save
            try:
                self.saved.save((*self.reached, spikes.level), force=True)
            except OSError as error:
                failed = str(error)
            else:
                return ""
        return failed

    def _read(self, left: int) -> tuple[Any, int]:
        """Reads the data of the next chunk, which ends where the judge has its turn."""
        if self.judge.given:
            left = min(left, self.judge.until_next(self.reached[0]))
        if self.chunk is not None:
            count = length = self.chunk
        else:
            length = _STREAMED if self.source.streamed else self._longest()
            # From one step on, so that the first report comes soon whatever a step takes.
            count = int(np.clip(_REPORT * self.rate, 1, 10 * max(self.taken, 0.1)))
        return self.source.read(min(count, left, length), length)

    def _longest(self) -> int:
        return 1 if self.program is None else self.program.layout[0].longest

    def _advance(self, reached: Reached, data: Any, count: int) -> Chunk:
        """Takes some steps on the device."""
        if self.program is None:
            length = self.chunk or (_STREAMED if self.source.streamed else None)
            self.program = compiled(
                self.solver.step,
                self.solver.finished,
                self.source.draw,
                self.source.streamed,
                length,
            )
            began = time.perf_counter()
            self.program.executable(*self._arguments(reached, data, count))
            self.compile_seconds = time.perf_counter() - began
        began = time.perf_counter()
        after, rows = self.program(*self._arguments(reached, data, count))
        # Fewer than asked for, if too many were skipped.
        self.taken = int(after[0].step) - int(reached[0].step)
        rows = [array[: self.taken] for array in jax.device_get(rows)]
        seconds = time.perf_counter() - began
        self.seconds += seconds
        self.rate = self.taken / seconds
        self.recorder.add(int(reached[0].step), rows)

        self.judge.add(data, self.taken)
        if self.judge.given:
            after = after[0], reached[1]

        def replay(rows: int) -> Reached:
            return self.program(*self._arguments(reached, data, rows))[0]

        return Chunk(reached, after, data, self.program.layout[0].unpack(rows), replay)

    def _arguments(self, reached: Reached, data: Any, count: int) -> tuple:
        allowed = np.iinfo(np.int32).max if self.allowed is None else self.allowed
        return (
            reached,
            data,
            self.source.key,
            np.int32(count),
            np.int32(allowed),
            np.float32(self.tolerance),
        )

    def _result(self, spikes: Spikes) -> FitResult:
        state = self.reached[0]
        layout = self.program.layout if self.program else []
        return FitResult(
            state,
            self.judge.last(self.reached),
            self.recorder.history(layout[0] if layout else None, _no_rows(state)),
            self.seconds,
            self.compile_seconds,
            self.tolerance,
            tuple(spikes.rollbacks),
            self.judge,
        )


def with_result(error: BaseException, result: FitResult) -> BaseException:
    """Returns the error that ends a run, with its result."""
    if isinstance(error, Stop):
        return error.error(str(error), result)
    if isinstance(error, KeyboardInterrupt):
        term = isinstance(error, Terminated)
        return Interrupted(
            f"stopped by {'SIGTERM' if term else 'Ctrl-C'}",
            result,
            signal.SIGTERM if term else signal.SIGINT,
        )
    with suppress(Exception):
        error.result = result  # pyright: ignore[reportAttributeAccessIssue]
    if getattr(error, "result", None) is not result:  # it lets nothing be set
        cause, error = error, RuntimeError(f"{type(error).__name__}: {error}")
        error.__cause__ = cause
        error.result = result  # pyright: ignore[reportAttributeAccessIssue]
    return error


def stops(answer: Any) -> bool:
    """Returns whether a callback returned True, of Python or of NumPy.

    Args:
        answer: what it returned.

    Returns:
        A Python boolean.
    """
    return isinstance(answer, (bool, np.bool_)) and bool(answer)


def _no_rows(state: PrimalDualState) -> Info:
    """Returns the infos of a run that had nothing left to do."""
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
