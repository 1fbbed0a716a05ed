r"""Penalty functions: elementwise, residual -> penalty, without memory.

The quadratic penalty method is ``loss + weight * mean(quadratic(h))``. The exact (L1)
penalty uses `absolute` for equalities and `hinge` for inequalities; it reaches the
constraint at a finite weight, but it has a kink. A term that *changes* during training
is a multiplier (`jaxcon.dual_ascent`) or an augmented Lagrangian, not a penalty.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxcon._checks import check_array, check_number, described

__all__ = [
    "absolute",
    "exponential_quadratic",
    "hinge",
    "huber",
    "log_barrier",
    "log_quadratic",
    "quadratic",
    "squared_hinge",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


def absolute(h: jax.Array) -> jax.Array:
    r"""Returns the exact penalty of an equality, :math:`|h|`.

    Args:
        h: equality residual, any shape.

    Returns:
        Penalty of the same shape.

    Raises:
        TypeError: h is no array of floating-point numbers.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.22.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.penalties.absolute(jnp.array([-2.0, 1.0])))
        [2. 1.]
    """
    h = _residual("absolute: h", h)
    return jnp.abs(h)


def quadratic(h: jax.Array) -> jax.Array:
    r"""Returns the quadratic penalty of an equality, :math:`\tfrac12 h^2`.

    Args:
        h: equality residual, any shape.

    Returns:
        Penalty of the same shape.

    Raises:
        TypeError: h is no array of floating-point numbers.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.2.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.penalties.quadratic(jnp.array([-2.0, 1.0])))
        [2.  0.5]
    """
    h = _residual("quadratic: h", h)
    return 0.5 * jnp.square(h)


def hinge(g: jax.Array) -> jax.Array:
    r"""Returns the exact penalty of an inequality, :math:`\max(g, 0)`.

    Args:
        g: inequality residual (g <= 0 is allowed), any shape.

    Returns:
        Penalty of the same shape.

    Raises:
        TypeError: g is no array of floating-point numbers.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.22, written there for
        constraints >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.penalties.hinge(jnp.array([-2.0, 1.0])))
        [0. 1.]
    """
    g = _residual("hinge: g", g)
    return jnp.maximum(g, 0)


def squared_hinge(g: jax.Array) -> jax.Array:
    r"""Returns the quadratic penalty of an inequality, :math:`\tfrac12 \max(g, 0)^2`.

    Args:
        g: inequality residual (g <= 0 is allowed), any shape.

    Returns:
        Penalty of the same shape.

    Raises:
        TypeError: g is no array of floating-point numbers.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.5, written there for
        constraints >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.penalties.squared_hinge(jnp.array([-2.0, 1.0])))
        [0.  0.5]
    """
    g = _residual("squared_hinge: g", g)
    return 0.5 * jnp.square(jnp.maximum(g, 0))


def huber(h: jax.Array, delta: float = 1.0) -> jax.Array:
    r"""Returns the Huber penalty: quadratic near zero, linear beyond `delta`.

    Its slope is at most `delta`, which bounds the pull of one bad point.

    .. math::
        \tfrac12 m^2 + \delta (|h| - m), \qquad m = \min(|h|, \delta)

    Args:
        h: equality residual, any shape; for an inequality pass `hinge(g)`.
        delta: where it turns linear, in the residual's units; > 0.

    Returns:
        Penalty of the same shape.

    Raises:
        TypeError: h is no array of floating-point numbers, or delta no number.
        ValueError: delta is not positive and finite.

    References:
        Huber, Robust Estimation of a Location Parameter (1964).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.penalties.huber(jnp.array([-2.0, 0.5])))
        [1.5   0.125]
    """
    h = _residual("huber: h", h)
    check_number("huber: delta", delta, above=0)
    # A delta beyond the dtype's range is no turn at all.
    turn = jnp.minimum(jnp.asarray(delta, float), jnp.finfo(h.dtype).max)
    turn = turn.astype(h.dtype)
    size = jnp.abs(h)
    inner = jnp.minimum(size, turn)
    return 0.5 * jnp.square(inner) + turn * (size - inner)


def log_barrier(g: jax.Array) -> jax.Array:
    r"""Returns the log barrier of an inequality, :math:`-\log(-g)`, infinite at g >= 0.

    Args:
        g: inequality residual, strictly negative where the barrier is to be finite.

    Returns:
        Barrier of the same shape; +inf (with a zero gradient) where g >= 0, so that a
        step outside can be detected and skipped before it turns into NaN.

    Raises:
        TypeError: g is no array of floating-point numbers.

    References:
        Nocedal and Wright, Numerical Optimization (2006), section 19.6, written
        there for constraints >= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.penalties.log_barrier(jnp.array([-1.0, 0.0])))
        [-0. inf]
    """
    g = _residual("log_barrier: g", g)
    inside = g < 0
    outside = jnp.where(g >= 0, jnp.inf, g)  # NaN stays
    return jnp.where(inside, -jnp.log(jnp.where(inside, -g, 1.0)), outside)


def log_quadratic(t: jax.Array) -> jax.Array:
    r"""Returns a penalty-barrier: logarithmic inside, quadratic near and beyond zero.

    .. math::
        \varphi(t) = t + \tfrac12 t^2 \quad (t \ge -\tfrac12), \qquad
        \varphi(t) = -\tfrac14 \log(-2t) - \tfrac38 \quad (t < -\tfrac12)

    It is twice continuously differentiable and finite everywhere, with phi(0) = 0 and
    phi'(0) = 1: a `barrier` of `jaxcon.lagrangians.penalty_barrier_lagrangian`.

    Args:
        t: rho times an inequality residual, any shape.

    Returns:
        Penalty of the same shape, negative where t < 0.

    Raises:
        TypeError: t is no array of floating-point numbers.

    References:
        Ben-Tal and Zibulevsky, Penalty/Barrier Multiplier Methods for Convex Programming
        Problems (1997).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.penalties.log_quadratic(jnp.array([-0.5, 0.0, 2.0])))
        [-0.375  0.     4.   ]
    """
    t = _residual("log_quadratic: t", t)
    # Each branch gets an argument of its own range: else the other's slope would be NaN.
    far = t < -0.5
    near = jnp.where(far, 0.0, t)
    return jnp.where(
        far,
        -0.25 * jnp.log(-2 * jnp.where(far, t, -1.0)) - 0.375,
        near + 0.5 * jnp.square(near),
    )


def exponential_quadratic(t: jax.Array) -> jax.Array:
    r"""Returns a penalty-barrier: exponential inside, quadratic beyond zero.

    .. math::
        \varphi(t) = e^t - 1 \quad (t \le 0), \qquad
        \varphi(t) = t + \tfrac12 t^2 \quad (t > 0)

    It is the barrier of the exponential method of multipliers, with a parabola in the
    place of e^t for violations: after one step too long e^t would overflow.

    Args:
        t: rho times an inequality residual, any shape.

    Returns:
        Penalty of the same shape, negative where t < 0.

    Raises:
        TypeError: t is no array of floating-point numbers.

    References:
        Kort and Bertsekas, A New Penalty Function Method for Constrained Minimization
        (1972); Ben-Tal and Zibulevsky, Penalty/Barrier Multiplier Methods for Convex
        Programming Problems (1997).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.penalties.exponential_quadratic(jnp.array([0.0, 2.0])))
        [0. 4.]
    """
    t = _residual("exponential_quadratic: t", t)
    # With max and min each would have half a slope at 0, a quarter of a curvature.
    outside = t > 0
    beyond = jnp.where(outside, t, 0.0)
    return jnp.where(
        outside,
        beyond + 0.5 * jnp.square(beyond),
        jnp.expm1(jnp.where(outside, 0.0, t)),
    )


def _residual(name: str, value: Any) -> jax.Array:
    """Returns a residual as an array, and refuses those that have no derivative."""
    array = check_array(name, value, "of any shape", finite=None)
    number = isinstance(value, (int, float))
    if not (number or jnp.issubdtype(array.dtype, jnp.floating)):
        raise TypeError(
            f"{name} must be floating-point, for its derivative, got {described(value)}"
        )
    return jnp.asarray(value, float) if isinstance(value, int) else jnp.asarray(array)
