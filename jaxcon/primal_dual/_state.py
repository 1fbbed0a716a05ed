"""States and reports of a primal-dual solver."""

from typing import Any, NamedTuple

import jax

from jaxcon.constraints import Constraints


class PrimalDualState(NamedTuple):
    """State of a solver.

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
        extra: state that is not trained, e.g. batch statistics or a random key; None
            without any.
        step: steps taken, skipped ones included, int32 of shape ().
        skipped: steps skipped because something was not finite, int32 of shape ().
        points: by key of the batch, those that a rule moves, each (n, d); () without any.
        weights: what the weights of the loss's residuals remember, by name; () without
            any.
    """

    params: Any
    multipliers: Constraints
    penalty: Any
    primal: Any
    dual: Any
    rule: Any
    terms: Any
    extra: Any
    step: jax.Array
    skipped: jax.Array
    points: Any = ()
    weights: Any = ()


class DualStates(NamedTuple):
    """States of several dual transforms.

    Attributes:
        shared: of the one that moves all multipliers without one of their own.
        own: by constraint name; of indexed multipliers one row for each sample.
    """

    shared: Any
    own: dict[str, Any]


class Info(NamedTuple):
    """Report of one step, evaluated *before* parameters and multipliers move.

    Attributes:
        loss: f, without the weights of a `MeanSquares`, shape ().
        max_violation: largest abs h or max(g, 0), shape ().
        violation: the largest of each constraint, each of shape (); NaN where a
            residual was not finite.
        multiplier: the largest abs multiplier of each constraint, on this batch, each of
            shape ().
        penalty: rho of each constraint that has one, each of shape ().
        capped: whether a multiplier of it is at the limit that `jaxcon.capped` set,
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
