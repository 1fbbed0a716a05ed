"""Points of a box: where they lie, and whether the worst of them is found."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each, assert_refused

from jaxcon import points

# Half of what these tests take is machine code whose speed does not matter.
COMPILER = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}
compiled = partial(jax.jit, compiler_options=COMPILER)
LOWER, UPPER = [-1.0, 2.0, 0.1], [0.5, 5.0, 0.3]


def draw(name, lower, upper, num):
    if name == "uniform":
        return points.uniform(jax.random.key(0), lower, upper, num)
    return getattr(points, name)(lower, upper, num)


def test_points_have_their_shape_and_dtype_and_lie_in_the_box(dtype):
    num = 6

    def check(row):
        name, d = row
        lower, upper = LOWER[:d], UPPER[:d]
        result = np.asarray(draw(name, lower, upper, num))
        assert result.shape == (num**d if name == "grid" else num, d)
        assert result.dtype == dtype
        assert (result >= np.array([lower], dtype)).all()
        assert (result <= np.array([upper], dtype)).all()

    assert_each(
        [(name, d) for name in ("grid", "uniform", "sobol") for d in (1, 3)], check
    )


def test_grid_is_the_product_of_linspaces():
    x, y = np.linspace(-1, 0.5, 4), np.linspace(2, 5, 4)
    expected = [[a, b] for a in x for b in y]
    # One rounding of each number to float32.
    np.testing.assert_allclose(points.grid([-1, 2], [0.5, 5], 4), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["uniform", "sobol"])
def test_points_fill_the_box_evenly(name):
    """Each half of each input holds half the points: exactly so for Sobol."""
    lower, upper = np.array([LOWER]), np.array([UPPER])
    unit = (np.asarray(draw(name, LOWER, UPPER, 1024)) - lower) / (upper - lower)
    # Four standard deviations, sqrt(1024)/2 each, for independent points.
    slack = 64 if name == "uniform" else 1
    assert (np.abs((unit < 0.5).sum(0) - 512) <= slack).all()


def test_sobol_takes_any_number_and_repeats_by_seed():
    def check(num):
        first, same, other = (
            np.asarray(points.sobol(LOWER, UPPER, num, seed=n)) for n in (3, 3, 4)
        )
        assert first.shape == (num, 3)
        np.testing.assert_array_equal(first, same)
        assert (first != other).any()

    assert_each([1, 2, 3, 100, 128], check)


def test_uniform_under_jit_is_eager(key):
    jitted = compiled(lambda key: points.uniform(key, LOWER, UPPER, 8))(key)
    # The compiler may fuse the product and the sum: one rounding of the larger.
    expected = points.uniform(key, LOWER, UPPER, 8)
    np.testing.assert_allclose(jitted, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("d", [1, 3])
def test_boundary_points_lie_on_their_face_and_normals_point_out(d, dtype):
    num = 5
    lower, upper = np.array(LOWER[:d], dtype), np.array(UPPER[:d], dtype)
    where, normals = map(np.asarray, points.boundary(lower, upper, num))
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
    one, same = (
        np.asarray(points.boundary([0, 0], [1, 1], 4, seed=1).points) for _ in range(2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one[:4, 1] != one[4:8, 1]).any()


def test_boundary_keeps_the_divergence_theorem():
    """The flux of f(x) = x out of a box is d times its volume."""
    lower, upper = np.array([0.0, -1.0, 2.0]), np.array([1.0, 1.0, 2.5])
    where, normals = map(np.asarray, points.boundary(lower, upper, 8))
    faces = np.sum(where * normals, 1).reshape(6, 8).mean(1)
    volume = np.prod(upper - lower)
    areas = np.repeat(volume / (upper - lower), 2)
    np.testing.assert_allclose(faces @ areas, 3 * volume, rtol=1e-5)


def quadratic(center, scale):
    def residual(x):
        c, s = jnp.asarray(center), jnp.asarray(scale)
        return 1 - jnp.sum(((x - c[None]) / s[None]) ** 2, axis=1)

    return residual


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


@cache
def search():
    """Returns the program that searches for the worst of a row, given by its number."""
    residuals = [residual for residual, _, _ in WORST.values()]

    @compiled
    def found(row):
        def residual(x):
            return jax.lax.switch(row, residuals, x)

        worst = points.worst_case(residual, *BOX)
        # Points of the search, and one point alone: they differ by roundings.
        return worst, residual(worst.point[None])[0]

    return found


def test_worst_case_finds_the_maximum():
    def check(name):
        _, expected, share = WORST[name]
        worst, there = search()(list(WORST).index(name))
        assert worst.value.shape == ()
        distance = np.abs(worst.point - np.array(expected)) / (BOX[1] - BOX[0])
        assert distance.max() <= share
        np.testing.assert_allclose(worst.value, there, rtol=1e-5, atol=1e-5)

    assert_each(WORST, check)


def test_worst_case_in_either_precision(dtype):
    worst, _ = search()(list(WORST).index("ill-conditioned"))
    assert worst.point.dtype == worst.value.dtype == dtype
    # The value is flat to second order, so it is known better than the point.
    np.testing.assert_allclose(worst.value, 1, atol=1e-4)


def test_worst_case_is_never_below_its_samples_or_corners():
    def wild(x):
        return jnp.sin(40 * x[:, 0]) * jnp.cos(31 * x[:, 1])

    @compiled
    def both():
        where = jnp.concatenate([points.sobol(*BOX, 256), points.grid(*BOX, 2)])
        lazy = points.worst_case(wild, *BOX, num=256, steps=0, ascents=1)
        return lazy.value, wild(where).max(), points.worst_case(wild, *BOX, num=256)

    lazy, sampled, climbed = both()
    # Evaluated in batches of different sizes: a rounding of the sine's argument.
    assert lazy >= sampled - 1e-4
    assert climbed.value > 0.99


def test_worst_case_in_many_inputs_without_corners():
    center = np.linspace(0.2, 0.8, 12)
    residual = quadratic(center, np.ones(12))

    @compiled
    def found():
        return points.worst_case(residual, np.zeros(12), np.ones(12), steps=100)

    np.testing.assert_allclose(found().value, 1, atol=1e-4)


def test_worst_case_inside_jit_follows_the_parameters():
    @compiled
    def found(center):
        return points.worst_case(quadratic(center, np.ones(2)), *BOX)

    for center in ([0.5, 1.0], [2.0, 9.0]):
        point = found(np.array(center, "float32")).point
        np.testing.assert_allclose(point, center, atol=1e-2)


def test_worst_case_value_has_the_gradient_of_the_residual_there():
    def worst(slope):
        # max over [0, 2] of slope x - x² is slope² / 4, at slope / 2.
        found = points.worst_case(
            lambda x: slope * x[:, 0] - x[:, 0] ** 2, [0.0], [2.0]
        )
        return found.value

    value, slope = compiled(jax.value_and_grad(worst))(1.5)
    np.testing.assert_allclose([value, slope], [1.5**2 / 4, 0.75], atol=1e-3)


def test_worst_case_of_a_nan_residual_is_nan():
    @compiled
    def found(first):
        def residual(x):
            return jnp.where(x[:, 0] > first, jnp.nan, -x[:, 0])

        return points.worst_case(residual, *BOX)

    everywhere, somewhere = found(-5.0), found(2.0)
    assert np.isnan([everywhere.value, somewhere.value]).all()
    assert somewhere.point[0] > 2.0


def test_worst_case_keeps_nan_found_only_while_climbing():
    """The samples avoid the hole at the peak; the ascent falls into it."""

    def residual(x):
        near = jnp.abs(x[:, 0] - 0.7) < 1e-3
        return jnp.where(near, jnp.nan, -((x[:, 0] - 0.7) ** 2))

    @compiled
    def both():
        worst = points.worst_case(residual, [-1.0], [3.0], num=16)
        return residual(points.sobol([-1.0], [3.0], 16)), worst.value

    sampled, climbed = both()
    assert np.isfinite(sampled).all()
    assert np.isnan(climbed)


def test_worst_case_of_a_nan_gradient_is_not_nan():
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
    "nan": (
        lambda: points.sobol([0.0], [np.nan], 3),
        ValueError,
        "sobol: upper must be an array (d,) of finite numbers, got nan",
    ),
    "infinite": (
        lambda: points.boundary([0.0], [np.inf], 3),
        ValueError,
        "boundary: upper must be an array (d,) of finite numbers, got inf",
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
    "grid of one": (
        lambda: points.grid([0.0], [1.0], 1),
        ValueError,
        "num must be a whole number in [2,",
    ),
    "none": (
        lambda: points.sobol([0.0], [1.0], 0),
        ValueError,
        "num must be a whole number in [1,",
    ),
    "half": (
        lambda: draw("sobol", [0.0], [1.0], 1.5),
        ValueError,
        "num must be a whole",
    ),
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
        "worst_case: residual",
    ),
    "equal": (
        lambda: points.worst_case(lambda x: x[:, 0], [0.0, 1.0], [1.0, 1.0]),
        ValueError,
        "less than its upper",
    ),
    "steps": (
        lambda: points.worst_case(lambda x: x[:, 0], *BOX, steps=-1),
        ValueError,
        "worst_case: steps must be a whole number in [0, 1e+06], got -1",
    ),
    "ascents": (
        lambda: points.worst_case(lambda x: x[:, 0], *BOX, ascents=0),
        ValueError,
        "worst_case: ascents must be a whole number in [1,",
    ),
    "flood": (
        lambda: points.grid([0.0] * 9, [1.0] * 9, 20),
        ValueError,
        "num 20 along each of 9 inputs makes 20**9 points",
    ),
    "wide": (
        lambda: points.sobol([-3e38], [3e38], 3),
        ValueError,
        "by a finite number of float32",
    ),
    "text": (lambda: points.sobol("ab", [1.0], 3), TypeError, "sobol: lower must be"),
    "true": (lambda: points.sobol([0.0], [1.0], True), TypeError, "got True"),
    "seed": (
        lambda: points.sobol([0.0], [1.0], 3, seed=-1),
        ValueError,
        "sobol: seed must be a whole number",
    ),
    "key": (
        lambda: points.uniform(0, [0.0], [1.0], 3),
        TypeError,
        "uniform: key must be one key, e.g. jax.random.key(0), got 0",
    ),
    "keys": (
        lambda: points.uniform(jax.random.split(jax.random.key(0)), [0.0], [1.0], 3),
        TypeError,
        "uniform: key must be one key",
    ),
    "no function": (
        lambda: points.worst_case(1.0, *BOX),
        TypeError,
        "residual must be",
    ),
    "nothing": (
        lambda: points.worst_case(lambda x: None, *BOX),
        TypeError,
        "worst_case: residual",
    ),
}


def test_points_refuse_in_one_sentence():
    assert_refused((call, error, [said]) for call, error, said in REFUSED.values())


def test_worst_case_works_under_both_switches_that_search_for_bad_numbers():
    for switch in (jax.debug_infs, jax.debug_nans):
        with switch(True):
            worst = points.worst_case(lambda x: x[:, 0], [0.0], [1.0], num=4, steps=2)
        assert worst.value == 1


def test_what_a_residual_raises_names_it():
    with pytest.raises(KeyError) as caught:
        points.worst_case(lambda x: {}["x"], *BOX)
    assert caught.value.__notes__ == ["raised in worst_case: residual"]
