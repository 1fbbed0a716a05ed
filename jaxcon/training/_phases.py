"""Phases: several solvers on one problem, one after another."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import jax

from jaxcon._checks import described
from jaxcon.constraints import named
from jaxcon.primal_dual import PrimalDualState, Solver
from jaxcon.primal_dual._averaged import StochasticLagrangian
from jaxcon.training._arguments import check_count, check_solver
from jaxcon.training._result import FitResult, Iterate
from jaxcon.training._run import Callback, stops
from jaxcon.training._sequence import carrying, handed_over, joined
from jaxcon.training._source import Source

Fit = Callable[..., FitResult]


def in_phases(
    fit: Fit,
    solvers: Sequence[Solver],
    start: Any,
    batches: Any,
    key: jax.Array | None,
    steps: Any,
    max_skipped: int | None,
    callbacks: Sequence[Callback],
    place: Any,
) -> FitResult:
    """Runs solvers one after another, each from where the one before ended.

    Args:
        fit: (solver, start, batches, steps=, max_skipped=, callbacks=, checkpoint=) ->
            result of one phase.
        solvers: of the phases.
        start: parameters, or a state of the first solver.
        batches: as of `fit`.
        key: as of `fit`.
        steps: of each phase.
        max_skipped: steps that may be skipped in all phases together, or None.
        callbacks: as of `fit`.
        place: folder of checkpoints, or None.

    Returns:
        The last phase's result, with the history of all and the best iterate of any.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: there are not as many numbers of steps as solvers, or the solvers'
            constraints or multipliers differ.
    """
    _check(solvers, steps, place)
    state = start if isinstance(start, PrimalDualState) else None
    params = start if state is None else state.params
    example = Source(batches, key).example(params)
    if isinstance(batches, Iterator):
        batches = chain([example], batches)
    _check_alike(solvers, params, example, None if state is None else state.extra)
    skipped = 0 if state is None else int(state.skipped)
    answers: list[bool] = []
    watching = [_noting(call, answers) for call in callbacks]

    def together(results: list[FitResult]) -> FitResult:
        judge = results[-1].judge.since(params)
        return joined(results)._replace(best=_best(results), judge=judge)

    earlier: list[FitResult] = []
    for number, (solver, count) in enumerate(zip(solvers, steps)):
        with _saying(number, len(solvers)), carrying(earlier, together):
            allowed = max_skipped
            if number:
                start = _begun(solver, solvers[number - 1], earlier[-1].state, example)
                if max_skipped is not None:
                    allowed = max_skipped - (int(start.skipped) - skipped)
            result = fit(
                solver,
                start,
                batches,
                steps=count,
                max_skipped=allowed,
                callbacks=watching,
                checkpoint=None if place is None else Path(place) / f"phase-{number}",
            )
        earlier.append(result)
        begun = int(start.step) if isinstance(start, PrimalDualState) else 0
        short = int(result.state.step) < begun + count
        # A callback ended the run, or the batches did.
        if any(answers) or (short and not solver.finished(result.state)):
            break
    return together(earlier)


def _check(solvers: Sequence[Solver], steps: Any, place: Any) -> None:
    """Refuses solvers and numbers of steps that do not belong together."""
    if not solvers:
        raise ValueError("fit: solver is an empty list; pass a solver for each phase")
    for solver in solvers:
        check_solver(solver)
    if not isinstance(steps, (list, tuple)):
        raise TypeError(
            f"steps must be a list of {len(solvers)} numbers, one for each solver, got "
            f"{described(steps)}"
        )
    if len(steps) != len(solvers):
        raise ValueError(
            f"steps must be {len(solvers)} numbers, one for each solver, got {len(steps)}"
        )
    for number, count in enumerate(steps):
        check_count(f"steps[{number}]", count)
    first = sorted(solvers[0].points)
    for number, solver in enumerate(solvers):
        if sorted(solver.points) != first:
            raise ValueError(
                f"fit: solver[{number}] moves points {sorted(solver.points)}, solver[0] "
                f"{first}; phases move points of the same keys"
            )
        if number and isinstance(solver, StochasticLagrangian):
            raise ValueError(
                f"fit: solver[{number}], the {solver.name}, computes its multipliers and "
                "takes none over: let it be the first"
            )
    if place is not None and not isinstance(place, (str, os.PathLike)):
        raise TypeError(
            "fit: each phase is saved in a folder of its own; pass checkpoint= as a path, "
            f"not {described(place)}"
        )


def _check_alike(
    solvers: Sequence[Solver], params: Any, example: Any, extra: Any
) -> None:
    """Refuses solvers whose constraints or multipliers differ."""

    def multipliers(solver: Solver) -> dict[tuple[str, str], Any]:
        shapes: Any = jax.eval_shape(lambda: solver.init(params, example, extra))
        return {
            (kind, name): jax.tree.map(lambda leaf: leaf.shape, entry)
            for kind, name, entry in named(shapes.multipliers)
        }

    first, *others = map(multipliers, solvers)
    for number, other in enumerate(others, 1):
        for kind, name in [*first, *other]:
            has, needs = other.get((kind, name)), first.get((kind, name))
            if has == needs:
                continue
            what = f"{kind} constraint {name!r}"
            if has is None or needs is None:
                with_it, without = (number, 0) if needs is None else (0, number)
                raise ValueError(
                    f"fit: solver[{with_it}] has {what}, solver[{without}] has none such; "
                    "phases have the same constraints"
                )
            raise ValueError(
                f"fit: {what} has multipliers of another form in solver[{number}] than "
                "in solver[0]; phases keep them"
            )


def _begun(
    solver: Solver, before: Solver, state: PrimalDualState, example: Any
) -> PrimalDualState:
    """Returns the state that a phase starts from."""
    same = solver.problem is before.problem
    begun = handed_over(solver, state, example, penalty=same)
    # What a rule of penalties remembers belongs to its penalty.
    if same and type(solver) is type(before) is Solver:
        begun = begun._replace(rule=state.rule)
    return begun


def _noting(call: Callback, answers: list[bool]) -> Callback:
    """Returns a callback that also notes when it ends the run."""

    def noting(state: Any, info: Any) -> Any:
        answer = call(state, info)
        answers.append(stops(answer))
        return answer

    return noting


@contextmanager
def _saying(number: int, count: int) -> Iterator[None]:
    """Adds to an error the phase that it came in."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in phase {number + 1} of {count}")
        raise


def _best(results: list[FitResult]) -> Iterate:
    """Returns the best iterate of all: feasible ones by loss, others by violation."""

    def rank(best: Iterate) -> tuple[bool, float]:
        feasible = bool(best.feasible)
        return not feasible, float(best.loss if feasible else best.max_violation)

    return min((one.best for one in results), key=rank)
