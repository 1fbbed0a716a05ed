r"""Derivatives of enclosed arrays.

A jet is an array with its derivatives along directions :math:`v_0, v_1, \dots` of x, by
the numbers of these directions: ``()`` is the array itself, ``(0,)`` its derivative
along v_0, ``(0, 1)`` that along v_0 and v_1. What is absent is zero. The rules are those of
Leibniz and Faà di Bruno; the arithmetic is that of an algebra of numbers, `Forward` or
`Replay`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import jax.numpy as jnp

from jaxcon.certify._curves import Curve
from jaxcon.certify._functions import power

Key = tuple[int, ...]
Array = Any
Bind = Callable[..., Any]


class Jet(dict[Key, Any]):
    """Numbers of an array and of its derivatives, by key."""

    @property
    def value(self) -> Any:
        """The number of the array itself."""
        return self[()]

    def by(self, shift: Key) -> "Jet":
        """Returns the jet of the derivative along some directions."""
        if not shift:
            return self
        left = Counter(shift)
        found = Jet()
        for key, number in self.items():
            if not left - Counter(key):
                found[tuple(sorted((Counter(key) - left).elements()))] = number
        return found


def closed(keys: Sequence[Key]) -> tuple[Key, ...]:
    """Returns the keys of all derivatives that those of some keys are made of.

    Args:
        keys: any order within each.

    Returns:
        Sorted keys, those of lower order first.
    """
    found = {
        tuple(sorted(part))
        for key in keys
        for size in range(len(key) + 1)
        for part in combinations(key, size)
    }
    return tuple(sorted(found | {()}, key=lambda key: (len(key), key)))


class Jets:
    """Rules of jets over an algebra of numbers.

    Attributes:
        numbers: the algebra.
        keys: of the derivatives that are carried.
        expanded: some of them are those of an expansion, which must be true ones.
    """

    def __init__(self, numbers: Any, keys: Sequence[Key], expanded: bool = False):
        self.numbers, self.keys, self.expanded = numbers, closed(keys), expanded

    def variable(self, x: Any, directions: Array) -> Jet:
        """Returns the jet of x itself.

        Args:
            x: its number.
            directions: (n, d).

        Returns:
            x with derivative v_n along direction n.
        """
        jet = Jet({(): x})
        for key in self.keys:
            if len(key) == 1:
                jet[key] = self.numbers.exact(directions[key[0]])
        return jet

    def moved(self, bind: Bind, xs: Sequence[Any], terms: int) -> Jet:
        """Moves entries of jets and arrays."""
        return self._linear(xs, lambda parts: self.numbers.moved(bind, parts, terms))

    def linear(self, bind: Bind, absolute: Bind, xs: Sequence[Any], terms: int) -> Jet:
        """Applies an operation that is linear in jets and arrays together."""
        return self._linear(
            xs, lambda parts: self.numbers.linear(bind, absolute, parts, terms)
        )

    def added(self, xs: Sequence[Any], shape: tuple[int, ...], copies: int) -> Jet:
        """Adds jets and arrays, whose sum has a shape."""
        result = Jet()
        for key in self.keys:
            parts = [self._part(x, key) for x in xs]
            known = [part for part in parts if part is not None]
            if len(known) == 1 and _shape(known[0]) == shape:
                result[key] = known[0]
            elif known:
                filled = [
                    self.numbers.exact(_zeros(x)) if part is None else part
                    for x, part in zip(xs, parts)
                ]
                result[key] = self.numbers.linear(_add, _add, filled, 2 + copies)
        return result

    def _linear(self, xs: Sequence[Any], apply: Callable[[list[Any]], Any]) -> Jet:
        result = Jet()
        for key in self.keys:
            parts = [self._part(x, key) for x in xs]
            if any(part is not None for part in parts):
                result[key] = apply(
                    [
                        self.numbers.exact(_zeros(x)) if part is None else part
                        for x, part in zip(xs, parts)
                    ]
                )
        return result

    def _part(self, x: Any, key: Key) -> Any:
        if isinstance(x, Jet):
            return x.get(key)
        return self.numbers.exact(x) if key == () else None

    def sum(self, parts: Sequence[Any]) -> Any:
        """Adds numbers."""
        if len(parts) == 1:
            return parts[0]
        return self.numbers.linear(_add, _add, parts, len(parts))

    def product(self, bind: Bind, x: Jet, y: Jet, terms: int) -> Jet:
        r"""Multiplies two jets: :math:`(x y)_K = \sum_{A \subseteq K} x_A y_{K - A}`."""
        result = Jet()
        for key in self.keys:
            found = [
                self.numbers.product(bind, x[a], y[b], terms)
                for a, b in _splits(key)
                if a in x and b in y
            ]
            if found:
                result[key] = self.sum(found)
        return result

    def unary(self, curve: Curve, x: Jet) -> Jet:
        r"""Applies an elementary function.

        .. math::
            f(x)_K = \sum_{\pi} f^{(|\pi|)}(x) \prod_{B \in \pi} x_B

        over the partitions of the positions of K.
        """
        slopes: dict[int, Any] = {}
        products: dict[tuple[Key, ...], Any] = {}

        def slope(order: int) -> Any:
            if order not in slopes:
                slopes[order] = self.numbers.unary(curve, order, x.value)
            return slopes[order]

        def product(blocks: tuple[Key, ...]) -> Any:
            if len(blocks) == 1:
                return x[blocks[0]]
            if blocks not in products:
                if len(blocks) == 2 and blocks[0] == blocks[1]:
                    products[blocks] = self.numbers.unary(SQUARE, 0, x[blocks[0]])
                else:
                    products[blocks] = self.numbers.product(
                        _multiply, product(blocks[:-1]), x[blocks[-1]], 1
                    )
            return products[blocks]

        result = Jet({(): slope(0)})
        for key in self.keys[1:]:
            found = []
            for blocks, times in Counter(_partitions(key)).items():
                if all(block in x for block in blocks):
                    term = self.numbers.product(
                        _multiply, slope(len(blocks)), product(blocks), 1
                    )
                    found += [term] * times
            if found:
                result[key] = self.sum(found)
        return result

    def at_least(self, x: Jet, lower: Any) -> Jet:
        """Returns a jet with a lower bound of its value that is known from elsewhere."""
        return Jet({**x, (): self.numbers.at_least(x.value, lower)})

    def interval(self, x: Any) -> tuple[Array, Array]:
        """Returns the bounds of a jet's value, or of an array."""
        return self.numbers.interval(x.value) if isinstance(x, Jet) else (x, x)

    def selected(self, true: Array, false: Array, x: Any, y: Any) -> Jet:
        """Selects x where a condition is true, y where it is false.

        Where it is not decided the value lies between both, and nothing is known of
        the derivatives: the selection may jump.
        """
        result = Jet()
        for key in self.keys:
            parts = [self._part(z, key) for z in (x, y)]
            filled = [
                self.numbers.exact(_zeros(z)) if part is None else part
                for z, part in zip((x, y), parts)
            ]
            result[key] = self.numbers.selected(true, false, *filled, key == ())
        return result


