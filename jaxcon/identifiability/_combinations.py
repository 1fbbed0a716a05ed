"""Combinations of parameters that data determine if not the parameters themselves."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.identifiability._report import NonIdentifiable
from jaxcon.identifiability._spectrum import Spectrum

# Exponents and coefficients in the formula of a combination of parameters.
_LARGEST_INTEGER = 3
# Parameters in one combination: the search tries 7 to this power.
_MOST_PARAMETERS = 5


def confounded(
    spectrum: Spectrum,
    spectrum_at: Callable[[jax.Array], Spectrum],
    theta: jax.Array,
    names: tuple[str, ...],
) -> Iterator[NonIdentifiable]:
    """Yields groups of parameters that share directions which change no prediction.

    Args:
        spectrum: at the parameters.
        spectrum_at: the same as a function of them.
        theta: the parameters, (p,).
        names: of them.

    Yields:
        What is found of each group.
    """
    here = _null_space(spectrum, theta)
    if not here.basis.shape[1]:
        return
    # A combination that belongs to the model is the same at other parameters. Of these
    # relative steps, from zero to a fifth, no two are in a simple ratio.
    factors = 1 + 0.2 * np.modf(0.618034 * np.arange(1, 1 + theta.size))[0]
    effects = np.abs(here.theta) * here.scale
    # Zeros move too, with about the same effect on the predictions as the others.
    usual = np.median(effects[effects > 0]) if np.any(effects > 0) else 1.0
    steps = np.where(effects > 0, here.theta, usual / here.scale)
    moved = jnp.asarray(here.theta + (factors - 1) * steps, theta.dtype)
    there = _null_space(spectrum_at(moved), moved)
    for group in _groups(here):
        members = tuple(names[i] for i in group)
        yield _described(members, here.only(group), there.only(group))


class _NullSpace(NamedTuple):
    """Directions at one point that change no prediction.

    Attributes:
        theta: the point, (p,).
        scale: as in `Spectrum`, (p,).
        basis: orthonormal directions in units of the scale, as columns (p, q).
        touches: the component from which on a direction touches a parameter.
    """

    theta: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    touches: float

    def only(self, group: np.ndarray) -> "_NullSpace":
        """Returns the directions of some of the parameters."""
        return _NullSpace(
            self.theta[group],
            self.scale[group],
            _basis(self.basis[group]),
            self.touches,
        )

    def changes(self, normals: np.ndarray) -> np.ndarray:
        """Flags functions, by their gradients in theta, that these directions change."""
        normals = normals / self.scale
        normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        return np.any(np.abs(normals @ self.basis) > self.touches, axis=1)


def _null_space(spectrum: Spectrum, theta: jax.Array) -> _NullSpace:
    # Derivatives that are not finite give no directions of the null space.
    directions = np.nan_to_num(np.asarray(spectrum.directions, float))
    basis = _basis(directions * ~np.asarray(spectrum.significant))
    scale = np.asarray(spectrum.scale, float)
    return _NullSpace(np.asarray(theta, float), scale, basis, float(spectrum.touches))


def _basis(columns: np.ndarray) -> np.ndarray:
    """Returns an orthonormal basis of the directions that lie wholly in these rows."""
    vectors, values, _ = np.linalg.svd(columns, full_matrices=False)
    return vectors[:, values > 0.99]


def _groups(space: _NullSpace) -> Iterator[np.ndarray]:
    """Yields indices of parameters that nonzero entries of the projector connect."""
    from scipy.sparse.csgraph import connected_components

    projector = space.basis @ space.basis.T
    sizes = np.sqrt(np.diag(projector))
    touched = sizes > space.touches
    # A row of a projector has its entry of `sizes` as length: its largest entry exceeds
    # this.
    least = space.touches * len(sizes) ** -0.5
    related = np.abs(projector) > least * np.maximum.outer(sizes, sizes)
    joined = related & np.outer(touched, touched)
    _, labels = connected_components(joined, directed=False)
    for label in np.unique(labels[touched]):
        yield np.flatnonzero(labels == label)


def _described(
    names: tuple[str, ...], here: _NullSpace, there: _NullSpace
) -> NonIdentifiable:
    num = len(names) - here.basis.shape[1]
    found = partial(NonIdentifiable, names, (here.basis / here.scale[:, None]).T, num)
    if len(names) > _MOST_PARAMETERS:
        return found((), everywhere=False)
    alike = here.basis.shape == there.basis.shape
    for form in (_product, _sum) if alike else ():
        combinations = _whole_combinations(form, names, num, (here, there))
        if len(combinations) == num:
            return found(combinations, everywhere=True)
    rows = _determined_sums(here)
    everywhere = alike and not np.any(there.changes(rows))
    return found(tuple(_sum(names, row) for row in rows), everywhere=everywhere)


def _whole_combinations(
    form: Callable[..., str],
    names: tuple[str, ...],
    num: int,
    points: tuple[_NullSpace, _NullSpace],
) -> tuple[str, ...]:
    """Returns the simplest independent combinations that are known at all points."""
    if form is _product and any(np.any(point.theta == 0) for point in points):
        return ()
    span = range(-_LARGEST_INTEGER, _LARGEST_INTEGER + 1)
    # Of e and -e only the one whose first number is positive is tried.
    rows = [row for row in product(span, repeat=len(names)) if row > (0,) * len(row)]
    whole = np.array(rows)
    for point in points:
        # A product of powers, divided by itself, has these derivatives.
        normals = whole / (point.theta if form is _product else 1)
        whole = whole[~point.changes(normals)]
    simplest = sorted(whole, key=_complexity)
    # The tolerance is far below the distance of a vector of whole numbers from the span
    # of others.
    chosen = _independent(simplest, num, tolerance=1e-6)
    return tuple(form(names, simplest[i]) for i in chosen)


def _independent(
    vectors: Sequence[np.ndarray] | np.ndarray, num: int, tolerance: float
) -> list[int]:
    """Returns the indices of the first `num` vectors that are linearly independent."""
    rest, chosen = np.array(vectors, float), []
    for i in range(len(rest)):
        size = float(np.linalg.norm(rest[i]))
        if len(chosen) < num and size > tolerance:
            chosen.append(i)
            unit = rest[i] / size
            rest = rest - np.outer(rest @ unit, unit)
    return chosen


def _complexity(row: np.ndarray) -> tuple[int, ...]:
    return (
        int(np.sum(row < 0)),
        int(np.count_nonzero(row)),
        int(np.abs(row).sum()),
        *(-row).tolist(),
    )


def _determined_sums(here: _NullSpace) -> np.ndarray:
    """Returns coefficients of independent sums that data determine, each led by 1."""
    from scipy.linalg import null_space

    rows = null_space(here.basis.T).T
    lead = _independent(rows.T, len(rows), here.touches)
    rows = np.linalg.solve(rows[:, lead], rows)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.where(np.abs(rows) > here.touches * lengths, rows, 0)
    rows[:, lead] = np.eye(len(rows))
    return rows * here.scale / here.scale[lead][:, None]


def _product(names: tuple[str, ...], powers: np.ndarray) -> str:
    """Writes a product of powers."""

    def part(sign: int) -> list[str]:
        return [
            name if power == sign else f"{name}^{abs(power)}"
            for name, power in zip(names, powers)
            if power * sign > 0
        ]

    above, below = part(1), part(-1)
    if len(below) > 1:
        below = [f"({' '.join(below)})"]
    return " / ".join([" ".join(above), *below])


def _sum(names: tuple[str, ...], coefficients: np.ndarray) -> str:
    """Writes a weighted sum."""
    text = ""
    for name, c in zip(names, coefficients):
        if c == 0:
            continue
        size = "" if f"{abs(c):.3g}" == "1" else f"{abs(c):.3g} "
        sign = ("-" if c < 0 else "") if not text else (" - " if c < 0 else " + ")
        text += sign + size + name
    return text
