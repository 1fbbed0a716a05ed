"""Convex networks: by hand, at their bounds, far out, fitted and sabotaged."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_refused
from test_layers_outputs import random_params

import jaxcon as jc
from jaxcon.examples.tables import price
from jaxcon.layers import _convex_network
from jaxcon.layers._convex import bounded_concave, bounded_convex, concave, convex

SMALL = {"width": 4, "depth": 2}
CALL = {"convex": 0, "decreasing": 0, "increasing": 1}


def box(key, num, d):
    return jc.points.uniform(key, [-1.0] * d, [1.0] * d, num)


def check(network, params, d, num=300):
    draw = partial(box, d=d)
    return jc.layers.check(network.apply, params, network.certificate, draw, num=num)


def softplus(y):
    return np.log1p(np.exp(y))


def test_convex_value_by_hand(x64):
    network = convex(2, convex=0, decreasing=0, width=2, depth=2)
    params = random_params(network, "float64")
    k, t = 0.3, -0.7
    (first,) = params["free"]
    v = np.tanh(t * first["free"][0] + first["bias"])

    def linear(layer, z):
        gate = layer["gates"]["bent and rising"]
        a = softplus(v @ gate["free"] + gate["bias"])
        y = -k * a @ softplus(8 * layer["bent and rising"])
        y = y + v @ layer["free"] + layer["bias"]
        if z is not None:
            gate = layer["gates"]["hidden"]
            s = softplus(v @ gate["free"] + gate["bias"])
            y = y + (z * s) @ softplus(8 * layer["hidden"])
        return y

    hidden, last = params["convex"]
    z = np.log(1 + np.exp(linear(hidden, None)).sum(keepdims=True))
    expected = linear(last, z)[0]
    ours = jax.jit(network.apply)(params, np.array([k, t]))
    np.testing.assert_allclose(ours, expected, rtol=1e-12)  # float64


CASES = {
    "all": lambda: convex(2, width=4, depth=3),
    "strong": lambda: convex(2, convex=0, strong=3.0, **SMALL),
    "call": lambda: convex(3, **CALL, **SMALL),
    "concave": lambda: concave(2, increasing=0, decreasing=1, **SMALL),
    "bounded": lambda: bounded_convex(
        [-1.0] * 2, [0.5] * 2, -1.0, 2.0, increasing=(0, 1), **SMALL
    ),
    "bounded concave": lambda: bounded_concave(
        [-1.0], [1.0], 0.0, 1.0, decreasing=0, **SMALL
    ),
}
BENT = ("convex", "concave")
SIZES = dict(zip(CASES, (2, 2, 3, 2, 2, 1)))
BY_DEFAULT = ("concave", "bounded")
cases = pytest.mark.parametrize(
    "name",
    [
        name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.slow)
        for name in CASES
    ],
)


@cases
def test_convex_keeps_signs_and_is_finite_for_extreme_parameters(name, key):
    # Values of the tests themselves at few points; the search is in the table of laws.
    network, d = CASES[name](), SIZES[name]
    out = np.repeat([1.0, 30.0], 100)[:, None]
    x = np.asarray(box(key, 200, d) * out, "float32")

    @jax.jit
    def judged(params):
        f = partial(network.apply, params)
        excesses = []
        for guarantee in network.certificate(params).guarantees:
            at = x
            if guarantee.domain is not None:
                at = jnp.clip(x, *(jnp.tile(c, (200, 1)) for c in guarantee.domain))
            if "derivative" in guarantee.tests:
                gap = jax.vmap(partial(guarantee.tests["derivative"], f))(at, at)
                allowed = guarantee.tolerance("float32", gap.size)
                # Signs of slopes are exact.
                allowed = allowed if guarantee.kind.endswith(BENT) else 0.0
                excesses.append(jnp.max(gap.excess - allowed))
        return jnp.stack(excesses), jax.vmap(jax.value_and_grad(f))(x[:20])

    start = random_params(network)
    for scale in (1.0, 10.0, 0.0, 1e4, -1e4):
        params = jax.tree.map(lambda leaf, s=scale: np.float32(s) * leaf, start)
        excesses, parts = judged(params)
        if scale in (1.0, 10.0):
            assert (np.asarray(excesses) <= 0).all()
        assert all(np.isfinite(part).all() for part in parts)


def test_convex_strong_curvature_is_there(key):
    network = convex(2, convex=0, strong=3.0, **SMALL)
    bend = jc.derivatives.partial_derivative(
        partial(network.apply, random_params(network)), 0, 0
    )
    far = np.float32([[1e3, 0.0], [-1e3, 0.0]])
    found = jax.jit(jax.vmap(bend))(np.concatenate([box(key, 50, 2), far]))
    assert (found[:50] >= 3.0).all()
    # Units are straight out there.
    np.testing.assert_allclose(found[50:], 3.0, rtol=1e-6)


def test_convex_reaches_the_larger_of_two_rising_inputs():
    # Positive sums of softplus have no mixed second derivative below zero.
    network = convex(2, increasing=(0, 1), width=2, depth=2)
    params = random_params(network)
    steep = np.log(np.expm1([[80.0, 1e-6], [1e-6, 80.0]])).astype("float32") / 8
    bias, last = np.full(2, 100.0, "float32"), params["convex"][1]
    first = {"bent and rising": steep, "bias": bias, "gates": {}}
    last = {**last, "hidden": np.full((1, 1), 0.067706, "float32"), "gates": {}}
    last["bent and rising"] = np.full((2, 1), -10.0, "float32")
    params = {**params, "convex": [first, last]}
    f = partial(network.apply, params)
    mixed = jc.derivatives.partial_derivative(f, 0, 1)
    x = np.float32([[0.0, 0.0], [0.9, -0.5], [0.2, 0.7], [-1.0, -0.4]])
    values, bend = jax.jit(lambda x: (jax.vmap(f)(x), mixed(x[0])))(x)
    assert bend < -5
    rise = (values[1:] - values[0]) / 40
    # log(2) / 40 and the weight's rounding to five digits.
    np.testing.assert_allclose(rise, x[1:].max(1), atol=0.02)


@pytest.mark.parametrize("make", [bounded_convex, bounded_concave])
def test_bounded_convex_holds_its_bounds_to_the_last_bit(make):
    network = make(
        [0.0, -1.0], [2.0, 1.0], 0.1, 0.7, increasing=0, decreasing=1, **SMALL
    )
    params = random_params(network)
    sure = {**params, "shares": np.float32([-50.0, 50.0, -50.0])}  # all of the range
    apply = jax.jit(jax.vmap(network.apply, (None, 0)))
    far = 10.0 ** np.arange(-3, 30, 3)[:, None]
    x = np.float32(far * np.random.default_rng(0).normal(size=(11, 2)))
    x = np.vstack([x, np.float32([[0.0, 1.0], [2.0, -1.0]])])
    for p in (params, jax.tree.map(lambda leaf: 1000 * leaf, params), sure):
        y = np.asarray(apply(p, x))
        assert ((np.float32(0.1) <= y) & (y <= np.float32(0.7))).all()
    np.testing.assert_allclose(y[-2:], [0.1, 0.7], rtol=1e-6)  # float32, of `sure`


def test_bounded_convex_slopes_on_the_edge_are_those_inside():
    network = bounded_convex([0.0], [1.0], 0.0, 1.0, increasing=0, **SMALL)
    slope = jax.vmap(jax.grad(partial(network.apply, random_params(network))))
    x = np.float32([[0.0], [1e-5], [1.0 - 1e-5], [1.0], [-0.1], [1.1]])
    found = np.asarray(jax.jit(slope)(x))[:, 0]
    np.testing.assert_allclose(found[:4:3], found[1:3], rtol=1e-3)  # curvature × 1e-5
    np.testing.assert_array_equal(found[4:], 0.0)


def test_laplacian_of_convex_is_the_trace_of_its_hessian(x64):
    network = convex(2, **SMALL)
    f = partial(network.apply, random_params(network, "float64"))
    both = jax.jit(lambda x: (jc.derivatives.laplacian(f)(x), jax.hessian(f)(x)))
    laplacian, hessian = both(np.array([0.3, -0.4]))
    np.testing.assert_allclose(laplacian, np.trace(hessian), rtol=1e-12)


@pytest.mark.slow
def test_check_finds_free_weights_of_convex(monkeypatch, key):
    network = convex(2, **SMALL)
    params = jax.jit(network.init)(key)
    hidden, last = params["convex"]
    # Positive through softplus; of the wrong sign where nothing makes them positive.
    negative = {**last, "hidden": -jnp.ones_like(last["hidden"])}
    params = {**params, "convex": [hidden, negative]}
    assert check(network, params, 2).holds
    monkeypatch.setattr(_convex_network, "POSITIVE", set())
    assert not check(network, params, 2).holds


@pytest.mark.slow
def test_check_finds_a_bound_of_bounded_convex_exceeded_by_a_hundredth(key):
    network = bounded_convex([-1.0], [1.0], 0.0, 1.0, increasing=0, width=4, depth=2)
    params = {**jax.jit(network.init)(key), "shares": jnp.array([-50.0, 50.0, -50.0])}

    def apply(params, x):
        return 1.01 * network.apply(params, x)

    tried = jc.layers.check(
        apply, params, network.certificate, partial(box, d=1), num=300
    )
    broken = {attempt.test for attempt in tried.attempts if not attempt.holds}
    assert broken == {"value", "value, searched"}


def test_convex_networks_refuse_what_makes_none():
    rows = [
        (lambda: convex(2, convex=()), "no input is convex"),
        (lambda: convex(2, convex=2), "inputs 0 to 1"),
        (
            lambda: convex(2, increasing=0, decreasing=0),
            "both increasing and decreasing",
        ),
        (
            lambda: concave(2, increasing=0, strong=1.0),
            r"inputs \[0\] can be increasing or decreasing, or strong above 0",
        ),
        (lambda: convex(2, strong=-1.0), "strong must be >= 0"),
        (lambda: convex(2, width=7), "must be even"),
        (lambda: bounded_convex([0.0], [1.0, 2.0], 0.0, 1.0), r"\(1,\) and \(2,\)"),
        (lambda: bounded_convex([1.0], [1.0], 0.0, 1.0, increasing=0), "not a box"),
        (lambda: bounded_convex([0.0], [1.0], 1.0, 0.0, increasing=0), "lower < upper"),
        (lambda: bounded_concave([0.0], [1.0], 0.0, 1.0), "input 0 is neither"),
    ]
    assert_refused([(make, ValueError, said) for make, said in rows])


def fitted_error(network, target, lower, upper, steps=3000):
    """Root mean square error beside the training points, in the target's deviations."""
    key, other = jax.random.split(jax.random.key(0))
    x = jc.points.uniform(key, lower, upper, 256)
    y = jax.vmap(target)(x)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

    @jax.jit
    def run(params):
        def loss(params):
            return jnp.mean((jax.vmap(partial(network.apply, params))(x) - y) ** 2)

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        carry = params, optimizer.init(params)
        return jax.lax.scan(step, carry, length=steps)[0][0]

    params = run(jax.jit(network.init)(key))
    x = jc.points.uniform(other, lower, upper, 2000)
    truth = jax.vmap(target)(x)
    error = jax.vmap(partial(network.apply, params))(x) - truth
    return float(jnp.sqrt(jnp.mean(error**2)) / jnp.std(truth))


