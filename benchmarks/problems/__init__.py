"""Problems with known answers, as functions of parameters and NumPy arrays.

`PROBLEMS` have primal and dual solutions, those of `hock_schittkowski` and `textbook` a
best known value.
"""

from benchmarks.problems.closed_form import PROBLEMS
from benchmarks.problems.problem import Problem

__all__ = ["PROBLEMS", "Problem"]
