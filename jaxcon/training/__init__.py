r"""Training: runs of a solver in chunks on the device, reported from the host.

A chunk is one compiled loop; between chunks the host moves the progress bar, calls back,
saves and watches for trouble, so nothing in the compiled program waits for it. The number
of steps in a chunk is data, not shape: whatever `steps` is, `fit` compiles once.
"""

from jaxcon.training._fit import fit
from jaxcon.training._history import History
from jaxcon.training._result import (
    DivergedError,
    FitResult,
    Interrupted,
    Iterate,
    NonFiniteError,
)
from jaxcon.training._solve import solve
from jaxcon.training._sweep import SweepResult, sweep

__all__ = [
    "DivergedError",
    "FitResult",
    "History",
    "Interrupted",
    "Iterate",
    "NonFiniteError",
    "SweepResult",
    "fit",
    "solve",
    "sweep",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
