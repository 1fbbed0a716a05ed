"""Quantities requested, as they are read from the passes through a function."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.derivatives import _passes, _plan
from jaxcon.derivatives import _quantities as q


class Passed(NamedTuple):
    """Results of the passes; second derivatives have f's shape in front."""

    value: jax.Array | None = None
    whole: jax.Array | None = None  # the gradient or Jacobian, (…, d)
    hessian: jax.Array | None = None  # (…, d, d)
    tangents: Any = ()  # along the directions of `place`
    place: dict[_plan.Key, int] = {}
    sums: dict[int, jax.Array] = {}  # by the number of the Laplacian
    pairs: dict[tuple[int, int], jax.Array] = {}


def read(
    f: Callable, x: jax.Array, t: int, terms: tuple[q.Term, ...], known: Passed
) -> jax.Array:
    """Reads one quantity from the passes, or above order 2 from Taylor series."""
    term, d = terms[t], x.size
    match term.spec:
        case q.Value():
            # XLA merges this with the forward pass of the other quantities.
            return f(x) if known.value is None else known.value
        case q.Gradient() | q.Jacobian():
            return _whole(known, d)
        case q.Divergence():
            return jnp.trace(_whole(known, d))
        case q.Hessian():
            if known.hessian is not None:
                return known.hessian
            rows = [[_entry(known, i, j) for j in range(d)] for i in range(d)]
            return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
        case q.HessianDiagonal():
            return jnp.stack([_entry(known, i, i) for i in range(d)], axis=-1)
        case q.Laplacian():
            return _sum(known, x, t, terms)
        case q.Directional():
            return _along(known, (t, 0), q.direction((t, 0), terms, x))
    if len(term.inputs) == 1:
        [i] = term.inputs
        return _along(known, i, q.direction(i, terms, x))
    if len(term.inputs) == 2:
        return _entry(known, *term.inputs)
    return _mixed(f, x, term.inputs)


def _whole(known: Passed, d: int) -> jax.Array:
    if known.whole is not None:
        return known.whole
    if [known.place[i] for i in range(d)] == list(range(len(known.tangents))):
        return _passes.stacked(known.tangents, -1)
    return jnp.stack([known.tangents[known.place[i]] for i in range(d)], axis=-1)


def _along(known: Passed, key: _plan.Key, v: jax.Array) -> jax.Array:
    if key in known.place:
        return known.tangents[known.place[key]]
    if known.whole is not None and isinstance(key, int):
        return known.whole[..., key]
    return _times(*_nonzero(known.whole, v))


def _nonzero(a: Any, v: Any) -> tuple[Any, Any]:
    """Leaves out the inputs in which v is known to be zero, as a may be infinite there."""
    if not isinstance(v, np.ndarray) or v.all():
        return a, v
    kept = np.flatnonzero(v)
    return a[..., kept], v[kept]


def _entry(known: Passed, i: int, j: int) -> jax.Array:
    if known.hessian is not None:
        return known.hessian[..., i, j]
    return known.pairs[q.ordered(i, j)]


def _sum(known: Passed, x: jax.Array, t: int, terms: tuple[q.Term, ...]) -> jax.Array:
    if known.hessian is None:
        return known.sums[t]
    vectors = [q.direction(key, terms, x) for key in terms[t].keys]
    seconds = jnp.stack([_bend(known.hessian, v) for v in vectors], axis=-1)
    term = terms[t]
    if term.weights is None:
        return jnp.sum(seconds, axis=-1)
    return _times(seconds, term.weights)


def _bend(hessian: Any, v: Any) -> jax.Array:
    rows = _times(*_nonzero(hessian, v))
    return _times(*_nonzero(rows, v))


def _times(a: Any, v: jax.Array) -> jax.Array:
    # Full precision is needed: accelerators round a product's operands by default.
    return jnp.matmul(a, v, precision=jax.lax.Precision.HIGHEST)


def _mixed(f: Callable, x: jax.Array, inputs: tuple[int, ...]) -> jax.Array:
    """Returns a partial derivative of any order, by a Taylor series for each input."""
    for i in dict.fromkeys(inputs):
        unit = np.eye(1, x.size, i, dtype=x.dtype)[0]
        f = functools.partial(_passes.taylor, f, v=unit, order=inputs.count(i))
    return f(x)
