"""Several derivatives of the same f at the same x, and the account of how.

What is wanted is said by small specifications (``Value()``, ``Gradient()``, …). One
plan, made from shapes alone, decides which passes are made; ``derivatives`` carries it
out and ``explain`` tells it, so the account cannot depart from what is computed.
"""

import functools
import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcon.derivatives import _checks, _passes, _plan
from jaxcon.derivatives import _quantities as q
from jaxcon.derivatives._interpreter import NoForwardMode


def derivatives(
    f: Callable[..., jax.Array],
    *wanted: q.Spec,
    mode: str | None = None,
    unroll: bool | None = None,
) -> Callable[[ArrayLike], Any]:
    r"""Returns several derivatives of f at one x, in as few passes as they allow.

    .. math:: x \mapsto (f(x), \nabla f(x), \operatorname{tr} H(x), \dots)

    One evaluation of f carries its value, the tangents needed, and one stream for each
    sum of second derivatives; `explain` tells which. The results come in the order
    asked for, as a named tuple whose type depends on the field names alone. A second
    ``Laplacian`` is ``laplacian_1``, a third ``laplacian_2``, and so for
    ``Directional``; any other quantity asked for twice is refused. Second derivatives
    of a vector (m,) are those of each output: ``Laplacian()`` is then (m,).

    Args:
      f: one example x (d,) to a scalar () or a vector (m,), as the quantities need.
      *wanted: ``Value()``, ``Gradient()``, ``Jacobian()``, ``Partial((0, 1))``,
        ``Directional(v)``, ``Hessian()``, ``HessianDiagonal()``,
        ``Laplacian(weights, directions)`` or ``Divergence()``; at least one.
      mode: "forward" or "reverse" for everything; None for the cheaper one.
      unroll: whether the tangents are a program each, or one array; None for the
        faster one.

    Returns:
      A function of x (d,) that returns the named tuple.

    Raises:
      ValueError: if nothing is asked for, or something twice, or the mode is unknown;
        when called, if x, f(x) or an argument of a quantity has the wrong shape.
      TypeError: if a quantity is not one of the above; when called, if x or f(x) is
        not one real floating-point array, or f has no derivative in the mode.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon.derivatives import Gradient, Laplacian, Value, derivatives
      >>> both = derivatives(jnp.prod, Value(), Gradient(), Laplacian())
      >>> result = both(jnp.array([2.0, 3.0]))
      >>> float(result.value), result.gradient.tolist(), float(result.laplacian)
      (6.0, [3.0, 2.0], 0.0)
    """
    result = _result_type(q.fields(wanted))
    _checks.require_mode(mode, "derivatives")
    f = _checks.real_valued(f, "derivatives")

    def at(x: ArrayLike) -> tuple:
        return result(
            *compute(f, _checks.vector(x, "derivatives"), wanted, mode, unroll)
        )

    return at


def compute(
    f: Callable,
    x: jax.Array,
    wanted: tuple[q.Spec, ...],
    mode: str | None = None,
    unroll: bool | None = None,
) -> list[jax.Array]:
    """Returns the quantities wanted of a checked f at a checked x, as a list."""
    shape = jax.eval_shape(f, x).shape
    terms = q.terms(wanted, x, shape)
    high = any(len(term.inputs) > 2 for term in terms)
    if mode == "reverse" and high:
        raise ValueError(
            "derivatives: reverse mode takes derivatives up to the second; leave mode= "
            "out for a Partial of higher order"
        )
    # A function with a jax.custom_vjp goes backwards; so may its backward rule.
    for way in (mode, _plan.OVER_REVERSE, "reverse"):
        try:
            plan = _planned(f, x, terms, shape, way, unroll)
            known = _known(f, x, terms, plan)
            return [_read(f, x, t, terms, known) for t in range(len(terms))]
        except NoForwardMode as error:
            if mode == "forward" or high or way == "reverse":
                raise _checks.no_forward_mode(error) from None
    raise AssertionError("the last way returns or raises")


@functools.cache
def _result_type(fields: tuple[str, ...]):
    # Cached because two types of the same name are two pytree structures, and a loop
    # carrying the one would refuse the other.
    return namedtuple("Derivatives", fields)


class _Known(NamedTuple):
    """What the passes returned; second derivatives have f's shape in front."""

    value: jax.Array | None = None
    whole: jax.Array | None = None  # the gradient or Jacobian, (…, d)
    hessian: jax.Array | None = None  # (…, d, d)
    tangents: Any = ()  # along the directions of `place`
    place: dict[_plan.Key, int] = {}
    sums: dict[int, jax.Array] = {}  # by the number of the Laplacian
    pairs: dict[tuple[int, int], jax.Array] = {}


def _planned(
    f: Callable,
    x: jax.Array,
    terms: tuple[q.Term, ...],
    shape: tuple[int, ...],
    mode: str | None,
    unroll: bool | None,
) -> _plan.Plan:
    need = q.need(terms, x.size, shape)
    width = 0
    if len(need.sums) == 1 and len(need.sums[0]) > _plan.UNROLLED and not unroll:
        [(_, term)] = q.laplacians(terms)
        if term.nonnegative:
            width = _passes.width(f, x, len(need.sums[0]))
    return _plan.choose(need, mode, unroll, width)


