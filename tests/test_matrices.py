"""Determinants, linear systems, tangents in slots and complex outputs.

First, second and third derivatives and a gradient with respect to a parameter are
compared in float64 with nested ``jax.jacfwd``, of the real and the imaginary parts.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import solve_triangular
from tables import assert_refused

from jaxcon import derivatives as dv
from jaxcon.derivatives import Gradient, Hessian, Laplacian, Partial, derivatives
from jaxcon.derivatives._equations import programs

# The speed of the machine code does not matter here, that of the compiler does.
COMPILER = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}
X = np.array([0.7, -0.4, 1.1])
W = np.cos(np.arange(48.0)).reshape(16, 3)
WEIGHTS = np.array([1.0, -2.0, 0.5])


def matrix(x):
    return jnp.sin(1.3 * (W @ x)).reshape(4, 4) + 2 * x[0] * jnp.eye(4)


def matrices(x):
    return jnp.stack([matrix(x), matrix(x) @ matrix(jnp.cos(x))])


def complex_matrix(x):
    return matrix(x) + 1j * matrix(x * x)


def vector(x):
    return jnp.cos(W[:4] @ x)


def orbitals(x):
    """The logarithm of a sum of determinants, as a wave function has it."""
    sign, size = jnp.linalg.slogdet(matrices(x))
    return jnp.log(jnp.abs(jnp.sum(sign * jnp.exp(size)))) + size[0]


def phase(x):
    sign, size = jnp.linalg.slogdet(complex_matrix(x))
    return sign * jnp.exp(size) + size


def wave(x):
    """Complex, and holomorphic in no intermediate."""
    z = jnp.tanh(W[:3] @ x) * jnp.exp(1j * (W[3:6] @ x))
    return jnp.sum(z * jnp.conj(z[::-1]) + jnp.abs(z) * z + jnp.sign(z))


def transposed(x):
    a = complex_matrix(x)
    kept = {"left_side": False, "lower": True, "transpose_a": True, "conjugate_a": True}
    return jnp.sum(jax.lax.linalg.triangular_solve(a, matrix(x) + 0j, **kept) ** 2)


FUNCTIONS = {
    "log determinants": orbitals,
    "phase of a determinant": phase,
    "solution": lambda x: jnp.sum(jnp.linalg.solve(matrix(x), vector(x)) ** 2),
    "of a constant": lambda x: jnp.sum(jnp.linalg.solve(matrix(x), W[:4, 0]) ** 2),
    "constant matrix": lambda x: jnp.sum(jnp.linalg.solve(matrix(X), vector(x)) ** 2),
    "complex solution": lambda x: jnp.sum(
        jnp.linalg.solve(complex_matrix(x), vector(x)) ** 2
    ),
    "inverses": lambda x: jnp.sum(jnp.linalg.inv(matrices(x)) ** 2),
    "triangle": lambda x: jnp.sum(solve_triangular(matrix(x), vector(x), lower=True)),
    "unit triangle": lambda x: jnp.sum(
        solve_triangular(matrix(x), matrix(x * x), trans=1, unit_diagonal=True)
    ),
    "triangle from the right": transposed,
    "wave": wave,
}


def ours(f, x):
    """Everything in both layouts, the third order, and the gradient of a parameter."""
    wanted = (Gradient(), Laplacian(WEIGHTS), Partial((0, 2)))
    both = [
        tuple(derivatives(f, *wanted, unroll=unroll)(x)) for unroll in (True, False)
    ]

    def energy(s):
        return jnp.abs(dv.laplacian(lambda x: f(s * x), unroll=False)(x)) ** 2

    third = dv.partial_derivative(f, 0, 0, 2)(x)
    return both, dv.hessian(f)(x), third, jax.grad(energy)(1.0)


def nested(f, x):
    def parts(x):
        return jnp.stack([jnp.real(f(x)), jnp.imag(f(x))])

    def second(x):
        return jax.jacfwd(jax.jacfwd(parts))(x)

    def energy(s):
        h = jax.jacfwd(jax.jacfwd(lambda x: parts(s * x)))(x)
        return jnp.sum(jnp.trace(h, axis1=1, axis2=2) ** 2)

    third = jax.jacfwd(lambda t: second(x.at[0].add(t))[:, 0, 2])(0.0)
    return jax.jacfwd(parts)(x), second(x), third, jax.jacfwd(energy)(1.0)


# Others in the table do the same in another way.
REPEATING = (
    "of a constant",
    "constant matrix",
    "complex solution",
    "unit triangle",
    "triangle from the right",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in REPEATING else name
        for name in FUNCTIONS
    ],
)
def test_derivatives_of_matrices_equal_nested_jacfwd(name, x64):
    f = FUNCTIONS[name]

    def compared(x):
        return ours(f, x), nested(f, x)

    found, (j, h, third, slope) = jax.jit(compared, compiler_options=COMPILER)(X)
    both, hessian, our_third, our_slope = found
    gradient, h, third = (re + 1j * im for re, im in (j, h, third))
    for layout in both:
        close(layout[0], gradient)
        close(layout[1], WEIGHTS @ np.diag(h))
        close(layout[2], h[0, 2])
    close(hessian, h)
    close(our_third, third)
    close(our_slope, slope)


def close(a, b):
    # A few hundred roundings, relative to the largest entry.
    scale = max(1.0, float(np.max(np.abs(b))))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * scale)


def count(jaxpr, name):
    """How often a primitive stands in a program and in those inside."""
    return sum(
        (eqn.primitive.name == name) + sum(count(p, name) for p in programs(eqn))
        for eqn in jaxpr.eqns
    )


@pytest.mark.parametrize("f", [orbitals, FUNCTIONS["solution"]])
def test_laplacian_of_a_matrix_factorises_as_often_for_any_number_of_tangents(f):
    def factorisations(k):
        laplacian = dv.laplacian(f, directions=np.eye(3)[:k], unroll=True)
        return count(jax.make_jaxpr(laplacian)(X.astype("float32")).jaxpr, "lu")

    assert factorisations(1) == factorisations(3) <= 2


@jax.custom_jvp
def slogdet(a):
    """Named like jax's, with a rule of its own on purpose."""
    return jnp.linalg.slogdet(a)


