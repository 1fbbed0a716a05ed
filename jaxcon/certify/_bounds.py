"""Enclosures of a function's value and derivatives over one box."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxcon._checks import check_array, check_choice, check_function
from jaxcon._display import text_table
from jaxcon.certify._enclosure import LEVELS, Program
from jaxcon.certify._expansion import EXPANSIONS, expanded, listed
from jaxcon.derivatives import derivatives

METHODS = (*LEVELS, *EXPANSIONS)


class Interval(NamedTuple):
    """Enclosure of an array.

    Attributes:
        lower: entries are at least these.
        upper: entries are at most these.
    """

    lower: jax.Array
    upper: jax.Array


def bounds(
    f: Callable[[jax.Array], jax.Array],
    lower: ArrayLike,
    upper: ArrayLike,
    *wanted: Any,
    method: str = "adjoint",
) -> Any:
    r"""Encloses the value and derivatives of a function over a box.

    .. math::
        l_k \le D_k f(x) \le u_k \quad \text{for all } x \text{ between the corners}

    The bounds hold for the function in exact arithmetic, whatever the dtype in which
    they are computed: float64 where JAX has it enabled, else float32.

    Args:
        f: one x (d,) to a scalar () or a vector (m,).
        lower: lower corner, (d,). Under `jax.vmap`, one for each box.
        upper: upper corner, (d,).
        *wanted: quantities of `jaxcon.derivatives`, as for
            `jaxcon.derivatives.derivatives`, of order three at most.
        method: "intervals"; "forward", linear functions of x with a remainder; "adjoint",
            these with their remainders carried by adjoints; "mean value" or "taylor", an
            expansion of first or second order beside it, of which the tighter bounds are
            taken. The expansions are tighter on small boxes, and cost the derivatives of
            one or two more orders (see `explain`).

    Returns:
        A named tuple with an `Interval` for each quantity, in the fields that
        `jaxcon.derivatives.derivatives` has.

    Raises:
        TypeError: f is no function to real numbers, or a quantity is none.
        ValueError: the corners have different shapes.
        NotImplementedError: no enclosure is known of an operation of f.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> from jaxcon.derivatives import Gradient, Value
        >>> found = jc.certify.bounds(
        ...     lambda x: jnp.sin(x[0]), [0.0], [1.0], Value(), Gradient()
        ... )
        >>> print(bool(found.gradient.lower[0] > 0), bool(found.value.upper < 0.9))
        True True
    """
    check_choice("bounds: method", method, METHODS)
    low, high = _corners("bounds", lower, upper)
    read = _read("bounds", f, low, wanted)
    least, most = _enclosed(f, wanted, low, high, method)
    parts, start = [], 0
    for quantity in read:
        stop = start + quantity.size
        found = (part[start:stop].reshape(quantity.shape) for part in (least, most))
        parts.append(Interval(*found))
        start = stop
    return type(read)(*parts)


def explain(
    f: Callable[[jax.Array], jax.Array],
    lower: ArrayLike,
    upper: ArrayLike,
    *wanted: Any,
) -> str:
    """Describes the bounds that each method finds over a box, and their cost.

    The methods are those of `bounds`; `verify` uses "adjoint". Widths are those of the
    widest entry of each quantity. FLOPs are the compiler's count, which leaves out
    transcendental functions. The expansions take long to compile.

    Args:
        f: as for `bounds`.
        lower: lower corner, (d,).
        upper: upper corner, (d,).
        *wanted: as for `bounds`.

    Returns:
        A table as text.

    Raises:
        TypeError: as `bounds`.
        ValueError: as `bounds`.
        NotImplementedError: as `bounds`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> from jaxcon.derivatives import Value
        >>> account = jc.certify.explain(lambda x: jnp.tanh(x[0]), [0.0], [1.0], Value())
        >>> "adjoint" in account
        True
    """
    low, high = _corners("explain", lower, upper)
    read = _read("explain", f, low, wanted)
    rows = []
    for method in METHODS:
        program = partial(_enclosed, f, wanted, method=method)
        compiled = jax.jit(program).lower(low, high).compile()
        least, most = compiled(low, high)
        row: dict[str, Any] = {"method": method}
        start = 0
        for name, quantity in zip(read._fields, read):
            stop = start + quantity.size
            row[f"width of {name}"] = f"{np.max((most - least)[start:stop]):.3g}"
            start = stop
        costs = compiled.cost_analysis()
        if isinstance(costs, list | tuple):
            costs = costs[0] if costs else None
        flops = (costs or {}).get("flops")
        row["FLOPs"] = "not reported" if flops is None else f"{flops:,.0f}"
        rows.append(row)
    return text_table(rows)


def _corners(name: str, lower: Any, upper: Any) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.result_type(float)
    given = [
        check_array(f"{name}: {word}", corner, "(d,)")
        for word, corner in (("lower", lower), ("upper", upper))
    ]
    low, high = (jnp.asarray(corner, dtype) for corner in given)
    if low.shape != high.shape or low.size == 0:
        raise ValueError(
            f"{name} got lower of shape {low.shape} and upper of shape {high.shape}; "
            "pass two of one shape (d,)"
        )
    if any(isinstance(corner, Tracer) for corner in given):
        return low, high
    lower, upper = map(np.asarray, given)
    if (lower > upper).any():
        raise ValueError(
            f"{name} got lower {lower.tolist()} and upper {upper.tolist()}; no lower may "
            "exceed its upper"
        )
    # A corner that the dtype rounds inwards is moved to the next number outwards.
    out = np.nextafter(np.asarray(low), -np.inf, dtype=low.dtype)
    low = jnp.where(np.asarray(low, float) > lower, out, low)
    out = np.nextafter(np.asarray(high), np.inf, dtype=high.dtype)
    return low, jnp.where(np.asarray(high, float) < upper, out, high)


def _read(name: str, f: Any, x: jax.Array, wanted: tuple[Any, ...]) -> Any:
    """Returns the shapes of the quantities, or refuses a function without them."""
    form = "x (d,) -> () or (m,)"
    check_function(f"{name}: f", f, form)
    read = jax.eval_shape(derivatives(f, *wanted), x)
    found = jax.eval_shape(f, x)
    if jnp.issubdtype(found.dtype, jnp.complexfloating):
        raise TypeError(
            f"{name}: f returned {found.dtype}; only real numbers have bounds"
        )
    if len(found.shape) > 1:
        raise ValueError(f"{name}: f returned shape {found.shape}; it must be {form}")
    return read


def _enclosed(
    f: Any, wanted: tuple[Any, ...], low: jax.Array, high: jax.Array, method: str
) -> tuple[jax.Array, jax.Array]:
    """Returns bounds of all entries of the quantities by one method."""
    level = method if method in LEVELS else "adjoint"
    program = Program(f, wanted, listed, low.size, low.dtype, level)
    found = program(low, high)
    least, most = found.lower, found.upper
    for name, order in EXPANSIONS.items():
        if METHODS.index(name) <= METHODS.index(method):
            lower, upper = expanded(f, wanted, low, high, order)
            least, most = jnp.fmax(least, lower), jnp.fmin(most, upper)
    return least, most
