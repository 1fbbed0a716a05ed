"""The operators against closed forms, finite differences and nested jax.grad."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

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
    derivatives,
)

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
@pytest.mark.parametrize("name", SCALAR_OPERATORS)
def test_scalar_operator_equals_its_closed_form(name, d, dtype):
    make, expected = SCALAR_OPERATORS[name]
    result = jax.jit(make(scalar))(jnp.asarray(example(d, dtype)))
    assert result.dtype == dtype
    tolerance = 10 * TOLERANCE[dtype]
    np.testing.assert_allclose(
        result, expected(example(d)), rtol=tolerance, atol=tolerance
    )


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


@pytest.mark.parametrize(("d", "m"), [(1, 1), (4, 2), (2, 5)])
@pytest.mark.parametrize("name", VECTOR_OPERATORS)
def test_vector_operator_equals_its_closed_form(name, d, m, dtype):
    make, read = VECTOR_OPERATORS[name]
    f, jacobian = vector(m)
    tolerance = TOLERANCE[dtype]
    result = jax.jit(make(f))(jnp.asarray(example(d, dtype)))
    expected = read(jacobian(example(d)))
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_divergence_is_the_trace(d, x64):
    f, jacobian = vector(d)
    result = dv.divergence(f)(jnp.asarray(example(d)))
    np.testing.assert_allclose(result, np.trace(jacobian(example(d))), rtol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_curl_of_a_rotation_is_twice_its_axis_and_of_a_gradient_zero(d, x64):
    x = jnp.asarray(example(d))
    if d == 3:
        axis = jnp.array([0.5, -1.0, 2.0])
        result, expected = dv.curl(lambda x: jnp.cross(axis, x))(x), 2 * axis
    else:
        result, expected = dv.curl(lambda x: jnp.stack([-x[1], x[0]]))(x), 2.0
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    nothing = dv.curl(dv.gradient(scalar))(x)
    assert nothing.shape == ((3,) if d == 3 else ())
    np.testing.assert_allclose(nothing, 0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_derivative_of_every_order(order, dtype):
    x = jnp.asarray(0.4, dtype)
    # d^k/dx^k of (sin 2x, x^4) is (2^k sin(2x + k pi/2), 4!/(4-k)! x^(4-k)).
    result = dv.derivative(lambda x: jnp.stack([jnp.sin(2 * x), x**4]), order)(x)
    power = {1: 4 * 0.4**3, 2: 12 * 0.4**2, 3: 24 * 0.4, 5: 0.0}[order]
    expected = [2**order * np.sin(0.8 + order * np.pi / 2), power]
    tolerance = 2**order * TOLERANCE[dtype]
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("inputs", [(0,), (2,), (0, 1), (1, 1), (2, 0, 1), (1, 0, 1)])
def test_partial_derivative_equals_nested_grad(inputs, x64):
    oracle = scalar
    for i in inputs:
        oracle = entry_of_gradient(oracle, i)
    x = jnp.asarray(example(3))
    result = jax.jit(dv.partial_derivative(scalar, *inputs))(x)
    np.testing.assert_allclose(result, jax.jit(oracle)(x), rtol=1e-12)


def entry_of_gradient(f, i):
    return lambda x: jax.grad(f)(x)[i]


def test_partial_derivative_of_a_matrix_valued_function(x64):
    x = jnp.asarray(example(2))
    result = dv.partial_derivative(lambda x: jnp.sin(x)[:, None] * x[None], 0)(x)
    a, b = np.asarray(x)
    expected = [[np.cos(a) * a + np.sin(a), np.cos(a) * b], [np.sin(b), 0.0]]
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["gradient", "laplacian", "hessian_diagonal"])
def test_operator_equals_central_differences_of_a_network(name, key, x64):
    params = network(key)
    x, step = jnp.asarray(example(3)), 1e-4
    shifts = step * jnp.eye(3)
    value = jax.vmap(lambda x: net(params, x))
    up, down = value(x[None] + shifts), value(x[None] - shifts)
    second = (up - 2 * net(params, x) + down) / step**2
    expected = {
        "gradient": (up - down) / (2 * step),
        "hessian_diagonal": second,
        "laplacian": second.sum(),
    }[name]
    result = getattr(dv, name)(lambda x: net(params, x))(x)
    # Rounding: 4 eps / step^2 is 1e-7 for the second differences.
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


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


@pytest.mark.parametrize("name", ALL)
def test_jit_is_eager_and_vmap_is_a_loop(name, key, x64):
    make, f = ALL[name]
    params = network(key)
    operate = make(lambda x: f(params, x))
    points = jax.random.normal(key, (2, 3))
    batched = jax.jit(jax.vmap(operate))(points)
    looped = [operate(x) for x in points]  # eager
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *looped)
    chex.assert_trees_all_close(batched, stacked, rtol=1e-12, atol=1e-12)


# The operators left out return a part of what one of these returns.
@pytest.mark.parametrize(
    "name",
    [n for n in ALL if n not in ("gradient", "jacobian", "laplacian", "hvp")],
)
def test_parameter_gradient_through_the_operator(name, key, x64):
    make, f = ALL[name]

    def loss(params):
        out = make(lambda x: f(params, x))(jnp.asarray(example(3)))
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(out))

    # Central differences: truncation of order eps², rounding 1e-16 / eps. Reverse mode
    # is what training takes.
    params = network(key, width=3)
    check_grads(jax.jit(loss), (params,), 1, modes=("rev",), eps=1e-5, rtol=1e-5)


def test_constant_and_linear_functions_have_zero_derivatives():
    x = jnp.ones(3)
    assert not dv.gradient(lambda x: jnp.float32(1))(x).any()
    assert not dv.hessian(jnp.sum)(x).any()
    assert dv.laplacian(jnp.sum)(x) == 0


def test_python_and_numpy_numbers_are_examples():
    assert dv.derivative(lambda x: x**2)(3.0) == 6.0
    assert dv.gradient(jnp.sum)(np.ones(2, np.float32)).shape == (2,)


def test_custom_vjp_has_a_gradient():
    """A function without a forward mode, as many kernels are."""

    @jax.custom_vjp
    def clipped(x):
        return jnp.sum(x**2)

    clipped.defvjp(
        lambda x: (clipped(x), x), lambda x, g: (jnp.clip(2 * x, -1, 1) * g,)
    )
    np.testing.assert_array_equal(
        dv.gradient(clipped)(jnp.array([3.0, 0.25])), [1, 0.5]
    )


# Several at once


SCALAR_WANTED = {
    "value": ([Value()], lambda f, x: [f(x)]),
    "first": (
        [Value(), Gradient(), Partial((1,))],
        lambda f, x: [f(x), jax.grad(f)(x), jax.grad(f)(x)[1]],
    ),
    "one partial": ([Value(), Partial(1)], lambda f, x: [f(x), jax.grad(f)(x)[1]]),
    "partials": (
        [Partial(1), Partial(0), Directional(np.ones(3))],
        lambda f, x: [*jax.grad(f)(x)[jnp.array([1, 0])], jax.grad(f)(x).sum()],
    ),
    "mixed": (
        [Value(), Partial((0, 1)), Partial((2, 2, 1))],
        lambda f, x: [
            f(x),
            jax.hessian(f)(x)[0, 1],
            jax.jacfwd(jax.hessian(f))(x)[2, 2, 1],
        ],
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
        lambda f, x: [
            jax.hessian(f)(x),
            jnp.trace(jax.hessian(f)(x)),
            jnp.diagonal(jax.hessian(f)(x)),
            jax.grad(f)(x),
            f(x),
            jax.hessian(f)(x)[0, 1],
        ],
    ),
    "own directions": (
        [Laplacian(directions=rows(3)[:1]), Value(), Laplacian(WEIGHTS, rows(3))],
        lambda f, x: [
            rows(3)[0] @ jax.hessian(f)(x) @ rows(3)[0],
            f(x),
            WEIGHTS @ jnp.diagonal(rows(3) @ jax.hessian(f)(x) @ rows(3).T),
        ],
    ),
    "many directions": (
        [Laplacian(None, np.eye(5)[:, :3] + 1), Gradient()],
        lambda f, x: [
            jnp.trace(
                (np.eye(5)[:, :3] + 1) @ jax.hessian(f)(x) @ (np.eye(5)[:, :3] + 1).T
            ),
            jax.grad(f)(x),
        ],
    ),
}


@pytest.mark.parametrize("name", SCALAR_WANTED)
def test_derivatives_of_a_scalar_function(name, x64):
    wanted, expected = SCALAR_WANTED[name]
    x = jnp.asarray(example(3))
    result = jax.jit(derivatives(scalar, *wanted))(x)
    oracle = jax.jit(lambda x: tuple(expected(scalar, x)))(x)
    chex.assert_trees_all_close(tuple(result), oracle, rtol=1e-12)


@pytest.mark.parametrize("m", [1, 3, 4])
def test_derivatives_of_a_vector_function(m, x64):
    f, jacobian = vector(m)
    x, j = jnp.asarray(example(3)), jacobian(example(3))
    wanted = [Value(), Jacobian(), Partial(2), Directional(jnp.ones(3))]
    result = derivatives(f, *wanted)(x)
    chex.assert_trees_all_close(
        tuple(result), (f(x), j, j[:, 2], j.sum(1)), rtol=1e-12, atol=1e-12
    )
    alone = derivatives(f, Partial(2), Partial(0))(x)
    chex.assert_trees_all_close(tuple(alone), (j[:, 2], j[:, 0]), atol=1e-12)


def test_laplacian_with_more_directions_than_inputs(x64):
    directions, x = np.cos(np.arange(15.0)).reshape(5, 3), example(3)
    result = dv.laplacian(scalar, directions=directions)(jnp.asarray(x))
    expected = np.trace(directions @ scalar_hessian(x) @ directions.T)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_fields_are_named_and_repeats_numbered():
    one = Directional(jnp.ones(2))
    wanted = Value(), Laplacian(), one, Partial((0, 1)), Laplacian(), one, one
    result = derivatives(jnp.prod, *wanted)(jnp.ones(2))
    assert type(result)._fields == (
        "value",
        "laplacian",
        "directional",
        "partial_0_1",
        "laplacian_1",
        "directional_1",
        "directional_2",
    )


def test_the_result_type_is_the_same_on_every_call():
    first, second = (derivatives(jnp.prod, Value(), Gradient()) for _ in range(2))
    x = jnp.ones(2)
    assert jax.tree.structure(first(x)) == jax.tree.structure(second(x))
    carried, _ = jax.lax.scan(lambda c, _: (first(x), None), second(x), length=2)
    assert type(carried) is type(first(x))


def flops(f, *args):
    """The FLOPs that the compiler reports."""
    costs: Any = jax.jit(f).lower(*args).compile().cost_analysis()
    return (costs[0] if isinstance(costs, list) else costs)["flops"]


@pytest.mark.parametrize(
    ("together", "apart"),
    [
        ([Value(), Gradient()], [dv.gradient]),
        ([Value(), Gradient(), Laplacian()], [dv.laplacian]),
        ([Hessian(), HessianDiagonal(), Laplacian()], [dv.hessian]),
    ],
)
def test_sharing_costs_what_the_dearest_costs(together, apart, key):
    params, x = network(key, d=6, width=64), jnp.ones(6)
    shared = flops(derivatives(lambda x: net(params, x), *together), x)
    alone = sum(flops(make(lambda x: net(params, x)), x) for make in apart)
    # What is read from a pass (sums, a trace) is small beside its matrix products.
    assert shared <= 1.15 * alone


@pytest.mark.parametrize(("d", "m"), [(64, 2), (2, 64)])
def test_jacobian_takes_the_cheaper_mode(d, m, key):
    w = jax.random.normal(key, (m, 32)), jax.random.normal(key, (32, d))

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
        [Value(), Jacobian()],
        ["shared", "reverse, 2 cotangents"],
    ),
    "tall": (
        lambda x: jnp.concatenate([x, x]),
        [Jacobian(), Partial(0)],
        ["forward, 3 tangents", "read from the whole"],
    ),
    "partial": (jnp.prod, [Partial(1), Value()], ["forward, 1 tangent", "shared"]),
    "mixed": (
        jnp.prod,
        [Value(), Partial((0, 1))],
        ["plain", "nested forward, 2 tang"],
    ),
    "second": (
        jnp.prod,
        [Value(), Gradient(), Laplacian(), Partial((0, 0))],
        [
            "shared",
            "shared",
            "forward-over-reverse, 3 tangents",
            "entry of the Hessian",
        ],
    ),
    "own": (jnp.prod, [Laplacian(None, rows(3))], ["forward-over-reverse, 2 tangents"]),
    "field": (jnp.sin, [Divergence()], ["forward, 3 tangents"]),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_explain_tells_mode_count_and_cost(name):
    f, wanted, said = EXPLAINED[name]
    header, *lines, together = dv.explain(f, jnp.ones(3), *wanted).split("\n")
    assert header.startswith("f: (3,) -> (")
    assert len(lines) == len(wanted)
    for line, words in zip(lines, said):
        assert words in line
        assert "FLOPs" in line
        assert "temporar" in line
    assert together.startswith("together")


def test_explain_says_forward_over_forward_for_one_input():
    text = dv.explain(lambda x: jnp.sin(x[0]), jnp.ones(1), Hessian())
    assert "forward-over-forward, 1 tangent" in text


@pytest.mark.parametrize("costs", [None, [], [{"flops": 7.0}], {}])
def test_explain_survives_what_backends_report(costs, monkeypatch):
    monkeypatch.setattr(jax.stages.Compiled, "cost_analysis", lambda self: costs)
    monkeypatch.setattr(jax.stages.Compiled, "memory_analysis", lambda self: None)
    text = dv.explain(jnp.prod, jnp.ones(3), Gradient())
    assert (
        "7 FLOPs" if costs and costs == [{"flops": 7.0}] else "FLOPs not rep"
    ) in text
    assert "temporaries not reported" in text


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
        "input -1",
    ),
    "no input": (lambda: loose.partial_derivative(jnp.sum), ValueError, "no inputs"),
    "half": (lambda: loose.partial_derivative(jnp.sum, 0.5), TypeError, "integers"),
    "order": (
        lambda: loose.derivative(jnp.sin, 0),
        ValueError,
        "order 0; pass 1 or more",
    ),
    "half order": (lambda: loose.derivative(jnp.sin, 1.5), TypeError, "order 1.5"),
    "direction": (
        lambda: loose.directional_derivative(jnp.sum, np.ones(2))(X),
        ValueError,
        "direction of shape (2,) for x of shape (3,)",
    ),
    "vector": (
        lambda: loose.hessian_vector_product(jnp.sum, np.ones((3, 1)))(X),
        ValueError,
        "vector of shape (3, 1)",
    ),
    "weights": (
        lambda: loose.laplacian(jnp.sum, weights=np.ones(2))(X),
        ValueError,
        "weights of shape (2,) for 3 directions; pass shape (3,)",
    ),
    "directions": (
        lambda: loose.value_and_laplacian(jnp.sum, directions=np.ones(3))(X),
        ValueError,
        "directions of shape (3,) for x of shape (3,); pass shape (k, 3)",
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
    "mixed kinds": (
        lambda: loose.derivatives(lambda x: x, Jacobian(), Laplacian())(X),
        ValueError,
        "Laplacian: f returned shape (3,)",
    ),
    "far partial": (
        lambda: loose.derivatives(jnp.sum, Partial((0, 5)))(X),
        ValueError,
        "input 5",
    ),
    "explain a batch": (
        lambda: loose.explain(jnp.sum, BATCH, Gradient()),
        ValueError,
        "explain got x of shape (1000, 3)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_is_one_sentence_that_says_what_to_do(name):
    call, error, said = REFUSED[name]
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert not message.endswith(".")


def test_refusals_come_under_jit_and_vmap():
    with pytest.raises(ValueError, match="write one example"):
        jax.jit(loose.gradient(jnp.sum))(BATCH)
    with pytest.raises(ValueError, match="return a scalar"):
        jax.vmap(dv.gradient(lambda x: x[:1]))(BATCH)
