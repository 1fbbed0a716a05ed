"""Projections on simple sets: against QP solvers, hand-made cases and differences."""

from functools import cache, partial
from inspect import signature

import jax
import jax.numpy as jnp
import numpy as np
import optax
import osqp
import pytest
from jax.test_util import check_grads
from scipy import sparse
from scipy.optimize import brentq

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
    z = SECTION(jnp.array([3.0, 1.0, 0.5]), 0.0, upper, 1.0, 2.0)
    np.testing.assert_array_equal(z, [1.0, 0.75, 0.25])
    # Without bounds it is the hyperplane: moved by (1 - 7) / 5 of the weights.
    z = SECTION(jnp.array([3.0, 2.0]), -np.inf, np.inf, np.array([1.0, 2.0]), 1.0)
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


def test_box_section_of_the_unit_box_is_the_simplex(key):
    for y in 3 * jax.random.normal(key, (5, 7)):
        simplex = optax.projections.projection_simplex(y)
        z = SECTION(y, 0.0, 1.0, 1.0, 1.0)
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


def test_box_section_at_a_corner_has_no_derivative_left():
    given = compiled(box_section)[1](jnp.array([5.0, 0.0]), 0.0, 1.0, 1.0, 1.0)
    np.testing.assert_array_equal(given[0], np.zeros((2, 2)))


def test_box_section_resolves_what_far_outputs_leave():
    # float32: y's own spacing is 8 here, that of the box a millionth.
    z = SECTION(jnp.array([1e8, 1e8 + 8, 0.0]), 0.0, 1.0, 1.0, 0.5)
    np.testing.assert_array_equal(z, [0.0, 0.5, 0.0])
    z = SECTION(jnp.array([3e6, 1e6, -4e6]), 0.0, np.inf, 1.0, 1.0)
    np.testing.assert_array_equal(z, [1.0, 0.0, 0.0])
    tiny = SECTION(jnp.array([1.0, 2.0]), 0.0, 5.0, 1e-30, 1e-30)
    np.testing.assert_allclose(tiny, [0.0, 1.0], atol=1e-6)  # float32


INFEASIBLE = {
    "too much": ((0.0, 1.0, 1.0, 3.5), "no point of the box has the total 3.5"),
    "too little": ((0.0, 1.0, 1.0, -0.1), "sums run from 0.0 to 3.0"),
    "crossed": ((1.0, 0.0, 1.0, 1.0), "exceeds"),
    "no weight": ((0.0, 1.0, 0.0, 1.0), "no point"),
}


@pytest.mark.parametrize("case", INFEASIBLE)
def test_box_section_refuses_what_is_empty(case):
    terms, message = INFEASIBLE[case]
    with pytest.raises(ValueError, match=message):
        box_section(jnp.ones(3), *terms)
    assert np.isnan(SECTION(jnp.ones(3), *terms)).all()


@pytest.mark.parametrize("total", [0.0, 3.0])
def test_box_section_takes_the_edge_of_what_is_not_empty(total):
    z = SECTION(jnp.array([3.0, 0.5, -1.0]), 0.0, 1.0, 1.0, total)
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
    y = jnp.array([3.0, 4.0])
    axes, top = CONE(y, -5 * (1 - 1e-6))
    # Half of what is left of the length, which rounds by a few of its 1.2e-7.
    np.testing.assert_allclose(top, 2.5e-6, atol=5e-7)
    np.testing.assert_allclose(np.linalg.norm(axes), 2.5e-6, atol=5e-7)


def test_second_order_cone_derivatives(x64):
    y = jnp.array([3.0, -4.0])
    for t in (1.0, -1.0, 6.0, -6.0):
        against_differences(second_order_cone, (y, jnp.array(t)))
    for at in ((jnp.zeros(2), 0.0), (y, 5.0), (y, -5.0), (jnp.zeros(2), -1.0)):
        for slope in compiled(second_order_cone)[1](*at):
            assert np.isfinite(slope).all()


def test_second_order_cone_takes_huge_and_tiny_vectors():
    for size in (1e-30, 1e30):
        axes, top = CONE(size * jnp.array([3.0, 4.0]), 0.0)
        np.testing.assert_allclose(axes, size * jnp.array([1.5, 2.0]), rtol=1e-6)
        np.testing.assert_allclose(top, 2.5 * size, rtol=1e-6)


