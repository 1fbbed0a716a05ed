"""Bounds on multipliers and restarts at zero where constraints hold."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import check_number
from jaxcon.constraints import Constraints
from jaxcon.transforms._entries import as_dual, is_array, map_entries


class CappedState(NamedTuple):
    """State of `capped`.

    Attributes:
        inner: state of the transform it wraps.
        at_cap: whether some multiplier of a constraint reached its cap at the last
            update, each a boolean of shape ().
    """

    inner: Any
    at_cap: Constraints


def capped(
    dual: optax.GradientTransformation, limit: Any
) -> optax.GradientTransformationExtraArgs:
    r"""Projects multipliers onto a box and flags the constraints at its bound.

    .. math::
        \mu \leftarrow \min(\max(\mu, -c), c), \qquad
        \lambda \leftarrow \min(\max(\lambda, 0), c)

    The multipliers of an infeasible problem grow without end; a cap keeps them, and the
    objective's gradient, in range. A cap that stays reached means that the constraint
    is not met, or that its true multiplier is larger than the cap. An entry that is
    not an array is left unchanged.

    Args:
        dual: a transform for multipliers.
        limit: c > 0.

    Returns:
        A transform over `Constraints` of residuals and multipliers; its state is a
        `CappedState`.

    Raises:
        TypeError: `dual` is no optax transform.
        ValueError: `dual` descends; or `limit` is not positive.

    References:
        Andreani et al., On Augmented Lagrangian Methods with General Lower-Level
        Constraints (2008), who keep the estimates in a bounded box.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> dual = jc.capped(jc.dual_ascent(optax.sgd(1.0)), limit=3.0)
        >>> mu = jc.Constraints({"h": jnp.array([0.0, 2.0])})
        >>> h = jc.Constraints({"h": jnp.array([1.0, 8.0])})
        >>> climb, state = dual.update(h, dual.init(mu), mu)
        >>> print(climb.equality["h"], state.at_cap.equality["h"])
        [1. 1.] True
    """
    dual = as_dual("dual", dual)
    check_number("limit", limit, above=0, finite=False)
    lows = Constraints(equality=-limit, inequality=0)  # pyright: ignore[reportArgumentType]

    def init(params: Any) -> Any:
        nowhere = [map_entries(lambda _: jnp.array(False), kind) for kind in params]
        return CappedState(dual.init(params), Constraints(*nowhere))

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        moves: Any
        moves, inner = dual.update(updates, state.inner, params, **extra)
        boxed, at_cap = [], []
        for low, kind, multipliers in zip(lows, moves, params):
            targets = map_entries(_target(low, limit), kind, multipliers)
            boxed.append(map_entries(_move_to, kind, multipliers, targets))
            at_cap.append(map_entries(_reaches(limit), targets))
        return Constraints(*boxed), CappedState(inner, Constraints(*at_cap))

    return type(dual)(init, update)


def _target(low: Any, high: Any) -> Any:
    def target(move: Any, multiplier: Any) -> Any:
        if not is_array(move):
            return move
        return jnp.clip(multiplier + move, low, high).astype(multiplier.dtype)

    return target


def _move_to(move: Any, multiplier: Any, target: Any) -> Any:
    if not is_array(move):
        return move
    # Inside the box the move is unchanged to the bit.
    inside = multiplier + move == target
    return jnp.where(inside, move, target - multiplier).astype(move.dtype)


def _reaches(limit: Any) -> Any:
    def reaches(target: Any) -> jax.Array:
        if not is_array(target):
            return jnp.array(False)
        return jnp.any(jnp.abs(target) >= jnp.asarray(limit, target.dtype))

    return reaches


def restart_when_feasible(
    dual: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    r"""Resets an inequality's multiplier to zero as soon as the inequality holds.

    .. math::
        \lambda \leftarrow 0 \quad \text{where} \quad g \le 0

    and the move of `dual` elsewhere. A multiplier that grew while the constraint was
    violated has no effect after it holds, so there is less overshoot.

    The optimum of an active constraint, g = 0 and lambda > 0, is no fixed point: the
    restart drops that lambda. At best the iterates approach it from the violated side; a
    step that overshoots to g <= 0 starts the approach again, for ever. So use it where
    constraints can hold with a margin, and not under noise: one batch that happens to be
    feasible erases the multiplier. The state of `dual`, e.g. a momentum, is not
    restarted. An entry that is not an array is left unchanged.

    Args:
        dual: a transform for multipliers.

    Returns:
        A transform over `Constraints` of residuals and multipliers.

    Raises:
        TypeError: `dual` is no optax transform.
        ValueError: `dual` descends.

    References:
        Gallego-Posada et al., Controlled Sparsity via Constrained Optimization or: How
        I Learned to Stop Tuning Penalties and Love Constraints (2022).

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> dual = jc.restart_when_feasible(jc.dual_ascent(optax.sgd(0.5)))
        >>> lam = jc.Constraints(inequality={"cap": jnp.array([4.0, 4.0])})
        >>> g = jc.Constraints(inequality={"cap": jnp.array([-0.1, 2.0])})
        >>> climb, _ = dual.update(g, dual.init(lam), lam)
        >>> print(optax.apply_updates(lam, climb).inequality["cap"])
        [0. 5.]
    """
    dual = as_dual("dual", dual)

    def restart(move: Any, multiplier: Any, residual: Any) -> Any:
        if not is_array(move):
            return move
        return jnp.where(residual <= 0, -multiplier, move).astype(move.dtype)

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        moves: Any
        moves, state = dual.update(updates, state, params, **extra)
        inequality = map_entries(
            restart, moves.inequality, params.inequality, updates.inequality
        )
        return Constraints(moves.equality, inequality), state

    return type(dual)(dual.init, update)
