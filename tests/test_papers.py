"""The papers' files: what each must have, and the truth that numbers are held against."""

import importlib
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import jaxcon as jc
import papers
from papers import __main__ as index
from papers import _table, sohrabi2024_nupi

NAMES = sorted(
    path.stem
    for path in Path(papers.__path__[0]).glob("*.py")
    if not path.stem.startswith("_")
)


@pytest.fixture
def precision():
    """Gives back the precision after a paper has set its own."""
    before = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(params=NAMES)
def paper(request):
    return importlib.import_module(f"papers.{request.param}")


def keys(table):
    return {(row, column) for row in table for column in table[row]}


def test_a_paper_s_recorded_run_is_complete(paper):
    _table.check_same_keys(paper.CLAIMED, paper.MEASURED)
    judged = paper.verdicts(paper.MEASURED)
    assert judged
    assert all(verdict.holds in (True, False) for verdict in judged)
    assert paper.DIFFERENCES
    assert paper.CONDITIONS.seconds <= 15 * 60
    printed = _table.report(
        paper.SUBJECT,
        paper.CLAIMED,
        paper.MEASURED,
        paper.CONDITIONS,
        judged,
        paper.DIFFERENCES,
    )
    assert all(row in printed for row in paper.MEASURED)


@pytest.mark.slow
def test_a_paper_s_smoke_run_fills_the_same_table(paper, precision):
    found = paper.smoke()
    assert keys(found) == keys(paper.MEASURED)
    for row, column in keys(found):
        if paper.MEASURED[row][column] is not None:
            assert math.isfinite(found[row][column].mean), (row, column)


def test_the_index_names_every_paper_and_claim():
    printed = index.index()
    assert index.modules()
    for name in NAMES:
        paper = importlib.import_module(f"papers.{name}")
        assert f"papers.{name}" in printed
        assert all(v.claim in printed for v in paper.verdicts(paper.MEASURED))


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
def test_the_multipliers_that_nupi_is_held_against_are_an_outside_solver_s(solver):
    batch = sohrabi2024_nupi.iris()
    assert batch["x"].shape == (70, 4)
    answer = sohrabi2024_nupi.solve(batch)
    assert np.count_nonzero(answer.multipliers) == 4
    np.testing.assert_allclose(solver(batch), answer.multipliers, rtol=0, atol=1e-6)


def test_the_multipliers_that_nupi_is_held_against_meet_all_conditions(x64):
    batch = sohrabi2024_nupi.iris()
    answer = sohrabi2024_nupi.solve(batch)
    judged = jc.kkt(
        sohrabi2024_nupi.loss,
        sohrabi2024_nupi.CONSTRAINTS,
        answer.params,
        jc.Constraints(inequality={"margin": jnp.asarray(answer.multipliers)}),
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
    return sohrabi2024_nupi.Runs(
        ("rate",), gains, distance, counted, empty, empty, seconds=1.0
    )


def test_a_run_arrives_where_it_stays():
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
