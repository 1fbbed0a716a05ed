"""Operators of first order: function f -> function that returns its derivative.

Every operator takes a pure function of ONE example and returns a pure function of one
example, x of shape (d,); nothing is evaluated before that function is called. Batch
with ``jax.vmap``, compile with ``jax.jit``, differentiate with ``jax.grad``.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcon.derivatives import _checks, _passes, _shared
from jaxcon.derivatives._equations import NoReverseMode
from jaxcon.derivatives._quantities import Directional, Divergence, Gradient, Jacobian
from jaxcon.derivatives._shared import Function, ValueAnd
from jaxcon.derivatives._zeros import varying


def gradient(f: Function) -> Function:
    r"""Returns the gradient of a scalar function, by one reverse pass.

    .. math:: (\nabla f(x))_i = \partial f / \partial x_i

    Args:
      f: one example x (d,) to a scalar ().

    Returns:
      A function of x (d,) that returns the gradient (d,), in units of f per unit of x.

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not ().
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxcon as jc
      >>> points = jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> jax.vmap(jc.derivatives.gradient(lambda x: x[0] * x[1]))(points).tolist()
      [[2.0, 1.0], [4.0, 3.0]]
    """
    return _shared.derivative_only(_gradient(f, "gradient"))


def value_and_gradient(f: Function) -> ValueAnd:
    r"""Returns f(x) and its gradient, from one reverse pass.

    .. math:: x \mapsto (f(x), \nabla f(x))

    Written separately, the two would cost a third more: XLA does not merge them. The
    derivative is with respect to x; for the gradient of a loss with respect to its
    parameters see `value_and_grad`.

    Args:
      f: one example x (d,) to a scalar ().

    Returns:
      A function of x (d,) that returns the value () and the gradient (d,).

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not ().
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.
    """
    return _gradient(f, "value_and_gradient")


def _gradient(f: Function, name: str) -> ValueAnd:
    return _shared.value_and(f, name, Gradient(), _shared.scalar(name))


def jacobian(
    f: Function, *, mode: str | None = None, unroll: bool | None = None
) -> Function:
    r"""Returns the Jacobian of a vector function, by the mode with fewer directions.

    .. math:: J_{ij}(x) = \partial f_i / \partial x_j

    The mode is reverse if m < d, forward otherwise.

    Args:
      f: one example x (d,) to a vector (m,).
      mode: "forward" or "reverse"; None for the cheaper one.
      unroll: whether each tangent and cotangent is a program of its own, or all are
        one array; None for the faster one.

    Returns:
      A function of x (d,) that returns the Jacobian (m, d).

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not (m,); if the mode is unknown.
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxcon as jc
      >>> f = lambda x: jnp.array([x[0] * x[1], x[1] ** 2])
      >>> jc.derivatives.jacobian(f)(jnp.array([2.0, 3.0])).tolist()
      [[3.0, 2.0], [0.0, 6.0]]
    """
    return _shared.derivative_only(_jacobian(f, "jacobian", mode, unroll))


def value_and_jacobian(
    f: Function, *, mode: str | None = None, unroll: bool | None = None
) -> ValueAnd:
    r"""Returns f(x) and its Jacobian, from one pass of the cheaper mode.

    .. math:: x \mapsto (f(x), J(x))

    Args:
      f: one example x (d,) to a vector (m,).
      mode: as for `jacobian`.
      unroll: as for `jacobian`.

    Returns:
      A function of x (d,) that returns the value (m,) and the Jacobian (m, d).

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not (m,); if the mode is unknown.
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.
    """
    return _jacobian(f, "value_and_jacobian", mode, unroll)


def _jacobian(
    f: Function, name: str, mode: str | None = None, unroll: bool | None = None
) -> ValueAnd:
    require = _shared.vector(name)
    return _shared.value_and(f, name, Jacobian(), require, mode=mode, unroll=unroll)


def directional_derivative(f: Function, direction: ArrayLike) -> Function:
    r"""Returns the derivative of f along one direction, by one tangent.

    .. math:: D_v f(x) = J(x)\, v = \lim_{t \to 0} (f(x + t v) - f(x)) / t

    Args:
      f: one example x (d,) to an array of any shape.
      direction: v (d,), in units of x; its length counts, it is not normalised.

    Returns:
      A function of x (d,) that returns the derivative, of f's shape.

    Raises:
      ValueError: when called, if x is not (d,) or the direction has another shape.
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxcon as jc
      >>> along = jc.derivatives.directional_derivative(jnp.prod, jnp.array([1.0, -1.0]))
      >>> float(along(jnp.array([2.0, 3.0])))
      1.0
    """
    return _shared.derivative_only(_directional(f, direction, "directional_derivative"))


def value_and_directional_derivative(f: Function, direction: ArrayLike) -> ValueAnd:
    r"""Returns f(x) and its derivative along one direction, from one pass.

    .. math:: x \mapsto (f(x), J(x)\, v)

    Args:
      f: one example x (d,) to an array of any shape.
      direction: v (d,), in units of x; its length counts, it is not normalised.

    Returns:
      A function of x (d,) that returns the value and the derivative, both of f's shape.

    Raises:
      ValueError: when called, if x is not (d,) or the direction has another shape.
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.
    """
    return _directional(f, direction, "value_and_directional_derivative")


def _directional(f: Function, direction: ArrayLike, name: str) -> ValueAnd:
    def quantity(x: jax.Array) -> Directional:
        return Directional(_checks.like(direction, x, name, "direction"))

    return _shared.value_and(f, name, quantity)


def divergence(f: Function) -> Function:
    r"""Returns the divergence of a vector field, by d tangents.

    .. math:: \nabla \cdot f(x) = \sum_i \partial f_i / \partial x_i

    Args:
      f: one example x (d,) to a vector (d,).

    Returns:
      A function of x (d,) that returns the divergence ().

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not (d,).
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxcon as jc
      >>> float(jc.derivatives.divergence(lambda x: x**2)(jnp.array([2.0, 3.0])))
      10.0
    """
    return _shared.derivative_only(_divergence(f, "divergence"))


def value_and_divergence(f: Function) -> ValueAnd:
    r"""Returns f(x) and its divergence, from one pass.

    .. math:: x \mapsto (f(x), \nabla \cdot f(x))

    Args:
      f: one example x (d,) to a vector (d,).

    Returns:
      A function of x (d,) that returns the value (d,) and the divergence ().

    Raises:
      ValueError: when called, if x is not (d,) or f(x) not (d,).
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.
    """
    return _divergence(f, "value_and_divergence")


def _divergence(f: Function, name: str) -> ValueAnd:
    return _shared.value_and(f, name, Divergence(), _shared.field(name))


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
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxcon as jc
      >>> rotation = lambda x: jnp.array([-x[1], x[0]])
      >>> float(jc.derivatives.curl(rotation)(jnp.array([2.0, 3.0])))
      2.0
    """
    return _shared.derivative_only(_curl(f, "curl"))


