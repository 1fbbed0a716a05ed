"""Ascent on multipliers along the residuals and the method of multipliers."""

from typing import Any

import jax
import optax

from jaxcon.constraints import Constraints, named
from jaxcon.transforms._entries import (
    DualTransform,
    as_transform,
    check_array,
    is_array,
    map_entries,
)


def dual_ascent(
    optimizer: optax.GradientTransformation,
) -> DualTransform:
    r"""Ascends by `optimizer` and projects inequality multipliers onto [0, ∞).

    The residuals are the gradient of the Lagrangian with respect to the multipliers, so
    with plain SGD of rate :math:`\eta` this is

    .. math::
        \mu \leftarrow \mu + \eta h, \qquad
        \lambda \leftarrow \max(0, \lambda + \eta g).

    With an augmented Lagrangian of penalty :math:`\rho = \eta` it is the method of
    multipliers. Momentum and Adam on multipliers tend to oscillate: begin with SGD.
    Other transforms are compositions:

    - optimistic ascent: ``dual_ascent(optax.optimistic_gradient_descent(eta))``
    - PI and PID control: `nupi`, `pid`
    - a running mean of residuals: ``dual_ascent(optax.chain(optax.ema(0.9), sgd(eta)))``
    - the mean residual of k calls: ``optax.MultiSteps(dual, k).gradient_transformation()``
    - the residual of every k-th call: `every`
    - multipliers in a box: `capped`

    Under noisy residuals the projection at 0 gives the multiplier of a slack constraint a
    positive mean. With margin m and noise of deviation :math:`\sigma` this mean is nearly
    :math:`\eta \sigma^2 / 2m` for small :math:`m / \sigma`. It is less for larger ratios,
    and always proportional to :math:`\eta`. At :math:`\eta = 0.1, \sigma = 0.5, m = 0.25`
    it was 0.0265. With a tenth of the rate it was 0.0026; with the mean of 10 residuals,
    which is as slow, 0.0004, inside this transform or around it; with ``ema(0.9)``, which
    keeps the speed, 0.0004 (``python -m benchmarks.stochastic_constraints``). The
    multiplier of an active constraint is far from 0 and did not move. A penalty has a bias
    of its own, :math:`E \max(\lambda + \rho g, 0)`, which none of these lowers.

    An entry that is not an array, such as the parameters of a network that computes
    multipliers, ascends too, and is not projected.

    Args:
        optimizer: any optax optimizer; its learning rate is the dual one.

    Returns:
        A transform over `Constraints` of residuals and multipliers.

    Raises:
        TypeError: `optimizer` is no optax transform.

    References:
        Arrow, Hurwicz and Uzawa, Studies in Linear and Non-linear Programming (1958);
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.39 and section 17.4.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> dual = jc.dual_ascent(optax.sgd(0.5))
        >>> lam = jc.Constraints(inequality={"cap": jnp.array(0.1)})
        >>> g = jc.Constraints(inequality={"cap": jnp.array(-1.0)})
        >>> climb, _ = dual.update(g, dual.init(lam), lam)
        >>> print(optax.apply_updates(lam, climb).inequality["cap"])
        0.0
    """
    # The sign changes before the optimizer, so that its momentum and its statistics
    # belong to an ordinary descent. The projection acts last, on the finished update.
    return DualTransform(
        *optax.chain(
            optax.scale(-1.0),
            as_transform("optimizer", optimizer),
            optax.masked(optax.keep_params_nonnegative(), _project_nonnegative),
        )
    )


def _project_nonnegative(multipliers: Any) -> Any:
    """Returns the mask of the multipliers that must stay >= 0."""
    return Constraints(
        equality=False,  # pyright: ignore[reportArgumentType]
        inequality=map_entries(is_array, multipliers.inequality),
    )


def method_of_multipliers() -> DualTransform:
    r"""Sets each multiplier to its estimate under the present penalty.

    .. math::
        \mu \leftarrow \mu + \rho h, \qquad \lambda \leftarrow \max(\lambda + \rho g, 0)

    It has no rate that must agree with the penalty. The estimates are the weights of the
    residuals' gradients in the gradient of the augmented Lagrangian, with a barrier too.
    The classical method minimises over the parameters in between; `every` leaves them
    steps for this.

    Returns:
        A transform over `Constraints` of residuals and multipliers. Its update takes
        the extra arguments ``estimates``, shaped like the multipliers, and ``penalty``,
        `Constraints` of ().

    Raises:
        ValueError: when traced, if there is no penalty, or none for some constraint, or
            if a constraint's multipliers are computed by a network.

    References:
        Nocedal and Wright, Numerical Optimization (2006), eq. 17.39 and section 17.4.
        Hestenes, Multiplier and Gradient Methods (1969), and Powell, A Method for
        Nonlinear Constraints in Minimization Problems (1969), for equalities.

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> dual = jc.method_of_multipliers()
        >>> mu = jc.Constraints({"h": jnp.array(1.0)})
        >>> h, rho = jc.Constraints({"h": jnp.array(0.5)}), jnp.array(4.0)
        >>> estimates = jc.multiplier_estimates(h, mu, rho)
        >>> penalty = jc.Constraints({"h": rho})
        >>> state = dual.init(mu)
        >>> move, _ = dual.update(h, state, mu, estimates=estimates, penalty=penalty)
        >>> print(move.equality["h"])
        2.0
    """

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        estimates: Any = None,
        penalty: Any = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        del updates, extra
        for kind, name, multiplier in named(params):
            check_array("method_of_multipliers", kind, name, multiplier)
            if penalty is None or name not in getattr(penalty, kind):
                raise ValueError(
                    f"method_of_multipliers needs a penalty for {kind} constraint "
                    f"{name!r}, e.g. alternating(..., penalty=10.0), and that it reaches "
                    "it: optax.MultiSteps drops extra arguments, jaxcon.every does not"
                )
        return jax.tree.map(lambda new, old: new - old, estimates, params), state

    return DualTransform(lambda params: optax.EmptyState(), update)
