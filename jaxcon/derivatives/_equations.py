"""Equations of a jaxpr: evaluation of one with other operands, and what is known of it.

Only jax's public interface is used: `jax.make_jaxpr` and the equations it returns.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
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

CUSTOM_VJP = "it holds a jax.custom_vjp, which has a backward rule only"


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
        vjp = "custom_vjp" in str(error) or "custom_lin'" in str(error)
        raise NoForwardMode(CUSTOM_VJP if vjp else first_line(error)) from error


def first_line(error: Exception) -> str:
    """Returns what an error says in its first line, without a full stop."""
    return str(error).partition("\n")[0].strip().rstrip(".")


class Equation:
    """Equation of a jaxpr that can be evaluated again with other operands."""

    def __init__(self, eqn: Any, jaxpr: Any, compared: tuple[bool, ...]):
        self.primitive, self.params = eqn.primitive, eqn.params
        self.compared = compared  # which operands depend on x, if only by comparison
        self.name = eqn.primitive.name
        self.invars, self.outvars = eqn.invars, eqn.outvars
        self.inner = _inner(eqn)
        self._alone = None
        # It is differentiated by rules of its own, and not entered.
        self.is_opaque = _holds_a_program(eqn) and self.name not in _rules.CALLS
        if self.is_opaque or self.inner is not None:
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


class Reach:
    """Propagation of known zeros through an equation, from those of its series."""

    def __init__(
        self,
        outputs: int,
        find: Callable[[list[Any]], list[Any]],
        slots: Callable[[list[Any]], Any] = lambda supports: None,
    ):
        self.outputs, self.find = outputs, find  # outputs: how many are floats
        self.slots = slots  # see `_reach.alike`

    def __call__(self, supports: list[Any]) -> list[Any]:
        """Returns the support of each output that is a float; None if unknown."""
        return self.find(supports)


def reach_of(eqn: Equation, values: list[Any], places: list[tuple[int, ...]]) -> Reach:
    """Returns that of an equation, whose series stand in these places."""
    floats = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars]

    def operands(supports: list[Any]) -> list[Any]:
        found = [None] * len(values)
        for support, place in zip(supports, places):
            for i in place:
                found[i] = support
        return found

    def find(supports: list[Any]) -> list[Any]:
        found = _reach.reached(eqn, operands(supports), values)
        return [support for support, kept in zip(found, floats) if kept]

    def slots(supports: list[Any]) -> Any:
        found = _reach.alike(eqn, operands(supports), values)
        if found is None or not all(floats):
            return None
        needed, outputs = found
        return [needed[i] for i, *_ in places], outputs

    return Reach(sum(floats), find, slots)


def reach_of_broadcast(shape: tuple[int, ...]) -> Reach:
    """Returns that of a broadcast to a shape."""
    return Reach(1, lambda supports: [_zeros.spread(supports[0], shape)])


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


def linear_part(
    eqn: Equation, values: list[Any], places: list[tuple[int, ...]], held: set[int]
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


def product(eqn: Equation, values: list[Any]) -> Product:
    """Returns a bilinear equation as a function of two parts."""
    of_two = eqn.at(values, [(0,), (1,)])

    def bind(a: Any, b: Any) -> Any:
        return of_two(a, b)[0]

    if eqn.name == "dot_general":
        return _zeros.Dot(bind, eqn.params)
    if eqn.name == "mul":
        return _zeros.Entrywise(bind)
    return lambda row, a, b, both: bind(_zeros.dense(a), _zeros.dense(b))


def is_constant(eqn: Any) -> bool:
    """Returns whether the derivative is zero; that of a complex number's sign is not."""
    name = eqn.primitive.name
    return name in _rules.CONSTANT and (name == "stop_gradient" or not is_complex(eqn))


def is_complex(eqn: Any) -> bool:
    """Returns whether an operand or an output is complex."""
    return any(
        jnp.issubdtype(v.aval.dtype, jnp.complexfloating)
        for v in (*eqn.invars, *eqn.outvars)
    )


def is_variable(atom: Any) -> bool:
    """Returns whether an atom of a program is no literal."""
    return not isinstance(atom, Literal)


def is_entrywise(
    eqn: Equation, bind: Bind, places: list[tuple[int, ...]], values: list[Any]
) -> bool:
    """Returns whether the outputs are functions of like entries of the series alone.

    A call counts if everything inside is elementwise: jax.nn.gelu is then one function with
    one slope, not ten equations for every tangent, and a jax.custom_jvp such as
    jax.nn.softplus is differentiated by its own rule.
    """
    kinds = {(jnp.shape(values[i]), jnp.result_type(values[i])) for i, *_ in places}
    outputs = {(v.aval.shape, v.aval.dtype) for v in eqn.outvars}
    if len(kinds) > 1 or outputs != kinds:
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
        if is_complex(eqn):
            return False
        name, inner = eqn.primitive.name, _inner(eqn)
        if inner is not None:
            called = name in _rules.CALLS or name == "custom_jvp_call"
            if not (called and _is_elementwise(inner.jaxpr)):
                return False
        elif name not in {*_rules.ELEMENTWISE, *_rules.CONSTANT, "broadcast_in_dim"}:
            return False
    return True


def selects(eqn: Equation) -> bool:
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


def require_forward_mode(bind: Bind, xs: list[Any], order: int) -> None:
    """Refuses an equation whose own rules meet a custom_vjp as often as it is pushed.

    When f is compiled, jax finds that only after all of it is traced.
    """
    f = bind
    for _ in range(order):
        f = functools.partial(_slope_along_ones, f)
    if _is_backwards_only(jax.make_jaxpr(f)(*xs).jaxpr):
        raise NoForwardMode(CUSTOM_VJP)


def _slope_along_ones(f: Callable, *xs: Any) -> list[Any]:
    slopes = pushed(f, xs, tuple(map(jnp.ones_like, xs)))[1]
    return [slope for slope in slopes if slope.dtype != jax.dtypes.float0]


def _is_backwards_only(jaxpr: Any) -> bool:
    """Returns whether a jaxpr of derivatives has a part without a rule forwards."""
    return any(
        eqn.primitive.name == "custom_lin"
        or any(map(_is_backwards_only, programs(eqn)))
        for eqn in jaxpr.eqns
    )


def programs(eqn: Any) -> Iterator[Any]:
    """Yields the jaxprs in an equation's parameters: of a call, a loop, a solver."""
    for value in eqn.params.values():
        for program in value if isinstance(value, tuple) else (value,):
            program = program.jaxpr if isinstance(program, ClosedJaxpr) else program
            if isinstance(program, Jaxpr):
                yield program


def _holds_a_program(eqn: Any) -> bool:
    """Returns whether the equation is a call, a loop, a shard_map or the like."""
    primitive = eqn.primitive
    if getattr(primitive, "call_primitive", False) or primitive.name == "xla_pmap":
        return True
    return any(True for _ in programs(eqn))


def _inner(eqn: Any) -> Any:
    """Returns the jaxpr that the equation calls, if it calls one."""
    for key in ("jaxpr", "call_jaxpr"):
        inner = eqn.params.get(key)
        if isinstance(inner, ClosedJaxpr):
            return inner
    return None


def called_name(eqn: Any) -> str:
    """Returns the name of the called function, as a user wrote it."""
    if "name" in eqn.params or _inner(eqn) is None:
        return eqn.params.get("name", eqn.primitive.name)
    return called_name(_inner(eqn).jaxpr.eqns[0])
