"""Propagation of known zeros, and of known numbers, through the primitives of a jaxpr.

All of it is done with numpy when f is traced, and leaves nothing in the program. A
primitive in no table is taken to mix all entries.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcon.derivatives import _rules
from jaxcon.derivatives._zeros import LIMIT, Support, joined, spread

# Each entry of an output is one entry of an operand, or a constant.
MOVES: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": lambda eqn, a: _broadcast(eqn, a),
    "concatenate": lambda eqn, *a: np.concatenate(a, eqn.params["dimension"]),
    "copy": lambda eqn, a: a,
    "device_put": lambda eqn, *a: list(a),
    "pad": lambda eqn, a, b: _padded(a, b, eqn.params["padding_config"]),
    "reshape": lambda eqn, a: _reshaped(eqn, a),
    "rev": lambda eqn, a: np.flip(a, eqn.params["dimensions"]),
    "slice": lambda eqn, a: a[_slices(eqn)],
    "split": lambda eqn, a: np.split(
        a, np.cumsum(eqn.params["sizes"])[:-1], eqn.params["axis"]
    ),
    "squeeze": lambda eqn, a: a.reshape(eqn.outvars[0].aval.shape),
    "stack": lambda eqn, *a: np.stack(a, eqn.params["axis"]),
    "tile": lambda eqn, a: np.tile(a, eqn.params["reps"]),
    "transpose": lambda eqn, a: a.transpose(eqn.params["permutation"]),
    "unstack": lambda eqn, a: list(np.moveaxis(a, eqn.params["axis"], 0)),
}

# The same, by an operand that must be known: the places, or which operand is selected.
MOVES_BY = {
    "dynamic_slice": 1,
    "dynamic_update_slice": 2,
    "gather": 1,
    "select_n": 1,  # counted from the front: the predicate
}

# An output entry depends on the entries along some axes.
ALONG_AXES = {"reduce_max", "reduce_min", "reduce_prod", "reduce_sum"}

# Each entry depends on the like ones, though that may be no function of real numbers.
LIKE = {
    *_rules.ELEMENTWISE,
    *("complex", "conj", "imag", "pcast", "pvary", "real", "reduce_precision"),
    "sharding_constraint",
}

# Arithmetic with known integers, as for the places of a gather.
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "and": np.bitwise_and,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.invert,
    "or": np.bitwise_or,
    "sub": np.subtract,
}


def folded(eqn: Any, values: Sequence[Any]) -> list[Any] | None:
    """Returns the outputs if they are integers or truth values that are known."""
    for v in eqn.outvars:
        kinds = (jnp.integer, jnp.bool_)
        if not any(jnp.issubdtype(v.aval.dtype, kind) for kind in kinds):
            return None
        if v.aval.size > LIMIT:
            return None
    if not eqn.outvars or not all(map(is_known, values)):
        return None
    arrays = [np.asarray(value) for value in values]
    dtypes, shapes = zip(*((v.aval.dtype, v.aval.shape) for v in eqn.outvars))
    if eqn.name == "iota":
        size, axis = shapes[0], eqn.params["dimension"]
        line = np.arange(size[axis]).reshape(
            [-1 if n == axis else 1 for n in range(len(size))]
        )
        found: Any = np.broadcast_to(line, size)
    elif eqn.name in ARITHMETIC:
        found = ARITHMETIC[eqn.name](*arrays)
    elif eqn.name == "convert_element_type":
        found = arrays[0]
    elif eqn.name == "select_n":
        found = _selected(arrays[0], arrays[1:])
    elif eqn.name in MOVES:
        found = MOVES[eqn.name](eqn, *arrays)
    else:
        return None
    outputs = found if isinstance(found, list | tuple) else [found]
    return [np.asarray(y, dtype) for y, dtype in zip(outputs, dtypes)]


def is_known(value: Any) -> bool:
    """Returns whether the numbers of an array are known when f is traced."""
    return not isinstance(value, Tracer)


def reached(
    eqn: Any, supports: Sequence[Support | None], values: Sequence[Any]
) -> list[Support | None]:
    """Returns the support of each output, or None where nothing is known.

    Args:
        eqn: the equation.
        supports: one for each operand, or None for one that is constant.
        values: of the operands.
    """
    outputs = [v.aval.shape for v in eqn.outvars]
    unknown: list[Support | None] = [None] * len(outputs)
    rows = max(len(s) for s in supports if s is not None)
    sizes = [math.prod(shape) for shape in (*outputs, *map(np.shape, values))]
    if rows * max(sizes) > LIMIT:
        return unknown
    if eqn.name in MOVES or (eqn.name in MOVES_BY and _places_known(eqn.name, values)):
        return _moved(eqn, supports, values, rows)
    if eqn.name in LIKE:
        [shape] = outputs
        total = joined([s for s in supports if s is not None])
        return [None if total is None else spread(total, shape)]
    if eqn.name in ALONG_AXES and supports[0] is not None:
        return [supports[0].any(axis=tuple(n + 1 for n in eqn.params["axes"]))]
    if eqn.name == "cumsum" and supports[0] is not None:
        axis = eqn.params["axis"] + 1
        turned = np.flip(supports[0], axis) if eqn.params["reverse"] else supports[0]
        summed = np.logical_or.accumulate(turned, axis)
        return [np.flip(summed, axis) if eqn.params["reverse"] else summed]
    if eqn.name in ("scatter-add", "scatter") and is_known(values[1]):
        return [_scattered(eqn, supports, values, rows)]
    return unknown


def alike(
    eqn: Any, supports: Sequence[Support | None], values: Sequence[Any]
) -> tuple[list[Support | None], list[Support]] | None:
    """Returns larger supports with which each output entry has that of its operands'.

    A linear map may then be applied to the tangents that differ from zero alone, the
    first of each entry, the second and so on, though they belong to unlike inputs.

    Returns:
        The supports of the operands and of the outputs; None if none are known.
    """
    found = reached(eqn, supports, values)
    if any(support is None for support in found):
        return None
    outputs = [support for support in found if support is not None]
    if eqn.name in MOVES or (eqn.name in MOVES_BY and _places_known(eqn.name, values)):
        return list(supports), outputs
    if eqn.name in LIKE:
        [total] = outputs
        return [None if s is None else total for s in supports], outputs
    if eqn.name == "reduce_sum" and supports[0] is not None:
        axes = tuple(n + 1 for n in eqn.params["axes"])
        total = supports[0].any(axis=axes, keepdims=True)
        return [np.broadcast_to(total, supports[0].shape)], outputs
    return None


def _places_known(name: str, values: Sequence[Any]) -> bool:
    if name == "select_n":
        return is_known(values[0])
    return all(map(is_known, values[MOVES_BY[name] :]))


def _moved(
    eqn: Any, supports: Sequence[Support | None], values: Sequence[Any], rows: int
) -> list[Support | None]:
    """Moves the numbers of the places once, for all rows: 0 is no place."""
    flat, places, count = [np.zeros((rows, 1), bool)], [], 1
    for support, value in zip(supports, values):
        shape = np.shape(value)
        if support is None:
            places.append(np.zeros(shape, int))
            continue
        size = math.prod(shape)
        places.append(np.arange(count, count + size).reshape(shape))
        flat.append(np.broadcast_to(support.reshape(len(support), -1), (rows, size)))
        count += size
    known = np.concatenate(flat, axis=1)
    if eqn.name == "select_n":
        found: Any = _selected(np.asarray(values[0]), places[1:])
    elif eqn.name in MOVES:
        found = MOVES[eqn.name](eqn, *places)
    else:
        # These are floats, because a place outside may be filled with NaN.
        n = MOVES_BY[eqn.name]
        with jax.ensure_compile_time_eval():
            floats = [jnp.asarray(place, jnp.float32) for place in places[:n]]
            moved = eqn([*floats, *map(jnp.asarray, values[n:])])[0]
        found = np.nan_to_num(np.asarray(moved), nan=0, posinf=0, neginf=0).astype(int)
    outputs = found if isinstance(found, list | tuple) else [found]
    return [known[:, output] for output in outputs]


def _scattered(
    eqn: Any, supports: Sequence[Support | None], values: Sequence[Any], rows: int
) -> Support:
    """Adds the supports up: whatever is written over is no zero for certain."""
    with jax.ensure_compile_time_eval():
        return np.stack(
            [
                np.asarray(
                    eqn(
                        [
                            _ones(supports[0], values[0], row),
                            jnp.asarray(values[1]),
                            _ones(supports[2], values[2], row),
                        ]
                    )[0]
                )
                != 0
                for row in range(rows)
            ]
        )


def _ones(support: Support | None, value: Any, row: int) -> jax.Array:
    shape, dtype = np.shape(value), jnp.result_type(value)
    if support is None:
        return jnp.zeros(shape, dtype)
    return jnp.asarray(support[min(row, len(support) - 1)], dtype)


def _selected(which: np.ndarray, cases: Sequence[np.ndarray]) -> np.ndarray:
    which = np.broadcast_to(which.astype(int), cases[0].shape)
    return np.take_along_axis(np.stack(cases), which[None], axis=0)[0]


def _broadcast(eqn: Any, a: np.ndarray) -> np.ndarray:
    shape = eqn.params["shape"]
    axes = dict(zip(eqn.params["broadcast_dimensions"], a.shape))
    return np.broadcast_to(
        a.reshape([axes.get(n, 1) for n in range(len(shape))]), shape
    )


def _reshaped(eqn: Any, a: np.ndarray) -> np.ndarray:
    order = eqn.params["dimensions"]  # the axes are transposed first
    a = a if order is None else a.transpose(order)
    return a.reshape(eqn.outvars[0].aval.shape)


def _slices(eqn: Any) -> tuple[slice, ...]:
    p = eqn.params
    strides = p["strides"] or [1] * len(p["start_indices"])
    return tuple(map(slice, p["start_indices"], p["limit_indices"], strides))


def _padded(a: np.ndarray, filler: np.ndarray, config: Any) -> np.ndarray:
    """Pads as jax does: between the entries, and by a negative number to cut off."""
    for axis, (low, high, between) in enumerate(config):
        size = a.shape[axis] + max(0, a.shape[axis] - 1) * between
        shape = (
            *a.shape[:axis],
            size + max(low, 0) + max(high, 0),
            *a.shape[axis + 1 :],
        )
        wide = np.full(shape, filler, a.dtype)
        index: list[Any] = [slice(None)] * a.ndim
        start = max(low, 0)
        index[axis] = slice(start, start + size, between + 1)
        wide[tuple(index)] = a
        index[axis] = slice(max(-low, 0), shape[axis] - max(-high, 0))
        a = wide[tuple(index)]
    return a
