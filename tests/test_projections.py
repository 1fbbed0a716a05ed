"""Projections: against least squares, a QP solver and finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import osqp
from laws import assert_transforms
from scipy import sparse
from tables import assert_each, assert_refused

from jaxcon.projections import affine

SHAPES = [(1, 3), (2, 4), (5, 20), (4, 4)]
BATCH = 20

# Compiled once for each shape and dtype.
ONE = jax.jit(affine)
MANY = jax.jit(jax.vmap(affine))


def drawn(k, m, dtype="float64", seed=0):
    """y, A and b in `dtype`, their rows of scales 1e-3 to 1e3."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-3, 3, k)
    y, A, b = 10 * rng.normal(size=m), rng.normal(size=(k, m)), rng.normal(size=k)
    return tuple(entry.astype(dtype) for entry in (y, scales[:, None] * A, scales * b))


def solved(problems):
    """The projections of up to BATCH problems of one shape, by the one program for it."""
    filled = [*problems, *[problems[-1]] * (BATCH - len(problems))]
    return np.asarray(MANY(*map(np.stack, zip(*filled))))[: len(problems)]


def by_least_squares(y, A, b):
    """The least change, in float64, rows brought to one scale."""
    y, A, b = (entry.astype(np.float64) for entry in (y, A, b))
    scale = np.linalg.norm(A, axis=1)
    A, b = A / scale[:, None], b / scale
    return y + np.linalg.lstsq(A, b - A @ y, rcond=None)[0], np.linalg.cond(A)


def test_affine_is_the_least_change_once_and_twice_to_four_roundings(dtype):
    eps = np.finfo(dtype).eps

    def check(shape):
        problems = [drawn(*shape, dtype, seed) for seed in range(BATCH)]
        once = solved(problems)
        assert once.dtype == dtype
        again = solved([(z, A, b) for z, (_, A, b) in zip(once, problems)])
        for nearest, second, (y, A, b) in zip(once, again, problems):
            expected, condition = by_least_squares(y, A, b)
            size = max(np.abs(y).max(), np.abs(expected).max())
            # A solve is as exact as the condition of its matrix lets it be.
            atol = 10 * eps * condition * size
            np.testing.assert_allclose(nearest, expected, rtol=0, atol=atol)
            exactly = np.asarray(nearest, np.longdouble)
            excess = np.abs(A.astype(np.longdouble) @ exactly - b)
            terms = np.abs(A) @ (np.abs(y) + np.abs(exactly)) + np.abs(b)
            assert (excess <= 4 * eps * terms).all()  # as its docstring says
            # A second correction is of the size of the first one's rounding errors.
            np.testing.assert_allclose(second, nearest, rtol=0, atol=atol)

    assert_each(SHAPES, check)


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
    expected = solver.solve(raise_error=True).x
    np.testing.assert_allclose(solved([(y, A, b)])[0], expected, atol=1e-8)


