r"""Algebra of second order: a value, k tangents and sums of second derivatives.

Along tangents t_1, …, t_k of x, each intermediate y carries

.. math:: y, \quad D y[t_i], \quad \sum_{(i, j)} c_{ij} D^2 y[t_i, t_j],

one such sum for every form wanted. A Laplacian is one form of k pairs, so that its
second derivatives are summed once and not carried k times ("collapsed"). A mixed second
derivative is a form of one pair. Without forms the algebra is plain forward mode. The
rules are those of composition, for a function of each entry

.. math:: S(f(y)) = f'(y)\, S(y) + f''(y) \sum c_{ij}\, D y[t_i]\, D y[t_j],

and of products.

References:
  Li et al., "A computational framework for neural network-based variational Monte
  Carlo with Forward Laplacian" (2024); Dangel et al., "Collapsing Taylor mode automatic
  differentiation" (2025).
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxcon.derivatives import _rules
from jaxcon.derivatives._equations import Bind, Product, Reach, pushed
from jaxcon.derivatives._layouts import (
    Form,
    Stacked,
    Unrolled,
    filled,
    moved,
    pick,
    total_of,
    weighed,
)
from jaxcon.derivatives._zeros import (
    Part,
    Row,
    Sparse,
    Support,
    as_part,
    cleared,
    dense,
    joined,
    over,
    patterns,
    plus,
    restricted,
    rows,
    scaled,
    scaled_by,
    slice_of_scan,
    stack_of_scan,
    support_of,
    times,
    union,
    written,
)


class Series(NamedTuple):
    """Series of a number that depends on x; None is a zero known as such."""

    value: jax.Array
    first: Any  # the k tangents in one of the layouts below, or None
    second: tuple[Part, ...]  # one per form


class Streams:
    """Algebra for k tangents in one layout and the forms wanted."""

    Series = Series

    def __init__(self, k: int, forms: tuple[Form, ...], layout: Unrolled | Stacked):
        self.k, self.forms, self.layout = k, forms, layout
        self.order = 2 if forms else 1
        self.kinks: list[str] = []  # functions met that have no second derivative
        self.corners: list[str] = []  # and primitives, which may be used away from them

    def value(self, x: Series) -> jax.Array:
        """Returns the number itself."""
        return x.value

    def varies(self, x: Any) -> bool:
        """Returns whether some part of x is not known to be zero."""
        if not isinstance(x, Series):
            return False
        return x.first is not None or any(s is not None for s in x.second)

    def constant(self, x: Any) -> Series:
        """Returns the series of a number that does not depend on x."""
        return Series(x, None, (None,) * len(self.forms))

    def linear(
        self, bind: Bind, apply: Bind, xs: list[Series], reach: Reach
    ) -> list[Any]:
        """Applies the linear map to every part separately."""
        values = [x.value for x in xs]

        def part(row: Row, *parts: Any) -> list:
            return mapped(parts, values, apply, reach)

        outputs = bind(*values)
        firsts = self._first(part, xs, len(outputs))
        seconds = [
            mapped(parts, values, apply, reach)
            for parts in zip(*(x.second for x in xs))
        ]
        return self._series(outputs, firsts, seconds)

    def bilinear(self, product: Product, x: Series, y: Series) -> Series:
        """Returns B(x, y), with B(S x, y) + B(x, S y) + Σ c (B(t_i, u_j) + B(t_j, u_i))."""
        both = self.varies(x) and self.varies(y)

        def times(row: Row, a: Any, b: Any) -> Any:
            return None if a is None or b is None else product(row, a, b, both)

        def part(row: Row, a: Any, b: Any) -> Any:
            return plus(times(row, a, y.value), times(row, x.value, b))

        first = self._pair(part, x.first, y.first)
        seconds = []
        for form, a, b in zip(self.forms, x.second, y.second):
            total = part(self.layout.row, a, b)
            if x.first is not None and y.first is not None:
                total = plus(total, self._crossed(form, times, x.first, y.first))
            seconds.append(total)
        value = product(None, x.value, y.value, False)
        return Series(value, first, tuple(seconds))

    def quotient(self, x: Series, y: Series) -> Series:
        """Returns the quotient q from x = q y, solved for the parts of q."""
        value = x.value / y.value
        if not self.varies(y):

            def divided(row: Row, a: Any, b: Any) -> Any:
                return over(row, a, y.value)

            seconds = [divided(self.layout.row, a, None) for a in x.second]
            return Series(value, self._pair(divided, x.first, None), tuple(seconds))
        top, bottom = self._inside([x, y])
        inverse = 1 / bottom
        q = value if bottom is y.value else top / bottom

        def part(row: Row, a: Any, b: Any, crossed: Any = None) -> Any:
            rest = plus(times(row, b, q), crossed)
            if rest is None:
                return times(row, a, inverse)
            return times(row, plus(a, scaled(rest, -1)), inverse)

        first = self._pair(part, x.first, y.first)
        seconds = []
        for form, a, b in zip(self.forms, x.second, y.second):
            crossed = None
            if first is not None and y.first is not None:
                crossed = self._crossed(form, times, first, y.first)
            seconds.append(part(self.layout.row, a, b, crossed))
        return Series(value, first, tuple(seconds))

    def unary(self, name: str, bind: Bind, x: Series, kink: str | None) -> Series:
        """Returns f(x), with f' D x and f' S x + f'' Σ c t_i t_j."""
        [inside] = self._inside([x])
        value, slope, curve = _slopes(name, bind, inside, bool(self.forms))
        if inside is not x.value:
            value = bind(x.value)[0]
        if kink is not None and curve is None and self.forms:
            self.kinks.append(kink)
        by = scaled_by if name in _rules.BOUNDED else times
        [first] = self._first(lambda row, t: [by(row, t, slope)], [x], 1)
        seconds = []
        for form, s in zip(self.forms, x.second):
            total = by(self.layout.row, s, slope)
            if curve is not None and x.first is not None:
                square = self.layout.sum(form, times, x.first, x.first)
                total = plus(total, by(self.layout.row, square, curve))
            seconds.append(total)
        return Series(value, first, tuple(seconds))

    def kinked(
        self, name: str, bind: Bind, xs: list[Series], reach: Reach
    ) -> list[Any]:
        """Applies a map that is linear near almost every point as a linear one."""
        self.corners.append(name)
        values = [x.value for x in xs]
        floats = floating(bind, values)

        def along(*tangents: Any) -> list:
            return pushed(floats, tuple(values), tangents)[1]

        return restore(bind, values, self.linear(floats, along, xs, reach))

    def general(
        self, bind: Bind, xs: list[Series], reach: Reach, entrywise: bool
    ) -> list[Any]:
        """Applies any primitive: by jvp for the tangents, by jvp of jvp for each pair."""
        values = tuple(x.value for x in xs)
        floats = floating(bind, values)
        outputs = floats(*values)

        nothing = [None] * len(outputs)

        def along(row: Row, *parts: Any) -> list:
            if all(part is None for part in parts):
                return nothing
            if not entrywise:
                supports = reach(list(map(support_of, values, parts)))
                return list(map(as_part, _jvp(floats, values, parts), supports))
            total = nothing
            for some, here in patterns(parts):
                found = _jvp(floats, _restricted(values, here, row), some)
                total = [plus(a, cleared(row, y, here)) for a, y in zip(total, found)]
            return total

        def twice(row: Row, t: Any, u: Any) -> list:
            if all(a is None for a in t) or all(a is None for a in u):
                return nothing
            if not entrywise:
                return _jvp2(floats, values, t, u)
            total = nothing
            for (a, here), (b, there) in itertools.product(patterns(t), patterns(u)):
                both = _common(here, there)
                if both is not None and not both.any():
                    continue
                found = _jvp2(floats, _restricted(values, both, row), a, b)
                total = [plus(c, cleared(row, y, both)) for c, y in zip(total, found)]
            return total

        firsts = self._first(along, xs, len(outputs))
        seconds = []
        for f, form in enumerate(self.forms):
            total = self._pairs(form, twice, [x.first for x in xs], len(outputs))
            more = along(self.layout.row, *(x.second[f] for x in xs))
            seconds.append(list(map(plus, more, total)))
        return restore(bind, values, self._series(outputs, firsts, seconds))

    def solution(
        self, values: list[Any], image: Callable, target: list[Any], solve: Bind
    ) -> list[Any]:
        """Returns ys of these values whose image is the target."""
        ys = list(map(self.constant, values))

        def parts(row: Row, *lacking: Any) -> list:
            if all(part is None for part in lacking):
                return [None] * len(values)
            return solve(*map(written, lacking, values))

        first, _ = zip(*map(self._lacking, target, image(ys)))
        if any(part is not None for part in first):
            first = self.layout.at_once(parts, *first)
        ys = [y._replace(first=part) for y, part in zip(ys, first)]
        _, seconds = zip(*map(self._lacking, target, image(ys)))
        solved = [parts(self.layout.row, *lacking) for lacking in zip(*seconds)]
        return self._series(values, [y.first for y in ys], solved)

    def _lacking(self, target: Any, image: Any) -> tuple[Any, list[Any]]:
        """Returns the parts of the difference of two series or constants."""
        b, y = (
            x if isinstance(x, Series) else self.constant(x) for x in (target, image)
        )
        first = self._pair(lambda row, t, u: plus(t, scaled(u, -1)), b.first, y.first)
        return first, [plus(t, scaled(u, -1)) for t, u in zip(b.second, y.second)]

    def log_determinant(self, x: Series) -> Series:
        """Returns log det x for x = 1, with tr S x - Σ c tr (t_i t_j)."""

        def trace(t: Any) -> Any:
            return None if t is None else jnp.trace(dense(t), axis1=-2, axis2=-1)

        def trace_of_product(row: Row, t: Any, u: Any) -> Any:
            if t is None or u is None:
                return None
            return jnp.sum(dense(t) * jnp.swapaxes(dense(u), -1, -2), axis=(-2, -1))

        [first] = self._first(lambda row, t: [trace(t)], [x], 1)
        seconds = []
        for form, s in zip(self.forms, x.second):
            total = None
            if x.first is not None:
                total = self.layout.sum(form, trace_of_product, x.first, x.first)
            seconds.append(plus(trace(s), scaled(total, -1)))
        value = jnp.zeros(x.value.shape[:-2], x.value.dtype)
        return Series(value, first, tuple(seconds))

    def written_out(self, x: Any) -> Any:
        """Returns x as it is."""
        return x

    def moved_to(self, value: jax.Array, x: Series) -> Series:
        """Returns x with another value."""
        return x._replace(value=value)

    def fill(self, x: Any, like: Any) -> Any:
        """Fills x with explicit zeros where ``like`` has more than symbolic ones."""
        if not isinstance(like, Series):
            return x
        if not isinstance(x, Series):
            x = self.constant(x)
        first = self.layout.fill(x.first, like.first, x.value, self.k)
        second = tuple(filled(a, b, x.value) for a, b in zip(x.second, like.second))
        return Series(x.value, first, second)

    def scanned(self, x: Any) -> Any:
        """Moves the axis that is scanned in front of the tangents'."""
        return self._moved(x, slice_of_scan, 0, 1)

    def unscanned(self, x: Any) -> Any:
        """Moves the tangents' axis back to the front."""
        length = len(x.value) if isinstance(x, Series) else 0
        return self._moved(x, lambda part: stack_of_scan(part, length), 1, 0)

    def _moved(self, x: Any, known: Callable, source: int, target: int) -> Any:
        if not isinstance(x, Series):
            return x
        first = x.first
        if isinstance(first, tuple):
            first = tuple(map(known, first))
        elif first is not None:
            first = known(moved(first, source, target))
        return Series(x.value, first, tuple(map(known, x.second)))

    def _first(self, part: Callable[..., list], xs: list[Series], outputs: int) -> list:
        if all(x.first is None for x in xs):
            return [None] * outputs
        return self.layout.each(part, *(x.first for x in xs))

    def _pair(self, part: Callable, a: Any, b: Any) -> Any:
        if a is None and b is None:
            return None
        return self.layout.each(lambda row, t, u: [part(row, t, u)], a, b)[0]

    def _inside(self, xs: list[Series]) -> list[Any]:
        """Returns the values, moved inside where nothing varies: see `restricted`."""
        supports = [self.layout.union(x.first) for x in xs if x.first is not None]
        supports += [union([s]) for x in xs for s in x.second if s is not None]
        total = joined(supports)
        return [restricted(x.value, total, self.layout.row) for x in xs]

    def _crossed(self, form: Form, times: Callable, a: Any, b: Any) -> Any:
        """Sums c (B(a_i, b_j) + B(a_j, b_i)) over the form's pairs."""
        if form.left == form.right:
            total = self.layout.sum(form, times, a, b)
            return None if total is None else scaled(total, 2)
        swapped = form._replace(left=form.right, right=form.left)
        return plus(
            self.layout.sum(form, times, a, b), self.layout.sum(swapped, times, a, b)
        )

    def _pairs(self, form: Form, twice: Callable, firsts: list, outputs: int) -> list:
        """Sums c D²f[t_i, t_j] for tangents of several operands at once."""
        if all(first is None for first in firsts):
            return [None] * outputs
        if isinstance(self.layout, Stacked):
            left, right = (
                [None if a is None else pick(a, side) for a in firsts]
                for side in (form.left, form.right)
            )
            terms = jax.vmap(twice)(rows(len(form.left)), left, right)
            return [total_of(form, t) for t in terms]
        total: list[Any] = [None] * outputs
        for p, (i, j) in enumerate(zip(form.left, form.right)):
            t, u = (
                [None if first is None else first[n] for first in firsts]
                for n in (i, j)
            )
            terms = [weighed(form, p, y) for y in twice(self.layout.row, t, u)]
            total = [plus(a, b) for a, b in zip(total, terms)]
        return total

    def _series(self, values: list, firsts: list, seconds: list) -> list[Any]:
        return [
            Series(value, first, tuple(None if s is None else s[o] for s in seconds))
            for o, (value, first) in enumerate(zip(values, firsts))
        ]


