"""The operators against closed forms, finite differences and nested jax.grad."""

import itertools
import warnings
from functools import cache, partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import assert_each, assert_refused

from jaxcon import derivatives as dv
from jaxcon.derivatives import (
    Directional,
    Divergence,
    Gradient,
    Hessian,
    HessianDiagonal,
    Jacobian,
    Laplacian,
    Partial,
    Value,
    _passes,
    _plan,
    derivatives,
)

# Half of what these tests take is machine code whose speed does not matter.
COMPILER = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}
compiled = partial(jax.jit, compiler_options=COMPILER)
# A few roundings of second derivatives of order one.
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def scalar(x):
    """Sin(a·x) + exp(b·x) + (x·x)², with a and b as below; any d."""
    a, b = coefficients(x.shape[0])
    return jnp.sin(a @ x) + jnp.exp(b @ x) + (x @ x) ** 2


def coefficients(d):
    return np.linspace(0.3, 1.1, d), np.linspace(-0.5, 0.4, d)


def scalar_gradient(x):
    a, b = coefficients(len(x))
    return np.cos(a @ x) * a + np.exp(b @ x) * b + 4 * (x @ x) * x


def scalar_hessian(x):
    a, b = coefficients(len(x))
    waves = np.exp(b @ x) * np.outer(b, b) - np.sin(a @ x) * np.outer(a, a)
    return waves + 4 * (x @ x) * np.eye(len(x)) + 8 * np.outer(x, x)


def scalar_third(x, i, j, k):
    """The third derivative in the inputs i, j and k."""
    a, b = coefficients(len(x))
    waves = np.exp(b @ x) * b[i] * b[j] * b[k] - np.cos(a @ x) * a[i] * a[j] * a[k]
    return waves + 8 * (x[i] * (j == k) + x[j] * (i == k) + x[k] * (i == j))


def vector(m):
    """Returns f_i(x) = sin(w_i·x) with m outputs, and its Jacobian in numpy."""

    def weights(d):
        return np.cos(np.arange(m * d)).reshape(m, d)

    def f(x):
        return jnp.sin(jnp.asarray(weights(x.shape[0]), x.dtype) @ x)

    def jacobian(x):
        w = weights(len(x))
        return np.cos(w @ x)[:, None] * w

    return f, jacobian


def example(d, dtype="float64"):
    return np.linspace(-0.7, 0.9, d + 1)[1:].astype(dtype)


def rows(d):
    return np.sin(np.arange(2.0 * d)).reshape(2, d)


WEIGHTS = np.array([2.0, -0.5])

SCALAR_OPERATORS = {
    "gradient": (dv.gradient, scalar_gradient),
    "hessian": (dv.hessian, scalar_hessian),
    "hessian_diagonal": (
        dv.hessian_diagonal,
        lambda x: np.diag(scalar_hessian(x)),
    ),
    "laplacian": (dv.laplacian, lambda x: np.trace(scalar_hessian(x))),
    "weighted laplacian": (
        lambda f: lambda x: dv.laplacian(f, weights=jnp.arange(x.size) - 1.0)(x),
        lambda x: (np.arange(len(x)) - 1.0) @ np.diag(scalar_hessian(x)),
    ),
    "directed laplacian": (
        lambda f: (
            lambda x: dv.laplacian(f, weights=WEIGHTS, directions=rows(x.size))(x)
        ),
        lambda x: sum(
            c * v @ scalar_hessian(x) @ v for c, v in zip(WEIGHTS, rows(len(x)))
        ),
    ),
    "hessian_vector_product": (
        lambda f: lambda x: dv.hessian_vector_product(f, rows(x.size)[0])(x),
        lambda x: scalar_hessian(x) @ rows(len(x))[0],
    ),
    "directional_derivative": (
        lambda f: lambda x: dv.directional_derivative(f, rows(x.size)[0])(x),
        lambda x: scalar_gradient(x) @ rows(len(x))[0],
    ),
    "partial 0": (
        lambda f: dv.partial_derivative(f, 0),
        lambda x: scalar_gradient(x)[0],
    ),
    "partial 0, 0": (
        lambda f: dv.partial_derivative(f, 0, 0),
        lambda x: scalar_hessian(x)[0, 0],
    ),
    "value_and_gradient": (
        lambda f: lambda x: dv.value_and_gradient(f)(x)[1],
        scalar_gradient,
    ),
    "value_and_laplacian": (
        lambda f: lambda x: dv.value_and_laplacian(f)(x)[1],
        lambda x: np.trace(scalar_hessian(x)),
    ),
}


@pytest.mark.parametrize("d", [1, 4])
def test_scalar_operators_equal_their_closed_forms(d, dtype):
    @compiled
    def every(x):
        return {name: make(scalar)(x) for name, (make, _) in SCALAR_OPERATORS.items()}

    found, tolerance = every(example(d, dtype)), 10 * TOLERANCE[dtype]

    def check(name):
        assert found[name].dtype == dtype
        expected = SCALAR_OPERATORS[name][1](example(d))
        np.testing.assert_allclose(
            found[name], expected, rtol=tolerance, atol=tolerance
        )

    assert_each(SCALAR_OPERATORS, check)


VECTOR_OPERATORS = {
    "jacobian": (dv.jacobian, lambda j: j),
    "jacobian_norm_squared": (dv.jacobian_norm_squared, lambda j: np.sum(j**2)),
    "value_and_jacobian": (
        lambda f: lambda x: dv.value_and_jacobian(f)(x)[1],
        lambda j: j,
    ),
    "partial 0": (lambda f: dv.partial_derivative(f, 0), lambda j: j[:, 0]),
    "directional_derivative": (
        lambda f: lambda x: dv.directional_derivative(f, rows(x.size)[0])(x),
        lambda j: j @ rows(j.shape[1])[0],
    ),
}


def test_vector_operators_equal_their_closed_forms(dtype):
    sizes = [(1, 1), (4, 2), (2, 5)]

    @compiled
    def every(xs):
        return {
            (name, d, m): make(vector(m)[0])(xs[d])
            for d, m in sizes
            for name, (make, _) in VECTOR_OPERATORS.items()
        }

    found = every({d: example(d, dtype) for d, _ in sizes})
    tolerance = TOLERANCE[dtype]

    def check(row):
        name, d, m = row
        assert found[row].dtype == dtype
        expected = VECTOR_OPERATORS[name][1](vector(m)[1](example(d)))
        np.testing.assert_allclose(found[row], expected, rtol=tolerance, atol=tolerance)

    assert_each(found, check)


def test_divergence_is_the_trace_of_the_jacobian(x64):
    sizes = (1, 2, 3, 6)

    @compiled
    def every(xs):
        return {d: dv.divergence(vector(d)[0])(xs[d]) for d in sizes}

    found = every({d: example(d) for d in sizes})
    expected = {d: np.trace(vector(d)[1](example(d))) for d in sizes}
    chex.assert_trees_all_close(found, expected, rtol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_curl_of_a_rotation_is_twice_its_axis_and_of_a_gradient_zero(d, x64):
    axis = np.array([0.5, -1.0, 2.0])

    def rotation(x):
        return jnp.cross(axis, x) if d == 3 else jnp.stack([-x[1], x[0]])

    @compiled
    def both(x):
        return dv.curl(rotation)(x), dv.curl(dv.gradient(scalar))(x)

    turned, nothing = both(example(d))
    np.testing.assert_allclose(turned, 2 * axis if d == 3 else 2.0, rtol=1e-12)
    assert nothing.shape == ((3,) if d == 3 else ())
    np.testing.assert_allclose(nothing, 0, atol=1e-12)


def test_derivative_of_every_order_equals_its_closed_form(dtype):
    def f(x):
        return jnp.stack([jnp.sin(2 * x), x**4, jnp.exp(-x)])

    @compiled
    def every(x):
        return {order: dv.derivative(f, order)(x) for order in (1, 2, 3, 6)}

    # Of sin 2x it is 2^k sin(2x + k pi/2), of x^4 it is 4!/(4-k)! x^(4-k).
    for order, result in every(np.array(0.4, dtype)).items():
        power = {1: 4 * 0.4**3, 2: 12 * 0.4**2, 3: 24 * 0.4, 6: 0.0}[order]
        waves = 2**order * np.sin(0.8 + order * np.pi / 2)
        tolerance = 2**order * TOLERANCE[dtype]
        expected = [waves, power, (-1) ** order * np.exp(-0.4)]
        assert result.dtype == dtype
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


def by_scan(x):
    return jax.lax.scan(lambda y, _: (y * x, None), 1.0, length=5)[0]


def by_cond(x):
    return jax.lax.cond(x > 0, lambda x: x**5, lambda x: 0.0, x)


def by_while(x):
    return jax.lax.while_loop(
        lambda c: c[0] < 5, lambda c: (c[0] + 1, c[1] * x), (0, 1.0)
    )[1]


def test_derivative_of_high_order_goes_through_control_flow(x64):
    @compiled
    def every(x):
        return {
            f.__name__: [dv.derivative(f, order)(x) for order in (1, 4, 6)]
            for f in (by_scan, by_cond, by_while)
        }

    for name, found in every(1.5).items():
        expected = [5 * 1.5**4, 120 * 1.5, 0.0]
        np.testing.assert_allclose(found, expected, rtol=1e-13, err_msg=name)


def test_partial_derivative_equals_nested_grad(x64):
    every_inputs = [
        *[(0,), (2,), (0, 1), (1, 1), (2, 0, 1), (1, 0, 1)],
        *[(2, 2, 2, 0), (0, 2, 1, 0, 2)],
    ]

    def nested(inputs):
        oracle = scalar
        for i in inputs:
            oracle = entry_of_gradient(oracle, i)
        return oracle

    @compiled
    def both(x):
        return [
            {inputs: make(inputs)(x) for inputs in every_inputs}
            for make in (lambda inputs: dv.partial_derivative(scalar, *inputs), nested)
        ]

    chex.assert_trees_all_close(*both(example(3)), rtol=1e-12)


def test_partial_derivative_through_a_product_along_an_axis(x64):
    # The derivatives of reduce_prod transpose inside a reshape.
    def product(x):
        return jnp.prod(jnp.stack([x**2, x**3]), axis=-1)

    inputs = (0, 0, 1)
    found = jax.jit(dv.partial_derivative(product, *inputs))(jnp.array([0.3, 0.7]))
    # 2 * 2 x1 and 6 x0 * 3 x1^2.
    np.testing.assert_allclose(found, [4 * 0.7, 18 * 0.3 * 0.7**2], rtol=1e-12)


def entry_of_gradient(f, i):
    return lambda x: jax.grad(f)(x)[i]


def test_partial_derivative_of_a_matrix_valued_function(x64):
    x = jnp.asarray(example(2))
    result = dv.partial_derivative(lambda x: jnp.sin(x)[:, None] * x[None], 0)(x)
    a, b = np.asarray(x)
    expected = [[np.cos(a) * a + np.sin(a), np.cos(a) * b], [np.sin(b), 0.0]]
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_operators_equal_central_differences_of_a_network(key, x64):
    step = 1e-4

    @compiled
    def everything(params, x):
        f = partial(net, params)
        up, down = (jax.vmap(f)(x[None] + h * jnp.eye(3)) for h in (step, -step))
        second = (up - 2 * f(x) + down) / step**2
        return {
            "gradient": (dv.gradient(f)(x), (up - down) / (2 * step)),
            "hessian_diagonal": (dv.hessian_diagonal(f)(x), second),
            "laplacian": (dv.laplacian(f)(x), second.sum()),
        }

    for name, (found, expected) in everything(network(key), example(3)).items():
        # Rounding: 4 eps / step^2 is 1e-7 for the second differences.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def network(key, d=3, width=8):
    w, v = jax.random.split(key)
    return {
        "w": jax.random.normal(w, (width, d)) / d**0.5,
        "v": jax.random.normal(v, (width,)) / width**0.5,
    }


def net(params, x):
    return params["v"] @ jnp.tanh(params["w"] @ x)


def field(params, x):
    return params["w"].T @ jnp.tanh(params["w"] @ x)


ALL = {
    "gradient": (dv.gradient, net),
    "value_and_gradient": (dv.value_and_gradient, net),
    "hessian": (dv.hessian, net),
    "hessian_diagonal": (dv.hessian_diagonal, net),
    "laplacian": (dv.laplacian, net),
    "value_and_laplacian": (dv.value_and_laplacian, net),
    "hvp": (lambda f: dv.hessian_vector_product(f, jnp.ones(3)), net),
    "jacobian": (dv.jacobian, field),
    "value_and_jacobian": (dv.value_and_jacobian, field),
    "jacobian_norm_squared": (dv.jacobian_norm_squared, field),
    "divergence": (dv.divergence, field),
    "curl": (dv.curl, field),
    "directional": (lambda f: dv.directional_derivative(f, jnp.ones(3)), field),
    "partial": (lambda f: dv.partial_derivative(f, 0, 2), field),
    "scalar derivatives": (
        lambda f: derivatives(f, Value(), Gradient(), Laplacian(), Partial((0, 1))),
        net,
    ),
    "vector derivatives": (
        lambda f: derivatives(f, Value(), Jacobian(), Divergence(), Partial((0, 1))),
        field,
    ),
}


def everything(params, x):
    """What every operator returns, by name."""
    return {name: make(partial(f, params))(x) for name, (make, f) in ALL.items()}


def test_operators_under_jit_are_eager_and_under_vmap_a_loop(key, x64):
    params, points = network(key), np.array([[0.3, -0.8, 1.1], [-0.4, 0.7, 0.2]])
    batched = compiled(jax.vmap(partial(everything, params)))(points)
    for i, x in enumerate(points):
        eager = everything(params, jnp.asarray(x))
        row = jax.tree.map(lambda leaf, i=i: leaf[i], batched)
        chex.assert_trees_all_close(row, eager, rtol=1e-12, atol=1e-12)
    assert not any(
        np.array_equal(*leaf) and name != "curl"
        for name, out in batched.items()
        for leaf in jax.tree.leaves(out)
    )


def test_operators_have_the_parameter_gradient_of_central_differences(x64):
    step = 1e-5

    # The operators left out return a part of what one of the others returns.
    def losses(params):
        every = everything(params, jnp.asarray(example(3)))
        return {
            name: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(out))
            for name, out in every.items()
            if name not in ("gradient", "jacobian", "laplacian", "hvp")
        }

    @compiled
    def both(params, tangent, chosen):
        def total(params):
            # One of them is chosen, by a number of its own.
            return sum(chosen[name] * loss for name, loss in losses(params).items())

        def at(shift):
            return losses(jax.tree.map(lambda p, t: p + shift * t, params, tangent))

        # Reverse mode is what training takes.
        gradient = jax.grad(total)(params)
        along = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, tangent)))
        values = jax.vmap(at)(jnp.array([step, -step]))
        return along, jax.tree.map(lambda v: (v[0] - v[1]) / (2 * step), values)

    params, tangent = (network(jax.random.key(seed), width=3) for seed in (0, 1))
    names = list(jax.eval_shape(losses, params))

    def check(name):
        chosen = {other: np.float64(other == name) for other in names}
        found, slopes = both(params, tangent, chosen)
        # Truncation of order step², rounding 1e-16 / step; the slopes are of order one.
        np.testing.assert_allclose(found, slopes[name], rtol=1e-5, atol=1e-8)
        assert name == "curl" or abs(slopes[name]) > 1e-3  # of a gradient, zero

    assert_each(names, check)


