r"""Losses of a table's target, and the predictions that they are of.

A member of an ensemble returns a score η; a prediction is a function of it.

================== ============== ===================================== ==============
loss               prediction     loss of one row                       target
================== ============== ===================================== ==============
squared_error      η              (y - η)²                              any
absolute_error     η              abs(y - η)                            any
huber              η              Huber's, quadratic below 1.35 σ       any
poisson            exp η          exp η - y η                           y ≥ 0
gamma              exp η          y exp(-η) + η                         y > 0
log_squared_error  s exp η        (log y - η)²                          y > 0
binary             sigmoid η      log(1 + exp η) - y η                  0 or 1
multinomial        softmax η      logsumexp η - η_y                     0, 1, ...
quantile           ordered(η)     pinball loss, summed over the levels  any
================== ============== ===================================== ==============

Where predictions of any sign have bounds, a smooth corner holds them in: with one below,

.. math:: l + \tau \log(1 + \exp((\eta - l) / \tau)).

Targets are scaled before: to mean 0 and standard deviation 1, to mean 1 where a prediction
is exp η, and not at all for classes. Ordered outputs are η_1, η_1 + softplus(η_2), ..., so
that quantiles never cross.

References:
    Koenker and Bassett, Regression Quantiles, Econometrica 46 (1978), equation (2.1): the
    pinball loss. Duan, Smearing Estimate, JASA 78 (1983): the factor s.
"""

import warnings
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_choice, check_number, check_type

LOCATION = ("squared_error", "absolute_error", "huber", "quantile")
POSITIVE = ("poisson", "gamma", "log_squared_error")
CLASSES = ("binary", "multinomial")
REGRESSION = ("squared_error", "absolute_error", "huber", "poisson", "gamma")
INTERVALS = (*REGRESSION, "log_squared_error")

# Width, in standard deviations, within which the corner of a pinball or an absolute value
# is rounded, so that Adam settles; and Huber's bend, 95 % efficient for a normal target.
_ROUND, _BEND = 0.02, 1.35
# Width τ of the corner at a bound, in standard deviations; narrow bounds have a narrower.
_CORNER = 0.05

Ends = tuple[Any, Any] | None


class Loss(NamedTuple):
    """Loss of a target.

    Attributes:
        kind: name of the loss.
        outputs: number m of predictions for a row.
        levels: of quantiles, rising.
    """

    kind: str
    outputs: int = 1
    levels: tuple[float, ...] = ()

    def prediction(self, score: Any, lib: Any = jnp, ends: Ends = None) -> Any:
        """Computes predictions (..., m), in scaled units, from scores (..., m).

        Args:
            score: (..., m).
            lib: `jax.numpy`, or `numpy` to compute in its precision.
            ends: bounds of predictions that may have any sign, or None.

        Returns:
            (..., m).
        """
        if self.kind in POSITIVE:
            return lib.exp(lib.minimum(score, 30.0))
        if self.kind == "binary":
            return lib.exp(-lib.logaddexp(0.0, -score))
        if self.kind == "multinomial":
            top = lib.max(score, -1, keepdims=True)
            # No derivative depends on it.
            top = jax.lax.stop_gradient(top) if lib is jnp else top
            shifted = lib.exp(score - top)
            return shifted / lib.sum(shifted, -1, keepdims=True)
        if self.kind == "quantile" and self.outputs > 1:
            steps = lib.logaddexp(0.0, score[..., 1:])
            score = lib.cumsum(lib.concatenate([score[..., :1], steps], -1), -1)
        return score if ends is None else _within(score, *ends, lib)

    def rise(self, prediction: Any) -> Any:
        """Computes the derivative of a prediction by its score, 1e-3 at least.

        Args:
            prediction: (..., m), scaled.

        Returns:
            (..., m); 1 where m scores make a prediction together.
        """
        if self.kind in POSITIVE:
            return jnp.maximum(prediction, 1e-3)
        if self.kind == "binary":
            return jnp.maximum(prediction * (1 - prediction), 1e-3)
        return jnp.ones_like(prediction)

    def __call__(
        self, score: jax.Array, target: jax.Array, ends: Ends = None
    ) -> jax.Array:
        """Evaluates the loss of rows.

        Args:
            score: (rows, m).
            target: scaled, (rows,).
            ends: as in `prediction`.

        Returns:
            (rows,).
        """
        if self.kind in LOCATION:
            predicted = self.prediction(score, ends=ends)
            return self._of_location(predicted, target)
        first = score[..., 0]
        if self.kind == "poisson":
            return jnp.exp(jnp.minimum(first, 30.0)) - target * first
        if self.kind == "gamma":
            return target * jnp.exp(-first) + first
        if self.kind == "log_squared_error":
            return jnp.square(jnp.log(target) - first)
        if self.kind == "binary":
            return jax.nn.softplus(first) - target * first
        picked = jax.nn.one_hot(target.astype(jnp.int32), self.outputs)
        return jax.nn.logsumexp(score, -1) - jnp.sum(picked * score, -1)

    def _of_location(self, predicted: jax.Array, target: jax.Array) -> jax.Array:
        """Evaluates the loss of predictions (rows, m) that may have any sign, (rows,)."""
        missed = target[..., None] - predicted
        first = missed[..., 0]
        if self.kind == "squared_error":
            return jnp.square(first)
        if self.kind == "absolute_error":
            return _rounded(first)
        if self.kind == "huber":
            size = jnp.abs(first)
            inner = jnp.minimum(size, _BEND)
            return inner * (size - inner / 2)
        tilt = jnp.broadcast_to(
            jnp.asarray(self.levels, missed.dtype) - 0.5, missed.shape
        )
        # abs(r) / 2 + (τ - 1/2) r is the pinball loss.
        return jnp.sum(_rounded(missed) / 2 + missed * tilt, -1)


