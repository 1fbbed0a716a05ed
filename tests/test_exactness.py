"""Every operator on every kind of function, against nested transforms of JAX.

A row of the table is a function f(params, x). Its operators, batched by ``jax.vmap``,
and the gradients of all of them with respect to the parameters are ONE compiled
program, together with what ``jax.jacrev``, ``jax.jacfwd`` and ``jax.jvp`` give. The two
are compared operator by operator, in float64.
"""

import functools
import itertools
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from tables import assert_each

from jaxcon import derivatives as dv
from jaxcon.derivatives import (
    Directional,
    Divergence,
    Gradient,
    Jacobian,
    Laplacian,
    Partial,
    Value,
    derivatives,
)

# Float64 rounds to 1e-16. What is compared here adds a few hundred products, which may
# cancel to a thousandth of their size: 1e-11, with a factor of 10 to spare. A missing
# or wrong term is off by 1e-3 or more. Relative to the largest entry of an array,
# since an entry that cancels keeps the roundings of its terms; the absolute tolerance
# is for arrays that cancel as a whole.
RELATIVE, ABSOLUTE = 1e-10, 1e-13

# Nearly all the time goes into compiling, half of it into machine code whose speed
# does not matter here.
COMPILER = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}


# The functions


class Case(NamedTuple):
    """One row.

    Attributes:
        make: returns f and its parameters, called in float64; f takes (params, x),
            x of shape (d,), and returns () or (m,).
        d: the number of inputs.
        kinked: it has second derivatives only almost everywhere, of which the library
            may warn.
        forward_only: JAX has no reverse mode for it, so that neither the operators
            that need one nor the gradient with respect to the parameters are tried.
    """

    make: Callable[[], tuple[Callable, Any]]
    d: int
    kinked: bool = False
    forward_only: bool = False


def case(f, d=2, *, kinked=False, forward_only=False, **shapes):
    """Returns the row of a function whose parameters are a dict of arrays."""
    shapes = shapes or network(d)
    return Case(lambda: (f, draw(shapes)), d, kinked, forward_only)


def network(d, width=4, m=None):
    """Returns the shapes of two hidden layers and a linear head."""
    return {
        "w": (width, d),
        "b": (width,),
        "u": (width, width),
        "v": (m or d, width),
    }


def draw(shapes):
    """Returns normal arrays, each row of norm about one."""
    generator = np.random.default_rng(len(shapes))
    return {
        name: jnp.asarray(generator.normal(size=shape) / math.sqrt(shape[-1]))
        for name, shape in shapes.items()
    }


def mlp(first, second=None):
    def f(p, x):
        h = first(p["w"] @ x + p["b"])
        return p["v"] @ (second or first)(p["u"] @ h)

    return f


def within(operation):
    """Returns a network with an operation (4,) -> (4,) between curved layers.

    What enters it has second derivatives of its own, and so has what leaves it.
    """

    def f(p, x):
        h = operation(p["b"] + 1.5 * jnp.sin(p["w"] @ x))
        return p["v"] @ (h + p["b"] * h**2)

    return f


def of_positive(operation):
    return lambda h: operation(0.5 + h**2)


def of_bounded(operation):
    return lambda h: operation(0.9 * jnp.sin(h))


