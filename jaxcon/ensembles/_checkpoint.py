"""Checkpoints of a training, so that one that was stopped ends with the same bits."""

import hashlib
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcon.ensembles._training import Course, Design, Rows, State

INTERVAL = 30  # seconds between two checkpoints


class Checkpoint:
    """File of a training's state.

    Args:
        path: of the file; None for none.
        design: of the training.
        course: its numbers.
        rows: of the table.
    """

    def __init__(self, path: Path | None, design: Design, course: Course, rows: Rows):
        self._path, self._last = path, time.monotonic()
        # Who goes on with another table, rule or seed would mix two trainings.
        self._mark = "" if path is None else _mark(design, course, rows)

    def read(self, begun: State) -> State:
        """Reads the state, where the file is of the same training.

        Args:
            begun: the state before the first step.

        Returns:
            The state saved last, or `begun` where there is no file.

        Raises:
            ValueError: the file is of another training, or is damaged.
        """
        if self._path is None or not self._path.exists():
            return begun
        leaves, tree = jax.tree.flatten(begun)
        try:
            with open(self._path, "rb") as file:
                stored = np.load(file, allow_pickle=False)
                mark = str(stored["mark"])
                found = [stored[f"leaf{place}"] for place in range(len(leaves))]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self._path} is no checkpoint: {error}") from None
        if mark != self._mark:
            raise ValueError(f"{self._path} is the checkpoint of another fit")
        return jax.tree.map(jax.numpy.array, jax.tree.unflatten(tree, found))

    def after(self, state: State) -> None:
        """Saves the state, unless that was done a short time ago."""
        if time.monotonic() - self._last >= INTERVAL:
            self.save(state)

    def save(self, state: State) -> None:
        """Saves the state."""
        if self._path is None:
            return
        arrays: dict[str, Any] = {
            f"leaf{place}": np.asarray(leaf)
            for place, leaf in enumerate(jax.tree.leaves(state))
        }
        beside = self._path.with_name(self._path.name + ".part")
        with open(beside, "wb") as file:
            np.savez(file, mark=self._mark, **arrays)
        os.replace(beside, self._path)
        self._last = time.monotonic()

    def remove(self) -> None:
        """Removes the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _mark(design: Design, course: Course, rows: Rows) -> str:
    """Hashes all that a training depends on."""
    total = hashlib.sha256(json.dumps(design, default=str).encode())
    numbers = course._replace(key=jax.random.key_data(course.key))
    for leaf in jax.tree.leaves((numbers, rows)):
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()
