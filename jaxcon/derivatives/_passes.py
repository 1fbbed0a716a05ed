"""Forward and reverse passes through a function, from which every operator reads.

Each returns the value with the derivatives, because XLA merges a separately written
value with a forward derivative but not with a backward one. The functions passed in
have been checked to return one array of real or complex floats.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.derivatives import _slots, _taylor
from jaxcon.derivatives._equations import (
    NoForwardMode,
    NoReverseMode,
    first_line,
    may_have_kinks,
)
from jaxcon.derivatives._first_layer import narrowest
from jaxcon.derivatives._interpreter import Cut, interpret
from jaxcon.derivatives._layouts import Form, Stacked, Unrolled
from jaxcon.derivatives._streams import Series, Streams
from jaxcon.derivatives._zeros import as_part, from_known, rows, varying, written

Function = Callable[[jax.Array], jax.Array]


class Along(NamedTuple):
    """Result of a forward pass."""

    value: jax.Array
    first: Any  # one of f's shape for each direction: a tuple or stacked in front
    second: list[jax.Array]  # one of f's shape for each form


def stacked(first: Any, axis: int) -> jax.Array:
    """Returns the derivatives along all directions in a new axis (negative: from last)."""
    if isinstance(first, tuple):
        return jnp.stack(first, axis)
    return jnp.moveaxis(first, 0, axis)


def reverse(
    f: Function, x: jax.Array, *, unroll: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Returns f(x) and its gradient (d,) or Jacobian (m, d), one cotangent per row.

    Of complex numbers the real and the imaginary parts have a cotangent each.
    """
    split = in_parts(f, x)
    if split is not f:
        value, slope = reverse(split, x, unroll=unroll)
        return jax.lax.complex(*value), jax.lax.complex(*slope)
    value, pull = pulled(f, x)
    if value.ndim == 0:
        return value, pull(jnp.ones_like(value))
    units = jnp.eye(value.size, dtype=value.dtype).reshape(-1, *value.shape)
    units = varying(units, value)
    each = (
        jnp.stack([pull(unit) for unit in units]) if unroll else jax.vmap(pull)(units)
    )
    return value, each.reshape(*value.shape, *x.shape)


def in_parts(f: Function, x: jax.Array) -> Function:
    """Returns f, or of a complex f its real and imaginary parts in a new first axis."""
    if not jnp.issubdtype(jax.eval_shape(f, x).dtype, jnp.complexfloating):
        return f

    def parts(x: jax.Array) -> jax.Array:
        y = f(x)
        return jnp.stack([jnp.real(y), jnp.imag(y)])

    return parts


def pulled(f: Function, x: jax.Array) -> tuple[jax.Array, Function]:
    """Returns f(x) and the function of a cotangent that pulls it back to x.

    Raises:
        NoReverseMode: jax's own rules refuse, in the function returned as well.
    """
    with _backwards():
        value, pull = jax.vjp(f, x)

    def pull_back(cotangent: jax.Array) -> jax.Array:
        with _backwards():
            return pull(cotangent)[0]

    return value, pull_back


@contextlib.contextmanager
def _backwards() -> Iterator[None]:
    try:
        yield
    except (NoForwardMode, NoReverseMode):
        raise
    except (TypeError, ValueError, NotImplementedError) as error:
        raise NoReverseMode(first_line(error)) from error


def forward(
    f: Function,
    x: jax.Array,
    directions: Sequence[jax.Array],
    forms: Sequence[Form] = (),
    *,
    unroll: bool,
) -> Along:
    """Returns f(x), its derivatives along directions and sums of second derivatives."""
    closed = jax.make_jaxpr(f)(x)
    k = len(directions)
    algebra = _algebra(k, tuple(forms), unroll)
    start = _start(x, directions, len(forms), unroll)
    [out] = interpret(closed, [start], algebra)
    if forms:
        _warn_of_kinks(algebra, _is_flat(out))
    return _written(out, algebra)


