"""History of a run: one row a step, thinned where it would outgrow its budget."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._display import html_table, text_table
from jaxcon.constraints import Constraints, named
from jaxcon.primal_dual import Info

# Bytes of rows above which every second one is dropped.
BUDGET = 256 * 2**20
# Bytes and rows of one chunk, at most.
_CHUNK, _MOST = 16 * 2**20, 10_000


class History(NamedTuple):
    """Arrays with one row for each kept step of a run.

    Every step is kept until the rows fill 256 MiB; then every second one is dropped, and
    so on.

    Attributes:
        loss: f, (n,).
        max_violation: largest abs h or max(g, 0), (n,).
        violation: by constraint, (n,).
        multiplier: the largest abs multiplier of each constraint, (n,).
        penalty: rho by constraint, (n,).
        capped: by constraint, whether a multiplier was at its cap, (n,).
        clipped: by the clip's name, whether it changed its input, (n,).
        finite: whether the step was taken, (n,).
        aux: what the loss reported.
        step: number of the step, counted from the start of the first run, (n,).

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> rule = jc.Constraints({"x = 1": lambda x, _: x - 1.0})
        >>> problem = jc.Lagrangian(lambda x, _: x**2, rule)
        >>> solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
        >>> history = jc.fit(solver, jnp.zeros(()), steps=3).history
        >>> sorted(history.columns())         # pandas.DataFrame(history.columns())
        ['finite', 'loss', 'max_violation', 'multiplier x = 1', 'step', 'violation x = 1']
    """

    loss: Any
    max_violation: Any
    violation: Constraints
    multiplier: Constraints
    penalty: Constraints
    capped: Constraints
    clipped: dict[str, Any]
    finite: Any
    aux: Any
    step: Any

    def columns(self) -> dict[str, np.ndarray]:
        """Returns all numbers by name: ``pandas.DataFrame(history.columns())``."""
        found = {
            "step": self.step,
            "loss": self.loss,
            "max_violation": self.max_violation,
        }
        for kind in ("violation", "multiplier", "penalty"):
            for _, name, rows in named(getattr(self, kind)):
                found[f"{kind} {name}"] = rows
        for name, rows in self.clipped.items():
            found[f"clipped {name}"] = rows
        found["finite"] = self.finite
        return {name: np.asarray(rows) for name, rows in found.items()}

    def __repr__(self) -> str:
        return f"History of {len(self.step)} rows\n{text_table(list(self._rows()))}"

    def _repr_html_(self) -> str:
        return html_table(list(self._rows()))

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yields at most eight rows, evenly spaced."""
        columns = self.columns()
        last = len(columns["step"]) - 1
        kept = (
            np.unique(np.linspace(0, last, 8).round().astype(int)) if last >= 0 else []
        )
        for row in kept:
            yield {name: column[row].item() for name, column in columns.items()}


class Packing:
    """Layout of the infos of a program in few arrays: one for all numbers of a dtype.

    Hundreds of constraints would else be written one by one at each step. Truth values
    stand among the numbers of the loss's dtype, and what no step changes is kept apart.
    """

    def __init__(self, info: Info, constants: list[Any]):
        """Plans the layout.

        Args:
            info: shapes of an info.
            constants: for each of its leaves the value that it has at every step; None
                where it changes.
        """
        self._leaves, self._tree = jax.tree.flatten(info)
        self._constants = constants
        self._numbers: dict[str, list[int]] = {}
        self._others: list[int] = []
        for place, leaf in enumerate(self._leaves):
            if constants[place] is not None:
                continue
            if leaf.shape != () or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
                self._others.append(place)
            else:
                dtype = info.loss.dtype if leaf.dtype == bool else leaf.dtype
                self._numbers.setdefault(str(dtype), []).append(place)

    def pack(self, info: Info) -> list[jax.Array]:
        """Packs one info."""
        leaves = jax.tree.leaves(info)
        return [
            *(
                jnp.stack([jnp.asarray(leaves[i], dtype) for i in places])
                for dtype, places in self._numbers.items()
            ),
            *(leaves[i] for i in self._others),
        ]

    def unpack(self, rows: list[Any]) -> Info:
        """Unpacks rows of infos; most arrays are views."""
        leaves: list[Any] = [None] * len(self._leaves)
        packed = iter(rows)
        for places in self._numbers.values():
            array = next(packed)
            for column, place in enumerate(places):
                leaves[place] = array[:, column].astype(
                    self._leaves[place].dtype, copy=False
                )
        for place in self._others:
            leaves[place] = next(packed)
        for place, value in enumerate(self._constants):
            if value is not None:
                leaves[place] = np.broadcast_to(value, (len(rows[0]), *np.shape(value)))
        return jax.tree.unflatten(self._tree, leaves)

    def rows(self, size: int, most: int) -> int:
        """Returns how many rows take at most so many bytes; one at least."""
        row = sum(leaf.size * leaf.dtype.itemsize for leaf in self._leaves)
        return int(min(max(size // max(row, 1), 1), most))

    @property
    def longest(self) -> int:
        """The largest number of rows that a program keeps: at most 16 MiB of them."""
        return self.rows(_CHUNK, _MOST)


class Recorder:
    """Collector of packed rows, which keeps every `stride`-th one within the budget."""

    def __init__(self) -> None:
        self.stride = 1
        self._seen = self._stored = 0
        self._chunks: list[tuple[np.ndarray, list[np.ndarray]]] = []

    def add(self, first: int, rows: list[np.ndarray]) -> None:
        """Adds the rows of steps from `first` on."""
        count = len(rows[0])
        steps = first + np.arange(count)
        kept = np.flatnonzero((self._seen + np.arange(count)) % self.stride == 0)
        self._seen += count
        self._chunks.append((steps[kept], [array[kept] for array in rows]))
        self._stored += sum(array.nbytes for array in self._chunks[-1][1])
        while self._stored > BUDGET and self._seen > 2 * self.stride:
            self._thin()

    def _thin(self) -> None:
        self.stride *= 2
        steps, rows = self._joined()
        self._chunks = [(steps[::2].copy(), [array[::2].copy() for array in rows])]
        self._stored = sum(array.nbytes for array in self._chunks[0][1])

    def _joined(self) -> tuple[np.ndarray, list[np.ndarray]]:
        # Joined array by array: twice there is at most one of them, within the budget.
        chunks, self._chunks = self._chunks, []
        steps = np.concatenate([steps for steps, _ in chunks])
        rows = []
        for place in range(len(chunks[0][1])):
            rows.append(np.concatenate([arrays[place] for _, arrays in chunks]))
            for _, arrays in chunks:
                arrays[place] = arrays[place][:0]
        self._chunks = [(steps, rows)]
        return steps, rows

    def history(self, packing: Packing | None, empty: Info) -> History:
        """Returns all rows; `empty` gives their names where there is none."""
        if packing is None or not self._chunks:
            return History(*empty, step=np.zeros(0, int))
        steps, rows = self._joined()
        return History(*packing.unpack(rows), step=steps)
