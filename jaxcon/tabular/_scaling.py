"""Scaling between a table's units and the network's."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_number, described
from jaxcon.methods import Apply
from jaxcon.tabular._network import network
from jaxcon.tabular._table import LARGEST, LEAST_SPREAD, is_one_line


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
        with np.errstate(over="ignore"):  # far outside the box
            z = jnp.asarray(self.unit(x).astype(np.float32))
        y = jax.vmap(partial(apply or network, params))(z)
        return self.center + self.scale * np.asarray(y, float)

    def to_json(self) -> dict[str, Any]:
        """Returns lists and numbers, for `from_json`."""
        lists = {"lower": self.lower.tolist(), "upper": self.upper.tolist()}
        return self._asdict() | lists

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Scaling":
        """Builds the scaling from the result of `to_json`.

        Raises:
            TypeError: an entry is of another type.
            ValueError: an entry is missing, or no table has such a scaling.
        """
        if not isinstance(entry, dict):
            raise TypeError(f"scaling must be entries by name, got {described(entry)}")
        for name in cls._fields:
            if name not in entry:
                raise ValueError(f"scaling.{name} is missing")
        for name in entry:
            if name not in cls._fields:
                raise ValueError(f"scaling has no entry {name!r}")
        inputs, target = entry["inputs"], entry["target"]
        if not isinstance(inputs, list) or not inputs:
            raise TypeError(f"scaling.inputs must be names, got {described(inputs)}")
        for name, value in [("inputs", one) for one in inputs] + [("target", target)]:
            if not isinstance(value, str) or not value or not is_one_line(value):
                raise TypeError(f"scaling.{name}: {described(value)} is no name")
        if len({*inputs, target}) != len(inputs) + 1:
            raise ValueError("scaling: two columns are of one name")
        for name in ("lower", "upper"):
            if not isinstance(entry[name], list) or len(entry[name]) != len(inputs):
                raise TypeError(
                    f"scaling.{name} must be one number for each of {len(inputs)} inputs, "
                    f"got {described(entry[name])}"
                )
            for value in entry[name]:
                check_number(f"scaling.{name}", value, least=-LARGEST, most=LARGEST)
        for one, low, high in zip(inputs, entry["lower"], entry["upper"]):
            if not high - low >= LEAST_SPREAD:
                raise ValueError(f"scaling.lower is not below scaling.upper of {one!r}")
        check_number("scaling.center", entry["center"], least=-LARGEST, most=LARGEST)
        check_number("scaling.scale", entry["scale"], above=0, most=LARGEST)
        return cls(
            tuple(inputs),
            target,
            np.array(entry["lower"], float),
            np.array(entry["upper"], float),
            float(entry["center"]),
            float(entry["scale"]),
        )
