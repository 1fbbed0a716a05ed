"""A domain: its distance, points inside it and on its boundary, and combinations."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcon import points
from jaxcon._checks import check_array, check_key, check_number, described
from jaxcon.domains._smooth import conjunction

MOST_POINTS, MOST_SEED = 10_000_000, 2**63 - 1
# Rounds of drawing before a domain is taken for empty; each doubles the candidates.
ROUNDS, MOST_CANDIDATES = 40, 2**20
# How far beside the boundary a point is tried, as a share of the domain's size.
BESIDE = 1e-4

Distance = Callable[[jax.Array], jax.Array]


class Surface(NamedTuple):
    """Boundary of one primitive, of which combinations keep a part.

    Attributes:
        distance: the primitive's, x (d,) -> ().
        measure: corners (lower, upper) of a box -> the size of what `draw` draws from.
        draw: numbers in [0, 1) (n, d) and those corners -> points and normals, (n, d).
    """

    distance: Distance
    measure: Callable[[np.ndarray, np.ndarray], float]
    draw: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Domain:
    """Set of points with a smooth distance from its boundary.

    Made by `jaxcon.domains.ball` and its neighbours, combined by ``|`` (union), ``&``
    (intersection) and ``-`` (difference). Boundaries should cross and not coincide: where
    two sets only touch, the distance of their union is zero on the seam, and along a
    piece that both have in common its slope is not one.

    Attributes:
        inputs: d.
        lower: corner (d,) of a box around it, perhaps infinite.
        upper: the other corner.
        function: its distance, of an x (d,) that has been checked.
        surfaces: of the primitives it is made of.

    References:
        Rvachev and Sheiko, R-Functions in Boundary Value Problems in Mechanics (1995).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> corner = jc.domains.box([0.5, 0.5], [2.0, 2.0])
        >>> shape = jc.domains.box([0.0, 0.0], [1.0, 1.0]) - corner
        >>> shape.contains(jnp.array([[0.25, 0.75], [0.75, 0.75]])).tolist()
        [True, False]
        >>> print(shape.distance(jnp.array([0.0, 0.5])))
        0.0
    """

    inputs: int
    lower: np.ndarray
    upper: np.ndarray
    function: Distance
    surfaces: tuple[Surface, ...]

    def distance(self, x: jax.Array) -> jax.Array:
        """Evaluates the distance of one point.

        Args:
            x: (d,), in units of length.

        Returns:
            (), in the same units: positive inside, zero on the boundary, negative outside.

        Raises:
            TypeError: x is no array of numbers.
            ValueError: x is not (d,).
        """
        x = jnp.asarray(check_array("distance: x", x, "(d,)", finite=None))
        if x.shape != (self.inputs,):
            raise ValueError(
                f"distance: x must have shape ({self.inputs},), got {x.shape}; use "
                "jax.vmap for a batch"
            )
        return self.function(x if jnp.issubdtype(x.dtype, jnp.floating) else x * 1.0)

    def contains(self, points: jax.Array) -> jax.Array:
        """Tells which points lie inside, where the distance is positive.

        Args:
            points: (n, d).

        Returns:
            Truth values (n,).

        Raises:
            TypeError: points are no array of numbers.
            ValueError: points are not (n, d).
        """
        where = jnp.asarray(
            check_array("contains: points", points, "(n, d)", finite=None)
        )
        return jax.vmap(self.distance)(where) > 0

    def sample(self, key: jax.Array, num: int) -> jax.Array:
        """Draws points independently and uniformly inside, by rejection.

        Args:
            key: a key of ``jax.random.key``, known when the program is traced.
            num: the number of points, 1 or more.

        Returns:
            The points (num, d).

        Raises:
            TypeError: the key is none, or traced.
            ValueError: num < 1 or beyond memory, or the domain is unbounded or empty.

        Example:
            >>> import jax, jaxcon as jc
            >>> disc = jc.domains.ball([0.0, 0.0], 1.0)
            >>> disc.sample(jax.random.key(0), 5).shape
            (5, 2)
        """
        check_key("sample: key", key)
        if isinstance(key, Tracer):
            raise TypeError(
                "sample: key must be known when traced: call it outside jit"
            )

        def candidates(start: int, stop: int) -> jax.Array:
            own = jax.random.fold_in(key, start)
            return points.uniform(own, self.lower, self.upper, stop - start)

        return self._filled("sample", num, candidates)

    def sobol(self, num: int, *, seed: int = 0) -> jax.Array:
        """Returns the points inside of a scrambled Sobol sequence in a box around.

        Args:
            num: the number of points, 1 or more.
            seed: of the scrambling; the same seed gives the same points.

        Returns:
            The points (num, d).

        Raises:
            TypeError: an argument is of another type.
            ValueError: num < 1 or beyond memory, or the domain is unbounded or empty.

        Example:
            >>> import jaxcon as jc
            >>> jc.domains.ball([0.0, 0.0, 0.0], 1.0).sobol(100).shape
            (100, 3)
        """
        check_number("sobol: seed", seed, least=0, most=MOST_SEED, whole=True)

        def candidates(start: int, stop: int) -> jax.Array:
            return points.sobol(self.lower, self.upper, stop, seed=seed)[start:]

        return self._filled("sobol", num, candidates)

    def boundary(self, num: int, *, seed: int = 0) -> points.Boundary:
        """Returns Sobol points all over the boundary, with the outward unit normals.

        Only what bounds the combination is kept: points with the inside on one side. Those
        of `implicit` are not evenly spread.

        Args:
            num: the number of points, 1 or more.
            seed: of the scrambling; the same seed gives the same points.

        Returns:
            The points and the normals, (num, d) each.

        Raises:
            TypeError: an argument is of another type.
            ValueError: num < 1 or beyond memory, or the domain is unbounded or empty.

        Example:
            >>> import jaxcon as jc
            >>> circle = jc.domains.ball([0.0, 0.0], 2.0).boundary(4)
            >>> print((circle.points - 2 * circle.normals).round(4).any())
            False
        """
        check_number("boundary: seed", seed, least=0, most=MOST_SEED, whole=True)
        self._check_count("boundary", num)
        low, high = self._box("boundary")
        measures = np.array([one.measure(low, high) for one in self.surfaces])
        edges = np.concatenate([[0.0], np.cumsum(measures) / measures.sum()])
        zero, one = np.zeros(self.inputs), np.ones(self.inputs)
        dtype = jnp.result_type(float)

        def drawn(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            with jax.ensure_compile_time_eval():
                unit = points.sobol(zero, one, stop, seed=seed)[start:]
            unit = np.asarray(unit, np.float64)
            which = np.searchsorted(edges, unit[:, 0], side="right") - 1
            which = np.clip(which, 0, len(self.surfaces) - 1)
            where, normals = np.zeros_like(unit), np.zeros_like(unit)
            keep = np.zeros(len(unit), bool)
            for number, surface in enumerate(self.surfaces):
                rows = which == number
                share = unit[rows]
                span = edges[number + 1] - edges[number]
                share[:, 0] = np.clip((share[:, 0] - edges[number]) / span, 0, 1)
                if not len(share):
                    continue
                where[rows], normals[rows] = surface.draw(share, low, high)
                keep[rows] = self._first(number, where[rows], low, high)
            side = self._side(where, normals, low, high)
            keep &= side != 0
            return where[keep], (normals * side[:, None])[keep]

        found, start, stop = [], 0, _power(2 * num)
        for _ in range(ROUNDS):
            found.append(drawn(start, stop))
            if sum(len(where) for where, _ in found) >= num or stop > MOST_CANDIDATES:
                break
            start, stop = stop, 2 * stop
        where, normals = (np.concatenate(part)[:num] for part in zip(*found))
        if len(where) < num:
            raise ValueError("boundary: the domain is empty, or too thin to be met")
        return points.Boundary(jnp.asarray(where, dtype), jnp.asarray(normals, dtype))

    def __and__(self, other: "Domain") -> "Domain":
        """Returns the intersection."""
        _check_pair(self, other)
        low = np.maximum(self.lower, other.lower)
        high = np.minimum(self.upper, other.upper)
        return _combined(self, other, low, high, conjunction)

    def __or__(self, other: "Domain") -> "Domain":
        """Returns the union."""
        _check_pair(self, other)
        low = np.minimum(self.lower, other.lower)
        high = np.maximum(self.upper, other.upper)
        return _combined(self, other, low, high, lambda a, b: -conjunction(-a, -b))

    def __sub__(self, other: "Domain") -> "Domain":
        """Returns the points that are not in the other."""
        _check_pair(self, other)
        low, high = self.lower, self.upper
        return _combined(self, other, low, high, lambda a, b: conjunction(a, -b))

    def _check_count(self, name: str, num: int) -> None:
        most = MOST_POINTS // self.inputs
        check_number(f"{name}: num", num, least=1, most=most, whole=True)

    def _box(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the corners of a box around, or says why there is none."""
        if not np.all(np.isfinite([self.lower, self.upper])):
            raise ValueError(
                f"{name}: the domain is unbounded; intersect it with jc.domains.box"
            )
        if not np.all(self.lower < self.upper):
            raise ValueError(f"{name}: the domain is empty")
        return self.lower, self.upper

    def _filled(self, name: str, num: int, candidates: Any) -> jax.Array:
        """Returns the first points of a sequence that lie inside, (num, d)."""
        self._check_count(name, num)
        self._box(name)
        found, start, stop = [], 0, _power(2 * num)
        with jax.ensure_compile_time_eval():
            for _ in range(ROUNDS):
                where = candidates(start, stop)
                inside = _evaluated(self.function, np.asarray(where)) > 0
                found.append(np.asarray(where)[inside])
                if sum(map(len, found)) >= num or stop > MOST_CANDIDATES:
                    break
                start, stop = stop, 2 * stop
        first = np.concatenate(found)[:num]
        if len(first) < num:
            raise ValueError(f"{name}: the domain is empty, or too thin to be met")
        return jnp.asarray(first)

    def _first(
        self, number: int, where: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        """Tells which points are inside the box, and on no earlier surface."""
        slack = BESIDE * np.max(high - low)
        keep = np.all((where >= low - slack) & (where <= high + slack), axis=1)
        for earlier in self.surfaces[:number]:
            keep &= np.abs(_evaluated(earlier.distance, where)) > slack * 1e-2
        return keep

    def _side(
        self, where: np.ndarray, normals: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        """Returns 1 where the normal leads out, -1 where in, 0 where both sides are one."""
        step = BESIDE * np.max(high - low) * normals
        ahead, behind = (
            _evaluated(self.function, where + sign * step) > 0 for sign in (1, -1)
        )
        return behind.astype(float) - ahead.astype(float)


def _combined(
    one: Domain, other: Domain, low: np.ndarray, high: np.ndarray, rule: Any
) -> Domain:
    def function(x: jax.Array) -> jax.Array:
        return rule(one.function(x), other.function(x))

    return Domain(one.inputs, low, high, function, (*one.surfaces, *other.surfaces))


def _check_pair(one: Domain, other: Any) -> None:
    if not isinstance(other, Domain):
        raise TypeError(f"a Domain combines with another, got {described(other)}")
    if one.inputs != other.inputs:
        raise ValueError(
            f"a Domain of {one.inputs} inputs does not combine with one of {other.inputs}"
        )


def _evaluated(distance: Distance, where: np.ndarray) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        # Of few shapes, since each is compiled.
        rows = _power(len(where))
        x = np.zeros((rows, where.shape[1]))
        x[: len(where)] = where
        x = jnp.asarray(x, jnp.result_type(float))
        return np.asarray(_many(distance)(x))[: len(where)]


@functools.lru_cache(maxsize=256)
def _many(distance: Distance) -> Any:
    """Returns the compiled distances of many points."""
    return jax.jit(jax.vmap(distance))


def _power(num: int) -> int:
    """Returns the power of two that is large enough, and not tiny."""
    return max(64, 1 << (num - 1).bit_length())
