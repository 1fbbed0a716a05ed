"""Points of a box where constraints are checked, and the worst point of one.

A constraint on every input is enforced at finitely many, the rows of an array (n, d).
``grid``, ``uniform`` and ``sobol`` fill a box, ``boundary`` covers its faces and returns
their outward normals, and ``worst_case`` searches it for the point where a residual is
largest. The box's corners ``lower`` and ``upper`` are arrays (d,) in the inputs' units,
known when the program is traced; the points are of the default float dtype.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxcon._checks import (
    check_array,
    check_function,
    check_key,
    check_number,
    check_real,
    inside,
)

__all__ = [
    "Boundary",
    "WorstCase",
    "boundary",
    "grid",
    "sobol",
    "uniform",
    "worst_case",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


Corner = ArrayLike | Sequence[float]
_MAX_CORNERS = 256  # 8 inputs; beyond, the corners would outnumber the other starts
_MAX_NUMBERS = 250_000_000  # 1 GB of float32: a larger count is taken for a slip
_MAX_STEPS = 1_000_000
_MAX_SEED = 2**63 - 1


class Boundary(NamedTuple):
    """Points on a boundary (n, d) and the outward unit normals there (n, d)."""

    points: jax.Array
    normals: jax.Array


class WorstCase(NamedTuple):
    """Point (d,) where a residual is largest, as far as found, and its value ()."""

    point: jax.Array
    value: jax.Array


def grid(lower: Corner, upper: Corner, num: int) -> jax.Array:
    r"""Returns a regular grid over a box, its faces included.

    .. math:: x_j = l + (u - l) j / (n - 1), \quad j = 0, \dots, n - 1

    This holds for each input; the last input varies fastest.

    Args:
      lower: l (d,), the box's lower corner.
      upper: u (d,), its upper corner.
      num: n, the number of points along each input, 2 or more.

    Returns:
      The points (num**d, d).

    Raises:
      ValueError: if num < 2, if there are too many points for memory, or not lower < upper.
      TypeError: an argument is of another type.

    Example:
      >>> import jaxcon as jc
      >>> jc.points.grid([0.0, 0.0], [1.0, 2.0], 2).tolist()
      [[0.0, 0.0], [0.0, 2.0], [1.0, 0.0], [1.0, 2.0]]
    """
    low, high = _box("grid", lower, upper)
    _check_count("grid", "num", num, 2)
    if low.size * int(num) ** low.size > _MAX_NUMBERS:
        raise ValueError(
            f"grid: num {num} along each of {low.size} inputs makes {num}**{low.size} "
            "points, more than fit; take fewer, or sobol"
        )
    axes = [np.linspace(a, b, num) for a, b in zip(low, high)]
    return jnp.asarray(
        np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, low.size)
    )


def uniform(key: jax.Array, lower: Corner, upper: Corner, num: int) -> jax.Array:
    r"""Returns points drawn independently and uniformly from a box.

    .. math:: x = l + (u - l) w, \quad w \sim U[0, 1)^d

    Args:
      key: a key of ``jax.random.key``.
      lower: l (d,), the box's lower corner.
      upper: u (d,), its upper corner.
      num: the number of points, 1 or more.

    Returns:
      The points (num, d).

    Raises:
      ValueError: if num < 1 or beyond memory, or not lower < upper.
      TypeError: an argument is of another type.

    Example:
      >>> import jax
      >>> import jaxcon as jc
      >>> jc.points.uniform(jax.random.key(0), [0.0, 0.0], [1.0, 2.0], 5).shape
      (5, 2)
    """
    check_key("uniform: key", key)
    low, high = map(jnp.asarray, _box("uniform", lower, upper))
    _check_count("uniform", "num", num, 1, low.size)
    unit = jax.random.uniform(key, (num, low.size), low.dtype)
    # Rounding may carry l + (u - l) w past u.
    return jnp.minimum(low[None] + (high - low)[None] * unit, high[None])


def sobol(lower: Corner, upper: Corner, num: int, *, seed: int = 0) -> jax.Array:
    r"""Returns a scrambled Sobol sequence in a box: even, but not aligned as a grid is.

    .. math:: x_j = l + (u - l) s_j, \quad s_j \in [0, 1)^d

    A power of two is best: each half, quarter, … of the box then holds its share.

    Args:
      lower: l (d,), the box's lower corner.
      upper: u (d,), its upper corner.
      num: the number of points, 1 or more.
      seed: of the scrambling; the same seed gives the same points.

    Returns:
      The points (num, d).

    Raises:
      ValueError: if num < 1 or beyond memory, or not lower < upper.
      TypeError: an argument is of another type.

    References:
      Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity
      14, 1998.

    Example:
      >>> import jaxcon as jc
      >>> jc.points.sobol([0.0, 0.0], [1.0, 2.0], 100).shape
      (100, 2)
    """
    low, high = _box("sobol", lower, upper)
    _check_count("sobol", "num", num, 1, low.size)
    _check_seed("sobol", seed)
    return jnp.asarray(_sobol(low, high, num, np.random.default_rng(seed)))


def boundary(lower: Corner, upper: Corner, num: int, *, seed: int = 0) -> Boundary:
    """Returns Sobol points on every face of a box, with the outward normals.

    The faces come in the order: lower face of input 0, its upper face, lower face of
    input 1, …; row ``k * num`` starts face k, and the normal of face k is ∓ the unit
    vector of input k // 2. With d = 1 the faces are the two end points, one row each.

    Args:
      lower: l (d,), the box's lower corner.
      upper: u (d,), its upper corner.
      num: the number of points on each of the 2d faces, 1 or more.
      seed: of the scrambling; every face has its own sequence.

    Returns:
      The points and the normals, (2 d num, d) each, or (2, 1) with d = 1.

    Raises:
      ValueError: if num < 1 or beyond memory, or not lower < upper.
      TypeError: an argument is of another type.

    Example:
      >>> import jaxcon as jc
      >>> ends = jc.points.boundary([0.0], [2.0], 1)
      >>> ends.points.tolist(), ends.normals.tolist()
      ([[0.0], [2.0]], [[-1.0], [1.0]])
    """
    low, high = _box("boundary", lower, upper)
    _check_count("boundary", "num", num, 1, 2 * low.size**2)
    _check_seed("boundary", seed)
    faces, normals = [], []
    for face in range(2 * low.size):
        i, is_upper = divmod(face, 2)
        others = np.arange(low.size) != i
        points = np.empty((num if low.size > 1 else 1, low.size), low.dtype)
        points[:, i] = high[i] if is_upper else low[i]
        if low.size > 1:
            generator = np.random.default_rng([seed, face])
            points[:, others] = _sobol(low[others], high[others], num, generator)
        normal = np.zeros_like(points)
        normal[:, i] = 1 if is_upper else -1
        faces.append(points)
        normals.append(normal)
    return Boundary(
        jnp.asarray(np.concatenate(faces)), jnp.asarray(np.concatenate(normals))
    )


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
    low, high = _box("worst_case", lower, upper)
    _check_count("worst_case", "num", num, 1, low.size)
    name = "worst_case: steps"
    check_number(name, steps, least=0, most=_MAX_STEPS, whole=True)
    _check_count("worst_case", "ascents", ascents, 1, low.size)
    _check_seed("worst_case", seed)
    residual = _checked(residual)

    scattered = jnp.asarray(_sobol(low, high, num, np.random.default_rng(seed)))
    values = residual(scattered)
    best = jax.lax.top_k(values, min(ascents, num))[1]
    starts = jnp.concatenate([scattered[best], _corners(low, high)])
    # About the gap between the Sobol points: longer leaves the peak a start lies on.
    radius = num ** (-1 / low.size)
    climbed, heights = _ascend(residual, starts, low, high, steps, radius)

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


def _ascend(
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


def _sobol(
    low: np.ndarray, high: np.ndarray, num: int, generator: np.random.Generator
) -> np.ndarray:
    from scipy.stats import qmc

    try:
        engine = qmc.Sobol(low.size, rng=generator)
    except TypeError:  # scipy before 1.15 has the older name only
        # pyright reads the newest scipy, which hides it.
        engine = qmc.Sobol(low.size, seed=generator)  # pyright: ignore[reportCallIssue]
    # Drawn by a power of two, because the engine warns of any other number.
    unit = engine.random_base2((num - 1).bit_length())[:num]
    points = (low + (high - low) * unit).astype(low.dtype)
    return np.clip(points, low, high)  # rounding may carry a point past a face


def _box(name: str, lower: Corner, upper: Corner) -> tuple[np.ndarray, np.ndarray]:
    """Returns the corners (d,) in the default float dtype, or says what is wrong."""
    dtype = jnp.result_type(float)
    corners = [
        check_array(f"{name}: {word}", corner, "(d,)")
        for word, corner in (("lower", lower), ("upper", upper))
    ]
    if any(isinstance(corner, Tracer) for corner in corners):
        raise TypeError(
            f"{name} got a traced lower or upper; pass numpy arrays or lists, not "
            "arrays made under jax.jit"
        )
    low, high = (np.asarray(corner, dtype) for corner in corners)
    if low.shape != high.shape or low.size == 0:
        raise ValueError(
            f"{name} got lower of shape {low.shape} and upper of shape {high.shape}; "
            "pass two of shape (d,), d >= 1"
        )
    # In the points' own dtype, in which their width must be finite as well.
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
    if not (np.isfinite(width) & (low < high)).all():
        raise ValueError(
            f"{name} got lower {low.tolist()} and upper {high.tolist()}; every lower "
            f"must be less than its upper, by a finite number of {dtype}"
        )
    return low, high


def _check_count(name: str, what: str, value: int, least: int, each: int = 1) -> None:
    """Refuses a count of points, of so many numbers each, that no memory holds."""
    most = _MAX_NUMBERS // each
    check_number(f"{name}: {what}", value, least=least, most=most, whole=True)


def _check_seed(name: str, seed: int) -> None:
    check_number(f"{name}: seed", seed, least=0, most=_MAX_SEED, whole=True)
