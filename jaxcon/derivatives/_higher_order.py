"""Operators of second and higher order: function f -> function of its derivative.

Every operator takes a pure function of ONE example and returns a pure function of one
example; batch with ``jax.vmap``, compile with ``jax.jit``, differentiate with
``jax.grad``.
"""

import operator

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcon._checks import check_number
from jaxcon.derivatives import _checks, _passes, _quantities, _several, _shared
from jaxcon.derivatives._equations import NoForwardMode, NoReverseMode
from jaxcon.derivatives._quantities import Hessian, HessianDiagonal, Partial
from jaxcon.derivatives._shared import Function, ValueAnd


def partial_derivative(f: Function, *inputs: int) -> Function:
    r"""Returns a partial derivative of any order, one order per input named.

    .. math:: \partial^k f / \partial x_{i_1} \dots \partial x_{i_k}

    ``partial_derivative(f, 0)`` is ∂f/∂x0, ``partial_derivative(f, 0, 1)`` is
    ∂²f/∂x0∂x1. An input named n times costs n + 1 evaluations of f; different inputs
    multiply.

    Args:
      f: one example x (d,) to an array of any shape.
      *inputs: the indices i1, …, ik, each from 0 to d - 1; at least one.

    Returns:
      A function of x (d,) that returns the derivative, of f's shape.

    Raises:
      ValueError: if no input is named, or an index is not a whole number >= 0; when
        called, if x is not (d,) or has no such input.
      TypeError: if an index is not a number; when called, if x or f(x) is not one
        real floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxcon as jc
      >>> f = lambda x: x[0] ** 2 * x[1]
      >>> float(jc.derivatives.partial_derivative(f, 0, 1)(jnp.array([2.0, 3.0])))
      4.0
    """
    return _shared.derivative_only(_partial(f, inputs, "partial_derivative"))


def value_and_partial_derivative(f: Function, *inputs: int) -> ValueAnd:
    r"""Returns f(x) and a partial derivative, from one pass.

    .. math:: x \mapsto (f(x), \partial^k f / \partial x_{i_1} \dots \partial x_{i_k})

    Args:
      f: one example x (d,) to an array of any shape.
      *inputs: the indices i1, …, ik, each from 0 to d - 1; at least one.

    Returns:
      A function of x (d,) that returns the value and the derivative, of f's shape.

    Raises:
      ValueError: as `partial_derivative` does.
      TypeError: as `partial_derivative` does.
    """
    return _partial(f, inputs, "value_and_partial_derivative")


def _partial(f: Function, inputs: tuple[int, ...], name: str) -> ValueAnd:
    indices = _quantities.input_indices(inputs, name)

    def quantity(x: jax.Array) -> Partial:
        _checks.require_inputs(indices, x.size, name)
        return Partial(indices)

    return _shared.value_and(f, name, quantity)


def derivative(f: Function, order: int = 1) -> Function:
    r"""Returns the derivative of a function of one number, of any order.

    .. math:: \mathrm{d}^k f / \mathrm{d} x^k

    It is read from a Taylor series: order k costs k + 1 evaluations of f, where nested
    jvp would cost 2^k. Orders above the first are exact for every function that jax can
    differentiate as often.

    Args:
      f: one number x () to an array of any shape.
      order: k, 1 or more.

    Returns:
      A function of x () that returns the derivative, of f's shape.

    Raises:
      ValueError: if order is not a whole number >= 1; when called, if x is not ().
      TypeError: if order is not a number; when called, if x or f(x) is not one real
        floating-point array.

    References:
      Griewank and Walther, "Evaluating Derivatives" (2008), chapter 13.

    Example:
      >>> import jaxcon as jc
      >>> float(jc.derivatives.derivative(lambda x: x**3, order=2)(2.0))
      12.0
    """
    return _shared.derivative_only(_derivative(f, order, "derivative"))


def value_and_derivative(f: Function, order: int = 1) -> ValueAnd:
    r"""Returns f(x) and its derivative of one order, from one pass.

    .. math:: x \mapsto (f(x), \mathrm{d}^k f / \mathrm{d} x^k)

    Args:
      f: one number x () to an array of any shape.
      order: k, 1 or more.

    Returns:
      A function of x () that returns the value and the derivative, of f's shape.

    Raises:
      ValueError: as `derivative` does.
      TypeError: as `derivative` does.
    """
    return _derivative(f, order, "value_and_derivative")


