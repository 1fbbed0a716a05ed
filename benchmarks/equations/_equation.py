"""Differential equations with their conditions and solutions.

A field u maps one point x (d,) to () or (m,). Time, where there is one, is the last input.
An extension of boundary values into the domain uses these values alone, and never the
solution.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcon as jc

Field = Callable[[jax.Array], jax.Array]
Residual = Callable[[Field, jax.Array], jax.Array]
# (random generator, number) -> points (n, d).
Sampler = Callable[[np.random.Generator, int], np.ndarray]
PI = np.pi


class Equation(NamedTuple):
    """Differential equation on a box, or on a part of one.

    Attributes:
        lower: corner of the box, (d,).
        upper: the other, (d,).
        residuals: name: (u, x) -> (), zero inside.
        conditions: name: points of the condition, and (u, x) -> (), zero there.
        solution: points (n, d) -> (n,) or (n, m).
        built: constructions that keep conditions exactly, the first one innermost.
        inputs: of the network inside them.
        outputs: m, or None for a scalar.
        left: names of the conditions that `built` does not keep.
        evolution: whether the last input is time.
        goal: relative L2 error that was asked for, or None.
        inside: points (n, d) -> boolean (n,), for a part of the box; None for all.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    residuals: Mapping[str, Residual]
    conditions: Mapping[str, tuple[Sampler, Residual]]
    solution: Callable[[np.ndarray], np.ndarray]
    built: tuple[Any, ...]
    inputs: int
    outputs: int | None = None
    left: tuple[str, ...] = ()
    evolution: bool = False
    goal: float | None = None
    inside: Callable[[np.ndarray], np.ndarray] | None = None

    def network(self, width: int, depth: int) -> Any:
        """Builds a tanh network that keeps the conditions."""
        network = jc.layers.mlp(self.inputs, self.outputs, width=width, depth=depth)
        for construction in self.built:
            network = network.then(construction)
        return network

    def sample(self, seed: int, num: int) -> np.ndarray:
        """Draws a Sobol sequence inside, (num, d)."""
        count, found = num, np.zeros((0, len(self.lower)))
        while len(found) < num:
            found = np.asarray(
                jc.points.sobol(self.lower, self.upper, count, seed=seed), float
            )
            found = found if self.inside is None else found[self.inside(found)]
            count *= 2
        return found[:num]


def on_face(
    equation_lower: Any, equation_upper: Any, index: int, place: float
) -> Sampler:
    """Returns a sampler of one face of a box."""

    def sampler(rng: np.random.Generator, num: int) -> np.ndarray:
        points = rng.uniform(equation_lower, equation_upper, (num, len(equation_lower)))
        points[:, index] = place
        return points

    return sampler


def faces(lower: Any, upper: Any, dimensions: Any) -> Sampler:
    """Returns a sampler of all faces of a box across some inputs."""
    each = [
        on_face(lower, upper, i, place)
        for i in dimensions
        for place in (lower[i], upper[i])
    ]

    def sampler(rng: np.random.Generator, num: int) -> np.ndarray:
        share = -(-num // len(each))
        return np.concatenate([face(rng, share) for face in each])

    return sampler


def equals(value: Callable[[jax.Array], Any]) -> Residual:
    """Returns the residual of u = value."""
    return lambda u, x: u(x) - value(x)


def repeats(index: int, period: float, order: int = 0) -> Residual:
    """Returns the residual of u, or a derivative, being equal at both ends."""

    def at(u: Field, x: jax.Array) -> jax.Array:
        for _ in range(order):
            u = (lambda v: lambda z: jax.grad(v)(z)[index])(u)
        return u(x)

    return lambda u, x: at(u, x) - at(u, x.at[index].add(period))


def rate(value: Callable[[jax.Array], Any]) -> Residual:
    """Returns the residual of du/dt = value."""
    return lambda u, x: jax.grad(u)(x)[-1] - value(x)


def waves(x: Any, *numbers: float) -> Any:
    """Returns the product of sin(n pi x) over the inputs."""
    xp = np if isinstance(x, np.ndarray) else jnp
    product = 1.0
    for i, n in enumerate(numbers):
        product = product * xp.sin(n * PI * x[..., i])
    return product
