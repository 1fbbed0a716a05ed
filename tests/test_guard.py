"""The guard: a bad batch leaves every leaf to the bit, at little cost."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon.primal_dual._guard import all_finite, keeps_finite

KNOWN = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-2),
    "adam, schedule": optax.adam(optax.warmup_cosine_decay_schedule(0.0, 0.1, 5, 50)),
    "adamw": optax.adamw(1e-2),
    "rmsprop": optax.rmsprop(1e-2),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2)),
}
UNKNOWN = {
    "own": optax.stateless(lambda updates, _: jax.tree.map(jnp.sign, updates)),
    "own schedule": optax.adam(lambda count: 1.0 / count),
    "eps of zero": optax.adam(1e-2, eps=0.0),
    "rate of 1e30": optax.sgd(1e30),
    "lbfgs": optax.lbfgs(),
    "normalized": optax.chain(optax.normalize_by_update_norm(), optax.sgd(0.1)),
    "in a chain": optax.chain(optax.adam(1e-2), optax.apply_every(2)),
    "zero_nans": optax.chain(optax.zero_nans(), optax.adam(1e-2)),
}


def test_keeps_finite_knows_only_what_was_checked():
    for name, transform in KNOWN.items():
        assert keeps_finite(transform), name
        assert keeps_finite(optax.with_extra_args_support(transform)), name
    for name, transform in UNKNOWN.items():
        assert not keeps_finite(transform), name
    # A rate that is being swept is no number yet.
    jax.vmap(lambda rate: [] if keeps_finite(optax.sgd(rate)) else rate)(jnp.ones(2))


def problem(size):
    """Large arrays are checked by a product, small ones entry by entry."""

    def loss(p, batch):
        # At zero the root's slope is infinite, times a factor that is one or zero.
        root = jnp.sqrt(batch["root"]) * p["w"][0, 0]
        return jnp.mean((p["w"] - batch["x"]) ** 2) + root

    rule = jc.Constraints(inequality={"low": lambda p, b: jnp.mean(p["w"]) - b["cap"]})
    batch = {"x": jnp.ones((size, size)), "root": jnp.array(1.0), "cap": jnp.array(0.5)}
    return jc.Lagrangian(loss, rule, penalty=1.0), batch


@jax.custom_jvp
def broken_slope(x):
    return x


broken_slope.defjvp(lambda p, t: (p[0], t[0] * jnp.where(p[0] > 5.0, jnp.inf, 1.0)))


BAD = {
    "nan in the loss": lambda batch: batch | {"x": batch["x"].at[1, 1].set(jnp.nan)},
    "inf in the loss": lambda batch: batch | {"x": batch["x"].at[1, 1].set(jnp.inf)},
    "nan in a residual": lambda batch: batch | {"cap": jnp.array(jnp.nan)},
    "-inf in a residual": lambda batch: batch | {"cap": jnp.array(jnp.inf)},
}


@pytest.mark.parametrize("size", [3, 100])
@pytest.mark.parametrize("name", ["adam", "momentum", "own", "rate of 1e30"])
def test_bad_batch_leaves_every_leaf_to_the_bit(name, size):
    lagrangian, batch = problem(size)
    primal = {**KNOWN, **UNKNOWN}[name]
    solver = jc.alternating(lagrangian, primal, jc.dual_ascent(optax.adam(0.1)))
    state = solver.init({"w": jnp.zeros((size, size))}, batch)
    step = jax.jit(solver.step)
    if name != "rate of 1e30":
        state, info = step(state, batch)
        assert info.finite
    for fault, spoil in BAD.items():
        after, info = step(state, spoil(batch))
        assert not info.finite, fault
        kept = after._replace(step=state.step, skipped=state.skipped)
        for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(state), strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), fault
        assert int(after.skipped) == int(state.skipped) + 1


@pytest.mark.parametrize("size", [3, 100])
@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf, 1e30])
def test_bad_gradient_is_seen_wherever_it_is(value, size):
    # The loss and the residuals are finite: the gradient alone is not, or its square.
    def loss(p, batch):
        return jnp.sum(p * jax.lax.stop_gradient(batch)) * 1e-38

    def slope(p, batch):
        return jnp.sum(p * batch)

    lagrangian = jc.Lagrangian(jax.custom_jvp(loss))
    lagrangian.loss.defjvp(
        lambda primals, tangents: (loss(*primals), slope(tangents[0], primals[1]))
    )
    solver = jc.alternating(lagrangian, optax.adam(0.1), optax.set_to_zero())
    state = solver.init(jnp.zeros((size, size)), jnp.zeros((size, size)))
    step = jax.jit(solver.step)
    rng = np.random.default_rng(0)
    for place in [(0, 0), (size - 1, size - 1), tuple(rng.integers(size, size=2))]:
        good = jnp.asarray(rng.standard_normal((size, size)), jnp.float32)
        bad = good.at[place].set(value)
        # Its opposites below and beside it must not hide it.
        bad = bad.at[(place[0] + 1) % size, place[1]].set(-value)
        bad = bad.at[place[0], (place[1] + 1) % size].set(-value)
        _, info = step(state, good)
        assert info.finite
        kept, info = step(state, bad)
        assert not info.finite
        np.testing.assert_array_equal(kept.params, state.params)


def test_large_but_moderate_gradients_are_taken():
    # Above the sum that is called moderate every entry is looked at, and found finite.
    solver = jc.alternating(
        jc.Lagrangian(lambda p, batch: jnp.sum(p * batch)),
        optax.adam(0.1),
        optax.set_to_zero(),
    )
    state = solver.init(jnp.zeros((100, 100)), jnp.zeros((100, 100)))
    _, info = jax.jit(solver.step)(state, jnp.full((100, 100), 1e12))
    assert info.finite


def test_all_finite_of_every_size_and_dtype():
    for size in (0, 1, 7, 5000, 70_000):
        for dtype in (jnp.float32, jnp.float16, jnp.bfloat16):
            good = jnp.full((size,), 100.0, dtype)
            assert all_finite({"a": good, "b": jnp.arange(3)})
            if size:
                assert not all_finite({"a": good.at[size // 2].set(jnp.inf)})
                assert not all_finite([good, good.at[-1].set(jnp.nan)])
    # What is finite already is not looked at again.
    known = jnp.array(jnp.nan)
    assert all_finite([known, jnp.ones(2)], [known])


def lines(count):
    """Length of the compiled step of so many named constraints."""
    rules = {f"p{i}": lambda p, _, i=i: p[i] - 0.1 for i in range(count)}
    lagrangian = jc.Lagrangian(
        lambda p, _: jnp.sum((p - 1.0) ** 2),
        jc.Constraints(inequality=rules),
        penalty=10.0,
    )
    solver = jc.alternating(
        lagrangian, optax.adam(1e-3), jc.dual_ascent(optax.sgd(1.0))
    )
    state = solver.init(jnp.zeros(count))
    text = jax.jit(solver.step).lower(state).compile().as_text()
    return text.count("\n")


def test_step_of_named_constraints_grows_with_their_number_and_no_faster():
    few, more = lines(20), lines(40)
    assert more < 2.2 * few


def test_step_moves_parameters_in_place():
    # Of the known optimizers no second copy is kept: 10^6 parameters, 3 moments each.
    size = 1000

    def loss(p, x):
        return jnp.mean(jnp.tanh(jnp.tanh(x @ p) @ p) ** 2)

    def temporaries(step, state):
        run = lambda s: jax.lax.scan(step, s, None, length=3)  # noqa: E731
        return jax.jit(run).lower(state).compile().memory_analysis().temp_size_in_bytes

    params, x = jnp.ones((size, size)) / size, jnp.ones((4, size))
    adam = optax.adam(1e-3)
    solver = jc.alternating(jc.Lagrangian(loss), adam, optax.set_to_zero())

    def by_hand(carry, _):
        p, state = carry
        updates, state = adam.update(jax.grad(loss)(p, x), state, p)
        return (optax.apply_updates(p, updates), state), None

    ours = temporaries(
        lambda s, _: (solver.step(s, x)[0], None), solver.init(params, x)
    )
    theirs = temporaries(by_hand, (params, adam.init(params)))
    assert ours <= 1.05 * theirs


def test_guard_under_vmap_is_that_of_each():
    lagrangian, batch = problem(3)
    solver = jc.alternating(lagrangian, optax.adam(0.1), jc.dual_ascent(optax.sgd(0.1)))
    state = solver.init({"w": jnp.zeros((3, 3))}, batch)
    caps = jnp.array([0.5, jnp.nan, 0.2])
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), batch) | {"cap": caps}
    after, info = jax.jit(jax.vmap(solver.step, (None, 0)))(state, many)
    assert info.finite.tolist() == [True, False, True]
    np.testing.assert_array_equal(after.params["w"][1], state.params["w"])
    alone, _ = jax.jit(solver.step)(state, batch | {"cap": caps[2]})
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: close(a[2], b), after.params, alone.params)


def test_gradient_of_opposites_is_no_moderate_one():
    solver = jc.alternating(
        jc.Lagrangian(lambda p, batch: jnp.sum(p * batch)),
        optax.adam(0.1),
        optax.set_to_zero(),
    )
    for shape in ((3000, 2), (2, 3000), (6000,), (10, 20, 30)):
        signs = (-1.0) ** jnp.indices(shape).sum(axis=0)
        state = solver.init(jnp.zeros(shape), signs)
        _, info = jax.jit(solver.step)(state, 1e20 * signs)
        assert not info.finite, shape