def test_operators_of_constant_and_linear_functions_are_zero():
    x = jnp.ones(3)
    assert not dv.gradient(lambda x: jnp.float32(1))(x).any()
    assert not dv.hessian(jnp.sum)(x).any()
    assert dv.laplacian(jnp.sum)(x) == 0


def test_operators_take_python_and_numpy_numbers():
    assert dv.derivative(lambda x: x**2)(3.0) == 6.0
    assert dv.gradient(jnp.sum)(np.ones(2, np.float32)).shape == (2,)


# Pairs


VALUE_AND = {
    "gradient": (net, ()),
    "hessian": (net, ()),
    "hessian_diagonal": (net, ()),
    "laplacian": (net, ()),
    "hessian_vector_product": (net, (np.ones(3),)),
    "jacobian": (field, ()),
    "jacobian_norm_squared": (field, ()),
    "divergence": (field, ()),
    "curl": (field, ()),
    "directional_derivative": (field, (np.ones(3),)),
    "partial_derivative": (field, (0, 2)),
}


def test_value_and_operators_give_the_value_and_what_the_operator_gives(key, x64):
    params = network(key)

    def pairs(x):
        found = {}
        for name, (f, args) in VALUE_AND.items():
            g = partial(f, params)
            both = getattr(dv, f"value_and_{name}")(g, *args)(x)
            found[name] = both, (g(x), getattr(dv, name)(g, *args)(x))
        number = jnp.sum(x)
        both = dv.value_and_derivative(jnp.sin, 2)(number)
        found["derivative"] = both, (jnp.sin(number), -jnp.sin(number))
        return found

    found = jax.jit(pairs, compiler_options=COMPILER)(jnp.asarray(example(3)))
    named = {name for name in dv.__all__ if name.startswith("value_and_")}
    assert named == {f"value_and_{name}" for name in (*found, "grad")}
    for name, (both, apart) in found.items():
        assert type(both) is tuple, name
        chex.assert_trees_all_close(both, apart, rtol=1e-12, atol=1e-12)


# Functions with a backward rule only, as many kernels are


@jax.custom_vjp
def wave(x):
    return jnp.sin(x)


wave.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(x) * g,))


def waves(sin, x):
    """A scalar function of x (3,), of wave or of the sine that it is."""
    turned, _ = jax.lax.scan(lambda c, y: (sin(c) * y, None), x[0], x)
    return jnp.sum(sin(x * x) * x) + sin(x[0] * x[1]) + turned


def many_waves(sin, x):
    return sin(jnp.ravel(x[:, None] * x[None]))


ONLY_BACKWARDS = {
    "gradient": (dv.gradient, jax.grad, waves),
    "tall jacobian": (dv.jacobian, jax.jacrev, many_waves),
    "directional": (
        lambda f: dv.directional_derivative(f, np.arange(3.0)),
        lambda f: lambda x: jax.grad(f)(x) @ jnp.arange(3.0),
        waves,
    ),
    "partial": (
        lambda f: dv.partial_derivative(f, 2),
        lambda f: lambda x: jax.grad(f)(x)[2],
        waves,
    ),
    "second partial": (
        lambda f: dv.partial_derivative(f, 1, 0),
        lambda f: lambda x: jax.hessian(f)(x)[..., 0, 1],
        many_waves,
    ),
    "laplacian": (
        dv.laplacian,
        lambda f: lambda x: jnp.trace(jax.hessian(f)(x)),
        waves,
    ),
    "hessian": (dv.hessian, jax.hessian, waves),
    "hessian_vector_product": (
        lambda f: dv.hessian_vector_product(f, np.arange(3.0)),
        lambda f: lambda x: jax.hessian(f)(x) @ jnp.arange(3.0),
        waves,
    ),
}


def test_operators_differentiate_a_custom_vjp_backwards(x64):
    def every(x):
        return {
            name: (make(partial(f, wave))(x), oracle(partial(f, jnp.sin))(x))
            for name, (make, oracle, f) in ONLY_BACKWARDS.items()
        }

    found = jax.jit(every, compiler_options=COMPILER)(jnp.asarray(example(3)))
    for name, (result, expected) in found.items():
        np.testing.assert_allclose(
            result, expected, rtol=1e-12, atol=1e-12, err_msg=name
        )


def test_operators_follow_the_rule_of_a_custom_vjp():
    @jax.custom_vjp
    def clipped(x):
        return jnp.sum(x**2)

    clipped.defvjp(
        lambda x: (clipped(x), x), lambda x, g: (jnp.clip(2 * x, -1, 1) * g,)
    )

    @compiled
    def both(x):
        return dv.gradient(clipped)(x), dv.hessian_diagonal(clipped)(x)

    slope, curvature = both(np.array([3.0, 0.25], "float32"))
    np.testing.assert_array_equal(slope, [1, 0.5])
    np.testing.assert_array_equal(curvature, [0, 2])


def test_operators_refuse_what_a_custom_vjp_has_no_way_to():
    one, many = partial(waves, wave), partial(many_waves, wave)
    third = Partial((0, 0, 0))
    operators = [
        lambda x: dv.derivative(wave, order=3)(x[0]),
        dv.partial_derivative(one, 0, 0, 0),
        derivatives(one, Gradient(), third),
        dv.laplacian(one, mode="forward"),
        dv.jacobian(many, mode="forward"),
    ]
    x = jax.ShapeDtypeStruct((3,), "float32")
    words = r"cannot be .* forwards: .* jax\.custom_vjp"
    assert_refused(
        [(partial(jax.eval_shape, each, x), TypeError, words) for each in operators]
    )


# Zeros that are known: another input's slope may be infinite


def corner(x):
    """Coordinates (x, t, u) at a corner of the box, where t and u are zero."""
    return jnp.array([x, 0.0, 0.0])


