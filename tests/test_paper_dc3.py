"""The programmes of DC3's paper: their seed, their solvers, completion and layer."""

import numpy as np
import pytest

from papers import donti2021_dc3 as dc3

SMALL = dc3.Size(variables=12, rows=5, instances=40, tested=10)


def test_dc3_programmes_are_those_of_their_seed_and_each_is_feasible():
    given = dc3.family(convex=True, size=dc3.Size())
    # Draws of NumPy's seed 17, in the order of their script.
    drawn = given.Q[0], given.p[0], given.A[0, 0], given.x[0, 0], given.G[0, 0]
    known = 0.294665, 0.744979, 0.954574, 0.259434, -0.016589
    np.testing.assert_allclose(drawn, known, atol=1e-6)
    assert given.free[:4].tolist() == [69, 93, 3, 5]
    assert given.x.shape == (10_000, 50)
    # One point is known for each x.
    inside = given.x @ np.linalg.pinv(given.A).T
    assert (inside @ given.G.T <= given.h + 1e-9).all()


@pytest.mark.parametrize("complete", [dc3.solved, dc3.orthonormal])
def test_dc3_completed_points_solve_the_equations(complete):
    given = dc3.family(convex=True, size=SMALL)
    z = np.random.default_rng(0).normal(size=(40, 7))
    y = complete(given)(z, given.x)
    np.testing.assert_allclose(y @ given.A.T, given.x, atol=1e-12)


def test_dc3_solvers_find_the_same_points_and_multipliers(x64):
    given = dc3.family(convex=True, size=SMALL)
    osqp, _ = dc3.by_osqp(given, given.x)
    interior, _ = dc3.interior_point(given, given.x)
    # OSQP stops at 1e-9, in units of its own scaling.
    np.testing.assert_allclose(interior.y, osqp.y, atol=1e-6)
    np.testing.assert_allclose(interior.lam, osqp.lam, atol=1e-6)
    assert (interior.lam > 1e-3).any()
    fitted = dc3.fitted_multipliers(given, interior.y)
    np.testing.assert_allclose(fitted, interior.lam, atol=1e-6)


def test_dc3_nonconvex_answers_meet_all_conditions(x64):
    given = dc3.family(convex=False, size=SMALL)
    answers, _ = dc3.interior_point(given, given.x)
    assert dc3.kkt_residual(given, given.x, answers) < 1e-8
