"""Orders of the two sides' steps: simultaneous, alternating, extragradient."""

from collections.abc import Mapping
from typing import Literal

import optax

from jaxcon._checks import check_choice
from jaxcon.lagrangians import Lagrangian
from jaxcon.points import PointRule
from jaxcon.primal_dual._solver import Solver, make_solver
from jaxcon.primal_dual._start import Proposal, Start

Dual = optax.GradientTransformation | Mapping[str, optax.GradientTransformation]


def simultaneous(
    problem: Lagrangian,
    primal: optax.GradientTransformation,
    dual: Dual,
    *,
    per_term: optax.GradientTransformation | None = None,
    points: Mapping[str, PointRule] | None = None,
) -> Solver:
    r"""Moves parameters and multipliers at once, both from the present point.

    .. math::
        \theta_{t+1} = \theta_t - \alpha \nabla_\theta L(\theta_t, \lambda_t), \qquad
        \lambda_{t+1} = [\lambda_t + \eta\, g(\theta_t)]_+

    Args:
        problem: the `Lagrangian`.
        primal: an optax transform for the parameters.
        dual: a transform for the multipliers, e.g. `dual_ascent(optax.sgd(1.0))`, or a
            dict of them by constraint name.
        per_term: a transform over `GradientTerms`, the gradients of the loss and of each
            constraint before they are summed, e.g. `each_term` of a clip, or
            `conflict_free`; costs one backward pass for each. Not for a `primal` that
            searches along a line.
        points: by key of the batch, a dict, a rule of `jaxcon.points` that moves the
            points (n, d) there, e.g. `points.rad`. They begin as the batch has them at
            ``init``, and each step reads those of the state; ``solver.with_points``
            returns a batch with them. Dense multipliers move with their points.

    Returns:
        A `Solver`.

    Raises:
        TypeError: `problem` is no `Lagrangian`, `dual` no transform, or `points` no rules.
        ValueError: a name in `dual` is no constraint's, or `dual` descends.

    References:
        Arrow, Hurwicz and Uzawa, Studies in Linear and Non-linear Programming (1958);
        with a penalty: Platt and Barr, Constrained Differential Optimization (1987).

    Example:
        >>> import jax, jax.numpy as jnp, optax, jaxcon as jc
        >>> sums = jc.Constraints(equality={"sum": lambda p, _: jnp.sum(p) - 1.0})
        >>> problem = jc.Lagrangian(lambda p, _: jnp.sum(p**2), sums, penalty=1.0)
        >>> ascent = jc.dual_ascent(optax.sgd(0.1))
        >>> solver = jc.simultaneous(problem, optax.sgd(0.1), ascent)
        >>> state = solver.init(jnp.zeros(2))
        >>> step = jax.jit(solver.step)
        >>> for _ in range(300):
        ...     state, info = step(state)
        >>> print(f"{state.params[0]:.4f} {state.multipliers.equality['sum']:.4f}")
        0.5000 -1.0000
    """
    name = "simultaneous"
    return make_solver(problem, primal, dual, per_term, _at_once, name, points=points)


def alternating(
    problem: Lagrangian,
    primal: optax.GradientTransformation,
    dual: Dual,
    *,
    first: Literal["dual", "primal"] = "dual",
    per_term: optax.GradientTransformation | None = None,
    points: Mapping[str, PointRule] | None = None,
) -> Solver:
    r"""Moves the multipliers first, and the parameters with the new ones.

    .. math::
        \lambda_{t+1} = [\lambda_t + \eta\, g(\theta_t)]_+, \qquad
        \theta_{t+1} = \theta_t - \alpha \nabla_\theta L(\theta_t, \lambda_{t+1})

    It costs what `simultaneous` costs: one evaluation, because residuals are known
    before their gradients are weighted. Prefer it when in doubt: it damps the rotation
    around a saddle point that simultaneous moves amplify.

    Args:
        problem: the `Lagrangian`.
        primal: an optax transform for the parameters.
        dual: a transform for the multipliers, as for `simultaneous`.
        first: the side that moves first; "primal" evaluates the residuals a second time,
            at the new parameters.
        per_term: a transform over `GradientTerms`, as for `simultaneous`.
        points: rules that move points, as for `simultaneous`.

    Returns:
        A `Solver`.

    Raises:
        TypeError: as for `simultaneous`.
        ValueError: `first` is neither; and as for `simultaneous`.

    References:
        Gidel et al., Negative Momentum for Improved Game Dynamics (2019), on
        alternating against simultaneous moves.

    Example:
        >>> import jax, jax.numpy as jnp, optax, jaxcon as jc
        >>> at_most_1 = jc.Constraints(inequality={"x <= 1": lambda x, _: x - 1.0})
        >>> problem = jc.Lagrangian(lambda x, _: (x - 2.0) ** 2, at_most_1, penalty=1.0)
        >>> ascent = jc.dual_ascent(optax.sgd(1.0))
        >>> solver = jc.alternating(problem, optax.sgd(0.1), ascent)
        >>> state = solver.init(jnp.array(3.0))
        >>> step = jax.jit(solver.step)
        >>> for _ in range(300):
        ...     state, info = step(state)
        >>> print(f"{state.params:.4f} {state.multipliers.inequality['x <= 1']:.4f}")
        1.0000 2.0000
    """
    check_choice("first", first, ("dual", "primal"))
    if first == "dual":
        return make_solver(
            problem,
            primal,
            dual,
            per_term,
            _dual_first,
            "alternating",
            dual_first=True,
            points=points,
        )
    name = "alternating, primal first"
    return make_solver(
        problem, primal, dual, per_term, _primal_first, name, points=points
    )


