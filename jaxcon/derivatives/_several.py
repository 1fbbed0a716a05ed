"""Several derivatives of the same f at the same x, and the account of how.

What is wanted is said by small specifications (``Value()``, ``Gradient()``, …). One
plan, made from shapes alone, decides which passes are made; ``derivatives`` carries it
out and ``explain`` tells it, so the account cannot depart from what is computed.
"""

import functools
from collections import Counter, namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcon.derivatives import _checks, _operators, _passes


class Value(NamedTuple):
    """Asks for f(x); the field is ``value``."""


class Gradient(NamedTuple):
    """Asks for the gradient (d,) of a scalar f; the field is ``gradient``."""


class Jacobian(NamedTuple):
    """Asks for the Jacobian (m, d) of a vector f; the field is ``jacobian``."""


class Partial(NamedTuple):
    """Asks for one partial derivative; ``Partial((0, 1))`` is field ``partial_0_1``."""

    inputs: tuple[int, ...] | int


class Directional(NamedTuple):
    """Asks for the derivative along direction (d,); the field is ``directional``."""

    direction: ArrayLike


class Hessian(NamedTuple):
    """Asks for the Hessian (d, d) of a scalar f; the field is ``hessian``."""


class HessianDiagonal(NamedTuple):
    """Asks for the Hessian's diagonal (d,); the field is ``hessian_diagonal``."""


class Laplacian(NamedTuple):
    """Asks for a weighted sum of second derivatives; the field is ``laplacian``."""

    weights: ArrayLike | None = None
    directions: ArrayLike | None = None


class Divergence(NamedTuple):
    """Asks for the divergence () of a field (d,); the field is ``divergence``."""


Spec = (
    Value
    | Gradient
    | Jacobian
    | Partial
    | Directional
    | Hessian
    | HessianDiagonal
    | Laplacian
    | Divergence
)
_NAMES = {
    Value: "value",
    Gradient: "gradient",
    Jacobian: "jacobian",
    Directional: "directional",
    Hessian: "hessian",
    HessianDiagonal: "hessian_diagonal",
    Laplacian: "laplacian",
    Divergence: "divergence",
}
_SCALAR = (Gradient, Hessian, HessianDiagonal, Laplacian)


def derivatives(
    f: Callable[..., jax.Array], *wanted: Spec
) -> Callable[[ArrayLike], Any]:
    r"""Returns several derivatives of f at one x, sharing the passes they can share.

    .. math:: x \mapsto (f(x), \nabla f(x), \operatorname{tr} H(x), \dots)

    The value comes with the first pass made, the gradient with the second derivatives,
    and one Hessian serves all that is read from it. The results come in the order
    asked for, as a named tuple whose type depends on the field names alone. A second
    ``Laplacian`` is ``laplacian_1``, a third ``laplacian_2``, and so for
    ``Directional``; any other quantity asked for twice is refused.

    Args:
      f: one example x (d,) to a scalar () or a vector (m,), as the quantities need.
      *wanted: ``Value()``, ``Gradient()``, ``Jacobian()``, ``Partial((0, 1))``,
        ``Directional(v)``, ``Hessian()``, ``HessianDiagonal()``,
        ``Laplacian(weights, directions)`` or ``Divergence()``; at least one.

    Returns:
      A function of x (d,) that returns the named tuple.

    Raises:
      ValueError: if nothing is asked for, or something twice; when called, if x, f(x)
        or an argument of a quantity has the wrong shape.
      TypeError: if a quantity is not one of the above; when called, if x or f(x) is
        not one real floating-point array.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxcon.derivatives import Gradient, Laplacian, Value, derivatives
      >>> both = derivatives(jnp.prod, Value(), Gradient(), Laplacian())
      >>> result = both(jnp.array([2.0, 3.0]))
      >>> float(result.value), result.gradient.tolist(), float(result.laplacian)
      (6.0, [3.0, 2.0], 0.0)
    """
    result = _result_type(_fields(wanted))
    f = _checks.real_valued(f, "derivatives")

    def at(x: ArrayLike) -> tuple:
        x = _checks.vector(x, "derivatives")
        terms, plan = _plan(f, x, wanted)
        known = _known(f, x, terms, plan)
        return result(*(_read(f, x, i, t, known) for i, t in enumerate(terms)))

    return at


