"""Schedules of calls at which a transform moves or restarts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import check_number
from jaxcon._dtypes import largest
from jaxcon.lagrangians import has_stalled
from jaxcon.transforms._entries import as_dual, as_transform


def every(
    dual: optax.GradientTransformation, k: Any
) -> optax.GradientTransformationExtraArgs:
    """Applies `dual` on calls k, 2k, 3k, … with the residuals of that call.

    On all other calls multipliers and the state of `dual` do not change, so that the
    parameters have k steps between two moves of the multipliers. For the mean residual of
    all k calls use `optax.MultiSteps`, which passes no extra arguments to `dual`.

    Args:
        dual: a transform for multipliers.
        k: number of calls per move, at least 1.

    Returns:
        `optax.conditionally_mask` with this rule.

    Raises:
        TypeError: `dual` is no optax transform.
        ValueError: `dual` descends; or `k` is not 1, 2, 3, ….

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> dual = jc.every(jc.dual_ascent(optax.sgd(1.0)), 3)
        >>> mu = jc.Constraints({"h": jnp.array(0.0)})
        >>> h, state = jc.Constraints({"h": jnp.array(1.0)}), dual.init(mu)
        >>> for _ in range(7):
        ...     climb, state = dual.update(h, state, mu)
        ...     mu = optax.apply_updates(mu, climb)
        >>> print(mu.equality["h"])
        2.0
    """
    dual = as_dual("dual", dual)
    check_number("k", k, least=1, whole=True)
    return type(dual)(
        *optax.conditionally_mask(dual, lambda step, **_: (step + 1) % k == 0)
    )


class WhenStalledState(NamedTuple):
    """State of `when_stalled`.

    Attributes:
        inner: state of the transform it wraps.
        value: the objective at the call before, shape (); the dtype's largest number
            before the first.
    """

    inner: Any
    value: jax.Array


def when_stalled(
    dual: optax.GradientTransformation, decrease: Any = 0.999
) -> optax.GradientTransformationExtraArgs:
    r"""Applies `dual` only when the objective has stopped falling.

    `dual` moves the multipliers on call t if

    .. math::
        v_t \ge v_{t-1} - (1 - \omega) |v_{t-1}|

    where v is the objective. On other calls the multipliers do not move, so they are
    constant as long as the parameters make progress. The first call has no previous value
    and moves nothing. For a positive objective this is the reference's
    :math:`v_t \ge \omega v_{t-1}`, under which a constant negative objective would never
    count as stalled.

    Args:
        dual: a transform for multipliers.
        decrease: omega in (0, 1]: progress is a fall below this share.

    Returns:
        A transform over `Constraints` of residuals and multipliers. Its update takes
        the extra argument ``value``, the objective, shape ().

    Raises:
        TypeError: `dual` is no optax transform.
        ValueError: `dual` descends, or `decrease` is not in (0, 1]; or, when traced,
            there is no ``value``.

    References:
        Hu, Basir and Senocak, Conditionally Adaptive Augmented Lagrangian Method for
        Physics-Informed Learning of Forward and Inverse Problems (2026).

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> dual = jc.when_stalled(jc.dual_ascent(optax.sgd(1.0)))
        >>> mu = jc.Constraints({"h": jnp.array(0.0)})
        >>> h, state = jc.Constraints({"h": jnp.array(1.0)}), dual.init(mu)
        >>> for value in (4.0, 2.0, 2.0, 1.0):
        ...     climb, state = dual.update(h, state, mu, value=value)
        ...     mu = optax.apply_updates(mu, climb)
        >>> print(mu.equality["h"])
        1.0
    """
    dual = as_dual("dual", dual)
    check_number("decrease", decrease, above=0, most=1)

    def init(params: Any) -> Any:
        # The default dtype holds every value that a smaller one could. After the largest
        # number any other is a fall.
        return WhenStalledState(dual.init(params), largest(float))

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        if value is None:
            raise ValueError("when_stalled needs value=, the objective, in each update")
        now = jnp.asarray(value, state.value.dtype)
        moves, inner = jax.lax.cond(
            has_stalled(now, state.value, decrease),
            lambda: dual.update(updates, state.inner, params, value=value, **extra),
            lambda: (optax.tree.zeros_like(updates), state.inner),
        )
        return moves, WhenStalledState(inner, now)

    return type(dual)(init, update)


class RestartEveryState(NamedTuple):
    """State of `restart_every`.

    Attributes:
        inner: state of the transform it wraps.
        calls: since the last restart, int32 of shape ().
    """

    inner: Any
    calls: jax.Array


def restart_every(
    primal: optax.GradientTransformation, k: Any
) -> optax.GradientTransformationExtraArgs:
    """Restarts the state of `primal` on calls k, 2k, 3k, …, before it moves.

    It is for transforms whose state describes the objective, such as the curvature pairs of
    `optax.lbfgs`: when multipliers or the penalty move, the objective is another one. In
    `alternating`, where multipliers move first, use it with ``every(dual, k)``: the call
    that moves the multipliers also restarts `primal`.

    Args:
        primal: a transform for parameters.
        k: number of calls between two restarts, at least 1.

    Returns:
        A transform over the parameters; extra arguments reach `primal`.

    Raises:
        TypeError: `primal` is no optax transform.
        ValueError: `k` is not 1, 2, 3, ….

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> primal = jc.restart_every(optax.trace(decay=1.0), 3)      # sums gradients
        >>> x, state = jnp.array(0.0), primal.init(jnp.array(0.0))
        >>> for _ in range(4):
        ...     move, state = primal.update(jnp.array(1.0), state, x)
        >>> print(move)                                     # calls 3 and 4
        2.0
    """
    primal = as_transform("primal", primal)
    check_number("k", k, least=1, whole=True)

    def init(params: Any) -> Any:
        return RestartEveryState(primal.init(params), jnp.zeros((), jnp.int32))

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        calls = ((state.calls + 1) % k).astype(jnp.int32)
        inner = jax.lax.cond(
            calls == 0, lambda: primal.init(params), lambda: state.inner
        )
        moves, inner = primal.update(updates, inner, params, **extra)
        return moves, RestartEveryState(inner, calls)

    return optax.GradientTransformationExtraArgs(init, update)