def call(x):
    """Ten times the price, over inputs of order one."""
    return 10 * price(1 + 0.2 * x[0], (x[1] + 1.2) / 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "target", "lower", "upper", "most"),
    [
        (
            lambda: convex(2),
            lambda x: jnp.sum(x**2) + jnp.abs(x[0] - x[1]),
            [-1.0] * 2,
            [1.0] * 2,
            0.1,
        ),
        (lambda: convex(2, increasing=(0, 1)), jnp.max, [-2.0] * 2, [2.0] * 2, 0.08),
        (lambda: convex(2, convex=0), call, [-2.0, -1.0], [2.0, 1.8], 0.01),
        (lambda: convex(2, **CALL), call, [-2.0, -1.0], [2.0, 1.8], 0.06),
        (
            lambda: concave(1, increasing=0),
            lambda x: jnp.log(x[0] + 0.1),
            [0.0],
            [2.0],
            0.02,
        ),
        (
            lambda: bounded_convex([-2.0], [2.0], 0.0, 5.0, decreasing=0),
            lambda x: call(jnp.array([x[0], 0.0])),
            [-2.0],
            [2.0],
            0.01,
        ),
        (
            lambda: bounded_concave([0.0], [4.0], 0.0, 1.0, increasing=0),
            lambda x: 1 - jnp.exp(-2 * x[0]),
            [0.0],
            [4.0],
            0.04,
        ),
    ],
    ids=["kink", "larger", "strike", "call", "log", "bounded", "dose"],
)
def test_convex_networks_fit_targets_of_their_class(
    network, target, lower, upper, most
):
    # Shares of the target's deviation, about twice what was measured when written.
    assert fitted_error(network(), target, lower, upper) < most
