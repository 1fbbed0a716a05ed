"""Gradient ascent on multipliers."""

import optax

from jaxcon.constraints import Constraints


def dual_ascent(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    r"""Climbs where `optimizer` would descend, and keeps inequality multipliers >= 0.

    The residuals are the gradient of the Lagrangian with respect to the multipliers, so
    with plain SGD of rate :math:`\eta` this is

    .. math::
        \mu \leftarrow \mu + \eta h, \qquad
        \lambda \leftarrow \max(0, \lambda + \eta g).

    With an augmented Lagrangian of penalty :math:`\rho = \eta` it is the method of
    multipliers. Momentum and Adam on multipliers tend to oscillate: begin with SGD.

    Args:
        optimizer: any optax optimizer; its learning rate is the dual one.

    Returns:
        A transform over `Constraints` of residuals and multipliers.

    References:
        Arrow, Hurwicz and Uzawa, Studies in Linear and Non-linear Programming (1958);
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.39 and section 17.4.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> dual = jc.dual_ascent(optax.sgd(0.5))
        >>> lam = jc.Constraints(inequality={"cap": jnp.array(0.1)})
        >>> g = jc.Constraints(inequality={"cap": jnp.array(-1.0)})
        >>> climb, _ = dual.update(g, dual.init(lam), lam)
        >>> print(optax.apply_updates(lam, climb).inequality["cap"])
        0.0
    """
    # The sign is turned before the optimizer, so that its momentum and its statistics
    # see an ordinary descent; the projection stands last, on the finished update.
    nonnegative = Constraints(equality=False, inequality=True)  # pyright: ignore[reportArgumentType]
    return optax.chain(
        optax.scale(-1.0),
        optimizer,
        optax.masked(optax.keep_params_nonnegative(), nonnegative),
    )