SMOOTH = {
    "exponentials": lambda h: jnp.exp(h) + jnp.sinh(h) * jnp.cosh(h) - jnp.expm1(-h),
    "logarithms": of_positive(lambda h: jnp.log(h) * jnp.log1p(h)),
    "roots": of_positive(lambda h: jnp.sqrt(h) + lax.rsqrt(h) * jnp.cbrt(h)),
    "powers": of_positive(lambda h: h**3 + h**2.5 + h**-1),
    "power of two inputs": of_positive(lambda h: h ** h[::-1]),
    "tan": lambda h: jnp.tan(0.3 * h),
    "arctan, arctan2": lambda h: jnp.arctan(h) + jnp.arctan2(h, 2.0 + h[::-1]),
    "arcsin, arctanh": of_bounded(lambda h: jnp.arcsin(h) * jnp.arctanh(h)),
    "erf": jax.scipy.special.erf,
    "gammaln": of_positive(jax.scipy.special.gammaln),
    "hypot, logaddexp": lambda h: jnp.hypot(h, 2.0) + jnp.logaddexp(h, h[::-1]),
    "division": lambda h: h / (3.0 + h[::-1]),
    "product, stop_gradient": lambda h: h * h[::-1] * lax.stop_gradient(h),
    "indexing, take": lambda h: h[jnp.array([2, 0, 0, 3])] * jnp.take(h, 1),
    "dynamic slices": lambda h: lax.dynamic_update_slice(
        h, h[:2] * lax.dynamic_slice(h, (1,), (2,)), (1,)
    ),
    "set": lambda h: h.at[jnp.array([0, 2])].set(h[1] * h[2:]),
    "add to repeated": lambda h: h.at[jnp.array([1, 1, 3])].add(h[:3] ** 2),
    "concatenate, stack": lambda h: jnp.stack(
        [h, jnp.concatenate([h[2:] ** 2, h[:2]])], axis=1
    ).prod(axis=1),
    "pad": lambda h: jnp.pad(h[:2] * h[2:], 1) + lax.pad(h[:2], 0.5, [(-1, 2, 1)]),
    "shapes": lambda h: jnp.flip(jnp.roll(h, 1).reshape(2, 2).T).ravel(),
    "broadcast": lambda h: (h[:, None] * h[None, :]).mean(axis=1),
    "cumsum": lambda h: jnp.cumsum(h**2),
    "cumprod": jnp.cumprod,
    "matrix product": lambda h: (h.reshape(2, 2) @ h.reshape(2, 2)).ravel(),
    "prod": lambda h: h * jnp.prod(h),
    "variance": lambda h: (h - h.mean()) * h.std(),
}
KINKED = {
    "abs, sign, floor": lambda h: jnp.abs(h) + jnp.sign(h) * h**2 + jnp.floor(h) * h,
    "remainder": lambda h: jnp.remainder(h, 0.7) ** 2,
    "clip, where": lambda h: jnp.where(h > 0.2, h**2, jnp.clip(h, -0.8, 0.1)),
    "maximum, minimum": lambda h: jnp.maximum(h, h[::-1] ** 2) * jnp.minimum(h, 0.5),
    "cast": lambda h: h * (h > 0.1).astype(jnp.int32).astype(h.dtype) + h**2,
    "sort": lambda h: jnp.sort(h) * jnp.arange(4.0),
    "argsort": lambda h: h[jnp.argsort(-h)] * jnp.arange(4.0),
    "index of the largest": lambda h: h[jnp.argmax(h)] * h,
}


def siren(p, x):
    h = jnp.sin(30.0 * (p["w"] @ x + p["b"]))
    return p["v"] @ jnp.sin(p["u"] @ h)


def logsumexp_head(p, x):
    return jax.nn.logsumexp(p["u"] @ jnp.tanh(p["w"] @ x + p["b"]))


def residual(p, x):
    h = x + jnp.tanh(p["w"] @ x)
    return h + p["u"] @ jnp.tanh(h)


def layer_norm(p, x):
    h = p["w"] @ x + p["b"]
    h = (h - h.mean()) / jnp.sqrt(h.var() + 1e-5)
    return p["v"] @ jnp.tanh(p["scale"] * h)


def rms_norm(p, x):
    h = p["w"] @ x + p["b"]
    h = p["scale"] * h * lax.rsqrt(jnp.mean(h**2) + 1e-6)
    return p["v"] @ jnp.sin(h)


def convolve(p, x):
    """Returns the hidden signals (channels, d - 1) of the inputs as one signal."""
    numbers = ("NCW", "OIW", "NCW")
    signal = lax.conv_general_dilated(
        x[None, None], p["kernel"], (1,), "VALID", dimension_numbers=numbers
    )
    return jnp.tanh(signal[0])


def convolution(p, x):
    return p["v"] @ convolve(p, x).ravel()


def mean_pooling(p, x):
    pooled = lax.reduce_window(convolve(p, x), 0.0, lax.add, (1, 2), (1, 1), "VALID")
    return p["v"] @ (pooled.ravel() / 2) ** 2


def max_pooling(p, x):
    pooled = lax.reduce_window(
        convolve(p, x), -jnp.inf, lax.max, (1, 2), (1, 1), "VALID"
    )
    return p["v"] @ pooled.ravel() ** 2


def attention(p, x):
    tokens = x[:, None] * p["embed"] + p["place"]
    scores = (tokens @ p["query"]) @ (tokens @ p["key"]).T
    return (jax.nn.softmax(scores) @ tokens) @ p["v"]


def heads(p, x):
    tokens = x[:, None] * p["embed"] + p["place"]
    query, key, value = (
        jnp.einsum("ti,hij->htj", tokens, p[name]) for name in ("query", "key", "value")
    )
    mixed = jnp.einsum("hts,hsj->htj", jax.nn.softmax(query @ key.mT), value)
    return jnp.einsum("htj,hj->t", mixed, p["out"])


def recurrence_over(p, x):
    """The inputs are the sequence."""

    def step(h, x):
        h = jnp.tanh(p["u"] @ h + p["b"] * x)
        return h, p["b"] @ h

    return lax.scan(step, jnp.zeros_like(p["b"]), x)[1]


def recurrence_from(p, x):
    """The inputs are the first state and enter every step."""

    def step(h, u):
        return jnp.tanh(p["w"] @ h + u * x), None

    return lax.scan(step, x, p["b"])[0]


