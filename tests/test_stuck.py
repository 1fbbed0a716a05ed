"""Verdicts on optimizers that find no step any more, and on those that need none."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon.diagnosis._stuck import rows_at_rest
from jaxcon.diagnosis._tracks import Track

STILL = optax.set_to_zero()


def cliff(x, _):
    """Nothing is finite but at (1, 1), where the gradient is not small."""
    return jnp.where(jnp.all(x == 1.0), jnp.sum(x), jnp.nan)


SQUARES = jc.Lagrangian(jc.MeanSquares({"cliff": cliff}))
PRIMALS = {
    "the line search finds no step": (
        lambda: jc.restart_every(optax.lbfgs(), 50),
        "restart_every",
    ),
    "the line search of self_scaled_broyden finds no step": (
        jc.self_scaled_broyden,
        "hand over to gauss_newton",
    ),
    "no step in newton's trust region helps": (jc.newton, "start elsewhere"),
    "no damping of gauss_newton helps": (
        lambda: jc.gauss_newton(SQUARES),
        "start elsewhere",
    ),
}


@pytest.mark.parametrize("finding", PRIMALS)
def test_diagnosis_says_that_no_step_is_found_and_what_to_do(finding):
    make, advice = PRIMALS[finding]
    solver = jc.alternating(SQUARES, make(), STILL)
    (verdict,) = jc.fit(solver, jnp.ones(2), steps=30).diagnosis.verdicts
    assert verdict.kind == "stalled"
    assert verdict.text.startswith(
        f"stalled: {finding}: the parameters rest for the last 30 of 30 steps, but the "
        "Lagrangian's gradient is"
    )
    assert "compute in float64, " in verdict.text
    assert advice in verdict.text


def test_diagnosis_does_not_ask_for_a_precision_that_is_there(x64):
    solver = jc.alternating(SQUARES, optax.lbfgs(), STILL)
    (verdict,) = jc.fit(solver, jnp.ones(2), steps=30).diagnosis.verdicts
    assert verdict.kind == "stalled"
    assert "float64" not in verdict.text


def corner(x, _):
    """A kink that a line search meets, at which no gradient is small."""
    return 1.0 + jnp.abs(x[0] - x[1]) + 0.1 * jnp.sum(x**2)


def test_a_second_phase_that_stops_at_once_is_no_silent_one():
    problem = jc.Lagrangian(corner)
    adam = jc.alternating(problem, optax.adam(0.01), STILL)
    broyden = jc.alternating(problem, jc.self_scaled_broyden(), STILL)
    found = jc.fit([adam, broyden], jnp.array([3.0, -2.0]), steps=[800, 60])
    assert found.history.loss[0] > 2 * found.history.loss[-1]
    (verdict,) = found.diagnosis.verdicts
    assert "the line search of self_scaled_broyden finds no step" in verdict.text


def test_diagnosis_of_runs_that_need_no_step_says_nothing_of_it():
    def bowl(x, _):
        return jnp.sum((x - 1) ** 2)

    # At rest at a minimum.
    for primal in (optax.lbfgs(), jc.self_scaled_broyden(), jc.newton()):
        solver = jc.alternating(jc.Lagrangian(bowl), primal, STILL)
        (verdict,) = jc.fit(solver, jnp.zeros(2), steps=40).diagnosis.verdicts
        assert verdict.kind == "converged"
        assert "step" not in verdict.text
    # At rest by a rate of zero.
    slow = jc.alternating(jc.Lagrangian(bowl), optax.sgd(0.0), STILL)
    (verdict,) = jc.fit(slow, jnp.zeros(2), steps=40).diagnosis.verdicts
    assert "raise the learning rates" in verdict.text


def test_diagnosis_tells_a_penalty_too_small_from_a_search_that_fails():
    rule = jc.Constraints({"x = 1": lambda x, _: x - 1.0})
    problem = jc.Lagrangian(lambda x, _: x**2, rule, penalty=1.0)
    solver = jc.alternating(problem, optax.lbfgs(), STILL)
    (verdict,) = jc.fit(solver, jnp.zeros(()), steps=60).diagnosis.verdicts
    assert verdict.kind == "penalty too small"


def test_rows_at_rest_are_the_last_of_one_number():
    def track(violation):
        zero = np.zeros(len(violation))
        return Track("h", "equality", np.array(violation), zero, zero, zero)

    count = rows_at_rest
    loss = np.array([3.0, 2.0, 2.0, 2.0])
    assert count([], loss, 1e-3, 1e-7) == 3
    assert count([], loss[:0], 1e-3, 1e-7) == 0
    assert count([], loss[1:], 1e-3, 1e-7) == 3
    assert count([track([1.0, 1.0, 0.5, 0.5])], loss, 1e-3, 1e-7) == 2
    # Roundings are no moves; of a violation far below the tolerance neither is more.
    rounded = loss * (1 + 1e-7 * np.array([0, 1, -1, 0]))
    assert count([], rounded, 1e-3, 1.2e-7) == 3
    assert count([track([0.0, 0.0, 1e-12, 0.0])], loss, 1e-3, 1e-7) == 3
