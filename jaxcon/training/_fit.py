"""Runs of a solver."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax

from jaxcon.certify import Target
from jaxcon.primal_dual import PrimalDualState, Solver
from jaxcon.training._arguments import (
    check_callbacks,
    check_options,
    check_place,
    check_solver,
    check_start,
)
from jaxcon.training._certified import certified
from jaxcon.training._checkpoint import Checkpoint
from jaxcon.training._fingerprint import fingerprint
from jaxcon.training._judging import Judge
from jaxcon.training._loop import first_best
from jaxcon.training._phases import in_phases
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
    solver: Solver | list[Solver],
    start: Any,
    batches: Any = None,
    *,
    steps: Any,
    key: jax.Array | None = None,
    tolerance: float = 1e-3,
    chunk: int | None = None,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Any = None,
    max_skipped: int | None = None,
    spike: float | None = None,
    judge: Any = None,
    certify: Target | None = None,
) -> FitResult:
    r"""Runs a solver on the device and keeps the best iterate.

    Args:
        solver: of `simultaneous`, `alternating` or `extragradient`. Or a list of them,
            the phases of the run: each begins where the one before ended, with its
            multipliers, moved points, extra state and, on the same `Lagrangian`,
            penalties; optimizers begin anew. Their constraints have the same names, and
            their rules of points the same keys.
        start: parameters, or a state: ``solver.init(params, batch)``, or an earlier
            result's.
        batches: one of three. An iterator of batches is read as the run goes. A function
            (key) -> batch, or (key, state) -> batch, is drawn from inside the compiled
            loop with a fresh key each step. Anything else is one batch, used whole at
            every step; None included.
        steps: number of steps, counted from that of the state; of phases a list, one for
            each. A solver that is done before hands over early.
        key: a typed key (`jax.random.key`), needed only if `batches` is a function.
        tolerance: largest violation that counts as feasible, in the constraints' units.
        chunk: steps per compiled call, and so between two reports to the host. Unless
            given, as many as take a tenth of a second, and 100 with `spike`.
        progress: True for a tqdm bar, False for none, None for one where tqdm is
            installed and the output is a terminal.
        callbacks: functions (state, info) called after each chunk with the state and the
            chunk's infos (arrays, one row per step); one that returns True ends the run.
        checkpoint: a folder (phases have one each in it), saved into about once a minute
            and at the end, or an `orbax.checkpoint.CheckpointManager` with your own
            policy. If it holds a checkpoint, the run resumes there; an iterator is first
            advanced past the batches already used, so the end is the same to the bit.
            Only `steps`, `chunk`, `spike`, `max_skipped` and `callbacks` may differ then,
            and the machine. Compared are the order of steps, the constraints' names, the
            start, the batch (of an iterator the first one), the key, and of penalty,
            optimizers, loss and constraints the numbers and arrays in their closures; not
            what else functions compute, or what an iterator yields later.
        max_skipped: number of the run's steps that may be skipped because loss,
            residuals, gradient or moves were not finite; at the next one it stops.
            Without it, it stops when as many as a chunk (100 unless given), or all, were
            skipped in a row.
        spike: how many times the largest \|loss\| of the chunk before, or the largest
            violation of a constraint there (`tolerance` at least), a step may reach: above
            it, the run goes back to where the chunk began and on with the next batches.
            The first chunk sets the scale. None to take every step.
        judge: data that the best iterate is selected on. None: each iterate by its own
            step's batch, so that where batches differ ``best.feasible`` rests on that one
            batch alone. A batch: loss and violations on it. "recent batches": the loss's
            mean over the 32 latest batches of a stream, or the next 32 of a function, and
            violations two standard errors above their estimates; a residual of shape ()
            is averaged with its sign, of one of shape (n,) the largest violation is.
            Iterates of every 100th step and the last are judged, the others are not.
        certify: box on which inequalities of `jaxcon.shapes` are to be proved. They are
            then also checked at points of the box. A proof that does not succeed is
            followed by another `steps` steps, from the best iterate, with optimizers begun
            anew: points where the proof failed replace others, and margins are raised,
            until all is proved or the rounds are used up. The state and the violations
            are of the problem with these points and margins. Of a state that is given,
            parameters and multipliers are kept.

    Returns:
        A `FitResult`.

    Raises:
        TypeError: an argument is of another kind, e.g. `batches` a function without a
            `key`.
        ValueError: a number is outside its range, `batches` is a list of batches, the
            state is not one of this solver, or the checkpoint is damaged or of another
            run.
        Interrupted: on Ctrl-C or SIGTERM, after saving, with what was reached in
            `.result`.
        NonFiniteError: too many steps were not finite, with `.result`.
        DivergedError: there was a spike and every step has the same batch, or there were
            three in as many chunks, with the last good state in `.result`.
        OSError: a checkpoint could not be saved before the end, with `.result`. At the
            end of a run it is a warning.
        Exception: whatever else ends a run, e.g. of a callback or a loader, goes on as it
            is, with `.result`, after saving.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> problem = jc.Lagrangian(lambda p, _: jnp.sum(p**2), sums, penalty=1.0)
        >>> solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
        >>> result = jc.fit(solver, jnp.zeros(2), steps=500)
        >>> print(f"{result.state.params[0]:.4f} {result.best.feasible}")
        0.5000 True

        Adam first, then Gauss-Newton, on a loss whose residuals are known:

        >>> far = jc.MeanSquares({"far": lambda p, _: jnp.exp(p) - 2.0})
        >>> problem = jc.Lagrangian(far, sums, penalty=1.0)
        >>> dual = jc.method_of_multipliers()
        >>> adam = jc.alternating(problem, optax.adam(0.01), jc.every(dual, 50))
        >>> newton = jc.alternating(problem, jc.gauss_newton(problem), dual)
        >>> result = jc.fit([adam, newton], jnp.array([3.0, 0.0]), steps=[200, 20])
        >>> print(result.state.params.round(4), int(result.state.step))
        [0.5 0.5] 220
    """
    if isinstance(solver, (list, tuple)):
        check_start(start)
        callbacks = check_callbacks(callbacks)
        if certify is not None:
            raise ValueError(
                "fit: certify goes with one solver; run the phases first, then "
                "fit(solver, result.state, certify=...)"
            )
        phase = partial(
            fit,
            key=key,
            tolerance=tolerance,
            chunk=chunk,
            progress=progress,
            spike=spike,
            judge=judge,
        )
        return in_phases(
            phase,
            solver,
            start,
            batches,
            key,
            steps,
            max_skipped,
            callbacks,
            checkpoint,
        )
    check_solver(solver)
    check_start(start)
    if certify is not None:
        once = partial(
            fit,
            steps=steps,
            key=key,
            tolerance=tolerance,
            chunk=chunk,
            progress=progress,
            callbacks=callbacks,
            max_skipped=max_skipped,
            spike=spike,
            judge=judge,
        )
        return certified(once, solver, start, batches, key, steps, certify, checkpoint)
    begun = int(start.step) if isinstance(start, PrimalDualState) else 0
    check_options(begun, steps, tolerance, chunk, progress, max_skipped, spike)
    callbacks = check_callbacks(callbacks)
    check_place(checkpoint)
    source = Source(batches, key)
    state = start
    if not isinstance(start, PrimalDualState):
        state = solver.init(start, source.example(start))
    judging = Judge(solver, source, judge, state, tolerance)
    if spike is not None and chunk is None:
        chunk = _CHUNK
    if chunk is not None:
        # Of a chunk the reports are kept, and a stream's batches: no more than it needs.
        chunk = int(min(chunk, max(steps, _CHUNK)))
    end = begun + int(steps)
    with Signals() as signals, Checkpoint(checkpoint) as saved:
        fresh = state, first_best(state), no_level(state.multipliers)
        run = fingerprint(solver, state, source, tolerance) if saved.place else None
        if run is not None:
            run["data"] |= judging.fingerprint()
        reached, best, level = saved.restore(fresh, run)
        ahead = int(reached.step) - begun
        if ahead < 0:
            raise ValueError(
                f"the checkpoint is of step {int(reached.step)}, the state given of "
                f"step {begun}; start from solver.init to resume, or save "
                "elsewhere"
            )
        judging.recall(ahead)
        # Counted from where the run began, not from where it is resumed.
        allowed = None if max_skipped is None else int(state.skipped) + max_skipped
        run = Run(solver, source, tolerance, chunk, allowed, saved, judging)
        terms = Terms(solver, source)
        with ProgressBar(progress, end - int(reached.step), solver) as bar:
            return run.to(
                end,
                (reached, best),
                Spikes(terms, spike, tolerance, level),
                Skips(terms, allowed, chunk or _CHUNK),
                bar,
                callbacks,
                signals,
            )
