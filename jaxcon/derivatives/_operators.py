"""One operator, one function: f goes in, the function of its derivative comes out.

Every operator takes a pure function of ONE example and returns a pure function of one
example, x of shape (d,); nothing is evaluated before that function is called. Batch
with ``jax.vmap``, compile with ``jax.jit``, differentiate with ``jax.grad``.
"""

import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcon.derivatives import _checks, _passes

Function = Callable[..., jax.Array]


def gradient(f: Function) -> Function:
    r"""Returns the gradient of a scalar function, by one reverse pass.

    .. math:: (\nabla f(x))_i = \partial f / \partial x_i

    Args:
      f: one example x (d,) to a scalar ().

    Returns:
      A function of x (d,) that returns the gradient (d,), in units of f per unit of x.

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not ().
      TypeError: when called, if x or f(x) is not one real floating-point array.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxcon import derivatives
      >>> points = jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> jax.vmap(derivatives.gradient(lambda x: x[0] * x[1]))(points).tolist()
      [[2.0, 1.0], [4.0, 3.0]]
    """
    both = _value_and_gradient(f, "gradient")
    return lambda x: both(x)[1]


def value_and_gradient(
    f: Function,
) -> Callable[[ArrayLike], tuple[jax.Array, jax.Array]]:
    r"""Returns f(x) and its gradient, from one reverse pass.

    .. math:: x \mapsto (f(x), \nabla f(x))

    Written separately, the two would cost a third more: XLA does not merge them.

    Args:
      f: one example x (d,) to a scalar ().

    Returns:
      A function of x (d,) that returns the value () and the gradient (d,).

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not ().
      TypeError: when called, if x or f(x) is not one real floating-point array.
    """
    return _value_and_gradient(f, "value_and_gradient")


def _value_and_gradient(f: Function, name: str):
    f = _checks.scalar_valued(f, name)
    return lambda x: _passes.reverse(f, _checks.vector(x, name))


def jacobian(f: Function) -> Function:
    r"""Returns the Jacobian of a vector function, by the mode with fewer directions.

    .. math:: J_{ij}(x) = \partial f_i / \partial x_j

    Reverse mode if m < d, forward mode otherwise.

    Args:
      f: one example x (d,) to a vector (m,).

    Returns:
      A function of x (d,) that returns the Jacobian (m, d).

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not (m,).
      TypeError: when called, if x or f(x) is not one real floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon import derivatives
      >>> f = lambda x: jnp.array([x[0] * x[1], x[1] ** 2])
      >>> derivatives.jacobian(f)(jnp.array([2.0, 3.0])).tolist()
      [[3.0, 2.0], [0.0, 6.0]]
    """
    both = _value_and_jacobian(f, "jacobian")
    return lambda x: both(x)[1]


def value_and_jacobian(
    f: Function,
) -> Callable[[ArrayLike], tuple[jax.Array, jax.Array]]:
    r"""Returns f(x) and its Jacobian, from one pass of the cheaper mode.

    .. math:: x \mapsto (f(x), J(x))

    Args:
      f: one example x (d,) to a vector (m,).

    Returns:
      A function of x (d,) that returns the value (m,) and the Jacobian (m, d).

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not (m,).
      TypeError: when called, if x or f(x) is not one real floating-point array.
    """
    return _value_and_jacobian(f, "value_and_jacobian")


