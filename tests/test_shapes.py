"""The residuals everybody writes: values, signs, places and refusals."""

import re
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import sparse
from tables import assert_each, assert_refused

import jaxcon as jc
from jaxcon import shapes

# Half of what these tests take is machine code whose speed does not matter.
COMPILER = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}
compiled = partial(jax.jit, compiler_options=COMPILER)
POINTS = np.random.default_rng(0).normal(size=(7, 2))
SCALE = 1.7


def bump(p, x):
    """One output of two inputs."""
    return p * (x[0] ** 3 + x[0] * x[1] ** 2)


def pair(p, x):
    """Two outputs of two inputs."""
    return p * jnp.stack([x[0] + x[1], x[0] * x[1]])


def flat(p, x):
    """The gradient is zero at the origin only."""
    return p * jnp.sum(x**2)


# What NumPy says of the same functions and their derivatives, written by hand.
A, B = POINTS.T
VALUE = SCALE * (A**3 + A * B**2)
SLOPES = SCALE * (3 * A**2 + B**2), SCALE * 2 * A * B
CURVATURES = SCALE * 6 * A, SCALE * 2 * A
PAIR = SCALE * np.stack([A + B, A * B], axis=1)

# name: (constraint at `on`, residual at POINTS and SCALE)
SHAPES = {
    "increasing": (lambda on: shapes.increasing(bump, 0, on=on), -SLOPES[0]),
    "increasing, other input": (
        lambda on: shapes.increasing(bump, 1, on=on),
        -SLOPES[1],
    ),
    "decreasing": (lambda on: shapes.decreasing(bump, 1, on=on), SLOPES[1]),
    "convex": (lambda on: shapes.convex(bump, 0, on=on), -CURVATURES[0]),
    "convex, other input": (lambda on: shapes.convex(bump, 1, on=on), -CURVATURES[1]),
    "concave": (lambda on: shapes.concave(bump, 0, on=on), CURVATURES[0]),
    "bounded": (
        lambda on: shapes.bounded(bump, -1.0, 2.0, on=on),
        np.abs(VALUE - 0.5) - 1.5,
    ),
    "bounded below": (lambda on: shapes.bounded(bump, lower=-1.0, on=on), -1 - VALUE),
    "bounded above": (lambda on: shapes.bounded(bump, upper=2.0, on=on), VALUE - 2),
    "bounded outputs": (
        lambda on: shapes.bounded(pair, 0.0, 1.0, on=on),
        (np.abs(PAIR - 0.5) - 0.5).reshape(-1),
    ),
    "lipschitz": (
        lambda on: shapes.lipschitz(bump, 0.3, on=on),
        np.hypot(*SLOPES) - 0.3,
    ),
    "sums to": (lambda on: shapes.sums_to(pair, 0.25, on=on), PAIR.sum(1) - 0.25),
    "equals a number": (lambda on: shapes.equals(bump, 0.5, on=on), VALUE - 0.5),
    "equals a function": (
        lambda on: shapes.equals(pair, lambda x: x, on=on),
        (PAIR - POINTS).reshape(-1),
    ),
    "boundary": (lambda on: shapes.boundary(bump, on=on), VALUE),
    "boundary function": (
        lambda on: shapes.boundary(bump, lambda x: x[1], on=on),
        VALUE - B,
    ),
}
PLACES = {
    "a name": ("here", {"here": POINTS, "elsewhere": POINTS + 1}),
    "an array": (POINTS, {"here": POINTS + 1}),
    "the batch": (None, POINTS),
}


@pytest.mark.parametrize("place", PLACES)
def test_shapes_residuals_equal_those_by_hand(place, x64):
    on, batch = PLACES[place]

    @compiled
    def every(p, batch):
        return {name: make(on)(p, batch) for name, (make, _) in SHAPES.items()}

    found = every(SCALE, batch)

    def check(name):
        expected = SHAPES[name][1]
        assert found[name].shape == expected.shape
        # float64
        np.testing.assert_allclose(found[name], expected, rtol=1e-12, atol=1e-12)

    assert_each(SHAPES, check)


def test_bounded_residual_of_each_output_stands_beside_its_point(x64):
    above = shapes.bounded(pair, upper=0.0)

    @jax.jit
    def both(points):
        named = shapes.bounded(pair, upper=0.0, on="x")(1.0, {"x": points})
        return named, jax.lax.map(lambda x: above(1.0, x[None]), points)

    residual, alone = both(POINTS)
    np.testing.assert_array_equal(residual, alone.reshape(-1))


