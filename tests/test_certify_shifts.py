"""Maxima that are subtracted before exponentials, and on which nothing depends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcon import certify
from jaxcon.certify._shifts import free_shifts
from jaxcon.derivatives import Jacobian, Value, derivatives


def outer(x):
    return jnp.outer(x, x)


def by_hand(x):
    shifted = jnp.exp(x - jnp.max(x))
    return shifted / jnp.sum(jnp.exp(x - jnp.max(x)))


def in_a_loop(x):
    c = jnp.max(x)
    return jax.lax.fori_loop(0, 2, lambda _, y: y + c, x - c)


def straight_through(x):
    c = jnp.max(x)
    return x - 2 * (c - jax.lax.stop_gradient(c))


def transposed(x):
    c = jnp.broadcast_to(jnp.max(outer(x), axis=1)[:, None], (3, 3))
    return c - jax.lax.reshape(c, (3, 3), dimensions=(1, 0))


def beside_infinity(x):
    c = jnp.max(x)
    d = jnp.array([-jnp.inf, 0.0, 0.0]) - c
    return jnp.where(jnp.isfinite(d), d, 0.0) + c


def with_huge_multiples(x):
    c = jnp.max(x)
    return x + ((c * 1e16 + c) - c * 1e16)


def across_rows(x):
    shifted = jnp.exp(outer(x) - jnp.max(outer(x), axis=1, keepdims=True))
    return shifted / jnp.sum(shifted)


FREE = {
    "softmax": (jax.nn.softmax, 1),
    "rows": (lambda x: jax.vmap(jax.nn.softmax)(outer(x)), 1),
    "columns": (lambda x: jax.nn.softmax(outer(x), axis=0), 1),
    "logsumexp": (jax.nn.logsumexp, 1),
    "logsumexp of rows": (lambda x: jax.nn.logsumexp(outer(x), axis=1), 1),
    "by hand": (by_hand, 2),
    "scaled": (lambda x: jnp.exp(2 * (x - jnp.max(x))) / jnp.exp(-2 * jnp.max(x)), 2),
    "maximum": (jnp.max, 0),
    "not normalised": (lambda x: jnp.exp(x - jnp.max(x)), 0),
    "wrong power": (lambda x: jnp.exp(x - jnp.max(x)) / jnp.exp(-2 * jnp.max(x)), 0),
    "of another array": (
        lambda x: jnp.exp(x - jnp.max(x)) * jnp.exp(jnp.max(2 * x)),
        0,
    ),
    "across rows": (across_rows, 0),
    "in a loop": (in_a_loop, 0),
    "straight through": (straight_through, 0),
    "transposed": (transposed, 0),
    "beside infinity": (beside_infinity, 0),
    "huge multiples": (with_huge_multiples, 0),
    "of a constant": (lambda x: x * jnp.max(2.0), 0),
    "sine": (lambda x: jnp.sin(x - jnp.max(x)) + jnp.max(x), 0),
    "compared": (lambda x: jnp.where(jnp.max(x) > 0, x, -x), 0),
}


def evaluated(closed, x, moved, by):
    """Outputs of a jaxpr, some of whose results are moved by a number."""
    jaxpr = closed.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, x]))
    for eqn in jaxpr.eqns:
        inputs = [a.val if hasattr(a, "val") else values[a] for a in eqn.invars]
        found = eqn.primitive.bind(*inputs, **eqn.params)
        found = found if eqn.primitive.multiple_results else [found]
        values.update(zip(eqn.outvars, found))
        if eqn.outvars[0] in moved:
            # Each row by another number.
            by_row = by * (1 + jnp.arange(found[0].size).reshape(found[0].shape))
            values[eqn.outvars[0]] = found[0] + by_row
    return [values[out] for out in jaxpr.outvars]


@pytest.mark.parametrize("name", FREE)
def test_shifts_on_which_nothing_depends_are_found(name):
    f, count = FREE[name]
    x = jnp.array([0.3, -0.2, 0.7])
    closed = jax.make_jaxpr(f)(x)
    free = free_shifts(closed.jaxpr)
    assert len(free) == count
    for by in (0.4, -1.3):
        for out, known in zip(evaluated(closed, x, free, by), [f(x)]):
            np.testing.assert_allclose(out, known, rtol=1e-5, atol=1e-6)


def test_arithmetic_on_a_shift_is_rounded():
    def f(x):
        c = jnp.max(x)
        return jnp.sum((x - ((c + 1e16) - 1e16)) + c)

    low, high = np.zeros(2), np.ones(2)
    [(least, most)] = certify.bounds(f, low, high, Value(), method="forward")
    assert least <= 0
    assert most >= 2


def test_softmax_is_smooth_where_its_largest_entries_tie():
    def f(x):
        return jax.nn.softmax(jnp.stack([x[0], x[1], x[0] * x[1]]))

    enclosed = jax.jit(lambda a, b: certify.bounds(f, a, b, Value(), Jacobian()))
    read = jax.jit(jax.vmap(derivatives(f, Value(), Jacobian())))
    inside = np.random.default_rng(0).uniform(size=(999, 2))
    for side in (0.5, 0.01):
        low = np.array([0.4, 0.4]) - side / 2
        bounds = enclosed(low, low + side)
        for q, bound in zip(read(low + side * inside), bounds):
            assert (q >= bound.lower[None] - 1e-5).all()
            assert (q <= bound.upper[None] + 1e-5).all()
    # The maximum has slopes 0 and 1 on the two sides of the tie.
    assert float(jnp.max(bounds.jacobian.upper - bounds.jacobian.lower)) < 0.02