def explain(f: Callable[..., jax.Array], x: ArrayLike, *wanted: Spec) -> str:
    """Tells, as text, how ``derivatives`` computes each quantity and what it costs.

    One line per quantity: the mode, the number of tangents or cotangents, why, and
    the FLOPs and temporary memory of the compiled program that computes it alone for
    this one x. The last line is the program that computes them all. FLOPs are the
    compiler's count, which leaves out transcendental functions; a number that the
    backend does not report is said to be so. Compiles one program per line.

    Args:
      f: one example x (d,) to a scalar () or a vector (m,).
      x: one example (d,); only its shape and dtype matter.
      *wanted: as for ``derivatives``.

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
    fields = _fields(wanted)
    f = _checks.real_valued(f, "explain")
    x = _checks.vector(x, "explain")
    terms, plan = _plan(f, x, wanted)
    width = max(map(len, (*fields, "together"))) + 2
    header = f"f: {x.shape} -> {plan.shape}, {x.dtype}, on {jax.default_backend()}"
    lines = [
        f"{field:<{width}}{_account(t, plan, x.size)}; alone {_cost(f, x, t.spec)}"
        for field, t in zip(fields, terms)
    ]
    return "\n".join([header, *lines, f"{'together':<{width}}{_cost(f, x, *wanted)}"])


def _fields(wanted: tuple[Spec, ...]) -> tuple[str, ...]:
    if not wanted:
        raise ValueError("derivatives got nothing to compute; pass e.g. Gradient()")
    fields, seen = [], Counter()
    for spec in wanted:
        name = _name(spec)
        if seen[name] and not isinstance(spec, Laplacian | Directional):
            raise ValueError(f"derivatives got {name} twice; ask for it once")
        fields.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return tuple(fields)


def _name(spec: Spec) -> str:
    if isinstance(spec, Partial):
        return "_".join(["partial", *map(str, _inputs(spec))])
    if type(spec) not in _NAMES:
        kind = spec.__name__ if isinstance(spec, type) else repr(spec)
        raise TypeError(f"derivatives got {kind}; pass quantities, e.g. Gradient()")
    return _NAMES[type(spec)]


def _inputs(spec: Partial) -> tuple[int, ...]:
    inputs = spec.inputs if isinstance(spec.inputs, tuple) else (spec.inputs,)
    return _operators.input_indices(inputs, "Partial")


@functools.cache
def _result_type(fields: tuple[str, ...]):
    # Cached because two types of the same name are two pytree structures, and a loop
    # carrying the one would refuse the other.
    return namedtuple("Derivatives", fields)


class _Term(NamedTuple):
    """One quantity, with its arguments in x's dtype."""

    spec: Spec
    weights: jax.Array | None = None
    directions: jax.Array | None = None  # (k, d): those of a Laplacian, or the one


class _Plan(NamedTuple):
    """Which passes are made: at most one of second order, else one of first."""

    shape: tuple[int, ...]  # of f(x)
    second: str | None  # "units": H v over all unit vectors; "own": over directions
    first: str | None  # "given" (by the second), "reverse", "forward" or "tangents"


class _Known(NamedTuple):
    """What the passes returned."""

    own: dict[int, jax.Array]  # by position: H v (k, d) or J v (..., 1)
    value: jax.Array | None = None
    jacobian: jax.Array | None = None  # or the gradient
    hessian: jax.Array | None = None


def _plan(
    f: Callable, x: jax.Array, wanted: tuple[Spec, ...]
) -> tuple[tuple[_Term, ...], _Plan]:
    shape = jax.eval_shape(f, x).shape
    for spec in wanted:
        _require_shape(spec, shape, x.size)
    terms = tuple(_term(spec, x) for spec in wanted)
    second = _second(terms, x.size)
    return terms, _Plan(shape, second, _first(terms, shape, x.size, second))


