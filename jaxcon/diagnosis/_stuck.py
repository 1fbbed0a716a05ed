"""Verdict on a run whose optimizer of the parameters finds no step any more."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon.diagnosis import _statistics as stats
from jaxcon.diagnosis._evidence import Evidence
from jaxcon.diagnosis._tracks import Track
from jaxcon.diagnosis._verdicts import Verdict
from jaxcon.diagnosis._words import verdict
from jaxcon.transforms import GaussNewtonState, SelfScaledState
from jaxcon.transforms._newton import NewtonState

# Roundings by which an evaluation differs from itself.
_ROUNDINGS = 8


class _Search(NamedTuple):
    """Words on an optimizer that tries steps and may take none."""

    finding: str
    advice: str


_LINE = _Search(
    "the line search finds no step",
    "begin its memory anew now and then (restart_every), or hand over to gauss_newton in "
    "a next phase of fit",
)
# By the kind of the optimizer's state.
_SEARCHES = {
    optax.ScaleByZoomLinesearchState: _LINE,
    optax.ScaleByBacktrackingLinesearchState: _LINE,
    SelfScaledState: _Search(
        "the line search of self_scaled_broyden finds no step",
        "hand over to gauss_newton in a next phase of fit",
    ),
    NewtonState: _Search(
        "no step in newton's trust region helps",
        "look for a loss or constraints that are not smooth nearby, or start elsewhere",
    ),
    GaussNewtonState: _Search(
        "no damping of gauss_newton helps",
        "look for residuals that are not smooth nearby, or start elsewhere",
    ),
}


def rows_at_rest(
    tracks: list[Track], loss: np.ndarray, tolerance: float, eps: float
) -> int:
    """Counts the last rows over which loss and violations are one number.

    Args:
        tracks: of the history.
        loss: of each step.
        tolerance: largest violation that counts as feasible.
        eps: the loss's machine epsilon.

    Returns:
        How many rows; 0 of an empty history.
    """
    if not len(loss):
        return 0
    same = np.ones(len(loss), bool)
    for series, least in [(loss, 0.0), *((t.violation, tolerance) for t in tracks)]:
        size = max(abs(series[-1]), least)
        same &= np.abs(series - series[-1]) <= _ROUNDINGS * eps * size
    return len(loss) if same.all() else int(np.argmin(same[::-1]))


def stuck(
    tracks: list[Track], rows: int, end: Evidence, count: int, stride: float
) -> list[Verdict]:
    """Judges a run whose parameters rest though the Lagrangian's gradient is not small.

    Args:
        tracks: of the history.
        rows: that are at rest.
        end: the KKT residuals.
        count: of all rows.
        stride: steps from one row to the next.

    Returns:
        One verdict; none where the optimizer tries no steps, or has one left.
    """
    search = _search(end)
    if search is None or rows < stats.FEW or end.stationary:
        return []
    broken = [t for t in tracks if end.violation[t.name].value > end.tolerance]
    if broken and end.infeasible:
        return []
    largest = " and ".join(end.shortfalls()[:2])
    return verdict(
        "stalled",
        broken,
        f"{search.finding}: the parameters rest for the last {rows * stride:.0f} of "
        f"{count * stride:.0f} steps, but {largest}; {_advice(search, end)}",
    )


def clause(rows: int, end: Evidence, stride: float) -> str:
    """Returns a clause on steps that float64 may find beyond a point that is optimal."""
    search = _search(end)
    done = rows < stats.FEW or not end.stationarity > 0
    if search is None or done or not _is_single(end):
        return ""
    return (
        f"; {search.finding} for the last {rows * stride:.0f} steps, where float64 may "
        "go on"
    )


def advice(end: Evidence) -> str:
    """Returns what to do about an optimizer that has no rates; "" of any other."""
    search = _search(end)
    return "" if search is None else _advice(search, end)


def _advice(search: _Search, end: Evidence) -> str:
    wider = "compute in float64, " if _is_single(end) else ""
    return f"{wider}{search.advice}"


def _search(end: Evidence) -> _Search | None:
    """Returns the words on the optimizer; None of one that tries no steps."""
    primal: Any = getattr(end.end.state, "primal", None)
    kinds = tuple(_SEARCHES)
    for part in jax.tree.leaves(primal, is_leaf=lambda part: isinstance(part, kinds)):
        if isinstance(part, kinds):
            return _SEARCHES[type(part)]
    return None


def _is_single(end: Evidence) -> bool:
    """Returns whether a parameter is of less precision than float64."""
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(end.end.state.params)]
    return any(float(jnp.finfo(dtype).eps) > 1e-10 for dtype in dtypes)
