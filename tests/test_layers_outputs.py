"""Output layers: by hand, against scipy, at extremes, and what of a network they keep."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.special
from jax.test_util import check_grads
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon import layers
from jaxcon.layers import _certificates as certificates

HARSH = [-np.inf, -3e38, -1e30, -100.0, -1.0, 0.0, 1.0, 100.0, 1e30, 3e38, np.inf]


def random_params(network, dtype="float32", seed=0):
    """Random parameters of a network, without compiling what it begins with."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(dtype) / 2, shapes
    )


@cache
def near_and_far():
    near = np.asarray(jc.points.sobol([-2.0, -2.0], [2.0, 2.0], 256), "float32")
    return np.concatenate([near, 1000 * near])


def worst(f, certificate, x=None, knobs=None):
    """The worst excess over tolerance of all tests; above 1, the certificate is broken.

    Args:
        f: function of one x, or of a knob and x where there are knobs.
        certificate: what is promised of it.
        x: points (n, d); near and far ones of two inputs by default.
        knobs: (k,), for which one program is compiled; then the result is (k,).
    """

    def ratio(guarantee, test, f, x):
        gap = jax.vmap(partial(test, f))(x, x[::-1])
        allowed = guarantee.tolerance(x.dtype, gap.size) + jnp.finfo(x.dtype).tiny
        return jnp.max(gap.excess / allowed)

    def largest(f, x):
        tests = [(g, test) for g in certificate.guarantees for test in g.tests.values()]
        return jnp.stack([ratio(g, test, f, x) for g, test in tests]).max()

    # Not of constants: XLA as of jax 0.7.2 folds some to wrong numbers.
    x = near_and_far() if x is None else x
    if knobs is None:
        return float(jax.jit(lambda x: largest(f, x))(x))
    turned = jax.vmap(lambda knob, x: largest(partial(f, knob), x), (0, None))
    return np.asarray(jax.jit(turned)(knobs, x))


def softplus(z):
    return np.logaddexp(0.0, z)


SIGMOIDS = {
    "both": (-1.0, 3.0, lambda z: -1 + 4 * scipy.special.expit(z)),
    "lower": (2.0, np.inf, lambda z: 2 + softplus(z)),
    "upper": (-np.inf, 2.0, lambda z: 2 - softplus(-z)),
    "each its own": (
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
}


def test_bounded_is_a_sigmoid_or_a_softplus(dtype):
    z = np.array([-3.0, -0.5, 0.5, 20.0], dtype)

    def check(name):
        lower, upper, expected = SIGMOIDS[name]
        found = layers.bounded(lower, upper)(z)
        assert found.dtype == dtype
        # Four roundings of the exponential, three of the rest, in units of the bounds.
        atol = 8 * 5 * np.finfo(dtype).eps
        wanted = expected(z.astype("float64"))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)

    assert_each(SIGMOIDS, check)


def test_bounded_reaches_its_bounds_and_never_leaves_them(dtype):
    z = np.asarray(HARSH, dtype)

    def check(bounds):
        low, high = np.asarray(bounds, dtype)
        layer = jax.jit(jax.vmap(jax.value_and_grad(layers.bounded(*bounds))))
        found, slopes = (np.asarray(each) for each in layer(z))
        assert ((low <= found) & (found <= high)).all()
        assert np.isfinite(slopes[1:-1]).all()
        # Unbounded sides follow infinity.
        np.testing.assert_array_equal(found[[0, -1]], [low, high])

    assert_each([(-0.1, 0.7), (0.7, np.inf), (-np.inf, 1e-3)], check)


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


def test_bounded_refuses_bounds_that_do_not_fit():
    words = "bounded needs lower < upper"
    assert_refused(
        [
            (lambda: layers.bounded(1.0, 1.0), ValueError, words),
            (lambda: layers.bounded([0.0, 2.0], 1.0), ValueError, words),
            (
                lambda: layers.bounded(np.nan, 1.0),
                ValueError,
                "lower must be .* got nan",
            ),
            (lambda: layers.bounded(-np.inf, np.inf), ValueError, "no finite bound"),
            (
                lambda: layers.bounded(np.zeros(3), 1.0)(np.zeros(2)),
                ValueError,
                r"lower has shape \(3,\), the output \(2,\)",
            ),
            (
                lambda: layers.bounded(0.0, lambda x: x[0])(np.zeros(())),
                ValueError,
                r"upper depends on the network's input: call it as layer\(y, x\)",
            ),
        ]
    )


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


