"""The host's side of a run."""

import importlib.util
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxcon.constraints import Constraints, named
from jaxcon.primal_dual import Info, Method, PrimalDualState
from jaxcon.training._checkpoint import Checkpoint
from jaxcon.training._loop import compiled, first_best
from jaxcon.training._resampling import moving_points
from jaxcon.training._result import FitResult, Interrupted, Iterate, NonFiniteError
from jaxcon.training._source import Source

Callback = Callable[[PrimalDualState, Info], Any]


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
        >>> import jax.numpy as jnp, optax, jaxcon as jc
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
    source = Source(batches, key)
    end = int(state.step) + steps
    with Checkpoint(checkpoint) as saved:
        reached = saved.restore((state, first_best(state)))
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
        source: Source,
        tolerance: float,
        chunk: int,
        callbacks: Sequence[Callback],
        saved: Checkpoint,
    ):
        self.source, self.chunk = source, chunk
        self.callbacks, self.saved = callbacks, saved
        self.method, self.tolerance = method, tolerance
        self.advance = partial(
            compiled(method.step, source.draw, source.streamed, chunk),
            tolerance=tolerance,
        )
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
                            self.method, reached[0], self.source, data
                        )
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
        return FitResult(
            state, best, history, self.seconds, self.compile_seconds, self.tolerance
        )

    def _report(self, bar: Any, info: Info) -> None:
        if bar is not None:
            bar.set_postfix_str(
                f"loss {info.loss[-1]:.4g}, worst violation {info.max_violation[-1]:.2e}",
                refresh=False,
            )
            bar.update(len(info.loss))

    def _look_for_trouble(self, reached: Any, info: Info) -> None:
        for kind, name in sorted(self.moving - self.told):
            # Multipliers that stay zero, as under a fixed penalty, price nothing.
            if np.any(getattr(info.multiplier, kind)[name] > 0):
                self.told.add((kind, name))
                size = getattr(reached[0].multipliers, kind)[name].size
                _warn(
                    f"{kind} constraint {name!r} keeps one multiplier for each of its "
                    f"{size} points, but other batches bring other points, which they "
                    "do not belong to; give it one number, e.g. its mean, or "
                    "jaxcon.multipliers.functional, or indexed if the points are "
                    "numbered samples",
                    4,
                )
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
    each = Constraints(*({name: rows for name in kind} for kind in state.multipliers))
    return Info(
        loss=rows,
        max_violation=rows,
        violation=each,
        multiplier=each,
        penalty=jax.tree.map(lambda _: rows, state.penalty or Constraints()),
        capped=jax.tree.map(lambda _: rows.astype(bool), each),
        clipped={},
        finite=rows.astype(bool),
        aux=None,
    )


def _not_finite(info: Info, row: int) -> str:
    """Names the first thing that was not finite in one row of infos."""
    if not np.isfinite(info.loss[row]):
        return f"the loss was {info.loss[row]}"
    for kind, name, worst in named(info.violation):
        if not np.isfinite(worst[row]):
            return f"{kind} constraint {name!r} was not finite"
    for kind, name, largest in named(info.multiplier):
        if not np.isfinite(largest[row]):
            return (
                f"the multipliers of {kind} constraint {name!r} were not finite (is an "
                "index outside its table?)"
            )
    return "the gradient, a penalty, or the point looked ahead to, was not finite"


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