MIX = np.cos(np.arange(12.0)).reshape(3, 4)
SLABS = np.cos(np.arange(24.0)).reshape(2, 3, 4)
# Functions of (x, t, u) whose slopes in t or u are infinite at zero, and what they are
# as functions of x alone.
CORNERS = {
    "root": (lambda v: jnp.sqrt(v[1]) + v[0] ** 3, lambda x: x**3),
    "power": (lambda v: v[1] ** 1.5 * 2 + v[0] ** 3, lambda x: x**3),
    "roots of all": (
        lambda v: jnp.sqrt(v) @ np.array([1.0, 2.0, 3.0]),
        jnp.sqrt,
    ),
    "logarithm times zero": (
        lambda v: jnp.sin(v[0]) + 0 * jnp.log(v[1]),
        jnp.sin,
    ),
    "features": (
        lambda v: jnp.sum(jnp.tanh(jnp.stack([v[0], v[1] ** 0.5, v[2]]) @ MIX)),
        lambda x: jnp.sum(jnp.tanh(x * MIX[0])),
    ),
    "features of all": (
        lambda v: jnp.sum(jnp.tanh(v ** np.array([2.0, 0.5, 1.5]) @ MIX)),
        lambda x: jnp.sum(jnp.tanh(x**2 * MIX[0])),
    ),
    "gathered": (
        lambda v: jnp.prod(1 + jnp.sqrt(v[np.array([2, 0])])),
        lambda x: 1 + jnp.sqrt(x),
    ),
    "at places": (
        lambda v: jnp.sum(jnp.cos(v.at[1].set(jnp.sqrt(v[1])).at[0].add(v[0])) ** 2),
        lambda x: jnp.cos(2 * x) ** 2 + 2,
    ),
    "moved": (
        lambda v: jnp.sum(
            jnp.sin(jnp.sqrt(jnp.pad(v[::-1, None], ((1, 0), (0, 1))).T)[0])
        ),
        lambda x: jnp.sin(jnp.sqrt(x)),
    ),
    "selected": (
        lambda v: jnp.sum(jnp.where(np.arange(3) > 0, jnp.sqrt(v), v**3)),
        lambda x: x**3,
    ),
    "repeated": (
        lambda v: jnp.sum(jnp.cbrt(jnp.tile(v, 2)) ** 2),
        lambda x: 2 * jnp.cbrt(x) ** 2,
    ),
    "quotient": (
        lambda v: jnp.sum((v + 1) / (jnp.sqrt(v) + 1)),
        lambda x: (x + 1) / (jnp.sqrt(x) + 1) + 2,
    ),
    "two variable operands": (
        lambda v: jnp.sum(jnp.arctan2(jnp.sqrt(v), 1 + jnp.sqrt(v))),
        lambda x: jnp.arctan2(jnp.sqrt(x), 1 + jnp.sqrt(x)),
    ),
    "power of a variable": (lambda v: v[1] ** v[0] + v[0] ** 2, lambda x: x**2),
    "powers of a variable": (lambda v: jnp.sum(v ** (0.5 + 0 * v[0])), jnp.sqrt),
    "own rule of two": (lambda v: jnp.sum(jnp.hypot(v, 0 * v)), lambda x: x),
    "product of two": (
        lambda v: jnp.dot(jnp.sqrt(v) + 1, jnp.cbrt(v) + 1),
        lambda x: (jnp.sqrt(x) + 1) * (jnp.cbrt(x) + 1) + 2,
    ),
    "summed up": (
        lambda v: jnp.sum(jnp.sqrt(jnp.cumsum(jnp.roll(v, 1)))),
        lambda x: 2 * jnp.sqrt(x),
    ),
    "many at once": (
        lambda v: jnp.sum(
            jnp.sin(jax.vmap(lambda a, w: a @ w)(jnp.stack([v**0.5, v]), SLABS))
        ),
        lambda x: (
            jnp.sum(jnp.sin(x**0.5 * SLABS[0][0])) + jnp.sum(jnp.sin(x * SLABS[1][0]))
        ),
    ),
    "own rule": (
        lambda v: jnp.sum(jax.nn.softplus(jnp.sqrt(v))),
        lambda x: jax.nn.softplus(jnp.sqrt(x)) + 2 * jnp.log(2.0),
    ),
    "call": (
        lambda v: jnp.sum(jax.nn.gelu(jnp.sqrt(v))),
        lambda x: jax.nn.gelu(jnp.sqrt(x)),
    ),
    "recomputed": (
        lambda v: jax.checkpoint(lambda v: jnp.sum(jnp.sin(jnp.sqrt(v))))(v),
        lambda x: jnp.sin(jnp.sqrt(x)),
    ),
    "scanned": (
        lambda v: jnp.sum(
            jax.lax.scan(lambda h, a: (jnp.sqrt(h) * a + v, None), v, MIX[0, :2])[0]
        ),
        lambda x: (jnp.sqrt(jnp.sqrt(x) + x)) * np.cos(1.0) + x,
    ),
    "branched": (
        lambda v: jnp.sum(
            jax.lax.cond(v[0] > 0, lambda v: jnp.sqrt(v), lambda v: v**2, v)
        ),
        jnp.sqrt,
    ),
    "looped": (
        lambda v: jnp.sum(
            jax.lax.fori_loop(0, (v[0] + 2).astype(int), lambda i, h: jnp.sqrt(h), v)
        ),
        lambda x: jnp.sqrt(jnp.sqrt(x)),
    ),
}


def at_the_corner(f):
    """Everything that concerns x alone, by every path, with its order."""
    unit = np.array([[1.0, 0.0, 0.0]])
    weights = np.array([1.0, 0.0, 0.0])
    both = (True, False)
    return {
        "partial": (1, dv.partial_derivative(f, 0)),
        "partials": (1, lambda v: derivatives(f, Partial(2), Partial(0))(v).partial_0),
        "direction": (1, dv.directional_derivative(f, unit[0])),
        **{
            f"jacobian, {unroll}": (
                1,
                lambda v, unroll=unroll: dv.jacobian(
                    lambda v: jnp.stack([f(v)]), mode="forward", unroll=unroll
                )(v)[0, 0],
            )
            for unroll in both
        },
        "second": (2, dv.partial_derivative(f, 0, 0)),
        "laplacian along": (2, dv.laplacian(f, directions=unit)),
        "weighted": (2, dv.laplacian(f, weights=weights, unroll=False)),
        "with a gradient": (
            2,
            lambda v: (
                derivatives(f, Gradient(), Laplacian(directions=unit))(v).laplacian
            ),
        ),
        **{
            f"hessian, {unroll}": (
                2,
                lambda v, unroll=unroll: dv.hessian(f, mode="forward", unroll=unroll)(
                    v
                )[0, 0],
            )
            for unroll in both
        },
        "diagonal": (2, lambda v: dv.hessian_diagonal(f, unroll=False)(v)[0]),
        "third": (3, dv.partial_derivative(f, 0, 0, 0)),
    }


# The others differ in how the zeros are moved, not in what is done with them.
QUICK = ("root", "features of all", "gathered", "two variable operands", "scanned")


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in CORNERS
    ],
)
def test_derivatives_in_one_input_ignore_infinite_slopes_in_others(name, x64):
    f, alone = CORNERS[name]

    def every(x):
        slopes = [jax.grad(alone)]
        for _ in range(2):
            slopes.append(jax.grad(slopes[-1]))
        right = [slope(x) for slope in slopes]
        ways = at_the_corner(f)
        return [(way(corner(x)), right[n - 1]) for n, way in ways.values()]

    found = jax.jit(jax.vmap(every), compiler_options=COMPILER)(jnp.array([0.3, 0.6]))
    for (result, expected), way in zip(found, at_the_corner(f), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-9, err_msg=way)


def test_hessian_through_a_reverse_pass_ignores_infinite_slopes_in_others(x64):
    def f(v):
        return jnp.sqrt(v[1]) + v[0] ** 3 * v[2] + jnp.sum(v[3:] ** 2)

    def wide(v):
        return jnp.concatenate([v, jnp.zeros(18)])

    @compiled
    def rows(v):
        return dv.hessian(f)(v), dv.hessian(f)(wide(v)), dv.hessian_diagonal(f)(wide(v))

    few, many, diagonal = rows(jnp.array([0.5, 0.0, 2.0]))
    kept = np.array([0, 2])
    exact = [[6 * 0.5 * 2.0, 3 * 0.25], [3 * 0.25, 0.0]]
    np.testing.assert_allclose(few[kept][:, kept], exact)
    np.testing.assert_allclose(many[kept][:, kept], exact)
    np.testing.assert_allclose(diagonal[kept], np.diagonal(exact))
    np.testing.assert_allclose(diagonal[3:], 2)


def test_gradients_of_the_parameters_are_finite_where_slopes_of_others_are_not(x64):
    def f(p, v):
        features = jnp.stack([v[0], v[1] ** 0.5, jnp.cbrt(v[2])])
        return jnp.sum(jnp.tanh(features @ p))

    def residual(p, x):
        second = dv.laplacian(partial(f, p), directions=np.eye(3)[:1])(corner(x))
        return dv.partial_derivative(partial(f, p), 0)(corner(x)) + second

    def alone(p, x):
        def g(x):
            return jnp.sum(jnp.tanh(x * p[0]))

        return jax.grad(g)(x) + jax.grad(jax.grad(g))(x)

    @compiled
    def both(p):
        return jax.grad(residual)(p, 0.3), jax.grad(alone)(p, 0.3)

    np.testing.assert_allclose(*both(MIX), rtol=1e-10)


def test_quantities_together_stay_finite_beside_an_infinite_one(x64):
    def f(v):
        return jnp.sqrt(v[1]) + v[0] ** 3

    direction = np.array([2.0, 0.0, 0.0])
    found = derivatives(
        f, Hessian(), Gradient(), Directional(direction), Laplacian(None, [[2.0, 0, 0]])
    )(corner(0.5))
    np.testing.assert_array_equal(found.gradient, [0.75, np.inf, 0])
    assert found.directional == 1.5
    assert found.laplacian == 12
    assert found.hessian[0, 0] == 3


def test_known_zeros_cost_nothing_in_a_network():
    def costs(f):
        x = jax.ShapeDtypeStruct((8, 5), "float32")
        program = compiled(jax.vmap(f)).lower(x).compile().cost_analysis()
        return program["flops"]

    # A tangent that is one row of the first layer's matrix needs no product with it.
    x, pushed = wide, dv.partial_derivative(wide, 1)
    along = jax.jvp
    tangent = np.eye(5, dtype="float32")[1]
    assert costs(pushed) <= costs(lambda v: along(x, (v,), (jnp.asarray(tangent),))[1])


# One direction only


@jax.custom_vjp
def only_backwards(x):
    return jnp.sin(x)


only_backwards.defvjp(
    lambda x: (jnp.sin(x), x), lambda x, g: (g * only_backwards(x + jnp.pi / 2),)
)


@jax.custom_jvp
def by_rule(x):
    return jnp.sin(x)


@by_rule.defjvp
def _(primals, tangents):
    """Its slope is of a function that goes backwards only."""
    [x], [t] = primals, tangents
    return by_rule(x), only_backwards(x + jnp.pi / 2) * t


def solved(x):
    """Quotient x1 / (2 + sin x0) by a solver whose matrix goes backwards only."""
    a = 2 + only_backwards(x[0])
    return jax.lax.custom_linear_solve(
        lambda v: a * v, x[1], lambda _, b: b / a, lambda _, b: b / a
    )


def solved_forwards(x):
    """The same by a solver that has no transpose."""
    a = 2 + jnp.sin(x[0])
    return jax.lax.custom_linear_solve(lambda v: a * v, x[1], lambda _, b: b / a)


def turning(x):
    return jax.lax.while_loop(
        lambda c: c[0] < 3 * x[0],
        lambda c: (c[0] + 1, jnp.sin(c[1] * x[0])),
        (0.0, x[1]),
    )[1]


def turned(x):
    for _ in range(3):
        x = x.at[1].set(jnp.sin(x[1] * x[0]))
    return x[1]


@jax.custom_vjp
def adjoint(x):
    """Solves y' = -a y by Euler's rule, as a solver does whose adjoint is a loop."""
    return x[1] * euler(x[0], 10)


def euler(a, steps):
    return jax.lax.while_loop(
        lambda c: c[0] < steps, lambda c: (c[0] + 1, c[1] * (1 - a / 20)), (0, 1.0)
    )[1]


adjoint.defvjp(
    lambda x: (adjoint(x), x),
    lambda x, g: (g * jnp.stack([-x[1] / 2 * euler(x[0], 9), euler(x[0], 10)]),),
)

ONE_WAY = {
    "rule": (lambda x: jnp.sum(by_rule(x) * x), lambda x: jnp.sum(jnp.sin(x) * x)),
    "solver": (solved, lambda x: x[1] / (2 + jnp.sin(x[0]))),
    "solver forwards": (solved_forwards, lambda x: x[1] / (2 + jnp.sin(x[0]))),
    "loop": (turning, turned),
    "adjoint": (adjoint, lambda x: x[1] * (1 - x[0] / 20) ** 10),
}


@pytest.mark.parametrize("name", ONE_WAY)
def test_operators_take_the_way_that_the_rules_inside_allow(name, x64):
    f, like = ONE_WAY[name]
    v = np.array([1.0, 2.0])

    def every(x):
        j, h = jax.grad(like)(x), jax.hessian(like)(x)
        key = jax.random.key(0)
        norm = dv.jacobian_norm_squared(lambda x: f(x)[None], projections=2, key=key)
        second = dv.derivative(lambda t: f(x.at[0].set(t)), 2)
        return [
            (dv.gradient(f)(x), j),
            (dv.partial_derivative(f, 0)(x), j[0]),
            (dv.partial_derivative(f, 0, 1)(x), h[0, 1]),
            (dv.laplacian(f)(x), jnp.trace(h)),
            (dv.hessian(f)(x), h),
            (dv.hessian_vector_product(f, v)(x), h @ v),
            (norm(x), j @ j),
            (second(x[0]), h[0, 0]),
            (derivatives(f, Gradient(), Laplacian())(x).laplacian, jnp.trace(h)),
        ]

    x = jnp.array([0.7, 1.3])
    for n, (result, expected) in enumerate(
        jax.jit(every, compiler_options=COMPILER)(x)
    ):
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12, err_msg=n)
    assert "Hessian" not in dv.explain(f, x, Gradient(), Hessian())  # it answers at all