def gated_recurrence(p, x):
    def step(h, x):
        update = jax.nn.sigmoid(p["w"] @ h + p["b"] * x)
        new = jnp.tanh(p["u"] @ (update * h) + p["b"] * x)
        return (1 - update) * h + update * new, None

    return lax.scan(step, p["b"], x, reverse=True)[0]


def one(p, x):
    return p["v"] @ jnp.tanh(p["w"] @ x + p["b"])


def other(p, x):
    return p["v"] @ (p["w"] @ x) ** 2


def conditional(p, x):
    return lax.cond(jnp.sum(x) > 0, one, other, p, x)


def switched(p, x):
    index = jnp.sum(x > 0)
    return lax.switch(index, [one, other, lambda p, x: x**3, mlp(jnp.sin)], p, x)


def until_small(p, x):
    """How often it goes round depends on the inputs."""
    return lax.while_loop(
        lambda h: jnp.sum(h**2) > 0.05, lambda h: jnp.sin(0.5 * (p["w"] @ h)), x
    )


def fixed_trips(p, x):
    return lax.fori_loop(0, 3, lambda i, h: jnp.sin(p["w"] @ h + i), x)


def mapped(p, x):
    return p["v"] @ lax.map(lambda w: jnp.tanh(w @ x), p["w"])


@jax.jit
def nested_jit(p, x):
    return jax.jit(mlp(jnp.tanh))(p, jax.jit(jnp.sin)(x))


@jax.custom_jvp
def rounded(x):
    """A step whose rule says otherwise: the derivative is cos(x)."""
    return jnp.round(x)


@rounded.defjvp
def _(primals, tangents):
    return rounded(*primals), jnp.cos(primals[0]) * tangents[0]


def solved(p, x):
    return jnp.linalg.solve(matrix(p, x), x)


def matrix(p, x):
    """Returns a symmetric positive definite matrix (d, d)."""
    root = jnp.outer(jnp.sin(x), p["w"] @ x)
    return root @ root.T + 2.0 * jnp.eye(x.size)


def inverse_root(p, x):
    root = jnp.linalg.cholesky(matrix(p, x))
    return jax.scipy.linalg.solve_triangular(root, x, lower=True)


def determinant(p, x):
    return jnp.linalg.det(matrix(p, x))


def polynomial(p, x):
    """x0³ x1 + (b0 + x1)² x2² - 2 x0 x2, by its monomials."""
    return x[0] ** 3 * x[1] + (p["b"][0] + x[1]) ** 2 * x[2] ** 2 - 2 * x[0] * x[2]


def fourier_features(p, x):
    waves = 2 * jnp.pi * (p["w"] @ x)
    return p["u"] @ jnp.tanh(jnp.concatenate([jnp.cos(waves), jnp.sin(waves)]))


MEAN, DEVIATION = np.array([0.3, 20.0]), np.array([2.0, 40.0])


def normalised(p, x):
    return mlp(jnp.tanh)(p, (x - MEAN) / DEVIATION)


def float_constants(p, x):
    return jnp.stack([2.0 * x[0], np.float64(0.5) - x[1] ** 2, 3.0])


def flax_nnx():
    from flax import nnx

    def linear(m, n):
        return nnx.Linear(m, n, param_dtype=jnp.float64, rngs=nnx.Rngs(m))

    graph, params = nnx.split(
        nnx.Sequential(linear(2, 4), jnp.tanh, linear(4, 2)), nnx.Param
    )
    return lambda params, x: nnx.merge(graph, params)(x), params


def flax_linen():
    import flax.linen as linen

    dense = partial(linen.Dense, param_dtype=jnp.float64)
    module = linen.Sequential([dense(4), linen.swish, dense(2)])
    return module.apply, module.init(jax.random.key(0), jnp.ones(2))


def equinox():
    import equinox as eqx

    net = eqx.nn.MLP(2, "scalar", 4, 2, jnp.tanh, key=jax.random.key(0))
    params, static = eqx.partition(net, eqx.is_inexact_array)
    return lambda params, x: eqx.combine(params, static)(x), params


TOKENS = {"embed": (2, 3), "place": (2, 3)}
SIGNAL = {"kernel": (2, 1, 2), "v": (2, 6)}
POOLED = {"kernel": (2, 1, 2), "v": (2, 4)}
SQUARE = {"w": (2, 2), "u": (2, 2), "b": (2,)}

