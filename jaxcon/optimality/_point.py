"""Checks of a problem and of a point of it."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxcon._checks import check_real, check_type, described
from jaxcon.constraints import Constraints, check_entries, named
from jaxcon.lagrangians import Lagrangian, Point, check_penalty
from jaxcon.multipliers import Table, Weights


def check_problem(problem: Any) -> None:
    """Refuses a value that is no problem.

    Args:
        problem: as the caller passed it.

    Raises:
        TypeError: it is no `Lagrangian`.
    """
    form = "a jaxcon.Lagrangian(loss, constraints)"
    check_type("problem", problem, Lagrangian, form)


def check_params(params: Any) -> None:
    """Refuses parameters without derivatives.

    Args:
        params: as the caller passed them.

    Raises:
        TypeError: a leaf is no floating-point array, or there is none.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    form = "params must be a pytree of floating-point arrays"
    if not leaves:
        raise TypeError(f"{form}, got {described(params)}")
    for path, leaf in leaves:
        dtype = getattr(leaf, "dtype", None)
        if isinstance(leaf, (float, complex)):
            dtype = jnp.result_type(leaf)
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            at = f" at params{jax.tree_util.keystr(path)}" if path else ""
            raise TypeError(f"{form}, got {described(leaf)}{at}")


def check_on_host(name: str, *inputs: Any) -> None:
    """Refuses values that are not known yet.

    Args:
        name: of the function that reads them.
        inputs: pytrees.

    Raises:
        TypeError: one holds a tracer.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(inputs)):
        raise TypeError(
            f"{name} is computed on the host, and params or batch are traced: call it "
            "outside jit, grad and vmap"
        )


def point_of(state: Any) -> Point:
    """Returns the point at which a state stands, or refuses what is no state.

    Args:
        state: a solver's state, or anything with ``params`` and ``multipliers``.

    Returns:
        A `Point`, with penalties and extra state if it has them.

    Raises:
        TypeError: it has none, or they are no arrays by name.
        ValueError: a penalty is not positive, or of no constraint.
    """
    if not (hasattr(state, "params") and hasattr(state, "multipliers")):
        raise TypeError(
            "state must have params and multipliers, as a solver's state or "
            f"jaxcon.Point(params, multipliers), got {described(state)}"
        )
    point = Point(
        state.params,
        state.multipliers,
        getattr(state, "penalty", None),
        getattr(state, "extra", None),
    )
    check_params(point.params)
    check_entries("multipliers of the state", point.multipliers, "multiplier")
    for kind, name, multiplier in named(point.multipliers):
        if not isinstance(multiplier, (Table, Weights)):
            label = f"the state's multiplier of {kind} constraint {name!r} is"
            check_real(label, multiplier, "a real number or an array (n,) of them")
    if point.penalty is not None:
        check_penalty(point.penalty, "penalty of the state")
    if isinstance(point.penalty, Constraints):
        for kind, name, _ in named(point.penalty):
            if name not in getattr(point.multipliers, kind):
                raise ValueError(
                    f"the state has a penalty of {kind} constraint {name!r}, of which "
                    "it has no multiplier"
                )
    return point
