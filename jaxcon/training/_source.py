"""Sources of batches: a stream, a function, or one batch for all steps."""

import inspect
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_key, described, inside
from jaxcon.primal_dual import PrimalDualState

_FORMS = (
    "pass one batch of arrays, an iterator of batches (e.g. iter(loader)) or a function "
    "(key) -> batch"
)


class Source:
    """Source of the batches of a run."""

    def __init__(self, batches: Any, key: jax.Array | None):
        self.streamed = isinstance(batches, Iterator)
        self.draw: Any = None  # (key, state) -> batch
        if callable(batches) and not self.streamed:
            known = isinstance(batches, Hashable)
            self.draw = (_drawing if known else _drawing.__wrapped__)(batches)
        if key is not None:
            check_key("key", key)
        self.key = key if self.draw is not None else None
        self.batches: Any = batches
        self.fixed = self.draw is None and not self.streamed  # one batch for all
        self.first: Any = None  # of a stream, once read
        # Of a stream: structure, paths, shapes and types of its batches; and an error
        # that waits until the batches before it are used.
        self._like: Any = None
        self._pending: Exception | None = None
        if self.draw is not None and key is None:
            raise TypeError(
                "batches is a function of a key: pass key=jax.random.key(0)"
            )
        if self.fixed:
            _check_one("batches", batches)
            _check_leaves("batches", batches)
            # Once to the device, not once a chunk.
            self.batches = jax.tree.map(
                lambda leaf: (
                    jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf
                ),
                batches,
            )

    def example(self, params: Any) -> Any:
        """Returns a batch like those of the run, to build a state with.

        Args:
            params: theta; a function of the state may read them and the step.

        Returns:
            A batch; of a stream the first one, which is read again.
        """
        if self.fixed:
            return self.batches
        if self.streamed:
            first = self.peek()
            if not first:
                raise ValueError("batches is an iterator without any batch")
            return first[0]
        nothing: Any = [None] * (len(PrimalDualState._fields) - 1)
        zero = jnp.zeros((), jnp.int32)
        state = PrimalDualState(params, *nothing)._replace(step=zero, skipped=zero)
        return self.draw(self.key, state)

    def peek(self) -> list[Any]:
        """Returns the next batch of a stream, which is read again; [] at its end."""
        first = list(islice(self.batches, 1))
        self.batches = chain(first, self.batches)
        for batch in first:
            _check_leaves("the first of batches", batch)
        return first

    def skip(self, count: int) -> None:
        """Passes over the batches of steps already taken."""
        if self.streamed:
            for _ in islice(self.batches, count):
                pass

    def at(self, data: Any, row: int, state: PrimalDualState) -> Any:
        """Returns the batch of one row of a chunk's data."""
        return batch_at(self.draw, self.streamed, data, self.key, row, state)

    def read(self, count: int, length: int) -> tuple[Any, int]:
        """Reads data for up to `count` steps, and counts those it is enough for."""
        if self.draw is not None:
            return None, count
        if not self.streamed:
            return self.batches, count
        rows = self._next(count)
        if not rows:
            return None, 0
        # Padded to the full length, a shorter last chunk runs the same program.
        padded = rows + rows[-1:] * (length - len(rows))
        stacked = jax.tree.map(_stack, *padded)
        if self.first is None:
            self.first = jax.tree.map(lambda rows: rows[0], stacked)
        return stacked, len(rows)

    def _next(self, count: int) -> list[Any]:
        """Reads up to `count` batches; one that is wrong ends them, then raises."""
        if self._pending is not None:
            raise self._pending
        rows: list[Any] = []
        try:
            for batch in islice(self.batches, count):
                self._check_like(batch)
                rows.append(batch)
        except Exception as error:
            if not rows:
                raise
            self._pending = error
        return rows

    def _check_like(self, batch: Any) -> None:
        """Refuses a batch of another structure or shape than the first."""
        leaves, tree = jax.tree.flatten(batch)
        # For each leaf a kind that is quick to compare.
        kinds = [(type(leaf), getattr(leaf, "dtype", None)) for leaf in leaves]
        shapes = [np.shape(leaf) for leaf in leaves]
        if self._like == (tree, shapes, kinds):
            return
        _check_leaves("a batch", batch)
        if self._like is None:
            self._like = tree, shapes, kinds
            return
        if tree != self._like[0]:
            raise ValueError(
                "a batch changes structure during the run, from "
                f"{_brief(self._like[0])} to {_brief(tree)}"
            )
        paths = jax.tree_util.tree_leaves_with_path(batch)
        for (path, _), was, shape in zip(paths, self._like[1], shapes):
            if shape != was:
                raise ValueError(
                    f"batch{jax.tree_util.keystr(path)} changes shape during the run, "
                    f"from {was} to {shape}; drop the smaller last batch, or pad it"
                )