def test_boundary_flux_is_the_slope_along_the_outward_normal(x64):
    faces = jc.points.boundary([-1.0, 0.5], [2.0, 1.5], 3)
    values = {"zero": 0.0, "number": 0.5, "function": lambda x: x[1]}
    places = {
        "object": (faces, None),
        "name": ("faces", {"faces": faces}),
        "batch": (None, faces),
    }

    @compiled
    def every(p, batches):
        return {
            (value, place): shapes.boundary(bump, values[value], flux=True, on=on)(
                p, batches[place]
            )
            for value in values
            for place, (on, _) in places.items()
        }

    found = every(SCALE, {place: batch for place, (_, batch) in places.items()})
    a, b = np.asarray(faces.points).T
    gradient = SCALE * np.stack([3 * a**2 + b**2, 2 * a * b], axis=1)
    # The lower and upper face of each input in turn, three points on each.
    out = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]]).repeat(3, axis=0)
    slope = np.sum(gradient * out, axis=1)
    targets = {"zero": 0.0, "number": 0.5, "function": b}

    def check(row):
        expected = slope - targets[row[0]]
        # float64
        np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-12)

    assert_each(found, check)


def test_interface_is_the_jump_of_values_and_fluxes(x64):
    faces = jc.points.boundary([-1.0, 0.5], [2.0, 1.5], 3)

    def other(p, x):
        return p * x[0] * x[1]

    def first(x):
        return 1 + x[1]

    seam = shapes.interface(bump, other, lambda x: x[0])
    fluxes = shapes.interface(bump, other, 0.5, conductivities=(first, 3.0), on=faces)
    a, b = np.asarray(faces.points).T
    value = SCALE * (a**3 + a * b**2) - SCALE * a * b - a
    np.testing.assert_allclose(seam(SCALE, {"interface": faces}), value, atol=1e-13)
    one = SCALE * np.stack([3 * a**2 + b**2, 2 * a * b], axis=1)
    two = SCALE * np.stack([b, a], axis=1)
    flux = np.sum(((1 + b)[:, None] * one - 3 * two) * faces.normals, axis=1) - 0.5
    np.testing.assert_allclose(fluxes(SCALE, None), flux, atol=1e-13)


def test_interface_refuses_points_without_normals():
    fluxes = shapes.interface(bump, bump, conductivities=(1.0, 2.0), on=POINTS)
    assert_refused(
        [
            (
                lambda: fluxes(SCALE, None),
                TypeError,
                "needs points and outward normals",
            ),
            (
                lambda: shapes.interface(bump, bump, conductivities=1.0),
                TypeError,
                r"conductivities must be a pair \(k1, k2\), got 1.0",
            ),
        ]
    )


def test_boundary_values_read_the_points_of_a_boundary():
    faces = jc.points.boundary([0.0], [2.0], 1)
    constraint = shapes.boundary(lambda p, x: p * x[0], 1.0)
    np.testing.assert_array_equal(constraint(3.0, {"boundary": faces}), [-1.0, 5.0])


def test_lipschitz_has_a_gradient_where_the_function_has_none():
    x = np.array([[0.0, 0.0], [3.0, 4.0]], "float32")
    constraint = shapes.lipschitz(flat, 1.0, on=x)

    @compiled
    def both(p):
        return constraint(p, None), jax.jacobian(constraint)(p, None)

    residual, gradient = both(0.5)
    np.testing.assert_allclose(residual, [-1.0, 4.0])  # |2 p x| - 1
    np.testing.assert_allclose(gradient, [0.0, 10.0])


def test_lipschitz_is_at_rest_in_a_constant_network():
    def loss(p):
        return jnp.sum(shapes.lipschitz(lambda p, x: p @ x, 1.0)(p, POINTS))

    assert np.isfinite(compiled(jax.grad(loss))(np.zeros(2, "float32"))).all()


