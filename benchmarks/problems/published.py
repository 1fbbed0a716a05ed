"""A problem whose best known objective value is published."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import Constraints


class Published(NamedTuple):
    """min loss s.t. constraints, with its best known value.

    Attributes:
        name: as its source calls it.
        loss: (params, batch) -> ().
        constraints: functions (params, batch) -> residual.
        start: the standard start, float64 NumPy arrays in the structure of the parameters.
        value: the loss at the best known feasible point.
        bounds: limits of every entry, lower and upper, for solvers that take them apart;
            they are among the constraints too, as "lower bounds" and "upper bounds".
        ill_posed: why a solver may rightly end elsewhere or without multipliers; "" where
            it may not.
    """

    name: str
    loss: Callable[[Any, Any], jax.Array]
    constraints: Constraints
    start: Any
    value: float
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    ill_posed: str = ""

    @property
    def well_posed(self) -> bool:
        """True where the best known value has multipliers that a solver can find."""
        return not self.ill_posed


def published(
    name: str,
    loss: Callable[..., Any],
    start: Sequence[float],
    value: float,
    *,
    equality: Sequence[Callable[..., Any]] = (),
    nonnegative: Sequence[Callable[..., Any]] = (),
    lower: float | Sequence[float] = -np.inf,
    upper: float | Sequence[float] = np.inf,
    ill_posed: str = "",
) -> Published:
    """Makes a problem of functions of single variables, as books state it.

    Args:
        name: its name.
        loss: f(x1, ..., xn).
        start: where to begin.
        value: the best known value of the loss.
        equality: functions h1, h2, ... of x1, ..., xn that must be zero.
        nonnegative: functions that must be zero or more, numbered on as the book numbers
            them; negated here, as g <= 0.
        lower: lower bounds, one for all or one for each variable.
        upper: upper bounds.
        ill_posed: as in `Published`.
    """
    begin = np.array(start, float)
    equalities = {
        f"h{i} = 0": partial(_spread, h, 1.0) for i, h in enumerate(equality, start=1)
    }
    inequalities = {
        f"g{i} >= 0": partial(_spread, g, -1.0)
        for i, g in enumerate(nonnegative, start=1)
    }
    low, high = (
        np.broadcast_to(np.array(b, float), begin.shape) for b in (lower, upper)
    )
    for key, limits, sign in [("lower bounds", low, -1), ("upper bounds", high, 1)]:
        rows = np.flatnonzero(np.isfinite(limits)).astype(np.int32)
        if len(rows):
            inequalities[key] = partial(_beyond, rows, limits[rows], sign)
    return Published(
        name,
        partial(_spread, loss, 1.0),
        Constraints(equality=equalities, inequality=inequalities),
        begin,
        value,
        (low, high),
        ill_posed,
    )


def _spread(
    function: Callable[..., Any], sign: float, params: Any, _: Any
) -> jax.Array:
    """Gives a function of single variables the vector's entries."""
    return sign * jnp.asarray(function(*params), params.dtype)


def _beyond(
    rows: np.ndarray, limits: np.ndarray, sign: int, params: Any, _: Any
) -> jax.Array:
    """Returns by how much entries are beyond their bounds."""
    return sign * (params[rows] - limits.astype(params.dtype))
