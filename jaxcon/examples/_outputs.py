"""A network of several outputs, that examples share."""

import jax
import jax.numpy as jnp


def several(params: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    """A tanh network of one example with as many outputs as its last layer has.

    Args:
        params: from `jaxcon.tabular.init_network`.
        x: inputs in [0, 1], (d,).

    Returns:
        Shape (m,).
    """
    y = 2 * x - 1
    for layer in params[:-1]:
        y = jnp.tanh(y @ layer["w"] + layer["b"])
    return y @ params[-1]["w"] + params[-1]["b"]