WRONG_NUMBERS = [
    ("1", TypeError, "'1'"),
    (np.zeros(3), TypeError, "(3,)"),
    (True, TypeError, "True"),
    (1j, TypeError, "1j"),
    (float("nan"), ValueError, "nan"),
    (float("-inf"), ValueError, "-inf"),
]
NUMBERS = [
    (lambda v: shapes.bounded(bump, lower=v), "bounded: lower must be"),
    (lambda v: shapes.bounded(bump, upper=v), "bounded: upper must be"),
    (lambda v: shapes.lipschitz(bump, v), "lipschitz: constant must be"),
    (lambda v: shapes.sums_to(bump, v), "sums_to: total must be"),
    (lambda v: shapes.boundary(bump, v), "boundary: value must be"),
    (lambda v: shapes.interface(bump, bump, v), "interface: jump must be"),
    (
        lambda v: shapes.interface(bump, bump, conductivities=(1.0, v)),
        "interface: conductivities[1] must be",
    ),
    (lambda v: shapes.increasing(bump, v), "increasing: index must be"),
    (lambda v: shapes.decreasing(bump, v), "decreasing: index must be"),
    (lambda v: shapes.convex(bump, v), "convex: index must be"),
    (lambda v: shapes.concave(bump, v), "concave: index must be"),
]
OF_APPLY = [
    lambda apply: shapes.increasing(apply, 0),
    lambda apply: shapes.bounded(apply, 0.0),
    lambda apply: shapes.lipschitz(apply, 1.0),
    lambda apply: shapes.sums_to(apply),
    lambda apply: shapes.boundary(apply, on=None),
    lambda apply: shapes.interface(bump, apply, on=None),
]
REFUSED = [
        (lambda: shapes.increasing(bump, 0, on="pts"), {"x": 1, "b": 2}, ValueError,
         ["'pts'", "['b', 'x']"]),
        (lambda: shapes.convex(bump, 0, on="pts"), POINTS, ValueError,
         ["'pts'", "ndarray"]),
        (lambda: shapes.convex(bump, 0, on="pts"), None, ValueError,
         ["'pts'", "NoneType"]),
        (lambda: shapes.concave(bump, 0), POINTS[0], ValueError, ["(n, d)", "(2,)"]),
        (lambda: shapes.bounded(bump, 0.0, on=POINTS[None]), None, ValueError,
         ["(n, d)", "(1, 7, 2)"]),
        (lambda: shapes.boundary(bump), {"boundary": POINTS[:, 0]}, ValueError,
         ["(n, d)", "(7,)"]),
        (lambda: shapes.boundary(bump), {"edge": POINTS}, ValueError,
         ["'boundary'", "['edge']"]),
        (lambda: shapes.boundary(bump, flux=True, on=POINTS), None, TypeError,
         ["normals", "jaxcon.points.boundary", "ndarray"]),
        (lambda: shapes.equals(bump, lambda x: x), POINTS, ValueError,
         ["target", "(2,)", "()"]),
        (lambda: shapes.boundary(bump, lambda x: x[:1], on=POINTS), None, ValueError,
         ["target", "(1,)", "()"]),
        (lambda: shapes.bounded(bump), None, ValueError, ["lower=", "upper="]),
        (lambda: shapes.bounded(bump, 1.0, 1.0), None, ValueError,
         ["lower < upper", "1.0 and 1.0"]),
        (lambda: shapes.bounded(bump, 2.0, -1.0), None, ValueError,
         ["lower < upper", "2.0 and -1.0"]),
        *((lambda make=make, wrong=wrong: make(wrong), None, kind, [name, said])
          for make, name in NUMBERS
          for wrong, kind, said in WRONG_NUMBERS),
        (lambda: shapes.lipschitz(bump, 0.0), None, ValueError,
         ["lipschitz: constant", "> 0", "0.0"]),
        (lambda: shapes.increasing(bump, 2), POINTS, ValueError, ["input 2", "(2,)"]),
        (lambda: shapes.boundary(bump, flux="yes"), None, ValueError,
         ["boundary: flux", "'yes'"]),
        (lambda: shapes.convex("bump", 0), None, TypeError, ["convex: apply", "got str"]),
        *((lambda make=make, y=y: make(lambda p, x: y), POINTS, TypeError,
           ["apply returned", said, "it must be one"])
          for make in OF_APPLY for y, said in [(None, "None"), ("x", "'x'"), (True, "True"),
                                               ((0.0, 1.0), "tuple"), ({}, "dict")]),
        *((lambda make=make: make(lambda p, x: x[None]), POINTS, ValueError,
           ["returned shape (1, 2)"]) for make in OF_APPLY),
        (lambda: shapes.sums_to(bump), POINTS, ValueError, ["sums_to", "(m,)"]),
        (lambda: shapes.equals(bump, lambda x: None), POINTS, TypeError,
         ["equals: the target", "None"]),
        (lambda: shapes.convex(bump, 0), POINTS.astype(int), TypeError,
         ["constraint points", "int"]),
        (lambda: shapes.convex(bump, 0), "points", TypeError,
         ["constraint points", "'points'"]),
        *((lambda given=given: shapes.Pointwise(bump, None, given, lambda x, y: y), None,
           TypeError, ["pass", "quantities"])
          for given in [(), "value", ("value",), (jc.derivatives.Value,)]),
        *((lambda shape=shape: shapes.equals(bump, np.zeros(shape, np.float32)),
           POINTS, ValueError, [str(shape)]) for shape in [(3,), (1,), (3, 1)]),
    ]  # fmt: skip


