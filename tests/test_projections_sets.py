"""Projections on simple sets: against QP solvers, hand-made cases and differences."""

from functools import cache, partial
from inspect import signature

import jax
import jax.numpy as jnp
import numpy as np
import osqp
import pytest
from jax.test_util import check_grads
from laws import assert_transforms
from scipy import sparse
from scipy.optimize import brentq
from tables import assert_each, assert_refused

from jaxcon import projections
from jaxcon.projections import box_section, second_order_cone, spectral_ball

# jitted once, so that many cases share one program.
SECTION = jax.jit(box_section)
CONE = jax.jit(second_order_cone)
BALL = jax.jit(spectral_ball)


@cache
def compiled(project):
    """All outputs as one vector, and its derivatives in every argument."""

    def flat(*arguments):
        return jnp.concatenate(
            list(map(jnp.ravel, jax.tree.leaves(project(*arguments))))
        )

    every = tuple(range(len(signature(project).parameters)))
    return jax.jit(flat), jax.jit(jax.jacobian(flat, every))


def in_a_section(y, *others):
    """The projection of y (3,) or shorter, by the one program of twelve float32 outputs.

    The others are zero, in bounds of zero and of weight zero.
    """
    y, lower, upper, w = np.broadcast_arrays(
        np.float32(y), *map(np.float32, others[:3])
    )
    padded = [np.pad(each, (0, 12 - y.size)) for each in (y, lower, upper, w)]
    return np.asarray(SECTION(*padded, np.float32(others[3])))[: y.size]


def against_differences(project, arguments):
    """All derivatives against central differences in float64, infinite bounds aside."""
    flat, jacobian = compiled(project)
    for i, slopes in enumerate(jacobian(*arguments)):
        for entry in np.ndindex(arguments[i].shape):
            if not np.isfinite(arguments[i][entry]):
                continue
            ends = []
            for h in (1e-6, -1e-6):
                moved = [np.array(argument) for argument in arguments]
                moved[i][entry] += h
                ends.append(flat(*moved))
            # Rounding over the step, 1e-10, and a hundred times that for the values.
            difference = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(slopes[(..., *entry)], difference, atol=1e-8)


def section(m, dtype="float64", seed=0):
    """y, l, u, w and s of which some entries are bounded, some pinned and some free."""
    rng = np.random.default_rng(seed)
    y, w = 3 * rng.normal(size=m), rng.normal(size=m)
    lower, upper = -rng.uniform(0, 2, m), rng.uniform(0, 2, m)
    w[seed % m] = 0.0
    lower[rng.random(m) < 0.2], upper[rng.random(m) < 0.2] = -np.inf, np.inf
    inside = np.clip(rng.normal(size=m), lower, upper)
    return tuple(np.asarray(each, dtype) for each in (y, lower, upper, w, w @ inside))


def by_root(y, lower, upper, w, total):
    """The multiplier by Brent's method, in float64."""
    y, lower, upper, w, total = (
        np.asarray(e, float) for e in (y, lower, upper, w, total)
    )

    def at(mu):
        return np.clip(y - mu * w, lower, upper)

    found = brentq(lambda mu: w @ at(mu) - total, -1e4, 1e4, xtol=1e-14, rtol=1e-15)
    return at(found)


def test_box_section_by_hand():
    # Two entries share what the third, on its bound, leaves; two bounds are infinite.
    upper = np.array([1.0, np.inf, np.inf])
    z = SECTION(np.float32([3.0, 1.0, 0.5]), 0.0, upper, 1.0, 2.0)
    np.testing.assert_array_equal(z, [1.0, 0.75, 0.25])
    # Without bounds it is the hyperplane: moved by (1 - 7) / 5 of the weights.
    z = in_a_section([3.0, 2.0], -np.inf, np.inf, [1.0, 2.0], 1.0)
    np.testing.assert_allclose(z, [3 - 6 / 5, 2 - 12 / 5], rtol=1e-6)  # float32


def test_box_section_is_the_nearest_point(dtype):
    eps, m = np.finfo(dtype).eps, 12
    for seed in range(20):
        y, lower, upper, w, total = section(m, dtype, seed)
        z = np.asarray(SECTION(y, lower, upper, w, total))
        assert z.dtype == dtype
        assert ((lower <= z) & (z <= upper)).all()
        terms = np.abs(w * z).sum() + abs(total)
        # m roundings in the sum, and a few.
        assert abs(w.astype(float) @ z - total) <= (m + 5) * eps * terms
        # Rounding of y and of the multiplier, by 1 / w of the smallest free weight.
        expected = by_root(y, lower, upper, w, total)
        np.testing.assert_allclose(z, expected, rtol=0, atol=100 * m * eps)


