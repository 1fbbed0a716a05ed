"""Periods, boundary and initial values: in floating point, at the ends and by slopes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from tables import assert_each, assert_refused
from test_layers_outputs import known, random_params, worst

import jaxcon as jc
from jaxcon import domains, layers
from jaxcon.layers import _certificates as certificates

LOW, HIGH = [-1.0, 0.0], [1.0, 3.0]


def any_network(params, x):
    """What is wrapped in these tests: smooth, of order one, no condition holds of it."""
    return jnp.sin(params * x[0] + 1) + jnp.cos(2 * params * x[-1]) + x[0] ** 2


def two(params, x):
    return jnp.stack([any_network(params, x), any_network(2 * params, x)])


def wave(x):
    return jnp.sin(3 * x[1]) + x[0]


DISC = domains.ball([0.0, 0.0], 1.0)


NODES = np.stack([np.linspace(-1, 1, 5), np.linspace(0, 3, 5) ** 2], axis=1)
WEIGHTS = np.array([0.1, 0.4, -0.2, 0.4, 0.1])

# Construction, and the same one slightly wrong.
CONDITIONS = {
    "periodic": lambda: (layers.periodic({0: 0.7}), layers.periodic({0: 0.707})),
    "periodic in both": lambda: (
        layers.periodic([0.7, 3.0]),
        layers.periodic([0.7, 3.03]),
    ),
    "dirichlet": lambda: (
        layers.dirichlet(DISC, wave),
        layers.dirichlet(domains.ball([0.0, 0.0], 1.005), wave),
    ),
    "box_boundary": lambda: (
        layers.box_boundary(LOW, HIGH, wave),
        layers.box_boundary(LOW, [1.0, 3.03], wave),
    ),
    "some faces": lambda: (
        layers.box_boundary(LOW, [np.inf, 3.0], wave, faces={0: "lower", 1: "upper"}),
        layers.box_boundary(LOW, [np.inf, 3.0], wave, faces={1: "upper"}),
    ),
    "initial_value": lambda: (
        layers.initial_value(1, 0.5, wave),
        layers.initial_value(1, 0.505, wave),
    ),
    "initial rate": lambda: (
        layers.initial_value(1, 0.5, wave, rate=lambda x: x[0]),
        layers.initial_value(1, 0.5, wave, rate=lambda x: 1.01 * x[0]),
    ),
    "initial rate, left out": lambda: (
        layers.initial_value(1, 0.5, wave, rate=lambda x: x[0]),
        layers.initial_value(1, 0.5, wave),
    ),
    "neumann": lambda: (
        layers.neumann(0, -1.0, 1.5, wave, 0.5),
        layers.neumann(0, -1.0, 1.5, wave, 0.505),
    ),
    "neumann, scale": lambda: (
        layers.neumann(0, -1.0, 1.5, wave, 0.5),
        layers.neumann(0, -1.01, 1.5, wave, 0.5),
    ),
    "neumann, left": lambda: (
        layers.neumann(0, -1.0, 1.5, left=wave),
        layers.neumann(0, -1.0, 1.5, right=wave),
    ),
    "neumann, right": lambda: (
        layers.neumann(0, -1.0, 1.5, right=wave),
        layers.neumann(0, -1.0, 1.515, right=wave),
    ),
    "robin": lambda: (
        layers.robin(0, -1.0, 1.5, (2.0, wave), (lambda x: x[1] ** 2, 0.5)),
        layers.robin(0, -1.0, 1.5, (2.02, wave), (lambda x: x[1] ** 2, 0.5)),
    ),
    "robin, left": lambda: (
        layers.robin(0, -1.0, 1.5, left=(100.0, wave)),
        layers.robin(0, -1.0, 1.5, left=(100.0, lambda x: 1.01 * wave(x))),
    ),
    "robin, right": lambda: (
        layers.robin(0, -1.0, 1.5, right=(lambda x: jnp.sin(x[1]), wave)),
        layers.robin(0, -1.0, 1.5, right=(lambda x: 1.01 * jnp.sin(x[1]), wave)),
    ),
    "mixed": lambda: (
        layers.mixed(0, -1.0, 1.5, wave, 0.5),
        layers.mixed(0, -1.0, 1.515, wave, 0.5),
    ),
    "mixed, reversed": lambda: (
        layers.mixed(0, 1.5, -1.0, wave, lambda x: x[1]),
        layers.mixed(0, 1.5, -1.0, wave, lambda x: 1.01 * x[1]),
    ),
    "mixed, robin": lambda: (
        layers.mixed(0, 1.5, -1.0, wave, 0.5, coefficient=lambda x: x[1] ** 2),
        layers.mixed(0, 1.5, -1.0, wave, 0.5, coefficient=lambda x: -(x[1] ** 2)),
    ),
    "flux": lambda: (
        layers.flux(DISC, wave, 2.0),
        layers.flux(DISC, wave, 2.02),
    ),
    "flux, some inputs": lambda: (
        layers.flux(domains.box([-1.0], [1.0]), lambda x: jnp.sin(x[1])),
        layers.flux(domains.box([-1.0], [1.01]), lambda x: jnp.sin(x[1])),
    ),
    "integral": lambda: (
        layers.integral(NODES, WEIGHTS, [1.0, 2.0]),
        layers.integral(NODES, WEIGHTS, [1.0, 2.01]),
    ),
    "integral, some inputs": lambda: (
        layers.integral(NODES[:, :1], WEIGHTS, lambda x: jnp.sin(x[1])),
        layers.integral(NODES[:, :1], WEIGHTS, lambda x: 1.01 * jnp.sin(x[1])),
    ),
}


def test_conditions_hold_and_a_planted_defect_is_seen():
    def check(name):
        sound, defect = CONDITIONS[name]()
        for construction, holds in ((sound, True), (defect, False)):
            f = partial(construction.wrap(two), 3.0)
            assert (worst(f, sound.certificate()) <= 1) == holds

    assert_each(CONDITIONS, check)


def seen(params, x):
    """A network that shows what it is given."""
    return x


def test_periodic_inputs_become_cosine_and_sine(dtype):
    x = np.array([0.25, 7.0, 1.5], dtype)
    found = layers.periodic({0: 1.0, 2: 4.0}).wrap(seen)(None, x)
    half = np.sqrt(0.5)
    expected = [0, 1, 7, -half, half]
    # One rounding of an angle of up to two pi.
    np.testing.assert_allclose(found, expected, rtol=0, atol=7 * np.finfo(dtype).eps)
    assert found.dtype == dtype


def test_periodic_is_exact_far_out_and_below_zero():
    f = jax.jit(partial(layers.periodic([0.5]).wrap(any_network), 1.0))
    for x in (0.0, 0.125, 0.375):
        for periods in (-(2**20), -1, 1, 2**20):  # x + 0.5 n is a float
            there = jnp.array([x + 0.5 * periods])
            assert f(there) == f(jnp.array([x]))
    # The remainder of a tiny negative number rounds to the whole period.
    assert f(jnp.array([-1e-30])) == f(jnp.zeros(1))


def test_periodic_repeats_in_its_derivatives_too(x64):
    f = partial(layers.periodic({0: 0.7}).wrap(any_network), 1.0)
    bend = jax.jit(jc.derivatives.partial_derivative(f, 0, 0))
    for start in (0.0, 0.3):
        x = np.array([start, 1.0])
        check_grads(jax.jit(f), (x,), order=1)
        # A rounding of x, times the next derivative: up to (2 pi / 0.7)^3.
        np.testing.assert_allclose(bend(x), bend(x + np.array([0.7, 0.0])), atol=1e-12)


def test_periodic_keeps_the_bounds_of_a_network():
    bounded = layers.mlp(3).then(layers.bounded(0.0, 1.0))
    for network, kept in (
        (bounded, True),
        (layers.mlp(3).then(layers.bounded(0.0, lambda x: x[0])), False),
        (known(wave, certificates.slope(1, 0.0, roundings=1)), False),
    ):
        before = network.certificate([]).guarantees
        after = network.then(layers.periodic({0: 1.0})).certificate([]).guarantees[1:]
        assert after == (before if kept else ())
    # And the period outlives bounds.
    free = layers.mlp(3, width=4, depth=2)
    both = free.then(layers.periodic({0: 1.0})).then(layers.bounded(0.0, 1.0))
    params = random_params(both)
    kinds = [one.kind for one in both.certificate(params).guarantees]
    assert kinds == ["within", "periodic"]
    assert worst(partial(both.apply, params), both.certificate(params)) <= 1


def test_dirichlet_by_hand():
    right = domains.half_space([-1.0, 0.0], 0.0)
    f = layers.dirichlet(right, 5.0).wrap(any_network)
    x = jnp.array([0.5, 0.25])
    assert f(1.0, x) == 5 + 0.5 * any_network(1.0, x)


def test_box_boundary_on_every_face():
    wrapped = CONDITIONS["box_boundary"]()[0].wrap(any_network)
    faces = np.asarray(jc.points.boundary(LOW, HIGH, 256).points)
    middle = np.float32([[0.0, 1.5]])

    @jax.jit
    @jax.vmap
    def evaluated(x):
        return wrapped(1.0, x), wave(x), any_network(1.0, x)

    found, value, free = evaluated(np.concatenate([faces, middle]))
    np.testing.assert_array_equal(found[:-1], value[:-1])
    # In the middle the product is one.
    np.testing.assert_allclose(found[-1], value[-1] + free[-1], rtol=1e-6)  # float32


def test_initial_value_and_rate_are_taken_at_the_start(x64):
    def moving(x):
        return x[0] + 7 * x[1]

    f = partial(layers.initial_value(1, 0.5, moving, rate=wave).wrap(any_network), 1.0)
    start = jnp.array([0.3, 0.5])
    assert f(start) == moving(start)
    slope = jc.derivatives.partial_derivative(f, 1)(start)
    assert slope == wave(start)
    late = f(jnp.array([0.3, 1.5])) - any_network(1.0, jnp.array([0.3, 1.5]))
    assert late == pytest.approx(float(moving(start) + wave(start)), rel=1e-14)


@pytest.mark.parametrize("ends", [(-1.0, 1.5), (0.1, 0.7)])
def test_neumann_and_mixed_slopes_at_the_ends_by_finite_differences(ends, x64):
    a, b = ends
    step = 1e-6
    f = partial(
        layers.neumann(0, a, b, wave, lambda x: 2 * x[1]).wrap(any_network), 1.0
    )
    g = partial(layers.mixed(0, a, b, wave, lambda x: 2 * x[1]).wrap(any_network), 1.0)
    for function, end, slope in ((f, a, wave), (f, b, None), (g, b, None)):
        x = jnp.array([end, 0.4])
        up, down = (function(x.at[0].add(sign * step)) for sign in (1, -1))
        expected = 0.8 if slope is None else slope(x)
        # The step squared times a third derivative of a few hundred at most.
        assert (up - down) / (2 * step) == pytest.approx(float(expected), abs=1e-8)
    assert g(jnp.array([a, 0.4])) == wave(jnp.array([a, 0.4]))


def test_neumann_leaves_second_derivatives_at_an_end_to_the_network(x64):
    f = layers.neumann(0, 0.0, 1.0, 0.0, 0.0).wrap(lambda params, x: params * x[0])
    x = jnp.array([0.0])
    bends = [
        jc.derivatives.partial_derivative(partial(f, params), 0, 0)(x)
        for params in (0.0, 1.0)
    ]
    np.testing.assert_allclose(bends, [0.0, 6.0])  # of 3 t^2


def test_constructions_refuse_what_makes_none():
    rows = [
        (lambda: layers.periodic({0: 0.0}), r"periods\[0\] must be > 0, got 0.0"),
        (lambda: layers.periodic({}), "periods must name an input"),
        (lambda: layers.box_boundary([0.0], [0.0], 0.0), "corners lower < upper"),
        (lambda: layers.box_boundary(0.0, 1.0, 0.0), r"lower must be an array \(d,\)"),
        (lambda: layers.box_boundary([0.0], [np.inf], 0.0), "an infinite face"),
        (
            lambda: layers.box_boundary([0.0], [1.0], 0.0, faces={1: "both"}),
            "faces names input 1; there are inputs 0 to 0",
        ),
        (
            lambda: layers.box_boundary([0.0], [1.0], 0.0, faces={0: "left"}),
            r"faces\[0\] must be 'lower', 'upper' or 'both'",
        ),
        (lambda: layers.neumann(0, 1.0, 1.0, 0.0, 0.0), "neumann needs lower < upper"),
        (
            lambda: layers.mixed(0, 1.0, 1.0, 0.0, 0.0),
            "dirichlet_at and neumann_at must be two ends",
        ),
        (lambda: layers.neumann(0, 0.0, 1.0), "neumann needs left=, right= or both"),
        (lambda: layers.robin(0, 0.0, 1.0), "robin needs left=, right= or both"),
        (lambda: layers.robin(0, 0.0, 1.0, (1.0,)), r"left must be a pair \(c, g\)"),
        (lambda: layers.integral([[0.0]], [0.0], 0.0), "weights must not have the sum"),
        (
            lambda: layers.integral([[0.0]], [1.0, 1.0], 0.0),
            "one for each of the points",
        ),
        (lambda: layers.conditions(), "several must be one or more"),
        (
            lambda: layers.conditions(
                layers.neumann(0, 0.0, 1.0, 0.0), layers.initial_value(0, 0.0, 0.0)
            ),
            "two of several are of input 0",
        ),
        (
            lambda: layers.conditions(
                layers.neumann(2, 0.0, 1.0, 0.0), layers.dirichlet(DISC, 0.0)
            ),
            "dirichlet or box_boundary must be the first",
        ),
    ]
    assert_refused(
        [
            *((make, ValueError, words) for make, words in rows),
            (
                lambda: layers.conditions(layers.bounded(0.0, 1.0)),
                TypeError,
                "several must be constructions such as jc.layers.robin, got Output",
            ),
        ]
    )


def test_constructions_refuse_what_does_not_fit_the_input():
    rows = [
        (
            layers.periodic({2: 1.0}),
            "periodic: periods names input 2; there are inputs",
        ),
        (layers.periodic([1.0]), "periodic has 1 periods for 2 inputs"),
        (
            layers.dirichlet(domains.ball([0.0, 0.0, 0.0], 1.0), 0.0),
            "dirichlet: the domain has 3 inputs, one example x has 2",
        ),
        (
            layers.dirichlet(DISC, lambda x: x),
            r"dirichlet: value has shape \(2,\), the output \(\)",
        ),
        (layers.box_boundary([0.0], [1.0], 0.0), r"one example x of shape \(1,\), got"),
        (layers.initial_value(2, 0.0, 0.0), "initial_value: index names input 2"),
        (
            layers.initial_value(0, 0.0, 0.0, rate=lambda x: x),
            r"rate has shape \(2,\), the output \(\)",
        ),
        (layers.neumann(2, 0.0, 1.0, 0.0, 0.0), "neumann: index names input 2"),
        (layers.mixed(2, 0.0, 1.0, 0.0, 0.0), "mixed: index names input 2"),
        (layers.robin(2, 0.0, 1.0, (1.0, 0.0)), "robin: index names input 2"),
        (
            layers.robin(0, 0.0, 1.0, (lambda x: x, 0.0)),
            r"robin: left\[0\] has shape \(2,\), the output \(\)",
        ),
        (
            layers.flux(domains.ball([0.0, 0.0, 0.0], 1.0), 0.0),
            "flux: the domain has 3 inputs",
        ),
        (
            layers.integral(np.zeros((1, 3)), [1.0], 0.0),
            "integral: the points have 3 inputs, one example x has 2",
        ),
    ]
    many = [
        (CONDITIONS[name]()[0], r"takes one example x of shape \(")
        for name in CONDITIONS
    ]

    def refused(construction, words, shape):
        apply = construction.wrap(any_network)
        return lambda: jax.eval_shape(apply, 1.0, np.zeros(shape)), ValueError, words

    assert_refused(
        [
            *(refused(*row, (2,)) for row in rows),
            *(refused(*row, (3, 2)) for row in many),
        ]
    )


TARGETS = {
    "dirichlet": lambda x: wave(x) + (1 - x @ x) * jnp.sin(2 * x[0] * x[1]),
    "box_boundary": lambda x: (
        wave(x) + jnp.sin(jnp.pi * x[0]) * x[1] * (3 - x[1]) * jnp.exp(-x[1])
    ),
    "initial rate": lambda x: (
        jnp.sin(1.5) + x[0] + x[0] * jnp.sin(x[1] - 0.5) + jnp.square(x[1] - 0.5)
    ),
    "neumann": lambda x: (
        wave(jnp.stack([jnp.array(-1.0), x[1]])) * (x[0] + 1)
        + (0.5 - wave(jnp.stack([jnp.array(-1.0), x[1]]))) * jnp.square(x[0] + 1) / 5
        + jnp.cos(jnp.pi * (x[0] + 1) / 2.5) * x[1]
    ),
    "mixed": lambda x: (
        jnp.sin(3 * x[1])
        - 1
        + 0.5 * (x[0] + 1)
        + jnp.sin(jnp.pi * (x[0] + 1) / 5) * jnp.cos(x[1])
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_conditions_leave_room_for_targets_that_obey(name, key):
    network = layers.mlp(2).then(CONDITIONS[name]()[0])
    x, target = jc.points.sobol(LOW, [1.0, 1.0], 512), jax.vmap(TARGETS[name])
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, 2000))

    def loss(params):
        fitted = jax.vmap(partial(network.apply, params))(x)
        return jnp.mean(jnp.square(fitted - target(x)))

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    params = network.init(key)
    train = jax.jit(lambda carry: jax.lax.scan(step, carry, length=2000)[0])
    params, _ = train((params, optimizer.init(params)))
    between = jc.points.uniform(key, LOW, [1.0, 1.0], 1000)
    fitted = jax.vmap(partial(network.apply, params))(between)
    # A fiftieth of what there is to learn.
    error = jnp.sqrt(jnp.mean(jnp.square(fitted - target(between))))
    assert error < 0.02 * jnp.std(target(between))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["periodic", "neumann"])
def test_check_finds_a_planted_defect_of_a_condition(name):
    sound, defect = CONDITIONS[name]()
    draw = partial(jc.points.uniform, lower=[-2.0, -2.0], upper=[2.0, 2.0])
    for construction, holds in ((sound, True), (defect, False)):
        apply = construction.wrap(any_network)
        tried = layers.check(apply, jnp.ones(()), sound.certificate, draw, num=2000)
        assert tried.holds == holds, str(tried)
