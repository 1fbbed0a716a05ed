"""Outputs in convex sets: by hand, by certificates and with planted defects."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each, assert_refused
from test_layers_outputs import random_params

import jaxcon as jc
from jaxcon import projections
from jaxcon.layers import Network, check, mlp
from jaxcon.layers._certificates import Certificate, lipschitz
from jaxcon.layers._oblique import oblique_correction
from jaxcon.layers._sets import (
    affine,
    box_section,
    half_space,
    second_order_cone,
    spectral_ball,
)

INF = np.inf
A = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, -1.0, 2.0, 0.5]])
DRAW = partial(jc.points.uniform, lower=[-1.0, -1.0], upper=[1.0, 1.0])


def rows(x):
    """Two independent rows, whatever x is."""
    first = jnp.stack([1.0 + 0 * x[0], jnp.sin(x[0]), 0 * x[0], 0 * x[0]])
    return jnp.stack(
        [first, jnp.stack([0 * x[0], 1 + 0 * x[0], jnp.sin(x[1]), 0 * x[0]])]
    )


def sine(x):
    return jnp.sin(x[0])


# name: (outputs of the network below, the layer)
MAKERS = {
    "affine": lambda: (4, affine(A, lambda x: jnp.stack([1 + sine(x), x[1]]))),
    "box_section": lambda: (
        4,
        box_section(
            0.0, [1.0, 0.5, INF, 0.3], [1.0, 2.0, 1.0, -1.0], lambda x: 1 + sine(x)
        ),
    ),
    "half_space": lambda: (3, half_space([1.0, -2.0, 0.5], 0.3)),
    "half_space of x": lambda: (None, half_space(-1.0, sine)),
    "second_order_cone": lambda: (3, second_order_cone()),
    "spectral_ball": lambda: (6, spectral_ball((2, 3), lambda x: 1 + sine(x) ** 2)),
    "oblique": lambda: (4, oblique_correction(A, [-0.5, 0.0], [0.5, INF])),
    "oblique of x": lambda: (
        4,
        oblique_correction(
            rows, [-1.0, -INF], lambda x: jnp.stack([sine(x), 0.3 + 0 * x[0]])
        ),
    ),
}


@cache
def made(name):
    return MAKERS[name]()


def small(outputs):
    return mlp(2, outputs, width=8, depth=2)


@pytest.mark.slow
def test_check_breaks_no_certificate_of_oblique_correction_of_x(key):
    # The others are in the table of laws.
    outputs, layer = made("oblique of x")
    network = small(outputs).then(layer)
    params = jax.tree.map(lambda leaf: 10 * leaf, network.init(key))
    tried = check(network.apply, params, network.certificate, DRAW, num=2000)
    assert tried.holds, tried


@pytest.mark.parametrize("name", MAKERS)
def test_layers_in_sets_keep_a_certificate_that_is_not_empty(name, key):
    outputs, layer = made(name)
    network = small(outputs)
    params = random_params(network)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    def beyond(x, scale):
        z = scale * layer(network.apply(params, x), x)
        gaps = [
            (guarantee.tests["value"](lambda x: z, x, x), guarantee.roundings)
            for guarantee in layer.promises.guarantees
        ]
        eps = jnp.finfo(z.dtype).eps
        return jnp.max(jnp.stack([g.excess - c * eps * g.size for g, c in gaps]))

    x = DRAW(key, num=500)
    assert beyond(x, 1.0).max() <= 0
    # A result one percent off either way, or its negative, is found out somewhere.
    assert max(beyond(x, scale).max() for scale in (1.01, 0.99, -1.0)) > 0


def test_layers_in_sets_take_integers_and_half_precision():
    widened = {
        "affine": affine([[0.5, 0.5, 1.0]], [0.7]),
        "box_section": box_section(0.1, 0.3, 1.0, 0.7),
        "half_space": half_space([0.5, 0.5, 1.0], 0.7),
        "oblique": oblique_correction([[0.5, 0.5, 1.0]], [-INF], [0.7]),
        "spectral_ball": spectral_ball((1, 3), 0.7),
    }

    def check(name):
        layer = widened[name]

        @jax.jit
        def judged(*ys):
            found = []
            for z in map(layer, ys):
                for promised in layer.promises.guarantees:
                    gap = promised.tests["value"](lambda x, z=z: z, z, z)
                    found.append((gap.excess, promised.tolerance(z.dtype, gap.size)))
            return found, [*map(layer, ys)]

        found, zs = judged(np.array([1, 2, 5]), np.float16([0.1, 0.3, 0.9]))
        for excess, tolerance in found:
            assert excess <= tolerance
            # In float32 the numbers as they were given are meant.
            if zs[-1].dtype == jnp.float32 and name != "spectral_ball":
                assert excess < 1e-6
        assert zs[0].dtype == jnp.float32

    assert_each(widened, check)


def test_spectral_ball_is_flat_inside():
    # W = diag(x, x): inside it stays as it is, though its singular values repeat.
    def value(x):
        return spectral_ball((2, 2), 5.0)(jnp.stack([x, 0 * x, 0 * x, x])).sum() ** 2

    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(value)))(0.3), 8.0, rtol=1e-6)


def test_affine_by_hand():
    layer = jax.jit(affine([[1.0, 1.0]], lambda x: x[:1]).function)
    z = layer(jnp.array([3.0, 1.0]), jnp.array([2.0, 9.0]))
    np.testing.assert_allclose(z, [2.0, 0.0], atol=1e-6)  # float32


def test_half_space_by_hand(dtype):
    layer = half_space(np.array([3.0, 4.0]), 5.0)
    inside, outside = np.array([[1.0, 0.0], [6.0, 8.0]], dtype)
    np.testing.assert_array_equal(layer(inside), inside)
    # Its foot on the line, and the margin of 9 eps of 10.
    np.testing.assert_allclose(
        layer(outside), [0.6, 0.8], rtol=0, atol=100 * np.finfo(dtype).eps
    )
    assert layer(outside).dtype == dtype


def test_half_space_is_never_exceeded():
    # In exact arithmetic on the numbers as they are, from near and far.
    layer = jax.jit(
        jax.vmap(lambda a, y, u: half_space(lambda x: a, lambda x: u)(y, y))
    )
    a, y, u = np.random.default_rng(0).normal(size=(3, 2000, 5)).astype("float32")
    y = np.float32(y * 10 ** np.linspace(-3, 6, 2000)[:, None])
    z = layer(a, y, u[:, 0])
    terms = [np.asarray(each, np.longdouble) for each in (a, z, u[:, 0])]
    assert ((terms[0] * terms[1]).sum(1) <= terms[2]).all()


def test_second_order_cone_and_spectral_ball_are_the_projections():
    y = np.float32([3.0, 4.0, 1.0])
    z = jax.jit(second_order_cone().function)(y, None)
    # float32, and the margin of 11 eps of 7.
    np.testing.assert_allclose(z, [1.8, 2.4, 3.0], rtol=0, atol=80 * 1.2e-7)
    W = jnp.diag(jnp.array([3.0, 0.5]))
    for given in (W, W.ravel()):
        z = spectral_ball((2, 2), lambda x: x[0])(given, np.ones(1))
        np.testing.assert_allclose(z, jnp.diag(jnp.array([1.0, 0.5])), rtol=1e-6)


def test_oblique_correction_is_its_formula(x64):
    rng = np.random.default_rng(0)
    low, high = np.array([-0.5, -INF]), np.array([0.5, 0.2])
    layer = jax.jit(lambda y: oblique_correction(A, low, high)(y))
    for y in rng.normal(size=(20, 4)):
        broken = np.maximum(low - A @ y, 0) - np.maximum(A @ y - high, 0)
        expected = y + np.linalg.pinv(A) @ broken
        np.testing.assert_allclose(layer(y), expected, atol=1e-13)  # float64
        if not broken.any():
            np.testing.assert_array_equal(layer(y), y)


def test_oblique_correction_moves_at_most_its_condition_farther(x64):
    # One nearly parallel pair; the nearest point is that of the two equations or of one.
    both = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0]])
    layer = oblique_correction(both, [-INF, -INF], [0.0, 0.0])
    assert layer.condition() == pytest.approx(np.sqrt(1.8 / 0.2))
    projected = jax.jit(layer.function)
    ratios = []
    for angle in np.linspace(0, 2 * np.pi, 40):
        y = np.array([np.cos(angle), np.sin(angle), 0.3])
        candidates = [y, *(y - row * (row @ y) for row in both), np.array([0, 0, 0.3])]
        allowed = [z for z in candidates if (both @ z <= 1e-12).all()]
        nearest = min(np.linalg.norm(y - z) for z in allowed)
        moved = np.linalg.norm(projected(y, None) - y)
        assert moved >= nearest - 1e-12
        ratios.append(moved / nearest if nearest > 1e-9 else 1.0)
    assert 1.5 < max(ratios) <= layer.condition() + 1e-9


def test_oblique_correction_reports_its_condition():
    layer = oblique_correction(
        lambda x: jnp.stack([x, x[::-1]]), [0.0, 0.0], [1.0, 1.0]
    )
    # Rows (3, 4) and (4, 3) over 5: 1 +- 24/25, whatever their lengths.
    np.testing.assert_allclose(layer.condition(jnp.array([3.0, 4.0])), 7.0, rtol=1e-5)
    assert layer.condition(np.ones(2)) > 1e6
    compiled = jax.jit(lambda y, x: layer(y, x))
    assert np.isnan(compiled(np.ones(2), np.ones(2))).all()
    crossed = oblique_correction(lambda x: jnp.eye(2), lambda x: x, [0.0, 0.0])
    assert np.isnan(jax.jit(crossed)(np.ones(2), jnp.array([1.0, -1.0]))).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: half_space([1.0, -2.0, 0.5, 0.0], 0.3),
        lambda: spectral_ball((2, 2), 1.0),
    ],
    ids=["half_space", "spectral_ball"],
)
def test_layers_in_fixed_sets_keep_a_lipschitz_constant(make):
    promised = Certificate((lipschitz(3.0, roundings=20.0),))
    q = 3 * jnp.eye(4, 2)
    network = Network(lambda key: q, lambda q, x: q @ x + 1, lambda q: promised)
    kept = network.then(make())
    assert [g.kind for g in kept.certificate(q).guarantees] == ["value", "lipschitz"]
    assert check(kept.apply, q, kept.certificate, DRAW, num=500, reach=10.0).holds
    # A larger one is found out.
    assert not check(
        kept.apply, 2.0 * q, kept.certificate, DRAW, num=500, reach=2.0
    ).holds


def test_layers_in_sets_that_move_with_x_keep_nothing():
    known = lipschitz(1.0, roundings=1.0)
    for name in (
        "affine",
        "box_section",
        "half_space of x",
        "spectral_ball",
        "oblique",
    ):
        assert made(name)[1].carry(known) is None
    for layer in (affine(A, [1.0, 2.0]), box_section(0.0, 1.0), half_space(1.0, 1.0)):
        assert layer.carry(jc.layers.bounded(0.0, 1.0).promises.guarantees[0]) is None
        assert layer.carry(known).constant == 1.0


REFUSED = {
    "affine rows": (lambda: affine([[1.0, 1.0], [2.0, 2.0]], [1.0, 2.0]), "row 1 of A"),
    "affine shape": (lambda: affine([[1.0, 1.0]], [1.0])(np.ones(3)), r"got \(3,\)"),
    "empty section": (lambda: box_section([0.0] * 3, 0.1), "the set is empty"),
    "zero normal": (lambda: half_space([0.0, 0.0], 1.0), "normal a whose square"),
    "no entries": (
        lambda: projections.box_section(np.zeros(0), 0.0, 1.0, 1.0, 0.0),
        "at least one entry",
    ),
    "infinite half": (
        lambda: half_space([1.0, 0.0], INF),
        "half_space: upper must be an array .* of finite numbers",
    ),
    "half shape": (
        lambda: half_space([1.0, 0.0], 1.0)(np.ones(3)),
        r"got a \(2,\), upper \(\) and the output \(3,\)",
    ),
    "no cone": (lambda: second_order_cone()(np.ones(1)), "m >= 2"),
    "flat ball": (lambda: spectral_ball((3,), 1.0), r"shape must be \(m, n\)"),
    "ball shape": (lambda: spectral_ball((3, 2), 1.0)(np.ones(5)), "of 6 outputs"),
    "radius": (lambda: spectral_ball((3, 2), -1.0), "radius must be >= 0"),
    "many rows": (
        lambda: oblique_correction(np.ones((3, 2)), [0] * 3, [1] * 3),
        "k <= m",
    ),
    "parallel": (
        lambda: oblique_correction([[1.0, 0.0], [1.0, 0.1]], [0, 0], [1, 1]),
        "condition number 20.05, more than 10: .* use polyhedron",
    ),
    "dependent": (
        lambda: oblique_correction([[1.0, 0.0], [0.0, 0.0]], [0, 0], [1, 1]),
        "condition number inf",
    ),
    "crossed": (
        lambda: oblique_correction([[1.0, 0.0]], [1.0], [0.0]),
        "no number lies between lower 1 and upper 0, of entry 0: the set is empty",
    ),
    "oblique shape": (
        lambda: oblique_correction([[1.0, 0.0]], [0.0], [1.0])(np.ones(3)),
        r"got \(3,\), \(1, 2\), \(1,\) and \(1,\)",
    ),
    "no x": (lambda: affine([[1.0, 1.0]], sine)(np.ones(2)), r"layer\(y, x\)"),
}


def test_layers_in_sets_refuse_what_does_not_fit():
    assert_refused([(build, ValueError, words) for build, words in REFUSED.values()])


def test_oblique_correction_limit_of_its_condition_can_be_moved():
    oblique_correction([[1.0, 0.0], [1.0, 0.1]], [0, 0], [1, 1], max_condition=21.0)


def wave(x):
    return jnp.stack([jnp.sin(2 * x[0]), x[0] * x[1], jnp.cos(x[1]), x[1]])


TARGETS = {
    "affine": lambda x: made("affine")[1](wave(x), x),
    "box_section": lambda x: made("box_section")[1](wave(x), x),
    "half_space": lambda x: made("half_space")[1](wave(x)[:3]),
    "second_order_cone": lambda x: jnp.append(x, jnp.sqrt(x @ x + 0.1)),
    "oblique": lambda x: made("oblique")[1](wave(x)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_layers_in_sets_fit_a_target_of_their_class(name, key):
    outputs, layer = made(name)
    network, target = mlp(2, outputs, width=32).then(layer), jax.vmap(TARGETS[name])
    x, unseen = DRAW(key, num=512), DRAW(jax.random.key(1), num=512)
    y = target(x)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 1000))

    def loss(params, x, y):
        return jnp.mean((jax.vmap(partial(network.apply, params))(x) - y) ** 2)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, x, y), state)
        return (optax.apply_updates(params, updates), state), None

    params = network.init(key)
    start = params, optimizer.init(params)
    (params, _), _ = jax.jit(partial(jax.lax.scan, step, length=1000))(start)
    # Root mean square, of outputs that vary by about 0.5; kinks are the hard part.
    assert jnp.sqrt(loss(params, unseen, target(unseen))) < 0.05