def mapped(
    parts: Sequence[Any], values: Sequence[Any], apply: Bind, reach: Reach
) -> list[Any]:
    """Applies a linear map to one part of each series of these values."""
    if all(part is None for part in parts):
        return [None] * reach.outputs
    outputs = apply(*map(written, parts, values))
    if all(part is not None and not isinstance(part, Sparse) for part in parts):
        return outputs
    return list(map(as_part, outputs, reach(list(map(support_of, values, parts)))))


def _restricted(values: Sequence[Any], support: Support | None, row: Row) -> list[Any]:
    return [restricted(value, support, row) for value in values]


def _common(a: Support | None, b: Support | None) -> Support | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _jvp2(f: Bind, values: Sequence[Any], t: Any, u: Any) -> list[Any]:
    return _jvp(lambda *values: _jvp(f, values, t), values, u)


def _jvp(f: Bind, values: Sequence[Any], parts: Sequence[Any]) -> list[Any]:
    """Returns the derivative of f along the parts that are not None, as arrays."""
    places = [n for n, part in enumerate(parts) if part is not None]

    def of_those(*xs: Any) -> list:
        put = dict(zip(places, xs))
        return f(*(put.get(n, value) for n, value in enumerate(values)))

    if not places:
        return [jnp.zeros_like(y) for y in f(*values)]
    those = tuple(values[n] for n in places)
    tangents = tuple(dense(parts[n]) for n in places)
    return pushed(of_those, those, tangents)[1]


