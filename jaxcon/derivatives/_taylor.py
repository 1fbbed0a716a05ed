r"""Algebra of one direction: the Taylor coefficients of a curve, to any order.

Where x moves along a curve, each intermediate y moves along

.. math:: y(t) = y_0 + y_1 t + \dots + y_n t^n + O(t^{n+1}),

and its derivative of order n is n! y_n: n + 1 streams, where nested jvp would carry
2^n. A function of each entry follows from its slope s = f'(x(t)), itself a series of one
order less,

.. math:: y_k = \frac{1}{k} \sum_{j=1}^{k} j \, x_j \, s_{k-j},

so that jax's own rule for f' is enough at every order.

References:
  Griewank and Walther, "Evaluating Derivatives" (2008), chapter 13, table 13.2.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon.derivatives._equations import Bind, Product, Reach, pushed
from jaxcon.derivatives._interpreter import interpret
from jaxcon.derivatives._layouts import filled
from jaxcon.derivatives._streams import floating, mapped, restore
from jaxcon.derivatives._zeros import (
    Sparse,
    as_part,
    cleared,
    dense,
    over,
    patterns,
    plus,
    restricted,
    scaled,
    slice_of_scan,
    stack_of_scan,
    support_of,
    times,
    union,
    written,
)


class Series(NamedTuple):
    """Series of the coefficients y_0, …, y_n; None is a zero known as such."""

    coefficients: tuple[Any, ...]


class Taylor:
    """Algebra of series of one order."""

    Series = Series

    def __init__(self, order: int):
        self.order = order
        self.kinks: list[str] = []  # functions met that have no second derivative
        self.corners: list[str] = []  # and primitives, which may be used away from them

    def value(self, x: Series) -> jax.Array:
        """Returns the number itself."""
        return x.coefficients[0]

    def varies(self, x: Any) -> bool:
        """Returns whether some coefficient of x beyond its value is not known as zero."""
        return isinstance(x, Series) and any(c is not None for c in x.coefficients[1:])

    def constant(self, x: Any) -> Series:
        """Returns the series of a number that does not depend on x."""
        return Series((x, *[None] * self.order))

    def linear(
        self, bind: Bind, apply: Bind, xs: list[Series], reach: Reach
    ) -> list[Any]:
        """Applies the linear map to every coefficient separately."""
        values = [self.value(x) for x in xs]
        columns = [bind(*values)]
        for parts in zip(*(x.coefficients[1:] for x in xs)):
            columns.append(mapped(parts, values, apply, reach))
        return [Series(row) for row in zip(*columns)]

    def bilinear(self, product: Product, x: Series, y: Series) -> Series:
        """Returns the Cauchy product."""
        both = self.varies(x) and self.varies(y)

        def times(a: Any, b: Any) -> Any:
            return None if a is None or b is None else product(None, a, b, both)

        return Series(
            tuple(
                _sum(times(a, b) for a, b in _against(x, y, k))
                for k in range(self.order + 1)
            )
        )

    def quotient(self, x: Series, y: Series) -> Series:
        """Returns the quotient q from x = q y, solved for each coefficient in turn."""
        top, bottom = _inside([x, y])
        q: list[Any] = [top / bottom]
        for k in range(1, self.order + 1):
            known = _sum(
                _times(a, y.coefficients[k - j]) for j, a in enumerate(q) if j < k
            )
            rest = plus(x.coefficients[k], scaled(known, -1))
            q.append(over(None, rest, bottom))
        return Series((self.value(x) / self.value(y), *q[1:]))

    def unary(self, name: str, bind: Bind, x: Series, kink: str | None) -> Series:
        """Returns f(x), from the series of its slope."""
        before = self.value(x)
        value = bind(before)[0]
        [inside] = _inside([x])
        x = Series((inside, *x.coefficients[1:]))
        if name in _SLOPES:
            slope = _SLOPES[name]
        else:
            found = self._slope(bind, x)
            moved = any(c is not None for c in x.coefficients[1:-1])
            if kink is not None and moved and not isinstance(found, Series):
                self.kinks.append(kink)
            slope = _known(found)
        y, s = [value if inside is before else bind(inside)[0]], []
        for _ in range(self.order):
            s.append(slope(x, y, s))
            y.append(_integrated(x, s))
        return Series((value, *y[1:]))

    def kinked(
        self, name: str, bind: Bind, xs: list[Series], reach: Reach
    ) -> list[Any]:
        """Applies a map that is linear near almost every point as a linear one."""
        self.corners.append(name)
        values = tuple(map(self.value, xs))
        floats = floating(bind, values)

        def along(*parts: Any) -> list:
            return pushed(floats, values, parts)[1]

        return restore(bind, values, self.linear(floats, along, xs, reach))

    def general(
        self, bind: Bind, xs: list[Series], reach: Reach, entrywise: bool
    ) -> list[Any]:
        """Applies any primitive, by nested jvp along the curve of the coefficients."""
        values = tuple(map(self.value, xs))
        known = [support_of(self.value(x), *x.coefficients[1:]) for x in xs]
        columns = [floating(bind, values)(*values)]
        if not entrywise:
            supports = reach(known)
            found = self._along(bind, values, [x.coefficients[1:] for x in xs])
            columns += [list(map(as_part, ys, supports)) for ys in found]
            return restore(bind, values, [Series(row) for row in zip(*columns)])
        moving = [None if s is None else Sparse(None, s) for s in known]
        total = [[None] * len(columns[0])] * self.order
        for some, here in patterns(moving):
            parts = [
                x.coefficients[1:] if kept is not None else (None,) * self.order
                for x, kept in zip(xs, some)
            ]
            inside = [restricted(value, here, None) for value in values]
            found = self._along(bind, inside, parts)
            total = [
                [plus(a, cleared(None, y, here)) for a, y in zip(sums, ys)]
                for sums, ys in zip(total, found)
            ]
        columns += total
        return restore(bind, values, [Series(row) for row in zip(*columns)])

    def _along(
        self, bind: Bind, values: Sequence[Any], parts: Sequence[Any]
    ) -> list[list[Any]]:
        """Returns the coefficients of each order, of every output that is a float."""
        curves = [(value, *map(dense, each)) for value, each in zip(values, parts)]

        def along(t: jax.Array) -> list:
            return bind(*(_horner(curve, t) for curve in curves))

        zero = jnp.zeros((), values[0].dtype)
        kept = floating(along, (zero,))
        found = []
        for k in range(1, self.order + 1):
            kept = _differentiated(kept)
            scale = 1 / math.factorial(k)
            found.append([scale * y for y in kept(zero)])
        return found

    def solution(
        self, values: list[Any], image: Callable, target: list[Any], solve: Bind
    ) -> list[Any]:
        """Returns ys of these values whose image is the target, order by order."""
        ys = [self.constant(value).coefficients for value in values]
        bs = [self._coefficients(b) for b in target]
        for k in range(1, self.order + 1):
            images = map(self._coefficients, image(list(map(Series, ys))))
            lacking = [plus(b[k], scaled(a[k], -1)) for b, a in zip(bs, images)]
            if all(part is None for part in lacking):
                continue
            found = solve(*map(written, lacking, values))
            ys = [(*y[:k], part, *y[k + 1 :]) for y, part in zip(ys, found)]
        return list(map(Series, ys))

    def _coefficients(self, x: Any) -> tuple[Any, ...]:
        return (x if isinstance(x, Series) else self.constant(x)).coefficients

    def log_determinant(self, x: Series) -> Series:
        """Returns log det x for x = 1, from the series of tr x⁻¹ x'."""

        def products(a: Sequence[Any], b: Sequence[Any], scale: Callable) -> Any:
            pairs = [
                (j, dense(p), dense(q))
                for j, (p, q) in enumerate(zip(a, b), start=1)
                if p is not None and q is not None
            ]
            return _sum(scale(j, p, q) for j, p, q in pairs)

        def matrix(j: int, p: Any, q: Any) -> Any:
            return -jnp.matmul(p, q, precision=jax.lax.Precision.HIGHEST)

        one = jnp.broadcast_to(
            jnp.eye(self.value(x).shape[-1], dtype=self.value(x).dtype),
            self.value(x).shape,
        )
        inverse: list[Any] = [one]
        found: list[Any] = [jnp.zeros(one.shape[:-2], one.dtype)]
        for k in range(1, self.order + 1):
            before, after = x.coefficients[1 : k + 1], inverse[::-1]

            def trace(j: int, p: Any, q: Any, k: int = k) -> Any:
                return j / k * jnp.sum(p * jnp.swapaxes(q, -1, -2), axis=(-2, -1))

            found.append(products(before, after, trace))
            inverse.append(products(before, after, matrix))
        return Series(tuple(found))

    def written_out(self, x: Any) -> Any:
        """Returns x as it is."""
        return x

    def moved_to(self, value: jax.Array, x: Series) -> Series:
        """Returns x with another value."""
        return Series((value, *x.coefficients[1:]))

    def fill(self, x: Any, like: Any) -> Any:
        """Fills x with explicit zeros where ``like`` has more than symbolic ones."""
        if not isinstance(like, Series):
            return x
        if not isinstance(x, Series):
            x = self.constant(x)
        value, *parts = x.coefficients
        more = (filled(a, b, value) for a, b in zip(parts, like.coefficients[1:]))
        return Series((value, *more))

    def scanned(self, x: Any) -> Any:
        """Drops the axis that is scanned from what is known of the coefficients."""
        if not isinstance(x, Series):
            return x
        return Series(tuple(map(slice_of_scan, x.coefficients)))

    def unscanned(self, x: Any) -> Any:
        """Adds that axis again."""
        if not isinstance(x, Series):
            return x
        length = len(self.value(x))
        return Series(tuple(stack_of_scan(c, length) for c in x.coefficients))

    def _slope(self, bind: Bind, x: Series) -> Any:
        """Returns f'(x), a series of one order less, by interpretation of f' itself."""

        def derivative(x: jax.Array) -> jax.Array:
            return pushed(lambda x: bind(x)[0], (x,), (jnp.ones_like(x),))[1]

        closed = jax.make_jaxpr(derivative)(self.value(x))
        lower = Taylor(self.order - 1)
        return interpret(closed, [Series(x.coefficients[:-1])], lower)[0]


