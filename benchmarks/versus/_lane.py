"""One way to train, and what a run of it leaves."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

STEPS = 3000
EVERY = 50  # steps between two evaluations on the dense grid
RATE = 1e-2  # of Adam, decaying by a cosine to zero, in every lane that uses it


class Iterate(NamedTuple):
    """Parameters on the way.

    Attributes:
        step: after how many steps.
        params: in the structure of the problem's weights.
        seconds: since the run began; None to measure them.
        pace: seconds a step without compilation, of lanes that are not iterative.
    """

    step: int
    params: Any
    seconds: float | None = None
    pace: float | None = None


class Lane(NamedTuple):
    """Framework with one of its methods.

    Attributes:
        name: in the tables.
        train: (problem's name, arrays, setting, steps, every) -> iterates.
        settings: the grid it is tuned on; one empty setting where nothing is tuned.
        user: (problem's name) -> functions that a user would write.
        needs: modules that must be installed.
        problems: names; None for all of them.
        iterative: whether iterates come as they are reached, so that steps can be timed
            in turns with another lane's.
    """

    name: str
    train: Callable[[str, Any, dict[str, float], int, int], Iterator[Iterate]]
    settings: tuple[dict[str, float], ...]
    user: Callable[[str], tuple[Callable[..., Any], ...]]
    needs: tuple[str, ...] = ()
    problems: tuple[str, ...] | None = None
    iterative: bool = True

    def missing(self) -> str:
        """Names the first module that is not installed; empty if all are."""
        for module in self.needs:
            try:
                found = importlib.util.find_spec(module)
            except ModuleNotFoundError:
                found = None
            if found is None:
                return module
        return ""


PENALTIES: tuple[dict[str, float], ...] = tuple(
    {"penalty": c} for c in (1.0, 10.0, 100.0, 1e3, 1e4)
)
RATES: tuple[dict[str, float], ...] = tuple(
    {"rate": rate} for rate in (1e-3, 1e-2, 0.1, 1.0, 10.0)
)
AUGMENTED: tuple[dict[str, float], ...] = tuple(
    {"penalty": c, "rate": share * c} for c in (1.0, 30.0, 1e3) for share in (0.01, 0.1)
)
CONTROLS: tuple[dict[str, float], ...] = tuple(
    {"rate": rate, "gain": gain} for rate in (1e-2, 0.1, 1.0) for gain in (1.0, 30.0)
)
