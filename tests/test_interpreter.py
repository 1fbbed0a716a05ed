"""Awkward programs: loops, branches, rules of their own, numbers that are not real.

A row of the table is a function of x (3,). In both layouts of the tangents its first
and second derivatives, and one of third order by Taylor series, are compared in float64
with nested ``jax.jacfwd``, which handles every one of these programs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcon import derivatives as dv
from jaxcon.derivatives import (
    Gradient,
    HessianDiagonal,
    Jacobian,
    Laplacian,
    Partial,
    Value,
    derivatives,
)

# The speed of the machine code does not matter here, that of the compiler does.
COMPILER = {"xla_backend_optimization_level": 0}
X = np.array([0.3, -0.6, 0.8])
W = np.cos(np.arange(9.0)).reshape(3, 3)


# Loops


def scanned(body, init, xs=None, **kwargs):
    """Returns all that a scan returns as one vector, of floats."""

    def f(x):
        given = xs(x) if xs else None
        out = lax.scan(lambda c, y: body(x, c, y), init(x), given, **kwargs)
        return flat(out)

    return f


def flat(tree):
    leaves = [jnp.ravel(leaf).astype(float) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves)


def zeros(x):
    return jnp.zeros(3)


def grown(x, carry, y):
    """A carry that depends on x from the first turn on."""
    return jnp.sin(carry + x) + carry * x, None


def shifted(x, carry, y):
    """Carries that are constants for another turn each."""
    a, b, c = carry
    return (b, c, jnp.sin(c) * x), a


def rolled(x, carry, y):
    new = jnp.tanh(carry * y + x @ x)
    return new, new * y


def counted(x, carry, y):
    i, total = carry
    return (i + 1, jnp.sin(total + i) * x[y["at"]]), y["row"] @ x


def within_a_scan(x):
    def outer(carry, row):
        inner, ys = lax.scan(lambda c, y: (jnp.sin(c * y), c + y), carry, row * x)
        return inner, ys * carry

    return flat(lax.scan(outer, x[0], jnp.asarray(W)))


def until_x(x):
    """As many turns as x asks for."""

    def proceed(carry):
        return carry[0] < x[2] + 2

    def turn(carry):
        t, y = carry
        return t + 0.9 * jnp.exp(x[0]), jnp.sin(y + t)

    return flat(lax.while_loop(proceed, turn, (0.1, x)))


def until_grown(x):
    """Stops by what it computes; the second carry starts as a constant."""

    def turn(carry):
        y, z = carry
        return y * (1.2 + y * y), jnp.cos(z * y)

    return flat(lax.while_loop(lambda c: jnp.sum(c[0] ** 2) < 9, turn, (x, zeros(x))))


def turned(x):
    """As many turns as an integer says that jax cannot see, so that it is a while."""
    turns = (x[2] * 4).astype(int)
    return lax.fori_loop(0, turns, lambda i, y: jnp.sin(y) * (i + x), jnp.ones(3))


def branch_in_a_loop(x):
    def turn(carry, i):
        return lax.cond(i % 2 == 0, lambda c: jnp.sin(c) * x, lambda c: c, carry), carry

    return flat(lax.scan(turn, jnp.ones(3), jnp.arange(4)))


# Branches


def branches(index, *options):
    return lambda x: flat(lax.switch(index(x), options, x))


def unlike(x):
    """Either branch leaves another output constant, and one returns its input."""
    return flat(
        lax.cond(
            x[0] > 0,
            lambda x: (jnp.sin(x) * x[0], jnp.ones(3), 3),
            lambda x: (jnp.ones(3), x, 4),
            x,
        )
    )


# Rules of their own


@jax.custom_jvp
def doubled(x):
    return jnp.sin(x)


@doubled.defjvp
def _(primals, tangents):
    """Twice the derivative, on purpose."""
    return doubled(*primals), 2 * jnp.cos(primals[0]) * tangents[0]


@jax.custom_jvp
def two(x):
    return jnp.sin(x) * x, jnp.cumsum(x)


@two.defjvp
def _(primals, tangents):
    [x], [t] = primals, tangents
    return two(x), (x * t, jnp.cumsum(2 * doubled(x) * t))


@jax.custom_jvp
def mixing(x):
    """Each entry of the value by itself, but the rule sums over them."""
    return jnp.sin(x)


@mixing.defjvp
def _(primals, tangents):
    [x], [t] = primals, tangents
    return mixing(x), jnp.cumsum(jnp.cos(x) * t)


# Names that primitives have too.
def _named(name, f):
    f.__name__ = name
    return jax.jit(f)


square = _named("square", lambda x: 3 * x**3 + x)
tanh = _named("tanh", lambda x: jnp.exp(x) * x)


def complex_number(x):
    return (x[0] + 1j * x[1]) * jnp.exp(1j * x)


def called_back(x):
    jax.debug.callback(lambda x: None, x)
    return x**3


def of_four(f):
    """A function of vectors whose second derivatives all differ from zero."""
    return lambda x: jnp.sin(f(jnp.asarray(W) @ x + x * x))


PROGRAMS = {
    "scan from a constant": scanned(grown, zeros, length=3),
    "scan that shifts": scanned(
        shifted, lambda x: (jnp.ones(3), zeros(x), zeros(x)), length=4
    ),
    "scan over x": scanned(rolled, lambda x: 0.5, lambda x: x * x),
    "scan backwards": scanned(rolled, lambda x: x[1], lambda x: x, reverse=True),
    "scan by two": scanned(rolled, zeros, lambda x: jnp.outer(x, x), unroll=2),
    "scan over constants": scanned(
        counted,
        lambda x: (0, x[0]),
        lambda x: {"at": jnp.arange(3), "row": jnp.asarray(W)},
    ),
    "scan with no carry": scanned(
        lambda x, c, y: (c, jnp.sin(y) * x), lambda x: (), lambda x: x
    ),
    "scan of no turns": scanned(rolled, lambda x: x, lambda x: jnp.outer(x, x)[:0]),
    "scan that keeps a constant": scanned(
        lambda x, c, y: ((c[0] + 1, c[1] * x), c[0]), lambda x: (0.0, x), length=3
    ),
    "scan in a scan": within_a_scan,
    "while until x": until_x,
    "while until grown": until_grown,
    "turns by x": turned,
    "branch in a loop": branch_in_a_loop,
    "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, lambda x: x**3, x),
    "cond, the other": lambda x: lax.cond(x[0] < 0, jnp.sin, lambda x: x**3, x),
    "cond, constant": branches(lambda x: 0, lambda x: x**3, zeros),
    "cond, constant first": branches(
        lambda x: (x[0] > 0).astype(int), zeros, lambda x: x**3
    ),
    "cond, unlike": unlike,
    "cond of a constant": lambda x: lax.cond(
        x[0] > 0, lambda y: y + 1, lambda y: y, jnp.ones(3)
    ),
    "switch by x": branches(
        lambda x: (4 * x[2]).astype(int) - 2, zeros, jnp.sin, lambda x: x, jnp.exp
    ),
    "own rule": lambda x: doubled(x * x) * doubled(x),
    "own rules of two": lambda x: two(doubled(x))[0] * two(x)[1],
    "own rule that mixes": lambda x: mixing(x * x) ** 2,
    "own rule, part unused": lambda x: two(x)[1] * two(jnp.ones(3))[0],
    "own rule, argument twice": lambda x: jnp.logaddexp(x * x, x * x),
    "own rule, two arguments": lambda x: jnp.logaddexp(x * x, jnp.sin(x)),
    "sort": lambda x: jnp.sort(x**3) * jnp.arange(3.0),
    "sort of several": lambda x: flat(lax.sort((x * x, x**3, jnp.arange(3)))),
    "argsort": lambda x: x[jnp.argsort(x * x)] ** 3 * x,
    "top_k": lambda x: flat(lax.top_k(x**3, 2)) ** 2,
    "integers": lambda x: x**2 * (10 * x).astype(int) + jnp.floor(3 * x),
    "booleans": lambda x: jnp.where((x > 0) & (x < 0.5), x**3, jnp.sin(x)) * (x > -1),
    "remainder": lambda x: jnp.mod(x**2, 0.5) * x,
    "its input": lambda x: x,
    "a constant": lambda x: jnp.ones(2),
    "a linear function": lambda x: jnp.asarray(W) @ x,
    "stopped": lambda x: lax.stop_gradient(x * x) * x**2,
    "itself": lambda x: (x * x) / (x * x) + x**2 - x**2 + jnp.abs(x) ** jnp.abs(x),
    "outer product": lambda x: jnp.ravel(jnp.outer(x, x)) * (x @ x),
    "scalar operands": lambda x: lax.div(lax.mul(jnp.sin(x), x[0]), x[2] * x[1]),
    "scalar over vector": lambda x: lax.div(jnp.exp(x[0]), x),
    "named square": of_four(square),
    "named tanh": of_four(tanh),
    "size of a complex number": lambda x: jnp.abs(complex_number(x)),
    "sign of a complex number": lambda x: jnp.real(jnp.sign(complex_number(x))),
    "power of a spectrum": lambda x: jnp.abs(jnp.fft.fft(x)) ** 3,
    "complex": lambda x: jnp.imag(complex_number(x) ** 2 / jnp.conj(complex_number(x))),
    "checkpoint": lambda x: jax.checkpoint(lambda x: jnp.sin(x) * x)(x * x),
    "checkpoint of a loop": jax.checkpoint(scanned(rolled, zeros, lambda x: x)),
    "checkpoint of a constant": lambda x: jax.checkpoint(jnp.sin)(jnp.ones(3)) * x**2,
    "callback": called_back,
}
# Their second derivative is that between the kinks, of which the library warns.
KINKED = pytest.mark.filterwarnings("ignore:the second derivative")
WANTED = (Value(), Jacobian(), Laplacian(), Partial((0, 2)))


def ours(f, x):
    """Everything in both layouts, and the third order."""
    both = [
        tuple(derivatives(f, *WANTED, mode="forward", unroll=unroll)(x))
        for unroll in (True, False)
    ]
    return both, dv.partial_derivative(f, 0, 2, 0)(x)


def nested(f, x):
    once = jax.jacfwd(f)
    twice = jax.jacfwd(once)
    h = twice(x)
    second = jnp.trace(h, axis1=-2, axis2=-1), h[..., 0, 2]
    third = jax.jvp(lambda x: twice(x)[..., 0, 2], (x,), (jnp.eye(3)[0],))[1]
    return (f(x), once(x), *second), third


def compiled(transform, f):
    return jax.jit(lambda x: transform(f, x), compiler_options=COMPILER)


# Others in the table do the same in another way.
REPEATING = (
    "scan by two",
    "scan in a scan",
    "scan over constants",
    "scan with no carry",
    "while until grown",
    "branch in a loop",
    "checkpoint of a loop",
    "own rules of two",
    "named square",
    "power of a spectrum",
    "sign of a complex number",
)


@KINKED
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in REPEATING else name
        for name in PROGRAMS
    ],
)
def test_a_program_equals_nested_jacfwd(name, x64):
    f, x = PROGRAMS[name], jnp.asarray(X)
    both, third = compiled(ours, f)(x)
    expected, expected_third = compiled(nested, f)(x)
    for found in both:
        for a, b in zip(found, expected):
            close(a, b)
    close(third, expected_third)


def close(a, b):
    # A few dozen roundings, relative to the largest entry.
    scale = max(1.0, float(jnp.max(jnp.abs(b), initial=0)))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("unroll", [True, False])
def test_parameters_that_are_traced_and_mapped(unroll, x64):
    """f closes over tracers of vmap, grad and jit, some of them in loops."""

    def f(params, x):
        def turn(h, w):
            h = jnp.tanh(w @ h)
            return lax.cond(h[0] > 0, lambda h: h * params["s"], jnp.sin, h), h

        h, hs = lax.scan(turn, x, params["w"])
        return h @ h + jnp.sum(hs**3)

    def ours(params, x):
        many = derivatives(lambda x: f(params, x), Laplacian(), unroll=unroll)
        return many(x).laplacian ** 2

    def nested(params, x):
        return jnp.trace(jax.hessian(lambda x: f(params, x))(x)) ** 2

    params = {"w": jnp.stack([W, W.T]), "s": jnp.asarray(1.5)}
    many = jax.tree.map(lambda p: jnp.stack([p, 0.5 * p]), params)
    points = jnp.stack([X, -X])

    def gradients(loss):
        each = jax.vmap(jax.vmap(jax.grad(loss, (0, 1)), (None, 0)), (0, None))
        return jax.jit(each, compiler_options=COMPILER)(many, points)

    jax.tree.map(close, gradients(ours), gradients(nested))


# Precision


def layered(dtype, hidden):
    """A network whose hidden layer may be of another precision than its input."""
    w = jnp.asarray(W, hidden)

    def f(x):
        h = jnp.tanh(w @ x.astype(hidden)) + w[0]
        h = jnp.cumprod(jax.nn.gelu(h) * h)
        return jnp.sum((h / (1 + h * h)).astype(dtype))

    return f


def of_every_kind(f, unroll):
    def at(x):
        weights = np.array([1.0, -2.0, 0.5])
        wanted = Value(), Gradient(), Laplacian(weights), HessianDiagonal()
        many = derivatives(f, *wanted, unroll=unroll)(x)
        return *many, dv.partial_derivative(f, 0, 0, 1)(x)

    return at


@pytest.mark.parametrize("unroll", [True, False])
@pytest.mark.parametrize(
    ("dtype", "hidden"),
    [
        ("float32", "bfloat16"),
        ("float32", "float16"),
        ("bfloat16", "bfloat16"),
        ("float16", "float16"),
        ("bfloat16", "float32"),
    ],
)
def test_the_precision_stays_that_of_x(dtype, hidden, unroll):
    shapes = jax.eval_shape(
        of_every_kind(layered(dtype, hidden), unroll), jnp.asarray(X, dtype)
    )
    assert {y.dtype for y in shapes} == {jnp.dtype(dtype)}


def test_half_precision_is_as_exact_as_it_can_be():
    def result(dtype, hidden):
        every = of_every_kind(layered(dtype, hidden), unroll=None)
        return jax.jit(every, compiler_options=COMPILER)(jnp.asarray(X, dtype))

    # A few dozen roundings of 2^-8.
    for a, b in zip(result("float32", "bfloat16"), result("float32", "float32")):
        scale = max(1.0, float(jnp.max(jnp.abs(b))))
        np.testing.assert_allclose(a, b, rtol=0, atol=0.1 * scale)


def test_a_precision_that_changes_inside_a_call():
    @jax.jit
    def rounded(x):
        return jnp.tanh(x).astype("bfloat16")

    def f(x):
        h = rounded(x) + jnp.ones(3, "bfloat16")
        return jnp.sum((h * h).astype("float32"))

    for unroll in (True, False):
        assert dv.laplacian(f, unroll=unroll)(X.astype("float32")).dtype == "float32"
