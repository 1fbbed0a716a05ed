"""Judges an answer to a textbook problem from the functions alone, in NumPy."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

from benchmarks._textbook_cases import Flat
from benchmarks._textbook_solvers import Answer

FEASIBLE, CLOSE, STATIONARY, INDEPENDENT = 1e-6, 1e-6, 1e-5, 1e-6


class Verdict(NamedTuple):
    """Truth about an answer.

    Attributes:
        feasible: no residual is violated by more than 1e-6.
        best: the loss is the best known, or less, to 1e-6 of it (of 1, if it is less).
        kkt: multipliers exist with which the Lagrangian's gradient is 1e-5 of the loss's
            (of 1, if that is less), by least squares over the active rows.
        duals: the solver's own multipliers are those of least squares to 1e-5 of the
            largest (of 1, if that is less); where active gradients are dependent, they
            meet the same conditions. None where it gives none.
        below: by how much the loss is less than the best known one.
    """

    feasible: bool
    best: bool
    kkt: bool
    duals: bool | None
    below: float

    @property
    def solved(self) -> bool:
        """True for the best known answer and for another KKT point."""
        return self.feasible and (self.best or self.kkt)


def judge(f: Flat, answer: Answer) -> Verdict:
    """Judges an answer against a problem."""
    if not np.all(np.isfinite(answer.x)):
        return Verdict(False, False, False, None, 0.0)
    value, gradient = map(np.array, f.loss(answer.x))
    residuals, jacobian = (
        np.array(f.residuals(answer.x)),
        np.array(f.jacobian(answer.x)),
    )
    if not all(
        np.all(np.isfinite(part)) for part in (value, gradient, residuals, jacobian)
    ):
        return Verdict(False, False, False, None, 0.0)
    violated = np.where(f.equality, np.abs(residuals), residuals).max(initial=0.0)
    scale = max(1.0, np.abs(gradient).max())
    slopes = np.maximum(1.0, np.abs(jacobian).max(axis=1, initial=0.0))
    active = f.equality | (residuals >= -FEASIBLE * slopes)
    fitted = least_squares(gradient, jacobian[active], f.equality[active])
    left = np.abs(gradient + jacobian[active].T @ fitted).max()
    value_scale = max(1.0, abs(f.problem.value))
    return Verdict(
        bool(violated <= FEASIBLE),
        bool(value <= f.problem.value + CLOSE * value_scale),
        bool(left <= STATIONARY * scale),
        duals(f, answer, gradient, jacobian, active),
        float(f.problem.value - value) / value_scale,
    )


def least_squares(
    gradient: np.ndarray, rows: np.ndarray, free: np.ndarray
) -> np.ndarray:
    """Returns the multipliers, signed where not free, that leave the least gradient."""
    if not len(rows):
        return np.zeros(0)
    sizes = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
    lower = np.where(free, -np.inf, 0.0)
    found = lsq_linear(
        (rows / sizes[:, None]).T, -gradient, (lower, np.inf), method="bvls", tol=1e-15
    )
    return found.x / sizes


def duals(
    f: Flat,
    answer: Answer,
    gradient: np.ndarray,
    jacobian: np.ndarray,
    active: np.ndarray,
) -> bool | None:
    """Judges a solver's own multipliers."""
    given = answer.multipliers
    if given is None:
        return None
    if not np.all(np.isfinite(given)):
        return False
    rows = jacobian[active]
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    smallest = np.linalg.svd(unit, compute_uv=False).min(initial=1.0)
    if len(rows) <= rows.shape[1] and smallest > INDEPENDENT:
        wanted = np.zeros_like(given)
        wanted[active] = least_squares(gradient, rows, f.equality[active])
        allowed = STATIONARY * max(1.0, np.abs(wanted).max(initial=0.0))
        return bool(np.abs(given - wanted).max(initial=0.0) <= allowed)
    left = np.abs(gradient + jacobian.T @ given).max()
    allowed = STATIONARY * max(1.0, np.abs(gradient).max())
    largest = max(1.0, np.abs(given).max())
    signed = given[~f.equality].min(initial=0.0) >= -STATIONARY * largest
    idle = np.abs(given[~active]).max(initial=0.0) <= STATIONARY * largest
    return bool(left <= allowed and signed and idle)
