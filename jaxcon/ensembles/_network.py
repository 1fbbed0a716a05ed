"""Members of an ensemble: a linear part plus a smooth network."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.ensembles._columns import Block, offsets

Member = dict[str, Any]


class Inputs(NamedTuple):
    """Standardisation of encoded rows.

    Attributes:
        shift: mean of each entry, (d,).
        factor: one over its standard deviation, 1 for indicators, (d,).
    """

    shift: Any
    factor: Any


def init_members(
    seed: int, number: int, d: int, first: np.ndarray, width: int
) -> Member:
    """Draws members' parameters; their predictions are constant at first.

    Args:
        seed: of the draws.
        number: of members.
        d: number of entries of an encoded row.
        first: scores of that constant, (m,).
        width: units of each of the two hidden layers.

    Returns:
        Linear parts and layers of networks, with a leading axis of members.
    """
    rng, sizes = np.random.default_rng(seed), (d, width, width)
    layers = [
        {
            "w": rng.normal(size=(number, m, n)) / np.sqrt(m),
            "b": rng.normal(size=(number, n)),
        }
        for m, n in pairwise(sizes)
    ]
    last = {
        "w": np.zeros((number, width, len(first))),
        "b": np.tile(first, (number, 1)),
    }
    linear = np.zeros((number, d, len(first)))
    members = {"layers": [*layers, last], "linear": linear}
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), members)


def standardise(inputs: Inputs, layout: Sequence[Block], v: Any, lib: Any = jnp) -> Any:
    """Scales encoded rows to mean 0; a value that is missing becomes the mean.

    Args:
        inputs: the scaling.
        layout: of the columns.
        v: (..., d).
        lib: `jax.numpy`, or `numpy` to compute in its precision.

    Returns:
        (..., d).
    """
    z = (v - _beside(inputs.shift, v)) * _beside(inputs.factor, v)
    gone = [
        (place + entry, place + block.size)
        for place, block in zip(offsets(layout), layout)
        if block.missing and not block.category
        for entry in range(block.size)
    ]
    if not gone:
        return z
    own, flag = np.array(gone).T
    present = lib.ones(z.shape[-1], v.dtype)
    spread = np.zeros((z.shape[-1], z.shape[-1]))
    spread[flag, own] = 1.0
    return z * (_beside(present, v) - v @ lib.asarray(spread, v.dtype))


def score(member: Member, z: Any, lib: Any = jnp) -> Any:
    r"""Evaluates a member.

    .. math:: \eta = z A + b + W_k \tanh(\dots \tanh(z W_0 + b_0))

    Args:
        member: its parameters.
        z: standardised rows, (..., d).
        lib: `jax.numpy`, or `numpy` to compute in its precision.

    Returns:
        Scores, (..., m).
    """
    hidden = z
    for layer in member["layers"][:-1]:
        hidden = lib.tanh(hidden @ layer["w"] + _beside(layer["b"], z))
    last = member["layers"][-1]
    return z @ member["linear"] + hidden @ last["w"] + _beside(last["b"], z)


def _beside(vector: Any, rows: Any) -> Any:
    """Gives a vector (d,) the axes of rows (..., d)."""
    return vector[(None,) * (rows.ndim - 1)]


def size(member: Member) -> jax.Array:
    """Computes the sum of squares of a member's weights, on which decay acts, ()."""
    weights = [layer["w"] for layer in member["layers"]] + [member["linear"]]
    return sum((jnp.sum(jnp.square(w)) for w in weights), jnp.zeros((), jnp.float32))