def _require_shape(spec: Spec, shape: tuple[int, ...], d: int) -> None:
    name = f"derivatives, {type(spec).__name__}"
    if isinstance(spec, _SCALAR):
        _checks.require_scalar(shape, name)
    elif isinstance(spec, Jacobian):
        _checks.require_vector(shape, name)
    elif isinstance(spec, Divergence):
        _checks.require_field(shape, d, name)


def _term(spec: Spec, x: jax.Array) -> _Term:
    if isinstance(spec, Laplacian):
        return _Term(spec, *_checks.terms(*spec, x, "Laplacian"))
    if isinstance(spec, Directional):
        direction = _checks.like(spec.direction, x, "Directional", "direction")
        return _Term(spec, directions=direction[None])
    if isinstance(spec, Partial):
        inputs = _inputs(spec)
        _checks.require_inputs(inputs, x.size, "Partial")
        return _Term(spec, directions=_passes.units(x)[jnp.array(inputs)])
    return _Term(spec)


def _second(terms: tuple[_Term, ...], d: int) -> str | None:
    asked = [t for t in terms if isinstance(t.spec, Laplacian)]
    own = [t.directions.shape[0] for t in asked if t.directions is not None]
    whole = any(isinstance(t.spec, Hessian | HessianDiagonal) for t in terms)
    # As many directions as inputs: the whole Hessian serves them all.
    if whole or len(own) < len(asked) or sum(own) > d:
        return "units"
    return "own" if asked else None


def _first(
    terms: tuple[_Term, ...], shape: tuple[int, ...], d: int, second: str | None
) -> str | None:
    if second:
        return "given"
    singles = sum(map(_is_single, terms))
    whole = any(isinstance(t.spec, Gradient | Jacobian | Divergence) for t in terms)
    if not whole and not singles:
        return None
    m = shape[0] if shape else 1
    if len(shape) <= 1 and _passes.reverse_is_cheaper(m, d if whole else singles):
        return "reverse"
    # The reverse pass also wins its tie for a gradient: it is one cotangent, no basis.
    if whole:
        return "forward" if shape else "reverse"
    return "tangents"


def _is_single(term: _Term) -> bool:
    """Says whether the quantity is one derivative of first order."""
    single = isinstance(term.spec, Partial | Directional)
    return single and term.directions is not None and len(term.directions) == 1


def _known(f: Callable, x: jax.Array, terms: tuple[_Term, ...], plan: _Plan) -> _Known:
    if plan.second == "units":
        return _Known({}, *_passes.curvature(f, x, _passes.units(x)))
    if plan.second == "own":
        seeds, split = _stack(terms, lambda t: isinstance(t.spec, Laplacian))
        value, gradient, products = _passes.curvature(f, x, seeds)
        return _Known(split(products, 0), value, gradient)
    if plan.first == "reverse":
        return _Known({}, *_passes.reverse(f, x))
    if plan.first == "forward":
        return _Known({}, *_passes.forward(f, x, _passes.units(x)))
    if plan.first == "tangents":
        tangents, split = _stack(terms, _is_single)
        value, along = _passes.forward(f, x, tangents)
        return _Known(split(along, -1), value)
    return _Known({})


def _stack(terms: tuple[_Term, ...], chosen: Callable[[_Term], bool]):
    """Returns the chosen terms' directions as rows, and how to undo the stacking."""
    picked = {
        i: t.directions
        for i, t in enumerate(terms)
        if chosen(t) and t.directions is not None
    }
    ends = np.cumsum([len(v) for v in picked.values()])[:-1].tolist()

    def split(stacked: jax.Array, axis: int) -> dict[int, jax.Array]:
        return dict(zip(picked, jnp.split(stacked, ends, axis)))

    return jnp.concatenate(list(picked.values())), split


