"""The example `bounded`: the truth within bounds, its multipliers, and every method."""

import numpy as np
import pytest

import jaxcon as jc
from jaxcon.examples import bounded as example

GRID = np.linspace(0, 1, 101)


def test_bounded_truth_is_least_squares_within_bounds(x64):
    from scipy.optimize import lsq_linear

    u = 0.5 + np.sin(2 * np.pi * GRID)
    np.testing.assert_allclose(example.unbounded(GRID), u, atol=1e-14)
    solved = lsq_linear(np.eye(len(u)), u, bounds=(0, 1), tol=1e-14)
    np.testing.assert_allclose(example.truth(GRID), solved.x, atol=1e-7)  # its tol


def test_total_multiplier_is_the_integral_in_the_mean():
    from scipy.integrate import quad

    def scaled(x):
        u = 0.5 + np.sin(2 * np.pi * x)
        return 2 * max(-u, u - 1, 0)

    expected, _ = quad(scaled, 0, 1, points=[1 / 12, 5 / 12, 7 / 12, 11 / 12])
    assert expected == pytest.approx((2 * np.sqrt(3) - 2 * np.pi / 3) / np.pi, abs=1e-9)
    sums = [
        example.total_multiplier(example.bounded_problem(seed)) for seed in range(100)
    ]
    # Two thirds of the points are active; four standard errors of the mean of 100.
    error = 2 * example.NOISE * np.sqrt(2 / 3 / example.MEASUREMENTS)
    assert np.mean(sums) == pytest.approx(expected, abs=4 * error / 10)
    assert np.std(sums) == pytest.approx(error, rel=0.3)


def test_bounded_truth_obeys_and_scores_nothing():
    problem = example.bounded_problem()

    def truth(params, x):
        return example.truth(x[0])

    residuals = jc.evaluate(problem.constraints(truth), None, problem.batch)
    assert jc.max_violation(residuals) == 0
    assert problem.score(truth, None)["RMSE to truth"] == 0


@pytest.mark.slow
def test_bounded_methods_do_what_the_docstring_says(tmp_path):
    (found,) = example.findings()
    evaluations = {evaluation.name: evaluation for evaluation in found.evaluations}
    assert evaluations.keys() == example.methods().keys()
    assert [row["method"] for row in found.rows] == list(evaluations)
    errors = {name: one.scores["RMSE to truth"] for name, one in evaluations.items()}
    total = example.total_multiplier(example.bounded_problem())
    hinge = evaluations["squared hinge"]
    for name in ("Lagrangian", "PI control", "augmented"):
        assert errors[name] < 0.05  # as the docstring says
        assert evaluations[name].multipliers["in bounds"] == pytest.approx(
            total, abs=0.03
        )
        assert evaluations[name].violation < hinge.violation / 5
    assert errors["clipped afterwards"] < 0.05
    # The fit's own error, 0.03, comes on top of what the penalty leaves.
    assert hinge.violation == pytest.approx(1 / (2 + hinge.method.value), abs=0.03)
    assert evaluations["unconstrained"].violation > 0.4
    for name, one in evaluations.items():
        if "layer" in name or name == "clipped afterwards":
            assert one.violation == 0
    # No slope is left at a bound, and none at all beyond it.
    assert min(errors["sigmoid layer"], errors["clipping layer"]) > 0.1
    dead = evaluations["clipping layer, begun outside"]
    assert np.ptp(dead.result.history.loss) == 0
    for name, write in found.figures.items():
        write(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert "moves by 0 in all" in found.note
