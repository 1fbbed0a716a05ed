"""Compiled loop of steps that keeps the best iterate."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Literal, jaxpr_as_fun

from jaxcon.constraints import Constraints
from jaxcon.multipliers import Table
from jaxcon.primal_dual import Info, PrimalDualState
from jaxcon.training._history import Packing
from jaxcon.training._program import Program
from jaxcon.training._result import Iterate
from jaxcon.training._source import batch_at

# Numbers of an iterate up to which a select costs less than a branch.
_SMALL = 4096


# A second fit by the same solver runs the same program; an old solver's is let go.
@lru_cache(maxsize=16)
def compiled(
    step: Callable[..., Any], draw: Any, streamed: bool, length: int | None
) -> Program:
    """Returns the program of a chunk.

    Args:
        step: a solver's.
        draw: (key, state) -> batch; or None.
        streamed: whether a chunk's data are one batch for each step.
        length: most steps of a chunk; chosen by the size of the infos if None.

    Returns:
        (reached, data, key, count, allowed, tolerance) -> (reached, packed infos).
    """
    layout: list[Packing] = []
    advance = partial(
        _advance,
        step=step,
        draw=draw,
        streamed=streamed,
        length=length,
        layout=layout,
    )
    return Program(advance, layout)


def _advance(
    reached: tuple[PrimalDualState, Iterate],
    data: Any,
    key: Any,
    count: Any,
    allowed: Any,
    tolerance: Any,
    *,
    step: Callable[..., tuple[PrimalDualState, Info]],
    draw: Callable[..., Any] | None,
    streamed: bool,
    length: int | None,
    layout: list[Packing],
) -> tuple[tuple[PrimalDualState, Iterate], Any]:
    """Takes `count` steps, at most `length`, and returns the infos of all of them.

    It ends as soon as more than `allowed` of the run's steps were skipped.
    """
    state, best = reached
    first = jnp.zeros((), jnp.int32)

    def one(i: Any, state: PrimalDualState) -> Any:
        return step(state, batch_at(draw, streamed, data, key, i, state))

    # Traced once, for the infos' shapes and for the loop.
    closed, shapes = jax.make_jaxpr(one, return_shape=True)(first, state)
    packing = Packing(shapes[1], _constants(closed)[-len(jax.tree.leaves(shapes[1])) :])
    layout[:] = [packing]
    length = length or packing.longest
    tree = jax.tree.structure(shapes)
    run = jaxpr_as_fun(closed)

    def written(infos: list[Any], row: list[Any], i: Any) -> list[Any]:
        # Not rows.at[i].set(one), whose check of the index reads all rows.
        return [
            jax.lax.dynamic_update_index_in_dim(rows, one, i, 0)
            for rows, one in zip(infos, row)
        ]

    def body(carry: Any) -> Any:
        i, state, best, infos, row = carry
        # A row is written one step later: fused with what it is computed from, the
        # writing would be spread over all rows.
        infos = written(infos, row, jnp.maximum(i - 1, 0))
        new, info = jax.tree.unflatten(tree, run(i, *jax.tree.leaves(state)))
        best = better(best, state, info, tolerance)
        return i + 1, new, best, infos, packing.pack(info)

    def goes_on(carry: Any) -> jax.Array:
        i, state, *_ = carry
        return (i < count) & (state.skipped <= allowed)

    row = jax.eval_shape(packing.pack, shapes[1])
    row = [jnp.zeros(one.shape, one.dtype) for one in row]
    infos = [jnp.zeros((length, *one.shape), one.dtype) for one in row]
    i, state, best, infos, row = jax.lax.while_loop(
        goes_on, body, (first, state, best, infos, row)
    )
    infos = written(infos, row, jnp.maximum(i - 1, 0))
    return (state, best), infos


def _constants(closed: Any) -> list[Any]:
    """Returns the values of outputs that are constants of a jaxpr; None of others."""
    known = dict(zip(closed.jaxpr.constvars, closed.consts))
    values = []
    for atom in closed.jaxpr.outvars:
        value = atom.val if isinstance(atom, Literal) else known.get(atom)
        concrete = value is not None and not isinstance(value, Tracer)
        aval: Any = atom.aval
        values.append(np.asarray(value, aval.dtype) if concrete else None)
    return values


def first_best(state: PrimalDualState) -> Iterate:
    """Returns an iterate of infinite loss, which every finite one is better than.

    Args:
        state: where the run starts.

    Returns:
        An `Iterate`.
    """
    # jnp.array(jnp.inf) would be weakly typed, and a restored one, which is not, would
    # make the loop compile again.
    return Iterate(
        params=state.params,
        multipliers=_without_tables(state.multipliers),
        penalty=state.penalty,
        extra=state.extra,
        loss=jnp.array(jnp.inf, float),
        max_violation=jnp.array(jnp.inf, float),
        feasible=jnp.array(False),
        step=jnp.array(-1, jnp.int32),
    )


def _without_tables(multipliers: Constraints) -> Constraints:
    """Drops indexed multipliers: copying them each step would cost what the data cost."""
    return Constraints(
        *(
            {
                name: entry
                for name, entry in kind.items()
                if not isinstance(entry, Table)
            }
            for kind in multipliers
        )
    )


def better(
    best: Iterate, state: PrimalDualState, info: Info, tolerance: Any
) -> Iterate:
    """Selects the better iterate: feasible ones by loss, others by violation.

    Args:
        best: the best so far.
        state: the next candidate.
        info: the report of it.
        tolerance: largest violation that counts as feasible.

    Returns:
        The better of the two.
    """
    feasible = info.max_violation <= tolerance
    improves = jnp.where(
        best.feasible,
        feasible & (info.loss < best.loss),
        feasible | (info.max_violation < best.max_violation),
    )
    seen = Iterate(
        params=state.params,
        multipliers=_without_tables(state.multipliers),
        penalty=state.penalty,
        extra=state.extra,
        loss=info.loss.astype(best.loss.dtype),
        max_violation=info.max_violation.astype(best.max_violation.dtype),
        feasible=feasible,
        step=state.step,
    )
    take = improves & info.finite
    # A branch copies nothing that does not change; small arrays are selected faster.
    size = sum(leaf.size for leaf in jax.tree.leaves(best))
    if jax.default_backend() == "cpu" and size > _SMALL:
        return jax.lax.cond(take, lambda: seen, lambda: best)
    return jax.tree.map(lambda new, old: jnp.where(take, new, old), seen, best)
