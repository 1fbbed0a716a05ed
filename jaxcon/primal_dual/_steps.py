"""The primal and the dual step."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon import multipliers as kinds_of
from jaxcon.constraints import Constraints, named, only
from jaxcon.lagrangians import Evaluation, Lagrangian, safeguarded_estimates
from jaxcon.primal_dual._dual import Dual
from jaxcon.primal_dual._linearization import Linearization
from jaxcon.primal_dual._state import PrimalDualState
from jaxcon.transforms import MeanSquares, Objective, WeightedSquares, like, total
from jaxcon.transforms._terms import norm

Transform = optax.GradientTransformationExtraArgs


class DualVariables(NamedTuple):
    """Multipliers and penalties that one batch reads, with their optimizers' states.

    Attributes:
        multipliers: of the constraints; of a table the batch's rows.
        penalty: rho of each constraint, or None.
        dual: state of the dual transform.
        rule: state of the penalty rule.
    """

    multipliers: Constraints
    penalty: Any
    dual: Any
    rule: Any


class Gradient(NamedTuple):
    """The objective at a point.

    Attributes:
        multipliers: of each residual.
        value: of the objective, ().
        gradient: with respect to the parameters; `GradientTerms` of it where each term
            is transformed alone.
    """

    multipliers: Constraints
    value: jax.Array
    gradient: Any


def dual_variables(
    problem: Lagrangian, dual: Dual, state: PrimalDualState, batch: Any
) -> DualVariables:
    """Gathers the dual variables that a batch reads."""
    return DualVariables(
        kinds_of.gather(problem.multipliers, state.multipliers, batch),
        state.penalty,
        dual.gather(state.dual, batch),
        state.rule,
    )


def lagrangian_gradient(
    problem: Lagrangian, at: Linearization, variables: DualVariables, batch: Any
) -> Gradient:
    """Evaluates the objective and its gradient with respect to the parameters.

    The objective depends on the parameters through loss and residuals only: its gradient
    is their pullback of 1 and of the multiplier estimates.
    """
    multipliers = problem.read(variables.multipliers, at.residuals, batch)
    value, weights = jax.value_and_grad(problem.objective, argnums=(0, 1))(
        at.loss, at.residuals, multipliers, variables.penalty
    )
    return Gradient(multipliers, value, at.pullback(*weights))


def summed_terms(
    problem: Lagrangian,
    per_term: Transform | None,
    state: PrimalDualState,
    at: Linearization,
    penalty: Any,
    found: Gradient,
    batch: Any,
) -> tuple[Any, Any]:
    """Transforms the gradients of all terms and sums them.

    Returns:
        The gradient, and the transform's next state.
    """
    if per_term is None:
        return found.gradient, ()

    def value(name: str) -> jax.Array:
        return problem.objective(
            jnp.zeros_like(at.loss),
            only(at.residuals, {name}),
            only(found.multipliers, {name}),
            None if penalty is None else only(penalty, {name}),
        )

    names = [name for _, name, _ in named(at.residuals)]
    terms = found.gradient
    moved, memory = per_term.update(
        terms,
        state.terms,
        like(terms, [state.params] * (1 + len(names))),  # pyright: ignore[reportArgumentType]
        values=like(terms, [at.loss, *map(value, names)]),
        # Computed only by a transform that calls it.
        traces=partial(kernel_traces, problem, state.params, batch, at),
    )
    return total(moved.entries()), memory  # pyright: ignore[reportAttributeAccessIssue]


def kernel_traces(
    problem: Lagrangian, params: Any, batch: Any, at: Linearization, key: jax.Array
) -> jax.Array:
    r"""Computes estimates of the traces of the terms' neural tangent kernels.

    .. math:: \operatorname{E} \|J_i^T z_i\|^2 = \operatorname{tr} J_i J_i^T

    Args:
        problem: whose loss is a mean of squares.
        params: where.
        batch: what the loss reads.
        at: the linearization there, which pulls back each term alone.
        key: of the signs z.

    Returns:
        Of the loss and of each constraint, (t,).

    Raises:
        ValueError: the loss is no mean of squares.
    """
    loss, weights = problem.loss, {}
    if isinstance(loss, WeightedSquares):
        loss, weights = loss.problem.loss, loss.weights
    if not isinstance(loss, MeanSquares):
        raise ValueError(
            "balance_by_kernel_trace needs to know what the loss is the square of: give "
            "the Lagrangian jaxcon.MeanSquares({name: residual}), got "
            f"{type(loss).__name__}"
        )

    def rows(params: Any) -> dict[str, jax.Array]:
        return {name: row(name, params) for name in loss.residuals}

    def row(name: str, params: Any) -> jax.Array:
        found = loss.evaluate(name, params, batch)
        # Of squares the weights alone; of other losses their curvature too.
        _, bend = loss.slopes(name, found, batch, weights.get(name))
        scale = jnp.sqrt(jnp.maximum(bend * found.size / 2, 0))
        return jax.lax.stop_gradient(scale) * found

    def signs(key: jax.Array, residuals: Any) -> Any:
        leaves, tree = jax.tree.flatten(residuals)
        keys = jax.random.split(key, max(len(leaves), 1))
        return tree.unflatten(
            jax.random.rademacher(one, leaf.shape, leaf.dtype)
            for one, leaf in zip(keys, leaves)
        )

    of_loss, of_constraints = jax.random.split(key)
    found, pull = jax.vjp(rows, params)
    # The signs of different residuals are independent: their traces add up.
    (gradient,) = pull(signs(of_loss, found))
    terms = at.pullback(jnp.zeros_like(at.loss), signs(of_constraints, at.residuals))
    return jnp.stack([norm(one) ** 2 for one in [gradient, *terms.entries()[1:]]])


def primal_step(
    solver: Any,
    at: Linearization,
    found: Gradient,
    context: tuple[Any, Any, Any],
    elsewhere: bool = False,
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Returns the step of the parameters along a gradient.

    Args:
        solver: the solver, for its problem and its primal transform.
        at: the linearization that the gradient came of.
        found: objective and multipliers there.
        context: batch, state that is not trained, and penalty of each constraint.
        elsewhere: whether the gradient is that of other parameters than the step's.

    Returns:
        (gradient, parameters, optimizer state) -> (parameters, optimizer state).
    """
    problem, (batch, extra, penalty) = solver.problem, context

    def slopes(residuals: Constraints) -> Constraints:
        return jax.grad(problem.objective, argnums=1)(
            at.loss, residuals, found.multipliers, penalty
        )

    def curvature() -> Constraints:

        def summed(residuals: Constraints) -> jax.Array:
            each = jax.tree.leaves(slopes(residuals))
            return sum(map(jnp.sum, each), jnp.zeros(()))

        # No entry's slope depends on another's: the sum has each entry's own.
        return jax.grad(summed)(at.residuals)

    def step(gradient: Any, params: Any, state: Any) -> tuple[Any, Any]:
        evaluate = _line(problem, at.residuals, params, batch, extra)
        if elsewhere:
            evaluate = partial(problem.evaluate, batch=batch, extra=extra)

        def value(params: Any) -> jax.Array:
            """Evaluates the objective for a line search."""
            tried = evaluate(params)
            return problem.objective(
                tried.loss, tried.residuals, found.multipliers, penalty
            )

        def residuals(params: Any) -> Constraints:
            return evaluate(params).residuals

        def gradient_at(params: Any, _: Any) -> Any:
            """Evaluates the objective's gradient, for `optax.contrib.sam`."""
            return jax.grad(value)(params)

        objective: Any = value
        if not elsewhere:
            first = partial(slopes, at.residuals)
            objective = Objective(value, residuals, first, curvature, problem, batch)
        known = {"value": found.value, "grad": gradient, "value_fn": objective}
        asked = inspect.signature(solver.primal.update).parameters
        if not any(one.kind is one.VAR_KEYWORD for one in asked.values()):
            known |= {"grad_fn": gradient_at}
            known = {name: known[name] for name in known if name in asked}
        here = _fast(gradient, params, state)
        updates, state = solver.primal.update(here, state, params, **known)
        return optax.apply_updates(params, updates), state

    return step


