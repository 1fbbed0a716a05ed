"""Bounds of random networks contain what their exact derivatives are at sampled points."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcon as jc
from jaxcon.certify._proof import double
from jaxcon.derivatives import (
    Directional,
    Divergence,
    Gradient,
    Hessian,
    HessianDiagonal,
    Jacobian,
    Laplacian,
    Partial,
    Value,
    derivatives,
)

WIDTH, SAMPLES = 4, 24
LAPLACIAN = Laplacian([0.5, 2.0], [[1.0, 0.5], [0.25, -1.0]])
FIRST = Value(), Gradient(), Directional([0.5, -2.0])
SECOND = (*FIRST, Partial((0, 0)), Partial((0, 1)), LAPLACIAN)
MATRIX = Value(), Hessian(), HessianDiagonal(), Laplacian()
THIRD = Value(), Gradient(), Partial((0, 0, 0)), Partial((0, 0, 1))
FIELD = Value(), Jacobian(), Divergence(), Partial((1, 1))


def mlp(activation):
    def apply(p, x):
        for w, b in ((p.first, p.shift), (p.second, p.shift)):
            x = activation(w @ x + b)
        return p.last @ x

    return apply


def layer_norm(p, x):
    y = p.first @ x + p.shift
    y = (y - jnp.mean(y)) / jnp.sqrt(jnp.var(y) + 0.125)
    return p.last @ jnp.tanh(p.second @ y)


def attention(p, x):
    tokens = jnp.tanh(p.first * x[0] + jnp.outer(p.shift, p.last[:2]) * x[1])
    scores = tokens @ tokens.T
    return jnp.sum(p.shift @ jax.nn.softmax(scores, axis=-1) @ tokens)


def residual(p, x):
    y = p.first @ x
    for w in (p.second, p.second.T):
        y = y + 0.5 * jax.nn.silu(w @ y + p.shift)
    return p.last @ y


def convolution(p, x):
    y = jnp.tanh(p.first @ x + p.shift)
    y = jax.lax.conv(y[None, None], p.second[:, None, :3], (1,), "SAME")[0]
    return jnp.sum(jax.nn.sigmoid(y) * p.second)


def scanned(p, x):
    def layer(y, w):
        return jnp.tanh(w @ y + p.shift), jnp.sum(y)

    layers = jnp.stack([p.second, p.second.T, p.second])
    y, sums = jax.lax.scan(layer, p.first @ x, layers)
    return p.last @ y + jnp.sum(sums)


def decided(p, x):
    # The exponential is surely positive, the negative branch is never taken.
    y = p.first @ x + p.shift
    positive = jnp.exp(-(y * y)) + 0.5
    return p.last @ jnp.where(positive > 0.25, jnp.sin(y) * positive, -y)


def ratio(p, x):
    y = p.first @ x + p.shift
    return (p.last @ y) * x[0] / (1 + y @ y) + x[0] * x[1] ** 3


def powers(p, x):
    y = jax.nn.softplus(p.first @ x + p.shift) + 0.25
    return p.last @ (jnp.sqrt(y) + jnp.log(y) + y**-1.5) + jnp.prod(y) ** 0.25


def clipped(p, x):
    y = p.second @ jnp.clip(p.first @ x + p.shift, -1.0, 2.0)
    return jnp.max(y) * x[0] + jnp.minimum(y[0], y[1]) - jnp.max(jnp.abs(y))


def field(p, x):
    y = jnp.tanh(p.first @ x + p.shift)
    return p.second[:2] @ y * x


def both_gelus(p, x):
    y = jax.nn.gelu(p.first @ x + p.shift, approximate=False)
    return p.last @ jax.nn.gelu(p.second @ y, approximate=True)


NETWORKS = {
    "tanh": (mlp(jnp.tanh), SECOND),
    "sigmoid": (mlp(jax.nn.sigmoid), MATRIX),
    "softplus": (mlp(jax.nn.softplus), SECOND),
    "gelu": (both_gelus, SECOND),
    "silu": (mlp(jax.nn.silu), MATRIX),
    "elu": (mlp(jax.nn.elu), FIRST),
    "sin": (mlp(jnp.sin), THIRD),
    "tanh, third": (mlp(jnp.tanh), THIRD),
    "relu": (mlp(jax.nn.relu), FIRST),
    "leaky_relu": (mlp(jax.nn.leaky_relu), FIRST),
    "layer norm": (layer_norm, SECOND),
    "attention": (attention, SECOND),
    "residual": (residual, MATRIX),
    "convolution": (convolution, SECOND),
    "scan": (scanned, SECOND),
    "decided": (decided, MATRIX),
    "ratio": (ratio, THIRD),
    "powers": (powers, SECOND),
    "clipped": (clipped, FIRST),
    "field": (field, FIELD),
}


class Params(NamedTuple):
    first: Any
    shift: Any
    second: Any
    last: Any


def drawn(count, seed, dtype):
    """Parameters of a few scales, with boxes of many widths and one of a million."""
    draw = np.random.default_rng(seed)
    shapes = (WIDTH, 2), (WIDTH,), (WIDTH, WIDTH), (WIDTH,)
    scale = draw.choice([0.25, 1.0, 1.0, 4.0, 30.0], count)
    params = Params(
        *(
            (scale.reshape(-1, *[1] * len(shape)) * draw.normal(size=(count, *shape)))
            for shape in shapes
        )
    )
    middle = 2 * draw.normal(size=(count, 2))
    width = 10 ** draw.uniform(-7, 1, (count, 1)) * draw.uniform(0.1, 1, (count, 2))
    width[0] = 1e6
    corners = np.sort([middle - width / 2, middle + width / 2], axis=0)
    return jax.tree.map(lambda a: a.astype(dtype), (params, *corners))


def enclosed(apply, wanted, params, lower, upper):
    """Bounds of many networks, each over a box of its own: one program."""

    def one(p, low, high):
        return jc.certify.bounds(partial(apply, p), low, high, *wanted)

    found = jax.jit(jax.vmap(one))(params, lower, upper)
    return jax.tree.map(lambda a: np.asarray(a, np.float64), found)


def samples(lower, upper, seed):
    """Points of each box in float64: corners, the middle, and any other."""
    share = np.random.default_rng(seed).uniform(size=(len(lower), SAMPLES, 2))
    share[:, :8] = np.round(share[:, :8])
    share[:, 8] = 0.5
    low, high = (np.asarray(a, np.float64)[:, None] for a in (lower, upper))
    return np.clip(low + share * (high - low), low, high)


def evaluated(apply, wanted, params, points):
    """Quantities in float64, of the parameters as they are."""

    def one(p, xs):
        return jax.vmap(derivatives(partial(apply, p), *wanted))(xs)

    with double():
        given = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, points))
        return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(*given))


def assert_enclosed(name, dtype, count, seed):
    apply, wanted = NETWORKS[name]
    params, lower, upper = drawn(count, seed, dtype)
    if dtype == np.float64:
        with double():
            found = enclosed(apply, wanted, params, lower, upper)
    else:
        found = enclosed(apply, wanted, params, lower, upper)
    points = samples(lower, upper, seed)
    true = evaluated(apply, wanted, params, points)
    finite = []
    for field, (least, most), values in zip(found._fields, found, true):
        # The samples' own rounding, beside which the bounds' is counted.
        slack = 1e-14 * np.abs(values)
        outside = np.maximum(least[:, None] - values, values - most[:, None]) - slack
        worst = np.nanmax(outside) if np.isfinite(outside).any() else 0.0
        where = np.unravel_index(np.nanargmax(outside), outside.shape)
        assert worst <= 0, (
            f"{name}: {field} of network {where} lies {worst:.3g} outside of "
            f"{least[where[0]].tolist()} to {most[where[0]].tolist()}: {values[where]}"
        )
        finite.append(np.isfinite(least) & np.isfinite(most))
    # What is bounded by nothing is contained as well.
    assert np.mean([each.mean() for each in finite]) > 0.5


def test_bounds_contain_sampled_derivatives_of_a_network():
    assert_enclosed("tanh", np.float32, 40, 0)


def test_bounds_contain_sampled_slopes_of_a_network_with_kinks():
    assert_enclosed("relu", np.float64, 40, 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_bounds_contain_sampled_derivatives_of_many_networks(name, dtype):
    assert_enclosed(name, dtype, 300, 2)
