"""Primitive domains: balls, half-spaces, boxes and those of a function of one's own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_array, check_function, check_number, inside
from jaxcon.domains._domain import Domain, Surface
from jaxcon.domains._smooth import conjunction

Pair = tuple[np.ndarray, np.ndarray]


def ball(center: Any, radius: float) -> Domain:
    r"""Returns a ball, or a disc in two dimensions.

    .. math::
        w(x) = \frac{r^2 - \|x - c\|^2}{2 r}

    Args:
        center: c (d,).
        radius: r > 0.

    Returns:
        The domain.

    Raises:
        TypeError: an argument is of another type.
        ValueError: c is not (d,), or the radius not positive.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.domains.ball([1.0, 0.0], 2.0).distance(jnp.array([1.0, 0.0])))
        1.0
    """
    middle = _vector("ball: center", center)
    check_number("ball: radius", radius, above=0)
    r, d = float(radius), middle.size

    def distance(x: jax.Array) -> jax.Array:
        away = x - jnp.asarray(middle, x.dtype)
        return (r * r - jnp.sum(away**2)) / (2 * r)

    def draw(unit: np.ndarray, low: np.ndarray, high: np.ndarray) -> Pair:
        del low, high
        if d == 2:
            angle = 2 * np.pi * unit[:, 0]
            normals = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        else:
            from scipy.special import ndtri

            normals = ndtri(np.clip(unit, 1e-9, 1 - 1e-9))
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return middle + r * normals, normals

    # That of the unit sphere by the gamma function, times r to the power d - 1.
    def measure(low: np.ndarray, high: np.ndarray) -> float:
        from scipy.special import gamma

        del low, high
        return float(2 * np.pi ** (d / 2) / gamma(d / 2) * r ** (d - 1))

    return Domain(
        d, middle - r, middle + r, distance, (Surface(distance, measure, draw),)
    )


def half_space(normal: Any, offset: float) -> Domain:
    r"""Returns the points on one side of a line, a plane or a hyperplane.

    .. math::
        a^T x \le b, \qquad w(x) = \frac{b - a^T x}{\|a\|}

    Args:
        normal: a (d,), the direction that leads out, of any length.
        offset: b.

    Returns:
        The domain, unbounded: intersect it with others to draw points.

    Raises:
        TypeError: an argument is of another type.
        ValueError: a is not (d,) or zero.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> left = jc.domains.half_space([2.0, 0.0], 1.0)
        >>> print(left.distance(jnp.array([-1.0, 5.0])))
        1.5
    """
    direction = _vector("half_space: normal", normal)
    check_number("half_space: offset", offset)
    length = float(np.linalg.norm(direction))
    if not length > 0:
        raise ValueError("half_space: normal must not be zero")
    unit_normal, place = direction / length, float(offset) / length
    d = unit_normal.size

    def distance(x: jax.Array) -> jax.Array:
        return place - jnp.sum(jnp.asarray(unit_normal, x.dtype) * x)

    def half_size(low: np.ndarray, high: np.ndarray) -> float:
        return float(np.linalg.norm(high - low)) / 2

    def draw(unit: np.ndarray, low: np.ndarray, high: np.ndarray) -> Pair:
        # The rows of the last factor after the first span the plane.
        plane = np.linalg.svd(unit_normal[None])[2][1:]
        middle = (low + high) / 2
        middle = middle + (place - unit_normal @ middle) * unit_normal
        along = (2 * unit[:, : d - 1] - 1) * half_size(low, high)
        return middle + along @ plane, np.tile(unit_normal, (len(unit), 1))

    def measure(low: np.ndarray, high: np.ndarray) -> float:
        return (2 * half_size(low, high)) ** (d - 1)

    everywhere = np.full(d, np.inf)
    return Domain(
        d, -everywhere, everywhere, distance, (Surface(distance, measure, draw),)
    )


def box(lower: Any, upper: Any) -> Domain:
    r"""Returns a box.

    .. math::
        w = w_1 \wedge \dots \wedge w_d, \qquad
        w_i = \frac{(x_i - l_i)(u_i - x_i)}{u_i - l_i}

    with :math:`a \wedge b = a + b - \sqrt{a^2 + b^2}`.

    Args:
        lower: l (d,).
        upper: u (d,).

    Returns:
        The domain.

    Raises:
        TypeError: an argument is of another type.
        ValueError: lower < upper does not hold.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> rod = jc.domains.box([0.0], [1.0])
        >>> print(rod.distance(jnp.array([0.5])))
        0.25
    """
    low, high = _vector("box: lower", lower), _vector("box: upper", upper)
    if low.shape != high.shape or not np.all(low < high):
        raise ValueError(
            "box needs corners lower < upper of shape (d,), got lower "
            f"{low.tolist()} and upper {high.tolist()}"
        )
    d, width = low.size, high - low
    areas = np.array([np.prod(np.delete(width, i)) for i in range(d)])

    def distance(x: jax.Array) -> jax.Array:
        least, most = jnp.asarray(low, x.dtype), jnp.asarray(high, x.dtype)
        each = (x - least) * (most - x) / jnp.asarray(width, x.dtype)
        found = each[0]
        for i in range(1, d):
            found = conjunction(found, each[i])
        return found

    def draw(unit: np.ndarray, low_: np.ndarray, high_: np.ndarray) -> Pair:
        del low_, high_
        edges = np.concatenate([[0.0], np.cumsum(np.repeat(areas, 2))])
        place = unit[:, 0] * edges[-1]
        face = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, 2 * d - 1)
        share = (place - edges[face]) / (edges[face + 1] - edges[face])
        rest = np.concatenate([share[:, None], unit[:, 1:]], axis=1)
        where, normals = np.zeros_like(unit), np.zeros_like(unit)
        for number in range(2 * d):
            rows, (i, above) = face == number, divmod(number, 2)
            others = np.arange(d) != i
            part = rest[rows][:, : d - 1]
            where[np.ix_(rows, others)] = low[others] + width[others] * part
            where[rows, i] = high[i] if above else low[i]
            normals[rows, i] = 1.0 if above else -1.0
        return where, normals

    def measure(low_: np.ndarray, high_: np.ndarray) -> float:
        del low_, high_
        return float(2 * areas.sum())

    return Domain(d, low, high, distance, (Surface(distance, measure, draw),))


def implicit(function: Any, lower: Any, upper: Any) -> Domain:
    r"""Returns the points of a box where a function is positive.

    .. math::
        w = \frac{l}{\sqrt{l^2 / L^2 + \|\nabla l\|^2}}

    is normalised to first order, for L half the box's diagonal, if the slope of l is not
    zero where l is.

    Args:
        function: l, x (d,) -> (), smooth, in any units; zero on the boundary, and not
            positive on that of the box.
        lower: corner (d,) of a box around the domain.
        upper: the other corner.

    Returns:
        The domain.

    Raises:
        TypeError: an argument is of another type.
        ValueError: lower < upper does not hold; when called, l is not ().

    References:
        Rvachev and Sheiko, R-Functions in Boundary Value Problems in Mechanics (1995).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> ellipse = jc.domains.implicit(
        ...     lambda x: 1 - x[0] ** 2 - 4 * x[1] ** 2, [-1.0, -0.5], [1.0, 0.5]
        ... )
        >>> print(ellipse.contains(jnp.array([[0.0, 0.4], [0.4, 0.5]])))
        [ True False]
    """
    check_function("implicit: function", function, "x (d,) -> ()")
    low, high = (
        _vector("implicit: lower", lower),
        _vector("implicit: upper", upper),
    )
    if low.shape != high.shape or not np.all(low < high):
        raise ValueError(
            "implicit needs corners lower < upper of shape (d,), got lower "
            f"{low.tolist()} and upper {high.tolist()}"
        )
    d, size = low.size, float(np.linalg.norm(high - low)) / 2

    def given(x: jax.Array) -> jax.Array:
        with inside("implicit: function"):
            found = function(x)
        found = check_array("implicit: function of x", found, "()", finite=None)
        return jnp.asarray(found)

    def distance(x: jax.Array) -> jax.Array:
        value, gradient = jax.value_and_grad(given)(x)
        square = (value / size) ** 2 + jnp.sum(gradient**2)
        # Both are zero where the function is flat and zero, and so is the distance.
        flat = square <= jnp.sqrt(jnp.finfo(square.dtype).tiny)
        return jnp.where(flat, 0.0, value / jnp.sqrt(jnp.where(flat, 1.0, square)))

    def draw(unit: np.ndarray, low_: np.ndarray, high_: np.ndarray) -> Pair:
        del low_, high_
        with jax.ensure_compile_time_eval():
            x = jnp.asarray(low + (high - low) * unit, jnp.result_type(float))
            both = jax.vmap(jax.value_and_grad(distance))
            # Newton's steps along the gradient; what does not arrive is left out.
            for _ in range(20):
                w, slopes = both(x)
                squares = jnp.sum(slopes**2, axis=1, keepdims=True)
                step = w[:, None] * slopes / jnp.maximum(squares, 1e-3)
                x = x - jnp.clip(step, -size / 4, size / 4)
            w, slopes = map(np.asarray, both(x))
        steep = np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-12)
        where = np.where(np.abs(w[:, None]) <= 1e-5 * size, np.asarray(x), np.inf)
        return where, -slopes / steep

    def measure(low_: np.ndarray, high_: np.ndarray) -> float:
        del low_, high_
        return size ** (d - 1)

    return Domain(d, low, high, distance, (Surface(distance, measure, draw),))


def _vector(name: str, given: Any) -> np.ndarray:
    found = np.asarray(check_array(name, given, "(d,)"), np.float64)
    if not found.size:
        raise ValueError(f"{name} must be an array (d,), d >= 1, got shape (0,)")
    return found
