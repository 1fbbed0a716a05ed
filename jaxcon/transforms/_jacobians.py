"""Jacobians of residuals with respect to parameters, one row for each entry."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon.derivatives import rows_of
from jaxcon.transforms._mean_squares import Residual

# Entries up to which differentiating each through the whole batch deserves no word.
_FEW = 64


class Term(NamedTuple):
    """Residual of a loss or of a constraint, and where in the batch its entries are.

    Attributes:
        name: of the residual.
        residual: (params, batch) -> () or (n,).
        rows: numbers of the batch's leaves over whose rows it runs; None if unknown.
    """

    name: str
    residual: Residual
    rows: tuple[int, ...] | None


def term(
    name: str,
    residual: Residual,
    keys: str | tuple[str, ...] | None,
    params: Any,
    batch: Any,
) -> Term:
    """Finds the rows that a residual's entries belong to.

    Args:
        name: of the residual.
        residual: (params, batch) -> () or (n,).
        keys: of the batch, over whose rows it runs; None to find them.
        params: theta.
        batch: what the residual reads.

    Returns:
        A `Term`.

    Raises:
        ValueError: the residual has two or more dimensions, the batch no such key, or the
            residual another shape than the rows have.
    """
    shape = jax.eval_shape(residual, params, batch).shape
    if len(shape) > 1:
        raise ValueError(f"residual {name!r} has shape {shape}, not () or (n,)")
    if keys is None:
        # One entry costs the same either way.
        found = None if shape in ((), (1,)) else _found(residual, params, batch)
        if found is None and shape and shape[0] > _FEW:
            warnings.warn(
                f"gauss_newton differentiates each of the {shape[0]} entries of residual "
                f"{name!r} through the whole batch: no entry is known to read one row "
                "alone; where each does, name the rows' keys in on=",
                stacklevel=2,
            )
        return Term(name, residual, found)
    keys = (keys,) if isinstance(keys, str) else tuple(keys)
    if not isinstance(batch, Mapping) or not set(keys) <= batch.keys():
        known = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(
            f"residual {name!r} runs over the rows of {', '.join(map(repr, keys))} in the "
            f"batch, which has {known}"
        )
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(batch)]
    rows = tuple(i for i, path in enumerate(paths) if path[0].key in keys)
    one = jax.eval_shape(residual, params, _one(batch, rows)).shape
    if one != (1,):
        raise ValueError(
            f"residual {name!r} has shape {one} for one row of "
            f"{', '.join(map(repr, keys))}, not (1,): name in on= the entries it runs "
            "over, or leave it out"
        )
    lengths = {jax.tree.leaves(batch)[i].shape[0] for i in rows}
    if shape and lengths != {shape[0]}:
        raise ValueError(
            f"residual {name!r} has shape {shape}, but the batch has "
            f"{' and '.join(map(str, sorted(lengths)))} rows under "
            f"{', '.join(map(repr, keys))}"
        )
    return Term(name, residual, rows)


def jacobian(term: Term, params: Any, batch: Any) -> list[jax.Array]:
    """Evaluates a residual's Jacobian.

    Args:
        term: the residual, of n entries.
        params: theta.
        batch: what the residual reads.

    Returns:
        For each leaf of the parameters, of size p, the derivatives (n, p).
    """
    if term.rows is None:

        def whole(params: Any) -> jax.Array:
            return jnp.atleast_1d(term.residual(params, batch))

        found = jax.jacrev(whole)(params)
    else:
        leaves, tree = jax.tree.flatten(batch)
        rows = {i: leaves[i] for i in term.rows}

        def entry(params: Any, row: dict[int, jax.Array]) -> jax.Array:
            here = [row[i][None] if i in row else leaf for i, leaf in enumerate(leaves)]
            return term.residual(params, tree.unflatten(here))[0]

        found = jax.vmap(jax.grad(entry), (None, 0))(params, rows)
    return [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(found)]


def _found(residual: Residual, params: Any, batch: Any) -> tuple[int, ...] | None:
    return rows_of(lambda batch: residual(params, batch), batch)


def _one(batch: Any, rows: tuple[int, ...]) -> Any:
    """Returns the batch with the first of its rows alone, as shapes."""
    leaves, tree = jax.tree.flatten(batch)
    return tree.unflatten(
        [
            jax.ShapeDtypeStruct((1, *leaf.shape[1:]), jnp.asarray(leaf).dtype)
            if i in rows
            else leaf
            for i, leaf in enumerate(leaves)
        ]
    )
