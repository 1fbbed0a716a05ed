"""The concave front: its closed forms, and what reaches the wanted point."""

import jax
import numpy as np
import pytest
from tables import assert_each

from jaxcon.examples import front as example


def values(u):
    """f1 and f2 of a pair of numbers, written out once more."""
    return tuple(1 - np.exp(-np.mean((u - side) ** 2)) for side in (1.0, -1.0))


def test_truth_of_the_front_is_what_a_solver_finds():
    from scipy.optimize import minimize

    truth = example.truth()
    found = minimize(
        lambda u: values(u)[0],
        np.array([-0.5, 0.3]),
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda u: example.LIMIT - values(u)[1]},
        options={"ftol": 1e-14},
    )
    # SLSQP differences its gradients by steps of 1e-8.
    np.testing.assert_allclose(found.x, truth.place, atol=1e-6)
    assert found.fun == pytest.approx(truth.aim, abs=1e-7)


def test_truth_of_the_front_has_the_multiplier_of_the_derivatives(x64):
    truth = example.truth()
    problem = example.two_numbers()
    batch = jax.tree.map(lambda leaf: np.asarray(leaf, float), problem.batch)

    def first(u):
        return example.FIRST(problem.apply, u, batch)

    def second(u):
        return example.SECOND(problem.apply, u, batch)

    @jax.jit
    def derivatives(u):
        weighted = lambda u: first(u) + truth.multiplier * second(u)  # noqa: E731
        return jax.grad(second)(u), jax.grad(weighted)(u), jax.hessian(weighted)(u)

    slope, pull, bend = map(np.asarray, derivatives(np.full(2, truth.place)))
    np.testing.assert_allclose(pull, 0.0, atol=1e-14)  # float64
    least = [
        np.linalg.eigvalsh(bend + rho * np.outer(slope, slope))[0]
        for rho in (0.999 * truth.strength, 1.001 * truth.strength)
    ]
    assert least[0] < 0 < least[1]


def test_weight_of_the_middle_of_the_front_makes_it_a_maximum():
    def check(s):
        weight, step = example.weight_of(s), 1e-4
        low, here, high = (
            first + weight * second
            for first, second in (
                values(np.full(2, t)) for t in (s - step, s, s + step)
            )
        )
        # Central differences of smooth functions: errors of order step squared.
        assert (high - low) / (2 * step) == pytest.approx(0.0, abs=1e-6)
        assert np.sign(high - 2 * here + low) == np.sign(2 * s**2 - 1)

    assert_each([-0.9, -0.6, -0.17, 0.0, 0.5, 0.8], check)


def test_onto_disc_is_the_nearest_feasible_pair():
    from scipy.optimize import minimize

    onto = jax.jit(example.onto_disc)

    def check(u):
        found = minimize(
            lambda v: np.sum((v - np.array(u)) ** 2),
            -np.ones(2),
            method="SLSQP",
            constraints={"type": "ineq", "fun": lambda v: example.LIMIT - values(v)[1]},
            options={"ftol": 1e-14},
        )
        # float32 beside a solver that stops at 1e-7.
        np.testing.assert_allclose(onto(np.array(u, "f")), found.x, atol=1e-5)

    assert_each([[2.0, 1.0], [0.5, -3.0], [-1.2, -0.8]], check)


def test_front_models_have_targets_of_mean_square_one():
    for problem in (example.two_numbers(), example.one_network()):
        for batch in (problem.batch, problem.unseen):
            assert np.mean(np.asarray(batch["c"]) ** 2) == pytest.approx(
                1.0, rel=1e-6
            )  # float32


@pytest.fixture(scope="module")
def findings():
    return list(example.findings())


@pytest.mark.slow
def test_front_multipliers_reach_what_no_weight_reaches(findings, tmp_path):
    truth = example.truth()
    numbers, network = findings
    assert len(numbers.evaluations) == len(example.methods_of_two_numbers()) == 10
    assert len(network.evaluations) == len(example.methods()) == 8
    # As the module's docstring has it: of u, and of the multiplier.
    for part, rmse, multiplier in ((numbers, 1e-5, 1e-5), (network, 0.02, 0.01)):
        evaluations = {evaluation.name: evaluation for evaluation in part.evaluations}
        for name in ("augmented", "PI control"):
            assert evaluations[name].scores["RMSE to truth"] < rmse
            assert (
                abs(evaluations[name].multipliers["f2"] - truth.multiplier) < multiplier
            )
            assert evaluations[name].violation < 1e-4
        for name in ("unconstrained", "weighted sum", "quadratic penalty"):
            assert evaluations[name].violation > 0.4
        for name in ("lagrangian", "augmented, momentum"):
            low, high = example.late_aims(evaluations[name])
            assert high - low > 0.1
        low, high = example.late_aims(evaluations["augmented"])
        assert high - low < 1e-3
        for figure, draw in part.figures.items():
            draw(tmp_path / f"{figure}.png")
            assert (tmp_path / f"{figure}.png").stat().st_size > 10_000
    for name in ("projection", "by construction"):
        evaluation = next(one for one in numbers.evaluations if one.name == name)
        assert evaluation.scores["RMSE to truth"] < 1e-5


@pytest.mark.slow
def test_front_settles_under_a_strength_above_the_curvature_alone(findings):
    held = next(one for one in findings[0].evaluations if one.name == "augmented")
    low = held.sensitivity.values < example.truth().strength
    errors = held.sensitivity.scores["RMSE to truth"]
    assert low.sum() == 2
    assert errors[low].min() > 0.05
    assert errors[held.sensitivity.values == example.STRENGTH] < 1e-5


@pytest.mark.slow
def test_front_of_two_hundred_weighted_sums_leaves_the_middle_empty():
    weights = np.geomspace(0.1, 10.0, 50)
    ends = example.weighted_sums(example.two_numbers(), weights, 4)
    assert ends.shape == (200, 2)
    # The module's docstring: where s squared is a half.
    low, high = (values(np.full(2, s))[1] for s in (-np.sqrt(0.5), np.sqrt(0.5)))
    assert 0.082 < low < 0.083
    assert 0.945 < high < 0.946
    assert ((ends[:, 1] < low) | (ends[:, 1] > high)).all()
    assert (ends[:, 1] < low).any()
    assert (ends[:, 1] > high).any()
