"""PI and PID control of multipliers with the residual as the error."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon._checks import check_choice, check_number, check_rate
from jaxcon.constraints import Constraints, named
from jaxcon.transforms._ascent import dual_ascent
from jaxcon.transforms._entries import DualTransform, check_array


class ScaleByPIState(NamedTuple):
    """State of `scale_by_pi`.

    Attributes:
        average: xi, shaped like the multipliers.
        fresh: whether the next error also stands for the one before it, boolean ().
    """

    average: Any
    fresh: jax.Array


def scale_by_pi(
    kp: Any, ki: Any = 1.0, nu: Any = 0.0, init: Literal["first", "zero"] = "first"
) -> optax.GradientTransformation:
    r"""Scales errors to the increments of a proportional and an integral term.

    .. math::
        u_t = k_i e_t + k_p (\xi_t - \xi_{t-1}), \qquad
        \xi_t = \nu \xi_{t-1} + (1 - \nu) e_t

    The sum of the increments is :math:`k_i \sum e + k_p \xi_t`, up to the initial value
    :math:`\xi_{-1}`. With ``init="first"`` it is :math:`e_0`, so that the first
    increment is :math:`k_i e_0`. With ``init="zero"`` it is 0, so that the first
    increment also has :math:`k_p (1 - \nu) e_0`.

    Args:
        kp: k_p, a finite number of either sign.
        ki: k_i, a finite number.
        nu: the weight of the past average, in (-1, 1).
        init: "first" or "zero".

    Returns:
        A transform over any pytree of errors.

    Raises:
        TypeError: a gain is no number.
        ValueError: a gain is not finite, `nu` not in (-1, 1), or `init` neither "first"
            nor "zero".

    References:
        Sohrabi et al., On PI Controllers for Updating Lagrange Multipliers in
        Constrained Optimization (2024), Algorithm 1.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> pi = optax.chain(jc.scale_by_pi(kp=1.0), optax.sgd(0.1))  # optimistic descent
        >>> state = pi.init(jnp.array(0.0))
        >>> _, state = pi.update(jnp.array(1.0), state)
        >>> print(pi.update(jnp.array(2.0), state)[0])                # -0.1 (2 + (2 - 1))
        -0.3
    """
    check_number("kp", kp)
    check_number("ki", ki)
    check_number("nu", nu, above=-1, below=1)
    check_choice("init", init, ("first", "zero"))

    def init_fn(params: Any) -> Any:
        return ScaleByPIState(optax.tree.zeros_like(params), jnp.array(init == "first"))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        previous = jax.tree.map(
            lambda e, xi: jnp.where(state.fresh, e, xi), updates, state.average
        )
        # xi_t - xi_{t-1} is (1 - nu) (e_t - xi_{t-1}), without a difference of averages.
        increments = jax.tree.map(
            lambda e, xi: (ki * e + kp * ((1 - nu) * (e - xi))).astype(e.dtype),
            updates,
            previous,
        )
        average = jax.tree.map(
            lambda e, xi: (nu * xi + (1 - nu) * e).astype(e.dtype), updates, previous
        )
        return increments, ScaleByPIState(average, jnp.array(False))

    return optax.GradientTransformation(init_fn, update)


def nupi(
    learning_rate: optax.ScalarOrSchedule,
    kp: Any,
    ki: Any = 1.0,
    nu: Any = 0.0,
    init: Literal["first", "zero"] = "first",
) -> DualTransform:
    r"""Moves multipliers by PI control and keeps those of inequalities >= 0.

    .. math::
        \mu_{t+1} = \mu_t + \eta \left( k_i e_t + k_p (\xi_t - \xi_{t-1}) \right), \qquad
        \xi_t = \nu \xi_{t-1} + (1 - \nu) e_t

    with :math:`e` the residual, h or g, and :math:`\lambda` projected at 0 after each move.
    A positive :math:`k_p` reacts to the rate of change of the residual and so damps the
    overshoot of plain ascent. Useful gains depend on the problem's scale by orders of
    magnitude.

    - ``kp=0`` is gradient ascent of rate :math:`\eta k_i`.
    - ``kp=ki, nu=0, init="first"`` is optimistic gradient ascent. It starts with a plain
      step: under a constant error the multiplier moves in proportion to time.
    - ``init="zero"`` contains momentum: Polyak's and Nesterov's, both with negative kp,
      which is why they make oscillations worse. Its first step has an extra
      :math:`\eta k_p (1 - \nu) e_0` that stays in the multiplier.

    Args:
        learning_rate: eta >= 0, a number or an optax schedule.
        kp: the proportional gain k_p, of either sign.
        ki: the integral gain k_i.
        nu: the weight of the past average xi, in (-1, 1).
        init: the initial xi: "first", the first residual, or "zero".

    Returns:
        A transform over `Constraints` of residuals and multipliers.

    Raises:
        TypeError: a gain or the rate is no number.
        ValueError: a gain is not finite, the rate negative, `nu` not in (-1, 1), or
            `init` neither "first" nor "zero".

    References:
        Sohrabi et al., On PI Controllers for Updating Lagrange Multipliers in
        Constrained Optimization (2024), Algorithm 1; Theorem 1, on momentum, is for
        ``init="zero"``.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> dual = jc.nupi(1.0, kp=10.0)
        >>> mu = jc.Constraints({"h": jnp.array(0.0)})
        >>> h, state = jc.Constraints({"h": jnp.array(1.0)}), dual.init(mu)
        >>> for _ in range(3):
        ...     climb, state = dual.update(h, state, mu)
        ...     mu = optax.apply_updates(mu, climb)
        >>> print(mu.equality["h"])
        3.0
    """
    check_rate("learning_rate", learning_rate, least=0)
    return dual_ascent(
        optax.chain(
            scale_by_pi(kp, ki, nu, init), optax.scale_by_learning_rate(learning_rate)
        )
    )


class PIDState(NamedTuple):
    """State of `pid`.

    Attributes:
        integral: the sum of the residuals, shaped like them.
        previous: the residuals of the call before, shaped like them.
        fresh: whether there was no call before, boolean ().
    """

    integral: Constraints
    previous: Constraints
    fresh: jax.Array


def pid(kp: Any, ki: Any, kd: Any = 0.0) -> DualTransform:
    r"""Sets multipliers by PID control, independently of their previous values.

    .. math::
        D_t &= \max(g_t - g_{t-1}, 0), \qquad I_t = \max(I_{t-1} + g_t, 0) \\
        \lambda_{t+1} &= \max(k_p g_t + k_i I_t + k_d D_t, 0)

    For equalities the three maxima with 0 are left out. The first call has
    :math:`D = 0`; under the paper's :math:`g_{-1} = 0` the starting point would count as
    a sudden rise.

    Args:
        kp: the proportional gain k_p >= 0.
        ki: the integral gain k_i >= 0; alone it is gradient ascent from zero.
        kd: the derivative gain k_d >= 0.

    Returns:
        A transform over `Constraints` of residuals and multipliers.

    Raises:
        ValueError: a gain is negative; or, at init, a constraint's multipliers are
            computed by a network.

    References:
        Stooke, Achiam and Abbeel, Responsive Safety in Reinforcement Learning by PID
        Lagrangian Methods (2020), Algorithm 2.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> dual = jc.pid(kp=2.0, ki=0.5)
        >>> lam = jc.Constraints(inequality={"cap": jnp.array(9.0)})
        >>> g = jc.Constraints(inequality={"cap": jnp.array(1.0)})
        >>> move, _ = dual.update(g, dual.init(lam), lam)
        >>> print(optax.apply_updates(lam, move).inequality["cap"])
        2.5
    """
    for name, gain in (("kp", kp), ("ki", ki), ("kd", kd)):
        check_number(name, gain, least=0)

    def init(params: Any) -> Any:
        for kind, name, multiplier in named(params):
            check_array("pid", kind, name, multiplier)
        zero = optax.tree.zeros_like(params)
        return PIDState(zero, zero, jnp.array(True))

    def update(
        updates: Any, state: Any, params: Any = None, **extra: Any
    ) -> tuple[Any, Any]:
        del extra
        rise = _clamped(
            jax.tree.map(
                lambda e, before: jnp.where(state.fresh, 0, e - before),
                updates,
                state.previous,
            )
        )
        integral = _clamped(jax.tree.map(jnp.add, state.integral, updates))
        target = _clamped(
            jax.tree.map(
                lambda e, i, d: (kp * e + ki * i + kd * d).astype(e.dtype),
                updates,
                integral,
                rise,
            )
        )
        moves = jax.tree.map(jnp.subtract, target, params)
        return moves, PIDState(integral, updates, jnp.array(False))

    return DualTransform(init, update)


def _clamped(entries: Any) -> Constraints:
    return Constraints(
        entries.equality,
        jax.tree.map(lambda entry: jnp.maximum(entry, 0), entries.inequality),
    )