def _line(
    problem: Lagrangian, residuals: Constraints, start: Any, batch: Any, extra: Any
) -> Callable[[Any], Evaluation]:
    """Returns params -> the loss and the residuals that a search from `start` compares.

    A proxy moves by as much as its surrogate does: along the way its strict value may be
    flat, or jump, and the gradient is the surrogate's.
    """
    surrogates = {
        name: constraint.surrogate
        for _, name, constraint in named(problem.constraints)
        if hasattr(constraint, "surrogate")
    }
    shifts = {
        name: residual - surrogates[name](start, batch)
        for _, name, residual in named(residuals)
        if name in surrogates
    }

    def evaluate(params: Any) -> Evaluation:
        found = problem.evaluate(params, batch, extra)
        moved = Constraints(
            *(
                {
                    name: shifts[name] + surrogates[name](params, batch)
                    if name in shifts
                    else residual
                    for name, residual in kind.items()
                }
                for kind in found.residuals
            )
        )
        return found._replace(residuals=moved)

    return evaluate


def _fast(gradient: Any, params: Any, state: Any) -> Any:
    """Returns the gradient of the fast parameters, where `optax.lookahead` asks for it."""
    kind = optax.LookaheadState
    states = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, kind))
    if not any(isinstance(part, kind) for part in states):
        return gradient
    if not isinstance(params, optax.LookaheadParams):
        raise TypeError(
            "optax.lookahead moves two copies of the parameters: start from "
            "optax.LookaheadParams.init_synced(params), and read params.fast in loss and "
            "constraints"
        )
    return gradient.fast


def dual_step(
    problem: Lagrangian,
    dual: Dual,
    variables: DualVariables,
    loss: jax.Array,
    residuals: Constraints,
    batch: Any,
) -> DualVariables:
    """Moves multipliers and penalties along their gradient, which is the residuals."""
    multipliers = problem.read(variables.multipliers, residuals, batch)
    # What a transform does not ask for is never computed: XLA leaves it out.
    value, estimates = jax.value_and_grad(problem.objective, argnums=1)(
        loss, residuals, multipliers, variables.penalty
    )
    kinds = problem.multipliers
    estimates = kinds_of.joined(kinds, multipliers, estimates, batch)
    if problem.barrier is not None:
        estimates = safeguarded_estimates(multipliers, estimates)
    moved, state = dual.update(
        kinds_of.ascent(kinds, variables.multipliers, residuals, batch),
        variables.dual,
        variables.multipliers,
        value=value,
        estimates=estimates,
        penalty=variables.penalty,
    )
    penalty, memory = variables.penalty, variables.rule
    rule = problem.rule(residuals)
    if rule is not None:
        penalty, memory = rule.update(residuals, memory, penalty, multipliers, value)
    return DualVariables(moved, penalty, state, memory)