CASES = {
    "tanh": case(mlp(jnp.tanh)),
    "tanh, three inputs": case(mlp(jnp.tanh), 3),
    "one layer, three inputs": case(one, 3),
    "gelu by tanh, silu": case(mlp(jax.nn.gelu, jax.nn.silu)),
    "silu, gelu by erf": case(
        mlp(jax.nn.silu, partial(jax.nn.gelu, approximate=False))
    ),
    "sin, sigmoid": case(mlp(jnp.sin, jax.nn.sigmoid)),
    "softplus, log_sigmoid": case(mlp(jax.nn.softplus, jax.nn.log_sigmoid)),
    "mish, squareplus": case(mlp(jax.nn.mish, jax.nn.squareplus)),
    "squareplus, softmax": case(mlp(jax.nn.squareplus, jax.nn.softmax)),
    "relu": case(mlp(jax.nn.relu), kinked=True),
    "tanh, relu": case(mlp(jnp.tanh, jax.nn.relu), kinked=True),
    "elu, celu": case(mlp(jax.nn.elu, jax.nn.celu), kinked=True),
    "selu, hard_tanh": case(mlp(jax.nn.selu, jax.nn.hard_tanh), kinked=True),
    "sin, leaky_relu": case(mlp(jnp.sin, jax.nn.leaky_relu), kinked=True),
    **{name: case(within(op)) for name, op in SMOOTH.items()},
    **{name: case(within(op), kinked=True) for name, op in KINKED.items()},
    "one input": case(mlp(jnp.tanh), 1),
    "two inputs, one output": case(mlp(jnp.sin), 2, **network(2, m=1)),
    "four inputs": case(mlp(jnp.tanh), 4),
    "twenty inputs": case(one, 20, **network(20, m=2)),
    "more inputs than units": case(one, 24, **network(24, width=4, m=1)),
    "more outputs than inputs": case(mlp(jnp.tanh), 2, **network(2, m=5)),
    "siren": case(siren),
    "logsumexp head": case(logsumexp_head),
    "residual": case(residual, **SQUARE),
    "layer norm": case(layer_norm, **network(2), scale=(4,)),
    "rms norm": case(rms_norm, **network(2), scale=(4,)),
    "convolution": case(convolution, 4, **SIGNAL),
    "mean pooling": case(mean_pooling, 4, **POOLED),
    "max pooling": case(max_pooling, 4, kinked=True, **POOLED),
    "attention": case(attention, **TOKENS, query=(3, 2), key=(3, 2), v=(3,)),
    "attention heads": case(
        heads, **TOKENS, query=(2, 3, 2), key=(2, 3, 2), value=(2, 3, 2), out=(2, 2)
    ),
    "recurrence over the inputs": case(recurrence_over, u=(4, 4), b=(4,)),
    "recurrence from the inputs": case(recurrence_from, **SQUARE),
    "gated recurrence": case(gated_recurrence, **SQUARE),
    # Of the inputs themselves: JAX divides by the number of entries equal to the
    # largest, which is 0 where a compiler computes the entries twice and differently.
    "max, min": case(lambda p, x: one(p, x) * x.max() + x.min(), kinked=True),
    "cond": case(conditional, kinked=True),
    "switch": case(switched, kinked=True),
    "while_loop": case(until_small, kinked=True, forward_only=True, w=(2, 2)),
    "fori_loop": case(fixed_trips, w=(2, 2)),
    "map": case(mapped),
    "checkpoint": case(jax.checkpoint(mlp(jnp.tanh))),
    "nested jit": case(nested_jit),
    "custom_jvp": case(within(rounded)),
    "solve": case(solved, **SQUARE),
    "cholesky": case(inverse_root, **SQUARE),
    "det": case(determinant, **SQUARE),
    "norm": case(lambda p, x: jnp.linalg.norm(one(p, x))),
    "quotient of two": case(lambda p, x: one(p, x) / (2.0 + other(p, x) ** 2)),
    "polynomial": case(polynomial, 3),
    "fourier features": case(fourier_features, w=(3, 2), u=(2, 6)),
    "normalised inputs": case(normalised),
    "float constants": case(float_constants),
    "ignores some inputs": case(lambda p, x: p["b"][:2] * jnp.sin(x[1])),
    "constant": case(lambda p, x: p["b"][:2] ** 2),
    "linear": case(lambda p, x: p["v"] @ (p["w"] @ x + p["b"])),
    "identity": case(lambda p, x: x),
    "quadratic form": case(lambda p, x: x @ (p["w"] @ x), **SQUARE),
    "flax nnx": Case(flax_nnx, 2),
    "flax linen": Case(flax_linen, 2),
    "equinox": Case(equinox, 2),
}


# The operators: each beside its reading of f(x), J (..., d) and H (..., d, d)


def along(d):
    return np.cos(np.arange(d))


def rows(d):
    return np.sin(1 + np.arange(2.0 * d)).reshape(2, d)


WEIGHTS = np.array([2.0, -0.5])
ROTATION = np.zeros((3, 3, 3))  # the Levi-Civita symbol
for i, j, k in [(0, 1, 2), (1, 2, 0), (2, 0, 1)]:
    ROTATION[i, j, k], ROTATION[i, k, j] = 1.0, -1.0