def test_sparse_simplex_is_the_nearest_point(dtype):
    layer = jax.jit(jax.vmap(layers.sparse_simplex()))

    def check(scale):
        z = (scale * np.random.default_rng(0).normal(size=(50, 6))).astype(dtype)
        found = np.asarray(layer(z))
        assert found.dtype == dtype
        # Six shares of a threshold summed from numbers up to the scale.
        atol = 40 * np.finfo(dtype).eps * max(scale, 1)
        expected = np.stack([nearest_shares(row) for row in z])
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
        assert (found == 0).sum() == (expected == 0).sum()

    assert_each((0.1, 1.0, 100.0), check)


@pytest.mark.parametrize("name", ["simplex", "sparse_simplex"])
def test_simplex_shares_survive_a_common_offset(name):
    z = np.array([0.5, 0.25, -0.125, -2.0], np.float32)  # exact beside 1024
    layer = jax.jit(partial(getattr(layers, name)().function, x=None))
    np.testing.assert_array_equal(layer(z), layer(z + 1024))
    for harsh in ([1e30, -1e30, 0.0, 0.0], [3e38, -3e38, 3e38, 0.0]):
        assert layer(np.array(harsh, np.float32)).sum() == 1


def test_sparse_simplex_and_ordered_have_the_derivatives_of_their_values(x64):
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


def test_positive_definite_is_made_of_its_factor(dtype):
    z = np.random.default_rng(0).normal(size=10).astype(dtype)
    found = np.asarray(jax.jit(layers.positive_definite(0.25))(z))
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


def test_sums_to_holds_where_a_common_offset_cancels():
    z = 1e6 + jax.random.normal(jax.random.key(0), (1000, 8))
    y = np.asarray(jax.vmap(layers.sums_to(1.0))(z), float)
    size = np.abs(y).sum(axis=1) + 1
    assert (np.abs(y.sum(axis=1) - 1) <= 9 * np.finfo("float32").eps * size).all()


def test_output_layers_take_one_output_at_a_time():
    words = r"takes one output y of shape \(m,\)"
    takes = {
        layers.simplex(): 4,
        layers.sparse_simplex(): 4,
        layers.ordered(): 4,
        layers.positive_definite(): 6,
        layers.sums_to(1.0): 4,
    }
    assert_refused(
        [
            (lambda layer=layer, shape=shape: layer(np.zeros(shape)), ValueError, words)
            for layer, m in takes.items()
            for shape in [(), (2, m), (0,)]
        ]
    )


def test_output_layers_refuse_what_does_not_fit():
    assert_refused(
        [
            (
                lambda: layers.positive_definite()(np.zeros(5)),
                ValueError,
                r"e.g. 3 for m = 2; got shape \(5,\)",
            ),
            (
                lambda: layers.positive_definite(-1.0),
                ValueError,
                "positive_definite: minimum must be >= 0",
            ),
            (lambda: layers.ordered(-1.0), ValueError, "ordered: gap must be >= 0"),
            (
                lambda: layers.sums_to(np.ones(2))(np.zeros(2)),
                ValueError,
                r"sums_to: total must be an array \(\) of finite numbers, got shape \(2,\)",
            ),
        ]
    )


def four(x):
    """Four numbers of the size of one, of two inputs."""
    return jnp.stack([x[0], x[1], x[0] * x[1], x[0] - x[1]])


