"""Poisson's equation: the closed forms by linear algebra, and what the methods reach."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcon.examples import poisson as example
from jaxcon.tabular import init_network, network


def differenced(intervals):
    """The equation with second differences, solved as a linear system at all nodes."""
    h, x = 1 / intervals, np.linspace(0, 1, intervals + 1)
    matrix = np.eye(intervals + 1)
    side = np.append(0.0, np.ones(intervals))
    for i in range(1, intervals):
        matrix[i, i - 1 : i + 2] = np.array([-1.0, 2.0, -1.0]) / h**2
        side[i] = example.FREQUENCY**2 * np.sin(example.FREQUENCY * x[i])
    return x, np.linalg.solve(matrix, side)


def penalised(weight, intervals):
    """The minimiser of energy and penalty among piecewise linear functions."""
    h, x = 1 / intervals, np.linspace(0, 1, intervals + 1)
    matrix, side = np.zeros((intervals + 1,) * 2), np.zeros(intervals + 1)
    for i in range(intervals):
        matrix[i : i + 2, i : i + 2] += np.array([[1, -1], [-1, 1]]) / h
        middle = 0.5 * (x[i] + x[i + 1])
        load = example.FREQUENCY**2 * np.sin(example.FREQUENCY * middle)
        side[i : i + 2] += 0.5 * h * load
    for end, value in ((0, 0.0), (-1, 1.0)):
        matrix[end, end] += weight
        side[end] += weight * value
    return x, np.linalg.solve(matrix, side)


def test_solution_is_that_of_fine_differences():
    x, u = differenced(400)
    # Second order: k^2 h^2 / 12.
    np.testing.assert_allclose(example.solution(x), u, atol=3e-5)


def test_differenced_solution_is_of_another_equation():
    x, u = differenced(round(1 / example.STEP))
    np.testing.assert_allclose(
        example.differenced_solution(x), u, atol=1e-12
    )  # float64
    assert np.abs(example.solution(x) - u).max() > 0.01


def test_penalised_solution_is_that_of_finite_elements():
    for weight in (1.0, 100.0):
        x, u = penalised(weight, 400)
        # Second order in the elements' size, larger where the penalty is lighter.
        np.testing.assert_allclose(example.penalised_solution(x, weight), u, atol=2e-3)


def test_poisson_losses_and_constraints_at_the_solution(x64):
    def true(params, x):
        return jnp.sin(example.FREQUENCY * x[0]) + x[0]

    @partial(jax.jit, static_argnums=0)
    def evaluated(which, batch):
        held = problems[which].constraints(true).equality.values()
        return problems[which].loss(true, None, batch), [h(None, batch) for h in held]

    problems = example.by_residual(), example.by_energy()
    losses = []
    for which, problem in enumerate(problems):
        loss, held = evaluated(which, problem.batch)
        losses.append(float(loss))
        # The batch is float32's grid, or float64's: u is evaluated in float64.
        assert max(abs(float(h[0])) for h in held) < 1e-12
    assert losses[0] < 1e-12
    k = example.FREQUENCY
    exact = 0.5 * (k**2 / 2 + 1) - k**2 / 2 + k  # each term by hand
    # The midpoint rule: h^2 / 24 times the jump of the integrand's derivative, k^3.
    error = k**3 / (24 * example.NUM_MIDPOINTS**2)
    assert abs(losses[1] - exact) < 1.1 * error


def test_obeying_keeps_the_ends(key):
    @jax.jit
    def ends(key, x):
        params = init_network(key, example.SIZES)
        return jax.vmap(partial(example.obeying(network), params))(x)

    u = ends(key, np.array([[0.0], [1.0]], np.float32))
    np.testing.assert_array_equal(u, [0.0, 1.0])


@pytest.mark.slow
def test_poisson_exact_methods_reach_the_solution_and_its_fluxes(tmp_path):
    residual, energy = list(example.findings())
    assert [one.name for one in residual.evaluations] == [
        *example.methods_by_residual()
    ]
    assert [one.name for one in energy.evaluations] == [*example.methods_by_energy()]
    moved = f"augmented, each {example.PERIOD} steps"
    # As the module's docstring has it.
    for findings in (residual, energy):
        evaluations = {
            evaluation.name: evaluation for evaluation in findings.evaluations
        }
        for name in ("PI control", moved, "by construction"):
            assert evaluations[name].scores["RMSE to truth"] < 0.005
            assert evaluations[name].violation < 1e-4
        for name in ("unconstrained", "lagrangian", "augmented, each step"):
            assert evaluations[name].violation > 0.1
        for figure, draw in findings.figures.items():
            draw(tmp_path / f"{figure}.png")
            assert (tmp_path / f"{figure}.png").stat().st_size > 10_000

    evaluations = {evaluation.name: evaluation for evaluation in residual.evaluations}
    exact, differences = (
        evaluations[f"by construction{kind}"].scores for kind in ("", ", differences")
    )
    assert exact["RMSE to truth"] < 1e-4
    x = np.linspace(0, 1, 1001)
    bias = np.sqrt(
        np.mean((example.differenced_solution(x) - example.solution(x)) ** 2)
    )
    # Training comes that near to what differences ask for.
    assert differences["RMSE to truth"] == pytest.approx(bias, rel=0.05)
    assert differences["worst PDE residual"] > 2 * exact["worst PDE residual"]

    evaluations = {evaluation.name: evaluation for evaluation in energy.evaluations}
    for name in ("PI control", moved):
        fluxes = [evaluations[name].multipliers[end] for end in example.ENDS]
        np.testing.assert_allclose(fluxes, [example.FLUX, -example.FLUX], atol=0.1)
    swept = evaluations["penalty"].sensitivity
    # The quadrature changes the fluxes by less than 0.1 %; the rest is training.
    expected = example.FLUX / (swept.values + 2)
    np.testing.assert_allclose(swept.violation, expected, rtol=0.02)
