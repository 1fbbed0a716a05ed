"""Constraints on a boundary and on the interface of two networks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcon import derivatives
from jaxcon._checks import (
    check_array,
    check_choice,
    check_function,
    check_number,
    check_real,
    described,
    inside,
)
from jaxcon.constraints import Constraint, batch_part
from jaxcon.shapes._pointwise import APPLY, Apply, many, minus, require_shape


def boundary(
    apply: Apply,
    value: float | Callable[[jax.Array], jax.Array] = 0.0,
    *,
    flux: bool = False,
    on: Any = "boundary",
) -> Constraint:
    r"""Constrains f on the boundary: its value (Dirichlet) or its flux (Neumann).

    .. math::
        h = f - v \quad \text{or} \quad h = \partial f / \partial n - v

    Args:
        apply: (params, x (d,)) -> ().
        value: v, a number or a function of one x.
        flux: False for the value itself; True for the derivative along the outward
            normal.
        on: the points: an array (n, d) for values; for a flux `points.Boundary` (points
            and normals); or the name of either in the batch; None for the batch itself.

    Returns:
        An equality constraint with residual (n,), in output units (per input unit).

    Raises:
        ValueError: when traced, if `value`'s shape is not the output's.
        TypeError: when traced, if a flux is requested on points without normals.

    Example:
        >>> import jaxcon as jc
        >>> ends = jc.points.boundary([0.0], [1.0], 1)
        >>> fixed = jc.shapes.boundary(lambda p, x: p * x[0], on=ends.points)
        >>> print(fixed(2.0, None))
        [0. 2.]
        >>> leaving = jc.shapes.boundary(lambda p, x: p * x[0], flux=True, on=ends)
        >>> print(leaving(2.0, None))
        [-2.  2.]
    """
    check_function("boundary: apply", apply, APPLY)
    check_choice("boundary: flux", flux, [False, True])
    if not callable(value):
        check_number("boundary: value", value)

    def constraint(params: Any, batch: Any) -> jax.Array:
        where = batch_part(on, batch)
        f = _scalar("boundary", apply, params)
        if not flux:
            where = getattr(where, "points", where)
            return jax.vmap(lambda x: minus("boundary", f(x), value, x))(many(where))

        def outflow(x: jax.Array, normal: jax.Array) -> jax.Array:
            slope = derivatives.directional_derivative(f, normal)(x)
            return minus("boundary", slope, value, x)

        return jax.vmap(outflow)(*_with_normals("boundary(flux=True)", where))

    return constraint


def interface(
    first: Apply,
    second: Apply,
    jump: float | Callable[[jax.Array], jax.Array] = 0.0,
    *,
    conductivities: tuple[Any, Any] | None = None,
    on: Any = "interface",
) -> Constraint:
    r"""Constrains two networks where their domains meet: their values or their fluxes.

    .. math::
        h = f_1 - f_2 - v \quad \text{or} \quad
        h = k_1 \frac{\partial f_1}{\partial n} - k_2 \frac{\partial f_2}{\partial n} - v

    Two materials in contact need both, with v = 0: equal values, and a flux that leaves
    one and enters the other. The normal n may lead to either side, if v is zero; the sign
    of another v goes with it.

    Args:
        first: (params, x (d,)) -> (), the network f1 on one side.
        second: f2 on the other; both read what is theirs of the same params.
        jump: v, a number or a function of one x.
        conductivities: (k1, k2), each a number or a function of one x, for fluxes; values
            are constrained unless given.
        on: the points: an array (n, d) for values; for fluxes `points.Boundary` (points
            and normals); or the name of either in the batch; None for the batch itself.

    Returns:
        An equality constraint with residual (n,), in output units, or those of a
        conductivity times output units per input unit.

    Raises:
        ValueError: conductivities are not two; when traced, if the shape of `jump` or of
            a conductivity is not ().
        TypeError: an argument is of another type; when traced, if fluxes are requested on
            points without normals.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> inner, outer = (lambda p, x: p[0] * x[0]), (lambda p, x: p[1] * x[0])
        >>> seam = jc.points.Boundary(jnp.array([[2.0]]), jnp.array([[1.0]]))
        >>> params = jnp.array([4.0, 3.0])
        >>> print(jc.shapes.interface(inner, outer, on=seam)(params, None))
        [2.]
        >>> flux = jc.shapes.interface(inner, outer, conductivities=(3.0, 4.0), on=seam)
        >>> print(flux(params, None))
        [0.]
    """
    check_function("interface: first", first, APPLY)
    check_function("interface: second", second, APPLY)
    if not callable(jump):
        check_number("interface: jump", jump)
    if conductivities is not None:
        if not (isinstance(conductivities, (tuple, list)) and len(conductivities) == 2):
            raise TypeError(
                "interface: conductivities must be a pair (k1, k2), got "
                f"{described(conductivities)}"
            )
        for number, k in enumerate(conductivities):
            if not callable(k):
                check_number(f"interface: conductivities[{number}]", k)

    pair = conductivities or (1.0, 1.0)

    def constraint(params: Any, batch: Any) -> jax.Array:
        where = batch_part(on, batch)
        one, two = (_scalar("interface", apply, params) for apply in (first, second))
        if conductivities is None:
            where = many(getattr(where, "points", where))
            return jax.vmap(lambda x: minus("interface", one(x) - two(x), jump, x))(
                where
            )

        def difference(x: jax.Array, normal: jax.Array) -> jax.Array:
            fluxes = [
                _conductivity(k, x) * derivatives.directional_derivative(f, normal)(x)
                for k, f in zip(pair, (one, two))
            ]
            return minus("interface", fluxes[0] - fluxes[1], jump, x)

        return jax.vmap(difference)(*_with_normals("interface of fluxes", where))

    return constraint


def _scalar(name: str, apply: Apply, params: Any) -> Callable[[jax.Array], jax.Array]:
    """Returns the network at these parameters, which refuses what is no number."""

    def f(x: jax.Array) -> jax.Array:
        with inside("apply"):
            y = apply(params, x)
        y = check_real(f"{name}: apply returned", y, "one number ()")
        require_shape(name, y, "()")
        return y

    return f


def _with_normals(name: str, where: Any) -> tuple[jax.Array, jax.Array]:
    """Returns points and normals, (n, d) each, or refuses what has none."""
    if not (hasattr(where, "points") and hasattr(where, "normals")):
        raise TypeError(
            f"{name} needs points and outward normals: pass what "
            f"jaxcon.points.boundary returns, got {type(where).__name__}"
        )
    points, normals = many(where.points), many(where.normals)
    if points.shape != normals.shape:
        raise ValueError(
            f"{name} needs a normal for each point, got points {points.shape} "
            f"and normals {normals.shape}"
        )
    return points, normals


def _conductivity(given: Any, x: jax.Array) -> jax.Array:
    """Returns a number, or a function's at x, ()."""
    if not callable(given):
        return jnp.asarray(given, x.dtype)
    with inside("interface: conductivities"):
        found = given(x)
    name = "interface: what conductivities return"
    return jnp.asarray(check_array(name, found, "()", finite=None))
