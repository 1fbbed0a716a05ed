"""Ranges of elementary functions and of their derivatives, in closed form.

The range of a continuous function on an interval is spanned by its values at the two
ends and at the turning points between them. A `Curve` lists the turning points of a
function and of each of its derivatives.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

ULPS = 8.0  # error of an elementary function, in machine epsilons of its largest term

Array = Any
Order = Callable[[Array], Array]


class Derivative(NamedTuple):
    """Derivative of one order of an elementary function.

    Attributes:
        at: evaluates it.
        size: x -> size of the largest term of that evaluation. The result is within
            `ULPS` machine epsilons of it.
        turning: points between which it is monotone.
    """

    at: Order
    size: Order
    turning: tuple[float, ...] = ()


class Curve:
    """Elementary function with its derivatives.

    Attributes:
        name: as in jax.
        orders: derivatives of order 0, 1, ...
        domain: open interval on which all derivatives are defined; their range over an
            interval that leaves it is unbounded.
        closed: the function itself is defined at the ends of the domain too.
        image: smallest and largest value of the function.
    """

    def __init__(
        self,
        name: str,
        orders: Sequence[Derivative],
        domain: tuple[float, float] = (-math.inf, math.inf),
        closed: bool = False,
        image: tuple[float, float] = (-math.inf, math.inf),
    ):
        self.name, self.orders, self.domain = name, tuple(orders), domain
        self.closed, self.image = closed, image

    def range(self, order: int, lower: Array, upper: Array) -> tuple[Array, Array]:
        """Encloses the derivative of one order on intervals.

        Args:
            order: k.
            lower: left ends, of any shape.
            upper: right ends.

        Returns:
            The smallest and the largest value of f^(k), outwards by its rounding.
        """
        return self.sampled(order, lower, lower, upper)[:2]

    def sampled(
        self, order: int, lower: Array, middle: Array, upper: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Encloses the derivative of one order on intervals, and evaluates it inside.

        Args:
            order: k.
            lower: left ends, of any shape.
            middle: points between.
            upper: right ends.

        Returns:
            The smallest and the largest value of f^(k), outwards by its rounding, its
            value at the points, and the size of its terms there.
        """
        if order >= len(self.orders):
            far = jnp.full_like(lower, jnp.inf)
            return -far, far, jnp.full_like(lower, jnp.nan), far
        one = self.orders[order]
        places = jnp.stack([lower, middle, upper])
        values, sizes = one.at(places), one.size(places)
        least, most, size = values[0], values[0], jnp.max(sizes, axis=0)
        least, most = jnp.minimum(least, values[2]), jnp.maximum(most, values[2])
        if one.turning:
            turning = self._turned(one, lower, upper)
            least, most = jnp.minimum(least, turning[0]), jnp.maximum(most, turning[1])
            size = jnp.maximum(size, turning[2])
        bounds = self._outwards(order, least, most, size, lower, upper)
        return *bounds, values[1], sizes[1]

    def _turned(self, one: Derivative, lower: Array, upper: Array) -> tuple[Array, ...]:
        """Returns the extreme values at turning points inside, and their sizes."""
        with jax.ensure_compile_time_eval():
            points = jnp.asarray(one.turning, lower.dtype)
            values, sizes = one.at(points), one.size(points)
            # A turning point that lies an ulp outside is no loss to count.
            slack = 4 * jnp.finfo(lower.dtype).eps * jnp.abs(points)
        axes = (slice(None), *(None,) * lower.ndim)
        points, values, sizes, slack = (
            part[axes] for part in (points, values, sizes, slack)
        )
        inside = (lower[None] <= points + slack) & (points - slack <= upper[None])
        return (
            jnp.min(jnp.where(inside, values, jnp.inf), axis=0),
            jnp.max(jnp.where(inside, values, -jnp.inf), axis=0),
            jnp.max(jnp.where(inside, sizes, 0.0), axis=0),
        )

    def _outwards(
        self,
        order: int,
        least: Array,
        most: Array,
        sizes: Array,
        lower: Array,
        upper: Array,
    ) -> tuple[Array, Array]:
        info = jnp.finfo(least.dtype)
        slack = ULPS * info.eps * sizes + info.tiny
        defined = self._defined(order, lower, upper)
        least, most = least - slack, most + slack
        if order == 0:
            least = jnp.maximum(least, self.image[0])
            most = jnp.minimum(most, self.image[1])
        return jnp.where(defined, least, -jnp.inf), jnp.where(defined, most, jnp.inf)

    def _defined(self, order: int, lower: Array, upper: Array) -> Array:
        low, high = self.domain
        if order == 0 and self.closed:
            return (lower >= low) & (upper <= high)
        return (lower > low) & (upper < high)


