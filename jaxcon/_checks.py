"""Checks of what a caller passes: numbers, choices and text."""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def check_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    whole: bool = False,
    finite: bool = True,
) -> None:
    """Refuses a value that is no number, or lies outside a range.

    Args:
        name: of the argument, for the message.
        value: a real number, of Python, NumPy or JAX; of a tracer only its shape and its
            dtype are known, and checked.
        least: smallest number allowed.
        above: number that it must exceed.
        most: largest number allowed.
        below: number that must exceed it.
        whole: whether it must be an integer.
        finite: whether infinity is refused; NaN always is.

    Raises:
        TypeError: it is no real number, e.g. text, None, True or an array.
        ValueError: it lies outside the range.

    Example:
        >>> from jaxcon._checks import check_number
        >>> check_number("decay", 1.5, least=0, below=1)
        Traceback (most recent call last):
        ...
        ValueError: decay must be a number >= 0 and < 1, got 1.5
    """
    bounds = [(">=", least), (">", above), ("<=", most), ("<", below)]
    ends = [f"{sign} {end:g}" for sign, end in bounds if end is not None]
    kind = "whole number" if whole else "number"
    rule = f"a {kind} {' and '.join(ends)}" if ends else f"a {kind}"
    if not _is_real(value):
        raise TypeError(f"{name} must be {rule}, got {described(value)}")
    if isinstance(value, Tracer):
        if whole and not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(f"{name} must be {rule}, got {described(value)}")
        return
    number = value if isinstance(value, int) else np.asarray(value).item()
    if finite and not np.isfinite(float(number)):
        rule = rule.replace("number", "finite number", 1)
        raise ValueError(f"{name} must be {rule}, got {number!r}")
    holds = (
        number == number
        and (least is None or number >= least)
        and (above is None or number > above)
        and (most is None or number <= most)
        and (below is None or number < below)
        and not (whole and isinstance(number, float))
    )
    if not holds:
        raise ValueError(f"{name} must be {rule}, got {number!r}")


def check_rate(name: str, value: Any, **bounds: Any) -> None:
    """Refuses a value that is neither a schedule nor a number in a range.

    Args:
        name: of the argument, for the message.
        value: a number, or a function of the step, as optax takes learning rates.
        bounds: as `check_number` takes them.

    Raises:
        TypeError: it is neither.
        ValueError: it is a number outside the range.
    """
    if not callable(value):
        check_number(name, value, **bounds)


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Refuses a value that is none of a few.

    Args:
        name: of the argument, for the message.
        value: as the caller passed it.
        choices: all that are allowed.

    Raises:
        ValueError: it is none of them.
    """
    choices = list(choices)
    if not any(type(value) is type(one) and value == one for one in choices):
        words = [repr(one) for one in choices]
        listed = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
        raise ValueError(f"{name} must be {listed}, got {described(value)}")


def check_function(name: str, value: Any, form: str) -> None:
    """Refuses a value that cannot be called.

    Args:
        name: of the argument, for the message.
        value: as the caller passed it.
        form: what it is called with and returns, e.g. "(params, batch) -> number".

    Raises:
        TypeError: it is no function.
    """
    if not callable(value):
        raise TypeError(f"{name} must be a function {form}, got {described(value)}")


def described(value: Any) -> str:
    """Describes a value that is refused, in a few words on one line.

    Args:
        value: anything.

    Returns:
        Its shape and dtype, if it is an array; itself, if that is short; else its type.
    """
    if getattr(value, "shape", ()) != () or isinstance(value, Tracer):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if value is None or isinstance(value, (bool, int, float, complex, np.generic)):
        return repr(value)
    if isinstance(value, str) and len(value) <= 40:
        return repr(value)
    return f"a value of type {type(value).__name__}"


def _is_real(value: Any) -> bool:
    """Returns whether a value is one real number, and no truth value."""
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape != () or dtype is None:
        return False
    kinds = (jnp.integer, jnp.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)
