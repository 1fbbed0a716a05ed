r"""Invariance of the outputs of a jaxpr under shifts.

A softmax and a logarithm of a sum of exponentials subtract the largest entry before they
take exponentials, so that none overflows:

.. math::
    \frac{e^{s_i - c}}{\sum_j e^{s_j - c}}, \qquad \log \sum_j e^{s_j - c} + c

In exact arithmetic neither depends on c. So c may be enclosed by a constant, such as the
largest entry in the middle of the box, where the maximum itself has a kink at each tie.
Whether the outputs depend on a maximum is decided from what is done with it, for each
row of c by itself.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from jax.extend.core import Literal

from jaxcon.certify._recognised import CALLS, inner_jaxpr

Rows = tuple[int | None, ...]


class Shifted(NamedTuple):
    """Dependence of an array on a shift c of each row.

    Attributes:
        factor: the array is multiplied by exp(k c); else k c is added to it.
        times: k, not zero.
        rows: for each axis, the axis of c that it follows; None for the others.
        stopped: it depends on c through ``stop_gradient``, whose derivative is zero. The
            two ways cancel each other's values, but not their derivatives.
        pure: the array is k c itself.
    """

    factor: bool
    times: Fraction
    rows: Rows
    stopped: bool = False
    pure: bool = False


class _Flag(NamedTuple):
    """Test whether a shift is finite, which it is."""


class _Dependent(Exception):
    """Use of a shift on which the result may depend."""


Kind = Shifted | _Flag | None


def free_shifts(jaxpr: Any) -> set[Any]:
    """Finds maxima on which no output of a jaxpr depends.

    Args:
        jaxpr: open.

    Returns:
        Variables of the results of ``reduce_max``.
    """
    # The same maximum may be written twice.
    alike: dict[Any, list[Any]] = {}
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "reduce_max" and not isinstance(
            eqn.invars[0], Literal
        ):
            key = eqn.invars[0], eqn.params["axes"]
            alike.setdefault(key, []).append(eqn.outvars[0])
    found = (shifts for shifts in alike.values() if _are_free(jaxpr, shifts))
    return {shift for shifts in found for shift in shifts}


def _are_free(jaxpr: Any, shifts: list[Any]) -> bool:
    shape = shifts[0].aval.shape
    rows = tuple(i if size > 1 else None for i, size in enumerate(shape))
    try:
        one = Shifted(False, Fraction(1), rows, pure=True)
        kinds = _followed(jaxpr, dict.fromkeys(shifts, one))
    except _Dependent:
        return False
    return all(kind is None for kind in kinds)


def _followed(jaxpr: Any, kinds: dict[Any, Kind]) -> list[Kind]:
    """Returns the kinds of a jaxpr's outputs, from those of some variables."""

    def read(atom: Any) -> Kind:
        return None if isinstance(atom, Literal) else kinds.get(atom)

    for eqn in jaxpr.eqns:
        given = [read(atom) for atom in eqn.invars]
        if all(kind is None for kind in given):
            continue
        inner = inner_jaxpr(eqn) if eqn.primitive.name in CALLS else None
        if inner is not None and len(inner.jaxpr.invars) == len(given):
            found = _followed(inner.jaxpr, dict(zip(inner.jaxpr.invars, given)))
            kinds.update(zip(eqn.outvars, found))
            continue
        rule = _RULES.get(eqn.primitive.name)
        if rule is None:
            raise _Dependent
        kinds[eqn.outvars[0]] = rule(eqn, *given)
    return [read(atom) for atom in jaxpr.outvars]


def _require(kind: Kind, factor: bool) -> Shifted:
    if not isinstance(kind, Shifted) or kind.factor != factor:
        raise _Dependent
    return kind


def _combined(factor: bool, sign: int) -> Callable[..., Kind]:
    """Returns the rule of a sum or difference, or of a product or quotient."""

    def rule(eqn: Any, x: Kind, y: Kind) -> Kind:
        one, other = (
            None if kind is None else _require(kind, factor) for kind in (x, y)
        )
        known = [kind for kind in (one, other) if kind is not None]
        ndim = len(eqn.outvars[0].aval.shape)
        # A scalar stands for an array of any shape.
        rows = {kind.rows or (None,) * ndim for kind in known}
        ways = {kind.stopped for kind in known}
        if len(rows) != 1 or len(ways) != 1 or len(first := rows.pop()) != ndim:
            raise _Dependent
        times = one.times if one else Fraction(0)
        times += sign * other.times if other else 0
        pure = len(known) == 2 and all(kind.pure for kind in known)
        return Shifted(factor, times, first, ways.pop(), pure) if times else None

    return rule


