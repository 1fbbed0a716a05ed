"""Several derivatives of one f at one x, from as few passes as they allow.

Requests (``Value()``, ``Gradient()``, …) specify the derivatives wanted. One plan, made
from shapes alone, decides which passes are made; ``derivatives`` executes it and
``explain`` describes it, so that the description always agrees with the computation.
"""

import functools
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxcon.derivatives import _checks, _passes, _plan
from jaxcon.derivatives import _quantities as q
from jaxcon.derivatives._equations import NoForwardMode, NoReverseMode
from jaxcon.derivatives._read import Passed, read


def derivatives(
    f: Callable[..., jax.Array],
    *wanted: q.Spec,
    mode: str | None = None,
    unroll: bool | None = None,
) -> Callable[[ArrayLike], Any]:
    r"""Returns several derivatives of f at one x, in as few passes as they allow.

    .. math:: x \mapsto (f(x), \nabla f(x), \operatorname{tr} H(x), \dots)

    One evaluation of f carries its value, the tangents needed, and one stream for each
    sum of second derivatives; `explain` lists them. The results are in the order of the
    requests, in a named tuple whose type depends on the field names alone. A second
    ``Laplacian`` is ``laplacian_1``, a third ``laplacian_2``, and so for
    ``Directional``; any other quantity requested twice is refused. Second derivatives
    of a vector (m,) are those of each output: ``Laplacian()`` is then (m,).

    Args:
      f: one example x (d,) to a scalar () or a vector (m,), as the quantities need.
      *wanted: ``Value()``, ``Gradient()``, ``Jacobian()``, ``Partial((0, 1))``,
        ``Directional(v)``, ``Hessian()``, ``HessianDiagonal()``,
        ``Laplacian(weights, directions)`` or ``Divergence()``; at least one.
      mode: "forward" or "reverse" for everything; None for the cheaper one.
      unroll: whether each tangent is a program of its own, or all are one array; None
        for the faster one.

    Returns:
      A function of x (d,) that returns the named tuple.

    Raises:
      ValueError: if nothing is requested, or a quantity twice, or the mode is unknown;
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
    _checks.require_choices(mode, unroll, "derivatives")
    f = _checks.array_valued(f, "derivatives")

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
    y = jax.eval_shape(f, x)
    terms = q.terms(wanted, x, y.shape)
    high = any(len(term.inputs) > 2 for term in terms)
    if mode == "reverse" and high:
        raise ValueError(
            "derivatives: reverse mode takes derivatives up to the second; leave mode= "
            "out for a Partial of higher order"
        )

    def run(attempt: str | None) -> list[jax.Array]:
        plan = planned(f, x, terms, y, attempt, unroll)
        known = execute(f, x, terms, plan)
        return [read(f, x, t, terms, known) for t in range(len(terms))]

    return first_possible(run, mode, high)


def first_possible(run: Callable[[str | None], Any], mode: str | None, high: bool):
    """Returns the result of the first mode that jax's own rules do not refuse.

    Args:
        run: the mode -> its result.
        mode: the caller's, which is then the only one; None for the cheapest.
        high: whether derivatives above the second are wanted, which go forwards only.
    """
    attempt, refusals = mode, []
    while True:
        try:
            return run(attempt)
        except (NoForwardMode, NoReverseMode) as error:
            refusals.append(error)
            other = _other_way(error, attempt, high) if mode is None else None
            if other is None:
                raise _checks.no_mode(refusals) from error
            attempt = other


def _other_way(error: Exception, attempt: str | None, high: bool) -> str | None:
    if isinstance(error, NoReverseMode):
        return "forward" if attempt is None else None
    if high:
        return None
    # The backward rule of a jax.custom_vjp may have no forward mode itself.
    return {None: _plan.OVER_REVERSE, _plan.OVER_REVERSE: "reverse"}.get(attempt)


@functools.cache
def _result_type(fields: tuple[str, ...]):
    # It is cached because two types of the same name are two pytree structures, and a
    # loop that carries the one would refuse the other.
    return namedtuple("Derivatives", fields)


def planned(
    f: Callable,
    x: jax.Array,
    terms: tuple[q.Term, ...],
    y: jax.ShapeDtypeStruct,
    mode: str | None,
    unroll: bool | None,
) -> _plan.Plan:
    """Returns the plan of the passes from which all terms can be read."""
    need = q.need(terms, x.size, y)
    width = 0
    if len(need.sums) == 1 and len(need.sums[0]) > _plan.UNROLLED and not unroll:
        [(_, term)] = q.laplacians(terms)
        if term.nonnegative:
            width = _passes.width(f, x, len(need.sums[0]))
    return _plan.choose(need, mode, unroll, width)


def execute(
    f: Callable, x: jax.Array, terms: tuple[q.Term, ...], plan: _plan.Plan
) -> Passed:
    """Makes the passes of a plan and returns their results."""
    known = Passed()
    if plan.hessian == "reverse":
        return Passed(*_passes.reverse_over_reverse(f, x))
    if plan.hessian == "forward":
        units = [q.direction(i, terms, x) for i in range(x.size)]
        value, whole, rows = _passes.forward_over_reverse(
            f, x, units, unroll=plan.unroll
        )
        return Passed(value, whole, _passes.stacked(rows, -2))
    if plan.backward:
        value, whole = _passes.reverse(f, x, unroll=plan.unroll_reverse)
        known = known._replace(value=value, whole=whole)
    laplacians = q.laplacians(terms)
    if plan.separate:
        units = np.eye(x.size, dtype=x.dtype)
        left, right = (units[[pair[side] for pair in plan.pairs]] for side in (0, 1))
        value, each = _passes.each_pair(f, x, left, right)
        known = known._replace(value=value, pairs=dict(zip(plan.pairs, each)))
    if plan.narrow:
        [(t, term)] = laplacians
        # One direction for every weight, even if a direction is listed twice.
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