def _known(
    f: Callable, x: jax.Array, terms: tuple[q.Term, ...], plan: _plan.Plan
) -> _Known:
    known = _Known()
    if plan.hessian == "reverse":
        return _Known(*_passes.reverse_over_reverse(f, x))
    if plan.hessian == "forward":
        units = [q.direction(i, terms, x) for i in range(x.size)]
        value, whole, rows = _passes.forward_over_reverse(
            f, x, units, unroll=plan.unroll
        )
        return _Known(value, whole, _passes.stacked(rows, -2))
    if plan.backward:
        value, whole = _passes.reverse(f, x, unroll=plan.unroll_reverse)
        known = known._replace(value=value, whole=whole)
    laplacians = q.laplacians(terms)
    if plan.separate:
        left, right = (
            jnp.asarray(
                np.eye(x.size, dtype=x.dtype)[[pair[side] for pair in plan.pairs]]
            )
            for side in (0, 1)
        )
        value, each = _passes.each_pair(f, x, left, right)
        known = known._replace(value=value, pairs=dict(zip(plan.pairs, each)))
    if plan.narrow:
        [(t, term)] = laplacians
        # One for every weight, though a direction may stand there twice.
        directions = [q.direction(key, terms, x) for key in term.keys]
        value, total = _passes.collapsed(f, x, directions, term.weights)
        return known._replace(value=value, sums={t: total})
    if plan.tangents:
        weights = [term.weights for _, term in laplacians]
        forms = [
            form if n >= len(weights) else form._replace(weights=weights[n])
            for n, form in enumerate(plan.forms)
        ]
        directions = [q.direction(key, terms, x) for key in plan.tangents]
        along = _passes.forward(f, x, directions, forms, unroll=plan.unroll)
        known = known._replace(
            value=along.value,
            tangents=along.first,
            place={key: n for n, key in enumerate(plan.tangents)},
            sums={t: s for (t, _), s in zip(laplacians, along.second)},
        )
        if not plan.separate:
            pairs = dict(zip(plan.pairs, along.second[len(laplacians) :]))
            known = known._replace(pairs=pairs)
    return known


def _read(
    f: Callable, x: jax.Array, t: int, terms: tuple[q.Term, ...], known: _Known
) -> jax.Array:
    """Returns one quantity: read from the passes, or by Taylor series above order 2."""
    term, d = terms[t], x.size
    match term.spec:
        case q.Value():
            # XLA merges this with the forward pass of whatever else is computed.
            return f(x) if known.value is None else known.value
        case q.Gradient() | q.Jacobian():
            return _whole(known, d)
        case q.Divergence():
            return jnp.trace(_whole(known, d))
        case q.Hessian():
            if known.hessian is not None:
                return known.hessian
            rows = [[_entry(known, i, j) for j in range(d)] for i in range(d)]
            return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
        case q.HessianDiagonal():
            return jnp.stack([_entry(known, i, i) for i in range(d)], axis=-1)
        case q.Laplacian():
            return _sum(known, x, t, terms)
        case q.Directional():
            return _along(known, (t, 0), q.direction((t, 0), terms, x))
    if len(term.inputs) == 1:
        [i] = term.inputs
        return _along(known, i, q.direction(i, terms, x))
    if len(term.inputs) == 2:
        return _entry(known, *term.inputs)
    return _mixed(f, x, term.inputs)


def _whole(known: _Known, d: int) -> jax.Array:
    if known.whole is not None:
        return known.whole
    if [known.place[i] for i in range(d)] == list(range(len(known.tangents))):
        return _passes.stacked(known.tangents, -1)
    return jnp.stack([known.tangents[known.place[i]] for i in range(d)], axis=-1)


def _along(known: _Known, key: _plan.Key, v: jax.Array) -> jax.Array:
    if key in known.place:
        return known.tangents[known.place[key]]
    if known.whole is not None and isinstance(key, int):
        return known.whole[..., key]
    return _times(known.whole, v)


def _entry(known: _Known, i: int, j: int) -> jax.Array:
    if known.hessian is not None:
        return known.hessian[..., i, j]
    return known.pairs[q.ordered(i, j)]


def _sum(known: _Known, x: jax.Array, t: int, terms: tuple[q.Term, ...]) -> jax.Array:
    if known.hessian is None:
        return known.sums[t]
    vectors = [q.direction(key, terms, x) for key in terms[t].keys]
    seconds = jnp.stack([_times(_times(known.hessian, v), v) for v in vectors], axis=-1)
    term = terms[t]
    if term.weights is None:
        return jnp.sum(seconds, axis=-1)
    return _times(seconds, term.weights)


def _times(a: Any, v: jax.Array) -> jax.Array:
    # Full precision, because accelerators round a product's operands by default.
    return jnp.matmul(a, v, precision=jax.lax.Precision.HIGHEST)


