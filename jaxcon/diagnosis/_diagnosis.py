"""Diagnosis of a finished or running fit from its history and its end."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_number, check_type, described
from jaxcon.diagnosis import _rules as rules
from jaxcon.diagnosis import _statistics as stats
from jaxcon.diagnosis import _unmet as unmet
from jaxcon.diagnosis._evidence import End, Evidence, evidence
from jaxcon.diagnosis._residuals import by_residuals
from jaxcon.diagnosis._stuck import clause, rows_at_rest, stuck
from jaxcon.diagnosis._tracks import Track, tracks_of
from jaxcon.diagnosis._verdicts import Diagnosis, Verdict
from jaxcon.primal_dual import Info, Outer


def diagnose(
    history: Any, tolerance: float = 1e-3, end: End | None = None
) -> Diagnosis:
    r"""Diagnoses a finished or running fit by verdicts that name the constraints.

    `FitResult.diagnosis` passes the run's end. Of a history alone, three kinds cannot be
    told: *converged*, *infeasible* and *penalty too small*.

    - *not finite*: steps were skipped, because something was not finite.
    - *too short to say*: fewer than 20 steps were finite.
    - *converged*: the end is a KKT point. Every violation is within the tolerance, the
      Lagrangian's gradient is at most 1e-3 of its scale, and so are the products
      :math:`\lambda g` and :math:`\mu h`, and no multiplier is negative. The scale is
      the larger of :math:`\|\nabla f\|` and :math:`\|\nabla^2 f\, d\|`, with d the
      size of the parameters and of the way that they came. Several batches count as one:
      the mean, and what two of its standard errors do not tell from zero is zero.
    - *settled*: violations are within the tolerance and nothing has a trend, but whether
      this is an optimum is not known: there is no end, or its batches are too noisy.
    - *stalled*: nothing has a trend, but the KKT residuals are not small, as after a
      learning rate that decayed too early or under a penalty far too large; or a line
      search, a damping or a trust region found no step in the last 20 rows at least.
    - *diverging*: a violation more than triples from third to third, or the loss does while
      no violation falls.
    - *penalty too large*: a violation does so under a penalty, or under one it or the loss
      jumps up and down from step to step (its differences have a lag-one
      autocorrelation below -0.7, where white noise has -1/2).
    - *oscillating*: a violation swings by more than the tolerance, repeats with a period
      (it resembles itself a period later, with a correlation above 1/2), and its swings do
      not shrink by half from one quarter of the history to the next; or it
      jumps up and down from step to step, without a penalty; or it comes and goes though
      every step has the same batch. Swings that batches cause at one point do not count.
    - *cap reached*: a violation stays above the tolerance, and does not fall, while a
      multiplier of it sits on its cap.
    - *not met*: a violation has levelled off above the tolerance (Aitken's limit of its
      thirds), while its multiplier climbs from third to third and multiplier times
      violation outweighs the loss and its change since the first row, or while it rests
      under a penalty; several that do so at once are named together.
    - *infeasible*: violations do so, descent on them from the end does not mend them, and
      where it ends the shortest step that would to first order (`jaxcon.conflict`) is more
      than ten times as long as d.
    - *penalty too small*: a violation rests under a penalty, its multiplier moves by less
      than a hundredth of all that pulls, :math:`\lambda + \rho \max(g, 0)`, and the
      penalized loss is stationary.
    - *not pulled*: a violation has settled so without a penalty.
    - *winding up*: a multiplier climbs steadily while its violation lags behind and falls
      ever faster, so that it will overshoot; or it has overshot, and only comes down,
      its constraint being met all the while; or it and the loss grow more than ninefold
      from first to last third, though its constraint is met in the median.
    - *noisy*: violations above the tolerance come and go with no trend and no period.
    - *still moving*: none of these, but violation, loss or a multiplier has a trend, or
      swings.

    Args:
        history: `Info` of arrays with one row per step: a `FitResult.history`, or what
            `fit` hands to a callback while a run goes on.
        tolerance: largest violation that counts as feasible, in the constraints' units.
        end: problem, state and batches of the end, where KKT residuals are evaluated.

    Returns:
        A `Diagnosis`.

    Raises:
        ValueError: the history is no sequence of steps of one run, or the tolerance is
            negative.
        TypeError: an argument is of another kind.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> both = jc.Constraints(inequality={
        ...     "x <= -1": lambda x, _: x + 1.0, "x >= 1": lambda x, _: 1.0 - x})
        >>> problem = jc.Lagrangian(lambda x, _: x**2, both)
        >>> solver = jc.alternating(problem, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
        >>> start = jnp.array(2.0)
        >>> result = jc.fit(solver, start, steps=500)
        >>> end = jc.diagnosis.End(problem, result.state, [None], start)
        >>> (verdict,) = jc.diagnose(result.history, end=end).verdicts
        >>> print(verdict.kind, verdict.constraints)
        infeasible ('x <= -1', 'x >= 1')
    """
    check_number("tolerance", tolerance, least=0, finite=False)
    if not all(hasattr(history, field) for field in Info._fields):
        raise TypeError(
            "history must be a FitResult.history, or an Info of one row per step, got "
            f"{described(history)}"
        )
    if end is not None:
        check_type("end", end, End, "a jaxcon.diagnosis.End")
    finite = np.asarray(history.finite, bool)
    if finite.ndim != 1:
        raise ValueError(
            f"history.finite has shape {finite.shape}; a history has one row per step of "
            "one run, as FitResult.history has"
        )
    tracks, loss = tracks_of(history, finite), np.asarray(history.loss, float)[finite]
    verdicts = [] if finite.all() else rules.not_finite(finite)
    at = None if end is None else evidence(end, tracks, tolerance)
    if at is not None and isinstance(getattr(at.end.state, "rule", None), Outer):
        return Diagnosis((*verdicts, *by_residuals(tracks, loss, tolerance, at)))
    fixed = end is not None and end.fixed
    eps = float(jnp.finfo(jnp.result_type(float, np.asarray(history.loss))).eps)
    rest = rows_at_rest(tracks, loss, tolerance, eps) if fixed else 0
    verdicts += _judged(tracks, loss, tolerance, at, _stride(history), fixed, rest)
    return Diagnosis(tuple(verdicts))


def _stride(history: Any) -> float:
    """Returns the steps from one row to the next: more than one of a thinned history."""
    steps = np.asarray(getattr(history, "step", ()))
    return float((steps[-1] - steps[0]) / (len(steps) - 1)) if len(steps) > 1 else 1.0


def _judged(
    tracks: list[Track],
    loss: np.ndarray,
    tolerance: float,
    end: Evidence | None,
    stride: float,
    fixed: bool,
    rest: int,
) -> list[Verdict]:
    optimal = end is not None and end.optimal
    if len(loss) < stats.FEW:
        if end is not None and optimal:
            return [rules.converged(end, tolerance, loss)]
        found = rules.diverging(tracks, loss, tolerance)
        return found or rules.too_short(len(loss))
    unstable = rules.jumping(tracks, loss, tolerance, end) or rules.oscillating(
        tracks, tolerance, end, stride
    )
    calm = all((t.violation[-stats.FEW :] <= tolerance).all() for t in tracks)
    if end is not None and optimal and (calm or not unstable):
        found = rules.converged(end, tolerance, loss)
        return [found._replace(text=found.text + clause(rest, end, stride))]
    if end is not None and (found := stuck(tracks, rest, end, len(loss), stride)):
        return found
    unstable = unstable or rules.diverging(tracks, loss, tolerance)
    restless = {name for verdict in unstable for name in verdict.constraints}
    if end is not None and not end.end.fixed:
        # A median of steps is no estimate of what batches say together.
        restless |= {
            name for name, each in end.violation.items() if not each.value > tolerance
        }
    troubles = [
        *unstable,
        *rules.capped(tracks, tolerance),
        *unmet.level(tracks, loss, tolerance, end),
        *rules.winding_up(tracks, loss, tolerance),
        *unmet.at_rest([t for t in tracks if t.name not in restless], tolerance, end),
    ]
    return troubles or [rules.state(tracks, loss, tolerance, end, stride, fixed)]