def _scaled(eqn: Any, x: Kind, y: Kind) -> Kind:
    """Follows a product, also that of a sum with a constant."""
    shifted, other = (x, eqn.invars[1]) if y is None else (y, eqn.invars[0])
    if not isinstance(shifted, Shifted) or shifted.factor:
        return _combined(True, 1)(eqn, x, y)
    if not isinstance(other, Literal) or not math.isfinite(float(other.val)):
        raise _Dependent
    times = shifted.times * Fraction(float(other.val))
    return shifted._replace(times=times) if times else None


def _exp(eqn: Any, x: Kind) -> Kind:
    del eqn
    return _require(x, False)._replace(factor=True, pure=False)


def _log(eqn: Any, x: Kind) -> Kind:
    del eqn
    return _require(x, True)._replace(factor=False, pure=False)


def _same(eqn: Any, x: Kind) -> Kind:
    del eqn
    return x


def _stopped(eqn: Any, x: Kind) -> Kind:
    del eqn
    if not isinstance(x, Shifted):
        raise _Dependent
    return x._replace(stopped=True)


def _abs(eqn: Any, x: Kind) -> Kind:
    del eqn
    return _require(x, True)


def _sign(eqn: Any, x: Kind) -> Kind:
    del eqn
    _require(x, True)
    return None


def _neg(eqn: Any, x: Kind) -> Kind:
    del eqn
    if not isinstance(x, Shifted):
        raise _Dependent
    return x if x.factor else x._replace(times=-x.times)


def _is_finite(eqn: Any, x: Kind) -> Kind:
    del eqn
    # A shift is finite, what it is added to need not be.
    if not _require(x, False).pure:
        raise _Dependent
    return _Flag()


def _select(eqn: Any, which: Kind, *cases: Kind) -> Kind:
    del eqn
    if not isinstance(which, _Flag) or len(cases) != 2 or cases[0] is not None:
        raise _Dependent
    return _require(cases[1], False)


def _max(eqn: Any, x: Kind, y: Kind) -> Kind:
    """Follows max(-inf, c), which is c."""
    shifted, other = (x, eqn.invars[1]) if y is None else (y, eqn.invars[0])
    if not isinstance(other, Literal) or float(other.val) != float("-inf"):
        raise _Dependent
    return _require(shifted, False)


def _reduced(factor: bool) -> Callable[..., Kind]:
    """Returns the rule of a sum of factors, or of a maximum of sums, within each row."""

    def rule(eqn: Any, x: Kind) -> Kind:
        one, axes = _require(x, factor), eqn.params["axes"]
        if any(one.rows[axis] is not None for axis in axes):
            raise _Dependent
        rows = tuple(row for i, row in enumerate(one.rows) if i not in axes)
        return one._replace(rows=rows)

    return rule


def _broadcast(eqn: Any, x: Kind) -> Kind:
    if not isinstance(x, Shifted):
        raise _Dependent
    rows: list[int | None] = [None] * len(eqn.params["shape"])
    for axis, place in zip(x.rows, eqn.params["broadcast_dimensions"]):
        rows[place] = axis
    return x._replace(rows=tuple(rows))


def _reshaped(eqn: Any, x: Kind) -> Kind:
    """Follows axes of length one that come and go."""
    if not isinstance(x, Shifted) or eqn.params.get("dimensions") is not None:
        raise _Dependent
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if [n for n in before if n > 1] != [n for n in after if n > 1]:
        raise _Dependent
    left = iter(row for n, row in zip(before, x.rows) if n > 1)
    return x._replace(rows=tuple(next(left) if n > 1 else None for n in after))


_RULES: dict[str, Callable[..., Kind]] = {
    "add": _combined(False, 1),
    "sub": _combined(False, -1),
    "mul": _scaled,
    "div": _combined(True, -1),
    "exp": _exp,
    "log": _log,
    "neg": _neg,
    "abs": _abs,
    "sign": _sign,
    "is_finite": _is_finite,
    "select_n": _select,
    "max": _max,
    "stop_gradient": _stopped,
    "copy": _same,
    "reduce_sum": _reduced(True),
    "reduce_max": _reduced(False),
    "broadcast_in_dim": _broadcast,
    "reshape": _reshaped,
    "squeeze": _reshaped,
    "expand_dims": _reshaped,
}
