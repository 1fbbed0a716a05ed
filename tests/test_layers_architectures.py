"""Architectures for differential equations: their start, formulas and certificates."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tables import assert_refused

import jaxcon as jc
from jaxcon import layers
from jaxcon.layers import _certificates as certificates

KEY = jax.random.key(0)
NETWORKS = {
    "siren": lambda: layers.siren(2, 3, width=8, frequency=4.0),
    "modified_mlp": lambda: layers.modified_mlp(2, 3, width=8),
    "adaptive": lambda: layers.mlp(2, 3, width=8, adaptive=5.0, activation=jnp.sin),
    "fourier_features": lambda: layers.mlp(8, 3, width=8).then(
        layers.fourier_features(2, 4, scale=[0.3, 1.0])
    ),
}


def test_siren_begins_as_its_paper_says():
    omega, n = 30.0, 512
    network = layers.siren(2, width=n, depth=4, frequency=omega)
    params = jax.tree.map(np.asarray, network.init(KEY))
    reaches = [1 / 2, *[np.sqrt(6 / n) / omega] * 3]
    for layer, reach in zip(params, reaches):
        w, b = layer["w"], layer["b"]
        # Uniform up to the reach: variance reach² / 3.
        assert 0.98 * reach < np.abs(w).max() <= reach
        assert np.var(w) == pytest.approx(reach**2 / 3, rel=0.1)
        assert np.abs(b).max() <= 1 / np.sqrt(len(w)) * (1 + 1e-6)
    # Phases without biases: of variance one from the second layer on, and their sines
    # of variance one half.
    x = np.random.default_rng(0).uniform(-1, 1, (1000, 2)).astype("float32")
    h = np.sin(omega * (x @ params[0]["w"] + params[0]["b"]))
    for layer in params[1:3]:
        phases = omega * h @ layer["w"]
        assert np.var(phases) == pytest.approx(1.0, rel=0.1)
        h = np.sin(phases + omega * layer["b"])
        assert np.mean(h**2) == pytest.approx(0.5, rel=0.1)


def test_siren_is_its_formula(x64):
    network = layers.siren(2, width=5, frequency=3.0)
    first, second, last = params = network.init(KEY)
    x = np.array([0.3, -0.8])
    h = np.sin(3.0 * (x @ first["w"] + first["b"]))
    h = np.sin(3.0 * (h @ second["w"] + second["b"]))
    wanted = h @ last["w"][:, 0] + last["b"][0]
    np.testing.assert_allclose(network.apply(params, x), wanted, rtol=1e-12)


def test_dense_layers_begin_with_phases_as_large_as_their_inputs():
    for params in (
        layers.mlp(50, width=400, depth=2).init(KEY)[0],
        layers.modified_mlp(50, width=400).init(KEY)["u"],
    ):
        x = np.random.default_rng(0).normal(size=(400, 50))
        phases = x @ np.asarray(params["w"]) + np.asarray(params["b"])
        assert np.var(phases) == pytest.approx(1.0, rel=0.1)


def test_modified_mlp_is_its_formula(x64):
    network = layers.modified_mlp(2, width=5, depth=4)
    params = network.init(KEY)
    x = np.array([0.3, -0.8])

    def layer(each, h):
        return np.tanh(h @ each["w"] + each["b"])

    u, v = layer(params["u"], x), layer(params["v"], x)
    h = layer(params["layers"][0], x)
    for gate in params["layers"][1:3]:
        z = layer(gate, h)
        h = (1 - z) * u + z * v
    last = params["layers"][3]
    wanted = h @ last["w"][:, 0] + last["b"][0]
    np.testing.assert_allclose(network.apply(params, x), wanted, rtol=1e-12)


def test_adaptive_slopes_begin_at_one_and_are_trained():
    plain, adaptive = layers.mlp(2, width=8), layers.mlp(2, width=8, adaptive=10.0)
    of_plain, of_adaptive = plain.init(KEY), adaptive.init(KEY)
    x = jnp.array([0.3, -0.8])
    value = plain.apply(of_plain, x)
    # A product of 10 and 1/10, to a rounding of each hidden value.
    np.testing.assert_allclose(adaptive.apply(of_adaptive, x), value, rtol=1e-6)
    assert [jnp.shape(layer.get("a", jnp.ones(1))) for layer in of_adaptive] == [
        (),
        (),
        (1,),
    ]
    slopes = jax.grad(adaptive.apply)(of_adaptive, x)
    assert all(slopes[k]["a"] != 0 for k in (0, 1))
    # A doubled slope is a doubled first layer.
    of_adaptive[0]["a"] = 2 * of_adaptive[0]["a"]
    of_plain[0] = jax.tree.map(lambda leaf: 2 * leaf, of_plain[0])
    np.testing.assert_allclose(
        adaptive.apply(of_adaptive, x), plain.apply(of_plain, x), rtol=1e-6
    )


def test_architectures_have_the_derivatives_that_differences_say(x64):
    x, step = np.array([0.3, -0.8]), 1e-5
    # x, and to both sides of it along each input.
    points = np.stack(
        [x, *(x + sign * step * e for e in np.eye(2) for sign in (1, -1))]
    )

    def derivatives(f, x):
        return f(x), jax.jacfwd(f)(x), jax.jacfwd(jax.jacfwd(f))(x)

    for name, make in NETWORKS.items():
        network = make()
        f = partial(network.apply, network.init(KEY))
        found = jax.jit(jax.vmap(partial(derivatives, f)))(points)
        for lower, upper in pairwise(map(np.asarray, found)):
            across = [(lower[i] - lower[i + 1]) / (2 * step) for i in (1, 3)]
            wanted = np.stack(across, axis=-1)
            np.testing.assert_allclose(upper[0], wanted, atol=1e-7, err_msg=name)


def test_architectures_are_modules_and_back():
    for name, make in NETWORKS.items():
        model = layers.module(make(), rngs=nnx.Rngs(0))
        x = jnp.array([[0.3, -0.8], [0.1, 0.2]])
        apply, params = jc.from_module(model)
        # One by one or together: the same sums in another order.
        found = jax.jit(lambda params, x, f=apply: f(params, x))(params, x[0])
        np.testing.assert_allclose(found, model(x)[0], atol=1e-5, err_msg=name)


def test_fourier_features_are_waves_of_normal_frequencies(x64):
    features = layers.fourier_features(2, 20_000, scale=[0.1, 0.3], seed=3)
    waves = partial(features.wrap(lambda params, u: u), None)
    x, y = jnp.array([0.4, -1.0]), jnp.array([1.2, -0.3])
    one, two = waves(x), waves(y)
    assert one.shape == (40_000,)
    np.testing.assert_allclose(jnp.sum(one**2), 20_000, rtol=1e-12)
    # The mean of cosines under normal frequencies is a Gaussian kernel; of 20,000 its
    # standard error is at most 1 / sqrt(20,000).
    distance = np.array([0.1, 0.3]) * np.asarray(x - y)
    kernel = np.exp(-2 * np.pi**2 * np.sum(distance**2))
    assert abs(one @ two / 20_000 - kernel) < 4 / np.sqrt(20_000)
    again = layers.fourier_features(2, 20_000, scale=[0.1, 0.3], seed=3)
    np.testing.assert_array_equal(again.wrap(lambda params, u: u)(None, x), one)
    other = layers.fourier_features(2, 20_000, scale=[0.1, 0.3], seed=4)
    assert np.any(other.wrap(lambda params, u: u)(None, x) != one)


def of_slope_one(direction):
    """A network of one output and Lipschitz constant one, which it attains."""
    claim = certificates.lipschitz(1.0, roundings=len(direction))
    return layers.Network(
        lambda key: {"w": direction},
        lambda params, u: params["w"] @ u,
        lambda params: layers.Certificate((claim,)),
    )


def test_fourier_features_scale_a_lipschitz_constant_as_far_as_it_goes():
    features = layers.fourier_features(2, 3, scale=0.5)
    x = jnp.array([0.2, -0.7])
    slopes = jax.jacobian(features.wrap(lambda params, u: u), argnums=1)(None, x)
    left, sizes, _ = np.linalg.svd(slopes)
    network = of_slope_one(jnp.asarray(left[:, 0])).then(features)
    params = network.init(KEY)
    (claim,) = network.certificate(params).guarantees
    # The steepest direction of the waves at x, which is as steep as any anywhere.
    gradient = jax.grad(network.apply, argnums=1)(params, x)
    assert claim.constant == pytest.approx(sizes[0], rel=1e-6)
    assert float(jnp.linalg.norm(gradient)) == pytest.approx(claim.constant, rel=1e-5)


def test_fourier_features_keep_bounds_and_nothing_else_that_is_not_theirs():
    features = layers.fourier_features(2, 3)
    network = layers.monotone(6, increasing=0, width=4).then(layers.bounded(0.0, 1.0))
    kinds = [claim.kind for claim in network.certificate(network.init(KEY)).guarantees]
    assert "slope" in kinds
    carried = network.then(features).certificate(network.init(KEY)).guarantees
    assert [claim.kind for claim in carried] == ["within"]


def test_architectures_compose_with_exact_periods_and_boundaries():
    network = (
        layers.siren(6, width=8, frequency=2.0)
        .then(layers.fourier_features(3, 3, scale=0.2))
        .then(layers.periodic({0: 2.0}))
        .then(layers.initial_value(1, 0.0, value=1.5))
    )
    params = network.init(KEY)
    here, there = jnp.array([0.5, 1.0]), jnp.array([100.5, 1.0])
    assert network.apply(params, here) == network.apply(params, there)
    assert network.apply(params, jnp.array([0.3, 0.0])) == 1.5


@pytest.mark.parametrize(
    "make",
    [
        partial(layers.siren, frequency=2.0),
        pytest.param(layers.modified_mlp, marks=pytest.mark.slow),
    ],
    ids=["siren", "modified_mlp"],
)
def test_verify_proves_bounds_of_sines_and_gates(make):
    network = make(2, width=3, depth=3)
    params = network.init(KEY)
    x = jax.random.uniform(KEY, (500, 2), minval=-0.5, maxval=0.5)
    values = jax.vmap(partial(network.apply, params))(x)
    low, high = float(values.min()) - 0.5, float(values.max()) + 0.5
    claim = jc.shapes.bounded(network.apply, low, high)
    box = [-0.5, -0.5], [0.5, 0.5]
    found = jc.certify.verify({"within": claim}, *box, params=params, budget=20.0)
    assert found["within"].holds is True


def test_architectures_refuse_what_is_no_network_of_theirs():
    column = layers.mlp(2, width=4, activation=lambda z: z[:, None])
    shorter = layers.modified_mlp(2, width=4, activation=lambda z: z[:-1])
    x = jnp.ones(2)
    assert_refused(
        [
            (
                lambda: column.apply(column.init(KEY), x),
                ValueError,
                r"mlp: what activation returns .*\(n,\)",
            ),
            (
                lambda: shorter.apply(shorter.init(KEY), x),
                ValueError,
                ["activation returns shape (3,) for units of shape (4,)"],
            ),
            (lambda: layers.modified_mlp(2, depth=2), ValueError, "depth must be"),
            (lambda: layers.siren(2, frequency=0.0), ValueError, "frequency must be"),
            (
                lambda: layers.fourier_features(2, 3, scale=[1.0, 1.0, 1.0]),
                ValueError,
                ["scale must be of shape () or (2,), got (3,)"],
            ),
            (
                lambda: layers.fourier_features(2, 3, scale=[1.0, -1.0]),
                ValueError,
                "scale must be > 0",
            ),
            (
                lambda: layers.fourier_features(2, 3).wrap(lambda p, u: u)(None, x[:1]),
                ValueError,
                ["takes one example x of shape (2,), got (1,)"],
            ),
        ]
    )
