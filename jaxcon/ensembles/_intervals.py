r"""Prediction intervals by split conformal prediction, which obey the shape rules too.

Every row is held out by some members, and their mean's error on it is as one on new data.
With a spread that is affine in the prediction,

.. math:: s(F) = a + b F, \quad r_i = (y_i - F_{-i}(x_i)) / s(F_{-i}(x_i)),

the interval is F + q s(F), q the conformal quantiles of the r_i. Both its ends are affine
and rising in F, so that they rise, fall and bend as F does; where rules bound slopes or
the gradient, b is 0, and the ends have F's slopes. They are cut at a bound of F that no
target of the training data exceeds. A bound that some exceed is one of the mean, not of
the target: cut there, the interval would not hold its share.

References:
    Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, Distribution-Free Predictive Inference
    for Regression, JASA 113 (2018), sections 2.2 and 5.2. Vovk, Cross-conformal
    Predictors, Annals of Mathematics and Artificial Intelligence 74 (2015).
"""

from typing import Any, NamedTuple

import numpy as np

# Scores that are kept, evenly among the sorted ones; and the least spread relative to the
# mean one, and the steepest s, at which both ends still rise.
_KEPT, _LEAST, _STEEPEST = 4096, 0.2, 0.9


class Calibration(NamedTuple):
    """Errors of held-out predictions, in units of the spread.

    Attributes:
        scores: r_i, rising, (k,).
        base: a, in scaled units.
        slope: b.
        rows: number of rows that they are of.
        lower: bound that no interval exceeds, in scaled units.
        upper: bound that no interval exceeds, in scaled units.
    """

    scores: Any
    base: float
    slope: float
    rows: float
    lower: float = -np.inf
    upper: float = np.inf

    def quantiles(self, level: float) -> tuple[float, float]:
        """Returns the two quantiles of the scores between which a share of them lies.

        Args:
            level: that share, between 0 and 1.

        Returns:
            The lower and the upper, with the correction for the next row, (n + 1) / n.
        """
        tail = (1 - level) / 2 * (self.rows + 1) / self.rows
        last = len(self.scores) - 1
        low = int(np.floor(tail * len(self.scores))) - 1
        high = last - low
        low, high = np.clip([low, high], 0, last)
        return float(self.scores[low]), float(self.scores[high])


def calibrate(
    predicted: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    span: tuple[float, float],
    rigid: bool,
) -> Calibration:
    """Computes the scores of held-out predictions.

    Args:
        predicted: by members that held the rows out, scaled, (n,).
        target: scaled, (n,).
        weight: number of times each row counts, (n,); one below 1 is one row yet.
        span: least and greatest prediction over the box, on which s must be positive.
        rigid: whether b must be 0.

    Returns:
        A `Calibration`.
    """
    error = target - predicted
    size = np.abs(error)
    mean = float(np.average(size, weights=weight)) or 1e-12
    slope = 0.0
    if not rigid and len(error) >= 20:
        away = predicted - np.average(predicted, weights=weight)
        spread = float(np.average(away * away, weights=weight))
        if spread > 0:
            slope = float(np.average(away * size, weights=weight)) / spread
    center = float(np.average(predicted, weights=weight))
    # s stays above a share of the mean over the whole box, and F + q s rising in F.
    ends = [end - center for end in span]
    for end in ends:
        if slope * end < -(1 - _LEAST) * mean:
            slope = -(1 - _LEAST) * mean / end
    for _ in range(2):
        scale = mean + slope * (predicted - center)
        scores = error / scale
        most = float(np.max(np.abs(scores), initial=1e-12))
        slope = float(np.clip(slope, -_STEEPEST / most, _STEEPEST / most))
    scores = error / (mean + slope * (predicted - center))
    order = np.argsort(scores)
    reached = np.cumsum(weight[order])
    rows = float(np.sum(np.maximum(weight, 1.0)))
    number = min(_KEPT, int(rows))
    places = np.searchsorted(reached, (np.arange(number) + 0.5) / number * reached[-1])
    return Calibration(scores[order][places], mean - slope * center, slope, rows)
