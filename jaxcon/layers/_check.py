"""Search for inputs at which a layer breaks its guarantees."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import points
from jaxcon._checks import (
    check_array,
    check_function,
    check_key,
    check_number,
    described,
    inside,
)
from jaxcon.layers._certificates import Certificate, Gap, Guarantee
from jaxcon.layers._networks import Apply

MOST_PAIRS, MOST_REACH = 10**8, 1e12

Sampler = Callable[..., jax.Array]  # (key, num=...) -> (num, d)
PairTest = Callable[[jax.Array, jax.Array], Gap]


class Attempt(NamedTuple):
    """Largest failure that one test of one guarantee found in one precision.

    Attributes:
        guarantee: the claim.
        test: the test's name; "…, searched" for gradient ascent on it.
        dtype: the precision's name.
        num: pairs of points that were tested.
        excess: amount by which the claim failed there, ().
        tolerance: error that rounding alone may cause there, ().
        point: the two points, (2, d).
    """

    guarantee: Guarantee
    test: str
    dtype: str
    num: int
    excess: float
    tolerance: float
    point: np.ndarray

    @property
    def holds(self) -> bool:
        """Flags that no failure beyond rounding was found; a NaN is a failure."""
        return self.excess <= self.tolerance


class Check(NamedTuple):
    """Results of the attempts to break a certificate."""

    attempts: tuple[Attempt, ...]
    caveat: str

    @property
    def holds(self) -> bool:
        """Flags that guarantees were tried, and no attempt broke its own."""
        tried = bool(self.attempts)
        return tried and all(attempt.holds for attempt in self.attempts)

    def __str__(self) -> str:
        lines = []
        for one in self.attempts:
            said = "holds" if one.holds else f"FAILS near {one.point[0].tolist()}"
            lines.append(
                f"{one.guarantee.statement}: {said} ({one.test}, {one.dtype}, "
                f"{one.num} points, excess {one.excess:.2g}, tolerance {one.tolerance:.2g})"
            )
        lines = lines or ["no guarantees, so nothing was tried"]
        return "\n".join([*lines, *filter(None, [self.caveat])])


def check(
    apply: Apply,
    params: Any,
    certificate: Callable[[Any], Certificate],
    sampler: Sampler,
    *,
    num: int = 100_000,
    reach: float = 1000.0,
    key: jax.Array | None = None,
) -> Check:
    """Tries to break a certificate, at random points and by gradient ascent, near and far.

    Half of the points are as the sampler draws them; half are spread to up to `reach`
    times the range of the data (unless the guarantee has a domain). Each is paired with
    another, a ten-millionth of the range to the whole range away, along one input or
    in a random direction. Then each test climbs by gradient ascent. All of it happens in
    the parameters' precision and, where the user has enabled it, in float64 too.

    It is a search, not a proof: a failure that it finds is real, one that it does not find
    may exist. The proof is the layer's own.

    Args:
        apply: (params, x) -> y of one example.
        params: random, trained or adversarial.
        certificate: (params) -> `Certificate`, e.g. of the network or the construction.
        sampler: (key, num=n) -> points (n, d), e.g.
            ``partial(jc.points.uniform, lower=[0.0], upper=[1.0])``.
        num: pairs of points for each test.
        reach: how far out, in ranges of the sampled points.
        key: of the points; `jax.random.key(0)` unless given.

    Returns:
        A `Check`; `.holds` is the verdict, and it prints one line per attempt. A
        certificate without guarantees does not hold: nothing was tried.

    Raises:
        TypeError: an argument is no function, number or key, params have no array, or what
            a function returned is of another type.
        ValueError: a number is out of range, the sampler returned other points than asked
            for, or a guarantee comes with no test.

    Example:
        >>> from functools import partial
        >>> import jax
        >>> import jaxcon as jc
        >>> network = jc.layers.mlp(2).then(jc.layers.bounded(0.0, 1.0))
        >>> params = network.init(jax.random.key(0))
        >>> draw = partial(jc.points.uniform, lower=[0.0, 0.0], upper=[1.0, 2.0])
        >>> tried = jc.layers.check(
        ...     network.apply, params, network.certificate, draw, num=1000
        ... )
        >>> tried.holds
        True
    """
    check_function("check: apply", apply, "(params, x) -> y")
    check_function("check: certificate", certificate, "(params) -> Certificate")
    check_function("check: sampler", sampler, "(key, num=n) -> points (n, d)")
    check_number("check: num", num, least=1, most=MOST_PAIRS, whole=True)
    check_number("check: reach", reach, least=1, most=MOST_REACH)
    key = jax.random.key(0) if key is None else key
    check_key("check: key", key)
    for leaf in jax.tree.leaves(params):
        check_array("check: a leaf of params", leaf, "of any shape", finite=None)
    attempts: list[Attempt] = []
    caveat = ""
    for dtype in _precisions(params):
        cast = jax.tree.map(partial(jnp.asarray, dtype=dtype), params)
        with inside("check: certificate"):
            promised = certificate(cast)
        _check_promised(promised)
        caveat = promised.caveat
        f = partial(apply, cast)
        with inside("check: sampler"):
            drawn = sampler(key, num=num)
        drawn = check_array("check: what sampler returns", drawn, "(n, d)")
        x = jnp.asarray(drawn, dtype)
        if len(x) != num or not x.size:
            raise ValueError(
                f"check: sampler returned points of shape {x.shape}, not ({num}, d)"
            )
        with inside("check: apply, of these params and points"):
            value = jax.eval_shape(f, x[0])
            dtype_of_y = getattr(value, "dtype", bool)
            if not jnp.issubdtype(dtype_of_y, jnp.floating):
                raise TypeError("check: apply must return an array of floats")
        anywhere = _pairs(x, key, reach)
        for guarantee in promised.guarantees:
            pairs = anywhere
            if guarantee.domain is not None:
                pairs = np.clip(_pairs(x, key, 1.0), *guarantee.domain).astype(dtype)
            for name, test in guarantee.tests.items():
                gap = partial(test, f)
                at = jax.jit(lambda pair, gap=gap: gap(pair[0], pair[1]))
                pair = _worst(gap, pairs)
                tried = (
                    (name, pair),
                    (f"{name}, searched", _climbed(at, gap, pairs, pair)),
                )
                attempts += [
                    _attempt(guarantee, label, at(pair), pair, num)
                    for label, pair in tried
                ]
            if guarantee.exact is not None:
                gap = guarantee.exact()
                allowed = guarantee.tolerance(dtype, float(gap.size))
                entry = float(gap.excess), float(allowed), np.zeros((0, 0))
                attempts.append(Attempt(guarantee, "parameters", dtype, 0, *entry))
    return Check(tuple(attempts), caveat)


def _check_promised(promised: Any) -> None:
    """Refuses what is no certificate, and guarantees that nothing tests."""
    if not isinstance(promised, Certificate):
        raise TypeError(
            f"check: certificate returned {described(promised)}, not a Certificate"
        )
    for one in promised.guarantees:
        if not (one.tests or one.exact):
            raise ValueError(
                f"check: the guarantee {one.statement!r} comes with no test"
            )


def _precisions(params: Any) -> list[str]:
    """Returns the parameters' dtype, and float64 after float32 where it is enabled."""
    own = str(jnp.result_type(*jax.tree.leaves(params), jnp.float32))
    widest = str(jnp.zeros(()).dtype)
    return list(dict.fromkeys([own, widest]))