def test_operators_say_why_neither_way_is_open():
    @jax.custom_vjp
    def blocked(x):
        return adjoint(x)

    def backwards(x, g):
        raise NotImplementedError("no adjoint of the adjoint")

    inner = jax.custom_vjp(lambda x: jax.grad(adjoint)(x))
    inner.defvjp(lambda x: (inner(x), x), backwards)
    blocked.defvjp(lambda x: (adjoint(x), x), lambda x, g: (g * inner(x),))

    def called_back(x):
        return jax.pure_callback(np.sum, jax.ShapeDtypeStruct((), x.dtype), x)

    x = jnp.ones(2)
    why = [
        "forwards: it holds a jax.custom_vjp",
        "backwards: no adjoint of",
        "jax.custom_jvp",
    ]
    assert_refused(
        [
            (lambda: dv.laplacian(blocked)(x), TypeError, why),
            (lambda: jax.jit(dv.hessian(blocked))(x), TypeError, why),
            (lambda: dv.gradient(called_back)(x), TypeError, ["callbacks", "forwards"]),
            (
                lambda: dv.partial_derivative(called_back, 0)(x),
                TypeError,
                ["callbacks"],
            ),
            (
                lambda: dv.jacobian(lambda x: turning(x)[None], mode="reverse")(x),
                TypeError,
                ["cannot be differentiated backwards", "leave mode= out"],
            ),
        ]
    )


# Several at once


MANY = np.eye(5)[:, :3] + 1
# What is asked for, and what of it the value y, the gradient j and the Hessian h say.
SCALAR_WANTED = {
    "value": ([Value()], lambda y, j, h: [y]),
    "first": ([Value(), Gradient(), Partial((1,))], lambda y, j, h: [y, j, j[1]]),
    "one partial": ([Value(), Partial(1)], lambda y, j, h: [y, j[1]]),
    "partials": (
        [Partial(1), Partial(0), Directional(np.ones(3))],
        lambda y, j, h: [j[1], j[0], j.sum()],
    ),
    "mixed": (
        [Value(), Partial((0, 1)), Partial((2, 2, 1))],
        lambda y, j, h: [y, h[0, 1], scalar_third(example(3), 2, 2, 1)],
    ),
    "second": (
        [
            Hessian(),
            Laplacian(),
            HessianDiagonal(),
            Gradient(),
            Value(),
            Partial((0, 1)),
        ],
        lambda y, j, h: [h, np.trace(h), np.diagonal(h), j, y, h[0, 1]],
    ),
    "own directions": (
        [Laplacian(directions=rows(3)[:1]), Value(), Laplacian(WEIGHTS, rows(3))],
        lambda y, j, h: [
            rows(3)[0] @ h @ rows(3)[0],
            y,
            WEIGHTS @ np.diagonal(rows(3) @ h @ rows(3).T),
        ],
    ),
    "many directions": (
        [Laplacian(None, MANY), Gradient()],
        lambda y, j, h: [np.trace(MANY @ h @ MANY.T), j],
    ),
}


def test_derivatives_of_a_scalar_function_equal_their_closed_forms(x64):
    @compiled
    def every(x):
        return scalar(x), {
            name: tuple(derivatives(scalar, *wanted)(x))
            for name, (wanted, _) in SCALAR_WANTED.items()
        }

    x = example(3)
    y, found = every(x)

    def check(name):
        expected = SCALAR_WANTED[name][1](y, scalar_gradient(x), scalar_hessian(x))
        # Entries of order one whose terms cancel to a tenth: a few roundings.
        chex.assert_trees_all_close(
            found[name], tuple(expected), rtol=1e-12, atol=1e-13
        )

    assert_each(SCALAR_WANTED, check)


def test_derivatives_of_a_vector_function_equal_their_closed_forms(x64):
    wanted = [Value(), Jacobian(), Partial(2), Directional(np.ones(3))]

    @compiled
    def every(x):
        return {
            m: (
                tuple(derivatives(vector(m)[0], *wanted)(x)),
                tuple(derivatives(vector(m)[0], Partial(2), Partial(0))(x)),
                vector(m)[0](x),
            )
            for m in (1, 3, 4)
        }

    for m, (together, partials, y) in every(example(3)).items():
        j = vector(m)[1](example(3))
        chex.assert_trees_all_close(
            together, (y, j, j[:, 2], j.sum(1)), rtol=1e-12, atol=1e-12
        )
        chex.assert_trees_all_close(partials, (j[:, 2], j[:, 0]), atol=1e-12)


def test_laplacian_with_more_directions_than_inputs(x64):
    directions, x = np.cos(np.arange(15.0)).reshape(5, 3), example(3)
    result = dv.laplacian(scalar, directions=directions)(jnp.asarray(x))
    expected = np.trace(directions @ scalar_hessian(x) @ directions.T)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_derivatives_name_their_fields_and_number_repeats():
    one = Directional(jnp.ones(2))
    wanted = Value(), Laplacian(), one, Partial((0, 1)), Laplacian(), one, one
    result = jax.eval_shape(derivatives(jnp.prod, *wanted), jnp.ones(2))
    assert type(result)._fields == (
        "value",
        "laplacian",
        "directional",
        "partial_0_1",
        "laplacian_1",
        "directional_1",
        "directional_2",
    )


def test_derivatives_return_the_same_type_on_every_call():
    first, second = (derivatives(jnp.prod, Value(), Gradient()) for _ in range(2))
    x = jnp.ones(2)
    assert jax.tree.structure(first(x)) == jax.tree.structure(second(x))
    carried, _ = jax.lax.scan(lambda c, _: (first(x), None), second(x), length=2)
    assert type(carried) is type(first(x))


def flops(f, *args):
    """The FLOPs of the program as it is handed to the compiler."""
    costs: Any = jax.jit(f).lower(*args).cost_analysis()
    return (costs[0] if isinstance(costs, list) else costs)["flops"]


def deep(d, width, layers=3):
    """Returns a network of some hidden layers and the FLOPs of one evaluation."""
    sizes = [d, *[width] * layers]
    draw = np.random.default_rng(0)
    ws = [
        (draw.normal(size=(n, m)) / m**0.5).astype("float32")
        for m, n in itertools.pairwise(sizes)
    ]

    def f(x):
        for w in ws:
            x = jnp.tanh(w @ x)
        return jnp.sum(x)

    return f, 2 * sum(w.size for w in ws)


@pytest.mark.parametrize(
    ("together", "apart"),
    [
        ([Value(), Gradient()], [dv.gradient]),
        ([Value(), Gradient(), Laplacian()], [dv.laplacian]),
        ([Hessian(), HessianDiagonal(), Laplacian()], [dv.hessian]),
    ],
)
def test_derivatives_that_share_cost_what_the_dearest_costs(together, apart):
    f, _ = deep(6, 64)
    shared = flops(derivatives(f, *together), jnp.ones(6))
    alone = sum(flops(make(f), jnp.ones(6)) for make in apart)
    # What is read from a pass (sums, a trace) is small beside its matrix products.
    assert shared <= 1.05 * alone


@pytest.mark.parametrize("d", [4, 12])
def test_laplacian_costs_a_value_a_stream_and_the_tangents(d):
    f, one = deep(d, 128)
    ours = flops(dv.laplacian(f), jnp.ones(d))
    assert ours <= 1.05 * (d + 2) * one
    assert ours < 0.75 * flops(lambda x: jnp.trace(jax.hessian(f)(x)), jnp.ones(d))


TRACES = {
    "gradient": (dv.gradient, 2),  # once for the shape of its value
    "laplacian": (dv.laplacian, 2),
    "several": (lambda f: derivatives(f, Value(), Gradient(), Hessian()), 2),
    # And once to look for a narrow layer.
    "stacked laplacian": (lambda f: dv.laplacian(f, directions=np.ones((20, 3))), 3),
    "fourth order": (lambda f: dv.partial_derivative(f, 0, 0, 1, 1), 4),
}


def test_operators_trace_f_a_few_times():
    def check(name):
        make, most = TRACES[name]
        traces = []

        def counted(x):
            traces.append(None)
            return jnp.prod(jnp.sin(x))

        jax.eval_shape(make(counted), jnp.ones(3))
        assert len(traces) <= most

    assert_each(TRACES, check)


@pytest.mark.parametrize(("d", "m"), [(64, 2), (2, 64)])
def test_jacobian_takes_the_cheaper_mode(d, m):
    w = np.ones((m, 32), "float32"), np.ones((32, d), "float32")

    def f(x):
        return w[0] @ jnp.tanh(w[1] @ x)

    ours = flops(dv.jacobian(f), jnp.ones(d))
    peers = [flops(peer(f), jnp.ones(d)) for peer in (jax.jacfwd, jax.jacrev)]
    assert ours <= 1.05 * min(peers)
    assert ours < 0.5 * max(peers)


EXPLAINED = {
    "gradient": (jnp.prod, [Gradient()], ["reverse, 1 cotangent"]),
    "wide": (
        lambda x: x[:2],
        [Value(), Jacobian(), Partial(0)],
        ["shared", "reverse, 2 cotangents: fewer outputs (2)", "read from the whole"],
    ),
    "tall": (
        lambda x: jnp.concatenate([x, x]),
        [Jacobian(), Partial(0)],
        ["forward, 3 tangents: no more inputs than outputs (6)", "forward, 1 tangent"],
    ),
    "partial": (jnp.prod, [Partial(1), Value()], ["forward, 1 tangent", "shared"]),
    "mixed": (
        jnp.prod,
        [Value(), Partial((0, 1))],
        ["shared", "forward, 2 tangents, 1 stream: one entry"],
    ),
    "second": (
        jnp.prod,
        [Value(), Gradient(), Laplacian(), Partial((0, 0))],
        [
            "shared",
            "forward, 3 tangents",
            "forward, 3 unrolled tangents, collapsed: 1 stream",
            "forward, 1 tangent, 1 stream: one entry",
        ],
    ),
    "hessian": (
        jnp.prod,
        [Hessian(), Gradient(), Laplacian(), Partial((0, 1))],
        [
            "forward-over-reverse, 3 tangents",
            "read from the gradient inside",
            "from its rows",
            "an entry of the Hessian",
        ],
    ),
    "own": (
        jnp.prod,
        [Laplacian(None, rows(3))],
        ["forward, 2 unrolled tangents, collapsed: 1 stream"],
    ),
    "stacked": (
        jnp.prod,
        [Laplacian(None, np.ones((17, 3)))],
        ["forward, 17 stacked tangents, collapsed: 1 stream"],
    ),
    "narrow": (
        lambda x: jnp.sin(jnp.sum(x)),
        [Laplacian(None, np.ones((17, 3)))],
        ["as many as the first layer is wide, collapsed"],
    ),
    "third": (jnp.prod, [Partial((0, 0, 1))], ["Taylor series, 6 coefficients"]),
    "field": (jnp.sin, [Divergence()], ["forward, 3 tangents"]),
    "backwards only": (
        partial(waves, wave),
        [Gradient(), Laplacian()],
        ["from the gradient inside", "-over-reverse: from its rows"],
    ),
}


