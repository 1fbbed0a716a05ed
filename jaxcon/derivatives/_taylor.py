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
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon.derivatives._interpreter import Bind, interpret
from jaxcon.derivatives._streams import floating, plus, restore, written


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

    def constant(self, x: Any) -> Series:
        """Returns the series of a number that does not depend on x."""
        return Series((x, *[None] * self.order))

    def linear(self, bind: Bind, apply: Bind, xs: list[Series]) -> list[Any]:
        """Applies the linear map to every coefficient separately."""
        values = [self.value(x) for x in xs]
        columns = [bind(*values)]
        for parts in zip(*(x.coefficients[1:] for x in xs)):
            if all(part is None for part in parts):
                columns.append([None] * len(columns[0]))
            else:
                columns.append(apply(*map(written, parts, values)))
        return [Series(row) for row in zip(*columns)]

    def bilinear(self, bind: Bind, x: Series, y: Series) -> Series:
        """Returns the Cauchy product."""

        def times(a: Any, b: Any) -> Any:
            return None if a is None or b is None else bind(a, b)[0]

        return Series(
            tuple(
                _sum(times(a, b) for a, b in _against(x, y, k))
                for k in range(self.order + 1)
            )
        )

    def quotient(self, x: Series, y: Series) -> Series:
        """Returns the quotient q from x = q y, solved for each coefficient in turn."""
        q: list[Any] = []
        for k in range(self.order + 1):
            known = _sum(
                _times(a, y.coefficients[k - j]) for j, a in enumerate(q) if j < k
            )
            rest = plus(x.coefficients[k], None if known is None else -known)
            q.append(None if rest is None else rest / self.value(y))
        return Series(tuple(q))

    def unary(self, name: str, bind: Bind, x: Series, kink: str | None) -> Series:
        """Returns f(x), from the series of its slope."""
        value = bind(self.value(x))[0]
        if self.order == 0:
            return Series((value,))
        if name in _SLOPES:
            slope = _SLOPES[name]
        else:
            found = self._slope(bind, x)
            if kink is not None and not isinstance(found, Series):
                self.kinks.append(kink)
            slope = _known(found)
        y, s = [value], []
        for _ in range(self.order):
            s.append(slope(x, y, s))
            y.append(_integrated(x, s))
        return Series(tuple(y))

    def kinked(self, name: str, bind: Bind, xs: list[Series]) -> list[Any]:
        """Applies a map that is linear near almost every point as a linear one."""
        self.corners.append(name)
        values = tuple(map(self.value, xs))
        floats = floating(bind, values)

        def along(*parts: Any) -> list:
            return jax.jvp(floats, values, parts)[1]

        return restore(bind, values, self.linear(floats, along, xs))

    def general(self, bind: Bind, xs: list[Series]) -> list[Any]:
        """Applies any primitive, by nested jvp along the curve of the coefficients."""
        like = self.value(xs[0])
        curves = [x.coefficients for x in xs]

        def along(t: jax.Array) -> list:
            return bind(*(_horner(curve, t) for curve in curves))

        values = tuple(map(self.value, xs))
        kept = floating(along, (jnp.zeros((), like.dtype),))
        columns = []
        for k in range(self.order + 1):
            scale = 1 / math.factorial(k)
            columns.append([scale * y for y in kept(jnp.zeros((), like.dtype))])
            kept = _differentiated(kept)
        return restore(bind, values, [Series(row) for row in zip(*columns)])

    def fill(self, x: Any, like: Any) -> Any:
        """Fills x with explicit zeros where ``like`` has more than symbolic ones."""
        if not isinstance(like, Series):
            return x
        if not isinstance(x, Series):
            x = self.constant(x)
        value = self.value(x)
        return Series(
            tuple(
                jnp.zeros(value.shape, value.dtype)
                if a is None and b is not None
                else a
                for a, b in zip(x.coefficients, like.coefficients)
            )
        )

    def scanned(self, x: Any) -> Any:
        """Returns x as it is: each coefficient is an array by itself."""
        return x

    def unscanned(self, x: Any) -> Any:
        """Returns x as it is: each coefficient is an array by itself."""
        return x

    def _slope(self, bind: Bind, x: Series) -> Any:
        """Returns f'(x), a series of one order less, by interpretation of f' itself."""

        def derivative(x: jax.Array) -> jax.Array:
            return jax.jvp(lambda x: bind(x)[0], (x,), (jnp.ones_like(x),))[1]

        closed = jax.make_jaxpr(derivative)(self.value(x))
        lower = Taylor(self.order - 1)
        return interpret(closed, [Series(x.coefficients[:-1])], lower)[0]


def _known(slope: Any) -> Callable:
    """Reads a slope that is known before y; an array is constant along the curve."""
    found = slope.coefficients if isinstance(slope, Series) else (slope,)
    return lambda x, y, s: found[len(s)] if len(s) < len(found) else None


def _tanh(x: Series, y: list, s: list) -> Any:
    square = _sum(_times(a, b) for a, b in zip(y, reversed(y)))
    return -square if s else 1 - square


def _logistic(x: Series, y: list, s: list) -> Any:
    square = _sum(_times(a, b) for a, b in zip(y, reversed(y)))
    return plus(y[-1], None if square is None else -square)


def _exp(x: Series, y: list, s: list) -> Any:
    return y[-1]


def _sin(x: Series, y: list, s: list) -> Any:
    """Returns the cosine, whose derivative is -sin: s_k = -1/k Σ j x_j y_{k-j}."""
    if not s:
        return jnp.cos(x.coefficients[0])
    moved = _integrated(x, y[: len(s)])
    return None if moved is None else -moved


def _cos(x: Series, y: list, s: list) -> Any:
    """Returns minus the sine, whose derivative is minus the cosine."""
    if not s:
        return -jnp.sin(x.coefficients[0])
    moved = _integrated(x, y[: len(s)])
    return None if moved is None else -moved


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
    if a is None or b is None:
        return None
    return a * b if scale == 1 else scale * (a * b)


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
    return lambda t: jax.jvp(f, (t,), (jnp.ones_like(t),))[1]


def derivative(y: Any, order: int) -> jax.Array:
    """Returns the derivative that belongs to the last coefficient: n! y_n."""
    if not isinstance(y, Series):
        return jnp.zeros_like(y)
    last = y.coefficients[order]
    return (
        jnp.zeros_like(y.coefficients[0])
        if last is None
        else float(math.factorial(order)) * last
    )


def has_no_curvature(y: Any) -> bool:
    """Returns whether the curve is known to have no second derivative."""
    return not isinstance(y, Series) or all(c is None for c in y.coefficients[2:])
