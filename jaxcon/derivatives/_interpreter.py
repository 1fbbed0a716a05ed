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
    Jaxpr,  # pyright: ignore[reportPrivateImportUsage]
    Literal,
    jaxpr_as_fun,
)

from jaxcon.derivatives import _reach, _rules, _zeros

Bind = Callable[..., list[Any]]  # the operands that vary -> the outputs


# row, two parts or numbers, whether both depend on x -> their product
Product = Callable[[_zeros.Row, Any, Any, bool], Any]


class NoForwardMode(TypeError):
    """Error for a function in forward mode that jax differentiates only backwards."""


class NoReverseMode(TypeError):
    """Error for a function in reverse mode that jax differentiates only forwards."""


def pushed(
    f: Callable, values: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    """Returns f and its derivative along the tangents, by jax's own rules.

    Raises:
        NoForwardMode: they refuse, e.g. because of a custom_vjp inside of them.
    """
    try:
        return jax.jvp(f, values, tangents)
    except NoForwardMode:
        raise
    except (TypeError, ValueError, NotImplementedError) as error:
        raise NoForwardMode(first_line(error)) from error


def first_line(error: Exception) -> str:
    """Returns what an error says in its first line, without a full stop."""
    return str(error).partition("\n")[0].strip().rstrip(".")


class Reach:
    """Propagation of known zeros through one equation, from its series."""

    def __init__(self, eqn: Any, values: list[Any], places: list[tuple[int, ...]]):
        self.eqn, self.values, self.places = eqn, values, places
        self.floats = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars]
        self.outputs = sum(self.floats)

    def __call__(self, supports: list[Any]) -> list[Any]:
        """Returns the support of each output that is a float; None if unknown."""
        operands = [None] * len(self.values)
        for support, place in zip(supports, self.places):
            for i in place:
                operands[i] = support
        found = _reach.reached(self.eqn, operands, self.values)
        return [support for support, kept in zip(found, self.floats) if kept]


class Algebra(Protocol):
    """Operations that a kind of series must have.

    ``xs`` are the series among the operands of one equation, ``bind`` evaluates it on
    arrays put in their places.
    """

    Series: type
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

    def linear(
        self, bind: Bind, apply: Bind, xs: list[Any], reach: "Reach"
    ) -> list[Any]:
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

    def kinked(
        self, name: str, bind: Bind, xs: list[Any], reach: "Reach"
    ) -> list[Any]:
        """Applies a primitive that is linear between its kinks."""
        ...

    def general(
        self, bind: Bind, xs: list[Any], reach: "Reach", entrywise: bool
    ) -> list[Any]:
        """Applies any primitive, by jax's own rules.

        It is ``entrywise`` if each entry depends on the like entries of xs alone.
        """
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
        outputs = _evaluate(_Equation(eqn, jaxpr, flags), inputs, algebra)
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
        if not (_is_constant(eqn) or needed.isdisjoint(eqn.outvars)):
            needed.update(v for v in eqn.invars if is_variable(v))
    return needed


def _values(xs: list[Any], algebra: Algebra) -> list[Any]:
    return [algebra.value(x) if isinstance(x, algebra.Series) else x for x in xs]


