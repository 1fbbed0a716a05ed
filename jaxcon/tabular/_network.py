"""Fully connected network with tanh units."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxcon._checks import check_key, check_number, check_type


def init_network(key: jax.Array, sizes: Sequence[int]) -> list[dict[str, jax.Array]]:
    """Draws weights of a fully connected network, normal with variance 1 / fan-in.

    Args:
        key: a typed key.
        sizes: units of each layer, inputs and outputs included.

    Returns:
        One {"w": (in, out), "b": (out,)} per layer.

    Raises:
        TypeError: `key` is no key, or a size no whole number.
        ValueError: there are fewer than two, or one is below 1.
    """
    check_key("key", key)
    check_type("sizes", sizes, (list, tuple), "a list of whole numbers")
    if len(sizes) < 2:
        raise ValueError(f"sizes must be of two layers at least, got {tuple(sizes)}")
    for size in sizes:
        check_number("sizes", size, least=1, whole=True)
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"w": jax.random.normal(k, (m, n)) / jnp.sqrt(m), "b": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes, sizes[1:])
    ]


def network(params: list[dict[str, jax.Array]], z: jax.Array) -> jax.Array:
    """Evaluates a tanh network, which has all derivatives, at one example.

    Args:
        params: from `init_network`, with one output.
        z: inputs in [0, 1], (d,).

    Returns:
        Shape ().
    """
    return outputs(params, z)[0]


def outputs(params: list[dict[str, jax.Array]], z: jax.Array) -> jax.Array:
    """Evaluates a tanh network of several outputs at one example.

    Args:
        params: from `init_network`.
        z: inputs in [0, 1], (d,).

    Returns:
        Shape (m,).
    """
    y = 2 * z - 1
    for layer in params[:-1]:
        y = jnp.tanh(y @ layer["w"] + layer["b"])
    return y @ params[-1]["w"] + params[-1]["b"]
