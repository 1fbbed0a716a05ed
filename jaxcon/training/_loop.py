"""Compiled loop of steps that keeps the best iterate."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Literal, jaxpr_as_fun

from jaxcon._programs import Program
from jaxcon.constraints import Constraints
from jaxcon.multipliers import Table
from jaxcon.primal_dual import Info, PrimalDualState
from jaxcon.training._history import Packing
from jaxcon.training._result import Iterate
from jaxcon.training._source import batch_at

# Bytes of the rows that are written one by one.
_BLOCK = 2**15
# Numbers of an iterate up to which a select costs less than a branch.
_SMALL = 4096


# A second fit by the same solver runs the same program; an old solver's is let go.
@lru_cache(maxsize=16)
def compiled(
    step: Callable[..., Any],
    finished: Callable[[Any], Any],
    draw: Any,
    streamed: bool,
    length: int | None,
) -> Program:
    """Returns the program of a chunk.

    Args:
        step: a solver's.
        finished: a solver's; the chunk ends where it is true.
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
        finished=finished,
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
    finished: Callable[[PrimalDualState], Any],
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

    row = jax.eval_shape(packing.pack, shapes[1])
    # XLA spreads the writing of a row into a large array over threads, at each step:
    # rows are written into a small array, which now and then is written into the large.
    block = packing.rows(_BLOCK, length)
    blocks = -(-length // block)

    def body(carry: Any) -> Any:
        i, begin, state, best, rows = carry
        new, info = jax.tree.unflatten(tree, run(i, *jax.tree.leaves(state)))
        rows = [
            jax.lax.dynamic_update_index_in_dim(array, one, i - begin, 0)
            for array, one in zip(rows, packing.pack(info))
        ]
        return i + 1, begin, new, better(best, state, info, tolerance), rows

    def goes_on(carry: Any) -> jax.Array:
        i, begin, state, *_ = carry
        goes_on = (i < count) & (state.skipped <= allowed) & (i - begin < block)
        return goes_on & ~finished(state)

    def body_of_blocks(carry: Any) -> Any:
        begin, state, best, rows, infos = carry
        i, _, state, best, rows = jax.lax.while_loop(
            goes_on, body, (begin, begin, state, best, rows)
        )
        infos = [
            jax.lax.dynamic_update_slice_in_dim(all_rows, some, begin, 0)
            for all_rows, some in zip(infos, rows)
        ]
        return i, state, best, rows, infos

    rows = [jnp.zeros((block, *one.shape), one.dtype) for one in row]
    infos = [jnp.zeros((blocks * block, *one.shape), one.dtype) for one in row]
    _, state, best, _, infos = jax.lax.while_loop(
        lambda carry: goes_on((carry[0], carry[0], *carry[1:])),
        body_of_blocks,
        (first, state, best, rows, infos),
    )
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
    # make the loop compile again; and jax_debug_infs would stop at it.
    worst = jax.device_put(np.array(np.inf, jnp.result_type(float)))
    return Iterate(
        params=state.params,
        multipliers=_without_tables(state.multipliers),
        penalty=state.penalty,
        extra=state.extra,
        loss=worst,
        max_violation=worst,
        feasible=jnp.array(False),
        step=jnp.array(-1, jnp.int32),
        points=state.points,
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
        points=state.points,
    )
    take = improves & info.finite
    # A branch copies nothing that does not change; small arrays are selected faster.
    size = sum(leaf.size for leaf in jax.tree.leaves(best))
    if jax.default_backend() == "cpu" and size > _SMALL:
        return jax.lax.cond(take, lambda: seen, lambda: best)
    return jax.tree.map(lambda new, old: jnp.where(take, new, old), seen, best)
