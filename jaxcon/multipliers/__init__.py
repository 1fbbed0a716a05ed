r"""Multipliers of a batch: dense, indexed or the output of a network.

- **Dense** multipliers are the default: an array shaped like the residual. Multiplier i
  belongs to point i, so the points must stay where they are, or be moved by the solver
  (``points=`` of an order, with rules of `jaxcon.points`): then multipliers move with them.
- `indexed` multipliers form a table with one for each training sample. A batch reads and
  moves the rows of its own samples, and a step costs what its batch costs.
- `network` multipliers :math:`\lambda(x)` are a network's output at each point. They are
  for points that are drawn anew, or for a constraint with a parameter.

A `Lagrangian` takes them by constraint name::

    jc.Lagrangian(..., multipliers={"fit": jc.multipliers.indexed(len(data), on="index")})

and a solver keeps them in ``state.multipliers`` under that name: an array, a `Table` or
`Weights`.
"""

from jaxcon.multipliers._batch import ascent as ascent
from jaxcon.multipliers._batch import gather as gather
from jaxcon.multipliers._batch import indices as indices
from jaxcon.multipliers._batch import joined as joined
from jaxcon.multipliers._batch import put_rows as put_rows
from jaxcon.multipliers._batch import read as read
from jaxcon.multipliers._batch import rows as rows
from jaxcon.multipliers._batch import scatter as scatter
from jaxcon.multipliers._batch import start as start
from jaxcon.multipliers._kinds import Indexed as Indexed
from jaxcon.multipliers._kinds import Kinds as Kinds
from jaxcon.multipliers._kinds import Network as Network
from jaxcon.multipliers._kinds import Table, Weights, indexed, network
from jaxcon.multipliers._kinds import check_kinds as check_kinds

__all__ = ["Table", "Weights", "indexed", "network"]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
