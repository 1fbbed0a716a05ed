"""Awkward programs: loops, branches, rules of their own, numbers that are not real.

A row of the table is a function of x (3,). In both layouts of the tangents its first
and second derivatives in two of the inputs, and one of third order by Taylor series, are
compared in float64 with nested ``jax.jacfwd``, which handles every one of these programs.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from tables import assert_each

from jaxcon import derivatives as dv
from jaxcon.derivatives import (
    Gradient,
    HessianDiagonal,
    Laplacian,
    Partial,
    Value,
    derivatives,
)

# The speed of the machine code does not matter here, that of the compiler does.
COMPILER = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}
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


def size_sign_and_angle(x):
    number = complex_number(x)
    sign = jnp.real(jnp.sign(number))
    return jnp.abs(number) + sign + jnp.imag(number / jnp.conj(number))


def called_back(x):
    jax.debug.callback(lambda x: None, x)
    jax.debug.callback(lambda n: None, 3)  # of no output and nothing that varies
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
    "slopes written out": lambda x: (
        jnp.cos(x * x) * lax.logistic(x * x) + lax.square(x) * jnp.exp(x)
    ),
    "relu": lambda x: jax.nn.relu(x**3) * x,
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
    "size, sign and angle of a complex number": size_sign_and_angle,
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
# Of two of the three inputs: no axis of tangents has the length of another one.
WEIGHTS = np.array([2.0, 0.0, -1.0])
WANTED = (Value(), Partial(0), Partial(2), Laplacian(WEIGHTS), Partial((0, 2)))


def ours(f, x):
    """Everything in both layouts, and the third order."""
    both = [
        tuple(derivatives(f, *WANTED, mode="forward", unroll=unroll)(x))
        for unroll in (True, False)
    ]
    return both, dv.partial_derivative(f, 0, 2, 0)(x)


def nested(f, x):
    """The same along the lines x + a e0 + b e2, whose derivatives are one chain."""
    inputs = jnp.eye(3)[jnp.array([0, 2])]

    def value(z):
        y = f(x + z @ inputs)
        return y, y

    def once(z):
        j, y = jax.jacfwd(value, has_aux=True)(z)
        return j, (y, j)

    def twice(z):
        h, (y, j) = jax.jacfwd(once, has_aux=True)(z)
        return y, j, h

    first = jnp.array([1.0, 0.0])
    (y, j, h), (_, _, third) = jax.jvp(twice, (jnp.zeros(2),), (first,))
    laplacian = 2.0 * h[..., 0, 0] - h[..., 1, 1]
    return (y, j[..., 0], j[..., 1], laplacian, h[..., 0, 1]), third[..., 0, 1]


# Others in the table do the same in another way.
REPEATING = (
    "scan over x",
    "scan by two",
    "scan in a scan",
    "scan over constants",
    "scan with no carry",
    "while until grown",
    "branch in a loop",
    "turns by x",
    "cond",
    "cond, the other",
    "cond, constant first",
    "sort of several",
    "size of a complex number",
    "complex",
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
def test_derivatives_of_a_program_equal_nested_jacfwd(name, x64):
    f = PROGRAMS[name]

    def compared(x):
        return ours(f, x), nested(f, x)

    found, expected = jax.jit(compared, compiler_options=COMPILER)(X)
    both, third = found
    for layout in both:
        for a, b in zip(layout, expected[0], strict=True):
            close(a, b)
    close(third, expected[1])


def close(a, b):
    # A few dozen roundings, relative to the largest entry.
    scale = max(1.0, float(jnp.max(jnp.abs(b), initial=0)))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * scale)


def test_laplacian_of_traced_and_mapped_parameters_equals_nested_transforms(x64):
    """f closes over tracers of vmap, grad and jit, some of them in loops."""

    def f(params, x):
        def turn(h, w):
            h = jnp.tanh(w @ h)
            return lax.cond(h[0] > 0, lambda h: h * params["s"], jnp.sin, h), h

        h, hs = lax.scan(turn, x, params["w"])
        return h @ h + jnp.sum(hs**3)

    def ours(unroll, params, x):
        many = derivatives(lambda x: f(params, x), Laplacian(), unroll=unroll)
        return many(x).laplacian ** 2

    def nested(params, x):
        return jnp.trace(jax.hessian(lambda x: f(params, x))(x)) ** 2

    @partial(jax.jit, compiler_options=COMPILER)
    def gradients(params, points):
        return [
            jax.vmap(jax.vmap(jax.grad(loss), (None, 0)), (0, None))(params, points)
            for loss in (partial(ours, True), partial(ours, False), nested)
        ]

    params = {"w": np.stack([W, W.T]), "s": np.array(1.5)}
    many = jax.tree.map(lambda p: np.stack([p, 0.5 * p]), params)
    *found, expected = gradients(many, np.stack([X, -X]))
    for each in found:
        jax.tree.map(close, each, expected)


# Precision


def layered(dtype, hidden):
    """A network whose hidden layer may be of another precision than its input."""
    w = jnp.asarray(W, hidden)

    def f(x):
        h = jnp.tanh(w @ x.astype(hidden)) + w[0]
        h = jnp.cumprod(jax.nn.gelu(h) * h)
        return jnp.sum((h / (1 + h * h)).astype(dtype))

    return f


TOGETHER = Value(), Gradient(), Laplacian(np.array([1.0, -2.0, 0.5]))


def of_every_kind(f, unroll, *wanted):
    def at(x):
        many = derivatives(f, *wanted, unroll=unroll)(x)
        return *many, dv.partial_derivative(f, 0, 0, 1)(x)

    return at


PRECISIONS = [
    ("float32", "bfloat16"),
    ("float16", "float16"),
    ("bfloat16", "float32"),
]


def test_derivatives_keep_the_precision_of_x():
    def check(row):
        dtype, hidden, unroll = row
        shapes = jax.eval_shape(
            of_every_kind(layered(dtype, hidden), unroll, *TOGETHER, HessianDiagonal()),
            jax.ShapeDtypeStruct((3,), dtype),
        )
        assert {y.dtype for y in shapes} == {jnp.dtype(dtype)}

    assert_each(
        [(*row, unroll) for row in PRECISIONS for unroll in (True, False)], check
    )


def test_derivatives_of_a_half_precision_layer_are_as_exact_as_it_can_be():
    @partial(jax.jit, compiler_options=COMPILER)
    def both(x):
        return [
            of_every_kind(layered("float32", hidden), False, *TOGETHER)(x)
            for hidden in ("bfloat16", "float32")
        ]

    # A few dozen roundings of 2^-8.
    for a, b in zip(*both(X.astype("float32")), strict=True):
        scale = max(1.0, float(np.max(np.abs(b))))
        np.testing.assert_allclose(a, b, rtol=0, atol=0.1 * scale)


def test_laplacian_keeps_the_precision_of_x_where_a_call_changes_it():
    @jax.jit
    def rounded(x):
        return jnp.tanh(x).astype("bfloat16")

    def f(x):
        h = rounded(x) + jnp.ones(3, "bfloat16")
        return jnp.sum((h * h).astype("float32"))

    def both(x):
        return [dv.laplacian(f, unroll=unroll)(x) for unroll in (True, False)]

    found = jax.jit(both, compiler_options=COMPILER)(X.astype("float32"))
    assert [each.dtype for each in found] == ["float32", "float32"]
    # In exact arithmetic: t = tanh x, s = 1 - t², and (1 + t)² has the second derivative
    # 2 s² - 4 (1 + t) t s. A few dozen roundings of 2^-8.
    t = np.tanh(X)
    s = 1 - t**2
    expected = np.sum(2 * s**2 - 4 * (1 + t) * t * s)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.1)