def on_x(make):
    """Returns the operator whose arguments depend on the number of inputs."""
    return lambda f: lambda x: make(f, x.shape[0])(x)


def on_line(order):
    """Returns the operator d^k/dt^k f(x + t v) at t = 0."""

    def operate(f):
        def at(x):
            v = along(x.shape[0])
            return dv.derivative(lambda t: f(x + t * v), order)(jnp.zeros_like(x[0]))

        return at

    return operate


# Of functions with any values, by forward mode.
FORWARD = {
    "directional_derivative": (
        on_x(lambda f, d: dv.directional_derivative(f, along(d))),
        lambda y, j, h: j @ along(j.shape[-1]),
    ),
    "partial_derivative, first order": (
        on_x(lambda f, d: dv.partial_derivative(f, d - 1)),
        lambda y, j, h: j[..., -1],
    ),
    "partial_derivative, pure second": (
        lambda f: dv.partial_derivative(f, 0, 0),
        lambda y, j, h: h[..., 0, 0],
    ),
    "partial_derivative, mixed second": (
        on_x(lambda f, d: dv.partial_derivative(f, 0, d - 1)),
        lambda y, j, h: h[..., 0, -1],
    ),
    "derivative along a line, second": (
        on_line(2),
        lambda y, j, h: h @ along(j.shape[-1]) @ along(j.shape[-1]),
    ),
    "derivatives of tangents": (
        on_x(
            lambda f, d: derivatives(
                f, Value(), Directional(along(d)), Partial((d - 1,)), Partial((0, 0))
            )
        ),
        lambda y, j, h: (y, j @ along(j.shape[-1]), j[..., -1], h[..., 0, 0]),
    ),
}
VECTOR = {
    "jacobian": (dv.jacobian, lambda y, j, h: j),
    "jacobian_norm_squared": (
        dv.jacobian_norm_squared,
        lambda y, j, h: jnp.sum(j**2),
    ),
    "derivatives of a vector": (
        on_x(lambda f, d: derivatives(f, Value(), Jacobian(), Partial((0, d - 1)))),
        lambda y, j, h: (y, j, h[..., 0, -1]),
    ),
}
FIELD = {
    "divergence": (dv.divergence, lambda y, j, h: jnp.trace(j)),
    "derivatives of a field": (
        lambda f: derivatives(f, Value(), Divergence()),
        lambda y, j, h: (y, jnp.trace(j)),
    ),
}
CURL = {
    2: {"curl": (dv.curl, lambda y, j, h: j[1, 0] - j[0, 1])},
    3: {
        "curl": (dv.curl, lambda y, j, h: jnp.einsum("ijk,kj->i", ROTATION, j)),
    },
}
SCALAR = {
    "gradient": (dv.gradient, lambda y, j, h: j),
    "value_and_gradient": (dv.value_and_gradient, lambda y, j, h: (y, j)),
    "hessian": (dv.hessian, lambda y, j, h: h),
    "hessian_diagonal": (dv.hessian_diagonal, lambda y, j, h: jnp.diagonal(h)),
    "hessian_vector_product": (
        on_x(lambda f, d: dv.hessian_vector_product(f, along(d))),
        lambda y, j, h: h @ along(j.size),
    ),
    "laplacian": (dv.laplacian, lambda y, j, h: jnp.trace(h)),
    "weighted laplacian": (
        on_x(lambda f, d: dv.laplacian(f, weights=WEIGHTS, directions=rows(d))),
        lambda y, j, h: WEIGHTS @ jnp.diagonal(rows(j.size) @ h @ rows(j.size).T),
    ),
    "derivatives of a scalar": (
        on_x(
            lambda f, d: derivatives(
                f, Value(), Gradient(), Laplacian(), Partial((0, d - 1))
            )
        ),
        lambda y, j, h: (y, j, jnp.trace(h), h[0, -1]),
    ),
}


# Third and fourth orders, of a choice: nested jvp doubles with every order

HIGHER_CASES = (
    "tanh",
    "sin, sigmoid",
    "siren",
    "recurrence from the inputs",
    "cond",
    "custom_jvp",
    "one input",
    "polynomial",
)
HIGHER_BY_DEFAULT = ("recurrence from the inputs", "polynomial")
HIGHER = {
    "partial_derivative, third": (
        on_x(lambda f, d: dv.partial_derivative(f, 0, 0, d - 1)),
        lambda line, mixed: mixed[3],
    ),
    "derivatives of third order": (
        on_x(lambda f, d: derivatives(f, Partial((0, 0, d - 1)), Partial((0, 0)))),
        lambda line, mixed: (mixed[3], mixed[2]),
    ),
    "derivative along a line, first": (on_line(1), lambda line, mixed: line[1]),
    "derivative along a line, third": (on_line(3), lambda line, mixed: line[3]),
    "derivative along a line, fourth": (on_line(4), lambda line, mixed: line[4]),
}
TRAINED_HIGHER = {"partial_derivative, third"}


