"""Equations whose last input is time."""

from collections.abc import Callable
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
    on_face,
    rate,
    repeats,
)
from jaxcon.derivatives import Gradient, Partial, Value, derivatives


def klein_gordon() -> Equation:
    """Klein and Gordon's equation, u = x cos(5 pi t) + (x t)^3 on the unit square."""
    low, high = (0.0, 0.0), (1.0, 1.0)

    def solution(x: Any) -> Any:
        xp = np if isinstance(x, np.ndarray) else jnp
        return x[..., 0] * xp.cos(5 * PI * x[..., 1]) + (x[..., 0] * x[..., 1]) ** 3

    def end(x: Any) -> Any:
        return jnp.cos(5 * PI * x[1]) + x[1] ** 3

    def source(x: jax.Array) -> jax.Array:
        place, time = x[0], x[1]
        u = solution(x)
        curved = -25 * PI**2 * place * jnp.cos(5 * PI * time)
        return curved + 6 * place**3 * time - 6 * place * time**3 + u**3

    def equation(u: Field, x: jax.Array) -> jax.Array:
        value, tt, xx = derivatives(u, Value(), Partial((1, 1)), Partial((0, 0)))(x)
        return tt - xx + value**3 - source(x)

    # The values of the ends carried inwards along x; they start as x does, at rest.
    return Equation(
        low,
        high,
        {"equation": equation},
        {
            "left": (on_face(low, high, 0, 0.0), equals(lambda x: 0.0)),
            "right": (on_face(low, high, 0, 1.0), equals(end)),
            "start": (on_face(low, high, 1, 0.0), equals(lambda x: x[0])),
            "rate": (on_face(low, high, 1, 0.0), rate(lambda x: 0.0)),
        },
        solution,
        (
            jc.layers.box_boundary(low, high, 0.0, faces={0: "both"}),
            jc.layers.initial_value(1, 0.0, 0.0, 0.0),
            added(lambda x: x[0] * end(x)),
        ),
        2,
        evolution=True,
        goal=1e-6,
    )


def added(value: Callable[[jax.Array], Any]) -> Any:
    """Returns the construction that adds a function of x."""
    return jc.layers.output(lambda y, x: y + value(x))


def burgers() -> Equation:
    """Burgers' equation with nu = 0.01 / pi from -sin(pi x), which forms a layer."""
    low, high = (-1.0, 0.0), (1.0, 1.0)

    def equation(u: Field, x: jax.Array) -> jax.Array:
        value, slope, bend = derivatives(u, Value(), Gradient(), Partial((0, 0)))(x)
        return slope[1] + value * slope[0] - 0.01 / PI * bend

    return Equation(
        low,
        high,
        {"equation": equation},
        {
            "ends": (faces(low, high, (0,)), equals(lambda x: 0.0)),
            "start": (
                on_face(low, high, 1, 0.0),
                equals(lambda x: -jnp.sin(PI * x[0])),
            ),
        },
        references.burgers(),
        (
            jc.layers.box_boundary(low, high, 0.0, faces={0: "both"}),
            jc.layers.initial_value(1, 0.0, lambda x: -jnp.sin(PI * x[0])),
        ),
        2,
        evolution=True,
        goal=1e-4,
    )


def _periodic(
    low: Any,
    high: Any,
    equation: Residual,
    start: Callable[[Any], Any],
    solution: Any,
    goal: float | None,
    smooth: int = 1,
) -> Equation:
    """Returns an evolution whose first input repeats."""
    period = high[0] - low[0]
    ends = on_face(low, high, 0, low[0])
    return Equation(
        low,
        high,
        {"equation": equation},
        {
            "start": (on_face(low, high, 1, 0.0), equals(lambda x: start(x[0]))),
            **{
                f"repeats {order}": (ends, repeats(0, period, order))
                for order in range(smooth)
            },
        },
        solution,
        (
            jc.layers.periodic({0: period}),
            jc.layers.initial_value(1, 0.0, lambda x: start(x[0])),
        ),
        3,
        evolution=True,
        goal=goal,
    )


def allen_cahn() -> Equation:
    """Allen and Cahn's equation from x^2 cos(pi x), which forms plateaus.

    The start has a kink where it repeats, and so has what is built around it.
    """

    def equation(u: Field, x: jax.Array) -> jax.Array:
        value, slope, bend = derivatives(u, Value(), Partial((1,)), Partial((0, 0)))(x)
        return slope - 1e-4 * bend - 5 * value + 5 * value**3

    return _periodic(
        (-1.0, 0.0),
        (1.0, 1.0),
        equation,
        lambda x: x**2 * jnp.cos(PI * x),
        references.allen_cahn(),
        1e-4,
    )


def convection(speed: float) -> Equation:
    """Convection of a sine at a given speed."""

    def equation(u: Field, x: jax.Array) -> jax.Array:
        along = jnp.array([speed, 1.0])
        return jc.derivatives.directional_derivative(u, along)(x)

    def solution(x: np.ndarray) -> np.ndarray:
        return np.sin(x[:, 0] - speed * x[:, 1])

    return _periodic((0.0, 0.0), (2 * PI, 1.0), equation, jnp.sin, solution, 1e-3)


