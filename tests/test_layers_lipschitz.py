"""Bounded weights and Lipschitz networks: by hand, by singular values, and sabotaged."""

import statistics
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from tables import assert_each, assert_refused
from test_layers_outputs import random_params

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


def test_group_sort_is_a_permutation_of_pairs():
    both = jax.jit(lambda x: (group_sort(x), jax.jacobian(group_sort)(x)))

    def check(n):
        x = np.random.default_rng(n).normal(size=n).astype(np.float32)
        whole = n // 2 * 2
        expected = np.sort(x[:whole].reshape(-1, 2), axis=1).ravel()
        value, jacobian = map(np.asarray, both(x))
        np.testing.assert_array_equal(value, [*expected, *x[whole:]])
        np.testing.assert_array_equal(jacobian @ jacobian.T, np.eye(n))

    assert_each((1, 2, 5, 8), check)


def test_bounded_rows_and_entries_are_those_by_hand():
    weight = jnp.array([[3.0, -1.0, 0.0], [0.25, 0.5, -0.25], [0.0, 0.0, 0.0]])
    rows = [[0.75, -0.25, 0.0], [0.25, 0.5, -0.25], [0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(bounded_rows(weight), rows)
    entries = [[1.0, -1.0 / 3.0, 0.0], [0.25, 0.5, -0.25], [0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(bounded_entries(weight), np.float32(entries))


def test_cayley_is_orthonormal_at_any_size(dtype):
    eps, sizes = np.finfo(dtype).eps, np.array([0.0, 1e-3, 1.0, 30.0, 1e30])
    many = jax.jit(jax.vmap(cayley))

    def check(shape):
        free = np.random.default_rng(0).normal(size=shape)
        for size, q in zip(sizes, many((sizes[:, None, None] * free).astype(dtype))):
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

    assert_each(SHAPES, check)


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
def test_lipschitz_is_its_equations(x64, by):
    """In numpy, from the inverse in the Cayley transform's definition."""
    network = lipschitz(2, 3, constant=2.5, by=by, width=5, depth=3)
    layers, x = random_params(network, "float64"), np.array([0.3, -1.2])

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


def test_lipschitz_by_cayley_keeps_every_length():
    network = lipschitz(2, 2, constant=3.0, by="cayley", width=2, depth=4)
    slopes = jax.jit(jax.jacobian(network.apply, argnums=1))
    jacobian = slopes(random_params(network), np.ones(2, "float32"))
    # Four products of 2-by-2 matrices.
    np.testing.assert_allclose(jacobian @ jacobian.T, 9 * np.eye(2), atol=1e-4)


def test_lipschitz_by_norms_reaches_the_bound_of_every_input():
    network = lipschitz(2, by="norms", constant=[1.0, 5.0], width=8)
    # Rows of one sign.
    params = jax.tree.map(lambda p: np.abs(p) + 1, random_params(network))
    params[0]["v"] = np.ones((8, 2), "float32")
    slope = jax.jit(jax.grad(network.apply, argnums=1))
    slopes = slope(params, np.float32([0.5, -1.0]))
    np.testing.assert_allclose(slopes, [1.0, 5.0], rtol=1e-6)  # a few roundings


@pytest.mark.parametrize("by", WAYS)
def test_lipschitz_stays_within_its_constant_for_extreme_parameters(by):
    network = lipschitz(2, constant=3.0, by=by, width=4, depth=2)
    params = random_params(network)
    slope = jax.jit(jax.grad(network.apply, argnums=1))
    for size in (1.0, 10.0, 1e4, 1e15):
        scaled = jax.tree.map(lambda p, size=size: np.float32(size) * p, params)
        slopes = np.asarray(slope(scaled, np.float32([0.3, -0.4])))
        norm = np.abs(slopes).max() if by == "norms" else np.linalg.norm(slopes)
        assert norm <= 3.0 * (1 + 1e-5)  # some tens of roundings


def test_lipschitz_names_what_it_promises():
    def check(by):
        network = lipschitz(2, 2, constant=3.0, by=by, width=4)
        promised = network.certificate(random_params(network))
        statements = [guarantee.statement for guarantee in promised.guarantees]
        if by == "norms":
            assert statements == ["-3 <= df/dx0 <= 3", "-3 <= df/dx1 <= 3"]
        else:
            assert statements == ["|f(x) - f(y)| <= 3 |x - y|"]
            assert promised.guarantees[0].exact is not None
        assert "highest precision" in promised.caveat

    assert_each(WAYS, check)


def test_lipschitz_tolerances_are_far_below_one_percent():
    def check(by):
        network = lipschitz(2, by=by)
        claim = network.certificate(random_params(network)).guarantees[0]
        # Of the derivative's size, twice the constant, at the default width and float32.
        assert 1e-5 < claim.tolerance("float32", 2.0) < 0.5e-2

    assert_each(WAYS, check)


@pytest.mark.slow
def test_check_finds_a_weight_of_cayley_too_large_by_a_hundredth(key, monkeypatch):
    network = lipschitz(2, 2, by="cayley", width=2, depth=2)
    monkeypatch.setattr(_lipschitz, "cayley", lambda v: 1.01 * cayley(v))
    tried = checked(network, network.init(key))
    failed = {attempt.test for attempt in tried.attempts if not attempt.holds}
    assert {"derivative", "difference", "parameters"} <= failed


@pytest.mark.slow
def test_check_finds_a_transposed_weight_of_the_sandwich(key, monkeypatch):
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
def test_check_finds_a_defect_of_the_norms(key, monkeypatch, defect):
    network = lipschitz(2, by="norms", width=4)
    spoilt = {"1.01": lambda W: 1.01 * bounded_rows(W), "sign": lambda W: W}[defect]
    monkeypatch.setattr(_lipschitz, "bounded_rows", spoilt)
    params = jax.tree.map(lambda p: jnp.abs(p) + 1.0, network.init(key))
    params[0]["v"] = jnp.ones((4, 2))
    assert not checked(network, params).holds


def test_lipschitz_keeps_half_precision():
    def check(by):
        network = lipschitz(2, by=by, width=4, depth=2)
        half = jax.ShapeDtypeStruct((2,), "bfloat16")
        params = jax.eval_shape(network.init, jax.random.key(0))
        params = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, "bfloat16"), params
        )
        assert jax.eval_shape(network.apply, params, half).dtype == "bfloat16"

    assert_each(WAYS, check)


def test_lipschitz_refuses_what_makes_no_network():
    def refused(words, **arguments):
        return lambda: lipschitz(2, **arguments), ValueError, words

    network = lipschitz(2, width=4)
    params = random_params(network)
    assert_refused(
        [
            refused(
                "by must be 'sandwich', 'cayley' or 'norms', got 'spectral'",
                by="spectral",
            ),
            refused("must be > 0 and finite", constant=0.0),
            refused("constant must be an array .* of finite numbers", constant=np.inf),
            refused(r"constant of shape \(\), got \(2,\)", constant=[1.0, 2.0]),
            refused(r"\(\) or \(2,\), got \(3,\)", by="norms", constant=[1.0] * 3),
            refused("width must be a whole number", width=0),
            refused("depth must be a whole number", depth=0),
            refused("outputs must be a whole number", outputs=0),
            (
                lambda: network.apply(params, np.zeros((5, 2))),
                ValueError,
                "use jax.vmap",
            ),
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("by", WAYS)
def test_lipschitz_uses_the_whole_constant_on_the_square_wave(by):
    assert min(square_wave.fit(by, 1.0, seeds=2).tightness) >= 95


@pytest.mark.slow
def test_lipschitz_uses_most_of_a_constant_of_five_on_the_square_wave():
    assert statistics.median(square_wave.fit("sandwich", 5.0).tightness) >= 90


@pytest.mark.slow
def test_lipschitz_benchmark_shows_a_short_run_on_the_square_wave():
    found = square_wave.fit("norms", 5.0, width=4, seeds=2, epochs=1)
    row = square_wave.line("norms", 5.0, found)
    assert row.startswith("norms")
    assert all(0 < tightness <= 100.1 for tightness in found.tightness)
