"""Watchers of a run: each reads a chunk of steps when it is done.

A watcher has one method, ``after(chunk)``. It warns, moves a bar, says where the run goes
on, or raises `Stop`.
"""

import importlib.util
import warnings
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcon.constraints import Constraints
from jaxcon.primal_dual import Info, PrimalDualState, Solver
from jaxcon.training._resampling import moving_points
from jaxcon.training._result import DivergedError, Iterate, NonFiniteError
from jaxcon.training._source import Source
from jaxcon.training._trouble import (
    culprit,
    first_spike,
    gradient_norms,
    next_level,
    no_level,
    not_finite,
)

Reached = tuple[PrimalDualState, Iterate]

# Chunks in a row with a spike, after which a rollback is no help.
SPIKES = 3


@dataclass
class Chunk:
    """Steps between two reports from the device.

    Attributes:
        before: state and best iterate at the start.
        after: those at the end.
        data: the batches.
        info: rows of reports, NumPy arrays.
        replay: rows -> state and best iterate after that many of the steps.
    """

    before: Reached
    after: Reached
    data: Any
    info: Info
    replay: Any


class Stop(Exception):
    """End of a run: the error to raise, and where the run stands."""

    def __init__(self, error: type, message: str, reached: Reached | None = None):
        super().__init__(message)
        self.error = error
        self.reached = reached


class Terms:
    """Gradients of single terms at one step of a chunk, computed once more."""

    def __init__(self, solver: Solver, source: Source):
        self.solver, self.source = solver, source

    def norms(self, chunk: Chunk, row: int) -> dict[str, float]:
        """Computes the norms of the terms' gradients at one row."""
        state, _ = chunk.replay(row)
        batch = self.source.at(chunk.data, row, state)
        return gradient_norms(self.solver, state, batch)

    def blame(self, chunk: Chunk, row: int) -> str:
        """Returns clauses of the largest gradients at a row and the one before it."""
        text, taken = "", len(chunk.info.finite)
        for where, at in (("in that step", row), ("in the one before", row - 1)):
            if 0 <= at < taken:
                norms = self.norms(chunk, at)
                if np.isfinite(list(norms.values())).all():
                    text += f"; {where}, {culprit(norms)}"
        return text


class ProgressBar:
    """Progress bar; none where tqdm is missing or the output is no terminal."""

    def __init__(self, progress: bool | None, total: int, solver: Solver):
        self._context = _tqdm(progress, total)
        self._solver = solver
        self._bar: Any = None

    def __enter__(self) -> "ProgressBar":
        self._bar = self._context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        # A terminal that is gone shall not end a run that is done.
        with suppress(OSError, ValueError):
            self._context.__exit__(*error)

    def after(self, chunk: Chunk) -> None:
        """Moves the bar."""
        if self._bar is not None and len(chunk.info.loss):
            loss, worst = chunk.info.loss[-1], chunk.info.max_violation[-1]
            words = [f"loss {loss:.4g}", f"worst violation {worst:.2e}"]
            words += self._solver.progress(chunk.after[0])
            self._bar.set_postfix_str(", ".join(words), refresh=False)
            self._bar.update(len(chunk.info.loss))


class MovingPoints:
    """Watcher of multipliers whose points are drawn anew."""

    def __init__(self, solver: Solver, source: Source):
        self._solver, self._source = solver, source
        # A stream's first chunk may be of one batch, and show no change yet.
        self._looks = (1 + source.streamed) * solver.per_point
        self._moving: set[tuple[str, str]] = set()
        self._warned: set[tuple[str, str]] = set()

    def before(self, state: PrimalDualState, data: Any) -> None:
        """Reads the batches of the first chunks."""
        if self._looks:
            self._looks -= 1
            self._moving |= moving_points(self._solver, state, self._source, data)

    def after(self, chunk: Chunk) -> None:
        """Warns of multipliers that do not belong to their points."""
        for kind, name in sorted(self._moving - self._warned):
            # Multipliers that stay zero, as under a fixed penalty, weight nothing.
            if np.any(getattr(chunk.info.multiplier, kind)[name] > 0):
                self._warned.add((kind, name))
                size = getattr(chunk.after[0].multipliers, kind)[name].size
                warn(
                    f"{kind} constraint {name!r} keeps one multiplier for each of its "
                    f"{size} points, but other batches bring other points, which they "
                    "do not belong to; give it one number, e.g. its mean, or "
                    "jaxcon.multipliers.network, or indexed if the points are "
                    "numbered samples"
                )