def rotated(values, m, n, seed=0):
    """A matrix (m, n) of these singular values."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(k, k)))[0] for k in (m, n))
    k = len(values)
    return u[:, :k] * np.array(values) @ v[:, :k].T


MATRICES = {
    "distinct": ([3.0, 1.5, 0.5], 3, 3),
    "repeated, inside and outside": ([3.0, 3.0, 0.5, 0.5], 4, 4),
    "zeros": ([3.0, 0.0, 0.0], 3, 3),
    "tall": ([3.0, 3.0, 0.0], 5, 3),
    "wide": ([3.0, 0.5], 2, 4),
    "inside": ([0.5, 0.5], 2, 3),
    "a column": ([2.0], 3, 1),
}


@pytest.mark.parametrize("case", MATRICES)
def test_spectral_ball_clips_singular_values(case, x64):
    values, m, n = MATRICES[case]
    W = rotated(values, m, n)
    expected = rotated(np.minimum(values, 1.0), m, n)
    np.testing.assert_allclose(BALL(W, 1.0), expected, atol=1e-14)  # float64


@pytest.mark.parametrize("case", MATRICES)
def test_spectral_ball_derivatives(case, x64):
    # No singular value is on the radius, so that the function is smooth here, repeated
    # singular values or not.
    values, m, n = MATRICES[case]
    W, radius = jnp.asarray(rotated(values, m, n)), jnp.array(1.0)
    against_differences(spectral_ball, (W, radius))


@pytest.mark.slow
def test_spectral_ball_second_derivatives(x64):
    W = jnp.asarray(rotated([3.0, 1.5, 0.5], 3, 3))
    check_grads(partial(spectral_ball, radius=1.0), (W,), 2, atol=1e-5, rtol=1e-5)


def test_spectral_ball_far_from_it_still_holds():
    W = jnp.asarray(1e6 * rotated([3.0, 2.0, 1.0], 3, 3), jnp.float32)
    # The rounding is that of the radius, not that of W.
    assert np.linalg.norm(np.asarray(BALL(W, 1.0), float), 2) <= 1 + 1e-6
    assert (BALL(W, np.inf) == W).all()


def arguments(name, seed):
    rng = np.random.default_rng(seed)
    if name == "box_section":
        return section(12, "float32", seed)
    shapes = {"second_order_cone": ((3,), ()), "spectral_ball": ((3, 2), ())}[name]
    return tuple(np.asarray(rng.normal(size=shape) ** 2, "float32") for shape in shapes)


@pytest.mark.parametrize("one", [SECTION, CONE, BALL], ids=lambda f: f.__name__)
def test_batches_are_loops_and_twice_is_once(one):
    drawn = [arguments(one.__name__, seed) for seed in range(6)]
    together = jax.jit(jax.vmap(one))(*map(jnp.stack, zip(*drawn)))
    alone = [one(*each) for each in drawn]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)  # float32
    jax.tree.map(close, together, stacked)
    for nearest, given in zip(alone, drawn):
        again = (
            one(*nearest) if isinstance(nearest, tuple) else one(nearest, *given[1:])
        )
        jax.tree.map(close, again, nearest)


REFUSED = {
    "box: many y": (box_section, ((5, 3), (), (), (), ()), "use jax.vmap for many y"),
    "box: bounds": (box_section, ((3,), (2,), (), (), ()), r"lower \(2,\)"),
    "box: total": (box_section, ((3,), (), (), (), (1,)), r"total \(1,\)"),
    "cone: many": (second_order_cone, ((5, 3), (5,)), "use jax.vmap"),
    "cone: nothing": (second_order_cone, ((0,), ()), r"got \(0,\)"),
    "ball: vector": (spectral_ball, ((3,), ()), r"got \(3,\) and \(\)"),
    "ball: radii": (spectral_ball, ((3, 2), (2,)), r"got \(3, 2\) and \(2,\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_shapes_are_refused(case):
    project, shapes, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        project(*map(jnp.ones, shapes))


def test_negative_radius_is_refused():
    with pytest.raises(ValueError, match="radius must be >= 0, got -1"):
        spectral_ball(jnp.ones((2, 2)), -1.0)
    assert np.isnan(BALL(jnp.ones((2, 2)), -1.0)).all()


def test_whole_numbers_and_halves_are_taken():
    halves = jnp.ones((2, 2), jnp.bfloat16)
    assert jax.eval_shape(box_section, np.array([1, 2]), 0, 1, 1, 1).dtype == "float32"
    assert jax.eval_shape(second_order_cone, halves[0], 1)[0].dtype == "float32"
    assert jax.eval_shape(spectral_ball, halves, 1).dtype == "float32"
