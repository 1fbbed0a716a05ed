r"""Residuals of shape rules at encoded rows: positive where a rule is broken.

Slopes s and curvatures are the exact derivatives of the prediction with respect to the
entries of the row, which run from 0 to 1:

.. math::
    \max(l - s, s - u), \quad -\lambda_{\min}(\pm H), \quad \max(l - f, f - u), \quad
    \lVert w \odot \nabla f \rVert - 1
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxcon import derivatives
from jaxcon.derivatives import Partial, Value
from jaxcon.ensembles._losses import Loss
from jaxcon.ensembles._rules import Bounds, Kinds


def residuals(
    kinds: Kinds,
    bounds: Bounds,
    f: Callable[[jax.Array], jax.Array],
    v: jax.Array,
    direction: jax.Array | None = None,
) -> list[jax.Array]:
    """Evaluates every rule at one encoded row.

    Args:
        kinds: the rules.
        bounds: their numbers.
        f: encoded row (d,) -> predictions (m,).
        v: the row, (d,).
        direction: (d,), along which joint curvatures are taken; the smallest eigenvalue
            of the Hessian unless given.

    Returns:
        One residual for each rule, its largest over the outputs that it is for, or one
        for each of them where `direction` is given.
    """
    wanted = _wanted(kinds)
    if not wanted:
        return []
    found = dict(zip(wanted, derivatives.derivatives(f, *wanted)(v)))
    each = []
    for place, (entry, output) in enumerate(kinds.slopes):
        slope = _picked(found[Partial(entry)], output)
        out = jnp.maximum(
            bounds.slope_lower[place] - slope, slope - bounds.slope_upper[place]
        )
        each.append(_present(kinds, (entry,), v, out))
    for entries, sign, output in kinds.curvatures:
        second = [
            [_picked(sign * found[_pair(i, j)], output) for j in entries]
            for i in entries
        ]
        least = _least_curvature(jnp.array(second), entries, direction)
        each.append(_present(kinds, entries, v, -least))
    if kinds.bounded:
        value = found[Value()]
        each.append(jnp.maximum(bounds.lower - value, value - bounds.upper))
    if kinds.steep:
        slopes = jnp.stack([found[Partial(entry)] for entry in kinds.steep])
        squares = jnp.sum(jnp.square(slopes * bounds.steepness[:, None]), 0)
        norm = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
        each.append(jnp.where(squares > 0, norm, 0.0) - 1.0)
    return each if direction is not None else [jnp.max(one) for one in each]


def in_scores(
    kinds: Kinds, loss: Loss, each: list[jax.Array], prediction: jax.Array
) -> list[jax.Array]:
    """Divides residuals of slopes and curvatures by the prediction's slope in its score.

    Where a prediction is exp η, slopes are as large as it is; a rule on the sign of one is
    as well a rule on the slope of η, which is of like size everywhere.

    Args:
        kinds: the rules.
        loss: of the target.
        each: residuals of each rule, (), (1,) or (m,).
        prediction: where they are, (m,).

    Returns:
        The residuals.
    """
    derived = len(kinds.slopes + kinds.curvatures)
    if prediction.shape != (1,):
        return each
    rise = loss.rise(prediction)[0]
    return [one / rise for one in each[:derived]] + each[derived:]


def _wanted(kinds: Kinds) -> list[Value | Partial]:
    wanted: list[Value | Partial] = [Value()] if kinds.bounded else []
    firsts = [entry for entry, _ in kinds.slopes] + list(kinds.steep)
    wanted += [Partial(entry) for entry in dict.fromkeys(firsts)]
    pairs = [
        _pair(i, j)
        for entries, *_ in kinds.curvatures
        for i in entries
        for j in entries
    ]
    return wanted + list(dict.fromkeys(pairs))


def _pair(i: int, j: int) -> Partial:
    return Partial((min(i, j), max(i, j)))


def _picked(values: jax.Array, output: int) -> jax.Array:
    return values if output < 0 else values[output : output + 1]


def _least_curvature(
    hessian: jax.Array, entries: tuple[int, ...], direction: jax.Array | None
) -> jax.Array:
    """Returns the least curvature of (k, k, m), over or along directions, (m,)."""
    if len(entries) == 1:
        return hessian[0, 0]
    if direction is None:
        return jnp.linalg.eigvalsh(jnp.moveaxis(hessian, -1, 0))[..., 0]
    along = direction[jnp.array(entries)]
    along = along / jnp.sqrt(jnp.sum(jnp.square(along)) + 1e-12)
    return jnp.einsum("i,j,ijm->m", along, along, hessian)


def _present(
    kinds: Kinds, entries: tuple[int, ...], v: jax.Array, residual: jax.Array
) -> jax.Array:
    """Takes a rule for kept where one of its inputs is missing."""
    flags = [flag for entry, flag in kinds.flags if entry in entries]
    if not flags:
        return residual
    gone = jnp.any(v[jnp.array(flags)] > 0.5)
    return jnp.where(gone, -1.0, residual)
