"""Points of a box: grids, random and Sobol points, and those of its faces."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxcon._checks import check_array, check_key, check_number

Corner = ArrayLike | Sequence[float]
_MAX_NUMBERS = 250_000_000  # 1 GB of float32: a larger count is taken for a slip
_MAX_SEED = 2**63 - 1


class Boundary(NamedTuple):
    """Points on a boundary (n, d) and the outward unit normals there (n, d)."""

    points: jax.Array
    normals: jax.Array


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
    low, high = check_box("grid", lower, upper)
    check_count("grid", "num", num, 2)
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
    low, high = map(jnp.asarray, check_box("uniform", lower, upper))
    check_count("uniform", "num", num, 1, low.size)
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
    low, high = check_box("sobol", lower, upper)
    check_count("sobol", "num", num, 1, low.size)
    check_seed("sobol", seed)
    return jnp.asarray(sobol_points(low, high, num, np.random.default_rng(seed)))


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
    low, high = check_box("boundary", lower, upper)
    check_count("boundary", "num", num, 1, 2 * low.size**2)
    check_seed("boundary", seed)
    faces, normals = [], []
    for face in range(2 * low.size):
        i, is_upper = divmod(face, 2)
        others = np.arange(low.size) != i
        points = np.empty((num if low.size > 1 else 1, low.size), low.dtype)
        points[:, i] = high[i] if is_upper else low[i]
        if low.size > 1:
            generator = np.random.default_rng([seed, face])
            points[:, others] = sobol_points(low[others], high[others], num, generator)
        normal = np.zeros_like(points)
        normal[:, i] = 1 if is_upper else -1
        faces.append(points)
        normals.append(normal)
    return Boundary(
        jnp.asarray(np.concatenate(faces)), jnp.asarray(np.concatenate(normals))
    )


def sobol_points(
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


def check_box(name: str, lower: Corner, upper: Corner) -> tuple[np.ndarray, np.ndarray]:
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


def check_count(name: str, what: str, value: int, least: int, each: int = 1) -> None:
    """Refuses a count of points, of so many numbers each, that no memory holds."""
    most = _MAX_NUMBERS // each
    check_number(f"{name}: {what}", value, least=least, most=most, whole=True)


def check_seed(name: str, seed: int) -> None:
    check_number(f"{name}: seed", seed, least=0, most=_MAX_SEED, whole=True)
