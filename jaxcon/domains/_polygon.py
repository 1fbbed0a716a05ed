"""Domains bounded by straight edges."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_array
from jaxcon.domains._domain import Domain, Surface
from jaxcon.domains._smooth import least, length

# Points so many roundings away from an edge are taken for points of it.
ROUNDED = 8.0


def polygon(vertices: Any) -> Domain:
    r"""Returns a polygon, convex or not.

    .. math::
        |w| = \Bigl( \sum_k \frac{1}{\varphi_k} \Bigr)^{-1}, \qquad
        \varphi_k = \sqrt{f^2 + \tfrac14 \bigl( \sqrt{t^2 + f^4} - t \bigr)^2}

    where f is the distance of x from the line of edge k, of length L and midpoint m, and
    :math:`t = (L^2 / 4 - \|x - m\|^2) / L` is positive in the disc around the edge. w is
    normalised to first order on the edges, smooth but at the vertices, and positive inside.

    Args:
        vertices: (n, 2), n >= 3, one after the other around it, in either direction.

    Returns:
        The domain.

    Raises:
        TypeError: vertices are no array of numbers.
        ValueError: there are fewer than three, an edge has no length, or two edges cross.

    References:
        Sukumar and Srivastava, Exact Imposition of Boundary Conditions with Distance
        Functions in Physics-Informed Deep Neural Networks (2022).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> triangle = jc.domains.polygon([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> triangle.contains(jnp.array([[0.25, 0.25], [0.75, 0.75]])).tolist()
        [True, False]
    """
    corners = np.asarray(check_array("polygon: vertices", vertices, "(n, 2)"), float)
    if corners.shape[1] != 2 or len(corners) < 3:
        raise ValueError(
            f"polygon: vertices must have shape (n, 2), n >= 3, got {corners.shape}"
        )
    if _area(corners) < 0:
        corners = corners[::-1]
    ends = np.roll(corners, -1, axis=0)
    edges = ends - corners
    lengths = np.linalg.norm(edges, axis=1)
    if not np.all(lengths > 0):
        raise ValueError(
            "polygon: vertices repeat one another, so that an edge has none"
        )
    if _cross_somewhere(corners, ends):
        raise ValueError("polygon: vertices make edges that cross or touch")
    along = edges / lengths[:, None]
    inward = np.stack([-along[:, 1], along[:, 0]], axis=1)
    middles = (corners + ends) / 2
    extent = float(np.max(np.abs(corners)) + np.max(lengths))

    def distance(x: jax.Array) -> jax.Array:
        first, normal, size = (
            jnp.asarray(part, x.dtype) for part in (corners, inward, lengths)
        )
        f = jnp.sum((x[None] - first) * normal, axis=1)
        away = jnp.sum((x[None] - jnp.asarray(middles, x.dtype)) ** 2, axis=1)
        t = (size**2 / 4 - away) / size
        mean = length(t, f**2)
        beside = t > least(x.dtype)
        # Beside the edge the second term is of order f^4, and f times a smooth factor has
        # the sign that the square root has not.
        safe = jnp.where(beside, mean + t, 1.0)
        signed = f * jnp.sqrt(1 + (f**3 / safe / 2) ** 2)
        beyond = length(f, jnp.where(beside, 0.0, (mean - t) / 2))
        phi = jnp.where(beside, signed, beyond)
        nearest = jnp.argmin(jnp.abs(phi))
        w = phi[nearest]
        # The nearest edge has the weight one, so that nothing is divided by zero.
        others = jnp.arange(len(lengths)) != nearest
        apart = others & (jnp.abs(phi) > 0)
        weights = jnp.where(
            apart, jnp.abs(w) / jnp.where(apart, jnp.abs(phi), 1.0), 1.0
        )
        inside = jnp.where(_inside(x, corners, ends), 1.0, -1.0).astype(x.dtype)
        # On an edge, to rounding, the sign is that of f, for the slope across it.
        rounded = jnp.abs(w) <= ROUNDED * jnp.finfo(x.dtype).eps * extent
        own = beside[nearest] & rounded
        sign = jnp.where(own, 1.0, inside * jnp.where(w < 0, -1.0, 1.0))
        return sign * w / jnp.sum(weights)

    def draw(
        unit: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        del low, high
        starts = np.concatenate([[0.0], np.cumsum(lengths)])
        place = unit[:, 0] * starts[-1]
        edge = np.clip(
            np.searchsorted(starts, place, side="right") - 1, 0, len(lengths) - 1
        )
        where = corners[edge] + (place - starts[edge])[:, None] * along[edge]
        return where, -inward[edge]

    def measure(low: np.ndarray, high: np.ndarray) -> float:
        del low, high
        return float(lengths.sum())

    return Domain(
        2,
        corners.min(axis=0),
        corners.max(axis=0),
        distance,
        (Surface(distance, measure, draw),),
    )


def _inside(x: jax.Array, corners: np.ndarray, ends: np.ndarray) -> jax.Array:
    """Tells whether a ray from x meets the edges an odd number of times."""
    first, last = jnp.asarray(corners, x.dtype), jnp.asarray(ends, x.dtype)
    above_first, above_last = first[:, 1] > x[1], last[:, 1] > x[1]
    crosses = above_first != above_last
    rise = jnp.where(crosses, last[:, 1] - first[:, 1], 1.0)
    # Without the quotient, so that rounding does not differ from that of f.
    side = (last[:, 0] - first[:, 0]) * (x[1] - first[:, 1]) - rise * (
        x[0] - first[:, 0]
    )
    met = crosses & (jnp.where(rise > 0, side, -side) > 0)
    return jnp.sum(met) % 2 == 1


def _area(corners: np.ndarray) -> float:
    x, y = corners.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def _cross_somewhere(corners: np.ndarray, ends: np.ndarray) -> bool:
    """Tells whether two edges that are no neighbours meet, or neighbours fold back."""

    def turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
        return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    def on(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
        within = np.all(np.minimum(a, b) <= c) and np.all(c <= np.maximum(a, b))
        return bool(turn(a, b, c) == 0 and within)

    count = len(corners)
    for i in range(count):
        a, b = corners[i], ends[i]
        following = ends[(i + 1) % count]
        if turn(a, b, following) == 0 and np.dot(b - a, following - b) < 0:
            return True
        for j in range(i + 2, count - (i == 0)):
            c, d = corners[j], ends[j]
            crossing = (
                turn(a, b, c) * turn(a, b, d) < 0 and turn(c, d, a) * turn(c, d, b) < 0
            )
            if crossing or on(a, b, c) or on(a, b, d) or on(c, d, a) or on(c, d, b):
                return True
    return False
