"""Smooth min-max networks: by hand, far out, fitted and sabotaged."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import logsumexp

import jaxcon as jc
from jaxcon.layers import _min_max
from jaxcon.layers._min_max import smooth_monotone

SMALL = {"groups": 3, "planes": 2}


def box(key, num, d=2):
    return jc.points.uniform(key, [-1.0] * d, [1.0] * d, num)


def test_value_by_hand(x64, key):
    network = smooth_monotone(3, increasing=0, decreasing=2, **SMALL)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf, float), jax.jit(network.init)(key)
    )
    x = np.array([0.4, -1.2, 0.7])
    w = params["slopes"]
    w = np.stack([np.log1p(np.exp(4 * w[0])), w[1], -np.log1p(np.exp(4 * w[2]))])
    t = 1e-3 + np.log1p(np.exp(params["temperature"]))
    a = np.einsum("i,igh->gh", x, w) + params["bias"]
    expected = -t * logsumexp(-logsumexp(a / t, axis=1))
    np.testing.assert_allclose(
        network.apply(params, x), expected, rtol=1e-12
    )  # float64


def test_cold_it_is_the_smallest_of_the_largest_planes(key):
    network = smooth_monotone(2, increasing=0, **SMALL)
    params = {**jax.jit(network.init)(key), "temperature": jnp.array(-50.0)}
    x = jnp.array([0.3, 0.8])
    w = params["slopes"].at[0].set(jax.nn.softplus(4 * params["slopes"][0]))
    planes = jnp.tensordot(x, w, 1) + params["bias"]
    expected = jnp.min(jnp.max(planes, axis=1))
    # t log(number of planes), t = 0.001.
    assert abs(network.apply(params, x) - expected) < 1e-3 * np.log(6)


def test_signs_of_slopes_are_exact(key):
    network = smooth_monotone(3, increasing=(0, 1), decreasing=2)
    x = box(key, 500, 3) * jnp.tile(10.0 ** jnp.linspace(-3, 3, 500)[:, None], (1, 3))
    slopes = jax.jit(jax.vmap(jax.grad(network.apply, 1), (None, 0)))
    signs = jnp.tile(jnp.array([1.0, 1.0, -1.0]), (500, 1))
    for scale in (1.0, 10.0, 1e4):
        params = jax.tree.map(
            lambda leaf, s=scale: s * leaf, jax.jit(network.init)(key)
        )
        found = slopes(params, x)
        assert jnp.isfinite(found).all()
        assert (found * signs >= 0).all()


def test_second_derivatives_are_there(x64, key):
    network = smooth_monotone(2, increasing=(0, 1), **SMALL)
    f = partial(network.apply, jax.tree.map(jnp.float64, jax.jit(network.init)(key)))
    x = jnp.array([0.3, -0.4])
    f = jax.jit(f)
    laplacian = jax.jit(jc.derivatives.laplacian(f))(x)
    h, unit = 1e-4, jnp.eye(2)
    second = sum(f(x + h * e) + f(x - h * e) - 2 * f(x) for e in unit) / h**2
    assert abs(laplacian) > 1e-3
    # h² and rounding / h², both 1e-8, times fourth derivatives of temperature 0.2.
    np.testing.assert_allclose(laplacian, second, atol=1e-4)


@pytest.mark.slow
def test_a_weight_of_the_wrong_sign_is_caught(monkeypatch, key):
    network = smooth_monotone(2, increasing=0, **SMALL)
    params = jax.jit(network.init)(key)

    def tried():
        return jc.layers.check(
            network.apply, params, network.certificate, box, num=500
        ).holds

    assert tried()
    monkeypatch.setattr(_min_max, "_signed", lambda slopes, signs: slopes)
    assert not tried()


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"increasing": 0, "decreasing": 0}, r"\[0\] are both"),
        ({}, "no input is monotone"),
        ({"increasing": 2}, "inputs 0 to 1"),
    ],
)
def test_refusals(about, said):
    with pytest.raises(ValueError, match=said):
        smooth_monotone(2, **about)


def test_one_example_at_a_time(key):
    network = smooth_monotone(2, increasing=0)
    with pytest.raises(ValueError, match=r"\(2,\).*vmap"):
        network.apply(jax.jit(network.init)(key), jnp.ones((5, 2)))


@pytest.mark.slow
def test_a_step_and_a_wave_are_fitted(key):
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
