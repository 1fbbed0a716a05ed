"""Twice the input: everywhere is not in the mean, and multipliers must climb."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon.examples import doubling as example
from jaxcon.examples.doubling import OFFSET, POINTS, TOLERANCE, WAVE


def free(problem):
    """The same with the outputs at the training points for parameters."""
    nodes = example.inputs()[:, 0]
    return problem._replace(apply=lambda values, x: jnp.interp(x[0], nodes, values))


def truths(*, mean):
    """Outputs and multipliers in closed form, written out again."""
    x = np.linspace(0, 1, POINTS)
    wrong = OFFSET + WAVE * np.sin(2 * np.pi * x)
    if mean:
        return 2 * x + wrong - OFFSET, {"mean": np.array(2 * OFFSET)}
    return 2 * x, {"doubles": 2 * wrong / POINTS}


def test_doubling_truth_and_its_multipliers_are_a_kkt_point(x64):
    @jax.jit
    def verdicts(points):
        return [
            jc.kkt(
                jc.Lagrangian(problem.objective, problem.held()),
                jc.Point(*point),
                problem.batch,
            ).worst
            for problem, point in zip(problems, points)
        ]

    problems = [free(example.doubling_problem(mean=mean)) for mean in (False, True)]
    points = [truths(mean=mean) for mean in (False, True)]
    worst = verdicts([(x, jc.Constraints(multipliers)) for x, multipliers in points])
    assert max(worst) < 1e-12  # float64, sums of 64 numbers near 1


def test_doubling_multipliers_of_the_points_add_up_to_that_of_the_mean(x64):
    (each, one) = (truths(mean=mean)[1] for mean in (False, True))
    assert np.sum(each["doubles"]) == pytest.approx(float(one["mean"]), abs=1e-12)


def test_doubling_truth_in_the_mean_is_wrong_everywhere_else(x64):
    problem = free(example.doubling_problem(mean=True))
    held = partial(jc.evaluate, example.everywhere(problem.apply))
    residuals = jax.jit(held)(truths(mean=True)[0], problem.batch)
    # The 64 points miss the top of the wave by at most half a step: 0.5 (pi / 63)^2 / 2.
    assert jc.max_violation(residuals) == pytest.approx(WAVE, abs=1e-3)


def test_dual_transforms_of_the_example_move_a_multiplier_as_by_hand():
    rows = [
        (example.by_patient_sgd(0.5), 0.9 * TOLERANCE, 0.0),
        (example.by_patient_sgd(0.5), 4.0, 2.0),
        (example.by_adam(0.5), 4.0, 0.5),
        (example.by_descent(0.5), 4.0, -0.5),
        # Adam's first step is its rate, whatever the gradient.
        (example.descent_and_ascent(0.1), 4.0, 0.4 - 1e-3),
        (example.descent_and_ascent(0.1), -4.0, -0.4 + 1e-3),
        (example.descent_and_ascent(0.1), 0.9 * TOLERANCE, -1e-3),
    ]

    @jax.jit
    def moves(residuals):
        multipliers = jc.Constraints({"h": jnp.zeros(())})
        return [
            dual.update(
                jc.Constraints({"h": residual}), dual.init(multipliers), multipliers
            )[0].equality["h"]
            for (dual, _, _), residual in zip(rows, residuals)
        ]

    found = moves([np.float32(residual) for _, residual, _ in rows])
    # Adam divides by the size of the gradient plus 1e-8: 1e-5 of 9e-4.
    expected = [move for _, _, move in rows]
    assert list(map(float, found)) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_multipliers_method_refuses_a_dual_that_openly_descends():
    problem = example.doubling_problem(mean=True)
    method = jc.methods.multipliers(example.PRIMAL, optax.adam, 1e-3)
    with pytest.raises(ValueError, match="an optax optimizer descends"):
        method.solver(problem, method.value)


CLIMBING = ("Lagrangian", "PI control", "augmented", "Adam on multipliers", "tolerance")


@pytest.mark.slow
def test_doubling_methods_do_what_the_docstring_says(tmp_path):
    each, mean = example.findings()
    for found in (each, mean):
        assert [row["method"] for row in found.rows] == [
            o.name for o in found.evaluations
        ]
        for name, draw in found.figures.items():
            draw(tmp_path / f"{name}.png")
    assert len(list(tmp_path.glob("*.png"))) == 4

    methods = {evaluation.name: evaluation for evaluation in each.evaluations}
    assert methods.keys() == example.methods().keys()
    for name in (*CLIMBING, "by construction"):
        assert methods[name].scores["RMSE to truth"] <= 0.01
    for name in CLIMBING:
        assert sum(methods[name].multipliers.values()) == pytest.approx(
            2 * OFFSET, abs=0.01
        )
    top = OFFSET + WAVE
    assert methods["unconstrained"].violation == pytest.approx(top, rel=0.02)
    weight = methods["quadratic penalty"].method.value
    # The network follows the wave to 2 %.
    assert methods["quadratic penalty"].violation == pytest.approx(
        top / (1 + weight / 2), rel=0.05
    )
    only_mean = methods["mean only"]
    assert only_mean.scores["mean of y - 2x"] <= 1e-3
    assert only_mean.violation == pytest.approx(WAVE, rel=0.02)
    assert only_mean.multipliers["mean"] == pytest.approx(2 * OFFSET, abs=0.01)

    methods = {evaluation.name: evaluation for evaluation in mean.evaluations}
    assert methods.keys() == example.mean_methods().keys()
    for name in (*CLIMBING, "by construction"):
        assert methods[name].scores["RMSE to truth"] <= 0.02
        assert methods[name].scores["worst y - 2x"] == pytest.approx(WAVE, rel=0.05)
    for name in CLIMBING:
        assert methods[name].multipliers["mean"] == pytest.approx(2 * OFFSET, abs=0.01)
    weight = methods["quadratic penalty"].method.value
    assert methods["quadratic penalty"].violation == pytest.approx(
        OFFSET / (1 + weight / 2), rel=0.02
    )
    assert methods["Lagrangian"].violation <= 1e-5
    # Where ascent rests and descent goes on.
    assert methods["descent and ascent"].violation == pytest.approx(TOLERANCE, rel=0.5)
    assert methods["descent"].violation > 5 * OFFSET
    assert methods["descent"].multipliers["mean"] < -2 * OFFSET
