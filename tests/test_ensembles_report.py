"""Reports of ensembles: plain models and errors as scikit-learn's, and the sentences."""

import numpy as np
import pytest
from sklearn import linear_model as linear
from sklearn import metrics

from jaxcon.ensembles import (
    Loss,
    Options,
    RuleVerdict,
    ShapeRules,
    fit_ensemble,
    read_frame,
    report,
    verdicts,
)
from jaxcon.ensembles import _report as reports
from jaxcon.ensembles._baselines import boosted_trees, linear_model
from jaxcon.ensembles._columns import describe_columns, encode

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
MEAN = X @ np.array([1.0, -2.0, 0.0])
FRAME, ONES = read_frame(X), np.ones(200)
OPTIONS = Options(members=2, steps=100)

# loss: target, scikit-learn's model of it, and its metric.
LINES = {
    "squared_error": (
        MEAN + RNG.normal(size=200),
        linear.LinearRegression(),
        metrics.root_mean_squared_error,
    ),
    "poisson": (
        RNG.poisson(np.exp(MEAN / 3)).astype(float),
        linear.PoissonRegressor(alpha=0, tol=1e-8, max_iter=1000),
        metrics.mean_poisson_deviance,
    ),
    "gamma": (
        RNG.gamma(2, np.exp(MEAN / 3)),
        linear.GammaRegressor(alpha=0, tol=1e-8, max_iter=1000),
        metrics.mean_gamma_deviance,
    ),
    "binary": (
        (MEAN + RNG.logistic(size=200) > 0).astype(float),
        linear.LogisticRegression(C=1e9, tol=1e-8),
        metrics.log_loss,
    ),
}


def coded(y):
    columns = describe_columns(FRAME, ONES, {})
    return columns, encode(columns, FRAME), y


@pytest.mark.parametrize("kind", LINES)
def test_linear_model_and_error_are_those_of_scikit_learn(kind):
    y, model, metric = LINES[kind]
    columns, v, y = coded(y)
    predicted = linear_model(columns, Loss(kind), v, y, ONES)(v)
    fitted = model.fit(X, y)
    theirs = fitted.predict_proba(X)[:, 1] if kind == "binary" else fitted.predict(X)
    np.testing.assert_allclose(predicted[:, 0], theirs, rtol=1e-2, atol=1e-2)
    own = reports.error(Loss(kind), y, predicted)
    assert own == pytest.approx(metric(y, predicted[:, 0]), rel=1e-6)


def test_boosted_trees_keep_the_monotone_rules():
    columns, v, y = coded(-LINES["squared_error"][0])
    rules = ShapeRules(monotone={"x0": 1})  # against the data
    trees = boosted_trees(columns, Loss("squared_error"), rules, v, y, ONES)
    moved = np.linspace(0, 1, 50)[:, None] * [1, 0, 0] + [0, 0.5, 0.5]
    assert np.all(np.diff(trees(moved)[:, 0]) >= 0)
    quantiles = Loss("quantile", 2, (0.1, 0.9))
    assert boosted_trees(columns, quantiles, rules, v, y, ONES) is None


@pytest.fixture(scope="module")
def made():
    y, rules = LINES["squared_error"][0], ShapeRules(monotone={"x0": 1, "x1": 1})
    train = read_frame(X[:150]), y[:150]
    held_out = read_frame(X[150:]), y[150:]
    loss = Loss("squared_error")
    fit = fit_ensemble(*train, loss, rules, options=OPTIONS)
    return fit, held_out, report(fit, train, held_out, rules, options=OPTIONS)


def test_report_says_that_a_rule_against_the_data_costs(made):
    fit, held_out, found = made
    assert [row["model"] for row in found.rows] == [
        "this fit",
        "without rules",
        "straight line",
        "boosted trees",
    ]
    own = fit.ensemble.predict(held_out[0])[:, 0]
    rmse = metrics.root_mean_squared_error(held_out[1], own)
    assert found.rows[0]["held-out RMSE"] == pytest.approx(rmse)
    assert found.cost > 3 * found.cost_error > 0
    assert found.obeys
    text = str(found)
    assert "Worse than a straight line" in text
    assert "higher than without them" in text


def test_verdicts_say_where_a_rule_is_active(made):
    fit, *_ = made
    first, second = verdicts(fit._replace(active=(0.0, 0.25)))
    assert (first.rule, second.rule) == ("rising in x0", "rising in x1")
    assert str(first).endswith("found no violation; active nowhere")
    assert str(second).endswith("found no violation; active at 25 % of the rows")


def test_verdict_of_a_broken_rule_names_the_violation(made):
    fit, *_ = made
    for worst in (0.25, np.nan):
        one, _ = verdicts(fit._replace(residuals=(worst, -1.0)))
        assert not one.holds
    assert (
        str(RuleVerdict("rising in a", 0.25, 0.0))
        == "rising in a: broken, by up to 0.25"
    )
