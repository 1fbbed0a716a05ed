"""The worst point of a box, by search."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_function, check_number, check_real, inside
from jaxcon.points._box import (
    Corner,
    check_box,
    check_count,
    check_seed,
    sobol_points,
)

_MAX_CORNERS = 256  # 8 inputs; beyond, the corners would outnumber the other starts
_MAX_STEPS = 1_000_000


class WorstCase(NamedTuple):
    """Point (d,) where a residual is largest, as far as found, and its value ()."""

    point: jax.Array
    value: jax.Array


def worst_case(
    residual: Callable[[jax.Array], jax.Array],
    lower: Corner,
    upper: Corner,
    *,
    num: int = 1024,
    steps: int = 50,
    ascents: int = 64,
    seed: int = 0,
) -> WorstCase:
    r"""Searches a box for the point where a residual is largest.

    .. math:: \max_{l \le x \le u} r(x)

    Projected gradient ascents start from the worst points of a Sobol sequence and from
    the box's corners (up to 8 inputs); the worst point evaluated is kept. Each ascent
    moves a distance measured in the box's widths, longer after a success and half after
    a failure, so it never descends.

    It is a search, not a proof: the value is a lower bound of the maximum, reached at
    the point returned, and a peak much narrower than the gaps between ``num`` points
    can be missed. A NaN residual at any point evaluated makes the value NaN, at the
    point where it occurred.

    The search may be jitted and differentiated: the point is a constant, so the value's
    gradient with respect to the arrays that the residual closes over is the residual's
    gradient at that point, which is the maximum's gradient where the maximum is unique.

    Args:
      residual: maps points (n, d) to residuals (n,), each from its own point alone,
        e.g. ``lambda x: constraint(params, {"points": x})``; an equality's in absolute
        value.
      lower: l (d,), the box's lower corner.
      upper: u (d,), its upper corner.
      num: the number of Sobol points, 1 or more.
      steps: the number of steps of each ascent, 0 or more.
      ascents: the number of Sobol points to start from, 1 or more.
      seed: of the Sobol sequence.

    Returns:
      The worst point (d,) and the residual there ().

    Raises:
      ValueError: if not lower < upper, a count is too small or too large, or the
        residual does not return shape (n,).
      TypeError: if the residual is no function to real floating-point numbers, or
        another argument is of another type.

    References:
      Danskin, "The theory of max-min, with applications", SIAM Journal on Applied
      Mathematics 14, 1966 (the gradient).

    Example:
      >>> import jaxcon as jc
      >>> worst = jc.points.worst_case(lambda x: -((x[:, 0] - 0.5) ** 2), [0.0], [2.0])
      >>> round(float(worst.point[0]), 3)
      0.5
    """
    low, high = check_box("worst_case", lower, upper)
    check_count("worst_case", "num", num, 1, low.size)
    name = "worst_case: steps"
    check_number(name, steps, least=0, most=_MAX_STEPS, whole=True)
    check_count("worst_case", "ascents", ascents, 1, low.size)
    check_seed("worst_case", seed)
    residual = _checked(residual)

    scattered = jnp.asarray(sobol_points(low, high, num, np.random.default_rng(seed)))
    values = residual(scattered)
    best = jax.lax.top_k(values, min(ascents, num))[1]
    starts = jnp.concatenate([scattered[best], _corners(low, high)])
    # About the gap between the Sobol points: longer leaves the peak a start lies on.
    radius = num ** (-1 / low.size)
    climbed, heights = ascend(residual, starts, low, high, steps, radius)

    evaluated = jnp.concatenate([scattered, climbed])
    heights = jnp.concatenate([values, heights])
    worst = jnp.argmax(heights)  # which takes NaN for the largest
    point = jax.lax.stop_gradient(evaluated[worst])
    value = residual(point[None])[0]
    # A NaN that rounding moved away when evaluated in another batch is still a NaN.
    return WorstCase(point, jnp.where(jnp.isnan(heights[worst]), jnp.nan, value))


class _Climb(NamedTuple):
    """State of n ascents: their points, and the length of each one's next step."""

    points: jax.Array  # (n, d)
    values: jax.Array  # (n,)
    gradients: jax.Array  # (n, d)
    radius: jax.Array  # (n,), as a fraction of the box's widths