def _read(
    f: Callable, x: jax.Array, i: int, term: _Term, known: _Known
) -> jax.Array | None:
    """Returns one quantity: read from the passes, or by nested jvp if none has it."""
    spec, weights, directions = term
    if isinstance(spec, Value):
        # XLA merges this forward pass with those of a nested jvp.
        return f(x) if known.value is None else known.value
    if isinstance(spec, Gradient | Jacobian):
        return known.jacobian
    if isinstance(spec, Divergence):
        assert known.jacobian is not None
        return jnp.trace(known.jacobian)
    if isinstance(spec, Hessian):
        return known.hessian
    if isinstance(spec, HessianDiagonal):
        assert known.hessian is not None
        return jnp.diagonal(known.hessian)
    if isinstance(spec, Laplacian):
        return _passes.weighted_sum(_products(i, term, known), weights, directions)
    return _read_tangent(f, x, i, term, known)


def _products(i: int, term: _Term, known: _Known) -> jax.Array:
    if known.hessian is None:
        return known.own[i]
    if term.directions is None:
        return known.hessian
    return _passes.times(known.hessian, term.directions)


def _read_tangent(
    f: Callable, x: jax.Array, i: int, term: _Term, known: _Known
) -> jax.Array:
    assert term.directions is not None
    if _is_single(term):
        if known.jacobian is None:
            return known.own[i][..., 0]
        return _passes.times(known.jacobian.T, term.directions)[0]
    inputs = _inputs(term.spec) if isinstance(term.spec, Partial) else ()
    if known.hessian is not None and len(inputs) == 2:
        return known.hessian[inputs]
    return _passes.nested(f, x, tuple(term.directions))


def _account(term: _Term, plan: _Plan, d: int) -> str:
    """Returns the mode of one quantity, its count and why, as one phrase."""
    spec = term.spec
    inputs = _inputs(spec) if isinstance(spec, Partial) else ()
    if len(inputs) == 2 and plan.second == "units":
        return f"{_of_second(d)}, {_count(d, 'tangent')}: an entry of the Hessian"
    if len(inputs) > 1:
        nested = f"nested forward, {_count(len(inputs), 'tangent')}"
        return f"{nested}: one jvp per order"
    if isinstance(spec, Value):
        shared = plan.first is not None
        return "shared: comes with the pass" if shared else "plain: no derivative"
    if plan.second:
        return _account_second(term, plan, d)
    return _account_first(term, plan, d)


def _account_second(term: _Term, plan: _Plan, d: int) -> str:
    spec, mode = term.spec, _of_second(d)
    if not isinstance(spec, Hessian | HessianDiagonal | Laplacian):
        return "shared: read from the gradient inside the second-order pass"
    if plan.second == "own" and term.directions is not None:
        k = len(term.directions)
        why = "one Hessian-vector product per direction"
    else:
        k = d
        why = "one row of the Hessian per input"
    if d == 1:
        why = "one input, so a backward pass would have nothing to share"
    return f"{mode}, {_count(k, 'tangent')}: {why}"


def _of_second(d: int) -> str:
    return "forward-over-forward" if d == 1 else "forward-over-reverse"


def _account_first(term: _Term, plan: _Plan, d: int) -> str:
    m = plan.shape[0] if plan.shape else 1
    if plan.first == "tangents":
        return "forward, 1 tangent: a single direction is one jvp"
    if plan.first == "reverse":
        why = f"fewer outputs ({m}) than directions wanted"
        if not plan.shape:
            why = "one output, so one backward pass gives every input"
        text = f"reverse, {_count(m, 'cotangent')}: {why}"
    else:
        text = f"forward, {_count(d, 'tangent')}: no more inputs ({d}) than outputs"
        text = f"{text} ({m})"
    return text + (", read from the whole" if _is_single(term) else "")


def _count(k: int, noun: str) -> str:
    return f"{k} {noun}" + ("" if k == 1 else "s")


def _cost(f: Callable, x: jax.Array, *wanted: Spec) -> str:
    """Returns the FLOPs and temporary bytes that the compiler reports."""
    shaped = jax.ShapeDtypeStruct(x.shape, x.dtype)
    compiled = jax.jit(derivatives(f, *wanted)).lower(shaped).compile()
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
