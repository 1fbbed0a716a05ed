"""Fitted ensembles."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxcon._checks import check_number, check_type
from jaxcon.ensembles._columns import Block, Column, encode
from jaxcon.ensembles._frame import Frame
from jaxcon.ensembles._intervals import Calibration
from jaxcon.ensembles._losses import CLASSES, Ends, Loss
from jaxcon.ensembles._mixture import Mixture
from jaxcon.ensembles._network import Inputs, Member, score, standardise
from jaxcon.ensembles._reference import Reference
from jaxcon.ensembles._rules import Bounds, Kinds, ends_of

_CHUNK = 8192  # rows of a prediction at once


class Ensemble(NamedTuple):
    r"""Mean of members, moved a little to a function that obeys the rules strictly.

    .. math:: F = (1 - t) \, \tfrac1K \sum_k f_k + t f_0

    Attributes:
        columns: the encoding of inputs.
        loss: of the target.
        center: of the target.
        unit: of the target.
        inputs: standardisation of encoded rows.
        members: parameters of the f_k, with a leading axis.
        kinds: the rules.
        bounds: their numbers.
        reference: f_0.
        share: t.
        calibration: errors of held-out predictions, for intervals.
    """

    columns: tuple[Column, ...]
    loss: Loss
    center: float
    unit: float
    inputs: Inputs
    members: Member
    kinds: Kinds
    bounds: Bounds
    reference: Reference
    share: float
    calibration: Calibration | None = None

    @property
    def mixture(self) -> Mixture:
        """Numbers of the function."""
        return Mixture(self.inputs, self.members, self.reference, self.share, self.ends)

    @property
    def ends(self) -> Ends:
        """Bounds in which predictions are held by construction, or None."""
        return ends_of(self.loss, self.kinds, self.bounds)

    @property
    def layout(self) -> tuple[Block, ...]:
        """Entries of the columns in an encoded row."""
        return tuple(column.block for column in self.columns)

    def predict(self, frame: Frame) -> np.ndarray:
        """Computes predictions of a table, in the target's units.

        Args:
            frame: inputs, in the columns' order.

        Returns:
            (rows, m): means, quantiles or probabilities.

        Raises:
            TypeError: `frame` is no `Frame`.
            ValueError: it has another number of columns.
        """
        check_type("frame", frame, Frame, "a Frame, as read_frame makes one")
        if len(frame.columns) != len(self.columns):
            raise ValueError(
                f"frame has {len(frame.columns)} columns, the ensemble {len(self.columns)}"
            )
        return self.predict_encoded(encode(self.columns, frame))

    def predict_interval(self, frame: Frame, level: float) -> np.ndarray:
        """Computes prediction intervals of a table, in the target's units.

        Both ends obey the rules as the prediction does, but for one that a bound cuts off,
        which is flat there.

        Args:
            frame: inputs, in the columns' order.
            level: share of new targets that they are to hold, between 0 and 1.

        Returns:
            Lower and upper ends, (rows, 2).

        Raises:
            TypeError: an argument is of another type.
            ValueError: `level` is out of range, or the loss is of classes or quantiles.
        """
        check_number("level", level, above=0, below=1)
        if self.calibration is None:
            raise ValueError(f"there are no intervals for the loss {self.loss.kind!r}")
        return self.interval_at(self.predict(frame)[:, :1], level)

    def interval_at(self, value: np.ndarray, level: float) -> np.ndarray:
        """Computes prediction intervals at predictions (rows, 1), (rows, 2)."""
        assert self.calibration is not None
        calibration = self.calibration
        scaled = (value - self.center) / self.unit
        quantiles = np.array(calibration.quantiles(level))
        spread = calibration.base + calibration.slope * scaled
        return np.clip(
            value + self.unit * spread * quantiles,
            self.center + self.unit * calibration.lower,
            self.center + self.unit * calibration.upper,
        )

    def predict_encoded(self, v: np.ndarray) -> np.ndarray:
        """Computes predictions of encoded rows (rows, d), in the target's units."""
        means = [self._each(part).mean(0) for part in _chunks(v)]
        return self.moved(np.concatenate(means), v)

    def moved(self, mean: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Moves scaled predictions to f_0 by t, and scales them to the target's units."""
        if self.share > 0:
            mean = (1 - self.share) * mean + self.share * self.reference(v)
        if self.ends is not None:
            mean = np.clip(mean, *self.ends)
        if self.loss.kind in CLASSES:
            return mean
        return self.center + self.unit * mean

    def each_scaled(self, v: np.ndarray) -> np.ndarray:
        """Computes every member's scaled predictions of encoded rows, (K, rows, m)."""
        return np.concatenate([self._each(part) for part in _chunks(v)], axis=1)

    def _each(self, v: np.ndarray) -> np.ndarray:
        # In float64 and without a compiled program: differences of predictions are exact
        # to their last digits, and a single row costs no compilation.
        z = standardise(self.inputs, self.layout, v, np)
        each = []
        for place in range(len(self.members["linear"])):
            one = jax.tree.map(lambda leaf: leaf[place], self.members)  # noqa: B023
            each.append(self.loss.prediction(score(one, z, np), np, self.ends))
        return np.stack(each)


def _chunks(v: np.ndarray) -> Iterator[np.ndarray]:
    """Cuts rows into parts, one at least."""
    for at in range(0, max(len(v), 1), _CHUNK):
        yield v[at : at + _CHUNK]
