"""Spikes and steps that are not finite: their scale and the term they came from."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcon.constraints import Constraints, named, same
from jaxcon.primal_dual import Info, PrimalDualState, Solver

# Of the first chunk's largest loss, what every later one may reach: a loss that has
# come down to zero has no scale of its own.
FLOOR = 1e-3


class Level(NamedTuple):
    """Scale of a run over its last good chunk.

    Attributes:
        first: the largest |f| of the first chunk, ().
        loss: the largest |f|, ().
        violation: the largest of each constraint, each ().
    """

    first: Any
    loss: Any
    violation: Constraints


def no_level(multipliers: Constraints) -> Level:
    """Returns the scale before the first chunk, which nothing is above.

    Args:
        multipliers: anything with an entry for each constraint.

    Returns:
        A `Level` of infinities.
    """
    most = np.array(np.inf, np.float32)
    return Level(most, most, same(most, multipliers))


def next_level(level: Level, info: Info) -> Level:
    """Returns the scale after a good chunk.

    Args:
        level: before it.
        info: its rows.

    Returns:
        That of its finite steps; as before if there was none.
    """
    if not info.finite.any():
        return level

    def largest(rows: Any) -> np.ndarray:
        return np.array(np.max(np.abs(rows[info.finite])), np.float32)

    loss = largest(info.loss)
    first = level.first if np.isfinite(level.first) else loss
    return Level(first, loss, jax.tree.map(largest, info.violation))


def first_spike(
    info: Info, level: Level, factor: float, tolerance: float
) -> tuple[int, str] | None:
    """Finds the first step of a chunk that left the scale of the one before.

    Args:
        info: rows of infos.
        level: of the last good chunk.
        factor: how many times its scale is too much.
        tolerance: violations below it are none.

    Returns:
        The row and a few words; None if there is none.
    """
    usual = np.maximum(level.loss, FLOOR * level.first)
    scales = [("the loss", np.abs(info.loss), usual)] + [
        (f"the violation of {name!r}", rows, np.maximum(usual, tolerance))
        for (_, name, rows), (_, _, usual) in zip(
            named(info.violation), named(level.violation)
        )
    ]
    found = []
    for name, rows, usual in scales:
        # A step that was skipped led nowhere.
        above = np.flatnonzero(info.finite & (rows > factor * usual))
        if above.size:
            row = int(above[0])
            text = f"{name} rose to {rows[row]:.3g}, from at most {usual:.3g}"
            # Of two at the same step, the one that rose the more.
            found.append((row, -rows[row] / max(usual, np.finfo(float).tiny), text))
    if not found:
        return None
    row, _, text = min(found)
    return row, text


def gradient_norms(
    solver: Solver, state: PrimalDualState, batch: Any
) -> dict[str, Any]:
    """Computes the norm of the gradient of each term.

    Args:
        solver: a method.
        state: where.
        batch: of that step.

    Returns:
        Numbers by "the loss" and "constraint 'name'"; NaN or infinity where a gradient is
        not finite.
    """
    terms = jax.device_get(jax.jit(solver.gradients)(state, batch))
    named_terms = [("the loss", terms.loss)] + [
        (f"{kind} constraint {name!r}", gradient)
        for kind, name, gradient in named(terms.constraints)
    ]

    def norm(gradient: Any) -> float:
        # In float64, where the squares of what float32 can hold do not overflow.
        leaves = [np.ravel(leaf).astype(float) for leaf in jax.tree.leaves(gradient)]
        return float(np.linalg.norm(np.concatenate(leaves)))

    return {name: norm(gradient) for name, gradient in named_terms}


def culprit(norms: dict[str, float]) -> str:
    """Returns a clause that names the term with the largest gradient.

    Args:
        norms: what `gradient_norms` returned.

    Returns:
        A clause.
    """
    broken = [name for name, norm in norms.items() if not np.isfinite(norm)]
    if broken:
        penalty = "" if broken[0] == "the loss" else ", or a penalty,"
        return f"the gradient of {broken[0]}{penalty} was not finite"
    largest = max(norms, key=lambda name: norms[name])
    rest = sum(norm for name, norm in norms.items() if name != largest)
    return (
        f"the largest gradient was that of {largest}, of norm {norms[largest]:.3g} "
        f"(the others' sum to {rest:.3g})"
    )


def not_finite(info: Info, row: int) -> str | None:
    """Returns a clause that names what was not finite in one row of infos.

    Args:
        info: rows of infos.
        row: which.

    Returns:
        A clause; None if it was neither the loss, nor a residual, nor a multiplier.
    """
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
    return None
