"""Parts of a series, with the zeros in them that are known when f is traced.

A part is a tangent, a sum of second derivatives or a Taylor coefficient: an array, None
where all of it is zero, or a `Sparse` array, some entries of which are. A unit vector is
zero in the other inputs, and stays so through slices and functions of each entry. Such a
zero must not be multiplied: where another input's slope is infinite, as that of a square
root at zero, the product would be NaN, although the derivative is zero.

Zeros are known for several rows at once, the tangents that are stacked. The function
that is mapped over them by ``jax.vmap`` is given the number of its row; without a map
there is one row, and its number is None.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Row = jax.Array | None
Support = np.ndarray  # (rows, *shape of the value), True where a part may not be zero

LIMIT = 2**20  # the most entries of a support; beyond, zeros are numbers like others


@jax.tree_util.register_pytree_node_class
class Sparse:
    """Array with some entries known to be zero."""

    def __init__(self, array: Any, support: Support):
        self.array, self.support = array, support

    def tree_flatten(self) -> tuple[tuple[Any], Any]:
        """Returns the array, and the support as what is equal in equal structures."""
        return (self.array,), (self.support.tobytes(), self.support.shape)

    @classmethod
    def tree_unflatten(cls, known: Any, leaves: tuple[Any]) -> "Sparse":
        """Restores what `tree_flatten` returned."""
        raw, shape = known
        return cls(leaves[0], np.frombuffer(raw, bool).reshape(shape))


Part = Sparse | jax.Array | np.ndarray | None


def as_part(array: Any, support: Support | None) -> Any:
    """Returns an array as a part, with the support if that leaves anything out."""
    if support is None or support.size > LIMIT or support.all():
        return array
    return Sparse(array, support) if support.any() else None


def from_known(v: np.ndarray, x: jax.Array) -> Any:
    """Returns a direction of x whose numbers are known as a tangent, or several stacked."""
    return as_part(varying(jnp.asarray(v), x), (v != 0).reshape(-1, *x.shape))


def dense(part: Any) -> Any:
    """Returns the array of a part that is not None."""
    return part.array if isinstance(part, Sparse) else part


def written(part: Any, value: jax.Array) -> jax.Array:
    """Returns the array of a part of a series of that value."""
    return jnp.zeros_like(value) if part is None else dense(part)


def varying(x: Any, *likes: Any) -> Any:
    """Returns an array, varying over the devices of a shard_map as others of them do.

    There jax refuses operands of one equation that differ in this, and a loop whose
    carry starts alike on all devices and then differs.
    """
    missing = frozenset().union(*map(axes_of, likes)) - axes_of(x)
    if not missing:
        return x
    axes = tuple(sorted(missing))
    if hasattr(jax.lax, "pcast"):  # in newer versions of jax, in the place of pvary
        return jax.lax.pcast(x, axes, to="varying")
    return jax.lax.pvary(x, axes)  # pyright: ignore[reportAttributeAccessIssue]


def axes_of(x: Any) -> frozenset[str]:
    """Returns the axes of a shard_map over which an array or its type varies."""
    kind: Any = jax.typeof(x) if isinstance(x, jax.Array) else x
    # The attribute was another one in older versions of jax.
    newer = getattr(kind, "manual_axis_type", None)
    if newer is not None:
        return newer.varying
    return getattr(kind, "vma", None) or frozenset()


def support_of(value: Any, *parts: Any) -> Support | None:
    """Returns where any of a value's parts may not be zero; None if all are zero."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    support = union(present)
    return np.ones((1, *jnp.shape(value)), bool) if support is None else support


def slice_of_scan(a: Any) -> Any:
    """Returns a part, scanned along the first axis of its value, as each turn sees it."""
    return as_part(a.array, a.support.any(axis=1)) if isinstance(a, Sparse) else a


def stack_of_scan(a: Any, length: int) -> Any:
    """Returns a part that each turn of a scan has made, as its results are stacked."""
    if not isinstance(a, Sparse):
        return a
    return as_part(a.array, np.repeat(a.support[:, None], length, axis=1))


def union(parts: Sequence[Any]) -> Support | None:
    """Returns where any of the parts may not be zero; None stands for everywhere."""
    return joined(
        [getattr(each, "support", None) for each in parts if each is not None]
    )


