"""Output layers: by hand, against scipy, at extremes, and what of a network they keep."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.special
from jax.test_util import check_grads

import jaxcon as jc
from jaxcon import layers
from jaxcon.layers import _certificates as certificates

HARSH = [-np.inf, -3e38, -1e30, -100.0, -1.0, 0.0, 1.0, 100.0, 1e30, 3e38, np.inf]
NEAR = jc.points.sobol([-2.0, -2.0], [2.0, 2.0], 256)
NEAR_AND_FAR = jnp.concatenate([NEAR, 1000 * NEAR])


def worst(f, certificate, x=NEAR_AND_FAR):
    """The worst excess over tolerance of all tests; above 1, the certificate is broken."""

    def ratio(guarantee, test, x):
        gap = jax.vmap(partial(test, f))(x, x[::-1])
        allowed = guarantee.tolerance(x.dtype, gap.size) + jnp.finfo(x.dtype).tiny
        return jnp.max(gap.excess / allowed)

    # Not of constants: XLA as of jax 0.7.2 folds some to wrong numbers.
    @jax.jit
    def largest(x):
        tests = [(g, test) for g in certificate.guarantees for test in g.tests.values()]
        return jnp.stack([ratio(g, test, x) for g, test in tests]).max()

    return float(largest(x))


def softplus(z):
    return np.logaddexp(0.0, z)


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (-1.0, 3.0, lambda z: -1 + 4 * scipy.special.expit(z)),
        (2.0, np.inf, lambda z: 2 + softplus(z)),
        (-np.inf, 2.0, lambda z: 2 - softplus(-z)),
        (
            np.array([0.0, 5.0, -np.inf, -np.inf]),
            np.array([1.0, np.inf, 5.0, np.inf]),
            lambda z: np.stack(
                [
                    scipy.special.expit(z[0]),
                    5 + softplus(z[1]),
                    5 - softplus(-z[2]),
                    z[3],
                ]
            ),
        ),
    ],
    ids=["both", "lower", "upper", "each its own"],
)
def test_bounded_is_a_sigmoid_or_a_softplus(lower, upper, expected, dtype):
    z = np.array([-3.0, -0.5, 0.5, 20.0], dtype)
    found = layers.bounded(lower, upper)(z)
    assert found.dtype == dtype
    # Four roundings of the exponential, three of the rest, in units of the bounds.
    atol = 8 * 5 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, expected(z.astype("float64")), rtol=0, atol=atol)


@pytest.mark.parametrize("bounds", [(-0.1, 0.7), (0.7, np.inf), (-np.inf, 1e-3)])
def test_bounded_reaches_its_bounds_and_never_leaves_them(bounds, dtype):
    z = jnp.asarray(HARSH, dtype)
    low, high = np.asarray(bounds, dtype)
    layer = jax.jit(jax.vmap(jax.value_and_grad(layers.bounded(*bounds))))
    found, slopes = (np.asarray(each) for each in layer(z))
    assert ((low <= found) & (found <= high)).all()
    assert np.isfinite(slopes[1:-1]).all()
    # Unbounded sides follow infinity.
    np.testing.assert_array_equal(found[[0, -1]], [low, high])


def test_bounded_stays_inside_whatever_the_bounds():
    low, width, z = 10.0 ** jax.random.uniform(
        jax.random.key(0), (3, 100_000), minval=-6, maxval=2
    )
    layer = layers.bounded(lambda x: x[0], lambda x: x[1])
    high = low + width
    found = jax.jit(jax.vmap(layer))(z, jnp.stack([low, high], axis=1))
    assert ((low <= found) & (found <= high)).all()  # exactly


def test_positive_is_softplus(x64):
    z = jnp.linspace(-30.0, 30.0, 7)
    np.testing.assert_allclose(
        layers.positive(0.5)(z), 0.5 + softplus(z), rtol=4 * np.finfo(float).eps
    )
    assert layers.positive()(jnp.asarray(-np.inf)) == 0


def test_bounds_must_fit():
    for bounds in [(1.0, 1.0), ([0.0, 2.0], 1.0), (np.nan, 1.0)]:
        with pytest.raises(ValueError, match="bounded needs lower < upper"):
            layers.bounded(*bounds)
    with pytest.raises(ValueError, match="no finite bound"):
        layers.bounded(-np.inf, np.inf)
    with pytest.raises(ValueError, match=r"lower has shape \(3,\), the output \(2,\)"):
        layers.bounded(np.zeros(3), 1.0)(jnp.zeros(2))
    with pytest.raises(
        ValueError,
        match=r"upper depends on the network's input: call it as layer\(y, x\)",
    ):
        layers.bounded(0.0, lambda x: x[0])(jnp.zeros(()))


def test_simplex_is_softmax(dtype):
    z = np.random.default_rng(0).normal(size=(50, 6)).astype(dtype)
    found = jax.jit(jax.vmap(layers.simplex()))(z)
    np.testing.assert_allclose(
        found, scipy.special.softmax(z, axis=1), rtol=20 * np.finfo(dtype).eps
    )
    assert found.dtype == dtype


def nearest_shares(z):
    """Sparsemax by root finding: the shift at which positive parts sum to one."""
    z = np.asarray(z, float)
    shift = scipy.optimize.brentq(
        lambda t: np.maximum(z - t, 0).sum() - 1, z.min() - 1, z.max(), xtol=1e-14
    )
    return np.maximum(z - shift, 0)


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_sparse_simplex_is_the_nearest_point(scale, dtype):
    z = (scale * np.random.default_rng(0).normal(size=(50, 6))).astype(dtype)
    found = jax.jit(jax.vmap(layers.sparse_simplex()))(z)
    assert found.dtype == dtype
    # Six shares of a threshold summed from numbers up to the scale.
    atol = 40 * np.finfo(dtype).eps * max(scale, 1)
    expected = np.stack([nearest_shares(row) for row in z])
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
    assert (found == 0).sum() == (expected == 0).sum()


@pytest.mark.parametrize("layer", [layers.simplex(), layers.sparse_simplex()])
def test_shares_survive_a_common_offset(layer):
    z = np.array([0.5, 0.25, -0.125, -2.0], np.float32)  # exact beside 1024
    layer = jax.jit(partial(layer.function, x=None))
    np.testing.assert_array_equal(layer(z), layer(z + 1024))
    for harsh in ([1e30, -1e30, 0.0, 0.0], [3e38, -3e38, 3e38, 0.0]):
        assert layer(np.array(harsh, np.float32)).sum() == 1


def test_derivatives_of_what_is_no_plain_composition(x64):
    z = np.array([0.5, 0.3, -0.3, -2.0])
    for layer in (layers.sparse_simplex(), layers.ordered(0.1)):
        check_grads(jax.jit(partial(layer.function, x=None)), (z,), order=1)


def test_sparse_simplex_has_derivatives_in_every_precision(x64):
    z = np.array([0.5, 0.3, -0.3, -2.0])
    first = jax.jit(jax.grad(lambda z: layers.sparse_simplex()(z)[0]))
    for dtype in ("float16", "float32"):
        slope = first(z.astype(dtype))
        assert slope.dtype == dtype
        np.testing.assert_allclose(slope, [0.5, -0.5, 0, 0], atol=2e-3)  # float16


def test_ordered_adds_up_steps(dtype):
    z = np.array([3.0, -1.0, 0.0, 2.0], dtype)
    steps = softplus(z[1:].astype(float)) + 0.5
    expected = np.cumsum([3.0, *steps])
    # Seven roundings of the greatest.
    atol = 7 * np.finfo(dtype).eps * expected[-1]
    np.testing.assert_allclose(layers.ordered(0.5)(z), expected, rtol=0, atol=atol)
    assert layers.ordered()(z[:1]) == z[:1]


def test_ordered_is_never_out_of_order():
    z = jax.random.normal(jax.random.key(0), (2000, 40))
    scales = jnp.array([1.0, 1e3, 1e30])[:, None, None]
    lost = z.at[:, 1:].set(-10.0)  # steps far below a rounding of the first output
    found = jax.jit(jax.vmap(jax.vmap(layers.ordered())))(
        scales * jnp.stack([z, lost, z])
    )
    assert (np.diff(found) >= 0).all()  # exactly


def test_positive_definite_by_its_factor(dtype):
    z = np.random.default_rng(0).normal(size=10).astype(dtype)
    found = layers.positive_definite(0.25)(z)
    factor = np.zeros((4, 4))
    factor[np.tril_indices(4)] = z
    np.fill_diagonal(factor, softplus(np.diag(factor)))
    expected = factor @ factor.T + 0.25 * np.eye(4)
    atol = 20 * np.finfo(dtype).eps * np.trace(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
    np.testing.assert_array_equal(found, found.T)
    assert found.dtype == dtype
    # Every such matrix has one factor, and this one is found again.
    again = scipy.linalg.cholesky(np.asarray(expected) - 0.25 * np.eye(4), lower=True)
    np.testing.assert_allclose(again, factor, rtol=1e-10, atol=1e-10)  # its condition


def test_sums_to_is_the_affine_projection(dtype):
    z = np.random.default_rng(0).normal(size=5).astype(dtype)
    expected = jc.projections.affine(z, np.ones((1, 5), dtype), np.full(1, 2.0, dtype))
    for layer, x in (
        (layers.sums_to(2.0), None),
        (layers.sums_to(lambda x: 2 * x[0]), jnp.ones(1)),
    ):
        atol = 10 * np.finfo(dtype).eps * np.abs(z).sum()
        np.testing.assert_allclose(layer(z, x), expected, rtol=0, atol=atol)


def test_sums_hold_where_a_common_offset_cancels():
    z = 1e6 + jax.random.normal(jax.random.key(0), (1000, 8))
    y = np.asarray(jax.vmap(layers.sums_to(1.0))(z), float)
    size = np.abs(y).sum(axis=1) + 1
    assert (np.abs(y.sum(axis=1) - 1) <= 9 * np.finfo("float32").eps * size).all()


@pytest.mark.parametrize(
    ("layer", "m"),
    [
        (layers.simplex(), 4),
        (layers.sparse_simplex(), 4),
        (layers.ordered(), 4),
        (layers.positive_definite(), 6),
        (layers.sums_to(1.0), 4),
    ],
)
def test_one_output_at_a_time(layer, m):
    for shape in [(), (2, m), (0,)]:
        with pytest.raises(ValueError, match=r"takes one output y of shape \(m,\)"):
            layer(jnp.zeros(shape))


def test_other_refusals():
    with pytest.raises(ValueError, match=r"e.g. 3 for m = 2; got shape \(5,\)"):
        layers.positive_definite()(jnp.zeros(5))
    with pytest.raises(ValueError, match="positive_definite needs minimum >= 0"):
        layers.positive_definite(-1.0)
    with pytest.raises(ValueError, match="ordered needs gap >= 0"):
        layers.ordered(-1.0)
    with pytest.raises(ValueError, match=r"total has shape \(2,\), the output \(\)"):
        layers.sums_to(np.ones(2))(jnp.zeros(2))


def four(x):
    """Four numbers of the size of one, of two inputs."""
    return jnp.stack([x[0], x[1], x[0] * x[1], x[0] - x[1]])


# Layer, network's output, and what a defect does to the layer's output.
DEFECTS = {
    "bounded": (layers.bounded(-1.0, 1.0), lambda x: 9 * x[0], lambda y: 1.01 * y),
    "bounded by x": (
        layers.bounded(lambda x: x[0], lambda x: x[0] + 1),
        lambda x: 9 * x[1],
        lambda y: 1.01 * y,
    ),
    "positive": (layers.positive(), lambda x: 9 * x[0], lambda y: y - 1e-3),
    "simplex": (layers.simplex(), four, lambda y: 1.01 * y),
    "sparse_simplex": (layers.sparse_simplex(), four, lambda y: 1.01 * y),
    "sparse sign": (
        layers.sparse_simplex(),
        four,
        lambda y: y + 1e-3 * jnp.array([1.0, -1.0, 1.0, -1.0]),
    ),
    "ordered": (layers.ordered(), four, lambda y: y[::-1]),
    "gap": (layers.ordered(0.1), lambda x: four(9 * x), lambda y: 0.99 * y),
    "positive_definite": (
        layers.positive_definite(0.1),
        lambda x: four(9 * x)[:3],
        lambda y: 0.99 * y,
    ),
    "asymmetric": (
        layers.positive_definite(),
        lambda x: four(x)[:3],
        lambda y: y.at[0, 1].multiply(1 + 1e-6),
    ),
    "sums_to": (layers.sums_to(1.0), four, lambda y: 1.01 * y),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_breaks_the_certificate(name):
    layer, free, defect = DEFECTS[name]

    def sound(x):
        return layer(free(x), x)

    assert worst(sound, layer.certificate()) <= 1
    assert worst(lambda x: defect(sound(x)), layer.certificate()) > 1


def known(f, *guarantees):
    """A network without parameters, and what is known of it."""
    promised = layers.Certificate(guarantees)
    return layers.Network(
        lambda key: (), lambda params, x: f(x), lambda params: promised
    )


def rising(x):
    """Slopes of 2 to 4 in input 0, of -1 to 1 in input 1."""
    return 3 * x[0] + jnp.sin(x[0]) + jnp.cos(x[1])


RISES = certificates.slope(0, 2.0, 4.0, roundings=8)
SWINGS = certificates.slope(1, -1.0, 1.0, roundings=8)
STRETCHES = certificates.lipschitz(3.0, roundings=8)
BENDS = certificates.curved((0, 1), roundings=8)
SAGS = certificates.curved((0, 1), -1, roundings=8)


@pytest.mark.parametrize(
    ("f", "before", "layer", "constant"),
    [
        (rising, RISES, layers.bounded(0.0, 2.0), (0.0, 2.0)),
        (rising, RISES, layers.positive(), (0.0, 4.0)),
        (rising, SWINGS, layers.bounded(-np.inf, 0.0), (-1.0, 1.0)),
        (
            lambda x: -jax.nn.softplus(x[0]),
            certificates.slope(0, upper=0.0, roundings=8),
            layers.bounded(-1.0, 1.0),
            (-np.inf, 0.0),
        ),
        (lambda x: 3 * x[0], STRETCHES, layers.bounded(0.0, 2.0), 1.5),
        (lambda x: 3 * x, STRETCHES, layers.positive(), 3.0),
        (lambda x: x @ x - 3, BENDS, layers.positive(), 0.0),
        (lambda x: 3 - x @ x, SAGS, layers.bounded(-np.inf, 1.0), 0.0),
    ],
)
def test_elementwise_layers_keep_what_rises_and_bends(f, before, layer, constant):
    network = known(f, before).then(layer)
    kept = network.certificate(()).guarantees[-1]
    assert kept.kind == before.kind
    assert kept.constant == constant
    assert kept.inputs == before.inputs
    kept = layers.Certificate((kept,))
    assert worst(partial(network.apply, ()), kept) <= 1
    # Turned round, and steeper than it can have become.
    assert worst(lambda x: -5 * network.apply((), x), kept) > 1


def test_a_constant_that_is_kept_is_no_larger_than_it_must_be():
    layer = layers.bounded(0.0, 2.0)
    network = known(lambda x: 3 * x[0], STRETCHES).then(layer)
    kept = layers.Certificate(network.certificate(()).guarantees[-1:])
    # A sigmoid is steepest at zero, and there the bound is reached.
    at_zero = jnp.zeros((1, 2))
    assert worst(lambda x: 1.01 * network.apply((), x), kept, at_zero) > 1


def test_what_is_not_kept():
    for f, before, layer in (
        (lambda x: x @ x, BENDS, layers.bounded(0.0, 1.0)),
        (lambda x: x @ x, BENDS, layers.bounded(-np.inf, 1.0)),
        (lambda x: -x @ x, SAGS, layers.positive()),
        (rising, RISES, layers.bounded(lambda x: x[0], np.inf)),
        (lambda x: 3 * x, STRETCHES, layers.simplex()),
        (rising, certificates.within(0.0, 9.0), layers.bounded(0.0, 1.0)),
    ):
        network = known(f, before).then(layer)
        promised = layer.certificate().guarantees
        assert network.certificate(()).guarantees == promised


def test_a_domain_is_kept():
    within_box = certificates.slope(0, 0.0, roundings=8, domain=([0.0], [1.0]))
    network = known(lambda x: x[0] ** 2, within_box).then(layers.positive())
    assert network.certificate(()).guarantees[-1].domain == ([0.0], [1.0])


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFECTS)
def test_check_finds_the_planted_defects(name):
    layer, free, defect = DEFECTS[name]
    draw = partial(jc.points.uniform, lower=[-2.0, -2.0], upper=[2.0, 2.0])
    for change, holds in ((lambda y: y, True), (defect, False)):
        tried = layers.check(
            lambda params, x, change=change: change(layer(params * free(x), x)),
            jnp.ones(()),
            layer.certificate,
            draw,
            num=2000,
        )
        assert tried.holds == holds, str(tried)
