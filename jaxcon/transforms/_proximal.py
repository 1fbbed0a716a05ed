"""Projected and proximal gradient steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import check_function, inside
from jaxcon.transforms._entries import as_transform


def proximal(
    optimizer: optax.GradientTransformation, operator: Callable[[Any], Any]
) -> optax.GradientTransformationExtraArgs:
    r"""Applies an operator, such as a projection, to the parameters after each move.

    .. math::
        \theta \leftarrow P(\theta + u)

    With P the projection onto a set of parameters and u a gradient step this is projected
    gradient descent; with :math:`P(z) = \arg\min_\theta
    r(\theta) + \|\theta - z\|^2 / 2 \alpha` and a gradient step of rate :math:`\alpha`,
    the proximal gradient method, which minimises f + r. After an optimizer that scales
    coordinates differently, such as Adam, the iterates still lie in P's set but the fixed
    points are in general not the minimisers. A move is a difference, so the iterates lie
    in the set up to a rounding of the previous parameters.

    Args:
        optimizer: any optax optimizer.
        operator: P, params -> params, e.g. ``lambda w: optax.projections.
            projection_l1_ball(w, 2.0)``.

    Returns:
        A transform whose update needs the parameters.

    Raises:
        TypeError: `optimizer` is no optax transform, or `operator` no function.
        ValueError: when updated without params, or if the operator changes a shape.

    References:
        Parikh and Boyd, Proximal Algorithms (2014), section 4.2.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> primal = jc.proximal(optax.sgd(1.0), lambda w: jnp.clip(w, 0.0, 1.0))
        >>> w = jnp.array([0.5, 0.5])
        >>> move, _ = primal.update(jnp.array([2.0, -0.2]), primal.init(w), w)
        >>> print(w + move)
        [0.  0.7]
    """
    inner = as_transform("optimizer", optimizer)
    check_function("operator", operator, "params -> params")

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("proximal's update needs params, to know where it leads")
        moves, state = inner.update(updates, state, params, **extra)
        with inside("the operator of proximal"):
            there = operator(optax.apply_updates(params, moves))
        if jax.tree.map(jnp.shape, there) != jax.tree.map(jnp.shape, params):
            raise ValueError(
                "the operator of proximal must return parameters of the shapes it is "
                f"given, {jax.tree.map(jnp.shape, params)}, got "
                f"{jax.tree.map(jnp.shape, there)}"
            )
        return jax.tree.map(lambda new, old: new - old, there, params), state

    return optax.GradientTransformationExtraArgs(inner.init, update)
