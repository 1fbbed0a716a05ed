r"""Arithmetic with linear enclosures.

A `Form` encloses an array v that depends on x in a box, x_j = m_j + r_j e_j with
:math:`|e_j| \le 1`, in two ways at once:

.. math::
    |v - c - \textstyle\sum_j s_j e_j| \le \rho, \qquad l \le v \le u

A linear operation acts on c and the slopes s; the remainders :math:`\rho` of its operands
are added up with absolute coefficients. A product and an elementary function are
replaced by a linear function and a remainder of second order in the size of the box.

Rounding. A sum of n products of floating-point numbers, evaluated in any order, differs
from the exact sum by at most :math:`n u / (1 - n u)` times the sum of the absolute values
of its terms, u = eps / 2 [1, (3.5)]. Here n eps is counted for it, which is more for every
n < 1 / (2 u), and `tiny` for each underflow. The same bound serves the adjoints: they are
sums of as many terms as an entry has readers, and their rounding errors act on the
magnitudes of the entries (see `jaxcon.certify._adjoint`). Elementary functions are taken
to be exact to `_curves.ULPS` machine epsilons of their largest term.

References:
    [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1.
    [2] L. H. de Figueiredo and J. Stolfi, "Affine arithmetic: concepts and applications",
        Numerical Algorithms 37, 2004.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon.certify._curves import ULPS, Curve

MOST_PAIRED = 8  # inputs up to which the terms of a product are paired

Array = Any
Bind = Callable[..., Array]


class Form(NamedTuple):
    """Enclosure of an array that depends on x.

    Attributes:
        centre: c, (...).
        slopes: s, (d, ...); None for zeros.
        radius: rho, (...).
        lower: l, (...).
        upper: u, (...).
    """

    centre: Array
    slopes: Array | None
    radius: Array
    lower: Array
    upper: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the enclosed array."""
        return jnp.shape(self.centre)

    @property
    def spread(self) -> Array:
        """Sum of the absolute slopes, (...)."""
        if self.slopes is None:
            return jnp.zeros_like(self.centre)
        return jnp.sum(jnp.abs(self.slopes), axis=0)

    @property
    def magnitude(self) -> Array:
        """Largest absolute value of any part, (...)."""
        largest = jnp.maximum(jnp.abs(self.lower), jnp.abs(self.upper))
        return largest + 2 * jnp.abs(self.centre) + self.spread + self.radius


class Linear(NamedTuple):
    """Linear replacement of an operation, with its remainder.

    Attributes:
        parts: what `Forward` found and the adjoint pass needs again, by operation.
        remainder: bound on the difference, (...), with all roundings.
        slopes: of the operands, whose shares in them are those of the inputs in the
            remainder, each (d, ...).
    """

    parts: tuple[Array, ...]
    remainder: Array
    slopes: tuple[Array, ...] = ()


def box(lower: Array, upper: Array) -> Form:
    """Encloses the points of a box.

    Args:
        lower: its lower corner, (d,).
        upper: its upper corner, (d,).

    Returns:
        The form of x, exact in each e_j.
    """
    centre = lower + (upper - lower) / 2
    reach = outwards(jnp.maximum(upper - centre, centre - lower), 2)
    return Form(centre, jnp.diag(reach), jnp.zeros_like(centre), lower, upper)


def interval_box(lower: Array, upper: Array) -> Form:
    """Encloses the points of a box by intervals alone, without slopes.

    Args:
        lower: its lower corner, (d,).
        upper: its upper corner, (d,).

    Returns:
        The form of x.
    """
    x = box(lower, upper)
    return x._replace(slopes=None, radius=x.spread)


def exact(value: Array) -> Form:
    """Encloses an array that does not depend on x.

    Args:
        value: of any shape.

    Returns:
        The form, of radius zero.
    """
    return Form(value, None, jnp.zeros_like(value), value, value)


def outwards(x: Array, roundings: float) -> Array:
    """Returns x >= 0 enlarged by some roundings and an underflow."""
    info = jnp.finfo(x.dtype)
    return x * (1 + roundings * info.eps) + info.tiny


