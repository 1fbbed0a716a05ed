"""Orders the moves: simultaneous, alternating, extragradient."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp  # noqa: F401 (the examples' name)
import optax

from jaxcon.constraints import Constraints
from jaxcon.multipliers import Kinds
from jaxcon.primal_dual._parts import finish, make_method, make_parts
from jaxcon.primal_dual._state import Info, Loss, PrimalDualState, Solver

NONE: Kinds = MappingProxyType({})


def simultaneous(
    loss: Loss,
    constraints: Constraints,
    primal: optax.GradientTransformation,
    dual: optax.GradientTransformation | Mapping[str, optax.GradientTransformation],
    *,
    penalty: Any = None,
    barrier: Callable[[jax.Array], jax.Array] | None = None,
    multipliers: Kinds = NONE,
    dual_batch: bool = False,
    terms: optax.GradientTransformation | None = None,
) -> Solver:
    r"""Parameters and multipliers move at once, both from the present point.

    .. math::
        \theta_{t+1} = \theta_t - \alpha \nabla_\theta L(\theta_t, \lambda_t), \qquad
        \lambda_{t+1} = [\lambda_t + \eta\, g(\theta_t)]_+

    Args:
        loss: (params, batch) -> () or ((), aux).
        constraints: functions (params, batch) -> residual, () or (n,).
        primal: an optax transform for the parameters.
        dual: a transform for the multipliers, e.g. `dual_ascent(optax.sgd(1.0))`, or a
            dict of them by constraint name.
        penalty: of the augmented Lagrangian: rho > 0, an optax schedule, a rule such as
            `growing_penalty`, or a dict of these by constraint name; None for the plain
            Lagrangian.
        barrier: phi of the penalty-barrier method for inequalities, e.g.
            `penalties.log_quadratic`; None for Rockafellar's price. Multipliers then
            start at one.
        multipliers: kinds by constraint name (`jaxcon.multipliers`); dense otherwise.
        dual_batch: True where a batch is a pair, one for the parameters' move and an
            independent one for the multipliers'; costs one more evaluation of the
            constraints.
        terms: a transform over `GradientTerms`, the gradients of the loss and of each
        constraint
            before they are summed, e.g. `each_term` of a clip, or `conflict_free`; costs
            one backward pass for each. Not for a `primal` that searches along a line.

    Returns:
        A `Solver`.

    Raises:
        TypeError: `constraints` is no `Constraints` of functions, or `dual` no transform.
        ValueError: a penalty is not positive, a name is used twice or is no
            constraint's, or `dual` descends.

    References:
        Arrow, Hurwicz and Uzawa, Studies in Linear and Non-linear Programming (1958);
        with a penalty: Platt and Barr, Constrained Differential Optimization (1987).

    Example:
        >>> import jaxcon as jc
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> solver = jc.simultaneous(
        ...     lambda p, _: jnp.sum(p**2),                       # min x² + y²
        ...     sums,
        ...     primal=optax.sgd(0.1),
        ...     dual=jc.dual_ascent(optax.sgd(0.1)),
        ...     penalty=1.0,
        ... )
        >>> state = solver.init(jnp.zeros(2))
        >>> step = jax.jit(solver.step)
        >>> for _ in range(300):
        ...     state, info = step(state)
        >>> print(f"{state.params[0]:.4f} {state.multipliers.equality['sum']:.4f}")
        0.5000 -1.0000
    """
    parts = make_parts(
        loss,
        constraints,
        primal,
        dual,
        penalty,
        barrier,
        multipliers,
        dual_batch,
        terms,
    )

    def step(state: PrimalDualState, batch: Any = None) -> tuple[PrimalDualState, Info]:
        here, there = parts.split(batch)
        before, point = parts.prices(state, there), parts.look(state.params, here)
        residuals = parts.look_again(state.params, point, there)
        weighed = parts.weigh(point, before, here)
        moved = parts.descend(state, here, before.penalty, point, weighed)
        after = parts.climb(before, point.loss, residuals, there)
        seen, moved = (point.residuals, residuals), (*moved, after)
        return finish(parts, state, batch, point, before, seen, weighed.gradient, moved)

    return make_method(parts, step)


def alternating(
    loss: Loss,
    constraints: Constraints,
    primal: optax.GradientTransformation,
    dual: optax.GradientTransformation | Mapping[str, optax.GradientTransformation],
    *,
    first: Literal["dual", "primal"] = "dual",
    penalty: Any = None,
    barrier: Callable[[jax.Array], jax.Array] | None = None,
    multipliers: Kinds = NONE,
    dual_batch: bool = False,
    terms: optax.GradientTransformation | None = None,
) -> Solver:
    r"""Multipliers move first, and the parameters follow the new ones.

    .. math::
        \lambda_{t+1} = [\lambda_t + \eta\, g(\theta_t)]_+, \qquad
        \theta_{t+1} = \theta_t - \alpha \nabla_\theta L(\theta_t, \lambda_{t+1})

    It costs what `simultaneous` costs: one evaluation, because residuals are known
    before their gradients are weighed. Prefer it when in doubt: it damps the rotation
    around a saddle point that simultaneous moves amplify.

    Args:
        loss: (params, batch) -> () or ((), aux).
        constraints: functions (params, batch) -> residual, () or (n,).
        primal: an optax transform for the parameters.
        dual: a transform for the multipliers, e.g. `dual_ascent(optax.sgd(1.0))`, or a
            dict of them by constraint name.
        first: who moves first; "primal" evaluates the residuals a second time, at the
            new parameters.
        penalty: of the augmented Lagrangian: rho > 0, an optax schedule, a rule such as
            `growing_penalty`, or a dict of these by constraint name; None for the plain
            Lagrangian.
        barrier: phi of the penalty-barrier method for inequalities, e.g.
            `penalties.log_quadratic`; None for Rockafellar's price. Multipliers then
            start at one.
        multipliers: kinds by constraint name (`jaxcon.multipliers`); dense otherwise.
        dual_batch: True where a batch is a pair, one for the parameters' move and an
            independent one for the multipliers'; costs one more evaluation of the
            constraints.
        terms: a transform over `GradientTerms`, the gradients of the loss and of each
        constraint
            before they are summed, e.g. `each_term` of a clip, or `conflict_free`; costs
            one backward pass for each. Not for a `primal` that searches along a line.

    Returns:
        A `Solver`.

    Raises:
        TypeError: `constraints` is no `Constraints` of functions, or `dual` no transform.
        ValueError: a penalty is not positive, a name is used twice or is no
            constraint's, or `dual` descends.

    References:
        Gidel et al., Negative Momentum for Improved Game Dynamics (2019), on
        alternating against simultaneous moves.

    Example:
        >>> import jaxcon as jc
        >>> at_most_1 = jc.Constraints(inequality={"x <= 1": lambda x, _: x - 1.0})
        >>> solver = jc.alternating(
        ...     lambda x, _: (x - 2.0) ** 2,
        ...     at_most_1,
        ...     primal=optax.sgd(0.1),
        ...     dual=jc.dual_ascent(optax.sgd(1.0)),
        ...     penalty=1.0,
        ... )
        >>> state = solver.init(jnp.array(3.0))
        >>> step = jax.jit(solver.step)
        >>> for _ in range(300):
        ...     state, info = step(state)
        >>> print(f"{state.params:.4f} {state.multipliers.inequality['x <= 1']:.4f}")
        1.0000 2.0000
    """
    parts = make_parts(
        loss,
        constraints,
        primal,
        dual,
        penalty,
        barrier,
        multipliers,
        dual_batch,
        terms,
    )
    if first not in ("dual", "primal"):
        raise ValueError(f"first must be 'dual' or 'primal', got {first!r}")

    def dual_first(
        state: PrimalDualState, batch: Any = None
    ) -> tuple[PrimalDualState, Info]:
        here, there = parts.split(batch)
        before, point = parts.prices(state, there), parts.look(state.params, here)
        residuals = parts.look_again(state.params, point, there)
        after = parts.climb(before, point.loss, residuals, there)
        weighed = parts.weigh(point, after, here)
        moved = parts.descend(state, here, after.penalty, point, weighed)
        seen, moved = (point.residuals, residuals), (*moved, after)
        return finish(parts, state, batch, point, before, seen, weighed.gradient, moved)

    def primal_first(
        state: PrimalDualState, batch: Any = None
    ) -> tuple[PrimalDualState, Info]:
        here, there = parts.split(batch)
        before, point = parts.prices(state, there), parts.look(state.params, here)
        weighed = parts.weigh(point, before, here)
        moved = parts.descend(state, here, before.penalty, point, weighed)
        (value, residuals), _ = parts.evaluate(moved[0], there)
        after = parts.climb(before, value, residuals, there)
        seen, moved = (point.residuals, value, residuals), (*moved, after)
        return finish(parts, state, batch, point, before, seen, weighed.gradient, moved)

    if first == "dual":
        return make_method(parts, dual_first, climbs_first=True)
    return make_method(parts, primal_first)


def extragradient(
    loss: Loss,
    constraints: Constraints,
    primal: optax.GradientTransformation,
    dual: optax.GradientTransformation | Mapping[str, optax.GradientTransformation],
    *,
    penalty: Any = None,
    barrier: Callable[[jax.Array], jax.Array] | None = None,
    multipliers: Kinds = NONE,
    dual_batch: bool = False,
    terms: optax.GradientTransformation | None = None,
) -> Solver:
    r"""Looks one step ahead on both sides, then moves by what it saw there.

    .. math::
        \theta_{t+1/2} &= \theta_t - \alpha \nabla_\theta L(\theta_t, \lambda_t), \quad
        \lambda_{t+1/2} = [\lambda_t + \eta\, g(\theta_t)]_+ \\
        \theta_{t+1} &= \theta_t
          - \alpha \nabla_\theta L(\theta_{t+1/2}, \lambda_{t+1/2}), \quad
        \lambda_{t+1} = [\lambda_t + \eta\, g(\theta_{t+1/2})]_+

    Two evaluations a step; converges on bilinear problems where plain moves circle.
    Both transforms' states advance once a step, at the point ahead. Not for a primal
    that searches along a line or learns curvature (`optax.lbfgs`): it would take the
    gradient ahead for the one here. `alternating` suits those.

    Args:
        loss: (params, batch) -> () or ((), aux).
        constraints: functions (params, batch) -> residual, () or (n,).
        primal: an optax transform for the parameters.
        dual: a transform for the multipliers, e.g. `dual_ascent(optax.sgd(1.0))`, or a
            dict of them by constraint name.
        penalty: of the augmented Lagrangian: rho > 0, an optax schedule, a rule such as
            `growing_penalty`, or a dict of these by constraint name; None for the plain
            Lagrangian.
        barrier: phi of the penalty-barrier method for inequalities, e.g.
            `penalties.log_quadratic`; None for Rockafellar's price. Multipliers then
            start at one.
        multipliers: kinds by constraint name (`jaxcon.multipliers`); dense otherwise.
        dual_batch: True where a batch is a pair, one for the parameters' move and an
            independent one for the multipliers'; costs one more evaluation of the
            constraints.
        terms: a transform over `GradientTerms`, the gradients of the loss and of each
        constraint
            before they are summed, e.g. `each_term` of a clip, or `conflict_free`; costs
            one backward pass for each. Not for a `primal` that searches along a line.

    Returns:
        A `Solver`.

    Raises:
        TypeError: `constraints` is no `Constraints` of functions, or `dual` no transform.
        ValueError: a penalty is not positive, a name is used twice or is no
            constraint's, or `dual` descends.

    References:
        Korpelevich, The Extragradient Method for Finding Saddle Points and Other
        Problems (1976); Gidel et al., A Variational Inequality Perspective on GANs
        (2019), whose ExtraAdam advances its moments at both looks, not at one.

    Example:
        >>> import jaxcon as jc
        >>> at_zero = jc.Constraints(equality={"x = 0": lambda x, _: x})
        >>> solver = jc.extragradient(                   # L = μ x: a bilinear game
        ...     lambda x, _: 0.0 * x,
        ...     at_zero,
        ...     primal=optax.sgd(0.5),
        ...     dual=jc.dual_ascent(optax.sgd(0.5)),
        ... )
        >>> state = solver.init(jnp.array(1.0))
        >>> step = jax.jit(solver.step)
        >>> for _ in range(300):
        ...     state, info = step(state)
        >>> print(f"{abs(state.params):.4f}")
        0.0000
    """
    parts = make_parts(
        loss,
        constraints,
        primal,
        dual,
        penalty,
        barrier,
        multipliers,
        dual_batch,
        terms,
    )

    def step(state: PrimalDualState, batch: Any = None) -> tuple[PrimalDualState, Info]:
        here, there = parts.split(batch)
        before, point = parts.prices(state, there), parts.look(state.params, here)
        residuals = parts.look_again(state.params, point, there)
        weighed = parts.weigh(point, before, here)
        ahead_params = parts.descend(
            state, here, before.penalty, point, weighed, elsewhere=True
        )[0]
        ahead_prices = parts.climb(before, point.loss, residuals, there)
        # The penalty is no player of the game: it moves once a step, at its end.
        ahead_prices = ahead_prices._replace(penalty=before.penalty)

        ahead = parts.look(ahead_params, here)
        ahead_residuals = parts.look_again(ahead_params, ahead, there)
        weighed = parts.weigh(ahead, ahead_prices, here)
        moved = parts.descend(
            state, here, before.penalty, ahead, weighed, elsewhere=True
        )
        after = parts.climb(before, ahead.loss, ahead_residuals, there)
        seen = (point.residuals, residuals, ahead[:2], ahead_residuals)
        moved = (*moved, after)
        return finish(parts, state, batch, point, before, seen, weighed.gradient, moved)

    return make_method(parts, step)
