"""Self-scaled quasi-Newton steps against the direct formula, SciPy and L-BFGS."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize
from tables import assert_refused

import jaxcon as jc
from jaxcon.transforms import _broyden


def valley(x, _=None):
    """Rosenbrock's function of any number of variables."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def path(primal, loss, start, steps):
    """Parameters, losses and sizes of the gradient along a run, in one program."""
    problem = jc.Lagrangian(loss)
    solver = jc.alternating(problem, primal, optax.set_to_zero())

    def step(state, _):
        state, info = solver.step(state)
        slope = optax.tree.norm(jax.grad(loss)(state.params, None))
        return state, (state.params, info.loss, slope)

    run = jax.jit(partial(jax.lax.scan, step, length=steps))
    return jax.tree.map(np.asarray, run(solver.init(start))[1])


def direct(B, s, y, by):
    """Al-Baali's class in its direct form: the Hessian itself, by its own formulas."""
    p = len(s)
    sBs, ys = s @ B @ s, y @ s
    b, h = sBs / ys, y @ np.linalg.solve(B, y) / ys
    a = b * h - 1
    if by == "bfgs":
        theta, tau = 0.0, min(1, 1 / b)
    else:
        rho = min(1, h * (1 - np.sqrt(a / (1 + a))))
        theta = max((rho - 1) / a, min(1 / rho, (1 - b) / b))
        sigma = 1 + a * theta
        tau = min(1, 1 / b) * sigma ** (-1 / (p - 1))
        tau = min(tau, min(1, 1 / b) / theta) if theta > 0 else min(tau, sigma)
    w = np.sqrt(sBs) * (y / ys - B @ s / sBs)
    scaled = B - np.outer(B @ s, B @ s) / sBs + theta * np.outer(w, w)
    return tau * scaled + np.outer(y, y) / ys


@pytest.mark.parametrize("by", ["broyden", "bfgs"])
def test_self_scaled_broyden_is_the_inverse_of_the_direct_formula(x64, by):
    update = jax.jit(partial(_broyden._updated, by))
    for seed in range(20):  # of both signs of theta
        draw = np.random.default_rng(seed)
        factor = draw.normal(size=(5, 5))
        B = factor @ factor.T + 0.1 * np.eye(5)
        s = draw.normal(size=5)
        y = 2.0 ** (seed % 5 - 2) * B @ (s + 0.3 * draw.normal(size=5))
        y = y * np.sign(y @ s)
        state = _broyden.SelfScaledState(np.linalg.inv(B), np.array(False))
        after, curved = update(state, s, y, s @ B @ s)
        assert curved
        wanted = np.linalg.inv(direct(B, s, y, by))
        # Solves with B lose its condition, of some 1e4.
        close = partial(np.testing.assert_allclose, rtol=1e-9)
        close(after, wanted, atol=1e-9 * np.abs(wanted).max())
        close(after @ y, s, atol=1e-9 * np.abs(after).max())
        assert np.linalg.eigvalsh(after)[0] > 0


@pytest.mark.parametrize("by", ["broyden", "bfgs"])
def test_self_scaled_broyden_minimises_what_scipy_s_bfgs_does(x64, by):
    start = np.full(10, -1.0)
    params, _, slopes = path(jc.self_scaled_broyden(by=by), valley, start, 150)
    theirs = minimize(
        jax.jit(valley), start, jac=jax.jit(jax.grad(valley)), options={"gtol": 1e-8}
    )
    assert slopes[-1] < 1e-8
    np.testing.assert_allclose(params[-1], np.ones(10), atol=1e-8)
    np.testing.assert_allclose(theirs.x, np.ones(10), atol=1e-8)
    # Iterations count alike: both evaluate a line search at each.
    assert np.argmax(slopes < 1e-8) < 2 * theirs.nit


def test_self_scaled_broyden_ends_on_a_quadratic_of_any_units(x64):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0]
    A = turn @ np.diag(np.logspace(0, 6, 20)) @ turn.T

    def bowl(x, _):
        return x @ A @ x / 2

    _, losses, _ = path(jc.self_scaled_broyden(), bowl, np.ones(20), 120)
    assert losses[-1] < 1e-20 * losses[0]
    # L-BFGS of ten pairs is far from it.
    _, limited, _ = path(optax.lbfgs(), bowl, np.ones(20), 120)
    assert limited[-1] > 1e-8 * limited[0]


def test_self_scaled_broyden_begins_anew_where_no_step_helps():
    def cliff(x, _):
        return jnp.where(jnp.all(x == 1.0), jnp.sum(x), jnp.nan)

    solver = jc.alternating(
        jc.Lagrangian(cliff), jc.self_scaled_broyden(), optax.set_to_zero()
    )
    state = solver.init(jnp.ones(2))
    bent = jnp.diag(jnp.array([1.0, 3.0]))
    state = state._replace(primal=state.primal._replace(inverse=bent))
    state, info = jax.jit(solver.step)(state)
    np.testing.assert_array_equal(state.params, [1.0, 1.0])
    np.testing.assert_array_equal(state.primal.inverse, np.eye(2))
    assert info.finite
    assert state.primal.fresh


def test_self_scaled_broyden_finds_multipliers(x64):
    # The nearest point of a circle's tangent line, by hand: x = (-1, -1), mu = 1/2.
    circle = jc.Constraints({"circle": lambda p, _: p @ p - 2.0})
    problem = jc.Lagrangian(lambda p, _: p[0] + p[1], circle, penalty=10.0)
    dual = jc.every(jc.method_of_multipliers(), 10)
    solver = jc.alternating(problem, jc.self_scaled_broyden(), dual)
    result = jc.fit(solver, jnp.array([-0.5, -1.5]), steps=200)
    np.testing.assert_allclose(result.state.params, [-1.0, -1.0], atol=1e-7)
    np.testing.assert_allclose(
        result.state.multipliers.equality["circle"], 0.5, atol=1e-7
    )


@pytest.mark.slow
def test_self_scaled_broyden_passes_the_loss_at_which_lbfgs_creeps(x64):
    # The viscous Burgers equation; initial and boundary values hold by construction.
    network = jc.layers.mlp(2, width=16)
    points = jc.points.sobol([0.0, -1.0], [1.0, 1.0], 256)

    def solution(params, z):
        t, x = z
        return -jnp.sin(jnp.pi * x) + t * (1 - x**2) * network.apply(params, z)

    def residual(params, z):
        def u(z):
            return solution(params, z)

        first, second = jax.grad(u)(z), jax.hessian(u)(z)
        return first[0] + u(z) * first[1] - 0.02 * second[1, 1]

    def loss(params, _):
        return jnp.mean(jax.vmap(lambda z: residual(params, z))(points) ** 2)

    params = network.init(jax.random.key(1))
    ends = [
        path(primal, loss, params, 500)[1][-1]
        for primal in (jc.self_scaled_broyden(), optax.lbfgs())
    ]
    assert ends[0] < ends[1] / 10  # "orders of magnitude" in the literature


def test_self_scaled_broyden_refuses_what_it_cannot_keep():
    small = jc.self_scaled_broyden(largest=3)
    cases = [
        (
            lambda: small.init(jnp.ones((2, 2))),
            ValueError,
            "self_scaled_broyden keeps a number for each two of the 4 parameters",
        ),
        (
            lambda: small.update(jnp.ones(2), small.init(jnp.ones(2)), jnp.ones(2)),
            TypeError,
            "self_scaled_broyden needs the objective of a solver",
        ),
        (lambda: jc.self_scaled_broyden(by="dfp"), ValueError, "by must be"),
    ]
    assert_refused(cases)
