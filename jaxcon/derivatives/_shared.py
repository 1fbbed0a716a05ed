"""Construction of an operator: function f -> function of value and derivative."""

from collections.abc import Callable
from typing import Any

import jax
from jax.typing import ArrayLike

from jaxcon.derivatives import _checks, _quantities, _several

Function = Callable[..., jax.Array]
ValueAnd = Callable[[ArrayLike], tuple[jax.Array, jax.Array]]
Refusal = Callable[[tuple[int, ...], int], None]


def value_and(
    f: Function,
    name: str,
    quantity: _quantities.Spec | Callable[[jax.Array], _quantities.Spec],
    require: Refusal | None = None,
    *,
    mode: str | None = None,
    unroll: bool | None = None,
) -> ValueAnd:
    """Returns x (d,) -> (f(x), one quantity of f at x), checked under ``name``.

    ``require`` refuses shapes of f(x), given with d; a quantity may depend on x.
    """
    _checks.require_choices(mode, unroll, name)
    checked = _checks.array_valued(f, name)

    def fitting(x: jax.Array) -> jax.Array:
        y = checked(x)
        if require is not None:
            require(y.shape, x.size)
        return y

    def at(x: ArrayLike) -> tuple[jax.Array, jax.Array]:
        x = _checks.vector(x, name)
        spec = quantity(x) if callable(quantity) else quantity
        wanted = (_quantities.Value(), spec)
        value, result = _several.compute(fitting, x, wanted, mode, unroll)
        return value, result

    return at


def derivative_only(both: Callable[[ArrayLike], tuple[Any, Any]]) -> Function:
    """Returns the derivative alone; jit drops what only the value needed."""
    return lambda x: both(x)[1]


def scalar(name: str) -> Refusal:
    """Returns a check that refuses an output that is not one number."""
    return lambda shape, d: _checks.require_scalar(shape, name)


def vector(name: str) -> Refusal:
    """Returns a check that refuses an output that is not a vector of m numbers."""
    return lambda shape, d: _checks.require_vector(shape, name)


def field(name: str) -> Refusal:
    """Returns a check that refuses an output of another size than x."""
    return lambda shape, d: _checks.require_field(shape, d, name)
