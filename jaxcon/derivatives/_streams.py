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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxcon.derivatives import _rules
from jaxcon.derivatives._interpreter import Bind


class Form(NamedTuple):
    """Sum of c D²y[t_i, t_j] over pairs of tangents, numbered from 0."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    weights: Any = None  # (pairs,), or None for ones


def weighed(form: Form, pair: int, term: jax.Array) -> jax.Array:
    """Returns one pair's term times its weight, in the term's own precision."""
    if form.weights is None:
        return term
    return jnp.asarray(form.weights[pair], term.dtype) * term


class Series(NamedTuple):
    """Series of a number that depends on x; None is a zero known as such."""

    value: jax.Array
    first: Any  # the k tangents in one of the layouts below, or None
    second: tuple[jax.Array | None, ...]  # one per form


class Unrolled:
    """Layout of tangents as a tuple of small arrays, each of which stays in the cache."""

    def each(self, f: Callable[..., list], *firsts: Any) -> list[Any]:
        """Returns each output's tangents; f maps one tangent, or None, of each operand."""
        k = next(len(first) for first in firsts if first is not None)
        rows = zip(*((None,) * k if first is None else first for first in firsts))
        return list(zip(*(f(*row) for row in rows)))

    def sum(self, form: Form, f: Callable, a: Any, b: Any) -> Any:
        """Sums c f(a_i, b_j) over a form's pairs."""
        total = None
        for p, (i, j) in enumerate(zip(form.left, form.right)):
            total = plus(total, weighed(form, p, f(a[i], b[j])))
        return total

    def zeros(self, value: jax.Array, k: int) -> Any:
        """Returns k tangents of zeros."""
        return (jnp.zeros_like(value),) * k

    def move(self, first: Any, source: int, target: int) -> Any:
        """Returns the tangents as they are: they have no axis to move."""
        return first


class Stacked:
    """Layout of tangents as one array, their axis in front: one program size for all k."""

    def each(self, f: Callable[..., list], *firsts: Any) -> list[Any]:
        """Returns each output's tangents; f maps one tangent, or None, of each operand."""
        axes = [None if first is None else 0 for first in firsts]
        return jax.vmap(f, in_axes=axes)(*firsts)

    def sum(self, form: Form, f: Callable, a: Any, b: Any) -> Any:
        """Sums c f(a_i, b_j) over a form's pairs."""
        return _total(form, jax.vmap(f)(_pick(a, form.left), _pick(b, form.right)))

    def zeros(self, value: jax.Array, k: int) -> Any:
        """Returns k tangents of zeros."""
        return jnp.zeros((k, *value.shape), value.dtype)

    def move(self, first: Any, source: int, target: int) -> Any:
        """Moves the axis of the tangents."""
        return jnp.moveaxis(first, source, target)