def test_explain_tells_mode_count_and_cost():
    def check(name):
        f, wanted, said = EXPLAINED[name]
        header, *lines, together = dv.explain(f, np.ones(3), *wanted).split("\n")
        assert header.startswith("f: (3,) -> (")
        assert len(lines) == len(wanted)
        for line, words in zip(lines, said):
            assert words in line
            assert "FLOPs" in line
            assert "temporar" in line
        assert together.startswith("together")

    assert_each(EXPLAINED, check)


def test_explain_says_forward_for_one_input():
    text = dv.explain(lambda x: jnp.sin(x[0]), jnp.ones(1), Hessian())
    assert "forward, 1 tangent, 1 stream" in text


def test_explain_never_claims_what_is_not_so():
    text = dv.explain(jnp.prod, jnp.ones(3), Gradient(), Laplacian())
    assert "no more inputs than outputs" not in text  # three inputs, one output


def test_explain_survives_what_backends_report(monkeypatch):
    monkeypatch.setattr(jax.stages.Compiled, "memory_analysis", lambda self: None)

    def check(costs):
        monkeypatch.setattr(jax.stages.Compiled, "cost_analysis", lambda self: costs)
        text = dv.explain(jnp.prod, np.ones(3), Gradient())
        said = "7 FLOPs" if costs == [{"flops": 7.0}] else "FLOPs not rep"
        assert said in text
        assert "temporaries not reported" in text

    assert_each([None, [], [{"flops": 7.0}], {}], check)


# Which passes


def laplacian_of(d, **more):
    return _plan.Need(d, 1, sums=(tuple(range(d)),), **more)


def diagonal_of(d):
    return _plan.Need(d, 1, pairs=tuple((i, i) for i in range(d)))


# What is needed, with what overrides, and what is made of it: the number of tangents
# and the fields that differ from those of no pass at all.
PLANS = {
    "gradient": (_plan.Need(5, 1, True), {}, 0, {"backward": True}),
    "gradient of one input": (_plan.Need(1, 1, True), {}, 0, {"backward": True}),
    "gradient forwards": (_plan.Need(5, 1, True), {"mode": "forward"}, 5, {}),
    "gradient, many": (_plan.Need(99, 1, True), {}, 0, {"backward": True}),
    "wide jacobian": (_plan.Need(5, 4, True), {}, 0, {"backward": True}),
    "square jacobian": (_plan.Need(5, 5, True), {}, 5, {}),
    "tall jacobian": (_plan.Need(5, 6, True), {}, 5, {}),
    "large jacobian": (_plan.Need(17, 99, True), {}, 17, {"unroll": False}),
    "partial": (_plan.Need(5, 1, singles=(2,)), {}, 1, {}),
    "partial and gradient": (
        _plan.Need(5, 1, True, singles=(2,)),
        {},
        0,
        {"backward": True},
    ),
    "two partials": (_plan.Need(5, 1, singles=(2, 3)), {}, 0, {"backward": True}),
    "two of two": (_plan.Need(5, 2, singles=(2, 3)), {}, 2, {}),
    "laplacian": (laplacian_of(16), {}, 16, {}),
    "large laplacian": (laplacian_of(17), {}, 17, {"unroll": False}),
    "unrolled": (laplacian_of(17), {"unroll": True}, 17, {}),
    "stacked": (laplacian_of(3), {"unroll": False}, 3, {"unroll": False}),
    "narrow": (
        laplacian_of(40),
        {"width": 39},
        40,
        {"unroll": False, "narrow": 39},
    ),
    "narrow with gradient": (
        laplacian_of(40, whole=True),
        {"width": 38},
        40,
        {"unroll": False, "narrow": 38, "backward": True},
    ),
    "too wide with gradient": (
        laplacian_of(40, whole=True),
        {"width": 39},
        40,
        {"unroll": False},
    ),
    "narrow forwards": (
        laplacian_of(40),
        {"width": 8, "mode": "forward"},
        40,
        {"unroll": False},
    ),
    "laplacian backwards": (
        laplacian_of(4),
        {"mode": "reverse"},
        0,
        {"hessian": "reverse"},
    ),
    "gradient and laplacian": (laplacian_of(9, whole=True), {}, 9, {}),
    "gradient and one entry": (
        _plan.Need(100, 1, True, pairs=((0, 0),)),
        {},
        1,
        {"backward": True},
    ),
    "gradient and nearly all": (_plan.Need(2, 1, True, pairs=((0, 0),)), {}, 2, {}),
    "entry": (_plan.Need(100, 1, pairs=((0, 1),)), {}, 2, {}),
    "hessian of two": (_plan.Need(2, 1, hessian=True), {}, 2, {}),
    "hessian": (_plan.Need(3, 1, hessian=True), {}, 0, {"hessian": "forward"}),
    "large hessian": (
        _plan.Need(17, 1, hessian=True),
        {},
        0,
        {"hessian": "forward", "unroll": False},
    ),
    "hessians": (_plan.Need(3, 5, hessian=True), {}, 3, {}),
    "hessian forwards": (_plan.Need(5, 1, hessian=True), {"mode": "forward"}, 5, {}),
    "large hessian forwards": (
        _plan.Need(6, 1, hessian=True),
        {"mode": "forward"},
        0,
        {"separate": True},
    ),
    "hessian stacked": (
        _plan.Need(2, 1, hessian=True),
        {"unroll": False},
        0,
        {"separate": True, "unroll": False},
    ),
    "hessian backwards": (
        _plan.Need(3, 1, hessian=True),
        {"mode": "reverse"},
        0,
        {"hessian": "reverse"},
    ),
    "diagonal": (diagonal_of(16), {}, 16, {}),
    "large diagonal": (diagonal_of(17), {}, 0, {"separate": True}),
    "entries apart": (
        _plan.Need(9, 1, pairs=((0, 1), (2, 3), (4, 5), (6, 7))),
        {},
        0,
        {"separate": True},
    ),
    "entries that share": (
        _plan.Need(9, 1, pairs=((0, 1), (1, 2), (2, 3), (3, 4))),
        {},
        5,
        {},
    ),
}


def test_plans_choose_the_passes_that_are_cheapest():
    fields = ("backward", "hessian", "separate", "unroll", "narrow")

    def check(name):
        need, given, tangents, made = PLANS[name]
        plan = _plan.choose(need, **{"mode": None, "unroll": None, **given})
        assert len(plan.tangents) == tangents
        defaults = _plan.Plan._field_defaults
        expected = {field: made.get(field, defaults[field]) for field in fields}
        assert {field: getattr(plan, field) for field in fields} == expected
        if plan.tangents:
            seconds = len(plan.sums) + (0 if plan.separate else len(plan.pairs))
            assert len(plan.forms) == seconds

    assert_each(PLANS, check)


OVERRIDES = list(itertools.product((None, "forward", "reverse"), (None, True, False)))
FIRST, SECOND = (
    [Value(), Partial(1), Directional(rows(3)[0])],
    [
        Hessian(),
        HessianDiagonal(),
        Laplacian(np.array([1.0, 0.0, 2.0])),
        Laplacian(WEIGHTS, rows(3)),
        Partial((2, 0)),
    ],
)
OVERRIDDEN = {
    "jacobian": (vector(2)[0], [Jacobian()]),
    "tall jacobian": (vector(4)[0], [Jacobian()]),
    "hessian": (scalar, [Hessian()]),
    "hessian_diagonal": (scalar, [HessianDiagonal()]),
    "laplacian": (scalar, [Laplacian()]),
    "first of a scalar": (scalar, [*FIRST, Gradient()]),
    "all of a scalar": (scalar, [*FIRST, Gradient(), *SECOND]),
    "all of a vector": (vector(2)[0], [*FIRST, Jacobian(), *SECOND]),
    "all of a field": (vector(3)[0], [*FIRST, Divergence(), *SECOND]),
}


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_derivatives_are_the_same_under_every_override(name, x64):
    f, wanted = OVERRIDDEN[name]

    @compiled
    def every(x):
        found = [
            tuple(derivatives(f, *wanted, mode=mode, unroll=unroll)(x))
            for mode, unroll in OVERRIDES
        ]
        return found, twice(f, x)

    x = example(3)
    found, exact = every(x)
    expected = tuple(by_hand(*map(np.asarray, exact), spec) for spec in wanted)
    for result in found:
        chex.assert_trees_all_close(result, expected, rtol=1e-12, atol=1e-12)


def twice(f, x):
    """The value, Jacobian and Hessian of f from nested jax.jacfwd."""

    def once(x):
        j, y = jax.jacfwd(lambda x: (f(x),) * 2, has_aux=True)(x)
        return j, (y, j)

    h, (y, j) = jax.jacfwd(once, has_aux=True)(x)
    return y, j, h


def by_hand(y, j, h, spec):
    """One quantity from them, that of each output in front."""
    match spec:
        case Value():
            return y
        case Gradient() | Jacobian():
            return j
        case Divergence():
            return np.trace(j)
        case Partial((i, k)):
            return h[..., i, k]
        case Partial(i):
            return j[..., i]
        case Directional(v):
            return j @ v
        case Hessian():
            return h
        case HessianDiagonal():
            return np.diagonal(h, axis1=-2, axis2=-1)
        case Laplacian(weights, directions):
            v = np.eye(h.shape[-1]) if directions is None else directions
            c = np.ones(len(v)) if weights is None else weights
            return np.einsum("k,ki,...ij,kj->...", c, v, h, v)
    raise AssertionError(spec)


# More directions than the first layer is wide


D, WIDTH = 24, 5
LAYER = np.cos(np.arange(1.0 * WIDTH * D)).reshape(WIDTH, D)
AT = np.sin(np.arange(1.0 * D))


def two_layers(w, u, x):
    return jnp.arange(1, WIDTH + 1, dtype=x.dtype) @ jnp.tanh(u @ jnp.tanh(w @ x))


def trace(f, weights=None, directions=None):
    """Returns the weighted sum of second derivatives by jax.hessian."""

    def at(x):
        v = np.eye(x.size) if directions is None else directions
        c = np.ones(len(v)) if weights is None else weights
        return jnp.sum(jax.hessian(f)(x) * (v.T @ (jnp.asarray(c)[:, None] * v)))

    return at


def replaced(rows, new):
    w = LAYER.copy()
    w[rows] = new
    return w


def test_laplacian_of_a_narrow_first_layer_and_of_lower_rank_is_the_trace(x64):
    layers = {
        "any": LAYER,
        "two units alike": replaced(1, LAYER[0]),
        "an idle unit": replaced(3, 0.0),
        "all idle": replaced(slice(None), 0.0),
        "one input": LAYER * (np.arange(D) == D - 1),
        "rank one": np.outer(np.arange(1.0, WIDTH + 1), LAYER[0]),
    }
    u, x = LAYER[:, :WIDTH], AT
    narrow = partial(two_layers, jnp.asarray(LAYER), jnp.asarray(u))
    assert _passes.width(narrow, jnp.asarray(x), D) == WIDTH

    def losses(operator):
        def loss(w, u, x):
            return operator(partial(two_layers, w, u))(x) ** 2

        step = jax.value_and_grad(loss, (0, 1, 2))
        return jax.vmap(step, (0, None, None))

    @compiled
    def both(stacked, u, x):
        return [losses(operator)(stacked, u, x) for operator in (dv.laplacian, trace)]

    found, expected = both(np.stack(list(layers.values())), u, x)
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_close(found, expected, rtol=1e-10, atol=1e-10)


def some_weights(least):
    return np.linspace(least, 1.0, D)