def _value_and_jacobian(f: Function, name: str):
    f = _checks.real_valued(f, name)

    def at(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
        x = _checks.vector(x, name)
        shape = jax.eval_shape(f, x).shape
        _checks.require_vector(shape, name)
        return _passes.jacobian(f, x, shape[0])

    return at


def directional_derivative(f: Function, direction: ArrayLike) -> Function:
    r"""Returns the derivative of f along one direction, by one jvp.

    .. math:: D_v f(x) = J(x)\, v = \lim_{t \to 0} (f(x + t v) - f(x)) / t

    Args:
      f: one example x (d,) to an array of any shape.
      direction: v (d,), in units of x; its length counts, it is not normalised.

    Returns:
      A function of x (d,) that returns the derivative, of f's shape.

    Raises:
      ValueError: when called, if x is not (d,) or the direction has another shape.
      TypeError: when called, if x or f(x) is not one real floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon import derivatives
      >>> along = derivatives.directional_derivative(jnp.prod, jnp.array([1.0, -1.0]))
      >>> float(along(jnp.array([2.0, 3.0])))
      1.0
    """
    f = _checks.real_valued(f, "directional_derivative")

    def at(x: ArrayLike) -> jax.Array:
        x = _checks.vector(x, "directional_derivative")
        v = _checks.like(direction, x, "directional_derivative", "direction")
        return _passes.nested(f, x, (v,))

    return at


def partial_derivative(f: Function, *inputs: int) -> Function:
    r"""Returns a partial derivative, one order per input named, by nested jvp.

    .. math:: \partial^k f / \partial x_{i_1} \dots \partial x_{i_k}

    ``partial_derivative(f, 0)`` is ∂f/∂x0, ``partial_derivative(f, 0, 1)`` is
    ∂²f/∂x0∂x1. The cost doubles with every order.

    Args:
      f: one example x (d,) to an array of any shape.
      *inputs: the indices i1, …, ik, each from 0 to d - 1; at least one.

    Returns:
      A function of x (d,) that returns the derivative, of f's shape.

    Raises:
      ValueError: if no input is named; when called, if x is not (d,) or has no such
        input.
      TypeError: if an index is not an integer; when called, if x or f(x) is not one
        real floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon import derivatives
      >>> f = lambda x: x[0] ** 2 * x[1]
      >>> float(derivatives.partial_derivative(f, 0, 1)(jnp.array([2.0, 3.0])))
      4.0
    """
    indices = input_indices(inputs, "partial_derivative")
    f = _checks.real_valued(f, "partial_derivative")

    def at(x: ArrayLike) -> jax.Array:
        x = _checks.vector(x, "partial_derivative")
        _checks.require_inputs(indices, x.size, "partial_derivative")
        unit = _passes.units(x)
        return _passes.nested(f, x, tuple(unit[i] for i in indices))

    return at


def input_indices(inputs: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Returns the inputs as plain integers, or says what is wrong with them."""
    if not inputs:
        raise ValueError(f"{name} got no inputs; name at least one, e.g. 0")
    try:
        return tuple(operator.index(i) for i in inputs)
    except TypeError:
        raise TypeError(
            f"{name} got inputs {inputs!r}; pass integers, e.g. 0, 1"
        ) from None


def derivative(f: Function, order: int = 1) -> Function:
    r"""Returns the derivative of a function of one number, by nested jvp.

    .. math:: \mathrm{d}^k f / \mathrm{d} x^k

    The cost doubles with every order.

    Args:
      f: one number x () to an array of any shape.
      order: k, 1 or more.

    Returns:
      A function of x () that returns the derivative, of f's shape.

    Raises:
      ValueError: if order < 1; when called, if x is not ().
      TypeError: if order is not an integer; when called, if x or f(x) is not one real
        floating-point array.

    Example:
      >>> from jaxcon import derivatives
      >>> float(derivatives.derivative(lambda x: x**3, order=2)(2.0))
      12.0
    """
    try:
        order = operator.index(order)
    except TypeError:
        raise TypeError(f"derivative got order {order!r}; pass an integer") from None
    if order < 1:
        raise ValueError(f"derivative got order {order}; pass 1 or more")
    f = _checks.real_valued(f, "derivative")

    def at(x: ArrayLike) -> jax.Array:
        x = _checks.scalar(x, "derivative")
        return _passes.nested(f, x, (jnp.ones_like(x),) * order)

    return at


def hessian(f: Function) -> Function:
    r"""Returns the Hessian of a scalar function, row by row, forward over reverse.

    .. math:: H_{ij}(x) = \partial^2 f / \partial x_i \partial x_j

    Each row is the exact derivative of the gradient along one input, so for a twice
    continuously differentiable f the result is symmetric up to rounding; averaging
    it with its transpose would gain nothing and is left to who needs it bitwise.

    Args:
      f: one example x (d,) to a scalar ().

    Returns:
      A function of x (d,) that returns the Hessian (d, d).

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not ().
      TypeError: when called, if x or f(x) is not one real floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon import derivatives
      >>> f = lambda x: x[0] ** 2 * x[1]
      >>> derivatives.hessian(f)(jnp.array([2.0, 3.0])).tolist()
      [[6.0, 4.0], [4.0, 0.0]]
    """
    return _hessian(f, "hessian")


def hessian_diagonal(f: Function) -> Function:
    r"""Returns the pure second derivatives of a scalar function.

    .. math:: h_i(x) = \partial^2 f / \partial x_i^2

    Args:
      f: one example x (d,) to a scalar ().

    Returns:
      A function of x (d,) that returns the diagonal of the Hessian (d,).

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not ().
      TypeError: when called, if x or f(x) is not one real floating-point array.
    """
    whole = _hessian(f, "hessian_diagonal")
    return lambda x: jnp.diagonal(whole(x))


def _hessian(f: Function, name: str) -> Function:
    f = _checks.scalar_valued(f, name)

    def at(x: ArrayLike) -> jax.Array:
        x = _checks.vector(x, name)
        return _passes.curvature(f, x, _passes.units(x))[2]

    return at


def hessian_vector_product(f: Function, vector: ArrayLike) -> Function:
    r"""Returns the Hessian times one vector, by one jvp of the gradient.

    .. math:: H(x)\, v = \nabla (\nabla f(x) \cdot v)

    Args:
      f: one example x (d,) to a scalar ().
      vector: v (d,).

    Returns:
      A function of x (d,) that returns H v (d,).

    Raises:
      ValueError: when called, if x is not (d,), the vector has another shape, or f(x)
        is not ().
      TypeError: when called, if x or f(x) is not one real floating-point array.

    References:
      Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6,
      1994.
    """
    f = _checks.scalar_valued(f, "hessian_vector_product")

    def at(x: ArrayLike) -> jax.Array:
        x = _checks.vector(x, "hessian_vector_product")
        v = _checks.like(vector, x, "hessian_vector_product", "vector")
        return _passes.curvature(f, x, v[None])[2][0]

    return at


def laplacian(
    f: Function,
    *,
    weights: ArrayLike | None = None,
    directions: ArrayLike | None = None,
) -> Function:
    r"""Returns the weighted sum of pure second derivatives of a scalar function.

    .. math:: \sum_k c_k\, v_k^\top H(x)\, v_k

    Weights and directions cover anisotropic diffusion, the wave operator (a negative
    weight) and a Laplacian in space alone (directions that leave time out).

    Args:
      f: one example x (d,) to a scalar ().
      weights: c (k,); ones by default.
      directions: v (k, d), one per row, not normalised; the unit vectors by default.

    Returns:
      A function of x (d,) that returns the sum ().

    Raises:
      ValueError: when called, if x is not (d,), f(x) not (), or the weights or
        directions do not fit.
      TypeError: when called, if x or f(x) is not one real floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon import derivatives
      >>> f = lambda x: x[0] ** 2 + 3 * x[1] ** 2
      >>> x = jnp.array([2.0, 3.0])
      >>> float(derivatives.laplacian(f)(x))
      8.0
      >>> float(derivatives.laplacian(f, weights=jnp.array([1.0, -1.0]))(x))
      -4.0
    """
    both = _value_and_laplacian(f, weights, directions, "laplacian")
    return lambda x: both(x)[1]


def value_and_laplacian(
    f: Function,
    *,
    weights: ArrayLike | None = None,
    directions: ArrayLike | None = None,
) -> Callable[[ArrayLike], tuple[jax.Array, jax.Array]]:
    r"""Returns f(x) and its weighted Laplacian, from one pass.

    .. math:: x \mapsto (f(x), \textstyle\sum_k c_k v_k^\top H(x) v_k)

    Args:
      f: one example x (d,) to a scalar ().
      weights: c (k,); ones by default.
      directions: v (k, d), one per row, not normalised; the unit vectors by default.

    Returns:
      A function of x (d,) that returns the value () and the sum ().

    Raises:
      ValueError: when called, if x is not (d,), f(x) not (), or the weights or
        directions do not fit.
      TypeError: when called, if x or f(x) is not one real floating-point array.
    """
    return _value_and_laplacian(f, weights, directions, "value_and_laplacian")


def _value_and_laplacian(f: Function, weights, directions, name: str):
    f = _checks.scalar_valued(f, name)

    def at(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
        x = _checks.vector(x, name)
        return _passes.laplacian(f, x, *_checks.terms(weights, directions, x, name))

    return at


def divergence(f: Function) -> Function:
    r"""Returns the divergence of a vector field, by d tangents.

    .. math:: \nabla \cdot f(x) = \sum_i \partial f_i / \partial x_i

    Args:
      f: one example x (d,) to a vector (d,).

    Returns:
      A function of x (d,) that returns the divergence ().

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not (d,).
      TypeError: when called, if x or f(x) is not one real floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon import derivatives
      >>> float(derivatives.divergence(lambda x: x**2)(jnp.array([2.0, 3.0])))
      10.0
    """
    whole = _field_jacobian(f, "divergence")
    return lambda x: jnp.trace(whole(x))


def curl(f: Function) -> Function:
    r"""Returns the curl of a vector field in three or two dimensions, by d tangents.

    .. math:: (\partial_1 f_2 - \partial_2 f_1, \;
               \partial_2 f_0 - \partial_0 f_2, \;
               \partial_0 f_1 - \partial_1 f_0)

    In two dimensions it is the last of these, a scalar.

    Args:
      f: one example x (d,) to a vector (d,), with d = 2 or 3.

    Returns:
      A function of x (d,) that returns the curl, (3,) or ().

    Raises:
      ValueError: when called, if x is not (2,) or (3,), or f(x) has another shape.
      TypeError: when called, if x or f(x) is not one real floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon import derivatives
      >>> rotation = lambda x: jnp.array([-x[1], x[0]])
      >>> float(derivatives.curl(rotation)(jnp.array([2.0, 3.0])))
      2.0
    """
    whole = _field_jacobian(f, "curl")

    def at(x: ArrayLike) -> jax.Array:
        x = _checks.vector(x, "curl")
        if x.size not in (2, 3):
            raise ValueError(
                f"curl got x of shape {x.shape}; it is defined for shapes (2,) and (3,)"
            )
        j = whole(x)
        last = j[1, 0] - j[0, 1]
        if x.size == 2:
            return last
        return jnp.stack([j[2, 1] - j[1, 2], j[0, 2] - j[2, 0], last])

    return at


def _field_jacobian(f: Function, name: str) -> Function:
    f = _checks.real_valued(f, name)

    def field(x: jax.Array) -> jax.Array:
        y = f(x)
        _checks.require_field(y.shape, x.size, name)
        return y

    def at(x: ArrayLike) -> jax.Array:
        x = _checks.vector(x, name)
        return _passes.jacobian(field, x, x.size)[1]

    return at


def jacobian_norm_squared(f: Function) -> Function:
    r"""Returns the squared Frobenius norm of the Jacobian, by the cheaper mode.

    .. math:: \lVert J(x) \rVert_F^2 = \sum_{ij} (\partial f_i / \partial x_j)^2

    Args:
      f: one example x (d,) to a vector (m,).

    Returns:
      A function of x (d,) that returns the squared norm ().

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not (m,).
      TypeError: when called, if x or f(x) is not one real floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon import derivatives
      >>> float(derivatives.jacobian_norm_squared(lambda x: 2 * x)(jnp.ones(3)))
      12.0
    """
    both = _value_and_jacobian(f, "jacobian_norm_squared")
    return lambda x: jnp.sum(both(x)[1] ** 2)