class Streams:
    """Algebra for k tangents in one layout and the forms wanted."""

    Series = Series

    def __init__(self, k: int, forms: tuple[Form, ...], layout: Unrolled | Stacked):
        self.k, self.forms, self.layout = k, forms, layout
        self.kinks: list[str] = []  # functions met that have no second derivative
        self.corners: list[str] = []  # and primitives, which may be used away from them

    def value(self, x: Series) -> jax.Array:
        """Returns the number itself."""
        return x.value

    def constant(self, x: Any) -> Series:
        """Returns the series of a number that does not depend on x."""
        return Series(x, None, (None,) * len(self.forms))

    def linear(self, bind: Bind, apply: Bind, xs: list[Series]) -> list[Any]:
        """Applies the linear map to every part separately."""

        def part(*parts: Any) -> list:
            return apply(*(written(t, x.value) for t, x in zip(parts, xs)))

        outputs = bind(*(x.value for x in xs))
        firsts = self._first(part, xs, len(outputs))
        seconds = [
            None if all(t is None for t in parts) else part(*parts)
            for parts in zip(*(x.second for x in xs))
        ]
        return self._series(outputs, firsts, seconds)

    def bilinear(self, bind: Bind, x: Series, y: Series) -> Series:
        """Returns B(x, y), with B(S x, y) + B(x, S y) + Σ c (B(t_i, u_j) + B(t_j, u_i))."""

        def times(a: Any, b: Any) -> Any:
            return None if a is None or b is None else bind(a, b)[0]

        def part(a: Any, b: Any) -> Any:
            return plus(times(a, y.value), times(x.value, b))

        first = None
        if x.first is not None or y.first is not None:
            first = self.layout.each(lambda t, u: [part(t, u)], x.first, y.first)[0]
        seconds = []
        for form, a, b in zip(self.forms, x.second, y.second):
            total = part(a, b)
            if x.first is not None and y.first is not None:
                total = plus(total, self._crossed(form, times, x.first, y.first))
            seconds.append(total)
        return Series(bind(x.value, y.value)[0], first, tuple(seconds))

    def quotient(self, x: Series, y: Series) -> Series:
        """Returns the quotient q from x = q y, solved for the parts of q."""
        q = x.value / y.value
        over = 1 / y.value

        def part(a: Any, b: Any, crossed: Any = None) -> Any:
            rest = plus(None if b is None else q * b, crossed)
            if rest is None:
                return None if a is None else a * over
            return -rest * over if a is None else (a - rest) * over

        first = None
        if x.first is not None or y.first is not None:
            first = self.layout.each(lambda t, u: [part(t, u)], x.first, y.first)[0]
        seconds = []
        for form, a, b in zip(self.forms, x.second, y.second):
            crossed = None
            if first is not None and y.first is not None:
                crossed = self._crossed(form, jnp.multiply, first, y.first)
            seconds.append(part(a, b, crossed))
        return Series(q, first, tuple(seconds))

    def unary(self, name: str, bind: Bind, x: Series, kink: str | None) -> Series:
        """Returns f(x), with f' D x and f' S x + f'' Σ c t_i t_j."""
        value, slope, curve = _slopes(name, bind, x.value, bool(self.forms))
        if kink is not None and curve is None and self.forms:
            self.kinks.append(kink)
        [first] = self._first(lambda t: [slope * t], [x], 1)
        seconds = []
        for form, s in zip(self.forms, x.second):
            total = None if s is None else slope * s
            if curve is not None and x.first is not None:
                square = self.layout.sum(form, jnp.multiply, x.first, x.first)
                total = plus(total, None if square is None else curve * square)
            seconds.append(total)
        return Series(value, first, tuple(seconds))

    def kinked(self, name: str, bind: Bind, xs: list[Series]) -> list[Any]:
        """Applies a map that is linear near almost every point as a linear one."""
        self.corners.append(name)
        values = [x.value for x in xs]
        floats = floating(bind, values)

        def along(*tangents: Any) -> list:
            return jax.jvp(floats, tuple(values), tangents)[1]

        return restore(bind, values, self.linear(floats, along, xs))

    def general(self, bind: Bind, xs: list[Series]) -> list[Any]:
        """Applies any primitive: by jvp for the tangents, by jvp of jvp for each pair."""
        values = tuple(x.value for x in xs)
        floats = floating(bind, values)

        def along(*parts: Any) -> list:
            tangents = tuple(written(t, v) for t, v in zip(parts, values))
            return jax.jvp(floats, values, tangents)[1]

        def twice(t: tuple, u: tuple) -> list:
            return jax.jvp(lambda *v: jax.jvp(floats, v, t)[1], values, u)[1]

        outputs = floats(*values)
        firsts = self._first(along, xs, len(outputs))
        tangents = [
            x.first if x.first is not None else self.layout.zeros(x.value, self.k)
            for x in xs
        ]
        seconds = []
        for f, form in enumerate(self.forms):
            parts = [x.second[f] for x in xs]
            total = self._pairs(form, twice, tangents, values)
            if any(part is not None for part in parts):
                total = [plus(a, b) for a, b in zip(along(*parts), total)]
            seconds.append(total)
        return restore(bind, values, self._series(outputs, firsts, seconds))

    def fill(self, x: Any, like: Any) -> Any:
        """Fills x with explicit zeros where ``like`` has more than symbolic ones."""
        if not isinstance(like, Series):
            return x
        if not isinstance(x, Series):
            x = self.constant(x)
        first = x.first
        if first is None and like.first is not None:
            first = self.layout.zeros(x.value, self.k)
        second = tuple(
            jnp.zeros(x.value.shape, x.value.dtype)
            if a is None and b is not None
            else a
            for a, b in zip(x.second, like.second)
        )
        return Series(x.value, first, second)

    def scanned(self, x: Any) -> Any:
        """Moves the axis that is scanned in front of the tangents'."""
        return self._moved(x, 0, 1)

    def unscanned(self, x: Any) -> Any:
        """Moves the tangents' axis back to the front."""
        return self._moved(x, 1, 0)

    def _moved(self, x: Any, source: int, target: int) -> Any:
        if not isinstance(x, Series) or x.first is None:
            return x
        return x._replace(first=self.layout.move(x.first, source, target))

    def _first(self, part: Callable[..., list], xs: list[Series], outputs: int) -> list:
        if all(x.first is None for x in xs):
            return [None] * outputs
        return self.layout.each(part, *(x.first for x in xs))

    def _crossed(self, form: Form, times: Callable, a: Any, b: Any) -> Any:
        """Sums c (B(a_i, b_j) + B(a_j, b_i)) over the form's pairs."""
        if form.left == form.right:
            total = self.layout.sum(form, times, a, b)
            return None if total is None else 2 * total
        swapped = form._replace(left=form.right, right=form.left)
        return plus(
            self.layout.sum(form, times, a, b), self.layout.sum(swapped, times, a, b)
        )

    def _pairs(self, form: Form, twice: Callable, firsts: list, values: tuple) -> list:
        """Sums c D²f[t_i, t_j] for tangents of several operands at once."""
        if isinstance(self.layout, Stacked):
            left = [_pick(first, form.left) for first in firsts]
            right = [_pick(first, form.right) for first in firsts]
            terms = jax.vmap(lambda t, u: twice(tuple(t), tuple(u)))(left, right)
            return [_total(form, t) for t in terms]
        total: list[Any] = []
        for p, (i, j) in enumerate(zip(form.left, form.right)):
            t, u = (
                tuple(written(first[n], v) for first, v in zip(firsts, values))
                for n in (i, j)
            )
            terms = [weighed(form, p, term) for term in twice(t, u)]
            total = [plus(a, b) for a, b in zip(total, terms)] if total else terms
        return total

    def _series(self, values: list, firsts: list, seconds: list) -> list[Any]:
        return [
            Series(value, first, tuple(None if s is None else s[o] for s in seconds))
            for o, (value, first) in enumerate(zip(values, firsts))
        ]


