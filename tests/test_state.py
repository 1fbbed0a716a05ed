"""State that is not trained: carried, kept at a skipped step, saved, judged with."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc


def evaluate(params, batch, extra):
    """A running mean of the data, a counter and a key, beside a loss that reads them."""
    key, noise = jax.random.split(extra["key"])
    mean = 0.9 * extra["mean"] + 0.1 * jnp.mean(batch)
    error = params - mean + 0.01 * jax.random.normal(noise)
    after = {"key": key, "mean": mean, "count": extra["count"] + 1}
    rule = jc.Constraints(inequality={"low": params - 1.0})
    return jc.Evaluation(error**2, rule, aux={"mean": mean}, extra=after)


def start(solver):
    extra = {"key": jax.random.key(3), "mean": jnp.array(0.0), "count": jnp.array(0)}
    return solver.init(jnp.array(0.0), jnp.zeros(4), extra)


ORDERS = {
    "simultaneous": jc.simultaneous,
    "alternating": jc.alternating,
    "primal first": lambda *args: jc.alternating(*args, first="primal"),
    "extragradient": jc.extragradient,
}


def made(order="alternating", primal=None):
    problem = jc.Lagrangian(evaluate, penalty=1.0)
    primal = optax.adam(0.05) if primal is None else primal
    return ORDERS[order](problem, primal, jc.dual_ascent(optax.sgd(0.1)))


def numbers(tree):
    """All leaves as numbers, those of a key too."""
    leaves = jax.tree.leaves(tree)
    keys = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [
        np.asarray(jax.random.key_data(leaf) if key else leaf)
        for leaf, key in zip(leaves, keys)
    ]


def assert_same_bits(got, want):
    for g, w in zip(numbers(got), numbers(want), strict=True):
        assert g.tobytes() == w.tobytes()


@pytest.mark.parametrize("order", ORDERS)
def test_extra_advances_once_a_step(order):
    solver = made(order)
    state, step = start(solver), jax.jit(solver.step)
    mean, key = 0.0, jax.random.key(3)
    for i in range(3):
        state, info = step(state, jnp.full(4, i + 1.0))
        mean, key = 0.9 * mean + 0.1 * (i + 1), jax.random.split(key)[0]
        np.testing.assert_allclose(info.aux["mean"], mean, rtol=1e-6)
    assert int(state.extra["count"]) == 3
    np.testing.assert_allclose(state.extra["mean"], mean, rtol=1e-6)
    assert_same_bits(state.extra["key"], key)


@pytest.mark.parametrize(
    "primal", [None, optax.chain(optax.scale_by_yogi(), optax.sgd(1.0))]
)
@pytest.mark.parametrize("order", ORDERS)
def test_extra_is_untouched_by_a_skipped_step(order, primal):
    solver = made(order, primal)
    state, step = start(solver), jax.jit(solver.step)
    state, _ = step(state, jnp.ones(4))
    after, info = step(state, jnp.full(4, jnp.nan))
    assert not info.finite
    assert_same_bits(after._replace(step=state.step, skipped=state.skipped), state)
    assert (int(after.step), int(after.skipped)) == (2, 1)


def test_extra_is_saved_and_resumed_to_the_bit(tmp_path):
    solver, batch = made(), jnp.ones(4)
    whole = jc.fit(solver, start(solver), batch, steps=20, progress=False)
    jc.fit(solver, start(solver), batch, steps=12, checkpoint=tmp_path, progress=False)
    state = start(solver)
    again = jc.fit(solver, state, batch, steps=20, checkpoint=tmp_path, progress=False)
    assert_same_bits(again.state, whole.state)
    assert_same_bits(again.best, whole.best)
    best = int(whole.best.step)
    assert int(whole.best.extra["count"]) == best


def test_extra_is_what_kkt_evaluates_with():
    solver, batch = made(), jnp.ones(4)
    state = jc.fit(solver, start(solver), batch, steps=20, progress=False).state
    want = evaluate(state.params, batch, state.extra)
    found = jc.kkt(solver.problem, state, batch)
    residual = float(want.residuals.inequality["low"])
    np.testing.assert_allclose(found.inequality["low"], max(residual, 0.0))
    multiplier = solver.problem.multiplier_estimates(state, batch).inequality["low"]
    slope = 2 * float(jnp.sqrt(want.loss)) + float(multiplier)
    error = state.params - want.aux["mean"]
    assert abs(found.stationarity) == pytest.approx(slope, rel=1e-3) or error < 0


def test_extra_that_does_not_fit_is_refused():
    problem = jc.Lagrangian(lambda p, batch: jc.Evaluation(p**2, extra=p))
    solver = jc.alternating(problem, optax.sgd(0.1), optax.set_to_zero())
    with pytest.raises(ValueError, match=r"init\(params, batch, extra\)"):
        solver.init(0.0)
    problem = jc.Lagrangian(lambda p, batch, extra: p**2)
    solver = jc.alternating(problem, optax.sgd(0.1), optax.set_to_zero())
    with pytest.raises(ValueError, match="next extra state"):
        solver.init(0.0, None, jnp.array(1.0))


def test_evaluation_gives_residuals_of_its_own_or_the_problem_does():
    def both(p, _):
        return jc.Evaluation(p**2, jc.Constraints({"h": p - 1.0}))

    solver = jc.alternating(
        jc.Lagrangian(both, penalty=1.0), optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.5))
    )
    apart = jc.Lagrangian(
        lambda p, _: p**2, jc.Constraints({"h": lambda p, _: p - 1.0}), penalty=1.0
    )
    other = jc.alternating(apart, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.5)))
    ends = [
        jc.fit(one, jnp.array(0.0), steps=50, progress=False).state
        for one in (solver, other)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *ends)
    twice = jc.Lagrangian(both, jc.Constraints({"k": lambda p, _: p}))
    with pytest.raises(ValueError, match="one of the two"):
        twice.evaluate(jnp.array(0.0))
    # Names are known at the first evaluation, and checked there.
    unknown = jc.Lagrangian(both, penalty={"g": 1.0})
    with pytest.raises(ValueError, match=r"penalty of 'g': no such constraint"):
        unknown.evaluate(jnp.array(0.0))


def test_evaluation_has_gradients_of_single_terms():
    def both(p, _):
        rules = jc.Constraints({"h": p[0] - 1.0}, {"g": p[1:] + 1.0})
        return jc.Evaluation(jnp.sum(p**2), rules)

    problem = jc.Lagrangian(both, penalty=2.0)
    solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.5)))
    state = solver.init(jnp.array([0.5, 0.25, -2.0]))
    found = solver.gradients(state)
    np.testing.assert_allclose(found.loss, [1.0, 0.5, -4.0])
    # After the dual step: mu = 0.5 * -0.5, and lambda = 0.5 * (1.25, 0).
    h, g = -0.5, 1.25
    np.testing.assert_allclose(found.constraints.equality["h"], [0.5 * h + 2 * h, 0, 0])
    np.testing.assert_allclose(
        found.constraints.inequality["g"], [0, 0.5 * g + 2 * g, 0]
    )
