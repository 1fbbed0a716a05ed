"""Interpreter of jaxprs on jets of enclosed arrays."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import (
    ClosedJaxpr,  # pyright: ignore[reportPrivateImportUsage]
    Literal,
    jaxpr_as_fun,
)

from jaxcon.certify import _functions, _rules
from jaxcon.certify._jets import Jet, Jets
from jaxcon.certify._recognised import CALLS, inner_jaxpr, recognised
from jaxcon.certify._rules import Condition, Rule, Unknown, Value
from jaxcon.certify._shifts import free_shifts


def interpret(closed: ClosedJaxpr, args: Sequence[Value], jets: Jets) -> list[Value]:
    """Returns the outputs of a jaxpr, each an array, a jet or a condition.

    Args:
        closed: the jaxpr.
        args: one value for each of its inputs.
        jets: rules of the jets.

    Returns:
        One value for each of its outputs.

    Raises:
        Unknown: no enclosure of an operation is known.
    """
    known: dict[Any, Value] = {}

    def read(atom: Any) -> Value:
        if isinstance(atom, Literal):
            return np.asarray(atom.val, atom.aval.dtype)  # pyright: ignore
        return known[atom]

    jaxpr = closed.jaxpr
    known.update(zip(jaxpr.constvars, closed.consts))
    known.update(zip(jaxpr.invars, args))
    free = free_shifts(jaxpr)
    for eqn in _needed(jaxpr):
        inputs = list(map(read, eqn.invars))
        if not free.isdisjoint(eqn.outvars) and isinstance(inputs[0], Jet):
            # What nothing depends on may be any number; what is done with it is rounded.
            middle = jets.numbers.middle(inputs[0].value)
            number = jets.numbers.exact(_plain(eqn, [middle], jaxpr)[0])
            known[eqn.outvars[0]] = Jet({(): number})
            continue
        known.update(zip(eqn.outvars, _evaluate(eqn, inputs, jets, jaxpr)))
    return [read(atom) for atom in jaxpr.outvars]


def refuse_condition(value: Value) -> None:
    """Refuses a comparison that depends on x as a result.

    Args:
        value: a result.

    Raises:
        Unknown: it is a comparison.
    """
    if isinstance(value, Condition):
        raise Unknown(
            "a comparison that depends on x cannot be enclosed as a number; "
            "jnp.where between two numbers would do"
        )


def readers(jaxpr: Any) -> int:
    """Counts the operations that read one array, at most, those of calls included."""
    counts: dict[Any, int] = {}
    most = 1
    for eqn in reversed(jaxpr.eqns):
        inner, weight = inner_jaxpr(eqn), 1
        if inner is not None:
            weight = readers(inner.jaxpr) * eqn.params.get("length", 1)
        # What is added to a constant may be passed on as it is.
        passed = max((counts.get(v, 0) for v in eqn.outvars), default=0)
        for atom in eqn.invars:
            if not isinstance(atom, Literal):
                counts[atom] = counts.get(atom, 0) + weight + passed
        most = max(most, weight)
    return 1 + max(most, *counts.values(), 0)


def _needed(jaxpr: Any) -> list[Any]:
    """Returns the equations on which an output depends, in order."""
    wanted = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if not wanted.isdisjoint(eqn.outvars):
            kept.append(eqn)
            wanted.update(v for v in eqn.invars if not isinstance(v, Literal))
    return kept[::-1]


def _evaluate(eqn: Any, inputs: list[Value], jets: Jets, jaxpr: Any) -> list[Value]:
    name = eqn.primitive.name
    if not any(isinstance(x, Jet | Condition) for x in inputs):
        return _plain(eqn, inputs, jaxpr)
    if name in CALLS:
        known = recognised(eqn)
        if known is not None:
            return [jets.unary(known, x) for x in inputs if isinstance(x, Jet)]
        inner = inner_jaxpr(eqn)
        if inner is None:
            raise Unknown(f"no enclosure is known of the call {name!r}")
        return interpret(inner, inputs, jets)
    if name in _STRUCTURED:
        return _STRUCTURED[name](eqn, inputs, jets)
    if name not in _rules.CONDITIONS and any(isinstance(x, Condition) for x in inputs):
        raise Unknown(
            f"{name!r} of a comparison that depends on x cannot be enclosed; "
            "jnp.where, jnp.maximum or jnp.clip would do"
        )
    if name in _rules.RULES:
        return _rules.RULES[name](eqn, inputs, jets)
    elementary = _functions.curve(name)
    if elementary is not None:
        return [jets.unary(elementary, inputs[0])]
    raise Unknown(
        f"no enclosure is known of {name!r}; a rule for it would need the range of "
        "the function and of its derivatives on an interval"
    )


def _plain(eqn: Any, inputs: list[Any], jaxpr: Any) -> list[Any]:
    """Evaluates an equation that does not depend on x, now and not when compiled."""
    pairs = zip(eqn.invars, inputs)
    values = {v: x for v, x in pairs if not isinstance(v, Literal)}
    given = list(values)
    alone = jaxpr.replace(constvars=[], invars=given, outvars=eqn.outvars, eqns=[eqn])
    operands = [values[v] for v in given]
    if any(isinstance(x, Tracer) for x in operands):
        return list(jaxpr_as_fun(ClosedJaxpr(alone, []))(*operands))
    with jax.ensure_compile_time_eval():
        return list(jaxpr_as_fun(ClosedJaxpr(alone, []))(*operands))


def _row(x: Value, i: int, jets: Jets) -> Value:
    if isinstance(x, Condition):
        return Condition(x.true[i], x.false[i])
    return jets.moved(lambda x: x[i], [x], 1) if isinstance(x, Jet) else x[i]


def _scan(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    """Unrolls a scan, whose trip count is fixed."""
    p = eqn.params
    body, length = p["jaxpr"], p["length"]
    scanned = sum(
        a.aval.ndim > b.aval.ndim for a, b in zip(eqn.invars, body.jaxpr.invars)
    )
    stacked = sum(
        a.aval.ndim > b.aval.ndim for a, b in zip(eqn.outvars, body.jaxpr.outvars)
    )
    of_carry = len(eqn.outvars) - stacked
    of_const = len(inputs) - scanned - of_carry
    held, carry = inputs[:of_const], inputs[of_const : of_const + of_carry]
    xs = inputs[of_const + of_carry :]
    rows: list[list[Value]] = []
    order = range(length)
    for i in reversed(order) if p["reverse"] else order:
        step = [_row(x, i, jets) for x in xs]
        outputs = interpret(body, [*held, *carry, *step], jets)
        carry = outputs[:of_carry]
        rows.append(outputs[of_carry:])
    if p["reverse"]:
        rows.reverse()
    ys = []
    for column in zip(*rows):
        for y in column:
            refuse_condition(y)
        if any(isinstance(y, Jet) for y in column):
            ys.append(jets.moved(lambda *ys: jnp.stack(ys), column, 1))
        else:
            ys.append(jnp.stack(column))
    return [*carry, *ys]


def _cond(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    index, *operands = inputs
    if isinstance(index, Jet | Condition):
        raise Unknown(
            "a jax.lax.cond that depends on x cannot be enclosed; jnp.where would do"
        )
    branches = eqn.params["branches"]
    if isinstance(index, Tracer):
        raise Unknown(
            "a jax.lax.cond whose index depends on the parameters cannot be enclosed"
        )
    chosen = int(np.clip(int(index), 0, len(branches) - 1))
    return interpret(branches[chosen], operands, jets)


def _while(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    raise Unknown(
        "a jax.lax.while_loop cannot be enclosed; it would need a fixed number of "
        "steps, as jax.lax.fori_loop or jax.lax.scan have with bounds known beforehand"
    )


_STRUCTURED: dict[str, Rule] = {"scan": _scan, "cond": _cond, "while": _while}
