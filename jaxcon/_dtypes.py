"""Number formats of what a run remembers."""

from typing import Any

import jax
import jax.numpy as jnp


def at_least_float32(leaf: Any) -> jax.Array:
    """Casts an array of a shorter floating-point format to float32.

    Sums of small steps stand still in bfloat16, and squares overflow in float16.

    Args:
        leaf: a floating-point array.

    Returns:
        The array, as it is if its format is as long.
    """
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))


def largest(dtype: Any) -> jax.Array:
    """Returns the largest number of a format, in place of infinity.

    An infinity that is only a placeholder would stop a run under jax_debug_infs.

    Args:
        dtype: a floating-point format.

    Returns:
        Shape ().
    """
    dtype = jnp.zeros((), dtype).dtype  # float is float32 unless 64 bits are enabled
    return jnp.array(jnp.finfo(dtype).max, dtype)
