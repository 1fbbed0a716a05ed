"""Verdict on a run of a solver that looks at KKT residuals itself, by those of its end."""

import numpy as np

from jaxcon.diagnosis import _rules as rules
from jaxcon.diagnosis import _unmet as unmet
from jaxcon.diagnosis._evidence import Evidence
from jaxcon.diagnosis._tracks import Track
from jaxcon.diagnosis._verdicts import Verdict
from jaxcon.diagnosis._words import figures, verdict
from jaxcon.primal_dual import RESCUES


def by_residuals(
    tracks: list[Track], loss: np.ndarray, tolerance: float, end: Evidence
) -> list[Verdict]:
    """Judges where a run stopped by itself, or where its steps were used up.

    Its history says nothing of rates: it has none.

    Args:
        tracks: of the history.
        loss: of each step.
        tolerance: largest violation that counts as feasible.
        end: the KKT residuals.

    Returns:
        One verdict.
    """
    if end.optimal:
        return [rules.converged(end, tolerance, loss)]
    at_end = end.end.state.rule
    if not bool(at_end.finished):
        left = " and ".join(end.shortfalls()[:2])
        return verdict(
            "still moving", [], f"the steps are used up, but {left}; allow more steps"
        )
    if at_end.rescues >= RESCUES:
        return verdict(
            "diverging",
            [],
            "under every penalty the parameters leave for infinity, or for where the loss "
            "or a constraint is no number: bound them, or start elsewhere",
        )
    broken = [t for t in tracks if end.violation[t.name].value > tolerance]
    if broken and end.infeasible:
        violations = figures(end.violation[t.name].value for t in broken)
        verb = "stay" if len(broken) > 1 else "stays"
        return unmet.infeasible(broken, f"{verb} at {violations}")
    return unmet.stalled(broken, end)
