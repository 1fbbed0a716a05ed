"""Smoothing of outputs on a grid: against scipy's filters, and bounds of differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage
from tables import assert_each, assert_refused
from test_layers_outputs import known, random_params, worst

import jaxcon as jc
from jaxcon import layers
from jaxcon.layers._smoothing import ORDERS

GRID = 30
RANGE = (-1.0, 3.0)


def learned(f, logits):
    """A learned kernel on a function without parameters, and its parameters."""
    network = layers.learned_smoothing(f, len(logits))
    return network, {"network": (), "kernel": jnp.asarray(logits)}


def test_smoothing_is_scipys_filter_with_repeated_ends(dtype):
    average, bell = layers.moving_average(5), layers.gaussian(1.5)
    filtered = scipy.ndimage.uniform_filter1d, scipy.ndimage.gaussian_filter1d

    def check(m):
        y = np.random.default_rng(0).normal(size=m).astype(dtype)
        for found, wanted, about in zip(
            jax.jit(lambda y: (average(y), bell(y)))(y),
            filtered,
            ({"size": 5}, {"sigma": 1.5}),
        ):
            assert found.dtype == dtype
            # As many roundings as the kernel has entries.
            atol = 13 * np.finfo(dtype).eps * np.abs(y).max()
            expected = wanted(y.astype(float), mode="nearest", **about)
            np.testing.assert_allclose(found, expected, rtol=0, atol=atol)

    assert_each((1, 3, GRID), check)


KERNELS = {
    "moving average": lambda: layers.moving_average(5),
    "single": lambda: layers.moving_average(1),
    "gaussian": lambda: layers.gaussian(2.0),
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


def test_smoothing_bounds_of_differences_are_reached_and_hold_at_the_ends(x64):
    def check(name):
        layer = KERNELS[name]()
        matrix = np.asarray(jax.jit(jax.jacobian(layer))(np.zeros(GRID)))
        np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-14)  # float64
        assert (matrix >= 0).all()
        for order, limit in zip(ORDERS, limits(promised(layer))):
            rows = np.diff(matrix, order, axis=0)
            # The worst of what lies within the range, for each row: at either end.
            reached = 4.0 * np.maximum(rows, 0).sum(axis=1)
            assert limit == pytest.approx(reached.max(), rel=1e-5)  # six digits printed

    assert_each(KERNELS, check)


def test_smoothing_bounds_in_closed_form():
    assert limits(promised(layers.moving_average(5))) == pytest.approx([4 / 5, 8 / 5])
    # The peak of a normal density and twice the steepest slope of it, of a fine grid.
    peak, steepest = 1 / np.sqrt(2 * np.pi), np.exp(-0.5) / np.sqrt(2 * np.pi)
    expected = [4 * peak / 20, 8 * steepest / 20**2]
    # The density is cut off at four deviations.
    assert limits(promised(layers.gaussian(20.0))) == pytest.approx(expected, rel=1e-2)


def wild(x):
    """Outputs at either end of the range, many of them neighbours."""
    return jnp.where(jnp.sin(1e4 * x[0] * jnp.arange(1, 13)) > 0, *RANGE)


@pytest.mark.parametrize("name", ["moving_average", "gaussian"])
def test_smoothing_keeps_its_certificate_and_a_planted_defect_breaks_it(name):
    layer = {
        "moving_average": layers.moving_average(3),
        "gaussian": layers.gaussian(1.0),
    }
    layer = layer[name]

    def f(weights, x):
        return weights[0] * layer(wild(x)) + weights[1] * wild(x)

    # As it is; with what was there before added; and no smoothing at all, where the
    # differences alone are too large.
    ways = np.float32([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0]])
    sound, *broken = worst(f, layers.Certificate((promised(layer),)), knobs=ways)
    assert sound <= 1
    assert min(broken) > 1


def test_smoothing_twice_keeps_the_widest_bounds_of_the_entries():
    bounds = layers.bounded(np.array([-1.0, 0.0]), np.array([1.0, 3.0]))
    free = layers.mlp(1, 2, width=4, depth=2)
    network = free.then(bounds).then(layers.moving_average(3))
    twice = network.then(layers.gaussian(2.0))
    certificate = twice.certificate(random_params(network))
    assert [g.constant for g in certificate.guarantees] == [(-1.0, 3.0)]


def test_smoothing_without_numbers_for_bounds_promises_nothing():
    for layer in (layers.bounded(0.0, lambda x: x[0]), layers.sums_to(1.0)):
        network = layers.mlp(1, 5).then(layer).then(layers.moving_average(3))
        assert network.certificate(None).guarantees == ()
    # From one side: the bound stays, differences have none.
    network = layers.mlp(1, 5).then(layers.positive()).then(layers.moving_average(3))
    assert "at most inf, inf" in str(network.certificate(None))


def test_learned_smoothing_is_a_softmax_and_certified_as_it_is():
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
    inner = layers.mlp(1, 9, width=4, depth=2)
    network = layers.learned_smoothing(inner, 3)

    @jax.jit
    def both(key, x):
        params = network.init(key)
        average = layers.moving_average(3)(inner.apply(params["network"], x))
        return network.apply(params, x), average

    found, expected = both(jax.random.key(0), np.ones(1, "float32"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_smoothing_refuses_what_does_not_fit():
    network = layers.learned_smoothing(layers.mlp(1, width=4, depth=2), 3)
    params = random_params(network)
    rows = [
        *(
            (lambda make=make, width=width: make(width), words)
            for width, words in {
                0: r"width must be a whole number in \[1, 1e\+06\], got 0",
                4: "an odd width, got 4",
            }.items()
            for make in (
                layers.moving_average,
                partial(layers.learned_smoothing, layers.mlp(1, 9)),
            )
        ),
        (
            lambda: layers.gaussian(0.0),
            r"gaussian: sigma must be in \(0, 125000\], got 0.0",
        ),
        (
            lambda: layers.gaussian(1.0)(np.zeros((2, 5))),
            r"takes one output y of shape \(m,\)",
        ),
        (
            lambda: network.apply(params, np.zeros(1)),
            r"learned_smoothing takes one output y",
        ),
    ]
    assert_refused([(call, ValueError, words) for call, words in rows])


@pytest.mark.slow
def test_learned_smoothing_learns_a_kernel(key):
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
def test_check_finds_a_planted_defect_of_smoothing():
    layer = layers.gaussian(1.0)
    promise = layers.Certificate((promised(layer),))
    draw = partial(jc.points.uniform, lower=[-2.0], upper=[2.0])
    for apply, holds in (
        (lambda params, x: layer(params * wild(x)), True),
        (lambda params, x: 1.05 * layer(params * wild(x)), False),
    ):
        tried = layers.check(apply, jnp.ones(()), lambda _: promise, draw, num=2000)
        assert tried.holds == holds, str(tried)
