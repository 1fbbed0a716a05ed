"""Networks with smoothing layers and with bounds by construction."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import tabular
from jaxcon.examples.smoothing._truth import CURVED, NODES, SAMPLES, SHARPNESS, STEEPEST
from jaxcon.methods import Apply


def smoothed(apply: Apply, weights: jax.Array) -> Apply:
    r"""Wraps a network by a smoothing layer, :math:`f_s(t) = \sum_k w_k f(t + kh)`.

    Args:
        apply: f.
        weights: w, (K,), K odd; the middle one is that of k = 0.

    Returns:
        f_s; h is the distance of the series' samples.
    """
    return lambda params, t: weights @ _nodes(apply, params, t, len(weights))


def moving_average(apply: Apply) -> Apply:
    """Smooths by equal weights."""
    return smoothed(apply, jnp.full(NODES, 1 / NODES))


def bounded_moving_average(apply: Apply) -> Apply:
    """Smooths, by equal weights, a function bounded so that differences obey L."""
    bound = STEEPEST * NODES / (2 * (SAMPLES - 1))
    return moving_average(lambda params, t: bound * jnp.tanh(apply(params, t)))


def gaussian(apply: Apply) -> Apply:
    """Smooths by normal weights of the moving average's variance."""
    k = jnp.arange(NODES) - NODES // 2
    return smoothed(apply, jax.nn.softmax(-jnp.square(k) / (2 * jnp.var(k))))


def learned_convolution(apply: Apply) -> Apply:
    """Smooths by a linear combination of few filters with large trained kernels."""

    def convolved(params: Any, t: jax.Array) -> jax.Array:
        nodes = _nodes(apply, params["network"], t, params["filters"].shape[1])
        return params["mix"] @ (params["filters"] @ nodes)

    return convolved


def init_learned_convolution(key: jax.Array) -> dict[str, Any]:
    """Draws params of `learned_convolution`: three filters of `NODES` nodes."""
    filters = 1 / NODES + 0.1 * jax.random.normal(key, (3, NODES))
    return {
        "network": init_steep_network(key),
        "filters": filters,
        "mix": jnp.full(3, 1 / 3),
    }


def _nodes(apply: Apply, params: Any, t: jax.Array, num: int) -> jax.Array:
    offsets = (jnp.arange(num) - num // 2) / (SAMPLES - 1)
    return jax.vmap(lambda offset: apply(params, t + offset))(offsets)


def max_min_of_lines(params: dict[str, jax.Array], t: jax.Array) -> jax.Array:
    r"""Evaluates a max-min network that is no steeper than L by construction.

    .. math::
        f(t) = \max_j \min_k \left( L \tanh(a_{jk})\, t + b_{jk} \right)

    with maxima and minima smoothed as logarithms of sums of exponentials, so that all
    lines have gradients; the slope is an average of the lines' slopes. In the limit the
    network represents any function with this bound.

    Args:
        params: {"a", "b"}, each (groups, lines).
        t: (1,).

    Returns:
        Shape ().
    """
    lines = STEEPEST * jnp.tanh(params["a"]) * t[0] + params["b"]
    tents = -jax.nn.logsumexp(-SHARPNESS * lines, axis=1)
    return jax.nn.logsumexp(tents) / SHARPNESS


def init_lines(key: jax.Array) -> dict[str, jax.Array]:
    """Draws params of `max_min_of_lines`: 16 tents of 4 lines with tops at random times."""
    slope, place = jax.random.split(key)
    a = jax.random.normal(slope, (16, 4))
    places = jax.random.uniform(place, (16, 1))
    return {"a": a, "b": -STEEPEST * jnp.tanh(a) * places}


def init_steep_network(key: jax.Array) -> list[dict[str, jax.Array]]:
    """Draws a network of 32 steep steps at random times, which can fit the noise."""
    weights, places = jax.random.split(key)
    first, last = tabular.init_network(weights, (1, 32, 1))
    steps = jax.random.uniform(places, (32,), minval=-1, maxval=1)
    return [{"w": 10 * first["w"], "b": 10 * steps}, last]


def bounded_waves(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    r"""Evaluates harmonic and damped waves, with a Laplacian of at most C by construction.

    .. math::
        u(x) = \sum_j v_j e^{p_j \cdot x} \cos(p_j^\perp \cdot x + c_j)
             + C \sum_k s_k \frac{\sin(w_k \cdot x + b_k)}{\|w_k\|^2}, \quad
        \|s\|_1 \le 1

    Args:
        params: {"p", "w"} (2, terms) and {"v", "c", "s", "b"} (terms,).
        x: (2,).

    Returns:
        Shape ().
    """
    across = jnp.stack([params["p"][1], -params["p"][0]])
    harmonic = jnp.exp(x @ params["p"]) * jnp.cos(x @ across + params["c"])
    share = params["s"] / jnp.maximum(1.0, jnp.sum(jnp.abs(params["s"])))
    curved = jnp.sin(x @ params["w"] + params["b"]) / jnp.sum(params["w"] ** 2, axis=0)
    return params["v"] @ harmonic + CURVED * (share @ curved)


def init_waves(key: jax.Array) -> dict[str, jax.Array]:
    """Draws params of `bounded_waves`: 8 terms of each kind, curved ones of few waves."""
    p, c, w, b = jax.random.split(key, 4)
    return {
        "p": jax.random.normal(p, (2, 8)),
        "c": jax.random.uniform(c, (8,), maxval=2 * np.pi),
        "v": jnp.zeros(8),
        "w": 2 * np.pi * jax.random.normal(w, (2, 8)),
        "b": jax.random.uniform(b, (8,), maxval=2 * np.pi),
        "s": jnp.zeros(8),
    }
