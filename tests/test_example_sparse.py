"""Zeros by an L1 norm: of weights, of outputs, and which methods make them exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_each

from jaxcon.examples import sparse as example
from jaxcon.examples.sparse import BUDGET, ENTRIES, THRESHOLD, WEIGHTS


def assert_on_the_path_of_lars(seed):
    from sklearn.linear_model import lars_path

    data = example.sparse_weights(seed)
    design, targets = np.asarray(data.design), np.asarray(data.targets)
    alphas, _, knots = lars_path(design, targets, method="lasso")
    norms = np.abs(knots).sum(axis=0)
    # The path is linear between its knots, in the norm as well as in alpha.
    ours = [np.interp(BUDGET, norms, knot) for knot in knots]
    # SLSQP stops where the loss changes by less than 1e-14: weights at its root.
    np.testing.assert_allclose(data.truth, ours, atol=1e-6)
    assert data.multiplier == pytest.approx(
        2 * np.interp(BUDGET, norms, alphas), abs=1e-5
    )
    assert np.abs(data.truth).sum() == pytest.approx(BUDGET, abs=1e-9)


def test_sparse_weights_truth_is_on_the_path_of_lars(x64):
    assert_each(range(3), assert_on_the_path_of_lars)


def assert_nearest_in_the_ball(seed):
    data = example.sparse_outputs(seed)
    design, targets, truth = map(np.asarray, (data.design, data.targets, data.truth))
    outputs = design @ truth
    nearest = optax.projections.projection_l1_ball(data.targets, data.radius)
    np.testing.assert_allclose(outputs, nearest, atol=1e-12)  # float64
    np.testing.assert_allclose(design.T @ design, ENTRIES * np.eye(ENTRIES), atol=1e-9)
    left = np.abs(outputs) > 1e-9
    shrunk = np.abs(targets - outputs)
    np.testing.assert_allclose(shrunk[left], data.multiplier / 2, atol=1e-9)
    assert np.max(shrunk) <= data.multiplier / 2 + 1e-9


def test_sparse_outputs_truth_is_the_nearest_in_the_ball(x64):
    assert_each(range(3), assert_nearest_in_the_ball)


def test_soft_threshold_is_the_proximal_step_of_the_norm(x64):
    z = np.linspace(-2, 2, 81)
    ours = np.asarray(jax.jit(example.soft_threshold)(z, THRESHOLD))
    candidates = np.linspace(-2, 2, 4001)[:, None]
    cost = THRESHOLD * np.abs(candidates) + (candidates - z[None]) ** 2 / 2
    best = candidates[np.argmin(cost, axis=0), 0]
    np.testing.assert_allclose(ours, best, atol=1e-3)  # the candidates' distance
    assert np.all(ours[np.abs(z) <= THRESHOLD] == 0)


@pytest.mark.parametrize("kind", ["weights", "outputs"])
def test_sparse_entries_and_weights_are_each_others_inverse(kind, x64):
    data = getattr(example, f"sparse_{kind}")()
    weights = np.random.default_rng(0).normal(size=data.truth.shape)
    problem = example.sparse_problem(data)

    @jax.jit
    def read(weights, truth):
        return (
            data.weights(data.entries(weights)),
            problem.held().inequality["budget"](truth, problem.batch),
        )

    again, spent = read(weights, np.asarray(data.truth))
    error = problem.score(problem.apply, np.asarray(data.truth))["RMSE to truth"]
    np.testing.assert_allclose(again, weights, atol=1e-12)
    assert spent == pytest.approx(0, abs=1e-9)
    assert error == pytest.approx(0, abs=1e-12)


BY_GRADIENTS = (
    "L1 penalty",
    "hinge",
    "squared hinge",
    "Lagrangian",
    "PI control",
    "augmented",
)
REACHING = ("Lagrangian", "PI control", "augmented", "projected", "by construction")


@pytest.mark.slow
def test_sparse_methods_do_what_the_docstring_says(tmp_path):
    from sklearn.linear_model import Lasso

    both = dict(zip(("weights", "outputs"), example.findings()))
    for kind, found in both.items():
        data = getattr(example, f"sparse_{kind}")()
        methods = {evaluation.name: evaluation for evaluation in found.evaluations}
        assert methods.keys() == example.methods(data).keys()
        assert [row["method"] for row in found.rows] == list(methods)
        for name in REACHING:
            assert methods[name].scores["RMSE to truth"] <= 0.005
            assert methods[name].violation <= 1e-5
        for name in REACHING[:3]:
            assert methods[name].multipliers["budget"] == pytest.approx(
                data.multiplier, abs=0.02
            )
        for name in ("unconstrained", "L1 penalty", "squared hinge"):
            assert methods[name].scores["RMSE to truth"] > 0.03
        assert methods["unconstrained"].violation > 0.1
        for name, draw in found.figures.items():
            draw(tmp_path / f"{name}.png")
    assert len(list(tmp_path.glob("*.png"))) == 4

    data, methods = example.sparse_weights(), both["weights"].evaluations
    weights = {
        evaluation.name: example.reached(evaluation, data) for evaluation in methods
    }
    for name in (*BY_GRADIENTS, "unconstrained", "by construction", "L1 of outputs"):
        assert jnp.all(weights[name] != 0)
    np.testing.assert_array_equal(
        weights["projected"] != 0, np.arange(len(data.truth)) < len(WEIGHTS)
    )
    # Where the slope is largest it is the multiplier; float32.
    residual = data.design @ weights["projected"] - data.targets
    slope = 2 / len(residual) * data.design.T @ residual
    assert jnp.max(jnp.abs(slope)) == pytest.approx(data.multiplier, abs=1e-4)
    weight = 1.0
    lasso = Lasso(weight / 2, fit_intercept=False, tol=1e-10)
    lasso.fit(np.asarray(data.design, float), np.asarray(data.targets, float))
    # In float32; a penalty's gradient goes on jumping at zero, by Adam's last steps.
    for name, close in (("proximal", 1e-5), ("L1 penalty", 1e-3)):
        np.testing.assert_allclose(weights[name], lasso.coef_, atol=close)
    np.testing.assert_array_equal(weights["proximal"] != 0, lasso.coef_ != 0)

    scores = {kind: {o.name: o.scores for o in both[kind].evaluations} for kind in both}
    assert scores["weights"]["L1 of outputs"]["weights not 0"] == len(data.truth)
    assert scores["weights"]["projected"]["outputs not 0"] == len(data.targets)
    truth = example.soft_threshold(example.sparse_outputs().targets, THRESHOLD)
    assert scores["outputs"]["projected"]["outputs not 0"] == np.sum(truth != 0)
    assert scores["outputs"]["projected"]["weights not 0"] == ENTRIES
    assert scores["outputs"]["L1 of weights"]["outputs not 0"] == ENTRIES
    assert scores["outputs"]["L1 of weights"]["weights not 0"] < ENTRIES
