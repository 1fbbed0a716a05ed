"""The report of one step."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxcon._stacking import map_numbers
from jaxcon.constraints import Constraints, max_violation, violation, worst
from jaxcon.primal_dual._dual import capped
from jaxcon.primal_dual._linearization import Linearization
from jaxcon.primal_dual._state import Info, PrimalDualState
from jaxcon.transforms import fired


def clips(primal: Any, terms: Any, dual: Any) -> dict[str, jax.Array]:
    """Counts the steps at which each clip changed its input.

    Args:
        primal: state of the primal transform.
        terms: state of the transform of single terms' gradients.
        dual: state of the dual transform.

    Returns:
        Numbers of shape () by the names of `Info.clipped`.
    """
    of_dual = {f"dual {name}": count for name, count in fired(dual).items()}
    return fired((primal, terms)) | of_dual


def report(
    state: PrimalDualState,
    at: Linearization,
    multipliers: Constraints,
    dual: Any,
    clipped: dict[str, jax.Array],
    finite: jax.Array,
) -> Info:
    """Reports what was evaluated at the start of a step, and whether it was taken.

    Args:
        state: before the step.
        at: the linearization there.
        multipliers: of each residual there.
        dual: state of the dual transform before the step.
        clipped: by name, whether a clip changed its input.
        finite: whether the step was taken.

    Returns:
        An `Info`.
    """
    # -inf satisfies g <= 0, but nothing can follow from it: as NaN it is seen.
    residuals = map_numbers(
        lambda r: jnp.where(jnp.isfinite(r), r, jnp.nan), at.residuals
    )
    return Info(
        loss=at.loss,
        max_violation=max_violation(residuals),
        violation=worst(violation(residuals)),
        multiplier=worst(map_numbers(jnp.abs, multipliers)),
        penalty=Constraints() if state.penalty is None else state.penalty,
        capped=capped(dual, state.multipliers),
        clipped=clipped,
        finite=finite,
        aux=at.aux,
    )
