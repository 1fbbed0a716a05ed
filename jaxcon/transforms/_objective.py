"""Objective that a solver passes to its primal transform."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxcon.constraints import Constraints
from jaxcon.lagrangians import Lagrangian


@dataclass(frozen=True, eq=False)
class Objective:
    """Objective that a solver passes to its primal transform as `value_fn`.

    All of it is at the parameters that the transform moves; `extragradient` moves them by
    the gradient at others, and passes a plain function. It is no pytree, as no function
    is one.

    Attributes:
        value: params -> the objective at the present multipliers, ().
        residuals: params -> those of the constraints.
        slopes: () -> its derivative with respect to each residual, in the residuals'
            shapes, at the present parameters.
        curvature: () -> its second derivative with respect to each residual, in the
            residuals' shapes, at the present parameters.
        problem: the solver's `Lagrangian`.
        batch: what loss and constraints are evaluated on.
    """

    value: Callable[[Any], jax.Array]
    residuals: Callable[[Any], Constraints]
    slopes: Callable[[], Constraints]
    curvature: Callable[[], Constraints]
    problem: Lagrangian
    batch: Any

    def __call__(self, params: Any) -> jax.Array:
        """Evaluates the objective, ()."""
        return self.value(params)
