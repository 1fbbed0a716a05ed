"""Bounded weights and Lipschitz networks: by hand, by singular values, and sabotaged."""

import statistics
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxcon as jc
from benchmarks import lipschitz as square_wave
from jaxcon.layers import _lipschitz
from jaxcon.layers._lipschitz import lipschitz
from jaxcon.layers._norms import bounded_entries, bounded_rows, cayley, group_sort

WAYS = ["sandwich", "cayley", "norms"]
SHAPES = [(1, 1), (6, 6), (12, 6), (7, 12)]
plane = partial(jc.points.uniform, lower=[-2.0, -2.0], upper=[2.0, 2.0])


def checked(network, params, apply=None):
    return jc.layers.check(
        apply or network.apply, params, network.certificate, plane, num=200
    )


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_group_sort_is_a_permutation_of_pairs(n):
    x = np.random.default_rng(n).normal(size=n).astype(np.float32)
    whole = n // 2 * 2
    expected = np.sort(x[:whole].reshape(-1, 2), axis=1).ravel()
    np.testing.assert_array_equal(group_sort(jnp.array(x)), [*expected, *x[whole:]])
    jacobian = jax.jacobian(group_sort)(jnp.array(x))
    np.testing.assert_array_equal(jacobian @ jacobian.T, np.eye(n))


