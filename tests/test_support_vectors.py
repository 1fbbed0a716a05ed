"""The support vector machine on Iris: the truth, PI control and plain ascent's orbit."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each

import jaxcon as jc
from benchmarks import support_vectors as svm

# From Clarabel at 1e-12, to the digits noted then; the rows of the support vectors.
OBJECTIVE = 0.6190278040
MULTIPLIERS = {23: 0.26408606, 41: 0.35494174, 57: 0.21205935, 98: 0.40696846}


@pytest.fixture(scope="module")
def batch():
    return svm.iris()


@pytest.fixture(scope="module")
def answer(batch):
    return svm.solve(batch)


@pytest.fixture(scope="module")
def truth():
    multipliers = np.zeros(100)
    multipliers[list(MULTIPLIERS)] = list(MULTIPLIERS.values())
    return multipliers


# Each of these is run once, in float64, and read by several tests.


@cache
def found_by_search():
    """The gains of PI control of least spectral radius, and what was found of all."""
    data = svm.iris()
    return svm.search(svm.SMOOTH["PI control"], data, svm.solve(data))


@cache
def controlled():
    """PI control at these gains, and its course."""
    gains, _ = found_by_search()
    data = svm.iris()
    solver = svm.SMOOTH["PI control"].make(*gains)
    return solver, svm.run(solver, data, svm.solve(data), steps=3_000)


def closed_form(batch, answer, eta, kp, rho, rate=svm.RATE, momentum=svm.MOMENTUM):
    """One step on the active rows, by hand: of (theta, its momentum, lambda, e before).

    lambda' = lambda + eta (e + kp (e - e before)), v' = momentum v + grad, theta' =
    theta - rate v', where e = A theta and grad = H theta + A^T (lambda' + rho e).
    """
    x, y = batch["x"][answer.support], batch["y"][answer.support]
    a = -y[:, None] * np.c_[x, np.ones(len(y))]
    h = np.diag([1.0, 1.0, 1.0, 1.0, 0.0])
    (m, n), no = a.shape, np.zeros
    lam = np.hstack([eta * (1 + kp) * a, no((m, n)), np.eye(m), -eta * kp * np.eye(m)])
    slope = np.hstack([h + rho * a.T @ a, momentum * np.eye(n), no((n, 2 * m))])
    v = slope + a.T @ lam
    theta = np.hstack([np.eye(n), no((n, n + 2 * m))]) - rate * v
    return np.vstack([theta, v, lam, np.hstack([a, no((m, n + 2 * m))])])


def test_solve_finds_what_another_solver_found(batch, answer, truth):
    assert answer.support.tolist() == list(MULTIPLIERS)
    # Half of the last digit that was noted.
    np.testing.assert_allclose(answer.objective, OBJECTIVE, rtol=0, atol=1e-10)
    np.testing.assert_allclose(answer.multipliers, truth, rtol=0, atol=1e-8)
    # b is free, so the multipliers of the two classes balance; and strong duality.
    np.testing.assert_allclose(batch["y"] @ answer.multipliers, 0, atol=1e-13)
    np.testing.assert_allclose(answer.multipliers.sum(), 2 * answer.objective)


def test_nupi_reaches_objective_and_multipliers(x64, batch, truth):
    solver, course = controlled()
    assert course.reached < 3_000
    state = course.state
    lam = np.asarray(state.multipliers.inequality["margin"])
    # What was asked for; 3,000 steps contract by 0.99037 each, far below it.
    objective = svm.loss(state.params, batch)
    np.testing.assert_allclose(objective, OBJECTIVE, rtol=0, atol=svm.ACCURACY)
    np.testing.assert_allclose(lam, truth, rtol=0, atol=svm.ACCURACY)
    assert np.flatnonzero(lam).tolist() == list(MULTIPLIERS)
    multipliers = solver.problem.multiplier_estimates(state, batch)
    problem = jc.Lagrangian(svm.loss, svm.CONSTRAINTS)
    found = jc.kkt(problem, jc.Point(state.params, multipliers), batch)
    assert found.worst < svm.ACCURACY


def test_nupi_in_float32_comes_as_near_as_its_rounding_lets_it(
    x64, batch, answer, truth
):
    rows = {name: column.astype(np.float32) for name, column in batch.items()}
    solver, _ = controlled()
    lam = svm.run(solver, rows, answer, 3_000).state.multipliers.inequality["margin"]
    assert lam.dtype == jnp.float32
    # Residuals round at 6e-8, and the active rows' singular values go down to 0.24.
    np.testing.assert_allclose(lam, truth, rtol=0, atol=1e-5)


def test_dual_ascent_at_the_same_rate_circles(x64, batch, answer):
    (eta, _), _ = found_by_search()
    plain = svm.SMOOTH["plain ascent"].make(eta)
    value = svm.slowest(closed_form(batch, answer, eta, kp=0.0, rho=0.0))
    assert abs(value) > 1
    near = svm.run(plain, batch, answer, 250, svm.nudged(plain, batch, answer))
    found = near.eigenvalue(1e-6, 1e-3)
    # The other modes are still there, by the ratio of sizes to the hundredth power.
    np.testing.assert_allclose(abs(found), abs(value), rtol=1e-4)
    np.testing.assert_allclose(np.angle(found), np.angle(value), rtol=1e-3)
    # From zero the clamps keep it from running away, but not from circling; they delay
    # it, so it passes the true value less often than twice a period of the linear map.
    course = svm.run(plain, batch, answer, steps=10_000)
    late = course.distance[5_000:]
    assert late.min() > 1e-2
    assert late.max() < 20
    passes = np.sum(course.turns >= 5_000)
    assert 10 < passes < 5_000 / (np.pi / np.angle(value))


@pytest.mark.parametrize(
    "names",
    [
        ["plain ascent", "PI control", "PI control as a penalty"],
        pytest.param(["augmented Lagrangian", "optimistic"], marks=pytest.mark.slow),
    ],
    ids=" and ".join,
)
def test_alternating_step_has_the_eigenvalues_of_its_formula(x64, batch, answer, names):
    rows = {
        "plain ascent": ((0.75,), {"eta": 0.75, "kp": 0.0, "rho": 0.0}),
        "PI control": ((0.75, 100.0), {"eta": 0.75, "kp": 100.0, "rho": 0.0}),
        # A proportional term is a penalty: both weight the residual by eta kp = rho.
        "PI control as a penalty": (
            (0.75, 100.0),
            {"eta": 0.75, "kp": 0.0, "rho": 75.0},
        ),
        "augmented Lagrangian": ((0.75, 75.0), {"eta": 0.75, "kp": 0.0, "rho": 75.0}),
        "optimistic": ((0.75,), {"eta": 0.75, "kp": 1.0, "rho": 0.0}),
    }
    methods = dict.fromkeys(name.removesuffix(" as a penalty") for name in names)

    # All 100 rows here: those that are clamped add zeros only.
    @jax.jit
    def linear_maps(batch):
        return {
            name: svm.linear_map(svm.SMOOTH[name].make(*gains), batch, answer)
            for name, (gains, _) in rows.items()
            if name in methods
        }

    maps = linear_maps(batch)

    def check(name):
        _, by_hand = rows[name]
        ours = np.linalg.eigvals(np.asarray(maps[name.removesuffix(" as a penalty")]))
        theirs = np.linalg.eigvals(closed_form(batch, answer, **by_hand))
        nearest = np.abs(theirs[:, None] - ours).min(axis=1)
        # A k-fold eigenvalue moves by the k-th root of rounding: at zero, where plain
        # ascent keeps the four errors that it never reads, k is large; elsewhere it is
        # at most 2.
        apart = np.abs(theirs) > 1e-2
        assert np.sum(apart) >= 14
        np.testing.assert_allclose(nearest[apart], 0, atol=1e-6)

    assert_each(names, check)


def test_nupi_converges_at_the_rate_of_its_slowest_eigenvalue(x64):
    (_, found), (_, course) = found_by_search(), controlled()
    radius = np.abs(found).min()
    assert radius < 1
    # The best gains make two eigenvalues meet, which a fit tells apart only so well.
    measured = abs(course.eigenvalue(1e-11, 1e-5))
    np.testing.assert_allclose(1 - measured, 1 - radius, rtol=1e-2)
