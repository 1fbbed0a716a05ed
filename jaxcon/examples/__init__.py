"""Small complete problems for the command, the tests and the benchmarks.

Most are modules with a problem, its truth, the methods to train it and a function
`findings`, which yields `Findings`, one for each part: the results of every method, a note
and figures. Those in `tables` are functions that return a `TableExample`: the table, the
rules of the function fitted to it and, where the data are simulated, the truth.
"""

from collections.abc import Callable, Iterator

from jaxcon.examples import (
    bounded,
    conservation,
    diffusion,
    doubling,
    front,
    ordering,
    poisson,
    positive,
    probabilities,
    rates,
    smoothing,
    sparse,
    tables,
)
from jaxcon.examples._example import Findings, TableExample
from jaxcon.examples.tables import (
    call_surface,
    dose_response,
    engel,
    house_prices,
)

TABLES = {"engel": engel, "call-surface": call_surface}
STUDIES: dict[str, Callable[[int, int], Iterator[Findings]]] = {
    "smoothing": smoothing.findings,
    "probabilities": probabilities.findings,
    "bounded": bounded.findings,
    "sparse": sparse.findings,
    "ordering": ordering.findings,
    "doubling": doubling.findings,
    "positive": positive.findings,
    "conservation": conservation.findings,
    "rates": rates.findings,
    "poisson": poisson.findings,
    "front": front.findings,
    "diffusion": diffusion.findings,
}

__all__ = [
    "STUDIES",
    "TABLES",
    "Findings",
    "TableExample",
    "bounded",
    "call_surface",
    "conservation",
    "diffusion",
    "dose_response",
    "doubling",
    "engel",
    "front",
    "house_prices",
    "ordering",
    "poisson",
    "positive",
    "probabilities",
    "rates",
    "smoothing",
    "sparse",
    "tables",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
