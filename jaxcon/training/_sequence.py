"""Successive runs: what is handed over, and their common result."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from jaxcon.constraints import Constraints
from jaxcon.primal_dual import PrimalDualState, Solver
from jaxcon.training._history import History
from jaxcon.training._result import FitResult
from jaxcon.training._run import with_result


def handed_over(
    solver: Solver,
    state: PrimalDualState,
    example: Any,
    but: Collection[str] = (),
    penalty: bool = True,
) -> PrimalDualState:
    """Returns a state with fresh optimizers, and with the multipliers reached.

    Args:
        solver: that goes on.
        state: of the solver before.
        example: a batch.
        but: names of constraints whose multipliers begin anew.
        penalty: whether penalties go over.

    Returns:
        A state of `solver`, at the parameters, multipliers, penalties, moved points,
        weights, extra state and step of `state`.
    """
    fresh = solver.init(state.params, example, state.extra)
    penalties = fresh.penalty
    if penalty and penalties is not None and state.penalty is not None:
        penalties = _kept(penalties, state.penalty, ())
    # Multipliers and weights belong to their points.
    points, weights = (
        old if _alike(old, new) else new
        for old, new in (
            (state.points, fresh.points),
            (state.weights, fresh.weights),
        )
    )
    return fresh._replace(
        points=points,
        weights=weights,
        multipliers=_kept(fresh.multipliers, state.multipliers, but),
        penalty=penalties,
        step=state.step,
        skipped=state.skipped,
    )


def _kept(fresh: Constraints, old: Constraints, but: Collection[str]) -> Constraints:
    """Returns the old entries by name, fresh ones where there is no old one like it."""

    def entry(name: str, one: Any, before: Mapping[str, Any]) -> Any:
        was = before.get(name)
        return was if _alike(was, one) and name not in but else one

    return Constraints(
        *(
            {name: entry(name, one, before) for name, one in kind.items()}
            for kind, before in zip(fresh, old)
        )
    )


def _alike(one: Any, other: Any) -> bool:
    return jax.tree.map(np.shape, one) == jax.tree.map(np.shape, other)


@contextmanager
def carrying(
    earlier: list[FitResult], join: Callable[[list[FitResult]], FitResult] | None = None
) -> Iterator[None]:
    """Adds to an error the result of the runs that are done.

    Args:
        earlier: their results.
        join: what makes one result of several; `joined` unless given.

    Yields:
        Nothing.
    """
    join = join or joined
    try:
        yield
    except BaseException as error:
        own: Any = getattr(error, "result", None)
        if isinstance(own, FitResult):
            error.result = join([*earlier, own])  # pyright: ignore[reportAttributeAccessIssue]
        elif earlier:
            raised = with_result(error, join(earlier))
            if raised is not error:
                raise raised from error
        raise


def joined(results: list[FitResult]) -> FitResult:
    """Returns the last result, with history and times of all.

    Args:
        results: of runs that followed each other, at least one.

    Returns:
        A `FitResult`.
    """
    rows = [one.history for one in results if len(one.history.step)]
    history = (
        _one_after_another(rows) if len(rows) > 1 else [*rows, results[-1].history][0]
    )
    return results[-1]._replace(
        history=history,
        seconds=sum(one.seconds for one in results),
        compile_seconds=sum(one.compile_seconds for one in results),
        rollbacks=tuple(step for one in results for step in one.rollbacks),
    )


def _one_after_another(parts: list[History]) -> History:
    """Joins histories; a penalty that a part has not is 0 there, and no clip fired."""
    counts = [len(part.step) for part in parts]

    def rows(*entries: Any) -> Any:
        return jax.tree.map(lambda *each: np.concatenate(each), *entries)

    def padded(entries: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        like = {name: one for entry in reversed(entries) for name, one in entry.items()}
        return {
            name: rows(
                *(
                    entry.get(name, np.zeros(count, one.dtype))
                    for entry, count in zip(entries, counts)
                )
            )
            for name, one in like.items()
        }

    aux = [part.aux for part in parts]
    alike = (
        len({str(jax.tree.map(lambda leaf: leaf.shape[1:], one)) for one in aux}) == 1
    )
    plain: dict[str, Any] = {"aux": rows(*aux) if alike else None}
    for field in ("loss", "max_violation", "violation", "multiplier", "capped"):
        plain[field] = rows(*(getattr(part, field) for part in parts))
    return History(
        **plain,
        penalty=Constraints(
            *(padded(list(kind)) for kind in zip(*(part.penalty for part in parts)))
        ),
        clipped=padded([part.clipped for part in parts]),
        finite=rows(*(part.finite for part in parts)),
        step=rows(*(part.step for part in parts)),
    )
