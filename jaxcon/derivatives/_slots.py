"""Stacked tangents of which few differ from zero in each entry, held in as few slots.

The tangents of a distance between two particles differ from zero in six of all
coordinates. Where it is known when f is traced which ones do, entry by entry, they take
the first six slots of one array, in the order of their numbers, and none of the others is
computed with. Functions of each entry keep the slots; so do sums over entries that depend
on the same inputs. All else, and whatever depends on most inputs, is written out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.derivatives._equations import Bind, Product, Reach
from jaxcon.derivatives._layouts import Form, Stacked
from jaxcon.derivatives._streams import Series, Streams
from jaxcon.derivatives._zeros import (
    LIMIT,
    Dot,
    Entrywise,
    Support,
    as_part,
    dense,
    joined,
    narrowed,
    spread,
    varying,
)


@jax.tree_util.register_pytree_node_class
class Slots:
    """Tangents in slots: slot s of an entry is the s-th of its support."""

    def __init__(self, array: Any, support: Support):
        self.array, self.support = array, support

    def tree_flatten(self) -> tuple[tuple[Any], Any]:
        """Returns the array, and the support as what is equal in equal structures."""
        return (self.array,), (self.support.tobytes(), self.support.shape)

    @classmethod
    def tree_unflatten(cls, known: Any, leaves: tuple[Any]) -> "Slots":
        """Restores what `tree_flatten` returned."""
        raw, shape = known
        return cls(leaves[0], np.frombuffer(raw, bool).reshape(shape))


def of_known(directions: np.ndarray, x: jax.Array) -> Slots | None:
    """Returns directions of x, known by number, in slots; None if that does not pay."""
    support = directions != 0
    if not _pays(support):
        return None
    array = np.zeros((width(support), *x.shape), directions.dtype)
    rows, entries = np.nonzero(support)
    array[_numbers(support)[rows, entries], entries] = directions[rows, entries]
    return Slots(varying(jnp.asarray(array), x), support)


def width(support: Support) -> int:
    """Returns how many slots a support takes."""
    return int(support.sum(axis=0).max(initial=0))


def _pays(support: Support | None) -> bool:
    """Returns whether slots hold at most half of what stacked tangents would."""
    if support is None or support.size > LIMIT:
        return False
    return 0 < 2 * width(support) <= len(support)


def _numbers(support: Support) -> np.ndarray:
    """Returns the slot of each tangent, entry by entry, where it has one."""
    return np.cumsum(support, axis=0) - 1


def moved(slots: Slots, support: Support) -> tuple[jax.Array, Support]:
    """Returns the array in the slots of a larger support, and where it is not zero."""
    slots = _broadcast(slots, support.shape[1:])
    count = width(support)
    if np.array_equal(slots.support, support):
        filled = np.arange(count)[(..., *[None] * (support.ndim - 1))]
        return slots.array, filled < support.sum(axis=0)
    where = np.nonzero(slots.support)
    source = np.full((count, *support.shape[1:]), -1)
    source[(_numbers(support)[where], *where[1:])] = _numbers(slots.support)[where]
    return _selected(slots.array, source), source >= 0


def _broadcast(slots: Slots, shape: tuple[int, ...]) -> Slots:
    if slots.support.shape[1:] == shape:
        return slots
    array = slots.array
    array = array.reshape(len(array), *(array.shape[1:] or [1] * len(shape)))
    array = jnp.broadcast_to(array, (len(array), *shape))
    return Slots(array, spread(slots.support, shape))


def _selected(array: jax.Array, source: np.ndarray) -> jax.Array:
    """Returns in each place of a first axis the row of the array named, 0 for -1."""
    rows = jnp.concatenate([array, jnp.zeros_like(array[:1])])
    named = np.where(source < 0, len(array), source).astype(np.int32)
    # An axis along which nothing changes needs no places of its own.
    few = narrowed(named)
    places = np.broadcast_to(few, (len(named), *few.shape[1:]))
    return jnp.take_along_axis(rows, jnp.asarray(places), axis=0, mode="clip")


def written_out(x: Any) -> Any:
    """Returns a series with its tangents as one array of all."""
    if not (isinstance(x, Series) and isinstance(x.first, Slots)):
        return x
    support = x.first.support
    array, _ = moved(x.first, np.ones_like(support))
    return x._replace(first=as_part(array, support))


class SlotStreams(Streams):
    """Algebra of stacked tangents, in slots as long as that pays."""

    def __init__(self, k: int, forms: tuple[Form, ...]):
        super().__init__(k, forms, Stacked())

    def linear(
        self, bind: Bind, apply: Bind, xs: list[Series], reach: Reach
    ) -> list[Any]:
        """Applies the linear map to every slot, if it mixes none."""
        supports = _supports(xs)
        found = None if supports is None else reach.slots(supports)
        if found is None or not all(map(_pays, [*_present(found[0]), *found[1]])):
            return super().linear(bind, apply, list(map(written_out, xs)), reach)
        outputs = super().linear(
            bind, apply, [x._replace(first=None) for x in xs], reach
        )
        count = max(map(width, _present(found[0])))
        arrays = [
            _zeros(count, x) if support is None else _padded(x, support, count)
            for x, support in zip(xs, found[0])
        ]
        return [
            y._replace(first=Slots(array[: width(support)], support))
            for y, array, support in zip(outputs, jax.vmap(apply)(*arrays), found[1])
        ]

    def bilinear(self, product: Product, x: Series, y: Series) -> Series:
        """Multiplies in every slot, if entries alike are multiplied or one is held."""
        if isinstance(product, Entrywise):

            def multiplied(algebra: Streams, xs: list[Series]) -> list[Any]:
                return [Streams.bilinear(algebra, product, *xs)]

            return self._in_slots([x, y], multiplied)[0]
        if isinstance(product, Dot) and not (self.varies(x) and self.varies(y)):
            found = self._times_constant(product, x, y)
            if found is not None:
                return found
        return super().bilinear(product, written_out(x), written_out(y))

    def _times_constant(self, product: Dot, x: Series, y: Series) -> Series | None:
        side = 0 if self.varies(x) else 1
        first = (x, y)[side].first
        if not isinstance(first, Slots):
            return None
        axes = tuple(n + 1 for n in product.contracted[side])
        alike = first.support.any(axis=axes, keepdims=True)
        support = np.broadcast_to(alike, first.support.shape)
        other = np.ones((1, *(y, x)[side].value.shape), bool)
        reached = product.reached([other, support] if side else [support, other])
        if not (_pays(support) and _pays(reached)):
            return None
        array, _ = moved(first, support)
        held = (y, x)[side].value
        operands = (held, array) if side else (array, held)
        moving = jax.vmap(product.bind, (None, 0) if side else (0, None))(*operands)
        assert reached is not None
        rest = Streams.bilinear(
            self, product, *(z._replace(first=None) for z in (x, y))
        )
        return rest._replace(first=Slots(moving, reached))

    def quotient(self, x: Series, y: Series) -> Series:
        """Divides in every slot."""

        def divided(algebra: Streams, xs: list[Series]) -> list[Any]:
            return [Streams.quotient(algebra, *xs)]

        return self._in_slots([x, y], divided)[0]

    def unary(self, name: str, bind: Bind, x: Series, kink: str | None) -> Series:
        """Applies a function of each entry in every slot."""

        def applied(algebra: Streams, xs: list[Series]) -> list[Any]:
            return [Streams.unary(algebra, name, bind, xs[0], kink)]

        return self._in_slots([x], applied)[0]

    def kinked(
        self, name: str, bind: Bind, xs: list[Series], reach: Reach
    ) -> list[Any]:
        """Applies a map that is linear near almost every point."""
        return super().kinked(name, bind, list(map(written_out, xs)), reach)

    def general(
        self, bind: Bind, xs: list[Series], reach: Reach, entrywise: bool
    ) -> list[Any]:
        """Applies any primitive, in every slot if it mixes no entries."""
        if not entrywise:
            return super().general(bind, list(map(written_out, xs)), reach, False)

        def applied(algebra: Streams, xs: list[Series]) -> list[Any]:
            return Streams.general(algebra, bind, xs, reach, True)

        return self._in_slots(xs, applied)

    def solution(
        self, values: list[Any], image: Callable, target: list[Any], solve: Bind
    ) -> list[Any]:
        """Returns ys of these values whose image is the target."""

        def written(ys: list[Any]) -> list[Any]:
            return list(map(written_out, image(ys)))

        return super().solution(values, written, list(map(written_out, target)), solve)

    def fill(self, x: Any, like: Any) -> Any:
        """Fills x with explicit zeros where ``like`` has more than symbolic ones."""
        return super().fill(written_out(x), like)

    def scanned(self, x: Any) -> Any:
        """Moves the axis that is scanned in front of the tangents'."""
        return super().scanned(written_out(x))

    def written_out(self, x: Any) -> Any:
        """Returns x with its tangents as one array."""
        return written_out(x)

    def _in_slots(self, xs: list[Series], apply: Callable) -> list[Any]:
        """Applies a function of like entries as if each slot were one tangent."""
        supports = _supports(xs)
        total = None
        if supports is not None:
            shape = np.broadcast_shapes(*(x.value.shape for x in xs))
            total = spread(joined(_present(supports)), shape)  # pyright: ignore
        forms = self._forms(total)
        if forms is None or total is None or not _pays(total):
            return apply(self, list(map(written_out, xs)))
        algebra = Streams(width(total), forms, Stacked())
        algebra.kinks, algebra.corners = self.kinks, self.corners
        parts = []
        for x in xs:
            first = None
            if x.first is not None:
                first = as_part(*moved(x.first, total))
            parts.append(x._replace(first=first))
        return [
            y
            if not isinstance(y, Series) or y.first is None
            else y._replace(first=Slots(dense(y.first), total))
            for y in apply(algebra, parts)
        ]

    def _forms(self, support: Support | None) -> tuple[Form, ...] | None:
        """Returns the forms of the slots; None if some form pairs unlike tangents."""
        if support is None or any(form.left != form.right for form in self.forms):
            return None
        places = tuple(range(width(support)))
        found = []
        for form in self.forms:
            weights = None
            if form.weights is not None or form.left != tuple(range(self.k)):
                given = 1.0 if form.weights is None else form.weights
                each = jnp.zeros(self.k, jnp.result_type(given))
                each = each.at[np.array(form.left)].add(given)
                weights = each[_tangents(support)]
            found.append(Form(places, places, weights))
        return tuple(found)


def _tangents(support: Support) -> np.ndarray:
    """Returns the number of the tangent in each slot, 0 where the slot is empty."""
    where = np.nonzero(support)
    found = np.zeros((width(support), *support.shape[1:]), np.int32)
    found[(_numbers(support)[where], *where[1:])] = where[0]
    return found


def _supports(xs: Sequence[Series]) -> list[Support | None] | None:
    """Returns those of tangents in slots, None for no tangents; None if some are not."""
    firsts = [x.first for x in xs]
    if not any(isinstance(first, Slots) for first in firsts):
        return None
    if not all(first is None or isinstance(first, Slots) for first in firsts):
        return None
    return [None if first is None else first.support for first in firsts]


def _present(supports: Sequence[Support | None]) -> list[Support]:
    return [support for support in supports if support is not None]


def _padded(x: Series, support: Support, count: int) -> jax.Array:
    array, _ = moved(x.first, support)
    empty = [(0, count - len(array)), *[(0, 0)] * (array.ndim - 1)]
    return jnp.pad(array, empty)


def _zeros(count: int, x: Series) -> jax.Array:
    return jnp.zeros((count, *x.value.shape), x.value.dtype)