def test_bounded_weights_are_those_by_hand():
    weight = jnp.array([[3.0, -1.0, 0.0], [0.25, 0.5, -0.25], [0.0, 0.0, 0.0]])
    rows = [[0.75, -0.25, 0.0], [0.25, 0.5, -0.25], [0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(bounded_rows(weight), rows)
    entries = [[1.0, -1.0 / 3.0, 0.0], [0.25, 0.5, -0.25], [0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(bounded_entries(weight), np.float32(entries))


@pytest.mark.parametrize("shape", SHAPES)
def test_cayley_is_orthonormal_at_any_size(dtype, shape):
    eps, free = np.finfo(dtype).eps, np.random.default_rng(0).normal(size=shape)
    for size in (0.0, 1e-3, 1.0, 30.0, 1e30):
        q = np.asarray(cayley(jnp.asarray(size * free, dtype)))
        assert q.dtype == dtype
        q = np.float64(q if shape[0] >= shape[1] else q.T)
        (m, n), largest = q.shape, np.linalg.svd(q, compute_uv=False).max()
        # The bound that counts holds at any size: n m / 4 eps, as derived there.
        assert largest <= 1 + (m * n / 4 + 1) * eps
        # The solve is as exact as its condition, 1 + 2 |X| + |Y|^2, lets it be; V is
        # bounded by 10 sqrt(n).
        norm = min(10 * n**0.5, size * np.linalg.norm(free))
        atol = n * eps * (1 + 2 * norm + norm**2)
        np.testing.assert_allclose(q.T @ q, np.eye(n), rtol=0, atol=atol)


def test_cayley_turns_the_plane_by_the_angle_of_its_parameter(x64):
    t = 0.7
    angle = 2 * np.arctan(t)
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    # Eight digits more than float32's; rounding is a few eps.
    found = cayley(jnp.array([[0.0, t], [0.0, 0.0]]))
    np.testing.assert_allclose(found, turn, atol=1e-14)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found.T, turn, atol=1e-14)


def test_cayley_has_the_derivatives_of_its_values(x64):
    free = jnp.array(np.random.default_rng(1).normal(size=(3, 2)))
    check_grads(jax.jit(cayley), (free,), order=1, eps=1e-5)


@pytest.mark.parametrize("by", ["sandwich", "cayley"])
def test_networks_are_their_equations(x64, key, by):
    """In numpy, from the inverse in the Cayley transform's definition."""
    network = lipschitz(2, 3, constant=2.5, by=by, width=5, depth=3)
    layers, x = jax.jit(network.init)(key), np.array([0.3, -1.2])

    def orthonormal(v):
        v = np.asarray(v)
        if v.shape[0] < v.shape[1]:
            return orthonormal(v.T).T
        n, eye = v.shape[1], np.eye(v.shape[1])
        a = v[:n] - v[:n].T + v[n:].T @ v[n:]
        return np.vstack([eye - a, -2 * v[n:]]) @ np.linalg.inv(eye + a)

    h = 2.5 * x
    for index, layer in enumerate(layers):
        q, bias = orthonormal(layer["v"]), np.asarray(layer["b"])
        if by == "cayley":
            if index:
                h[:4] = np.sort(h[:4].reshape(2, 2), axis=1).ravel()
            h = q @ h + bias
            continue
        a, b = q[: bias.size].T, q[bias.size :].T
        np.testing.assert_allclose(a @ a.T + b @ b.T, np.eye(bias.size), atol=1e-14)
        if index == 2:
            h = b @ h + bias
            continue
        psi = np.exp(np.asarray(layer["d"]))
        inner = 2**0.5 * (b @ h) / psi + bias
        hidden = inner / (1 + inner**6) ** (1 / 6)
        h = 2**0.5 * a.T @ (psi * hidden)
    # Rounding: tens of products of size one.
    np.testing.assert_allclose(jax.jit(network.apply)(layers, x), h, atol=1e-13)


def test_orthogonal_layers_keep_every_length(key):
    network = lipschitz(2, 2, constant=3.0, by="cayley", width=2, depth=4)
    slopes = jax.jit(jax.jacobian(network.apply, argnums=1))
    jacobian = slopes(jax.jit(network.init)(key), jnp.ones(2))
    # Four products of 2-by-2 matrices.
    np.testing.assert_allclose(jacobian @ jacobian.T, 9 * np.eye(2), atol=1e-4)


def test_rows_of_one_sign_reach_the_bound_of_every_input(key):
    network = lipschitz(2, by="norms", constant=[1.0, 5.0], width=8)
    params = jax.tree.map(lambda p: jnp.abs(p) + 1.0, jax.jit(network.init)(key))
    params[0]["v"] = jnp.ones((8, 2))
    slope = jax.jit(jax.grad(network.apply, argnums=1))
    slopes = slope(params, jnp.array([0.5, -1.0]))
    np.testing.assert_allclose(slopes, [1.0, 5.0], rtol=1e-6)  # a few roundings


@pytest.mark.parametrize("by", WAYS)
def test_random_and_extreme_parameters_stay_within_the_constant(key, by):
    network = lipschitz(2, constant=3.0, by=by, width=4, depth=2)
    params = jax.jit(network.init)(key)
    slope = jax.jit(jax.grad(network.apply, argnums=1))
    for size in (1.0, 10.0, 1e4, 1e15):
        scaled = jax.tree.map(lambda p, size=size: size * p, params)
        slopes = slope(scaled, jnp.array([0.3, -0.4]))
        norm = jnp.max(jnp.abs(slopes)) if by == "norms" else jnp.linalg.norm(slopes)
        assert norm <= 3.0 * (1 + 1e-5)  # some tens of roundings


@pytest.mark.slow
@pytest.mark.parametrize("by", WAYS)
def test_what_is_certified_is_found_to_hold(key, by):
    network = lipschitz(2, 2, constant=3.0, by=by, width=4)
    tried = checked(network, network.init(key))
    assert tried.holds, str(tried)
    statements = {attempt.guarantee.statement for attempt in tried.attempts}
    if by == "norms":
        assert statements == {"-3 <= df/dx0 <= 3", "-3 <= df/dx1 <= 3"}
    else:
        assert statements == {"|f(x) - f(y)| <= 3 |x - y|"}
        assert "parameters" in {attempt.test for attempt in tried.attempts}
    assert "highest precision" in tried.caveat


@pytest.mark.parametrize("by", WAYS)
def test_tolerances_are_far_below_one_percent(by):
    network = lipschitz(2, by=by)
    claim = network.certificate(network.init(jax.random.key(0))).guarantees[0]
    # Of the derivative's size, twice the constant, at the default width and float32.
    assert 1e-5 < claim.tolerance("float32", 2.0) < 0.5e-2


@pytest.mark.slow
def test_a_weight_too_large_by_a_hundredth_is_found_twice(key, monkeypatch):
    network = lipschitz(2, 2, by="cayley", width=2, depth=2)
    monkeypatch.setattr(_lipschitz, "cayley", lambda v: 1.01 * cayley(v))
    tried = checked(network, network.init(key))
    failed = {attempt.test for attempt in tried.attempts if not attempt.holds}
    assert {"derivative", "difference", "parameters"} <= failed


@pytest.mark.slow
def test_a_transposed_weight_in_the_sandwich_is_found(key, monkeypatch):
    right = _lipschitz._split
    network = lipschitz(2, 2, width=4, depth=3)
    monkeypatch.setattr(
        _lipschitz, "_split", lambda layer: (right(layer)[0].T, right(layer)[1])
    )
    # Units that are nearly straight, where a sandwich uses its whole bound.
    params = network.init(key)
    for layer in params[:-1]:
        layer.update(d=jnp.full(4, 5.0), b=jnp.zeros(4))
    tried = checked(network, params)
    assert not tried.holds


@pytest.mark.slow
@pytest.mark.parametrize("defect", ["1.01", "sign"])
def test_a_defect_of_the_norms_is_found(key, monkeypatch, defect):
    network = lipschitz(2, by="norms", width=4)
    spoilt = {"1.01": lambda W: 1.01 * bounded_rows(W), "sign": lambda W: W}[defect]
    monkeypatch.setattr(_lipschitz, "bounded_rows", spoilt)
    params = jax.tree.map(lambda p: jnp.abs(p) + 1.0, network.init(key))
    params[0]["v"] = jnp.ones((4, 2))
    assert not checked(network, params).holds


@pytest.mark.parametrize("by", WAYS)
def test_half_precision_stays_what_it_is(key, by):
    network = lipschitz(2, by=by, width=4, depth=2)
    params = jax.eval_shape(network.init, key)
    params = jax.tree.map(lambda p: jnp.ones(p.shape, "bfloat16"), params)
    y = jax.eval_shape(network.apply, params, jax.ShapeDtypeStruct((2,), "bfloat16"))
    assert y.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"by": "spectral"}, "by must be one of"),
        ({"constant": 0.0}, "must be > 0 and finite"),
        ({"constant": np.inf}, "must be > 0 and finite"),
        ({"constant": [1.0, 2.0]}, r"constant of shape \(\), got \(2,\)"),
        ({"by": "norms", "constant": [1.0] * 3}, r"\(\) or \(2,\), got \(3,\)"),
        ({"width": 0}, "at least 1"),
        ({"depth": 0}, "at least 1"),
        ({"outputs": 0}, "at least 1"),
    ],
)
def test_what_makes_no_network_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        lipschitz(2, **arguments)


def test_a_batch_is_refused(key):
    network = lipschitz(2)
    with pytest.raises(ValueError, match="use jax.vmap"):
        network.apply(network.init(key), jnp.zeros((5, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("by", WAYS)
def test_the_square_wave_uses_the_whole_constant(by):
    assert min(square_wave.fit(by, 1.0, seeds=2).tightness) >= 95


@pytest.mark.slow
def test_the_square_wave_uses_most_of_a_constant_of_five():
    assert statistics.median(square_wave.fit("sandwich", 5.0).tightness) >= 90


@pytest.mark.slow
def test_a_short_run_on_the_square_wave_is_shown():
    found = square_wave.fit("norms", 5.0, width=4, seeds=2, epochs=1)
    row = square_wave.line("norms", 5.0, found)
    assert row.startswith("norms")
    assert all(0 < tightness <= 100.1 for tightness in found.tightness)
