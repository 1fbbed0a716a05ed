r"""Rules of matrices: solutions of linear systems, triangular ones, log determinants.

They need one factorisation for all tangents and sums of second derivatives. A solution y
of A y = b has, in each part of the series,

.. math:: A \, y_k = b_k - \sum_{j > 0} A_j \, y_{k - j},

so that every part is solved for as the value is. The logarithm of a determinant changes
as that of the inverse of the value times the matrix, which is close to the identity:

.. math:: D \log \det A [t] = \operatorname{tr} A^{-1} t, \quad
    D^2 \log \det A [t, u] = -\operatorname{tr} A^{-1} t \, A^{-1} u.

References:
  Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
  differentiation" (2008), sections 2.2.2 to 2.3.1.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon.derivatives._equations import Equation, Reach, programs

UNKNOWN = Reach(1, lambda supports: [None])  # every entry depends on all of the operand


def is_solution(eqn: Equation, active: Sequence[int]) -> bool:
    """Returns whether the equation solves a linear system whose matrix depends on x."""
    if eqn.name == "custom_linear_solve":
        return True
    return eqn.name == "triangular_solve" and 0 in active


def solution(
    eqn: Equation, inputs: list[Any], algebra: Any, interpret: Callable
) -> list[Any]:
    """Returns the solution of a linear system, each part solved for as the value is."""
    values = [algebra.value(x) if isinstance(x, algebra.Series) else x for x in inputs]
    if eqn.name == "custom_linear_solve":
        lengths = eqn.params["const_lengths"]
        first = sum(lengths)
        product, given = eqn.params["jaxprs"].matvec, inputs[: lengths.matvec]
    else:
        first, given = 1, inputs[:1]
        product = jax.make_jaxpr(functools.partial(_triangle_times, eqn.params))(
            *values
        )

    def image(ys: list[Any]) -> list[Any]:
        return interpret(product, [*given, *ys], algebra)

    solve = eqn.at(values, [(n,) for n in range(first, len(values))])
    return algebra.solution(eqn(values), image, inputs[first:], solve)


def _triangle_times(params: Any, a: jax.Array, y: jax.Array) -> jax.Array:
    """Returns what a triangular solver makes of its matrix, times a solution."""
    a = jnp.tril(a) if params["lower"] else jnp.triu(a)
    if params["unit_diagonal"]:
        one = jnp.eye(a.shape[-1], dtype=a.dtype)
        a = a * (1 - one) + one
    if params["conjugate_a"]:
        a = jnp.conj(a)
    if params["transpose_a"]:
        a = jnp.swapaxes(a, -1, -2)
    return _times(a, y) if params["left_side"] else _times(y, a)


def is_log_determinant(eqn: Equation) -> bool:
    """Returns whether the equation is the one of `jnp.linalg.slogdet`.

    It is recognised by its program, because names may be used by anyone.
    """
    if eqn.name != "custom_jvp_call" or len(eqn.invars) != 1 or len(eqn.outvars) != 2:
        return False
    aval = eqn.invars[0].aval
    if aval.ndim < 2 or aval.shape[-1] != aval.shape[-2] or eqn.inner is None:
        return False
    known = _program_of_slogdet(aval.shape, aval.dtype, jax.config.jax_enable_x64)
    return known == str(eqn.inner.jaxpr)


@functools.cache
def _program_of_slogdet(shape: tuple[int, ...], dtype: Any, x64: bool) -> str:
    """Returns the program inside of jax's rule, as text."""
    given = jax.ShapeDtypeStruct(shape, dtype)
    found = jax.make_jaxpr(jnp.linalg.slogdet)(given).jaxpr
    while found.eqns[0].primitive.name != "lu":
        found = next(programs(found.eqns[0]))
    return str(found)


def log_determinant(eqn: Equation, inputs: list[Any], algebra: Any) -> list[Any]:
    """Returns the sign and the logarithm of the size of a determinant."""
    [a] = inputs
    value = algebra.value(a)
    sign, size = eqn([value])
    inverse = _inverse(value)

    def relative(a: jax.Array) -> list[jax.Array]:
        return [_times(inverse, a)]

    [near_one] = algebra.linear(relative, relative, [a], UNKNOWN)
    change = algebra.log_determinant(near_one)
    if not jnp.iscomplexobj(value):
        return [sign, algebra.moved_to(size, change)]

    def linear(f: Callable, x: Any) -> Any:
        return algebra.linear(f, f, [x], UNKNOWN)[0]

    angle = linear(lambda z: [jnp.imag(z)], change)
    turn = algebra.unary(
        "exp", lambda z: [jnp.exp(z)], linear(lambda z: [1j * z], angle), None
    )
    return [
        linear(lambda z: [sign * z], turn),
        algebra.moved_to(size, linear(lambda z: [jnp.real(z)], change)),
    ]


@jax.custom_jvp
def _inverse(a: jax.Array) -> jax.Array:
    return jnp.linalg.inv(a)


@_inverse.defjvp
def _inverse_jvp(at: Any, along: Any) -> tuple[jax.Array, jax.Array]:
    # Products of small matrices are faster than triangular solutions.
    y = _inverse(at[0])
    return y, -_times(_times(y, along[0]), y)


def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    # Accelerators round a product's operands by default.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
