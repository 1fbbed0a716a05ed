"""Domains: their distances on the boundary and at corners, and the points they return."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_transforms
from tables import assert_each, assert_refused

from jaxcon import domains

ELL = [[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [0.5, 0.5], [0.5, 1.0], [0.0, 1.0]]
TRIANGLE = [[0.1, 0.2], [0.5, 1.1], [1.3, 0.4]]  # clockwise

# name: (domain, its measure, that of its boundary or None where points are not even)
DOMAINS = {
    "disc": lambda: (domains.ball([0.5, -1.0], 2.0), 4 * np.pi, 4 * np.pi),
    "ball": lambda: (domains.ball([0.0, 0.0, 1.0], 1.0), 4 / 3 * np.pi, 4 * np.pi),
    "box": lambda: (domains.box([0.0, -1.0], [2.0, 0.0]), 2.0, 6.0),
    "triangle": lambda: (domains.polygon(TRIANGLE), 0.52, None),
    "ell by edges": lambda: (domains.polygon(ELL), 0.75, 4.0),
    "ell by boxes": lambda: (
        domains.box([0.0, 0.0], [1.0, 1.0]) - domains.box([0.5, 0.5], [2.0, 2.0]),
        0.75,
        4.0,
    ),
    "half a disc": lambda: (
        domains.ball([0.0, 0.0], 1.0) & domains.half_space([0.0, 3.0], 0.0),
        np.pi / 2,
        np.pi + 2,
    ),
    "ring": lambda: (
        domains.ball([0.0, 0.0], 1.0) - domains.ball([0.2, 0.0], 0.5),
        0.75 * np.pi,
        3 * np.pi,
    ),
    "cross": lambda: (
        domains.box([-1.0, -0.5], [1.0, 0.5]) | domains.box([-0.5, -1.0], [0.5, 1.0]),
        3.0,
        8.0,
    ),
    "ellipse": lambda: (
        domains.implicit(lambda x: 1 - x[0] ** 2 - 4 * x[1] ** 2, [-1, -0.5], [1, 0.5]),
        np.pi / 2,
        None,
    ),
}


@cache
def found(name):
    """The domain, points on its boundary, and the distance and its slopes there."""
    domain = DOMAINS[name]()[0]
    on = domain.boundary(256)
    distances = jax.jit(jax.vmap(jax.value_and_grad(domain.distance)))(on.points)
    return domain, on, *map(np.asarray, distances)


def test_domain_distance_is_zero_on_the_boundary_with_the_slope_one():
    def check(name):
        _, on, distance, slopes = found(name)
        # A few roundings of numbers of order one.
        assert np.abs(distance).max() <= 2e-6
        length = np.linalg.norm(on.normals, axis=1)
        np.testing.assert_allclose(length, 1, rtol=1e-5)
        # Of a point close to a corner a rounding turns the slope.
        off = np.abs(slopes + on.normals).max(axis=1)
        assert np.quantile(off, 0.95) <= 1e-4
        assert off.max() <= 0.1

    assert_each(DOMAINS, check)


def test_domain_boundary_has_the_inside_on_one_side():
    def check(name):
        domain, on, *_ = found(name)
        sides = [on.points + sign * 2e-3 * on.normals for sign in (-1, 1)]
        inner, outer = map(domain.contains, sides)
        # Except within that distance of a corner.
        assert inner.mean() > 0.98
        assert outer.mean() < 0.02

    assert_each(DOMAINS, check)


def test_domain_points_lie_inside_and_fill_it():
    def check(name):
        domain, measure, _ = DOMAINS[name]()
        where = domain.sobol(300, seed=1)
        assert where.shape == (300, domain.inputs)
        assert where.dtype == jnp.float32
        assert domain.contains(where).all()
        box = np.random.default_rng(0).uniform(
            domain.lower, domain.upper, (4096, domain.inputs)
        )
        share = domain.contains(jnp.asarray(box)).mean()
        volume = np.prod(domain.upper - domain.lower)
        # Four standard deviations of a share of 4096 points.
        assert abs(share - measure / volume) <= 4 * 0.5 / np.sqrt(4096)

    assert_each(DOMAINS, check)


def test_domain_boundary_keeps_the_divergence_theorem():
    """The flux of f(x) = x out of a domain is d times its volume."""

    def check(name):
        domain, volume, area = DOMAINS[name]()
        if area is None:
            return
        _, on, *_ = found(name)
        flux = area * np.mean(np.sum(on.points * on.normals, axis=1))
        np.testing.assert_allclose(flux, domain.inputs * volume, rtol=0.05)

    assert_each(DOMAINS, check)


def test_domain_keeps_one_of_two_boundaries_that_coincide():
    """Along it the distance is zero, though its slope is not one."""
    both = domains.box([0.0, 0.0], [2.0, 1.0]) | domains.box([0.0, 0.0], [1.0, 2.0])
    on = both.boundary(256)
    flux = 8 * np.mean(np.sum(on.points * on.normals, axis=1))
    np.testing.assert_allclose(flux, 6, rtol=0.05)
    assert not jax.vmap(both.distance)(on.points).any()


def test_domain_sample_is_uniform(key):
    where = domains.polygon(ELL).sample(key, 1000)
    left = float((where[:, 0] < 0.5).mean())
    # Four standard deviations.
    assert abs(left - 2 / 3) < 4 * np.sqrt(2 / 9 / 1000)


@pytest.mark.parametrize("name", ["ell by edges", "ell by boxes", "cross"])
def test_domain_is_finite_at_edges_and_corners(name, dtype):
    domain = DOMAINS[name]()[0]
    corners = [*ELL, [-0.5, 0.5], [-1.0, 0.5], [0.5, -1.0], [0.0, 0.0]]
    beside = [[x + 1e-7, y] for x, y in corners] + [[x, y - 1e-12] for x, y in corners]
    edges = [[0.25, 0.0], [0.5, 0.75], [0.75, 0.5], [0.0, 0.3], [0.5, 0.25]]
    where = jnp.asarray([*corners, *beside, *edges], dtype)

    @jax.jit
    @jax.vmap
    def every(x):
        f = domain.distance
        return f(x), jax.grad(f)(x), jax.hessian(f)(x)

    values = every(where)
    for part in values:
        assert jnp.isfinite(part).all()
        assert part.dtype == dtype
    if name.startswith("ell"):
        np.testing.assert_array_equal(values[0][:6], 0)  # the corners themselves
        np.testing.assert_array_equal(values[0][-5:-1], 0)  # and its edges


def test_domain_distance_keeps_the_transforms():
    where = jnp.array([[0.25, 0.2], [0.3, 0.9], [0.8, 0.8]])
    for name in ("ell by edges", "ring"):
        assert_transforms(DOMAINS[name]()[0].distance, where)


def test_domain_distance_by_hand(x64):
    disc, left = domains.ball([1.0, 0.0], 2.0), domains.half_space([3.0, 4.0], 10.0)
    x = jnp.array([1.5, 1.0])
    a, b = (4 - 1.25) / 4, 2 - (4.5 + 4) / 5
    root = np.hypot(a, b)
    expected = {
        disc & left: a + b - root,
        disc | left: a + b + root,
        disc - left: a - b - root,
    }
    for domain, distance in expected.items():
        np.testing.assert_allclose(domain.distance(x), distance, rtol=1e-14)


def test_domains_refuse_in_one_sentence(key):
    disc, plane = domains.ball([0.0, 0.0], 1.0), domains.half_space([1.0, 0.0], 0.0)
    empty = disc & domains.ball([5.0, 0.0], 1.0)
    apart = disc & domains.ball([1.9, 1.9], 1.0)
    rows = [
        (lambda: disc.distance(jnp.zeros(3)), ValueError, r"shape \(2,\), got \(3,\)"),
        (lambda: disc.distance("a"), TypeError, "distance: x must be an array"),
        (lambda: disc.contains(jnp.zeros(2)), ValueError, "contains: points must be"),
        (lambda: disc.sample(0, 3), TypeError, "sample: key must be one key"),
        (
            lambda: jax.jit(lambda k: disc.sample(k, 3))(key),
            TypeError,
            "sample: key must be known",
        ),
        (lambda: disc.sample(key, 0), ValueError, "sample: num must be"),
        (lambda: disc.sobol(1.5), ValueError, "sobol: num must be a whole number"),
        (lambda: disc.sobol(1, seed=-1), ValueError, "sobol: seed must be"),
        (lambda: disc.boundary(0), ValueError, "boundary: num must be"),
        (lambda: plane.sobol(3), ValueError, "unbounded; intersect it"),
        (lambda: empty.boundary(3), ValueError, "boundary: the domain is empty"),
        (lambda: apart.sobol(9), ValueError, "empty, or too thin to be met"),
        (lambda: disc & 1.0, TypeError, "a Domain combines with another, got 1.0"),
        (
            lambda: disc | domains.box([0.0], [1.0]),
            ValueError,
            "of 2 inputs does not combine with one of 1",
        ),
        (lambda: domains.ball([], 1.0), ValueError, "ball: center"),
        (lambda: domains.box([0.0], [0.0]), ValueError, "corners lower < upper"),
        (lambda: domains.half_space([0.0], 1.0), ValueError, "must not be zero"),
        (lambda: domains.polygon(ELL[:2]), ValueError, r"\(n, 2\), n >= 3"),
        (lambda: domains.polygon([ELL[0], *ELL]), ValueError, "repeat one another"),
        (
            lambda: domains.polygon([[0, 0], [1, 1], [1, 0], [0, 1]]),
            ValueError,
            "edges that cross or touch",
        ),
        (
            lambda: domains.implicit(lambda x: x, [0.0], [1.0]).distance(jnp.ones(1)),
            ValueError,
            "implicit: function of x must be",
        ),
    ]
    assert_refused(rows)
