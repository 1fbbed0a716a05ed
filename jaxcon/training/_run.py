"""The host's loop of a run: chunks of steps, watchers between them."""

import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcon.constraints import Constraints, same
from jaxcon.primal_dual import Info, PrimalDualState, Solver
from jaxcon.primal_dual._info import clips
from jaxcon.training._checkpoint import Checkpoint
from jaxcon.training._history import Recorder
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
    ):
        self.solver, self.source, self.saved = solver, source, saved
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
        """Runs until step `end`, saving what was reached however it ends."""
        moving = MovingPoints(self.solver, self.source)
        try:
            while (left := end - int(reached[0].step)) > 0:
                data, count = self._read(left)
                if count == 0:
                    warn(f"batches ran out after step {end - left} of {end}")
                    break
                moving.before(reached[0], data)
                chunk = self._advance(reached, data, count)
                reached = spikes.after(chunk)
                chunk.after = reached
                bar.after(chunk)
                self.saved.save((*reached, spikes.level))
                for watcher in (moving, skips):
                    watcher.after(chunk)
                if any([_stops(call(reached[0], chunk.info)) for call in callbacks]):
                    break
                signals.check()
            skips.finish()
        except Stop as stop:
            reached = stop.reached or reached
            raise stop.error(str(stop), self._result(reached, spikes)) from None
        except KeyboardInterrupt as stop:
            term = isinstance(stop, Terminated)
            kept = f"saved in {place}; " if (place := self.saved.place) else ""
            raise Interrupted(
                f"stopped by {'SIGTERM' if term else 'Ctrl-C'} after step "
                f"{int(reached[0].step)} of {end}; {kept}.result holds it",
                self._result(reached, spikes),
                signal.SIGTERM if term else signal.SIGINT,
            ) from None
        finally:
            signals.deferred = True
            self.saved.save((*reached, spikes.level), force=True)
        return self._result(reached, spikes)

    def _read(self, left: int) -> tuple[Any, int]:
        """Reads the data of the next chunk."""
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
                self.solver.step, self.source.draw, self.source.streamed, length
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

    def _result(self, reached: Reached, spikes: Spikes) -> FitResult:
        state, best = reached
        return FitResult(
            state,
            best,
            self.recorder.history(
                self.program and self.program.layout[0], _no_rows(state)
            ),
            self.seconds,
            self.compile_seconds,
            self.tolerance,
            tuple(spikes.rollbacks),
        )


def _stops(answer: Any) -> bool:
    """Returns whether a callback returned True, of Python or of NumPy."""
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