def test_shapes_refuse_what_is_wrong():
    def called(make, batch):
        return lambda: make()(SCALE, batch)

    assert_refused(
        (called(make, batch), kind, words) for make, batch, kind, words in REFUSED
    )


def test_shapes_at_the_corners_of_a_box_ignore_slopes_of_other_inputs():
    def network(p, x):
        return jnp.tanh(p * x[0] + jnp.sqrt(x[1]))

    def alone(p, x):
        return jnp.tanh(p * x[0])

    corners = jc.points.grid([0.0, 0.0], [1.0, 1.0], 2)
    bottom = corners[corners[:, 1] == 0]
    makes = shapes.increasing, shapes.decreasing, shapes.convex, shapes.concave

    @compiled
    def residuals(p):
        return [
            (make(network, 0)(p, bottom), make(alone, 0)(p, bottom)) for make in makes
        ]

    for found, expected in residuals(SCALE):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_shapes_say_that_a_python_if_is_in_the_network():
    def either(p, x):
        return p if x[0] > 0 else -p

    for make in OF_APPLY:
        with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
            make(either)(SCALE, POINTS)
        assert re.search(r"raised in apply.*jnp\.where", str(caught.value.__notes__))


def test_shapes_refuse_a_column_output_by_the_constraint_name():
    def column(p, x):
        return bump(p, x)[None]

    def evaluated(shape):
        constraints = jc.Constraints(inequality={"the slope": shape})
        points = jax.ShapeDtypeStruct(POINTS.shape, "float32")
        return jax.eval_shape(partial(jc.evaluate, constraints, SCALE), points)

    rows = [
        shapes.increasing(column, 0),
        shapes.concave(column, 1),
        shapes.boundary(column, on=None),
    ]
    said = ["'the slope'", "shape (1,)", "write apply(params, x)[0]"]
    assert_refused((partial(evaluated, shape), ValueError, said) for shape in rows)


def osqp_increasing(features, slopes, y):
    """argmin mean (F w - y)^2 subject to S w >= 0, by a QP solver."""
    import osqp

    n = len(features)
    solver = osqp.OSQP()
    solver.setup(
        sparse.csc_matrix(2 / n * features.T @ features),
        -2 / n * features.T @ y,
        sparse.csc_matrix(slopes),
        np.zeros(len(slopes)),
        np.full(len(slopes), np.inf),
        eps_abs=1e-10,
        eps_rel=1e-10,
        max_iter=100_000,
        verbose=False,
    )
    return solver.solve(raise_error=True).x


def test_increasing_cubic_is_the_quadratic_programs_answer(x64):
    x = np.linspace(-1, 1, 21)
    y = np.sin(4 * x)  # falls towards both ends, so that the constraint binds
    powers = np.arange(4)
    features = x[:, None] ** powers
    slopes = powers * x[:, None] ** np.maximum(powers - 1, 0)
    expected = osqp_increasing(features, slopes, y)
    free = np.linalg.lstsq(features, y)[0]
    assert (slopes @ free).min() < -1  # without it the answer is another

    def cubic(w, x):
        return w @ x[0] ** powers

    def loss(w, batch):
        return jnp.mean((jax.vmap(lambda x: cubic(w, x))(batch["x"]) - batch["y"]) ** 2)

    rises = jc.Constraints(inequality={"rises": shapes.increasing(cubic, 0, on="x")})
    solver = jc.alternating(
        jc.Lagrangian(loss, rises, penalty=1.0),
        optax.sgd(0.02),
        jc.dual_ascent(optax.sgd(1.0)),
    )
    batch = {"x": x[:, None], "y": y}
    result = jc.fit(solver, jnp.zeros(4), batch, steps=20_000, progress=False)
    # What is left of the slowest direction after so many steps, well below 1e-4.
    np.testing.assert_allclose(result.state.params, expected, atol=1e-4)


