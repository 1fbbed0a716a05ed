"""Rules that move points to where a residual is large."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import (
    check_function,
    check_number,
    check_real,
    described,
    inside,
)
from jaxcon.points._box import check_box, check_count, check_seed, uniform
from jaxcon.points._worst_case import ascend

Residual = Callable[[Any, Any], jax.Array]
Sampler = Callable[[jax.Array, int], jax.Array]
_MAX_STEPS = 1_000_000


class PointRule(NamedTuple):
    """Rule that moves the points under one key of a batch.

    Attributes:
        residual: (params, batch) -> residual (n,), one entry for each of the points.
        move: (key, points (n, d), values) -> points (n, d), where values maps any points
            (m, d) to the residual there (m,), at the present parameters.
        every: steps from one move to the next.
        seed: of the keys.
    """

    residual: Residual
    move: Callable[[jax.Array, jax.Array, Callable[..., jax.Array]], jax.Array]
    every: int
    seed: Any


def rad(
    residual: Residual,
    domain: Any,
    *,
    every: int = 100,
    candidates: int = 10_000,
    power: float = 1.0,
    offset: float = 1.0,
    seed: int = 0,
) -> PointRule:
    r"""Draws all points anew from a density that grows with the residual.

    .. math::
        p(x) \propto \frac{|r(x)|^k}{\operatorname{E} |r|^k} + c

    the residual-based adaptive distribution. The points are drawn without replacement
    from candidates, over which the mean E runs. Candidates where the residual is not
    finite have density zero.

    The mean over such points of a squared residual is no longer the integral over the
    domain: where the residual cannot vanish, training ends elsewhere (see
    `jaxcon.transforms`).

    Args:
        residual: r, (params, batch) -> (n,) at the points of the batch, each entry of its
            own point alone; of an inequality g pass ``jax.nn.relu`` of it.
        domain: corners (lower, upper) of a box, (d,) each, or a function
            (key, num) -> points (num, d) of it.
        every: steps from one move to the next.
        candidates: their number, at least that of the points.
        power: k >= 0.
        offset: c >= 0, the share of points that are spread evenly, against one that
            follows the residual.
        seed: of the draws.

    Returns:
        A `PointRule` for the ``points=`` of an order.

    Raises:
        TypeError: `residual` is no function, or `domain` neither a box nor one.
        ValueError: a number is out of its range, or not lower < upper; when traced, there
            are fewer candidates than points, or a function returns another shape.

    References:
        Wu, Zhu, Tan, Kartha and Lu, A comprehensive study of non-adaptive and
        residual-based adaptive sampling for physics-informed neural networks (2023).

    Example:
        >>> import jax, jax.numpy as jnp, optax, jaxcon as jc
        >>> def misfit(p, batch):                           # of a line and a steep front
        ...     x = batch["x"][:, 0]
        ...     return p[0] + p[1] * x - jnp.tanh(50.0 * (x - 0.5))
        >>> rule = jc.points.rad(misfit, ([0.0], [1.0]), every=10, candidates=500)
        >>> problem = jc.Lagrangian(jc.MeanSquares({"misfit": misfit}))
        >>> solver = jc.alternating(
        ...     problem, optax.sgd(0.1), optax.set_to_zero(), points={"x": rule}
        ... )
        >>> batch = {"x": jc.points.sobol([0.0], [1.0], 32)}
        >>> run = jc.fit(solver, jnp.zeros(2), batch, steps=50)
        >>> print(run.state.points["x"].shape)
        (32, 1)
    """
    sample = _domain("rad", domain)
    _check_common("rad", residual, every, seed)
    _check_density("rad", candidates, power, offset)

    def move(key: jax.Array, points: jax.Array, values: Any) -> jax.Array:
        return _drawn("rad", key, sample, candidates, values, power, offset, points)

    return PointRule(residual, move, every, seed)


def rar_d(
    residual: Residual,
    domain: Any,
    *,
    replace: int,
    every: int = 100,
    candidates: int = 10_000,
    power: float = 2.0,
    offset: float = 0.0,
    seed: int = 0,
) -> PointRule:
    r"""Replaces the points of smallest residual by draws where the residual is large.

    .. math::
        p(x) \propto \frac{|r(x)|^k}{\operatorname{E} |r|^k} + c

    residual-based adaptive refinement with a distribution. The published rule adds its
    draws to the points; here, where arrays keep their sizes, they take the places of those
    with the smallest :math:`|r|`, and all others stay.

    Args:
        residual: r, as for `rad`.
        domain: as for `rad`.
        replace: m, the points drawn at each move.
        every: steps from one move to the next.
        candidates: their number, at least m.
        power: k >= 0.
        offset: c >= 0.
        seed: of the draws.

    Returns:
        A `PointRule` for the ``points=`` of an order.

    Raises:
        TypeError: as `rad`.
        ValueError: as `rad`, or m is less than 1; when traced, m exceeds the points.

    References:
        Wu, Zhu, Tan, Kartha and Lu, A comprehensive study of non-adaptive and
        residual-based adaptive sampling for physics-informed neural networks (2023).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> def steep(p, batch):
        ...     return p * batch["x"][:, 0]
        >>> rule = jc.points.rar_d(steep, ([0.0], [1.0]), replace=1, candidates=100)
        >>> x = jnp.array([[0.0], [0.5], [1.0]])
        >>> moved = rule.move(jax.random.key(0), x, lambda x: steep(2.0, {"x": x}))
        >>> print(moved[1:, 0], bool(moved[0, 0] > 0))
        [0.5 1. ] True
    """
    sample = _domain("rar_d", domain)
    _check_common("rar_d", residual, every, seed)
    check_count("rar_d", "replace", replace, 1)
    _check_density("rar_d", candidates, power, offset)

    def move(key: jax.Array, points: jax.Array, values: Any) -> jax.Array:
        least = _least("rar_d", replace, points, _size(values(points)))
        drawn = _drawn(
            "rar_d", key, sample, candidates, values, power, offset, points[:replace]
        )
        return points.at[least].set(drawn)

    return PointRule(residual, move, every, seed)


def r3(
    residual: Residual, domain: Any, *, every: int = 100, seed: int = 0
) -> PointRule:
    r"""Retains the points whose residual is above the mean and draws the others anew.

    .. math::
        |r(x_i)| > \frac1n \sum_j |r(x_j)|

    retain, resample and release. The published rule moves the points at every step,
    ``every=1``. Points where the residual is not finite are drawn anew.

    Args:
        residual: r, as for `rad`.
        domain: as for `rad`.
        every: steps from one move to the next.
        seed: of the draws.

    Returns:
        A `PointRule` for the ``points=`` of an order.

    Raises:
        TypeError: as `rad`.
        ValueError: as `rad`.

    References:
        Daw, Bu, Wang, Perdikaris and Karpatne, Mitigating Propagation Failures in
        Physics-informed Neural Networks using Retain-Resample-Release (R3) Sampling
        (2023).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> def steep(p, batch):
        ...     return p * batch["x"][:, 0]
        >>> rule = jc.points.r3(steep, ([0.0], [1.0]))
        >>> x = jnp.array([[0.1], [0.2], [0.9]])                       # mean 0.4
        >>> moved = rule.move(jax.random.key(0), x, lambda x: steep(2.0, {"x": x}))
        >>> print((moved == x)[:, 0])
        [False False  True]
    """
    sample = _domain("r3", domain)
    _check_common("r3", residual, every, seed)

    def move(key: jax.Array, points: jax.Array, values: Any) -> jax.Array:
        size = _size(values(points))
        fresh = sample(key, len(points), points)
        return jnp.where((size > jnp.mean(size))[:, None], points, fresh)

    return PointRule(residual, move, every, seed)


def adversarial(
    residual: Residual,
    domain: Any,
    *,
    replace: int,
    every: int = 100,
    steps: int = 10,
    seed: int = 0,
) -> PointRule:
    r"""Replaces the points of smallest residual by ones that climbed to large residuals.

    .. math::
        \max_{l \le x \le u} r(x)

    by the projected gradient ascents of `worst_case` from m random points of the box: each
    climbs its own peak, so the new points spread over all of them. Where the residual is
    that of an inequality this is an exchange method of semi-infinite programming: points
    with slack leave, violated ones enter. A point whose constraint is active stays while
    no m points have more slack than it.

    Args:
        residual: r, (params, batch) -> (n,) at the points of the batch, each entry of its
            own point alone; with its sign, so of an equality pass ``jnp.abs`` of it.
        domain: corners (lower, upper) of a box, (d,) each.
        replace: m, the points that climb at each move.
        every: steps from one move to the next.
        steps: of each ascent, 0 or more.
        seed: of the draws.

    Returns:
        A `PointRule` for the ``points=`` of an order.

    Raises:
        TypeError: `residual` is no function, or `domain` no box.
        ValueError: as `rad`, or m is less than 1; when traced, m exceeds the points.

    References:
        Blankenship and Falk, Infinitely constrained optimization problems (1976), for the
        exchange of points.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> def peak(p, batch):
        ...     return p - (batch["x"][:, 0] - 0.3) ** 2
        >>> rule = jc.points.adversarial(peak, ([0.0], [1.0]), replace=1, steps=30)
        >>> x = jnp.array([[0.25], [1.0]])
        >>> moved = rule.move(jax.random.key(0), x, lambda x: peak(1.0, {"x": x}))
        >>> print(f"{moved[0, 0]:.2f} {moved[1, 0]:.2f}")
        0.25 0.30
    """
    if callable(domain):
        raise TypeError(
            "adversarial: domain must be the corners (lower, upper) of a box, in which "
            f"points climb, got {type(domain).__name__}"
        )
    low, high = _corners("adversarial", domain)
    sample = _domain("adversarial", domain)
    _check_common("adversarial", residual, every, seed)
    check_count("adversarial", "replace", replace, 1, low.size)
    name = "adversarial: steps"
    check_number(name, steps, least=0, most=_MAX_STEPS, whole=True)

    def move(key: jax.Array, points: jax.Array, values: Any) -> jax.Array:
        found = values(points)
        # A residual that is not finite there is no reason to stay.
        found = jnp.where(jnp.isfinite(found), found, -jnp.inf)
        least = _least("adversarial", replace, points, found)
        starts = sample(key, replace, points)
        radius = replace ** (-1 / low.size)
        climbed, heights = ascend(values, starts, low, high, steps, radius)
        keeps = ~jnp.isfinite(heights)[:, None]
        return points.at[least].set(
            jnp.where(keeps, points[least], climbed.astype(points.dtype))
        )

    return PointRule(residual, move, every, seed)


def _size(values: jax.Array) -> jax.Array:
    """Returns absolute residuals, and zero where one is not finite."""
    return jnp.where(jnp.isfinite(values), jnp.abs(values), 0)


def _least(name: str, count: int, points: jax.Array, values: jax.Array) -> jax.Array:
    """Returns the places of the smallest values, (count,)."""
    if count > len(points):
        raise ValueError(
            f"{name}: replace is {count}, but there are only {len(points)} points"
        )
    return jax.lax.top_k(-values, count)[1]


def _drawn(
    name: str,
    key: jax.Array,
    sample: Any,
    candidates: int,
    values: Any,
    power: float,
    offset: float,
    like: jax.Array,
) -> jax.Array:
    """Draws as many of the candidates as there are rows in `like`."""
    if candidates < len(like):
        raise ValueError(
            f"{name}: candidates are {candidates}, fewer than the {len(like)} points to "
            "be drawn from them"
        )
    from_domain, from_pool = jax.random.split(key)
    pool = sample(from_domain, candidates, like)
    density = _density(values(pool), power, offset)
    return jax.random.choice(from_pool, pool, (len(like),), replace=False, p=density)


def _density(values: jax.Array, power: float, offset: float) -> jax.Array:
    r"""Returns the probability of each candidate, (m,)."""
    size = _size(values)
    largest = jnp.max(size)
    # In units of the largest, powers neither overflow nor vanish all.
    raised = (
        jnp.where(largest > 0, size / jnp.where(largest > 0, largest, 1), 1) ** power
    )
    density = raised / jnp.mean(raised) + offset
    density = jnp.where(jnp.isfinite(values), density, 0)
    return density / jnp.sum(density)


def _corners(name: str, domain: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(domain, (tuple, list)) or len(domain) != 2:
        raise TypeError(
            f"{name}: domain must be the corners (lower, upper) of a box or a function "
            f"(key, num) -> points (num, d), got {described(domain)}"
        )
    return check_box(f"{name}: domain", *domain)


def _domain(name: str, domain: Any) -> Callable[[jax.Array, int, jax.Array], jax.Array]:
    """Returns (key, num, like) -> points (num, d) of the dtype of `like`, (n, d)."""
    sampler: Sampler = domain
    if not callable(domain):
        low, high = _corners(name, domain)
        sampler = lambda key, num: uniform(key, low, high, num)  # noqa: E731
    label = f"{name}: domain"

    def sample(key: jax.Array, num: int, like: jax.Array) -> jax.Array:
        with inside(label):
            points = sampler(key, num)
        points = check_real(f"{label} returned", points, "points (num, d)")
        if points.shape != (num, like.shape[1]):
            raise ValueError(
                f"{label} gives points of shape {points.shape}, but those of the batch "
                f"have shape {like.shape}: it must be {(num, like.shape[1])}"
            )
        return points.astype(like.dtype)

    return sample


def _check_common(name: str, residual: Any, every: Any, seed: Any) -> None:
    check_function(f"{name}: residual", residual, "(params, batch) -> residual (n,)")
    check_count(name, "every", every, 1)
    check_seed(name, seed)


def _check_density(name: str, candidates: Any, power: Any, offset: Any) -> None:
    check_count(name, "candidates", candidates, 1)
    check_number(f"{name}: power", power, least=0)
    check_number(f"{name}: offset", offset, least=0)
