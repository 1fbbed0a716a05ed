"""Residuals that are at most zero, as claims that can be proved."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import (
    check_array,
    check_choice,
    check_function,
    check_number,
    described,
)
from jaxcon.derivatives import Gradient, Partial
from jaxcon.shapes import Pointwise

Apply = Callable[[Any, jax.Array], jax.Array]
Domain = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Claim:
    """Residual of a function and of its derivatives that is at most zero.

    Attributes:
        statement: the claim, in symbols.
        apply: (params, x (d,)) -> () or (m,).
        wanted: the quantities that the residual reads.
        residual: (x (d,), *quantities) -> arrays, each entry at most zero.
        framed: the residual is one symmetric matrix; its eigenvalues are to be
            nonnegative instead.
    """

    statement: str
    apply: Apply
    wanted: tuple[Any, ...]
    residual: Callable[..., Any]
    framed: bool = False


def between(constraint: Any, lower: float = -np.inf, upper: float = np.inf) -> Claim:
    r"""Claims that a residual lies between two numbers: :math:`l \le r(x) \le u`.

    Args:
        constraint: a `jaxcon.shapes.Pointwise`.
        lower: l, in units of the residual.
        upper: u, in the same units.

    Returns:
        A claim for `verify`.

    Raises:
        TypeError: the constraint is another one.
        ValueError: both numbers are infinite.

    Example:
        >>> import jaxcon as jc
        >>> root = jc.shapes.equals(lambda p, x: x[0] ** 2, 0.5)
        >>> near = jc.certify.between(root, -0.6, 0.6)
        >>> print(jc.certify.verify(near, [0.0], [1.0]).holds)
        True
    """
    one = _pointwise(constraint)
    for name, bound in (("lower", lower), ("upper", upper)):
        check_number(f"between: {name}", bound, finite=False)
    if not (np.isfinite(lower) or np.isfinite(upper)):
        raise ValueError(
            "between got two infinite bounds; one of them must be a number"
        )

    def residual(x: jax.Array, *found: jax.Array) -> list[jax.Array]:
        r = _changed(one, x, *found)
        parts = [r - upper] if np.isfinite(upper) else []
        return parts + ([lower - r] if np.isfinite(lower) else [])

    words = f"{lower:g} <= r(x)" if np.isfinite(lower) else "r(x)"
    words += f" <= {upper:g}" if np.isfinite(upper) else ""
    return Claim(words, one.apply, one.wanted, residual)


def monotone(apply: Apply, signs: Mapping[int, int]) -> Claim:
    r"""Claims that a function rises or falls in several inputs at once.

    Args:
        apply: (params, x (d,)) -> ().
        signs: by input, 1 where it rises, -1 where it falls.

    Returns:
        A claim for `verify`: :math:`s_i \, \partial f / \partial x_i \ge 0` for each.

    Raises:
        TypeError: an argument is of another type.
        ValueError: there is no input, or a sign is neither 1 nor -1.

    Example:
        >>> import jaxcon as jc
        >>> rises = jc.certify.monotone(lambda p, x: x[0] - x[1], {0: 1, 1: -1})
        >>> print(jc.certify.verify(rises, [0.0, 0.0], [1.0, 1.0]).holds)
        True
    """
    check_function("monotone: apply", apply, "(params, x (d,)) -> ()")
    if not isinstance(signs, Mapping) or not signs:
        raise TypeError(
            f"monotone got signs={described(signs)}; pass a dict, e.g. {{0: 1}}"
        )
    for index, sign in signs.items():
        check_number("monotone: an input", index, least=0, whole=True)
        check_choice("monotone: a sign", sign, (1, -1))
    chosen = np.array(list(signs))
    factors = np.array([signs[i] for i in signs])

    def residual(x: jax.Array, slope: jax.Array) -> jax.Array:
        if chosen.max() >= x.size:
            raise ValueError(f"monotone names input {chosen.max()}; x has {x.size}")
        return -slope[chosen] * jnp.asarray(factors, x.dtype)

    words = [f"df/dx{i} {'>=' if s > 0 else '<='} 0" for i, s in signs.items()]
    return Claim(", ".join(words), apply, (Gradient(),), residual)


def convex(apply: Apply, inputs: Sequence[int], sign: int = 1) -> Claim:
    r"""Claims that a function is convex, or concave, in several inputs jointly.

    The smallest eigenvalue of the Hessian H in these inputs is nonnegative. With the
    eigenvectors Q of H in the middle of a box, that is so where
    :math:`G = Q^T H Q` has :math:`G_{ii} \ge \sum_{j \ne i} |G_{ij}|` (Gershgorin, with
    Sylvester's law of inertia for a Q that need not be orthogonal).

    Args:
        apply: (params, x (d,)) -> ().
        inputs: their numbers.
        sign: 1 for convex, -1 for concave.

    Returns:
        A claim for `verify`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: there is no input, one is named twice, or the sign is another.

    Example:
        >>> import jaxcon as jc
        >>> bowl = jc.certify.convex(
        ...     lambda p, x: x[0] ** 2 + x[0] * x[1] + x[1] ** 2, [0, 1]
        ... )
        >>> print(jc.certify.verify(bowl, [-1.0, -1.0], [1.0, 1.0]).holds)
        True
    """
    check_function("convex: apply", apply, "(params, x (d,)) -> ()")
    listed = list(inputs) if isinstance(inputs, range) else inputs
    chosen = np.asarray(check_array("convex: inputs", listed, "(n,)"), int)
    for index in chosen:
        check_number("convex: an input", int(index), least=0, whole=True)
    if not chosen.size or len(set(chosen.tolist())) < chosen.size:
        raise ValueError(
            f"convex got inputs {chosen.tolist()}; name at least one, each once"
        )
    check_choice("convex: sign", sign, (1, -1))

    size = len(chosen)
    pairs = [(i, j) for i in range(size) for j in range(i, size)]

    def residual(x: jax.Array, *second: jax.Array) -> jax.Array:
        del x
        found = dict(zip(pairs, second))
        rows = [
            jnp.stack([found[min(i, j), max(i, j)] for j in range(size)])
            for i in range(size)
        ]
        return sign * jnp.stack(rows)

    word = "convex" if sign > 0 else "concave"
    numbers = ", ".join(map(str, chosen.tolist()))
    statement = f"f is {word} in inputs {numbers}"
    wanted = tuple(Partial((int(chosen[i]), int(chosen[j]))) for i, j in pairs)
    return Claim(statement, apply, wanted, residual, framed=True)


def ball(centre: Any, radius: float) -> Domain:
    r"""Returns the domain :math:`\|x - c\|_2 \le r`.

    Args:
        centre: c, (d,).
        radius: r > 0, in units of x.

    Returns:
        A function of x that is at most zero inside, for ``within=``.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.certify.ball([0.0, 0.0], 2.0)(jnp.array([1.0, 1.0])))
        -2.0
    """
    middle = np.asarray(check_array("ball: centre", centre, "(d,)"))
    check_number("ball: radius", radius, above=0)

    def outside(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(x - jnp.asarray(middle, x.dtype))) - radius**2

    return outside


def half_space(normal: Any, offset: float) -> Domain:
    r"""Returns the domain :math:`n \cdot x \le b`.

    Args:
        normal: n, (d,).
        offset: b.

    Returns:
        A function of x that is at most zero inside, for ``within=``. A list of them is
        their intersection.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.certify.half_space([1.0, 1.0], 1.0)(jnp.array([0.0, 0.5])))
        -0.5
    """
    direction = np.asarray(check_array("half_space: normal", normal, "(d,)"))
    check_number("half_space: offset", offset)

    def outside(x: jax.Array) -> jax.Array:
        return jnp.sum(x * jnp.asarray(direction, x.dtype)) - offset

    return outside


def simplex(total: float = 1.0) -> Domain:
    r"""Returns the domain :math:`\sum_i x_i \le c`, the simplex in a box with corner 0.

    Args:
        total: c.

    Returns:
        A function of x that is at most zero inside, for ``within=``.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.certify.simplex()(jnp.array([0.25, 0.25])))
        -0.5
    """
    check_number("simplex: total", total)

    def outside(x: jax.Array) -> jax.Array:
        return jnp.sum(x) - total

    return outside


def claim_of(given: Any, tolerance: float) -> Claim:
    """Returns a constraint as a claim, whose residual is lowered by a tolerance.

    Args:
        given: a `Pointwise` or a `Claim`.
        tolerance: most that the residual may be.

    Returns:
        The claim.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(given, Claim):
        claim = given
    else:
        one = _pointwise(given)
        claim = Claim(one.statement, one.apply, one.wanted, partial(_changed, one))
    if not tolerance:
        return claim

    def residual(x: jax.Array, *found: jax.Array) -> Any:
        r = claim.residual(x, *found)
        if claim.framed:
            return r + tolerance * jnp.eye(len(r), dtype=r.dtype)
        return jax.tree.map(lambda part: part - tolerance, r)

    return dataclasses.replace(claim, residual=residual)


def _pointwise(given: Any) -> Pointwise:
    if isinstance(given, Pointwise):
        return given
    raise TypeError(
        f"certify got {described(given)}; pass a constraint of jaxcon.shapes, a "
        "jaxcon.shapes.Pointwise, or a claim such as jaxcon.certify.monotone"
    )


def _changed(one: Pointwise, x: jax.Array, *found: jax.Array) -> jax.Array:
    """Returns the residual of one point, with its changes, e.g. a margin."""
    return jnp.ravel(one.change(jnp.asarray(one.residual(x, *found))[None]))
