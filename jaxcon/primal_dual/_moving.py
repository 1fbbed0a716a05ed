"""Points that move while a solver runs, and what moves with them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon._checks import check_real, described, inside
from jaxcon.constraints import Constraints, evaluate, named
from jaxcon.points import PointRule, Transfer, transfer
from jaxcon.primal_dual._dependence import dependent
from jaxcon.primal_dual._state import PrimalDualState
from jaxcon.transforms import MeanSquares


def check_points(points: Any) -> dict[str, PointRule]:
    """Checks what a `points=` argument gives.

    Args:
        points: rules by key of the batch, or None.

    Returns:
        The rules.

    Raises:
        TypeError: it is no dict of rules.
    """
    form = "rules such as jaxcon.points.rad(...) by key of the batch"
    if points is None:
        return {}
    if not isinstance(points, Mapping):
        raise TypeError(f"points must be a dict of {form}, got {described(points)}")
    for on, rule in points.items():
        if not isinstance(rule, PointRule):
            raise TypeError(
                f"points must be a dict of {form}, got {described(rule)} for {on!r}"
            )
    return dict(points)


def first_points(rules: Mapping[str, PointRule], batch: Any) -> Any:
    """Returns the points that a batch begins with, by key; () without rules.

    Args:
        rules: by key.
        batch: a dict.

    Returns:
        Points (n, d) by key.

    Raises:
        ValueError: the batch has no points (n, d) under a key.
        TypeError: they are no floats.
    """
    if not rules:
        return ()
    found = {}
    for on in rules:
        if not isinstance(batch, Mapping) or on not in batch:
            has = sorted(batch) if isinstance(batch, Mapping) else described(batch)
            raise ValueError(
                f"points of {on!r} move, but the batch has none there: it must be a dict "
                f"with points (n, d) under that key, got {has}"
            )
        label = f"points of {on!r} in the batch are"
        found[on] = check_real(label, batch[on], "floats (n, d)")
        if found[on].ndim != 2:
            raise ValueError(f"{label} of shape {found[on].shape}; they must be (n, d)")
    return found


def with_points(points: Any, batch: Any) -> Any:
    """Returns a batch with other points under their keys."""
    return {**batch, **points} if points else batch


def moved(solver: Any, state: PrimalDualState, batch: Any) -> PrimalDualState:
    """Moves the points whose turn it is, and all that belongs to them.

    Args:
        solver: with the rules.
        state: after a step.
        batch: of the step, with any points.

    Returns:
        The state on its new points.
    """
    for place, on in enumerate(solver.points):
        state = _moved(solver, state, batch, on, place)
    return state


# What belongs to points.
_CARRIED = ("points", "multipliers", "dual", "weights")


def _moved(
    solver: Any, state: PrimalDualState, batch: Any, on: str, place: int
) -> PrimalDualState:
    """Moves the points under one key if it is their turn.

    Args:
        solver: with the rules.
        state: after a step.
        batch: of the step, with any points.
        on: the key.
        place: of the rule among all.

    Returns:
        The state.
    """
    rule, batch = solver.points[on], with_points(state.points, batch)
    belongs = _belonging(solver.problem, state, batch, on)
    key = jax.random.fold_in(jax.random.key(rule.seed), state.step)
    key = jax.random.fold_in(key, place)
    values = partial(_values, rule, state.params, batch, on)

    def move(parts: list[Any]) -> list[Any]:
        before = state._replace(**dict(zip(_CARRIED, parts)))
        old = before.points[on]
        new = rule.move(key, old, values)
        # A place that is none would make every later step fail.
        sound = jnp.all(jnp.isfinite(new), axis=1, keepdims=True)
        new = jnp.where(sound, new, old)
        after = _carried(before, transfer(old, new), belongs)
        after = after._replace(points={**after.points, on: new})
        return [getattr(after, part) for part in _CARRIED]

    parts = [getattr(state, part) for part in _CARRIED]
    parts = jax.lax.cond(state.step % rule.every == 0, move, lambda kept: kept, parts)
    return state._replace(**dict(zip(_CARRIED, parts)))


def _values(
    rule: PointRule, params: Any, batch: Any, on: str, points: jax.Array
) -> jax.Array:
    """Evaluates the residual that a rule follows at other points."""
    label = f"the residual of points={on!r}"
    with inside(label):
        found = rule.residual(params, {**batch, on: points})
    found = check_real(f"{label} returned", found, "floats (n,)")
    if found.shape != points.shape[:1]:
        raise ValueError(
            f"{label} has shape {found.shape} at points of shape {points.shape}; it must "
            f"be {points.shape[:1]}, each entry of its own point"
        )
    return found


def _belonging(
    problem: Any, state: PrimalDualState, batch: Any, on: str
) -> tuple[set[str], set[str]]:
    """Finds the names of constraints and of weighted residuals that run over points.

    Their dense multipliers, and their weights, are one for each of the points, and the
    residual depends on these.
    """
    count = len(state.points[on])
    paths = jax.tree_util.tree_leaves_with_path(batch)
    changed = [path[0] == jax.tree_util.DictKey(on) for path, _ in paths]

    def residuals(params: Any, batch: Any) -> Any:
        if any(problem.constraints):
            return evaluate(problem.constraints, params, batch)
        return problem.evaluate(params, batch, state.extra).residuals

    moves = dependent(residuals, state.params, batch, changed)
    constraints = {
        name
        for kind, name, multiplier in named(state.multipliers)
        if getattr(moves, kind)[name] and _runs_over(multiplier, count)
    }
    if not isinstance(problem.loss, MeanSquares):
        return constraints, set()

    def weighted(params: Any, batch: Any) -> Any:
        names = problem.loss.weights
        return {name: problem.loss.evaluate(name, params, batch) for name in names}

    moves = dependent(weighted, state.params, batch, changed)
    return constraints, {name for name, depends in moves.items() if depends}


def _runs_over(entry: Any, count: int) -> bool:
    return isinstance(entry, jax.Array) and entry.shape == (count,)


def _carried(
    state: PrimalDualState, move: Transfer, belongs: tuple[set[str], set[str]]
) -> PrimalDualState:
    """Moves multipliers as masses, and what averages residuals as values."""
    constraints, weighted = belongs
    count = len(move.ahead.places)

    def averaged(entry: Any) -> Any:
        floats = _runs_over(entry, count) and jnp.issubdtype(entry.dtype, jnp.floating)
        return move.values(entry) if floats else entry

    def entries(change: Any, tree: Constraints) -> Constraints:
        return Constraints(
            *(
                {
                    name: change(entry) if name in constraints else entry
                    for name, entry in kind.items()
                }
                for kind in tree
            )
        )

    def memory(node: Any) -> Any:
        return entries(averaged, node) if isinstance(node, Constraints) else node

    dual = jax.tree.map(
        memory, state.dual, is_leaf=lambda node: isinstance(node, Constraints)
    )
    weights = state.weights
    if weighted:
        weights = {
            name: jax.tree.map(averaged, memory_) if name in weighted else memory_
            for name, memory_ in weights.items()
        }
    return state._replace(
        multipliers=entries(move.masses, state.multipliers), dual=dual, weights=weights
    )
