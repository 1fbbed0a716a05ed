"""Diagnosis of a finished or running fit from its history."""

import numpy as np

from jaxcon.diagnosis import _rules as rules
from jaxcon.diagnosis import _statistics as stats
from jaxcon.diagnosis._tracks import tracks_of
from jaxcon.diagnosis._verdicts import Diagnosis
from jaxcon.primal_dual import Info


def diagnose(history: Info, tolerance: float = 1e-3) -> Diagnosis:
    r"""Diagnoses a finished or running fit by verdicts that name the constraints.

    - *not finite*: steps were skipped, because something was not finite.
    - *too short to say*: fewer than 20 steps were finite.
    - *diverging*: a violation or the loss more than triples from third to third.
    - *penalty too large*: a violation does so under a penalty, or under one it or the loss
      jumps up and down from step to step (its differences have a lag-one
      autocorrelation below -0.7, where white noise has -1/2).
    - *oscillating*: a violation swings by more than the tolerance, repeats with a period
      (it resembles itself a period later, with a correlation above 1/2), and its swings do
      not shrink by half from one quarter of the history to the next; or it
      jumps up and down from step to step, without a penalty.
    - *cap reached*: a violation stays above the tolerance while a multiplier of it sits on
      its cap.
    - *infeasible*: a multiplier climbs from third to third, multiplier times violation
      outweighs the loss and its change since the first row, and the violation levels off
      above the tolerance all the same (Aitken's limit of its thirds). Several that do so
      at once are in conflict, also if they give way to each other and only the worst of
      their violations levels off.
    - *winding up*: a multiplier climbs steadily while its violation lags behind and falls
      ever faster, so that it will overshoot; or it has overshot, and only comes down,
      its constraint being met all the while; or it and the loss grow more than ninefold
      from first to last third, though its constraint is met in the median.
    - *penalty too small*: a violation has settled above the tolerance under a penalty, and
      its multiplier moves by less than a hundredth of all that pulls,
      :math:`\lambda + \rho \max(g, 0)`.
    - *not pulled*: a violation has settled so without a penalty.
    - *noisy*: violations above the tolerance come and go with no trend and no period.
    - *still moving*: none of these, but violation, loss or a multiplier has a trend, or the
      violations' swings shrink.
    - *converged*: all violations are within the tolerance, and nothing has a trend.

    Args:
        history: `Info` of arrays with one row per step: a `FitResult.history`, or what
            `fit` hands to a callback while a run goes on.
        tolerance: largest violation that counts as feasible, in the constraints' units.

    Returns:
        A `Diagnosis`.

    Raises:
        ValueError: the history is no sequence of steps of one run.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> both = jc.Constraints(inequality={
        ...     "x <= -1": lambda x, _: x + 1.0, "x >= 1": lambda x, _: 1.0 - x})
        >>> problem = jc.Lagrangian(lambda x, _: x**2, both)
        >>> solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
        >>> result = jc.fit(solver, jnp.array(2.0), steps=500)
        >>> (verdict,) = result.diagnosis.verdicts
        >>> print(verdict.kind, verdict.constraints)
        infeasible ('x <= -1', 'x >= 1')
    """
    finite = np.asarray(history.finite, bool)
    if finite.ndim != 1:
        raise ValueError(
            f"history.finite has shape {finite.shape}; a history has one row per step of "
            "one run, as FitResult.history has"
        )
    tracks, loss = tracks_of(history, finite), np.asarray(history.loss, float)[finite]
    verdicts = [] if finite.all() else rules.not_finite(finite)
    if len(loss) < stats.FEW:
        verdicts += rules.diverging(tracks, loss, tolerance) or rules.too_short(
            len(loss)
        )
        return Diagnosis(tuple(verdicts))
    unstable = rules.jumping(tracks, loss, tolerance) or rules.oscillating(
        tracks, tolerance
    )
    unstable = unstable or rules.diverging(tracks, loss, tolerance)
    restless = {name for verdict in unstable for name in verdict.constraints}
    troubles = [
        *unstable,
        *rules.capped(tracks, tolerance),
        *rules.infeasible(tracks, loss, tolerance),
        *rules.winding_up(tracks, loss, tolerance),
        *rules.at_rest([t for t in tracks if t.name not in restless], tolerance),
    ]
    verdicts += troubles or [rules.state(tracks, loss, tolerance)]
    return Diagnosis(tuple(verdicts))
