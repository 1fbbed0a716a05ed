"""Parameters of a model as one vector, and their names."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxcon._checks import check_array, check_function, check_real, described, inside

Model = Callable[[Any], jax.Array]


def flat(
    function: Model, params: Any, name: str = "model", form: str = "(n,)"
) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Returns the parameters in one vector, and the function of that vector.

    Args:
        function: params -> numbers.
        params: real numbers in any pytree.
        name: of the function, for messages.
        form: the shapes that it may return.

    Returns:
        Shape (p,), and vector (p,) -> numbers (n,).

    Raises:
        TypeError: `function` is none, or `params` holds something other than real numbers.
    """
    check_function(name, function, f"params -> {form}")
    theta, unravel = ravel_pytree(_real(params))

    def of_vector(theta: jax.Array) -> jax.Array:
        with inside(name):
            values = function(unravel(theta))
        rule = f"real numbers in one array {form}"
        values = check_real(f"{name} returned", values, rule)
        if values.ndim > 1 or (values.ndim == 0 and "()" not in form):
            raise ValueError(f"{name} returned shape {values.shape}; it must be {rule}")
        return jnp.atleast_1d(values)

    return theta, of_vector


def _real(params: Any) -> Any:
    """Returns parameters in floating point; an integer has no derivative."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise TypeError(f"params must hold real numbers, got {described(params)}")
    for path, leaf in leaves:
        where = f"params{jax.tree_util.keystr(path)}"
        check_array(where, leaf, "of any shape", finite=None)
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.result_type(float, leaf)), params
    )


def leaves_of(params: Any) -> list[tuple[str, Any]]:
    """Returns the paths of all arrays, and the arrays, in the order of `ravel_pytree`."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator=".") or "params", leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]


def names_of(params: Any) -> tuple[str, ...]:
    """Returns one name for each entry, in the order of `ravel_pytree`."""
    return tuple(
        name + (str(list(index)) if index else "")
        for name, leaf in leaves_of(params)
        for index in np.ndindex(np.shape(leaf))
    )
