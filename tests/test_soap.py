"""SOAP against its published algorithm in NumPy, and beside Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_refused

import jaxcon as jc
from jaxcon import layers

B1, B2, EPS, EVERY = 0.9, 0.8, 1e-8, 3


def published(gradients, rate, shape):
    """The moves of Algorithms 3 and 4 for a matrix, one for each gradient.

    As in the authors' code the first gradient makes the bases alone, Adam's corrections
    are applied, and columns are put into the order of their eigenvalues.
    """
    m, n = shape
    M, V, L, R = np.zeros(shape), np.zeros(shape), np.zeros((m, m)), np.zeros((n, n))
    left, right, moves = np.eye(m), np.eye(n), []
    for t, G in enumerate(gradients):
        if t > 0:
            turned = left.T @ G @ right
            M = B1 * M + (1 - B1) * G
            V = B2 * V + (1 - B2) * turned**2
            step = left.T @ M @ right / (1 - B1**t) / (np.sqrt(V / (1 - B2**t)) + EPS)
            moves.append(-rate * left @ step @ right.T)
        else:
            moves.append(np.zeros(shape))
        L, R = B2 * L + (1 - B2) * G @ G.T, B2 * R + (1 - B2) * G.T @ G
        if t == 0:
            left, right = (np.linalg.eigh(P)[1][:, ::-1] for P in (L, R))
        elif t % EVERY == 0:
            rows = np.argsort(-np.diag(left.T @ L @ left))
            columns = np.argsort(-np.diag(right.T @ R @ right))
            V = V[rows][:, columns]
            left = np.linalg.qr(L @ left[:, rows])[0]
            right = np.linalg.qr(R @ right[:, columns])[0]
    return moves


def moves_of(optimizer, gradients):
    """The moves of an optimizer, one for each gradient, in one program."""

    @jax.jit
    def run(gradients):
        first = jax.tree.map(lambda rows: rows[0], gradients)

        def step(state, gradient):
            move, state = optimizer.update(gradient, state)
            return state, move

        return jax.lax.scan(step, optimizer.init(first), gradients)[1]

    return run(gradients)


def drawn(*shape, count=11):
    """Gradients, and axes so different that no eigenvalue is near another."""
    gradients = np.random.default_rng(0).normal(size=(count, *shape))
    for axis, size in enumerate(shape):
        scales = 2.0 ** np.arange(size)
        gradients *= np.expand_dims(scales, [i for i in range(len(shape)) if i != axis])
    return gradients


def test_soap_is_the_published_algorithm(x64):
    gradients = drawn(3, 4)
    found = moves_of(jc.soap(0.1, B1, B2, EPS, every=EVERY), gradients)
    wanted = published(gradients, 0.1, (3, 4))
    assert np.all(found[0] == 0)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_soap_of_vectors_and_of_long_axes_is_adam():
    gradients = {
        "b": drawn(4),
        "long": drawn(5, 6),
        "s": drawn(),
        "none": None,
    }
    gradients = jax.tree.map(np.float32, gradients)
    found = moves_of(jc.soap(0.1, B1, B2, largest=4), gradients)
    wanted = moves_of(optax.adam(0.1, B1, B2), gradients)
    for name in ("b", "long", "s"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-5)
    assert found["none"] is None


def test_soap_rotates_the_short_axes_of_a_tensor(x64):
    # Of a tensor whose last axis is long, each of its slices is a row of the matrix.
    gradients = drawn(3, 4)
    tensor = gradients.reshape(11, 3, 2, 2)
    found = moves_of(jc.soap(0.1, largest=2), tensor)
    one_side = moves_of(jc.soap(0.1, largest=3), np.swapaxes(gradients, 1, 2))
    assert found.shape == (11, 3, 2, 2)
    assert one_side.shape == (11, 4, 3)
    assert np.all(found[0] == 0)
    # A rotation of the gradients along an axis with a basis rotates the moves.
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(2, 2)))[0]
    turned = moves_of(jc.soap(0.1, largest=2), tensor @ turn)
    np.testing.assert_allclose(turned, found @ turn, rtol=1e-9, atol=1e-12)


def test_soap_keeps_the_precision_of_the_parameters():
    gradients = jnp.asarray(drawn(3, 4), jnp.bfloat16)
    optimizer = jc.soap(0.1)
    assert moves_of(optimizer, gradients).dtype == jnp.bfloat16
    state = jax.eval_shape(optimizer.init, gradients[0])
    kinds = {leaf.dtype for leaf in jax.tree.leaves(state[0])}
    assert kinds == {jnp.dtype("float32"), jnp.dtype("int32")}


def test_soap_refuses_what_is_no_rate():
    cases = [
        (lambda: jc.soap(0.1, 0.9, 1.0), ValueError, "b2 must be"),
        (lambda: jc.soap(0.1, every=0), ValueError, "every must be"),
        (lambda: jc.soap(0.1, largest=0.5), ValueError, "largest must be"),
        (lambda: jc.soap(0.1, eps=0.0), ValueError, "eps must be"),
    ]
    assert_refused(cases)


@pytest.mark.slow
def test_soap_fits_an_ill_conditioned_regression_that_adam_does_not():
    # Inputs of six directions whose sizes run from 1 to 1/100, none along an axis.
    draw = np.random.default_rng(0)
    mix = draw.normal(size=(6, 6)) * np.logspace(0, -2, 6)[:, None]
    turn = np.linalg.qr(draw.normal(size=(6, 6)))[0]
    x = jnp.asarray(draw.normal(size=(256, 6)) @ mix @ turn, jnp.float32)
    y = jnp.sin(3 * x @ jnp.asarray(draw.normal(size=6), jnp.float32))
    network = layers.mlp(6, width=32)
    params = network.init(jax.random.key(0))

    def loss(params):
        return jnp.mean((jax.vmap(lambda x: network.apply(params, x))(x) - y) ** 2)

    def end(optimizer):
        def step(carry, _):
            params, state = carry
            moves, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, moves), state), None

        @jax.jit
        def run(params):
            start = params, optimizer.init(params)
            return loss(jax.lax.scan(step, start, length=2000)[0][0])

        return float(run(params))

    # Each at its best rate.
    adam, soap = (
        min(end(kind(optax.cosine_decay_schedule(r, 2000))) for r in (1e-3, 3e-3, 1e-2))
        for kind in (optax.adam, jc.soap)
    )
    assert soap < 1e-3 * adam
