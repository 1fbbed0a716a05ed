"""Projection onto a box's section by a weighted sum."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcon._checks import check_array


def box_section(y: Any, lower: Any, upper: Any, weights: Any, total: Any) -> jax.Array:
    r"""Returns the nearest point of a box at which a weighted sum has its value.

    .. math::
        P(y) = \arg\min_z \tfrac12 \|z - y\|^2
        \quad \text{subject to} \quad l \le z \le u, \; w \cdot z = s

    It is :math:`z_i = \min(\max(y_i - \mu w_i, l_i), u_i)` with the one multiplier
    :math:`\mu` at which the sum is right. The sum falls as the multiplier grows, along
    straight pieces that end where an entry meets or leaves a bound: the piece is found by
    bisection over these 2 m ends, the place on it by division. The derivative is that of
    the solution itself, in all five arguments: entries on a bound move with the bound,
    the others share the rest of the sum. If every entry is on a bound, the derivative in
    s is zero.

    The bounds hold exactly, the sum to rounding. With simplex bounds 0 and 1, weights 1
    and total 1 it is `optax.projections.projection_simplex`.

    Args:
        y: the point to project, (m,).
        lower: l, () or (m,), in units of y; may be -inf.
        upper: u, () or (m,); may be inf.
        weights: w, () or (m,), of any sign; an entry of weight 0 is only clipped.
        total: s, (), in the units of w y.

    Returns:
        Shape (m,), in float32 or wider.

    Raises:
        TypeError: an argument is no array of numbers.
        ValueError: the shapes do not fit, y is empty, or no point of the box has that
            sum. If bounds, weights or total are traced and their values are not known,
            the result is NaN instead.

    References:
        Brucker, An O(n) algorithm for quadratic knapsack problems (1984).

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> y = jnp.array([3.0, 1.0, 0.0])
        >>> print(jc.projections.box_section(y, 0.0, 1.0, 1.0, 1.5))
        [1.  0.5 0. ]
    """
    y = check_array("box_section: y", y, "of any shape", finite=None)
    lower, upper, weights, total = (
        check_array(f"box_section: {name}", given, "of any shape", finite=finite)
        for name, given, finite in (
            ("lower", lower, False),
            ("upper", upper, False),
            ("weights", weights, True),
            ("total", total, True),
        )
    )
    m = y.size
    if m == 0:
        raise ValueError(
            "box_section: y, lower and upper need at least one entry, got none"
        )
    sides = {"lower": lower, "upper": upper, "weights": weights}
    fits = all(side.shape in ((), (m,)) for side in sides.values())
    if y.shape != (m,) or not fits or total.shape != ():
        given = ", ".join(f"{name} {side.shape}" for name, side in sides.items())
        raise ValueError(
            "box_section needs y (m,), lower, upper and weights () or (m,) and total (), "
            f"got y {y.shape}, {given} and total {total.shape}; use jax.vmap for many y"
        )
    dtype = jnp.result_type(y, lower, upper, weights, total, jnp.float32)
    terms = (lower, upper, weights, total)
    if not any(isinstance(term, Tracer) for term in terms):
        low, high, w, s = (np.asarray(term, dtype) for term in terms)
        low, high, w = (np.broadcast_to(side, (m,)) for side in (low, high, w))
        least, most = reach(np, low, high, w)
        check_bounds("box_section", low, high)
        if not _reached(np, low, high, w, s):
            raise ValueError(
                f"box_section: the set is empty, between lower and upper the sum with "
                f"these weights runs from {least} to {most}, and total is {s}"
            )
    low, high, w = (
        jnp.broadcast_to(jnp.asarray(side, dtype), (m,)) for side in terms[:3]
    )
    # Squares of tiny or huge weights would leave the dtype's range.
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(w)))
    scale = jnp.where(scale > 0, scale, 1.0)
    return _nearest(jnp.asarray(y, dtype), low, high, w / scale, total / scale)


def check_bounds(name: str, lower: np.ndarray, upper: np.ndarray) -> None:
    """Refuses bounds between which there is no number.

    Args:
        name: of the caller.
        lower: (m,).
        upper: (m,).

    Raises:
        ValueError: a lower bound exceeds its upper, or is infinite on the wrong side.
    """
    wrong = np.flatnonzero(~((lower <= upper) & (lower < np.inf) & (upper > -np.inf)))
    if wrong.size:
        entry = wrong[0]
        raise ValueError(
            f"{name}: no number lies between lower {lower[entry]:g} and upper "
            f"{upper[entry]:g}, of entry {entry}: the set is empty"
        )


def reach(xp: Any, lower: Any, upper: Any, weights: Any) -> Any:
    """Returns the least and the greatest sum in a box.

    Args:
        xp: numpy or jax.numpy.
        lower: (m,).
        upper: (m,).
        weights: (m,).

    Returns:
        Both, ().
    """
    still = weights == 0  # zero times an infinite bound is zero here
    ends = [
        xp.where(still, 0.0, xp.where(still, 1.0, weights) * bound)
        for bound in (xp.where(still, 0.0, lower), xp.where(still, 0.0, upper))
    ]
    return xp.sum(xp.minimum(*ends)), xp.sum(xp.maximum(*ends))


def _reached(xp: Any, lower: Any, upper: Any, weights: Any, total: Any) -> Any:
    """Returns whether the box has a point of that sum, to rounding."""
    least, most = reach(xp, lower, upper, weights)
    # A sum on the very edge, as all zeros with total zero, may be rounded past it.
    finite = xp.where(xp.isfinite(lower), abs(lower), 0.0)
    finite = xp.maximum(finite, xp.where(xp.isfinite(upper), abs(upper), 0.0))
    slack = xp.sum(abs(weights) * finite) + abs(total)
    slack = slack * len(weights) * jnp.finfo(slack.dtype).eps
    inside = (least - slack <= total) & (total <= most + slack)
    return inside & xp.all(lower <= upper)


@jax.custom_jvp
def _nearest(
    y: jax.Array, lower: jax.Array, upper: jax.Array, weights: jax.Array, total: Any
) -> jax.Array:
    def shifted(_: int, z: jax.Array) -> jax.Array:
        return _shifted(z, lower, upper, weights, total)

    # Adding a multiple of the weights to y changes no nearest point, so each pass starts
    # where the last one's multiplier led: its rounding is that of the rest of the move.
    z = jax.lax.fori_loop(0, 3, shifted, y)
    feasible = _reached(jnp, lower, upper, weights, total)
    feasible &= jnp.all(jnp.isfinite(y))  # no point is nearest to an infinite one
    return jnp.where(feasible, jnp.clip(z, lower, upper), jnp.nan)


def _shifted(
    y: jax.Array, lower: jax.Array, upper: jax.Array, weights: jax.Array, total: Any
) -> jax.Array:
    """Returns a point y - mu w whose clipping is the nearest point, to y's rounding."""
    moves = weights != 0
    slopes = jnp.where(moves, weights, 1.0)
    ends = jnp.sort(jnp.stack([(y - lower) / slopes, (y - upper) / slopes]), axis=0)
    places = jnp.sort(jnp.where(moves[None], ends, 0.0).ravel())

    def at(mu: jax.Array) -> jax.Array:
        return jnp.where(moves, y - mu * weights, y)

    def excess(mu: jax.Array) -> jax.Array:
        z = jnp.clip(at(mu), lower, upper)
        return jnp.sum(jnp.where(moves, weights * z, 0.0)) - total

    def halved(_: int, span: tuple[jax.Array, jax.Array]) -> Any:
        first, last = span
        middle = (first + last) // 2
        beyond = (excess(places[middle]) >= 0) & (first < last)
        return jnp.where(beyond, middle + 1, first), jnp.where(beyond, last, middle)

    count = len(places)
    span = jnp.asarray(0), jnp.asarray(count)
    first, _ = jax.lax.fori_loop(0, count.bit_length(), halved, span)
    left = jnp.where(first > 0, places[first - 1], -jnp.inf)
    right = jnp.where(first < count, places[first], jnp.inf)
    free = moves & (ends[0] <= left) & (ends[1] >= right)
    # It starts at the place of the piece nearest to y: its sum has the smallest terms.
    start = jnp.clip(0.0, left, right)
    rate = jnp.sum(jnp.where(free, weights**2, 0.0))
    step = jnp.where(rate > 0, excess(start) / jnp.where(rate > 0, rate, 1.0), 0.0)
    return at(jnp.clip(start + step, left, right))


@_nearest.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    y, lower, upper, weights, total = primals
    dy, dlower, dupper, dweights, dtotal = tangents
    z = _nearest(y, lower, upper, weights, total)
    free = ~((z <= lower) | (z >= upper))
    pull = jnp.where(free, weights, 0.0)
    rate = jnp.sum(pull**2)
    rate = jnp.where(rate > 0, rate, 1.0)  # nothing is free: nothing is pulled
    mu = jnp.sum(pull * (y - z)) / rate
    dz = jnp.where(z <= lower, dlower, jnp.where(free, dy - mu * dweights, dupper))
    dmu = (jnp.sum(weights * dz + z * dweights) - dtotal) / rate
    return z, dz - pull * dmu
