"""Small complete problems, packaged: the command, the tests and the benchmarks share them.

Each is an `Example`: a table, what must hold of the function fitted to it and, where the
data is simulated, the truth.
"""

from jaxcon.examples._example import Example
from jaxcon.examples.call_surface import call_surface
from jaxcon.examples.engel import engel

EXAMPLES = {"engel": engel, "call-surface": call_surface}

__all__ = ["EXAMPLES", "Example", "call_surface", "engel"]
