"""Differential equations with conditions on ends, corners, domains and interfaces."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_layers_outputs import worst

import jaxcon as jc
from jaxcon import domains, layers


def state(x):
    """A smooth function from which conditions that agree at corners are taken."""
    return jnp.sin(x[0] + 2 * x[1]) * jnp.exp(-x[2] / 2) + x[0] * x[1] * x[2]


def slope(index):
    def steep(x):
        return jax.jvp(state, (x,), (jnp.zeros_like(x).at[index].set(1.0),))[1]

    return steep


def loss(index, sign, c):
    """The value of sign df/dx_i + c f, c a number or a function."""

    def value(x):
        return sign * slope(index)(x) + (c(x) if callable(c) else c) * state(x)

    return value


def free(params, x):
    return jnp.sin(params * x[0] + 1) + jnp.cos(2 * params * x[1]) + x[1] * x[2]


def warming(x):
    return 1 + x[2]


LOW, HIGH = [-1.0, 0.0, 0.0], [1.5, 1.0, 1.0]
START = layers.initial_value(2, 0.0, state)
ROBIN = layers.robin(0, -1.0, 1.5, (2.0, loss(0, -1, 2.0)), (0.5, loss(0, 1, 0.5)))
WARMING = layers.robin(0, -1.0, 1.5, left=(warming, loss(0, -1, warming)))
SLOPES = layers.neumann(2, 0.0, 1.0, slope(2), slope(2))
BOX = layers.box_boundary(LOW, HIGH, state, faces={0: "both", 1: "lower"})
DISC = layers.dirichlet(domains.ball([0.0, 0.0], 1.0), state)
MIXED = layers.mixed(1, 0.0, 1.0, state, loss(1, 1, 3.0), coefficient=3.0)

# Several conditions that agree where they meet, of which all hold.
TOGETHER = {
    "box and start": (BOX, layers.initial_value(2, 0.0, state, rate=slope(2))),
    "disc and start": (DISC, START),
    "disc and slopes": (DISC, SLOPES),
    "start and robin": (START, WARMING),
    "robin and mixed": (ROBIN, MIXED),
    "one face and robin": (layers.neumann(1, 0.0, 1.0, right=slope(1)), WARMING),
}


def everywhere():
    """All corners and middles of edges and faces, random points, points far out."""
    ticks = [(low, high, (low + high) / 2) for low, high in zip(LOW, HIGH)]
    rng = np.random.default_rng(0)
    inner = rng.uniform(LOW, HIGH, (60, 3))
    corners = np.array(list(itertools.product(*ticks)))
    return np.concatenate([corners, inner, inner[::4] * [9.0, 9.0, 1.0]])


@pytest.mark.parametrize("name", TOGETHER)
def test_conditions_hold_together_on_faces_and_corners(name, dtype):
    together = layers.conditions(*TOGETHER[name])
    f, x = partial(together.wrap(free), 3.0), jnp.asarray(everywhere(), dtype)
    certificate = together.certificate()
    assert len(certificate.guarantees) == 2
    assert all(one.roundings <= 16 for one in certificate.guarantees)
    assert worst(f, certificate, x) <= 1


def test_conditions_that_disagree_are_found():
    # A coefficient of time comes after the initial value; a wrong datum never fits.
    wrong = layers.initial_value(2, 0.0, lambda x: 1.1 * state(x))
    for several in ((WARMING, START), (wrong, WARMING)):
        together = layers.conditions(*several)
        f, x = partial(together.wrap(free), 3.0), jnp.asarray(everywhere())
        first, last = (
            worst(f, together.certificate()._replace(guarantees=(one,)), x)
            for one in together.certificate().guarantees
        )
        assert first > 100
        assert last <= 1


def test_conditions_keep_a_period_where_all_are_numbers():
    ring = layers.mlp(3, width=4, depth=2).then(layers.periodic({0: 2.0}))
    for wall, kept in ((0.5, True), (lambda x: x[0], False)):
        walls = layers.conditions(
            layers.neumann(1, 0.0, 1.0, 0.0, wall),
        )
        kinds = [one.kind for one in ring.then(walls).certificate([]).guarantees]
        assert kinds == ["boundary", "periodic"][: 1 + kept]


def test_neumann_on_one_face_with_a_slope_of_time_is_exact(x64):
    f = partial(
        layers.neumann(0, 0.0, 2.0, left=lambda x: jnp.sin(5 * x[1])).wrap(
            lambda params, x: jnp.exp(x[0]) * jnp.cos(x[1] + x[0] ** 2)
        ),
        None,
    )
    step = 1e-6
    for time in (0.0, 0.3, 2.0):
        x = jnp.array([0.0, time])
        exact = jc.derivatives.partial_derivative(f, 0)(x)
        np.testing.assert_allclose(exact, np.sin(5 * time), atol=1e-15)
        up, down = (f(x.at[0].add(sign * step)) for sign in (1, -1))
        # The step squared times a third derivative of order ten.
        np.testing.assert_allclose((up - down) / (2 * step), exact, atol=1e-9)


def test_robin_by_finite_differences(x64):
    coefficient, datum = (lambda x: 1 + x[1] ** 2), (lambda x: jnp.sin(5 * x[1]))
    f = partial(
        layers.robin(0, 0.5, 2.0, (3.0, datum), (coefficient, 1.0)).wrap(
            lambda params, x: jnp.exp(x[0]) * jnp.cos(x[1] + x[0] ** 2)
        ),
        None,
    )
    step = 1e-6
    for end, sign, c, g in ((0.5, -1, 3.0, np.sin(2.0)), (2.0, 1, 1.16, 1.0)):
        x = jnp.array([end, 0.4])
        up, down = (f(x.at[0].add(side * step)) for side in (1, -1))
        found = sign * (up - down) / (2 * step) + c * f(x)
        np.testing.assert_allclose(found, g, atol=1e-8)


def trained(problem, params, batch, steps, dual=None, on=None):
    """The parameters after some steps of Gauss-Newton."""
    dual = jc.method_of_multipliers() if dual is None else dual
    primal = jc.gauss_newton(problem, on=on or {})
    solver = jc.alternating(problem, primal, dual)
    start = solver.init(params, batch)
    run = jax.jit(
        lambda state, batch: jax.lax.scan(
            lambda s, _: (solver.step(s, batch)[0], None), state, length=steps
        )[0]
    )
    return run(start, batch).params


def relative(found, wanted):
    return float(jnp.linalg.norm(found - wanted) / jnp.linalg.norm(wanted))


def test_interface_of_two_materials(x64, key):
    """-(k u')' = 1 with u(0) = u(1) = 0, k = 1 up to the middle and 4 beyond."""
    networks = [layers.mlp(1, width=6, depth=2) for _ in range(2)]

    def left(params, x):
        return networks[0].apply(params[0], x)

    def right(params, x):
        return networks[1].apply(params[1], x)

    seam = jc.points.Boundary(jnp.array([[0.5]]), jnp.array([[1.0]]))

    def source(apply, k):
        def residual(params, batch):
            bend = jc.derivatives.partial_derivative(partial(apply, params), 0, 0)
            return jax.vmap(lambda x: k * bend(x) + 1)(batch)

        return residual

    inner = {
        "left": lambda p, b: source(left, 1.0)(p, b["left"]),
        "right": lambda p, b: source(right, 4.0)(p, b["right"]),
    }
    problem = jc.Lagrangian(
        jc.MeanSquares(inner),
        jc.Constraints(
            {
                "begin": jc.shapes.boundary(left, on=jnp.zeros((1, 1))),
                "end": jc.shapes.boundary(right, on=jnp.ones((1, 1))),
                "value": jc.shapes.interface(left, right, on=seam),
                "flux": jc.shapes.interface(
                    left, right, conductivities=(1.0, 4.0), on=seam
                ),
            }
        ),
        penalty=10.0,
    )
    params = [
        network.init(one) for network, one in zip(networks, jax.random.split(key))
    ]
    params = jax.tree.map(lambda leaf: leaf.astype("float64"), params)
    batch = {
        "left": jnp.linspace(0.0, 0.5, 12)[:, None],
        "right": jnp.linspace(0.5, 1.0, 12)[:, None],
    }
    on = {"left": "left", "right": "right"}
    params = trained(problem, params, batch, 60, on=on)
    # k u' = a - x; u is 0 at both ends and continuous.
    a = 0.35
    for apply, k, x, exact in (
        (left, 1.0, batch["left"], lambda x: a * x - x**2 / 2),
        (right, 4.0, batch["right"], lambda x: (a * (x - 1) - (x**2 - 1) / 2) / 4),
    ):
        found = jax.vmap(partial(apply, params))(x)
        assert relative(found, exact(x[:, 0])) < 1e-4, k
    residuals = jc.evaluate(problem.constraints, params, batch)
    assert jc.max_violation(residuals) < 1e-6


@pytest.mark.slow
def test_robin_ends_leave_room_for_the_heat_equation(x64, key):
    """u_t = u_xx, cooled at both ends, from its slowest mode."""
    # exp(-a^2 t) cos(a x) with c = a tan a at x = -1 and 1.
    a = 1.1
    c = a * np.tan(a)

    def exact(x):
        return jnp.exp(-(a**2) * x[1]) * jnp.cos(a * x[0])

    rod = layers.conditions(
        layers.initial_value(1, 0.0, lambda x: jnp.cos(a * x[0])),
        layers.robin(0, -1.0, 1.0, (c, 0.0), (c, 0.0)),
    )
    network = layers.mlp(2, width=12, depth=3).then(rod)

    def residual(params, batch):
        f = partial(network.apply, params)
        rate = jc.derivatives.partial_derivative(f, 1)
        bend = jc.derivatives.partial_derivative(f, 0, 0)
        return jax.vmap(lambda x: rate(x) - bend(x))(batch["x"])

    problem = jc.Lagrangian(jc.MeanSquares({"heat": residual}), jc.Constraints())
    params = jax.tree.map(lambda leaf: leaf.astype("float64"), network.init(key))
    batch = {"x": jc.points.sobol([-1.0, 0.0], [1.0, 1.0], 256)}
    params = trained(problem, params, batch, 60, on={"heat": "x"})
    x = jc.points.uniform(key, [-1.0, 0.0], [1.0, 1.0], 1000)
    found = jax.vmap(partial(network.apply, params))(x)
    assert relative(found, jax.vmap(exact)(x)) <= 1e-3


@pytest.mark.slow
def test_dirichlet_leaves_room_for_poisson_on_an_ell(x64, key):
    """-(u_xx + u_yy) = f with u = g on the boundary of an L-shape."""
    ell = domains.box([0.0, 0.0], [1.0, 1.0]) - domains.box([0.5, 0.5], [2.0, 2.0])

    def exact(x):
        return jnp.sin(jnp.pi * x[0]) * jnp.sinh(x[1]) + x[0] * x[1]

    def source(x):
        return -(1 - jnp.pi**2) * jnp.sin(jnp.pi * x[0]) * jnp.sinh(x[1])

    # Other values inside than those of the solution.
    held = layers.dirichlet(ell, lambda x: exact(x) + 5 * ell.distance(x))
    network = layers.mlp(2, width=16, depth=3).then(held)

    def residual(params, batch):
        laplacian = jc.derivatives.laplacian(partial(network.apply, params))
        return jax.vmap(lambda x: laplacian(x) + source(x))(batch["x"])

    problem = jc.Lagrangian(jc.MeanSquares({"poisson": residual}), jc.Constraints())
    params = jax.tree.map(lambda leaf: leaf.astype("float64"), network.init(key))
    batch = {"x": ell.sobol(400)}
    params = trained(problem, params, batch, 80, on={"poisson": "x"})
    x = ell.sample(key, 1000)
    found = jax.vmap(partial(network.apply, params))(x)
    assert relative(found, jax.vmap(exact)(x)) <= 1e-3
