"""Shape rules of a fitted function and their constraints in scaled units."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import shapes
from jaxcon.constraints import Constraint, Constraints, tighten
from jaxcon.methods import Apply
from jaxcon.tabular._scaling import Scaling
from jaxcon.tabular._table import TableError

# Largest magnitude in scaled units, of which float32 holds the square.
_FAR = 1e18


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
        lower, upper = scaled_bounds(scaling, rules)
        bounded = shapes.bounded(apply, lower, upper, on="points")
        held["bounded"] = tighten(bounded, margin / 10)
    if rules.lipschitz is not None:
        steep = _lipschitz(apply, scaling, rules.lipschitz)
        held["lipschitz"] = tighten(steep, margin / 10)
    return Constraints(inequality=held)


def scaled_bounds(scaling: Scaling, rules: Rules) -> tuple[float | None, float | None]:
    """Returns the lower and the upper bound in the network's units.

    Args:
        scaling: of the table.
        rules: with the bounds.

    Returns:
        Two numbers, or None where there is no bound.

    Raises:
        TableError: a bound is too far from the data for float32.
    """
    bounds = []
    for name in ("lower", "upper"):
        value = getattr(rules, name)
        if value is not None:
            bound, value = value, (value - scaling.center) / scaling.scale
            if not abs(value) <= _FAR:
                raise TableError(
                    f"--{name} {bound} lies {abs(value):.1g} standard deviations of "
                    f"{scaling.target!r} from its mean, where {_FAR:g} is the most"
                )
        bounds.append(value)
    return bounds[0], bounds[1]


def steepness(scaling: Scaling, constant: float) -> np.ndarray:
    """Returns the Lipschitz constant per input, in the network's units.

    Args:
        scaling: of the table.
        constant: in target units per input unit.

    Returns:
        (d,).

    Raises:
        TableError: one is too small or too large for float32.
    """
    weights = (scaling.upper - scaling.lower) * (constant / scaling.scale)
    for name, weight in zip(scaling.inputs, weights):
        if not 1 / _FAR <= weight <= _FAR:
            raise TableError(
                f"--lipschitz {constant} allows {weight:.1g} standard deviations of "
                f"{scaling.target!r} over the range of {name!r}, which must lie between "
                f"{1 / _FAR:g} and {_FAR:g}"
            )
    return weights


def _lipschitz(apply: Apply, scaling: Scaling, constant: float) -> Constraint:
    """Constrains the gradient's norm in the table's units, relative to `constant`."""
    weights = steepness(scaling, constant)
    steep: Any = shapes.lipschitz(apply, 1.0, on="points")

    def relative(v: jax.Array, slope: jax.Array) -> jax.Array:
        return steep.residual(v, slope / jnp.asarray(weights, slope.dtype))

    return replace(steep, residual=relative, statement=f"|grad f| <= {constant:g}")