def _splits(key: Key) -> Iterator[tuple[Key, Key]]:
    """Yields the pairs of complementary parts of a key."""
    places = range(len(key))
    for size in range(len(key) + 1):
        for chosen in combinations(places, size):
            rest = tuple(key[i] for i in places if i not in chosen)
            yield tuple(key[i] for i in chosen), rest


def _partitions(key: Key) -> Iterator[tuple[Key, ...]]:
    """Yields the partitions of a key into blocks, each sorted."""
    if not key:
        yield ()
        return
    first, rest = key[0], key[1:]
    for size in range(len(rest) + 1):
        for chosen in combinations(range(len(rest)), size):
            block = (first, *(rest[i] for i in chosen))
            left = tuple(rest[i] for i in range(len(rest)) if i not in chosen)
            for others in _partitions(left):
                yield tuple(sorted((block, *others)))


def _shape(number: Any) -> tuple[int, ...]:
    return jnp.shape(getattr(number, "centre", number))


def _zeros(x: Any) -> Any:
    value = x.value if isinstance(x, Jet) else x
    return jnp.zeros(jnp.shape(getattr(value, "centre", value)), _dtype(value))


def _dtype(value: Any) -> Any:
    return jnp.result_type(getattr(value, "centre", value))


def _add(*xs: Any) -> Any:
    return sum(xs[1:], xs[0])


def _multiply(x: Any, y: Any) -> Any:
    return x * y


SQUARE = power(2)