class Pole(Curve):
    """Negative whole power, which is monotone on either side of zero."""

    def _defined(self, order: int, lower: Array, upper: Array) -> Array:
        del order
        return (lower > 0) | (upper < 0)


class Wave(Curve):
    """Sine or cosine, whose turning points repeat."""

    def sampled(
        self, order: int, lower: Array, middle: Array, upper: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Encloses the derivative of one order, as `Curve.sampled` does."""
        one = self.orders[order % 4]
        ends = one.at(lower), one.at(upper)
        least, most = jnp.minimum(*ends), jnp.maximum(*ends)
        phase = (order + (1 if self.name == "cos" else 0)) * math.pi / 2
        # The phase of the next multiple of pi is rounded: near it counts as inside.
        near = ULPS * jnp.finfo(lower.dtype).eps
        for value, top in ((1.0, math.pi / 2), (-1.0, -math.pi / 2)):
            turns = (lower + (phase - top)) / (2 * math.pi)
            reach = (upper + (phase - top)) / (2 * math.pi)
            wide = near * (1 + jnp.abs(turns) + jnp.abs(reach))
            inside = jnp.ceil(turns - wide) <= jnp.floor(reach + wide)
            least = jnp.where(inside & (value < 0), -1.0, least)
            most = jnp.where(inside & (value > 0), 1.0, most)
        sizes = 1 + jnp.abs(lower) + jnp.abs(upper)
        low, high = self._outwards(order, least, most, sizes, lower, upper)
        low = jnp.where(jnp.isfinite(low), jnp.maximum(low, -1.0), low)
        high = jnp.where(jnp.isfinite(high), jnp.minimum(high, 1.0), high)
        return low, high, one.at(middle), one.size(middle)


class Kinked(Curve):
    """Function of two smooth pieces that meet at zero.

    Its derivative may jump there. The derivative of the next order is no function, and
    its range is unbounded on an interval around zero.

    Attributes:
        smooth: order of the last derivative that is continuous at zero.
    """

    def __init__(self, name: str, left: Curve, right: Curve, smooth: int = 0):
        self.name, self.left, self.right = name, left, right
        self.smooth = smooth
        self.domain, self.closed = (-math.inf, math.inf), False
        self.orders = left.orders

    def sampled(
        self, order: int, lower: Array, middle: Array, upper: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Encloses the derivative of one order, as `Curve.sampled` does."""
        places = lower, middle, upper
        below = self.left.sampled(order, *(jnp.minimum(x, 0.0) for x in places))
        above = self.right.sampled(order, *(jnp.maximum(x, 0.0) for x in places))
        least = jnp.where(upper < 0, below[0], jnp.minimum(below[0], above[0]))
        most = jnp.where(upper < 0, below[1], jnp.maximum(below[1], above[1]))
        least = jnp.where(lower > 0, above[0], least)
        most = jnp.where(lower > 0, above[1], most)
        if order > self.smooth + 1:
            across = (lower <= 0) & (upper >= 0)
            least = jnp.where(across, -jnp.inf, least)
            most = jnp.where(across, jnp.inf, most)
        value = jnp.where(middle < 0, below[2], above[2])
        return least, most, value, jnp.maximum(below[3], above[3])
