r"""Proofs that a network, or its exact derivatives, obey a rule on a whole box.

A constraint holds where it is trained; `verify` proves that it holds everywhere in a box,
or finds a point where it does not. `bounds` encloses values and derivatives over
one box, `extremum` the range of a residual.

The network is interpreted as a jaxpr, each array enclosed by linear functions of x and a
remainder (`Forward`), its derivatives by the rules of Leibniz and Faà di Bruno; the
remainders are carried to the result by the adjoints of the linear replacements. Elementary
functions and their derivatives up to the fifth have their ranges in closed form.
"""

from jaxcon.certify._bounds import Interval, bounds, explain
from jaxcon.certify._claims import (
    Claim,
    ball,
    between,
    convex,
    half_space,
    monotone,
    simplex,
)
from jaxcon.certify._equations import (
    Advection,
    ErrorBound,
    Heat,
    Ordinary,
    Poisson,
    ResidualBound,
    error_bound,
    residual_bound,
)
from jaxcon.certify._extremum import extremum
from jaxcon.certify._proof import Progress
from jaxcon.certify._results import (
    Boxes,
    Counterexample,
    Extremum,
    Outcome,
    Proofs,
    Proved,
    Undecided,
)
from jaxcon.certify._target import Target
from jaxcon.certify._verify import verify
from jaxcon.certify._width import width

__all__ = [
    "Advection",
    "Boxes",
    "Claim",
    "Counterexample",
    "ErrorBound",
    "Extremum",
    "Heat",
    "Interval",
    "Ordinary",
    "Outcome",
    "Poisson",
    "Progress",
    "Proofs",
    "Proved",
    "ResidualBound",
    "Target",
    "Undecided",
    "ball",
    "between",
    "bounds",
    "convex",
    "error_bound",
    "explain",
    "extremum",
    "half_space",
    "monotone",
    "residual_bound",
    "simplex",
    "verify",
    "width",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