def extragradient(
    problem: Lagrangian,
    primal: optax.GradientTransformation,
    dual: Dual,
    *,
    per_term: optax.GradientTransformation | None = None,
    points: Mapping[str, PointRule] | None = None,
) -> Solver:
    r"""Moves both sides by the gradients one step ahead.

    .. math::
        \theta_{t+1/2} &= \theta_t - \alpha \nabla_\theta L(\theta_t, \lambda_t), \quad
        \lambda_{t+1/2} = [\lambda_t + \eta\, g(\theta_t)]_+ \\
        \theta_{t+1} &= \theta_t
          - \alpha \nabla_\theta L(\theta_{t+1/2}, \lambda_{t+1/2}), \quad
        \lambda_{t+1} = [\lambda_t + \eta\, g(\theta_{t+1/2})]_+

    It takes two evaluations a step, and converges on bilinear problems where plain moves
    circle. Both transforms' states advance once a step, at the point ahead. It is not for
    a primal that searches along a line or learns curvature (`optax.lbfgs`), which would
    take the gradient ahead for the one here. `alternating` suits those.

    Args:
        problem: a `Lagrangian`.
        primal: the parameters' optimizer.
        dual: the multipliers', as for `simultaneous`.
        per_term: that of single terms' gradients, as for `simultaneous`.
        points: rules of moving points, as for `simultaneous`.

    Returns:
        The `Solver`.

    Raises:
        TypeError: an argument is of the wrong kind, as for `simultaneous`.
        ValueError: `dual` does not fit, as for `simultaneous`.

    References:
        Korpelevich, The Extragradient Method for Finding Saddle Points and Other
        Problems (1976); Gidel et al., A Variational Inequality Perspective on GANs
        (2019), whose ExtraAdam advances its moments at both evaluations, not at one.

    Example:
        >>> import jax, jax.numpy as jnp, optax, jaxcon as jc
        >>> at_zero = jc.Constraints(equality={"x = 0": lambda x, _: x})
        >>> problem = jc.Lagrangian(lambda x, _: 0.0 * x, at_zero)      # L = μ x
        >>> ascent = jc.dual_ascent(optax.sgd(0.5))
        >>> solver = jc.extragradient(problem, optax.sgd(0.5), ascent)
        >>> state = solver.init(jnp.array(1.0))
        >>> step = jax.jit(solver.step)
        >>> for _ in range(300):
        ...     state, info = step(state)
        >>> print(f"{abs(state.params):.4f}")
        0.0000
    """
    name = "extragradient"
    return make_solver(problem, primal, dual, per_term, _ahead, name, points=points)


def _at_once(start: Start) -> Proposal:
    residuals = start.dual_residuals(start.at)
    found = start.gradient(start.at, start.before)
    move = start.descend(start.at, found, start.before.penalty)
    after = start.climb(start.at.loss, residuals)
    return Proposal((start.at.residuals, residuals), *move, None, after)


def _dual_first(start: Start) -> Proposal:
    residuals = start.dual_residuals(start.at)
    after = start.climb(start.at.loss, residuals)
    found = start.gradient(start.at, after)
    move = start.descend(start.at, found, after.penalty)
    return Proposal((start.at.residuals, residuals), *move, None, after)


def _primal_first(start: Start) -> Proposal:
    found = start.gradient(start.at, start.before)
    gradient, terms, step = start.descend(start.at, found, start.before.penalty)
    moved = step(gradient, start.state.params, start.state.primal)
    new = start.evaluate(moved[0])
    after = start.climb(new.loss, new.residuals)
    evaluated = start.at.residuals, new.loss, new.residuals
    return Proposal(evaluated, gradient, terms, step, moved, after)


def _ahead(start: Start) -> Proposal:
    at, penalty = start.at, start.before.penalty
    residuals = start.dual_residuals(at)
    found = start.gradient(at, start.before)
    gradient, _, step = start.descend(at, found, penalty, elsewhere=True)
    params, _ = step(gradient, start.state.params, start.state.primal)
    # The penalty is no player of the game: it moves once a step, at its end.
    variables = start.climb(at.loss, residuals)._replace(penalty=penalty)

    ahead = start.linearize(params)
    found = start.gradient(ahead, variables)
    move = start.descend(ahead, found, penalty, elsewhere=True)
    ahead_residuals = start.dual_residuals(ahead, params)
    after = start.climb(ahead.loss, ahead_residuals)
    evaluated = at.residuals, residuals, ahead.loss, ahead.residuals, ahead_residuals
    return Proposal(evaluated, *move, None, after)
