"""Projections: against least squares, a QP solver and finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import osqp
import pytest
from jax.test_util import check_grads
from scipy import sparse

from jaxcon.projections import affine

SHAPES = [(1, 3), (2, 4), (5, 20), (4, 4)]


def drawn(k, m, dtype="float64", seed=0):
    """y, A and b in `dtype`, their rows of scales 1e-3 to 1e3."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-3, 3, k)
    y, A, b = 10 * rng.normal(size=m), rng.normal(size=(k, m)), rng.normal(size=k)
    return tuple(entry.astype(dtype) for entry in (y, scales[:, None] * A, scales * b))


def by_least_squares(y, A, b):
    """The least change, in float64, rows brought to one scale."""
    y, A, b = (entry.astype(np.float64) for entry in (y, A, b))
    scale = np.linalg.norm(A, axis=1)
    A, b = A / scale[:, None], b / scale
    return y + np.linalg.lstsq(A, b - A @ y, rcond=None)[0], np.linalg.cond(A)


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_is_the_least_change_and_holds_to_four_roundings(dtype, shape):
    eps = np.finfo(dtype).eps
    for seed in range(20):
        y, A, b = drawn(*shape, dtype, seed)
        nearest = affine(y, A, b)
        assert nearest.dtype == dtype
        expected, condition = by_least_squares(y, A, b)
        size = max(np.abs(y).max(), np.abs(expected).max())
        # A solve is as exact as the condition of its matrix lets it be.
        atol = 10 * eps * condition * size
        np.testing.assert_allclose(nearest, expected, rtol=0, atol=atol)
        exactly = np.asarray(nearest, np.longdouble)
        excess = np.abs(A.astype(np.longdouble) @ exactly - b)
        terms = np.abs(A) @ (np.abs(y) + np.abs(exactly)) + np.abs(b)
        assert (excess <= 4 * eps * terms).all()  # as its docstring says


def test_affine_solves_the_quadratic_programme(x64):
    y, A, b = drawn(2, 4)
    scale = np.linalg.norm(A, axis=1)
    A, b = A / scale[:, None], b / scale
    solver = osqp.OSQP()
    solver.setup(
        sparse.eye(4, format="csc"),
        -y,
        sparse.csc_matrix(A),
        b,
        b,
        verbose=False,
        eps_abs=1e-10,
        eps_rel=1e-10,
        max_iter=100_000,
    )
    # The solver's own tolerance.
    np.testing.assert_allclose(
        affine(y, A, b), solver.solve(raise_error=True).x, atol=1e-8
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_twice_is_affine_once(dtype, shape):
    y, A, b = drawn(*shape, dtype)
    once = affine(y, A, b)
    # A second correction is of the size of the first one's rounding errors.
    _, condition = by_least_squares(y, A, b)
    atol = 10 * np.finfo(dtype).eps * condition * np.abs(y).max()
    np.testing.assert_allclose(affine(once, A, b), once, rtol=0, atol=atol)


def test_affine_leaves_alone_what_obeys():
    y = jnp.array([1.0, 2.0, 3.0, 4.0])
    A = jnp.array([[1.0, 1.0, 0.0, 0.0], [0.0, -1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(affine(y, A, A @ y), y)  # all are exact in binary


@pytest.mark.parametrize("shape", SHAPES[1::2])
def test_affine_derivatives(x64, shape):
    _, A, b = arguments = drawn(*shape)
    rows = A / np.linalg.norm(A, axis=1)[:, None]
    # In y it is the projection onto the null space, whatever y is.
    expected = np.eye(shape[1]) - np.linalg.pinv(rows) @ rows
    jacobian = jax.jacobian(partial(affine, A=A, b=b))(arguments[0])
    np.testing.assert_allclose(jacobian, expected, atol=1e-12)  # float64
    # In all three against central differences, whose error is about 1e-9 of the values.
    well_scaled = arguments[0], rows, b
    check_grads(affine, well_scaled, order=1, atol=1e-5, rtol=1e-5)


def test_affine_batches_and_compiles():
    problems = [drawn(2, 4, "float32", seed) for seed in range(5)]
    y, A, b = (jnp.stack(entries) for entries in zip(*problems))
    one_by_one = jnp.stack([affine(*each) for each in zip(y, A, b)])
    # The same sums in another order; the rows' condition is below 10.
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    close(jax.vmap(affine)(y, A, b), one_by_one)
    close(jax.jit(jax.vmap(affine))(y, A, b), one_by_one)
    shared = jnp.stack([affine(each, A[0], b[0]) for each in y])
    close(jax.vmap(affine, (0, None, None))(y, A[0], b[0]), shared)


def test_affine_takes_whole_numbers_and_halves():
    nearest = affine(np.array([1, 2]), np.array([[1, 1]]), np.array([1]))
    np.testing.assert_array_equal(nearest, [0, 1])
    halves = affine(
        jnp.ones(2, jnp.bfloat16), jnp.ones((1, 2), jnp.bfloat16), np.ones(1)
    )
    assert halves.dtype == jnp.float32
    np.testing.assert_array_equal(halves, [0.5, 0.5])


DEPENDENT = {
    "repeated": ([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]], [1.0, 2.0], 1),
    "contradicting": ([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]], [1.0, 2.0], 1),
    "a sum": ([[0.1, 0.7, 0.3], [0.2, 0.1, 0.4], [0.3, 0.8, 0.7]], [1.0] * 3, 2),
    "zero": ([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [1.0, 1.0], 0),
}


@pytest.mark.parametrize("case", DEPENDENT)
def test_affine_refuses_dependent_rows(dtype, case):
    A, b, row = DEPENDENT[case]
    A, b = np.array(A, dtype), np.array(b, dtype)
    with pytest.raises(ValueError, match=f"row {row} of A is a combination"):
        affine(np.ones(3, dtype), A, b)
    with pytest.raises(ValueError, match=f"row {row} of A is a combination"):
        jax.jit(lambda y: affine(y, A, b))(np.ones(3, dtype))
    # Not known while traced: no number is better than a wrong one.
    assert np.isnan(jax.jit(affine)(np.ones(3, dtype), A, b)).all()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((5, 3), (1, 3), (1,)), "use jax.vmap for many y"),
        (((3,), (3,), (1,)), r"got \(3,\), \(3,\) and \(1,\)"),
        (((3,), (1, 3), ()), r"needs y \(m,\), A \(k, m\) and b \(k,\)"),
        (((3,), (1, 4), (1,)), r"needs y \(m,\)"),
        (((2,), (3, 2), (3,)), "3 equations for 2 outputs"),
        (((2,), (0, 2), (0,)), "at least one"),
    ],
)
def test_affine_refuses_shapes(shapes, message):
    with pytest.raises(ValueError, match=message):
        affine(*map(jnp.ones, shapes))


def test_affine_holds_in_a_row_of_small_terms():
    A = jnp.array([[1.0, 1.0, 0.0], [0.0, 1000.0, 1.0]])
    y, b = jnp.array([1.0, 2.0, 3.0]), jnp.array([1000.0, 1.0])
    p = np.asarray(affine(y, A, b), float)
    terms = np.abs(A) @ (np.abs(y) + np.abs(p)) + np.abs(b)
    # float32; the docstring's four machine epsilons.
    assert np.all(np.abs(np.asarray(A, float) @ p - b) <= 4 * 1.2e-7 * terms)


def test_affine_takes_huge_rows():
    p = affine(jnp.array([1.0, 2.0]), jnp.full((1, 2), 1e25), jnp.array([1e25]))
    np.testing.assert_allclose(p, [0.0, 1.0], atol=1e-6)  # float32
