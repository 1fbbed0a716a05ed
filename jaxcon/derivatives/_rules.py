"""Differentiation rules of primitives, by their names in a jaxpr.

The tables list names and not primitive objects, because the names are equal in all
versions of jax supported while the objects have moved. A primitive in no table is
differentiated by jax's own rules, so that a table saves time and never decides whether
a function can be differentiated.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Jointly linear in the operands of these numbers (None: in all), with the others held.
LINEAR: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("add", "add_any", "complex", "concatenate"), None),
    **dict.fromkeys(("conj", "convert_element_type", "copy", "imag", "neg"), None),
    **dict.fromkeys(("cumsum", "fft", "pad", "real", "reduce_precision"), None),
    **dict.fromkeys(("reduce_sum", "reduce_window_sum", "rev", "slice", "sub"), None),
    **dict.fromkeys(("pcast", "pvary", "sharding_constraint", "split"), None),
    **dict.fromkeys(("squeeze", "stack", "tile", "transpose", "unstack"), None),
    **dict.fromkeys(("broadcast_in_dim", "dynamic_slice", "gather", "reshape"), (0,)),
    "div": (0,),
    "dynamic_update_slice": (0, 1),
    "scatter-add": (0, 2),
    "triangular_solve": (1,),
}

# Linear in each of the first two operands, with the other held.
BILINEAR = {"conv_general_dilated", "dot_general", "mul"}

# Linear between kinks: the second derivative is zero wherever it exists.
KINKED = {
    *("abs", "clamp", "cummax", "cummin", "max", "min", "reduce_max", "reduce_min"),
    *("reduce_window_max", "reduce_window_min", "sort", "top_k"),
}

# Constant between jumps: the derivative is zero wherever it exists.
CONSTANT = {"ceil", "floor", "round", "sign", "stop_gradient"}

# Calls that are entered.
CALLS = {"closed_call", "core_call", "jit", "pjit"}

# Each entry of the output depends on the like entries of the operands alone.
ELEMENTWISE = {
    *("abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan"),
    *("atan2", "atanh", "cbrt", "clamp", "convert_element_type", "copy", "cos"),
    *("cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2"),
    *("expm1", "ge", "gt", "integer_pow", "is_finite", "le", "lgamma", "log"),
    *("log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or"),
    *("pow", "rsqrt", "select_n", "sin", "sinh", "sqrt", "square", "sub", "tan"),
    *("tanh", "xor"),
}

# Functions of like entries of two operands, one of which may be broadcast.
MIXED = {"atan2", "pow"}

# The derivatives are finite wherever the value is, so that no zero times them is NaN.
BOUNDED = {"asinh", "atan", "cos", "erf", "logistic", "sin", "tanh"}

# f'(x) and f''(x), written out so that they share subexpressions; y is f(x).
SLOPES: dict[str, Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]] = {
    "cos": lambda x, y: (-jnp.sin(x), -y),
    "exp": lambda x, y: (y, y),
    "logistic": lambda x, y: _logistic(y),
    "sin": lambda x, y: (jnp.cos(x), -y),
    "square": lambda x, y: (2 * x, jnp.full_like(x, 2)),
    "tanh": lambda x, y: _tanh(y),
}


def _tanh(y: jax.Array) -> tuple[jax.Array, jax.Array]:
    slope = 1 - y * y
    return slope, -2 * y * slope


def _logistic(y: jax.Array) -> tuple[jax.Array, jax.Array]:
    slope = y * (1 - y)
    return slope, slope * (1 - 2 * y)