def patterns(parts: Sequence[Any]) -> list[tuple[list[Any], Support | None]]:
    """Divides the entries of several operands by which of the operands vary there.

    A function of like entries, e.g. a power, may have an infinite slope in one operand
    where only the other varies.

    Args:
        parts: of the operands, all of one shape.

    Returns:
        For each set of operands their parts, None for the others, and the entries; None
        for all of them.
    """
    present = [n for n, each in enumerate(parts) if each is not None]
    known = [each.support for each in parts if isinstance(each, Sparse)]
    if len(present) < 2 or not known:
        return [(list(parts), union(parts))]
    everywhere = np.ones((1, *known[0].shape[1:]), bool)
    supports = {n: getattr(parts[n], "support", everywhere) for n in present}
    found = []
    for count in range(1, len(present) + 1):
        for chosen in itertools.combinations(present, count):
            here = everywhere
            for n, support in supports.items():
                here = here & (support if n in chosen else ~support)
            if here.any():
                kept = [part if n in chosen else None for n, part in enumerate(parts)]
                found.append((kept, here))
    return found


def joined(supports: Sequence[Support | None]) -> Support | None:
    """Returns the union of supports, of which None stands for everywhere."""
    total = supports[0] if supports else None
    for support in supports[1:]:
        if total is None or support is None:
            return None
        total = np.logical_or(*_aligned(total, support))
    return total


def spread(support: Support, shape: tuple[int, ...]) -> Support:
    """Returns the support of an operand as that of a result it is broadcast to."""
    support = support.reshape(len(support), *(support.shape[1:] or [1] * len(shape)))
    return np.broadcast_to(support, (len(support), *shape))


def _aligned(a: Support, b: Support) -> tuple[Support, Support]:
    shape = np.broadcast_shapes(a.shape[1:], b.shape[1:])
    return spread(a, shape), spread(b, shape)


def mask(support: Support, row: Row) -> Any:
    """Returns the support in one row, with axes of length one where it is constant."""
    support = narrowed(support)
    return support[0] if row is None or len(support) == 1 else jnp.asarray(support)[row]


def narrowed(support: np.ndarray) -> np.ndarray:
    """Returns an array with axes of length one where it does not change along them."""
    for axis, size in enumerate(support.shape):
        if size > 1:
            one = support.take([0], axis)
            support = one if (support == one).all() else support
    return support


def rows(count: int) -> np.ndarray:
    """Returns the numbers of rows, over which a program of one row is mapped."""
    return np.arange(count, dtype=np.uint32)  # without a sign: no number from the end


def restricted(x: Any, support: Support | None, row: Row) -> Any:
    """Returns x with entries outside the support replaced by one from inside.

    A function of each entry is then evaluated only where its slope is wanted.
    """
    if support is None or support.all() or jnp.shape(x) != support.shape[1:]:
        return x
    first = support.reshape(len(support), -1).argmax(axis=1)
    inside = jnp.ravel(x)[mask(first, row)]
    return jnp.where(mask(support, row), x, inside)


def plus(a: Any, b: Any) -> Any:
    """Returns the sum of two parts."""
    if a is None or b is None:
        return b if a is None else a
    total = dense(a) + dense(b)
    if isinstance(a, Sparse) and isinstance(b, Sparse):
        return as_part(total, np.logical_or(*_aligned(a.support, b.support)))
    return total


def scaled(a: Any, factor: Any) -> Any:
    """Returns a part times a number, or minus the part for -1."""
    if a is None:
        return None
    array = -dense(a) if isinstance(factor, int) and factor == -1 else factor * dense(a)
    return Sparse(array, a.support) if isinstance(a, Sparse) else array


def times(row: Row, a: Any, b: Any, bind: Callable = jnp.multiply) -> Any:
    """Returns the product of two parts, entry by entry; 0 times infinity is 0."""
    if a is None or b is None:
        return None
    if not isinstance(a, Sparse):
        if not isinstance(b, Sparse):
            return bind(a, b)
        return _sparse(bind(jnp.where(mask(b.support, row), a, 1), b.array), b.support)
    here = mask(a.support, row)
    if not isinstance(b, Sparse):
        return _sparse(bind(a.array, jnp.where(here, b, 1)), a.support)
    both = np.logical_and(*_aligned(a.support, b.support))
    if not both.any():
        return None
    here = mask(both, row)
    return _sparse(bind(jnp.where(here, a.array, 0), jnp.where(here, b.array, 1)), both)


def scaled_by(row: Row, a: Any, b: Any) -> Any:
    """Returns the product of a part and numbers that are finite."""
    if isinstance(a, Sparse):
        return Sparse(a.array * b, a.support)
    return None if a is None else a * b


