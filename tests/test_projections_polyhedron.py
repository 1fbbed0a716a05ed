"""Polyhedra: against a QP solver, by hand, at corners and where there is no point."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import osqp
import pytest
from jax.test_util import check_grads
from scipy import sparse
from scipy.optimize import nnls

import jaxcon as jc
from jaxcon.layers._polyhedra import half_spaces, polyhedron
from jaxcon.projections._polyhedron import polyhedron as nearest

INF = np.inf
SUM = np.ones((1, 4))
STEPS = np.diff(np.eye(4), axis=0)
# m, equations, inequalities: none equal, a few, as many rows as outputs, far more.
SHAPES = [
    (6, 2, 5),
    *(
        pytest.param(shape, marks=pytest.mark.slow)
        for shape in [(3, 0, 2), (8, 3, 8), (3, 1, 12)]
    ),
]


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
def test_it_solves_the_quadratic_programme(x64, shape):
    problems = [drawn(*shape, seed=seed) for seed in range(8)]
    found = jax.jit(jax.vmap(nearest))(*map(np.stack, zip(*problems)))
    expected = np.stack([by_osqp(*problem) for problem in problems])
    np.testing.assert_allclose(found.point, expected, atol=1e-8)  # the solver's own
    assert found.residual.max() < 1e-12  # float64


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_optimal_and_obeys_to_rounding(dtype, shape):
    problems = [drawn(*shape, dtype, seed, scales=100.0) for seed in range(100)]
    found = jax.jit(jax.vmap(nearest))(*map(np.stack, zip(*problems)))
    assert found.point.dtype == dtype
    eps = np.finfo(dtype).eps
    for z, residual, problem in zip(*map(np.asarray, found), problems):
        C, lower, upper = (np.asarray(term, np.float64) for term in problem[3:])
        values = C @ z.astype(np.float64)
        size = np.linalg.norm(C, axis=1) * np.linalg.norm(z)
        excess = np.maximum(lower - values, values - upper)
        assert (excess <= (len(z) + 10) * eps * size).all()  # as its docstring says
        assert residual <= (len(z) + 10) * eps * size.max() + 30 * eps
        # Stationarity suffers from the condition of the active rows, at times 1e3.
        assert far_from_optimal(z, *problem) < 1e4 * eps * np.linalg.norm(problem[0])


def test_by_hand():
    project = jax.jit(nearest)
    none = np.zeros((0, 2)), np.zeros(0)
    box = np.eye(2), np.zeros(2), np.array([1.0, INF])
    for y, expected in [
        ([2.0, 3.0], [1.0, 3.0]),
        ([-1.0, -2.0], [0.0, 0.0]),
        ([0.5, 0.25], [0.5, 0.25]),  # inside: unchanged
    ]:
        np.testing.assert_array_equal(project(np.array(y), *none, *box).point, expected)
    # On the line z0 + z1 = 1, z0 <= 3/4: the line's nearest point, then its end.
    line = np.ones((1, 2)), np.ones(1)
    for y, expected in [([1.0, 1.0], [0.5, 0.5]), ([5.0, 0.0], [0.75, 0.25])]:
        bounds = np.eye(2), np.full(2, -INF), np.array([0.75, INF])
        found = project(np.array(y), *line, *bounds).point
        np.testing.assert_allclose(found, expected, atol=1e-6)  # float32


def test_far_and_small(dtype):
    # 10,000 times as far out as the set is large: the rounding of the way there is gone.
    terms = SUM, np.ones(1), STEPS, np.zeros(3), np.ones(3)
    terms = [term.astype(dtype) for term in terms]
    ways = 3e4 * np.random.default_rng(1).normal(size=(50, 4)).astype(dtype)
    found = jax.jit(jax.vmap(nearest, (0, *[None] * 5)))(ways, *terms)
    # m + 10 roundings of terms of about 3.
    assert found.residual.max() < 50 * np.finfo(dtype).eps


CORNERS = {
    "planes through one point": (np.random.default_rng(0).normal(size=(20, 3)), 0.0),
    "each row three times": (np.tile(np.eye(3), (3, 1)), 1.0),
    "a row and its double": (np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]]), [1.0, 2.0]),
    "a row of zeros": (np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), 1.0),
    "almost parallel": (np.array([[1.0, 0.0, 0.0], [1.0, 0.01, 0.0]]), 1.0),
}


@pytest.mark.parametrize(
    "case",
    [
        "each row three times",
        *[pytest.param(c, marks=pytest.mark.slow) for c in CORNERS],
    ],
)
def test_degenerate_rows(dtype, case):
    C, upper = (np.asarray(term, dtype) for term in CORNERS[case])
    upper = np.broadcast_to(upper, len(C))
    rest = np.zeros((0, 3), dtype), np.zeros(0, dtype), C, np.full_like(upper, -INF)
    y = 5 * np.random.default_rng(1).normal(size=(100, 3)).astype(dtype)

    def project(y):
        found = nearest(y, *rest, upper)
        return found.point.sum(), found

    pull, found = jax.jit(jax.vmap(jax.grad(project, has_aux=True)))(y)
    assert np.isfinite(pull).all()
    eps = np.finfo(dtype).eps
    # An apex at zero is zero to the rounding of the way to it.
    assert found.residual.max() < 100 * eps * np.abs(y).max()
    for z, one in zip(np.asarray(found.point), y):
        held = one, *rest, upper
        assert far_from_optimal(z, *held) < 1e4 * eps * np.linalg.norm(one)


def test_a_row_that_equations_fix():
    A, b = np.array([[1.0, 1.0, 0.0]]), np.array([1.0])
    C = np.array([[2.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    project = jax.jit(lambda y, upper: nearest(y, A, b, C, np.full(2, -INF), upper))
    y = np.array([3.0, 0.0, 4.0])
    found = project(y, np.array([2.5, 1.0]))
    np.testing.assert_allclose(found.point, [2.0, -1.0, 1.0], atol=1e-6)  # float32
    assert found.residual < 1e-6
    # 2 (z0 + z1) is 2, whatever is done about it.
    found = project(y, np.array([1.5, 1.0]))
    np.testing.assert_allclose(found.residual, 0.5, atol=1e-6)


def test_an_empty_set_is_told():
    A, b = np.ones((1, 3)), np.array([10.0])  # but the box allows 3 at most
    C, lower, upper = np.eye(3), np.zeros(3), np.ones(3)

    def project(y, lower, upper):
        found = nearest(y, A, b, C, lower, upper)
        return found.point[0], found

    # Also where the bounds exclude each other.
    for bounds in ((lower, upper), (upper, lower)):
        pull, found = jax.jit(jax.grad(project, has_aux=True))(np.arange(3.0), *bounds)
        assert found.residual > 1
        np.testing.assert_allclose(found.point.sum(), 10.0, rtol=1e-5)  # float32
        assert np.isfinite(pull).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives(x64, shape):
    problem = drawn(*shape)
    # In y: the projection onto what the active rows leave free.
    y, A, _, C, lower, upper = problem
    z = np.asarray(nearest(*problem).point)
    held = np.vstack([A, C[(np.abs(C @ z - lower) < 1e-9) | (C @ z > upper - 1e-9)]])
    free = np.eye(len(y)) - np.linalg.pinv(held) @ held
    jacobian = jax.jit(jax.jacobian(nearest))(*problem).point
    np.testing.assert_allclose(jacobian, free, atol=1e-10)  # float64, condition 1e3
    # In all six against central differences, whose error is about 1e-9 of the values.
    bounded = [np.isfinite(term) for term in problem]
    start = tuple(np.where(f, term, 0.0) for f, term in zip(bounded, problem))

    def project(*terms):
        parts = zip(bounded, terms, problem)
        return nearest(*(jnp.where(f, moved, term) for f, moved, term in parts)).point

    check_grads(jax.jit(project), start, order=1, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_second_derivatives(x64):
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
def test_batches_are_loops():
    y, *terms = drawn(6, 2, 5, "float32")
    ys = y + np.random.default_rng(1).normal(size=(5, 6)).astype("float32")
    together = jax.jit(jax.vmap(nearest, (0, *[None] * 5)))(ys, *terms)
    one = jax.jit(nearest)
    for i, y in enumerate(ys):
        # The same sums in another order.
        np.testing.assert_allclose(together.point[i], one(y, *terms).point, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: np.ones((2, 3))}, "use jax.vmap for many y"),
        ({1: np.ones((1, 4))}, r"A \(k, m\)"),
        ({3: np.ones((2, 4))}, r"C \(p, m\)"),
        ({3: np.ones(3)}, r"C \(p, m\)"),
        ({5: np.ones(())}, r"upper \(p,\)"),
        ({3: np.ones((0, 3)), 4: np.ones(0), 5: np.ones(0)}, "use affine"),
        ({1: np.zeros((1, 3))}, "row 0 of A is a combination"),
    ],
)
def test_refusals(change, message):
    terms = [
        np.ones(3),
        np.ones((1, 3)),
        np.ones(1),
        np.ones((2, 3)),
        *[np.ones(2)] * 2,
    ]
    for which, term in change.items():
        terms[which] = term
    with pytest.raises(ValueError, match=message):
        nearest(*terms)


# As a layer.


def rising(total=lambda x: x[:1]):
    """Four numbers that add up to x0, each at least the one before, by at most two."""
    return polyhedron(SUM, total, STEPS, np.zeros(3), np.full(3, 2.0))


def test_a_layer_is_the_projection():
    layer, y, x = rising(), jnp.array([3.0, 1.0, -2.0, 9.0]), jnp.array([2.0, 5.0])
    expected = nearest(y, SUM, x[:1], STEPS, np.zeros(3), np.full(3, 2.0))
    np.testing.assert_array_equal(layer(y, x), expected.point)
    assert layer.residual(y, x) == expected.residual
    assert layer.wrap(lambda params, x: params)(y, x).shape == (4,)
    with pytest.raises(ValueError, match=r"call it as layer\(y, x\)"):
        layer(y)


def test_half_spaces():
    C, upper = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([1.0, 2.0])
    y = jnp.array([5.0, 4.0])
    both = half_spaces(C, upper)(y)
    none = np.zeros((0, 2)), np.zeros(0), C, np.full(2, -INF)
    np.testing.assert_array_equal(both, nearest(y, *none, upper).point)
    one = half_spaces(C[:1], lambda x: x[:1])
    # The foot of the perpendicular from 13 to 1, in float32.
    np.testing.assert_allclose(one(y, upper), y - 12 / 5 * C[0], atol=1e-5)
    assert one.residual(y, upper) < 1e-5
    np.testing.assert_array_equal(half_spaces(C[:1], [INF])(y), y)


ROWS = np.random.default_rng(0).normal(size=(6, 3))


@pytest.mark.parametrize(
    ("layer", "far"),
    [
        # Far from well-conditioned rows, where the rounding of y is larger than the set.
        (half_spaces(ROWS, [0.1, 0.7, 1.3, 0.4, 1.0, 0.7]), 1e8),
        # A cone that is its apex alone, and one on a plane.
        (half_spaces(ROWS[:4], np.zeros(4)), 1.0),
        pytest.param(
            polyhedron([[1.0, 2, -1]], [0.0], np.eye(3), [0.0] * 3, [INF] * 3),
            1e6,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_certificates_hold_from_far(layer, far):
    @jax.jit
    @jax.vmap
    def beyond(y):
        z = layer(y)
        gaps = [
            (guarantee.tests["value"](lambda y: z, y, y), guarantee.roundings)
            for guarantee in layer.certificate().guarantees
        ]
        eps = jnp.finfo(z.dtype).eps
        return jnp.max(jnp.stack([g.excess - c * eps * g.size for g, c in gaps]))

    y = far * np.random.default_rng(1).normal(size=(2000, 3))
    assert beyond(y.astype("float32")).max() <= 0


def test_certificates_know_no_units():
    layer = half_spaces(np.eye(2), [1e-7, 1e-7])
    (promised,) = layer.certificate().guarantees
    for z, holds in ((layer(jnp.array([3.0, 5.0])), True), (jnp.full(2, 1e-6), False)):
        gap = promised.tests["value"](lambda x: x, z, z)
        assert (gap.excess <= promised.tolerance(z.dtype, gap.size)) == holds


def test_integers_and_half_precision_are_widened():
    layer = polyhedron([[0.5, 0.5]], [0.7], np.eye(2), [-INF] * 2, [0.6, INF])
    for y in (jnp.array([3, 1]), jnp.array([3.0, 1.0], jnp.float16)):
        np.testing.assert_allclose(layer(y), [0.6, 0.8], atol=1e-6)  # float32


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: rising(np.ones(2)), "b"),
        (
            lambda: polyhedron(SUM, [1.0], STEPS, np.ones(3), np.zeros(3)),
            "lower <= upper",
        ),
        (
            lambda: polyhedron(0 * SUM, [1.0], STEPS, np.zeros(3), np.ones(3)),
            "row 0 of A",
        ),
        (lambda: half_spaces(np.ones(3), 1.0), r"C \(p, m\), got \(3,\)"),
        (lambda: half_spaces([[1.0, 0.0]], [1.0, 2.0]), r"C \(p, m\)"),
        (lambda: half_spaces([[1.0, 0.0]], 1.0), r"upper \(p,\)"),
    ],
)
def test_layers_refuse(build, message):
    with pytest.raises(ValueError, match=message):
        build()


DEFECTS = {
    "none": (lambda z: z, True),
    "a hundredth": (lambda z: 1.01 * z, False),
    "order": (lambda z: z[::-1], False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFECTS)
def test_check_finds_the_planted_defects(name):
    layer, (defect, holds) = rising(), DEFECTS[name]
    draw = partial(jc.points.uniform, lower=[-2.0, -2.0], upper=[2.0, 2.0])
    free = jc.layers.free(2, 4, width=8)

    def apply(params, x):
        return defect(layer(free.apply(params, x), x))

    params = free.init(jax.random.key(0))
    tried = jc.layers.check(apply, params, layer.certificate, draw, num=500)
    assert tried.holds == holds, str(tried)


def test_what_a_layer_promises():
    promised = rising(np.ones(1)).certificate()
    assert [g.statement for g in promised.guarantees] == [
        "A f(x) = b",
        "l <= C f(x) <= u",
    ]
    assert "residual" in promised.caveat
    without = half_spaces(STEPS, np.zeros(3)).certificate()
    assert [g.statement for g in without.guarantees] == ["l <= C f(x) <= u"]


@pytest.mark.slow
def test_a_layer_learns_a_target_of_its_class(key):
    x = jnp.linspace(-1.0, 1.0, 200)[:, None]
    steps = jnp.concatenate([1 + jnp.sin(3 * x), x**2, 0.5 + 0 * x], axis=1)
    target = jnp.cumsum(jnp.pad(steps, ((0, 0), (1, 0))), axis=1)
    target += (x - target.sum(1, keepdims=True)) / 4
    network = jc.layers.free(1, 4, width=32).then(rising())
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
