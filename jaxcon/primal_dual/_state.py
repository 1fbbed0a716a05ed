"""What a step takes and gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxcon.constraints import Constraints
from jaxcon.transforms import GradientTerms

Loss = Callable[[Any, Any], Any]


class PrimalDualState(NamedTuple):
    """What the next step needs.

    Attributes:
        params: theta, the user's pytree.
        multipliers: mu and lambda, one entry for each constraint: an array shaped like
            its residual, or what `jaxcon.multipliers` keeps under its name.
        penalty: rho of each constraint that has one, each of shape (); None for a plain
            Lagrangian.
        primal: state of the primal transform.
        dual: state of the dual transform; `DualStates` where there are several.
        rule: what the penalty rule remembers.
        terms: what the transform of single terms' gradients remembers; () without one.
        step: steps taken, skipped ones included, int32 of shape ().
        skipped: steps skipped because something was not finite, int32 of shape ().
    """

    params: Any
    multipliers: Constraints
    penalty: Any
    primal: Any
    dual: Any
    rule: Any
    terms: Any
    step: jax.Array
    skipped: jax.Array


class DualStates(NamedTuple):
    """States of several dual transforms.

    Attributes:
        shared: of the one that moves all multipliers without one of their own.
        own: by constraint name; of indexed multipliers one row for each sample.
    """

    shared: Any
    own: dict[str, Any]


class Info(NamedTuple):
    """What one would plot: everything is read *before* the step's moves.

    Attributes:
        loss: f, shape ().
        max_violation: largest abs h or max(g, 0), shape ().
        violation: the largest of each constraint, each of shape (); NaN where a
            residual was not finite.
        multiplier: the largest abs multiplier of each constraint, on this batch, each of
            shape ().
        penalty: rho of each constraint that has one, each of shape ().
        capped: whether a multiplier of it sits on the limit that `jaxcon.capped` set,
            each a boolean of shape ().
        clipped: whether a clip changed what it was given, each a boolean of shape () by
            its name: those of jaxcon, and others in `jaxcon.counted`; one of the dual
            transform has "dual " before its name.
        finite: whether loss, residuals, gradient and the moves all were, boolean of
            shape (); where it is False neither parameters nor multipliers moved.
        aux: what the loss returned beside its value, or None. `fit` keeps it for every
            step: return a few numbers, not the predictions.
    """

    loss: jax.Array
    max_violation: jax.Array
    violation: Constraints
    multiplier: Constraints
    penalty: Constraints
    capped: Constraints
    clipped: dict[str, jax.Array]
    finite: jax.Array
    aux: Any


class Solver(NamedTuple):
    """A way to train, in optax's grammar: pure functions.

    Attributes:
        init: (params, batch=None) -> `PrimalDualState`.
        step: (state, batch=None) -> (`PrimalDualState`, `Info`); jit, vmap and scan it.
        estimates: (state, batch=None) -> the multipliers that the objective's gradient
            really uses there, shaped like the residuals: what `jaxcon.optimality` wants.
        residuals: (params, batch=None) -> h and g as the multipliers see them.
        gradients: (state, batch=None) -> `GradientTerms`: the gradient of the loss and
        what each
            constraint adds to it, weighed as the step weighs them where it begins.
    """

    init: Callable[..., PrimalDualState]
    step: Callable[..., tuple[PrimalDualState, Info]]
    estimates: Callable[..., Constraints]
    residuals: Callable[..., Constraints]
    gradients: Callable[..., GradientTerms]