def over(row: Row, a: Any, y: Any) -> Any:
    """Returns a part divided by a number, entry by entry; 0 over 0 is 0."""
    if isinstance(a, Sparse):
        here = mask(a.support, row)
        return _sparse(a.array / jnp.where(here, y, 1), a.support)
    return None if a is None else a / y


def _sparse(array: jax.Array, support: Support) -> Any:
    return as_part(array, spread(support, array.shape))


def cleared(row: Row, array: Any, support: Support | None) -> Any:
    """Returns an array as a part of that support, with zeros written outside it."""
    if support is None or support.all():
        return array
    if not support.any():
        return None
    return as_part(jnp.where(mask(support, row), array, 0), support)


class Entrywise:
    """Product of like entries."""

    def __init__(self, bind: Callable):
        self.bind = bind

    def __call__(self, row: Row, a: Any, b: Any, guarded: bool) -> Any:
        """Returns the product of two parts."""
        return times(row, a, b, self.bind)


class Dot:
    """Product of arrays by dot_general, summed only over entries that are not zero."""

    def __init__(self, bind: Callable, params: Any):
        self.bind = bind
        self.contracted, self.batched = params["dimension_numbers"]

    def __call__(self, row: Row, a: Any, b: Any, guarded: bool) -> Any:
        """Returns the product of two parts; ``guarded`` if either may be infinite."""
        if not (isinstance(a, Sparse) or isinstance(b, Sparse)):
            return self.bind(a, b)
        supports: list[Any] = [support_of(dense(x), x) for x in (a, b)]
        arrays = [dense(a), dense(b)]
        for axes in zip(*self.contracted):
            kept = [
                s.any(axis=tuple(n for n in range(s.ndim) if n != axis + 1))
                for s, axis in zip(supports, axes)
            ]
            both = kept[0] & kept[1]
            if not both.any():
                return None
            if not both.all():
                index = np.flatnonzero(both)
                supports = [s.take(index, x + 1) for s, x in zip(supports, axes)]
                arrays = [_take(array, index, x) for array, x in zip(arrays, axes)]
        if guarded or row is None:
            arrays = [
                self._guarded(row, arrays[n], supports[n], supports[1 - n], n)
                for n in (0, 1)
            ]
        return as_part(self.bind(*arrays), self.reached(supports))

    def _guarded(
        self, row: Row, array: Any, own: Support, other: Support, side: int
    ) -> Any:
        """Clears the entries that meet only zeros of the other operand."""
        mine = (*self.batched[side], *self.contracted[side])
        theirs = (*self.batched[1 - side], *self.contracted[1 - side])
        free = tuple(n + 1 for n in range(other.ndim - 1) if n not in theirs)
        met = other.any(axis=free)  # (rows, the axes in theirs, in the order of axes)
        order = np.argsort(np.argsort(theirs))
        met = met.transpose(0, *(int(n) + 1 for n in order))  # as listed in theirs
        if met.all():
            return array
        # The axes of mine, in their own order, with axes of length one between them.
        met = met.transpose(0, *(int(n) + 1 for n in np.argsort(mine)))
        shape = [n if axis in mine else 1 for axis, n in enumerate(jnp.shape(array))]
        met = met.reshape(len(met), *shape)
        return jnp.where(mask(met, row), array, 0)

    def reached(self, supports: list[Support]) -> Support | None:
        """Returns the support of the product: batch, free of a, free of b."""
        outs = []
        for s, mine, batched in zip(supports, self.contracted, self.batched):
            free = [n for n in range(s.ndim - 1) if n not in mine and n not in batched]
            s = s.transpose(
                0, *(n + 1 for n in (*batched, *free)), *(n + 1 for n in mine)
            )
            kept = 1 + len(batched) + len(free)
            outs.append((s.any(axis=tuple(range(kept, s.ndim))), len(batched)))
        (a, count), (b, _) = outs
        if a.size * math.prod(b.shape[1 + count :]) > LIMIT:
            return None
        a = a.reshape(*a.shape, *[1] * (b.ndim - 1 - count))
        b = b.reshape(
            *b.shape[: 1 + count], *[1] * (a.ndim - b.ndim), *b.shape[1 + count :]
        )
        return a & b


def _take(array: Any, index: np.ndarray, axis: int) -> Any:
    first, last = int(index[0]), int(index[-1]) + 1
    if len(index) == last - first:
        return jax.lax.slice_in_dim(jnp.asarray(array), first, last, axis=axis)
    return jnp.take(array, index, axis=axis, mode="clip", unique_indices=True)
