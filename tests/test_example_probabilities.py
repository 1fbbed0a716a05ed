"""The example `probabilities`: Bayes' rule, what penalties leave, and every method."""

import jax
import numpy as np
import optax
import pytest
from scipy.optimize import minimize
from scipy.stats import norm
from tables import assert_each

import jaxcon as jc
from jaxcon.examples import probabilities as example

GRID = np.linspace(0, 1, 41)


def bayes():
    """The posterior from scipy's densities, (41, 3)."""
    density = norm.pdf(GRID[:, None], example.MEANS, example.DEVIATION)
    return density / density.sum(axis=1, keepdims=True)


def test_posterior_is_bayes_rule(x64):
    ours = jax.jit(jax.vmap(example.posterior))(GRID[:, None])
    np.testing.assert_allclose(ours, bayes(), atol=1e-12)  # float64


def test_labelled_follows_the_posterior():
    draws = [example.labelled(seed) for seed in range(40)]
    x = np.concatenate([x[:, 0] for x, _ in draws])
    label = np.concatenate([label for _, label in draws])
    assert 0 <= x.min() < x.max() <= 1
    assert all((np.diff(x[:, 0]) >= 0).all() for x, _ in draws)
    for place in (10, 20, 30):
        near = np.abs(x - GRID[place]) < 0.01
        shares = np.bincount(label[near], minlength=3) / near.sum()
        # Four standard errors of a share.
        assert np.abs(shares - bayes()[place]).max() < 2 / np.sqrt(near.sum())


def test_posterior_obeys_and_scores_nothing():
    problem = example.probabilities_problem()

    def truth(params, x):
        return example.posterior(x)

    held = problem.constraints(truth)
    residuals = jax.jit(lambda batch: jc.evaluate(held, None, batch))(problem.batch)
    # Three float32 probabilities are added.
    assert jc.max_violation(residuals) < 4 * np.finfo(np.float32).eps
    assert problem.score(truth, None)["RMSE to truth"] < 1e-7


def least(truth, kind, weight):
    """What the penalised minimum at one place exceeds a sum of one by, by scipy."""
    if kind == "absolute":  # split into its sides, so that scipy sees no kink
        found = minimize(
            lambda z: -truth @ np.log(z[:3]) + weight * z[3],
            [*truth, 0.5],
            bounds=[(1e-9, 1)] * 3 + [(0, 2)],
            constraints={"type": "ineq", "fun": lambda z: z[3] - (z[:3].sum() - 1)},
            method="SLSQP",
        )
    else:
        found = minimize(
            lambda z: -truth @ np.log(z) + weight / 2 * (z.sum() - 1) ** 2,
            truth,
            jac=lambda z: weight * (z.sum() - 1) - truth / z,
            bounds=[(1e-9, 1)] * 3,
            method="L-BFGS-B",
        )
    return found.x[:3].sum() - 1


def test_left_by_penalty_is_what_scipy_finds():
    def check(row):
        kind, weight = row
        # The place where no output is near 1 leaves most.
        most = max(least(truth, kind, weight) for truth in bayes())
        # Solver tolerance; 41 places miss the worst one by a few hundredths at most.
        expected = example.left_by_penalty(weight, kind)
        assert most == pytest.approx(expected, abs=0.03)

    absolute = [("absolute", weight) for weight in (0.3, 0.7, 3.0)]
    assert_each([*absolute, ("quadratic", 1.0), ("quadratic", 10.0)], check)


@pytest.mark.slow
def test_probabilities_every_method_does_what_the_docstring_says(tmp_path):
    (found,) = example.findings()
    evaluations = {evaluation.name: evaluation for evaluation in found.evaluations}
    assert evaluations.keys() == example.methods().keys()
    assert [row["method"] for row in found.rows] == list(evaluations)
    errors = {name: one.scores["RMSE to truth"] for name, one in evaluations.items()}
    for name in ("Lagrangian", "PI control", "augmented"):
        assert errors[name] < 0.05  # as the docstring says
        assert evaluations[name].multipliers["sum"] == pytest.approx(1, abs=0.05)
        assert (
            evaluations[name].violation < evaluations["quadratic penalty"].violation / 5
        )
    for name in ("softmax layer", "simplex projection, squares"):
        assert errors[name] < 0.05
        # Three float32 outputs are added, each rounded a few times.
        assert evaluations[name].violation < 8 * np.finfo(np.float32).eps
    free = evaluations["unconstrained"]
    assert free.violation > 1.9
    # By its own measure the worst is the best.
    least = min(one.scores["cross-entropy"] for one in evaluations.values())
    assert free.scores["cross-entropy"] == least < 1e-3
    assert evaluations["simplex projection, squares"].scores["cross-entropy"] == np.inf
    # Below its threshold the absolute penalty gives way as far as theory says.
    seen = evaluations["absolute penalty"].sensitivity
    for weight, violation in zip(seen.values, seen.violation):
        if weight < 0.5:
            theory = example.left_by_penalty(weight, "absolute")
            assert violation == pytest.approx(theory, rel=0.1)  # 500 labels
    for name, write in found.figures.items():
        write(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert found.note.endswith("is inf.")


def test_projection_simplex_is_sparsemax():
    # With exact zeros, which the cross-entropy cannot bear.
    nearest = jax.jit(optax.projections.projection_simplex)(
        np.array([0.9, 0.8, 0.1], np.float32)
    )
    np.testing.assert_allclose(nearest, [0.55, 0.45, 0.0], atol=1e-6)  # float32
    assert nearest[2] == 0