def value_and_curl(f: Function) -> ValueAnd:
    r"""Returns f(x) and its curl, from one pass.

    .. math:: x \mapsto (f(x), \nabla \times f(x))

    Args:
      f: one example x (d,) to a vector (d,), with d = 2 or 3.

    Returns:
      A function of x (d,) that returns the value (d,) and the curl, (3,) or ().

    Raises:
      ValueError: when called, if x is not (2,) or (3,), or f(x) has another shape.
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.
    """
    return _curl(f, "value_and_curl")


def _curl(f: Function, name: str) -> ValueAnd:
    both = _shared.value_and(f, name, Jacobian(), _shared.field(name))

    def at(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
        x = _checks.vector(x, name)
        if x.size not in (2, 3):
            raise ValueError(
                f"{name} got x of shape {x.shape}; it is defined for shapes (2,) and "
                "(3,)"
            )
        value, j = both(x)
        last = j[1, 0] - j[0, 1]
        if x.size == 2:
            return value, last
        return value, jnp.stack([j[2, 1] - j[1, 2], j[0, 2] - j[2, 0], last])

    return at


def jacobian_norm_squared(
    f: Function, *, projections: int | None = None, key: jax.Array | None = None
) -> Function:
    r"""Returns the squared Frobenius norm of the Jacobian, exactly or estimated.

    .. math:: \lVert J(x) \rVert_F^2 = \sum_{ij} (\partial f_i / \partial x_j)^2
              = m \, \mathbb{E}_v \lVert v^\top J(x) \rVert^2

    The exact norm uses the cheaper mode. With ``projections`` the result is the mean over
    that many random unit vectors v (m,): it is unbiased and costs one backward pass for
    each. One key gives the same projections at every x; ``jax.vmap`` over keys gives each
    its own.

    Args:
      f: one example x (d,) to a vector (m,).
      projections: how many random projections; None for the exact norm.
      key: a `jax.random.key`, needed with projections.

    Returns:
      A function of x (d,) that returns the squared norm ().

    Raises:
      ValueError: if only one of projections and key is given, or projections < 1; when
        called, if x is not (d,) or f(x) not (m,).
      TypeError: when called, if x is no array of real, or f(x) of real or complex floats.

    References:
      Hoffman, Roberts and Yaida, "Robust learning with Jacobian regularization" (2019),
      eq. 5.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxcon as jc
      >>> float(jc.derivatives.jacobian_norm_squared(lambda x: 2 * x)(jnp.ones(3)))
      12.0
      >>> estimate = jc.derivatives.jacobian_norm_squared(
      ...     lambda x: 2 * x, projections=1, key=jax.random.key(0)
      ... )
      >>> print(f"{estimate(jnp.ones(3)):.4f}")
      12.0000
    """
    return _shared.derivative_only(
        _jacobian_norm_squared(f, projections, key, "jacobian_norm_squared")
    )


def value_and_jacobian_norm_squared(
    f: Function, *, projections: int | None = None, key: jax.Array | None = None
) -> ValueAnd:
    r"""Returns f(x) and the squared Frobenius norm of its Jacobian, from one pass.

    .. math:: x \mapsto (f(x), \lVert J(x) \rVert_F^2)

    Args:
      f: one example x (d,) to a vector (m,).
      projections: as for `jacobian_norm_squared`.
      key: as for `jacobian_norm_squared`.

    Returns:
      A function of x (d,) that returns the value (m,) and the squared norm ().

    Raises:
      ValueError: as `jacobian_norm_squared` does.
      TypeError: as `jacobian_norm_squared` does.
    """
    name = "value_and_jacobian_norm_squared"
    return _jacobian_norm_squared(f, projections, key, name)


def _jacobian_norm_squared(
    f: Function, projections: int | None, key: jax.Array | None, name: str
) -> ValueAnd:
    _checks.require_samples(projections, key, name, "projections")
    both = _jacobian(f, name)
    if projections is None or key is None:

        def at(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
            value, j = both(x)
            return value, jnp.sum(jnp.real(j * jnp.conj(j)))

        return at
    checked = _checks.array_valued(f, name)

    def estimated(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
        x = _checks.vector(x, name)
        y = jax.eval_shape(checked, x)
        _checks.require_vector(y.shape, name)
        parts = _passes.in_parts(checked, x)  # their Jacobian has the same norm
        v = jax.random.normal(
            key, (projections, *jax.eval_shape(parts, x).shape), x.dtype
        )
        v = v / jnp.sqrt(jnp.sum(v * v, axis=tuple(range(1, v.ndim)), keepdims=True))
        try:
            value, pull = _passes.pulled(parts, x)
            rows = jax.vmap(pull)(varying(v, value).astype(value.dtype))
        except NoReverseMode:
            value, j = _jacobian(parts, name, "forward")(x)
            rows = jnp.tensordot(v, j, v.ndim - 1, precision=jax.lax.Precision.HIGHEST)
        norm = value.size * jnp.sum(rows * rows) / projections
        return value if parts is checked else jax.lax.complex(*value), norm

    return estimated