class _Equation:
    """Equation of a jaxpr that can be evaluated again with other operands."""

    def __init__(self, eqn: Any, jaxpr: Any, compared: tuple[bool, ...]):
        self.primitive, self.params = eqn.primitive, eqn.params
        self.compared = compared  # which operands depend on x, if only by comparison
        self.name = eqn.primitive.name
        self.invars, self.outvars = eqn.invars, eqn.outvars
        self.inner = _inner(eqn)
        self._alone = None
        if _holds_a_program(eqn):
            # The binding of a call has changed between versions of jax; a jaxpr of this
            # one equation is evaluated alike by all of them.
            self._given = {v: i for i, v in enumerate(eqn.invars) if is_variable(v)}
            alone = jaxpr.replace(
                constvars=[],
                invars=list(self._given),
                outvars=eqn.outvars,
                eqns=[eqn],
            )
            self._alone = jaxpr_as_fun(ClosedJaxpr(alone, []))

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        """Evaluates the outputs for one value per operand, equal for equal variables."""
        values = [_zeros.varying(v, a.aval) for v, a in zip(values, self.invars)]
        if self.name == "pvary":  # of what may vary already, having come with a tangent
            like = self.outvars[0].aval
            return [_zeros.varying(value, like) for value in values]
        if self._alone is not None:
            return list(self._alone(*(values[i] for i in self._given.values())))
        values = [_zeros.varying(value, *values) for value in values]
        outputs = self.primitive.bind(*values, **self.params)
        return list(outputs) if self.primitive.multiple_results else [outputs]

    def at(self, values: Sequence[Any], places: Sequence[tuple[int, ...]]) -> Bind:
        """Returns the equation as a function of the values in some places, others held."""

        def bind(*xs: Any) -> list[Any]:
            put = {i: x for x, place in zip(xs, places) for i in place}
            return self([put.get(i, value) for i, value in enumerate(values)])

        return bind


def _evaluate(eqn: _Equation, inputs: list[Any], algebra: Algebra) -> list[Any]:
    active = [i for i, x in enumerate(inputs) if algebra.varies(x)]
    values = _values(inputs, algebra)
    if not active:
        known = _reach.folded(eqn, values)
        if known is None and eqn.name in _rules.CALLS and _yields_integers(eqn, values):
            return interpret(eqn.inner, values, algebra)
        return eqn(values) if known is None else known
    floating = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars]
    if _is_constant(eqn) or not any(floating):
        return eqn(values)
    inputs = [x if i in active else v for i, (x, v) in enumerate(zip(inputs, values))]
    if eqn.name in _STRUCTURED:
        return _STRUCTURED[eqn.name](eqn, inputs, algebra)
    if eqn.name == "mul" and inputs[0] is inputs[1]:
        return [algebra.unary("square", lambda x: [x * x], inputs[0], None)]
    if (eqn.name in _rules.BILINEAR or eqn.name == "div") and max(active) < 2:
        x, y = (x if i in active else algebra.constant(x) for i, x in enumerate(inputs[:2]))
        if eqn.name == "div":
            return [algebra.quotient(x, y)]
        return [algebra.bilinear(_product(eqn, values), x, y)]
    # A series that stands in two places is one variable of the equation.
    xs = list({id(inputs[i]): inputs[i] for i in active}.values())
    places = [tuple(i for i in active if inputs[i] is x) for x in xs]
    bind = eqn.at(values, places)
    reach = Reach(eqn, values, places)
    if eqn.name == "select_n" and eqn.compared[0]:
        algebra.corners.append("where")
    entrywise = _is_entrywise(eqn, bind, places, values)
    if entrywise and len(xs) == 1:
        if _selects(eqn):
            algebra.corners.append("where")
        kinked = eqn.inner is not None and may_have_kinks(eqn.inner.jaxpr)
        kink = _called(eqn) if kinked else None
        return [algebra.unary(eqn.name, bind, xs[0], kink)]
    if eqn.name in _rules.CALLS:
        return interpret(eqn.inner, inputs, algebra, compared=eqn.compared)
    if eqn.name.startswith("custom_vjp_call"):
        raise NoForwardMode("it holds a jax.custom_vjp, which has a backward rule only")
    if eqn.name in _rules.KINKED and not _is_complex(eqn):
        return algebra.kinked(eqn.name, bind, xs, reach)
    held = held_operands(eqn.name, len(inputs), active)
    if held is not None:
        apply = _linear_part(eqn, values, places, held)
        return algebra.linear(bind, apply, xs, reach)
    return algebra.general(bind, xs, reach, entrywise)


def _yields_integers(eqn: _Equation, values: list[Any]) -> bool:
    """Returns whether a call computes with known numbers what may be places."""
    return all(map(_reach.is_known, values)) and not any(
        jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars
    )