def test_affine_leaves_alone_what_obeys():
    y = np.float32([1.0, 2.0, 3.0, 4.0])
    A = np.float32([[1.0, 1.0, 0.0, 0.0], [0.0, -1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(solved([(y, A, A @ y)])[0], y)  # exact in binary


def test_affine_derivatives(x64):
    def both(terms, ways):
        backwards = jax.jacrev(affine, (0, 1, 2))(*terms)
        return backwards, jax.jvp(affine, terms, ways)[1]

    program = jax.jit(both)

    def check(shape):
        y, A, b = drawn(*shape)
        scale = np.linalg.norm(A, axis=1)
        terms = y, A / scale[:, None], b / scale
        ways = drawn(*shape, seed=1)
        found, forwards = program(terms, ways)
        # In y it is the projection onto the null space, whatever y is.
        expected = np.eye(shape[1]) - np.linalg.pinv(terms[1]) @ terms[1]
        np.testing.assert_allclose(found[0], expected, atol=1e-12)  # float64
        # In all three against central differences, of error about 1e-9 of the values.
        entries = [
            (i, at) for i, term in enumerate(terms) for at in np.ndindex(term.shape)
        ]
        moved = []
        for h in (1e-6, -1e-6):
            for i, at in entries:
                near = [np.array(term) for term in terms]
                near[i][at] += h
                moved.append(near)
        ends = [solved(moved[i : i + BATCH]) for i in range(0, len(moved), BATCH)]
        up, down = np.split(np.concatenate(ends), 2)
        backwards = np.stack([np.asarray(found[i])[(..., *at)] for i, at in entries])
        differences = (up - down) / 2e-6
        np.testing.assert_allclose(backwards, differences, atol=1e-5, rtol=1e-5)
        by_rows = [ways[i][at] for i, at in entries] @ backwards
        np.testing.assert_allclose(forwards, by_rows, rtol=1e-9, atol=1e-9)

    assert_each(SHAPES[1::2], check)


def test_affine_transforms():
    problems = [drawn(2, 4, "float32", seed) for seed in range(5)]
    _, A, b = problems[0]
    # The same sums in another order; the rows' condition is below 10.
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    assert_transforms(
        lambda terms: (affine(*terms), affine(terms[0], A, b)),
        tuple(map(np.stack, zip(*problems))),
        lambda *both: jax.tree.map(close, *both),
    )


def test_affine_takes_whole_numbers_and_halves():
    nearest = affine(np.array([1, 2]), np.array([[1, 1]]), np.array([1]))
    np.testing.assert_array_equal(nearest, [0, 1])
    ones = jnp.bfloat16([1, 1])
    halves = affine(ones, ones[None], np.ones(1))
    assert halves.dtype == jnp.float32
    np.testing.assert_array_equal(halves, [0.5, 0.5])


DEPENDENT = {
    "repeated": ([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]], [1.0, 2.0], 1),
    "contradicting": ([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]], [1.0, 2.0], 1),
    "a sum": ([[0.1, 0.7, 0.3], [0.2, 0.1, 0.4], [0.3, 0.8, 0.7]], [1.0] * 3, 2),
    "zero": ([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [1.0, 1.0], 0),
}


def test_affine_refuses_dependent_rows(dtype):
    y, cases = np.ones(3, dtype), []
    for A, b, row in DEPENDENT.values():
        A, b = np.array(A, dtype), np.array(b, dtype)
        words = f"row {row} of A is a combination"
        for call in (
            lambda A=A, b=b: affine(y, A, b),
            lambda A=A, b=b: jax.eval_shape(lambda y: affine(y, A, b), y),
        ):
            cases.append((call, ValueError, words))
        # Not known while traced: no number is better than a wrong one.
        assert np.isnan(ONE(y, A, b)).all()
    assert_refused(cases)


def test_affine_refuses_shapes():
    def refused(words, *shapes):
        return lambda: affine(*map(np.ones, shapes)), ValueError, words

    assert_refused(
        [
            refused("use jax.vmap for many y", (5, 3), (1, 3), (1,)),
            refused(r"got \(3,\), \(3,\) and \(1,\)", (3,), (3,), (1,)),
            refused(r"needs y \(m,\), A \(k, m\) and b \(k,\)", (3,), (1, 3), ()),
            refused(r"needs y \(m,\)", (3,), (1, 4), (1,)),
            refused("3 equations for 2 outputs", (2,), (3, 2), (3,)),
            refused("at least one", (2,), (0, 2), (0,)),
        ]
    )


def test_affine_holds_in_a_row_of_small_terms():
    A = np.float32([[1.0, 1.0, 0.0], [0.0, 1000.0, 1.0]])
    y, b = np.float32([1.0, 2.0, 3.0]), np.float32([1000.0, 1.0])
    p = np.asarray(ONE(y, A, b), float)
    terms = np.abs(A) @ (np.abs(y) + np.abs(p)) + np.abs(b)
    # float32; the docstring's four machine epsilons.
    assert np.all(np.abs(np.asarray(A, float) @ p - b) <= 4 * 1.2e-7 * terms)


def test_affine_takes_huge_rows():
    # The second row leaves alone what is on it.
    A = np.float32([[1e25, 1e25, 0], [0, 0, 1]])
    p = ONE(np.float32([1.0, 2.0, 3.0]), A, np.float32([1e25, 3.0]))
    np.testing.assert_allclose(p, [0.0, 1.0, 3.0], atol=1e-6)  # float32
