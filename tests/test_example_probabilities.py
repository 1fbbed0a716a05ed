"""The example `probabilities`: Bayes' rule, what penalties leave, and every way."""

import numpy as np
import optax
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

import jaxcon as jc
from jaxcon.examples import probabilities as example

GRID = np.linspace(0, 1, 41)


def bayes():
    """The posterior from scipy's densities, (41, 3)."""
    density = norm.pdf(GRID[:, None], example.MEANS, example.DEVIATION)
    return density / density.sum(axis=1, keepdims=True)


def test_posterior_is_bayes_rule(x64):
    ours = np.stack([example.posterior(np.array([x])) for x in GRID])
    np.testing.assert_allclose(ours, bayes(), atol=1e-12)  # float64


def test_labels_follow_the_posterior():
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


def test_the_truth_obeys_and_scores_nothing():
    problem = example.probabilities_problem()

    def truth(params, x):
        return example.posterior(x)

    residuals = jc.evaluate(problem.constraints(truth), None, problem.batch)
    # Three float32 probabilities are added.
    assert jc.max_violation(residuals) < 4 * np.finfo(np.float32).eps
    assert problem.score(truth, None)["RMSE to truth"] < 1e-7


@pytest.mark.parametrize(
    ("price", "weight"),
    [
        ("absolute", 0.3),
        ("absolute", 0.7),
        ("absolute", 3.0),
        ("quadratic", 1.0),
        ("quadratic", 10.0),
    ],
)
def test_what_a_penalty_leaves(price, weight):
    # The place where no output is near 1 leaves most; minimised there by scipy.
    excess = []
    for truth in bayes():
        if price == "absolute":  # split into its sides, so that scipy sees no kink
            found = minimize(
                lambda z, eta=truth: -eta @ np.log(z[:3]) + weight * z[3],
                [*truth, 0.5],
                bounds=[(1e-9, 1)] * 3 + [(0, 2)],
                constraints={"type": "ineq", "fun": lambda z: z[3] - (z[:3].sum() - 1)},
                method="SLSQP",
            )
        else:
            found = minimize(
                lambda z, eta=truth: -eta @ np.log(z) + weight / 2 * (z.sum() - 1) ** 2,
                truth,
                bounds=[(1e-9, 1)] * 3,
                method="L-BFGS-B",
            )
        excess.append(found.x[:3].sum() - 1)
    # Solver tolerance; 41 places miss the worst one by a few hundredths at most.
    expected = example.left_by_penalty(weight, price)
    assert max(excess) == pytest.approx(expected, abs=0.03)


@pytest.mark.slow
def test_every_way(tmp_path):
    (found,) = example.probabilities()
    outcomes = {outcome.name: outcome for outcome in found.outcomes}
    assert outcomes.keys() == example.ways().keys()
    assert [row["method"] for row in found.rows] == list(outcomes)
    errors = {name: one.scores["RMSE to truth"] for name, one in outcomes.items()}
    for name in ("Lagrangian", "PI control", "augmented"):
        assert errors[name] < 0.05  # as the docstring says
        assert outcomes[name].multipliers["sum"] == pytest.approx(1, abs=0.05)
        assert outcomes[name].violation < outcomes["quadratic penalty"].violation / 5
    for name in ("softmax layer", "simplex projection, squares"):
        assert errors[name] < 0.05
        # Three float32 outputs are added, each rounded a few times.
        assert outcomes[name].violation < 8 * np.finfo(np.float32).eps
    free = outcomes["unconstrained"]
    assert free.violation > 1.9
    # By its own measure the worst is the best.
    least = min(one.scores["cross-entropy"] for one in outcomes.values())
    assert free.scores["cross-entropy"] == least < 1e-3
    assert outcomes["simplex projection, squares"].scores["cross-entropy"] == np.inf
    # Below its threshold the absolute penalty gives way as far as theory says.
    seen = outcomes["absolute penalty"].sensitivity
    for weight, violation in zip(seen.values, seen.violation):
        if weight < 0.5:
            theory = example.left_by_penalty(weight, "absolute")
            assert violation == pytest.approx(theory, rel=0.1)  # 500 labels
    for name, write in found.figures.items():
        write(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert found.note.endswith("is inf.")


def test_the_layer_is_sparsemax():
    # With exact zeros, which the cross-entropy cannot bear.
    nearest = optax.projections.projection_simplex(
        np.array([0.9, 0.8, 0.1], np.float32)
    )
    np.testing.assert_allclose(nearest, [0.55, 0.45, 0.0], atol=1e-6)  # float32
    assert nearest[2] == 0