def _derivative(f: Function, order: int, name: str) -> ValueAnd:
    check_number(f"{name}: order", order, least=1, whole=True)
    order = operator.index(order)
    f = _checks.array_valued(f, name)

    def at(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
        x = _checks.scalar(x, name)
        try:
            return f(x), _passes.taylor(f, x, jnp.ones_like(x), order)
        except NoForwardMode as error:
            if order > 2:
                raise _checks.no_mode([error]) from error
            spec = Partial((0,) * order)
            wanted = (_quantities.Value(), spec)
            value, result = _several.compute(lambda x: f(x[0]), x[None], wanted)
            return value, result

    return at


def hessian(
    f: Function, *, mode: str | None = None, unroll: bool | None = None
) -> Function:
    r"""Returns the Hessian of a scalar function.

    .. math:: H_{ij}(x) = \partial^2 f / \partial x_i \partial x_j

    It is computed by a tangent for each input over one reverse pass; with one or two
    inputs, all entries are computed forwards.

    Args:
      f: one example x (d,) to a scalar ().
      mode: "forward" or "reverse" (over reverse); None for the cheaper one.
      unroll: whether each tangent is a program of its own, or all are one array; None
        for the faster one.

    Returns:
      A function of x (d,) that returns the Hessian (d, d), symmetric up to rounding.

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not (); if the mode is unknown.
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxcon as jc
      >>> f = lambda x: x[0] ** 2 * x[1]
      >>> jc.derivatives.hessian(f)(jnp.array([2.0, 3.0])).tolist()
      [[6.0, 4.0], [4.0, 0.0]]
    """
    return _shared.derivative_only(_of_scalar(f, "hessian", Hessian(), mode, unroll))


def value_and_hessian(
    f: Function, *, mode: str | None = None, unroll: bool | None = None
) -> ValueAnd:
    r"""Returns f(x) and its Hessian, from one pass.

    .. math:: x \mapsto (f(x), H(x))

    Args:
      f: one example x (d,) to a scalar ().
      mode: as for `hessian`.
      unroll: as for `hessian`.

    Returns:
      A function of x (d,) that returns the value () and the Hessian (d, d).

    Raises:
      ValueError: as `hessian` does.
      TypeError: as `hessian` does.
    """
    return _of_scalar(f, "value_and_hessian", Hessian(), mode, unroll)


def hessian_diagonal(
    f: Function, *, mode: str | None = None, unroll: bool | None = None
) -> Function:
    r"""Returns the pure second derivatives of a scalar function, forwards.

    .. math:: h_i(x) = \partial^2 f / \partial x_i^2

    Args:
      f: one example x (d,) to a scalar ().
      mode: as for `hessian`.
      unroll: as for `hessian`.

    Returns:
      A function of x (d,) that returns the diagonal of the Hessian (d,).

    Raises:
      ValueError: as `hessian` does.
      TypeError: as `hessian` does.
    """
    both = _of_scalar(f, "hessian_diagonal", HessianDiagonal(), mode, unroll)
    return _shared.derivative_only(both)


def value_and_hessian_diagonal(
    f: Function, *, mode: str | None = None, unroll: bool | None = None
) -> ValueAnd:
    r"""Returns f(x) and its pure second derivatives, from one pass.

    .. math:: x \mapsto (f(x), \operatorname{diag} H(x))

    Args:
      f: one example x (d,) to a scalar ().
      mode: as for `hessian`.
      unroll: as for `hessian`.

    Returns:
      A function of x (d,) that returns the value () and the diagonal (d,).

    Raises:
      ValueError: as `hessian` does.
      TypeError: as `hessian` does.
    """
    name = "value_and_hessian_diagonal"
    return _of_scalar(f, name, HessianDiagonal(), mode, unroll)


def hessian_vector_product(f: Function, vector: ArrayLike) -> Function:
    r"""Returns the Hessian times one vector, by one tangent of the gradient.

    .. math:: H(x)\, v = \nabla (\nabla f(x) \cdot v)

    Args:
      f: one example x (d,) to a scalar ().
      vector: v (d,).

    Returns:
      A function of x (d,) that returns H v (d,).

    Raises:
      ValueError: when called, if x is not (d,), the vector has another shape, or f(x)
        is not ().
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.

    References:
      Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6,
      1994.
    """
    return _shared.derivative_only(_hessian_vector(f, vector, "hessian_vector_product"))


def value_and_hessian_vector_product(f: Function, vector: ArrayLike) -> ValueAnd:
    r"""Returns f(x) and its Hessian times one vector, from one pass.

    .. math:: x \mapsto (f(x), H(x)\, v)

    Args:
      f: one example x (d,) to a scalar ().
      vector: v (d,).

    Returns:
      A function of x (d,) that returns the value () and H v (d,).

    Raises:
      ValueError: as `hessian_vector_product` does.
      TypeError: as `hessian_vector_product` does.
    """
    return _hessian_vector(f, vector, "value_and_hessian_vector_product")


def _hessian_vector(f: Function, vector: ArrayLike, name: str) -> ValueAnd:
    f = _checks.scalar_valued(f, name)

    def at(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
        x = _checks.vector(x, name)
        v = _checks.like(vector, x, name, "vector")
        try:
            value, _, [product] = _passes.forward_over_reverse(f, x, [v], unroll=True)
        except (NoForwardMode, NoReverseMode):
            # A whole Hessian is dearer, but goes any way there is.
            wanted = (_quantities.Value(), Hessian())
            value, h = _several.compute(f, x, wanted)
            product = jnp.matmul(h, v, precision=jax.lax.Precision.HIGHEST)
        return value, product

    return at


def _of_scalar(
    f: Function,
    name: str,
    quantity: _quantities.Spec,
    mode: str | None,
    unroll: bool | None,
) -> ValueAnd:
    require = _shared.scalar(name)
    return _shared.value_and(f, name, quantity, require, mode=mode, unroll=unroll)
