"""Checks of what a caller passes: numbers, choices and text."""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jax
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
        ValueError: decay must be in [0, 1), got 1.5
    """
    low = (
        f"[{least:g}"
        if least is not None
        else f"({above:g}"
        if above is not None
        else ""
    )
    high = (
        f"{most:g}]" if most is not None else f"{below:g})" if below is not None else ""
    )
    if low and high:
        rule = f"in {low}, {high}"
    else:
        signs = {">=": least, ">": above, "<=": most, "<": below}
        rule = "".join(
            f"{sign} {end:g}" for sign, end in signs.items() if end is not None
        )
    kind = "whole number" if whole else "number"
    form = f"a {kind} {rule}".strip()
    if not _is_real(value):
        raise TypeError(f"{name} must be {form}, got {described(value)}")
    if isinstance(value, Tracer):
        if whole and not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(f"{name} must be {form}, got {described(value)}")
        return
    number = value if isinstance(value, int) else np.asarray(value).item()
    holds = (
        number == number
        and (least is None or number >= least)
        and (above is None or number > above)
        and (most is None or number <= most)
        and (below is None or number < below)
        and not (whole and isinstance(number, float))
    )
    if not holds:
        words = form if whole or not rule else rule
        raise ValueError(f"{name} must be {words}, got {described(number)}")
    if finite and not abs(number) <= sys.float_info.max:
        raise ValueError(f"{name} must be finite, got {described(number)}")


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
        return
    with inside(f"{name}, called as a schedule"):
        first = value(jnp.zeros((), jnp.int32))
    check_number(f"{name} at step 0", first)


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
        raise TypeError(f"{name} must be a function {form}, got {type(value).__name__}")


def check_type(name: str, value: Any, kind: Any, form: str) -> None:
    """Refuses a value of another type.

    Args:
        name: of the argument, for the message.
        value: as the caller passed it.
        kind: the type, or several.
        form: what the value must be, for the message.

    Raises:
        TypeError: it is of another type.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {form}, got {described(value)}")


def check_each(name: str, values: Any, kind: Any, form: str) -> None:
    """Refuses a value that is no list or tuple of entries of one type.

    Args:
        name: of the argument, for the message.
        values: as the caller passed them.
        kind: the entries' type, or several.
        form: what the entries must be, for the message.

    Raises:
        TypeError: it is of another type, or an entry is.
    """
    check_type(name, values, (list, tuple), f"a list or tuple of {form}")
    for place, value in enumerate(values):
        if not isinstance(value, kind):
            raise TypeError(
                f"{name} must hold {form}, got {described(value)} at place {place}"
            )


@contextmanager
def inside(label: str) -> Iterator[None]:
    """Adds the name of a caller's function to whatever it raises.

    Args:
        label: of the function, e.g. "equality constraint 'sum'".

    Yields:
        Nothing; an exception of the block gets a note and goes on.

    Example:
        >>> from jaxcon._checks import inside
        >>> try:
        ...     with inside("the loss"):
        ...         {}["x"]
        ... except KeyError as error:
        ...     print(error.__notes__)
        ['raised in the loss']
    """
    try:
        yield
    except Exception as error:
        note = f"raised in {label}"
        if isinstance(error, jax.errors.ConcretizationTypeError):
            note += (
                ": values are not known while it is traced; use jnp.where or "
                "jax.lax.cond in place of a Python if"
            )
        if note not in getattr(error, "__notes__", []):
            with suppress(Exception):  # an exception may let nothing be added
                error.add_note(note)
        raise


def check_real(label: str, value: Any, form: str) -> Any:
    """Refuses a value that is not real and floating-point.

    Args:
        label: beginning of the message, e.g. "the loss returned".
        value: as the caller, or a function of the caller's, gave it.
        form: what it is to be, e.g. "one number ()".

    Returns:
        The value as an array, or the shape of one as it is.

    Raises:
        TypeError: it is no array of real floating-point numbers.
    """
    if not isinstance(value, float):
        dtype = getattr(value, "dtype", None)
        if dtype is None or not hasattr(value, "shape"):
            raise TypeError(f"{label} {described(value)}; it must be {form}")
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{label} {dtype}; it must be {form}")
    return value if isinstance(value, jax.ShapeDtypeStruct) else jnp.asarray(value)


