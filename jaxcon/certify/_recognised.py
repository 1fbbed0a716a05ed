"""Functions of `jax.nn` in a jaxpr, known by what they compute."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import (
    ClosedJaxpr,  # pyright: ignore[reportPrivateImportUsage]
    Literal,
)

from jaxcon.certify import _functions
from jaxcon.certify._curves import Curve

# Calls of a jaxpr whose arguments are their own.
CALLS = {"closed_call", "core_call", "jit", "pjit", "checkpoint", "remat2", "remat"}
CALLS |= {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}


def inner_jaxpr(eqn: Any) -> Any:
    """Returns the jaxpr that an equation calls, None if it calls none.

    Args:
        eqn: of a jaxpr.

    Returns:
        A closed jaxpr.
    """
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = eqn.params.get(key)
        if inner is not None and not isinstance(inner, ClosedJaxpr):
            inner = ClosedJaxpr(inner, ())
        if isinstance(inner, ClosedJaxpr):
            return inner
    return None


def recognised(eqn: Any) -> Curve | None:
    """Returns the curve of a call that is a function of `jax.nn`, whatever its name."""
    inner = inner_jaxpr(eqn)
    if inner is None or len(eqn.outvars) != 1:
        return None
    literals = [atom for atom in eqn.invars if isinstance(atom, Literal)]
    if len(literals) != len(eqn.invars) - 1:
        return None
    aval = next(a for a in eqn.invars if not isinstance(a, Literal)).aval
    if not jnp.issubdtype(aval.dtype, jnp.floating):
        return None
    # The logarithm of a sum of exponentials is symmetric.
    first = not isinstance(eqn.invars[0], Literal)
    own = _pattern(inner.jaxpr)
    for name, pattern in _patterns(aval.shape, str(aval.dtype), first).items():
        if pattern == own:
            return _made(name, tuple(float(one.val) for one in literals))
    return None


def _made(name: str, constants: tuple[float, ...]) -> Curve | None:
    if name == "logaddexp":
        return _functions.curve("softplus") if constants == (0.0,) else None
    if name == "elu":
        return _functions.elu(*(constants or (1.0,)))
    if name == "leaky_relu":
        return _functions.leaky_relu(*(constants or (0.01,)))
    return _functions.curve(name) if not constants else None


@functools.lru_cache(maxsize=256)
def _patterns(shape: tuple[int, ...], dtype: str, first: bool) -> dict[str, Any]:
    x = jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))
    functions: dict[str, Callable] = {"logaddexp": lambda x: jnp.logaddexp(0.0, x)}
    if first:
        functions = {
            "silu": jax.nn.silu,
            "elu": jax.nn.elu,
            "leaky_relu": jax.nn.leaky_relu,
            "logaddexp": lambda x: jnp.logaddexp(x, 0.0),
        }
    found = {}
    for name, f in functions.items():
        eqn = jax.make_jaxpr(f)(x).jaxpr.eqns[-1]
        inner = inner_jaxpr(eqn)
        if inner is not None:
            found[name] = _pattern(inner.jaxpr)
    return found


def _pattern(jaxpr: Any) -> Any:
    """Returns what a jaxpr computes, without the names of its variables."""
    numbers: dict[Any, int] = {}

    def number(atom: Any) -> Any:
        if isinstance(atom, Literal):
            return float(atom.val)
        return numbers.setdefault(atom, len(numbers))

    inputs = [number(v) for v in jaxpr.invars]
    steps = []
    for eqn in jaxpr.eqns:
        inner = inner_jaxpr(eqn)
        what = eqn.primitive.name if inner is None else _pattern(inner.jaxpr)
        operands = tuple(map(number, eqn.invars))
        kept = str(eqn.params.get("y"))
        steps.append((what, operands, kept, tuple(map(number, eqn.outvars))))
    return tuple(inputs), tuple(steps), tuple(map(number, jaxpr.outvars))
