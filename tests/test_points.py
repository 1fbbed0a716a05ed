"""Points of a box: where they lie, and whether the worst of them is found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcon import points

LOWER, UPPER = [-1.0, 2.0, 0.1], [0.5, 5.0, 0.3]


def draw(name, lower, upper, num):
    if name == "uniform":
        return points.uniform(jax.random.key(0), lower, upper, num)
    return getattr(points, name)(lower, upper, num)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("name", ["grid", "uniform", "sobol"])
def test_points_have_their_shape_and_dtype_and_lie_in_the_box(name, d, dtype):
    num = 6
    lower, upper = LOWER[:d], UPPER[:d]
    result = draw(name, lower, upper, num)
    assert result.shape == (num**d if name == "grid" else num, d)
    assert result.dtype == dtype
    assert (result >= jnp.asarray(lower)[None]).all()
    assert (result <= jnp.asarray(upper)[None]).all()


def test_grid_is_the_product_of_linspaces():
    x, y = np.linspace(-1, 0.5, 4), np.linspace(2, 5, 4)
    expected = [[a, b] for a in x for b in y]
    # One rounding of each number to float32.
    np.testing.assert_allclose(points.grid([-1, 2], [0.5, 5], 4), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["uniform", "sobol"])
def test_points_fill_the_box_evenly(name):
    """Each half of each input holds half the points: exactly so for Sobol."""
    unit = (draw(name, LOWER, UPPER, 1024) - jnp.array([LOWER])) / (
        jnp.array([UPPER]) - jnp.array([LOWER])
    )
    # Four standard deviations, sqrt(1024)/2 each, for independent points.
    slack = 64 if name == "uniform" else 1
    assert (jnp.abs((unit < 0.5).sum(0) - 512) <= slack).all()


@pytest.mark.parametrize("num", [1, 2, 3, 100, 128])
def test_sobol_takes_any_number_and_repeats_by_seed(num):
    first = points.sobol(LOWER, UPPER, num, seed=3)
    assert first.shape == (num, 3)
    np.testing.assert_array_equal(first, points.sobol(LOWER, UPPER, num, seed=3))
    assert (first != points.sobol(LOWER, UPPER, num, seed=4)).any()


def test_uniform_under_jit_is_eager(key):
    jitted = jax.jit(lambda key: points.uniform(key, LOWER, UPPER, 8))(key)
    # The compiler may fuse the product and the sum: one rounding of the larger.
    expected = points.uniform(key, LOWER, UPPER, 8)
    np.testing.assert_allclose(jitted, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("d", [1, 3])
def test_boundary_points_lie_on_their_face_and_normals_point_out(d, dtype):
    num = 5
    lower, upper = np.array(LOWER[:d], dtype), np.array(UPPER[:d], dtype)
    where, normals = points.boundary(lower, upper, num)
    rows = num if d > 1 else 1
    assert where.shape == normals.shape == (2 * d * rows, d)
    assert where.dtype == normals.dtype == dtype
    for face in range(2 * d):
        i, is_upper = divmod(face, 2)
        part = slice(face * rows, (face + 1) * rows)
        expected = np.eye(d)[i] * (1 if is_upper else -1)
        np.testing.assert_array_equal(normals[part], np.tile(expected, (rows, 1)))
        assert (where[part, i] == (upper if is_upper else lower)[i]).all()
    assert ((where >= lower[None]) & (where <= upper[None])).all()
    outside = where + 1e-3 * normals
    assert ((outside < lower[None]) | (outside > upper[None])).any(1).all()


def test_boundary_faces_differ_and_repeat_by_seed():
    one, same = (points.boundary([0, 0], [1, 1], 4, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one.points, same.points)
    assert (one.points[:4, 1] != one.points[4:8, 1]).any()


def test_divergence_theorem_on_the_boundary():
    """The flux of f(x) = x out of a box is d times its volume."""
    lower, upper = np.array([0.0, -1.0, 2.0]), np.array([1.0, 1.0, 2.5])
    where, normals = points.boundary(lower, upper, 8)
    faces = jnp.sum(where * normals, 1).reshape(6, 8).mean(1)
    volume = np.prod(upper - lower)
    areas = np.repeat(volume / (upper - lower), 2)
    np.testing.assert_allclose(faces @ areas, 3 * volume, rtol=1e-5)


def quadratic(center, scale):
    center, scale = jnp.asarray(center), jnp.asarray(scale)
    return lambda x: 1 - jnp.sum(((x - center[None]) / scale[None]) ** 2, axis=1)


BOX = np.array([-1.0, 0.0]), np.array([3.0, 10.0])
# name: residual, its maximiser, the tolerance of the point as a share of the widths
WORST = {
    "interior": (quadratic([0.7, 2.0], [1.0, 1.0]), [0.7, 2.0], 1e-3),
    "ill-conditioned": (quadratic([0.7, 2.0], [1.0, 0.1]), [0.7, 2.0], 1e-2),
    "edge": (quadratic([5.0, 2.0], [1.0, 1.0]), [3.0, 2.0], 1e-3),
    "corner": (lambda x: x[:, 0] - 0.1 * x[:, 1], [3.0, 0.0], 0.0),
    "outside corner": (quadratic([5.0, -4.0], [1.0, 1.0]), [3.0, 0.0], 0.0),
    "kink": (
        lambda x: -jnp.abs(x[:, 0] - 0.7) - jnp.abs(x[:, 1] - 2.0),
        [0.7, 2.0],
        1e-2,
    ),
    "narrow peak": (  # a standard deviation of 1 % of each width
        lambda x: jnp.exp(quadratic([0.7, 2.0], [0.04, 0.1])(x)),
        [0.7, 2.0],
        1e-3,
    ),
    "many peaks": (
        lambda x: jnp.cos(7 * (x[:, 0] - 0.7)) + quadratic([0.7, 2.0], [2.0, 2.0])(x),
        [0.7, 2.0],
        1e-3,
    ),
    "steep": (lambda x: 1e30 * quadratic([0.7, 2.0], [1.0, 1.0])(x), [0.7, 2.0], 1e-3),
}


@pytest.mark.parametrize("name", WORST)
def test_worst_case_finds_the_maximum(name):
    residual, expected, share = WORST[name]
    worst = jax.jit(lambda: points.worst_case(residual, *BOX))()
    assert worst.value.shape == ()
    distance = np.abs(worst.point - np.array(expected)) / (BOX[1] - BOX[0])
    assert distance.max() <= share
    # The compiled residual and the eager one differ by roundings.
    there = residual(worst.point[None])[0]
    np.testing.assert_allclose(worst.value, there, rtol=1e-5, atol=1e-5)


def test_worst_case_in_either_precision(dtype):
    worst = points.worst_case(quadratic([0.7, 2.0], [1.0, 0.1]), *BOX)
    assert worst.point.dtype == worst.value.dtype == dtype
    # The value is flat to second order, so it is known better than the point.
    np.testing.assert_allclose(worst.value, 1, atol=1e-4)


def test_worst_case_is_never_below_its_samples_or_corners():
    wild = jax.jit(lambda x: jnp.sin(40 * x[:, 0]) * jnp.cos(31 * x[:, 1]))
    where = jnp.concatenate([points.sobol(*BOX, 256), points.grid(*BOX, 2)])
    worst = points.worst_case(wild, *BOX, num=256, steps=0, ascents=1)
    # Evaluated in batches of different sizes: a rounding of the sine's argument.
    assert worst.value >= wild(where).max() - 1e-4
    assert points.worst_case(wild, *BOX, num=256).value > 0.99


def test_worst_case_in_many_inputs_without_corners():
    center = np.linspace(0.2, 0.8, 12)
    worst = points.worst_case(
        quadratic(center, np.ones(12)), np.zeros(12), np.ones(12), steps=100
    )
    np.testing.assert_allclose(worst.value, 1, atol=1e-4)


def test_worst_case_inside_jit_follows_the_parameters():
    @jax.jit
    def search(center):
        return points.worst_case(quadratic(center, jnp.ones(2)), *BOX)

    for center in ([0.5, 1.0], [2.0, 9.0]):
        np.testing.assert_allclose(search(jnp.array(center)).point, center, atol=1e-2)


def test_gradient_of_the_worst_value_is_the_residuals_there():
    def worst(slope):
        # max over [0, 2] of slope x - x² is slope² / 4, at slope / 2.
        found = points.worst_case(
            lambda x: slope * x[:, 0] - x[:, 0] ** 2, [0.0], [2.0]
        )
        return found.value

    value, slope = jax.value_and_grad(worst)(1.5)
    np.testing.assert_allclose([value, slope], [1.5**2 / 4, 0.75], atol=1e-3)


@pytest.mark.parametrize("everywhere", [True, False])
def test_nan_residual_comes_out_as_nan(everywhere):
    def residual(x):
        bad = x[:, 0] > (-5.0 if everywhere else 2.0)
        return jnp.where(bad, jnp.nan, -x[:, 0])

    worst = points.worst_case(residual, *BOX)
    assert jnp.isnan(worst.value)
    assert everywhere or worst.point[0] > 2.0


def test_nan_found_only_while_climbing_is_kept():
    """The samples avoid the hole at the peak; the ascent falls into it."""

    def residual(x):
        near = jnp.abs(x[:, 0] - 0.7) < 1e-3
        return jnp.where(near, jnp.nan, -((x[:, 0] - 0.7) ** 2))

    assert jnp.isfinite(residual(points.sobol([-1.0], [3.0], 16))).all()
    assert jnp.isnan(points.worst_case(residual, [-1.0], [3.0], num=16).value)


def test_nan_gradient_does_not_make_a_nan_value():
    """The slope of sqrt at its zero times zero is NaN; the value there is 0."""

    def residual(x):
        return -jnp.sqrt((x[:, 0] - 0.0) ** 2)

    worst = points.worst_case(residual, [0.0], [1.0])
    assert worst.value == 0
    assert worst.point[0] == 0


REFUSED = {
    "order": (
        lambda: points.grid([0, 1], [1, 1], 3),
        ValueError,
        "less than its upper",
    ),
    "nan": (lambda: points.sobol([0.0], [np.nan], 3), ValueError, "both finite"),
    "infinite": (
        lambda: points.boundary([0.0], [np.inf], 3),
        ValueError,
        "both finite",
    ),
    "shapes": (
        lambda: points.sobol([0.0, 0.0], [1.0], 3),
        ValueError,
        "lower of shape (2,) and upper of shape (1,)",
    ),
    "numbers": (lambda: points.sobol(0.0, 1.0, 3), ValueError, "shape ()"),
    "collapsed": (
        lambda: points.uniform(jax.random.key(0), [1.0], [1.0 + 1e-12], 3),
        ValueError,
        "less than its upper",
    ),
    "grid of one": (lambda: points.grid([0.0], [1.0], 1), ValueError, "num 1; pass 2"),
    "none": (lambda: points.sobol([0.0], [1.0], 0), ValueError, "num 0; pass 1"),
    "half": (lambda: draw("sobol", [0.0], [1.0], 1.5), TypeError, "num 1.5"),
    "traced": (
        lambda: jax.jit(lambda low: points.sobol(low, low + 1, 2))(jnp.zeros(2)),
        TypeError,
        "traced lower or upper",
    ),
    "column": (
        lambda: points.worst_case(lambda x: x[:, :1], *BOX),
        ValueError,
        "residual returned shape (1024, 1) for points of shape (1024, 2)",
    ),
    "mean": (
        lambda: points.worst_case(jnp.mean, *BOX),
        ValueError,
        "returned shape ()",
    ),
    "truth": (
        lambda: points.worst_case(lambda x: x[:, 0] > 0, *BOX),
        TypeError,
        "dtype bool",
    ),
    "equal": (
        lambda: points.worst_case(lambda x: x[:, 0], [0.0, 1.0], [1.0, 1.0]),
        ValueError,
        "less than its upper",
    ),
    "steps": (
        lambda: points.worst_case(lambda x: x[:, 0], *BOX, steps=-1),
        ValueError,
        "steps -1",
    ),
    "ascents": (
        lambda: points.worst_case(lambda x: x[:, 0], *BOX, ascents=0),
        ValueError,
        "ascents 0; pass 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_is_one_sentence(name):
    call, error, said = REFUSED[name]
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
