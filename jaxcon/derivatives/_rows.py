"""Functions of a batch whose entry i depends on row i alone.

Such a function is traced for two rows and for three. Where the two programs are the same
but for the axis of the rows, and no equation mixes along it, each entry depends on its own
row, and not on the number of rows either.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Literal

from jaxcon.derivatives._rules import ELEMENTWISE

_FEW, _MORE = 2, 3

# Each entry of a result depends on the like entries of the operands.
_LIKE = {
    *ELEMENTWISE,
    *("bessel_i0e", "bessel_i1e", "ceil", "conj", "device_put", "floor", "igamma"),
    *("igammac", "imag", "nextafter", "one_minus_square", "optimization_barrier"),
    *("pcast", "polygamma", "pvary", "real", "reduce_precision", "rem", "round"),
    *("sharding_constraint", "sign", "stop_gradient", "zeta"),
}
# Where the shapes agree, so do the rows.
_BY_SHAPE = {"concatenate", "dot_general", "slice"}
# They act along axes that a parameter names, and along no other.
_ALONG = {
    **dict.fromkeys(("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"), "axis"),
    "rev": "dimensions",
    "sort": "dimension",
    "split": "axis",
}
_REDUCTIONS = {
    *("argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or"),
    *("reduce_prod", "reduce_sum"),
}
# Of matrices, whose last two axes are not the rows'.
_MATRICES = {
    *("cholesky", "eigh", "geqrf", "householder_product", "lu", "qr", "svd"),
    *("triangular_solve",),
}
# Programs inside, whose shapes say the same of them.
_CALLS = {
    *("checkpoint", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"),
    *("cond", "custom_linear_solve", "jit", "pjit", "remat", "remat2", "scan"),
    *("while",),
}


class _Mixed(Exception):
    """An entry may depend on other rows than its own, or on their number."""


def rows_of(function: Callable[[Any], jax.Array], batch: Any) -> tuple[int, ...] | None:
    """Finds the leaves of a batch over whose rows a function runs.

    Args:
        function: batch -> (n,).
        batch: any pytree of arrays.

    Returns:
        Numbers of leaves (n, ...) of the batch, such that entry i of the function
        depends on their row i, and on no other row nor the number of rows; all such
        leaves where that holds, else one of them. None where neither is known to hold.
    """
    leaves, tree = jax.tree.flatten(batch)
    shape = jax.eval_shape(function, batch).shape
    if len(shape) != 1:
        return None
    long = tuple(i for i, leaf in enumerate(leaves) if _length(leaf) == shape[0])
    for chosen in dict.fromkeys([long, *((i,) for i in long)]):
        if chosen and _apart(function, leaves, tree, chosen):
            return chosen
    return None


def _length(leaf: Any) -> int | None:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or jnp.issubdtype(dtype, jax.dtypes.extended):
        return None  # a number, or random keys
    return leaf.shape[0] if leaf.ndim else None


def _apart(
    function: Callable[[Any], jax.Array],
    leaves: Sequence[Any],
    tree: Any,
    chosen: tuple[int, ...],
) -> bool:
    """Returns whether the function runs over the rows of the leaves chosen."""

    def traced(rows: int) -> Any:
        shapes = [
            jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), jnp.asarray(leaf).dtype)
            if i in chosen
            else leaf
            for i, leaf in enumerate(leaves)
        ]
        return jax.make_jaxpr(function)(tree.unflatten(shapes))

    try:
        few, more = traced(_FEW), traced(_MORE)
        for a, b in zip(few.consts, more.consts, strict=True):
            _check_same(a, b)
        _check_program(few.jaxpr, more.jaxpr)
        ends = zip(few.jaxpr.outvars, more.jaxpr.outvars, strict=True)
        return [_axis(*pair) for pair in ends] == [0]
    except Exception:  # whatever a function raises for other numbers of rows
        return False


def _check_same(a: Any, b: Any) -> None:
    """Refuses constants that differ."""
    if a is b:
        return
    if isinstance(a, Tracer) or isinstance(b, Tracer):
        raise _Mixed
    if np.shape(a) != np.shape(b) or not np.array_equal(a, b):
        raise _Mixed


def _axis(a: Any, b: Any) -> int | None:
    """Returns the axis of the rows; None of what has none."""
    one, other = a.aval.shape, b.aval.shape
    if one == other:
        return None
    if len(one) != len(other):
        raise _Mixed
    differ = [i for i, (x, y) in enumerate(zip(one, other)) if x != y]
    if len(differ) > 1 or (one[differ[0]], other[differ[0]]) != (_FEW, _MORE):
        raise _Mixed
    return differ[0]


def _check_program(few: Any, more: Any) -> None:
    """Refuses two programs that differ in more than the rows, or mix them."""
    for a, b in zip(few.constvars, more.constvars, strict=True):
        if _axis(a, b) is not None:
            raise _Mixed
    for one, other in zip(few.eqns, more.eqns, strict=True):
        if one.primitive.name != other.primitive.name:
            raise _Mixed
        for a, b in zip(one.invars, other.invars, strict=True):
            if isinstance(a, Literal) != isinstance(b, Literal):
                raise _Mixed
            if isinstance(a, Literal):
                _check_same(a.val, b.val)
        for key, value in one.params.items():
            # Numbers of axes and powers; shapes are compared variable by variable.
            if isinstance(value, (int, float)) and value != other.params.get(key):
                raise _Mixed
        _check_equation(one, other)


def _check_equation(one: Any, other: Any) -> None:
    """Refuses an equation that mixes rows."""
    name = one.primitive.name
    ins = list(map(_axis, one.invars, other.invars))
    outs = list(map(_axis, one.outvars, other.outvars))
    if name in _CALLS:
        for inner, same in zip(_programs(one), _programs(other), strict=True):
            _check_program(inner, same)
        return
    there = {axis for axis in ins if axis is not None}
    if not there:
        made = {axis for axis in outs if axis is not None}
        even = name == "broadcast_in_dim" or (
            name == "iota" and one.params["dimension"] not in made
        )
        if made and not even:
            raise _Mixed
        return
    if None in outs or not _keeps_apart(name, one, ins, outs):
        raise _Mixed


def _programs(eqn: Any) -> list[Any]:
    """Lists the programs inside an equation."""
    found = []
    for key in sorted(eqn.params):
        value = eqn.params[key]
        for inner in value if isinstance(value, tuple) else (value,):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found.append(inner)
    if not found:
        raise _Mixed
    return found


def _keeps_apart(name: str, eqn: Any, ins: list[Any], outs: list[Any]) -> bool:
    """Returns whether a primitive keeps the rows apart, at the axes of its results."""
    params, (first, *_), (out, *_) = eqn.params, ins, outs
    if name in _LIKE or name in _BY_SHAPE:
        return True
    if name in _ALONG:
        named = params[_ALONG[name]]
        return out not in (named if isinstance(named, Sequence) else (named,))
    if name in _REDUCTIONS:
        return out == first - sum(axis < first for axis in params["axes"])
    if name == "stack":
        return out == first + (params["axis"] <= first)
    if name == "unstack":
        return out == first - (params["axis"] < first)
    if name == "broadcast_in_dim":
        return params["broadcast_dimensions"][first] == out
    if name in ("reshape", "squeeze", "expand_dims"):
        before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
        if name == "reshape" and params["dimensions"] is not None:
            return False  # the axes are transposed first
        return math.prod(before[:first]) == math.prod(after[:out])
    if name == "transpose":
        return params["permutation"][out] == first
    if name == "pad":
        return first is not None and params["padding_config"][first] == (0, 0, 0)
    if name in _MATRICES:
        return all(
            axis is None or axis < len(var.aval.shape) - 2
            for axis, var in zip(ins, eqn.invars)
        )
    if name in ("fft", "lu_pivots_to_permutation"):
        mixed = len(params.get("fft_lengths", "p"))
        return first < len(eqn.invars[0].aval.shape) - mixed
    if name == "conv_general_dilated":
        spec = params["dimension_numbers"]
        rows = (first, out) == (spec.lhs_spec[0], spec.out_spec[0])
        return rows and ins[1] is None and params["batch_group_count"] == 1
    if name == "dynamic_update_slice":
        return ins[1] == first == out
    if name == "dynamic_slice":
        return params["slice_sizes"][first] == _FEW
    if name == "gather":
        return _gathers_apart(eqn, ins)
    if name.startswith("scatter"):
        return _scatters_apart(eqn, ins)
    return False


def _gathers_apart(eqn: Any, ins: list[Any]) -> bool:
    """Returns whether each row is read by itself, whole or by its own index."""
    of, index = ins
    numbers = eqn.params["dimension_numbers"]
    if of is None:
        # Each row looks up what it names in a table that all share.
        return index != len(eqn.invars[1].aval.shape) - 1
    if of in numbers.operand_batching_dims:
        place = numbers.operand_batching_dims.index(of)
        return index == numbers.start_indices_batching_dims[place]
    whole = eqn.params["slice_sizes"][of] == _FEW
    return whole and index is None and of not in numbers.collapsed_slice_dims


def _scatters_apart(eqn: Any, ins: list[Any]) -> bool:
    """Returns whether each row is written into by itself."""
    of, index, _ = ins
    numbers = eqn.params["dimension_numbers"]
    if of is None:
        return False
    if of in numbers.operand_batching_dims:
        place = numbers.operand_batching_dims.index(of)
        return index == numbers.scatter_indices_batching_dims[place]
    dropped = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    if index is not None or of in dropped:
        return False
    rank = len(eqn.invars[0].aval.shape)
    window = [axis for axis in range(rank) if axis not in dropped]
    return numbers.update_window_dims[window.index(of)] == ins[2]