def ascend(
    residual: Callable[[jax.Array], jax.Array],
    starts: jax.Array,
    low: np.ndarray,
    high: np.ndarray,
    steps: int,
    radius: float,
) -> tuple[jax.Array, jax.Array]:
    """Returns the points (n, d) that the ascents reach and the values (n,) there."""
    lower, upper = jnp.asarray(low)[None], jnp.asarray(high)[None]
    width = upper - lower

    def evaluate(points: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, pull = jax.vjp(residual, points)
        # Each residual depends on its own point alone, so one pull gives all rows.
        (gradients,) = pull(jnp.ones_like(values))
        # A kink's NaN gradient must not send the point, and so the value, to NaN.
        return values, jnp.where(jnp.isfinite(gradients), gradients, 0)

    def step(climb: _Climb, number: jax.Array) -> tuple[_Climb, None]:
        slope = climb.gradients * width
        outward = ((climb.points >= upper) & (slope > 0)) | (
            (climb.points <= lower) & (slope < 0)
        )
        slope = _normalised(jnp.where(outward, 0, slope))
        moved = climb.points + climb.radius[:, None] * width * slope
        moved = jnp.clip(moved, lower, upper)
        values, gradients = evaluate(moved)
        accept = (values > climb.values) | jnp.isnan(values)
        accept = accept & ~jnp.isnan(climb.values)  # a NaN, once found, is kept
        start = number == 0
        accept |= start  # for any residual there
        chosen = accept[:, None]
        return _Climb(
            jnp.where(chosen, moved, climb.points),
            jnp.where(accept, values, climb.values),
            jnp.where(chosen, gradients, climb.gradients),
            climb.radius * jnp.where(start, 1.0, jnp.where(accept, 1.5, 0.5)),
        ), None

    # The starts are evaluated by a step of length zero: the residual and its gradient
    # take long to compile, and so they are compiled once.
    # That step is accepted whatever the value before it.
    unknown = jnp.zeros(len(starts), starts.dtype)
    radii = jnp.full(len(starts), radius, starts.dtype)
    first = _Climb(starts, unknown, jnp.zeros_like(starts), radii)
    last, _ = jax.lax.scan(step, first, jnp.arange(steps + 1))
    return last.points, last.values


def _normalised(slope: jax.Array) -> jax.Array:
    """Returns the rows with length 1, and a zero row as it is."""
    # Scaled by the largest entry first: the squares of a steep slope would overflow.
    largest = jnp.max(jnp.abs(slope), axis=1, keepdims=True)
    slope = slope / jnp.where(largest > 0, largest, 1)
    length = jnp.sqrt(jnp.sum(slope**2, axis=1, keepdims=True))
    return slope / jnp.where(length > 0, length, 1)


def _checked(
    residual: Callable[[jax.Array], jax.Array],
) -> Callable[[jax.Array], jax.Array]:
    form = "points (n, d) -> residuals (n,)"
    check_function("worst_case: residual", residual, form)

    def checked(points: jax.Array) -> jax.Array:
        with inside("worst_case: residual"):
            values = residual(points)
        values = check_real("worst_case: residual", values, "floats (n,)")
        if values.shape != points.shape[:1]:
            raise ValueError(
                f"worst_case: residual returned shape {values.shape} for points of "
                f"shape {points.shape}; return shape {points.shape[:1]}"
            )
        return values

    return checked


def _corners(low: np.ndarray, high: np.ndarray) -> jax.Array:
    if 2**low.size > _MAX_CORNERS:
        return jnp.zeros((0, low.size), low.dtype)
    return jnp.asarray(np.array(list(itertools.product(*zip(low, high)))))
