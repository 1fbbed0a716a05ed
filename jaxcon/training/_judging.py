"""Data that iterates are judged on: those of each step, a batch, or recent batches."""

from collections import deque
from copy import copy
from functools import lru_cache
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import described
from jaxcon.diagnosis import End
from jaxcon.diagnosis._estimates import estimates
from jaxcon.lagrangians import Lagrangian, split
from jaxcon.primal_dual import Info, PrimalDualState, Solver
from jaxcon.training._fingerprint import _sums
from jaxcon.training._loop import better
from jaxcon.training._result import Iterate
from jaxcon.training._source import Source, batch_at

RECENT = "recent batches"
# Steps from one judgement to the next, and batches that count as recent.
EVERY, BATCHES = 100, 32


@jax.tree_util.register_static
class Judge:
    """Judge of the iterates of a run, on data that the caller names.

    Without data, every iterate is judged by the step that evaluates it, on the batch of
    that step.

    Attributes:
        given: True where the caller named the data.
    """

    def __init__(
        self,
        solver: Solver,
        source: Source,
        judge: Any,
        state: PrimalDualState,
        tolerance: float,
    ):
        """Checks the data.

        Args:
            solver: of the run.
            source: of its batches.
            judge: a batch, "recent batches" or None.
            state: where the run starts.
            tolerance: largest violation that counts as feasible.

        Raises:
            TypeError: `judge` is none of the three.
            ValueError: the problem cannot be evaluated on it, or every step has the same
                batch.
        """
        self.problem, self._solver, self._source = solver.problem, solver, source
        self._start, self._tolerance = state.params, tolerance
        self.given = judge is not None
        self.batch: Any = None
        if isinstance(judge, str) and judge == RECENT:
            if source.fixed:
                raise ValueError(
                    f"judge={RECENT!r} needs batches that differ, but every step has the "
                    "same one; leave judge out, or pass another batch"
                )
        elif self.given:
            self.batch = _checked(self.problem, judge, state)
        # Chunks of a stream that hold the latest batches.
        self._chunks: deque[tuple[Any, int]] = deque()

    def fingerprint(self) -> dict[str, Any]:
        """Describes the data for a run that is resumed."""
        if self.batch is None:
            return {"judge": RECENT if self.given else "nothing"}
        return {f"judge{place}": fact for place, fact in _sums(self.batch)}

    def recall(self, count: int) -> None:
        """Passes over a stream's batches of steps already taken, and keeps the latest.

        Args:
            count: of these steps.
        """
        self._source.skip(max(count - BATCHES, 0))
        if self._source.streamed:
            for batch in islice(self._source.batches, min(count, BATCHES)):
                self.add(jax.tree.map(lambda leaf: np.asarray(leaf)[None], batch), 1)

    def add(self, data: Any, taken: int) -> None:
        """Adds the data of a chunk.

        Args:
            data: one batch for each row, if the batches are streamed.
            taken: the number of rows that were used.
        """
        if self._source.streamed:
            self._chunks.append((data, taken))
            while (
                sum(taken for _, taken in self._chunks) - self._chunks[0][1] >= BATCHES
            ):
                self._chunks.popleft()

    def until_next(self, state: PrimalDualState) -> int:
        """Returns the steps until the next judgement."""
        return EVERY - int(state.step) % EVERY

    def at(self, reached: tuple[PrimalDualState, Iterate]) -> Any:
        """Judges a state whose turn it is."""
        state, best = reached
        if self.given and int(state.step) % EVERY == 0:
            return state, self._judged(state, best)
        return reached

    def last(self, reached: tuple[PrimalDualState, Iterate]) -> Iterate:
        """Returns the best iterate, the last state included."""
        state, best = reached
        return self._judged(state, best) if self.given else best

    def end(self, state: PrimalDualState) -> End | None:
        """Returns the end of a run, on the data that it is judged on.

        Args:
            state: the last one.

        Returns:
            An `End`; None where there is no batch.
        """
        batches = self._batches(state)
        if self.batch is not None and not self._fits(state):
            # A residual of other points has no multipliers there.
            batches = self._of_the_steps(state)
        fixed = self._source.fixed
        return (
            End(self.problem, state, batches, self._start, fixed) if batches else None
        )

    def since(self, start: Any) -> "Judge":
        """Returns the judge of a longer run, which began at other parameters."""
        longer = copy(self)
        longer._start = start
        return longer

    def words(self, best: Iterate) -> str:
        """Returns a clause that names the data that `best.feasible` rests on."""
        step = int(best.step)
        if self.batch is not None:
            return "best.feasible rests on the batch given as judge"
        if self.given:
            return (
                f"best.feasible rests on {BATCHES} recent batches, two standard errors "
                "above the estimates"
            )
        if step < 0 or self._source.fixed or self._repeats():
            return ""
        return (
            f"best.feasible rests on the batch of step {step:,} alone (judge= names other "
            "data)"
        )

    def _repeats(self) -> bool:
        """Returns whether all of a stream's recent batches are equal."""
        rows = self._recent()
        return len(rows) > 1 and all(
            np.array_equal(a, b)
            for row in rows[1:]
            for a, b in zip(jax.tree.leaves(rows[0]), jax.tree.leaves(row))
        )

    def _fits(self, state: PrimalDualState) -> bool:
        try:
            jax.eval_shape(self.problem.multiplier_estimates, state, self.batch)
        except ValueError:
            return False
        return True

    def _batches(self, state: PrimalDualState) -> list[Any]:
        return [self.batch] if self.batch is not None else self._of_the_steps(state)

    def _of_the_steps(self, state: PrimalDualState) -> list[Any]:
        """Returns the batch of all steps, the latest of a stream, or newly drawn ones.

        Points that the solver moves are those of the state.
        """
        if self._source.fixed:
            batches = [self._source.batches]
        elif self._source.streamed:
            batches = self._recent()
        else:
            draw = _drawn(self._source.draw)
            steps = map(np.int32, range(BATCHES))
            batches = [draw(self._source.key, state, i) for i in steps]
        return [self._solver.with_points(state, batch) for batch in batches]

    def _recent(self) -> list[Any]:
        rows = [
            jax.tree.map(lambda rows, i=i: rows[i], data)
            for data, taken in self._chunks
            for i in range(taken)
        ]
        return rows[-BATCHES:]

    def _judged(self, state: PrimalDualState, best: Iterate) -> Iterate:
        """Returns the better of a state and the best so far, on the data of the judge."""
        batches = self._batches(state)
        if not batches:  # of a stream, before the first was read
            return best
        evaluate = _evaluation(self.problem)
        losses, residuals = zip(
            *(
                jax.device_get(evaluate(state.params, state.extra, split(batch)[0]))
                for batch in batches
            )
        )
        loss = float(np.mean([float(value) for value in losses]))
        found = estimates(list(residuals)).values()
        worst = max((each.upper for each in found), default=0.0)
        finite = np.isfinite(loss) and np.isfinite([each.upper for each in found]).all()
        nothing: Any = [None] * len(Info._fields)
        info = Info(*nothing)._replace(
            loss=jnp.asarray(loss, best.loss.dtype),
            max_violation=jnp.asarray(worst, best.max_violation.dtype),
            finite=jnp.asarray(bool(finite)),
        )
        return better(best, state, info, np.float32(self._tolerance))


