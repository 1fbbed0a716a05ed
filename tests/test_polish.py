"""Newton's method on the KKT conditions, against closed forms and published solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_refused

import jaxcon as jc
from benchmarks.problems.hock_schittkowski import HOCK_SCHITTKOWSKI

# min (x - a)^T Q (x - a) / 2  s.t.  x1 + x2 + x3 = 1, x >= 0: x2 is held at zero.
Q, A = np.diag([1.0, 2.0, 4.0]), np.array([1.0, -3.0, 0.5])
BOX = jc.Constraints(
    {"sum": lambda p, _: jnp.sum(p) - 1.0}, {"positive": lambda p, _: -p}
)
QP = jc.Lagrangian(lambda p, _: (p - A) @ Q @ (p - A) / 2, BOX)


def near(mu, lam, *params):
    held = jc.Constraints({"sum": jnp.array(mu)}, {"positive": jnp.array(lam)})
    return jc.Point(jnp.array(params), held)


@pytest.mark.parametrize("lam", [[0.0, 5.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 3.0]])
def test_polish_finds_the_active_set_and_solves_a_quadratic_program(x64, lam):
    # x1 - 1 = -mu, 4 (x3 - 1/2) = -mu and x1 + x3 = 1: mu = 0.4; x2: 2 (0 + 3) + mu.
    end = jc.polish(QP, near(0.0, lam, 0.3, 0.3, 0.3))
    np.testing.assert_allclose(end.params, [0.6, 0.0, 0.4], atol=1e-14)
    np.testing.assert_allclose(end.multipliers.equality["sum"], 0.4, rtol=1e-13)
    np.testing.assert_allclose(
        end.multipliers.inequality["positive"], [0.0, 6.4, 0.0], rtol=1e-13, atol=1e-14
    )


def test_polish_gives_dependent_residuals_their_shortest_multipliers(x64):
    twice = jc.Constraints({name: lambda p, _: jnp.sum(p) - 1.0 for name in ("a", "b")})
    problem = jc.Lagrangian(lambda p, _: jnp.sum(p**2), twice)
    start = jc.Point(
        jnp.zeros(2), jc.Constraints({"a": jnp.zeros(()), "b": jnp.zeros(())})
    )
    end = jc.polish(problem, start)
    np.testing.assert_allclose(end.params, [0.5, 0.5], rtol=1e-14)
    for mu in end.multipliers.equality.values():
        np.testing.assert_allclose(mu, -0.5, rtol=1e-13)


@pytest.mark.parametrize("name", ["HS36", "HS60", "HS77"])
def test_polish_takes_a_loose_end_of_a_published_problem_to_its_solution(x64, name):
    published = HOCK_SCHITTKOWSKI[name]
    problem = jc.Lagrangian(published.loss, published.constraints)
    solver = jc.augmented_lagrangian_method(problem, tolerance=1e-2)
    start = jnp.asarray(published.start)
    state = jc.fit(solver, start, steps=1000, progress=False).state
    end = jc.polish(problem, state)
    assert type(end) is type(state)
    error = abs(float(problem.loss(end.params, None)) - published.value)
    assert error <= 1e-9 * max(1.0, abs(published.value))
    # Without the penalty, which would multiply the residuals' roundings.
    bare = jc.Point(end.params, end.multipliers)
    assert float(jc.kkt(problem, bare).worst) <= 1e-11 * max(1.0, abs(published.value))
    assert float(jc.kkt(problem, state).worst) > 1e-7


def test_polish_returns_where_it_began_if_no_step_is_better(x64):
    # At a saddle's ridge the curvature is negative: there is no minimum to go to.
    free = jc.Lagrangian(lambda p, _: jnp.cos(p))
    start = jc.Point(jnp.array(0.25), jc.Constraints())
    assert float(jc.polish(free, start).params) == 0.25


def test_polish_refuses_what_it_is_not_for():
    indexed = jc.Lagrangian(
        lambda p, _: p**2,
        jc.Constraints({"h": lambda p, batch: p - batch["y"]}),
        multipliers={"h": jc.multipliers.Indexed(4, "i")},
    )
    point = near(0.0, [0.0] * 3, 0.3, 0.3, 0.3)
    traced = jax.jit(lambda p: jc.polish(QP, point._replace(params=p)))
    rows = [
        (lambda: jc.polish(QP, 1.0), TypeError, "state must have params"),
        (lambda: jc.polish(1.0, point), TypeError, "problem must be"),
        (lambda: jc.polish(QP, point, steps=0), ValueError, "steps must be"),
        (lambda: jc.polish(indexed, point), ValueError, "dense multipliers"),
        (lambda: traced(point.params), TypeError, "polish is computed on the host"),
    ]
    assert_refused(rows)
