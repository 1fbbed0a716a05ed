"""Runs of a solver."""

from collections.abc import Sequence
from typing import Any

import jax

from jaxcon.primal_dual import PrimalDualState, Solver
from jaxcon.training._checkpoint import Checkpoint
from jaxcon.training._loop import first_best
from jaxcon.training._result import FitResult
from jaxcon.training._run import Callback, Run
from jaxcon.training._signals import Signals
from jaxcon.training._source import Source
from jaxcon.training._trouble import no_level
from jaxcon.training._watchers import ProgressBar, Skips, Spikes, Terms

# Of a run with spikes, whose scale is that of a chunk, and steps skipped in a row that
# end a run.
_CHUNK = 100


def fit(
    solver: Solver,
    start: Any,
    batches: Any = None,
    *,
    steps: int,
    key: jax.Array | None = None,
    tolerance: float = 1e-3,
    chunk: int | None = None,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Any = None,
    max_skipped: int | None = None,
    spike: float | None = None,
) -> FitResult:
    r"""Runs a solver on the device and keeps the best iterate.

    Args:
        solver: of `simultaneous`, `alternating` or `extragradient`.
        start: parameters, or a state: ``solver.init(params, batch)``, or an earlier
            result's.
        batches: one of three. An iterator of batches is read as the run goes. A function
            (key) -> batch, or (key, state) -> batch, is drawn from inside the compiled
            loop with a fresh key each step. Anything else is one batch, used whole at
            every step; None included.
        steps: number of steps, counted from that of the state.
        key: a typed key (`jax.random.key`), needed only if `batches` is a function.
        tolerance: largest violation that counts as feasible, in the constraints' units.
        chunk: steps per compiled call, and so between two reports to the host. Unless
            given, as many as take a tenth of a second, and 100 with `spike`.
        progress: True for a tqdm bar, False for none, None for one where tqdm is
            installed and the output is a terminal.
        callbacks: functions (state, info) called after each chunk with the state and the
            chunk's infos (arrays, one row per step); one that returns True ends the run.
        checkpoint: a folder, saved into about once a minute and at the end, or an
            `orbax.checkpoint.CheckpointManager` with your own policy. If it holds a
            checkpoint, the run resumes there; an iterator is first advanced past the
            batches already used, so the end is the same to the bit.
        max_skipped: number of the run's steps that may be skipped because loss,
            residuals, gradient or moves were not finite; at the next one it stops.
            Without it, it stops when as many as a chunk (100 unless given), or all, were
            skipped in a row.
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
        >>> problem = jc.Lagrangian(lambda p, _: jnp.sum(p**2), sums, penalty=1.0)
        >>> solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
        >>> result = jc.fit(solver, jnp.zeros(2), steps=500)
        >>> print(f"{result.state.params[0]:.4f} {result.best.feasible}")
        0.5000 True
    """
    if steps < 1 or (chunk is not None and chunk < 1):
        raise ValueError(f"steps and chunk must be at least 1, got {steps} and {chunk}")
    if max_skipped is not None and max_skipped < 0:
        raise ValueError(f"max_skipped must be at least 0, got {max_skipped}")
    if spike is not None and not spike > 1:
        raise ValueError(f"spike must be above 1, got {spike}")
    source = Source(batches, key)
    state = start
    if not isinstance(start, PrimalDualState):
        state = solver.init(start, source.example(start))
    if spike is not None and chunk is None:
        chunk = _CHUNK
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
        # Counted from where the run began, not from where it is resumed.
        allowed = None if max_skipped is None else int(state.skipped) + max_skipped
        run = Run(solver, source, tolerance, chunk, allowed, saved)
        terms = Terms(solver, source)
        with ProgressBar(progress, end - int(reached.step)) as bar:
            return run.to(
                end,
                (reached, best),
                Spikes(terms, spike, tolerance, level),
                Skips(terms, allowed, chunk or _CHUNK),
                bar,
                callbacks,
                signals,
            )
