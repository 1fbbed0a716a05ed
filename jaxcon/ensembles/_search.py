"""Search for the worst violation of shape rules over the box of the training data.

Ascents along numbers end at a local maximum. Where there are categories too, whose levels
combine in more ways than there are points, or predictions of very different size, a second
search takes the best change of one coordinate at a time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import points
from jaxcon.ensembles._columns import Block, cube_size, expand
from jaxcon.ensembles._losses import POSITIVE, Loss
from jaxcon.ensembles._mixture import Mixture
from jaxcon.ensembles._residuals import in_scores, residuals
from jaxcon.ensembles._rules import Bounds, Kinds

# Rows at which it is counted where a rule is active, and the residual above which it is:
# training ends a little within a rule that the data contradict.
_COUNTED, _ACTIVE = 1024, -0.1
# Points of a search, the worst of them from which it ascends, and steps of an ascent.
_POINTS, _STARTS, _STEPS = 16_384, 32, 30
# Starts of changes one coordinate at a time, changes of a number, and the sizes by which
# they are multiplied: first, last, number of steps.
_CHANGED, _MOVES, _SIZES = 16, (-1.0, -0.5, -0.2, 0.2, 0.5, 1.0), (1.0, 0.01, 24)


class Worst(NamedTuple):
    """Worst violation of each rule.

    Attributes:
        values: largest residuals, (rules,); a rule is broken where one is positive.
        rows: the encoded rows where they are, (rules, d).
        active: share of the table's rows at which a residual is above -0.1, (rules,).
    """

    values: np.ndarray
    rows: np.ndarray
    active: np.ndarray


def search(
    layout: Sequence[Block],
    loss: Loss,
    kinds: Kinds,
    bounds: Bounds,
    mixture: Mixture,
    v: np.ndarray,
) -> Worst:
    """Searches for the worst violation of each rule by an ensemble.

    Args:
        layout: of the columns.
        loss: of the target.
        kinds: the rules.
        bounds: their numbers.
        mixture: the ensemble's numbers.
        v: encoded rows of the table, (n, d).

    Returns:
        `Worst`, by projected ascents from the worst of 16,384 points.
    """
    counted = np.random.default_rng(0).integers(len(v), size=_COUNTED)
    single = jax.tree.map(partial(np.asarray, dtype=np.float32), (bounds, mixture))
    rows = np.asarray(v[counted], np.float32)
    return Worst(
        *map(np.asarray, _search(tuple(layout), loss, kinds.nameless, *single, rows))
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _search(
    layout: tuple[Block, ...],
    loss: Loss,
    kinds: Kinds,
    bounds: Bounds,
    mixture: Mixture,
    rows: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    c, f = cube_size(layout), partial(mixture.at, layout, loss)

    def at(v: jax.Array) -> jax.Array:
        return jnp.stack(residuals(kinds, bounds, f, v))

    def of_rule(rule: jax.Array) -> Any:
        return points.worst_case(
            lambda u: jax.vmap(lambda one: at(expand(layout, one)))(u)[:, rule],
            np.zeros(c),
            np.ones(c),
            num=_POINTS,
            steps=_STEPS,
            ascents=_STARTS,
        )

    def relative(v: jax.Array) -> jax.Array:
        return jnp.stack(in_scores(kinds, loss, list(at(v)), f(v)))

    def of_levels(rule: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _over_levels(
            layout,
            lambda u: at(expand(layout, u))[rule],
            lambda u: relative(expand(layout, u))[rule],
        )

    every = jnp.arange(len(kinds.names))
    found = jax.lax.map(of_rule, every)
    value, point = found.value, found.point
    chosen = any(block.category or block.missing for block in layout)
    if chosen or loss.kind in (*POSITIVE, "binary"):
        others, places = jax.lax.map(of_levels, every)
        point = jnp.where((others > value)[:, None], places, point)
        value = jnp.maximum(others, value)
    worst = jax.vmap(partial(expand, layout))(point)
    active = jnp.mean(jax.vmap(at)(rows) > _ACTIVE, 0)
    return value, worst, active


def _over_levels(
    layout: tuple[Block, ...],
    residual: Callable[[jax.Array], jax.Array],
    relative: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Searches for the worst point by the best change of one coordinate at a time.

    Args:
        layout: of the columns.
        residual: point of the unit cube (c,) -> ().
        relative: the same in the score's units, which tells from which points to start:
            where predictions are small, so are all residuals.

    Returns:
        The largest residual found, and where it is.
    """
    coordinates = jnp.arange(cube_size(layout))
    drawn = jax.random.uniform(jax.random.key(1), (_POINTS, len(coordinates)))
    worst = jax.lax.map(relative, drawn, batch_size=_POINTS)
    starts = drawn[jax.lax.top_k(worst, _CHANGED)[1]]
    place, value, chooses = _changes(layout)

    def step(u: jax.Array, size: jax.Array) -> tuple[jax.Array, None]:
        moved = jnp.clip(u[place] + size * value, 0.0, 1.0)
        new = jnp.where(chooses, value, moved)
        one = coordinates[None] == place[:, None]
        others = jnp.where(one, new[:, None], u[None])
        others = jnp.concatenate([u[None], others])
        return others[jnp.argmax(jax.vmap(residual)(others))], None

    def climb(u: jax.Array) -> jax.Array:
        return jax.lax.scan(step, u, jnp.geomspace(*_SIZES, dtype=u.dtype))[0]

    ends = jax.vmap(climb)(starts)
    values = jax.vmap(residual)(ends)
    return jnp.max(values), ends[jnp.argmax(values)]


def _changes(layout: tuple[Block, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns coordinates, their changes or choices, and which of these are choices."""
    found, place = [], 0
    for block in layout:
        if block.category:
            levels = block.size + 1  # the last one is unknown
            found += [(place, (one + 0.5) / levels, True) for one in range(levels)]
        else:
            found += [(place, one, False) for one in _MOVES]
        if block.missing:
            found += [(place + 1, one, True) for one in (0.4, 0.9)]
        place += 1 + block.missing
    places, values, chooses = zip(*found)
    return np.array(places), np.array(values, np.float32), np.array(chooses)
