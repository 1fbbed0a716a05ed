"""Proofs of several claims at once, by branch and bound."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import experimental

from jaxcon.certify._branch import MOST, Step, Tree, examined
from jaxcon.certify._results import Boxes, Counterexample, Outcome, Proved, Undecided

DTYPE = np.float64


class Progress(NamedTuple):
    """State of a proof that runs.

    Attributes:
        open: statements of the claims that are not decided yet.
        proved: share of the volume that is decided, from 0 to 1.
        boxes: number of boxes that were enclosed.
        left: number of boxes that are left.
        seconds: time since the start.
    """

    open: tuple[str, ...]
    proved: float
    boxes: int
    left: int
    seconds: float


def proved(
    step: Step,
    statements: Sequence[str],
    params: Any,
    start: Boxes,
    *,
    tolerance: float = 0.0,
    budget: float = 60.0,
    progress: Callable[[Progress], None] | None = None,
    settled: float = -np.inf,
) -> list[Outcome]:
    """Proves or refutes several claims on boxes that cover their domain.

    Args:
        step: of `examiner`.
        statements: of its claims, R.
        params: of the network.
        start: boxes, with one bound for each claim.
        tolerance: by which the claims' residuals were lowered.
        budget: seconds, compilation apart.
        progress: called after each batch.
        settled: upper bound of the residuals, lowered, on boxes that were decided before.

    Returns:
        One outcome for each claim.
    """
    clock, tree, params = Clock(budget), Tree(start), widened(params)
    count = len(statements)
    bound, largest = np.full(count, settled), np.full(count, -np.inf)
    refuted: dict[int, Outcome] = {}
    with double():
        while len(tree) and len(refuted) < count:
            boxes = tree.taken()
            found = examined(step, params, boxes, DTYPE)
            clock.compiled()
            for r in set(range(count)) - set(refuted):
                # A box that is decided beforehand is not of this claim.
                values = np.where(
                    np.isneginf(boxes.bound[:, r]), -np.inf, found.value[:, r]
                )
                i = int(values.argmax())
                at, value = found.point[i, r], float(values[i])
                largest[r] = max(largest[r], value)
                if value > 0 and attained_at(step, params, at, count)[r] > 0:
                    told = statements[r], at, value + tolerance
                    refuted[r] = Counterexample(*told, tree.count, clock.seconds)
            upper = np.minimum(found.upper, boxes.bound)
            upper[found.outside] = -np.inf
            bound = np.maximum(bound, np.where(upper > 0, -np.inf, upper).max(axis=0))
            open_ = ~(upper <= 0)
            open_[:, list(refuted)] = False
            left = open_.any(axis=1)
            rest = Boxes(boxes.lower[left], boxes.upper[left], upper[left])
            # The first claim that is open says where a box is split.
            first = open_[left].argmax(axis=1)
            tree.split(rest, found.split[left][np.arange(len(first)), first])
            if progress is not None:
                names = tuple(s for r, s in enumerate(statements) if r not in refuted)
                share = 1 - tree.volume(tree.left)
                state = names, share, tree.count, len(tree), clock.seconds
                progress(Progress(*state))
            if clock.is_over or len(tree) > MOST:
                break
    return [
        refuted.get(r)
        or _outcome(statement, r, tree, bound[r], largest[r], tolerance, clock.seconds)
        for r, statement in enumerate(statements)
    ]


def _outcome(
    statement: str,
    r: int,
    tree: Tree,
    bound: float,
    largest: float,
    tolerance: float,
    seconds: float,
) -> Outcome:
    """Returns the outcome of a claim that was not refuted."""
    left = tree.left
    rows = np.flatnonzero(left.bound[:, r] > 0)
    settled = float(bound) + tolerance
    if not len(rows):
        return Proved(statement, settled, tree.count, seconds)
    rest = Boxes(left.lower[rows], left.upper[rows], left.bound[rows, r] + tolerance)
    rest = rest.taken(np.argsort(-rest.bound))
    most = max(settled, float(rest.bound[0]))
    found = tree.volume(rest), most, float(largest) + tolerance, rest
    return Undecided(statement, *found, tree.count, seconds, settled)


class Clock:
    """Time since the start of a proof, with a budget that begins after compilation."""

    def __init__(self, budget: float):
        self._began, self._budget = time.perf_counter(), budget
        self._limit: float | None = None

    def compiled(self) -> None:
        """Begins the budget, once."""
        if self._limit is None:
            self._limit = time.perf_counter() + self._budget

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._began

    @property
    def is_over(self) -> bool:
        """Flag of a spent budget."""
        return self._limit is not None and time.perf_counter() > self._limit


def widened(params: Any) -> Any:
    """Returns parameters in float64, in which what does not depend on x is computed.

    Args:
        params: of the network.

    Returns:
        The same tree, floats as NumPy arrays.
    """

    def of(leaf: Any) -> Any:
        floating = hasattr(leaf, "dtype") and np.issubdtype(leaf.dtype, np.floating)
        return np.asarray(leaf, DTYPE) if floating else leaf

    return jax.tree.map(of, params)


def attained_at(step: Step, params: Any, point: np.ndarray, claims: int) -> np.ndarray:
    """Returns lower bounds of the residuals at one point, all roundings counted.

    Args:
        step: of `examiner`.
        params: of the network.
        point: (d,).
        claims: R.

    Returns:
        (R,); minus infinity where the point is not surely in the domain.
    """
    alone = Boxes(point[None], point[None], np.full((1, claims), np.inf))
    found = examined(step, params, alone, DTYPE)
    return found.lower[0] if found.inside[0] else np.full(claims, -np.inf)


@contextmanager
def double() -> Iterator[None]:
    """Computes in float64 inside, whatever the setting outside."""
    # Older versions of jax have it under another name.
    home: Any = jax if hasattr(jax, "enable_x64") else experimental
    with home.enable_x64(True):
        yield
