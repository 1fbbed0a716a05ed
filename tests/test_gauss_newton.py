"""Gauss-Newton steps against closed forms, SciPy's solvers and whole Jacobians."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import jaxcon as jc


def affine(params, batch):
    return batch["x"] @ params["w"] + params["b"] - batch["y"]


def sum_of_w(params, _):
    return jnp.sum(params["w"]) - 1.0


def data(seed=0, rows=12):
    draw = np.random.default_rng(seed)
    return {
        "x": jnp.asarray(draw.normal(size=(rows, 3))),
        "y": jnp.asarray(draw.normal(size=rows)),
    }


def start():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


LOSS = jc.MeanSquares({"misfit": affine})
ROWS = {"misfit": ("x", "y")}


def run(method, params, batch, steps):
    state = method.init(params, batch)
    step = jax.jit(method.step)
    for _ in range(steps):
        state, _ = step(state, batch)
    return state


@pytest.mark.parametrize("on", [ROWS, {}], ids=["by rows", "whole"])
def test_an_equality_is_met_as_its_kkt_system_says(x64, on):
    sums = jc.Constraints({"sum": sum_of_w})
    primal = jc.gauss_newton(LOSS, sums, on=on)
    batch = data()
    method = jc.alternating(LOSS, sums, primal, jc.method_of_multipliers(), penalty=1.0)
    state = run(method, start(), batch, 60)

    x, y = np.asarray(batch["x"]), np.asarray(batch["y"])
    A, c = np.c_[x, np.ones(len(x))], np.array([[1.0, 1.0, 1.0, 0.0]])
    system = np.block([[2 / len(x) * A.T @ A, c.T], [c, np.zeros((1, 1))]])
    solved = np.linalg.solve(system, np.r_[2 / len(x) * A.T @ y, 1.0])
    found = np.r_[state.params["w"], state.params["b"]]
    np.testing.assert_allclose(found, solved[:4], atol=1e-10)
    np.testing.assert_allclose(state.multipliers.equality["sum"], solved[4], atol=1e-9)


def test_inequalities_are_met_as_nnls_says(x64):
    def negative(params, _):
        return -params

    def misfit(params, batch):
        return batch["x"] @ params - batch["y"]

    loss = jc.MeanSquares({"misfit": misfit})
    positive = jc.Constraints(inequality={"w >= 0": negative})
    primal = jc.gauss_newton(loss, positive, on=ROWS)
    batch = data(seed=3)
    method = jc.alternating(
        loss, positive, primal, jc.every(jc.method_of_multipliers(), 3), penalty=20.0
    )
    state = run(method, jnp.zeros(3), batch, 150)

    x, y = np.asarray(batch["x"]), np.asarray(batch["y"])
    w, _ = scipy.optimize.nnls(x, y)
    np.testing.assert_allclose(state.params, w, atol=1e-9)
    # Stationarity: 2/n xᵀ(xw - y) = lambda.
    slope = 2 / len(x) * x.T @ (x @ w - y)
    lam = state.multipliers.inequality["w >= 0"]
    np.testing.assert_allclose(lam, slope, atol=1e-8)
    assert 0 < np.count_nonzero(w) < 3  # both kinds are there


def test_without_constraints_it_solves_what_scipy_solves(x64):
    def valley(p, _):
        return jnp.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]])

    loss = jc.MeanSquares({"valley": valley})
    none = jc.Constraints()
    method = jc.alternating(loss, none, jc.gauss_newton(loss), optax.set_to_zero())
    begin = jnp.array([-1.2, 1.0])
    state = run(method, begin, None, 60)
    theirs = scipy.optimize.least_squares(lambda p: np.asarray(valley(p, None)), begin)
    np.testing.assert_allclose(state.params, theirs.x, atol=1e-8)


def test_the_matrix_is_the_objectives_own(x64):
    # Where the objective is quadratic, one hardly damped step ends where Newton's does.
    mixed = jc.Constraints(
        {"sum": sum_of_w},
        {"rows": affine, "b <= 1": lambda p, _: p["b"] - 1.0},
    )
    primal = jc.gauss_newton(LOSS, mixed, on=ROWS | {"rows": ("x", "y")}, damping=1e-13)
    batch, params = data(), {"w": jnp.ones(3), "b": jnp.array(-0.5)}
    method = jc.simultaneous(LOSS, mixed, primal, optax.set_to_zero(), penalty=3.0)
    multipliers = jc.Constraints(
        {"sum": jnp.array(0.3)}, {"rows": jnp.full(12, 0.1), "b <= 1": jnp.array(0.2)}
    )
    state = method.init(params, batch)._replace(multipliers=multipliers)
    moved, _ = jax.jit(method.step)(state, batch)

    def objective(flat):
        p = {"w": flat[:3], "b": flat[3]}
        residuals = jc.evaluate(mixed, p, batch)
        return jc.augmented_lagrangian(LOSS(p, batch), residuals, multipliers, 3.0)

    active = affine(params, batch) + 0.1 / 3 > 0
    assert 0 < jnp.sum(active) < 12
    flat = jnp.r_[params["w"], params["b"]]
    newton = jnp.linalg.solve(jax.hessian(objective)(flat), jax.grad(objective)(flat))
    found = np.r_[moved.params["w"], moved.params["b"]]
    # So it falls, whichever rows are active where it ends, and the first try is made.
    assert objective(flat - newton) < objective(flat)
    np.testing.assert_allclose(found, flat - newton, atol=1e-8)


def test_steps_that_do_not_help_are_damped_or_not_made(x64):
    def far(p, _):
        return jnp.arctan(p)

    loss = jc.MeanSquares({"far": far})
    method = jc.alternating(
        loss, jc.Constraints(), jc.gauss_newton(loss, damping=1e-9), optax.set_to_zero()
    )
    state = method.init(jnp.array(3.0))  # from where plain Gauss-Newton diverges
    first, _ = method.step(state)
    assert abs(first.params) < 3.0
    assert first.primal.damping > 1e-9
    last = run(method, jnp.array(3.0), None, 60)
    assert abs(last.params) < 1e-12


def test_nothing_moves_where_no_damping_helps(x64):
    def cliff(p, _):
        return jnp.where(p == 0, 1 + p, jnp.nan)

    loss = jc.MeanSquares({"cliff": cliff})
    method = jc.alternating(
        loss, jc.Constraints(), jc.gauss_newton(loss), optax.set_to_zero()
    )
    state = method.init(jnp.array(0.0))
    after, info = method.step(state)
    assert info.finite
    assert after.params == 0.0
    np.testing.assert_array_equal(after.primal.damping, state.primal.damping)


def test_float32_parameters_may_have_float64_data(x64):
    sums = jc.Constraints({"sum": sum_of_w})
    primal = jc.gauss_newton(LOSS, sums, on=ROWS)
    batch, low = data(), partial(jax.tree.map, lambda leaf: leaf.astype(jnp.float32))
    method = jc.alternating(LOSS, sums, primal, jc.method_of_multipliers(), penalty=1.0)
    state = run(method, low(start()), batch, 30)
    exact = run(method, start(), batch, 60)
    assert state.params["w"].dtype == state.primal.damping.dtype == jnp.float32
    np.testing.assert_allclose(state.params["w"], exact.params["w"], atol=1e-5)


def test_a_loss_is_a_function_like_others():
    batch = data()
    compiled = jax.jit(LOSS)(start(), batch)
    np.testing.assert_allclose(compiled, jnp.mean(batch["y"] ** 2), rtol=1e-6)
    with pytest.raises(TypeError, match="a dict of functions"):
        jc.MeanSquares(affine)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_jit_is_eager_and_vmap_a_loop(x64):
    sums = jc.Constraints({"sum": sum_of_w})
    method = jc.alternating(
        LOSS,
        sums,
        jc.gauss_newton(LOSS, sums, on=ROWS),
        jc.method_of_multipliers(),
        penalty=1.0,
    )
    batch = data()
    state = method.init(start(), batch)
    eager, _ = method.step(state, batch)
    jitted, _ = jax.jit(method.step)(state, batch)
    close = partial(np.testing.assert_allclose, atol=1e-12)
    jax.tree.map(close, eager, jitted)
    two = jax.tree.map(lambda a, b: jnp.stack([a, b]), state, eager)
    both, _ = jax.vmap(method.step, (0, None))(two, batch)
    jax.tree.map(lambda pair, one: close(pair[0], one), both, eager)
    again, _ = method.step(eager, batch)
    jax.tree.map(lambda pair, one: close(pair[1], one), both, again)


def test_nothing_moves_where_something_is_not_finite():
    method = jc.alternating(
        LOSS, jc.Constraints(), jc.gauss_newton(LOSS, on=ROWS), optax.set_to_zero()
    )
    batch = data()
    state = method.init(start(), batch)
    broken = batch | {"y": batch["y"].at[3].set(jnp.nan)}
    after, _ = jax.jit(method.step)(state, broken)
    assert after.skipped == 1
    jax.tree.map(np.testing.assert_array_equal, after.params, state.params)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"loss": lambda p, _: p}, TypeError, "MeanSquares"),
        ({"damping": 0.0}, ValueError, "damping must be > 0"),
        ({"on": {"mistfit": "x"}}, ValueError, "'mistfit', but the residuals are"),
        (
            {"constraints": jc.Constraints({"misfit": sum_of_w})},
            ValueError,
            "'misfit' names two residuals",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, error, said):
    arguments = {"loss": LOSS} | arguments
    with pytest.raises(error, match=said):
        jc.gauss_newton(**arguments)


@pytest.mark.parametrize(
    ("on", "batch", "said"),
    [
        ("z", data(), "'z' in the batch, which has"),
        ("x", None, "'x' in the batch, which has NoneType"),
        ("x", data(), r"'other' has shape \(3,\) for one row of 'x'"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(on, batch, said):
    loss = jc.MeanSquares({"other": lambda params, _: params["w"]})
    primal = jc.gauss_newton(loss, on={"other": on})
    method = jc.alternating(loss, jc.Constraints(), primal, optax.set_to_zero())
    with pytest.raises(ValueError, match=said):
        method.step(method.init(start(), batch), batch)


def test_a_loss_may_be_nothing(x64):
    sums = jc.Constraints({"sum": sum_of_w})
    loss = jc.MeanSquares({})
    primal = jc.gauss_newton(loss, sums)
    method = jc.alternating(loss, sums, primal, optax.set_to_zero(), penalty=1.0)
    state = run(method, start(), None, 10)
    # The shortest step: the point of the plane that is next to the start.
    np.testing.assert_allclose(state.params["w"], np.full(3, 1 / 3), atol=1e-12)


def fewer(params, batch):
    return affine(params, batch)[:5]


def column(params, batch):
    return affine(params, batch)[:, None]


FEWER = jc.MeanSquares({"misfit": fewer})


@pytest.mark.parametrize(
    ("loss", "primal", "said"),
    [
        (FEWER, jc.gauss_newton(FEWER, on=ROWS), r"shape \(5,\), but the batch has 12"),
        (LOSS, jc.gauss_newton(jc.MeanSquares({}), on={}), "different losses"),
        (
            LOSS,
            jc.gauss_newton(LOSS, jc.Constraints({"sum": sum_of_w})),
            r"constraints \['sum'\] and its order \[\]",
        ),
        *[
            (loss, jc.gauss_newton(loss, on=on), r"shape \(12, 1\), not \(\) or \(n,\)")
            for loss in [jc.MeanSquares({"misfit": column})]
            for on in (ROWS, {})
        ],
    ],
)
def test_what_does_not_fit_the_order_or_the_rows_is_refused(loss, primal, said):
    method = jc.alternating(loss, jc.Constraints(), primal, optax.set_to_zero())
    with pytest.raises(ValueError, match=said):
        method.step(method.init(start(), data()), data())


def test_an_order_that_looks_elsewhere_is_refused():
    method = jc.extragradient(
        LOSS, jc.Constraints(), jc.gauss_newton(LOSS), optax.set_to_zero()
    )
    with pytest.raises(TypeError, match="alternating or jaxcon.simultaneous"):
        method.step(method.init(start(), data()), data())


def test_outside_of_an_order_it_says_where_it_belongs():
    primal = jc.gauss_newton(LOSS)
    with pytest.raises(TypeError, match="by an order"):
        primal.update(start(), primal.init(start()), start())
