"""Parameters of a model as one vector, and their names."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

Model = Callable[[Any], jax.Array]


def flat(
    function: Model, params: Any
) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Returns the parameters in one vector, and the function of that vector."""
    theta, unravel = ravel_pytree(jax.tree.map(_real, params))

    def of_vector(theta: jax.Array) -> jax.Array:
        values = function(unravel(theta))
        if jnp.ndim(values) != 1:
            raise ValueError(
                f"the function of the parameters returned shape {jnp.shape(values)}; "
                "return one vector (n,)"
            )
        return values

    return theta, of_vector


def _real(leaf: Any) -> jax.Array:
    """Returns a leaf as floating point: Python's 1 is an integer, without derivative."""
    return jnp.asarray(leaf, jnp.result_type(float, leaf))


def names_of(params: Any) -> tuple[str, ...]:
    """Returns one name for each entry, in the order of `ravel_pytree`."""

    def entries(path: Any, leaf: Any) -> Iterator[str]:
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "params"
        for index in np.ndindex(np.shape(leaf)):
            yield name + (str(list(index)) if index else "")

    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return tuple(name for path, leaf in leaves for name in entries(path, leaf))
