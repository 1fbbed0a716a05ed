r"""Shape constraints on a network's values and exact input derivatives.

Each function here turns an ``apply(params, x) -> y`` of *one* example, x of shape (d,),
into a constraint ``(params, batch) -> residual`` over many points, which ``on`` selects:

- a name: the points are ``batch[name]``, shape (n, d);
- an array (n, d): the points are always these;
- None: the points are the batch itself.

Put inequalities (`increasing`, `decreasing`, `convex`, `concave`, `bounded`, `lipschitz`)
under ``Constraints.inequality`` and equalities (`sums_to`, `equals`, `boundary`) under
``Constraints.equality``. They hold at the points where they are checked;
`jaxcon.points.worst_case` searches for points where they do not.

Constraints on the same ``apply`` and the same points are evaluated in one pass through
the network, which computes the derivatives that any of them needs; on a CPU it is split
into tiles where the whole batch would leave the cache. A residual of your own shares
that pass as a `Pointwise`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxcon import derivatives
from jaxcon._checks import (
    check_array,
    check_choice,
    check_function,
    check_number,
    check_real,
    inside,
)
from jaxcon.constraints import Constraint, batch_part
from jaxcon.derivatives import Gradient, Partial, Value
from jaxcon.shapes._pointwise import APPLY, Apply, Pointwise, many

__all__ = [
    "Pointwise",
    "boundary",
    "bounded",
    "concave",
    "convex",
    "decreasing",
    "equals",
    "increasing",
    "lipschitz",
    "sums_to",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


def increasing(apply: Apply, index: int, *, on: Any = None) -> Constraint:
    r"""Constrains f to increase in one input: :math:`g = -\partial f / \partial x_i \le 0`.

    Args:
        apply: (params, x (d,)) -> ().
        index: i, which input.
        on: the points where it is checked (see the module's first lines).

    Returns:
        An inequality constraint with residual (n,), in output units per input unit.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> rises = jc.shapes.increasing(lambda p, x: p * x[0] ** 2, 0)
        >>> print(rises(1.0, jnp.array([[-1.0], [2.0]])))
        [ 2. -4.]
    """
    return _of_partial("increasing", apply, (index,), -1, on, "df/dx{} >= 0")


def decreasing(apply: Apply, index: int, *, on: Any = None) -> Constraint:
    r"""Constrains f to decrease in one input: :math:`g = \partial f / \partial x_i \le 0`.

    Args:
        apply: (params, x (d,)) -> ().
        index: i, which input.
        on: the points where it is checked (see the module's first lines).

    Returns:
        An inequality constraint with residual (n,), in output units per input unit.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> falls = jc.shapes.decreasing(lambda p, x: p * x[0] ** 2, 0)
        >>> print(falls(1.0, jnp.array([[-1.0], [2.0]])))
        [-2.  4.]
    """
    return _of_partial("decreasing", apply, (index,), 1, on, "df/dx{} <= 0")


def convex(apply: Apply, index: int, *, on: Any = None) -> Constraint:
    r"""Constrains f to be convex in one input.

    .. math::
        g = -\partial^2 f / \partial x_i^2 \le 0

    Convexity along each of several inputs is weaker than convexity in all of them
    jointly, which requires a positive semidefinite Hessian.

    Args:
        apply: (params, x (d,)) -> (); twice differentiable (a relu network's second
            derivative is zero wherever it exists, so this would constrain nothing).
        index: i, which input.
        on: the points where it is checked (see the module's first lines).

    Returns:
        An inequality constraint with residual (n,), in output units per squared input
        unit.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> bowl = jc.shapes.convex(lambda p, x: p * x[0] ** 2, 0)
        >>> print(bowl(1.0, jnp.array([[-1.0], [2.0]])))
        [-2. -2.]
    """
    statement = "f is convex in inputs {}"
    return _of_partial("convex", apply, (index, index), -1, on, statement)


def concave(apply: Apply, index: int, *, on: Any = None) -> Constraint:
    r"""Constrains f to be concave in one input.

    .. math::
        g = \partial^2 f / \partial x_i^2 \le 0

    Args:
        apply: (params, x (d,)) -> (); twice differentiable, as for `convex`.
        index: i, which input.
        on: the points where it is checked (see the module's first lines).

    Returns:
        An inequality constraint with residual (n,), in output units per squared input
        unit.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> dome = jc.shapes.concave(lambda p, x: p * x[0] ** 2, 0)
        >>> print(dome(-1.0, jnp.array([[-1.0], [2.0]])))
        [-2. -2.]
    """
    statement = "f is concave in inputs {}"
    return _of_partial("concave", apply, (index, index), 1, on, statement)


def bounded(
    apply: Apply,
    lower: float | None = None,
    upper: float | None = None,
    *,
    on: Any = None,
) -> Constraint:
    r"""Constrains f to lie between bounds: :math:`g = \max(l - f, f - u) \le 0`.

    At most one side can be active at a point, so one multiplier per point and output is
    all a KKT point needs, and the kink lies half-way between the bounds, where g < 0.

    Args:
        apply: (params, x (d,)) -> () or (m,); each output is held to the same bounds.
        lower: l, or None for no lower bound.
        upper: u > l, or None for no upper bound.
        on: the points where it is checked (see the module's first lines).

    Returns:
        An inequality constraint with residual (n,), or (n m,) for m outputs, in output
        units.

    Raises:
        ValueError: neither bound is given, one is not finite, or lower >= upper; when
            traced, if `apply` returns another shape.
        TypeError: a bound is not a number.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> unit = jc.shapes.bounded(lambda p, x: p * x[0], 0.0, 1.0)
        >>> print(unit(1.0, jnp.array([[-1.0], [0.5], [3.0]])))
        [ 1.  -0.5  2. ]
    """
    if lower is None and upper is None:
        raise ValueError("bounded needs lower=, upper= or both")
    for name, bound in (("lower", lower), ("upper", upper)):
        if bound is not None:
            check_number(f"bounded: {name}", bound)
    if lower is not None and upper is not None:
        known = not any(isinstance(bound, Tracer) for bound in (lower, upper))
        if known and not lower < upper:
            raise ValueError(f"bounded needs lower < upper, got {lower} and {upper}")

    def excess(x: jax.Array, y: jax.Array) -> jax.Array:
        _require_shape("bounded", y, "() or (m,)")
        outside = [] if lower is None else [lower - y]
        outside += [] if upper is None else [y - upper]
        return jnp.maximum(*outside) if len(outside) == 2 else outside[0]

    parts = [_said(lower), "f(x)", _said(upper)]
    statement = " <= ".join(part for part in parts if part)
    return Pointwise(apply, on, (Value(),), excess, jnp.ravel, statement)


def lipschitz(apply: Apply, constant: float, *, on: Any = None) -> Constraint:
    r"""Constrains the slope of f to a maximum: :math:`g = \|\nabla_x f\|_2 - L \le 0`.

    Args:
        apply: (params, x (d,)) -> ().
        constant: L > 0, in output units per input unit (Euclidean).
        on: the points where it is checked (see the module's first lines).

    Returns:
        An inequality constraint with residual (n,).

    Raises:
        ValueError: `constant` is not positive.
        TypeError: it is not a number.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> gentle = jc.shapes.lipschitz(lambda p, x: p * (3 * x[0] + 4 * x[1]), 1.0)
        >>> print(gentle(1.0, jnp.zeros((1, 2))))
        [4.]
    """
    check_number("lipschitz: constant", constant, above=0)

    def excess(x: jax.Array, slope: jax.Array) -> jax.Array:
        return _norm(slope) - constant

    statement = f"|f(x) - f(y)| <= {_said(constant)} |x - y|"
    return Pointwise(apply, on, (Gradient(),), excess, statement=statement)


def sums_to(apply: Apply, total: float = 1.0, *, on: Any = None) -> Constraint:
    r"""Constrains the sum of the outputs: :math:`h = \sum_k f_k(x) - c = 0`.

    Args:
        apply: (params, x (d,)) -> (m,).
        total: c.
        on: the points where it is checked (see the module's first lines).

    Returns:
        An equality constraint with residual (n,), in output units.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> whole = jc.shapes.sums_to(lambda p, x: p * x)
        >>> print(whole(1.0, jnp.array([[0.5, 0.5], [1.0, 1.0]])))
        [0. 1.]
    """
    check_number("sums_to: total", total)

    def excess(x: jax.Array, y: jax.Array) -> jax.Array:
        _require_shape("sums_to", y, "(m,)")
        return jnp.sum(y) - total

    return Pointwise(apply, on, (Value(),), excess)


def equals(
    apply: Apply,
    target: float | Callable[[jax.Array], jax.Array],
    *,
    on: Any = None,
) -> Constraint:
    r"""Constrains f to equal a known function: :math:`h = f(x) - t(x) = 0`.

    Args:
        apply: (params, x (d,)) -> () or (m,).
        target: t, a number or a function of one x with the shape of `apply`'s output.
        on: the points where it is checked (see the module's first lines).

    Returns:
        An equality constraint with residual (n,), or (n m,) for m outputs, in output
        units.

    Raises:
        ValueError: when traced, if the target's shape is not the output's.
        TypeError: the target is neither a function nor numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> doubles = jc.shapes.equals(lambda p, x: p * x[0], lambda x: 2 * x[0])
        >>> print(doubles(3.0, jnp.array([[1.0], [2.0]])))
        [1. 2.]
    """
    if not callable(target):
        check_array("equals: target", target, "of any shape")

    def difference(x: jax.Array, y: jax.Array) -> jax.Array:
        _require_shape("equals", y, "() or (m,)")
        return _minus("equals", y, target, x)

    return Pointwise(apply, on, (Value(),), difference, jnp.ravel)


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

        def f(x: jax.Array) -> jax.Array:
            with inside("apply"):
                y = apply(params, x)
            y = check_real("boundary: apply returned", y, "one number ()")
            _require_shape("boundary", y, "()")
            return y

        if not flux:
            where = getattr(where, "points", where)
            return jax.vmap(lambda x: _minus("boundary", f(x), value, x))(many(where))
        if not (hasattr(where, "points") and hasattr(where, "normals")):
            raise TypeError(
                "boundary(flux=True) needs points and outward normals: pass what "
                f"jaxcon.points.boundary returns, got {type(where).__name__}"
            )
        points, normals = many(where.points), many(where.normals)
        if points.shape != normals.shape:
            raise ValueError(
                f"boundary needs a normal for each point, got points {points.shape} "
                f"and normals {normals.shape}"
            )

        def outflow(x: jax.Array, normal: jax.Array) -> jax.Array:
            slope = derivatives.directional_derivative(f, normal)(x)
            return _minus("boundary", slope, value, x)

        return jax.vmap(outflow)(points, normals)

    return constraint


def _of_partial(
    name: str,
    apply: Apply,
    inputs: tuple[int, ...],
    sign: int,
    on: Any,
    statement: str,
) -> Constraint:
    """Returns the constraint that a partial derivative, or minus it, is at most 0."""
    check_function(f"{name}: apply", apply, APPLY)
    check_number(f"{name}: index", inputs[0], least=0, whole=True)

    def signed(x: jax.Array, derivative: jax.Array) -> jax.Array:
        _require_shape(name, derivative, "()")
        return sign * derivative

    claimed = statement.format(inputs[0])
    return Pointwise(apply, on, (Partial(inputs),), signed, statement=claimed)


def _said(number: Any) -> str:
    """Returns a number as it is printed in a statement."""
    if number is None:
        return ""
    return "c" if isinstance(number, Tracer) else f"{float(number):g}"


def _require_shape(name: str, y: jax.Array, form: str) -> None:
    """Refuses what apply returned, or its derivative, of another number of axes."""
    if y.ndim not in {"()": (0,), "(m,)": (1,), "() or (m,)": (0, 1)}[form]:
        hint = "; write apply(params, x)[0]" if form == "()" and y.shape == (1,) else ""
        raise ValueError(
            f"{name}: apply returned shape {y.shape} for one x; it must return {form}"
            f"{hint}"
        )


def _minus(name: str, y: jax.Array, target: Any, x: jax.Array) -> jax.Array:
    if callable(target):
        given = check_array(
            f"{name}: the target", target(x), "of any shape", finite=None
        )
        allowed = (y.shape,)
    else:
        # A constant of any other shape would broadcast: (n,) targets to (n, n) residuals.
        given, allowed = target, (y.shape, ())
    if jnp.shape(given) not in allowed:
        raise ValueError(
            f"{name}: the target has shape {jnp.shape(given)} but the output {y.shape}; "
            "both are of one example"
        )
    return y - jnp.asarray(given)


def _norm(v: jax.Array) -> jax.Array:
    """Returns the Euclidean norm, with gradient 0, not NaN, at the origin."""
    square = jnp.sum(jnp.square(v))
    return jnp.sqrt(jnp.maximum(square, jnp.finfo(square.dtype).tiny))
