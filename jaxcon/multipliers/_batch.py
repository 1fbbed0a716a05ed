"""Multipliers that a batch reads and moves."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon._checks import check_real, described, inside
from jaxcon.constraints import Constraints, batch_part
from jaxcon.multipliers._kinds import Indexed, Kinds, Network, Table, Weights


def start(kinds: Kinds, residuals: Constraints, inequality: float = 0.0) -> Constraints:
    """Returns the multipliers that training starts from.

    Args:
        kinds: by constraint name; dense where there is none.
        residuals: h and g, each () or (n,); arrays or `jax.ShapeDtypeStruct`s.
        inequality: the first value of those of inequalities (those of a network start at
            their network's output); those of equalities start at zero.

    Returns:
        One entry for each constraint: an array, a `Table` or `Weights`.
    """

    def entry(kind: str, name: str, residual: Any) -> Any:
        value = inequality if kind == "inequality" else 0.0
        match kinds.get(name):
            case Network(params=params):
                # The params are copied: a donated state must leave the kind its own.
                # The dtype is given, since a weakly typed leaf would be traced anew.
                return Weights(
                    jax.tree.map(
                        lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), params
                    )
                )
            case Indexed(size=size):
                shape = (size,)
            case _:
                shape = residual.shape
        # Sums of small steps stand still in formats shorter than float32.
        dtype = jnp.promote_types(residual.dtype, jnp.float32)
        array = jnp.full(shape, value, dtype)
        return Table(array) if name in kinds else array

    return _map(entry, residuals)


def gather(kinds: Kinds, multipliers: Constraints, batch: Any) -> Constraints:
    """Gathers the multipliers that a batch can move; of a table, its samples' rows.

    Args:
        kinds: by constraint name.
        multipliers: all of them.
        batch: the data of the constraints.

    Returns:
        `multipliers` with each `Table` replaced by rows of shape (n,); NaN where an index
        is out of range.

    Raises:
        TypeError: multipliers are not of their kind.
    """

    def entry(of: str, name: str, multiplier: Any) -> Any:
        kind = kinds.get(name)
        wanted = {Indexed: Table, Network: Weights}.get(type(kind))
        if wanted is not None and not isinstance(multiplier, wanted):
            raise TypeError(
                f"the multipliers of {of} constraint {name!r} must be a "
                f"jaxcon.multipliers.{wanted.__name__}, as its kind says, got "
                f"{described(multiplier)}"
            )
        if isinstance(kind, Indexed):
            return rows(multiplier.rows, indices(name, kind, batch))
        return multiplier

    return _map(entry, multipliers)


def scatter(
    kinds: Kinds, multipliers: Constraints, touched: Constraints, batch: Any
) -> Constraints:
    """Scatters the rows that `gather` read and a step moved back into their tables.

    Args:
        kinds: by constraint name.
        multipliers: all of them, before the step.
        touched: those of the batch, after the step.
        batch: the one that `gather` read.

    Returns:
        All of them, after the step.
    """

    def entry(kind: str, name: str, new: Any) -> Any:
        how = kinds.get(name)
        if isinstance(how, Indexed):
            table = getattr(multipliers, kind)[name].rows
            return Table(put_rows(table, indices(name, how, batch), new))
        return new

    return _map(entry, touched)


def read(
    kinds: Kinds, touched: Constraints, residuals: Constraints, batch: Any
) -> Constraints:
    """Returns the multiplier of each residual.

    Args:
        kinds: by constraint name.
        touched: the result of `gather`.
        residuals: h and g, each () or (n,); or their shapes.
        batch: the data of the constraints.

    Returns:
        mu and lambda, shaped like `residuals`.

    Raises:
        ValueError: a network's output, or the rows of the batch's indices, do not match
            the residual's shape.
    """

    def entry(kind: str, name: str, multiplier: Any) -> Any:
        how = kinds.get(name)
        if how is None:
            return multiplier
        residual = getattr(residuals, kind)[name]
        if isinstance(how, Network):
            return _density(kind, name, how, multiplier, residual, batch)
        if multiplier.shape != residual.shape:
            raise ValueError(
                f"indices of {kind} constraint {name!r} have shape {multiplier.shape} "
                f"but its residual has {residual.shape}; both must be (n,), one number "
                "per sample"
            )
        return multiplier

    return _map(entry, touched)


def ascent(
    kinds: Kinds, touched: Constraints, residuals: Constraints, batch: Any
) -> Constraints:
    """Returns the gradient of the Lagrangian with respect to the result of `gather`.

    Args:
        kinds: by constraint name.
        touched: the result of `gather`.
        residuals: h and g, each () or (n,).
        batch: the data of the constraints.

    Returns:
        A tree like `touched`: the residuals themselves, summed over a sample that the
        batch has twice, and pulled back through a network.
    """

    def entry(kind: str, name: str, multiplier: Any) -> Any:
        how = kinds.get(name)
        residual = getattr(residuals, kind)[name]
        if not isinstance(how, Network):
            residual = residual.astype(multiplier.dtype)
            if isinstance(how, Indexed):
                return _summed(indices(name, how, batch), residual)
            return residual
        density, pullback = jax.vjp(
            lambda psi: _density(kind, name, how, psi, residual, batch), multiplier
        )
        return pullback(residual.astype(density.dtype))[0]

    return _map(entry, touched)


def joined(
    kinds: Kinds, multipliers: Constraints, estimates: Constraints, batch: Any
) -> Constraints:
    r"""Joins the estimates of a sample that a batch holds twice, so that both move it once.

    .. math::
        \lambda + \sum (\hat\lambda - \lambda)

    Args:
        kinds: by constraint name.
        multipliers: mu and lambda of each residual.
        estimates: shaped like them.
        batch: the data of the constraints.

    Returns:
        Estimates, equal for equal samples and >= 0 for inequalities.
    """

    def entry(kind: str, name: str, estimate: jax.Array) -> jax.Array:
        how = kinds.get(name)
        if not isinstance(how, Indexed):
            return estimate
        before = getattr(multipliers, kind)[name]
        after = before + _summed(indices(name, how, batch), estimate - before)
        return jnp.maximum(after, 0) if kind == "inequality" else after

    return _map(entry, estimates)


def indices(name: str, kind: Indexed, batch: Any) -> jax.Array:
    """Returns the indices of the samples that a batch holds.

    Args:
        name: the constraint's.
        kind: its kind.
        batch: the data of the constraints.

    Returns:
        Indices, shape (n,).

    Raises:
        ValueError: they are not in the batch, or not of shape (n,).
        TypeError: they are no integers.
    """
    index = _part(f"indices of constraint {name!r}", kind.on, batch)
    if not hasattr(index, "shape"):
        raise TypeError(
            f"indices of constraint {name!r} must be an array (n,) of integers, got "
            f"{described(index)}"
        )
    index = jnp.asarray(index)
    if index.ndim != 1:
        raise ValueError(
            f"indices of constraint {name!r} must have shape (n,), got {index.shape}"
        )
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise TypeError(
            f"indices of constraint {name!r} must be integers, got {index.dtype}"
        )
    # A negative index would read from the end; past the end it reads NaN. The size may
    # be past the end of the index's own dtype.
    return jnp.where(index < 0, kind.size, index.astype(int))


def rows(table: jax.Array, index: jax.Array) -> jax.Array:
    """Reads rows of a table along its first axis: NaN, or 0 of an integer, past the end.

    Args:
        table: (size, ...).
        index: which, shape (n,), none negative.

    Returns:
        Shape (n, ...).
    """
    floating = jnp.issubdtype(table.dtype, jnp.floating)
    return table.at[index].get(mode="fill", fill_value=jnp.nan if floating else 0)


def put_rows(table: jax.Array, index: jax.Array, new: jax.Array) -> jax.Array:
    """Replaces some rows of a table and drops those past its end.

    Args:
        table: (size, ...).
        index: which, shape (n,), none negative; equal ones with equal rows.
        new: (n, ...).

    Returns:
        Shape (size, ...).
    """
    return table.at[index].set(new, mode="drop")


def _summed(index: jax.Array, residual: jax.Array) -> jax.Array:
    """Replaces each entry by the sum over all entries of its index."""
    _, inverse = jnp.unique(index, return_inverse=True, size=index.size)
    total = jax.ops.segment_sum(residual, inverse, num_segments=index.size)
    return total[inverse]


def _density(
    kind: str, name: str, how: Network, weights: Weights, residual: Any, batch: Any
) -> jax.Array:
    what = f"network multipliers of {kind} constraint {name!r}"
    points = _part(what, how.on, batch)

    def at(x: Any) -> jax.Array:
        value = how.apply(weights.params, x)
        return check_real(f"apply of {what} returned", value, "one real number ()")

    with inside(what):
        output = jax.vmap(at)(points)
    if output.shape != residual.shape:
        raise ValueError(
            f"{what} have shape {output.shape} but its residual has {residual.shape}; "
            "both must be (n,), one number per point"
        )
    if kind == "inequality":
        with inside(f"positive of {what}"):
            output = how.positive(output)
        output = check_real(f"positive of {what} returned", output, "real numbers (n,)")
    return output / output.size


def _part(what: str, on: Any, batch: Any) -> Any:
    """Reads the part of a batch that multipliers need; an error names it by `what`."""
    try:
        return batch_part(on, batch)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _map(entry: Callable[[str, str, Any], Any], entries: Constraints) -> Constraints:
    """Builds `Constraints` from entry(kind, name, old)."""
    return Constraints(
        *(
            {name: entry(kind, name, old) for name, old in olds.items()}
            for kind, olds in zip(Constraints._fields, entries)
        )
    )
