"""Smooth min-max networks: by hand, far out, fitted and sabotaged."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import logsumexp
from tables import assert_refused
from test_layers_outputs import random_params

import jaxcon as jc
from jaxcon.layers import _min_max
from jaxcon.layers._min_max import smooth_monotone

SMALL = {"groups": 3, "planes": 2}


def box(key, num, d=2):
    return jc.points.uniform(key, [-1.0] * d, [1.0] * d, num)


def test_smooth_monotone_value_by_hand(x64):
    network = smooth_monotone(3, increasing=0, decreasing=2, **SMALL)
    params, x = random_params(network, "float64"), np.array([0.4, -1.2, 0.7])
    w = params["slopes"]
    w = np.stack([np.log1p(np.exp(4 * w[0])), w[1], -np.log1p(np.exp(4 * w[2]))])
    t = 1e-3 + np.log1p(np.exp(params["temperature"]))
    a = np.einsum("i,igh->gh", x, w) + params["bias"]
    expected = -t * logsumexp(-logsumexp(a / t, axis=1))
    ours = jax.jit(network.apply)(params, x)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)  # float64


def test_smooth_monotone_when_cold_is_the_smallest_of_the_largest_planes():
    network = smooth_monotone(2, increasing=0, **SMALL)
    params = {**random_params(network), "temperature": np.float32(-50.0)}
    x, w = np.float32([0.3, 0.8]), np.array(params["slopes"], float)
    w[0] = np.logaddexp(0.0, 4 * w[0])
    planes = np.tensordot(x, w, 1) + params["bias"]
    expected = planes.max(axis=1).min()
    # t log(number of planes), t = 0.001.
    found = jax.jit(network.apply)(params, x)
    assert abs(found - expected) < 1e-3 * np.log(6)


def test_smooth_monotone_signs_of_slopes_are_exact(key):
    network = smooth_monotone(3, increasing=(0, 1), decreasing=2)
    far = 10.0 ** np.linspace(-3, 3, 500)[:, None]
    x = np.asarray(box(key, 500, 3) * far, "float32")
    slopes = jax.jit(jax.vmap(jax.grad(network.apply, 1), (None, 0)))
    start = random_params(network)
    for scale in (1.0, 10.0, 1e4):
        params = jax.tree.map(lambda leaf, s=scale: np.float32(s) * leaf, start)
        found = np.asarray(slopes(params, x))
        assert np.isfinite(found).all()
        assert (found * np.array([[1.0, 1.0, -1.0]]) >= 0).all()


def test_smooth_monotone_has_second_derivatives(x64):
    network = smooth_monotone(2, increasing=(0, 1), **SMALL)
    params = {**random_params(network, "float64"), "temperature": np.array(-1.5)}
    f, x, h = partial(network.apply, params), np.array([0.3, -0.4]), 1e-4
    near = np.stack([x + side * h * unit for side in (1, -1) for unit in np.eye(2)])
    laplacian, value, values = jax.jit(
        lambda x, near: (jc.derivatives.laplacian(f)(x), f(x), jax.vmap(f)(near))
    )(x, near)
    assert abs(laplacian) > 1e-3
    # h² and rounding / h², both 1e-8, times fourth derivatives of temperature 0.2.
    second = (values.sum() - 4 * value) / h**2
    np.testing.assert_allclose(laplacian, second, atol=1e-4)


@pytest.mark.slow
def test_check_finds_a_weight_of_smooth_monotone_of_the_wrong_sign(monkeypatch, key):
    network = smooth_monotone(2, increasing=0, **SMALL)
    params = jax.jit(network.init)(key)

    def tried():
        return jc.layers.check(
            network.apply, params, network.certificate, box, num=500
        ).holds

    assert tried()
    monkeypatch.setattr(_min_max, "_signed", lambda slopes, signs: slopes)
    assert not tried()


def test_smooth_monotone_refuses_what_makes_no_network():
    def refused(words, **about):
        return lambda: smooth_monotone(2, **about), ValueError, words

    network = smooth_monotone(2, increasing=0, **SMALL)
    params = random_params(network)
    assert_refused(
        [
            refused(r"\[0\] are both", increasing=0, decreasing=0),
            refused("increasing or decreasing must name an input"),
            refused("inputs 0 to 1", increasing=2),
            (
                lambda: network.apply(params, np.ones((5, 2))),
                ValueError,
                r"\(2,\).*vmap",
            ),
        ]
    )


@pytest.mark.slow
def test_smooth_monotone_fits_a_step_and_a_wave(key):
    def target(x):
        return jnp.tanh(8 * x[0]) + jnp.sin(2 * x[1])

    network = smooth_monotone(2, increasing=0)
    x, steps = box(key, 512), 3000
    y = jax.vmap(target)(x)

    def error(params):
        return jnp.mean((jax.vmap(partial(network.apply, params))(x) - y) ** 2)

    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(error)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        params = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][
            0
        ]
        return error(params)

    # Root mean square 5 % of the target's deviation; a plane leaves 40 %.
    assert jnp.sqrt(run(jax.jit(network.init)(key)) / jnp.var(y)) < 0.05