def _inside(xs: list[Series]) -> list[Any]:
    """Returns the values, moved inside where nothing varies: see `restricted`."""
    total = union([c for x in xs for c in x.coefficients[1:]])
    return [restricted(x.coefficients[0], total, None) for x in xs]


def _known(slope: Any) -> Callable:
    """Reads a slope that is known before y; an array is constant along the curve."""
    found = slope.coefficients if isinstance(slope, Series) else (slope,)
    return lambda x, y, s: found[len(s)] if len(s) < len(found) else None


def _tanh(x: Series, y: list, s: list) -> Any:
    square = _sum(_times(a, b) for a, b in zip(y, reversed(y)))
    return scaled(square, -1) if s else 1 - square


def _logistic(x: Series, y: list, s: list) -> Any:
    square = _sum(_times(a, b) for a, b in zip(y, reversed(y)))
    return plus(y[-1], scaled(square, -1))


def _exp(x: Series, y: list, s: list) -> Any:
    return y[-1]


def _sin(x: Series, y: list, s: list) -> Any:
    """Returns the cosine, whose derivative is -sin: s_k = -1/k Σ j x_j y_{k-j}."""
    if not s:
        return jnp.cos(x.coefficients[0])
    return scaled(_integrated(x, y[: len(s)]), -1)