MANY_DIRECTIONS = np.cos(np.arange(30.0 * D)).reshape(30, D)
NARROW = {
    "weights": {"weights": some_weights(0.0)},
    "negative weights": {"weights": some_weights(-0.5)},
    "directions": {"directions": MANY_DIRECTIONS},
    "weighted directions": {
        "weights": np.linspace(0.0, 2.0, 30),
        "directions": MANY_DIRECTIONS,
    },
}


def test_laplacian_of_a_narrow_layer_takes_weights_and_directions(x64):
    u = LAYER[:, :WIDTH]

    def given(name):
        weights, directions = (NARROW[name].get(k) for k in ("weights", "directions"))
        v = np.eye(D) if directions is None else directions
        return v.T @ (v if weights is None else weights[:, None] * v)

    def laplacians(w, u, x, c):
        f = partial(two_layers, w, u)
        every = {name: dv.laplacian(f, **NARROW[name])(x) for name in NARROW}
        # The others' values are known while this program is traced.
        return every | {"traced weights": dv.laplacian(f, weights=c)(x)}

    def traces(w, u, x, forms):
        hessian = jax.hessian(partial(two_layers, w, u))(x)
        return {name: jnp.sum(hessian * form) for name, form in forms.items()}

    @compiled
    def both(w, u, x, c, forms):
        return [
            (make(w, u, x, last), jax.jacrev(make)(w, u, x, last))
            for make, last in ((laplacians, c), (traces, forms))
        ]

    c = some_weights(0.0)
    forms = {name: given(name) for name in NARROW} | {"traced weights": np.diag(c)}
    found, expected = both(LAYER, u, AT, c, forms)
    chex.assert_trees_all_close(found[0], expected[0], rtol=1e-10)
    chex.assert_trees_all_close(found[1], expected[1], rtol=1e-10, atol=1e-10)


def test_laplacian_of_a_narrow_layer_takes_weights_that_are_arrays_of_jax(x64):
    f = partial(two_layers, jnp.asarray(LAYER), jnp.asarray(LAYER[:, :WIDTH]))
    c = some_weights(0.0)

    @compiled
    def everything(x, traced):
        def weighed(traced):
            return dv.laplacian(f, weights=traced)(x)

        known = dv.laplacian(f, weights=jnp.asarray(c))(x)
        seconds = jnp.diagonal(jax.hessian(f)(x))
        return known, jax.value_and_grad(weighed)(traced), seconds

    known, step, seconds = everything(AT, c)
    chex.assert_trees_all_close(step, (c @ seconds, seconds), rtol=1e-10)
    np.testing.assert_allclose(known, c @ seconds, rtol=1e-10)


FIRST_LAYERS = {
    "x @ W": lambda w, x: x @ w.T,
    "bias": lambda w, x: w @ x + w[:, 0],
    "normalised input": lambda w, x: w @ ((x - AT) / (2 + AT)) - w[:, 0],
    "inside jit": lambda w, x: jax.jit(jnp.matmul)(w, x),
    "all in jit": lambda w, x: jax.jit(lambda x: jnp.sin(w @ x))(x),
    "convolution": lambda w, x: jnp.convolve(x, w[0], "valid"),
    "half of the input": lambda w, x: w[:, :12] @ x[12:],
    "other ways past it": lambda w, x: w @ x + x[0] ** 2,
    "stopped": lambda w, x: jax.lax.stop_gradient(w @ x) + 0 * x[0],
    "stopped as a whole": lambda w, x: jax.lax.stop_gradient(w @ x),
    "integers": lambda w, x: (10 * x).astype(int)[:WIDTH].astype(float),
    "one number": lambda w, x: jnp.sum(x),
    "constant": lambda w, x: w[0],
}


def test_laplacian_finds_the_narrow_layer_or_does_without(x64):
    def every(operator, x):
        w = jnp.asarray(LAYER)
        return {
            name: operator(lambda x, z=z: jnp.sum(jnp.tanh(z(w, x)) ** 2))(x)
            for name, z in FIRST_LAYERS.items()
        }

    @compiled
    def both(x):
        return every(dv.laplacian, x), every(trace, x)

    chex.assert_trees_all_close(*both(AT), rtol=1e-10, atol=1e-10)


def test_laplacian_of_a_narrow_layer_has_second_parameter_derivatives(x64):
    def product(w, mode):
        def loss(w):
            f = partial(two_layers, w, jnp.asarray(LAYER[:, :WIDTH]))
            return dv.laplacian(f, mode=mode)(jnp.asarray(AT)) ** 2

        return jax.jvp(jax.grad(loss), (w,), (jnp.cos(w),))[1]

    @compiled
    def both(w):
        return product(w, None), product(w, "forward")

    narrow, exact = both(LAYER)
    np.testing.assert_allclose(narrow, exact, rtol=1e-9, atol=1e-9 * abs(exact).max())


def test_laplacian_of_a_narrow_layer_in_low_precision_is_off_by_roundings():
    @compiled
    def step(w, x):
        def loss(w, x):
            return dv.laplacian(partial(two_layers, w, w[:, :WIDTH]))(x)

        return jax.value_and_grad(loss)(w, x)

    def check(dtype):
        w, x = np.array(LAYER / D**0.5, dtype), np.array(AT, dtype)
        value, slope = step(w, x)
        assert value.dtype == slope.dtype == dtype
        exact = step(w.astype("float32"), AT.astype("float32"))
        # A few dozen roundings, of 2^-8 in a bfloat16.
        tolerance = 30 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(value, exact[0], rtol=tolerance)
        error = np.linalg.norm(slope - exact[1]) / np.linalg.norm(exact[1])
        assert error < tolerance

    assert_each(["bfloat16", "float16"], check)


def test_laplacian_of_a_narrow_layer_loses_nothing_in_float32(x64):
    d, width = 400, 64
    random = np.random.default_rng(0)
    w = random.normal(size=(width, d)) / d**0.5
    u = random.normal(size=(width, width)) / width**0.5
    x = random.normal(size=d)

    @jax.jit
    @jax.value_and_grad
    def loss(w, u, x):
        return dv.laplacian(lambda x: jnp.sum(jnp.tanh(u @ jnp.tanh(w @ x))))(x)

    value, slope = loss(*(a.astype("float32") for a in (w, u, x)))
    exact, exact_slope = loss(w, u, x)
    assert abs(value - exact) < 1e-6 * abs(exact)
    assert np.linalg.norm(slope - exact_slope) < 2e-6 * np.linalg.norm(exact_slope)


# Estimates


SAMPLES = 4096


def assert_mean(samples, expected):
    """Within five standard errors of its expectation, and not so by being vague."""
    error = np.std(samples) / len(samples) ** 0.5
    assert 0 < error < 0.1 * abs(expected)
    assert abs(np.mean(samples) - expected) < 5 * error


QUADRATIC = rows(3).T @ rows(3) + np.diag([1.0, 2.0, 3.0])


def quadratic(x):
    """Its Hessian is not diagonal."""
    return x @ jnp.asarray(QUADRATIC, x.dtype) @ x + jnp.sum(x**3)


def quadratic_hessian(x):
    return 2 * QUADRATIC + np.diag(6 * x)


PROBED = {
    "plain": {},
    "two probes": {"probes": 2},
    "weights": {"weights": np.array([1.0, -0.5, 3.0])},
    "directions": {"directions": rows(3)},
    "weighted directions": {"weights": WEIGHTS, "directions": rows(3)},
}
PROJECTIONS = (1, 3)
OFFSET = 5.0


@pytest.fixture
def samples(x64):
    """Every kind of estimate at one point, for many keys; one program makes them."""
    return estimates()


@cache
def estimates():
    x = jnp.asarray(example(3))

    def residual(key):
        return dv.laplacian(quadratic, probes=1, key=key)(x) - OFFSET

    @compiled
    @jax.vmap
    def every(key):
        probed = {
            name: dv.laplacian(quadratic, key=key, **{"probes": 1, **given})(x)
            for name, given in PROBED.items()
        }
        projected = {
            n: dv.jacobian_norm_squared(vector(4)[0], projections=n, key=key)(x)
            for n in PROJECTIONS
        }
        diagonal = dv.value_and_laplacian(lambda x: jnp.sum(x**4), probes=1, key=key)
        isotropic = {
            n: dv.jacobian_norm_squared(lambda x: 3 * x, projections=n, key=key)(x)
            for n in PROJECTIONS
        }
        return {
            "probed": probed,
            "projected": projected,
            "square": dv.unbiased_square(residual, key),
            "naive": residual(key) ** 2,
            "diagonal": diagonal(x),
            "isotropic": isotropic,
        }

    return jax.tree.map(np.asarray, every(jax.random.split(jax.random.key(0), SAMPLES)))


def test_laplacian_by_probes_has_the_laplacian_as_its_mean(samples):
    hessian = quadratic_hessian(example(3))

    def check(name):
        weights, directions = (PROBED[name].get(k) for k in ("weights", "directions"))
        v = np.eye(3) if directions is None else directions
        c = np.ones(len(v)) if weights is None else weights
        assert_mean(samples["probed"][name], c @ np.diagonal(v @ hessian @ v.T))

    assert_each(PROBED, check)


def test_laplacian_by_probes_is_exact_for_a_diagonal_hessian(samples):
    value, result = samples["diagonal"]
    x = example(3)
    np.testing.assert_allclose(value, np.full(SAMPLES, np.sum(x**4)), rtol=1e-13)
    np.testing.assert_allclose(result, np.full(SAMPLES, 12 * x @ x), rtol=1e-13)


def test_laplacian_of_all_signs_together_is_the_laplacian(x64):
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    x = jnp.asarray(example(3))
    mean = dv.laplacian(scalar, weights=np.full(8, 1 / 8), directions=signs)(x)
    np.testing.assert_allclose(mean, np.trace(scalar_hessian(example(3))), rtol=1e-12)


def test_jacobian_norm_squared_by_projections_has_itself_as_its_mean(samples):
    exact = np.sum(vector(4)[1](example(3)) ** 2)
    for n in PROJECTIONS:
        assert_mean(samples["projected"][n], exact)
        # Orthogonal projections, or one of norm one, lose nothing of a multiple of I.
        expected = np.full(SAMPLES, 27.0)
        np.testing.assert_allclose(samples["isotropic"][n], expected, rtol=1e-12)


def test_unbiased_square_is_unbiased_and_the_square_of_an_estimate_is_not(samples):
    exact = np.trace(quadratic_hessian(example(3))) - OFFSET
    assert_mean(samples["square"], exact**2)
    naive = samples["naive"]
    bias, error = np.mean(naive) - exact**2, np.std(naive) / SAMPLES**0.5
    assert bias > 5 * error


# Kinks


def pooled(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2,), (1,), "VALID")


# Between kinks linear, and the word by which the warning names them.
KINKED = {
    "relu": (jax.nn.relu, "relu"),
    "leaky_relu": (jax.nn.leaky_relu, "leaky_relu"),
    "hard_tanh": (jax.nn.hard_tanh, "hard_tanh"),
    "abs": (jnp.abs, "abs"),
    "maximum": (lambda x: jnp.maximum(x, 0.1), "max"),
    "clip": (lambda x: jnp.clip(x, -0.3, 0.5), "clip"),
    "sort": (jnp.sort, "sort"),
    "max": (jnp.max, "reduce_max"),
    "pooling": (pooled, "reduce_window_max"),
    "where": (lambda x: jnp.where(x > 0, x, 0.0), "where"),
    "two slopes": (lambda x: jnp.where(x > 0, x, 0.1 * x), "where"),
    "select": (lambda x: jax.lax.select(x > 0, x, 0.1 * x), "where"),
    "top_k": (lambda x: jax.lax.top_k(x, 2)[0], "top_k"),
}
SMOOTH = {
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "logsumexp": jax.nn.logsumexp,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "mask": lambda x: jnp.where(np.array([True, False, True]), x**2, x),
    "mask of a line": lambda x: jnp.where(np.array([True, False, True]), x, 0.0),
    "line": lambda x: 2 * x,
    "norm": jnp.linalg.norm,
    "sinc": jnp.sinc,
    "out of reach": lambda x: jnp.sqrt(jnp.where(x > -9, x**2 + 1, 1.0)),
}