def nested_jvp(f, *tangents):
    """Returns f and its derivatives, along one more of the tangents each."""

    def every(x):
        return [f(x)]

    for v in tangents:

        def every(x, lower=every, v=v):
            primals, slopes = jax.jvp(lower, (x,), (v,))
            return [*primals, slopes[-1]]

    return every


# Compiling every operator of every row, with its gradient, would take ten minutes. All are
# tried on the rows chosen here, the second ones marked slow, and elsewhere one of each
# kind of pass, with the gradient of the one that makes most kinds at once.
ALL_OPERATORS_CASES = ("one layer, three inputs",)
EVERY_OPERATOR_CASES = ("tanh", "recurrence from the inputs", "cond", "custom_jvp")
# So small that they share a program: what is compiled for each would be mostly frame.
SMALL_CASES = (
    "float constants",
    "ignores some inputs",
    "constant",
    "linear",
    "identity",
)
SLOW_CASES = (
    "tanh, three inputs",
    "relu",
    "more inputs than units",
    "flax nnx",
    "set",
    "dynamic slices",
    "pad",
    "silu, gelu by erf",
    "division",
    "equinox",
    "nested jit",
    "add to repeated",
    "sin, sigmoid",
    "max, min",
    "attention",
    "exponentials",
    "hypot, logaddexp",
    "prod",
    "switch",
    "cumsum",
    "map",
    "siren",
    "cholesky",
    "solve",
    "layer norm",
    "max pooling",
    "recurrence over the inputs",
    "tanh",
    "tanh, relu",
    "elu, celu",
    "sin, leaky_relu",
    "squareplus, softmax",
    "logarithms",
    "power of two inputs",
    "arctan, arctan2",
    "product, stop_gradient",
    "matrix product",
    "variance",
    "index of the largest",
    "cast",
    "two inputs, one output",
    "four inputs",
    "convolution",
    "det",
    "norm",
    "quadratic form",
    "flax linen",
    "mish, squareplus",
    "selu, hard_tanh",
    "roots",
    "tan",
    "arcsin, arctanh",
    "gammaln",
    "shapes",
    "broadcast",
    "cumprod",
    "remainder",
    "argsort",
    "more outputs than inputs",
    "residual",
    "rms norm",
    "mean pooling",
    "attention heads",
    "gated recurrence",
    "quotient of two",
    "normalised inputs",
    "gelu by tanh, silu",
    "softplus, log_sigmoid",
    "powers",
    "maximum, minimum",
    "erf",
    "sort",
    "checkpoint",
    "fourier features",
    "logsumexp head",
    "abs, sign, floor",
    "fori_loop",
    "indexing, take",
    "concatenate, stack",
)
TRAINED = {"derivatives of a scalar"}
EVERY = {*FORWARD, *VECTOR, *FIELD, *CURL[3], *SCALAR}
CHOSEN = TRAINED | {
    "derivatives of a vector",
    "hessian",
    "weighted laplacian",
    "partial_derivative, pure second",
}


def operators(f, x, wanted):
    """Returns those that f has, and those that the scalar made of it has."""
    shape, d = jax.eval_shape(f, x).shape, x.shape[0]
    own = FORWARD | HIGHER | (VECTOR if shape else {})
    if shape == (d,):
        own = own | FIELD | CURL.get(d, {})
    return [
        {name: both for name, both in table.items() if name in wanted}
        for table in (own, SCALAR)
    ]


def as_scalar(f):
    """Returns f, or a weighted sum of its values."""

    def scalar(x):
        y = f(x)
        return y if y.ndim == 0 else jnp.cos(jnp.arange(y.size, dtype=y.dtype)) @ y

    return scalar


def ours(f, x, wanted, reverse):
    own, scalar = operators(f, x, wanted)
    g = as_scalar(f)
    results = {name: operate(f)(x) for name, (operate, _) in own.items()}
    return results | {name: operate(g)(x) for name, (operate, _) in scalar.items()}


def oracle(f, x, wanted, reverse):
    own, scalar = operators(f, x, wanted)
    whole = nested(f, jax.jacrev if reverse else jax.jacfwd)(x)
    first, last, v = jnp.eye(x.size)[0], jnp.eye(x.size)[-1], jnp.asarray(along(x.size))
    higher = ()
    if not HIGHER.keys().isdisjoint(own):
        line, mixed = (v, v, v, v), (first, first, last)
        higher = nested_jvp(f, *line)(x), nested_jvp(f, *mixed)(x)
    results = {
        name: read(*higher) if name in HIGHER else read(*whole)
        for name, (_, read) in own.items()
    }
    weigh = jax.jacfwd(as_scalar(lambda y: y))(whole[0])  # the weights of the sum
    whole = [jnp.tensordot(weigh, a, weigh.ndim) for a in whole]
    return results | {name: read(*whole) for name, (_, read) in scalar.items()}


