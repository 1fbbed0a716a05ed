"""Checks of numbers that a caller passes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.core import Tracer


def check_number(
    name: str, value: Any, rule: str, holds: Callable[[Any], bool]
) -> None:
    """Refuses a number that is known and breaks a rule.

    Args:
        name: of the argument, for the message.
        value: a number; a tracer passes, since its value is not known here.
        rule: the rule in words, for the message.
        holds: number -> whether it obeys the rule.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(value, Tracer) and not holds(value):
        raise ValueError(f"{name} must be {rule}, got {value!r}")


def check_calls(k: Any, name: str = "k") -> None:
    """Refuses a value that is no number of calls.

    Args:
        k: the number of calls.
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
