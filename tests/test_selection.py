"""Iterates and mixtures of them, against closed forms, brute force and duality."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon.selection import best_iterate, mixture

# The linear program is solved to 1e-10 of its rows' size, some of them at once.
LP = 1e-8

each_kind_of_array = pytest.mark.parametrize("array", [np.array, jnp.array, list])


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


@each_kind_of_array
def test_best_is_the_cheapest_feasible_one(array):
    losses = array([0.0, 3.0, 1.0, 1.0, 2.0])
    residuals = jc.Constraints(
        {"h": array([0.0, 0.0, -0.001, 0.0, 0.0])},
        {"g": array([[0.1, -1.0], [-1.0, 0.0], [0.0, 0.0], [-2.0, 0.0], [0.0, -1.0]])},
    )
    assert best_iterate(losses, residuals, tolerance=0.01) == 2
    assert best_iterate(losses, residuals, tolerance=0.0) == 3
    assert best_iterate(losses, residuals, tolerance=1.0) == 0


@each_kind_of_array
def test_of_infeasible_ones_the_best_is_nearest(array):
    residuals = jc.Constraints(
        {"h": array([-0.5, 0.2, 0.3])}, {"g": array([0.1, 0.4, 0.2])}
    )
    assert best_iterate(array([1.0, 2.0, 3.0]), residuals) == 2


@pytest.mark.parametrize("tolerance", [0.0, 0.3, 1.5])
@pytest.mark.parametrize("seed", range(5))
def test_best_is_what_fit_keeps(x64, seed, tolerance):
    losses, residuals, _ = instance(seed)
    losses = losses.round(1)  # so that some are equal
    # A run that visits the iterates one after the other, whatever the gradient says.
    at = lambda rows: lambda i, _: jnp.array(rows)[i.astype(int)]  # noqa: E731
    onward = optax.GradientTransformation(
        lambda _: (), lambda gradient, state, _: (jnp.ones_like(gradient), state)
    )
    method = jc.simultaneous(
        at(losses), jax.tree.map(at, residuals), onward, optax.set_to_zero()
    )
    start = method.init(jnp.array(0.0))
    result = jc.fit(
        method, start, steps=len(losses), tolerance=tolerance, progress=False
    )
    assert best_iterate(losses, residuals, tolerance) == result.best.step


@each_kind_of_array
def test_two_iterates_astride_a_constraint(array):
    # x = 0 costs 4 and x = 1.5 costs 1/4; half way between them x <= 0.75 holds exactly.
    mixed = mixture(array([4.0, 0.25]), inequality(array([-0.75, 0.75])))
    np.testing.assert_allclose(mixed.weights, [0.5, 0.5], rtol=0, atol=LP)
    np.testing.assert_allclose(mixed.loss, 2.125, rtol=0, atol=4 * LP)
    np.testing.assert_allclose(mixed.max_violation, 0, rtol=0, atol=LP)
    assert mixed.feasible
    assert mixed.weights.dtype == np.float64


@pytest.mark.parametrize(
    ("tolerance", "weights"), [(0.0, [0.5, 0.5]), (0.3, [0.3, 0.7]), (5.0, [0.0, 1.0])]
)
def test_tolerance_is_used_up_where_it_pays(tolerance, weights):
    mixed = mixture([1.0, 0.0], inequality([-0.75, 0.75]), tolerance)
    np.testing.assert_allclose(mixed.weights, weights, rtol=0, atol=LP)


def test_the_average_of_a_game_that_circles_is_its_solution(x64):
    # min 0 s.t. A x = b is a bilinear game: simultaneous moves turn around its solution.
    a, b = np.array([[1.0, 0.5], [0.0, 1.0]]), np.array([1.0, -1.0])
    constraints = jc.Constraints(equality={"A x = b": lambda x, _: a @ x - b})
    method = jc.simultaneous(
        lambda x, _: 0 * jnp.sum(x),
        constraints,
        optax.sgd(0.05),
        jc.dual_ascent(optax.sgd(0.05)),
    )
    saved = []
    jc.fit(
        method,
        method.init(jnp.zeros(2)),
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


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(20))
def test_few_iterates_are_mixed_and_the_figures_are_theirs(seed, tolerance):
    losses, residuals, m = instance(seed)
    mixed = mixture(losses, residuals, tolerance)
    assert mixed.feasible
    assert (mixed.weights >= 0).all()
    assert 1 <= np.count_nonzero(mixed.weights) <= m + 1
    # Forty numbers below one are added.
    np.testing.assert_allclose(mixed.weights.sum(), 1, rtol=0, atol=40 * 2e-16)
    np.testing.assert_allclose(mixed.loss, mixed.weights @ losses, rtol=0, atol=1e-14)
    worst = (sides(residuals) @ mixed.weights).max()
    np.testing.assert_allclose(mixed.max_violation, worst, rtol=0, atol=1e-14)
    assert worst <= tolerance + LP


@pytest.mark.parametrize("seed", range(20))
def test_no_mixture_is_cheaper(seed):
    # Weak duality: any prices >= 0 bound the loss from below; those found by a second
    # solver (interior point) leave no gap.
    from scipy.optimize import linprog

    losses, residuals, _ = instance(seed)
    rows = sides(residuals)
    # max v s.t. v <= f_i + price . a_i for every iterate i
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
    # The interior point stops at 1e-8, with prices of size 10.
    np.testing.assert_allclose(
        mixture(losses, residuals).loss, bound, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("seed", range(10))
def test_with_one_constraint_all_pairs_are_tried(seed):
    rng = np.random.default_rng(seed)
    f, g = rng.normal(size=(2, 12))
    best = min((f[i] for i in range(12) if g[i] <= 0), default=np.inf)
    for i, j in combinations(range(12), 2):
        if g[i] * g[j] < 0:
            share = g[j] / (g[j] - g[i])
            best = min(best, share * f[i] + (1 - share) * f[j])
    assert mixture(f, inequality(g)).loss == pytest.approx(best, rel=0, abs=LP)


@pytest.mark.parametrize("seed", range(10))
def test_a_mixture_costs_at_most_what_the_best_iterate_does(seed):
    losses, residuals, _ = instance(seed, points=1)
    tolerance = 0.5
    best = best_iterate(losses, residuals, tolerance)
    assert sides(residuals)[:, best].max() <= tolerance  # or nothing follows
    assert mixture(losses, residuals, tolerance).loss <= losses[best] + LP


def test_if_none_is_feasible_the_least_infeasible_and_then_the_cheapest():
    # g0 + g1 >= 1 whatever is mixed; 1/2 and 1/2 is least, and 1 is cheaper than 2.
    residuals = inequality([1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 1.0, 2.0])
    mixed = mixture([5.0, 2.0, 1.0, 0.0], residuals)
    assert not mixed.feasible
    np.testing.assert_allclose(mixed.weights, [0.5, 0, 0.5, 0], rtol=0, atol=10 * LP)
    np.testing.assert_allclose(mixed.max_violation, 0.5, rtol=0, atol=10 * LP)
    assert mixture([5.0, 2.0, 1.0, 0.0], residuals, tolerance=0.5 + LP).feasible


@pytest.mark.parametrize("seed", range(10))
def test_the_support_stays_small_where_none_is_feasible(seed):
    losses, residuals, m = instance(seed)
    shifted = residuals.inequality | {"g": residuals.inequality["g"] + 5.0}
    mixed = mixture(losses, residuals._replace(inequality=shifted))
    assert not mixed.feasible
    assert np.count_nonzero(mixed.weights) <= m + 1
    least = shifted["g"].min()
    assert least - LP <= mixed.max_violation < shifted["g"].max()


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1e6, 1e12])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_units_do_not_matter(scale, unit):
    losses, residuals, _ = instance(0)
    scaled = jax.tree.map(lambda r: unit * r, residuals)
    got, want = mixture(scale * losses, scaled), mixture(losses, residuals)
    np.testing.assert_allclose(got.weights, want.weights, rtol=0, atol=100 * LP)


def test_an_iterate_that_blew_up_does_not_drown_the_others():
    losses, residuals = np.array([4.0, 0.25, -1e30]), inequality([-0.75, 0.75, 1e30])
    mixed = mixture(losses, residuals)
    np.testing.assert_allclose(mixed.max_violation, 0, rtol=0, atol=LP)
    assert mixed.feasible
    np.testing.assert_allclose(mixed.weights.sum(), 1, rtol=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["loss", "residual"])
def test_iterates_that_are_not_finite_are_left_out(where, bad):
    losses, g = np.array([0.0, 4.0, 0.25, 9.0]), np.array([-1.0, -0.75, 0.75, -1.0])
    (losses if where == "loss" else g)[0] = bad
    mixed = mixture(losses, inequality(g))
    np.testing.assert_allclose(mixed.weights, [0, 0.5, 0.5, 0], rtol=0, atol=LP)
    assert best_iterate(losses, inequality(g)) == 1


@pytest.mark.parametrize("choose", [best_iterate, mixture])
@pytest.mark.parametrize(
    ("losses", "rows", "words"),
    [
        ([np.nan, 1.0], [0.0, np.inf], "none of the 2 iterates is finite"),
        ([], [], "none of the 0 iterates is finite"),
        ([[1.0]], [0.0], "losses has shape (1, 1); it must be (t,)"),
        (1.0, [0.0], "losses has shape ()"),
        ([1.0, 2.0], [0.0], "'g0' has residuals of shape (1,) but losses (2,)"),
        ([1.0], 0.0, "inequality constraint 'g0' has residuals of shape ()"),
        ([1.0], [[[0.0]]], "shape (1, 1, 1)"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(choose, losses, rows, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (words below)
        choose(losses, inequality(rows))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_constraints_the_cheapest_is_taken():
    assert best_iterate([3.0, 1.0, 2.0], jc.Constraints()) == 1
    mixed = mixture([3.0, 1.0, 2.0], jc.Constraints())
    np.testing.assert_array_equal(mixed.weights, [0, 1, 0])
    assert mixed.loss == 1.0
    assert mixed.max_violation == 0.0


def test_a_single_iterate_is_the_mixture():
    mixed = mixture([3.0], inequality([2.0]))
    np.testing.assert_array_equal(mixed.weights, [1.0])
    assert mixed == (mixed.weights, 3.0, 2.0, False)
