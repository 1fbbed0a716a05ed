"""A problem whose answer, primal and dual, is known."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxcon import Constraints


class Problem(NamedTuple):
    """min loss s.t. constraints, with its answer.

    Attributes:
        loss: (params, batch) -> ().
        constraints: functions (params, batch) -> residual.
        start: where to begin, float64 NumPy arrays in the structure of the parameters.
        params: the minimiser; a local one where the problem is not convex.
        multipliers: its multipliers, shaped like the residuals.
        learning_rate: a primal step of about 1 / the largest curvature that the
            augmented Lagrangian with penalty 1 has on the way; less where ascent on the
            plain Lagrangian would otherwise spiral out.
        source: where problem and answer stand, or "by hand".
        unique: no other multipliers fit, as the gradients of the active constraints are
            linearly independent (LICQ). Where false, `multipliers` are the smallest.
        convex: the Lagrangian's Hessian at the answer is positive definite, in all
            directions and not only along the constraints: small steps of descent and
            ascent on the plain Lagrangian converge from nearby. Where false they may
            circle or run away; with penalty 1 they converge for every problem here.
    """

    loss: Callable[[Any, Any], jax.Array]
    constraints: Constraints
    start: Any
    params: Any
    multipliers: Constraints
    learning_rate: float
    source: str
    unique: bool = True
    convex: bool = True