def test_box_section_solves_the_quadratic_programme(x64):
    y, lower, upper, w, total = section(12, seed=3)
    solver = osqp.OSQP()
    rows = sparse.vstack([sparse.csc_matrix(w), sparse.eye(12)], format="csc")
    sides = np.append(total, lower), np.append(total, upper)
    quiet = dict(verbose=False, eps_abs=1e-10, eps_rel=1e-10, max_iter=100_000)
    solver.setup(sparse.eye(12, format="csc"), -y, rows, *sides, **quiet)
    # The solver's own tolerance.
    z = SECTION(y, lower, upper, w, total)
    np.testing.assert_allclose(z, solver.solve(raise_error=True).x, atol=1e-8)


def test_box_section_of_the_unit_box_is_the_simplex():
    for y in 3 * np.random.default_rng(0).normal(size=(5, 7)).astype("float32"):
        # Sorted: the shift is that of the entries which stay positive.
        falling = np.sort(y)[::-1].astype(float)
        shifts = (np.cumsum(falling) - 1) / np.arange(1, 8)
        simplex = np.maximum(y - shifts[falling > shifts][-1], 0)
        z = in_a_section(y, 0.0, 1.0, 1.0, 1.0)
        np.testing.assert_allclose(z, simplex, atol=1e-6)  # float32