def collapsed(
    f: Function, x: jax.Array, directions: Sequence[jax.Array], weights: Any
) -> tuple[jax.Array, jax.Array]:
    r"""Returns f(x) and Σ c D²f[v, v], at the cost of the first layer's width.

    Through a first layer z = W x the sum depends on the directions only by
    :math:`\sum c\, W v v^\top W^\top = R^\top R`, so that the rows of R, as many as z
    has entries, take the place of the W v. The weights must not be negative, and
    directions that are numpy arrays are unit vectors.
    """
    closed = jax.make_jaxpr(f)(x)
    layer = narrowest(closed, len(directions))
    assert layer is not None
    width = layer.variable.aval.size
    pairs = tuple(range(width))
    algebra = Streams(width, (Form(pairs, pairs),), Stacked())

    def start(z: Any) -> Any:
        # As many cotangents as z is wide, not as many tangents as there are directions.
        w = reverse(lambda x: layer(x).reshape(-1), x)[1]
        if all(map(_is_unit, directions)):
            tangents = w.T[np.argmax(directions, axis=1)]
        else:
            given = jnp.stack(directions)
            tangents = jnp.matmul(given, w.T, precision=jax.lax.Precision.HIGHEST)
        if weights is not None:
            tangents = jnp.sqrt(weights)[:, None] * tangents
        # Half precision has no QR decomposition, and a factor in it would be too inexact.
        exact = tangents.astype(jnp.promote_types(tangents.dtype, jnp.float32))
        r = _triangle(exact).astype(tangents.dtype)
        return Series(z, r.reshape(width, *z.shape), (None,))

    cut = Cut(layer.after, layer.variable, start)
    [out] = interpret(closed, [x], algebra, cut)
    _warn_of_kinks(algebra, _is_flat(out))
    along = _written(out, algebra)
    return along.value, along.second[0]


@jax.custom_jvp
def _triangle(z: jax.Array) -> jax.Array:
    """Returns R of z = Q R, for functions of R'R = z'z alone."""
    return jnp.linalg.qr(z, mode="r")


