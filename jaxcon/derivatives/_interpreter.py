"""Interpreter of jaxprs on series instead of numbers.

A series is what an algebra propagates in the place of a number that depends on x:
for `Streams` a value with tangents and sums of second derivatives, for `Taylor` a value
with the higher coefficients of a curve. The interpreter does what all algebras share: it
finds the values that depend on x (all others are evaluated as they stand), enters calls,
loops and branches, and selects the rule for each primitive.

Only jax's public interface is used: `jax.make_jaxpr` and the equations it returns.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import (
    ClosedJaxpr,  # pyright: ignore[reportPrivateImportUsage]
    Literal,
)

from jaxcon.derivatives import _matrices, _reach, _rules, _zeros
from jaxcon.derivatives._equations import (
    CUSTOM_VJP,
    Bind,
    Equation,
    NoForwardMode,
    Product,
    Reach,
    called_name,
    held_operands,
    is_complex,
    is_constant,
    is_entrywise,
    is_variable,
    linear_part,
    may_have_kinks,
    product,
    reach_of,
    reach_of_broadcast,
    require_forward_mode,
    selects,
)


class Algebra(Protocol):
    """Operations that a kind of series must have.

    ``xs`` are the series among the operands of one equation, ``bind`` evaluates it on
    arrays put in their places.
    """

    Series: type
    order: int  # of the derivatives carried
    corners: list[str]  # primitives met that have no second derivative somewhere

    def value(self, x: Any) -> jax.Array:
        """Returns the number itself."""
        ...

    def varies(self, x: Any) -> bool:
        """Returns whether x is a series with a part that is not known to be zero."""
        ...

    def constant(self, x: Any) -> Any:
        """Returns the series of a number that does not depend on x."""
        ...

    def linear(self, bind: Bind, apply: Bind, xs: list[Any], reach: Reach) -> list[Any]:
        """Applies a primitive jointly linear in xs; ``apply`` is its linear part."""
        ...

    def bilinear(self, product: Product, x: Any, y: Any) -> Any:
        """Multiplies two series."""
        ...

    def quotient(self, x: Any, y: Any) -> Any:
        """Divides x by y, two series of which one varies."""
        ...

    def unary(self, name: str, bind: Bind, x: Any, kink: str | None) -> Any:
        """Applies a function of each entry of x alone.

        ``kink`` is the function's name if it may have kinks; ``name`` is the primitive's,
        for a call "jit" or the like.
        """
        ...

    def kinked(self, name: str, bind: Bind, xs: list[Any], reach: Reach) -> list[Any]:
        """Applies a primitive that is linear between its kinks."""
        ...

    def general(
        self, bind: Bind, xs: list[Any], reach: Reach, entrywise: bool
    ) -> list[Any]:
        """Applies any primitive, by jax's own rules.

        It is ``entrywise`` if each entry depends on the like entries of xs alone.
        """
        ...

    def solution(
        self, values: list[Any], image: Callable, target: list[Any], solve: Bind
    ) -> list[Any]:
        """Returns ys of these values whose image is the target, arrays or series.

        ``image`` maps series to series or arrays, and ``solve`` inverts the matrix by
        which its values depend on those of ys.
        """
        ...

    def log_determinant(self, x: Any) -> Any:
        """Returns log det x for matrices x whose value is the identity."""
        ...

    def written_out(self, x: Any) -> Any:
        """Returns x in the form in which loops and branches carry it."""
        ...

    def moved_to(self, value: jax.Array, x: Any) -> Any:
        """Returns x with another value, that differs by a constant."""
        ...

    def fill(self, x: Any, like: Any) -> Any:
        """Returns x with zeros written out where ``like`` has more than a symbolic zero."""
        ...

    def scanned(self, x: Any) -> Any:
        """Moves the leading axis of x in front of every part, as a scan requires."""
        ...

    def unscanned(self, x: Any) -> Any:
        """Undoes `scanned`."""
        ...


class Cut(NamedTuple):
    """Intermediate through which alone x enters what follows, with its replacement."""

    after: int  # the number of the equation that makes it
    variable: Any
    replace: Callable[[Any], Any]


def interpret(
    closed: ClosedJaxpr,
    args: Sequence[Any],
    algebra: Algebra,
    cut: Cut | None = None,
    compared: Sequence[bool] = (),
) -> list[Any]:
    """Returns the outputs of a jaxpr at args, each an array or a series.

    ``compared`` flags the arrays among args that were computed by comparing series.
    """
    known: dict[Any, Any] = {}

    def read(atom: Any) -> Any:
        if isinstance(atom, Literal):
            return np.asarray(atom.val, atom.aval.dtype)  # pyright: ignore
        return known[atom]

    jaxpr = closed.jaxpr
    known.update(zip(jaxpr.constvars, closed.consts))
    known.update(zip(jaxpr.invars, args))
    needed = _differentiated(jaxpr)
    found = {v for v, flag in zip(jaxpr.invars, compared) if flag}
    for i, eqn in enumerate(jaxpr.eqns):
        inputs = [read(atom) for atom in eqn.invars]
        flags = tuple(is_variable(atom) and atom in found for atom in eqn.invars)
        if any(flags) or any(map(algebra.varies, inputs)):
            found.update(eqn.outvars)
        if needed.isdisjoint(eqn.outvars):
            inputs = _values(inputs, algebra)
        outputs = _evaluate(Equation(eqn, jaxpr, flags), inputs, algebra)
        known.update(zip(eqn.outvars, outputs))
        if cut is not None and cut.after == i:
            known[cut.variable] = cut.replace(known[cut.variable])
    return [read(atom) for atom in jaxpr.outvars]


def _differentiated(jaxpr: Any) -> set[Any]:
    """Returns the variables on which some output depends with a derivative.

    The maximum that a softmax subtracts, under a stop_gradient, is not among them.
    """
    needed = {v for v in jaxpr.outvars if is_variable(v)}
    for eqn in reversed(jaxpr.eqns):
        if not (is_constant(eqn) or needed.isdisjoint(eqn.outvars)):
            needed.update(v for v in eqn.invars if is_variable(v))
    return needed


def _values(xs: list[Any], algebra: Algebra) -> list[Any]:
    return [algebra.value(x) if isinstance(x, algebra.Series) else x for x in xs]


def _evaluate(eqn: Equation, inputs: list[Any], algebra: Algebra) -> list[Any]:
    active = [i for i, x in enumerate(inputs) if algebra.varies(x)]
    values = _values(inputs, algebra)
    if not active:
        known = _reach.folded(eqn, values)
        if known is None and eqn.name in _rules.CALLS and _yields_integers(eqn, values):
            return interpret(eqn.inner, values, algebra)
        return eqn(values) if known is None else known
    floating = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars]
    if is_constant(eqn) or not any(floating):
        return eqn(values)
    inputs = [x if i in active else v for i, (x, v) in enumerate(zip(inputs, values))]
    if eqn.name in _STRUCTURED:
        inputs = list(map(algebra.written_out, inputs))
        return _STRUCTURED[eqn.name](eqn, inputs, algebra)
    if _matrices.is_solution(eqn, active):
        return _matrices.solution(eqn, inputs, algebra, interpret)
    if _matrices.is_log_determinant(eqn):
        return _matrices.log_determinant(eqn, inputs, algebra)
    if eqn.name == "mul" and inputs[0] is inputs[1]:
        return [algebra.unary("square", lambda x: [x * x], inputs[0], None)]
    if (eqn.name in _rules.BILINEAR or eqn.name == "div") and max(active) < 2:
        x, y = (
            x if i in active else algebra.constant(x) for i, x in enumerate(inputs[:2])
        )
        if eqn.name == "div":
            return [algebra.quotient(x, y)]
        return [algebra.bilinear(product(eqn, values), x, y)]
    if eqn.name in _rules.MIXED and len(active) == 2:
        shape = eqn.outvars[0].aval.shape
        inputs = [_broadcast(x, shape, algebra) for x in inputs]
        values = _values(inputs, algebra)
    # A series that stands in two places is one variable of the equation.
    xs = list({id(inputs[i]): inputs[i] for i in active}.values())
    places = [tuple(i for i in active if inputs[i] is x) for x in xs]
    bind = eqn.at(values, places)
    reach = reach_of(eqn, values, places)
    if eqn.name.startswith("custom_vjp_call"):
        raise NoForwardMode(CUSTOM_VJP)
    if eqn.is_opaque:
        require_forward_mode(
            bind, [values[place[0]] for place in places], algebra.order
        )
    if eqn.name == "select_n" and eqn.compared[0]:
        algebra.corners.append("where")
    entrywise = is_entrywise(eqn, bind, places, values)
    if entrywise and len(xs) == 1 and len(eqn.outvars) == 1:
        if selects(eqn):
            algebra.corners.append("where")
        kinked = eqn.inner is not None and may_have_kinks(eqn.inner.jaxpr)
        kink = called_name(eqn) if kinked else None
        return [algebra.unary(eqn.name, bind, xs[0], kink)]
    if eqn.name in _rules.CALLS:
        return interpret(eqn.inner, inputs, algebra, compared=eqn.compared)
    if eqn.name in _rules.KINKED and not is_complex(eqn):
        return algebra.kinked(eqn.name, bind, xs, reach)
    held = held_operands(eqn.name, len(inputs), active)
    if held is not None:
        apply = linear_part(eqn, values, places, held)
        return algebra.linear(bind, apply, xs, reach)
    return algebra.general(bind, xs, reach, entrywise)


def _broadcast(x: Any, shape: tuple[int, ...], algebra: Algebra) -> Any:
    """Returns the operand of a function of each entry in the shape of its result."""
    if jnp.shape(algebra.value(x)) == shape:
        return x

    def bind(value: Any) -> list[Any]:
        return [jnp.broadcast_to(value, shape)]

    return algebra.linear(bind, bind, [x], reach_of_broadcast(shape))[0]


def _yields_integers(eqn: Equation, values: list[Any]) -> bool:
    """Returns whether a call computes with known numbers what may be places."""
    return all(map(_reach.is_known, values)) and not any(
        jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars
    )


def _checkpoint(eqn: Equation, inputs: list[Any], algebra: Algebra) -> list[Any]:
    """Recomputes intermediates inside instead of storing them, as `jax.checkpoint` does."""
    jaxpr = eqn.params["jaxpr"]
    closed = jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())

    def inside(inputs: list[Any]) -> list[Any]:
        return interpret(closed, inputs, algebra)

    kept = {key: eqn.params[key] for key in ("prevent_cse", "policy")}
    return jax.checkpoint(inside, **kept)(inputs)


def _cond(eqn: Equation, inputs: list[Any], algebra: Algebra) -> list[Any]:
    index, *operands = inputs
    branches = [
        functools.partial(interpret, branch, algebra=algebra)
        for branch in eqn.params["branches"]
    ]
    # The branches must return like series: each is filled up with the parts of the others.
    shapes = [jax.eval_shape(branch, operands) for branch in branches]
    like = functools.reduce(functools.partial(_fill_all, algebra), shapes)

    def filled(branch: Callable, operands: list[Any]) -> list[Any]:
        return _fill_all(algebra, branch(operands), like)

    options = [functools.partial(filled, branch) for branch in branches]
    if not _zeros.axes_of(index):
        return jax.lax.switch(index, options, operands)
    # Where the index differs between the devices of a shard_map, jax refuses to map such
    # a switch if a branch uses a constant. Under vmap it selects among all of them anyway.
    results = [option(operands) for option in options]

    def selected(*cases: Any) -> Any:
        which, *rest = (_zeros.varying(x, index, *cases) for x in (index, *cases))
        return jax.lax.select_n(which, *rest)

    return jax.tree.map(selected, *results)


def _while(eqn: Equation, inputs: list[Any], algebra: Algebra) -> list[Any]:
    p = eqn.params
    of_cond, of_body = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    asked, held, carry = inputs[:of_cond], inputs[of_cond:of_body], inputs[of_body:]

    def body(carry: list[Any]) -> list[Any]:
        return interpret(p["body_jaxpr"], [*held, *carry], algebra)

    def proceed(carry: list[Any]) -> Any:
        values = _values([*asked, *carry], algebra)
        return interpret(p["cond_jaxpr"], values, algebra)[0]

    carry = _steady(body, carry, algebra)
    return jax.lax.while_loop(
        proceed, lambda carry: _fill_all(algebra, body(carry), carry), carry
    )


def _scan(eqn: Equation, inputs: list[Any], algebra: Algebra) -> list[Any]:
    body_jaxpr = eqn.params["jaxpr"]
    # A scanned operand has one axis more outside than inside; jax's own record of the
    # operands' roles has changed between versions.
    scanned = _deeper(eqn.invars, body_jaxpr.jaxpr.invars)
    of_carry = len(eqn.outvars) - _deeper(eqn.outvars, body_jaxpr.jaxpr.outvars)
    of_const = len(inputs) - scanned - of_carry
    held, carry = inputs[:of_const], inputs[of_const : of_const + of_carry]
    xs = [algebra.scanned(x) for x in inputs[of_const + of_carry :]]

    def body(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        outputs = interpret(body_jaxpr, [*held, *carry, *x], algebra)
        return outputs[:of_carry], outputs[of_carry:]

    def filled(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        new, y = body(carry, x)
        return _fill_all(algebra, new, carry), y

    first = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), xs)
    carry = _steady(lambda carry, x: body(carry, x)[0], carry, algebra, first)
    kept = {key: eqn.params[key] for key in ("length", "reverse", "unroll")}
    carry, ys = jax.lax.scan(filled, carry, xs, **kept)
    return [*carry, *(algebra.unscanned(y) for y in ys)]


def _deeper(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """Counts the variables that have more dimensions outside than inside."""
    return sum(a.aval.ndim > b.aval.ndim for a, b in zip(outside, inside))


def _steady(
    body: Callable[..., list[Any]], carry: list[Any], algebra: Algebra, *rest: Any
) -> list[Any]:
    """Returns the carry with zeros written out until the body keeps its structure."""
    while True:
        new = _fill_all(algebra, carry, jax.eval_shape(body, carry, *rest))
        if jax.tree.structure(new) == jax.tree.structure(carry):
            return new
        carry = new


def _fill_all(algebra: Algebra, xs: list[Any], likes: list[Any]) -> list[Any]:
    """Returns xs with zeros written out, and varying over devices, where the likes are."""

    def filled(x: Any, like: Any) -> Any:
        x = algebra.fill(x, like)
        parts = jax.tree.leaves((x, like))
        return jax.tree.map(lambda part: _zeros.varying(part, *parts), x)

    return list(map(filled, xs, likes))


_STRUCTURED = {
    "checkpoint": _checkpoint,
    "remat2": _checkpoint,
    "cond": _cond,
    "scan": _scan,
    "while": _while,
}
