"""Where batches come from."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Source:
    """Where batches come from: a stream, a function of a key, or one batch for all."""

    def __init__(self, batches: Any, key: jax.Array | None):
        self.streamed = isinstance(batches, Iterator)
        self.draw: Any = batches if callable(batches) and not self.streamed else None
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

    def skip(self, count: int) -> None:
        if self.streamed:
            for _ in islice(self.batches, count):
                pass

    def at(self, data: Any, row: int, step: Any) -> Any:
        """The batch of one row of a chunk's data, read for some steps."""
        return batch_at(self.draw, self.streamed, data, self.key, row, step)

    def read(self, count: int, length: int) -> tuple[Any, int]:
        """Data for up to `count` steps and how many it is enough for."""
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
    draw: Any, streamed: bool, data: Any, key: Any, row: Any, step: Any
) -> Any:
    """The batch of one step.

    Args:
        draw: key -> batch; or None.
        streamed: whether `data` hold one batch for each row.
        data: what was read for a chunk.
        key: that batches are drawn from.
        row: of the chunk.
        step: of the run.

    Returns:
        A batch.
    """
    if draw is not None:
        # Folding the step into the key makes a resumed run draw the same batches.
        return draw(jax.random.fold_in(key, step))
    return jax.tree.map(lambda rows: rows[row], data) if streamed else data


def _stack(path: Any, *leaves: Any) -> np.ndarray:
    for leaf in leaves:
        if np.shape(leaf) != np.shape(leaves[0]):
            raise ValueError(
                f"batch{jax.tree_util.keystr(path)} changes shape during the run, from "
                f"{np.shape(leaves[0])} to {np.shape(leaf)}; drop the smaller last "
                "batch, or pad it"
            )
    return np.stack(leaves)