# Layer, network's output, and what a defect does to the layer's output.
DEFECTS = {
    "bounded": lambda: (
        layers.bounded(-1.0, 1.0),
        lambda x: 9 * x[0],
        lambda y: 1.01 * y,
    ),
    "bounded by x": lambda: (
        layers.bounded(lambda x: x[0], lambda x: x[0] + 1),
        lambda x: 9 * x[1],
        lambda y: 1.01 * y,
    ),
    "positive": lambda: (layers.positive(), lambda x: 9 * x[0], lambda y: y - 1e-3),
    "simplex": lambda: (layers.simplex(), four, lambda y: 1.01 * y),
    "sparse_simplex": lambda: (layers.sparse_simplex(), four, lambda y: 1.01 * y),
    "sparse sign": lambda: (
        layers.sparse_simplex(),
        four,
        lambda y: y + 1e-3 * jnp.array([1.0, -1.0, 1.0, -1.0]),
    ),
    "ordered": lambda: (layers.ordered(), four, lambda y: y[::-1]),
    "gap": lambda: (layers.ordered(0.1), lambda x: four(9 * x), lambda y: 0.99 * y),
    "positive_definite": lambda: (
        layers.positive_definite(0.1),
        lambda x: four(9 * x)[:3],
        lambda y: 0.99 * y,
    ),
    "asymmetric": lambda: (
        layers.positive_definite(),
        lambda x: four(x)[:3],
        lambda y: y.at[0, 1].multiply(1 + 1e-6),
    ),
    "sums_to": lambda: (layers.sums_to(1.0), four, lambda y: 1.01 * y),
}


def test_output_layers_keep_their_certificate_and_a_planted_defect_breaks_it():
    def check(name):
        layer, free, defect = DEFECTS[name]()

        def f(broken, x):
            y = layer(free(x), x)
            return jnp.where(broken, defect(y), y)

        sound, broken = worst(f, layer.certificate(), knobs=np.array([False, True]))
        assert sound <= 1 < broken

    assert_each(DEFECTS, check)


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


def test_elementwise_layers_keep_slopes_curvature_and_lipschitz_constants():
    falls = certificates.slope(0, upper=0.0, roundings=8)

    def check(row):
        f, before, layer, constant = row
        network = known(f, before).then(layer)
        kept = network.certificate(()).guarantees[-1]
        assert kept.kind == before.kind
        assert kept.constant == constant
        assert kept.inputs == before.inputs
        # As it is; and turned round, and steeper than it can have become.
        sound, broken = worst(
            lambda factor, x: factor * network.apply((), x),
            layers.Certificate((kept,)),
            knobs=np.float32([1.0, -5.0]),
        )
        assert sound <= 1 < broken

    rows = [
        (rising, RISES, layers.bounded(0.0, 2.0), (0.0, 2.0)),
        (rising, RISES, layers.positive(), (0.0, 4.0)),
        (rising, SWINGS, layers.bounded(-np.inf, 0.0), (-1.0, 1.0)),
        (
            lambda x: -jax.nn.softplus(x[0]),
            falls,
            layers.bounded(-1.0, 1.0),
            (-np.inf, 0.0),
        ),
        (lambda x: 3 * x[0], STRETCHES, layers.bounded(0.0, 2.0), 1.5),
        (lambda x: 3 * x, STRETCHES, layers.positive(), 3.0),
        (lambda x: x @ x - 3, BENDS, layers.positive(), 0.0),
        (lambda x: 3 - x @ x, SAGS, layers.bounded(-np.inf, 1.0), 0.0),
    ]
    assert_each(rows, check)


def test_bounded_keeps_a_lipschitz_constant_no_larger_than_it_must_be():
    layer = layers.bounded(0.0, 2.0)
    network = known(lambda x: 3 * x[0], STRETCHES).then(layer)
    kept = layers.Certificate(network.certificate(()).guarantees[-1:])
    # A sigmoid is steepest at zero, and there the bound is reached.
    at_zero = np.zeros((1, 2), "float32")
    assert worst(lambda x: 1.01 * network.apply((), x), kept, at_zero) > 1


def test_output_layers_drop_what_they_do_not_keep():
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


def test_positive_keeps_the_domain_of_a_slope():
    within_box = certificates.slope(0, 0.0, roundings=8, domain=([0.0], [1.0]))
    network = known(lambda x: x[0] ** 2, within_box).then(layers.positive())
    assert network.certificate(()).guarantees[-1].domain == ([0.0], [1.0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bounded by x", "sparse sign", "positive_definite"])
def test_check_finds_a_planted_defect_of_an_output_layer(name):
    layer, free, defect = DEFECTS[name]()
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
