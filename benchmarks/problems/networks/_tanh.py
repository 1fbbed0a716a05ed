"""Tanh network, with initial weights that any framework can take."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def draw(
    rng: np.random.Generator, sizes: Sequence[int], spread: float = 2.0
) -> list[dict[str, np.ndarray]]:
    """Draws weights of a fully connected network for inputs in [0, 1].

    Args:
        rng: of the draws.
        sizes: units of each layer, inputs and outputs included.
        spread: scale of the first layer, whose units bend all over the inputs' box.

    Returns:
        One {"w": (in, out), "b": (out,)} per layer, float32.
    """
    layers = []
    for i, (m, n) in enumerate(pairwise(sizes)):
        w = rng.normal(size=(m, n)) / np.sqrt(m)
        b = np.zeros(n)
        if i == 0:
            w *= spread
            b = -np.sum(w * rng.uniform(size=(m, n)), axis=0)
        layers.append({"w": w.astype(np.float32), "b": b.astype(np.float32)})
    return layers


def outputs(params: Any, x: jax.Array) -> jax.Array:
    """Evaluates all outputs at one example x (d,), shape (m,)."""
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def net(params: Any, x: jax.Array) -> jax.Array:
    """Evaluates a network of one output at one example x (d,), shape ()."""
    return outputs(params, x)[0]


def at(params: Any, x: jax.Array) -> jax.Array:
    """Evaluates a network of one output at many examples x (n, d), shape (n,)."""
    return jax.vmap(net, (None, 0))(params, x)


def grid(*counts: int) -> np.ndarray:
    """Returns an even grid on the unit box with its ends, (n, d), float32."""
    axes = np.meshgrid(*(np.linspace(0, 1, n) for n in counts), indexing="ij")
    return np.stack([axis.ravel() for axis in axes], axis=1).astype(np.float32)


def root_mean_square(residual: jax.Array) -> jax.Array:
    """Computes the root of the mean square, shape ()."""
    return jnp.sqrt(jnp.mean(residual**2))
