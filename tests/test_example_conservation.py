"""The example `conservation`: its laws, Pythagoras, multipliers, and every method."""

from functools import partial

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import jaxcon as jc
from jaxcon.examples import conservation as example

SYSTEMS = {"reaction": example.REACTION, "pipes": example.PIPES}
GRID = np.linspace(0, 1, 41)[:, None]

systems = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


def test_shares_solve_their_rate_equations(x64):
    first, second = example.RATES
    solved = solve_ivp(
        lambda t, y: [-first * y[0], first * y[0] - second * y[1], second * y[1]],
        (0, 1),
        [1, 0, 0],
        t_eval=GRID[:, 0],
        rtol=1e-10,
        atol=1e-12,
    )
    ours = jax.jit(jax.vmap(example.shares))(GRID)
    np.testing.assert_allclose(ours, solved.y.T, atol=1e-8)  # the solver's tolerance


@systems
def test_conservation_truth_obeys_and_scores_nothing(system):
    problem = example.conservation_problem(system)

    def truth(params, x):
        return system.truth(x)

    held = problem.constraints(truth)
    residuals = jax.jit(lambda batch: jc.evaluate(held, None, batch))(problem.batch)
    assert len(residuals.equality) == len(system.laws) == len(system.matrix)
    # A few float32 roundings of numbers below 2.
    assert jc.max_violation(residuals) < 8 * np.finfo(np.float32).eps
    assert problem.score(truth, None)["RMSE to truth"] < 1e-6


@systems
def test_total_multipliers_are_those_of_a_model_that_can_only_shift(system, x64):
    # Least squares over constants subject to laws of their mean, by its KKT system.
    problem = example.conservation_problem(system)
    x, y = np.asarray(problem.batch["x"]), np.asarray(problem.batch["y"])
    A, m = system.matrix, len(system.outputs)
    truth = np.asarray(jax.jit(jax.vmap(system.truth))(x))
    k = len(A)
    matrix = np.block([[2 / m * np.eye(m), A.T], [A, np.zeros((k, k))]])
    right = [*(2 / m * (y - truth).mean(axis=0)), *np.zeros(k)]
    multipliers = np.linalg.solve(matrix, right)[m:]
    ours = list(example.total_multipliers(system, problem).values())
    np.testing.assert_allclose(ours, multipliers, atol=1e-12)  # float64


@systems
def test_conservation_projection_takes_what_pythagoras_says(system, x64):
    problem = example.conservation_problem(system)
    method = example.methods(system)["projected afterwards"]
    changed = method.change(problem).apply

    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape),
        jax.eval_shape(problem.init, jax.random.key(1)),
    )

    @jax.jit
    def outputs(params, x):
        networks = partial(problem.apply, params), partial(changed, params)
        return [jax.vmap(f)(x) for f in (*networks, system.truth)]

    free, near, truth = map(np.asarray, outputs(params, GRID))
    square = np.mean((free - truth) ** 2) - np.mean((free - near) ** 2)
    np.testing.assert_allclose(np.mean((near - truth) ** 2), square, rtol=1e-12)


@pytest.mark.slow
def test_conservation_every_method_does_what_the_docstring_says(tmp_path):
    for system, found in zip(SYSTEMS.values(), example.findings(), strict=True):
        evaluations = {evaluation.name: evaluation for evaluation in found.evaluations}
        assert evaluations.keys() == example.methods(system).keys()
        assert [row["method"] for row in found.rows] == list(evaluations)
        errors = {
            name: one.scores["RMSE to truth"] for name, one in evaluations.items()
        }
        sums = example.total_multipliers(system, example.conservation_problem(system))
        penalised = evaluations["quadratic penalty"].violation
        for name in ("Lagrangian", "PI control", "augmented"):
            assert errors[name] < 0.02  # as the docstring says
            assert evaluations[name].violation < penalised / 2
            for law, expected in sums.items():
                assert evaluations[name].multipliers[law] == pytest.approx(
                    expected, abs=1e-3
                )
        assert penalised < evaluations["unconstrained"].violation / 2
        for name, one in evaluations.items():
            if "project" in name:
                assert errors[name] < 0.02
                # Four roundings of terms that add up to at most 8, and to measure it.
                assert one.violation < 5 * 8 * np.finfo(np.float32).eps
        assert errors["projected afterwards"] < errors["unconstrained"]
        for name, write in found.figures.items():
            write(tmp_path / f"{name}.png")
            assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        assert "expected" in found.note