class Skips:
    """Watcher of steps that were skipped because something was not finite."""

    def __init__(self, terms: Terms, allowed: int | None, patience: int):
        self._terms, self._allowed, self._patience = terms, allowed, patience
        self._taken = self._in_a_row = 0
        self._warned = False
        self._latest: Any = None
        # The first skipped step, until another is finite: its chunk, row and message.
        self._open: tuple[Chunk, int, str] | None = None

    def after(self, chunk: Chunk) -> None:
        """Warns of the first skipped step; stops the run after too many."""
        finite = chunk.info.finite
        good = np.flatnonzero(finite)
        self._latest = chunk
        self._taken += len(finite)
        self._in_a_row += len(finite)
        if good.size:
            self._in_a_row = len(finite) - 1 - int(good[-1])
            self._close(int(good[-1]), chunk)
        if finite.all():
            return
        row = int(np.argmin(finite))
        if self._allowed is None:
            fatal = self._in_a_row >= self._patience
            if fatal and good.size:  # from the last good step on, all were skipped
                row, self._open = int(good[-1]) + 1, None
        else:
            fatal = int(chunk.after[0].skipped) > self._allowed
        if self._open is None and not self._warned:
            self._open = chunk, row, self._message(chunk, row)
        elif self._open is None and self._in_a_row:
            # Named only if they end the run.
            self._open = chunk, int(good[-1]) + 1 if good.size else row, ""
        if fatal:
            self._stop()
        if good.size:
            self._close(int(good[-1]), chunk)

    def finish(self) -> None:
        """Stops a run of which every step was skipped; else warns of what is open."""
        if self._open is not None and self._allowed is None:
            if self._in_a_row == self._taken:
                self._stop()
        self._warn()

    def _close(self, last: int, chunk: Chunk) -> None:
        """Warns of a skipped step that others went on from."""
        if self._open is not None and (
            self._open[0] is not chunk or last > self._open[1]
        ):
            self._warn()

    def _warn(self) -> None:
        if self._open is not None and not self._warned:
            warn(
                f"{self._open[2]}; the step was skipped (skipped steps are counted in "
                "state.skipped and marked in history.finite)"
            )
            self._warned = True
        self._open = None

    def _stop(self) -> None:
        assert self._open is not None
        chunk, row, message = self._open
        message = message or self._message(chunk, row)
        first = int(chunk.before[0].step) + row
        steps = int(self._latest.after[0].step) - first
        count = f"so were all of the {steps} steps from there"
        if self._allowed is not None:
            count = "more steps were skipped than max_skipped allows"
        raise Stop(
            NonFiniteError,
            f"{message}, and {count}; nothing moved in them"
            f"{self._terms.blame(chunk, row)}",
        )

    def _message(self, chunk: Chunk, row: int) -> str:
        text = not_finite(chunk.info, row)
        if text is None:
            norms = self._terms.norms(chunk, row)
            text = culprit(norms)
            if np.isfinite(list(norms.values())).all():
                text = (
                    "a move, a penalty, a gradient's square, or the point looked ahead "
                    f"to, was not finite; {text}"
                )
        return f"step {int(chunk.before[0].step) + row}: {text}"


class Spikes:
    """Watcher of spikes, which sends the run back to where the chunk began.

    Attributes:
        level: scale of the last good chunk.
        rollbacks: the steps at which the run went back.
    """

    def __init__(
        self, terms: Terms, factor: float | None, tolerance: float, level: Any
    ):
        self._terms, self._factor, self._tolerance = terms, factor, tolerance
        self._look = jax.jit(terms.solver.step)
        self._in_a_row = 0
        self.level = level if level is not None else no_level(Constraints())
        self.rollbacks: list[int] = []

    def after(self, chunk: Chunk) -> Reached:
        """Returns where the run goes on: back at the start after a spike."""
        if self._factor is None:
            return chunk.after
        source = self._terms.source
        before, after, info = chunk.before, chunk.after, chunk.info
        # The effect of the last move shows one step later: evaluated, not taken.
        batch = source.at(chunk.data, len(info.finite) - 1, after[0])
        _, last = jax.device_get(self._look(after[0], batch))
        seen = jax.tree.map(lambda rows, row: np.stack([*rows, row]), info, last)
        found = first_spike(seen, self.level, self._factor, self._tolerance)
        if found is None:
            self._in_a_row = 0
            self.level = next_level(self.level, info)
            return after
        row, words = found
        self._in_a_row += 1
        step = int(before[0].step) + row
        message = f"step {step}: {words}{self._terms.blame(chunk, row)}"
        # What was good before the spike may be the best there was.
        back = before[0]._replace(step=after[0].step, skipped=after[0].skipped)
        if source.fixed:
            raise Stop(
                DivergedError,
                f"{message}; all steps have the same batch, so that going back would "
                "lead here again: lower the rates, or clip",
                (before[0], after[1]),
            )
        if self._in_a_row == SPIKES:
            raise Stop(
                DivergedError,
                f"{message}; so did a step in each of the {SPIKES} last chunks",
                (back, after[1]),
            )
        self.rollbacks.append(step)
        warn(f"{message}; the run went back to step {int(before[0].step)}")
        return back, after[1]


def warn(message: str) -> None:
    """Warns at the line outside jaxcon's training that called `fit`."""
    here = str(Path(__file__).parent)
    warnings.warn(message, RuntimeWarning, stacklevel=_frames(here))


def _frames(folder: str) -> int:
    import sys

    frame, count = sys._getframe(2), 2
    while frame is not None and frame.f_code.co_filename.startswith(folder):
        frame, count = frame.f_back, count + 1
    return count


def _tqdm(progress: bool | None, total: int) -> Any:
    """Returns a tqdm bar, or a context that gives None."""
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