@slogdet.defjvp
def _(primals, tangents):
    out, along = jax.jvp(jnp.linalg.slogdet, primals, tangents)
    return out, jax.tree.map(lambda t: 3 * t, along)


def test_a_rule_of_its_own_around_a_log_determinant_is_kept(x64):
    def slope(f):
        return derivatives(lambda x: f(matrix(x))[1], Partial(0))(X).partial_0

    np.testing.assert_allclose(slope(slogdet), 3 * slope(jnp.linalg.slogdet))


# Slots


POSITIONS = np.array([0.3, -1.2, 0.9, 2.0, -0.4, 1.3])


def particles(s, x):
    """A network of the distances of six particles on a line."""
    apart = x[:, None] - x[None]
    pairs = jnp.stack([apart, jnp.sqrt(apart**2 + 1.0), jnp.arctan2(apart, 2.0)], -1)
    pairs = jnp.where(jnp.arange(3) > 0, pairs, jnp.exp(-(pairs**2)))
    hidden = jnp.tanh(pairs @ (s * W[:3])) / (2 + pairs**2)
    each = jnp.concatenate([hidden.mean(1), jnp.sin(x)[:, None]], -1)
    return jnp.sum(jnp.tanh(each @ W[4:8]) * x[:, None]) + jnp.sum(hidden**3)


def test_derivatives_of_particles_in_slots_equal_nested_transforms(x64):
    weights = np.arange(6.0) - 2

    @jax.jit
    def compared(x):
        def found(s):
            f = lambda x: particles(s, x)  # noqa: E731
            wanted = (Gradient(), Laplacian(), Laplacian(weights), Partial((0, 3)))
            return tuple(derivatives(f, *wanted, unroll=False, mode="forward")(x))

        def expected(s):
            f = lambda x: particles(s, x)  # noqa: E731
            h = jax.hessian(f)(x)
            return jax.grad(f)(x), jnp.trace(h), weights @ jnp.diag(h), h[0, 3]

        def with_slope(each):
            return each(1.0), jax.grad(lambda s: jnp.sum(each(s)[1] + each(s)[2]))(1.0)

        return with_slope(found), with_slope(expected)

    found, expected = compared(POSITIONS)
    jax.tree.map(close, found, expected)


