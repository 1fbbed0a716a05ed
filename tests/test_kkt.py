"""The five residuals vanish at known solutions, and each answers to its own fault."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcon as jc
from benchmarks.problems import PROBLEMS


@pytest.mark.parametrize("name", PROBLEMS)
def test_all_five_vanish_at_a_known_solution(x64, name):
    problem = PROBLEMS[name]()
    judged = jc.kkt(
        problem.loss,
        problem.constraints,
        jnp.array(problem.params),
        jax.tree.map(jnp.array, problem.multipliers),
    )
    # The solutions are of lapack's accuracy, or polished by OSQP to about 1e-12.
    for field, residual in judged._asdict().items():
        assert residual.shape == ()
        np.testing.assert_allclose(residual, 0.0, atol=1e-10, err_msg=field)


# min x² + y² + c·z s.t. x = 1 (μ = -2), y >= 3 (λ = 6), z <= 4 slack (λ = 0), c = 0.
CONSTRAINTS = jc.Constraints(
    equality={"x = 1": lambda p, _: p["x"] - 1.0},
    inequality={
        "y >= 3": lambda p, _: 3.0 - p["yz"][0],
        "z <= 4": lambda p, _: p["yz"][1] - 4.0,
    },
)


@pytest.mark.parametrize(
    ("x", "y", "c", "lam_y", "lam_z", "expected"),
    [
        (1.0, 3.0, 0.0, 6.0, 0.0, {}),
        (1.0, 3.0, 0.5, 6.0, 0.0, {"stationarity": 0.5}),
        # x moves: its own gradient too.
        (1.25, 3.0, 0.0, 6.0, 0.0, {"equality": 0.25, "stationarity": 0.5}),
        (0.75, 3.0, 0.0, 6.0, 0.0, {"equality": 0.25, "stationarity": 0.5}),
        # y = 0 s.t. y >= 3 with λ = 0: stationary, and only infeasible.
        (1.0, 0.0, 0.0, 0.0, 0.0, {"inequality": 3.0}),
        # λ of the slack z <= 4 at z = 0, balanced by c: slackness alone, or with dual.
        (1.0, 3.0, -0.5, 6.0, 0.5, {"slackness": 2.0}),
        (1.0, 3.0, 0.5, 6.0, -0.5, {"dual": 0.5, "slackness": 2.0}),
    ],
    ids=["optimal", "stationarity", "h > 0", "h < 0", "g > 0", "slackness", "dual"],
)
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_each_answers_to_its_own_fault(x, y, c, lam_y, lam_z, expected, jit):
    def loss(p, c):
        return p["x"] ** 2 + p["yz"][0] ** 2 + c * p["yz"][1]

    params = {"x": jnp.array(x), "yz": (jnp.array(y), jnp.array(0.0))}
    multipliers = jc.Constraints(
        {"x = 1": jnp.array(-2.0)},
        {"y >= 3": jnp.array(lam_y), "z <= 4": jnp.array(lam_z)},
    )

    def judge(params, multipliers, batch):
        return jc.kkt(loss, CONSTRAINTS, params, multipliers, batch)

    judged = (jax.jit(judge) if jit else judge)(params, multipliers, jnp.array(c))
    # All numbers are exact in binary.
    zero = dict.fromkeys(jc.KKT._fields, 0.0)
    assert jax.tree.map(float, judged)._asdict() == zero | expected


def test_a_negative_multiplier_of_an_active_constraint_shows_in_dual_alone():
    # max instead of min at the bound: stationary with λ = -2, g = 0.
    judged = jc.kkt(
        lambda p, _: p**2,
        jc.Constraints(inequality={"p <= 1": lambda p, _: p - 1.0}),
        jnp.array(1.0),
        jc.Constraints(inequality={"p <= 1": jnp.array(-2.0)}),
    )
    assert jax.tree.map(float, judged) == jc.KKT(0.0, 0.0, 0.0, 2.0, 0.0)


def test_it_takes_the_largest_entry_not_a_sum():
    constraints = jc.Constraints(
        {"h": lambda p, _: p - jnp.array([1.0, 2.0, 4.0])},
        {"g": lambda p, _: p - jnp.array([-1.0, -3.0, 9.0])},
    )
    multipliers = jc.Constraints(
        {"h": jnp.zeros(3)}, {"g": jnp.array([-0.5, -0.25, 1.0])}
    )
    judged = jc.kkt(lambda p, _: 0.0 * p[0], constraints, jnp.zeros(3), multipliers)
    assert jax.tree.map(float, judged) == jc.KKT(1.0, 4.0, 3.0, 0.5, 9.0)


def test_a_loss_with_aux_and_no_constraints():
    none = jc.Constraints()
    judged = jc.kkt(lambda p, _: (p**2, {"p": p}), none, jnp.array(3.0), none)
    assert jax.tree.map(float, judged) == jc.KKT(6.0, 0.0, 0.0, 0.0, 0.0)


def test_multipliers_of_another_shape_are_refused():
    constraints = jc.Constraints({"h": lambda p, _: p})
    multipliers = jc.Constraints({"h": jnp.zeros(())})
    with pytest.raises(ValueError, match=r"'h' has a residual of shape \(3,\)"):
        jc.kkt(lambda p, _: jnp.sum(p), constraints, jnp.ones(3), multipliers)
