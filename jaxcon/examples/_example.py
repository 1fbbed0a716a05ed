"""What an example consists of."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxcon.tabular import Rules, Table


class Example(NamedTuple):
    """A table, its rules and, if simulated, its truth.

    Attributes:
        table: inputs and target.
        target: name of the target column.
        rules: what must hold.
        truth: the function of inputs (n, d) that the data was simulated from, or None.
    """

    table: Table
    target: str
    rules: Rules
    truth: Callable[[np.ndarray], np.ndarray] | None