def test_tangents_in_slots_are_never_multiplied_by_an_infinite_slope():
    # Two particles meet at a corner of the distance's root: others keep their slopes.
    def f(x):
        apart = jnp.sqrt(jnp.abs(x[:, None] - x[None]) + jnp.eye(6))
        return jnp.sum(jnp.tanh(apart))

    x = np.array([0.0, 0.0, 1.0, 3.0, 6.0, 10.0], "float32")
    wanted = (Partial(2), Laplacian(np.array([0.0, 0.0, 1.0, 0.0, 1.0, 0.0])))
    found = derivatives(f, *wanted, unroll=False, mode="forward")(x)
    assert np.isfinite(found).all()


def test_tangents_of_pairs_of_particles_are_two_rows_not_six():
    def f(x):
        apart = x[:, None] - x[None]
        return jnp.sum(jnp.tanh(apart[..., None] * jnp.ones((1, 1, 8))))

    program = jax.make_jaxpr(dv.laplacian(f, unroll=False))(POSITIONS).jaxpr
    products = [e for e in program.eqns if e.primitive.name == "mul"]
    shapes = {v.aval.shape for eqn in products for v in eqn.outvars}
    assert (2, 6, 6, 8) in shapes
    assert (6, 6, 6, 8) not in shapes


# Complex outputs


def waves(x):
    return jnp.exp(1j * (W[:3] @ x)) * x


def test_every_mode_and_layout_takes_complex_outputs(x64):
    @jax.jit
    def every(x):
        return [
            (
                tuple(derivatives(wave, Hessian(), mode=mode, unroll=unroll)(x)),
                dv.jacobian(waves, mode=mode, unroll=unroll)(x),
            )
            for mode in (None, "forward", "reverse")
            for unroll in (True, False)
        ]

    first, *others = every(X)
    for other in others:
        jax.tree.map(close, other, first)
    assert first[1].dtype == np.complex128


def test_operators_of_fields_and_norms_take_complex_outputs(x64):
    j = np.asarray(dv.jacobian(waves)(X))
    close(dv.divergence(waves)(X), np.trace(j))
    close(dv.curl(waves)(X)[2], j[1, 0] - j[0, 1])
    close(dv.jacobian_norm_squared(waves)(X), np.sum(np.abs(j) ** 2))
    value, estimate = dv.value_and_jacobian_norm_squared(
        waves, projections=2000, key=jax.random.key(0)
    )(X)
    close(value, waves(X))
    # The mean of 2000, whose deviation is below that of one: the norm itself.
    np.testing.assert_allclose(estimate, np.sum(np.abs(j) ** 2), rtol=5 / 2000**0.5)
    hessian = dv.hessian(wave)(X)
    close(dv.hessian_vector_product(wave, WEIGHTS)(X), hessian @ WEIGHTS)
    close(
        dv.derivative(lambda t: wave(X + t * WEIGHTS), 2)(0.0),
        WEIGHTS @ hessian @ WEIGHTS,
    )


def test_complex_inputs_and_losses_are_refused():
    z = X.astype("complex64")
    assert_refused(
        [
            (
                lambda: dv.laplacian(wave)(z),
                TypeError,
                "laplacian got x of dtype complex",
            ),
            (
                lambda: dv.derivative(jnp.exp)(1j),
                TypeError,
                "derivative got x of dtype complex",
            ),
            (
                lambda: dv.value_and_grad(lambda w, x: w * 1j * x)(1.0, X),
                TypeError,
                "value_and_grad: loss returned a value of dtype complex",
            ),
            (
                lambda: dv.gradient(lambda x: jnp.argmax(x))(X),
                TypeError,
                "gradient: f returned a value of dtype int",
            ),
        ]
    )
