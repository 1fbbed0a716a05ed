"""What all layers share: one example at a time, jit, vmap, and a certificate that holds."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_transforms

import jaxcon as jc
from jaxcon import layers
from jaxcon.layers._certificates import Gap
from jaxcon.layers._check import _pairs

SMALL = {"width": 16, "depth": 3}


class Case(NamedTuple):
    """A layer on a network, the box its inputs are drawn from, a target of its class."""

    network: layers.Network
    inputs: int
    target: Callable[[jax.Array], Any]
    half_width: float = 1.0


def ending(layer, outputs=None):
    return layers.mlp(2, outputs, **SMALL).then(layer)


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
    "bounded": lambda: Case(
        ending(layers.bounded(-0.5, 0.5)), 2, lambda x: wave(x) / 2
    ),
    "bounded below": lambda: Case(
        ending(layers.bounded(0.0, np.inf)), 2, lambda x: wave(x) ** 2
    ),
    "positive": lambda: Case(ending(layers.positive()), 2, lambda x: wave(x) ** 2),
    "simplex": lambda: Case(
        ending(layers.simplex(), 4), 2, lambda x: jax.nn.softmax(waves(x))
    ),
    "sparse_simplex": lambda: Case(
        ending(layers.sparse_simplex(), 4), 2, lambda x: jax.nn.softmax(3 * waves(x))
    ),
    "ordered": lambda: Case(
        ending(layers.ordered(gap=0.1), 4), 2, lambda x: jnp.sort(waves(x))
    ),
    "positive_definite": lambda: Case(
        ending(layers.positive_definite(0.1), 3),
        2,
        lambda x: jnp.outer(x, x) + 0.2 * jnp.eye(2),
    ),
    "sums_to": lambda: Case(
        ending(layers.sums_to(lambda x: x[0]), 4),
        2,
        lambda x: waves(x) + (x[0] - waves(x).sum()) / 4,
    ),
    "moving_average": lambda: Case(
        ending(layers.bounded(-1.0, 1.0), 4).then(layers.moving_average(3)), 2, waves
    ),
    "gaussian": lambda: Case(
        ending(layers.bounded(-1.0, 1.0), 4).then(layers.gaussian(0.5)), 2, waves
    ),
    "learned_smoothing": lambda: Case(
        layers.learned_smoothing(ending(layers.bounded(-1.0, 1.0), 4), 3), 2, waves
    ),
    "periodic": lambda: Case(
        layers.mlp(3, **SMALL).then(layers.periodic({0: 1.5})),
        2,
        lambda x: jnp.sin(2 * jnp.pi * x[0] / 1.5) * x[1],
    ),
    "fourier_features": lambda: Case(
        layers.lipschitz(6, constant=0.5, **SMALL).then(
            layers.fourier_features(2, 3, scale=0.5)
        ),
        2,
        wave,
    ),
    "siren": lambda: Case(
        layers.siren(2, frequency=5.0, **SMALL).then(layers.bounded(-2.0, 2.0)),
        2,
        wave,
    ),
    "modified_mlp": lambda: Case(
        layers.modified_mlp(2, width=16).then(layers.bounded(-2.0, 2.0)), 2, wave
    ),
    "mlp, adaptive": lambda: Case(
        layers.mlp(2, adaptive=5.0, **SMALL).then(layers.bounded(-2.0, 2.0)), 2, wave
    ),
    "dirichlet": lambda: Case(
        ending(layers.dirichlet(jc.domains.box([-1.0], [1.0]), 0.5)),
        2,
        lambda x: 0.5 + (1 - x[0] ** 2) * x[1],
    ),
    "box_boundary": lambda: Case(
        ending(layers.box_boundary(*BOX, lambda x: x[0])),
        2,
        lambda x: x[0] + (1 - x[0] ** 2) * (1 - x[1] ** 2),
    ),
    "initial_value": lambda: Case(
        ending(layers.initial_value(0, -1.0, value=0.5, rate=lambda x: x[1])),
        2,
        lambda x: 0.5 + (x[0] + 1) * x[1] + (x[0] + 1) ** 2,
    ),
    "neumann": lambda: Case(
        ending(layers.neumann(0, -1.0, 1.0, left=0.0, right=lambda x: x[1])),
        2,
        lambda x: x[1] * (x[0] + 1) ** 2 / 4,
    ),
    "mixed": lambda: Case(
        ending(layers.mixed(0, -1.0, 1.0, value=1.0, slope=0.0)),
        2,
        lambda x: 1 + x[1] * (4 - (1 - x[0]) ** 2),
    ),
    "robin": lambda: Case(
        ending(layers.robin(0, -1.0, 1.0, (2.0, 0.0), (0.0, lambda x: x[1]))),
        2,
        lambda x: x[1] * (x[0] + 2) ** 2 / 6,
    ),
    "flux": lambda: Case(
        ending(layers.flux(jc.domains.ball([0.0, 0.0], 1.0), 0.0, 1.0)),
        2,
        lambda x: (3 - x @ x) * (1 + x[0]),
    ),
    "conditions": lambda: Case(
        ending(
            layers.conditions(
                layers.initial_value(1, -1.0, lambda x: x[0] ** 2),
                layers.neumann(0, -1.0, 1.0, left=-2.0, right=2.0),
            )
        ),
        2,
        lambda x: x[0] ** 2 + (x[1] + 1) * jnp.cos(jnp.pi * x[0]),
    ),
    "integral": lambda: Case(
        ending(layers.integral([[-1.0, 0.0], [1.0, 0.5]], [0.5, 0.5], 1.0)),
        2,
        lambda x: wave(x) + 1,
    ),
    "affine": lambda: Case(
        ending(layers.affine(ROWS[:2], lambda x: x), 4),
        2,
        lambda x: jnp.linalg.pinv(ROWS[:2]) @ x,
    ),
    "box_section": lambda: Case(
        ending(layers.box_section(0.0, 0.6), 4),
        2,
        lambda x: jnp.full(4, 0.25) + x[0] / 9,
    ),
    "half_space": lambda: Case(
        ending(layers.half_space(ROWS[1], lambda x: x[0]), 4), 2, lambda x: waves(x) / 9
    ),
    "half_spaces": lambda: Case(
        ending(layers.half_spaces(ROWS, np.full(3, 0.3)), 4), 2, lambda x: waves(x) / 9
    ),
    "polyhedron": lambda: Case(
        ending(
            layers.polyhedron(
                ROWS[:1], lambda x: x[:1], ROWS[1:], -np.ones(2), np.ones(2)
            ),
            4,
        ),
        2,
        lambda x: jnp.full(4, x[0] / 4),
    ),
    "second_order_cone": lambda: Case(
        ending(layers.second_order_cone(), 3), 2, lambda x: jnp.append(x, 1.5)
    ),
    "spectral_ball": lambda: Case(
        ending(layers.spectral_ball((2, 2), 0.8), 4),
        2,
        lambda x: jnp.outer(x, x) / 3,
    ),
    "oblique_correction": lambda: Case(
        ending(layers.oblique_correction(ROWS[:2], -np.ones(2), lambda x: 1 + x**2), 4),
        2,
        lambda x: waves(x) / 9,
    ),
    "lipschitz, sandwich": lambda: Case(
        layers.lipschitz(2, constant=2.0, **SMALL), 2, lambda x: jnp.abs(x).sum()
    ),
    "lipschitz, sandwich, outputs": lambda: Case(
        layers.lipschitz(2, 2, constant=2.0, **SMALL), 2, lambda x: jnp.abs(x)
    ),
    "lipschitz, cayley": lambda: Case(
        layers.lipschitz(2, constant=2.0, by="cayley", **SMALL),
        2,
        lambda x: jnp.abs(x).sum(),
    ),
    "lipschitz, norms": lambda: Case(
        layers.lipschitz(2, constant=[1.0, 3.0], by="norms", **SMALL),
        2,
        lambda x: jnp.abs(x).sum(),
    ),
    "derivative_box": lambda: Case(
        layers.derivative_box(2, [-1.0, 0.5], [2.0, np.inf], **SMALL),
        2,
        lambda x: jnp.abs(x[0]) + 3 * x[1],
    ),
    "monotone": lambda: Case(
        layers.monotone(2, increasing=0, decreasing=1, **SMALL),
        2,
        lambda x: jnp.tanh(9 * x[0]) - 2 * x[1],
    ),
    "smooth_monotone": lambda: Case(layers.smooth_monotone(2, increasing=0), 2, rise),
    "smooth_monotone, bounded": lambda: Case(
        layers.smooth_monotone(2, increasing=0).then(layers.bounded(-2.0, 2.0)), 2, rise
    ),
    "convex": lambda: Case(layers.convex(2, **SMALL), 2, bowl),
    "convex in one": lambda: Case(
        layers.convex(2, convex=1, increasing=0, **SMALL), 2, lambda x: x[0] * x[1] ** 2
    ),
    "convex, increasing": lambda: Case(
        layers.convex(2, increasing=(0,), **SMALL), 2, bowl
    ),
    "concave": lambda: Case(
        layers.concave(2, decreasing=(0,), **SMALL), 2, lambda x: -bowl(x)
    ),
    "strongly convex": lambda: Case(layers.convex(2, strong=0.5, **SMALL), 2, bowl),
    "convex, positive": lambda: Case(
        layers.convex(2, **SMALL).then(layers.positive()), 2, bowl
    ),
    "bounded_convex": lambda: Case(
        layers.bounded_convex(*BOX, 0.0, 4.0, increasing=(0, 1), **SMALL),
        2,
        lambda x: jnp.exp(x.sum()) / 2,
    ),
    "bounded_concave": lambda: Case(
        layers.bounded_concave(*BOX, 0.0, 4.0, increasing=0, decreasing=1, **SMALL),
        2,
        lambda x: 4 - jnp.exp(x[1] - x[0]) / 2,
    ),
    "divergence_free": lambda: Case(
        ending(layers.divergence_free(2)), 2, lambda x: jnp.stack([x[1], -x[0]])
    ),
    "divergence_free, three": lambda: Case(
        layers.mlp(3, 3, **SMALL).then(layers.divergence_free(3)),
        3,
        lambda x: jnp.stack([x[1], x[2], x[0]]),
    ),
    "gradient_field": lambda: Case(ending(layers.gradient_field()), 2, lambda x: 2 * x),
    "hamiltonian_field": lambda: Case(
        ending(layers.hamiltonian_field()), 2, lambda x: jnp.stack([x[1], -x[0]])
    ),
}


# Of these a million points take minutes: they are tried so often once, then at fewer.
COSTLY = ("polyhedron",)
# Their certificates take parameters as numbers only, so that each set is compiled.
NUMBERS_ONLY = ("learned_smoothing",)


def draw(case, key, num):
    half = [case.half_width] * case.inputs
    return jc.points.uniform(key, [-h for h in half], half, num)


def cast(params, dtype):
    return jax.tree.map(partial(jnp.asarray, dtype=dtype), params)


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


# One of each kind; the others are compiled in a second or more each.
BY_DEFAULT = (
    "bounded",
    "simplex",
    "ordered",
    "learned_smoothing",
    "periodic",
    "fourier_features",
    "box_boundary",
    "neumann",
    "conditions",
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
def test_layer_transforms(name, monkeypatch):
    monkeypatch.setitem(SMALL, "depth", 2)
    case = CASES[name]()
    params = case.network.init(jax.random.key(0))
    x = draw(case, jax.random.key(2), 4)
    apply = partial(case.network.apply, params)
    # The same sums in another order, through two layers.
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    assert assert_transforms(apply, x, close).dtype == jnp.float32
    assert case.network.certificate(params).guarantees
    with pytest.raises((ValueError, TypeError)):
        apply(x)


def random(case, scale):
    """Parameters that no training made, beside the initial ones."""
    params = case.network.init(jax.random.key(3))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    drawn = [
        scale * (leaf + 0.1 * jax.random.normal(key, leaf.shape, leaf.dtype))
        for key, leaf in zip(keys, leaves)
    ]
    return jax.tree.unflatten(structure, drawn)


def together(certificate):
    """All guarantees as one, or as two where some have a domain, to compile them once.

    Its excess is the worst of theirs over their tolerances, so that one is allowed.
    """

    def one(guarantees):
        def value(f, x, y):
            z, found = f(x), []  # evaluated once for all claims about the value
            for guarantee in guarantees:
                for test in guarantee.tests.values():
                    gap = test(lambda at: z if at is x else f(at), x, y)
                    tiny = jnp.finfo(x.dtype).tiny
                    allowed = guarantee.tolerance(x.dtype, gap.size) + tiny
                    ratio = (gap.excess / allowed).astype(x.dtype)
                    found.append(jnp.where(jnp.isnan(ratio), jnp.inf, ratio))
            # Of one rounding, which its tolerance has, and in which one is one.
            worst = jnp.max(jnp.stack(found))
            return Gap(worst, jnp.asarray(1 / jnp.finfo(x.dtype).eps, x.dtype))

        first = guarantees[0]
        assert all(
            np.array_equal(g.domain, first.domain) for g in guarantees if g.domain
        )
        return replace(first, tests={"value": value}, roundings=1.0, exact=None)

    given = certificate.guarantees
    groups = [g for g in given if g.domain is None], [g for g in given if g.domain]
    return certificate._replace(
        guarantees=tuple(one(group) for group in groups if group)
    )


def sweep(case, known=None):
    """A program of (params, pairs near and far, pairs nearby): the worst excess, ().

    The certificate is that of the program's parameters, or the one that is given.
    """

    @jax.jit
    def worst(params, anywhere, nearby):
        f = partial(case.network.apply, params)
        certificate = together(known or case.network.certificate(params))

        def excess(pairs):
            found = []
            for guarantee in certificate.guarantees:
                pair = pairs[0]
                if guarantee.domain is not None:
                    pair = jnp.clip(pairs[1], *map(np.atleast_2d, guarantee.domain))
                found.append(guarantee.tests["value"](f, *pair).excess)
            return jnp.max(jnp.stack(found))

        # A thousand at a time, so that memory does not grow with their number.
        return jnp.max(jax.lax.map(excess, (anywhere, nearby), batch_size=1024))

    return worst


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_layer_certificate_holds_at_a_million_points(name, x64):
    """Trained parameters in both precisions, random ones of the usual size in float32.

    The points are those of `layers.check`, the tests those of the certificate; they are
    compiled once for all parameters.
    """
    case, key = CASES[name](), jax.random.key(0)
    fitted = cast(trained(case), "float32")
    sets = {
        "float32": (fitted, cast(random(case, 1.0), "float32")),
        "float64": (fitted,),
    }
    worst = sweep(case)
    for dtype, each in sets.items():
        x = jnp.asarray(draw(case, key, 1_000_000), dtype)
        pairs = [np.asarray(_pairs(x, key, reach)) for reach in (1000.0, 1.0)]
        for number, params in enumerate(each):
            params = cast(params, dtype)
            if name in COSTLY and (dtype == "float64" or number):
                pairs = [pair[:100_000] for pair in pairs]
            if name in NUMBERS_ONLY:
                worst = sweep(case, case.network.certificate(params))
            assert worst(params, *pairs) <= 1, dtype
            for guarantee in case.network.certificate(params).guarantees:
                if guarantee.exact is not None:
                    gap = guarantee.exact()
                    assert gap.excess <= guarantee.tolerance(dtype, float(gap.size))


# Of these another row has the same tests, of a network of the same parts.
VARIANTS = (
    "bounded below",
    "lipschitz, sandwich, outputs",
    "smooth_monotone, bounded",
    "convex in one",
    "convex, increasing",
    "strongly convex",
    "convex, positive",
    "bounded_concave",
    "divergence_free, three",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in VARIANTS])
def test_layer_certificate_holds_for_large_parameters_and_in_a_search(name):
    case = CASES[name]()
    params = random(case, 10.0)
    certificate = case.network.certificate(params)
    tried = layers.check(
        case.network.apply,
        params,
        lambda _: together(certificate),
        partial(draw, case),
        num=100_000,
    )
    assert tried.holds, f"\n{tried}"
