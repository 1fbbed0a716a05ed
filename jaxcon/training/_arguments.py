"""Checks of what `fit` and `sweep` are called with, before anything is compiled."""

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcon._checks import (
    check_choice,
    check_function,
    check_number,
    check_type,
    described,
)
from jaxcon.primal_dual import PrimalDualState, Solver

# Steps are counted in int32.
LAST_STEP = 2**31 - 1
# Runs of a sweep, at most.
_RUNS = 10**6


def check_solver(solver: Any) -> None:
    """Refuses what is no solver.

    Args:
        solver: as the caller passed it.

    Raises:
        TypeError: it is something else, e.g. a problem.
    """
    form = "what jaxcon.alternating, simultaneous or extragradient returns"
    check_type("solver", solver, Solver, form)


def check_start(start: Any) -> None:
    """Refuses what is neither parameters nor a state.

    Args:
        start: as the caller passed it.

    Raises:
        TypeError: it holds no arrays, traced ones, or is a result, not its state.
        ValueError: it is the states of several runs.
    """
    for part, words in (("state", "state"), ("params", "params")):
        if not isinstance(start, PrimalDualState) and hasattr(start, part):
            raise TypeError(
                f"start must be parameters or a state, got {described(start)}: pass its "
                f".{words}"
            )
    leaves = jax.tree.leaves(start)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        raise TypeError(
            "fit runs on the host: call it outside of jax.jit, vmap and grad (inside, "
            "scan solver.step)"
        )
    if not isinstance(start, PrimalDualState):
        if not leaves:
            raise TypeError(
                f"start must be parameters or a state, got {described(start)}, which "
                "holds no array"
            )
        for path, leaf in jax.tree_util.tree_leaves_with_path(start):
            arrays = (jax.Array, np.ndarray, np.generic)
            dtype = leaf.dtype if isinstance(leaf, arrays) else np.dtype(type(leaf))
            if not jnp.issubdtype(dtype, jnp.floating):
                raise TypeError(
                    f"start{jax.tree_util.keystr(path)} is {described(leaf)}; parameters "
                    "must be floating-point arrays: split the rest off first "
                    "(flax.nnx.split, equinox.partition)"
                )
        return
    for name in ("step", "skipped"):
        count = getattr(start, name)
        if jnp.shape(count) != ():
            raise ValueError(
                f"start.{name} has shape {jnp.shape(count)}: pass the state of one run, "
                "e.g. that of result.run(i) of a sweep"
            )
        check_count(f"start.{name}", count, least=0)


def check_options(
    step: int,
    steps: Any,
    tolerance: Any,
    chunk: Any,
    progress: Any,
    max_skipped: Any,
    spike: Any,
) -> None:
    """Refuses options of `fit` that are of another kind, or outside their range.

    Args:
        step: number of the step to start from.
        steps: as the caller passed it, like all that follow.
        tolerance: largest violation that counts as feasible.
        chunk: steps per compiled call, or None.
        progress: True, False or None.
        max_skipped: steps that may be skipped, or None.
        spike: factor above which the run goes back, or None.

    Raises:
        TypeError: one is no number.
        ValueError: one is outside its range.
    """
    check_count("steps", steps, most=LAST_STEP - step)
    check_number("tolerance", tolerance, least=0)
    if chunk is not None:
        check_count("chunk", chunk)
    check_choice("progress", progress, [True, False, None])
    if max_skipped is not None:
        check_count("max_skipped", max_skipped, least=0)
    if spike is not None:
        check_number("spike", spike, above=1)


def check_count(name: str, value: Any, least: int = 1, most: int = LAST_STEP) -> None:
    """Refuses what is no number of steps.

    Args:
        name: of the argument, for the message.
        value: as the caller passed it.
        least: smallest number allowed.
        most: largest number allowed.

    Raises:
        TypeError: it is no number.
        ValueError: it is no whole number, or outside the range.
    """
    check_number(name, value, least=least, whole=True)
    if value > most:
        raise ValueError(
            f"{name} must be at most {most:,}, since steps are counted in int32, got "
            f"{described(value)}"
        )


