"""Certificates of layers: guarantees in words, with the tests that try to break them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._display import html_table, text_table

Function = Callable[[jax.Array], jax.Array]

# Roundings of a formula that is evaluated in two programs, which may differ.
TWICE = 4.0


class Gap(NamedTuple):
    """Amount by which a claim fails at a point, with the size of the terms behind it.

    The claim holds there if excess <= roundings * eps * size (see `Guarantee`).
    """

    excess: jax.Array  # (), above zero where the claim fails
    size: jax.Array  # (), of the same units


Test = Callable[[Function, jax.Array, jax.Array], Gap]


@dataclass(frozen=True, eq=False)
class Guarantee:
    """Claim about a function f of one example, for any parameters.

    Attributes:
        statement: the claim, in words and symbols.
        kind: "within", "slope", "convex", "lipschitz", "value", …: output layers
            read it to decide whether the claim survives them.
        tests: by name, each (f, x, y) -> `Gap` for two points (d,) of the domain, whether
            near or far from each other; tests of one point ignore y.
        roundings: c. Each test holds to c machine epsilons of its size.
        size: the meaning of that size, in words.
        constant: the claim's number or numbers.
        inputs: the inputs that the claim is about; () stands for all.
        domain: corners (lower, upper) of the box where the claim holds; None: everywhere.
        exact: a test of the parameters alone, on the host, e.g. by singular values.
    """

    statement: str
    kind: str
    tests: Mapping[str, Test]
    roundings: float
    size: str
    constant: Any = None
    inputs: tuple[int, ...] = ()
    domain: tuple[Any, Any] | None = None
    exact: Callable[[], Gap] | None = None

    def tolerance(self, dtype: Any, size: Any = 1.0) -> Any:
        """Returns the error that rounding alone may cause, c * eps(dtype) * size."""
        return self.roundings * jnp.finfo(dtype).eps * size

    def __str__(self) -> str:
        where = "" if self.domain is None else " inside the domain"
        return f"{self.statement}{where}, to {self.roundings:g} eps of {self.size}"


class Certificate(NamedTuple):
    """All guarantees of a layer, with a caveat about floating point.

    It prints as a table of the guarantees, with the caveat below.

    Attributes:
        guarantees: none for a network that may do anything.
        caveat: effects of rounding that the tolerances do not show.
    """

    guarantees: tuple[Guarantee, ...] = ()
    caveat: str = ""

    def __str__(self) -> str:
        table = text_table(self._rows()) or "no guarantees"
        return "\n".join([table, *wrap(self.caveat, 88)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        table = html_table(self._rows()) or "<p>no guarantees</p>"
        return table + (f"<p>{escape(self.caveat)}</p>" if self.caveat else "")

    def _rows(self) -> list[dict[str, str]]:
        return [
            {
                "guarantee": one.statement,
                "where": "everywhere" if one.domain is None else "inside the domain",
                "tolerance": f"{one.roundings:g} eps of {one.size}"
                if one.roundings
                else "exact",
            }
            for one in self.guarantees
        ]


def nothing(x: jax.Array) -> jax.Array:
    """Returns zero, the size of inner terms where none exceed the value itself."""
    del x
    return jnp.zeros(())


def holds(
    statement: str,
    gap: Callable[[jax.Array, jax.Array], Gap],
    *,
    roundings: float,
    size: str,
    **about: Any,
) -> Guarantee:
    """Makes a guarantee about the value alone.

    Args:
        statement: the claim.
        gap: (y, x) -> `Gap`, for y = f(x).
        roundings: c.
        size: the gap's size, in words.
        **about: the other fields of `Guarantee`.

    Returns:
        The guarantee, of the kind "value" unless said otherwise.
    """

    def value(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        return gap(f(x), x)

    about = {"kind": "value", **about}
    tests = {"value": value}
    return Guarantee(statement, tests=tests, roundings=roundings, size=size, **about)


def within(
    lower: Any, upper: Any, *, roundings: float = 0.0, domain: Any = None
) -> Guarantee:
    r"""Makes the guarantee :math:`l \le f(x) \le u`.

    Args:
        lower: l, () or (m,), or a function of x that returns it.
        upper: u, likewise.
        roundings: c.
        domain: where it holds.

    Returns:
        The guarantee.
    """

    def gap(y: jax.Array, x: jax.Array) -> Gap:
        low, high = (
            jnp.asarray(bound(x) if callable(bound) else bound, y.dtype)
            for bound in (lower, upper)
        )
        finite = [jnp.where(jnp.isfinite(b), jnp.abs(b), 0.0) for b in (low, high)]
        size = jnp.maximum(jnp.abs(y), jnp.maximum(*finite))
        return Gap(jnp.max(jnp.maximum(low - y, y - high)), jnp.max(size))

    low = "l(x)" if callable(lower) else str(np.asarray(lower))
    high = "u(x)" if callable(upper) else str(np.asarray(upper))
    return holds(
        f"{low} <= f(x) <= {high}",
        gap,
        roundings=roundings,
        size="the value and the bounds",
        kind="within",
        constant=(lower, upper),
        domain=domain,
    )


def slope(
    index: int,
    lower: Any = -jnp.inf,
    upper: Any = jnp.inf,
    *,
    roundings: float,
    slope_size: Any = 0.0,
    magnitude: Function = nothing,
    domain: Any = None,
) -> Guarantee:
    r"""Makes the guarantee :math:`l \le \partial f / \partial x_i \le u`, of each output.

    Args:
        index: i.
        lower: l (), in units of f per unit of input i.
        upper: u (), likewise.
        roundings: c.
        slope_size: size of the largest terms that make up the slope, ().
        magnitude: x -> (), size of the largest terms that make up f(x), where it is not
            |f(x)| itself: terms that may cancel.
        domain: where it holds.

    Returns:
        The guarantee. Differences are taken along input i, over whatever distance.
    """

    def size(*terms: Any) -> jax.Array:
        # An infinite bound has no rounding.
        finite = [jnp.max(jnp.where(jnp.isfinite(t), jnp.abs(t), 0.0)) for t in terms]
        return jnp.sum(jnp.stack(finite))

    def derivative(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        tangent = jnp.zeros_like(x).at[index].set(1.0)
        slopes = jax.jvp(f, (x,), (tangent,))[1]
        excess = jnp.max(jnp.maximum(lower - slopes, slopes - upper))
        return Gap(excess, size(slopes, lower, upper, slope_size))

    def difference(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        other = x.at[index].set(y[index])
        low, high = jnp.minimum(x[index], y[index]), jnp.maximum(x[index], y[index])
        first, second = f(x.at[index].set(low)), f(x.at[index].set(high))
        rise, run = second - first, high - low
        least, most = _times(lower, run), _times(upper, run)
        excess = jnp.max(jnp.maximum(least - rise, rise - most))
        inner = magnitude(x) + magnitude(other)
        return Gap(excess, size(first, second, least, most, inner))

    return Guarantee(
        _slope_statement(index, lower, upper),
        kind="slope",
        tests={"derivative": derivative, "difference": difference},
        roundings=roundings,
        size="the slope's and the value's terms",
        constant=(lower, upper),
        inputs=(index,),
        domain=domain,
    )


def _times(bound: Any, run: jax.Array) -> jax.Array:
    """Returns bound * run, or an infinite bound itself, without NaN at run = 0."""
    finite = jnp.isfinite(bound)
    return jnp.where(finite, jnp.where(finite, bound, 0.0) * run, bound)


def _slope_statement(index: int, lower: Any, upper: Any) -> str:
    name = f"df/dx{index}"
    if np.isfinite(lower) and np.isfinite(upper):
        return f"{float(lower):g} <= {name} <= {float(upper):g}"
    if np.isfinite(lower):
        return f"{name} >= {float(lower):g}"
    return f"{name} <= {float(upper):g}"


def curved(
    inputs: Sequence[int],
    sign: int = 1,
    *,
    roundings: float,
    magnitude: Function = nothing,
    curvature_size: Function = nothing,
    domain: Any = None,
) -> Guarantee:
    r"""Makes the guarantee that f is convex (or concave) in some of its inputs, jointly.

    Its Hessian in them has no eigenvalue below zero, and
    :math:`f((x + y)/2) \le (f(x) + f(y))/2` for points that differ in them alone.

    Args:
        inputs: their indices.
        sign: 1 for convex, -1 for concave.
        roundings: c.
        magnitude: x -> (), size of the largest terms that make up f(x).
        curvature_size: x -> (), size of the largest terms of the Hessian, beyond its norm.
        domain: where it holds.

    Returns:
        The guarantee; f is scalar.
    """
    chosen = np.asarray(inputs)

    def derivative(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        hessian = sign * jax.hessian(lambda part: f(x.at[chosen].set(part)))(x[chosen])
        least = jnp.linalg.eigvalsh((hessian + hessian.T) / 2)[0]
        return Gap(-least, jnp.linalg.norm(hessian) + curvature_size(x))

    def difference(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        other = x.at[chosen].set(y[chosen])
        middle = x.at[chosen].set((x[chosen] + y[chosen]) / 2)
        ends = f(x), f(other)
        excess = sign * (f(middle) - (ends[0] + ends[1]) / 2)
        inner = magnitude(x) + magnitude(other)
        return Gap(excess, jnp.abs(ends[0]) + jnp.abs(ends[1]) + inner)

    word = "convex" if sign > 0 else "concave"
    return Guarantee(
        f"f is {word} in inputs {', '.join(map(str, inputs))}",
        kind=word,
        tests={"derivative": derivative, "difference": difference},
        roundings=roundings,
        size="the Hessian's and the value's terms",
        constant=0.0,
        inputs=tuple(inputs),
        domain=domain,
    )


def lipschitz(
    constant: Any,
    *,
    roundings: float,
    magnitude: Function = nothing,
    exact: Callable[[], Gap] | None = None,
) -> Guarantee:
    r"""Makes the guarantee :math:`\|f(x) - f(y)\|_2 \le L \|x - y\|_2`.

    Args:
        constant: L, in units of f per unit of input.
        roundings: c.
        magnitude: x -> (), size of the largest terms that make up f(x).
        exact: see `Guarantee`.

    Returns:
        The guarantee.
    """

    def derivative(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        jacobian = jnp.atleast_2d(jax.jacobian(f)(x))
        norm = jnp.linalg.norm(jacobian, 2)
        return Gap(norm - constant, norm + constant)

    def difference(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        first, second = jnp.atleast_1d(f(x)), jnp.atleast_1d(f(y))
        reach = constant * jnp.linalg.norm(x - y)
        size = jnp.linalg.norm(first) + jnp.linalg.norm(second) + reach
        inner = magnitude(x) + magnitude(y)
        return Gap(jnp.linalg.norm(first - second) - reach, size + inner)

    return Guarantee(
        f"|f(x) - f(y)| <= {float(constant):g} |x - y|",
        kind="lipschitz",
        tests={"derivative": derivative, "difference": difference},
        roundings=roundings,
        size="the values' terms",
        constant=constant,
        exact=exact,
    )