def _within(score: Any, lower: Any, upper: Any, lib: Any) -> Any:
    """Holds scores between two bounds by smooth corners."""
    corner = lib.minimum(_CORNER, (upper - lower) / 20)
    value = score + corner * lib.logaddexp(0.0, (lower - score) / corner)
    return value - corner * lib.logaddexp(0.0, (value - upper) / corner)


def check_loss(loss: Any) -> None:
    """Refuses a loss that there is not.

    Args:
        loss: as the caller passed it.

    Raises:
        TypeError: it is no `Loss`, or a part of it is of another type.
        ValueError: its parts do not belong together.
    """
    check_type("loss", loss, Loss, "a Loss")
    kinds = (*LOCATION, *POSITIVE, *CLASSES)
    check_choice("loss: kind", loss.kind, kinds)
    check_type("loss: levels", loss.levels, tuple, "a tuple of numbers")
    for level in loss.levels:
        check_number("loss: levels", level, above=0, below=1)
    if any(low >= high for low, high in pairwise(loss.levels)):
        raise ValueError("loss: levels must rise")
    check_number("loss: outputs", loss.outputs, least=1, whole=True)
    wanted = len(loss.levels) if loss.kind == "quantile" else 1
    if loss.kind == "multinomial":
        wanted = max(loss.outputs, 2)
    if loss.outputs != wanted or (loss.kind != "quantile" and loss.levels):
        raise ValueError(
            f"loss: {loss.kind!r} has no {loss.outputs} outputs and "
            f"{len(loss.levels)} levels"
        )


def _rounded(residual: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(residual) + _ROUND**2) - _ROUND


def read_target(y: Any, rows: int, loss: Loss) -> np.ndarray:
    """Reads a target, and refuses one that its loss is not for.

    Args:
        y: numbers, (rows,).
        rows: their number.
        loss: of the target.

    Returns:
        (rows,) of float64.

    Raises:
        TypeError: `y` holds no numbers.
        ValueError: it is of another shape, holds NaN or infinity, or is out of range.
    """
    check_loss(loss)
    check_number("rows", rows, least=1, whole=True)
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    try:
        values = np.asarray(y)
    except ValueError:
        raise ValueError(
            "y must be one number for each row, got a ragged list"
        ) from None
    if values.ndim == 2 and values.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected", stacklevel=3
        )
        values = values[:, 0]
    if values.shape != (rows,):
        raise ValueError(f"y must have shape ({rows},), got shape {values.shape}")
    if values.dtype.kind == "c":
        raise ValueError("Complex data not supported: y")
    try:
        values = values.astype(float)
    except (TypeError, ValueError):
        raise ValueError("Unknown label type: y must hold numbers") from None
    if not np.all(np.isfinite(values)):
        raise ValueError("Input y contains NaN or infinity")
    if loss.kind == "poisson" and values.min() < 0:
        raise ValueError("y must be at least 0 for loss 'poisson'")
    if loss.kind in ("gamma", "log_squared_error") and values.min() <= 0:
        raise ValueError(f"y must be positive for loss {loss.kind!r}")
    if loss.kind in CLASSES:
        last = max(loss.outputs - 1, 1)
        if not np.all((values == np.floor(values)) & (values >= 0) & (values <= last)):
            raise ValueError(f"y must hold numbers of classes, 0 to {last}")
    return values


def scale_of(loss: Loss, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Computes the center and the unit of a target.

    Args:
        loss: of the target.
        y: (rows,).
        weight: of the rows, (rows,).

    Returns:
        Two numbers: scaled targets are (y - center) / unit.
    """
    if loss.kind in CLASSES:
        return 0.0, 1.0
    mean = float(np.average(y, weights=weight))
    if loss.kind in POSITIVE:
        return 0.0, mean or 1.0
    deviation = float(np.sqrt(np.average(np.square(y - mean), weights=weight)))
    return mean, deviation or 1.0


def first_score(loss: Loss, t: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Computes the scores (m,) of the best constant prediction.

    Args:
        loss: of the target.
        t: scaled target, (rows,).
        weight: of the rows, (rows,).

    Returns:
        (m,).
    """
    if loss.kind == "binary":
        share = np.clip(np.average(t, weights=weight), 1e-4, 1 - 1e-4)
        return np.array([np.log(share / (1 - share))])
    if loss.kind == "multinomial":
        shares = np.bincount(t.astype(int), weight, loss.outputs) / weight.sum()
        return np.log(np.maximum(shares, 1e-4))
    if loss.kind == "log_squared_error":
        return np.array([np.average(np.log(t), weights=weight)])
    if loss.kind == "quantile":
        values = weighted_quantiles(t, loss.levels, weight)
        steps = np.maximum(np.diff(values), 1e-2)
        return np.concatenate([values[:1], np.log(np.expm1(steps))])
    if loss.kind in ("absolute_error", "huber"):
        return weighted_quantiles(t, (0.5,), weight)
    return np.zeros(1)


def weighted_quantiles(values: np.ndarray, levels, weight: np.ndarray) -> np.ndarray:
    """Computes quantiles of weighted values, the smallest that reach each level.

    Args:
        values: (rows,).
        levels: between 0 and 1, (k,).
        weight: (rows,), not all zero.

    Returns:
        (k,).
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    places = np.searchsorted(reached, np.asarray(levels) * reached[-1] * (1 - 1e-12))
    return values[order][np.minimum(places, len(values) - 1)]