# Together: constraints on one network at one set of points share a pass.


def deep(params, x):
    """A network of two inputs, large enough for its FLOPs to be those of its layers."""
    for w in params:
        x = jnp.tanh(x @ w)
    return jnp.sum(x)


def deep_params(width=64, dtype="float32"):
    draw = np.random.default_rng(0)
    sizes = ((2, width), (width, width), (width, width))
    return [(draw.normal(size=size) / size[0] ** 0.5).astype(dtype) for size in sizes]


ALL_OF_ONE = {
    "rises": shapes.increasing(deep, 0, on="points"),
    "falls": jc.tighten(shapes.decreasing(deep, 1, on="points"), 0.25),
    "convex": shapes.convex(deep, 0, on="points"),
    "concave": shapes.concave(deep, 0, on="points"),
    "bounded": jc.tighten(shapes.bounded(deep, -1.0, 1.0, on="points"), 0.5),
    "gentle": shapes.lipschitz(deep, 2.0, on="points"),
    "mine": shapes.Pointwise(
        deep,
        "points",
        (jc.derivatives.Laplacian(), jc.derivatives.Value()),
        lambda x, laplacian, y: laplacian - x[0] * y,
    ),
}


def test_evaluate_together_equals_alone(x64):
    constraints = jc.Constraints(inequality=ALL_OF_ONE)

    def together(p, batch):
        return jc.evaluate(constraints, p, batch).inequality

    def alone(p, batch):
        return {name: each(p, batch) for name, each in ALL_OF_ONE.items()}

    @compiled
    def both(params, batch):
        def step(evaluate):
            def weighed(p):
                residuals = evaluate(p, batch)
                return sum(jnp.sum(r**2) for r in residuals.values()), residuals

            return jax.grad(weighed, has_aux=True)(params)

        return step(together), step(alone)

    found, expected = both(deep_params(8, "float64"), {"points": POINTS})
    assert found[1].keys() == ALL_OF_ONE.keys()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_tightened_shapes_keep_their_margins_in_a_group():
    params, batch = deep_params(8), {"points": POINTS.astype("float32")}
    loose = shapes.bounded(deep, -1.0, 1.0, on="points")
    both = jc.Constraints(inequality={"a": loose, "b": jc.tighten(loose, 0.5)})
    found = compiled(partial(jc.evaluate, both))(params, batch).inequality
    np.testing.assert_allclose(found["b"] - found["a"], 0.5, rtol=1e-6)


def test_evaluate_together_costs_little_more_than_the_dearest():
    params, batch = deep_params(), {"points": POINTS.astype("float32")}

    def flops(constraints):
        def step(p):
            residuals = jc.evaluate(jc.Constraints({}, constraints), p, batch)
            return sum(jnp.sum(r**2) for r in residuals.inequality.values())

        # Of the program as it is handed to the compiler.
        costs: Any = jax.jit(jax.grad(step)).lower(params).cost_analysis()
        return (costs[0] if isinstance(costs, list) else costs)["flops"]

    apart = sum(flops({name: each}) for name, each in ALL_OF_ONE.items())
    dearest = flops({"mine": ALL_OF_ONE["mine"]})
    # Two tangents and a stream for the Laplacian; the curvature is one stream more.
    assert flops(ALL_OF_ONE) <= 1.35 * dearest
    assert flops(ALL_OF_ONE) <= 0.4 * apart


def test_evaluate_traces_the_network_once_for_a_group():
    calls = []

    def counted(params, x):
        calls.append(x.shape)
        return deep(params, x)

    params, batch = deep_params(4), {"points": POINTS.astype("float32")}
    alone = {"rises": shapes.increasing(counted, 0, on="points")}
    group = alone | {
        "convex": shapes.convex(counted, 0, on="points"),
        "bounded": shapes.bounded(counted, 0.0, 1.0, on="points"),
    }
    counts = []
    for constraints in (alone, group):
        calls.clear()
        evaluate = partial(jc.evaluate, jc.Constraints(inequality=constraints))
        jax.eval_shape(evaluate, params, batch)
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0


