"""Bounds on slopes and monotone networks: by hand, far out, fitted and sabotaged."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_refused
from test_layers_outputs import random_params

import jaxcon as jc
from jaxcon.layers import _lipschitz
from jaxcon.layers._norms import bounded_rows
from jaxcon.layers._slopes import derivative_box, monotone

INF = np.inf


def plane(key, num):
    return jc.points.uniform(key, [-2.0, -2.0], [2.0, 2.0], num)


def tight(params, sign=1.0):
    """Parameters of which every inner slope is at its bound."""
    layers = jax.tree.map(lambda p: np.abs(p) + 1, params["layers"])
    layers[0]["v"] = np.full_like(layers[0]["v"], sign)
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


def test_derivative_box_reaches_every_kind_of_bound_from_both_sides(dtype):
    lower, upper, high, low = map(np.array, zip(*BOXES))
    network = derivative_box(5, lower, upper, width=4)
    slopes = jax.jit(jax.grad(network.apply, argnums=1))
    params = {**random_params(network, dtype), "log_slopes": np.zeros(5, dtype)}
    x = np.asarray([0.3, -0.2, 0.1, 0.7, -0.5], dtype)
    for sign, expected in ((1.0, high), (-1.0, low)):
        found = slopes(tight(params, sign), x)
        assert found.dtype == dtype
        # Three layers of sums of at most five terms of size four.
        atol = 50 * np.finfo(dtype).eps
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_derivative_box_of_equal_bounds_is_a_straight_line():
    network = derivative_box(2, [1.5, -2.0], [1.5, -2.0], width=4)
    slope = jax.jit(jax.grad(network.apply, argnums=1))
    slopes = slope(random_params(network), np.float32([7.0, -3.0]))
    np.testing.assert_array_equal(slopes, [1.5, -2.0])


def test_monotone_learned_size_is_an_exponential_and_stays_finite():
    network = monotone(1, increasing=0, width=4)
    params = tight(random_params(network))
    both = jax.jit(jax.value_and_grad(network.apply, argnums=1))
    for log_slope, expected in [(-2.0, 2 * np.exp(-2)), (3.0, 2 * np.exp(3))]:
        params["log_slopes"] = np.full(1, log_slope, "float32")
        _, found = both(params, np.ones(1, "float32"))
        np.testing.assert_allclose(found, [expected], rtol=1e-6)  # a few roundings
    for log_slope in (-1e30, 1e30):
        params["log_slopes"] = np.full(1, log_slope, "float32")
        assert np.isfinite(both(params, np.full(1, 1e3, "float32"))[0])


def test_derivative_box_and_monotone_promise_of_their_inputs_only():
    network = derivative_box(3, [0.0, -INF, -1.0], [INF, INF, 2.0], width=4)
    certificate = network.certificate(random_params(network))
    statements = [guarantee.statement for guarantee in certificate.guarantees]
    assert statements == ["df/dx0 >= 0", "-1 <= df/dx2 <= 2"]
    network = monotone(3, increasing=[2], decreasing=0, width=4)
    certificate = network.certificate(random_params(network))
    statements = [guarantee.statement for guarantee in certificate.guarantees]
    assert statements == ["df/dx0 <= 0", "df/dx2 >= 0"]
    assert "cancel" in certificate.caveat


def test_monotone_tolerance_covers_large_terms_that_cancel(key):
    """The slope is at its bound 0, made of terms of 100 x, a thousand ranges away."""
    network = monotone(2, increasing=0, width=4)
    params = tight(random_params(network), -1.0)
    params["log_slopes"] = np.log(np.float32([100.0, 1.0]))
    claim = network.certificate(params).guarantees[0]
    x = 1_000 * plane(key, 1_000)
    f = partial(network.apply, params)
    test = partial(claim.tests["difference"], f)
    gap = jax.jit(jax.vmap(test))(x, x + plane(jax.random.key(1), 1_000))
    falls = jnp.max(gap.excess)
    assert falls > 0  # float32 does break it: this is what the caveat is about
    assert jnp.all(gap.excess <= claim.tolerance("float32", gap.size))


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_check_finds_a_weight_of_derivative_box_too_large_by_a_hundredth(
    key, monkeypatch, sign
):
    network = derivative_box(2, [-1.0, 0.0], [3.0, INF], width=4, depth=2)
    monkeypatch.setattr(_lipschitz, "bounded_rows", lambda W: 1.01 * bounded_rows(W))
    params = tight(jax.jit(network.init)(key), sign)
    tried = jc.layers.check(network.apply, params, network.certificate, plane, num=200)
    broken = {one.guarantee.inputs for one in tried.attempts if not one.holds}
    # Above, the second input has no bound to break.
    assert broken == ({(0,)} if sign > 0 else {(0,), (1,)})


def test_derivative_box_and_monotone_refuse_what_makes_no_network():
    network = monotone(1, increasing=0, width=4)
    params = random_params(network)
    rows = [
        (lambda: derivative_box(2, [0.0] * 3, 1.0), r"lower of shape \(\) or \(2,\)"),
        (
            lambda: derivative_box(2, 0.0, np.ones((2, 1))),
            r"upper must be an array \(\) or \(d,\)",
        ),
        (lambda: derivative_box(2, [0.0, 2.0], 1.0), "needs lower <= upper"),
        (lambda: derivative_box(1, np.nan, 1.0), "lower must be an array .*, got nan"),
        (lambda: derivative_box(1, INF, INF), "needs lower <= upper"),
        (lambda: derivative_box(1, -INF, -INF), "needs lower <= upper"),
        (
            lambda: derivative_box(1, 0.0, 1.0, width=0),
            "derivative_box: width must be a whole number",
        ),
        (lambda: monotone(2), "must name an input"),
        (lambda: monotone(2, increasing=2), "inputs 0 to 1"),
        (lambda: monotone(2, increasing=[0, 0]), "twice"),
        (lambda: monotone(2, increasing=1, decreasing=[0, 1]), "both name input 1"),
        # By the name that was called.
        (lambda: network.apply(params, np.zeros((5, 1))), "monotone takes one example"),
    ]
    assert_refused([(build, ValueError, words) for build, words in rows])


LINE = np.linspace(-1.0, 1.0, 101, dtype=np.float32)[:, None]


@pytest.mark.slow
def test_monotone_learned_size_reaches_a_slope_of_thirty():
    """From 1, in 1,000 steps at a usual rate, for a bounded and for a free input."""
    for network in (
        monotone(1, increasing=0, width=8),
        derivative_box(1, -INF, INF, width=8),
    ):
        _, error = fit(network, lambda x: 30.0 * x[0], LINE, 1_000)
        assert error < 0.6  # of a range of 60


@pytest.mark.slow
def test_monotone_fits_steps_and_plateaus():
    def target(x):
        steps = jnp.clip(20 * (x[0] + 0.5), 0.0, 1.0) + jnp.clip(20 * x[0], 0.0, 1.0)
        return steps + jnp.clip(5 * (x[0] - 0.6), 0.0, 0.5)

    _, error = fit(monotone(1, increasing=0), target, LINE, 10_000)
    assert error < 0.05  # of a range of 2.5


@pytest.mark.slow
def test_derivative_box_fits_a_target_at_both_of_its_bounds():
    def target(x):  # slopes -1 and 2 in x0, at least 0.25 in x1
        saw = jnp.where(x[0] < 0, -x[0], 2 * x[0])
        return saw + 0.25 * (x[1] ** 3 + x[1])

    points = np.asarray(jc.points.grid([-1.0, -1.0], [1.0, 1.0], 15), np.float32)
    network = derivative_box(2, [-1.0, 0.25], [2.0, INF], width=32)
    _, error = fit(network, target, points, 5_000)
    assert error < 0.05  # of a range of 2.5
