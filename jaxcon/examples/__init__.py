"""Small complete problems, packaged: the command, the tests and the benchmarks share them.

Most are modules with a problem, its truth, the methods to train it and a function of the
module's name, which yields `Findings`, one for each part: what every method came to, a note
and figures. Those about a table of numbers are functions that return a `TableExample`:
the table, what must hold of the function fitted to it and, where simulated, the truth.
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
)
from jaxcon.examples._example import Findings, TableExample
from jaxcon.examples.call_surface import call_surface
from jaxcon.examples.engel import engel

TABLES = {"engel": engel, "call-surface": call_surface}
STUDIES: dict[str, Callable[[int], Iterator[Findings]]] = {
    "smoothing": smoothing.smoothing,
    "probabilities": probabilities.probabilities,
    "bounded": bounded.bounded,
    "sparse": sparse.sparse,
    "ordering": ordering.ordering,
    "doubling": doubling.doubling,
    "positive": positive.positive,
    "conservation": conservation.conservation,
    "rates": rates.rates,
    "poisson": poisson.poisson,
    "front": front.front,
    "diffusion": diffusion.diffusion,
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
    "doubling",
    "engel",
    "front",
    "ordering",
    "poisson",
    "positive",
    "probabilities",
    "rates",
    "smoothing",
    "sparse",
]
