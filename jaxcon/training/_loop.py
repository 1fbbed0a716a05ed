"""The device's side of a run: a compiled loop of steps that keeps the best iterate."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon.constraints import Constraints
from jaxcon.multipliers import Table
from jaxcon.primal_dual import Info, PrimalDualState
from jaxcon.training._result import Iterate
from jaxcon.training._source import batch_at


# A second fit of the same method runs the same program; an old method's is let go.
@lru_cache(maxsize=16)
def compiled(
    step: Callable[..., Any], draw: Any, streamed: bool, length: int
) -> Callable[..., Any]:
    """The program of a chunk.

    Args:
        step: a method's.
        draw: key -> batch; or None.
        streamed: whether a chunk's data are one batch for each step.
        length: most steps of a chunk.

    Returns:
        (reached, data, key, count, allowed, tolerance) -> (reached, infos), jitted.
    """
    return jax.jit(
        partial(_advance, step=step, draw=draw, streamed=streamed, length=length)
    )


def _advance(
    reached: tuple[PrimalDualState, Iterate],
    data: Any,
    key: Any,
    count: Any,
    allowed: Any,
    tolerance: Any,
    *,
    step: Callable[..., tuple[PrimalDualState, Info]],
    draw: Callable[[jax.Array], Any] | None,
    streamed: bool,
    length: int,
) -> tuple[tuple[PrimalDualState, Iterate], Info]:
    """Takes `count` steps, at most `length`, and returns the infos of all of them.

    It ends as soon as more than `allowed` of the run's steps were skipped.
    """

    def body(carry: Any) -> Any:
        i, state, best, infos = carry
        batch = batch_at(draw, streamed, data, key, i, state.step)
        new, info = step(state, batch)
        infos = jax.tree.map(lambda rows, row: rows.at[i].set(row), infos, info)
        return i + 1, new, better(best, state, info, tolerance), infos

    def goes_on(carry: Any) -> jax.Array:
        i, state, *_ = carry
        return (i < count) & (state.skipped <= allowed)

    state, best = reached
    first = jnp.zeros((), jnp.int32)
    _, info = jax.eval_shape(
        lambda s: step(s, batch_at(draw, streamed, data, key, first, s.step)), state
    )
    infos = jax.tree.map(lambda row: jnp.zeros((length, *row.shape), row.dtype), info)
    _, state, best, infos = jax.lax.while_loop(
        goes_on, body, (first, state, best, infos)
    )
    return (state, best), infos


def first_best(state: PrimalDualState) -> Iterate:
    """No iterate at all: every finite one is better.

    Args:
        state: where the run starts.

    Returns:
        An `Iterate` of infinite loss.
    """
    # jnp.array(jnp.inf) would be weakly typed, and a restored one, which is not, would
    # make the loop compile again.
    return Iterate(
        params=state.params,
        multipliers=_without_tables(state.multipliers),
        loss=jnp.array(jnp.inf, float),
        max_violation=jnp.array(jnp.inf, float),
        feasible=jnp.array(False),
        step=jnp.array(-1, jnp.int32),
    )


def _without_tables(multipliers: Constraints) -> Constraints:
    """All but indexed ones: a copy of them each step would cost what the data cost."""
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
    """Feasible before infeasible; then by loss among feasible, else by violation.

    Args:
        best: the best so far.
        state: the next candidate.
        info: what was seen there.
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
        loss=info.loss.astype(best.loss.dtype),
        max_violation=info.max_violation.astype(best.max_violation.dtype),
        feasible=feasible,
        step=state.step,
    )
    return jax.tree.map(
        lambda new, old: jnp.where(improves & info.finite, new, old), seen, best
    )
