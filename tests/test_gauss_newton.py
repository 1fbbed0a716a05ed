"""Gauss-Newton steps against closed forms, SciPy's solvers and whole Jacobians."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_transforms, close
from tables import assert_refused

import jaxcon as jc


def affine(params, batch):
    return batch["x"] @ params["w"] + params["b"] - batch["y"]


def sum_of_w(params, _):
    return jnp.sum(params["w"]) - 1.0


def data(seed=0, rows=12):
    draw = np.random.default_rng(seed)
    return {
        "x": draw.normal(size=(rows, 3)),
        "y": draw.normal(size=rows),
    }


def start():
    return {"w": np.zeros(3), "b": np.zeros(())}


LOSS = jc.MeanSquares({"misfit": affine})
SUMS = jc.Constraints({"sum": sum_of_w})
ROWS = {"misfit": ("x", "y")}


def run(solver, params, batch, steps):
    """The state after some steps, in one program from the start on."""

    @jax.jit
    def states(params, batch):
        step = lambda state, _: (solver.step(state, batch)[0], None)  # noqa: E731
        return jax.lax.scan(step, solver.init(params, batch), length=steps)[0]

    return states(params, batch)


@pytest.mark.parametrize("on", [ROWS, {}], ids=["by rows", "whole"])
def test_gauss_newton_meets_an_equality_as_its_kkt_system_says(x64, on):
    problem = jc.Lagrangian(LOSS, SUMS, penalty=1.0)
    primal = jc.gauss_newton(problem, on=on)
    batch = data()
    solver = jc.alternating(problem, primal, jc.method_of_multipliers())
    state = run(solver, start(), batch, 60)

    x, y = np.asarray(batch["x"]), np.asarray(batch["y"])
    A, c = np.c_[x, np.ones(len(x))], np.array([[1.0, 1.0, 1.0, 0.0]])
    system = np.block([[2 / len(x) * A.T @ A, c.T], [c, np.zeros((1, 1))]])
    solved = np.linalg.solve(system, np.r_[2 / len(x) * A.T @ y, 1.0])
    found = np.r_[state.params["w"], state.params["b"]]
    np.testing.assert_allclose(found, solved[:4], atol=1e-10)
    np.testing.assert_allclose(state.multipliers.equality["sum"], solved[4], atol=1e-9)


def test_gauss_newton_meets_inequalities_as_nnls_says(x64):
    from scipy.optimize import nnls

    def negative(params, _):
        return -params

    def misfit(params, batch):
        return batch["x"] @ params - batch["y"]

    loss = jc.MeanSquares({"misfit": misfit})
    positive = jc.Constraints(inequality={"w >= 0": negative})
    problem = jc.Lagrangian(loss, positive, penalty=20.0)
    primal = jc.gauss_newton(problem, on=ROWS)
    batch = data(seed=3)
    solver = jc.alternating(problem, primal, jc.every(jc.method_of_multipliers(), 3))
    state = run(solver, jnp.zeros(3), batch, 150)

    x, y = np.asarray(batch["x"]), np.asarray(batch["y"])
    w, _ = nnls(x, y)
    np.testing.assert_allclose(state.params, w, atol=1e-9)
    # Stationarity: 2/n xᵀ(xw - y) = lambda.
    slope = 2 / len(x) * x.T @ (x @ w - y)
    lam = state.multipliers.inequality["w >= 0"]
    np.testing.assert_allclose(lam, slope, atol=1e-8)
    assert 0 < np.count_nonzero(w) < 3  # both kinds are there


def test_gauss_newton_without_constraints_solves_what_scipy_solves(x64):
    from scipy.optimize import least_squares

    def valley(p, _):
        return jnp.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]])

    def in_numpy(p):
        return np.array([10 * (p[1] - p[0] ** 2), 1 - p[0]])

    problem = jc.Lagrangian(jc.MeanSquares({"valley": valley}))
    solver = jc.alternating(problem, jc.gauss_newton(problem), optax.set_to_zero())
    begin = np.array([-1.2, 1.0])
    state = run(solver, begin, None, 60)
    theirs = least_squares(in_numpy, begin)
    np.testing.assert_allclose(state.params, theirs.x, atol=1e-8)


def test_gauss_newton_s_matrix_is_the_objective_s_own(x64):
    # Where the objective is quadratic, one hardly damped step ends where Newton's does.
    mixed = jc.Constraints(
        {"sum": sum_of_w},
        {"rows": affine, "b <= 1": lambda p, _: p["b"] - 1.0},
    )
    problem = jc.Lagrangian(LOSS, mixed, penalty=3.0)
    primal = jc.gauss_newton(problem, on=ROWS | {"rows": ("x", "y")}, damping=1e-13)
    batch, params = data(), {"w": np.ones(3), "b": np.array(-0.5)}
    solver = jc.simultaneous(problem, primal, optax.set_to_zero())
    multipliers = jc.Constraints(
        {"sum": np.array(0.3)}, {"rows": np.full(12, 0.1), "b <= 1": np.array(0.2)}
    )

    @jax.jit
    def moved(params, batch):
        state = solver.init(params, batch)._replace(multipliers=multipliers)
        return solver.step(state, batch)[0].params

    def objective(flat):
        p = {"w": flat[:3], "b": flat[3]}
        residuals = jc.evaluate(mixed, p, batch)
        return jc.augmented_lagrangian(LOSS(p, batch), residuals, multipliers, 3.0)

    active = batch["x"] @ params["w"] + params["b"] - batch["y"] + 0.1 / 3 > 0
    assert 0 < np.sum(active) < 12
    flat = np.r_[params["w"], params["b"]]
    hessian, slope = jax.jit(
        lambda flat: (jax.hessian(objective)(flat), jax.grad(objective)(flat))
    )(flat)
    newton = flat - np.linalg.solve(hessian, slope)
    after = moved(params, batch)
    # So it falls, whichever rows are active where it ends, and the first try is made.
    before, fallen = jax.jit(jax.vmap(objective))(np.stack([flat, newton]))
    assert fallen < before
    np.testing.assert_allclose(np.r_[after["w"], after["b"]], newton, atol=1e-8)


@pytest.mark.parametrize("penalty", [3.0, None])
@pytest.mark.parametrize(
    "damping", [1e-2, 1e-6]
)  # the whole matrix loses eps / damping
@pytest.mark.parametrize("clip", [None, 0.1])
def test_gauss_newton_by_rows_takes_the_step_of_the_whole_matrix(
    x64, penalty, damping, clip
):
    draw = np.random.default_rng(1)
    w = {"w": draw.normal(size=40), "v": draw.normal(size=(2, 10))}

    held = jc.Constraints(
        {"sum": sum_of_w},
        {"low": lambda p, b: b["x"] @ p["w"][:3] - 0.5, "v": lambda p, _: p["v"][0, 0]},
    )

    def misfit(params, batch):
        hidden = jnp.tanh(batch["x"] @ params["w"][:6].reshape(3, 2))
        return hidden @ params["v"][:, 0] - batch["y"]

    problem = jc.Lagrangian(jc.MeanSquares({"misfit": misfit}), held, penalty=penalty)
    primal = jc.gauss_newton(problem, on=ROWS | {"low": ("x",)}, damping=damping)
    if clip is not None:
        primal = optax.chain(optax.clip_by_global_norm(clip), primal)
    batch = data(rows=9)
    multipliers = jc.Constraints(
        {"sum": np.array(0.3)}, {"low": np.full(9, 0.2), "v": np.array(0.7)}
    )
    solver = jc.simultaneous(problem, primal, optax.set_to_zero())

    @jax.jit
    def moved(params, batch):
        state = solver.init(params, batch)._replace(multipliers=multipliers)
        return solver.step(state, batch)[0].params

    theta, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(jnp.asarray, w))

    def objective(theta):
        residuals = jc.evaluate(held, unravel(theta), batch)
        args = problem.loss(unravel(theta), batch), residuals, multipliers
        rho = None if penalty is None else jax.tree.map(lambda _: penalty, multipliers)
        return problem.objective(*args, rho)

    jacobian = jax.jacrev(lambda t: misfit(unravel(t), batch))(theta)
    matrix = 2 / 9 * jacobian.T @ jacobian
    for kind, name, multiplier in (
        ("equality", "sum", 0.3),
        ("inequality", "low", 0.2),
        ("inequality", "v", 0.7),
    ):
        if penalty is None:
            continue

        def residual(t, kind=kind, name=name):
            found = jc.evaluate(held, unravel(t), batch)
            return jnp.atleast_1d(getattr(found, kind)[name])

        rows = jax.jacrev(residual)(theta)
        active = (kind == "equality") | (multiplier + penalty * residual(theta) > 0)
        matrix = matrix + penalty * rows.T @ (active[:, None] * rows)
    gradient = np.asarray(jax.grad(objective)(theta))
    if clip is not None:
        gradient = gradient * clip / np.linalg.norm(gradient)
    matrix = np.asarray(matrix)
    unit = np.trace(matrix) / len(matrix)
    # The first try of which the objective falls is taken; damping doubles, then more.
    found = jax.flatten_util.ravel_pytree(moved(w, batch))[0] - theta
    growth, mu, value = 2.0, damping, float(objective(theta))
    for _ in range(12):
        move = -np.linalg.solve(matrix + mu * unit * np.eye(len(matrix)), gradient)
        if float(objective(theta + move)) <= value:
            break
        mu, growth = growth * mu, 2 * growth
    np.testing.assert_allclose(found, move, rtol=1e-8, atol=1e-8 * np.abs(move).max())


@pytest.mark.parametrize("form", ["products", "rows", "parameters"])
def test_gauss_newton_is_the_same_in_every_form(x64, monkeypatch, form):
    from jaxcon.transforms import _curvature, _gauss_newton

    # Twelve residuals of a weight and one of none, and as many parameters more or less.
    size = 30 if form == "rows" else 6
    if form == "products":
        monkeypatch.setattr(_gauss_newton, "_SIZE", 0)
        monkeypatch.setattr(_curvature, "_LEFT", 1e-12)
    draw = np.random.default_rng(5)
    table = draw.normal(size=(3, size))

    def bent(p, batch):
        return jnp.sin(batch["x"] @ (table @ p)) - batch["y"]

    held = jc.Constraints({"sum": lambda p, _: jnp.sum(p) - 1.0})
    problem = jc.Lagrangian(jc.MeanSquares({"bent": bent}), held, penalty=2.0)
    primal = jc.gauss_newton(problem, damping=1e-2, momentum=0.5)
    solver = jc.alternating(problem, primal, jc.method_of_multipliers())
    batch, params = data(seed=2), 0.1 * draw.normal(size=size)

    def objective(p, mu):
        h = jnp.sum(p) - 1.0
        return jnp.mean(bent(p, batch) ** 2) + mu * h + h**2

    @jax.jit
    def matrix_of(p):
        rows = jax.jacrev(bent)(p, batch)
        return 2 / 12 * rows.T @ rows + 2.0 * jnp.ones((size, size))

    value_of, slope_of = jax.jit(objective), jax.jit(jax.grad(objective))
    step, state = jax.jit(solver.step), solver.init(params, batch)
    last = np.zeros(size)
    for _ in range(3):
        after, _ = step(state, batch)
        p, mu = state.params, after.multipliers.equality["sum"]
        damping, growth = float(state.primal.damping), 2.0
        matrix, slope = map(np.asarray, (matrix_of(p), slope_of(p, mu)))
        # A sketch of a rank below the size knows its trace but roughly.
        unit = np.trace(matrix) / size
        push = 0.5 * last
        for _ in range(12):
            whole = matrix + damping * unit * np.eye(size)
            move = push - np.linalg.solve(whole, slope + matrix @ push)
            if value_of(p + move, mu) <= value_of(p, mu):
                break
            damping, growth, push = growth * damping, 2 * growth, 0 * push
        last = after.params - p
        # The trials differ in roundings, which a damping of a percent magnifies little.
        np.testing.assert_allclose(last, move, rtol=1e-8, atol=1e-8)
        state = after


def test_gauss_newton_by_products_solves_a_wide_problem(x64, monkeypatch):
    from jaxcon.transforms import _gauss_newton

    monkeypatch.setattr(_gauss_newton, "_SIZE", 0)
    draw = np.random.default_rng(6)
    # More of both than the sketch's rank, with singular values over four decades.
    basis = np.linalg.qr(draw.normal(size=(150, 150)))[0]
    batch = {"x": basis[:120] * np.logspace(0, -4, 150), "y": draw.normal(size=120)}
    loss = jc.MeanSquares({"misfit": lambda p, b: b["x"] @ p - b["y"]})
    problem = jc.Lagrangian(loss)
    solver = jc.alternating(problem, jc.gauss_newton(problem), optax.set_to_zero())
    state = run(solver, np.zeros(150), batch, 40)
    assert loss(state.params, batch) < 1e-10  # zero is possible
    assert state.primal.stalled == 0


@pytest.mark.parametrize("kind", ["logistic", "poisson"])
def test_mean_convex_is_minimised_as_newton_s_method_says(x64, kind):
    draw = np.random.default_rng(7)
    x = draw.normal(size=(80, 3))
    score = x @ np.array([1.0, -0.5, 0.3])
    if kind == "logistic":
        y = (draw.uniform(size=80) < 1 / (1 + np.exp(-score))).astype(float)
        convex = lambda r, b: jax.nn.softplus(r) - b["y"] * r  # noqa: E731
        mean = lambda r: 1 / (1 + np.exp(-r))  # noqa: E731
        bend = lambda m: m * (1 - m)  # noqa: E731
    else:
        y = draw.poisson(np.exp(score)).astype(float)
        convex = lambda r, b: jnp.exp(r) - b["y"] * r  # noqa: E731
        mean, bend = np.exp, lambda m: m
    loss = jc.MeanConvex({"score": lambda p, b: b["x"] @ p}, {"score": convex})
    # The fairest: the coefficients add up to a half.
    sums = jc.Constraints({"sum": lambda p, _: jnp.sum(p) - 0.5})
    problem = jc.Lagrangian(loss, sums, penalty=1.0)
    primal = jc.gauss_newton(problem)
    solver = jc.alternating(problem, primal, jc.every(jc.method_of_multipliers(), 3))
    state = run(solver, np.zeros(3), {"x": x, "y": y}, 60)

    w, mu = np.zeros(3), 0.0
    for _ in range(30):
        m = mean(x @ w)
        slope = x.T @ (m - y) / 80 + mu
        whole = np.ones((4, 4))
        whole[:3, :3], whole[3, 3] = x.T @ (bend(m)[:, None] * x) / 80, 0.0
        move = np.linalg.solve(whole, np.r_[slope, np.sum(w) - 0.5])
        w, mu = w - move[:3], mu - move[3]
    np.testing.assert_allclose(state.params, w, atol=1e-9)
    np.testing.assert_allclose(state.multipliers.equality["sum"], mu, atol=1e-9)


def test_gauss_newton_names_residuals_that_it_differentiates_whole():
    centred = jc.MeanSquares({"centred": lambda p, b: b["y"] - jnp.mean(p * b["y"])})
    problem = jc.Lagrangian(centred)
    solver = jc.alternating(problem, jc.gauss_newton(problem), optax.set_to_zero())
    batch = {"y": jnp.ones(100)}
    state = solver.init(jnp.ones(()), batch)
    with pytest.warns(UserWarning, match="100 entries of residual 'centred'"):
        jax.eval_shape(solver.step, state, batch)


def test_gauss_newton_damps_steps_that_do_not_help(x64):
    def far(p, _):
        return jnp.arctan(p)

    problem = jc.Lagrangian(jc.MeanSquares({"far": far}))
    primal = jc.gauss_newton(problem, damping=1e-9)
    solver = jc.alternating(problem, primal, optax.set_to_zero())
    start = solver.init(np.array(3.0))  # from where plain Gauss-Newton diverges

    def step(state, _):
        state, _ = solver.step(state)
        return state, (state.params, state.primal.damping)

    _, (params, damping) = jax.jit(partial(jax.lax.scan, step, length=60))(start)
    assert abs(params[0]) < 3.0
    assert damping[0] > 1e-9
    assert abs(params[-1]) < 1e-12


def test_gauss_newton_moves_nothing_where_no_damping_helps(x64):
    def cliff(p, _):
        return jnp.where(p == 0, 1 + p, jnp.nan)

    problem = jc.Lagrangian(jc.MeanSquares({"cliff": cliff}))
    solver = jc.alternating(problem, jc.gauss_newton(problem), optax.set_to_zero())
    state = solver.init(jnp.array(0.0))
    after, info = jax.jit(solver.step)(state)
    assert info.finite
    assert after.params == 0.0
    np.testing.assert_array_equal(after.primal.damping, state.primal.damping)
    assert after.primal.stalled == 1


def test_gauss_newton_takes_float32_parameters_with_float64_data(x64):
    problem = jc.Lagrangian(LOSS, SUMS, penalty=1.0)
    primal = jc.gauss_newton(problem, on=ROWS)
    batch, low = data(), partial(jax.tree.map, np.float32)
    solver = jc.alternating(problem, primal, jc.method_of_multipliers())
    state = run(solver, low(start()), batch, 30)
    x, y = batch["x"], batch["y"]
    # w = (w₀, w₁, 1 - w₀ - w₁) and b, by least squares.
    basis = np.c_[x[:, :2] - x[:, 2:], np.ones(len(x))]
    (w0, w1, _), *_ = np.linalg.lstsq(basis, y - x[:, 2])
    assert state.params["w"].dtype == state.primal.damping.dtype == jnp.float32
    np.testing.assert_allclose(state.params["w"], [w0, w1, 1 - w0 - w1], atol=1e-5)


def test_mean_squares_is_a_function_like_others():
    batch = data()
    compiled = jax.jit(LOSS)(start(), batch)
    np.testing.assert_allclose(compiled, jnp.mean(batch["y"] ** 2), rtol=1e-6)


@pytest.mark.slow
def test_gauss_newton_is_the_same_under_jit_and_vmap(x64):
    problem = jc.Lagrangian(LOSS, SUMS, penalty=1.0)
    primal = jc.gauss_newton(problem, on=ROWS)
    solver = jc.alternating(problem, primal, jc.method_of_multipliers())
    batch = data()

    def two_steps(params):
        state = solver.init(params, batch)
        step = lambda state, _: solver.step(state, batch)  # noqa: E731
        return jax.lax.scan(step, state, length=2)

    draw = np.random.default_rng(1)
    starts = {"w": draw.normal(size=(3, 3)), "b": draw.normal(size=3)}
    # Normal equations of condition 1e3: roundings of 1e-16 times that, and a few.
    assert_transforms(two_steps, starts, close(5000, np.float64))


def test_gauss_newton_moves_nothing_where_something_is_not_finite():
    problem = jc.Lagrangian(LOSS)
    primal = jc.gauss_newton(problem, on=ROWS)
    solver = jc.alternating(problem, primal, optax.set_to_zero())
    batch = data()
    state = solver.init(start(), batch)
    broken = batch | {"y": np.where(np.arange(12) == 3, np.nan, batch["y"])}
    after, _ = jax.jit(solver.step)(state, broken)
    assert after.skipped == 1
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)


def test_mean_squares_may_be_of_nothing(x64):
    problem = jc.Lagrangian(jc.MeanSquares({}), SUMS, penalty=1.0)
    solver = jc.alternating(problem, jc.gauss_newton(problem), optax.set_to_zero())
    state = run(solver, start(), None, 10)
    # The shortest step: the point of the plane that is next to the start.
    np.testing.assert_allclose(state.params["w"], np.full(3, 1 / 3), atol=1e-12)


def stepped(problem, primal, batch, order=jc.alternating):
    """Traces one step."""
    solver = order(problem, primal, optax.set_to_zero())
    jax.eval_shape(lambda p: solver.step(solver.init(p, batch), batch), start())


def test_gauss_newton_refuses_what_cannot_be_meant():
    ambiguous = jc.Lagrangian(LOSS, jc.Constraints({"misfit": sum_of_w}))
    plain = jc.Lagrangian(lambda p, _: p)
    assert_refused(
        [
            (lambda: jc.MeanSquares(affine), TypeError, "a dict of functions"),
            (lambda: jc.gauss_newton(plain), TypeError, "MeanSquares.* got function"),
            (lambda: jc.gauss_newton(LOSS), TypeError, "Lagrangian.* got MeanSquares"),
            (
                lambda: jc.gauss_newton(jc.Lagrangian(LOSS), damping=0.0),
                ValueError,
                "damping must be > 0",
            ),
            (
                lambda: jc.gauss_newton(jc.Lagrangian(LOSS), momentum=1.0),
                ValueError,
                r"momentum must be in \[0, 1\)",
            ),
            (
                lambda: jc.MeanConvex({"r": affine}, {"s": jnp.exp}),
                ValueError,
                r"convex\['s'\] of MeanConvex is of no residual; there are \['r'\]",
            ),
            (
                lambda: jc.MeanConvex({"r": affine}, {"r": lambda r, _: r[:2]})(
                    start(), data()
                ),
                ValueError,
                r"returned shape \(2,\) for residuals of shape \(12,\)",
            ),
            (
                lambda: jc.gauss_newton(jc.Lagrangian(LOSS), on={"mistfit": "x"}),
                ValueError,
                "'mistfit', but the residuals are",
            ),
            (
                lambda: jc.gauss_newton(ambiguous),
                ValueError,
                "'misfit' names two residuals",
            ),
        ]
    )


def test_gauss_newton_refuses_a_batch_or_rows_that_do_not_fit():
    other = jc.MeanSquares({"other": lambda params, _: params["w"]})
    fewer = jc.MeanSquares({"misfit": lambda p, batch: affine(p, batch)[:5]})
    column = jc.MeanSquares({"misfit": lambda p, batch: affine(p, batch)[:, None]})
    rows = [
        (other, {"other": "z"}, data(), "'z' in the batch, which has"),
        (other, {"other": "x"}, None, "'x' in the batch, which has NoneType"),
        (
            other,
            {"other": "x"},
            data(),
            r"'other' has shape \(3,\) for one row of 'x'",
        ),
        (fewer, ROWS, data(), r"shape \(5,\), but the batch has 12"),
        (column, ROWS, data(), r"shape \(12, 1\), not \(\) or \(n,\)"),
        (column, {}, data(), r"shape \(12, 1\), not \(\) or \(n,\)"),
    ]
    assert_refused(
        [
            (
                partial(stepped, problem, jc.gauss_newton(problem, on=on), batch),
                ValueError,
                words,
            )
            for loss, on, batch, words in rows
            for problem in [jc.Lagrangian(loss)]
        ]
    )


def test_gauss_newton_refuses_a_solver_that_it_was_not_made_for():
    mine, equal = jc.Lagrangian(LOSS), jc.Lagrangian(LOSS)
    others = [
        equal,  # of the same functions, but it may have another penalty
        jc.Lagrangian(jc.MeanSquares({})),
        jc.Lagrangian(LOSS, SUMS),
        jc.Lagrangian(LOSS, SUMS, penalty=1.0),
    ]
    own = jc.gauss_newton(mine)
    assert_refused(
        [
            *(
                (
                    partial(stepped, other, own, data()),
                    ValueError,
                    "different problems: pass the same Lagrangian",
                )
                for other in others
            ),
            (
                lambda: stepped(mine, own, data(), jc.extragradient),
                TypeError,
                "alternating or jaxcon.simultaneous",
            ),
            (
                lambda: own.update(start(), own.init(start()), start()),
                TypeError,
                "objective of a solver",
            ),
        ]
    )
