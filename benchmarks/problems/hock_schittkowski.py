"""Problems of Hock and Schittkowski's collection (1981), by name.

W. Hock and K. Schittkowski, Test Examples for Nonlinear Programming Codes, Lecture Notes
in Economics and Mathematical Systems 187, Springer, 1981. Written from their mathematical
statement; bounds are constraints too. Each value is the loss where the KKT conditions hold
to rounding, the smallest found by Ipopt and SLSQP from several starts, and agrees with the
book's printed digits except where better is known: the book prints 5362.06928 for HS109,
7049.330923 for HS106, 97.588409 for HS116 and -47.707579 for HS112; for HS59, whose printed
coefficients are rounded, -7.804235953. Left out are problems of long tables or programs
(57, 67, 70, 85, 87 to 92, 105, 119), 47 and 54.
"""

from benchmarks.problems.hock_schittkowski_a import HS_1_TO_44
from benchmarks.problems.hock_schittkowski_b import HS_45_TO_84
from benchmarks.problems.hock_schittkowski_c import HS_86_TO_104
from benchmarks.problems.hock_schittkowski_d import HS_106_TO_118
from benchmarks.problems.published import Published

HOCK_SCHITTKOWSKI: dict[str, Published] = {
    problem.name: problem
    for problem in (*HS_1_TO_44, *HS_45_TO_84, *HS_86_TO_104, *HS_106_TO_118)
}
