"""Layouts of several tangents: a tuple of small arrays, or one array of all.

Both hold parts: see `_zeros`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.derivatives._zeros import (
    Row,
    Sparse,
    Support,
    as_part,
    dense,
    plus,
    rows,
    scaled,
    union,
    written,
)


class Form(NamedTuple):
    """Sum of c D²y[t_i, t_j] over pairs of tangents, numbered from 0."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    weights: Any = None  # (pairs,), or None for ones


def weighed(form: Form, pair: int, term: Any) -> Any:
    """Returns one pair's term times its weight, in the term's own precision."""
    if form.weights is None or term is None:
        return term
    return scaled(term, jnp.asarray(form.weights[pair], dense(term).dtype))


class Unrolled:
    """Layout of tangents as a tuple of small arrays, each of which stays in the cache."""

    def __init__(self, row: Row = None):
        self.row = row  # of the program, if several are mapped over

    def each(self, f: Callable[..., list], *firsts: Any) -> list[Any]:
        """Returns each output's tangents; f maps a row and a part of each operand."""
        k = next(len(first) for first in firsts if first is not None)
        rows = zip(*((None,) * k if first is None else first for first in firsts))
        outputs = zip(*(f(self.row, *parts) for parts in rows))
        return [None if all(t is None for t in out) else out for out in outputs]

    def at_once(self, f: Callable[..., list], *firsts: Any) -> list[Any]:
        """Returns each output's tangents, dense ones, by one program for all of them."""
        k = next(len(first) for first in firsts if first is not None)
        rows = list(zip(*((None,) * k if first is None else first for first in firsts)))
        moving = [
            n for n, parts in enumerate(rows) if any(p is not None for p in parts)
        ]
        present = [[rows[n][i] for n in moving] for i in range(len(firsts))]
        stacks = [_stacked(parts) for parts in present]
        found = Stacked().each(f, *stacks)
        places = {n: place for place, n in enumerate(moving)}
        return [
            tuple(out[places[n]] if n in places else None for n in range(k))
            for out in found
        ]

    def sum(self, form: Form, f: Callable, a: Any, b: Any) -> Any:
        """Sums c f(row, a_i, b_j) over a form's pairs."""
        result = None
        for p, (i, j) in enumerate(zip(form.left, form.right)):
            result = plus(result, weighed(form, p, f(self.row, a[i], b[j])))
        return result

    def fill(self, first: Any, like: Any, value: jax.Array, k: int) -> Any:
        """Writes zeros out where ``like`` has fewer that are known."""
        if first is None and like is None:
            return None
        pairs = zip(first or (None,) * k, like or (None,) * k)
        return tuple(filled(t, u, value) for t, u in pairs)

    def written(self, first: Any, value: jax.Array, k: int) -> Any:
        """Returns the tangents, all zeros written out."""
        return tuple(written(t, value) for t in first or (None,) * k)

    def union(self, first: Any) -> Support | None:
        """Returns where some tangent may not be zero; None is everywhere."""
        return union(first)


class Stacked:
    """Layout of tangents as one array, their axis in front: one program size for all k."""

    row = None

    def each(self, f: Callable[..., list], *firsts: Any) -> list[Any]:
        """Returns each output's tangents; f maps a row and a part of each operand."""
        k = next(len(dense(first)) for first in firsts if first is not None)
        axes = [None if first is None else 0 for first in firsts]
        return jax.vmap(f, in_axes=(0, *axes))(rows(k), *firsts)

    def at_once(self, f: Callable[..., list], *firsts: Any) -> list[Any]:
        """Returns each output's tangents."""
        return self.each(f, *firsts)

    def sum(self, form: Form, f: Callable, a: Any, b: Any) -> Any:
        """Sums c f(row, a_i, b_j) over a form's pairs."""
        left, right = pick(a, form.left), pick(b, form.right)
        terms = jax.vmap(f)(rows(len(form.left)), left, right)
        return total_of(form, terms)

    def fill(self, first: Any, like: Any, value: jax.Array, k: int) -> Any:
        """Writes zeros out where ``like`` has fewer that are known."""
        if first is None and like is None:
            return None
        return filled(first, like, value, (k,))

    def written(self, first: Any, value: jax.Array, k: int) -> Any:
        """Returns the tangents, all zeros written out."""
        if first is None:
            return jnp.zeros((k, *value.shape), value.dtype)
        return dense(first)

    def union(self, first: Any) -> Support | None:
        """Returns where some tangent may not be zero; None is everywhere."""
        if not isinstance(first, Sparse):
            return None
        return first.support.any(axis=0, keepdims=True)


def _stacked(parts: list[Any]) -> Any:
    """Returns tangents, of which some may be zero, as one array, or None."""
    arrays = [dense(part) for part in parts if part is not None]
    if not arrays:
        return None
    zero = jnp.zeros_like(arrays[0])
    return jnp.stack([zero if part is None else dense(part) for part in parts])


def filled(part: Any, like: Any, value: jax.Array, lead: tuple[int, ...] = ()) -> Any:
    """Returns a part with only the zeros known that are known in ``like`` as well."""
    if part is None and like is None:
        return None
    if part is None:
        array = jnp.zeros((*lead, *value.shape), value.dtype)
        support = like.support if isinstance(like, Sparse) else None
    else:
        array, support = dense(part), union([part, like])
    return array if support is None else as_part(array, support)


def moved(part: Any, source: int, target: int) -> Any:
    """Moves an axis of a part's array, but of what is known of its zeros none."""
    array = jnp.moveaxis(dense(part), source, target)
    return Sparse(array, part.support) if isinstance(part, Sparse) else array


def pick(stacked: Any, indices: tuple[int, ...]) -> Any:
    """Returns some rows of a stacked part, in the order of the indices."""
    if indices == tuple(range(len(dense(stacked)))):
        return stacked
    index = np.array(indices)
    if isinstance(stacked, Sparse):
        support = stacked.support
        return Sparse(
            stacked.array[index], support if len(support) == 1 else support[index]
        )
    return stacked[index]


def total_of(form: Form, terms: Any) -> Any:
    """Returns the weighted sum over the first axis, that of the pairs."""
    if terms is None:
        return None
    array = dense(terms)
    # This is no matrix product, because accelerators round its operands by default.
    if form.weights is not None:
        weights = jnp.asarray(form.weights, array.dtype)
        array = array * weights.reshape(
            *weights.shape, *[1] * (array.ndim - weights.ndim)
        )
    total = jnp.sum(array, axis=0)
    if isinstance(terms, Sparse):
        return as_part(total, terms.support.any(axis=0, keepdims=True))
    return total
