r"""Orders the moves: simultaneous, alternating, extragradient.

One step reads the batch, evaluates loss and residuals once, weighs their gradients and
moves parameters (down) and multipliers (up). Known methods are combinations of parts:

=========================== ============================== ==================
method                      dual                           penalty
=========================== ============================== ==================
unconstrained               ``optax.set_to_zero()``        None
quadratic penalty           ``optax.set_to_zero()``        rho
Lagrangian (Arrow-Hurwicz)  ``dual_ascent(sgd(eta))``      None
augmented Lagrangian        ``dual_ascent(sgd(eta))``      rho
Platt and Barr's damping    ``dual_ascent(sgd(eta))``      rho, simultaneous
=========================== ============================== ==================

The three orders differ in the body of their step and nowhere else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon.constraints import (
    Constraints,
    check_constraints,
    evaluate,
    max_violation,
    violation,
    worst,
)
from jaxcon.lagrangian import (
    augmented_lagrangian,
    check_match,
    check_penalty,
    lagrangian,
    zero_multipliers,
)

Loss = Callable[[Any, Any], Any]


class PrimalDualState(NamedTuple):
    """What the next step needs.

    Attributes:
        params: theta, the user's pytree.
        multipliers: mu and lambda, shaped like the residuals.
        penalty: rho, shape (); None for a plain Lagrangian.
        primal: state of the primal transform.
        dual: state of the dual transform.
        step: steps taken, skipped ones included, int32 of shape ().
        skipped: steps skipped because something was not finite, int32 of shape ().
    """

    params: Any
    multipliers: Constraints
    penalty: Any
    primal: Any
    dual: Any
    step: jax.Array
    skipped: jax.Array


class Info(NamedTuple):
    """What one would plot: everything is read *before* the step's moves.

    Attributes:
        loss: f, shape ().
        max_violation: largest abs h or max(g, 0), shape ().
        violation: the largest of each constraint, each of shape (); NaN where a
            residual was not finite.
        multiplier: the largest abs multiplier of each constraint, each of shape ().
        finite: whether loss, residuals, gradient and the moves all were, boolean of
            shape (); where it is False neither parameters nor multipliers moved.
        aux: what the loss returned beside its value, or None. `fit` keeps it for every
            step: return a few numbers, not the predictions.
    """

    loss: jax.Array
    max_violation: jax.Array
    violation: Constraints
    multiplier: Constraints
    finite: jax.Array
    aux: Any


class Method(NamedTuple):
    """A way to train, in optax's grammar: two pure functions.

    Attributes:
        init: (params, batch=None) -> `PrimalDualState`.
        step: (state, batch=None) -> (`PrimalDualState`, `Info`); jit, vmap and scan it.
    """

    init: Callable[..., PrimalDualState]
    step: Callable[..., tuple[PrimalDualState, Info]]


class _Point(NamedTuple):
    """Loss and residuals at some parameters, and how to pull weights back from them."""

    loss: jax.Array
    residuals: Constraints
    pullback: Callable[[tuple[jax.Array, Constraints]], tuple[Any]]
    aux: Any


class _Parts(NamedTuple):
    """What the three orders share: the problem and the two transforms, made ready."""

    terms: Callable[[Any, Any], tuple[tuple[jax.Array, Constraints], Any]]
    objective: Callable[..., jax.Array]
    primal: optax.GradientTransformationExtraArgs
    dual: optax.GradientTransformationExtraArgs

    def look(self, params: Any, batch: Any) -> _Point:
        """One forward pass, ready to be pulled back with any multipliers."""
        (loss, residuals), pullback, aux = jax.vjp(
            lambda params: self.terms(params, batch), params, has_aux=True
        )
        return _Point(loss, residuals, pullback, aux)

    def weigh(
        self, point: _Point, multipliers: Constraints, penalty: Any
    ) -> tuple[jax.Array, Any]:
        """The objective at `point` and its gradient with respect to the parameters."""
        # The objective is a function of two things only, so its gradient there is the
        # pullback's weights: 1 for the loss and the multiplier estimates for h and g.
        value, weights = jax.value_and_grad(self.objective, argnums=(0, 1))(
            point.loss, point.residuals, multipliers, penalty
        )
        return value, point.pullback(weights)[0]

    def descend(
        self,
        state: PrimalDualState,
        batch: Any,
        multipliers: Constraints,
        value: jax.Array,
        gradient: Any,
    ) -> tuple[Any, Any]:
        """New parameters and primal state; line searches see the same objective."""

        def value_fn(params: Any) -> jax.Array:
            (loss, residuals), _ = self.terms(params, batch)
            return self.objective(loss, residuals, multipliers, state.penalty)

        updates, primal = self.primal.update(
            gradient,
            state.primal,
            state.params,
            value=value,
            grad=gradient,
            value_fn=value_fn,
        )
        return optax.apply_updates(state.params, updates), primal

    def climb(
        self, state: PrimalDualState, residuals: Constraints
    ) -> tuple[Constraints, Any]:
        """New multipliers and dual state: the residuals are the dual gradient."""
        check_match(residuals, state.multipliers)
        climbs, dual = self.dual.update(residuals, state.dual, state.multipliers)
        return optax.apply_updates(state.multipliers, climbs), dual  # pyright: ignore[reportReturnType]


def simultaneous(
    loss: Loss,
    constraints: Constraints,
    primal: optax.GradientTransformation,
    dual: optax.GradientTransformation,
    *,
    penalty: float | None = None,
) -> Method:
    r"""Parameters and multipliers move at once, both from the present point.

    .. math::
        \theta_{t+1} = \theta_t - \alpha \nabla_\theta L(\theta_t, \lambda_t), \qquad
        \lambda_{t+1} = [\lambda_t + \eta\, g(\theta_t)]_+

    Args:
        loss: (params, batch) -> () or ((), aux).
        constraints: functions (params, batch) -> residual, () or (n,).
        primal: an optax transform for the parameters.
        dual: an optax transform for the multipliers, e.g. `dual_ascent(optax.sgd(1.0))`.
        penalty: rho > 0 of the augmented Lagrangian; None for the plain Lagrangian.

    Returns:
        A `Method`.

    Raises:
        TypeError: `constraints` is no `Constraints` of functions.
        ValueError: `penalty` is not positive, or a name is used twice.

    References:
        Arrow, Hurwicz and Uzawa, Studies in Linear and Non-linear Programming (1958);
        with a penalty: Platt and Barr, Constrained Differential Optimization (1987).

    Example:
        >>> import jaxcon as jc
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> method = jc.simultaneous(
        ...     lambda p, _: jnp.sum(p**2),                       # min x² + y²
        ...     sums,
        ...     primal=optax.sgd(0.1),
        ...     dual=jc.dual_ascent(optax.sgd(0.1)),
        ...     penalty=1.0,
        ... )
        >>> state = method.init(jnp.zeros(2))
        >>> step = jax.jit(method.step)
        >>> for _ in range(300):
        ...     state, info = step(state)
        >>> print(f"{state.params[0]:.4f} {state.multipliers.equality['sum']:.4f}")
        0.5000 -1.0000
    """
    parts = _parts(loss, constraints, primal, dual, penalty)

    def step(state: PrimalDualState, batch: Any = None) -> tuple[PrimalDualState, Info]:
        point = parts.look(state.params, batch)
        value, gradient = parts.weigh(point, state.multipliers, state.penalty)

        def move() -> tuple[Any, Constraints, Any, Any]:
            multipliers, dual = parts.climb(state, point.residuals)
            params, primal = parts.descend(
                state, batch, state.multipliers, value, gradient
            )
            return params, multipliers, primal, dual

        return _finish(state, point, (point.residuals, gradient), move)

    return Method(_init(parts, penalty), step)


def alternating(
    loss: Loss,
    constraints: Constraints,
    primal: optax.GradientTransformation,
    dual: optax.GradientTransformation,
    *,
    penalty: float | None = None,
) -> Method:
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
        dual: an optax transform for the multipliers, e.g. `dual_ascent(optax.sgd(1.0))`.
        penalty: rho > 0 of the augmented Lagrangian; None for the plain Lagrangian.

    Returns:
        A `Method`.

    Raises:
        TypeError: `constraints` is no `Constraints` of functions.
        ValueError: `penalty` is not positive, or a name is used twice.

    References:
        Gidel et al., Negative Momentum for Improved Game Dynamics (2019), on
        alternating against simultaneous moves.

    Example:
        >>> import jaxcon as jc
        >>> at_most_1 = jc.Constraints(inequality={"x <= 1": lambda x, _: x - 1.0})
        >>> method = jc.alternating(
        ...     lambda x, _: (x - 2.0) ** 2,
        ...     at_most_1,
        ...     primal=optax.sgd(0.1),
        ...     dual=jc.dual_ascent(optax.sgd(1.0)),
        ...     penalty=1.0,
        ... )
        >>> state = method.init(jnp.array(3.0))
        >>> step = jax.jit(method.step)
        >>> for _ in range(300):
        ...     state, info = step(state)
        >>> print(f"{state.params:.4f} {state.multipliers.inequality['x <= 1']:.4f}")
        1.0000 2.0000
    """
    parts = _parts(loss, constraints, primal, dual, penalty)

    def step(state: PrimalDualState, batch: Any = None) -> tuple[PrimalDualState, Info]:
        point = parts.look(state.params, batch)
        multipliers, dual = parts.climb(state, point.residuals)
        value, gradient = parts.weigh(point, multipliers, state.penalty)

        def move() -> tuple[Any, Constraints, Any, Any]:
            params, primal = parts.descend(state, batch, multipliers, value, gradient)
            return params, multipliers, primal, dual

        return _finish(state, point, (point.residuals, gradient), move)

    return Method(_init(parts, penalty), step)


