"""Search for the worst violation of shape rules over the box of the training data."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import points
from jaxcon.ensembles._columns import Block, cube_size, expand
from jaxcon.ensembles._losses import Loss
from jaxcon.ensembles._network import Inputs, Member, score, standardise
from jaxcon.ensembles._residuals import residuals
from jaxcon.ensembles._rules import Bounds, Kinds


class Worst(NamedTuple):
    """Worst violation of each rule.

    Attributes:
        values: largest residuals, (rules,); a rule is broken where one is positive.
        rows: the encoded rows where they are, (rules, d).
    """

    values: np.ndarray
    rows: np.ndarray


def search(
    layout: Sequence[Block],
    loss: Loss,
    kinds: Kinds,
    bounds: Bounds,
    inputs: Inputs,
    members: Member,
) -> Worst:
    """Searches for the worst violation of each rule by the members' mean.

    Args:
        layout: of the columns.
        loss: of the target.
        kinds: the rules.
        bounds: their numbers.
        inputs: standardisation of the rows.
        members: parameters, with a leading axis.

    Returns:
        `Worst`, by projected ascents from the worst of 8,192 Sobol points.
    """
    found = _search(tuple(layout), loss, kinds, bounds, inputs, members)
    return Worst(*map(np.asarray, found))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _search(
    layout: tuple[Block, ...],
    loss: Loss,
    kinds: Kinds,
    bounds: Bounds,
    inputs: Inputs,
    members: Member,
) -> tuple[jax.Array, jax.Array]:
    c = cube_size(layout)

    def mean(v: jax.Array) -> jax.Array:
        z = standardise(inputs, layout, v)
        each = jax.vmap(lambda member: loss.prediction(score(member, z)))(members)
        return jnp.mean(each, 0)

    def at(u: jax.Array) -> jax.Array:
        v = expand(layout, u)
        return jnp.stack(residuals(kinds, bounds, mean, v))

    def of_rule(rule: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = points.worst_case(
            lambda u: jax.vmap(at)(u)[:, rule],
            np.zeros(c),
            np.ones(c),
            num=8192,
            steps=30,
            ascents=16,
        )
        return found.value, found.point

    values, places = jax.lax.map(of_rule, jnp.arange(len(kinds.names)))
    return values, jax.vmap(partial(expand, layout))(places)