def nested(f, first):
    """Returns the value, the Jacobian by ``first``, and the Hessian by jax.jacfwd."""

    def value(x):
        y = f(x)
        return y, y

    def once(x):
        j, y = first(value, has_aux=True)(x)
        return j, (y, j)

    def twice(x):
        h, (y, j) = jax.jacfwd(once, has_aux=True)(x)
        return y, j, h

    return twice


# The comparison


def points(d):
    return jnp.asarray(np.random.default_rng(d).normal(size=(3, d)))


@functools.cache
def results(names, wanted, trained):
    """Returns what is found and what is expected of each row: values and gradients.

    Both are by operator. A gradient is that of one operator's values, summed with
    weights, with respect to the parameters. One program makes them all.
    """
    rows = {name: CASES[name] for name in names}
    made = {name: row.make() for name, row in rows.items()}
    forward_only = any(row.forward_only for row in rows.values())

    def values(compute, name, params):
        f, d = made[name][0], rows[name].d
        reverse = not forward_only
        return jax.vmap(lambda x: compute(partial(f, params), x, wanted, reverse))(
            points(d)
        )

    def total(compute, params, chosen):
        found = {name: values(compute, name, params[name]) for name in rows}
        terms = [
            chosen[k] * weighted_sum(each[k])
            for each in found.values()
            for k in each
            if k in chosen
        ]
        return sum(terms, jnp.zeros(())), found

    def both(params, chosen):
        # The rows' parameters are their own, so that one sum has all their gradients.
        step = total if forward_only else jax.grad(total, argnums=1, has_aux=True)
        return [step(compute, params, chosen) for compute in (ours, oracle)]

    params = {name: pair[1] for name, pair in made.items()}
    with warnings.catch_warnings():
        if any(row.kinked for row in rows.values()):
            warnings.simplefilter("ignore")
        program = jax.jit(both, compiler_options=COMPILER)
        plain = program(params, only(None, trained))
    gradients = {
        k: program(params, only(k, trained))
        for k in trained
        if any(k in each for each in plain[0][1].values())
    }

    def of(side, name):
        by_operator = {k: g[side][0][name] for k, g in gradients.items()}
        found = plain[side][1][name]
        return found, {k: g for k, g in by_operator.items() if k in found}

    return {name: jax.tree.map(np.asarray, (of(0, name), of(1, name))) for name in rows}


def assert_exact(name, wanted, trained, beside=None):
    """Fails with the operators whose values or gradients are other than expected.

    ``beside`` names the rows whose program the row shares.
    """
    names = beside or (name,)
    found, expected = results(names, frozenset(wanted), frozenset(trained))[name]
    assert_same(f"values of {name}", found[0], expected[0])
    assert_same(f"parameter gradients of {name}", found[1], expected[1])


def weighted_sum(tree):
    leaves = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    return jnp.cos(jnp.arange(leaves.size, dtype=leaves.dtype)) @ leaves


def only(chosen, names):
    return {name: np.float64(name == chosen) for name in names}


def assert_same(name, found, expected):
    """Fails with every operator whose result is another, and how far it is off."""
    assert found.keys() == expected.keys()
    off = {}
    for operator in expected:
        pairs = zip(
            jax.tree.leaves(found[operator]), jax.tree.leaves(expected[operator])
        )
        errors = [excess(a, b) for a, b in pairs]
        if max(errors) > 0:
            off[operator] = max(errors)
    assert not off, f"{name}: off by {off}"


