"""Shared evaluations: equal operations once, the same values, no wrong merger."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon.lagrangians import shared


def net(act, params, x):
    for layer in params[:-1]:
        x = act(x @ layer)
    return x @ params[-1]


def start(width=64, outputs=3):
    sizes = (2, width, width, outputs)
    keys = jax.random.split(jax.random.key(0), 3)
    return [
        jax.random.normal(k, (m, n)) / m**0.5 for k, m, n in zip(keys, sizes, sizes[1:])
    ]


X = jax.random.uniform(jax.random.key(1), (256, 2))
ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,  # a custom_jvp
    "softmax": lambda x: jax.nn.softmax(x, axis=-1),
    "gelu": jax.nn.gelu,
}


def flops(function, *args):
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


def weighted(function):
    """The gradient of a loss and of the sum of its residuals."""

    def total(params):
        loss, residuals = function(params)
        return loss + sum(map(jnp.sum, jax.tree.leaves(residuals)))

    return jax.grad(total)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_shared_pass_costs_what_one_function_costs(name):
    f = partial(net, ACTIVATIONS[name])
    outputs = lambda params: jax.vmap(partial(f, params))(X)  # noqa: E731

    def natural(params):
        loss = jnp.mean((outputs(params) - 1.0) ** 2)
        return loss, {
            "own": jnp.sum(outputs(params), axis=1) - 1.0,
            "shape": jc.shapes.sums_to(f, on=X)(params, None),
        }

    def by_hand(params):
        y = outputs(params)
        total = jnp.sum(y, axis=1) - 1.0
        return jnp.mean((y - 1.0) ** 2), {"own": total, "shape": total}

    costs = [flops(weighted(g), start()) for g in (shared(natural), by_hand, natural)]
    assert costs[0] <= 1.005 * costs[1]
    assert costs[2] > 1.5 * costs[1]
    # Merged and not, values are the same to the bit, and gradients to roundings.
    for a, b in zip(
        jax.tree.leaves(jax.jit(shared(natural))(start())),
        jax.tree.leaves(jax.jit(natural)(start())),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4),
        jax.jit(weighted(shared(natural)))(start()),
        jax.jit(weighted(natural))(start()),
    )


def test_shared_value_and_derivative_are_one_pass():
    # The loss reads the value where the constraint reads a derivative.
    f = lambda params, x: net(jnp.tanh, params, x)[0]  # noqa: E731
    params = start(outputs=1)

    def natural(params):
        loss = jnp.mean(jax.vmap(partial(f, params))(X) ** 2)
        return loss, {"rises": jc.shapes.increasing(f, 0, on=X)(params, None)}

    def by_hand(params):
        along = jnp.array([1.0, 0.0])
        y, slope = jax.vmap(lambda x: jax.jvp(partial(f, params), (x,), (along,)))(X)
        return jnp.mean(y**2), {"rises": -slope}

    ratio = flops(weighted(shared(natural)), params) / flops(weighted(by_hand), params)
    assert ratio <= 1.005


def test_shared_step_of_a_solver_has_the_flops_of_one_evaluation():
    f = partial(net, jnp.tanh)

    def mse(params, batch):
        return jnp.mean((jax.vmap(partial(f, params))(batch) - 1.0) ** 2)

    def evaluate(params, batch):
        y = jax.vmap(partial(f, params))(batch)
        rule = jc.Constraints({"sum": jnp.sum(y, axis=1) - 1.0})
        return jc.Evaluation(jnp.mean((y - 1.0) ** 2), rule)

    rule = jc.Constraints({"sum": jc.shapes.sums_to(f)})
    costs = []
    for problem in (jc.Lagrangian(mse, rule), jc.Lagrangian(evaluate)):
        solver = jc.alternating(
            problem, optax.adam(0.1), jc.dual_ascent(optax.sgd(0.1))
        )
        costs.append(flops(solver.step, solver.init(start(), X), X))
    assert costs[0] == pytest.approx(costs[1], rel=0.001)


def reversing(factor):
    @jax.custom_jvp
    def identity(x):
        return x

    identity.defjvp(lambda primals, tangents: (primals[0], factor * tangents[0]))
    return identity


def test_shared_keeps_custom_rules_apart():
    # Equal primal functions, other derivatives: a gradient that is scaled, or reversed.
    def two(x):
        return reversing(2.0)(x), reversing(-1.0)(x)

    assert jax.tree.map(float, jax.jacrev(shared(two))(1.0)) == (2.0, -1.0)
    one = reversing(3.0)
    text = str(jax.make_jaxpr(shared(lambda x: (one(x), one(x))))(1.0))
    assert text.count("custom_jvp_call") == 1


def wrapped(factor):
    @jax.custom_vjp
    def identity(x):
        return x

    identity.defvjp(lambda x: (x, None), lambda _, g: (factor * g,))
    return identity


def test_shared_keeps_custom_vjps_apart():
    def two(x):
        return wrapped(2.0)(x), wrapped(-1.0)(x)

    assert jax.tree.map(float, jax.jacrev(shared(two))(1.0)) == (2.0, -1.0)


CONTROL = {
    "scan": lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), c), x, length=3)[0],
    "while": lambda x: jax.lax.while_loop(
        lambda c: c[1] < 3, lambda c: (jnp.sin(c[0]), c[1] + 1), (x, 0)
    )[0],
    "cond": lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    "remat": jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))),
    "jit": jax.jit(lambda x: jnp.sin(x) * 2),
}


@pytest.mark.parametrize("name", CONTROL)
def test_shared_control_flow_is_the_same_function(name):
    def both(x):
        return CONTROL[name](x), CONTROL[name](x + 0.0) * 2, CONTROL[name](x)

    x = jnp.array([0.3, -0.2])
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-6), shared(both)(x), both(x)
    )
    if name != "while":
        for found in (jax.jacrev(shared(both))(x), jax.vmap(shared(both))(x[None])):
            assert jax.tree.leaves(found)[0].size
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-6),
            jax.jacrev(shared(both))(x),
            jax.jacrev(both)(x),
        )


def test_shared_effects_happen_each_time(capsys):
    def both(x):
        jax.debug.print("seen {}", x)
        jax.debug.print("seen {}", x)
        return x, x

    jax.block_until_ready(jax.jit(shared(both))(1.0))
    jax.effects_barrier()
    assert capsys.readouterr().out.count("seen") == 2
