"""Shape rules of a fitted function and their constraints in scaled units."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon import shapes
from jaxcon.constraints import Constraint, Constraints, tighten
from jaxcon.methods import Apply
from jaxcon.tabular._scaling import Scaling


@dataclass(frozen=True)
class Rules:
    """Shape rules of the fitted function, by column.

    Attributes:
        increasing: inputs along which it must not fall.
        decreasing: inputs along which it must not rise.
        convex: inputs along each of which it must be convex.
        concave: inputs along each of which it must be concave.
        lower: bound it must not fall below, in the target's units.
        upper: bound it must not exceed, in the target's units.
        lipschitz: largest Euclidean norm of its gradient, in target units per input unit.
    """

    increasing: tuple[str, ...] = ()
    decreasing: tuple[str, ...] = ()
    convex: tuple[str, ...] = ()
    concave: tuple[str, ...] = ()
    lower: float | None = None
    upper: float | None = None
    lipschitz: float | None = None


def rule_constraints(
    apply: Apply, scaling: Scaling, rules: Rules, margin: float
) -> Constraints:
    """Builds the constraints in scaled units; bounds have a tenth of the margin."""
    held: dict[str, Constraint] = {}
    for rule in ("increasing", "decreasing", "convex", "concave"):
        for name in getattr(rules, rule):
            shaped = getattr(shapes, rule)(
                apply, scaling.inputs.index(name), on="points"
            )
            held[f"{rule} in {name}"] = tighten(shaped, margin)
    if rules.lower is not None or rules.upper is not None:
        lower, upper = (
            None if bound is None else (bound - scaling.center) / scaling.scale
            for bound in (rules.lower, rules.upper)
        )
        bounded = shapes.bounded(apply, lower, upper, on="points")
        held["bounded"] = tighten(bounded, margin / 10)
    if rules.lipschitz is not None:
        steep = _lipschitz(apply, scaling, rules.lipschitz)
        held["lipschitz"] = tighten(steep, margin / 10)
    return Constraints(inequality=held)


def _lipschitz(apply: Apply, scaling: Scaling, constant: float) -> Constraint:
    """Constrains the gradient's norm in the table's units, relative to `constant`."""
    width = jnp.asarray(scaling.upper - scaling.lower, jnp.float32)

    def relative(params: Any, v: jax.Array) -> jax.Array:
        return apply(params, v / width) * (scaling.scale / constant)

    steep = shapes.lipschitz(relative, 1.0)
    return lambda params, batch: steep(params, batch["points"] * width[None])
