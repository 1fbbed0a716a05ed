"""Restoration of feasibility: descent on the violations from the end of a run."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.constraints import violation
from jaxcon.lagrangians import Lagrangian

# Steps, at most.
_DESCENTS = 100
# Lengths of step that are tried, in sizes of the parameters.
_LENGTHS = 2.0 ** np.arange(-20, 7)


@lru_cache(maxsize=16)
def restoration(problem: Lagrangian) -> Any:
    """Returns (params, batch, extra, size, tolerance) -> params of smaller violations.

    Steepest descent on the sum of squared violations, with lengths of step that are tried
    from all scales up to many times the size of the parameters.
    """

    def restore(params: Any, batch: Any, extra: Any, size: Any, tolerance: Any) -> Any:
        def squares(params: Any) -> tuple[jax.Array, jax.Array]:
            found = violation(problem.evaluate(params, batch, extra).residuals)
            leaves = jax.tree.leaves(found)
            total = sum((square(leaf) for leaf in leaves), start=jnp.zeros(()))
            return total, jnp.max(jnp.stack([jnp.max(x, initial=0) for x in leaves]))

        def step(carry: Any) -> Any:
            i, params, value, _, _ = carry
            gradient = jax.grad(lambda p: squares(p)[0])(params)
            norm = jnp.sqrt(sum(square(leaf) for leaf in jax.tree.leaves(gradient)))
            unit = size / jnp.where(norm > 0, norm, 1.0)
            lengths = jnp.asarray(_LENGTHS, unit.dtype)

            def moved(length: Any) -> Any:
                # A complex gradient is the conjugate of the direction it stands for.
                return jax.tree.map(
                    lambda p, g: (p - length * unit * jnp.conj(g)).astype(p.dtype),
                    params,
                    gradient,
                )

            tried = jax.lax.map(lambda length: squares(moved(length))[0], lengths)
            best = jnp.argmin(jnp.where(jnp.isfinite(tried), tried, jnp.inf))
            better = (tried[best] < value) & (norm > 0)
            new = moved(jnp.where(better, lengths[best], 0.0))
            value, worst = squares(new)
            return i + 1, new, value, worst, better

        def goes_on(carry: Any) -> jax.Array:
            i, _, _, worst, better = carry
            return (i < _DESCENTS) & better & (worst > tolerance)

        params = jax.tree.map(jnp.asarray, params)
        value, worst = squares(params)
        start = jnp.zeros((), jnp.int32), params, value, worst, jnp.array(True)
        return jax.lax.while_loop(goes_on, step, start)[1]

    return jax.jit(restore)


def square(leaf: jax.Array) -> jax.Array:
    """Returns the sum of squares, in float32 at least."""
    wide = jnp.promote_types(jnp.abs(leaf).dtype, jnp.float32)
    return jnp.sum(jnp.square(jnp.abs(leaf).astype(wide)))
