"""Requests for derivatives of a function at a point, and their checks."""

import math
import operator
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcon._checks import check_number
from jaxcon.derivatives import _checks
from jaxcon.derivatives._plan import Key, Need


class Value(NamedTuple):
    """Request for f(x); the field is ``value``."""


class Gradient(NamedTuple):
    """Request for the gradient (d,) of a scalar f; the field is ``gradient``."""


class Jacobian(NamedTuple):
    """Request for the Jacobian (m, d) of a vector f; the field is ``jacobian``."""


class Partial(NamedTuple):
    """Request for a partial derivative; that of ``Partial((0, 1))`` is ``partial_0_1``."""

    inputs: tuple[int, ...] | int


class Directional(NamedTuple):
    """Request for the derivative along direction (d,); the field is ``directional``."""

    direction: ArrayLike


class Hessian(NamedTuple):
    """Request for the Hessian (d, d), or one for each output; the field is ``hessian``."""


class HessianDiagonal(NamedTuple):
    """Request for the Hessian's diagonal (d,); the field is ``hessian_diagonal``."""


class Laplacian(NamedTuple):
    """Request for a weighted sum of second derivatives; the field is ``laplacian``."""

    weights: ArrayLike | None = None
    directions: ArrayLike | None = None


class Divergence(NamedTuple):
    """Request for the divergence () of a field (d,); its field is ``divergence``."""


Spec = (
    Value
    | Gradient
    | Jacobian
    | Partial
    | Directional
    | Hessian
    | HessianDiagonal
    | Laplacian
    | Divergence
)
_NAMES = {
    Value: "value",
    Gradient: "gradient",
    Jacobian: "jacobian",
    Directional: "directional",
    Hessian: "hessian",
    HessianDiagonal: "hessian_diagonal",
    Laplacian: "laplacian",
    Divergence: "divergence",
}


class Term(NamedTuple):
    """Requested quantity, its arguments in x's dtype."""

    spec: Spec
    inputs: tuple[int, ...] = ()  # of a Partial
    keys: tuple[Key, ...] = ()  # the directions of a Laplacian, or the one
    weights: Any = None  # of a Laplacian, one per key; None for ones
    nonnegative: bool = True  # the weights, as far as is known
    directions: Any = None  # (k, d), for keys that are no unit vectors


def fields(wanted: tuple[Spec, ...]) -> tuple[str, ...]:
    """Returns the name of each quantity in the result, or refuses the request."""
    if not wanted:
        raise ValueError("derivatives got nothing to compute; pass e.g. Gradient()")
    found, seen = [], Counter()
    for spec in wanted:
        name = _name(spec)
        if seen[name] and not isinstance(spec, Laplacian | Directional):
            raise ValueError(f"derivatives got {name} twice; ask for it once")
        found.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return tuple(found)


def _name(spec: Spec) -> str:
    if isinstance(spec, Partial):
        return "_".join(["partial", *map(str, _inputs(spec))])
    if type(spec) not in _NAMES:
        kind = spec.__name__ if isinstance(spec, type) else repr(spec)
        raise TypeError(f"derivatives got {kind}; pass quantities, e.g. Gradient()")
    return _NAMES[type(spec)]


def _inputs(spec: Partial) -> tuple[int, ...]:
    inputs = spec.inputs if isinstance(spec.inputs, tuple) else (spec.inputs,)
    return input_indices(inputs, "Partial")


