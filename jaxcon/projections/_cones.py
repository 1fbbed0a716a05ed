"""Projections onto cones."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxcon._checks import check_array


def second_order_cone(y: Any, t: Any) -> tuple[jax.Array, jax.Array]:
    r"""Returns the nearest point of the second-order cone.

    .. math::
        P(y, t) = \begin{cases}
            (y, t) & \|y\| \le t \\
            (0, 0) & \|y\| \le -t \\
            \tfrac12 (\|y\| + t) \, (y / \|y\|, 1) & \text{otherwise}
        \end{cases}

    The cone is :math:`\{(y, t) : \|y\|_2 \le t\}`. The derivative of P is finite
    everywhere; on the cone's surface it is that of its inside.

    Args:
        y: the axes, (m,).
        t: the height, (), in units of y.

    Returns:
        Both, shapes (m,) and (), in float32 or wider.

    Raises:
        TypeError: an argument is no array of numbers.
        ValueError: the shapes do not fit; use `jax.vmap` for many.

    References:
        Boyd and Parikh, Proximal Algorithms (2013), section 6.3.2.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> y, t = jc.projections.second_order_cone(jnp.array([0.0, 4.0]), 2.0)
        >>> print(y, t)
        [0. 3.] 3.0
    """
    y = check_array("second_order_cone: y", y, "of any shape", finite=None)
    t = check_array("second_order_cone: t", t, "of any shape", finite=None)
    if y.ndim != 1 or y.size < 1 or t.shape != ():
        raise ValueError(
            f"second_order_cone needs y (m,) and t (), got {y.shape} and {t.shape}; "
            "use jax.vmap for many"
        )
    dtype = jnp.result_type(y, t, jnp.float32)
    y, t = jnp.asarray(y, dtype), jnp.asarray(t, dtype)
    length = jax.lax.stop_gradient(_length(y))
    outside, below = length > jnp.abs(t), (length <= -t) & (t < 0)
    known = jnp.isfinite(length)  # no point is nearest to an infinite one
    # Elsewhere y may be zero, where its length has no derivative.
    apart = jnp.where(outside, y, 1.0)
    length = _length(apart)
    height = (length + t) / 2
    axes = height * (apart / length)
    return (
        jnp.where(outside, axes, jnp.where(below, 0.0, jnp.where(known, y, jnp.nan))),
        jnp.where(outside, height, jnp.where(below, 0.0, t)),
    )


def _length(y: jax.Array) -> jax.Array:
    """Returns the Euclidean norm, without overflow or underflow of the squares."""
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(y)))
    scale = jnp.where(scale > 0, scale, 1.0)
    return scale * jnp.sqrt(jnp.sum((y / scale) ** 2))