def _checked(problem: Lagrangian, judge: Any, state: PrimalDualState) -> Any:
    """Returns a batch to judge on, on the device."""
    form = f"judge must be one batch of arrays, {RECENT!r} or None"
    if callable(judge) or hasattr(judge, "__next__"):
        raise TypeError(f"{form}, got {described(judge)}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(judge):
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, int, float)):
            where = jax.tree_util.keystr(path)
            raise TypeError(f"{form}, but judge{where} is {described(leaf)}")
        if (
            isinstance(leaf, (np.ndarray, np.generic))
            and leaf.dtype.kind not in "biufcV"
        ):
            where = jax.tree_util.keystr(path)
            raise TypeError(f"{form}, but judge{where} has type {leaf.dtype}")
    batch = jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, judge
    )
    try:
        jax.eval_shape(problem.evaluate, state.params, split(batch)[0], state.extra)
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"judge: loss and constraints cannot be evaluated on it "
            f"({type(error).__name__}: {first[:200]}); pass a batch like those of the steps"
        ) from None
    return batch


@lru_cache(maxsize=16)
def _evaluation(problem: Lagrangian) -> Any:
    """Returns (params, extra, batch) -> loss and residuals, compiled once."""

    @jax.jit
    def evaluate(params: Any, extra: Any, batch: Any) -> Any:
        found = problem.evaluate(params, batch, extra)
        return found.loss, found.residuals

    return evaluate


@lru_cache(maxsize=16)
def _drawn(draw: Any) -> Any:
    """Returns (key, state, i) -> the batch of the i-th step from a state's on."""

    @jax.jit
    def at(key: Any, state: PrimalDualState, i: Any) -> Any:
        return batch_at(draw, False, None, key, 0, state._replace(step=state.step + i))

    return at
