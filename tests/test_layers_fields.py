"""Fields from potentials: textbook ones, their laws, and what breaks them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import assert_refused
from test_layers_outputs import random_params

import jaxcon as jc
from jaxcon.layers._fields import divergence_free, gradient_field, hamiltonian_field

X = np.float32([0.3, -0.7])


def box(key, num, d=2):
    return jc.points.uniform(key, [-1.0] * d, [1.0] * d, num)


def potential(params, x):
    """A network small enough to be compiled in no time."""
    return jnp.tanh(params @ x + 0.3) @ params[:, 0]


def test_divergence_free_of_a_rotation_by_its_stream_function():
    apply = jax.jit(divergence_free(2).wrap(lambda omega, x: -omega * x @ x / 2))
    np.testing.assert_allclose(apply(2.0, X), [-2 * X[1], 2 * X[0]], rtol=1e-6)


def test_divergence_free_in_three_dimensions_is_the_curl():
    def entries(_, x):
        return jnp.stack([x[0] * x[1], x[2] ** 2, jnp.sin(x[1] * x[2])])

    x = np.float32([0.2, 0.5, -0.4])

    def vector_potential(x):
        a01, a02, a12 = entries(None, x)
        return jnp.stack([a12, -a02, a01])

    field = partial(divergence_free(3).wrap(entries), None)
    both = jax.jit(lambda x: (field(x), jc.derivatives.curl(vector_potential)(x)))
    ours, expected = both(x)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize("d", [2, 4])
def test_divergence_free_composes_with_operators(d, x64):
    outputs = None if d == 2 else d * (d - 1) // 2
    free = jc.layers.mlp(d, outputs, width=4, depth=2)
    flow = free.then(divergence_free(d))
    v = partial(flow.apply, random_params(flow, "float64"))

    @jax.jit
    def evaluated(x):
        def first(x):
            return v(x)[0]

        return (
            jax.jacobian(v)(x),
            jc.derivatives.divergence(v)(x),
            jc.derivatives.laplacian(first)(x),
            jnp.trace(jax.hessian(first)(x)),
        )

    slopes, divergence, *both = evaluated(np.linspace(-0.5, 0.5, d))
    assert np.abs(np.diag(slopes)).max() > 1e-3
    # A hundred roundings of float64.
    assert abs(divergence) < 2e-14 * np.linalg.norm(slopes)
    np.testing.assert_allclose(*both, rtol=1e-10, atol=1e-13)


def test_gradient_field_does_no_work_on_a_closed_path(x64):
    weights = np.random.default_rng(0).normal(size=(4, 2))
    angles = 2 * np.pi * np.arange(64) / 64
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    along = np.stack([-np.sin(angles), np.cos(angles)], 1)
    v = jax.jit(jax.vmap(gradient_field().wrap(potential), (None, 0)))
    work = np.sum(v(weights, circle) * along, 1) * 2 * np.pi / 64
    assert np.abs(work).max() > 1e-2
    # The trapezoidal rule of a periodic analytic function converges geometrically.
    assert abs(work.sum()) < 1e-10


def test_hamiltonian_field_keeps_the_energy(key):
    weights = np.random.default_rng(0).normal(size=(4, 4)).astype("float32")
    v = hamiltonian_field().wrap(potential)

    @partial(jax.vmap, in_axes=(None, 0))
    def both(weights, x):
        return jax.grad(potential, 1)(weights, x), v(weights, x)

    slopes, flow = map(np.asarray, jax.jit(both)(weights, box(key, 200, 4)))
    rates, sizes = np.sum(slopes * flow, 1), np.sum(slopes**2, 1)
    # Products q p - p q of the same numbers: four roundings.
    assert (np.abs(rates) <= 4 * np.finfo("float32").eps * sizes).all()


FIELDS = {
    "divergence": lambda: divergence_free(2),
    "curl": gradient_field,
    "energy": hamiltonian_field,
}


def broken(field, test, weights, x):
    """The shares of points where the law fails, as it is and off by a hundredth."""
    (law,) = field.promises.guarantees
    apply = field.wrap(potential)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    def share(factor, x):
        def f(x):
            return apply(weights, x) * jnp.stack([factor, jnp.ones_like(factor)])

        gap = jax.vmap(partial(law.tests[test], f))(x, x)
        return jnp.mean(gap.excess > law.tolerance(x.dtype, gap.size))

    return share(np.array([1.0, 1.01], x.dtype), x)


@pytest.mark.slow
def test_check_finds_a_hundredth_off_the_law_of_divergence_free(key):
    weights, field = jax.random.normal(key, (4, 2)), divergence_free(2)
    apply = field.wrap(potential)

    def rescaled(params, x):
        return apply(params, x) * jnp.array([1.01, 1.0])

    for f, holds in ((apply, True), (rescaled, False)):
        tried = jc.layers.check(f, weights, field.certificate, box, num=300)
        assert tried.holds == holds


@pytest.mark.parametrize("name", FIELDS)
def test_field_law_holds_and_a_hundredth_breaks_it(name, key):
    weights = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
    x = np.asarray(box(key, 200))
    sound, off = broken(FIELDS[name](), "derivative", weights, x)
    assert sound == 0
    assert off > 0.5


def test_divergence_free_law_by_differences_finds_a_hundredth_too(x64, key):
    weights = np.random.default_rng(0).normal(size=(4, 2))
    x = np.asarray(box(key, 200), float)
    sound, off = broken(divergence_free(2), "difference", weights, x)
    assert sound == 0
    assert off > 0.5


def test_divergence_free_law_by_differences_holds_far_out(key):
    weights = np.float32(10 * np.random.default_rng(0).normal(size=(4, 2)))
    (law,) = divergence_free(2).promises.guarantees
    f = partial(divergence_free(2).wrap(potential), weights)
    out = 10.0 ** np.random.default_rng(1).uniform(0.0, 3.0, (20_000, 1))
    x = np.float32(out * box(key, 20_000))
    gap = jax.jit(jax.vmap(partial(law.tests["difference"], f)))(x, x)
    assert (gap.excess <= law.tolerance("float32", gap.size)).all()


def test_fields_refuse_what_does_not_fit():
    rows = [
        (
            lambda: divergence_free(1),
            r"inputs must be a whole number in \[2, 4096\], got 1",
        ),
        (
            lambda: divergence_free(3).wrap(lambda _, x: x[:2])(None, np.ones(3)),
            r"divergence_free of 3 inputs .* \(3,\), got \(2,\)",
        ),
        (lambda: gradient_field().wrap(lambda _, x: x)(None, X), r"\(\), got \(2,\)"),
        (
            lambda: hamiltonian_field().wrap(lambda _, x: x @ x)(None, np.ones(3)),
            r"\(2 k,\), got \(3,\)",
        ),
        (
            lambda: divergence_free(2).wrap(lambda _, x: x @ x)(None, np.ones((4, 2))),
            "vmap",
        ),
    ]
    assert_refused([(call, ValueError, said) for call, said in rows])


def cellular(x):
    """Taylor and Green's vortices: no divergence."""
    return jnp.stack(
        [jnp.sin(2 * x[0]) * jnp.cos(2 * x[1]), -jnp.cos(2 * x[0]) * jnp.sin(2 * x[1])]
    )


def saddle(x):
    return jnp.stack([jnp.cos(x[0]) * x[1], jnp.sin(x[0])])


def pendulum(x):
    return jnp.stack([x[1], -jnp.sin(3 * x[0])])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "target", "most"),
    [
        ("divergence", cellular, 0.05),
        ("curl", saddle, 0.03),
        ("energy", pendulum, 0.04),
    ],
    ids=["vortices", "saddle", "pendulum"],
)
def test_fields_fit_targets_of_their_class(field, target, most, key):
    network = jc.layers.mlp(2).then(FIELDS[field]())
    x, steps = box(key, 256), 2000
    y = jax.vmap(target)(x)

    def error(params, x, y):
        return jnp.mean((jax.vmap(partial(network.apply, params))(x) - y) ** 2)

    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            gradient = jax.grad(error)(params, x, y)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]

    params = run(network.init(key))
    other = box(jax.random.key(1), 2000)
    truth = jax.vmap(target)(other)
    # Root mean square, beside the training points, as a share of the target's: about
    # twice what was measured when written.
    assert jnp.sqrt(error(params, other, truth) / jnp.mean(truth**2)) < most
