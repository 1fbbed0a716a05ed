"""Weights of single residuals, and balances by rates, against their formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_transforms
from tables import assert_refused

import jaxcon as jc

X = np.linspace(0.0, 1.0, 6)
BATCH = {"x": jnp.asarray(X, jnp.float32)[:, None]}


def line(p, batch):
    """A residual that no line makes zero."""
    x = batch["x"][:, 0]
    return p[0] + p[1] * x - x**3


def weighted(rule, **options):
    loss = jc.MeanSquares({"line": line}, weights={"line": rule})
    return jc.Lagrangian(loss, **options)


def run(solver, steps, start=(0.0, 0.0), batch=None):
    batch = BATCH if batch is None else batch
    return jc.fit(solver, jnp.array(start), batch, steps=steps, progress=False)


def attention_by_hand(residuals, decay, rate):
    """The published recursion, over a list of residuals."""
    lam = np.zeros(len(residuals[0]))
    for r in residuals:
        lam = decay * lam + rate * np.abs(r) / np.abs(r).max()
    return lam


def test_residual_attention_is_the_published_recursion_in_a_solver():
    rule = jc.residual_attention(decay=0.9, rate=0.1)
    solver = jc.alternating(weighted(rule), optax.sgd(0.1), optax.set_to_zero())
    state, step = solver.init(jnp.zeros(2), BATCH), jax.jit(solver.step)
    p, residuals = np.zeros(2), []
    A = np.c_[np.ones(6), X]
    for _ in range(4):
        residuals.append(A @ p - X**3)
        weights = attention_by_hand(residuals, 0.9, 0.1) ** 2
        plain = np.mean(residuals[-1] ** 2)
        p = p - 0.1 * 2 / 6 * A.T @ (weights * residuals[-1])
        state, info = step(state, BATCH)
        np.testing.assert_allclose(state.params, p, rtol=1e-5, atol=1e-7)
        # The report is of the loss itself, whatever the weights.
        np.testing.assert_allclose(info.loss, plain, rtol=1e-5)
    np.testing.assert_allclose(state.weights["line"] ** 2, weights, rtol=1e-5)


def test_residual_attention_alone_ends_where_fourth_powers_are_least():
    from scipy.optimize import minimize

    rule = jc.residual_attention(decay=0.9, rate=0.1)
    solver = jc.alternating(weighted(rule), optax.sgd(0.5), optax.set_to_zero())
    found = run(solver, 4000).state.params
    A = np.c_[np.ones(6), X]
    aim = minimize(lambda p: np.sum((A @ p - X**3) ** 4), np.zeros(2), tol=1e-14).x
    np.testing.assert_allclose(found, aim, atol=2e-4)
    least_squares = np.linalg.lstsq(A, X**3, rcond=None)[0]
    assert np.abs(least_squares - aim).max() > 5e-3


def test_causal_weights_are_the_formula_over_time_levels():
    # Three times with two points each, in any order.
    times = np.array([2.0, 0.0, 1.0, 1.0, 0.0, 2.0])
    residual = np.array([0.3, 1.0, -0.5, 2.0, 3.0, 0.1])
    batch = {"points": jnp.asarray(np.c_[np.zeros(6), times], jnp.float32)}
    rule = jc.causal_weights(on="points", index=1, chunks=3, tolerance=0.2)
    levels = [np.mean(residual[times == t] ** 2) for t in (0, 1, 2)]
    expected = [np.exp(-0.2 * sum(levels[: int(t)])) for t in times]

    def of(scale):
        return rule.update(scale * jnp.asarray(residual, jnp.float32), (), batch)[0]

    rows = assert_transforms(of, jnp.array([0.5, 1.0, 2.0]))
    np.testing.assert_allclose(rows[1], expected, rtol=1e-5)
    np.testing.assert_array_equal(of(0.0), np.ones(6))


@pytest.mark.parametrize("on", [{"line": "x"}, {}], ids=["by rows", "whole"])
def test_gauss_newton_takes_the_step_of_weighted_least_squares(x64, on):
    # Hardly damped, it lands on the minimum under the weights of its start.
    rule = jc.causal_weights(on="x", chunks=6, tolerance=3.0)
    problem = weighted(rule)
    primal = jc.gauss_newton(problem, on=on, damping=1e-13)
    solver = jc.alternating(problem, primal, optax.set_to_zero())
    start, batch = jnp.array([1.0, -2.0]), {"x": jnp.asarray(X)[:, None]}
    state, _ = jax.jit(solver.step)(solver.init(start, batch), batch)
    A = np.c_[np.ones(6), X]
    r = A @ np.asarray(start) - X**3
    root = np.exp(-1.5 * np.r_[0, np.cumsum(r**2)[:-1]])[:, None]
    aim = np.linalg.lstsq(root * A, root[:, 0] * X**3, rcond=None)[0]
    np.testing.assert_allclose(state.params, aim, atol=1e-8)


def test_weights_stay_fixed_in_a_search_along_a_line():
    seen = []

    def update(updates, state, params=None, *, value, value_fn, **_):
        seen.append((value, value_fn(params), value_fn(jnp.ones(2))))
        return jax.tree.map(jnp.zeros_like, updates), state

    spy = optax.GradientTransformationExtraArgs(lambda _: (), update)
    rule = jc.residual_attention(decay=0.5, rate=1.0)
    solver = jc.alternating(weighted(rule), spy, optax.set_to_zero())
    solver.step(solver.init(jnp.zeros(2), BATCH), BATCH)
    value, here, there = map(float, seen[0])
    w = (X**3) ** 2  # of the residual -x^3 at the start, whose largest is 1
    np.testing.assert_allclose(here, np.mean(w * X**6), rtol=1e-5)
    assert value == here
    np.testing.assert_allclose(there, np.mean(w * (1 + X - X**3) ** 2), rtol=1e-5)


def test_weights_resume_to_the_bit_and_wait_for_finite_steps(tmp_path):
    rule = jc.residual_attention()
    solver = jc.alternating(weighted(rule), optax.adam(0.1), optax.set_to_zero())
    fit = partial(jc.fit, solver, jnp.zeros(2), BATCH, progress=False)
    whole = fit(steps=12)
    fit(steps=5, checkpoint=tmp_path)
    resumed = fit(steps=12, checkpoint=tmp_path)
    for ours, theirs in zip(*map(jax.tree.leaves, (resumed.state, whole.state))):
        np.testing.assert_array_equal(ours, theirs)
    hole = {"x": BATCH["x"].at[2].set(jnp.nan)}
    state, info = jax.jit(solver.step)(whole.state, hole)
    assert not bool(info.finite)
    np.testing.assert_array_equal(state.weights["line"], whole.state.weights["line"])


def test_weights_follow_points_that_move():
    # The attention grows with x, and it does so at the new points.
    rule = jc.points.rad(line, ([0.0], [1.0]), every=1, candidates=600)
    residual = lambda p, b: b["x"][:, 0] * (1 + 0 * p[0])  # noqa: E731
    loss = jc.MeanSquares(
        {"up": residual}, weights={"up": jc.residual_attention(0.5, 1.0)}
    )
    solver = jc.alternating(
        jc.Lagrangian(loss), optax.sgd(0.1), optax.set_to_zero(), points={"x": rule}
    )
    batch = {"x": jc.points.sobol([0.0], [1.0], 200)}
    state, _ = jax.jit(solver.step)(solver.init(jnp.zeros(2), batch), batch)
    x, largest = state.points["x"][:, 0], batch["x"].max()
    assert not np.any(np.asarray(x == batch["x"][:, 0]))
    # A line is met up to the gap that its neighbours span.
    np.testing.assert_allclose(state.weights["up"], x / largest, atol=2 / 200)


# Balances by rates.


def test_balance_by_loss_rate_is_softadapt_s_formula():
    balance = jc.balance_by_loss_rate(0.5)
    terms = jc.GradientTerms(jnp.ones(2), jc.Constraints({"h": jnp.ones(2)}))
    state = balance.init(terms)
    values = [(3.0, 1.0), (2.0, 1.5), (0.5, 1.0)]
    before = None
    for now in values:
        read = jc.GradientTerms(
            jnp.array(now[0]), jc.Constraints({"h": jnp.array(now[1])})
        )
        moved, state = balance.update(terms, state, values=read)
        rates = np.zeros(2) if before is None else np.subtract(now, before)
        raised = np.exp(0.5 * rates)
        np.testing.assert_allclose(state.weights, 2 * raised / raised.sum(), rtol=1e-5)
        np.testing.assert_allclose(moved.loss, state.weights[0])
        before = now


def three(p, _):
    return jnp.stack([p[0], 2 * p[1], p[0] * p[1]])


def one(p, _):
    return p[0] + 3 * p[1]


def test_balance_by_kernel_trace_has_the_traces_of_whole_jacobians():
    # Of a residual () the estimate is exact, and of orthogonal rows as well; of others it
    # is right on average.
    p = jnp.array([1.0, 0.5])
    rows = {"three": three, "one": one}
    exact = {
        name: float(jnp.sum(jax.jacrev(f)(p, None) ** 2)) for name, f in rows.items()
    }
    loss = jc.MeanSquares({"three": three, "one": one})
    problem = jc.Lagrangian(loss, jc.Constraints({"h": one, "hs": three}), penalty=1.0)

    def weights(seed):
        made = jc.alternating(
            problem,
            optax.set_to_zero(),
            optax.set_to_zero(),
            per_term=jc.balance_by_kernel_trace(every=1, decay=0.0, seed=seed),
        )
        state, _ = made.step(made.init(p))
        return state.terms.memory.traces

    found = np.asarray(jax.jit(jax.vmap(weights))(jnp.arange(4000)))
    np.testing.assert_allclose(found[:, 1], exact["one"], rtol=1e-5)
    aims = [exact["three"] + exact["one"], exact["one"], exact["three"]]
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - aims) < 5 * error + 1e-4).all()


def test_balance_by_kernel_trace_estimates_every_kth_call():
    balance = jc.balance_by_kernel_trace(every=3, decay=0.5)
    terms = jc.GradientTerms(jnp.ones(1), jc.Constraints({"h": jnp.ones(1)}))
    state, found = balance.init(terms), []
    for call in range(4):
        traces = lambda key, call=call: jnp.array([1.0, 1.0 + call])  # noqa: E731
        _, state = balance.update(terms, state, traces=traces)
        found.append(np.asarray(state.weights))
    # 1 : 1, and from the fourth call on (1/4 + 1/2) : (1/4 + 4/2).
    np.testing.assert_allclose(found[0], [2, 2])
    np.testing.assert_array_equal(found[2], found[0])
    np.testing.assert_allclose(found[3], [3 / 0.75, 3 / 2.25], rtol=1e-6)


def test_weights_refuse_what_does_not_fit():
    good = jc.residual_attention()
    solver = jc.alternating(weighted(good), optax.sgd(0.1), optax.set_to_zero())
    state = solver.init(jnp.zeros(2), BATCH)
    other = {"x": jnp.zeros((4, 1))}
    plain = jc.alternating(
        jc.Lagrangian(jc.MeanSquares({"line": line})),
        optax.sgd(1.0),
        optax.set_to_zero(),
    )
    causal = weighted(jc.causal_weights(on="x", chunks=9))
    late = jc.alternating(causal, optax.sgd(0.1), optax.set_to_zero())
    kernels = jc.alternating(
        jc.Lagrangian(lambda p, b: p[0] ** 2, jc.Constraints({"h": one})),
        optax.sgd(0.1),
        jc.dual_ascent(optax.sgd(0.1)),
        per_term=jc.balance_by_kernel_trace(),
    )
    assert_refused(
        [
            (
                lambda: jc.MeanSquares({"line": line}, weights=good),
                TypeError,
                "weights of MeanSquares must be a dict",
            ),
            (
                lambda: jc.MeanSquares({"line": line}, weights={"line": 2.0}),
                TypeError,
                "weights of MeanSquares.*2.0 for 'line'",
            ),
            (
                lambda: jc.MeanSquares({"line": line}, weights={"lin": good}),
                ValueError,
                r"'lin'.*\['line'\]",
            ),
            (
                lambda: solver.step(state, other),
                ValueError,
                ["weights of residual 'line'", "(6,)", "(4,)"],
            ),
            (
                lambda: solver.step(plain.init(jnp.zeros(2), BATCH), BATCH),
                ValueError,
                r"weights of \[\].*\['line'\]",
            ),
            (
                lambda: solver.step(state, jc.SplitBatch(BATCH, BATCH)),
                ValueError,
                "weights of single residuals.*SplitBatch",
            ),
            (
                lambda: late.step(late.init(jnp.zeros(2), BATCH), BATCH),
                ValueError,
                ["chunks=9", "(6,)", "(6, 1)"],
            ),
            (
                lambda: jc.solve(weighted(good), jnp.zeros(2), BATCH),
                ValueError,
                "weights= of the loss are for alternating",
            ),
            (
                lambda: jc.stochastic_lagrangian(weighted(good), steps=2),
                ValueError,
                "weights= of the loss are for alternating",
            ),
            (
                lambda: kernels.step(kernels.init(jnp.zeros(2))),
                ValueError,
                "balance_by_kernel_trace.*MeanSquares",
            ),
        ]
    )