def reaction() -> Equation:
    """Logistic growth at rate 5 from a Gaussian."""
    width = PI / 4

    def bell(x: Any, xp: Any = jnp) -> Any:
        return xp.exp(-((x - PI) ** 2) / (2 * width**2))

    def equation(u: Field, x: jax.Array) -> jax.Array:
        value, slope = derivatives(u, Value(), Partial((1,)))(x)
        return slope - 5 * value * (1 - value)

    def solution(x: np.ndarray) -> np.ndarray:
        start, grown = bell(x[:, 0], np), np.exp(5 * x[:, 1])
        return start * grown / (start * grown + 1 - start)

    return _periodic((0.0, 0.0), (2 * PI, 1.0), equation, bell, solution, 1e-3)


def wave() -> Equation:
    """The wave equation at speed 2, of two standing waves."""
    low, high = (0.0, 0.0), (1.0, 1.0)

    def start(x: jax.Array) -> jax.Array:
        return jnp.sin(PI * x[0]) + 0.5 * jnp.sin(4 * PI * x[0])

    def solution(x: np.ndarray) -> np.ndarray:
        place, time = x.T
        slow = np.sin(PI * place) * np.cos(2 * PI * time)
        return slow + 0.5 * np.sin(4 * PI * place) * np.cos(8 * PI * time)

    def equation(u: Field, x: jax.Array) -> jax.Array:
        tt, xx = derivatives(u, Partial((1, 1)), Partial((0, 0)))(x)
        return tt - 4 * xx

    return Equation(
        low,
        high,
        {"equation": equation},
        {
            "ends": (faces(low, high, (0,)), equals(lambda x: 0.0)),
            "start": (on_face(low, high, 1, 0.0), equals(start)),
            "rate": (on_face(low, high, 1, 0.0), rate(lambda x: 0.0)),
        },
        solution,
        (
            jc.layers.box_boundary(low, high, 0.0, faces={0: "both"}),
            jc.layers.initial_value(1, 0.0, start, 0.0),
        ),
        2,
        evolution=True,
    )


def korteweg_de_vries() -> Equation:
    """Korteweg and de Vries' equation from a cosine, which breaks into solitons."""

    def equation(u: Field, x: jax.Array) -> jax.Array:
        value, slope, third = derivatives(u, Value(), Gradient(), Partial((0, 0, 0)))(x)
        return slope[1] + value * slope[0] + 0.022**2 * third

    return _periodic(
        (-1.0, 0.0),
        (1.0, 1.0),
        equation,
        lambda x: jnp.cos(PI * x),
        references.korteweg_de_vries(),
        None,
        smooth=3,
    )


def kuramoto_sivashinsky() -> Equation:
    """Kuramoto and Sivashinsky's equation from -sin(pi x), over a short time."""

    def equation(u: Field, x: jax.Array) -> jax.Array:
        value, slope, bend, fourth = derivatives(
            u, Value(), Gradient(), Partial((0, 0)), Partial((0, 0, 0, 0))
        )(x)
        return slope[1] + 5 * value * slope[0] + 0.5 * bend + 0.005 * fourth

    return _periodic(
        (-1.0, 0.0),
        (1.0, 0.5),
        equation,
        lambda x: -jnp.sin(PI * x),
        references.kuramoto_sivashinsky(),
        None,
        smooth=4,
    )


def robin() -> Equation:
    """The heat equation with u_n + u = 0 at both ends, in its slowest mode."""
    low, high = (0.0, 0.0), (1.0, 1.0)
    # The first root of 2 m cos(m) = (m^2 - 1) sin(m).
    m = 1.30654237418880621

    def mode(place: Any, xp: Any = jnp) -> Any:
        return xp.cos(m * place) + xp.sin(m * place) / m

    def solution(x: np.ndarray) -> np.ndarray:
        return np.exp(-(m**2) * x[:, 1]) * mode(x[:, 0], np)

    def equation(u: Field, x: jax.Array) -> jax.Array:
        slope, bend = derivatives(u, Partial((1,)), Partial((0, 0)))(x)
        return slope - bend

    def cools(sign: float) -> Residual:
        return lambda u, x: sign * jax.grad(u)(x)[0] + u(x)

    start = equals(lambda x: mode(x[0]))
    return Equation(
        low,
        high,
        {"equation": equation},
        {
            "left": (on_face(low, high, 0, 0.0), cools(-1.0)),
            "right": (on_face(low, high, 0, 1.0), cools(1.0)),
            "start": (on_face(low, high, 1, 0.0), start),
        },
        solution,
        (
            jc.layers.conditions(
                jc.layers.initial_value(1, 0.0, lambda x: mode(x[0])),
                jc.layers.robin(0, 0.0, 1.0, left=(1.0, 0.0), right=(1.0, 0.0)),
            ),
        ),
        2,
        evolution=True,
    )