def _mixed(f: Callable, x: jax.Array, inputs: tuple[int, ...]) -> jax.Array:
    """Returns a partial derivative of any order: a Taylor series for each input."""
    for i in dict.fromkeys(inputs):
        unit = jnp.zeros_like(x).at[i].set(1)
        f = functools.partial(_passes.taylor, f, v=unit, order=inputs.count(i))
    return f(x)


def explain(
    f: Callable[..., jax.Array],
    x: ArrayLike,
    *wanted: q.Spec,
    mode: str | None = None,
    unroll: bool | None = None,
) -> str:
    """Tells, as text, how ``derivatives`` computes each quantity and what it costs.

    One line per quantity: the mode, the number of tangents or cotangents, why, and
    the FLOPs and temporary memory of the compiled program that computes it alone for
    this one x. The last line is the program that computes them all, with its tangents
    and streams. FLOPs are the compiler's count, which leaves out transcendental
    functions; a number that the backend does not report is said to be so. Compiles one
    program per line.

    Args:
      f: one example x (d,) to a scalar () or a vector (m,).
      x: one example (d,); only its shape and dtype matter.
      *wanted: as for ``derivatives``.
      mode: as for ``derivatives``.
      unroll: as for ``derivatives``.

    Returns:
      The text, lines separated by newlines.

    Raises:
      ValueError: as ``derivatives`` does.
      TypeError: as ``derivatives`` does.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon.derivatives import Gradient, explain
      >>> account = explain(jnp.prod, jnp.ones(3), Gradient())
      >>> "reverse, 1 cotangent" in account
      True
    """
    fields = q.fields(wanted)
    _checks.require_mode(mode, "explain")
    f = _checks.real_valued(f, "explain")
    x = _checks.vector(x, "explain")
    shape = jax.eval_shape(f, x).shape
    terms = q.terms(wanted, x, shape)
    plan = _planned(f, x, terms, shape, mode, unroll)
    try:
        jax.eval_shape(functools.partial(_known, f, terms=terms, plan=plan), x)
    except NoForwardMode:
        plan = _planned(f, x, terms, shape, _plan.OVER_REVERSE, unroll)
    need = q.need(terms, x.size, shape)
    size = max(map(len, (*fields, "together"))) + 2
    cost = functools.partial(_cost, f, x, mode, unroll)
    header = f"f: {x.shape} -> {shape}, {x.dtype}, on {jax.default_backend()}"
    lines = [
        f"{field:<{size}}{_account(t, term, need, plan)}; alone {cost(term.spec)}"
        for t, (field, term) in enumerate(zip(fields, terms))
    ]
    together = f"{'together':<{size}}{_plan.summary(need, plan)}{cost(*wanted)}"
    return "\n".join([header, *lines, together])


def _account(t: int, term: q.Term, need: _plan.Need, plan: _plan.Plan) -> str:
    """Returns the mode of one quantity, its tangents or cotangents and why."""
    match term.spec:
        case q.Value():
            return "shared: comes with the first pass made"
        case q.Gradient() | q.Jacobian() | q.Divergence():
            return _plan.why_first(need, plan, None)
        case q.Directional():
            return _plan.why_first(need, plan, (t, 0))
        case q.Hessian():
            if plan.hessian:
                why = "a tangent for each input over one reverse pass"
                return f"{plan.hessian}-over-reverse, {need.inputs} tangents: {why}"
            return _plan.why_second(plan, need.inputs, True)
        case q.HessianDiagonal():
            return _plan.why_second(plan, 1, True)
        case q.Laplacian():
            return _plan.why_second(plan, len(term.keys), False)
    if len(term.inputs) == 1:
        return _plan.why_first(need, plan, term.inputs[0])
    if len(term.inputs) == 2:
        return _plan.why_second(plan, len(set(term.inputs)), True)
    streams = math.prod(term.inputs.count(i) + 1 for i in set(term.inputs))
    return f"Taylor series, {streams} coefficients: order {len(term.inputs)}"


def _cost(
    f: Callable, x: jax.Array, mode: str | None, unroll: bool | None, *wanted: q.Spec
) -> str:
    """Returns the FLOPs and temporary bytes that the compiler reports."""
    shaped = jax.ShapeDtypeStruct(x.shape, x.dtype)
    several = derivatives(f, *wanted, mode=mode, unroll=unroll)
    compiled = jax.jit(several).lower(shaped).compile()
    costs = compiled.cost_analysis()
    # Some backends report nothing, and some versions of jax one dict per computation.
    if isinstance(costs, list | tuple):
        costs = costs[0] if costs else None
    flops = (costs or {}).get("flops")
    memory = getattr(compiled.memory_analysis(), "temp_size_in_bytes", None)
    return (
        f"{'FLOPs not reported' if flops is None else f'{flops:,.0f} FLOPs'}, "
        f"{'temporaries not reported' if memory is None else f'{memory:,} B temporary'}"
    )
