r"""Diagnosis of a run's history: verdicts with their figures and what to try.

What moves is read from the last half of the history, where the start no longer
counts, through medians of its three thirds :math:`b_0, b_1, b_2`, which a few wild steps
do not move. A history tells what moves, not whether the point where nothing moves is an
optimum, or whether a violation that stays could be mended. That is read from the `End` of
the run, where loss and constraints are evaluated again.
"""

from jaxcon.diagnosis._diagnosis import diagnose
from jaxcon.diagnosis._evidence import End
from jaxcon.diagnosis._verdicts import Diagnosis, Verdict

__all__ = ["Diagnosis", "End", "Verdict", "diagnose"]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
