"""Constructions f = P + E N(s): a known function, a factor and a scale of the inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon._checks import check_number
from jaxcon.layers._certificates import TWICE, Certificate, Function, Gap, Guarantee
from jaxcon.layers._networks import MOST_UNITS, Apply, Construction, one_example
from jaxcon.layers._outputs import evaluated

Test = Callable[[Function, jax.Array, jax.Array], Gap]
Lift = Callable[[Function], Function]


@dataclass(frozen=True, eq=False)
class Condition(Construction):
    """Construction of which `conditions` can make one with others.

    Attributes:
        inputs: those at whose values it prescribes something.
        given: what it prescribes there, numbers or functions of x.
        scale: x -> s(x).
        factor: (x, N's output) -> E(x), () or of the output's shape.
        lift: known function -> a function P near it, with what is prescribed.
        check: refuses an x (d,) that does not fit.
        inside: x -> the nearest point of the range where it is meant to hold.
        forgets: whether its lift keeps nothing of the known function.
    """

    inputs: tuple[int, ...] = ()
    given: tuple[Any, ...] = ()
    scale: Function = lambda x: x
    factor: Callable[[jax.Array, jax.Array], jax.Array] = lambda x, like: x
    lift: Lift = lambda known: known
    check: Callable[[jax.Array], None] = lambda x: None
    inside: Function = lambda x: x
    forgets: bool = False


def prescribed(
    name: str,
    promises: tuple[Guarantee, ...],
    *,
    check: Callable[[jax.Array], None],
    scale: Function,
    factor: Callable[[jax.Array, jax.Array], jax.Array],
    lift: Lift,
    given: Sequence[Any],
    inputs: tuple[int, ...],
    **about: Any,
) -> Condition:
    """Makes the construction of its parts.

    Args:
        name: of the construction, for messages.
        promises: its guarantees.
        check: refuses an x (d,) that does not fit.
        scale: x -> s(x).
        factor: (x, N's output) -> E(x), () or of the output's shape.
        lift: see `Condition`; it is called with zero.
        given: what it prescribes, numbers or functions of x.
        inputs: see `Condition`.
        **about: the other fields of `Condition`.

    Returns:
        The construction.
    """

    def wrap(apply: Apply) -> Apply:
        def wrapped(params: Any, x: jax.Array) -> jax.Array:
            x = one_example(name, x)
            check(x)
            free = apply(params, scale(x))
            known = lift(zero_like(free))
            return known(x) + factor(x, free) * free

        return wrapped

    def carry(guarantee: Guarantee) -> Guarantee | None:
        # Numbers repeat themselves in any input, and so does what is made of them.
        periodic = guarantee.kind == "periodic" and not any(map(callable, given))
        return (
            guarantee if periodic and not set(inputs) & set(guarantee.inputs) else None
        )

    return Condition(
        wrap,
        Certificate(promises),
        carry,
        given=tuple(given),
        inputs=inputs,
        check=check,
        scale=scale,
        factor=factor,
        lift=lift,
        **about,
    )


def zero_like(y: jax.Array) -> Function:
    """Returns the function that is zero, of the shape of y."""
    return lambda x: jnp.zeros_like(y)


def check_index(name: str, index: Any) -> None:
    """Refuses what is no index of an input."""
    check_number(f"{name}: index", index, least=0, most=MOST_UNITS, whole=True)


def face(index: int, place: float) -> Function:
    """Returns the map that moves x to a given value of one input."""
    place = float(place)  # not of NumPy, whose float64 would widen what it meets
    return lambda x: x.at[index].set(place)


def between(index: int, lower: float, upper: float) -> Function:
    """Returns the map that moves one input into its range."""
    return lambda x: x.at[index].set(jnp.clip(x[index], lower, upper))


def value_and_slope(f: Callable[[jax.Array], Any], index: int, x: jax.Array) -> Any:
    """Returns a function and its derivative in one input, at x."""
    return jax.jvp(f, (x,), (jnp.zeros_like(x).at[index].set(1.0),))


def promise(
    statement: str, tests: Mapping[str, Test], inputs: tuple[int, ...] = ()
) -> Guarantee:
    """Makes the guarantee that something is prescribed."""
    return Guarantee(
        statement,
        kind="boundary",
        tests=tests,
        roundings=TWICE,
        size="what is prescribed and f's own terms",
        inputs=inputs,
    )


def largest(*terms: jax.Array) -> jax.Array:
    """Returns the sum of the terms' sizes, ()."""
    return jnp.sum(jnp.stack([jnp.max(jnp.abs(term)) for term in terms]))


def value_test(place: Function, value: Any) -> Test:
    """Returns the test of f = value at a place."""

    def test(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        there = place(x)
        found = f(there)
        wanted = evaluated("check", "what is prescribed", value, found, there)
        return Gap(jnp.max(jnp.abs(found - wanted)), largest(found, wanted))

    return test


def slope_test(
    place: Function,
    value: Any,
    index: int,
    width: float,
    *,
    sign: float = 1.0,
    coefficient: Any = None,
) -> Test:
    """Returns the test of sign df/dx_i + coefficient f = value at a place.

    Args:
        place: x -> the end, where x_i has one value.
        value: what is prescribed.
        index: i.
        width: the size of x_i, of which eps is lost where the end is rounded.
        sign: 1 or -1.
        coefficient: None for zero.

    Returns:
        The test.
    """

    def test(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        there = place(x)
        (value_there, found), (_, bend) = value_and_slope(
            lambda x: value_and_slope(f, index, x), index, there
        )
        wanted = evaluated("check", "what is prescribed", value, found, there)
        left = sign * found - wanted
        terms = [found, wanted, abs(width) * bend]
        if coefficient is not None:
            c = evaluated("check", "the coefficient", coefficient, found, there)
            left += c * value_there
            terms += [c * value_there, abs(width) * c * found]
        return Gap(jnp.max(jnp.abs(left)), largest(*terms))

    return test
