"""Polyhedra: against a QP solver, by hand, at corners and where there is no point."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import osqp
import pytest
from laws import assert_transforms
from scipy import sparse
from scipy.optimize import nnls
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon.layers._polyhedra import half_spaces, polyhedron
from jaxcon.projections._polyhedron import polyhedron as nearest

INF = np.inf
SUM = np.ones((1, 4))
STEPS = np.diff(np.eye(4), axis=0)
# m, equations, inequalities: a few, none equal, as many rows as outputs, far more. The
# first is compiled once for all tests by hand as well, see `solved`.
SHAPES = [
    (6, 2, 5),
    *(
        pytest.param(shape, marks=pytest.mark.slow)
        for shape in [(3, 0, 2), (8, 3, 8), (3, 1, 12)]
    ),
]
BATCH = 100

# Compiled once for each shape and dtype.
SOLVE = jax.jit(jax.vmap(nearest))


def drawn(m, k, p, dtype="float64", seed=0, scales=1.0):
    """A set with a point inside and an output far outside; one bound in three is none."""
    rng = np.random.default_rng(seed)
    A, C = rng.normal(size=(k, m)), rng.normal(size=(p, m))
    C *= scales ** rng.uniform(-1, 1, (p, 1))
    inside, size = rng.normal(size=m), np.linalg.norm(C, axis=1)
    lower, upper = C @ inside - size * rng.random(p), C @ inside + size * rng.random(p)
    lower[::3], upper[1::3] = -INF, INF
    terms = 5 * rng.normal(size=m), A, A @ inside, C, lower, upper
    return tuple(term.astype(dtype) for term in terms)


def solved(problems):
    """The projections of up to BATCH problems of one shape, by the one program for it."""
    filled = [*problems, *[problems[-1]] * (BATCH - len(problems))]
    found = SOLVE(*map(np.stack, zip(*filled)))
    return jax.tree.map(lambda rows: np.asarray(rows)[: len(problems)], found)


def embedded(y, A, b, C, lower, upper, dtype="float32"):
    """A smaller problem as one of SHAPES[0]: the outputs added are zero, or free."""
    size, equations, inequalities = SHAPES[0]
    (m, k, p), unit = (np.size(y), np.size(b), np.size(lower)), np.eye(size)
    wider = [np.pad(np.asarray(each), ((0, 0), (0, size - m))) for each in (A, C)]
    free = np.full(inequalities - p, INF)
    terms = (
        np.pad(y, (0, size - m)),
        np.vstack([wider[0], unit[size - (equations - k) :]]),
        np.pad(b, (0, equations - k)),
        np.vstack([wider[1], *[unit[m : m + 1]] * (inequalities - p)]),
        np.append(lower, -free),
        np.append(upper, free),
    )
    return tuple(np.asarray(term, dtype) for term in terms)


def by_osqp(y, A, b, C, lower, upper):
    solver = osqp.OSQP()
    solver.setup(
        sparse.eye(len(y), format="csc"),
        -y,
        sparse.csc_matrix(np.vstack([A, C])),
        np.r_[b, lower],
        np.r_[b, upper],
        verbose=False,
        eps_abs=1e-10,
        eps_rel=1e-10,
        max_iter=100_000,
    )
    return solver.solve(raise_error=True).x


def far_from_optimal(z, y, A, b, C, lower, upper):
    """|y - z| less its part along the rows that hold z back, by non-negative squares."""
    terms = (np.asarray(term, np.float64) for term in (z, y, A, b, C, lower, upper))
    z, y, A, b, C, lower, upper = terms
    # What float32 calls active is so to about a thousand of its roundings.
    near = 1e-4 * np.linalg.norm(C, axis=1) * (1 + np.linalg.norm(z))
    held = np.vstack([C[C @ z > upper - near], -C[C @ z < lower + near], A, -A])
    # SciPy 1.17 dies of a matrix without columns.
    return nnls(held.T, y - z)[1] if len(held) else np.linalg.norm(y - z)


@pytest.mark.parametrize("shape", SHAPES)
def test_polyhedron_solves_the_quadratic_programme(x64, shape):
    problems = [drawn(*shape, seed=seed) for seed in range(8)]
    found = solved(problems)
    expected = np.stack([by_osqp(*problem) for problem in problems])
    np.testing.assert_allclose(found.point, expected, atol=1e-8)  # the solver's own
    assert found.residual.max() < 1e-12  # float64


@pytest.mark.parametrize("shape", SHAPES)
def test_polyhedron_is_optimal_and_obeys_to_rounding(dtype, shape):
    problems = [drawn(*shape, dtype, seed, scales=100.0) for seed in range(BATCH)]
    found = solved(problems)
    assert found.point.dtype == dtype
    eps = np.finfo(dtype).eps
    for z, residual, problem in zip(*found, problems):
        C, lower, upper = (np.asarray(term, np.float64) for term in problem[3:])
        values = C @ z.astype(np.float64)
        size = np.linalg.norm(C, axis=1) * np.linalg.norm(z)
        excess = np.maximum(lower - values, values - upper)
        assert (excess <= (len(z) + 10) * eps * size).all()  # as its docstring says
        assert residual <= (len(z) + 10) * eps * size.max() + 30 * eps
        # Stationarity suffers from the condition of the active rows, at times 1e3.
        assert far_from_optimal(z, *problem) < 1e4 * eps * np.linalg.norm(problem[0])


def test_polyhedron_by_hand():
    none = np.zeros((0, 2)), np.zeros(0)
    box = np.eye(2), np.zeros(2), np.array([1.0, INF])
    exact = {
        (2.0, 3.0): [1.0, 3.0],
        (-1.0, -2.0): [0.0, 0.0],
        (0.5, 0.25): [0.5, 0.25],  # inside: unchanged
    }
    found = solved([embedded(y, *none, *box) for y in exact]).point
    np.testing.assert_array_equal(found[:, :2], list(exact.values()))
    # On the line z0 + z1 = 1, z0 <= 3/4: the line's nearest point, then its end.
    line = np.ones((1, 2)), np.ones(1)
    bounds = np.eye(2), np.full(2, -INF), np.array([0.75, INF])
    rounded = {(1.0, 1.0): [0.5, 0.5], (5.0, 0.0): [0.75, 0.25]}
    found = solved([embedded(y, *line, *bounds) for y in rounded]).point
    np.testing.assert_allclose(
        found[:, :2], list(rounded.values()), atol=1e-6
    )  # float32


def test_polyhedron_far_outputs_obey_a_small_set(dtype):
    # 10,000 times as far out as the set is large: the rounding of the way there is gone.
    terms = SUM, np.ones(1), STEPS, np.zeros(3), np.ones(3)
    ways = 3e4 * np.random.default_rng(1).normal(size=(50, 4))
    found = solved([embedded(way, *terms, dtype=dtype) for way in ways])
    # m + 10 roundings of terms of about 3.
    assert found.residual.max() < 50 * np.finfo(dtype).eps


CORNERS = {
    "planes through one point": (np.random.default_rng(0).normal(size=(20, 3)), 0.0),
    "each row three times": (np.tile(np.eye(3), (3, 1)), 1.0),
    "a row and its double": (np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]]), [1.0, 2.0]),
    "a row of zeros": (np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), 1.0),
    "almost parallel": (np.array([[1.0, 0.0, 0.0], [1.0, 0.01, 0.0]]), 1.0),
}


def test_polyhedron_with_degenerate_rows_is_optimal_with_finite_slopes(dtype):
    rows, bounds = [], []
    for C, upper in CORNERS.values():
        # The first row again without a bound, so that one program holds all cases.
        missing = 20 - len(C)
        rows.append(np.vstack([C, *[C[:1]] * missing]))
        bounds.append(np.append(np.broadcast_to(upper, len(C)), np.full(missing, INF)))
    C, upper = np.stack(rows).astype(dtype), np.stack(bounds).astype(dtype)
    none = np.zeros((0, 3), dtype), np.zeros(0, dtype)
    y = 5 * np.random.default_rng(1).normal(size=(40, 3)).astype(dtype)

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0, 0))
    @partial(jax.vmap, in_axes=(0, None, None))
    @partial(jax.grad, has_aux=True)
    def project(y, C, upper):
        found = nearest(y, *none, C, jnp.full_like(upper, -INF), upper)
        return found.point.sum(), found

    pulls, found = jax.tree.map(np.asarray, project(y, C, upper))
    eps = np.finfo(dtype).eps

    def check(name):
        i = [*CORNERS].index(name)
        assert np.isfinite(pulls[i]).all()
        # An apex at zero is zero to the rounding of the way to it.
        assert found.residual[i].max() < 100 * eps * np.abs(y).max()
        below = np.full_like(upper[i], -INF)
        for z, one in zip(found.point[i], y):
            far = far_from_optimal(z, one, *none, C[i], below, upper[i])
            assert far < 1e4 * eps * np.linalg.norm(one)

    assert_each(CORNERS, check)


def test_polyhedron_takes_a_row_that_equations_fix():
    A, b = np.array([[1.0, 1.0, 0.0]]), np.array([1.0])
    C, lower = np.array([[2.0, 2.0, 0.0], [0.0, 0.0, 1.0]]), np.full(2, -INF)
    y = np.array([3.0, 0.0, 4.0])
    problems = [embedded(y, A, b, C, lower, np.array([u, 1.0])) for u in (2.5, 1.5)]
    points, residuals = solved(problems)
    np.testing.assert_allclose(points[0, :3], [2.0, -1.0, 1.0], atol=1e-6)  # float32
    assert residuals[0] < 1e-6
    # 2 (z0 + z1) is 2, whatever is done about it.
    np.testing.assert_allclose(residuals[1], 0.5, atol=1e-6)


# The derivatives of the point in all six terms.
SLOPES = jax.jit(jax.jacrev(lambda *terms: nearest(*terms).point, tuple(range(6))))


def test_polyhedron_tells_an_empty_set(x64):
    A, b = np.ones((1, 3)), np.array([10.0])  # but the box allows 3 at most
    C, lower, upper = np.eye(3), np.zeros(3), np.ones(3)
    y = np.arange(3.0)
    # Also where the bounds exclude each other.
    sides = (lower, upper), (upper, lower)
    for dtype in ("float32", "float64"):
        problems = [embedded(y, A, b, C, *side, dtype=dtype) for side in sides]
        found = solved(problems)
        assert (found.residual > 1).all()
        np.testing.assert_allclose(
            found.point[:, :3].sum(1), 10.0, rtol=1e-5
        )  # float32
    for problem in problems:
        assert all(np.isfinite(pull).all() for pull in SLOPES(*problem))


@pytest.mark.parametrize("shape", SHAPES)
def test_polyhedron_derivatives(x64, shape):
    problem = drawn(*shape)
    found = SLOPES(*problem)
    # In y: the projection onto what the active rows leave free.
    y, A, _, C, lower, upper = problem
    z = solved([problem]).point[0]
    held = np.vstack([A, C[(np.abs(C @ z - lower) < 1e-9) | (C @ z > upper - 1e-9)]])
    free = np.eye(len(y)) - np.linalg.pinv(held) @ held
    np.testing.assert_allclose(found[0], free, atol=1e-10)  # float64, condition 1e3
    # In all six against central differences, whose error is about 1e-9 of the values.
    entries = [
        (which, at)
        for which, term in enumerate(problem)
        for at in zip(*np.nonzero(np.isfinite(term)))
    ]
    moved = []
    for h in (1e-6, -1e-6):
        for which, at in entries:
            terms = [np.array(term) for term in problem]
            terms[which][at] += h
            moved.append(terms)
    ends = [solved(moved[i : i + BATCH]).point for i in range(0, len(moved), BATCH)]
    up, down = np.split(np.concatenate(ends), 2)
    backwards = np.stack([np.asarray(found[i])[(..., *at)] for i, at in entries])
    differences = (up - down) / 2e-6
    np.testing.assert_allclose(backwards, differences, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_polyhedron_second_derivatives(x64):
    # Where a row depends on x, so does what it leaves free, and that is curved.
    def value(x):
        C = jnp.stack([jnp.cos(x), jnp.sin(x)])[None]
        none = np.zeros((0, 2)), np.zeros(0)
        z = nearest(np.array([2.0, 3.0]), *none, C, np.full(1, -INF), np.ones(1)).point
        return z @ jnp.array([1.0, 2.0])

    def by_hand(x):
        c = jnp.stack([jnp.cos(x), jnp.sin(x)])
        y = jnp.array([2.0, 3.0])
        return (y - (c @ y - 1) * c) @ jnp.array([1.0, 2.0])

    twice = [jax.jit(jax.grad(jax.grad(f)))(0.3) for f in (value, by_hand)]
    np.testing.assert_allclose(*twice, rtol=1e-10)  # float64


@pytest.mark.slow
def test_polyhedron_transforms():
    problems = [drawn(*SHAPES[0], "float32", seed) for seed in range(5)]
    # The same sums in another order, of outputs of up to ten.
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    assert_transforms(
        lambda terms: nearest(*terms),
        tuple(map(np.stack, zip(*problems))),
        lambda *both: jax.tree.map(close, *both),
    )


def test_polyhedron_refuses_what_does_not_fit():
    def refused(words, changes):
        terms = [
            np.ones(3),
            np.ones((1, 3)),
            np.ones(1),
            np.ones((2, 3)),
            *[np.ones(2)] * 2,
        ]
        for which, term in changes.items():
            terms[which] = term
        return lambda: jax.eval_shape(lambda: nearest(*terms)), ValueError, words

    assert_refused(
        [
            refused("use jax.vmap for many y", {0: np.ones((2, 3))}),
            refused(r"A \(k, m\)", {1: np.ones((1, 4))}),
            refused(r"C \(p, m\)", {3: np.ones((2, 4))}),
            refused(r"C \(p, m\)", {3: np.ones(3)}),
            refused(r"upper \(p,\)", {5: np.ones(())}),
            refused("use affine", {3: np.ones((0, 3)), 4: np.ones(0), 5: np.ones(0)}),
            refused("row 0 of A is a combination", {1: np.zeros((1, 3))}),
        ]
    )


EMPTY = {
    # Equations, inequalities and their bounds, and the rows that contradict each other.
    "a sum beyond the box": (
        ([[1.0, 1.0, 1.0]], [99.0], np.eye(3), np.zeros(3), np.ones(3)),
        "no point obeys row 0 of A, row 0 of C, row 1 of C and row 2 of C",
    ),
    "of other units": (
        ([[1e-6] * 3], [99e-6], 1e6 * np.eye(3), np.zeros(3), np.full(3, 1e6)),
        "no point obeys row 0 of A",
    ),
    "opposite half-spaces": (
        (
            np.zeros((0, 2)),
            np.zeros(0),
            [[1.0, 2.0], [0.0, 1.0], [-1.0, -2.0]],
            [1.0, 0.0, -0.9],
            [INF] * 3,
        ),
        "no point obeys row 0 of C and row 2 of C",
    ),
    "a row of zeros": (
        (
            np.zeros((0, 2)),
            np.zeros(0),
            [[0.0, 0.0], [1.0, 0.0]],
            [1.0, 0.0],
            [2.0, 1.0],
        ),
        "no point obeys row 0 of C",
    ),
    "a triangle turned inside out": (
        (
            np.zeros((0, 2)),
            np.zeros(0),
            [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]],
            [-INF] * 3,
            [-1.0, -1.0, 1.0],
        ),
        "no point obeys row 0 of C, row 1 of C and row 2 of C",
    ),
    "crossed bounds": (
        (np.zeros((0, 2)), np.zeros(0), np.eye(2), [0.0, 2.0], [1.0, 1.0]),
        "no number lies between lower 2 and upper 1, of entry 1: the set is empty",
    ),
    "an infinite lower bound": (
        (np.zeros((0, 2)), np.zeros(0), np.eye(2), [0.0, INF], [INF, INF]),
        "no number lies between lower inf and upper inf, of entry 1",
    ),
    "equations that contradict": (
        ([[1.0, 1.0], [2.0, 2.0]], [1.0, 3.0], np.eye(2), np.zeros(2), np.ones(2)),
        "row 1 of A .* its equation contradicts theirs: no point obeys them all",
    ),
    "equations that repeat": (
        ([[1.0, 1.0], [2.0, 2.0]], [1.0, 2.0], np.eye(2), np.zeros(2), np.ones(2)),
        "row 1 of A .* its equation repeats theirs",
    ),
}


def test_polyhedron_and_its_layer_refuse_an_empty_set():
    calls = []
    for terms, words in EMPTY.values():
        y = np.zeros(np.shape(terms[2])[1])
        calls += [
            (lambda y=y, terms=terms: nearest(y, *terms), ValueError, words),
            (lambda terms=terms: polyhedron(*terms), ValueError, words),
        ]
    assert_refused(calls)


NOT_EMPTY = {
    "one point": ([[1.0, 1.0]], [2.0], np.eye(2), np.zeros(2), np.ones(2)),
    "one point, by rounding": (
        [[1 / 3] * 3],
        [1.0],
        np.eye(3),
        np.zeros(3),
        np.ones(3),
    ),
    "far": ([[1.0, 1e-4]], [1e4], np.eye(2), [-INF, -INF], [0.0, INF]),
    "a cone": (
        np.zeros((0, 2)),
        np.zeros(0),
        [[1.0, 1e-3], [-1.0, 1e-3]],
        [1.0, 1.0],
        [INF] * 2,
    ),
    "a row of zeros": (np.zeros((0, 1)), np.zeros(0), [[0.0]], [-1.0], [1.0]),
}


def test_polyhedron_layer_takes_sets_that_are_not_empty():
    for terms in NOT_EMPTY.values():
        polyhedron(*terms)


def test_polyhedron_layer_of_a_set_that_is_empty_at_some_x():
    y = np.zeros(4)
    bounded = polyhedron(SUM, lambda x: x[:1], np.eye(4), np.zeros(4), np.ones(4))
    compiled = jax.jit(lambda x: (bounded(y, x), bounded.residual(y, x)))
    point, residual = compiled(np.array([9.0]))
    assert np.isnan(point).all()
    assert residual > 1
    point, residual = compiled(np.array([3.0]))
    np.testing.assert_allclose(point, 0.75, rtol=1e-6)
    with pytest.raises(ValueError, match="polyhedron: the set is empty"):
        bounded(y, np.array([9.0]))
    assert np.isnan(compiled(np.array([np.nan]))[0]).all()


# As a layer.


def rising(total=lambda x: x[:1]):
    """Four numbers that add up to x0, each at least the one before, by at most two."""
    return polyhedron(SUM, total, STEPS, np.zeros(3), np.full(3, 2.0))


def test_polyhedron_layer_is_the_projection():
    layer, y, x = rising(), np.array([3.0, 1.0, -2.0, 9.0]), np.array([2.0, 5.0])
    terms = SUM, x[:1], STEPS, np.zeros(3), np.full(3, 2.0)
    expected = solved([embedded(y, *terms)])
    point, residual = jax.jit(lambda y, x: (layer(y, x), layer.residual(y, x)))(y, x)
    # float32, of numbers up to nine.
    np.testing.assert_allclose(point, expected.point[0, :4], atol=1e-5)
    # The violation that is left, as the projection measures it: of terms up to nine.
    values = STEPS @ np.float64(point)
    left = max(abs(point.sum() - 2), (-values).max(), (values - 2).max(), 0.0)
    np.testing.assert_allclose(residual, left, rtol=0, atol=1e-6)
    wrapped = layer.wrap(lambda params, x: params)
    assert jax.eval_shape(wrapped, y, x).shape == (4,)
    with pytest.raises(ValueError, match=r"call it as layer\(y, x\)"):
        layer(y)


def test_half_spaces_by_hand():
    C, y = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([5.0, 4.0])

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    def projected(y, upper):
        both = half_spaces(C, lambda x: x)
        one = half_spaces(C[:1], lambda x: x[:1])
        return both(y, upper), one(y, upper)

    both, one = projected(y, np.array([[1.0, 2.0], [INF, INF]]))
    # Both rows hold: z0 + 2 z1 = 1 and 3 z0 - z1 = 2. Then neither does.
    np.testing.assert_allclose(both[0], [5 / 7, 1 / 7], atol=1e-5)  # float32
    np.testing.assert_array_equal(both[1], y)
    # The foot of the perpendicular from 13 to 1, in float32.
    np.testing.assert_allclose(one[0], y - 12 / 5 * C[0], atol=1e-5)
    np.testing.assert_array_equal(one[1], y)


ROWS = np.random.default_rng(0).normal(size=(6, 3))


def beyond(layer, y, z):
    """By how much outputs z of y are beyond what the layer promises."""

    def excess(y, z):
        gaps = [
            (guarantee.tests["value"](lambda y: z, y, y), guarantee.roundings)
            for guarantee in layer.certificate().guarantees
        ]
        eps = jnp.finfo(z.dtype).eps
        return jnp.max(jnp.stack([g.excess - c * eps * g.size for g, c in gaps]))

    return np.asarray(jax.jit(jax.vmap(excess))(y, z))


def test_half_spaces_certificate_holds_from_far():
    y = np.random.default_rng(1).normal(size=(2000, 3)).astype("float32")
    project = jax.jit(jax.vmap(half_spaces(ROWS, lambda x: x), (0, None)))
    for upper, far in (
        # Far from well-conditioned rows, where the rounding of y is larger than the set.
        ([0.1, 0.7, 1.3, 0.4, 1.0, 0.7], 1e8),
        # A cone that is its apex alone.
        ([0.0] * 6, 1.0),
    ):
        way = np.float32(far) * y
        z = project(way, np.float32(upper))
        assert beyond(half_spaces(ROWS, upper), way, z).max() <= 0


@pytest.mark.slow
def test_polyhedron_certificate_holds_from_far():
    # A cone on a plane.
    layer = polyhedron([[1.0, 2, -1]], [0.0], np.eye(3), [0.0] * 3, [INF] * 3)
    y = 1e6 * np.random.default_rng(1).normal(size=(2000, 3)).astype("float32")
    assert beyond(layer, y, jax.jit(jax.vmap(layer))(y)).max() <= 0


def test_half_spaces_certificate_knows_no_units():
    layer = half_spaces(np.eye(2), [1e-7, 1e-7])
    z = np.float32([[1e-7, 1e-7], [1e-6, 1e-6]])
    np.testing.assert_array_equal(beyond(layer, z, z) <= 0, [True, False])


def test_polyhedron_layer_widens_integers_and_half_precision():
    layer = polyhedron([[0.5, 0.5]], [0.7], np.eye(2), [-INF] * 2, [0.6, INF])
    y = np.array([3, 1])
    for z in jax.jit(lambda *each: [*map(layer, each)])(y, y.astype("float16")):
        np.testing.assert_allclose(z, [0.6, 0.8], atol=1e-6)  # float32


def test_polyhedron_layers_refuse_what_does_not_fit():
    builds = [
        (lambda: rising(np.ones(2)), "b"),
        (
            lambda: polyhedron(SUM, [1.0], STEPS, np.ones(3), np.zeros(3)),
            "no number lies between lower 1 and upper 0, of entry 0: the set is empty",
        ),
        (
            lambda: polyhedron(0 * SUM, [1.0], STEPS, np.zeros(3), np.ones(3)),
            "row 0 of A",
        ),
        (lambda: half_spaces(np.ones(3), 1.0), r"C must be an array \(p, m\)"),
        (lambda: half_spaces([[1.0, 0.0]], [1.0, 2.0]), r"C \(p, m\)"),
        (lambda: half_spaces([[1.0, 0.0]], 1.0), r"upper must be an array \(p,\)"),
    ]
    assert_refused([(build, ValueError, words) for build, words in builds])


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_check_finds_a_planted_defect_of_polyhedron(factor):
    layer, holds = rising(), factor == 1
    draw = partial(jc.points.uniform, lower=[-2.0, -2.0], upper=[2.0, 2.0])
    free = jc.layers.mlp(2, 4, width=8)

    def apply(params, x):
        return factor * layer(free.apply(params, x), x)

    params = free.init(jax.random.key(0))
    tried = jc.layers.check(apply, params, layer.certificate, draw, num=500)
    assert tried.holds == holds, str(tried)


def test_polyhedron_layer_names_what_it_promises():
    promised = rising(np.ones(1)).certificate()
    assert [g.statement for g in promised.guarantees] == [
        "A f(x) = b",
        "l <= C f(x) <= u",
    ]
    assert "residual" in promised.caveat
    without = half_spaces(STEPS, np.zeros(3)).certificate()
    assert [g.statement for g in without.guarantees] == ["l <= C f(x) <= u"]


@pytest.mark.slow
def test_polyhedron_layer_learns_a_target_of_its_class(key):
    x = jnp.linspace(-1.0, 1.0, 200)[:, None]
    steps = jnp.concatenate([1 + jnp.sin(3 * x), x**2, 0.5 + 0 * x], axis=1)
    target = jnp.cumsum(jnp.pad(steps, ((0, 0), (1, 0))), axis=1)
    target += (x - target.sum(1, keepdims=True)) / 4
    network = jc.layers.mlp(1, 4, width=32).then(rising())
    params = network.init(key)
    # Inside, as its docstring asks: a row active from the start would not be left.
    inside = jnp.array([-1.5, -0.5, 0.5, 1.5])
    params[-1] = {"w": 0.1 * params[-1]["w"], "b": inside}
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 1000))

    def loss(params):
        return jnp.mean((jax.vmap(partial(network.apply, params))(x) - target) ** 2)

    @jax.jit
    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=1000)
    assert jnp.sqrt(loss(params)) < 0.01  # of values of order one; 1000 steps of Adam
