"""Iterates and mixtures of them, against closed forms, brute force and duality."""

from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon.selection import best_iterate, mixture

# The linear program is solved to 1e-10 of its rows' size, some of them at once.
LP = 1e-8

ARRAYS = (np.array, jnp.array, list)  # what iterates may be handed over in


def inequality(*rows):
    return jc.Constraints(inequality={f"g{i}": row for i, row in enumerate(rows)})


def instance(seed, count=40, points=3):
    """Random iterates with both kinds of constraints, () and (n,): m = 1 + 1 + 3."""
    rng = np.random.default_rng(seed)
    losses = rng.normal(size=count)
    residuals = jc.Constraints(
        {"h": rng.normal(size=count)},
        {"g": rng.normal(size=count), "gs": rng.normal(size=(count, points))},
    )
    return losses, residuals, 2 + points


def sides(residuals):
    """All that must be <= 0, as rows, written out for the instances above."""
    h, g, gs = *residuals.equality.values(), *residuals.inequality.values()
    return np.vstack([h, -h, g, gs.T])


def test_best_iterate_is_the_cheapest_feasible_one():
    def check(array):
        losses = array([0.0, 3.0, 1.0, 1.0, 2.0])
        g = [[0.1, -1.0], [-1.0, 0.0], [0.0, 0.0], [-2.0, 0.0], [0.0, -1.0]]
        residuals = jc.Constraints(
            {"h": array([0.0, 0.0, -0.001, 0.0, 0.0])}, {"g": array(g)}
        )
        assert best_iterate(losses, residuals, tolerance=0.01) == 2
        assert best_iterate(losses, residuals, tolerance=0.0) == 3
        assert best_iterate(losses, residuals, tolerance=1.0) == 0

    assert_each(ARRAYS, check)


def test_best_iterate_of_infeasible_ones_is_nearest():
    def check(array):
        residuals = jc.Constraints(
            {"h": array([-0.5, 0.2, 0.3])}, {"g": array([0.1, 0.4, 0.2])}
        )
        assert best_iterate(array([1.0, 2.0, 3.0]), residuals) == 2

    assert_each(ARRAYS, check)


def test_best_iterate_is_what_fit_keeps(x64):
    # A run that visits the iterates one after the other, whatever the gradient says.
    def onward(gradient, state, params):
        return jnp.ones_like(gradient), state

    def row_of(pick):
        return lambda i, batch: jnp.asarray(pick(batch))[i.astype(int)]

    _, like, _ = instance(0)
    solver = jc.simultaneous(
        jc.Lagrangian(
            row_of(lambda batch: batch[0]),
            jc.Constraints(
                {"h": row_of(lambda batch: batch[1].equality["h"])},
                {n: row_of(lambda b, n=n: b[1].inequality[n]) for n in like.inequality},
            ),
        ),
        optax.GradientTransformation(lambda _: (), onward),
        optax.set_to_zero(),
    )

    def check(row):
        seed, tolerance = row
        losses, residuals, _ = instance(seed)
        losses = losses.round(1)  # so that some are equal
        batch = losses, residuals
        result = jc.fit(
            solver,
            jnp.array(0.0),
            batch,
            steps=len(losses),
            tolerance=tolerance,
            progress=False,
        )
        assert best_iterate(losses, residuals, tolerance) == result.best.step

    assert_each([(s, t) for s in range(5) for t in (0.0, 0.3, 1.5)], check)


def test_mixture_of_two_iterates_astride_a_constraint():
    # x = 0 costs 4 and x = 1.5 costs 1/4; half way between them x <= 0.75 holds exactly.
    def check(array):
        mixed = mixture(array([4.0, 0.25]), inequality(array([-0.75, 0.75])))
        np.testing.assert_allclose(mixed.weights, [0.5, 0.5], rtol=0, atol=LP)
        np.testing.assert_allclose(mixed.loss, 2.125, rtol=0, atol=4 * LP)
        np.testing.assert_allclose(mixed.max_violation, 0, rtol=0, atol=LP)
        assert mixed.feasible
        assert mixed.weights.dtype == np.float64

    assert_each(ARRAYS, check)


@pytest.mark.parametrize(
    ("tolerance", "weights"), [(0.0, [0.5, 0.5]), (0.3, [0.3, 0.7]), (5.0, [0.0, 1.0])]
)
def test_mixture_uses_the_tolerance_up_where_it_pays(tolerance, weights):
    mixed = mixture([1.0, 0.0], inequality([-0.75, 0.75]), tolerance)
    np.testing.assert_allclose(mixed.weights, weights, rtol=0, atol=LP)