def excess(found, expected):
    """Returns how far the worst entry is off, 0 if all are within the tolerance."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.float64
    assert np.isfinite(expected).all()
    if not np.isfinite(found).all():
        return math.inf
    error = np.abs(found - expected).max(initial=0.0)
    scale = np.abs(expected).max(initial=0.0)
    return 0.0 if error <= RELATIVE * scale + ABSOLUTE else error / (scale or 1.0)


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in (*SLOW_CASES, *SMALL_CASES)]
)
def test_operators_equal_nested_transforms(name, x64):
    if CASES[name].forward_only:
        assert_exact(name, FORWARD, ())
    elif name in ALL_OPERATORS_CASES:
        assert_exact(name, EVERY, EVERY)
    else:
        assert_exact(name, CHOSEN, TRAINED)


def test_operators_of_small_functions_equal_nested_transforms(x64):
    assert_each(
        SMALL_CASES,
        lambda name: assert_exact(name, CHOSEN, TRAINED, beside=SMALL_CASES),
    )


def test_laplacian_of_a_flax_network_equals_nested_transforms(x64):
    f, params = flax_nnx()

    def both(params, x):
        scalar = as_scalar(partial(f, params))
        return dv.laplacian(scalar)(x), jnp.trace(jax.hessian(scalar)(x))

    program = jax.jit(both, compiler_options=COMPILER)
    found, expected = program(params, np.array([0.3, -0.8]))
    np.testing.assert_allclose(found, expected, rtol=RELATIVE)
    assert abs(expected) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_CASES)
def test_operators_of_more_functions_equal_nested_transforms(name, x64):
    # With the other two kinds of pass: Taylor series, and forward over reverse mode.
    more = {"derivative along a line, second", "hessian_vector_product"}
    assert_exact(name, CHOSEN | more, TRAINED)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_OPERATOR_CASES)
def test_every_operator_equals_nested_transforms(name, x64):
    assert_exact(name, EVERY, EVERY)


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in HIGHER_BY_DEFAULT
        else pytest.param(name, marks=pytest.mark.slow)
        for name in HIGHER_CASES
    ],
)
def test_operators_of_third_and_fourth_order_equal_nested_jvp(name, x64):
    assert_exact(name, HIGHER, TRAINED_HIGHER)


# Closed forms of high order


def horner(coefficients, x):
    return functools.reduce(lambda y, c: y * x + c, coefficients)


def tanh_derivatives(x):
    """d/dx P(tanh x) = P'(t) (1 - t²), from P(t) = t on."""
    polynomial, slope = np.polynomial.Polynomial([0, 1]), [1, 0, -1]
    while True:
        polynomial = polynomial.deriv() * np.polynomial.Polynomial(slope)
        yield polynomial(np.tanh(x))


POLYNOMIAL = np.polynomial.Polynomial([0.3, -1.2, 0.5, 2.0, -0.7, 1.1, 0.2, -0.4, 0.6])
CLOSED_FORMS = {
    "polynomial": (
        lambda x: sum(float(c) * x**k for k, c in enumerate(POLYNOMIAL.coef)),
        lambda x, k: POLYNOMIAL.deriv(k)(x),
        range(1, 9),
    ),
    "polynomial by Horner": (
        partial(horner, POLYNOMIAL.coef[::-1].tolist()),
        lambda x, k: POLYNOMIAL.deriv(k)(x),
        [2, 5],
    ),
    "sin": (jnp.sin, lambda x, k: np.sin(x + k * np.pi / 2), [5, 6]),
    "cos": (jnp.cos, lambda x, k: np.cos(x + k * np.pi / 2), [5, 6]),
    "logistic": (
        jax.nn.sigmoid,  # (1 + tanh(x/2)) / 2
        lambda x, k: (
            next(itertools.islice(tanh_derivatives(x / 2), k - 1, None)) / 2 ** (k + 1)
        ),
        [4, 5],
    ),
    "exp": (lambda x: jnp.exp(-2 * x), lambda x, k: (-2) ** k * np.exp(-2 * x), [5, 6]),
    "reciprocal": (
        lambda x: 1 / (1 + x),
        lambda x, k: (-1) ** k * math.factorial(k) / (1 + x) ** (k + 1),
        range(1, 6),
    ),
    "log1p": (
        lambda x: jnp.log(1 + x),
        lambda x, k: (-1) ** (k - 1) * math.factorial(k - 1) / (1 + x) ** k,
        range(1, 6),
    ),
    "tanh": (
        jnp.tanh,
        lambda x, k: next(itertools.islice(tanh_derivatives(x), k - 1, None)),
        range(1, 6),
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_derivative_of_high_order_equals_its_closed_form(name, x64):
    f, expected, orders = CLOSED_FORMS[name]

    def every_order(x):
        return [dv.derivative(f, order=k)(x) for k in orders]

    found = jax.jit(every_order, compiler_options=COMPILER)(jnp.asarray(0.4))
    np.testing.assert_allclose(found, [expected(0.4, k) for k in orders], rtol=RELATIVE)


# The values are those under jit and vmap; here is one example, without either, so that
# the predicates of control flow are known numbers.


@pytest.mark.parametrize(
    "name", ["cond", pytest.param("switch", marks=pytest.mark.slow), "custom_jvp"]
)
def test_operators_without_jit_give_a_row_of_the_batch(name, x64):
    (batch, _), _ = results((name,), frozenset(CHOSEN), frozenset(TRAINED))[name]
    make, d, kinked, _ = CASES[name]
    f, params = make()
    with warnings.catch_warnings():
        if kinked:
            warnings.simplefilter("ignore")
        single = ours(partial(f, params), points(d)[1], CHOSEN, True)
    assert_same(
        name, single, jax.tree.map(lambda a: a[1], {k: batch[k] for k in single})
    )


def test_laplacian_follows_the_rule_of_a_custom_jvp(x64):
    x = jnp.array([0.7, -1.6])
    trace = dv.laplacian(lambda x: jnp.sum(rounded(x)))(x)
    np.testing.assert_allclose(trace, -np.sin(x).sum(), rtol=RELATIVE)