def check_array(name: str, value: Any, form: str, *, finite: bool | None = True) -> Any:
    """Refuses a value that is no array of real numbers in one of a few shapes.

    Args:
        name: of the argument, for the message.
        value: a number, a list of numbers, or an array of NumPy or JAX; of a tracer only
            its shape and its dtype are known, and checked.
        form: the shapes allowed, e.g. "() or (m,)", where a letter stands for any size;
            or "of any shape".
        finite: whether infinity is refused beside NaN; None for data, whose entries are
            not read at all.

    Returns:
        The array: of NumPy where its entries were read, else of JAX where it was.

    Raises:
        TypeError: it is no array of real numbers, e.g. text, None or truth values.
        ValueError: it has another number of axes, or an entry is not allowed.

    Example:
        >>> from jaxcon._checks import check_array
        >>> check_array("lower", [0.0, float("nan")], "(d,)")
        Traceback (most recent call last):
        ...
        ValueError: lower must be an array (d,) of finite numbers, got nan in [0.0, nan]
    """
    rule = f"{name} must be an array {form} of {'finite ' * bool(finite)}numbers"
    rule = rule.replace("of any shape of", "of")
    array = _as_array(value)
    if array is None:
        raise TypeError(f"{rule}, got {described(value)}")
    axes = {len(re.findall(r"\w+", one)) for one in form.split(" or ")}
    if form != "of any shape" and array.ndim not in axes:
        raise ValueError(f"{rule}, got shape {array.shape}")
    if finite is not None and not isinstance(array, Tracer):
        array = np.asarray(array)
        allowed = np.isfinite if finite else lambda known: ~np.isnan(known)
        wrong = array[~allowed(array.astype(np.float64))]
        if wrong.size:
            known = str(array.tolist())
            where = f" in {known}" if 0 < array.ndim and len(known) <= 60 else ""
            raise ValueError(f"{rule}, got {wrong[0].item()!r}{where}")
    return array


def check_key(name: str, value: Any) -> None:
    """Refuses a value that is no random key.

    Args:
        name: of the argument, for the message.
        value: as the caller passed it.

    Raises:
        TypeError: it is neither one key of `jax.random.key` nor one of
            `jax.random.PRNGKey`.
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (shape == () if typed else dtype == np.uint32 and len(shape or ()) == 1):
        rule = f"{name} must be one key, e.g. jax.random.key(0)"
        raise TypeError(f"{rule}, got {described(value)}")


def described(value: Any) -> str:
    """Describes a value that is refused, in a few words on one line.

    Args:
        value: anything.

    Returns:
        Its shape and dtype, if it is an array; itself, if that is short; else its type's
        name.
    """
    if getattr(value, "shape", ()) != () or isinstance(value, Tracer):
        return f"an array of shape {value.shape} and type {value.dtype}"
    short = not isinstance(value, int) or value.bit_length() <= 128
    if isinstance(value, (bool, int, float, complex, np.generic)) and short:
        return repr(value)
    if value is None:
        return "None"
    if isinstance(value, str) and len(value) <= 40:
        return repr(value)
    return type(value).__name__


def _as_array(value: Any) -> Any:
    """Returns an array of real numbers, of NumPy where JAX has not made it; else None."""
    numbers = isinstance(value, (list, tuple, int, float)) or hasattr(
        value, "__array__"
    )
    if not numbers:
        return None
    try:
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
        given = isinstance(value, jax.Array)
        array = value if given else (jnp if traced else np).asarray(value)
    except (TypeError, ValueError, OverflowError):  # text, or rows of unequal length
        return None
    kinds = (jnp.integer, jnp.floating)
    return array if any(jnp.issubdtype(array.dtype, kind) for kind in kinds) else None


def _is_real(value: Any) -> bool:
    """Returns whether a value is one real number, and no truth value."""
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape != () or dtype is None:
        return False
    kinds = (jnp.integer, jnp.floating)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)
