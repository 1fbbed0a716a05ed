"""Elementwise functions of many numbers, evaluated as functions of one array.

Hundreds of constraints of one number each would else be hundreds of operations, which XLA
compiles and runs one by one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Fewer numbers are left as they are.
MANY = 8


def map_numbers(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Maps an elementwise function over trees, all numbers of a dtype at once.

    Args:
        function: arrays -> array of the same shape, entry by entry.
        tree: of arrays.
        others: trees of the same structure.

    Returns:
        A tree of the same structure.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcon._stacking import map_numbers
        >>> print(map_numbers(jnp.square, {"a": jnp.array(2.0), "b": jnp.ones(2)})["a"])
        4.0
    """
    leaves, structure = jax.tree.flatten(tree)
    rows = [leaves, *map(structure.flatten_up_to, others)]
    columns = list(zip(*rows))
    results: list[Any] = [None] * len(columns)
    for places in groups(columns):
        if len(places) < MANY:
            for place in places:
                results[place] = function(*columns[place])
            continue
        stacked = [jnp.stack([row[place] for place in places]) for row in rows]
        found = function(*stacked)
        for number, place in enumerate(places):
            results[place] = found[number]
    return structure.unflatten(results)


def groups(columns: list[tuple[Any, ...]]) -> list[list[int]]:
    """Returns the places of numbers of equal dtypes; every array is alone.

    Args:
        columns: for each place, the arguments of a function there.

    Returns:
        Lists of places.
    """
    found: dict[Any, list[int]] = {}
    for place, column in enumerate(columns):
        if all(jnp.shape(leaf) == () for leaf in column):
            key = tuple(str(jnp.result_type(leaf)) for leaf in column)
        else:
            key = place
        found.setdefault(key, []).append(place)
    return list(found.values())
