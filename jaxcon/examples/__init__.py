"""Small complete problems, packaged: the command, the tests and the benchmarks share them.

Most are functions that yield `Findings`, one for each of their parts: what every way to
obey came to, a note and figures. Those about a table of numbers are a `TableExample`: the
table, what must hold of the function fitted to it and, where simulated, the truth.
"""

from collections.abc import Callable, Iterator

from jaxcon.examples._example import Findings, TableExample
from jaxcon.examples.call_surface import call_surface
from jaxcon.examples.engel import engel

TABLES = {"engel": engel, "call-surface": call_surface}
STUDIES: dict[str, Callable[[int], Iterator[Findings]]] = {}

__all__ = [
    "STUDIES",
    "TABLES",
    "Findings",
    "TableExample",
    "call_surface",
    "engel",
]
