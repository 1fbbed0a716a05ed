"""Sweeps: many runs in one program."""

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_function, check_number, inside
from jaxcon.primal_dual import Info, PrimalDualState, Solver
from jaxcon.training._arguments import LAST_STEP, check_count, check_grid, check_run
from jaxcon.training._history import History
from jaxcon.training._loop import better, first_best
from jaxcon.training._result import FitResult, Iterate


class SweepResult(NamedTuple):
    """Result of a sweep.

    Attributes:
        values: by name, the value that each run was made of, (n,).
        state: the last states; a leading axis of n on every leaf.
        best: as in `FitResult`, of every run.
        history: `Info` before each of the kept steps, NumPy arrays (n, kept).
        steps: the steps kept in `history`, (kept,).
        seconds: running time of all of them, without compilation.
        compile_seconds: time to trace and compile.
        tolerance: largest violation that counted as feasible.
    """

    values: dict[str, np.ndarray]
    state: PrimalDualState
    best: Iterate
    history: Info
    steps: np.ndarray
    seconds: float
    compile_seconds: float
    tolerance: float

    def run(self, i: int) -> FitResult:
        """Returns one run by itself.

        Args:
            i: which, from 0.

        Returns:
            A `FitResult`: the history's kept steps, and this run's share of the time.
        """
        state, best, history = jax.tree.map(
            lambda leaf: leaf[i], (self.state, self.best, self.history)
        )
        share = 1 / len(self.state.step)
        return FitResult(
            state,
            best,
            History(*history, step=self.steps),
            self.seconds * share,
            self.compile_seconds * share,
            self.tolerance,
        )


def sweep(
    make_run: Callable[..., tuple[Solver, Any, Any]],
    grid: Mapping[str, Any],
    *,
    steps: int,
    tolerance: float = 1e-3,
    keep: int = 100,
    together: int | None = None,
) -> SweepResult:
    r"""Trains every combination of a grid, compiled once.

    Values reach `make_run` as traced scalars: anything that a method is made of may
    depend on them, and so may the start and the data, as long as shapes do not.

    Args:
        make_run: (\*\*values) -> (method, params, batch): one run, its batch used whole at
            every step.
        grid: {name: values (k,)}; every combination is one run, the last name varying
            fastest.
        steps: of each run.
        tolerance: largest violation that counts as feasible, in the constraints' units.
        keep: how many steps, evenly spaced, to keep the `Info` of.
        together: how many runs to batch by `jax.vmap`; the rest take turns. Unless given,
            one on a CPU, where batches gain little or lose (``python -m
            benchmarks.sweep``), all of them elsewhere.

    Returns:
        A `SweepResult`.

    Raises:
        TypeError: an argument is of another kind, or `make_run` returns something else.
        ValueError: the grid is empty, its values are not (k,), or a number is outside its
            range.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> def run(penalty):
        ...     problem = jc.Lagrangian(lambda p, _: jnp.sum(p**2), sums, penalty=penalty)
        ...     ascent = jc.dual_ascent(optax.sgd(penalty))
        ...     solver = jc.alternating(problem, optax.sgd(0.05), ascent)
        ...     return solver, jnp.zeros(2), None
        >>> result = jc.sweep(run, {"penalty": [0.1, 1.0]}, steps=50)
        >>> print(result.state.params.sum(axis=1).round(2))
        [1.05 1.  ]
    """
    check_function("make_run", make_run, "(**values) -> (solver, params, batch)")
    columns = check_grid(grid)
    for name, count in (("steps", steps), ("keep", keep), ("together", together)):
        if count is not None or name != "together":
            check_count(name, count)
    check_number("tolerance", tolerance, least=0)
    if together is None:
        together = 1 if jax.default_backend() == "cpu" else LAST_STEP
    rows = list(itertools.product(*columns.values()))
    values = {
        name: np.array(column, columns[name].dtype)
        for name, column in zip(columns, zip(*rows))
    }
    kept = np.unique(np.linspace(0, steps - 1, min(keep, steps)).round().astype(int))
    # Where each step's infos go; those of the others fall outside and are dropped.
    rows_of_steps = np.full(steps, len(kept), np.int32)
    rows_of_steps[kept] = np.arange(len(kept))

    def run(values: dict[str, jax.Array]) -> tuple[PrimalDualState, Iterate, Info]:
        with inside("make_run"):
            made = make_run(**values)
        solver, params, batch = check_run(made)

        def body(i: Any, carry: Any) -> Any:
            state, best, infos = carry
            new, info = solver.step(state, batch)
            row = jnp.asarray(rows_of_steps)[i]
            infos = jax.tree.map(
                lambda rows, one: rows.at[row].set(one, mode="drop"), infos, info
            )
            return new, better(best, state, info, tolerance), infos

        start = solver.init(params, batch)
        _, info = jax.eval_shape(solver.step, start, batch)
        infos = jax.tree.map(
            lambda one: jnp.zeros((len(kept), *one.shape), one.dtype), info
        )
        return jax.lax.fori_loop(0, steps, body, (start, first_best(start), infos))

    def all_runs(values: dict[str, jax.Array]) -> Any:
        return jax.lax.map(run, values, batch_size=min(together, len(rows)))

    began = time.perf_counter()
    program = jax.jit(all_runs).lower(values).compile()
    compiled = time.perf_counter()
    state, best, history = jax.block_until_ready(program(values))
    return SweepResult(
        values=values,
        state=state,
        best=best,
        history=jax.device_get(history),
        steps=kept,
        seconds=time.perf_counter() - compiled,
        compile_seconds=compiled - began,
        tolerance=tolerance,
    )
