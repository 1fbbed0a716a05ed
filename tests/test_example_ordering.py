"""At least the input: what noise and a low sensor do, and what holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import lsq_linear

import jaxcon as jc
from jaxcon.examples import ordering as example
from jaxcon.examples.ordering import DIP, POINTS


def test_ordering_truths_obey_and_touch_and_targets_do_neither(x64):
    x = np.linspace(0, 1, 1001)
    for truth in (example.noise_truth, example.sensor_truth):
        true = np.asarray(jax.jit(truth)(x))
        assert np.all(true >= x)
        assert np.mean(true == x) == pytest.approx(0.5, abs=0.01)
    assert np.max(x - example.sensor(x)) == pytest.approx(DIP, abs=1e-5)
    noisy = jax.tree.map(np.asarray, example.noise_problem(0).batch)
    assert np.max(noisy["x"][:, 0] - noisy["y"]) > 0.1


def test_sensor_truth_is_bounded_least_squares(x64):
    batch = example.sensor_problem().batch
    x, targets = np.asarray(batch["x"][:, 0]), np.asarray(batch["y"])
    solved = lsq_linear(
        np.eye(POINTS), targets, (x, np.full(POINTS, np.inf)), tol=1e-14
    )
    ours = example.sensor_truth(batch["x"][:, 0])
    np.testing.assert_allclose(ours, solved.x, atol=1e-6)  # an interior-point method


def test_sensor_truth_and_its_multipliers_are_a_kkt_point(x64):
    nodes = example.inputs()[:, 0]
    problem = example.sensor_problem()._replace(
        apply=lambda values, x: jnp.interp(x[0], nodes, values)
    )
    multipliers = example.sensor_multipliers()
    verdict = jc.kkt(
        jc.Lagrangian(problem.objective, problem.held()),
        jc.Point(
            example.sensor_truth(nodes),
            jc.Constraints(inequality={"y >= x": multipliers}),
        ),
        problem.batch,
    )
    assert verdict.worst < 1e-12  # float64
    # A sum of 100 points for the integral of sin over half a period.
    assert jnp.sum(multipliers) == pytest.approx(2 * DIP / np.pi, rel=0.02)


def test_ordering_raised_fit_is_nowhere_further_from_the_truth():
    x = np.asarray(example.inputs()[:, 0])
    fits = x + np.random.default_rng(0).normal(size=(100, POINTS)).astype(x.dtype)
    for truth in (example.noise_truth, example.sensor_truth):
        true = np.asarray(truth(x))
        assert np.all(np.abs(np.maximum(fits, x) - true) <= np.abs(fits - true))


def test_noise_problem_follows_the_seed():
    one, same, other = (example.noise_problem(s).batch["y"] for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()


HELD = ("Lagrangian", "PI control", "augmented")
OBEYING = ("raised afterwards", "raised in training", "by construction")


@pytest.mark.slow
def test_ordering_every_method_does_what_the_docstring_says(tmp_path):
    noise, sensor = example.findings()
    for found in (noise, sensor):
        assert [row["method"] for row in found.rows] == list(example.methods())
        for name, draw in found.figures.items():
            draw(tmp_path / f"{name}.png")
    assert len(list(tmp_path.glob("*.png"))) == 4

    methods = {evaluation.name: evaluation for evaluation in noise.evaluations}
    for name in (*HELD, *OBEYING):
        assert methods[name].scores["RMSE to truth"] <= 0.06
    for name in HELD:
        assert methods[name].violation < methods["unconstrained"].violation / 5

    methods |= {evaluation.name: evaluation for evaluation in sensor.evaluations}
    for name in (*HELD, "raised afterwards", "by construction"):
        assert methods[name].scores["RMSE to truth"] <= 0.03
    for name in HELD:
        assert methods[name].violation <= 0.01
        assert methods[name].multipliers["y >= x"] == pytest.approx(
            float(jnp.sum(example.sensor_multipliers())), abs=0.02
        )
    # Both minima are of a free function; the network's are rounded by a tenth of it.
    assert methods["unconstrained"].violation == pytest.approx(DIP, rel=0.1)
    assert methods["hinge"].violation == pytest.approx(
        DIP - methods["hinge"].method.value / 2, rel=0.1
    )
    assert methods["squared hinge"].violation == pytest.approx(
        DIP / (1 + methods["squared hinge"].method.value / 2), rel=0.1
    )
    for found in (noise, sensor):
        for evaluation in found.evaluations:
            if evaluation.name in OBEYING:
                assert evaluation.violation == 0


@pytest.mark.slow
def test_dead_starts_are_most_networks_raised_in_training():
    assert 4 < example.dead_starts(np.arange(8)) <= 8
