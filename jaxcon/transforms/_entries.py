"""Type, entries and argument checks of the transforms for multipliers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcon.constraints import Constraints

# A rate may warm up from zero, and a mean of residuals needs all of them.
_CALLS = 32


class DualTransform(optax.GradientTransformationExtraArgs):
    """Transform for multipliers whose updates ascend along the residuals.

    An optax optimizer is none, because it descends. A transform that wraps a
    `DualTransform` is one too.
    """


def is_array(entry: Any) -> bool:
    """Returns whether a constraint's entry is the array of its multipliers, () or (n,).

    Args:
        entry: the value under a constraint's name: an array, or any other pytree,
            such as the parameters of a network that computes the multipliers.

    Returns:
        False for every other pytree; only arrays are projected, capped or restarted.
    """
    return jax.tree_util.all_leaves([entry])


def map_entries(function: Callable[..., Any], entries: Any, *others: Any) -> Any:
    """Maps a function over the entries of one kind, each as a whole.

    Args:
        function: of one entry of each dict.
        entries: name: entry.
        *others: dicts with the same names.

    Returns:
        name: result.
    """
    return jax.tree.map(
        function, entries, *others, is_leaf=lambda node: node is not entries
    )


def as_transform(name: str, value: Any) -> optax.GradientTransformationExtraArgs:
    """Refuses other values than optax transforms and makes these accept extra arguments.

    Args:
        name: of the argument, for the message.
        value: the argument.

    Returns:
        `value`, taking extra arguments.

    Raises:
        TypeError: it is no optax transform.
    """
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(
            f"{name} must be an optax transform such as optax.sgd(0.1), "
            f"got {type(value).__name__}"
        )
    return optax.with_extra_args_support(value)


def as_dual(name: str, value: Any) -> optax.GradientTransformationExtraArgs:
    """Refuses a transform that does not move multipliers, or that descends.

    Args:
        name: what the message calls it.
        value: the transform.

    Returns:
        The transform, which accepts extra arguments.

    Raises:
        TypeError: `value` is something else.
        ValueError: it descends.
    """
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(
            f"{name} must be an optax transform, e.g. jaxcon.dual_ascent(optax.sgd(1.0)), "
            f"got {type(value).__name__}"
        )
    transform = optax.with_extra_args_support(value)
    if not isinstance(value, DualTransform) and _descends(transform):
        raise ValueError(
            f"{name} moves a multiplier down where its residual is positive: an optax "
            "optimizer descends, so wrap it as jaxcon.dual_ascent(optimizer)"
        )
    return transform


def _descends(transform: optax.GradientTransformationExtraArgs) -> bool:
    """Returns whether the first move of a violated constraint's multiplier is a descent."""
    with jax.ensure_compile_time_eval():
        ones: Any = Constraints(equality={"h": jnp.ones(())})
        extra = {"value": jnp.ones(()), "estimates": ones, "penalty": ones}
        try:
            state = transform.init(ones)
            for _ in range(_CALLS):
                move: Any
                move, state = transform.update(ones, state, ones, **extra)
                if move.equality["h"] != 0:
                    return bool(move.equality["h"] < 0)
        except (TypeError, ValueError):
            # It needs an argument that only a step has, or its rate is being traced.
            pass
    return False


def check_array(transform: str, kind: str, name: str, multiplier: Any) -> None:
    """Refuses an entry that a transform cannot set to a value.

    Args:
        transform: its name, for the message.
        kind: "equality" or "inequality".
        name: of the constraint.
        multiplier: its entry.

    Raises:
        ValueError: the entry is not an array.
    """
    if jax.tree.leaves(multiplier) and not is_array(multiplier):
        raise ValueError(
            f"{transform} sets multipliers to values, and those of {kind} constraint "
            f"{name!r} are computed from parameters: use dual_ascent or nupi for it"
        )
