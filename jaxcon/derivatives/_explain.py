"""Description of how several derivatives are computed, and of their cost."""

import functools
import math
from collections.abc import Callable

import jax
from jax.typing import ArrayLike

from jaxcon.derivatives import _checks, _plan
from jaxcon.derivatives import _quantities as q
from jaxcon.derivatives._plan import Plan
from jaxcon.derivatives._several import (
    derivatives,
    execute,
    first_possible,
    planned,
)


def explain(
    f: Callable[..., jax.Array],
    x: ArrayLike,
    *wanted: q.Spec,
    mode: str | None = None,
    unroll: bool | None = None,
) -> str:
    """Describes, as text, how ``derivatives`` computes each quantity, and the cost.

    One line per quantity lists the mode, the number of tangents or cotangents, the
    reason, and the FLOPs and temporary memory of the compiled program that computes it
    alone for this one x. The last line describes the program that computes them all, with
    its tangents and streams. FLOPs are the compiler's count, which leaves out
    transcendental functions; a number that the backend does not report is marked as not
    reported. One program is compiled per line.

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
    _checks.require_choices(mode, unroll, "explain")
    f = _checks.array_valued(f, "explain")
    x = _checks.vector(x, "explain")
    y = jax.eval_shape(f, x)
    terms = q.terms(wanted, x, y.shape)
    high = any(len(term.inputs) > 2 for term in terms)

    def run(attempt: str | None) -> Plan:
        plan = planned(f, x, terms, y, attempt, unroll)
        jax.eval_shape(functools.partial(execute, f, terms=terms, plan=plan), x)
        return plan

    plan = first_possible(run, mode, high)
    need = q.need(terms, x.size, y)
    size = max(map(len, (*fields, "together"))) + 2
    cost = functools.partial(_cost, f, x, mode, unroll)
    header = f"f: {x.shape} -> {y.shape}, {x.dtype}, on {jax.default_backend()}"
    lines = [
        f"{field:<{size}}{_account(t, term, need, plan)}; alone {cost(term.spec)}"
        for t, (field, term) in enumerate(zip(fields, terms))
    ]
    together = f"{'together':<{size}}{_plan.summary(need, plan)}{cost(*wanted)}"
    return "\n".join([header, *lines, together])


def _account(t: int, term: q.Term, need: _plan.Need, plan: _plan.Plan) -> str:
    """Returns the mode of one quantity, its tangents or cotangents and the reason."""
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
