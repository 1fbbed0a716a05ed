"""Rules of primitives for jets of enclosed arrays."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxcon.certify import _functions
from jaxcon.certify._jets import Jet, Jets

Array = Any


class Unknown(NotImplementedError):
    """Error for a program with an operation of which no enclosure is known."""


class Condition(NamedTuple):
    """Comparison of enclosed arrays, decided where it holds in the whole box or nowhere.

    Attributes:
        true: entries that are true in the whole box.
        false: entries that are false in the whole box.
    """

    true: Array
    false: Array


Value = Any  # an array, a Jet or a Condition
Rule = Callable[[Any, list[Value], Jets], list[Value]]

# Entries are moved, copied or dropped; by the operands that are moved, None for all.
MOVES: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("concatenate", "copy", "copy_p", "pad", "stack"), None),
    **dict.fromkeys(("broadcast_in_dim", "reshape", "rev", "slice", "squeeze"), (0,)),
    **dict.fromkeys(("dynamic_slice", "expand_dims", "gather", "transpose"), (0,)),
    **dict.fromkeys(("pvary", "pcast", "sharding_constraint", "split", "tile"), (0,)),
    **dict.fromkeys(("optimization_barrier", "unstack"), None),
    "dynamic_update_slice": (0, 1),
    "scatter": (0, 2),
}
ARITHMETIC: dict[str, tuple[Callable, Callable]] = {
    "add": (jnp.add, jnp.add),
    "add_any": (jnp.add, jnp.add),
    "sub": (jnp.subtract, jnp.add),
    "neg": (jnp.negative, lambda x: x),
}


def _size(x: Value) -> int:
    return math.prod(_shape(x))


def _shape(x: Value) -> tuple[int, ...]:
    if isinstance(x, Jet):
        return jnp.shape(getattr(x.value, "centre", x.value))
    return jnp.shape(x.true if isinstance(x, Condition) else x)


def _copies(eqn: Any, x: Value) -> int:
    """Returns how many entries of the result depend on one of x, at most."""
    return max(1, math.ceil(eqn.outvars[0].aval.size / max(1, _size(x))))


def _copies_of(eqn: Any, inputs: list[Value]) -> int:
    """Returns how many entries of the result depend on one of any operand, at most."""
    return max(_copies(eqn, x) for x in inputs)


def _held(eqn: Any, inputs: list[Value], places: Sequence[int]) -> Callable:
    """Returns the equation as a function of the operands in some places."""

    def bind(*xs: Any) -> Any:
        operands = list(inputs)
        for place, x in zip(places, xs):
            operands[place] = x
        operands = [
            jnp.asarray(x, atom.aval.dtype)
            if jnp.issubdtype(atom.aval.dtype, jnp.integer)
            else x
            for x, atom in zip(operands, eqn.invars)
        ]
        params = dict(eqn.params)
        if "precision" in params:
            # The roundings that are counted are those of the dtype.
            params["precision"] = (jax.lax.Precision.HIGHEST,) * 2
        if "preferred_element_type" in params:
            params["preferred_element_type"] = None
        return eqn.primitive.bind(*operands, **params)

    return bind


def _moved(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    """Moves, copies or drops entries of jets and of conditions."""
    name = eqn.primitive.name
    places = MOVES[name]
    places = range(len(inputs)) if places is None else places
    for i, x in enumerate(inputs):
        if isinstance(x, Jet) and i not in places:
            raise Unknown(
                f"{name!r} at places that depend on x cannot be enclosed; the places must "
                "be known"
            )
    if eqn.params.get("fill_value") is not None:
        raise Unknown(f"{name!r} with a fill_value cannot be enclosed")
    bind = _held(eqn, inputs, places)
    xs = [inputs[i] for i in places]
    if any(isinstance(x, Condition) for x in xs):
        _require_bool(eqn)
        known = [x if isinstance(x, Condition) else Condition(x, ~x) for x in xs]
        return [Condition(*(bind(*part) for part in zip(*known)))]
    terms = 1
    if name in ("broadcast_in_dim", "gather", "scatter", "tile"):
        terms = eqn.outvars[0].aval.size
    if not eqn.primitive.multiple_results:
        return [jets.moved(bind, xs, terms)]
    return [
        jets.moved(lambda *xs, n=n: bind(*xs)[n], xs, terms)
        for n in range(len(eqn.outvars))
    ]


def _arithmetic(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    bind, absolute = ARITHMETIC[eqn.primitive.name]
    if eqn.primitive.name.startswith("add"):
        return [jets.added(inputs, eqn.outvars[0].aval.shape, _copies_of(eqn, inputs))]
    copies = _copies_of(eqn, inputs)
    return [jets.linear(bind, absolute, inputs, len(inputs) + copies)]


def _summed(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    if isinstance(inputs[0], Condition):  # as the index of a jax.lax.cond
        return inputs
    bind = _held(eqn, inputs, (0,))
    terms = max(1, math.ceil(_size(inputs[0]) / max(1, eqn.outvars[0].aval.size)))
    if eqn.primitive.name in ("cumsum", "reduce_window_sum"):
        terms = _size(inputs[0])
    if eqn.primitive.name == "convert_element_type" and not jnp.issubdtype(
        eqn.outvars[0].aval.dtype, jnp.floating
    ):
        raise Unknown(
            "a conversion to integers of what depends on x cannot be enclosed"
        )
    return [jets.linear(bind, bind, inputs, terms)]


def _mul(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    x, y = inputs
    if x is y:
        return [jets.unary(_functions.power(2), x)]
    if isinstance(x, Jet) and isinstance(y, Jet):
        copies = _copies_of(eqn, [x, y])
        return [jets.product(jnp.multiply, x, y, copies)]
    x, factor = (x, y) if isinstance(x, Jet) else (y, x)
    return [_scaled(x, factor, jets, _copies(eqn, x))]


def _scaled(x: Jet, factor: Array, jets: Jets, terms: int = 1) -> Jet:
    size = jnp.abs(factor)
    return jets.linear(lambda x: x * factor, lambda x: x * size, [x], terms)


def _div(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    x, y = inputs
    if not isinstance(y, Jet):
        size = jnp.abs(y)
        copies = _copies(eqn, x)
        return [jets.linear(lambda x: x / y, lambda x: x / size, [x], copies + 1)]
    inverse = jets.unary(_functions.power(-1), y)
    if not isinstance(x, Jet):
        return [_scaled(inverse, x, jets, _copies(eqn, y))]
    copies = _copies_of(eqn, [x, y])
    return [jets.product(jnp.multiply, x, inverse, copies)]


def _contracted(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    """Applies a matrix product or a convolution."""
    x, y = inputs
    terms = _size(x) + _size(y) + eqn.outvars[0].aval.size
    if eqn.primitive.name == "dot_general":
        (left, right), (batch, _) = eqn.params["dimension_numbers"]
        del right
        summed = math.prod(_shape(x)[i] for i in left)
        shared = math.prod(_shape(x)[i] for i in batch)
        wide = [_size(z) // max(1, summed * shared) for z in (x, y)]
        terms = max(summed, *wide)
    if isinstance(x, Jet) and isinstance(y, Jet):
        return [jets.product(_held(eqn, inputs, (0, 1)), x, y, terms)]
    place = 0 if isinstance(x, Jet) else 1
    sizes = list(inputs)
    sizes[1 - place] = jnp.abs(inputs[1 - place])
    bind, absolute = _held(eqn, inputs, (place,)), _held(eqn, sizes, (place,))
    return [jets.linear(bind, absolute, [inputs[place]], terms)]


def _larger(x: Value, y: Value, eqn: Any, jets: Jets) -> Jet:
    r"""Returns the maximum, :math:`y + \max(x - y, 0)`."""
    copies = _copies_of(eqn, [x, y]) + 1
    if _is_all(y, 0.0):
        return jets.unary(_functions.known("relu"), x)
    difference = jets.linear(jnp.subtract, jnp.add, [x, y], copies)
    positive = jets.unary(_functions.known("relu"), difference)
    larger = jets.linear(jnp.add, jnp.add, [positive, y], copies)
    ends = [jets.interval(z) for z in (x, y)]
    known = jnp.isfinite(ends[0][1]) & jnp.isfinite(ends[1][1])
    lowest = jnp.maximum(ends[0][0], ends[1][0])
    # What is not known may be no number.
    return jets.at_least(larger, jnp.where(known, lowest, -jnp.inf))


def _is_all(x: Value, number: float) -> bool:
    """Returns whether x is known to be one number everywhere."""
    if isinstance(x, Jet | Tracer):
        return False
    return bool(np.all(np.asarray(x) == number))


def _max(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    x, y = inputs
    if isinstance(x, Jet):
        if _is_all(y, -np.inf):
            return [x]
        return [_larger(x, y, eqn, jets)]
    return _max(eqn, [y, x], jets)


def _negated(x: Value, jets: Jets) -> Value:
    if isinstance(x, Jet):
        return jets.linear(jnp.negative, lambda x: x, [x], 1)
    return -x


def _min(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    turned = [_negated(x, jets) for x in inputs]
    return [_negated(_max(eqn, turned, jets)[0], jets)]


def _clamp(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    low, x, high = inputs
    return _min(eqn, [_max(eqn, [x, low], jets)[0], high], jets)


def _reduced(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    """Takes the largest, the smallest or the product of entries, by halves."""
    x, axes = inputs[0], eqn.params["axes"]
    join = {
        "reduce_max": lambda a, b: _larger(a, b, eqn, jets),
        "reduce_min": lambda a, b: _min(eqn, [a, b], jets)[0],
        "reduce_prod": lambda a, b: jets.product(jnp.multiply, a, b, 1),
    }[eqn.primitive.name]
    for axis in sorted(axes, reverse=True):
        while (length := _shape(x)[axis]) > 1:
            half = length // 2
            parts = [
                jets.moved(
                    functools.partial(jax.lax.slice_in_dim, **{"axis": axis, **ends}),
                    [x],
                    1,
                )
                for ends in (
                    {"start_index": 0, "limit_index": half},
                    {"start_index": half, "limit_index": 2 * half},
                    {"start_index": 2 * half, "limit_index": length},
                )
            ]
            joined = join(parts[0], parts[1])
            rest = [parts[2]] if length % 2 else []
            x = jets.moved(
                lambda *xs, axis=axis: jnp.concatenate(xs, axis), [joined, *rest], 1
            )
        x = jets.moved(functools.partial(jnp.squeeze, axis=axis), [x], 1)
    return [x]


def _integer_pow(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    return [jets.unary(_functions.power(eqn.params["y"]), inputs[0])]


def _pow(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    x, exponent = inputs
    log, exp = _functions.known("log"), _functions.known("exp")
    if not isinstance(exponent, Jet):
        if (
            not isinstance(exponent, Tracer)
            and len(np.unique(np.asarray(exponent))) == 1
        ):
            constant = float(np.ravel(np.asarray(exponent))[0])
            return [jets.unary(_functions.power(constant), x)]
        return [jets.unary(exp, _scaled(jets.unary(log, x), exponent, jets))]
    if not isinstance(x, Jet):
        return [jets.unary(exp, _scaled(exponent, jnp.log(x), jets))]
    copies = _copies_of(eqn, inputs)
    power = jets.product(jnp.multiply, jets.unary(log, x), exponent, copies)
    return [jets.unary(exp, power)]


def _exp2(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    # The factor is rounded too, which counts as a term.
    x = _scaled(inputs[0], jnp.log(jnp.asarray(2.0, eqn.invars[0].aval.dtype)), jets, 2)
    return [jets.unary(_functions.known("exp"), x)]


def _one_minus_square(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    square = jets.unary(_functions.power(2), inputs[0])
    return [jets.linear(lambda x: 1 - x, lambda x: 1 + x, [square], 2)]


def _stop_gradient(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    if jets.expanded and len(inputs[0]) > 1:
        raise Unknown(
            "'stop_gradient' has no expansion: what it hides changes with x; take another "
            "method"
        )
    return [Jet({(): inputs[0].value})]


def _jumping(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    raise Unknown(
        f"no enclosure is known of {eqn.primitive.name!r}, which jumps; its "
        "derivatives are no numbers there"
    )


def _select(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    which, *cases = inputs
    if not isinstance(which, Condition):
        if isinstance(which, Jet):
            raise Unknown(
                "a selection by a number that depends on x cannot be enclosed"
            )
        bind = _held(eqn, inputs, range(1, len(inputs)))
        return [jets.moved(bind, cases, 1)]
    if len(cases) != 2:
        raise Unknown("a selection between more than two cases cannot be enclosed")
    return [jets.selected(which.true, which.false, cases[1], cases[0])]


def _compared(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    name = eqn.primitive.name
    if name == "is_finite":
        low, high = jets.interval(inputs[0])
        sure = jnp.isfinite(low) & jnp.isfinite(high)
        return [Condition(sure, jnp.zeros_like(sure))]
    x, y = inputs
    if x is y and name in ("ne", "eq"):
        # Of what may be no number nothing is known.
        low, high = jets.interval(x)
        same = jnp.isfinite(low) & jnp.isfinite(high)
        none = jnp.zeros_like(same)
        return [Condition(none, same) if name == "ne" else Condition(same, none)]
    (xl, xu), (yl, yu) = jets.interval(x), jets.interval(y)
    less, more = xu < yl, xl > yu
    outcomes = {
        "lt": (less, xl >= yu),
        "ge": (xl >= yu, less),
        "gt": (more, xu <= yl),
        "le": (xu <= yl, more),
        "eq": ((xl == xu) & (yl == yu) & (xl == yl), less | more),
        "ne": (less | more, (xl == xu) & (yl == yu) & (xl == yl)),
    }
    return [Condition(*outcomes[name])]


def _require_bool(eqn: Any) -> None:
    if eqn.outvars[0].aval.dtype != bool:
        raise Unknown(
            f"{eqn.primitive.name!r} of integers that depend on x cannot be enclosed"
        )


def _logic(eqn: Any, inputs: list[Value], jets: Jets) -> list[Value]:
    del jets
    _require_bool(eqn)
    a, *rest = [x if isinstance(x, Condition) else Condition(x, ~x) for x in inputs]
    if not rest:
        return [Condition(a.false, a.true)]
    [b] = rest
    if eqn.primitive.name == "and":
        return [Condition(a.true & b.true, a.false | b.false)]
    return [Condition(a.true | b.true, a.false & b.false)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES, _moved),
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    **dict.fromkeys(("cumsum", "reduce_sum", "reduce_window_sum"), _summed),
    "convert_element_type": _summed,
    **dict.fromkeys(("eq", "ge", "gt", "is_finite", "le", "lt", "ne"), _compared),
    **dict.fromkeys(("and", "not", "or"), _logic),
    "mul": _mul,
    "div": _div,
    "dot_general": _contracted,
    "conv_general_dilated": _contracted,
    "max": _max,
    "min": _min,
    "clamp": _clamp,
    "reduce_max": _reduced,
    "reduce_min": _reduced,
    "reduce_prod": _reduced,
    "integer_pow": _integer_pow,
    "pow": _pow,
    "exp2": _exp2,
    "one_minus_square": _one_minus_square,
    "stop_gradient": _stop_gradient,
    "select_n": _select,
    **dict.fromkeys(("ceil", "floor", "round", "sign"), _jumping),
}

# Those that take comparisons.
CONDITIONS = {*MOVES, "and", "convert_element_type", "not", "or", "select_n"}
