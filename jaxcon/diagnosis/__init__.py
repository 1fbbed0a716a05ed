r"""Diagnosis of a run's history: verdicts with their figures and what to try.

Everything is read from the last half of the history, where the start no longer
counts, through medians of its three thirds :math:`b_0, b_1, b_2`, which a few wild steps
do not move. A history contains no evidence of what was never tried, so a verdict is
evidence, not proof; `jaxcon.optimality` evaluates the point itself.
"""

from jaxcon.diagnosis._diagnosis import diagnose
from jaxcon.diagnosis._verdicts import Diagnosis, Verdict

__all__ = ["Diagnosis", "Verdict", "diagnose"]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
