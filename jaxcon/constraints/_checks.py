"""Checks of constraints and residuals."""

from typing import Any

import jax

from jaxcon._checks import check_function, check_real, described
from jaxcon.constraints._constraints import Constraints, named


def check_constraints(constraints: Constraints) -> Constraints:
    """Refuses an invalid set of constraints, before anything is traced.

    Args:
        constraints: as a user wrote them.

    Returns:
        `constraints`, unchanged.

    Raises:
        TypeError: it is not a `Constraints` of dicts of callables.
        ValueError: a name stands under both kinds.
    """
    check_entries("constraints", constraints, "function")
    for kind, name, function in named(constraints):
        check_function(
            f"{kind} constraint {name!r}", function, "(params, batch) -> residual"
        )
    return constraints


def check_entries(label: str, entries: Any, content: str) -> None:
    """Refuses a value that is no `Constraints` of entries by name.

    Args:
        label: of the argument, for the message.
        entries: as a user wrote them.
        content: what the entries are, for the message.

    Raises:
        TypeError: it is something else.
        ValueError: a name stands under both kinds.
    """
    if not isinstance(entries, Constraints):
        raise TypeError(
            f"{label} must be jaxcon.Constraints(equality={{...}}, inequality={{...}}), "
            f"got {type(entries).__name__}"
        )
    for kind, members in zip(Constraints._fields, entries):
        if not isinstance(members, dict):
            raise TypeError(
                f"Constraints.{kind} of {label} must be a dict of name: {content}, "
                f"got {type(members).__name__}"
            )
        for name in members:
            if not isinstance(name, str):
                raise TypeError(
                    f"the name of an {kind} constraint must be text, got "
                    f"{described(name)}"
                )
    twice = sorted(entries.equality.keys() & entries.inequality.keys())
    if twice:
        raise ValueError(
            f"constraint {twice[0]!r} is both an equality and an inequality; "
            "give each its own name"
        )


def check_residuals(residuals: Any) -> None:
    """Refuses residuals that are not real arrays by name.

    Args:
        residuals: as a user passed them.

    Raises:
        TypeError: they are no `Constraints` of floating-point arrays.
        ValueError: one has two or more dimensions.
    """
    check_entries("residuals", residuals, "residual")
    for kind, name, residual in named(residuals):
        check_residual(f"the residual of {kind} constraint {name!r} is", residual)


def check_residual(label: str, residual: Any) -> jax.Array:
    """Refuses a value that is no residual.

    Args:
        label: beginning of the message, e.g. "equality constraint 'sum' returned".
        residual: the value.

    Returns:
        The residual as an array, () or (n,).

    Raises:
        TypeError: it is no array of real floating-point numbers.
        ValueError: it has two or more dimensions.
    """
    form = (
        "a signed real number or an array (n,) of them (for a true/false rule see "
        "jaxcon.proxy)"
    )
    residual = check_real(label, residual, form)
    if residual.ndim > 1:
        raise ValueError(
            f"{label} a residual of shape {residual.shape}; a residual is () or (n,), one "
            "number per point: index or sum the last axis"
        )
    return residual
