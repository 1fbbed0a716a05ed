"""The packaged examples: their data, their truth and what they are there to show."""

import jax
import numpy as np
import pytest
from scipy.stats import norm

from jaxcon import comparison, tabular
from jaxcon.examples import (
    STUDIES,
    TABLES,
    call_surface,
    dose_response,
    engel,
    house_prices,
)
from jaxcon.examples.tables import MATURITIES, NOISE, STRIKES, price
from jaxcon.tabular import Rules


def surface():
    """Strikes and maturities of a grid over the example's box, and the price there."""
    strike, maturity = np.meshgrid(
        np.linspace(*STRIKES, 41), np.linspace(*MATURITIES, 31), indexing="ij"
    )
    return strike, maturity, np.asarray(jax.jit(price)(strike, maturity))


def test_call_surface_price_is_free_of_arbitrage(x64):
    _, _, c = surface()
    assert (np.diff(c, axis=0) < 0).all(), "not decreasing in strike"
    assert (np.diff(c, 2, axis=0) > 0).all(), "not convex in strike"
    assert (np.diff(c, axis=1) > 0).all(), "not increasing in maturity"


def test_call_surface_price_is_the_mixture_of_black_scholes_prices(x64):
    strike, maturity, ours = surface()
    expected = 0
    for weight, volatility in ((0.6, 0.15), (0.4, 0.4)):
        total = volatility * np.sqrt(maturity)
        d2 = np.log(1 / strike) / total - total / 2
        expected += weight * (norm.cdf(d2 + total) - strike * norm.cdf(d2))
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-14)  # float64


def test_call_surface_quotes_are_the_truth_with_noise():
    example = call_surface(quotes=4000, seed=3)
    x, quoted = example.table.values[:, :2], example.table.column("price")
    for column, (low, high) in zip(x.T, (STRIKES, MATURITIES)):
        assert low <= column.min() < column.max() <= high
    noise = quoted - example.truth(x)
    # Four standard errors of a mean and of a standard deviation of 4,000 numbers.
    assert abs(noise.mean()) < 4 * NOISE / np.sqrt(4000)
    assert abs(noise.std() - NOISE) < 4 * NOISE / np.sqrt(8000)


def test_call_surface_quotes_follow_the_seed():
    one, same, other = (call_surface(20, seed).table.values for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any(axis=0).all()


def test_engel_is_the_published_data():
    table = engel().table
    assert table.names == ("income", "foodexp")
    assert table.values.shape == (235, 2)
    # The means that R's summary(quantreg::engel) prints.
    assert table.column("income").mean() == pytest.approx(982.473, abs=1e-3)
    assert table.column("foodexp").mean() == pytest.approx(624.150, abs=1e-3)


@pytest.mark.parametrize("make", [dose_response, house_prices])
def test_simulated_tables_are_their_truths_with_noise_and_obey_their_rules(make):
    example = make(rows=4000, seed=1)
    table, rules, truth = example.table, example.rules, example.truth
    x, y = table.values[:, :-1], table.column(example.target)
    noise = {"effect": 0.02, "price": 25.0}[example.target]
    apart = y - truth(x)
    assert apart.std() == pytest.approx(noise, rel=0.05)
    assert abs(apart.mean()) < 4 * noise / np.sqrt(4000)
    for sign, columns in ((1, rules.increasing), (-1, rules.decreasing)):
        for name in columns:
            moved = x.copy()
            moved[:, table.names.index(name)] += 1e-3
            assert np.all(sign * (truth(moved) - truth(x)) > 0), name
    assert np.all(make(20, seed=2).table.values == make(20, seed=2).table.values)
    assert np.any(make(20, seed=2).table.values != make(20, seed=3).table.values)


@pytest.mark.parametrize("name", STUDIES)
def test_findings_leave_out_the_first_parts(name):
    assert list(STUDIES[name](0, 99)) == []


def test_tables_can_be_fitted():
    for name, make in TABLES.items():
        example, settings = make(), tabular.Settings()
        tabular.check(example.table, example.target, example.rules, settings)
        assert example.rules != Rules(), name


def evaluated(name, seed):
    """Evaluations of the unconstrained and the augmented method, under default settings."""
    example, settings = TABLES[name](), tabular.Settings(seed=seed)
    problem, _ = tabular.problem(
        example.table, example.target, example.rules, settings, example.truth
    )
    methods = tabular.methods(settings)
    methods = {method: methods[method] for method in ("unconstrained", "augmented")}
    return comparison.compare(
        problem, methods, steps=settings.steps, factors=(), seed=seed
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_tables_augmented_method_holds_and_costs_no_accuracy(name):
    seeds = [evaluated(name, seed) for seed in range(6)]
    for free, held in seeds:
        assert max(*held.searched.values(), *held.random.values()) <= 1e-3
        assert min(max(free.searched.values()), max(free.random.values())) > 1
        if TABLES[name]().truth is not None:
            assert held.scores["RMSE to truth"] < free.scores["RMSE to truth"]
    ratios = [
        held.scores["held-out RMSE"] / free.scores["held-out RMSE"]
        for free, held in seeds
    ]
    assert np.mean(ratios) <= 1.02, ratios
