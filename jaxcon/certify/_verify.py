"""Proofs of claims on a box, by branch and bound."""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxcon._checks import (
    check_array,
    check_each,
    check_function,
    check_number,
    check_type,
)
from jaxcon.certify._branch import examiner, grid
from jaxcon.certify._claims import Domain, claim_of
from jaxcon.certify._proof import DTYPE, Progress, proved
from jaxcon.certify._results import Undecided


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
            of several on the same ``apply``, which share the work. A parameter of a
            constraint is one more input, with its own bounds.
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
    given = tuple(claim.values()) if several else (claim,)
    if not given:
        raise ValueError("verify got an empty dict; pass at least one claim")
    claims = [claim_of(one, tolerance) for one in given]
    if any(network_of(one) != network_of(claims[0]) for one in claims):
        raise ValueError(
            "verify got claims on different functions; pass those on one apply together"
        )
    start, settled = grid(low, high, len(claims)), -np.inf
    task = given, domains, _digest(low, high, tolerance, params)
    if resume is not None:
        check_type("verify: resume", resume, Undecided, "what verify returned")
        if len(given) > 1 or not _is_same(resume.task, task):
            raise ValueError(
                "verify goes on from an outcome of the same claim, parameters, box and "
                "tolerance only"
            )
        start = resume.rest._replace(bound=resume.rest.bound[:, None] - tolerance)
        settled = resume.settled - tolerance
    outcomes = proved(
        examiner(claims, domains),
        [one.statement for one in claims],
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


def network_of(claim: Any) -> tuple[int, ...]:
    """Returns an identity of a claim's function.

    Args:
        claim: a `Claim`, or a constraint of `jaxcon.shapes`.

    Returns:
        Equal tuples for one function.
    """
    # A bound method is another object at each access.
    if inspect.ismethod(claim.apply):
        return id(claim.apply.__self__), id(claim.apply.__func__)
    return (id(claim.apply),)


def _is_same(one: Any, other: Any) -> bool:
    """Returns whether two outcomes are of one claim, domain, box and parameters."""
    if one is None or one[2] != other[2]:
        return False
    pairs = zip((*one[0], *one[1]), (*other[0], *other[1]))
    lengths = [list(map(len, each[:2])) for each in (one, other)]
    return lengths[0] == lengths[1] and all(a is b for a, b in pairs)


def _digest(low: np.ndarray, high: np.ndarray, tolerance: float, params: Any) -> str:
    """Returns a digest of a box, a tolerance and parameters."""
    found = hashlib.sha256(repr(tolerance).encode())
    for leaf in (low, high, *jax.tree.leaves(params)):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def corners(
    name: str, lower: ArrayLike, upper: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the corners of a box in float64, or says what is wrong.

    Args:
        name: of the function, for the message.
        lower: lower corner, (d,).
        upper: upper corner, (d,).

    Returns:
        Both, (d,).

    Raises:
        TypeError: one is no array of numbers.
        ValueError: they are no corners of a box.
    """
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
    """Returns the functions that bound a domain, or says what is wrong.

    Args:
        name: of the function, for the message.
        within: one of them or several.

    Returns:
        A list.

    Raises:
        TypeError: one is no function.
    """
    given = [within] if callable(within) else within
    check_each(f"{name}: within", given, Callable, "functions of x")
    for one in given:
        check_function(f"{name}: within", one, "x -> at most 0 inside")
    return list(given)
