"""Linearization of loss and residuals at one point, with its pullback."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcon.constraints import Constraints, evaluate, grouped, merged, named, same
from jaxcon.lagrangians import Lagrangian, shared
from jaxcon.transforms import GradientTerms


class Linearization(NamedTuple):
    """Loss and residuals at some parameters, with the transpose of their Jacobian.

    Attributes:
        loss: f, shape ().
        residuals: h and g.
        pullback: weights of loss and residuals -> gradient with respect to the
            parameters; `GradientTerms` of it where each term is pulled back alone.
        aux: what the loss reports.
        extra: the next state that is not trained.
    """

    loss: jax.Array
    residuals: Constraints
    pullback: Callable[[jax.Array, Constraints], Any]
    aux: Any
    extra: Any


def linearize(
    problem: Lagrangian, params: Any, batch: Any, extra: Any, per_term: bool = False
) -> Linearization:
    """Linearizes loss and residuals by one forward pass.

    Args:
        problem: the problem.
        params: theta.
        batch: what loss and constraints read.
        extra: state that is not trained.
        per_term: whether the pullback returns the gradient of each term.

    Returns:
        A `Linearization`.
    """
    if per_term and any(problem.constraints):
        return _linearize_terms(problem, params, batch, extra)

    def both(params: Any, batch: Any, extra: Any) -> Any:
        found = problem.evaluate(params, batch, extra)
        return (found.loss, found.residuals), (found.aux, found.extra)

    # An evaluation of both shares what it likes already.
    function = shared(both) if any(problem.constraints) else both
    (loss, residuals), pull, (aux, after) = jax.vjp(
        lambda params: function(params, batch, extra), params, has_aux=True
    )

    def pullback(of_loss: jax.Array, weights: Constraints) -> Any:
        return pull((of_loss, weights))[0]

    def terms(of_loss: jax.Array, weights: Constraints) -> GradientTerms:
        none = jax.tree.map(jnp.zeros_like, weights)
        alone = [
            Constraints(**{kind: {name: pullback(jnp.zeros_like(of_loss), one)}})
            for kind, name, one in _one_by_one(none, weights)
        ]
        return GradientTerms(pullback(of_loss, none), merged(alone, weights))

    return Linearization(loss, residuals, terms if per_term else pullback, aux, after)


def _linearize_terms(
    problem: Lagrangian, params: Any, batch: Any, extra: Any
) -> Linearization:
    """Linearizes the loss and each group of constraints in a pass of its own."""
    alone = Lagrangian(problem.loss)

    def of_loss(params: Any) -> Any:
        found = alone.evaluate(params, batch, extra)
        if any(found.residuals):
            problem.evaluate(params, batch, extra)  # refuses them
        return found.loss, (found.aux, found.extra)

    loss, pull_loss, (aux, after) = jax.vjp(of_loss, params, has_aux=True)
    # A group is one pass through the network, which all of its members pull back.
    groups = [
        jax.vjp(partial(evaluate, group, batch=batch), params)
        for group in grouped(problem.constraints)
    ]
    residuals = merged([found for found, _ in groups], problem.constraints)

    def pullback(of_loss: jax.Array, weights: Constraints) -> GradientTerms:
        gradients = []
        for found, pull in groups:
            none = jax.tree.map(jnp.zeros_like, found)
            gradients += [
                Constraints(**{kind: {name: pull(one)[0]}})
                for kind, name, one in _one_by_one(none, weights)
            ]
        apart = merged(gradients, problem.constraints)
        return GradientTerms(pull_loss(of_loss)[0], apart)

    return Linearization(loss, residuals, pullback, aux, after)


def _one_by_one(none: Constraints, weights: Constraints) -> Any:
    """Yields (kind, name, weights of this constraint alone)."""
    for kind, name, _ in named(none):
        entries = getattr(none, kind) | {name: getattr(weights, kind)[name]}
        yield kind, name, none._replace(**{kind: entries})


def gradient_terms_like(params: Any, residuals: Constraints) -> GradientTerms:
    """Returns `GradientTerms` with the parameters in the place of each gradient."""
    return GradientTerms(params, same(params, residuals))
