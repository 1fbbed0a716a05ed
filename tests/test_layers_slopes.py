"""Bounds on slopes and monotone networks: by hand, far out, fitted and sabotaged."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon.layers import _lipschitz
from jaxcon.layers._norms import bounded_rows
from jaxcon.layers._slopes import derivative_box, monotone

INF = np.inf


def plane(key, num):
    return jc.points.uniform(key, [-2.0, -2.0], [2.0, 2.0], num)


def tight(params, sign=1.0):
    """Parameters of which every inner slope is at its bound."""
    layers = jax.tree.map(lambda p: jnp.abs(p) + 1.0, params["layers"])
    layers[0]["v"] = sign * jnp.ones_like(layers[0]["v"])
    return {**params, "layers": layers}


def fit(network, target, x, steps, rate=1e-2):
    """Parameters by full-batch Adam, and the largest error at the points (n, d)."""
    y = jax.vmap(target)(x)

    def errors(params):
        return jax.vmap(partial(network.apply, params))(x) - y

    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            gradient = jax.grad(lambda p: jnp.mean(errors(p) ** 2))(params)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        carry = params, optimizer.init(params)
        params = jax.lax.scan(step, carry, length=steps)[0][0]
        return params, jnp.max(jnp.abs(errors(params)))

    return run(network.init(jax.random.key(0)))


BOXES = [
    # lower, upper, then the slopes with all inner slopes at 1 and at -1
    (-1.0, 3.0, 3.0, -1.0),
    (2.0, INF, 4.0, 2.0),
    (-INF, 5.0, 5.0, 3.0),
    (-INF, INF, 1.0, -1.0),
    (0.5, 0.5, 0.5, 0.5),
]


def test_every_kind_of_bound_is_reached_from_both_sides(dtype, key):
    lower, upper, high, low = map(np.array, zip(*BOXES))
    network = derivative_box(5, lower, upper, width=4)
    slopes = jax.jit(jax.grad(network.apply, argnums=1))
    params = jax.jit(network.init)(key)
    params = jax.tree.map(partial(jnp.asarray, dtype=dtype), params)
    x = jnp.asarray([0.3, -0.2, 0.1, 0.7, -0.5], dtype)
    for sign, expected in ((1.0, high), (-1.0, low)):
        found = slopes(tight(params, sign), x)
        assert found.dtype == dtype
        # Three layers of sums of at most five terms of size four.
        atol = 50 * jnp.finfo(dtype).eps
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_equal_bounds_make_a_straight_line(key):
    network = derivative_box(2, [1.5, -2.0], [1.5, -2.0], width=4)
    params = jax.jit(network.init)(key)
    slopes = jax.jit(jax.grad(network.apply, argnums=1))(params, jnp.array([7.0, -3.0]))
    np.testing.assert_array_equal(slopes, [1.5, -2.0])


def test_the_learned_size_is_an_exponential_and_stays_finite(key):
    network = monotone(1, increasing=0, width=4)
    params = tight(jax.jit(network.init)(key))
    slope = jax.jit(jax.grad(network.apply, argnums=1))
    for log_slope, expected in [(-2.0, 2 * np.exp(-2)), (3.0, 2 * np.exp(3))]:
        params["log_slopes"] = jnp.full(1, log_slope)
        found = slope(params, jnp.ones(1))
        np.testing.assert_allclose(found, [expected], rtol=1e-6)  # a few roundings
    for log_slope in (-1e30, 1e30):
        params["log_slopes"] = jnp.full(1, log_slope)
        assert jnp.isfinite(network.apply(params, jnp.full(1, 1e3)))


def test_certificates_name_the_bounded_inputs_only(key):
    network = derivative_box(3, [0.0, -INF, -1.0], [INF, INF, 2.0], width=4)
    certificate = network.certificate(network.init(key))
    statements = [guarantee.statement for guarantee in certificate.guarantees]
    assert statements == ["df/dx0 >= 0", "-1 <= df/dx2 <= 2"]
    network = monotone(3, increasing=[2], decreasing=0, width=4)
    certificate = network.certificate(network.init(key))
    statements = [guarantee.statement for guarantee in certificate.guarantees]
    assert statements == ["df/dx0 <= 0", "df/dx2 >= 0"]
    assert "cancel" in certificate.caveat


def test_where_large_terms_cancel_the_tolerance_says_so(key):
    """The slope is at its bound 0, made of terms of 100 x, a thousand ranges away."""
    network = monotone(2, increasing=0, width=4)
    params = tight(jax.jit(network.init)(key), -1.0)
    params["log_slopes"] = jnp.log(jnp.array([100.0, 1.0]))
    claim = network.certificate(params).guarantees[0]
    x = 1_000 * plane(key, 1_000)
    f = partial(network.apply, params)
    test = partial(claim.tests["difference"], f)
    gap = jax.jit(jax.vmap(test))(x, x + plane(jax.random.key(1), 1_000))
    falls = jnp.max(gap.excess)
    assert falls > 0  # float32 does break it: this is what the caveat is about
    assert jnp.all(gap.excess <= claim.tolerance("float32", gap.size))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1.0, 10.0])
def test_what_is_certified_is_found_to_hold(dtype, key, size):
    for network in (
        derivative_box(2, [-1.0, 0.0], [3.0, INF], width=8),
        monotone(2, increasing=0, decreasing=1, width=8),
    ):
        params = jax.tree.map(lambda p: jnp.asarray(size * p, dtype), network.init(key))
        tried = jc.layers.check(
            network.apply, params, network.certificate, plane, num=2_000
        )
        assert tried.holds, str(tried)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_weight_too_large_by_a_hundredth_breaks_both_bounds(key, monkeypatch, sign):
    network = derivative_box(2, [-1.0, 0.0], [3.0, INF], width=4, depth=2)
    monkeypatch.setattr(_lipschitz, "bounded_rows", lambda W: 1.01 * bounded_rows(W))
    params = tight(jax.jit(network.init)(key), sign)
    tried = jc.layers.check(network.apply, params, network.certificate, plane, num=200)
    broken = {one.guarantee.inputs for one in tried.attempts if not one.holds}
    # Above, the second input has no bound to break.
    assert broken == ({(0,)} if sign > 0 else {(0,), (1,)})


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: derivative_box(2, [0.0] * 3, 1.0), r"lower of shape \(\) or \(2,\)"),
        (lambda: derivative_box(2, 0.0, np.ones((2, 1))), r"upper of shape"),
        (lambda: derivative_box(2, [0.0, 2.0], 1.0), "needs lower <= upper"),
        (lambda: derivative_box(1, np.nan, 1.0), "needs lower <= upper"),
        (lambda: derivative_box(1, INF, INF), "needs lower <= upper"),
        (lambda: derivative_box(1, -INF, -INF), "needs lower <= upper"),
        (lambda: derivative_box(1, 0.0, 1.0, width=0), "derivative_box needs"),
        (lambda: monotone(2), "must name an input"),
        (lambda: monotone(2, increasing=2), "inputs 0 to 1"),
        (lambda: monotone(2, increasing=[0, 0]), "twice"),
        (lambda: monotone(2, increasing=1, decreasing=[0, 1]), "both name input 1"),
    ],
)
def test_what_makes_no_network_is_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_a_batch_is_refused_by_the_name_that_was_called(key):
    network = monotone(1, increasing=0)
    with pytest.raises(ValueError, match=r"monotone takes one example"):
        network.apply(network.init(key), jnp.zeros((5, 1)))


LINE = np.linspace(-1.0, 1.0, 101, dtype=np.float32)[:, None]


@pytest.mark.slow
def test_the_learned_size_reaches_a_slope_of_thirty():
    """From 1, in 1,000 steps at a usual rate, for a bounded and for a free input."""
    for network in (
        monotone(1, increasing=0, width=8),
        derivative_box(1, -INF, INF, width=8),
    ):
        _, error = fit(network, lambda x: 30.0 * x[0], LINE, 1_000)
        assert error < 0.6  # of a range of 60


@pytest.mark.slow
def test_a_monotone_network_fits_steps_and_plateaus():
    def target(x):
        steps = jnp.clip(20 * (x[0] + 0.5), 0.0, 1.0) + jnp.clip(20 * x[0], 0.0, 1.0)
        return steps + jnp.clip(5 * (x[0] - 0.6), 0.0, 0.5)

    _, error = fit(monotone(1, increasing=0), target, LINE, 10_000)
    assert error < 0.05  # of a range of 2.5


@pytest.mark.slow
def test_a_derivative_box_fits_a_target_at_both_of_its_bounds():
    def target(x):  # slopes -1 and 2 in x0, at least 0.25 in x1
        saw = jnp.where(x[0] < 0, -x[0], 2 * x[0])
        return saw + 0.25 * (x[1] ** 3 + x[1])

    points = np.asarray(jc.points.grid([-1.0, -1.0], [1.0, 1.0], 15), np.float32)
    network = derivative_box(2, [-1.0, 0.25], [2.0, INF], width=32)
    _, error = fit(network, target, points, 5_000)
    assert error < 0.05  # of a range of 2.5