def _product(eqn: _Equation, values: list[Any]) -> Product:
    """Returns a bilinear equation as a function of two parts."""
    of_two = eqn.at(values, [(0,), (1,)])

    def bind(a: Any, b: Any) -> Any:
        return of_two(a, b)[0]

    if eqn.name == "dot_general":
        return _zeros.Dot(bind, eqn.params)
    if eqn.name == "mul":
        return lambda row, a, b, both: _zeros.times(row, a, b, bind)
    return lambda row, a, b, both: bind(_zeros.dense(a), _zeros.dense(b))


def held_operands(name: str, operands: int, active: list[int]) -> set[int] | None:
    """Returns the operands that parametrise a map linear in the active ones.

    The result is None if the map is not linear in them.
    """
    every = set(range(operands))
    if name in _rules.BILINEAR:
        held = every - set(active) if len(active) == 1 and active[0] < 2 else None
    elif name == "select_n":
        held = {0}
    elif name in _rules.LINEAR:
        varying = _rules.LINEAR[name]
        held = set() if varying is None else every - set(varying)
    else:
        held = None
    return None if held is None or held & set(active) else held


def _linear_part(
    eqn: _Equation, values: list[Any], places: list[tuple[int, ...]], held: set[int]
) -> Bind:
    """Returns the equation with zeros for added constants: neither active nor held."""
    active = [i for place in places for i in place]
    if eqn.name in ("add", "add_any", "sub") and len(active) == 1:
        sign = -1 if eqn.name == "sub" and active == [1] else 1
        shape = eqn.outvars[0].aval.shape  # a scalar operand is broadcast to it
        return lambda x: [jnp.broadcast_to(x if sign == 1 else -x, shape)]
    zeroed = [
        value if i in held or i in active else jnp.zeros_like(value)
        for i, value in enumerate(values)
    ]
    return eqn.at(zeroed, places)


def _is_constant(eqn: Any) -> bool:
    """Returns whether the derivative is zero; that of a complex number's sign is not."""
    name = eqn.primitive.name
    return name in _rules.CONSTANT and (name == "stop_gradient" or not _is_complex(eqn))


def _is_complex(eqn: Any) -> bool:
    return any(
        jnp.issubdtype(v.aval.dtype, jnp.complexfloating)
        for v in (*eqn.invars, *eqn.outvars)
    )


def is_variable(atom: Any) -> bool:
    return not isinstance(atom, Literal)


def _inner(eqn: Any) -> Any:
    """Returns the jaxpr that the equation calls, if it calls one."""
    for key in ("jaxpr", "call_jaxpr"):
        inner = eqn.params.get(key)
        if isinstance(inner, ClosedJaxpr):
            return inner
    return None


def _holds_a_program(eqn: Any) -> bool:
    """Returns whether the equation is a call, a loop, a shard_map or the like."""
    primitive = eqn.primitive
    if getattr(primitive, "call_primitive", False) or primitive.name == "xla_pmap":
        return True
    params = [p if isinstance(p, tuple) else (p,) for p in eqn.params.values()]
    return any(isinstance(p, ClosedJaxpr | Jaxpr) for each in params for p in each)


def _called(eqn: Any) -> str:
    """Returns the name of the called function, as a user wrote it."""
    if "name" in eqn.params or _inner(eqn) is None:
        return eqn.params.get("name", eqn.primitive.name)
    return _called(_inner(eqn).jaxpr.eqns[0])


def _is_entrywise(
    eqn: _Equation, bind: Bind, places: list[tuple[int, ...]], values: list[Any]
) -> bool:
    """Returns whether the one output is a function of like entries of the series alone.

    A call counts if everything inside is elementwise: jax.nn.gelu is then one function with
    one slope, not ten equations for every tangent, and a jax.custom_jvp such as
    jax.nn.softplus is differentiated by its own rule.
    """
    avals = [eqn.invars[place[0]].aval for place in places]
    kinds = {(v.shape, v.dtype) for v in avals}
    if [(v.aval.shape, v.aval.dtype) for v in eqn.outvars] != list(kinds):
        return False
    if eqn.inner is not None:
        if eqn.name in _rules.CALLS:
            called = len(places) == 1  # else it is entered
        else:
            called = eqn.name == "custom_jvp_call"
        if not (called and _is_elementwise(eqn.inner.jaxpr)):
            return False
        # Its own derivative rule may mix entries that the function itself does not mix.
        like = [values[place[0]] for place in places]

        def rule(xs: list[Any], ts: list[Any]) -> Any:
            return pushed(bind, tuple(xs), tuple(ts))

        return _is_elementwise(jax.make_jaxpr(rule)(like, like).jaxpr)
    cheaper = {*_rules.LINEAR, *_rules.BILINEAR, *_rules.KINKED, "select_n"}
    return eqn.name in _rules.ELEMENTWISE and eqn.name not in cheaper


