"""Search for the worst violation of shape rules over the box of the training data."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import points
from jaxcon.ensembles._columns import Block, cube_size, expand
from jaxcon.ensembles._losses import Loss
from jaxcon.ensembles._mixture import Mixture
from jaxcon.ensembles._residuals import residuals
from jaxcon.ensembles._rules import Bounds, Kinds

# Rows at which it is counted where a rule is active, and the residual above which it is:
# training ends a little within a rule that the data contradict.
_COUNTED, _ACTIVE = 1024, -0.1


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
        `Worst`, by projected ascents from the worst of 16,384 Sobol points.
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
            num=16_384,
            steps=30,
            ascents=32,
        )

    found = jax.lax.map(of_rule, jnp.arange(len(kinds.names)))
    worst = jax.vmap(partial(expand, layout))(found.point)
    active = jnp.mean(jax.vmap(at)(rows) > _ACTIVE, 0)
    return found.value, worst, active