def plus(a: Any, b: Any) -> Any:
    """Returns the sum of two parts, where None is zero."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def written(part: Any, value: jax.Array) -> jax.Array:
    """Returns the part of a series of that value, a symbolic zero written out."""
    return jnp.zeros_like(value) if part is None else part


def _pick(stacked: jax.Array, indices: tuple[int, ...]) -> jax.Array:
    whole = indices == tuple(range(len(stacked)))
    return stacked if whole else stacked[np.array(indices)]


def _total(form: Form, terms: jax.Array) -> jax.Array:
    """Returns the weighted sum over the first axis, that of the pairs."""
    # This is no matrix product, because accelerators round its operands by default.
    if form.weights is not None:
        weights = jnp.asarray(form.weights, terms.dtype)
        terms = terms * weights.reshape(-1, *[1] * (terms.ndim - 1))
    return jnp.sum(terms, axis=0)


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
        return jax.jvp(lambda x: bind(x)[0], (x,), (one,))

    if not twice:
        return *once(x), None

    def slope(x: jax.Array) -> jax.Array:
        return once(x)[1]

    if _is_constant(slope, x):
        return *once(x), None
    value, slope_ = once(x)
    return value, slope_, jax.jvp(slope, (x,), (one,))[1]


def _is_constant(f: Callable, x: jax.Array) -> bool:
    """Returns whether the derivative of f is known to be zero, as that of relu's slope."""
    jaxpr = jax.make_jaxpr(lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1])(x).jaxpr
    [out] = jaxpr.outvars
    for eqn in jaxpr.eqns:
        # A known zero is written out as a literal, broadcast to its shape.
        if out in eqn.outvars and eqn.primitive.name == "broadcast_in_dim":
            out = eqn.invars[0]
    return isinstance(out, Literal) and not np.any(out.val)
