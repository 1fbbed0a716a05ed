"""Equations without time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcon as jc
from benchmarks.equations import _references as references
from benchmarks.equations._equation import (
    PI,
    Equation,
    Field,
    Residual,
    equals,
    faces,
    waves,
)
from jaxcon.derivatives import Laplacian, Partial, Value, derivatives


def poisson() -> Equation:
    """Poisson's equation on the unit square, u = sin(pi x) sin(pi y)."""
    low, high = (0.0, 0.0), (1.0, 1.0)
    return Equation(
        low,
        high,
        {
            "equation": lambda u, x: (
                jc.derivatives.laplacian(u)(x) + 2 * PI**2 * waves(x, 1, 1)
            )
        },
        {"edges": (faces(low, high, (0, 1)), equals(lambda x: 0.0))},
        lambda x: waves(x, 1, 1),
        (jc.layers.box_boundary(low, high, 0.0),),
        2,
        goal=1e-6,
    )


def poisson_10() -> Equation:
    """Laplace's equation on the unit cube of ten inputs, u = x0 x1 + ... + x8 x9.

    Values on the faces have no simple extension, so they stay conditions.
    """
    low, high = (0.0,) * 10, (1.0,) * 10

    def products(x: Any) -> Any:
        return (x[..., ::2] * x[..., 1::2]).sum(-1)

    return Equation(
        low,
        high,
        {"equation": lambda u, x: jc.derivatives.laplacian(u)(x)},
        {"faces": (faces(low, high, range(10)), equals(products))},
        products,
        (),
        10,
        left=("faces",),
        goal=1e-6,
    )


def helmholtz() -> Equation:
    """Helmholtz' equation on [-1, 1]^2, u = sin(pi x) sin(4 pi y)."""
    low, high = (-1.0, -1.0), (1.0, 1.0)

    def equation(u: Field, x: jax.Array) -> jax.Array:
        value, bend = derivatives(u, Value(), Laplacian())(x)
        return bend + value - (1 - 17 * PI**2) * waves(x, 1, 4)

    return Equation(
        low,
        high,
        {"equation": equation},
        {"edges": (faces(low, high, (0, 1)), equals(lambda x: 0.0))},
        lambda x: waves(x, 1, 4),
        (jc.layers.box_boundary(low, high, 0.0),),
        2,
        goal=1e-6,
    )