def extragradient(
    loss: Loss,
    constraints: Constraints,
    primal: optax.GradientTransformation,
    dual: optax.GradientTransformation,
    *,
    penalty: float | None = None,
) -> Method:
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
        dual: an optax transform for the multipliers, e.g. `dual_ascent(optax.sgd(1.0))`.
        penalty: rho > 0 of the augmented Lagrangian; None for the plain Lagrangian.

    Returns:
        A `Method`.

    Raises:
        TypeError: `constraints` is no `Constraints` of functions.
        ValueError: `penalty` is not positive, or a name is used twice.

    References:
        Korpelevich, The Extragradient Method for Finding Saddle Points and Other
        Problems (1976); Gidel et al., A Variational Inequality Perspective on GANs
        (2019), whose ExtraAdam advances its moments at both looks, not at one.

    Example:
        >>> import jaxcon as jc
        >>> at_zero = jc.Constraints(equality={"x = 0": lambda x, _: x})
        >>> method = jc.extragradient(                   # L = μ x: a bilinear game
        ...     lambda x, _: 0.0 * x,
        ...     at_zero,
        ...     primal=optax.sgd(0.5),
        ...     dual=jc.dual_ascent(optax.sgd(0.5)),
        ... )
        >>> state = method.init(jnp.array(1.0))
        >>> step = jax.jit(method.step)
        >>> for _ in range(300):
        ...     state, info = step(state)
        >>> print(f"{abs(state.params):.4f}")
        0.0000
    """
    parts = _parts(loss, constraints, primal, dual, penalty)

    def step(state: PrimalDualState, batch: Any = None) -> tuple[PrimalDualState, Info]:
        point = parts.look(state.params, batch)
        value, gradient = parts.weigh(point, state.multipliers, state.penalty)
        ahead_multipliers, _ = parts.climb(state, point.residuals)
        ahead_params, _ = parts.descend(
            state, batch, state.multipliers, value, gradient
        )
        ahead = parts.look(ahead_params, batch)
        value, gradient = parts.weigh(ahead, ahead_multipliers, state.penalty)

        def move() -> tuple[Any, Constraints, Any, Any]:
            multipliers, dual = parts.climb(state, ahead.residuals)
            params, primal = parts.descend(
                state, batch, ahead_multipliers, value, gradient
            )
            return params, multipliers, primal, dual

        seen = (point.residuals, ahead.loss, ahead.residuals, gradient)
        return _finish(state, point, seen, move)

    return Method(_init(parts, penalty), step)


def _parts(
    loss: Loss,
    constraints: Constraints,
    primal: optax.GradientTransformation,
    dual: optax.GradientTransformation,
    penalty: float | None,
) -> _Parts:
    check_constraints(constraints)
    check_penalty(penalty)

    def terms(params: Any, batch: Any) -> tuple[tuple[jax.Array, Constraints], Any]:
        value, aux = _scalar_loss(loss(params, batch))
        return (value, evaluate(constraints, params, batch)), aux

    def objective(
        loss: jax.Array, residuals: Constraints, multipliers: Constraints, penalty: Any
    ) -> jax.Array:
        if penalty is None:
            return lagrangian(loss, residuals, multipliers)
        return augmented_lagrangian(loss, residuals, multipliers, penalty)

    return _Parts(
        terms,
        objective,
        optax.with_extra_args_support(primal),
        optax.with_extra_args_support(dual),
    )


def _scalar_loss(value: Any) -> tuple[jax.Array, Any]:
    value, aux = value if isinstance(value, tuple) else (value, None)
    if jnp.shape(value) != ():
        raise ValueError(
            f"loss returned shape {jnp.shape(value)}; it must be one number (), "
            "e.g. a mean over the batch"
        )
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(f"loss returned {jnp.result_type(value)}; it must be real")
    return jnp.asarray(value), aux


def _init(parts: _Parts, penalty: float | None) -> Callable[..., PrimalDualState]:
    def init(params: Any, batch: Any = None) -> PrimalDualState:
        params = jax.tree.map_with_path(_float_leaf, params)
        (loss, residuals), _ = jax.eval_shape(parts.terms, params, batch)
        multipliers = zero_multipliers(residuals)
        return PrimalDualState(
            params=params,
            multipliers=multipliers,
            penalty=None if penalty is None else jnp.asarray(penalty, loss.dtype),
            primal=parts.primal.init(params),
            dual=parts.dual.init(multipliers),  # pyright: ignore[reportArgumentType]
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
        )

    return init


def _float_leaf(path: Any, leaf: Any) -> jax.Array:
    name = f"params{jax.tree_util.keystr(path)}"
    try:
        dtype = jnp.result_type(leaf)
    except TypeError:
        dtype = type(leaf).__name__
    if not (isinstance(dtype, jnp.dtype) and jnp.issubdtype(dtype, jnp.floating)):
        raise TypeError(
            f"{name} is {dtype}; params must hold floating-point arrays only: split the "
            "rest off first (flax.nnx.split, equinox.partition)"
        )
    # A weakly typed leaf (a Python float) would make the second call trace anew.
    return jnp.asarray(leaf, dtype)


def _finish(
    state: PrimalDualState,
    point: _Point,
    seen: Any,
    move: Callable[[], tuple[Any, Constraints, Any, Any]],
) -> tuple[PrimalDualState, Info]:
    """Moves if all that was `seen` and comes of it is finite, else touches nothing."""
    moved = move()
    # A finite gradient can still overflow the parameters.
    finite = _all_finite((point.loss, seen, moved[:2]))
    # Selecting fuses with the update; a conditional would copy every buffer, and an
    # accelerator would wait for the host to read its predicate.
    params, multipliers, primal, dual = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        moved,
        (state.params, state.multipliers, state.primal, state.dual),
    )
    # -inf satisfies g <= 0, but nothing can follow from it: as NaN it is seen.
    residuals = jax.tree.map(
        lambda r: jnp.where(jnp.isfinite(r), r, jnp.nan), point.residuals
    )
    info = Info(
        loss=point.loss,
        max_violation=max_violation(residuals),
        violation=worst(violation(residuals)),
        multiplier=worst(jax.tree.map(jnp.abs, state.multipliers)),
        finite=finite,
        aux=point.aux,
    )
    new = PrimalDualState(
        params=params,
        multipliers=multipliers,
        penalty=state.penalty,
        primal=primal,
        dual=dual,
        step=state.step + 1,
        skipped=state.skipped + jnp.where(finite, 0, 1),
    )
    return new, info


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(
        jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)])
    )
