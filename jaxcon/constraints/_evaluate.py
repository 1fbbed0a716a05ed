"""Evaluation of constraints."""

from typing import Any

import jax

from jaxcon._checks import inside
from jaxcon.constraints._checks import check_constraints, check_residual
from jaxcon.constraints._constraints import Constraints, grouped, named


def evaluate(constraints: Constraints, params: Any, batch: Any = None) -> Constraints:
    r"""Evaluates the residuals h and g of every constraint at `params`.

    Constraints of `jaxcon.shapes` that read the same network at the same points share
    one pass through it.

    Args:
        constraints: functions (params, batch) -> residual.
        params: any pytree.
        batch: any pytree that the functions read; may be None.

    Returns:
        Residuals in the shape of `constraints`, each of shape () or (n,).

    Raises:
        ValueError: a residual has two or more dimensions.
        TypeError: `constraints` are not functions by name, or a residual is not a real
            floating-point array. Whatever a constraint raises has its name in a note.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> on_circle = jc.Constraints(equality={"circle": lambda p, _: p @ p - 1.0})
        >>> float(jc.evaluate(on_circle, jnp.array([3.0, 0.0])).equality["circle"])
        8.0
    """
    check_constraints(constraints)
    found: dict[tuple[str, str], Any] = {}
    for group in grouped(constraints):
        keys = [(kind, name) for kind, name, _ in named(group)]
        first, *others = functions = [function for _, _, function in named(group)]
        if others:
            names = ", ".join(repr(name) for _, name in keys)
            with inside(f"the constraints {names}, evaluated together"):
                found.update(
                    zip(keys, first.evaluate_jointly(functions, params, batch))
                )
        else:
            kind, name = keys[0]
            with inside(f"{kind} constraint {name!r}, called with (params, batch)"):
                found[kind, name] = first(params, batch)

    def residual(kind: str, name: str) -> jax.Array:
        label = f"{kind} constraint {name!r} returned"
        return check_residual(label, found[kind, name])

    return Constraints(
        *(
            {name: residual(kind, name) for name in entries}
            for kind, entries in zip(Constraints._fields, constraints)
        )
    )


def batch_part(on: Any, batch: Any) -> Any:
    """Returns the part of a batch that a constraint, or its multipliers, read.

    Args:
        on: a name, for ``batch[on]``; None, for the batch itself; or an array, which
            stands for itself.
        batch: any pytree.

    Returns:
        That part.

    Raises:
        ValueError: the batch has no such part.
    """
    if on is None:
        return batch
    if not isinstance(on, str):
        return on
    try:
        return batch[on]
    except (KeyError, TypeError, IndexError):
        has = sorted(batch) if isinstance(batch, dict) else type(batch).__name__
        raise ValueError(
            f"constraint points {on!r} are not in the batch, which has {has}"
        ) from None