@_triangle.defjvp
def _triangle_jvp(z: Any, dz: Any) -> tuple[jax.Array, jax.Array]:
    # R'dR + dR'R = z'dz + dz'z for dR = Q'dz, on which alone a function of R'R depends.
    # It needs no inverse: R's own derivative fails where two units are alike.
    r = _triangle(z[0])
    q = _orthonormal(z[0], r)
    return r, jnp.matmul(q.T, dz[0], precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def _orthonormal(z: jax.Array, r: jax.Array) -> jax.Array:
    """Returns Q of z = Q R."""
    return jnp.linalg.qr(z)[0]


@_orthonormal.defjvp
def _orthonormal_jvp(at: Any, along: Any) -> tuple[jax.Array, jax.Array]:
    # It follows from dz = dQ R + Q dR, for any dR. Only second derivatives with respect
    # to the parameters are computed here, and they do need an inverse.
    (z, r), (dz, dr) = at, along
    q = _orthonormal(z, r)
    rest = dz - jnp.matmul(q, dr, precision=jax.lax.Precision.HIGHEST)
    return q, jax.scipy.linalg.solve_triangular(r, rest.T, trans="T").T


def width(f: Function, x: jax.Array, k: int) -> int:
    """Returns the first layer's width, if it is narrower than k, else 0."""
    layer = narrowest(jax.make_jaxpr(f)(x), k)
    return 0 if layer is None else layer.variable.aval.size


def each_pair(f: Function, x: jax.Array, left: np.ndarray, right: np.ndarray) -> Any:
    """Returns f(x) and D²f[u, v] for each row of left and right, in a first axis."""
    closed = jax.make_jaxpr(f)(x)
    supports = [side != 0 for side in (left, right)]

    def one(row: Any, *pair: Any) -> tuple[jax.Array, jax.Array]:
        algebra = Streams(2, (Form((0,), (1,)),), Unrolled(row))
        along = [varying(v, x) for v in pair]
        start = Series(x, tuple(map(as_part, along, supports)), (None,))
        [out] = interpret(closed, [start], algebra)
        _warn_of_kinks(algebra, _is_flat(out))
        found = _written(out, algebra)
        return found.value, found.second[0]

    return jax.vmap(one, out_axes=(None, 0))(rows(len(left)), left, right)


def forward_over_reverse(
    f: Function, x: jax.Array, directions: Sequence[jax.Array], *, unroll: bool
) -> tuple[jax.Array, jax.Array, Any]:
    """Returns f(x), its gradient or Jacobian, and the latter's derivative along each."""
    if may_have_kinks(jax.make_jaxpr(f)(x).jaxpr):
        # In reverse mode a kink is a selection like any other: it is found forwards.
        along = [Form((0,), (0,))]
        with contextlib.suppress(NoForwardMode):
            jax.eval_shape(lambda x: forward(f, x, [x], along, unroll=True), x)

    def value_and_slope(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, slope = reverse(f, x, unroll=unroll)
        # Its tangent is not wanted, and has no rule if the value is of a custom_vjp.
        return jax.lax.stop_gradient(value), slope

    closed = jax.make_jaxpr(value_and_slope)(x)
    algebra = _algebra(len(directions), (), unroll)
    start = _start(x, directions, 0, unroll)
    value, slope = interpret(closed, [start], algebra)
    found = _written(slope, algebra)
    return _written(value, algebra).value, found.value, found.first


def reverse_over_reverse(f: Function, x: jax.Array):
    """Returns f(x), gradient or Jacobian, and second derivatives, all backwards."""
    value, slope = reverse(f, x)

    def entries(x: jax.Array) -> jax.Array:
        return reverse(f, x)[1].reshape(-1)

    seconds = reverse(entries, x)[1]  # (entries, d)
    return value, slope, seconds.reshape(*value.shape, x.size, x.size)


def taylor(f: Function, x: jax.Array, v: jax.Array, order: int) -> jax.Array:
    """Returns the derivative of one order along v, as n! times a coefficient."""
    closed = jax.make_jaxpr(f)(x)
    algebra = _taylor.Taylor(order)
    [tangent] = _start(x, [v], 0, unroll=True).first
    start = _taylor.Series((x, tangent, *[None] * (order - 1)))
    [out] = interpret(closed, [start], algebra)
    if order > 1:
        _warn_of_kinks(algebra, _taylor.has_no_curvature(out))
    return _taylor.derivative(out, order)


def _warn_of_kinks(algebra: Streams | _taylor.Taylor, flat: bool) -> None:
    """Warns, once for each function traced, that second derivatives ignore kinks.

    A corner such as abs may lie out of reach (a norm's, a logarithm of a sum's), so the
    warning names it only if all second derivatives are known to be zero.
    """
    kinks = algebra.kinks or (algebra.corners if flat else [])
    if kinks:
        warnings.warn(
            f"the second derivative of {kinks[0]} is zero wherever it exists, so that a "
            "constraint on it does not see the kinks; use a smooth activation, e.g. "
            "jax.nn.softplus or jnp.tanh",
            stacklevel=2,
        )


def _is_flat(out: Any) -> bool:
    """Returns whether all second derivatives are known to be zero."""
    return not isinstance(out, Series) or all(s is None for s in out.second)


def _algebra(k: int, forms: tuple[Form, ...], unroll: bool) -> Streams:
    return Streams(k, forms, Unrolled()) if unroll else _slots.SlotStreams(k, forms)


def _start(x: jax.Array, directions: Sequence[Any], forms: int, unroll: bool) -> Series:
    """Returns x moving along the directions; of numpy arrays the zeros are known."""
    for v in directions:
        x = varying(x, v)
    known = [isinstance(v, np.ndarray) for v in directions]
    first: Any
    if unroll:
        first = tuple(
            from_known(v, x) if k else varying(v, x) for v, k in zip(directions, known)
        )
    elif all(known):  # they are stacked once and not by the program
        first = _slots.of_known(np.stack(directions), x)
        if first is None:
            first = from_known(np.stack(directions), x)
    else:
        first = varying(jnp.stack(directions), x)
    return Series(x, first, (None,) * forms)


def _is_unit(v: Any) -> bool:
    return isinstance(v, np.ndarray) and np.count_nonzero(v) == 1 and v.sum() == 1


def _written(out: Any, algebra: Streams) -> Along:
    """Writes all zeros out; an array is an output independent of x."""
    if not isinstance(out, Series):
        out = algebra.constant(jnp.asarray(out))
    out = _slots.written_out(out)
    first = algebra.layout.written(out.first, out.value, algebra.k)
    return Along(out.value, first, [written(s, out.value) for s in out.second])
