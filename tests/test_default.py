"""The default: `solve`, the two methods behind it, and `newton`."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_refused

import jaxcon as jc
from benchmarks.problems import PROBLEMS
from jaxcon.constraints import evaluate
from jaxcon.transforms import Objective
from jaxcon.transforms._newton import preconditioner

FAST = ("circle", "HS43", "quadratic program", "linear program")


def names():
    return [
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in PROBLEMS
    ]


def solved(case, loss=1.0, constraint=1.0):
    """Solves a problem whose loss and constraints are scaled."""

    def scaled(function):
        return lambda p, batch: constraint * function(p, batch)

    constraints = jax.tree.map(scaled, case.constraints)
    problem = jc.Lagrangian(lambda p, b: loss * case.loss(p, b), constraints)
    return jc.solve(problem, case.start, progress=False)


def assert_solved(case, result, loss=1.0, constraint=1.0):
    for found, known in zip(*map(jax.tree.leaves, (result.state.params, case.params))):
        np.testing.assert_allclose(found, known, atol=1e-7, rtol=1e-7)
    if case.unique:
        pairs = map(jax.tree.leaves, (result.state.multipliers, case.multipliers))
        for found, known in zip(*pairs):
            np.testing.assert_allclose(
                found * constraint / loss, known, atol=1e-5, rtol=1e-5
            )
    assert result.state.rule.finished
    assert result.diagnosis.verdicts[0].kind == "converged"


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", names())
def test_solve_reaches_parameters_and_multipliers(name):
    case = PROBLEMS[name]()
    assert_solved(case, solved(case))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("loss", "constraint"),
    [(1e4, 1e-4), pytest.param(1e-4, 1e4, marks=pytest.mark.slow)],
)
def test_solve_does_not_depend_on_units(loss, constraint):
    case = PROBLEMS["HS43"]()
    assert_solved(case, solved(case, loss, constraint), loss, constraint)


@pytest.mark.usefixtures("x64")
def test_solve_comes_back_from_a_subproblem_without_minimum():
    """The first augmented Lagrangian of -x³ falls for ever beyond the bound."""
    bound = jc.Constraints(inequality={"x <= 2": lambda x, _: x - 2.0})
    problem = jc.Lagrangian(lambda x, _: -(x**3), bound)
    result = jc.solve(problem, 1.0, progress=False)
    np.testing.assert_allclose(result.state.params, 2.0, atol=1e-9)
    np.testing.assert_allclose(result.state.multipliers.inequality["x <= 2"], 12.0)


def test_solve_ends_where_nothing_is_feasible_and_says_so():
    torn = jc.Constraints(
        inequality={"x <= -1": lambda x, _: x + 1.0, "x >= 1": lambda x, _: 1.0 - x}
    )
    result = jc.solve(jc.Lagrangian(lambda x, _: x**2, torn), 2.0, progress=False)
    assert result.state.step < 1000
    assert result.diagnosis.verdicts[0].kind == "infeasible"


@pytest.mark.usefixtures("x64")
def test_solve_says_that_a_loss_falls_without_end():
    zero = jc.Constraints({"y = 0": lambda p, _: p[1]})
    problem = jc.Lagrangian(lambda p, _: -p[0], zero)
    result = jc.solve(problem, jnp.array([1.0, 1.0]), progress=False)
    assert result.state.step < 1000
    assert result.diagnosis.verdicts[0].kind == "diverging"


@pytest.mark.usefixtures("x64")
def test_solve_comes_back_from_where_a_constraint_is_no_number():
    """x^(1/2) >= 1/2 has none beyond 0, where the loss leads."""
    root = jc.Constraints(inequality={"root": lambda x, _: 0.5 - jnp.sqrt(x)})
    result = jc.solve(jc.Lagrangian(lambda x, _: 10.0 * x, root), 9.0, progress=False)
    np.testing.assert_allclose(result.state.params, 0.25, atol=1e-8)


def test_solve_runs_without_constraints():
    result = jc.solve(jc.Lagrangian(lambda x, _: jnp.sum((x - 1) ** 2)), jnp.zeros(3))
    np.testing.assert_allclose(result.state.params, 1.0, atol=1e-5)


def test_solve_goes_on_from_a_checkpoint(tmp_path):
    case = PROBLEMS["HS43"]()
    problem = jc.Lagrangian(case.loss, case.constraints)
    whole = jc.solve(problem, case.start, progress=False)
    jc.solve(problem, case.start, steps=20, checkpoint=tmp_path, progress=False)
    resumed = jc.solve(problem, case.start, checkpoint=tmp_path, progress=False)
    assert resumed.state.step == whole.state.step
    np.testing.assert_array_equal(resumed.state.params, whole.state.params)


def cap(x, _):
    return jnp.mean(x) - 1.0


def aims(key):
    return 2.0 + jax.random.normal(key, (32,))


def test_solve_on_minibatches_finds_the_multiplier():
    """min E (x - a)² with E a = 2, x <= 1: x = 1, lambda = 2."""
    caps = jc.Constraints(inequality={"cap": cap})
    problem = jc.Lagrangian(lambda x, a: jnp.mean((x - a) ** 2), caps)
    run = jc.solve(problem, 0.0, aims, key=jax.random.key(0), steps=3000)
    np.testing.assert_allclose(run.state.params, 1.0, atol=0.02)
    np.testing.assert_allclose(run.state.multipliers.inequality["cap"], 2.0, atol=0.3)


def test_stochastic_lagrangian_holds_points_that_change_by_their_mean_violation():
    """y = p x with p <= 1 asked for at random points, data of slope 2."""

    def below(p, x):
        return p * x - x

    caps = jc.Constraints(inequality={"below": below})
    problem = jc.Lagrangian(lambda p, x: jnp.mean((p * x - 2 * x) ** 2), caps)
    run = jc.solve(
        problem,
        0.0,
        lambda key: jax.random.uniform(key, (16,)),
        key=jax.random.key(1),
        steps=3000,
    )
    np.testing.assert_allclose(run.state.params, 1.0, atol=0.03)
    assert run.state.multipliers.inequality["below"].shape == (16,)


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def descended(f, start, dense, steps):
    """Runs `newton` on a function."""
    primal = jc.newton(dense=dense)

    @jax.jit
    def step(x, state):
        value, gradient = jax.value_and_grad(f)(x)
        move, state = primal.update(gradient, state, x, value=value, value_fn=f)
        return optax.apply_updates(x, move), state

    x, state = start, primal.init(start)
    for _ in range(steps):
        x, state = step(x, state)
    return x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dense", [0, 50], ids=["products", "eigenvalues"])
def test_newton_minimises(dense):
    start = jnp.array([-1.2, 1.0])
    found = descended(rosenbrock, start, dense, steps=60)
    np.testing.assert_allclose(found, 1.0, atol=1e-8)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dense", [0, 50], ids=["products", "eigenvalues"])
def test_newton_leaves_a_saddle(dense):
    """x² - y² + y⁴ has its minima at y = ±1/√2; the gradient at the start lacks y."""

    def f(p):
        return p[0] ** 2 - p[1] ** 2 + p[1] ** 4

    y = 0.0 if dense else 1e-3  # products see no direction that the gradient lacks
    found = descended(f, jnp.array([1.0, y]), dense, steps=40)
    np.testing.assert_allclose(jnp.abs(found), [0.0, 0.5**0.5], atol=1e-6)


def test_newton_does_not_move_into_a_nan():
    """log x is not finite beyond 0, where the first model leads."""
    found = descended(lambda x: x[0] - jnp.log(x[0]), jnp.array([8.0]), 50, steps=40)
    np.testing.assert_allclose(found, 1.0, atol=1e-3)


def test_newton_follows_a_linear_objective_to_its_radius():
    primal = jc.newton()
    x = jnp.array([3.0, 4.0])
    state = primal.init(x)
    f = jnp.sum
    moves, _ = primal.update(jnp.ones(2), state, x, value=f(x), value_fn=f)
    np.testing.assert_allclose(jnp.linalg.norm(moves), state.radius, rtol=1e-3)


def test_methods_refuse_what_alternating_is_for():
    caps = jc.Constraints(inequality={"cap": cap})

    def problem(**options):
        return jc.Lagrangian(lambda x, _: x**2, caps, **options)

    def method(problem):
        return jc.augmented_lagrangian_method(problem)

    def stochastic(problem):
        return jc.stochastic_lagrangian(problem, steps=10)

    ruled = problem(penalty=jc.growing_penalty(1.0, every=5))
    tabled = problem(multipliers={"cap": jc.multipliers.indexed(9, on="index")})
    caught = ValueError
    assert_refused(
        [
            (lambda: method(ruled), caught, "penalty= may be the first"),
            (lambda: method(tabled), caught, "multipliers= of the Lagrangian"),
            (lambda: stochastic(problem(penalty=1.0)), caught, "penalty= of the"),
            (lambda: stochastic(tabled), caught, "multipliers= of the"),
        ]
    )


def test_methods_refuse_a_batch_of_each_side():
    problem = jc.Lagrangian(lambda x, _: x**2, jc.Constraints({"h": cap}))
    both = jc.SplitBatch(jnp.ones(2), jnp.ones(2))
    for solver in (
        jc.augmented_lagrangian_method(problem),
        jc.stochastic_lagrangian(problem, steps=10),
    ):
        with pytest.raises(ValueError, match="one batch for both sides"):
            solver.init(jnp.array(1.0), both)


def test_first_step_measures_the_scales_and_moves_nothing():
    problem = jc.Lagrangian(
        lambda x, _: 5.0 * x[0], jc.Constraints({"h": lambda x, _: 3.0 * x[1] - 6.0})
    )
    solver = jc.augmented_lagrangian_method(problem)
    state = solver.init(jnp.zeros(2))
    after, _ = jax.jit(solver.step)(state)
    np.testing.assert_array_equal(after.params, state.params)
    assert float(after.rule.loss_scale) == 5.0
    assert float(after.rule.scales.equality["h"]) == 3.0
    # 4 |f| / F over the square of the way to feasibility is 0: the least first penalty.
    assert float(after.penalty.equality["h"]) == pytest.approx(0.1 * 5.0 / 9.0)
    number, stationarity, penalty = solver.progress(after)
    assert (number, penalty) == ("subproblem 1", "penalty 5.6e-02")
    assert re.fullmatch(r"stationarity \S+ of 1.0e-01", stationarity)


@pytest.mark.usefixtures("x64")
def test_constraints_rows_precondition_conjugate_gradients():
    # H = sigma I + rho J^T J of a mean of squares under a penalty: its inverse is known.
    rng = np.random.default_rng(0)
    rows, target, v = rng.normal(size=(3, 60)), rng.normal(size=60), rng.normal(size=60)
    held = jc.Constraints({"rows": lambda p, _: rows @ p - 1.0})
    loss = jc.MeanSquares({"distance": lambda p, _: p - target})
    sigma, rho = 2 / 60, 1e4

    def inverse(loss):
        objective = Objective(
            lambda p: loss(p, None) + rho / 2 * jnp.sum((rows @ p - 1.0) ** 2),
            lambda p: evaluate(held, p, None),
            lambda: jc.Constraints({"rows": jnp.full(3, -rho)}),
            lambda: jc.Constraints({"rows": jnp.full(3, rho)}),
            jc.Lagrangian(loss, held),
            None,
        )
        theta = jnp.zeros(60)
        product = jax.linearize(jax.grad(objective), theta)[1]
        return preconditioner(objective, product, theta, lambda theta: theta)(
            product(v)
        )

    np.testing.assert_allclose(inverse(loss), sigma * v, rtol=1e-6, atol=1e-9)
    image = sigma * v + rho * rows.T @ (rows @ v)
    np.testing.assert_allclose(inverse(lambda p, b: loss(p, b)), image, rtol=1e-9)


def test_newton_needs_an_objective():
    primal = jc.newton()
    x = jnp.zeros(2)
    with pytest.raises(TypeError, match="objective of a solver"):
        primal.update(x, primal.init(x), x)