def tightened(form: Form, inputs: int) -> Form:
    """Returns the form with its interval cut by the range of its linear part."""
    # XLA would else compute all of this again wherever a part of it is read.
    form = jax.lax.optimization_barrier(form)
    reach = outwards(form.spread + form.radius, inputs + 4)
    slack = 4 * jnp.finfo(reach.dtype).eps * jnp.abs(form.centre)
    lower, upper = form.centre - reach - slack, form.centre + reach + slack
    # What is not known of one of them is known of the other.
    form = form._replace(
        lower=jnp.where(lower > form.lower, lower, _or(form.lower, lower)),
        upper=jnp.where(upper < form.upper, upper, _or(form.upper, upper)),
    )
    return jax.lax.optimization_barrier(form)


def _or(x: Array, other: Array) -> Array:
    return jnp.where(jnp.isnan(x), other, x)


class Forward:
    """Algebra of forms, which writes down the linear replacement of each operation.

    Attributes:
        inputs: d, the number of entries of x.
        readers: most operations that read one array.
        record: one `Linear` for each operation, in order.
        lost: bound on what underflow takes from all adjoints, ().
    """

    def __init__(self, inputs: int, readers: int):
        self.inputs, self.readers = inputs, readers
        self.record: list[Linear] = []
        self.lost: Array = 0.0
        self._samples: dict[tuple[int, int, int], Any] = {}

    def exact(self, value: Array) -> Form:
        """Returns the number of an array that does not depend on x."""
        return exact(jnp.asarray(value))

    def moved(self, bind: Bind, xs: Sequence[Form], terms: int) -> Form:
        """Applies an operation that only moves, copies and drops entries.

        Args:
            bind: the operation.
            xs: operands.
            terms: most copies of one entry.

        Returns:
            The result.
        """
        slopes = _slopes(bind, xs, self.inputs)
        fields = [
            bind(*(getattr(x, field) for x in xs))
            for field in ("centre", "radius", "lower", "upper")
        ]
        # Nothing is rounded here, but the adjoints are, where copies meet.
        size = bind(*(x.magnitude for x in xs))
        self.record.append(Linear((), self._slack(size, terms)))
        return Form(fields[0], slopes, *fields[1:])

    def linear(
        self, bind: Bind, absolute: Bind, xs: Sequence[Form], terms: int
    ) -> Form:
        """Applies an operation linear in xs together.

        Args:
            bind: the operation.
            absolute: the operation with absolute coefficients.
            xs: operands.
            terms: most terms that one entry of the result, or the adjoint of an entry
                of an operand, is a sum of.

        Returns:
            The result.
        """
        centre = bind(*(x.centre for x in xs))
        slopes = _slopes(bind, xs, self.inputs)
        # The interval is moved as middle and half-width.
        middles = [(x.lower + x.upper) / 2 for x in xs]
        halves = [
            outwards(jnp.maximum(x.upper - m, m - x.lower), 2)
            for x, m in zip(xs, middles)
        ]
        middle = bind(*middles)
        radius = absolute(*(x.radius for x in xs))
        half = absolute(*halves)
        size = absolute(*(x.magnitude for x in xs))
        slack = self._slack(size, terms)
        self.record.append(Linear((), slack))
        widened = outwards(half + slack, terms + 4)
        least = middle - widened
        if bind is absolute:
            # Sums of what is not negative are not negative, however they are rounded.
            negative = [jnp.where(x.lower >= 0, 0.0, 1.0) for x in xs]
            signs = bind(*(sign.astype(centre.dtype) for sign in negative))
            least = jnp.where(signs == 0, jnp.maximum(least, 0.0), least)
        radius = outwards(radius + slack, terms + 4)
        form = Form(centre, slopes, radius, least, middle + widened)
        return tightened(form, self.inputs)

    def product(self, bind: Bind, x: Form, y: Form, terms: int) -> Form:
        r"""Applies an operation linear in each of x and y.

        With middles p, q of their intervals,
        :math:`x y = p y + x q - p q + (x - p)(y - q)`.

        Args:
            bind: the operation, with coefficients of 0 and 1.
            x: first operand.
            y: second operand.
            terms: as for `linear`.

        Returns:
            The result.
        """
        p, q = (x.lower + x.upper) / 2, (y.lower + y.upper) / 2
        rx = outwards(jnp.maximum(x.upper - p, p - x.lower), 2)
        ry = outwards(jnp.maximum(y.upper - q, q - y.lower), 2)
        shift, error = self._second_order(bind, x, y, p, q, rx, ry)
        size = bind(x.magnitude, y.magnitude)
        slack = self._slack(4 * size, terms + self.inputs**2 + 4)
        remainder = outwards(error + slack, terms + 4)
        p, q, rx, ry, shift, remainder = jax.lax.optimization_barrier(
            (p, q, rx, ry, shift, remainder)
        )
        self.record.append(Linear((p, q, shift), remainder, _known(x, y)))
        centre = bind(p, y.centre) + bind(x.centre - p, q) + shift
        radius = bind(jnp.abs(p), y.radius) + bind(x.radius, jnp.abs(q)) + remainder
        slopes = None
        if y.slopes is not None:
            slopes = jax.vmap(lambda s: bind(p, s))(y.slopes)
        if x.slopes is not None:
            other = jax.vmap(lambda s: bind(s, q))(x.slopes)
            slopes = other if slopes is None else slopes + other
        # The interval of the product, by middles and half-widths.
        middle = bind(p, q)
        half = bind(jnp.abs(p), ry) + bind(rx, jnp.abs(q)) + bind(rx, ry)
        half = outwards(half + slack, terms + 4)
        form = Form(
            centre, slopes, outwards(radius, terms + 4), middle - half, middle + half
        )
        return tightened(form, self.inputs)

    def _second_order(
        self, bind: Bind, x: Form, y: Form, p: Array, q: Array, rx: Array, ry: Array
    ) -> tuple[Array, Array]:
        r"""Encloses (x - p)(y - q), as a shift and a remainder.

        With x - p the sum of slopes a_j e_j and of a rest within :math:`\alpha`, and
        likewise y - q, the squares :math:`a_j b_j e_j^2` lie between zero and
        :math:`a_j b_j`, and :math:`a_j b_k + a_k b_j` is the coefficient of e_j e_k.
        """
        plain = bind(rx, ry)
        if x.slopes is None or y.slopes is None or self.inputs > MOST_PAIRED:
            return jnp.zeros_like(plain), plain
        a, b, every = x.slopes, y.slopes, range(self.inputs)
        squares = [bind(a[j], b[j]) for j in every]
        total = sum(squares[1:], squares[0])
        error = sum(map(jnp.abs, squares[1:]), jnp.abs(squares[0])) / 2
        for j in every:
            for k in range(j):
                error = error + jnp.abs(bind(a[j], b[k]) + bind(a[k], b[j]))
        rest = jnp.abs(x.centre - p) + x.radius, jnp.abs(y.centre - q) + y.radius
        error = error + bind(rest[0], ry) + bind(x.spread, rest[1])
        better = error < plain
        return jnp.where(better, total / 2, 0.0), jnp.where(better, error, plain)

    def unary(self, curve: Curve, order: int, x: Form) -> Form:
        r"""Applies a derivative of an elementary function, entry by entry.

        With the middle m and half-width r of x, a slope p and bounds of the second
        derivative, :math:`f(x) = f(m) + p (x - m) + t`, where t lies in
        :math:`\tfrac14 (\min(f'', 0) + \max(f'', 0)) r^2
        \pm \tfrac14 (\max(f'', 0) - \min(f'', 0)) r^2` for p = f'(m), in
        :math:`\pm \tfrac12 (\max f' - \min f') r` for the middle of the range of f', and
        in the range of f itself for p = 0. The smallest remainder of the three is taken.

        Args:
            curve: the function f.
            order: of the derivative.
            x: the operand.

        Returns:
            The result.
        """
        m = x.lower + (x.upper - x.lower) / 2
        r = outwards(jnp.maximum(x.upper - m, m - x.lower), 2)
        least, most, value, size = self._sampled(curve, order, x, m)
        *first, slope, steep = self._sampled(curve, order + 1, x, m)
        *second, _, _ = self._sampled(curve, order + 2, x, m)
        flat = least + (most - least) / 2, most - least
        low, high = jnp.minimum(second[0], 0.0), jnp.maximum(second[1], 0.0)
        halves = (flat[1] / 2, (first[1] - first[0]) / 2 * r, (high - low) / 4 * r * r)
        constants = (flat[0], value, value + (low + high) / 4 * r * r)
        slopes = (jnp.zeros_like(m), (first[0] + first[1]) / 2, slope)
        error, constant, p = halves[0], constants[0], slopes[0]
        for e, c, s in zip(halves[1:], constants[1:], slopes[1:]):
            better = e < error
            error, constant, p = (
                jnp.where(better, new, old)
                for new, old in ((e, error), (c, constant), (s, p))
            )
        info = jnp.finfo(m.dtype)
        pull = jnp.abs(p)
        # A slope of zero, that of the flat replacement, has no error.
        steep = jnp.where(pull > 0, steep, 0.0)
        largest = jnp.maximum(jnp.abs(least), jnp.abs(most)) + jnp.abs(constant)
        largest = largest + size + steep * r + pull * (x.magnitude + r)
        slack = 2 * ULPS * info.eps * largest + self._slack(pull * x.magnitude, 4)
        remainder = outwards(error + slack, 8)
        p, constant, m, remainder = jax.lax.optimization_barrier(
            (p, constant, m, remainder)
        )
        self.record.append(Linear((p, constant, m), remainder, _known(x)))
        form = Form(
            constant + p * (x.centre - m),
            None if x.slopes is None else p[None] * x.slopes,
            outwards(pull * x.radius + remainder, 4),
            least,
            most,
        )
        return tightened(form, self.inputs)

    def _sampled(
        self, curve: Curve, order: int, x: Form, m: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Returns the range of a derivative on x, and its value at the middle m."""
        key = (id(curve), order, id(x))
        if key not in self._samples:
            # What the key names is kept, so that no other object gets its number.
            found = curve.sampled(order, x.lower, m, x.upper)
            self._samples[key] = (found, curve, x)
        return self._samples[key][0]

    def selected(
        self, true: Array, false: Array, x: Form, y: Form, continuous: bool
    ) -> Form:
        """Selects entries of x where true, of y where false.

        Args:
            true: entries that are surely those of x.
            false: entries that are surely those of y.
            x: one case.
            y: the other case.
            continuous: an entry that is not decided lies between x and y; else nothing
                is known of it.

        Returns:
            The result.
        """
        if continuous:
            least, most = jnp.minimum(x.lower, y.lower), jnp.maximum(x.upper, y.upper)
        else:
            least = jnp.full_like(x.lower, -jnp.inf)
            most = jnp.full_like(x.lower, jnp.inf)
        middle = (least + most) / 2 if continuous else jnp.zeros_like(least)
        half = outwards(jnp.maximum(most - middle, middle - least), 4)

        def select(a: Array, b: Array, c: Array) -> Array:
            return jnp.where(true, a, jnp.where(false, b, c))

        none = jnp.zeros_like(half)
        slack = self._slack(select(x.magnitude, y.magnitude, jnp.abs(middle)), 1)
        remainder = outwards(select(none, none, half) + slack, 4)
        self.record.append(Linear((true, false, middle), remainder))
        slopes = None
        if x.slopes is not None or y.slopes is not None:
            empty = jnp.zeros((self.inputs, *x.shape), x.centre.dtype)
            slopes = jax.vmap(select, (0, 0, None))(
                empty if x.slopes is None else x.slopes,
                empty if y.slopes is None else y.slopes,
                none,
            )
        return Form(
            select(x.centre, y.centre, middle),
            slopes,
            select(x.radius, y.radius, half),
            select(x.lower, y.lower, least),
            select(x.upper, y.upper, most),
        )

    def middle(self, x: Form) -> Array:
        """Returns an array near a number."""
        self.record.append(Linear((x.centre,), jnp.zeros_like(x.centre)))
        return x.centre

    def interval(self, x: Form) -> tuple[Array, Array]:
        """Returns the bounds of a number."""
        return x.lower, x.upper

    def at_least(self, x: Form, lower: Array) -> Form:
        """Returns the form with a lower bound that is known from elsewhere."""
        return x._replace(lower=jnp.maximum(_or(x.lower, lower), lower))

    def _slack(self, size: Array, terms: int) -> Array:
        """Returns the roundings of an operation and of the adjoints of its operands."""
        info = jnp.finfo(size.dtype)
        self.lost = self.lost + info.tiny * terms * jnp.sum(size)
        return (terms + self.readers) * (info.eps * size + info.tiny)


def _slopes(bind: Bind, xs: Sequence[Form], inputs: int) -> Array | None:
    if all(x.slopes is None for x in xs):
        return None
    parts = [
        jnp.zeros((inputs, *x.shape), x.centre.dtype) if x.slopes is None else x.slopes
        for x in xs
    ]
    return jax.vmap(bind)(*parts)


def _known(*xs: Form) -> tuple[Array, ...]:
    return tuple(x.slopes for x in xs if x.slopes is not None)
