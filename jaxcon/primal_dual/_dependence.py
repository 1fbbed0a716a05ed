"""Dependence of a function's results on some of its arguments."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Literal

# Calls whose arguments are one to one those of the jaxpr they hold.
CALLS = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "remat",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
}


def dependent(
    function: Callable[[Any, Any], Any], params: Any, batch: Any, changed: list[bool]
) -> Any:
    """Finds the results of a function that depend on some leaves of a batch.

    Args:
        function: (params, batch) -> a tree of arrays.
        params: its first argument, which does not change.
        batch: its second one.
        changed: whether each leaf of the batch does.

    Returns:
        The tree, True where a result may depend on a leaf that changes.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(params, batch)
    fixed = [False] * len(jax.tree.leaves(params))
    tree = jax.tree.structure(shapes)
    return tree.unflatten(depends(traced.jaxpr, fixed + changed))


def depends(jaxpr: Any, changed: list[bool]) -> list[bool]:
    """Finds the results of a jaxpr that depend on the arguments that changed.

    Args:
        jaxpr: open, its constants do not change.
        changed: for each argument.

    Returns:
        For each result, True where it may.
    """
    moved = {var for var, moves in zip(jaxpr.invars, changed) if moves}

    def moves(atom: Any) -> bool:
        return not isinstance(atom, Literal) and atom in moved

    for eqn in jaxpr.eqns:
        arguments = [moves(atom) for atom in eqn.invars]
        results = [any(arguments)] * len(eqn.outvars)
        inner = _called(eqn)
        if inner is not None:
            results = depends(inner, arguments)
        moved |= {var for var, result in zip(eqn.outvars, results) if result}
    return [moves(atom) for atom in jaxpr.outvars]


def _called(eqn: Any) -> Any:
    if eqn.primitive.name not in CALLS:
        return None
    for name in ("jaxpr", "call_jaxpr"):
        if name in eqn.params:
            inner = eqn.params[name]
            inner = getattr(inner, "jaxpr", inner)
            return inner if len(inner.invars) == len(eqn.invars) else None
    return None
