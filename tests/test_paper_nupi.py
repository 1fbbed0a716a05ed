"""The truth that PI control's distances are held against, by outside solvers."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import jaxcon as jc
from papers import sohrabi2024_nupi as nupi


def dual_solution(batch):
    """alpha* of the dual problem, max sum alpha - 1/2 |sum alpha y x|^2, by SLSQP."""
    rows = batch["y"][:, None] * batch["x"]
    kernel = rows @ rows.T
    return minimize(
        lambda alpha: 0.5 * alpha @ kernel @ alpha - alpha.sum(),
        np.zeros(len(rows)),
        jac=lambda alpha: kernel @ alpha - 1.0,
        bounds=[(0.0, None)] * len(rows),
        constraints={
            "type": "eq",
            "fun": lambda alpha: batch["y"] @ alpha,
            "jac": lambda alpha: batch["y"],
        },
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    ).x


def support_vector_machine(batch):
    """alpha* as the paper computes it."""
    from sklearn.svm import SVC

    fitted = SVC(C=1e8, kernel="linear", tol=1e-8).fit(batch["x"], batch["y"])
    alpha = np.zeros(len(batch["y"]))
    alpha[fitted.support_] = np.abs(fitted.dual_coef_[0])
    return alpha


# SLSQP stops where the objective moves by 1e-15, so at the square root of it in alpha,
# times the conditioning; the other by its own tolerance of 1e-8 on the gradient.
@pytest.mark.parametrize("solver", [dual_solution, support_vector_machine])
def test_nupi_answer_is_that_of_outside_solvers(solver):
    batch = nupi.iris()
    assert batch["x"].shape == (70, 4)
    answer = nupi.solve(batch)
    assert np.count_nonzero(answer.multipliers) == 4
    np.testing.assert_allclose(solver(batch), answer.multipliers, rtol=0, atol=1e-6)


def test_nupi_answer_meets_all_conditions(x64):
    batch = nupi.iris()
    answer = nupi.solve(batch)
    judged = jc.kkt(
        jc.Lagrangian(nupi.loss, nupi.CONSTRAINTS),
        jc.Point(
            answer.params,
            jc.Constraints(inequality={"margin": jnp.asarray(answer.multipliers)}),
        ),
        batch,
    )
    assert judged.worst < 1e-12
    # They are unique: the active rows' gradients are independent.
    active = answer.multipliers > 0
    slopes = np.c_[batch["x"], np.ones(len(batch["y"]))][active]
    assert np.linalg.svd(slopes, compute_uv=False).min() > 0.1


def runs(distance, gradients):
    distance = np.array(distance, float)
    empty = np.zeros(len(distance))
    counted = np.broadcast_to(np.array(gradients), distance.shape)
    gains = np.arange(float(len(distance)))[:, None]
    return nupi.Runs(("rate",), gains, distance, counted, empty, empty, seconds=1.0)


def test_nupi_run_arrives_where_it_stays():
    seen = runs(
        [[3, 0, 2, 1], [0, 0, 0, 0], [3, 3, 3, 3], [np.nan, 9, 1, 0], [0, 1, 1, 5]],
        [1, 2, 3, 4],
    )
    assert seen.arrivals(1.0).tolist() == [4, 1, np.inf, 3, np.inf]
    assert seen.best(1.0) == 1
    assert seen.only("rate", 3.0).arrivals(1.0).tolist() == [3]
    assert seen.total == 20
    # Of those that never arrive the nearest at the end.
    assert seen.best(-1.0) == 1
    dear = runs([[3, 1, 1], [3, 3, 1]], [[10, 20, 30], [1, 2, 3]])
    assert dear.arrivals(1.0).tolist() == [20, 3]
    assert dear.total == 33
