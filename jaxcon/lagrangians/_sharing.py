"""Common subexpressions of loss and constraints, evaluated and differentiated once.

XLA merges equal forward passes of a program, but not the backward passes that follow from
them: a loss and a constraint that both evaluate the network at the same inputs pay two.
`shared` merges the equal equations before the function is differentiated.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np
from jax.extend.core import (
    ClosedJaxpr,  # pyright: ignore[reportPrivateImportUsage]
    Literal,
    jaxpr_as_fun,
)

# Calls that only group equations: their equations are merged with those outside.
_INLINED = {"jit", "pjit", "closed_call", "core_call"}
# Parameters of an equation that do not change its value.
_IRRELEVANT = {"name", "inline", "debug", "out_trees"}
# Those of a custom rule, which are compared by the user's function in them.
_RULES = ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd")
# What jax wraps such a function in. Other wrappings hold arguments of a call that are not
# differentiated (nondiff_argnums), which the rule may read and the primal need not.
_WRAPPINGS = {
    "_flatten_jvp",
    "_flatten_fwd",
    "_flatten_bwd",
    "_get_result_paths_thunk",
    "batch_custom_jvp_subtrace",
    "batch_subtrace",
}


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function in which equal operations on equal operands occur once.

    The value is that of `function` to the bit. Operations with effects, and those whose
    derivative rule cannot be compared, are kept as they are.

    Args:
        function: a pure function of pytrees of arrays, which returns one.

    Returns:
        The function, to be differentiated.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcon.lagrangians._sharing import shared
        >>> twice = lambda x: (jnp.sum(jnp.tanh(x)), jnp.max(jnp.tanh(x)))
        >>> str(jax.make_jaxpr(shared(twice))(jnp.ones(3))).count("tanh")
        1
    """

    def once(*args: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        inputs = jax.tree.leaves(args)
        outputs = _evaluate(closed.jaxpr, closed.consts, inputs, {})
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return once


def _evaluate(jaxpr: Any, consts: Any, inputs: Any, known: dict[Any, list]) -> list:
    """Evaluates a jaxpr, with the results of equal equations taken from `known`."""
    values: dict[Any, Any] = dict(
        zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs])
    )

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        inner = _inlined(equation)
        if inner is not None:
            results = _evaluate(inner.jaxpr, inner.consts, operands, known)
        else:
            results = _once(jaxpr, equation, operands, known)
        values.update(zip(equation.outvars, results))
    return [read(atom) for atom in jaxpr.outvars]


def _once(
    jaxpr: Any, equation: Any, operands: list[Any], known: dict[Any, list]
) -> list[Any]:
    key = None
    if not equation.effects:
        identity = _parameters(equation.params)
        if identity is not None:
            named = tuple(map(_operand, equation.invars, operands))
            key = equation.primitive, named, identity
    if key is None:
        return _bind(jaxpr, equation, operands)
    if key not in known:
        # The operands stay alive with their results: their ids are not given anew.
        known[key] = [operands, _bind(jaxpr, equation, operands)]
    return known[key][1]


def _bind(jaxpr: Any, equation: Any, operands: list[Any]) -> list[Any]:
    if any(_has_functions(value) for value in equation.params.values()):
        # The binding of a call has changed between versions of jax; a jaxpr of this one
        # equation is evaluated alike by all of them.
        given = {
            atom: operand
            for atom, operand in zip(equation.invars, operands)
            if not isinstance(atom, Literal)
        }
        alone = jaxpr.replace(
            constvars=[],
            invars=list(given),
            outvars=equation.outvars,
            eqns=[equation],
            effects=equation.effects,
        )
        return list(jaxpr_as_fun(ClosedJaxpr(alone, []))(*given.values()))
    with equation.ctx.manager:
        results = equation.primitive.bind(*operands, **equation.params)
    return list(results) if equation.primitive.multiple_results else [results]


def _has_functions(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_has_functions, value))
    return hasattr(value, "eqns") or hasattr(value, "jaxpr") or callable(value)


