"""Argument checks of the operators, with errors that name what to write instead.

The checks read shapes and dtypes only. They run once, at trace time, and leave nothing in
the compiled program.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcon._checks import (
    check_array,
    check_choice,
    check_function,
    check_key,
    check_number,
    inside,
)
from jaxcon.derivatives._equations import NoForwardMode


def vector(x: ArrayLike, operator: str) -> jax.Array:
    """Returns x as one real example of shape (d,), or refuses it."""
    x = _floats(x, f"{operator} got x", "pass one example of shape (d,)")
    if x.ndim == 0:
        raise ValueError(
            f"{operator} got x of shape (); pass shape (d,), e.g. x[None], or use "
            "derivatives.derivative"
        )
    _one_example(x, 1, operator)
    if x.size == 0:
        raise ValueError(f"{operator} got x of shape (0,); pass at least one input")
    return x


def scalar(x: ArrayLike, operator: str) -> jax.Array:
    """Returns x as one real example of shape (), or refuses it."""
    x = _floats(x, f"{operator} got x", "pass one number of shape ()")
    _one_example(x, 0, operator)
    return x


def like(v: Any, x: jax.Array, operator: str, name: str) -> Any:
    """Returns the tangent v in x's dtype, or refuses a shape that is not x's.

    It is an array of numpy if its numbers, and so its zeros, are known.
    """
    v = check_array(f"{operator}: {name}", v, "(d,)")
    if v.shape != x.shape:
        raise ValueError(
            f"{operator} got {name} of shape {v.shape} for x of shape {x.shape}; "
            "the two must agree"
        )
    return v.astype(x.dtype)


def array_valued(f: Callable[..., jax.Array], operator: str):
    """Returns f, checked to return one array of real or complex floats when traced."""
    check_function(f"{operator}: f", f, "of one example x -> array")

    def checked(x: jax.Array) -> jax.Array:
        with inside(f"{operator}: f"):
            y = f(x)
        what = f"{operator}: f returned a value"
        return _floats(y, what, "return one array of floats", jnp.inexact)

    return checked


def scalar_valued(f: Callable[..., jax.Array], operator: str):
    """Returns f, checked to return shape () whenever it is traced."""
    f = array_valued(f, operator)

    def checked(x: jax.Array) -> jax.Array:
        y = f(x)
        require_scalar(y.shape, operator)
        return y

    return checked


def require_scalar(shape: tuple[int, ...], operator: str) -> None:
    """Refuses an output that is not one number."""
    if shape != ():
        hint = "e.g. f(x)[0]" if shape == (1,) else "or use derivatives.jacobian"
        raise ValueError(
            f"{operator}: f returned shape {shape}; return a scalar, {hint}"
        )


def require_vector(shape: tuple[int, ...], operator: str) -> None:
    """Refuses an output that is not a vector of m numbers."""
    if len(shape) != 1 or shape == (0,):
        hint = "or use derivatives.gradient" if shape == () else "e.g. f(x).ravel()"
        raise ValueError(
            f"{operator}: f returned shape {shape}; return shape (m,), {hint}"
        )


def require_field(shape: tuple[int, ...], d: int, operator: str) -> None:
    """Refuses an output that is not a vector of as many numbers as x has."""
    if shape != (d,):
        raise ValueError(
            f"{operator}: f returned shape {shape} for x of shape ({d},); "
            f"return a vector field of shape ({d},)"
        )


def require_inputs(inputs: tuple[int, ...], d: int, operator: str) -> None:
    """Refuses an index that x does not have."""
    for i in inputs:
        if not 0 <= i < d:
            raise ValueError(
                f"{operator} got input {i} for x of shape ({d},); "
                f"inputs are numbered 0 to {d - 1}"
            )


def require_choices(mode: str | None, unroll: bool | None, operator: str) -> None:
    """Refuses a mode and a layout that are none of the few."""
    check_choice(f"{operator}: mode", mode, [None, "forward", "reverse"])
    check_choice(f"{operator}: unroll", unroll, [None, True, False])


def require_samples(samples: int | None, key: Any, operator: str, name: str) -> None:
    """Refuses a number of random samples without a key, or a key without a number."""
    if (samples is None) != (key is None):
        raise ValueError(
            f"{operator} got only one of {name}= and key=; pass both, e.g. {name}=16, "
            "key=jax.random.key(0), or neither"
        )
    if samples is not None:
        check_number(f"{operator}: {name}", samples, least=1, whole=True)
        check_key(f"{operator}: key", key)


def no_mode(refusals: Sequence[Exception]) -> TypeError:
    """Returns the error for a function that jax's rules refuse to differentiate.

    Args:
        refusals: of the modes that were tried, with jax's own words.
    """
    ways = {
        "forwards" if isinstance(error, NoForwardMode) else "backwards": str(error)
        for error in refusals
    }
    causes = "; nor ".join(f"{way}: {cause}" for way, cause in ways.items())
    hint = "write it with jax.custom_jvp"
    if "forwards" in ways and "backwards" in ways:
        hint += ", or with a loop or a solver that jax differentiates forwards"
    elif "backwards" in ways:
        hint = 'leave mode= out or pass mode="forward"'
    return TypeError(f"f cannot be differentiated {causes}; {hint}")


def terms(weights: Any, directions: Any, x: jax.Array, operator: str) -> tuple:
    """Returns a Laplacian's weights (k,) and directions (k, d) in x's dtype.

    They are arrays of numpy if their numbers are known.
    """
    k = x.size
    if directions is not None:
        directions = check_array(f"{operator}: directions", directions, "(k, d)")
        if directions.shape[1:] != x.shape or not directions.size:
            raise ValueError(
                f"{operator} got directions of shape {directions.shape} for x of shape "
                f"{x.shape}; pass shape (k, {x.size}), one direction per row"
            )
        directions = directions.astype(x.dtype)
        k = directions.shape[0]
    if weights is not None:
        weights = check_array(f"{operator}: weights", weights, "(k,)")
        if weights.shape != (k,):
            raise ValueError(
                f"{operator} got weights of shape {weights.shape} for {k} directions; "
                f"pass shape ({k},)"
            )
        weights = weights.astype(x.dtype)
    return weights, directions


def _one_example(x: jax.Array, ndim: int, operator: str) -> None:
    if x.ndim != ndim:
        raise ValueError(
            f"{operator} got x of shape {x.shape}; write one example and batch with "
            "jax.vmap"
        )


def _floats(x, what: str, hint: str, kind: Any = jnp.floating) -> jax.Array:
    # A pytree would otherwise be stacked silently (a list) or fail deep inside jax.
    if not jax.tree_util.treedef_is_leaf(jax.tree.structure(x)):
        raise TypeError(f"{what} of type {type(x).__name__}; {hint}")
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError):
        raise TypeError(f"{what} of type {type(x).__name__}; {hint}") from None
    if not jnp.issubdtype(x.dtype, kind):
        raise TypeError(
            f"{what} of dtype {x.dtype}; derivatives need real floating point, "
            "e.g. .astype(float)"
        )
    return x
