r"""Scales of a problem: the lengths of its gradients where it stands.

The Lagrangian's gradient is small against :math:`F = \max(\|\nabla f\|,
\|\nabla^2 f \, d\|)` with :math:`d = |\theta| + |\theta - \theta_0|`, the scale by which
`jaxcon.diagnosis` judges; a residual is small against the length of its own gradient.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxcon._dtypes import at_least_float32
from jaxcon.constraints import Constraints
from jaxcon.lagrangians import Lagrangian

# Parameters up to which a Jacobian's rows are measured exactly, and number of random
# directions above.
_EXACT, _PROBES = 32, 16


def length(tree: Any) -> jax.Array:
    """Returns the Euclidean norm of all entries, ()."""
    return optax.tree.norm(jax.tree.map(at_least_float32, tree))


def loss_scale(
    problem: Lagrangian, params: Any, start: Any, batch: Any, extra: Any
) -> jax.Array:
    """Returns the length of a gradient that is large for the loss, (); 1 if it is flat."""

    def loss(params: Any) -> jax.Array:
        return problem.evaluate(params, batch, extra).loss

    way = jax.tree.map(lambda p, p0: jnp.abs(p) + jnp.abs(p - p0), params, start)
    gradient, bend = jax.jvp(jax.grad(loss), (params,), (way,))
    scale = jnp.maximum(length(gradient), length(bend))
    return jnp.where(jnp.isfinite(scale) & (scale > 0), scale, 1.0)


def residual_scales(
    problem: Lagrangian, params: Any, batch: Any, extra: Any
) -> Constraints:
    """Returns the largest length of a residual's gradient, by constraint, each ()."""
    theta, unravel = ravel_pytree(params)

    def residuals(theta: jax.Array) -> Constraints:
        return problem.evaluate(unravel(theta), batch, extra).residuals

    exact = theta.size <= _EXACT

    def direction(i: jax.Array) -> jax.Array:
        if exact:
            return jax.nn.one_hot(i, theta.size, dtype=theta.dtype)
        key = jax.random.fold_in(jax.random.key(0), i)
        return jax.random.normal(key, theta.shape, theta.dtype) / _PROBES**0.5

    def along(i: jax.Array, total: Constraints) -> Constraints:
        moves = jax.jvp(residuals, (theta,), (direction(i),))[1]
        return jax.tree.map(lambda t, m: t + jnp.square(m), total, moves)

    count = theta.size if exact else _PROBES
    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(residuals, theta))
    squares = jax.lax.fori_loop(0, count, along, zero)

    def largest(square: jax.Array) -> jax.Array:
        scale = jnp.sqrt(jnp.max(square, initial=0))
        return jnp.where(jnp.isfinite(scale) & (scale > 0), scale, 1.0)

    return jax.tree.map(largest, squares)
