"""Twice the input: everywhere is not in the mean, and multipliers must climb."""

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
        return 2 * x + wrong - OFFSET, {"mean": jnp.array(2 * OFFSET)}
    return 2 * x, {"doubles": jnp.asarray(2 * wrong / POINTS)}


@pytest.mark.parametrize("mean", [False, True], ids=["everywhere", "in the mean"])
def test_truth_and_its_multipliers_are_a_kkt_point(mean, x64):
    problem = free(example.doubling_problem(mean=mean))
    outputs, multipliers = truths(mean=mean)
    verdict = jc.kkt(
        problem.objective,
        problem.held(),
        jnp.asarray(outputs),
        jc.Constraints(multipliers),
        problem.batch,
    )
    assert verdict.worst < 1e-12  # float64, sums of 64 numbers near 1


def test_multipliers_of_the_points_add_up_to_that_of_the_mean(x64):
    (each, one) = (truths(mean=mean)[1] for mean in (False, True))
    assert jnp.sum(each["doubles"]) == pytest.approx(float(one["mean"]), abs=1e-12)


def test_the_truth_in_the_mean_is_wrong_everywhere_else(x64):
    problem = free(example.doubling_problem(mean=True))
    outputs = jnp.asarray(truths(mean=True)[0])
    residuals = jc.evaluate(example.everywhere(problem.apply), outputs, problem.batch)
    # The 64 points miss the top of the wave by at most half a step: 0.5 (pi / 63)^2 / 2.
    assert jc.max_violation(residuals) == pytest.approx(WAVE, abs=1e-3)


def climbed(dual, residual, steps=1):
    """A multiplier of 0 after some steps with the same residual."""
    multipliers = jc.Constraints({"h": jnp.zeros(())})
    state = dual.init(multipliers)
    for _ in range(steps):
        move, state = dual.update(
            jc.Constraints({"h": jnp.asarray(residual)}), state, multipliers
        )
        multipliers = optax.apply_updates(multipliers, move)
    return float(multipliers.equality["h"])


@pytest.mark.parametrize(
    ("dual", "residual", "expected"),
    [
        (example.by_patient_sgd(0.5), 0.9 * TOLERANCE, 0.0),
        (example.by_patient_sgd(0.5), 4.0, 2.0),
        (example.by_adam(0.5), 4.0, 0.5),
        (example.by_descent(0.5), 4.0, -0.5),
        # Adam's first step is its rate, whatever the gradient.
        (example.descent_and_ascent(0.1), 4.0, 0.4 - 1e-3),
        (example.descent_and_ascent(0.1), -4.0, -0.4 + 1e-3),
        (example.descent_and_ascent(0.1), 0.9 * TOLERANCE, -1e-3),
    ],
)
def test_first_move_of_a_multiplier(dual, residual, expected):
    # Adam divides by the size of the gradient plus 1e-8: 1e-5 of 9e-4.
    assert climbed(dual, residual) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_a_dual_that_openly_descends_is_refused():
    problem = example.doubling_problem(mean=True)
    way = jc.ways.multipliers(example.PRIMAL, optax.adam, 1e-3)
    with pytest.raises(ValueError, match="an optax optimizer descends"):
        way.method(problem, way.value)


CLIMBING = ("Lagrangian", "PI control", "augmented", "Adam on multipliers", "tolerance")


@pytest.mark.slow
def test_every_way_does_what_the_docstring_says(tmp_path):
    each, mean = example.doubling()
    for found in (each, mean):
        assert [row["method"] for row in found.rows] == [o.name for o in found.outcomes]
        for name, draw in found.figures.items():
            draw(tmp_path / f"{name}.png")
    assert len(list(tmp_path.glob("*.png"))) == 4

    ways = {outcome.name: outcome for outcome in each.outcomes}
    assert ways.keys() == example.ways().keys()
    for name in (*CLIMBING, "by construction"):
        assert ways[name].scores["RMSE to truth"] <= 0.01
    for name in CLIMBING:
        assert sum(ways[name].multipliers.values()) == pytest.approx(
            2 * OFFSET, abs=0.01
        )
    top = OFFSET + WAVE
    assert ways["unconstrained"].violation == pytest.approx(top, rel=0.02)
    weight = ways["quadratic penalty"].way.value
    # The network follows the wave to 2 %.
    assert ways["quadratic penalty"].violation == pytest.approx(
        top / (1 + weight / 2), rel=0.05
    )
    only_mean = ways["mean only"]
    assert only_mean.scores["mean of y - 2x"] <= 1e-3
    assert only_mean.violation == pytest.approx(WAVE, rel=0.02)
    assert only_mean.multipliers["mean"] == pytest.approx(2 * OFFSET, abs=0.01)

    ways = {outcome.name: outcome for outcome in mean.outcomes}
    assert ways.keys() == example.mean_ways().keys()
    for name in (*CLIMBING, "by construction"):
        assert ways[name].scores["RMSE to truth"] <= 0.02
        assert ways[name].scores["worst y - 2x"] == pytest.approx(WAVE, rel=0.05)
    for name in CLIMBING:
        assert ways[name].multipliers["mean"] == pytest.approx(2 * OFFSET, abs=0.01)
    weight = ways["quadratic penalty"].way.value
    assert ways["quadratic penalty"].violation == pytest.approx(
        OFFSET / (1 + weight / 2), rel=0.02
    )
    assert ways["Lagrangian"].violation <= 1e-5
    # Where ascent rests and descent goes on.
    assert ways["descent and ascent"].violation == pytest.approx(TOLERANCE, rel=0.5)
    assert ways["descent"].violation > 5 * OFFSET
    assert ways["descent"].multipliers["mean"] < -2 * OFFSET