def _inlined(equation: Any) -> Any:
    """Returns the jaxpr of a call that does nothing but group equations; else None."""
    params = equation.params
    if equation.primitive.name not in _INLINED or equation.effects:
        return None
    placed = [*params.get("in_shardings", ()), *params.get("out_shardings", ())]
    if any(type(sharding).__name__ != "UnspecifiedValue" for sharding in placed):
        return None
    if any(layout is not None for layout in params.get("in_layouts") or ()):
        return None
    if params.get("compiler_options_kvs"):
        return None
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    return inner if hasattr(inner, "consts") else None


def _operand(atom: Any, value: Any) -> Hashable:
    if isinstance(atom, Literal) or isinstance(value, (int, float, bool, np.generic)):
        array = np.asarray(value)
        return str(atom.aval), array.shape, array.tobytes()
    return id(value)


def _parameters(params: dict[str, Any]) -> Hashable:
    """Returns what two equal equations have in common; None where that is unknown."""
    parts = []
    for name in sorted(params):
        if name in _RULES:
            part = _rule(params[name])
        elif name in _IRRELEVANT:
            continue
        else:
            part = _part(params[name])
        if part is None:
            return None
        parts.append((name, part))
    return tuple(parts)


def _part(value: Any) -> Hashable:
    if hasattr(value, "jaxpr") and hasattr(value, "consts"):
        inner = _structure(value.jaxpr)
        return None if inner is None else ("jaxpr", inner, tuple(map(id, value.consts)))
    if hasattr(value, "eqns"):
        inner = _structure(value)
        return None if inner is None else ("jaxpr", inner)
    if isinstance(value, (tuple, list)):
        parts = tuple(map(_part, value))
        return None if None in parts else (type(value).__name__, parts)
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    try:
        hash(value)
    except TypeError:
        return None
    return "value", type(value), value


def _structure(jaxpr: Any) -> Hashable:
    """Returns a jaxpr with its variables numbered; None where a part is unknown."""
    number: dict[Any, int] = {}
    lines = []
    for var in [*jaxpr.constvars, *jaxpr.invars]:
        number[var] = len(number)

    def atom(read: Any) -> Hashable:
        if isinstance(read, Literal):
            return _operand(read, read.val)
        return number[read]

    for equation in jaxpr.eqns:
        params = None if equation.effects else _parameters(equation.params)
        if params is None:
            return None
        reads = tuple(map(atom, equation.invars))
        for var in equation.outvars:
            number[var] = len(number)
        results = tuple(str(var.aval) for var in equation.outvars)
        lines.append((equation.primitive, reads, params, results))
    inputs = tuple(str(var.aval) for var in jaxpr.invars)
    return inputs, tuple(lines), tuple(map(atom, jaxpr.outvars))


def _rule(value: Any) -> Hashable:
    """Returns the identity of the user's function in a custom derivative rule.

    Two calls of one `jax.custom_jvp` wrap the same function, each in closures of its own.
    Equal primal functions may have different rules, e.g. those that reverse a gradient.
    """
    seen: set[int] = set()
    waiting, axes = [value], []
    while waiting and len(seen) < 100:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        if hasattr(found, "transforms") and hasattr(found, "f"):
            wrappings = {getattr(how, "__name__", "") for how, _ in found.transforms}
            if not wrappings <= _WRAPPINGS:
                return None
            # The axes that jax.vmap maps over.
            axes += [str(args[2]) for how, args in found.transforms if len(args) == 3]
            function = found.f
            while isinstance(function, functools.partial):
                function = function.func
            ours = str(getattr(function, "__module__", "")).startswith("jax.")
            if found is not value or not ours:
                return "rule", id(function), tuple(axes)
            waiting.append(function)
        for cell in getattr(found, "__closure__", None) or ():
            if callable(cell.cell_contents) or hasattr(cell.cell_contents, "f"):
                waiting.append(cell.cell_contents)
    return None
