r"""Prices a residual, without memory: elementwise functions residual -> cost.

The quadratic penalty method is ``loss + weight * mean(quadratic(h))``; the exact (L1)
penalty uses `absolute` for equalities and `hinge` for inequalities, and reaches the
constraint at a finite weight at the price of a kink. A price that *moves* is a
multiplier (`jaxcon.dual_ascent`) or an augmented Lagrangian, not a penalty.
"""

import jax
import jax.numpy as jnp


def absolute(h: jax.Array) -> jax.Array:
    r"""Exact penalty of an equality, :math:`|h|`.

    Args:
        h: equality residual, any shape.

    Returns:
        Cost of the same shape.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.22.

    Example:
        >>> print(absolute(jnp.array([-2.0, 1.0])))
        [2. 1.]
    """
    return jnp.abs(h)


def quadratic(h: jax.Array) -> jax.Array:
    r"""Quadratic penalty of an equality, :math:`\tfrac12 h^2`.

    Args:
        h: equality residual, any shape.

    Returns:
        Cost of the same shape.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.2.

    Example:
        >>> print(quadratic(jnp.array([-2.0, 1.0])))
        [2.  0.5]
    """
    return 0.5 * jnp.square(h)


def hinge(g: jax.Array) -> jax.Array:
    r"""Exact penalty of an inequality, :math:`\max(g, 0)`.

    Args:
        g: inequality residual (g <= 0 is allowed), any shape.

    Returns:
        Cost of the same shape.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.22, written there for
        constraints >= 0.

    Example:
        >>> print(hinge(jnp.array([-2.0, 1.0])))
        [0. 1.]
    """
    return jnp.maximum(g, 0)


def squared_hinge(g: jax.Array) -> jax.Array:
    r"""Quadratic penalty of an inequality, :math:`\tfrac12 \max(g, 0)^2`.

    Args:
        g: inequality residual (g <= 0 is allowed), any shape.

    Returns:
        Cost of the same shape.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.5, written there for
        constraints >= 0.

    Example:
        >>> print(squared_hinge(jnp.array([-2.0, 1.0])))
        [0.  0.5]
    """
    return 0.5 * jnp.square(jnp.maximum(g, 0))


def huber(h: jax.Array, delta: float = 1.0) -> jax.Array:
    r"""Quadratic near zero, linear beyond `delta`: bounded pull of one bad point.

    .. math::
        \tfrac12 m^2 + \delta (|h| - m), \qquad m = \min(|h|, \delta)

    Args:
        h: equality residual, any shape; for an inequality pass `hinge(g)`.
        delta: where it turns linear, in the residual's units; > 0.

    Returns:
        Cost of the same shape.

    References:
        Huber, Robust Estimation of a Location Parameter (1964).

    Example:
        >>> print(huber(jnp.array([-2.0, 0.5])))
        [1.5   0.125]
    """
    size = jnp.abs(h)
    inner = jnp.minimum(size, delta)
    return 0.5 * jnp.square(inner) + delta * (size - inner)


def log_barrier(g: jax.Array) -> jax.Array:
    r"""Interior barrier of an inequality, :math:`-\log(-g)`, infinite at g >= 0.

    Args:
        g: inequality residual, strictly negative where the cost is to be finite.

    Returns:
        Cost of the same shape; +inf (with a zero gradient) where g >= 0, so that a step
        outside is seen and skipped rather than turned into NaN.

    References:
        Nocedal and Wright, Numerical Optimization (2006), section 19.6, written
        there for constraints >= 0.

    Example:
        >>> print(log_barrier(jnp.array([-1.0, 0.0])))
        [-0. inf]
    """
    inside = g < 0
    return jnp.where(inside, -jnp.log(jnp.where(inside, -g, 1.0)), jnp.inf)


def log_quadratic(t: jax.Array) -> jax.Array:
    r"""Penalty-barrier function: logarithmic inside, quadratic near and beyond zero.

    .. math::
        \varphi(t) = t + \tfrac12 t^2 \quad (t \ge -\tfrac12), \qquad
        \varphi(t) = -\tfrac14 \log(-2t) - \tfrac38 \quad (t < -\tfrac12)

    Twice continuously differentiable, finite everywhere, with phi(0) = 0 and
    phi'(0) = 1: a `barrier` of `jaxcon.lagrangians.penalty_barrier_lagrangian`.

    Args:
        t: rho times an inequality residual, any shape.

    Returns:
        Cost of the same shape, negative where t < 0.

    References:
        Ben-Tal and Zibulevsky, Penalty/Barrier Multiplier Methods for Convex Programming
        Problems (1997).

    Example:
        >>> print(log_quadratic(jnp.array([-0.5, 0.0, 2.0])))
        [-0.375  0.     4.   ]
    """
    # Each branch gets an argument of its own range, or the other's slope would be NaN.
    far = t < -0.5
    near = jnp.where(far, 0.0, t)
    return jnp.where(
        far,
        -0.25 * jnp.log(-2 * jnp.where(far, t, -1.0)) - 0.375,
        near + 0.5 * jnp.square(near),
    )


def exponential_quadratic(t: jax.Array) -> jax.Array:
    r"""Penalty-barrier function: exponential inside, quadratic beyond zero.

    .. math::
        \varphi(t) = e^t - 1 \quad (t \le 0), \qquad
        \varphi(t) = t + \tfrac12 t^2 \quad (t > 0)

    The exponential method of multipliers with its price of a large violation bounded by
    a parabola: e to the power of one step too long would overflow.

    Args:
        t: rho times an inequality residual, any shape.

    Returns:
        Cost of the same shape, negative where t < 0.

    References:
        Kort and Bertsekas, A New Penalty Function Method for Constrained Minimization
        (1972); Ben-Tal and Zibulevsky, Penalty/Barrier Multiplier Methods for Convex
        Programming Problems (1997).

    Example:
        >>> print(exponential_quadratic(jnp.array([0.0, 2.0])))
        [0. 4.]
    """
    # Not max and min: at 0 each would have half a slope, and so a quarter of a curvature.
    outside = t > 0
    beyond = jnp.where(outside, t, 0.0)
    return jnp.where(
        outside,
        beyond + 0.5 * jnp.square(beyond),
        jnp.expm1(jnp.where(outside, 0.0, t)),
    )