def kovasznay() -> Equation:
    """Kovasznay's flow behind a grid, Reynolds number 40: velocity and pressure.

    Pressure is free up to a constant, so it is compared without its mean.
    """
    low, high = (-0.5, -0.5), (1.0, 1.5)
    re = 40.0
    zeta = re / 2 - np.sqrt(re**2 / 4 + 4 * PI**2)

    def velocity(x: Any) -> Any:
        xp = np if isinstance(x, np.ndarray) else jnp
        decay, angle = xp.exp(zeta * x[..., 0]), 2 * PI * x[..., 1]
        return xp.stack(
            [1 - decay * xp.cos(angle), zeta / (2 * PI) * decay * xp.sin(angle)], -1
        )

    def solution(x: np.ndarray) -> np.ndarray:
        pressure = (1 - np.exp(2 * zeta * x[:, :1])) / 2
        return np.concatenate([velocity(x), pressure], 1)

    def fields(u: Field, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return derivatives(u, Value(), jc.derivatives.Jacobian(), Laplacian())(x)

    def momentum(index: int) -> Residual:
        def residual(u: Field, x: jax.Array) -> jax.Array:
            value, slope, bend = fields(u, x)
            carried = jnp.sum(value[:2] * slope[index])
            return carried + slope[2, index] - bend[index] / re

        return residual

    def continuity(u: Field, x: jax.Array) -> jax.Array:
        slope = jc.derivatives.jacobian(u)(x)
        return slope[0, 0] + slope[1, 1]

    def inwards(x: jax.Array) -> jax.Array:
        """Extends the velocity on the edges by Coons' patch."""
        s = (x[0] - low[0]) / (high[0] - low[0])
        t = (x[1] - low[1]) / (high[1] - low[1])

        def at(a: Any, b: Any) -> jax.Array:
            return velocity(
                jnp.stack([jnp.asarray(a, x.dtype), jnp.asarray(b, x.dtype)])
            )

        across = (1 - s) * at(low[0], x[1]) + s * at(high[0], x[1])
        along = (1 - t) * at(x[0], low[1]) + t * at(x[0], high[1])
        below = (1 - s) * at(low[0], low[1]) + s * at(high[0], low[1])
        above = (1 - s) * at(low[0], high[1]) + s * at(high[0], high[1])
        return across + along - (1 - t) * below - t * above

    def keep(y: jax.Array, x: jax.Array) -> jax.Array:
        s = (x[0] - low[0]) / (high[0] - low[0])
        t = (x[1] - low[1]) / (high[1] - low[1])
        away = 16 * s * (1 - s) * t * (1 - t)
        return jnp.concatenate([inwards(x) + away * y[:2], y[2:]])

    edges = faces(low, high, (0, 1))
    return Equation(
        low,
        high,
        {"x": momentum(0), "y": momentum(1), "continuity": continuity},
        {
            "u": (edges, lambda u, x: u(x)[0] - velocity(x)[0]),
            "v": (edges, lambda u, x: u(x)[1] - velocity(x)[1]),
        },
        solution,
        (jc.layers.output(keep),),
        2,
        outputs=3,
        goal=1e-6,
    )


def plate() -> Equation:
    """The biharmonic equation of a clamped plate, u = sin^2(pi x) sin^2(pi y)."""
    low, high = (0.0, 0.0), (1.0, 1.0)

    def solution(x: Any) -> Any:
        return waves(x, 1, 1) ** 2

    def source(x: jax.Array) -> jax.Array:
        one, two = (jnp.cos(2 * PI * x[i]) for i in (0, 1))
        # sin^2 = (1 - cos 2) / 2, whose even derivatives are multiples of the cosine.
        bends = [-8 * PI**4 * one * (1 - two) / 2, -8 * PI**4 * two * (1 - one) / 2]
        return bends[0] + bends[1] + 2 * (2 * PI**2) ** 2 * one * two

    def equation(u: Field, x: jax.Array) -> jax.Array:
        parts = derivatives(
            u,
            Partial((0, 0, 0, 0)),
            Partial((1, 1, 1, 1)),
            Partial((0, 0, 1, 1)),
        )(x)
        return parts[0] + parts[1] + 2 * parts[2] - source(x)

    def keep(y: jax.Array, x: jax.Array) -> jax.Array:
        away = 16 * x[0] * (1 - x[0]) * x[1] * (1 - x[1])
        return away**2 * y

    edges = faces(low, high, (0, 1))

    def across(u: Field, x: jax.Array) -> jax.Array:
        vertical = (x[0] == 0) | (x[0] == 1)
        slope = jax.grad(u)(x)
        return jnp.where(vertical, slope[0], slope[1])

    return Equation(
        low,
        high,
        {"equation": equation},
        {"edges": (edges, equals(lambda x: 0.0)), "slopes": (edges, across)},
        solution,
        (jc.layers.output(keep),),
        2,
        goal=1e-6,
    )


def l_shape() -> Equation:
    """Poisson's equation -lap u = 1 on an L-shape, singular at its inner corner."""
    low, high = (-1.0, -1.0), (1.0, 1.0)
    domain = jc.domains.box(low, high) - jc.domains.box((0.0, 0.0), (2.0, 2.0))

    def edges(rng: np.random.Generator, num: int) -> np.ndarray:
        seed = int(rng.integers(2**31))
        return np.asarray(domain.boundary(num, seed=seed).points, float)

    return Equation(
        low,
        high,
        {"equation": lambda u, x: jc.derivatives.laplacian(u)(x) + 1},
        {"edges": (edges, equals(lambda x: 0.0))},
        references.l_shape(),
        (jc.layers.dirichlet(domain, 0.0),),
        2,
        inside=lambda x: ~np.all(x > 0, axis=1),
    )
