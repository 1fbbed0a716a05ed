"""Branch and bound: boxes of which a residual is bounded, and which are split."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._programs import Program
from jaxcon.certify import _enclosure
from jaxcon.certify._claims import Claim, Domain
from jaxcon.certify._enclosure import Enclosure
from jaxcon.certify._results import Boxes
from jaxcon.derivatives import derivatives

BATCH = 256  # boxes that are enclosed at a time
FIRST = 32  # boxes that the first is cut into
MOST = 2_000_000  # boxes that are kept
SMALLEST = 2.0**-30  # side of a box that is not split any more, of the first box's
SLENDER = 2.0**-12  # side that is not split before the longest, as a share of that
RUNS = 8  # batches after which the boxes that are left are sorted
LINEAR = 0.25  # weight of linear terms, beside remainders, where a box is split


class Examined(NamedTuple):
    """Findings on each box of a batch, for each of R claims.

    Attributes:
        upper: upper bound of the largest residual, (n, R).
        lower: lower bound of the largest residual, at whatever point, (n, R).
        outside: boxes with no point of the domain, (n,).
        inside: boxes with points of the domain alone, (n,).
        split: input along which the bounds are loosest, (n, R).
        point: point of the domain with a large residual, (n, R, d).
        value: largest residual there in plain arithmetic, (n, R).
    """

    upper: Any
    lower: Any
    outside: Any
    inside: Any
    split: Any
    point: Any
    value: Any


Step = Callable[[Any, Any, Any], Examined]


def examiner(
    claims: Sequence[Claim], within: Sequence[Domain] = (), level: str = "adjoint"
) -> Step:
    """Returns the examination of a batch of boxes, compiled when it is first called.

    The functions are traced anew, so that a proof is about what they are now; an equal
    program is not compiled again.

    Args:
        claims: residuals that are at most zero, of one ``apply``.
        within: functions that are at most zero in the domain.
        level: method of the enclosures (see `Program`).

    Returns:
        A function of the parameters and of the corners (n, d).
    """

    def step(params: Any, lower: jax.Array, upper: jax.Array) -> Examined:
        inputs, dtype = lower.shape[1], lower.dtype
        one = _Examination(claims, within, params, inputs, dtype, level)
        return jax.vmap(one)(lower, upper)

    return Program(step, [])


class _Examination:
    """Examination of one box for several claims, in one pass through the network."""

    def __init__(
        self,
        claims: Sequence[Claim],
        within: Sequence[Domain],
        params: Any,
        inputs: int,
        dtype: Any,
        level: str,
    ):
        self.claims, self.within = claims, within

        def f(x: jax.Array) -> jax.Array:
            return claims[0].apply(params, x)

        self.wanted = _distinct([spec for one in claims for spec in one.wanted])
        x = jax.ShapeDtypeStruct((inputs,), dtype)
        found = jax.eval_shape(derivatives(f, *self.wanted), x)
        shapes = [
            jax.tree.leaves(jax.eval_shape(one.residual, x, *self._own(one, found)))
            for one in claims
        ]
        self.sizes = [sum(leaf.size for leaf in leaves) for leaves in shapes]
        frames = [leaves[0].shape for leaves, one in zip(shapes, claims) if one.framed]
        self.program = _enclosure.Program(
            f, self.wanted, self._residuals, inputs, dtype, level, frames
        )

    def _own(self, claim: Claim, found: Sequence[jax.Array]) -> list[jax.Array]:
        # Empty requests of two kinds are equal tuples.
        kinds = [(type(spec), spec) for spec in self.wanted]
        places = [kinds.index((type(spec), spec)) for spec in claim.wanted]
        return [found[place] for place in places]

    def _residuals(self, x: jax.Array, *found: jax.Array) -> list[jax.Array]:
        count = len(self.wanted)
        frames = iter(found[count:])
        outputs = []
        for claim in self.claims:
            r = claim.residual(x, *self._own(claim, found[:count]))
            if claim.framed:
                frame = next(frames)
                r = frame.T @ r @ frame
            outputs += [jnp.ravel(part) for part in jax.tree.leaves(r)]
        return outputs + [jnp.ravel(outside(x)) for outside in self.within]

    def _values(self, x: jax.Array) -> jax.Array:
        """Evaluates each claim's largest residual in plain arithmetic, (R,)."""
        found, values = self.program.quantities(x), []
        for claim in self.claims:
            r = claim.residual(x, *self._own(claim, found))
            if claim.framed:
                values.append(-jnp.linalg.eigvalsh(r)[0])
            else:
                parts = [jnp.ravel(part) for part in jax.tree.leaves(r)]
                values.append(jnp.max(jnp.concatenate(parts)))
        largest = jnp.stack(values)
        for outside in self.within:
            largest = jnp.where(jnp.max(outside(x)) > 0, -jnp.inf, largest)
        return jnp.where(jnp.isnan(largest), -jnp.inf, largest)

    def __call__(self, lower: jax.Array, upper: jax.Array) -> Examined:
        """Examines one box."""
        middle = lower + (upper - lower) / 2
        frames = []
        if any(claim.framed for claim in self.claims):
            found = self.program.quantities(middle)
            frames = [
                jnp.linalg.eigh(claim.residual(middle, *self._own(claim, found)))[1]
                for claim in self.claims
                if claim.framed
            ]
        found = self.program(lower, upper, *frames)
        each, start = [], 0
        for claim, size in zip(self.claims, self.sizes):
            part = Enclosure(*(field[start : start + size] for field in found))
            start += size
            each.append(self._bounded(claim, part, lower, upper))
        uppers, lowers, splits, corners = (jnp.stack(part) for part in zip(*each))
        points = jnp.concatenate([middle[None], corners])
        values = jax.vmap(self._values)(points)
        best = jnp.argmax(values, axis=0)
        return Examined(
            uppers,
            lowers,
            jnp.any(found.lower[start:] > 0),
            jnp.all(found.upper[start:] <= 0),
            splits,
            points[best],
            jnp.max(values, axis=0),
        )

    def _bounded(
        self, claim: Claim, part: Enclosure, lower: jax.Array, upper: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Returns one claim's bounds, the input to split, and a corner to try."""
        bounds = _eigenvalues(part) if claim.framed else part
        worst = jnp.argmax(bounds.upper)
        slopes = bounds.slopes[worst]
        share = bounds.shares[worst] + LINEAR * jnp.abs(slopes)
        wide, middle = upper - lower, lower + (upper - lower) / 2
        known = jnp.all(jnp.isfinite(share)) & jnp.any(share > 0)
        share = jnp.where(known, share, wide)
        # An input that cannot be split any more has no share.
        share = jnp.where((lower < middle) & (middle < upper), share, -1.0)
        corner = jnp.where(slopes > 0, upper, lower)
        return bounds.upper[worst], jnp.max(bounds.lower), jnp.argmax(share), corner


def _distinct(specs: list[Any]) -> tuple[Any, ...]:
    found: list[Any] = []
    for spec in specs:
        # Empty requests of two kinds are equal tuples.
        if not any(type(one) is type(spec) and one == spec for one in found):
            found.append(spec)
    return tuple(found)


def _eigenvalues(bounds: Enclosure) -> Enclosure:
    """Encloses minus the eigenvalues of a matrix, by Gershgorin's discs.

    Where the discs reach beyond zero, but every matrix between the bounds has a Cholesky
    factor, zero is the bound.
    """
    n = math.isqrt(len(bounds.lower))
    lower, upper = bounds.lower.reshape(n, n), bounds.upper.reshape(n, n)
    sizes = jnp.maximum(jnp.abs(lower), jnp.abs(upper))
    off = 1.0 - jnp.eye(n, dtype=sizes.dtype)
    radii = jnp.sum(jnp.where(off > 0, sizes, 0.0), axis=1)
    radii = radii * (1 + (n + 2) * jnp.finfo(sizes.dtype).eps)

    def summed(part: jax.Array) -> jax.Array:
        return jnp.sum(jnp.abs(part.reshape(n, n, -1)), axis=1)

    most = radii - jnp.diag(lower)
    most = jnp.where(jnp.isfinite(most), most, jnp.inf)
    most = jnp.where(_is_definite(lower, sizes), jnp.minimum(most, 0.0), most)
    diagonal = jnp.arange(n) * (n + 1)
    return Enclosure(
        -jnp.diag(upper),
        most,
        -bounds.slopes[diagonal],
        summed(bounds.shares),
    )


def _is_definite(lower: jax.Array, sizes: jax.Array) -> jax.Array:
    r"""Returns whether all symmetric matrices between bounds are positive definite.

    Their comparison matrix has the least diagonal entries, and minus the largest absolute
    values beside them. If its elimination has positive pivots it is an M-matrix, and each
    of the matrices is positive definite [1].

    .. math::
        |a_{ij}| \leftarrow |a_{ij}| + |a_{ik}| |a_{jk}| / a_{kk}, \qquad
        a_{ii} \leftarrow a_{ii} - |a_{ik}|^2 / a_{kk}

    Args:
        lower: least entries, of which the diagonal is read, (n, n).
        sizes: largest absolute entries, (n, n).

    Returns:
        A boolean, ().

    References:
        [1] R. A. Horn and C. R. Johnson, Topics in Matrix Analysis, 1991, section 2.5.
    """
    n, info = len(lower), jnp.finfo(lower.dtype)
    # Pivots are lowered and the other entries raised by more than all roundings.
    grown = 1 + 4 * n * info.eps
    rows = {(i, k): sizes[i, k] * grown + info.tiny for i in range(n) for k in range(i)}
    pivots = [lower[k, k] for k in range(n)]
    sure = jnp.asarray(True)
    for k in range(n):
        sure &= jnp.isfinite(pivots[k]) & (pivots[k] > 0)
        for i in range(k + 1, n):
            factor = rows[i, k] / pivots[k] * grown + info.tiny
            taken = factor * rows[i, k] * grown + info.tiny
            pivots[i] = pivots[i] - taken - 2 * info.eps * (jnp.abs(pivots[i]) + taken)
            for j in range(k + 1, i):
                rows[i, j] = (rows[i, j] + factor * rows[j, k]) * grown + info.tiny
    return sure


class Tree:
    """Boxes that are left of a branch and bound.

    Attributes:
        open: boxes that may be split.
        stuck: boxes too small to be split.
        count: boxes that were enclosed.
    """

    def __init__(self, start: Boxes):
        self.open = [start]
        self.stuck: list[Boxes] = []
        self.count = 0
        self._none = start.taken(slice(0, 0))
        self._sides = start.upper.max(0) - start.lower.min(0)
        self._whole = self._content(start)

    @property
    def left(self) -> Boxes:
        """All boxes that are left."""
        return Boxes(*map(np.concatenate, zip(self._none, *self.open, *self.stuck)))

    def __len__(self) -> int:
        return sum(len(boxes.bound) for boxes in self.open)

    def _content(self, boxes: Boxes) -> float:
        # A side of length zero, as a category has, is no factor.
        sides = boxes.upper - boxes.lower
        relative = np.divide(
            sides, self._sides, out=np.ones_like(sides), where=sides > 0
        )
        return float(np.sum(np.prod(relative, axis=1)))

    def volume(self, boxes: Boxes) -> float:
        """Returns the share of some boxes in the volume of the first."""
        return self._content(boxes) / self._whole

    def taken(self) -> Boxes:
        """Takes the boxes that were added last, a batch of them at most."""
        found, number = [], 0
        while self.open and number < BATCH:
            boxes = self.open.pop()
            if number + len(boxes.bound) > BATCH:
                kept = number + len(boxes.bound) - BATCH
                self.open.append(boxes.taken(slice(0, kept)))
                boxes = boxes.taken(slice(kept, None))
            found.append(boxes)
            number += len(boxes.bound)
        self.count += number
        return Boxes(*map(np.concatenate, zip(*found)))

    def sort(self) -> None:
        """Puts the boxes of the largest bounds on top, of all that may be split.

        That is done after `RUNS` batches, so that sorting costs less than enclosing.
        """
        if len(self.open) > RUNS:
            boxes = Boxes(*map(np.concatenate, zip(*self.open)))
            worst = boxes.bound.reshape(len(boxes.bound), -1).max(axis=1)
            self.open = [boxes.taken(np.argsort(worst))]

    def split(self, boxes: Boxes, at: np.ndarray) -> None:
        """Halves boxes along one input each, and keeps the halves, the worst on top."""
        if not len(at):
            return
        order = np.argsort(boxes.bound.reshape(len(boxes.bound), -1).max(axis=1))
        boxes, at = boxes.taken(order), at[order]
        rows = np.arange(len(at))
        # Where the shares of the inputs mislead, a box would become ever more slender.
        sides = (boxes.upper - boxes.lower) / np.where(self._sides > 0, self._sides, 1)
        longest = sides.argmax(axis=1)
        slender = sides[rows, at] < SLENDER * sides[rows, longest]
        at = np.where(slender, longest, at)
        low, high = boxes.lower[rows, at], boxes.upper[rows, at]
        middle = low + (high - low) / 2
        small = (middle <= low) | (middle >= high)
        small |= high - low <= SMALLEST * self._sides[at]
        if small.any():
            self.stuck.append(boxes.taken(small))
            boxes, at, middle = boxes.taken(~small), at[~small], middle[~small]
            rows = np.arange(len(at))
        if not len(at):
            return
        first, second = boxes.upper.copy(), boxes.lower.copy()
        first[rows, at] = second[rows, at] = middle
        inputs = boxes.lower.shape[1]
        lower = np.stack([boxes.lower, second], 1).reshape(-1, inputs)
        upper = np.stack([first, boxes.upper], 1).reshape(-1, inputs)
        self.open.append(Boxes(lower, upper, np.repeat(boxes.bound, 2, axis=0)))


def examined(step: Step, params: Any, boxes: Boxes, dtype: Any) -> Examined:
    """Examines up to a batch of boxes.

    Args:
        step: of `examiner`.
        params: of the network.
        boxes: at most `BATCH`.
        dtype: of the computation.

    Returns:
        The findings as NumPy arrays.
    """
    number = len(boxes.bound)
    # All batches have one shape, so that one program is compiled.
    rows = np.concatenate([np.arange(number), np.zeros(BATCH - number, int)])
    corners = [jnp.asarray(part[rows], dtype) for part in (boxes.lower, boxes.upper)]
    found = step(params, *corners)
    return jax.tree.map(lambda part: np.asarray(part)[:number], found)


def grid(lower: np.ndarray, upper: np.ndarray, claims: int) -> Boxes:
    """Cuts a box into `FIRST` equal ones or a few more.

    Args:
        lower: lower corner, (d,).
        upper: upper corner, (d,).
        claims: R.

    Returns:
        Boxes of which nothing is known.
    """
    inputs = len(lower)
    each = max(1, math.ceil(FIRST ** (1 / inputs))) if inputs <= 6 else 1
    cuts = [
        np.concatenate([low + (high - low) * np.arange(each) / each, [high]])
        for low, high in zip(lower, upper)
    ]

    def corners(ends: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, inputs)

    low, high = corners([cut[:-1] for cut in cuts]), corners([cut[1:] for cut in cuts])
    return Boxes(low, high, np.full((len(low), claims), np.inf))
