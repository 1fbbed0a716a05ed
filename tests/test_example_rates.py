"""Rates under a limit: the lemma, the data, and which methods keep the limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcon.examples import rates as example


def affine(params, x):
    return x @ params["w"] + params["b"]


@pytest.fixture(scope="module")
def gaussians():
    return jax.tree.map(np.asarray, example.gaussians(2**15, 5))


def test_affine_rates_of_no_other_rule_miss_fewer():
    """Neyman and Pearson: any affine rule at the limit misses at least as many."""
    angles = np.linspace(-1.5, 1.5, 31)
    found = []
    for angle in angles:
        w = np.array([np.cos(angle), np.sin(angle)], np.float32)
        params = {"w": w, "b": np.float32(-1.6448536)}
        alarms, missed = example.affine_rates(affine, params)
        assert alarms == pytest.approx(example.LIMIT, abs=1e-6)  # float32
        found.append(missed)
    assert np.argmin(found) == len(angles) // 2
    assert min(found) == pytest.approx(example.optimal_misses(example.LIMIT), abs=1e-6)


def test_affine_rates_are_those_of_many_examples(gaussians):
    params = {"w": np.array([1.0, -0.5], "f"), "b": np.float32(-0.8)}

    counted = jax.jit(
        lambda params, batch: [
            rate(affine, params, batch) for rate in (example.alarms, example.misses)
        ]
    )(params, gaussians)
    expected = example.affine_rates(affine, params)
    # Four standard errors of independent examples; evenly spread ones are nearer.
    tolerance = 4 * 0.5 / np.sqrt(2**15)
    np.testing.assert_allclose(counted, expected, atol=tolerance)


def test_threshold_allows_exactly_what_the_limit_does():
    params = {"w": np.array([0.3, 1.0], "f"), "b": np.float32(2.0)}

    @jax.jit
    def above(params, x):
        limit = example.threshold(affine, params, x)
        return jnp.sum(example.scores(affine, params, x) > limit)

    for n in (40, 177, 1000):
        x = np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32)
        assert above(params, x) == int(example.LIMIT * n)


def test_smooth_alarms_are_stricter_than_the_rate(gaussians):
    params = {"w": np.array([2.0, 0.0], "f"), "b": np.float32(-3.3)}
    both = jax.jit(
        lambda params, batch: [
            rate(affine, params, batch)
            for rate in (example.smooth_alarms, example.alarms)
        ]
    )
    smooth, strict = both(params, gaussians)
    assert smooth > 1.5 * strict


def test_breast_cancer_is_scikit_learns():
    train, unseen = example.breast_cancer(0)
    for name, cases in (("negative", 357), ("positive", 212)):
        assert len(train[name]) + len(unseen[name]) == cases
        assert abs(len(train[name]) - len(unseen[name])) <= 1
    both = np.concatenate([*train.values()])
    # Standardised in float32.
    np.testing.assert_allclose(both.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(both.std(axis=0), 1.0, atol=1e-6)
    n, m = len(train["negative"]), len(unseen["negative"])
    drawn = np.random.default_rng(0).binomial([n, m], example.LIMIT, (20_000, 2)) / [
        n,
        m,
    ]
    # 20,000 draws: a standard deviation to half a percent.
    deviation = np.std(drawn[:, 0] - drawn[:, 1])
    assert example.sampling_deviation(train, unseen) == pytest.approx(
        deviation, rel=0.03
    )


def test_rates_loss_is_scikit_learns_balanced_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    problem = example.breast_cancer_problem()
    batch = problem.batch
    x = np.concatenate([batch["negative"], batch["positive"]])
    y = np.repeat([0, 1], [len(batch["negative"]), len(batch["positive"])])
    theirs = LogisticRegression(
        C=1e9, class_weight="balanced", solver="newton-cholesky", tol=1e-10
    ).fit(x.astype(float), y)
    params = {
        "w": jnp.asarray(theirs.coef_[0], jnp.float32),
        "b": jnp.asarray(theirs.intercept_[0], jnp.float32),
    }
    slope = jax.jit(jax.grad(problem.objective))(params, batch)
    # The sum of a few hundred float32 terms.
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(slope)) < 1e-5


@pytest.mark.slow
def test_rates_proxy_keeps_the_limit_and_no_more(tmp_path):
    gaussian, cancer = list(example.findings())
    for findings in (gaussian, cancer):
        assert [one.name for one in findings.evaluations] == [*example.methods()]
        for figure, draw in findings.figures.items():
            draw(tmp_path / f"{figure}.png")
            assert (tmp_path / f"{figure}.png").stat().st_size > 10_000
    proxies = [f"{name}, proxy" for name in ("lagrangian", "PI control", "augmented")]
    moved = ["projection", "threshold moved", "by construction"]

    evaluations = {
        evaluation.name: evaluation.scores for evaluation in gaussian.evaluations
    }
    # As the module's docstring has it.
    for names, tolerance in ((proxies, 0.005), (moved, 0.02)):
        for name in names:
            away = (
                evaluations[name]["false alarms"] - example.LIMIT,
                (evaluations[name]["misses"] - example.optimal_misses(example.LIMIT)),
            )
            assert np.abs(away).max() < tolerance
    for name in ("unconstrained", "penalty, surrogate", "penalty, proxy"):
        assert evaluations[name]["false alarms"] > example.LIMIT + 0.02
    assert evaluations["lagrangian, surrogate"]["false alarms"] < example.LIMIT - 0.02

    problem = example.breast_cancer_problem()
    deviation = example.sampling_deviation(problem.batch, problem.unseen)
    case = 1 / len(problem.batch["negative"])
    evaluations = {
        evaluation.name: evaluation.scores for evaluation in cancer.evaluations
    }
    for name in (*proxies, *moved):
        assert abs(evaluations[name]["training alarms"] - example.LIMIT) <= 1.01 * case
        assert abs(evaluations[name]["false alarms"] - example.LIMIT) < 3 * deviation
    assert evaluations["unconstrained"]["training alarms"] > example.LIMIT + 2 * case
    strict = evaluations["lagrangian, surrogate"]
    assert strict["training alarms"] < example.LIMIT - 2 * case
    assert strict["misses"] > evaluations["lagrangian, proxy"]["misses"]
