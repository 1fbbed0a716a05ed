"""The guard: a step is taken only if all that it came of, and all it leads to, is finite.

Selecting new or old parameters after the optimizer has moved costs a copy of parameters
and moments. Where the optimizer is known to map finite gradients to finite moves
(`keeps_finite`) the guard decides before it moves, and the move happens in place.
"""

import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

# States of transforms that answer to a NaN themselves: zero_nans, apply_if_finite, and
# MultiSteps with skip_not_finite.
ANSWERS = (optax.ZeroNansState, optax.ApplyIfFiniteState, optax.MultiStepsState)

# Optax's transforms and schedules whose moves are finite where the squares of the
# gradient are, and what they are made of.
_FINITE = {
    "add_decayed_weights",
    "chain",
    "clip",
    "clip_by_global_norm",
    "constant_schedule",
    "cosine_decay_schedule",
    "identity",
    "init_empty_state",
    "join_schedules",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "scale",
    "scale_by_adam",
    "scale_by_learning_rate",
    "scale_by_rms",
    "scale_by_schedule",
    "set_to_zero",
    "trace",
    "with_extra_args_support",
}
# Factors and rates up to here cannot overflow from a gradient whose square is finite.
_LARGEST = 1e9
# Weighted sums of an array up to here say that each of its entries' squares is finite.
_MODERATE = 1e6
# Numbers and arrays of a state above which a branch costs less than selects.
_BRANCH, _LEAVES = 100_000, 64
# Arrays above are summed by a matrix product, which reads them faster than a reduction.
_LARGE = 4096


def keeps_finite(transform: optax.GradientTransformation) -> bool:
    """Returns whether a transform is known to map finite gradients to finite moves.

    It is if all of its functions, found in its closures, are of optax and in a list of
    those checked by hand, with moderate numbers in them.

    Args:
        transform: any optax transform.

    Returns:
        False where anything is unknown.

    Example:
        >>> import optax
        >>> from jaxcon.primal_dual._guard import keeps_finite
        >>> print(keeps_finite(optax.adam(1e-3)), keeps_finite(optax.lbfgs()))
        True False
    """
    return all(_is_known(part) for part in _reachable(transform.update, set()))


def _is_known(part: Any) -> bool:
    if isinstance(part, types.FunctionType):
        name, *_ = part.__qualname__.split(".")
        positive = {"eps": 0.0, **_cells(part)}["eps"] if name in _DIVIDING else 1.0
        ours = part.__module__.split(".")[0] == "optax" and name in _FINITE
        return ours and isinstance(positive, float) and positive > 0
    if isinstance(part, (int, float)):
        return abs(part) <= _LARGEST
    return part is None or isinstance(part, (str, np.dtype, type))


# They divide by a mean of squares, which is zero at first.
_DIVIDING = {"scale_by_adam", "scale_by_rms"}