def at_a_number(operator):
    """An operator of functions of one number, on a line through x."""
    return lambda f: lambda x: operator(lambda t: f(t * x))(jnp.ones((), x.dtype))


SECOND_ORDER = {
    "laplacian": dv.laplacian,
    "stacked": lambda f: dv.laplacian(f, unroll=False),
    "hessian_diagonal": dv.hessian_diagonal,
    "partial": lambda f: dv.partial_derivative(f, 1, 1),
    "derivative": at_a_number(lambda f: dv.derivative(f, 2)),
}
FIRST_ORDER = {
    "gradient": dv.gradient,
    "partial": lambda f: dv.partial_derivative(f, 1),
    "forward": lambda f: lambda x: derivatives(f, Gradient(), mode="forward")(x),
    "derivative": at_a_number(dv.derivative),
}


def warned(f, *args):
    """The warnings of one call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        f(*args)
    return [str(w.message) for w in caught if w.category is UserWarning]


def traced(operator, f):
    x = jax.ShapeDtypeStruct((3,), "float32")
    return warned(lambda: jax.eval_shape(operator(f), x))


def test_operators_of_second_order_warn_once_of_a_kink():
    def check(name):
        g, word = KINKED[name]

        def f(x):
            return jnp.sum(g(g(2.0 * x)))

        for operator in SECOND_ORDER.values():
            [message] = traced(operator, f)
            assert f"second derivative of {word} is zero" in message
        assert not any(traced(operator, f) for operator in FIRST_ORDER.values())

    assert_each(KINKED, check)


def test_operators_warn_of_nothing_where_nothing_is_lost():
    every = {**FIRST_ORDER, **{f"second {n}": o for n, o in SECOND_ORDER.items()}}

    def check(name):
        def f(x):
            return jnp.sum(SMOOTH[name](2.0 * x))

        assert not {key: said for key, o in every.items() if (said := traced(o, f))}

    assert_each(SMOOTH, check)


@pytest.mark.filterwarnings("ignore:the second derivative")
def test_operators_of_second_order_are_zero_between_kinks():
    def every(x):
        return [
            operator(lambda x, g=g: jnp.sum(g(2.0 * x)))(x)
            for g, _ in KINKED.values()
            for operator in SECOND_ORDER.values()
        ]

    found = jax.jit(every, compiler_options=COMPILER)(jnp.asarray(example(3)))
    assert not any(jnp.any(result) for result in found)


def test_laplacian_once_compiled_does_not_warn_again():
    step, x = jax.jit(dv.laplacian(lambda x: jnp.sum(jax.nn.relu(x)))), jnp.ones(3)
    assert len(warned(step, x)) == 1
    assert warned(step, 2 * x) == []


# Derivatives of derivatives


def test_operators_nest_and_live_inside_transforms(x64):
    x, d = jnp.asarray(example(3)), 3
    slope, hessian = jax.grad(scalar), jax.hessian(scalar)
    laplacian = dv.laplacian(scalar)

    def inside_a_scan(x):
        def turn(x, _):
            return x + 0.1 * laplacian(x), laplacian(x)

        return jax.lax.scan(turn, x, length=2)[1]

    def found(x):
        return {
            "biharmonic": dv.laplacian(laplacian)(x),
            "slope of it": jax.grad(laplacian)(x),
            "along": jax.jvp(laplacian, (x,), (jnp.ones(d),))[1],
            "gradient of it": dv.gradient(dv.partial_derivative(scalar, 0, 1))(x),
            "the same for all": jax.vmap(laplacian, in_axes=None, axis_size=2)(x),
            "recomputed": jax.grad(jax.checkpoint(laplacian))(x),
            "scan": inside_a_scan(x),
            "of a slope": dv.laplacian(lambda x: slope(x)[0])(x),
        }

    def expected(x):
        a, b = (jnp.asarray(c) for c in coefficients(d))

        def exact(x):
            return jnp.trace(hessian(x))

        third = jax.grad(exact)(x)
        waves = (a @ a) ** 2 * jnp.sin(a @ x) + (b @ b) ** 2 * jnp.exp(b @ x)
        return {
            "biharmonic": waves + 8 * d * (d + 2),
            "slope of it": third,
            "along": jnp.sum(third),
            "gradient of it": jax.grad(lambda x: hessian(x)[0, 1])(x),
            "the same for all": jnp.stack([exact(x)] * 2),
            "recomputed": third,
            "scan": jnp.stack([exact(x), exact(x + 0.1 * exact(x))]),
            "of a slope": third[0],
        }

    chex.assert_trees_all_close(
        jax.jit(found, compiler_options=COMPILER)(x),
        jax.jit(expected, compiler_options=COMPILER)(x),
        rtol=1e-11,
    )


# Refusals


loose: Any = dv  # most of this a type checker refuses first
X, BATCH = np.ones(3, np.float32), np.ones((1000, 3), np.float32)
REFUSED = {
    "batch": (
        lambda: loose.gradient(jnp.sum)(BATCH),
        ValueError,
        "(1000, 3); write one",
    ),
    "batch to many": (
        lambda: loose.derivatives(jnp.sum, Value())(BATCH),
        ValueError,
        "batch with jax.vmap",
    ),
    "batch of numbers": (
        lambda: loose.derivative(jnp.sin)(X),
        ValueError,
        "(3,); write one example and batch with jax.vmap",
    ),
    "number": (
        lambda: loose.laplacian(jnp.sum)(1.0),
        ValueError,
        "derivatives.derivative",
    ),
    "integers": (lambda: loose.gradient(jnp.sum)(np.arange(3)), TypeError, "dtype int"),
    "integer": (lambda: loose.derivative(jnp.sin)(1), TypeError, "dtype int"),
    "complex": (lambda: loose.gradient(jnp.sum)(X * 1j), TypeError, "dtype complex"),
    "pytree": (lambda: loose.gradient(jnp.sum)({"x": X}), TypeError, "type dict"),
    "text": (lambda: loose.gradient(jnp.sum)("x"), TypeError, "type str"),
    "(1,) for ()": (
        lambda: loose.gradient(lambda x: x[:1])(X),
        ValueError,
        "f returned shape (1,); return a scalar, e.g. f(x)[0]",
    ),
    "(3,) for ()": (
        lambda: loose.hessian(lambda x: x)(X),
        ValueError,
        "f returned shape (3,); return a scalar, or use derivatives.jacobian",
    ),
    "() for (m,)": (
        lambda: loose.jacobian(jnp.sum)(X),
        ValueError,
        "f returned shape (); return shape (m,), or use derivatives.gradient",
    ),
    "(3, 3) for (m,)": (
        lambda: loose.jacobian_norm_squared(lambda x: x[:, None] * x[None])(X),
        ValueError,
        "(3, 3)",
    ),
    "tuple": (lambda: loose.gradient(lambda x: (x[0], x))(X), TypeError, "type tuple"),
    "nothing": (lambda: loose.gradient(lambda x: None)(X), TypeError, "type NoneType"),
    "integer output": (lambda: loose.gradient(jnp.argmax)(X), TypeError, "dtype int"),
    "input": (
        lambda: loose.partial_derivative(jnp.sum, 0, 3)(X),
        ValueError,
        "got input 3 for x of shape (3,); inputs are numbered 0 to 2",
    ),
    "negative": (
        lambda: loose.partial_derivative(jnp.sum, -1)(X),
        ValueError,
        "input must be a whole number >= 0, got -1",
    ),
    "no input": (lambda: loose.partial_derivative(jnp.sum), ValueError, "no inputs"),
    "half": (lambda: loose.partial_derivative(jnp.sum, 0.5), ValueError, "got 0.5"),
    "order": (
        lambda: loose.derivative(jnp.sin, 0),
        ValueError,
        "derivative: order must be a whole number >= 1, got 0",
    ),
    "half order": (lambda: loose.derivative(jnp.sin, 1.5), ValueError, "got 1.5"),
    "direction": (
        lambda: loose.directional_derivative(jnp.sum, np.ones(2))(X),
        ValueError,
        "direction of shape (2,) for x of shape (3,)",
    ),
    "vector": (
        lambda: loose.hessian_vector_product(jnp.sum, np.ones((3, 1)))(X),
        ValueError,
        "vector must be an array (d,) of finite numbers, got shape (3, 1)",
    ),
    "weights": (
        lambda: loose.laplacian(jnp.sum, weights=np.ones(2))(X),
        ValueError,
        "weights of shape (2,) for 3 directions; pass shape (3,)",
    ),
    "directions": (
        lambda: loose.value_and_laplacian(jnp.sum, directions=np.ones(3))(X),
        ValueError,
        "directions must be an array (k, d) of finite numbers, got shape (3,)",
    ),
    "divergence": (
        lambda: loose.divergence(lambda x: x[:2])(X),
        ValueError,
        "f returned shape (2,) for x of shape (3,); return a vector field",
    ),
    "curl": (
        lambda: loose.curl(lambda x: x)(np.ones(4, np.float32)),
        ValueError,
        "x of shape (4,); it is defined for shapes (2,) and (3,)",
    ),
    "curl output": (lambda: loose.curl(jnp.sum)(X), ValueError, "f returned shape ()"),
    "nothing wanted": (
        lambda: loose.derivatives(jnp.sum),
        ValueError,
        "nothing to compute",
    ),
    "twice": (
        lambda: loose.derivatives(jnp.sum, Partial(0), Value(), Partial((0,))),
        ValueError,
        "partial_0 twice",
    ),
    "class": (lambda: loose.derivatives(jnp.sum, Value), TypeError, "got Value; pass"),
    "word": (
        lambda: loose.derivatives(jnp.sum, "value"),
        TypeError,
        "got 'value'; pass",
    ),
    "probes without a key": (
        lambda: loose.laplacian(jnp.sum, probes=4),
        ValueError,
        "laplacian got only one of probes= and key=; pass both",
    ),
    "key without probes": (
        lambda: loose.value_and_laplacian(jnp.sum, key=jax.random.key(0)),
        ValueError,
        "value_and_laplacian got only one of probes= and key=",
    ),
    "no probes": (
        lambda: loose.laplacian(jnp.sum, probes=0, key=jax.random.key(0)),
        ValueError,
        "laplacian: probes must be a whole number >= 1, got 0",
    ),
    "projections without a key": (
        lambda: loose.jacobian_norm_squared(jnp.sin, projections=4),
        ValueError,
        "only one of projections= and key=",
    ),
    "mode": (
        lambda: loose.hessian(jnp.sum, mode="backward"),
        ValueError,
        "hessian: mode must be None, 'forward' or 'reverse', got 'backward'",
    ),
    "mode of several": (
        lambda: loose.derivatives(jnp.sum, Value(), mode="both"),
        ValueError,
        "derivatives: mode must be None, 'forward' or 'reverse', got 'both'",
    ),
    "far partial": (
        lambda: loose.derivatives(jnp.sum, Partial((0, 5)))(X),
        ValueError,
        "input 5",
    ),
    "third order backwards": (
        lambda: derivatives(jnp.prod, Partial((0, 0, 1)), mode="reverse")(X),
        ValueError,
        "reverse mode takes derivatives up to the second",
    ),
    "complex direction": (
        lambda: dv.directional_derivative(jnp.sum, np.array([1j, 1, 0]))(X),
        TypeError,
        "direction must be an array (d,) of finite numbers",
    ),
    "no inputs": (
        lambda: dv.laplacian(jnp.sum)(X[:0]),
        ValueError,
        "at least one input",
    ),
    "no outputs": (
        lambda: dv.jacobian(lambda x: x[:0])(X),
        ValueError,
        "f returned shape (0,)",
    ),
    "no directions": (
        lambda: dv.laplacian(jnp.sum, directions=np.ones((0, 3)))(X),
        ValueError,
        "directions of shape (0, 3)",
    ),
    "no function": (
        lambda: loose.laplacian(X),
        TypeError,
        "laplacian: f must be a function of one example x -> array",
    ),
    "layout": (
        lambda: loose.jacobian(jnp.sin, unroll="no"),
        ValueError,
        "jacobian: unroll must be None, True or False, got 'no'",
    ),
    "truth as an input": (
        lambda: loose.partial_derivative(jnp.sum, True),
        TypeError,
        "partial_derivative: the number of an input must be a whole number >= 0",
    ),
    "text as an order": (
        lambda: loose.derivative(jnp.sin, "2"),
        TypeError,
        "derivative: order must be a whole number >= 1, got '2'",
    ),
    "half probes": (
        lambda: loose.laplacian(jnp.sum, probes=1.5, key=jax.random.key(0)),
        ValueError,
        "laplacian: probes must be a whole number >= 1, got 1.5",
    ),
    "number as a key": (
        lambda: loose.laplacian(jnp.sum, probes=2, key=0),
        TypeError,
        "laplacian: key must be one key",
    ),
    "unknown weight": (
        lambda: loose.laplacian(jnp.sum, weights=[1.0, np.nan, 0.0])(X),
        ValueError,
        "laplacian: weights must be an array (k,) of finite numbers, got nan",
    ),
    "text as a direction": (
        lambda: loose.directional_derivative(jnp.sum, "x")(X),
        TypeError,
        "directional_derivative: direction must be an array (d,)",
    ),
    "explain a batch": (
        lambda: loose.explain(jnp.sum, BATCH, Gradient()),
        ValueError,
        "explain got x of shape (1000, 3)",
    ),
}


def test_operators_refuse_in_one_sentence_that_says_what_to_do():
    assert_refused((call, error, [said]) for call, error, said in REFUSED.values())

    def check(name):
        call, error, _ = REFUSED[name]
        with pytest.raises(error) as caught:
            call()
        assert not str(caught.value).endswith(".")

    assert_each(REFUSED, check)


def test_operators_refuse_under_jit_and_vmap():
    with pytest.raises(ValueError, match="write one example"):
        jax.jit(loose.gradient(jnp.sum))(BATCH)
    with pytest.raises(ValueError, match="return a scalar"):
        jax.vmap(dv.gradient(lambda x: x[:1]))(BATCH)


# What is cheap stays cheap, and what is alike is treated alike.


def wide(x):
    """Three layers of 32 on any number of inputs."""
    w = np.cos(np.arange(x.size * 32.0)).reshape(x.size, 32)
    u = np.sin(np.arange(32.0 * 32)).reshape(32, 32) / 6
    h = jnp.tanh(x @ jnp.asarray(w, x.dtype) / x.size**0.5)
    return jnp.tanh(jnp.tanh(h @ jnp.asarray(u, x.dtype)) @ jnp.asarray(u, x.dtype))


def wide_sum(x):
    return jnp.sum(wide(x))


def no_dearer(f, wanted, g, others, d, allowed=1.02):
    x = jnp.ones(d)
    ours, theirs = flops(derivatives(f, *wanted), x), flops(derivatives(g, *others), x)
    assert ours <= allowed * theirs


ALIKE = {
    "unit directions": ([Laplacian(None, np.eye(4)[1:])], [Laplacian([0, 1, 1, 1])]),
    "no weight": ([Laplacian([0, 1, 1, 0])], [Laplacian(None, np.eye(4)[1:3])]),
    "weights of numpy": ([Laplacian(np.ones(4))], [Laplacian(jnp.ones(4))]),
}


def test_laplacian_reads_directions_and_weights(x64):
    for ours, theirs in ALIKE.values():
        both = [Value(), Jacobian()]
        no_dearer(wide, [*both, *ours], wide, [*both, *theirs], 4)

    @compiled
    def every(x):
        return {
            name: [derivatives(wide_sum, *each)(x).laplacian for each in pair]
            for name, pair in ALIKE.items()
        }

    for name, pair in every(example(4)).items():
        np.testing.assert_allclose(*pair, rtol=1e-12, err_msg=name)


def test_laplacian_whose_weights_are_known_starts_narrow_under_jit():
    def check(weights):
        operator = dv.laplacian(wide_sum, weights=weights)
        assert "_triangle" in str(jax.make_jaxpr(operator)(np.ones(80)))

    assert_each([None, np.ones(80), jnp.full(80, 2.0), [0.5] * 80], check)


def test_directional_derivative_has_the_flops_of_a_jvp():
    x, v = jnp.ones(6), jnp.ones(6)

    def step(along):
        return jax.grad(lambda x: along(x) ** 2)

    ours = flops(step(dv.directional_derivative(wide_sum, v)), x)
    assert ours <= flops(step(lambda x: jax.jvp(wide_sum, (x,), (v,))[1]), x)


def test_laplacian_stays_narrow_beside_a_partial_derivative():
    x = jnp.ones(80)
    apart = sum(
        flops(derivatives(wide_sum, q), x) for q in (Laplacian(), Partial((0, 0)))
    )
    assert flops(derivatives(wide_sum, Laplacian(), Partial((0, 0))), x) <= 1.1 * apart


@pytest.mark.parametrize(("d", "m"), [(6, 3), (7, 4), (3, 2)])
def test_hessian_of_several_outputs_costs_no_more_than_by_jax(d, m):
    def f(x):
        return wide(x)[:m]

    x = jnp.ones(d)
    ours = flops(derivatives(f, Hessian()), x)
    # The same schedule, with the value beside it.
    assert ours <= 1.1 * min(
        flops(jax.jacfwd(jax.jacrev(f)), x), flops(jax.jacfwd(jax.jacfwd(f)), x)
    )


def test_derivative_of_two_orders_more_does_not_double_the_program():
    functions = {
        "log": jnp.log,
        "arctan": jnp.arctan,
        "softplus": jax.nn.softplus,
        "runge": lambda x: 1 / (1 + 25 * x**2),
        "sqrt": jnp.sqrt,
    }

    def check(name):
        def size(order):
            jaxpr = jax.make_jaxpr(dv.derivative(functions[name], order))(0.7)
            return str(jaxpr).count("\n")

        assert size(10) <= 2 * size(8)

    assert_each(functions, check)


def test_derivative_of_an_order_whose_factorial_is_no_integer_of_32_bits():
    np.testing.assert_allclose(dv.derivative(jnp.sin, 13)(0.3), np.cos(0.3), rtol=1e-4)


def test_laplacian_takes_a_complex_first_layer(x64):
    w = np.exp(1j * np.arange(60.0)).reshape(3, 20) / 4
    x = jnp.asarray(example(20))
    f = lambda x: jnp.real(jnp.sum(jnp.exp(jnp.asarray(w) @ x)))  # noqa: E731
    expected = np.real(np.exp(w @ np.asarray(x)) @ np.sum(w**2, axis=1))
    np.testing.assert_allclose(compiled(dv.laplacian(f))(x), expected, rtol=1e-10)


def test_laplacian_takes_an_activation_that_changes_the_precision():
    act = jax.jit(lambda x: (x * jax.nn.sigmoid(x)).astype(jnp.bfloat16))

    def f(x):
        h = jnp.concatenate([act(x), x.astype(jnp.bfloat16)])
        c, _ = jax.lax.scan(lambda c, t: (jnp.maximum(c, act(t)) * c, None), h[0], h)
        return c + jnp.sum(h)

    @compiled
    def both(x):
        return [dv.laplacian(f, unroll=unroll)(x) for unroll in (True, False)]

    assert all(jnp.isfinite(each) for each in both(np.ones(3, "float32")))


def test_derivative_follows_a_custom_vjp_of_one_number(x64):
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (2 * jnp.cos(x) * g,))

    @compiled
    def both(x):
        return dv.derivative(f)(x), dv.derivative(f, 2)(x)

    np.testing.assert_allclose(
        both(0.3), [2 * np.cos(0.3), -2 * np.sin(0.3)], rtol=1e-12
    )


def test_laplacian_takes_a_list_of_traced_numbers_as_weights(x64):
    @compiled
    def both(x, c):
        return dv.laplacian(wide_sum, weights=[c] * 20)(x), dv.laplacian(wide_sum)(x)

    weighed, plain = both(example(20), 2.0)
    np.testing.assert_allclose(weighed, 2 * plain, rtol=1e-10)


def test_laplacian_takes_directions_that_repeat(x64):
    d = 24
    repeated = np.concatenate([np.eye(d), np.eye(d)[:3], np.ones((2, d))])
    weights = np.arange(len(repeated)) % 5 / 3.0
    r = rows(d)

    def narrow(x):
        return jnp.sum(jnp.tanh(jnp.asarray(r) @ x) ** 3)

    @compiled
    def every(x):
        return [
            dv.laplacian(narrow, weights=weights, directions=repeated, unroll=unroll)(x)
            for unroll in (True, False, None)
        ]

    # With t = tanh z: (t³)'' = (6 t - 12 t³) (1 - t²).
    t = np.tanh(r @ example(d))
    hessian = r.T @ (((6 * t - 12 * t**3) * (1 - t**2))[:, None] * r)
    expected = weights @ np.diagonal(repeated @ hessian @ repeated.T)
    np.testing.assert_allclose(every(example(d)), [expected] * 3, rtol=1e-10)


@pytest.mark.parametrize(
    "seed",
    [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 12))],
)
def test_derivatives_of_any_quantities_together_in_any_mode(seed, x64):
    draw = np.random.default_rng(seed)
    d, m, k = (int(n) for n in draw.integers(1, (7, 4, 5)))
    w, u, vs = (
        draw.normal(size=(d, 5)),
        draw.normal(size=(5, m)),
        draw.normal(size=(k, d)),
    )
    vs[0] = np.eye(d)[d - 1]
    c, x = draw.integers(-1, 3, k).astype(float), draw.normal(size=d)
    scalar_valued = bool(draw.integers(2))

    def f(x):
        y = (jnp.tanh(x @ w) + jax.nn.gelu(x @ w)) @ u
        return y[0] if scalar_valued else y

    def exact(x):
        y, j, h = twice(f, x)
        return [
            y,
            j,
            j[..., a],
            h[..., a, b],
            j @ vs[-1],
            h,
            jnp.diagonal(h, axis1=-2, axis2=-1),
            jnp.trace(h, axis1=-2, axis2=-1),
            jnp.einsum("...ij,ij->...", h, vs.T @ (c[:, None] * vs)),
        ]

    a, b = (int(n) for n in draw.integers(0, d, 2))
    asked = [
        Value(),
        Gradient() if scalar_valued else Jacobian(),
        Partial(a),
        Partial((a, b)),
        Directional(vs[-1]),
        Hessian(),
        HessianDiagonal(),
        Laplacian(),
        Laplacian(c, vs),
    ]
    picked = draw.permutation(len(asked))[: draw.integers(1, 6)]
    mode = [None, "forward", "reverse"][draw.integers(3)]
    unroll = [None, True, False][draw.integers(3)]
    wanted = [asked[n] for n in picked]

    @compiled
    def both(x):
        ours = derivatives(f, *wanted, mode=mode, unroll=unroll)(x)
        every = exact(x)
        return tuple(ours), tuple(every[n] for n in picked)

    chex.assert_trees_all_close(*both(x), rtol=1e-9, atol=1e-10)
