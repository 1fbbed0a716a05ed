"""Sources of batches: a stream, a function, or one batch for all steps."""

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.primal_dual import PrimalDualState


class Source:
    """Source of the batches of a run."""

    def __init__(self, batches: Any, key: jax.Array | None):
        self.streamed = isinstance(batches, Iterator)
        self.draw: Any = None  # (key, state) -> batch
        if callable(batches) and not self.streamed:
            self.draw = _drawing(batches)
        self.key = key if self.draw is not None else None
        self.batches: Any = batches
        self.fixed = self.draw is None and not self.streamed  # one batch for all
        self.first: Any = None  # of a stream, once read
        if self.draw is not None and key is None:
            raise TypeError(
                "batches is a function of a key: pass key=jax.random.key(0)"
            )
        if self.fixed:
            for leaf in jax.tree.leaves(batches):
                if not isinstance(
                    leaf, (jax.Array, np.ndarray, np.generic, int, float)
                ):
                    raise TypeError(
                        f"batches holds a {type(leaf).__name__}; pass one batch of arrays, "
                        "an iterator of batches (e.g. iter(loader)) or a function (key) "
                        "-> batch"
                    )

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
            first = next(self.batches, None)
            if first is None:
                raise ValueError("batches is an iterator without any batch")
            self.batches = chain([first], self.batches)
            return first
        nothing: Any = [None] * (len(PrimalDualState._fields) - 1)
        zero = jnp.zeros((), jnp.int32)
        state = PrimalDualState(params, *nothing)._replace(step=zero, skipped=zero)
        return self.draw(self.key, state)

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
        rows = list(islice(self.batches, count))
        if not rows:
            return None, 0
        # Padded to the full length, a shorter last chunk runs the same program.
        padded = rows + rows[-1:] * (length - len(rows))
        stacked = jax.tree.map_with_path(_stack, *padded)
        if self.first is None:
            self.first = jax.tree.map(lambda rows: rows[0], stacked)
        return stacked, len(rows)


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
    """Returns a function of a key as one of (key, state)."""
    try:
        parameters = inspect.signature(batches).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        parameters = []
    positional = [
        one
        for one in parameters
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        and one.default is one.empty
    ]
    if len(positional) > 1:
        return batches
    return lambda key, state: batches(key)


def _stack(path: Any, *leaves: Any) -> np.ndarray:
    for leaf in leaves:
        if np.shape(leaf) != np.shape(leaves[0]):
            raise ValueError(
                f"batch{jax.tree_util.keystr(path)} changes shape during the run, from "
                f"{np.shape(leaves[0])} to {np.shape(leaf)}; drop the smaller last "
                "batch, or pad it"
            )
    return np.stack(leaves)