def _pairs(x: jax.Array, key: jax.Array, reach: float) -> np.ndarray:
    """Draws points near and far and a second one for each, (n, 2, d)."""

    @jax.jit
    def paired(x: jax.Array) -> jax.Array:
        n, d = x.shape
        keys = jax.random.split(key, 5)
        low, high = x.min(0, keepdims=True), x.max(0, keepdims=True)
        number = jnp.arange(n)[:, None]
        out = reach ** jax.random.uniform(keys[0], (n, 1), x.dtype)
        out = jnp.broadcast_to(jnp.where(number % 2 == 1, out, 1.0), (n, d))
        middle = jnp.broadcast_to((low + high) / 2, (n, d))
        width = jnp.broadcast_to(high - low, (n, d))
        near = middle + out * (x - middle)
        axis = jax.random.randint(keys[1], (n,), 0, d)
        anyhow = jax.random.normal(keys[2], (n, d), x.dtype)
        along = jax.nn.one_hot(axis, d, dtype=x.dtype)
        direction = jnp.where(number % 4 < 2, along, anyhow)
        distance = 10 ** jax.random.uniform(keys[3], (n, 1), x.dtype, -7.0, 0.0)
        distance *= jax.random.rademacher(keys[4], (n, 1), x.dtype)
        return jnp.stack([near, near + distance * out * width * direction], axis=1)

    return np.asarray(paired(x))


def _failing(gap: Gap) -> jax.Array:
    """Returns excess by size, (): the larger, the worse; NaN is worst of all."""
    ratio = gap.excess / (gap.size + jnp.finfo(gap.size.dtype).tiny)
    return jnp.where(jnp.isnan(ratio), jnp.inf, ratio)


def _worst(gap: PairTest, pairs: np.ndarray) -> np.ndarray:
    """Returns the pair where a test fails most, (2, d)."""

    @jax.jit
    def worst(pairs: jax.Array) -> jax.Array:
        # A thousand at a time, so that memory does not grow with their number.
        def one(pair: jax.Array) -> jax.Array:
            return _failing(gap(pair[0], pair[1]))

        return jnp.argmax(jax.lax.map(one, pairs, batch_size=min(1024, len(pairs))))

    return pairs[worst(pairs)]


def _climbed(
    at: Any, gap: PairTest, pairs: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Returns the worst pair that gradient ascent finds in the range of all, (2, d)."""
    low, high = np.tile(pairs.min((0, 1)), 2), np.tile(pairs.max((0, 1)), 2)
    corner = np.ones(start.size)

    # The box comes as an argument: jax 0.7.2 folds constants to wrong numbers.
    @jax.jit
    def search(low: jax.Array, high: jax.Array) -> jax.Array:
        def pair(place: jax.Array) -> jax.Array:
            # Every scale between the box's width and a thousandth of it has its share.
            place = place.astype(low.dtype)
            stretched = (
                jnp.sinh(place * jnp.arcsinh(jnp.asarray(1e3, low.dtype))) / 1000
            )
            reached = (low + high) / 2 + (high - low) / 2 * stretched
            # Rounding must not leave a domain.
            return jnp.clip(reached, low, high).reshape(start.shape)

        def residual(places: jax.Array) -> jax.Array:
            found = jax.vmap(lambda place: _failing(gap(*pair(place))))(places)
            # The search takes NaN for the largest, and infinity for no number to climb.
            return jnp.where(jnp.isinf(found), jnp.nan, found)

        return pair(points.worst_case(residual, -corner, corner).point)

    reached = np.asarray(search(low, high))
    return reached if _failing(at(reached)) > _failing(at(start)) else start


def _attempt(
    guarantee: Guarantee, label: str, gap: Gap, pair: np.ndarray, num: int
) -> Attempt:
    # Of terms of size zero nothing is rounded but their underflow.
    allowed = guarantee.tolerance(pair.dtype, gap.size) + jnp.finfo(pair.dtype).tiny
    return Attempt(
        guarantee,
        label,
        str(pair.dtype),
        num,
        float(gap.excess),
        float(allowed),
        pair,
    )
