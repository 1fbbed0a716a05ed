"""Scaling between a table's units and the network's."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.methods import Apply
from jaxcon.tabular._network import network


class Scaling(NamedTuple):
    """Scaling of a table: its units and the network's.

    Attributes:
        inputs: names of the input columns.
        target: name of the target column.
        lower: smallest value of each input, (d,).
        upper: largest value of each input, (d,).
        center: mean of the training target.
        scale: standard deviation of the training target.
    """

    inputs: tuple[str, ...]
    target: str
    lower: np.ndarray
    upper: np.ndarray
    center: float
    scale: float

    def unit(self, x: Any) -> np.ndarray:
        """Scales inputs (n, d) from their own units to [0, 1]."""
        return ((np.asarray(x) - self.lower) / (self.upper - self.lower)).astype(float)

    def predict(self, params: Any, x: Any, apply: Apply | None = None) -> np.ndarray:
        """Evaluates the fitted function, `network` unless given, at inputs (n, d)."""
        z = jnp.asarray(self.unit(x), jnp.float32)
        y = jax.vmap(partial(apply or network, params))(z)
        return self.center + self.scale * np.asarray(y, float)

    def to_json(self) -> dict[str, Any]:
        """Returns lists and numbers, for `from_json`."""
        lists = {"lower": self.lower.tolist(), "upper": self.upper.tolist()}
        return self._asdict() | lists

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Scaling":
        """Builds the scaling from the result of `to_json`."""
        return cls(
            tuple(entry["inputs"]),
            entry["target"],
            np.array(entry["lower"]),
            np.array(entry["upper"]),
            entry["center"],
            entry["scale"],
        )
