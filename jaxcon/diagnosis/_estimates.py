"""Violations of constraints, estimated from several batches."""

from typing import NamedTuple

import numpy as np

from jaxcon.constraints import Constraints, named


class Estimate(NamedTuple):
    """Violation of one constraint over some batches.

    Attributes:
        value: the violation.
        error: its standard error; 0 of one batch, which is taken as the data.
    """

    value: float
    error: float

    @property
    def upper(self) -> float:
        """Two standard errors above the estimate."""
        return self.value + 2 * self.error


def estimates(rows: list[Constraints]) -> dict[str, Estimate]:
    """Returns the violation of each constraint at one point, estimated from batches.

    A constraint of shape () is taken as a mean over the batch: its residuals are averaged
    with their signs. Of one of shape (n,) every entry counts: the largest violation of
    each batch is averaged.

    Args:
        rows: the residuals of each batch, NumPy arrays.

    Returns:
        Estimates by name.
    """
    found = {}
    for kind, name, first in named(rows[0]):
        residuals = [np.asarray(getattr(row, kind)[name], float) for row in rows]
        if np.ndim(first):
            residuals = [largest(kind, residual) for residual in residuals]
        mean = float(np.mean(residuals))
        error = float(np.std(residuals, ddof=1)) if len(rows) > 1 else 0.0
        value = abs(mean) if kind == "equality" else max(mean, 0.0)
        # NaN must not pass for feasible.
        value = mean if np.isnan(mean) else value
        found[name] = Estimate(value, error / np.sqrt(len(rows)))
    return found


def largest(kind: str, residual: np.ndarray) -> float:
    """Returns the largest violation of a residual's entries, 0 of none."""
    sizes = np.abs(residual) if kind == "equality" else np.maximum(residual, 0.0)
    return float(np.max(sizes, initial=0.0))