def _is_float(y: jax.Array) -> bool:
    return jnp.issubdtype(jnp.result_type(y), jnp.inexact)


def floating(bind: Bind, values: Any) -> Bind:
    """Drops outputs that are no floats, e.g. a sort's indices."""
    kept = [_is_float(y) for y in jax.eval_shape(bind, *values)]
    return lambda *xs: [y for y, keep in zip(bind(*xs), kept) if keep]


def restore(bind: Bind, values: Any, series: list[Any]) -> list[Any]:
    """Inserts the outputs that `floating` dropped at their places."""
    found = iter(series)
    return [next(found) if _is_float(y) else y for y in bind(*values)]


def _slopes(name: str, bind: Bind, x: jax.Array, twice: bool) -> tuple:
    """Returns f(x), f'(x) and, if wanted and not known to be zero, f''(x)."""
    # For first derivatives alone jax's own rules need fewer FLOPs.
    if twice and name in _rules.SLOPES:
        value = bind(x)[0]
        return value, *_rules.SLOPES[name](x, value)
    one = jnp.ones_like(x)

    def once(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return pushed(lambda x: bind(x)[0], (x,), (one,))

    if not twice:
        return *once(x), None

    def slope(x: jax.Array) -> jax.Array:
        return once(x)[1]

    if _is_constant(slope, x):
        return *once(x), None
    value, slope_ = once(x)
    return value, slope_, pushed(slope, (x,), (one,))[1]


def _is_constant(f: Callable, x: jax.Array) -> bool:
    """Returns whether the derivative of f is known to be zero, as that of relu's slope."""
    jaxpr = jax.make_jaxpr(lambda x: pushed(f, (x,), (jnp.ones_like(x),))[1])(x).jaxpr
    [out] = jaxpr.outvars
    for eqn in jaxpr.eqns:
        # A known zero is written out as a literal, broadcast to its shape.
        if out in eqn.outvars and eqn.primitive.name == "broadcast_in_dim":
            out = eqn.invars[0]
    return isinstance(out, Literal) and not np.any(out.val)