def _cos(x: Series, y: list, s: list) -> Any:
    """Returns minus the sine, whose derivative is minus the cosine."""
    if not s:
        return -jnp.sin(x.coefficients[0])
    return scaled(_integrated(x, y[: len(s)]), -1)


# s_k from the coefficients of x, y_0, …, y_k and s_0, …, s_{k-1}: this is cheaper than
# interpretation of the slope, for functions that are common in networks.
_SLOPES: dict[str, Callable] = {
    "cos": _cos,
    "exp": _exp,
    "logistic": _logistic,
    "sin": _sin,
    "tanh": _tanh,
}


def _integrated(x: Series, s: list) -> Any:
    """Returns the next coefficient of y: 1/k Σ_j j x_j s_{k-j}, with k = len(s)."""
    k = len(s)
    return _sum(_times(x.coefficients[j], s[k - j], j / k) for j in range(1, k + 1))


def _against(x: Series, y: Series, k: int) -> Any:
    return zip(x.coefficients[: k + 1], reversed(y.coefficients[: k + 1]))


def _times(a: Any, b: Any, scale: float = 1) -> Any:
    product = times(None, a, b)
    return product if scale == 1 else scaled(product, scale)


def _sum(terms: Any) -> Any:
    return functools.reduce(plus, terms, None)


def _horner(coefficients: tuple, t: jax.Array) -> Any:
    total = None
    for a in reversed(coefficients):
        if total is not None:
            total = plus(total * t, a)
        else:
            total = a
    return total


def _differentiated(f: Callable) -> Callable:
    return lambda t: pushed(f, (t,), (jnp.ones_like(t),))[1]


def derivative(y: Any, order: int) -> jax.Array:
    """Returns the derivative that belongs to the last coefficient: n! y_n."""
    if not isinstance(y, Series):
        return jnp.zeros_like(y)
    last = y.coefficients[order]
    if last is None:
        return jnp.zeros_like(y.coefficients[0])
    return float(math.factorial(order)) * dense(last)


def has_no_curvature(y: Any) -> bool:
    """Returns whether the curve is known to have no second derivative."""
    return not isinstance(y, Series) or all(c is None for c in y.coefficients[2:])