def _cells(function: types.FunctionType) -> dict[str, Any]:
    """Returns what a function closes over, by name."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or ())
    return {name: cell.cell_contents for name, cell in cells if _is_set(cell)}


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a variable that was deleted, or is not assigned yet
        return False


def _reachable(part: Any, seen: set[int]) -> Iterator[Any]:
    """Yields all functions and values that a function closes over."""
    if isinstance(part, (tuple, list)):
        for entry in part:
            yield from _reachable(entry, seen)
    elif isinstance(part, dict):
        yield from _reachable(list(part.values()), seen)
    elif not isinstance(part, types.FunctionType):
        yield part
    elif id(part) not in seen:
        seen.add(id(part))
        # The functions that make a state are not called in a step.
        if not part.__qualname__.endswith(("init_fn", "init_empty_state")):
            yield part
            yield from _reachable(_cells(part), seen)


def guarded(
    finite: jax.Array,
    gradient: Any,
    step: Callable[[], Any],
    before: Any,
    in_place: bool,
) -> tuple[Any, jax.Array]:
    """Takes a step if all is finite.

    Args:
        finite: whether all that is known before the step is, boolean ().
        gradient: of the parameters.
        step: () -> what the step leads to: (parameters, optimizer state, the rest).
        before: the same before the step.
        in_place: whether a finite gradient makes the step finite.

    Returns:
        What the step led to, or `before` unchanged; and whether it was taken.
    """
    # In float16 the square of 256 overflows.
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(gradient)]
    if in_place and all(float(jnp.finfo(d).max) > 1e30 for d in dtypes):
        finite &= _squares_are_finite(gradient)
        # A branch on an accelerator waits for the host; there a select is fused. So it is
        # where arrays are few and small: in a branch XLA runs one operation at a time.
        leaves = jax.tree.leaves(before)
        large = sum(map(jnp.size, leaves)) > _BRANCH or len(leaves) > _LEAVES
        if jax.default_backend() == "cpu" and large:
            return jax.lax.cond(finite, step, lambda: before), finite
        return _select(finite, step(), before), finite
    after = step()
    (params, primal, _), (_, old, _) = after, before
    finite &= all_finite(params)
    finite &= all_finite(gradient) | _answered(gradient, old, primal)
    return _select(finite, after, before), finite


def _select(finite: jax.Array, after: Any, before: Any) -> Any:
    # XLA would fuse the whole of `finite` into each select; a product is not fused.
    flag = jnp.dot(jnp.stack([finite, finite]).astype(jnp.float32), jnp.ones(2)) > 1
    return jax.tree.map(lambda new, old: jnp.where(flag, new, old), after, before)


def all_finite(tree: Any, before: Any = None) -> jax.Array:
    """Returns whether every entry of every array is finite, boolean ().

    Args:
        tree: of arrays.
        before: arrays that are finite; what is one of them is not checked again.
    """
    known = {id(leaf) for leaf in jax.tree.leaves(before)}
    leaves = {
        id(leaf): leaf
        for leaf in jax.tree.leaves(tree)
        if id(leaf) not in known and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    }
    return _all_of(list(leaves.values()), jnp.isfinite)


def still_finite(before: Any, after: Any) -> jax.Array:
    """Returns whether nothing became infinite or NaN that was not, boolean ()."""
    numbers: dict[Any, list[Any]] = {}
    pairs = []
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after)):
        if old is new or not jnp.issubdtype(jnp.result_type(new), jnp.inexact):
            continue
        if jnp.shape(new) == ():
            numbers.setdefault(jnp.result_type(new), []).append((old, new))
        else:
            pairs.append((old, new))
    # Numbers are compared as one array, as in `_all_of`.
    pairs += [tuple(map(jnp.stack, zip(*each))) for each in numbers.values()]
    sound = jnp.array(True)
    for old, new in pairs:
        sound &= jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old))
    return sound


def _squares_are_finite(gradient: Any) -> jax.Array:
    return _all_of(jax.tree.leaves(gradient), lambda g: jnp.isfinite(g * g))


def _all_of(leaves: list[Any], holds: Callable[[Any], jax.Array]) -> jax.Array:
    """Returns whether something holds of all entries that moderate numbers fulfil."""
    numbers: dict[Any, list[Any]] = {}
    small, large = [], []
    for leaf in leaves:
        if jnp.shape(leaf) == ():
            numbers.setdefault(jnp.result_type(leaf), []).append(leaf)
        else:
            (small if jnp.size(leaf) <= _LARGE else large).append(leaf)
    # Hundreds of numbers, e.g. multipliers by name, are compared as one array.
    small += [jnp.stack(of_dtype) for of_dtype in numbers.values()]
    every = jnp.array(True)
    for leaf in small:
        every &= jnp.all(holds(leaf))
    if not large:
        return every

    def exact() -> jax.Array:
        return jnp.all(jnp.stack([jnp.all(holds(leaf)) for leaf in large]))

    moderate = jnp.abs(sum(map(_weighted_sum, large))) < _MODERATE
    return every & jax.lax.cond(moderate, lambda: jnp.array(True), exact)


def _weighted_sum(leaf: jax.Array) -> jax.Array:
    """Sums all entries, each row and column with its own weight: none cancel."""
    rows = leaf.reshape(-1, leaf.shape[-1]) if leaf.ndim > 1 else leaf[:, None]
    dtype = jnp.promote_types(leaf.dtype, jnp.float32)
    down, across = (1.5 + 0.5 * jnp.sin(jnp.arange(n, dtype=dtype)) for n in rows.shape)
    columns = jnp.dot(down.astype(leaf.dtype), rows, preferred_element_type=dtype)
    return jnp.dot(columns, across)


def _answered(gradient: Any, before: Any, after: Any) -> Any:
    """Returns whether the optimizer has its own answer to a NaN, and it was one."""
    has = [
        isinstance(state, ANSWERS)
        for state in jax.tree.leaves(before, is_leaf=lambda s: isinstance(s, ANSWERS))
    ]
    if not any(has):
        return False
    infinite = [jnp.any(jnp.isinf(leaf)) for leaf in jax.tree.leaves(gradient)]
    return ~jnp.any(jnp.stack(infinite)) & still_finite(before, after)
