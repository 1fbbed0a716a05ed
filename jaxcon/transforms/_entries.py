"""What the transforms for multipliers share: their type, entries and arguments."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxcon.constraints import Constraints

# A rate may warm up from zero, and a mean of residuals waits for all of them.
_CALLS = 32


class DualTransform(optax.GradientTransformationExtraArgs):
    """A transform for multipliers: its updates climb along the residuals it is given.

    An optax optimizer is none: it descends. What wraps a `DualTransform` is one too.
    """


def is_array(entry: Any) -> bool:
    """Whether a constraint's entry is its multipliers themselves, () or (n,).

    Args:
        entry: what stands under a constraint's name: an array, or any other pytree,
            such as the parameters of a network that computes the multipliers.

    Returns:
        False for every other pytree; only arrays are projected, capped or restarted.
    """
    return jax.tree_util.all_leaves([entry])


def map_entries(function: Callable[..., Any], entries: Any, *others: Any) -> Any:
    """Maps over the entries of one kind, each handed over whole.

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
    """Refuses what is no optax transform; lets the rest ignore extra arguments.

    Args:
        name: of the argument, for the message.
        value: what the user gave.

    Returns:
        `value`, taking extra arguments.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(
            f"{name} must be an optax transform such as optax.sgd(0.1), "
            f"got {type(value).__name__}"
        )
    return optax.with_extra_args_support(value)


def as_dual(name: str, value: Any) -> optax.GradientTransformationExtraArgs:
    """Refuses what does not move multipliers, or moves them the wrong way.

    Args:
        name: of the argument, for the message.
        value: what the user gave.

    Returns:
        `value`, taking extra arguments.

    Raises:
        TypeError: it is no optax transform.
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
    """Tries it on one multiplier whose constraint is violated, until it moves."""
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
            # It wants what only a step can give, or its rate is being traced.
            pass
    return False


def check_number(
    name: str, value: Any, rule: str, holds: Callable[[Any], bool]
) -> None:
    """Refuses a number that is known and breaks a rule.

    Args:
        name: of the argument, for the message.
        value: a number; a tracer passes, its value is not known here.
        rule: what it must be, for the message.
        holds: whether it is that.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, Tracer) and not holds(value):
        raise ValueError(f"{name} must be {rule}, got {value!r}")


def check_calls(k: Any, name: str = "k") -> None:
    """Refuses what is no number of calls.

    Args:
        k: of calls.
        name: of the argument, for the message.

    Raises:
        ValueError: it is known, and not 1, 2, 3, ….
    """
    check_number(
        name,
        k,
        "a whole number >= 1",
        lambda k: jnp.issubdtype(jnp.result_type(k), jnp.integer) and k >= 1,
    )


def check_array(transform: str, kind: str, name: str, multiplier: Any) -> None:
    """Refuses an entry that a transform cannot set to a value.

    Args:
        transform: who sets it, for the message.
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