def batch_at(
    draw: Any, streamed: bool, data: Any, key: Any, row: Any, state: PrimalDualState
) -> Any:
    """Returns the batch of one step.

    Args:
        draw: (key, state) -> batch; or None.
        streamed: whether `data` hold one batch for each row.
        data: what was read for a chunk.
        key: that batches are drawn from.
        row: of the chunk.
        state: before the step.

    Returns:
        A batch.
    """
    if draw is not None:
        # Folding the step into the key makes a resumed run draw the same batches.
        return draw(jax.random.fold_in(key, state.step), state)
    return jax.tree.map(lambda rows: rows[row], data) if streamed else data


@lru_cache(maxsize=16)  # a second fit finds the same function, and its program
def _drawing(batches: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """Returns a function of a key as one of (key, state), its batches checked."""
    name = getattr(batches, "__name__", type(batches).__name__)
    if inspect.isgeneratorfunction(batches):
        raise TypeError(f"batches is a generator function: pass {name}()")
    given = _positional(batches)
    if given not in (1, 2):
        raise TypeError(
            "batches must be a function (key) -> batch or (key, state) -> batch, got "
            f"{name}, which cannot be called with one or two arguments"
        )

    def draw(key: Any, state: Any) -> Any:
        with inside(f"batches, the function {name}"):
            batch = batches(*(key, state)[:given])
        _check_leaves(f"what {name} returned", batch)
        return batch

    return draw


def _positional(function: Callable[..., Any]) -> int:
    """Counts the arguments that a function of one or two requires; 0 for any other."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without a signature
        return 1
    for given in (1, 2):
        try:
            signature.bind(*[None] * given)
        except TypeError:
            continue
        return given
    return 0


def _check_one(name: str, batches: Any) -> None:
    """Refuses a list of batches, which would be read as one batch."""
    if type(batches) not in (list, tuple):
        return
    if not batches:
        raise ValueError(f"{name} is an empty {type(batches).__name__}; {_FORMS}")
    first, *others = map(jax.tree.structure, batches)
    shapes = [list(map(np.shape, jax.tree.leaves(part))) for part in batches]
    trailing = [[shape[1:] for shape in part] for part in shapes]
    alike = all(one == first for one in others)
    whole = not jax.tree_util.treedef_is_leaf(first)
    if type(batches) is tuple:
        # (x, y) is one batch, and so are inner and boundary points of other numbers.
        many = alike and whole and all(part == shapes[0] for part in shapes)
    else:
        many = alike and (
            whole
            or (len(batches) > 1 and all(part == trailing[0] for part in trailing))
        )
    if many:
        raise ValueError(
            f"{name} is a {type(batches).__name__} of {len(batches)} parts alike, which "
            f"may be batches or parts of one: pass iter({name}) for one a step "
            f"(itertools.cycle({name}) to repeat them), or a dict of its parts for one "
            "batch"
        )


def _check_leaves(name: str, batch: Any) -> None:
    """Refuses a batch that holds anything but arrays of numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        where = f"{name}{jax.tree_util.keystr(path)}"
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, int, float)):
            raise TypeError(f"{where} is {described(leaf)}; {_FORMS}")
        dtype = jnp.result_type(leaf) if isinstance(leaf, jax.Array) else None
        if isinstance(leaf, (np.ndarray, np.generic)):
            dtype = leaf.dtype
        numbers = (np.number, np.bool_, jax.dtypes.extended)
        if dtype is not None and not any(jnp.issubdtype(dtype, one) for one in numbers):
            raise TypeError(
                f"{where} is an array of type {dtype}; it must hold numbers"
            )


def _brief(tree: Any) -> str:
    text = str(tree).removeprefix("PyTreeDef(")[:-1]
    return text if len(text) <= 80 else f"{text[:77]}..."


def _stack(*leaves: Any) -> Any:
    keys = isinstance(leaves[0], jax.Array) and jnp.issubdtype(
        leaves[0].dtype, jax.dtypes.prng_key
    )
    return jnp.stack(leaves) if keys else np.stack(leaves)
