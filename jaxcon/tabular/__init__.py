"""Tables of data with shape rules: reading, scaling, the `Problem` and its curves.

Inputs are scaled to [0, 1] over the table's box and the target to mean 0 and standard
deviation 1, so that slopes and curvatures of different columns are comparable and one
set of settings serves most tables. Violations are in these units: standard deviations
of the target (bounds), per whole range of the input (slopes) or per its square
(curvatures). Violations of a Lipschitz constant are fractions of it.
"""

from jaxcon.tabular._checks import check, held_out_rows
from jaxcon.tabular._csv import read_csv
from jaxcon.tabular._curves import curve, places, true_curve
from jaxcon.tabular._network import init_network, network, outputs
from jaxcon.tabular._problem import constraint_points, problem
from jaxcon.tabular._rules import Rules
from jaxcon.tabular._scaling import Scaling
from jaxcon.tabular._settings import Settings, methods
from jaxcon.tabular._table import Table, TableError

__all__ = [
    "Rules",
    "Scaling",
    "Settings",
    "Table",
    "TableError",
    "check",
    "constraint_points",
    "curve",
    "held_out_rows",
    "init_network",
    "methods",
    "network",
    "outputs",
    "places",
    "problem",
    "read_csv",
    "true_curve",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