def input_indices(inputs: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Returns the inputs as plain integers, or refuses them."""
    if not inputs:
        raise ValueError(f"{name} got no inputs; name at least one, e.g. 0")
    for i in inputs:
        check_number(f"{name}: the number of an input", i, least=0, whole=True)
    return tuple(map(operator.index, inputs))


def terms(
    wanted: tuple[Spec, ...], x: jax.Array, shape: tuple[int, ...]
) -> tuple[Term, ...]:
    """Returns the quantities with their arguments, checked against x and f(x)."""
    return tuple(_term(t, spec, x, shape) for t, spec in enumerate(wanted))


def _term(t: int, spec: Spec, x: jax.Array, shape: tuple[int, ...]) -> Term:
    name = f"derivatives, {type(spec).__name__}"
    if isinstance(spec, Gradient):
        _checks.require_scalar(shape, name)
    elif isinstance(spec, Jacobian):
        _checks.require_vector(shape, name)
    elif isinstance(spec, Divergence):
        _checks.require_field(shape, x.size, name)
    elif isinstance(spec, Laplacian):
        return _laplacian(t, spec, x)
    elif isinstance(spec, Directional):
        direction = _checks.like(spec.direction, x, "Directional", "direction")
        return Term(spec, keys=((t, 0),), directions=direction[None])
    elif isinstance(spec, Partial):
        inputs = _inputs(spec)
        _checks.require_inputs(inputs, x.size, "Partial")
        return Term(spec, inputs=inputs)
    return Term(spec)


def _laplacian(t: int, spec: Laplacian, x: jax.Array) -> Term:
    """Recognises unit vectors among the directions, and drops those of weight zero."""
    weights, directions = _checks.terms(*spec, x, "Laplacian")
    known_weights, rows = _known(weights), _known(directions)
    keys: list[Key] = list(range(x.size))
    if directions is not None:
        keys = [(t, row) for row in range(len(directions))]
    if rows is not None:
        units = np.eye(x.size)
        for n, row in enumerate(rows):
            for i in np.flatnonzero(row)[:1]:
                keys[n] = int(i) if np.array_equal(row, units[i]) else keys[n]
    nonnegative = weights is None
    if known_weights is not None and weights is not None:
        nonnegative = bool(np.all(known_weights >= 0))
        kept = np.flatnonzero(known_weights)
        if 0 < len(kept) < len(keys):
            keys, weights = [keys[n] for n in kept], weights[kept]
        if np.all(known_weights[kept] == 1) and len(kept):
            weights = None
    return Term(
        spec,
        keys=tuple(keys),
        weights=weights,
        nonnegative=nonnegative,
        directions=directions,
    )


def _known(given: Any) -> np.ndarray | None:
    """Returns the numbers given, or None if they are unknown under jit."""
    return given if isinstance(given, np.ndarray) else None


def need(terms: tuple[Term, ...], d: int, y: jax.ShapeDtypeStruct) -> Need:
    """Returns the derivatives that need passes: all but partial ones above order two."""
    singles: list[Key] = []
    pairs: list[tuple[int, int]] = []
    for t, term in enumerate(terms):
        if isinstance(term.spec, Directional):
            singles.append((t, 0))
        elif len(term.inputs) == 1:
            singles.append(term.inputs[0])
        elif len(term.inputs) == 2:
            pairs.append(ordered(*term.inputs))
        elif isinstance(term.spec, HessianDiagonal):
            pairs.extend((i, i) for i in range(d))
    return Need(
        inputs=d,
        # A complex number goes backwards as two real ones.
        outputs=math.prod(y.shape) * (2 if jnp.iscomplexobj(y) else 1),
        whole=any(isinstance(t.spec, Gradient | Jacobian | Divergence) for t in terms),
        singles=tuple(singles),
        pairs=tuple(dict.fromkeys(pairs)),
        sums=tuple(term.keys for _, term in laplacians(terms)),
        hessian=any(isinstance(t.spec, Hessian) for t in terms),
    )


def laplacians(terms: tuple[Term, ...]) -> list[tuple[int, Term]]:
    """Returns the Laplacians among the terms, with their numbers."""
    return [(t, e) for t, e in enumerate(terms) if isinstance(e.spec, Laplacian)]


def ordered(i: int, j: int) -> tuple[int, int]:
    """Returns the pair by which an entry of the symmetric Hessian is known."""
    return (i, j) if i <= j else (j, i)


def direction(key: Key, terms: tuple[Term, ...], x: jax.Array) -> Any:
    """Returns the direction (d,) of a key."""
    if isinstance(key, int):
        return np.eye(1, x.size, key, dtype=x.dtype)[0]
    rows = terms[key[0]].directions
    assert rows is not None
    return rows[key[1]]