def _is_elementwise(jaxpr: Any) -> bool:
    shapes = {v.aval.shape for v in (*jaxpr.invars, *jaxpr.outvars)}
    shape = max(shapes, key=len, default=())
    if shapes - {shape, ()}:
        return False
    for eqn in jaxpr.eqns:
        if {v.aval.shape for v in (*eqn.invars, *eqn.outvars)} - {shape, ()}:
            return False
        if _is_complex(eqn):
            return False
        name, inner = eqn.primitive.name, _inner(eqn)
        if inner is not None:
            called = name in _rules.CALLS or name == "custom_jvp_call"
            if not (called and _is_elementwise(inner.jaxpr)):
                return False
        elif name not in {*_rules.ELEMENTWISE, *_rules.CONSTANT, "broadcast_in_dim"}:
            return False
    return True


def _selects(eqn: _Equation) -> bool:
    """Returns whether a call selects by operands computed by comparing series."""
    if eqn.inner is None:
        return False
    pairs = zip(eqn.inner.jaxpr.invars, eqn.compared)
    given = {v for v, compared in pairs if not compared}
    return may_have_kinks(eqn.inner.jaxpr, given)


def may_have_kinks(jaxpr: Any, given: set[Any] | None = None) -> bool:
    """Returns whether a function is pieced together by comparisons made in it."""
    # A selection by a given operand, e.g. by a mask, has no kink.
    given = {*(jaxpr.invars if given is None else given), *jaxpr.constvars}

    def is_given(atom: Any) -> bool:
        return isinstance(atom, Literal) or atom in given

    for eqn in jaxpr.eqns:
        if eqn.primitive.name in _rules.KINKED:
            return True
        if eqn.primitive.name == "select_n" and not is_given(eqn.invars[0]):
            return True
        inner = _inner(eqn)
        if inner is not None:
            pairs = zip(inner.jaxpr.invars, eqn.invars)
            if may_have_kinks(inner.jaxpr, {v for v, atom in pairs if is_given(atom)}):
                return True
    return False


def _checkpoint(eqn: _Equation, inputs: list[Any], algebra: Algebra) -> list[Any]:
    """Recomputes intermediates inside instead of storing them, as `jax.checkpoint` does."""
    jaxpr = eqn.params["jaxpr"]
    closed = jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())

    def inside(inputs: list[Any]) -> list[Any]:
        return interpret(closed, inputs, algebra)

    kept = {key: eqn.params[key] for key in ("prevent_cse", "policy")}
    return jax.checkpoint(inside, **kept)(inputs)


def _cond(eqn: _Equation, inputs: list[Any], algebra: Algebra) -> list[Any]:
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
        which, *cases = (_zeros.varying(x, index, *cases) for x in (index, *cases))
        return jax.lax.select_n(which, *cases)

    return jax.tree.map(selected, *results)


def _while(eqn: _Equation, inputs: list[Any], algebra: Algebra) -> list[Any]:
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


def _scan(eqn: _Equation, inputs: list[Any], algebra: Algebra) -> list[Any]:
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
    filled = []
    for x, like in zip(xs, likes):
        x = algebra.fill(x, like)
        parts = jax.tree.leaves((x, like))
        filled.append(jax.tree.map(lambda part: _zeros.varying(part, *parts), x))
    return filled


_STRUCTURED = {
    "checkpoint": _checkpoint,
    "remat2": _checkpoint,
    "cond": _cond,
    "scan": _scan,
    "while": _while,
}
