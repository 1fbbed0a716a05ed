"""What all layers share: one example at a time, jit, vmap, and a certificate that holds."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon import layers

SMALL = {"width": 16, "depth": 3}


class Case(NamedTuple):
    """A layer on a network, the box its inputs are drawn from, a target of its class."""

    network: layers.Network
    inputs: int
    target: Callable[[jax.Array], Any]
    half_width: float = 1.0


def ending(layer, outputs=None):
    return layers.free(2, outputs, **SMALL).then(layer)


ROWS = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 0.5, 0.0], [0.0, 1.0, 1.0, -1.0]])
WAVES = np.array([[1.0, 0.0], [0.5, 1.0], [-1.0, 0.5], [0.0, -1.0]])
BOX = [-1.0, -1.0], [1.0, 1.0]


def wave(x):
    return jnp.sin(2 * x[0]) * x[1]


def waves(x):
    return jnp.sin(WAVES @ x)


def rise(x):
    return jnp.tanh(3 * x[0]) + x[1] ** 2


def bowl(x):
    return jnp.log1p(jnp.exp(2 * x[0])) + 0.5 * x[1] ** 2


CASES = {
    "bounded": Case(ending(layers.bounded(-0.5, 0.5)), 2, lambda x: wave(x) / 2),
    "bounded below": Case(
        ending(layers.bounded(0.0, np.inf)), 2, lambda x: wave(x) ** 2
    ),
    "positive": Case(ending(layers.positive()), 2, lambda x: wave(x) ** 2),
    "simplex": Case(ending(layers.simplex(), 4), 2, lambda x: jax.nn.softmax(waves(x))),
    "sparse_simplex": Case(
        ending(layers.sparse_simplex(), 4), 2, lambda x: jax.nn.softmax(3 * waves(x))
    ),
    "ordered": Case(
        ending(layers.ordered(gap=0.1), 4), 2, lambda x: jnp.sort(waves(x))
    ),
    "positive_definite": Case(
        ending(layers.positive_definite(0.1), 3),
        2,
        lambda x: jnp.outer(x, x) + 0.2 * jnp.eye(2),
    ),
    "sums_to": Case(
        ending(layers.sums_to(lambda x: x[0]), 4),
        2,
        lambda x: waves(x) + (x[0] - waves(x).sum()) / 4,
    ),
    "moving_average": Case(
        ending(layers.bounded(-1.0, 1.0), 4).then(layers.moving_average(3)), 2, waves
    ),
    "gaussian": Case(
        ending(layers.bounded(-1.0, 1.0), 4).then(layers.gaussian(0.5)), 2, waves
    ),
    "learned_smoothing": Case(
        layers.learned_smoothing(ending(layers.bounded(-1.0, 1.0), 4), 3), 2, waves
    ),
    "periodic": Case(
        layers.free(3, **SMALL).then(layers.periodic({0: 1.5})),
        2,
        lambda x: jnp.sin(2 * jnp.pi * x[0] / 1.5) * x[1],
    ),
    "dirichlet": Case(
        ending(
            layers.dirichlet(
                lambda x: 1 - x[0] ** 2, 0.5, boundary=lambda x: x.at[0].set(1.0)
            )
        ),
        2,
        lambda x: 0.5 + (1 - x[0] ** 2) * x[1],
    ),
    "box_boundary": Case(
        ending(layers.box_boundary(*BOX, lambda x: x[0])),
        2,
        lambda x: x[0] + (1 - x[0] ** 2) * (1 - x[1] ** 2),
    ),
    "initial_value": Case(
        ending(layers.initial_value(0, -1.0, value=0.5, rate=lambda x: x[1])),
        2,
        lambda x: 0.5 + (x[0] + 1) * x[1] + (x[0] + 1) ** 2,
    ),
    "neumann": Case(
        ending(layers.neumann(0, -1.0, 1.0, left=0.0, right=lambda x: x[1])),
        2,
        lambda x: x[1] * (x[0] + 1) ** 2 / 4,
    ),
    "mixed": Case(
        ending(layers.mixed(0, -1.0, 1.0, value=1.0, slope=0.0)),
        2,
        lambda x: 1 + x[1] * (4 - (1 - x[0]) ** 2),
    ),
    "affine": Case(
        ending(layers.affine(ROWS[:2], lambda x: x), 4),
        2,
        lambda x: jnp.linalg.pinv(ROWS[:2]) @ x,
    ),
    "box_section": Case(
        ending(layers.box_section(0.0, 0.6), 4),
        2,
        lambda x: jnp.full(4, 0.25) + x[0] / 9,
    ),
    "half_space": Case(
        ending(layers.half_space(ROWS[1], lambda x: x[0]), 4), 2, lambda x: waves(x) / 9
    ),
    "half_spaces": Case(
        ending(layers.half_spaces(ROWS, np.full(3, 0.3)), 4), 2, lambda x: waves(x) / 9
    ),
    "polyhedron": Case(
        ending(
            layers.polyhedron(
                ROWS[:1], lambda x: x[:1], ROWS[1:], -np.ones(2), np.ones(2)
            ),
            4,
        ),
        2,
        lambda x: jnp.full(4, x[0] / 4),
    ),
    "second_order_cone": Case(
        ending(layers.second_order_cone(), 3), 2, lambda x: jnp.append(x, 1.5)
    ),
    "spectral_ball": Case(
        ending(layers.spectral_ball((2, 2), 0.8), 4),
        2,
        lambda x: jnp.outer(x, x) / 3,
    ),
    "oblique_correction": Case(
        ending(layers.oblique_correction(ROWS[:2], -np.ones(2), lambda x: 1 + x**2), 4),
        2,
        lambda x: waves(x) / 9,
    ),
    "lipschitz, sandwich": Case(
        layers.lipschitz(2, constant=2.0, **SMALL), 2, lambda x: jnp.abs(x).sum()
    ),
    "lipschitz, sandwich, outputs": Case(
        layers.lipschitz(2, 2, constant=2.0, **SMALL), 2, lambda x: jnp.abs(x)
    ),
    "lipschitz, cayley": Case(
        layers.lipschitz(2, constant=2.0, by="cayley", **SMALL),
        2,
        lambda x: jnp.abs(x).sum(),
    ),
    "lipschitz, norms": Case(
        layers.lipschitz(2, constant=[1.0, 3.0], by="norms", **SMALL),
        2,
        lambda x: jnp.abs(x).sum(),
    ),
    "derivative_box": Case(
        layers.derivative_box(2, [-1.0, 0.5], [2.0, np.inf], **SMALL),
        2,
        lambda x: jnp.abs(x[0]) + 3 * x[1],
    ),
    "monotone": Case(
        layers.monotone(2, increasing=0, decreasing=1, **SMALL),
        2,
        lambda x: jnp.tanh(9 * x[0]) - 2 * x[1],
    ),
    "smooth_monotone": Case(layers.smooth_monotone(2, increasing=0), 2, rise),
    "smooth_monotone, bounded": Case(
        layers.smooth_monotone(2, increasing=0).then(layers.bounded(-2.0, 2.0)), 2, rise
    ),
    "convex": Case(layers.convex(2, **SMALL), 2, bowl),
    "convex in one": Case(
        layers.convex(2, convex=1, increasing=0, **SMALL), 2, lambda x: x[0] * x[1] ** 2
    ),
    "convex, increasing": Case(layers.convex(2, increasing=(0,), **SMALL), 2, bowl),
    "concave": Case(layers.concave(2, decreasing=(0,), **SMALL), 2, lambda x: -bowl(x)),
    "strongly convex": Case(layers.convex(2, strong=0.5, **SMALL), 2, bowl),
    "convex, positive": Case(
        layers.convex(2, **SMALL).then(layers.positive()), 2, bowl
    ),
    "bounded_convex": Case(
        layers.bounded_convex(*BOX, 0.0, 4.0, increasing=(0, 1), **SMALL),
        2,
        lambda x: jnp.exp(x.sum()) / 2,
    ),
    "bounded_concave": Case(
        layers.bounded_concave(*BOX, 0.0, 4.0, increasing=0, decreasing=1, **SMALL),
        2,
        lambda x: 4 - jnp.exp(x[1] - x[0]) / 2,
    ),
    "divergence_free": Case(
        ending(layers.divergence_free(2)), 2, lambda x: jnp.stack([x[1], -x[0]])
    ),
    "divergence_free, three": Case(
        layers.free(3, 3, **SMALL).then(layers.divergence_free(3)),
        3,
        lambda x: jnp.stack([x[1], x[2], x[0]]),
    ),
    "gradient_field": Case(ending(layers.gradient_field()), 2, lambda x: 2 * x),
    "hamiltonian_field": Case(
        ending(layers.hamiltonian_field()), 2, lambda x: jnp.stack([x[1], -x[0]])
    ),
}


def draw(case, key, num):
    half = [case.half_width] * case.inputs
    return jc.points.uniform(key, [-h for h in half], half, num)


def trained(case, steps=300):
    """Parameters after a few hundred steps of least squares to the target."""
    x = draw(case, jax.random.key(1), 256)
    y = jax.vmap(case.target)(x)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    params = case.network.init(jax.random.key(0))

    def loss(params):
        fitted = jax.vmap(partial(case.network.apply, params))(x)
        return jnp.mean(jnp.square(fitted - y))

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    start = params, optimizer.init(params)
    (params, _), losses = jax.jit(lambda s: jax.lax.scan(step, s, length=steps))(start)
    assert losses[-1] < losses[0]
    return params


all_cases = pytest.mark.parametrize("name", CASES)
# One of each kind; the others are compiled in a second or more each.
BY_DEFAULT = (
    "bounded",
    "simplex",
    "ordered",
    "learned_smoothing",
    "periodic",
    "box_boundary",
    "neumann",
    "affine",
    "half_space",
    "lipschitz, norms",
    "monotone",
    "smooth_monotone",
    "convex",
    "gradient_field",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in BY_DEFAULT else pytest.mark.slow)
        for name in CASES
    ],
)
def test_one_by_one_or_together_compiled_or_not(name):
    case = CASES[name]
    params = case.network.init(jax.random.key(0))
    x = draw(case, jax.random.key(2), 4)
    apply = partial(case.network.apply, params)
    together = jax.jit(jax.vmap(apply))(x)
    one_by_one = jnp.stack([apply(each) for each in x])
    # The same sums in another order, through three layers.
    np.testing.assert_allclose(together, one_by_one, rtol=1e-4, atol=1e-5)
    assert together.dtype == jnp.float32
    assert case.network.certificate(params).guarantees
    with pytest.raises((ValueError, TypeError)):
        apply(x)


def hold(case, params, num):
    """Nothing beyond rounding is found; the table says what was."""
    found = layers.check(
        case.network.apply,
        params,
        case.network.certificate,
        partial(draw, case),
        num=num,
    )
    assert found.holds, f"\n{found}"
    return found


@pytest.mark.slow
@all_cases
def test_no_violation_at_a_million_points_once_trained(name, x64):
    case = CASES[name]
    params = jax.tree.map(partial(jnp.asarray, dtype="float32"), trained(case))
    found = hold(case, params, 1_000_000)
    assert {one.dtype for one in found.attempts} == {"float32", "float64"}


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 10.0])
@all_cases
def test_no_violation_for_random_parameters_of_any_size(name, scale):
    case = CASES[name]
    params = case.network.init(jax.random.key(3))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    drawn = [
        scale * (leaf + 0.1 * jax.random.normal(key, leaf.shape, leaf.dtype))
        for key, leaf in zip(keys, leaves)
    ]
    hold(
        case, jax.tree.unflatten(structure, drawn), 1_000_000 if scale == 1 else 100_000
    )
