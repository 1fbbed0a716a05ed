"""Methods for the series and for the field."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import methods
from jaxcon.constraints import Constraints
from jaxcon.examples.smoothing._layers import (
    bounded_moving_average,
    bounded_waves,
    gaussian,
    init_learned_convolution,
    init_lines,
    init_waves,
    learned_convolution,
    max_min_of_lines,
    moving_average,
)
from jaxcon.examples.smoothing._problems import (
    bound,
    differences,
    relative_laplacian,
    relative_slope,
    stencil,
)
from jaxcon.examples.smoothing._truth import MARGIN, STEEPEST, STEPS, STRENGTH, WEIGHT
from jaxcon.methods import Apply, Method


def _smoothness(name: str, measured: Callable[[Apply], Any]) -> Callable:
    """Returns problem -> problem that is trained towards zero of a measure."""
    return lambda problem: problem._replace(
        trained=lambda apply: Constraints(equality={name: measured(apply)})
    )


def _proxy_bound(name: str, proxy: Callable[[Apply], Any]) -> Callable:
    """Returns problem -> problem that is trained with the bound on a proxy."""

    def excess(apply: Apply) -> Any:
        measured = proxy(apply)
        return lambda params, batch: jnp.abs(measured(params, batch)) - 1 + MARGIN

    return lambda problem: problem._replace(
        trained=lambda apply: bound(name, excess(apply))
    )


def _adam() -> optax.GradientTransformation:
    # The rate stays above zero: multipliers move to the last step, and parameters follow.
    return optax.adam(optax.cosine_decay_schedule(1e-2, STEPS, alpha=0.03))


def _layer(
    output: Callable[[Apply], Apply], watched: Callable, init: Any = None
) -> Method:
    """Trains a network with another output; a cheap proxy gives its history."""
    method = methods.by_construction(_adam(), output, init)
    return method._replace(change=lambda problem: watched(method.change(problem)))


def series_methods() -> dict[str, Method]:
    """Lists the methods for the series.

    Returns:
        Methods by name. "difference" ones evaluate the samples only.
    """
    adam = _adam()
    radius = np.sqrt(STEEPEST / 2)

    def short_weights(params: Any) -> Any:
        # Twice the product of both norms is as steep as the network can be.
        project = partial(optax.projections.projection_l2_ball, scale=radius)
        return [{**layer, "w": project(layer["w"])} for layer in params]

    of_differences = _smoothness("difference", differences)
    of_slopes = _smoothness("slope", relative_slope)
    bound_differences = _proxy_bound("difference", differences)
    smoothness = methods.penalty(adam, STRENGTH, "absolute")
    return {
        "unconstrained": methods.unconstrained(adam),
        "moving average": _layer(moving_average, bound_differences),
        "bounded moving average": _layer(bounded_moving_average, bound_differences),
        "Gaussian": _layer(gaussian, bound_differences),
        "learned convolution": _layer(
            learned_convolution, bound_differences, init_learned_convolution
        ),
        "difference penalty": smoothness._replace(change=of_differences),
        "slope penalty": smoothness._replace(change=of_slopes),
        "difference bound, augmented": methods.augmented(adam, STRENGTH)._replace(
            change=bound_differences
        ),
        "bound, penalty": methods.penalty(adam, WEIGHT),
        "bound, lagrangian": methods.lagrangian(adam, STRENGTH),
        "bound, PI control": methods.pi_control(adam, STRENGTH),
        "bound, augmented": methods.augmented(adam, STRENGTH),
        "projection": methods.projected(adam, short_weights),
        "by construction": _layer(
            lambda apply: max_min_of_lines, bound_differences, init_lines
        ),
    }


def field_methods() -> dict[str, Method]:
    """Lists the methods for the field.

    Returns:
        Methods by name. "stencil" ones evaluate the grid only; there is no set of weights
        for a projection.
    """
    adam = _adam()
    of_stencil = _smoothness("stencil", stencil)
    of_laplacians = _smoothness("Laplacian", relative_laplacian)
    bound_stencil = _proxy_bound("stencil", stencil)
    smoothness = methods.penalty(adam, STRENGTH)
    return {
        "unconstrained": methods.unconstrained(adam),
        "stencil penalty": smoothness._replace(change=of_stencil),
        "Laplacian penalty": smoothness._replace(change=of_laplacians),
        "stencil bound, augmented": methods.augmented(adam, STRENGTH)._replace(
            change=bound_stencil
        ),
        "bound, penalty": methods.penalty(adam, WEIGHT),
        "bound, lagrangian": methods.lagrangian(adam, STRENGTH),
        "bound, PI control": methods.pi_control(adam, STRENGTH),
        "bound, augmented": methods.augmented(adam, STRENGTH),
        "by construction": _layer(
            lambda apply: bounded_waves, bound_stencil, init_waves
        ),
    }