def test_shapes_of_other_points_or_networks_are_other_groups():
    rises = shapes.increasing(bump, 0, on="points")
    array = jnp.asarray(POINTS)
    assert rises.key == shapes.convex(bump, 1, on="points").key
    others = [
        shapes.convex(bump, 1, on="elsewhere"),
        shapes.convex(bump, 1, on=array),
        shapes.convex(bump, 1),
        shapes.convex(flat, 1, on="points"),
    ]
    assert len({rises.key, *(other.key for other in others)}) == 5
    assert shapes.convex(bump, 1, on=array).key == others[1].key


def test_shapes_of_a_network_that_cannot_be_hashed_still_have_a_group():
    class Net(list):
        def __call__(self, p, x):
            return bump(p, x)

    net = Net()
    assert shapes.increasing(net, 0).key == shapes.convex(net, 0).key
    assert shapes.increasing(net, 0).key != shapes.increasing(Net(), 0).key


class Wave(NamedTuple):
    """Equal to a `Growth` of the same width, as tuples are."""

    width: float

    def __call__(self, p, x):
        return jnp.sin(self.width * x[0])


class Growth(NamedTuple):
    width: float

    def __call__(self, p, x):
        return jnp.exp(self.width * x[0])

    def applied(self, p, x):
        return self(p, x)


def test_evaluate_does_not_confuse_equal_networks_that_differ():
    x = jnp.full((1, 1), 0.5)
    wave, growth = Wave(2.0), Growth(2.0)
    assert wave == growth
    a, b = shapes.decreasing(wave, 0), shapes.decreasing(growth, 0)
    found = jc.evaluate(jc.Constraints({}, {"a": a, "b": b}), None, x).inequality
    np.testing.assert_allclose(found["a"], 2 * np.cos(1.0), rtol=1e-6)
    np.testing.assert_allclose(found["b"], 2 * np.exp(1.0), rtol=1e-6)
    # A bound method is a new object at every access, but the same network.
    first, second = (shapes.convex(growth.applied, 0) for _ in range(2))
    assert first.key == second.key != b.key


def test_evaluate_of_shapes_in_both_kinds_shares_a_pass_and_refuses_one_name():
    x = np.full((1, 2), 3.0, "float32")
    equal, within = shapes.equals(bump, 0.0), shapes.bounded(bump, 0.0, 1.0)
    both = jc.Constraints({"a": equal}, {"b": within})
    found = compiled(partial(jc.evaluate, both))(1.0, x)
    assert found.equality["a"] == 54
    assert found.inequality["b"] == 53
    with pytest.raises(ValueError, match="'a' is both an equality and an inequality"):
        jc.evaluate(jc.Constraints({"a": equal}, {"a": within}), 1.0, x)


def test_shapes_may_be_compiled_and_constraints_have_attributes_of_their_own():
    points = jnp.asarray(POINTS, jnp.float32)
    rises = shapes.increasing(bump, 0, on=points)
    np.testing.assert_allclose(jax.jit(rises)(1.0, None), rises(1.0, None), rtol=1e-6)

    class Mine:
        group = "pde"

        def __call__(self, p, batch):
            return p - 1.0

    mine = jc.tighten(Mine(), 0.5)
    assert jc.evaluate(jc.Constraints({}, {"m": mine}), 1.0).inequality["m"] == 0.5


def test_evaluate_names_the_constraints_of_a_group_with_an_error():
    group = {"steep": shapes.lipschitz(pair, 1.0), "whole": shapes.sums_to(pair)}
    with pytest.raises(ValueError, match="return a scalar") as caught:
        jc.evaluate(jc.Constraints({}, group), 1.0, jnp.asarray(POINTS, jnp.float32))
    assert "'steep', 'whole'" in " ".join(caught.value.__notes__)


def test_pointwise_does_not_take_one_quantity_for_several():
    with pytest.raises(TypeError, match="pass a tuple of quantities"):
        shapes.Pointwise(bump, None, jc.derivatives.Value(), lambda x, y: y)
