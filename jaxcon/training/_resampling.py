"""Constraints whose points change while their multipliers stay."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.constraints import evaluate, named
from jaxcon.lagrangians import SplitBatch
from jaxcon.primal_dual import PrimalDualState, Solver
from jaxcon.primal_dual._dependence import dependent, depends
from jaxcon.training._source import Source


def moving_points(
    solver: Solver, state: PrimalDualState, source: Source, data: Any
) -> set[tuple[str, str]]:
    """Finds constraints with a multiplier for each point whose points are drawn anew.

    Args:
        solver: what takes the steps.
        state: a state of the run.
        source: where batches come from.
        data: what the source read for a chunk.

    Returns:
        (kind, name) of each constraint of n > 1 dense multipliers whose residuals
        depend on what differs from batch to batch, as do n rows of it.
    """
    if source.draw is not None:
        drawn, batch = jax.make_jaxpr(source.draw, return_shape=True)(source.key, state)
        changes = depends(drawn.jaxpr, [True] * len(drawn.jaxpr.invars))
    elif source.streamed:
        batch = source.first
        # Points may be drawn anew only every so many batches.
        changes = [
            bool(np.any(rows != first))
            for rows, first in zip(jax.tree.leaves(data), jax.tree.leaves(batch))
        ]
    else:
        return set()
    if not any(changes):
        return set()

    def residuals(params: Any, batch: Any) -> Any:
        # Points that the solver moves take their multipliers with them.
        batch = solver.with_points(state, batch)
        there = batch.dual if isinstance(batch, SplitBatch) else batch
        if any(solver.problem.constraints):  # the loss need not be traced
            return evaluate(solver.problem.constraints, params, there)
        return solver.problem.evaluate(params, there, state.extra).residuals

    moves = dependent(residuals, state.params, batch, changes)
    # A residual as long as nothing that changes has entries of its own, e.g. one for each
    # group of samples, which stay what they are.
    new = [leaf for leaf, moved in zip(jax.tree.leaves(batch), changes) if moved]
    lengths = {leaf.shape[0] for leaf in new if leaf.shape}
    # With a key a constraint draws its points itself.
    drawn_inside = any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in new)
    return {
        (kind, name)
        for kind, name, multiplier in named(state.multipliers)
        if isinstance(multiplier, jax.Array)
        and multiplier.size > 1
        and (drawn_inside or multiplier.size in lengths)
        and getattr(moves, kind)[name]
    }