def test_mixture_of_a_game_that_circles_is_its_solution(x64):
    # min 0 s.t. A x = b is a bilinear game: simultaneous moves turn around its solution.
    a, b = np.array([[1.0, 0.5], [0.0, 1.0]]), np.array([1.0, -1.0])
    constraints = jc.Constraints(equality={"A x = b": lambda x, _: a @ x - b})
    solver = jc.simultaneous(
        jc.Lagrangian(lambda x, _: 0 * jnp.sum(x), constraints),
        optax.sgd(0.05),
        jc.dual_ascent(optax.sgd(0.05)),
    )
    saved = []
    jc.fit(
        solver,
        jnp.zeros(2),
        steps=1000,
        chunk=10,
        callbacks=[lambda state, _: saved.append(state.params)],
        progress=False,
    )
    x = jnp.stack(saved)
    residuals = jax.vmap(lambda x: jc.evaluate(constraints, x))(x)
    norms = np.linalg.norm(residuals.equality["A x = b"], axis=1)
    assert norms.min() > 0.01  # no iterate is near
    mixed = mixture(np.zeros(len(x)), residuals)
    assert mixed.feasible
    assert np.count_nonzero(mixed.weights) <= 3
    # Residuals are of size 10 here.
    solution = np.linalg.solve(a, b)
    np.testing.assert_allclose(mixed.weights @ x, solution, rtol=0, atol=100 * LP)


def test_mixture_mixes_few_iterates_and_its_figures_are_theirs():
    def check(row):
        seed, tolerance = row
        losses, residuals, m = instance(seed)
        mixed = mixture(losses, residuals, tolerance)
        assert mixed.feasible
        assert (mixed.weights >= 0).all()
        assert 1 <= np.count_nonzero(mixed.weights) <= m + 1
        near = partial(np.testing.assert_allclose, rtol=0)
        # Forty numbers below one are added.
        near(mixed.weights.sum(), 1, atol=40 * 2e-16)
        near(mixed.loss, mixed.weights @ losses, atol=1e-14)
        worst = (sides(residuals) @ mixed.weights).max()
        near(mixed.max_violation, worst, atol=1e-14)
        assert worst <= tolerance + LP

    assert_each([(seed, t) for seed in range(20) for t in (0.0, 0.05)], check)


def test_mixture_is_the_cheapest():
    # Weak duality: any multipliers >= 0 bound the loss from below; those of a second
    # solver (interior point) leave no gap.
    from scipy.optimize import linprog

    def check(seed):
        losses, residuals, _ = instance(seed)
        rows = sides(residuals)
        # max v s.t. v <= f_i + lambda . a_i for every iterate i
        count = len(rows)
        dual = linprog(
            np.r_[np.zeros(count), -1.0],
            np.c_[-rows.T, np.ones(len(losses))],
            losses,
            bounds=[(0, None)] * count + [(None, None)],
            method="highs-ipm",
        )
        bound = (losses + dual.x[:-1] @ rows).min()
        assert dual.x[:-1].min() >= 0
        # The interior point stops at 1e-8, with multipliers of size 10.
        found = mixture(losses, residuals).loss
        np.testing.assert_allclose(found, bound, rtol=0, atol=1e-6)

    assert_each(range(20), check)


def test_mixture_under_one_constraint_is_the_best_of_all_pairs():
    def check(seed):
        rng = np.random.default_rng(seed)
        f, g = rng.normal(size=(2, 12))
        best = min((f[i] for i in range(12) if g[i] <= 0), default=np.inf)
        for i, j in combinations(range(12), 2):
            if g[i] * g[j] < 0:
                share = g[j] / (g[j] - g[i])
                best = min(best, share * f[i] + (1 - share) * f[j])
        assert mixture(f, inequality(g)).loss == pytest.approx(best, rel=0, abs=LP)

    assert_each(range(10), check)


def test_mixture_costs_at_most_what_the_best_iterate_does():
    def check(seed):
        losses, residuals, _ = instance(seed, points=1)
        tolerance = 0.5
        best = best_iterate(losses, residuals, tolerance)
        assert sides(residuals)[:, best].max() <= tolerance  # or nothing follows
        assert mixture(losses, residuals, tolerance).loss <= losses[best] + LP

    assert_each(range(10), check)


def test_mixture_if_none_is_feasible_is_the_least_infeasible_and_then_cheapest():
    # g0 + g1 >= 1 whatever is mixed; 1/2 and 1/2 is least, and 1 is cheaper than 2.
    residuals = inequality([1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 1.0, 2.0])
    mixed = mixture([5.0, 2.0, 1.0, 0.0], residuals)
    assert not mixed.feasible
    np.testing.assert_allclose(mixed.weights, [0.5, 0, 0.5, 0], rtol=0, atol=10 * LP)
    np.testing.assert_allclose(mixed.max_violation, 0.5, rtol=0, atol=10 * LP)
    assert mixture([5.0, 2.0, 1.0, 0.0], residuals, tolerance=0.5 + LP).feasible