def check_callbacks(callbacks: Any) -> list[Callable[..., Any]]:
    """Refuses callbacks that cannot be called with a state and an info.

    Args:
        callbacks: as the caller passed them.

    Returns:
        A list of them.

    Raises:
        TypeError: they are no list of functions of two arguments.
    """
    form = "(state, info) -> None or True"
    if callable(callbacks) or not hasattr(callbacks, "__iter__"):
        raise TypeError(
            f"callbacks must be a list of functions {form}, got {described(callbacks)}"
        )
    found = list(callbacks)
    for i, call in enumerate(found):
        check_function(f"callbacks[{i}]", call, form)
        try:
            signature = inspect.signature(call)
        except (TypeError, ValueError):  # a builtin without a signature
            continue
        try:
            signature.bind(None, None)
        except TypeError:
            name = getattr(call, "__name__", type(call).__name__)
            raise TypeError(
                f"callbacks[{i}] must be a function {form}, got {name}{signature}"
            ) from None
    return found


def check_place(checkpoint: Any) -> None:
    """Refuses a place that checkpoints cannot be saved in.

    Args:
        checkpoint: as the caller passed it.

    Raises:
        TypeError: it is no path and no manager.
        ValueError: it is no path of a folder.
    """
    if checkpoint is None or hasattr(checkpoint, "latest_step"):
        return
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(
            "checkpoint must be a folder's path or an orbax CheckpointManager, got "
            f"{described(checkpoint)}"
        )
    path = os.fspath(checkpoint)
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise ValueError(f"checkpoint must be a folder's path, got {path!r}")
    if "://" in path:
        raise ValueError(
            f"checkpoint must be a folder of this machine, got {path!r}; pass an orbax "
            "CheckpointManager for another place"
        )


def check_grid(grid: Any) -> dict[str, np.ndarray]:
    """Refuses a grid that is no dict of numbers by name.

    Args:
        grid: as the caller passed it.

    Returns:
        The values of each name, (k,).

    Raises:
        TypeError: it is no dict, or values are no numbers.
        ValueError: it is empty, values are not (k,), or there are too many combinations.
    """
    if not isinstance(grid, Mapping):
        raise TypeError(
            f"grid must be a dict {{name: values (k,)}}, got {described(grid)}"
        )
    if not grid:
        raise ValueError("grid must have at least one name")
    columns = {}
    for name, values in grid.items():
        if not isinstance(name, str):
            raise TypeError(f"a name in grid must be text, got {described(name)}")
        try:
            column = np.asarray(values)
        except (TypeError, ValueError):  # rows of unequal length, or keys
            column = np.asarray(None)
        kinds = (np.number, np.bool_)
        if not any(jnp.issubdtype(column.dtype, kind) for kind in kinds):
            raise TypeError(
                f"grid[{name!r}] must be numbers of shape (k,), got {described(values)}"
            )
        if column.ndim != 1 or column.size == 0:
            raise ValueError(
                f"grid[{name!r}] must be numbers of shape (k,), got shape {column.shape}"
            )
        columns[name] = np.asarray(jnp.asarray(column))
    runs = np.prod([float(column.size) for column in columns.values()])
    if runs > _RUNS:
        raise ValueError(f"grid has {runs:.3g} combinations; {_RUNS:,} are the most")
    return columns


def check_run(made: Any) -> tuple[Solver, Any, Any]:
    """Refuses what `make_run` returned, unless it is a run.

    Args:
        made: what it returned.

    Returns:
        Solver, parameters and batch.

    Raises:
        TypeError: it is something else.
    """
    if not (type(made) in (tuple, list) and len(made) == 3):
        raise TypeError(
            "make_run must return (solver, params, batch), got "
            + (f"{len(made)} values" if type(made) is tuple else described(made))
        )
    solver, params, batch = made
    if not isinstance(solver, Solver):
        raise TypeError(
            "make_run must return (solver, params, batch), got "
            f"{described(solver)} as the solver"
        )
    return solver, params, batch
