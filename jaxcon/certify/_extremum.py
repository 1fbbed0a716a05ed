"""Extreme values of residuals on a box, by branch and bound."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from jaxcon._checks import check_number
from jaxcon.certify._branch import MOST, Step, Tree, examined, examiner, grid
from jaxcon.certify._claims import Domain, between
from jaxcon.certify._proof import DTYPE, Clock, attained_at, double, widened
from jaxcon.certify._results import Boxes, Extremum
from jaxcon.certify._verify import corners, domains_of

GAP = 1e-3  # of the range that was found, to which an extremum is proved
FLOOR = 1e-12  # least such width


def extremum(
    constraint: Any,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    params: Any = None,
    within: Domain | Sequence[Domain] = (),
    tolerance: float | None = None,
    budget: float = 60.0,
) -> Extremum:
    r"""Encloses the smallest and the largest value of a residual on a box.

    Args:
        constraint: a constraint of `jaxcon.shapes`, e.g. a `Pointwise`.
        lower: lower corner, (d,).
        upper: upper corner, (d,).
        params: of the network.
        within: as for `verify`.
        tolerance: width to which each is enclosed, in units of the residual; a
            thousandth of the range that was found unless given.
        budget: seconds for each of the two, compilation apart.

    Returns:
        An `Extremum`: two numbers around the minimum, two around the maximum.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the box is empty, or a number is out of range.
        NotImplementedError: no enclosure is known of an operation of the network.

    Example:
        >>> import jaxcon as jc
        >>> residual = jc.shapes.equals(lambda p, x: x[0] * (1 - x[0]), 0.0)
        >>> found = jc.certify.extremum(residual, [0.0], [1.0])
        >>> print(found.most[0] <= 0.25 <= found.most[1])
        True
    """
    low, high = corners("extremum", lower, upper)
    domains = domains_of("extremum", within)
    check_number("extremum: budget", budget, least=0)
    if tolerance is not None:
        check_number("extremum: tolerance", tolerance, above=0)
    shared: dict[str, Any] = {"params": params, "budget": budget}
    upwards = examiner([between(constraint, upper=0.0)], domains)
    downwards = examiner([between(constraint, lower=0.0)], domains)
    # The other side's attained value tells the scale.
    most = supremum(upwards, low, high, tolerance, None, **shared)
    least = supremum(downwards, low, high, tolerance, most, **shared)
    if tolerance is None:
        most = supremum(upwards, low, high, tolerance, least, **shared)
    return Extremum(
        (-least.bound, -least.value),
        (most.value, most.bound),
        least.point,
        most.point,
        least.decided and most.decided,
    )


class Maximum(NamedTuple):
    """Maximum of a residual, proved from both sides.

    Attributes:
        bound: proved upper bound.
        value: proved lower bound, at `point`.
        point: (d,).
        decided: whether both are as close as was asked for.
    """

    bound: float
    value: float
    point: np.ndarray
    decided: bool


def supremum(
    step: Step,
    low: np.ndarray,
    high: np.ndarray,
    tolerance: float | None,
    other: Maximum | None,
    *,
    params: Any,
    budget: float,
    start: Boxes | None = None,
) -> Maximum:
    """Encloses the maximum of a residual, whatever its sign.

    Args:
        step: examination of the residual.
        low: lower corner, (d,).
        high: upper corner, (d,).
        tolerance: width of the enclosure; None for `GAP` of the range that was found.
        other: minus the minimum, where it is known, for the range.
        params: of the network.
        budget: seconds, compilation apart.
        start: boxes that the maximum is over, instead of the whole one; they may have
            sides of zero.

    Returns:
        The maximum.
    """
    clock, params = Clock(budget), widened(params)
    tree = Tree(grid(low, high, 1) if start is None else start)
    best, point, settled, gap = -np.inf, (low + high) / 2, -np.inf, np.inf
    with double():
        while len(tree):
            boxes = tree.taken()
            found = examined(step, params, boxes, DTYPE)
            clock.compiled()
            i = int(found.value[:, 0].argmax())
            if found.value[i, 0] > best:
                attained = float(attained_at(step, params, found.point[i, 0], 1)[0])
                if attained > best:
                    best, point = attained, found.point[i, 0]
            # Both sides together span the range that is known.
            span = best + other.value if other is not None else 2 * abs(best)
            gap = max(GAP * abs(span), FLOOR) if tolerance is None else tolerance
            upper = np.minimum(found.upper, boxes.bound)
            left = ~(upper[:, 0] <= best + gap) & ~found.outside
            done = upper[~left & ~found.outside]
            settled = max(settled, float(done.max(initial=-np.inf)))
            rest = Boxes(boxes.lower[left], boxes.upper[left], upper[left])
            tree.split(rest, found.split[left, 0])
            tree.sort()
            if clock.is_over or len(tree) > MOST:
                break
    bound = max(settled, float(tree.left.bound.max(initial=-np.inf)))
    return Maximum(bound, best, point, bound - best <= gap)