def test_mixture_mixes_few_iterates_where_none_is_feasible():
    def check(seed):
        losses, residuals, m = instance(seed)
        shifted = residuals.inequality | {"g": residuals.inequality["g"] + 5.0}
        mixed = mixture(losses, residuals._replace(inequality=shifted))
        assert not mixed.feasible
        assert np.count_nonzero(mixed.weights) <= m + 1
        least = shifted["g"].min()
        assert least - LP <= mixed.max_violation < shifted["g"].max()

    assert_each(range(10), check)


def test_mixture_does_not_depend_on_units():
    losses, residuals, _ = instance(0)
    want = mixture(losses, residuals).weights

    def check(row):
        scale, unit = row
        scaled = jax.tree.map(lambda r: unit * r, residuals)
        got = mixture(scale * losses, scaled).weights
        np.testing.assert_allclose(got, want, rtol=0, atol=100 * LP)

    scales, units = (1e-9, 1e-3, 1e6, 1e12), (1e-9, 1.0, 1e9)
    assert_each([(scale, unit) for scale in scales for unit in units], check)


def test_mixture_is_not_drowned_by_an_iterate_that_blew_up():
    losses, residuals = np.array([4.0, 0.25, -1e30]), inequality([-0.75, 0.75, 1e30])
    mixed = mixture(losses, residuals)
    np.testing.assert_allclose(mixed.max_violation, 0, rtol=0, atol=LP)
    assert mixed.feasible
    np.testing.assert_allclose(mixed.weights.sum(), 1, rtol=1e-15)


def test_mixture_and_best_iterate_leave_out_what_is_not_finite():
    def check(row):
        where, bad = row
        losses, g = np.array([0.0, 4.0, 0.25, 9.0]), np.array([-1.0, -0.75, 0.75, -1.0])
        (losses if where == "loss" else g)[0] = bad
        mixed = mixture(losses, inequality(g))
        np.testing.assert_allclose(mixed.weights, [0, 0.5, 0.5, 0], rtol=0, atol=LP)
        assert best_iterate(losses, inequality(g)) == 1

    broken = (np.nan, np.inf, -np.inf)
    assert_each([(w, bad) for w in ("loss", "residual") for bad in broken], check)


TOLERANCES = [
    (-1.0, ValueError),
    (np.nan, ValueError),
    (np.inf, ValueError),
    (None, TypeError),
    ("a", TypeError),
    (True, TypeError),
    (np.ones(2), TypeError),
]


def test_mixture_and_best_iterate_refuse_what_cannot_be_chosen_from():
    rows = [
        ([np.nan, 1.0], [0.0, np.inf], "none of the 2 iterates is finite"),
        ([], [], "losses must hold at least one iterate"),
        ([[1.0]], [0.0], "losses must be an array (t,) of numbers, got shape (1, 1)"),
        (1.0, [0.0], "losses must be an array (t,) of numbers, got shape ()"),
        ([1.0, 2.0], [0.0], "'g0' has residuals of shape (1,) but losses (2,)"),
        ([1.0], 0.0, "residuals of inequality constraint 'g0' must be an array (t,)"),
        ([1.0], [[[0.0]]], "shape (1, 1, 1)"),
    ]
    kinds = [
        (None, [0.0], "losses must be an array (t,)"),
        (["a"], [0.0], "losses must be an array (t,)"),
        ([1j], [0.0], "losses must be an array (t,)"),
        ([True], [0.0], "losses must be an array (t,)"),
        ([1.0], "a", "residuals of inequality constraint 'g0' must be an array (t,)"),
        ([1.0], [1j], "residuals of inequality constraint 'g0' must be an array (t,)"),
    ]
    shared = [
        (choose, row) for choose in (best_iterate, mixture) for row in [*rows, *kinds]
    ]
    assert_refused(
        [
            (
                partial(choose, row[0], inequality(row[1])),
                TypeError if row in kinds else ValueError,
                [row[2]],
            )
            for choose, row in shared
        ]
        + [
            (partial(choose, [1.0], jc.Constraints(), bad), error, "^tolerance must be")
            for choose in (best_iterate, mixture)
            for bad, error in TOLERANCES
        ]
        + [
            (partial(choose, [1.0], {"a": [1.0]}), TypeError, "^residuals must be")
            for choose in (best_iterate, mixture)
        ]
    )


def test_mixture_and_best_iterate_without_constraints_take_the_cheapest():
    assert best_iterate([3.0, 1.0, 2.0], jc.Constraints()) == 1
    mixed = mixture([3.0, 1.0, 2.0], jc.Constraints())
    np.testing.assert_array_equal(mixed.weights, [0, 1, 0])
    assert mixed.loss == 1.0
    assert mixed.max_violation == 0.0


def test_mixture_of_a_single_iterate_is_that_one():
    mixed = mixture([3.0], inequality([2.0]))
    np.testing.assert_array_equal(mixed.weights, [1.0])
    assert mixed == (mixed.weights, 3.0, 2.0, False)
