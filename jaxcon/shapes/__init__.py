r"""Shape constraints on a network's values and exact input derivatives.

Each function here turns an ``apply(params, x) -> y`` of *one* example, x of shape (d,),
into a constraint ``(params, batch) -> residual`` over many points, which ``on`` selects:

- a name: the points are ``batch[name]``, shape (n, d);
- an array (n, d): the points are always these;
- None: the points are the batch itself.

Put inequalities (`increasing`, `decreasing`, `convex`, `concave`, `bounded`, `lipschitz`)
under ``Constraints.inequality`` and equalities (`sums_to`, `equals`, `boundary`,
`interface`) under ``Constraints.equality``. They hold at the points where they are checked;
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

from jaxcon._checks import check_array, check_function, check_number
from jaxcon.constraints import Constraint
from jaxcon.derivatives import Gradient, Partial, Value
from jaxcon.shapes._boundary import boundary, interface
from jaxcon.shapes._pointwise import APPLY, Apply, Pointwise, minus, require_shape

__all__ = [
    "Pointwise",
    "boundary",
    "bounded",
    "concave",
    "convex",
    "decreasing",
    "equals",
    "increasing",
    "interface",
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
        require_shape("bounded", y, "() or (m,)")
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
        require_shape("sums_to", y, "(m,)")
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
        require_shape("equals", y, "() or (m,)")
        return minus("equals", y, target, x)

    return Pointwise(apply, on, (Value(),), difference, jnp.ravel)


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
        require_shape(name, derivative, "()")
        return sign * derivative

    claimed = statement.format(inputs[0])
    return Pointwise(apply, on, (Partial(inputs),), signed, statement=claimed)


def _said(number: Any) -> str:
    """Returns a number as it is printed in a statement."""
    if number is None:
        return ""
    return "c" if isinstance(number, Tracer) else f"{float(number):g}"


def _norm(v: jax.Array) -> jax.Array:
    """Returns the Euclidean norm, with gradient 0, not NaN, at the origin."""
    square = jnp.sum(jnp.square(v))
    return jnp.sqrt(jnp.maximum(square, jnp.finfo(square.dtype).tiny))
