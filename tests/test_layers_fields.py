"""Fields from potentials: textbook ones, their laws, and what breaks them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcon as jc
from jaxcon.layers._fields import divergence_free, gradient_field, hamiltonian_field

X = jnp.array([0.3, -0.7])


def box(key, num, d=2):
    return jc.points.uniform(key, [-1.0] * d, [1.0] * d, num)


def potential(params, x):
    """A network small enough to be compiled in no time."""
    return jnp.tanh(params @ x + 0.3) @ params[:, 0]


def test_stream_function_of_a_rotation():
    apply = divergence_free(2).wrap(lambda omega, x: -omega * x @ x / 2)
    np.testing.assert_allclose(apply(2.0, X), [-2 * X[1], 2 * X[0]], rtol=1e-6)


def test_in_three_dimensions_it_is_the_curl():
    def entries(_, x):
        return jnp.stack([x[0] * x[1], x[2] ** 2, jnp.sin(x[1] * x[2])])

    x = jnp.array([0.2, 0.5, -0.4])

    def vector_potential(x):
        a01, a02, a12 = entries(None, x)
        return jnp.stack([a12, -a02, a01])

    ours = divergence_free(3).wrap(entries)(None, x)
    expected = jc.derivatives.curl(vector_potential)(x)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize("d", [2, 4])
def test_operators_compose(d, x64, key):
    outputs = None if d == 2 else d * (d - 1) // 2
    free = jc.layers.free(d, outputs, width=4, depth=2)
    flow = free.then(divergence_free(d))
    v = partial(flow.apply, jax.tree.map(jnp.float64, jax.jit(flow.init)(key)))
    x = jnp.linspace(-0.5, 0.5, d)
    slopes = jax.jit(jax.jacobian(v))(x)
    assert jnp.max(jnp.abs(jnp.diag(slopes))) > 1e-3
    # A hundred roundings of float64.
    assert abs(jax.jit(jc.derivatives.divergence(v))(x)) < 2e-14 * jnp.linalg.norm(
        slopes
    )
    first = jax.jit(jc.derivatives.laplacian(lambda x: v(x)[0]))(x)
    expected = jnp.trace(jax.jit(jax.hessian(lambda x: v(x)[0]))(x))
    np.testing.assert_allclose(first, expected, rtol=1e-10, atol=1e-13)


def test_a_gradient_does_no_work_on_a_closed_path(x64, key):
    weights = jax.random.normal(key, (4, 2), float)
    v = partial(gradient_field().wrap(potential), weights)
    angles = 2 * jnp.pi * jnp.arange(64) / 64
    circle = jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1)
    along = jnp.stack([-jnp.sin(angles), jnp.cos(angles)], 1)
    work = jnp.sum(jax.vmap(v)(circle) * along, 1) * 2 * jnp.pi / 64
    assert jnp.max(jnp.abs(work)) > 1e-2
    # The trapezoidal rule of a periodic analytic function converges geometrically.
    assert abs(jnp.sum(work)) < 1e-10


def test_energy_is_kept_along_the_field(key):
    weights = jax.random.normal(key, (4, 4))
    v = hamiltonian_field().wrap(potential)
    x = box(key, 200, 4)
    slopes = jax.vmap(jax.grad(potential, 1), (None, 0))(weights, x)
    rates = jnp.sum(slopes * jax.vmap(v, (None, 0))(weights, x), 1)
    sizes = jnp.sum(slopes**2, 1)
    # Products q p - p q of the same numbers: four roundings.
    assert (jnp.abs(rates) <= 4 * jnp.finfo("float32").eps * sizes).all()


def rescaled(apply):
    def wrong(params, x):
        return apply(params, x) * jnp.array([1.01, 1.0])

    return wrong


FIELDS = pytest.mark.parametrize(
    "field",
    [divergence_free(2), gradient_field(), hamiltonian_field()],
    ids=["divergence", "curl", "energy"],
)


@FIELDS
@pytest.mark.slow
def test_the_law_is_checked_and_a_hundredth_is_caught(field, key):
    weights = jax.random.normal(key, (4, 2))
    apply = field.wrap(potential)
    tried = [
        jc.layers.check(f, weights, field.certificate, box, num=300)
        for f in (apply, rescaled(apply))
    ]
    assert tried[0].holds
    assert not tried[1].holds


@FIELDS
def test_the_law_holds_and_a_hundredth_breaks_it(field, key):
    weights, x = jax.random.normal(key, (4, 2)), box(key, 200)
    (law,) = field.promises.guarantees
    apply = field.wrap(potential)

    def broken(apply):
        test = partial(law.tests["derivative"], partial(apply, weights))
        gap = jax.jit(jax.vmap(test))(x, x)
        return jnp.mean(gap.excess > law.tolerance("float32", gap.size))

    assert broken(apply) == 0
    assert broken(rescaled(apply)) > 0.5


def test_differences_find_it_too(x64, key):
    weights = jax.random.normal(key, (4, 2), float)
    field = divergence_free(2)
    (law,) = field.promises.guarantees
    x = box(key, 200).astype(float)

    def broken(apply):
        test = partial(law.tests["difference"], partial(apply, weights))
        gap = jax.jit(jax.vmap(test))(x, x)
        return jnp.mean(gap.excess > law.tolerance("float64", gap.size))

    apply = field.wrap(potential)
    assert broken(apply) == 0
    assert broken(rescaled(apply)) > 0.5


def test_differences_far_out_raise_no_alarm(key):
    weights = 10 * jax.random.normal(key, (4, 2))
    (law,) = divergence_free(2).promises.guarantees
    f = partial(divergence_free(2).wrap(potential), weights)
    keys = jax.random.split(key)
    out = 10.0 ** jax.random.uniform(keys[0], (20_000, 1), minval=0.0, maxval=3.0)
    x = jnp.tile(out, (1, 2)) * box(keys[1], 20_000)
    gap = jax.jit(jax.vmap(partial(law.tests["difference"], f)))(x, x)
    assert (gap.excess <= law.tolerance("float32", gap.size)).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: divergence_free(1), "at least 2 inputs"),
        (
            lambda: divergence_free(3).wrap(lambda _, x: x[:2])(None, jnp.ones(3)),
            r"divergence_free of 3 inputs .* \(3,\), got \(2,\)",
        ),
        (lambda: gradient_field().wrap(lambda _, x: x)(None, X), r"\(\), got \(2,\)"),
        (
            lambda: hamiltonian_field().wrap(lambda _, x: x @ x)(None, jnp.ones(3)),
            r"\(2 k,\), got \(3,\)",
        ),
        (
            lambda: divergence_free(2).wrap(lambda _, x: x @ x)(None, jnp.ones((4, 2))),
            "vmap",
        ),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


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
        (divergence_free(2), cellular, 0.05),
        (gradient_field(), saddle, 0.03),
        (hamiltonian_field(), pendulum, 0.04),
    ],
    ids=["vortices", "saddle", "pendulum"],
)
def test_targets_of_the_class_are_fitted(field, target, most, key):
    network = jc.layers.free(2).then(field)
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
