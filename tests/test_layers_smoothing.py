"""Smoothing of outputs on a grid: against scipy's filters, and bounds of differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage
from test_layers_outputs import known, worst

import jaxcon as jc
from jaxcon import layers
from jaxcon.layers._smoothing import ORDERS

GRID = 30
RANGE = (-1.0, 3.0)


def learned(f, logits):
    """A learned kernel on a function without parameters, and its parameters."""
    network = layers.learned_smoothing(f, len(logits))
    return network, {"network": (), "kernel": jnp.asarray(logits)}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (
            layers.moving_average(5),
            partial(scipy.ndimage.uniform_filter1d, size=5, mode="nearest"),
        ),
        (
            layers.gaussian(1.5),
            partial(scipy.ndimage.gaussian_filter1d, sigma=1.5, mode="nearest"),
        ),
    ],
)
@pytest.mark.parametrize("m", [1, 3, GRID])
def test_smoothing_is_scipys_filter_with_repeated_ends(layer, expected, m, dtype):
    y = np.random.default_rng(0).normal(size=m).astype(dtype)
    found = layer(y)
    assert found.dtype == dtype
    # As many roundings as the kernel has entries.
    atol = 13 * np.finfo(dtype).eps * np.abs(y).max()
    np.testing.assert_allclose(found, expected(y.astype(float)), rtol=0, atol=atol)


KERNELS = {
    "moving average": layers.moving_average(5),
    "single": layers.moving_average(1),
    "gaussian": layers.gaussian(2.0),
}


def promised(layer):
    """The one guarantee of outputs that were bounded before."""
    network = known(lambda x: x, *layers.bounded(*RANGE).certificate().guarantees)
    (guarantee,) = network.then(layer).certificate(()).guarantees
    return guarantee


def limits(guarantee):
    """The bounds of differences that its statement names."""
    return [
        float(word) for word in guarantee.statement.split("at most ")[1].split(", ")
    ]


@pytest.mark.parametrize("name", KERNELS)
def test_bounds_of_differences_are_reached_and_hold_at_the_ends(name, x64):
    matrix = np.asarray(jax.jacobian(KERNELS[name])(jnp.zeros(GRID)))
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-14)  # float64
    assert (matrix >= 0).all()
    for order, limit in zip(ORDERS, limits(promised(KERNELS[name]))):
        rows = np.diff(matrix, order, axis=0)
        # The worst of what lies within the range, for each row: at one end or the other.
        reached = 4.0 * np.maximum(rows, 0).sum(axis=1)
        assert limit == pytest.approx(reached.max(), rel=1e-5)  # six digits are printed


def test_closed_forms_of_the_bounds():
    assert limits(promised(layers.moving_average(5))) == pytest.approx([4 / 5, 8 / 5])
    # The peak of a normal density and twice the steepest slope of it, of a fine grid.
    peak, steepest = 1 / np.sqrt(2 * np.pi), np.exp(-0.5) / np.sqrt(2 * np.pi)
    expected = [4 * peak / 20, 8 * steepest / 20**2]
    # The density is cut off at four deviations.
    assert limits(promised(layers.gaussian(20.0))) == pytest.approx(expected, rel=1e-2)


def wild(x):
    """Outputs at either end of the range, many of them neighbours."""
    return jnp.where(jnp.sin(1e4 * x[0] * jnp.arange(1, 13)) > 0, *RANGE)


@pytest.mark.parametrize(
    "layer",
    [layers.moving_average(3), layers.gaussian(1.0)],
    ids=["average", "gaussian"],
)
def test_a_planted_defect_breaks_the_certificate(layer):
    promise = layers.Certificate((promised(layer),))
    assert worst(lambda x: layer(wild(x)), promise) <= 1
    assert worst(lambda x: layer(wild(x)) + 0.05 * wild(x), promise) > 1
    # Differences alone: no smoothing at all, within the range.
    assert worst(wild, promise) > 1


def test_smoothing_twice_and_entries_with_bounds_of_their_own():
    bounds = layers.bounded(np.array([-1.0, 0.0]), np.array([1.0, 3.0]))
    network = layers.free(1, 2).then(bounds).then(layers.moving_average(3))
    certificate = network.then(layers.gaussian(2.0)).certificate(
        network.init(jax.random.key(0))
    )
    assert [g.constant for g in certificate.guarantees] == [(-1.0, 3.0)]


def test_without_numbers_for_bounds_nothing_is_known():
    for layer in (layers.bounded(0.0, lambda x: x[0]), layers.sums_to(1.0)):
        network = layers.free(1, 5).then(layer).then(layers.moving_average(3))
        assert network.certificate(None).guarantees == ()
    # From one side: the bound stays, differences have none.
    network = layers.free(1, 5).then(layers.positive()).then(layers.moving_average(3))
    assert "at most inf, inf" in str(network.certificate(None))


def test_a_learned_kernel_is_a_softmax_and_certified_as_it_is():
    network, params = learned(known(lambda x: x), np.log([1.0, 2.0, 5.0]))
    y = np.array([8.0, 0.0, 0.0, 8.0], np.float32)
    # Weights 1/8, 2/8 and 5/8 of the neighbour before, of itself and of the one after.
    np.testing.assert_allclose(network.apply(params, y), [3, 1, 5, 7], rtol=1e-6)
    inner = known(wild, *layers.bounded(*RANGE).certificate().guarantees)
    for logits, limit in (
        (np.zeros(3), [4 / 3, 8 / 3]),
        (np.log([1.0, 2.0, 5.0]), [2.5, 4.0]),
        (np.array([-1e30, 0.0, 1e30]), [4.0, 8.0]),
    ):
        network, params = learned(inner, logits)
        certificate = network.certificate(params)
        assert limits(certificate.guarantees[0]) == pytest.approx(limit, rel=1e-5)
        assert worst(partial(network.apply, params), certificate) <= 1


def test_learned_smoothing_begins_as_a_moving_average():
    inner = layers.free(1, 9)
    network = layers.learned_smoothing(inner, 3)
    params, x = network.init(jax.random.key(0)), jnp.ones(1)
    expected = layers.moving_average(3)(inner.apply(params["network"], x))
    np.testing.assert_allclose(network.apply(params, x), expected, rtol=1e-6)


def test_refusals():
    for width in (0, 4):
        with pytest.raises(ValueError, match=f"needs an odd width, got {width}"):
            layers.moving_average(width)
        with pytest.raises(ValueError, match=f"needs an odd width, got {width}"):
            layers.learned_smoothing(layers.free(1, 9), width)
    with pytest.raises(ValueError, match="gaussian needs sigma > 0"):
        layers.gaussian(0.0)
    with pytest.raises(ValueError, match=r"takes one output y of shape \(m,\)"):
        layers.gaussian(1.0)(jnp.zeros((2, 5)))
    network = layers.learned_smoothing(layers.free(1), 3)
    with pytest.raises(ValueError, match=r"learned_smoothing takes one output y"):
        network.apply(network.init(jax.random.key(0)), jnp.zeros(1))


@pytest.mark.slow
def test_a_kernel_can_be_learned(key):
    # The target's own kernel leans to one side; the network below it is known.
    y = jax.random.normal(key, (200, 20))
    network = layers.learned_smoothing(known(lambda x: x), 5)
    weights = jnp.array([0.1, 0.6, 0.2, 0.05, 0.05])
    target = jax.vmap(
        partial(network.apply, {"network": (), "kernel": jnp.log(weights)})
    )
    optimizer = optax.adam(1e-1)

    def loss(params):
        fitted = jax.vmap(partial(network.apply, params))(y)
        return jnp.mean(jnp.square(fitted - target(y)))

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    params = {"network": (), "kernel": jnp.zeros(5)}
    state = optimizer.init(params)
    for _ in range(500):
        params, state = step(params, state)
    found = jax.nn.softmax(params["kernel"])
    np.testing.assert_allclose(found, weights, rtol=0, atol=1e-3)  # Adam, 500 steps


@pytest.mark.slow
@pytest.mark.parametrize("layer", [layers.moving_average(3), layers.gaussian(1.0)])
def test_check_finds_the_planted_defects(layer):
    promise = layers.Certificate((promised(layer),))
    draw = partial(jc.points.uniform, lower=[-2.0], upper=[2.0])
    for apply, holds in (
        (lambda params, x: layer(params * wild(x)), True),
        (lambda params, x: 1.05 * layer(params * wild(x)), False),
    ):
        tried = layers.check(apply, jnp.ones(()), lambda _: promise, draw, num=2000)
        assert tried.holds == holds, str(tried)