def test_box_section_derivatives(x64):
    sides = (
        np.array([0.0, -1.0, 0.0, -2.0, 0.0]),
        np.array([1.0, 1.0, np.inf, 2.0, 3.0]),
    )
    arguments = jnp.array([2.0, 0.3, 0.4, -3.0, 0.1]), *map(jnp.asarray, sides)
    w = jnp.array([1.0, -0.5, 2.0, 1.0, 0.0])
    z = SECTION(*arguments, w, 0.5)
    # One entry on each side, some free, one of weight 0: kinks are far from a step.
    np.testing.assert_array_equal(z == arguments[1], [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(z == arguments[2], [1, 0, 0, 0, 0])

    against_differences(box_section, (*arguments, w, jnp.array(0.5)))


def test_box_section_at_a_corner_has_no_derivative_left(x64):
    # The program of the derivatives above; three entries are pinned.
    padded = map(np.float64, ([5, 0, 0, 0, 0], [0] * 5, [1, 1, 0, 0, 0], [1] * 5, 1))
    given = compiled(box_section)[1](*padded)
    np.testing.assert_array_equal(given[0][:2, :2], np.zeros((2, 2)))


def test_box_section_resolves_what_far_outputs_leave():
    # float32: y's own spacing is 8 here, that of the box a millionth.
    z = in_a_section([1e8, 1e8 + 8, 0.0], 0.0, 1.0, 1.0, 0.5)
    np.testing.assert_array_equal(z, [0.0, 0.5, 0.0])
    z = in_a_section([3e6, 1e6, -4e6], 0.0, np.inf, 1.0, 1.0)
    np.testing.assert_array_equal(z, [1.0, 0.0, 0.0])
    tiny = in_a_section([1.0, 2.0], 0.0, 5.0, 1e-30, 1e-30)
    np.testing.assert_allclose(tiny, [0.0, 1.0], atol=1e-6)  # float32


INFEASIBLE = {
    "too much": (
        (0.0, 1.0, 1.0, 3.5),
        "the set is empty, .* runs from 0.0 to 3.0, and total is 3.5",
    ),
    "too little": ((0.0, 1.0, 1.0, -0.1), "runs from 0.0 to 3.0, and total is -0.1"),
    "crossed": ((1.0, 0.0, 1.0, 1.0), "no number lies between lower 1 and upper 0"),
    "no weight": ((0.0, 1.0, 0.0, 1.0), "the set is empty"),
}


def test_box_section_refuses_what_is_empty():
    ones = np.ones(3, "float32")
    assert_refused(
        [
            (lambda terms=terms: box_section(ones, *terms), ValueError, words)
            for terms, words in INFEASIBLE.values()
        ]
    )
    for terms, _ in INFEASIBLE.values():
        assert np.isnan(in_a_section(ones, *terms)).all()


def test_projections_of_what_is_not_finite_are_nan():
    y = np.array([np.inf, np.inf, 0.0], np.float32)
    assert np.isnan(in_a_section(y, 0.0, 1.0, 1.0, 1.5)).all()
    assert np.isnan(second_order_cone(y, 2.0)[0]).all()


def test_box_section_takes_the_edge_of_what_is_not_empty():
    for total in (0.0, 3.0):
        z = in_a_section([3.0, 0.5, -1.0], 0.0, 1.0, 1.0, total)
        np.testing.assert_array_equal(z, [total / 3] * 3)


def test_second_order_cone_by_hand(dtype):
    y = np.array([3.0, 4.0], dtype)
    cases = {
        5.0: (y, 5.0),  # on the surface
        6.0: (y, 6.0),
        -5.0: (0 * y, 0.0),  # on the polar cone's
        -7.0: (0 * y, 0.0),
        1.0: (y * 3 / 5, 3.0),
    }
    for t, (expected, height) in cases.items():
        axes, top = CONE(y, np.asarray(t, dtype))
        np.testing.assert_allclose(axes, expected, rtol=4 * np.finfo(dtype).eps)
        assert top == height
        assert axes.dtype == top.dtype == dtype


def test_second_order_cone_is_nearest_and_splits_orthogonally(x64):
    # Moreau: p is the nearest point of a cone if p - v is in its dual and both are normal.
    rng = np.random.default_rng(0)
    for y, t in zip(rng.normal(size=(50, 4)), rng.normal(size=50)):
        axes, top = CONE(y, t)
        assert np.linalg.norm(axes) <= top * (1 + 1e-14)
        assert np.linalg.norm(axes - y) <= (top - t) * (1 + 1e-14) + 1e-15
        assert abs(axes @ (axes - y) + top * (top - t)) < 1e-14  # float64


def test_second_order_cone_near_its_polar_in_float32():
    axes, top = CONE(np.float32([3.0, 4.0]), np.float32(-5 * (1 - 1e-6)))
    # Half of what is left of the length, which rounds by a few of its 1.2e-7.
    np.testing.assert_allclose(top, 2.5e-6, atol=5e-7)
    np.testing.assert_allclose(np.linalg.norm(axes), 2.5e-6, atol=5e-7)


def test_second_order_cone_derivatives(x64):
    y = np.array([3.0, -4.0])
    for t in (1.0, -1.0, 6.0, -6.0):
        against_differences(second_order_cone, (y, np.array(t)))
    for axes, t in ((np.zeros(2), 0.0), (y, 5.0), (y, -5.0), (np.zeros(2), -1.0)):
        for slope in compiled(second_order_cone)[1](axes, np.array(t)):
            assert np.isfinite(slope).all()


def test_second_order_cone_takes_huge_and_tiny_vectors():
    for size in (1e-30, 1e30):
        axes, top = CONE(np.float32([3.0 * size, 4.0 * size]), np.float32(0.0))
        np.testing.assert_allclose(axes, size * np.array([1.5, 2.0]), rtol=1e-6)
        np.testing.assert_allclose(top, 2.5 * size, rtol=1e-6)


def rotated(values, m, n, seed=0):
    """A matrix (m, n) of these singular values."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(k, k)))[0] for k in (m, n))
    k = len(values)
    return u[:, :k] * np.array(values) @ v[:, :k].T


MATRICES = {
    "distinct": ([3.0, 1.5, 0.7, 0.5], 4, 4),
    "repeated, inside and outside": ([3.0, 3.0, 0.5, 0.5], 4, 4),
    "zeros": ([3.0, 0.0, 0.0, 0.0], 4, 4),
    "tall": ([3.0, 3.0, 0.0], 5, 3),
    "wide": ([3.0, 0.5], 2, 4),
    "inside": ([0.5, 0.5], 2, 4),
    "a column": ([2.0], 3, 1),
}


def test_spectral_ball_clips_singular_values_and_has_its_derivatives(x64):
    # No singular value is on the radius, so that the function is smooth here, repeated
    # singular values or not.
    def check(case):
        values, m, n = MATRICES[case]
        W, radius = rotated(values, m, n), np.array(1.0)
        expected = rotated(np.minimum(values, 1.0), m, n)
        found = compiled(spectral_ball)[0](W, radius).reshape(m, n)
        np.testing.assert_allclose(found, expected, atol=1e-14)  # float64
        against_differences(spectral_ball, (W, radius))

    assert_each(MATRICES, check)


@pytest.mark.slow
def test_spectral_ball_second_derivatives(x64):
    W = jnp.asarray(rotated([3.0, 1.5, 0.5], 3, 3))
    check_grads(partial(spectral_ball, radius=1.0), (W,), 2, atol=1e-5, rtol=1e-5)


def test_spectral_ball_far_from_it_still_holds():
    W = np.float32(1e6 * rotated([3.0, 2.0, 1.0], 3, 3))
    # The rounding is that of the radius, not that of W.
    assert np.linalg.norm(np.asarray(BALL(W, 1.0), float), 2) <= 1 + 1e-6
    assert (BALL(W, np.inf) == W).all()


def arguments(name, seed):
    rng = np.random.default_rng(seed)
    if name == "box_section":
        return section(12, "float32", seed)
    shapes = {"second_order_cone": ((3,), ()), "spectral_ball": ((3, 2), ())}[name]
    return tuple(np.asarray(rng.normal(size=shape) ** 2, "float32") for shape in shapes)


@pytest.mark.parametrize("name", ["box_section", "second_order_cone", "spectral_ball"])
def test_projection_transforms_and_twice_is_once(name):
    one = {f.__name__: f for f in (SECTION, CONE, BALL)}[name]
    cases = tuple(map(np.stack, zip(*[arguments(name, seed) for seed in range(6)])))
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)  # float32
    once = assert_transforms(
        lambda given: one(*given), cases, lambda *both: jax.tree.map(close, *both)
    )
    given = once if isinstance(once, tuple) else (once, *cases[1:])
    for i in range(6):
        again = one(*(np.asarray(each)[i] for each in given))
        jax.tree.map(close, again, jax.tree.map(lambda rows, i=i: rows[i], once))


def test_projections_refuse_shapes():
    def refused(words, project, *shapes):
        return lambda: project(*map(np.ones, shapes)), ValueError, words

    assert_refused(
        [
            refused("use jax.vmap for many y", box_section, (5, 3), (), (), (), ()),
            refused(r"lower \(2,\)", box_section, (3,), (2,), (), (), ()),
            refused(r"total \(1,\)", box_section, (3,), (), (), (), (1,)),
            refused("use jax.vmap", second_order_cone, (5, 3), (5,)),
            refused(r"got \(0,\)", second_order_cone, (0,), ()),
            refused(r"needs W \(m, n\), got \(3,\)", spectral_ball, (3,), ()),
        ]
    )


def test_spectral_ball_refuses_a_negative_radius():
    W = np.ones((3, 3), "float32")
    with pytest.raises(ValueError, match="radius must be >= 0, got -1"):
        spectral_ball(W, -1.0)
    assert np.isnan(BALL(W, -1.0)).all()


def test_projections_take_whole_numbers_and_halves():
    halves = jnp.ones((2, 2), jnp.bfloat16)
    assert jax.eval_shape(box_section, np.array([1, 2]), 0, 1, 1, 1).dtype == "float32"
    assert jax.eval_shape(second_order_cone, halves[0], 1)[0].dtype == "float32"
    assert jax.eval_shape(spectral_ball, halves, 1).dtype == "float32"


TERMS = {
    # A projection, its good arguments, and which of them are sets': of finite numbers.
    projections.affine: (([1.0, 2.0], [[1.0, 1.0]], [1.0]), "A b"),
    projections.box_section: (([1.0, 2.0], 0.0, 1.0, 1.0, 1.5), "weights total"),
    projections.polyhedron: (
        ([1.0, 2.0], [[1.0, 1.0]], [1.0], [[1.0, 0.0]], [0.0], [1.0]),
        "A b C",
    ),
    projections.second_order_cone: (([1.0, 2.0], 1.0), ""),
    projections.spectral_ball: (([[1.0, 2.0]], 1.0), "radius"),
}


def test_projections_name_the_argument_that_is_no_array_of_numbers():
    calls = []
    for project, (given, of_set) in TERMS.items():
        for place, name in enumerate([*signature(project).parameters][: len(given)]):
            nothing = [
                "text",
                None,
                {},
                [None],
                np.array([True, False]),
                [[1.0], [1.0, 2.0]],
            ]
            bad = [(value, TypeError) for value in nothing]
            if name in of_set.split():
                shape = np.shape(given[place])
                bad += [(np.full(shape, end), ValueError) for end in (np.nan, np.inf)]
            for value, error in bad:
                terms = [*given[:place], value, *given[place + 1 :]]
                words = [project.__name__, name]
                calls.append((partial(project, *terms), error, words))
    assert_refused(calls, most=200)
