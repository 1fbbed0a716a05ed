"""Proofs of claims on a box, by branch and bound."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import experimental
from jax.typing import ArrayLike

from jaxcon._checks import (
    check_array,
    check_each,
    check_function,
    check_number,
    check_type,
)
from jaxcon.certify._branch import MOST, Examined, Step, Tree, examined, examiner, grid
from jaxcon.certify._claims import Claim, Domain, between, claim_of
from jaxcon.certify._results import (
    Boxes,
    Counterexample,
    Extremum,
    Outcome,
    Proved,
    Undecided,
)

DTYPE = np.float64
GAP = 1e-3  # of the range that was found, to which an extremum is proved
FLOOR = 1e-12  # least such width


class Progress(NamedTuple):
    """State of a proof that runs.

    Attributes:
        open: statements of the claims that are not decided yet.
        proved: share of the volume that is decided, from 0 to 1.
        boxes: number of boxes that were enclosed.
        left: number of boxes that are left.
        seconds: time since the start.
    """

    open: tuple[str, ...]
    proved: float
    boxes: int
    left: int
    seconds: float


def verify(
    claim: Any,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    params: Any = None,
    within: Domain | Sequence[Domain] = (),
    tolerance: float = 0.0,
    budget: float = 60.0,
    resume: Undecided | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Any:
    r"""Proves or refutes that a residual is at most zero at every point of a box.

    .. math:: r(x) \le \tau \quad \text{for all } x \text{ with } l \le x \le u

    The residual is enclosed over boxes, which are split until it is below the tolerance
    in all of them, or a point is found where it is above. The proof is about the
    function in exact arithmetic, with the parameters as they are; it is computed in
    float64, with all roundings counted. What does not depend on x is taken as float64
    computes it, and `jax.lax.stop_gradient` has the derivative zero.

    Args:
        claim: a constraint of `jaxcon.shapes` on an ``apply``, whose ``on`` is not
            read, or a claim of this module (`monotone`, `convex`, `between`); or a dict
            of several on the same ``apply``, which share the work.
        lower: l, (d,).
        upper: u, (d,).
        params: of the network, as ``apply`` takes them.
        within: functions of x that are at most zero in the domain, where that is not the
            whole box: `ball`, `simplex`, `half_space` or others.
        tolerance: tau, in units of the residual.
        budget: seconds, compilation apart, after which what is not decided is left so.
        resume: an earlier outcome of the same claim, from whose boxes the proof goes on.
        progress: called after each batch of boxes.

    Returns:
        `Proved`, `Counterexample` or `Undecided`, or a dict of them. Each prints as a
        sentence, and has ``holds``: True, False or None.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the box is empty, or a number is out of range.
        NotImplementedError: no enclosure is known of an operation of the network.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> rises = jc.shapes.increasing(lambda p, x: jnp.tanh(p * x[0]), 0)
        >>> print(jc.certify.verify(rises, [-1.0], [1.0], params=2.0).holds)
        True
        >>> found = jc.certify.verify(rises, [-1.0], [1.0], params=-2.0)
        >>> print(found.holds, found.value > 0)
        False True
    """
    low, high = corners("verify", lower, upper)
    domains = domains_of("verify", within)
    for name, value in (("tolerance", tolerance), ("budget", budget)):
        check_number(f"verify: {name}", value, least=0)
    if progress is not None:
        check_function("verify: progress", progress, "(Progress) -> None")
    several = isinstance(claim, Mapping)
    claims = [
        claim_of(one, tolerance) for one in (claim.values() if several else [claim])
    ]
    if not claims:
        raise ValueError("verify got an empty dict; pass at least one claim")
    if any(one.apply is not claims[0].apply for one in claims):
        raise ValueError(
            "verify got claims on different functions; pass those on one apply together"
        )
    start, settled = grid(low, high, len(claims)), -np.inf
    statements = [one.statement for one in claims]
    params = jax.tree.map(_widened, params)
    task = claim, domains, _digest(low, high, tolerance, params)
    if resume is not None:
        check_type("verify: resume", resume, Undecided, "what verify returned")
        if several or not _is_same(resume.task, task):
            raise ValueError(
                "verify goes on from an outcome of the same claim, parameters, box and "
                "tolerance only"
            )
        start = resume.rest._replace(bound=resume.rest.bound[:, None] - tolerance)
        settled = resume.settled - tolerance
    outcomes = proved(
        examiner(claims, domains),
        statements,
        params,
        start,
        tolerance=tolerance,
        budget=budget,
        progress=progress,
        settled=settled,
    )
    outcomes = [
        one._replace(task=task) if isinstance(one, Undecided) else one
        for one in outcomes
    ]
    return dict(zip(claim, outcomes)) if several else outcomes[0]


def proved(
    step: Step,
    statements: Sequence[str],
    params: Any,
    start: Boxes,
    *,
    tolerance: float = 0.0,
    budget: float = 60.0,
    progress: Callable[[Progress], None] | None = None,
    settled: float = -np.inf,
) -> list[Outcome]:
    """Proves or refutes several claims on boxes that cover their domain.

    Args:
        step: of `examiner`.
        statements: of its claims, R.
        params: of the network.
        start: boxes, with one bound for each claim.
        tolerance: by which the claims' residuals were lowered.
        budget: seconds, compilation apart.
        progress: called after each batch.
        settled: upper bound of the residuals, lowered, on boxes that were decided before.

    Returns:
        One outcome for each claim.
    """
    began, tree = time.perf_counter(), Tree(start)
    count, limit = len(statements), None
    bound, largest = np.full(count, settled), np.full(count, -np.inf)
    refuted: dict[int, Outcome] = {}
    with double():
        while len(tree) and len(refuted) < count:
            boxes = tree.taken()
            found = examined(step, params, boxes, DTYPE)
            if limit is None:  # compilation is not part of the budget
                limit = time.perf_counter() + budget
            seconds = time.perf_counter() - began
            for r in set(range(count)) - set(refuted):
                # A box that is decided beforehand is not of this claim.
                own = np.where(boxes.bound[:, r] > -np.inf, found.value[:, r], -np.inf)
                i = int(own.argmax())
                value = float(own[i])
                largest[r] = max(largest[r], value)
                # The residual is enclosed at the point alone: its rounding is counted.
                at = found.point[i, r]
                if value <= 0:
                    continue
                alone = _at_point(step, params, at, count)
                if alone.lower[0, r] > 0 and alone.inside[0]:
                    told = statements[r], at, value + tolerance, tree.count, seconds
                    refuted[r] = Counterexample(*told)
            upper = np.minimum(found.upper, boxes.bound)
            upper[found.outside] = -np.inf
            bound = np.maximum(bound, np.where(upper > 0, -np.inf, upper).max(axis=0))
            open_ = ~(upper <= 0)
            open_[:, list(refuted)] = False
            left = open_.any(axis=1)
            rest = Boxes(boxes.lower[left], boxes.upper[left], upper[left])
            # The first claim that is open says where a box is split.
            first = open_[left].argmax(axis=1)
            tree.split(rest, found.split[left][np.arange(len(first)), first])
            seconds = time.perf_counter() - began
            if progress is not None:
                names = [s for r, s in enumerate(statements) if r not in refuted]
                share = 1 - tree.volume(tree.left)
                progress(Progress(tuple(names), share, tree.count, len(tree), seconds))
            if time.perf_counter() > limit or len(tree) > MOST:
                break
    left, seconds = tree.left, time.perf_counter() - began
    outcomes = []
    for r, statement in enumerate(statements):
        rows = np.flatnonzero(left.bound[:, r] > 0)
        if r in refuted:
            outcomes.append(refuted[r])
        elif not len(rows):
            worst = float(bound[r]) + tolerance
            outcomes.append(Proved(statement, worst, tree.count, seconds))
        else:
            own = left.bound[rows, r] + tolerance
            rest = Boxes(left.lower[rows], left.upper[rows], own)
            rest = rest.taken(np.argsort(-rest.bound))
            outcomes.append(
                Undecided(
                    statement,
                    tree.volume(rest),
                    max(float(bound[r]) + tolerance, float(rest.bound[0])),
                    float(largest[r]) + tolerance,
                    rest,
                    tree.count,
                    seconds,
                    float(bound[r]) + tolerance,
                )
            )
    return outcomes


def _widened(leaf: Any) -> Any:
    """Returns a parameter in float64, in which what does not depend on x is computed."""
    floating = hasattr(leaf, "dtype") and np.issubdtype(leaf.dtype, np.floating)
    return np.asarray(leaf, DTYPE) if floating else leaf


def _is_same(one: Any, other: Any) -> bool:
    """Returns whether two outcomes are of one claim, domain, box and parameters."""
    if one is None or len(one[1]) != len(other[1]):
        return False
    domains = all(a is b for a, b in zip(one[1], other[1]))
    return one[0] is other[0] and domains and one[2] == other[2]


def _digest(low: np.ndarray, high: np.ndarray, tolerance: float, params: Any) -> str:
    """Returns a digest of a box, a tolerance and parameters."""
    found = hashlib.sha256(repr(tolerance).encode())
    for leaf in (low, high, *jax.tree.leaves(params)):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def _at_point(step: Step, params: Any, point: np.ndarray, claims: int) -> Examined:
    """Encloses the residuals at one point."""
    alone = Boxes(point[None], point[None], np.full((1, claims), np.inf))
    return examined(step, params, alone, DTYPE)


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
        budget: seconds, for each of the two.

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
    shared: dict[str, Any] = {"within": domains, "params": params, "budget": budget}
    upwards = between(constraint, upper=0.0)
    downwards = between(constraint, lower=0.0)
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
    claim: Claim,
    low: np.ndarray,
    high: np.ndarray,
    tolerance: float | None,
    other: Maximum | None,
    *,
    within: Sequence[Domain],
    params: Any,
    budget: float,
    start: Boxes | None = None,
) -> Maximum:
    """Encloses the maximum of a residual, whatever its sign.

    Args:
        claim: the residual.
        low: lower corner, (d,).
        high: upper corner, (d,).
        tolerance: width of the enclosure; None for `GAP` of the range that was found.
        other: minus the minimum, where it is known, for the range.
        within: functions that are at most zero in the domain.
        params: of the network.
        budget: seconds.
        start: boxes that the maximum is over, instead of the whole one; they may have
            sides of zero.

    Returns:
        The maximum.
    """
    began = time.perf_counter()
    tree = Tree(grid(low, high, 1) if start is None else start)
    best, point, settled, gap = -np.inf, (low + high) / 2, -np.inf, np.inf
    step = examiner([claim], within)
    with double():
        while len(tree):
            boxes = tree.taken()
            found = examined(step, params, boxes, DTYPE)
            i = int(found.value[:, 0].argmax())
            if found.value[i, 0] > best:
                alone = _at_point(step, params, found.point[i, 0], 1)
                if alone.lower[0, 0] > best and alone.inside[0]:
                    best, point = float(alone.lower[0, 0]), found.point[i, 0]
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
            if time.perf_counter() - began > budget or len(tree) > MOST:
                break
    bound = max(settled, float(tree.left.bound.max(initial=-np.inf)))
    return Maximum(bound, best, point, bound - best <= gap)


def corners(
    name: str, lower: ArrayLike, upper: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the corners of a box (d,) in float64, or says what is wrong."""
    low, high = (
        np.asarray(check_array(f"{name}: {word}", corner, "(d,)"), DTYPE)
        for word, corner in (("lower", lower), ("upper", upper))
    )
    if low.shape != high.shape or low.size == 0 or not (low < high).all():
        raise ValueError(
            f"{name} got lower {low.tolist()} and upper {high.tolist()}; pass two of one "
            "shape (d,), every lower less than its upper"
        )
    return low, high


def domains_of(name: str, within: Domain | Sequence[Domain]) -> list[Domain]:
    """Returns the functions that bound a domain as a list, or says what is wrong."""
    given = [within] if callable(within) else within
    check_each(f"{name}: within", given, Callable, "functions of x")
    for one in given:
        check_function(f"{name}: within", one, "x -> at most 0 inside")
    return list(given)


@contextmanager
def double() -> Iterator[None]:
    """Computes in float64 inside, whatever the setting outside."""
    # Older versions of jax have it under another name.
    home: Any = jax if hasattr(jax, "enable_x64") else experimental
    with home.enable_x64(True):
        yield
