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
        (reached, data, key, count, tolerance) -> (reached, infos), jitted.
    """
    return jax.jit(
        partial(_advance, step=step, draw=draw, streamed=streamed, length=length)
    )


def _advance(
    reached: tuple[PrimalDualState, Iterate],
    data: Any,
    key: Any,
    count: Any,
    tolerance: Any,
    *,
    step: Callable[..., tuple[PrimalDualState, Info]],
    draw: Callable[[jax.Array], Any] | None,
    streamed: bool,
    length: int,
) -> tuple[tuple[PrimalDualState, Iterate], Info]:
    """Takes `count` steps, at most `length`, and returns the infos of all of them."""

    def batch_at(i: Any, state: PrimalDualState) -> Any:
        if draw is not None:
            # Folding the step into the key makes a resumed run draw the same batches.
            return draw(jax.random.fold_in(key, state.step))
        return jax.tree.map(lambda rows: rows[i], data) if streamed else data

    def body(i: Any, carry: Any) -> Any:
        state, best, infos = carry
        new, info = step(state, batch_at(i, state))
        infos = jax.tree.map(lambda rows, row: rows.at[i].set(row), infos, info)
        return new, better(best, state, info, tolerance), infos

    state, best = reached
    _, info = jax.eval_shape(lambda s: step(s, batch_at(0, s)), state)
    infos = jax.tree.map(lambda row: jnp.zeros((length, *row.shape), row.dtype), info)
    state, best, infos = jax.lax.fori_loop(0, count, body, (state, best, infos))
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
