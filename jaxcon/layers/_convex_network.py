"""Partially input convex network, and bounds of the sizes of its terms."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.layers._certificates import Function
from jaxcon.projections import product

# Blocks of weights that must not be negative: on what has to enter increasingly.
POSITIVE = {"hidden", "bent and rising", "rising"}
# Positive weights are softplus(8 w) / n: in Adam's steps as fast as free ones.
STEEP = 8.0
LOG3 = float(np.log(3.0))


class Groups(NamedTuple):
    """Partition of the inputs: indices of each group, and signs that make all rise."""

    bent: tuple[int, ...]  # convex
    bent_and_rising: tuple[int, ...]
    rising: tuple[int, ...]  # increasing, not convex
    free: tuple[int, ...]
    signs: np.ndarray  # (d,)


class Rules(NamedTuple):
    """Arithmetic of an evaluation: numbers themselves, or bounds of their size."""

    size: Function  # of a free weight or bias
    bend: Function  # the activation
    gate: Function  # softplus


def _same(y: jax.Array) -> jax.Array:
    return y


def _pairs(y: jax.Array) -> jax.Array:
    return y.reshape(-1, 2)


def _soft_maximum(y: jax.Array) -> jax.Array:
    """Returns the soft maximum of zero and each pair, (n,) -> (n / 2,)."""
    return jax.nn.softplus(jax.nn.logsumexp(_pairs(y), axis=1))


def _unit_curvature(y: jax.Array) -> jax.Array:
    """Returns sums of pairs, with first and second derivatives one at every y."""
    moved = y - jax.lax.stop_gradient(y)
    return jnp.sum(_pairs(y + moved**2 / 2), 1) + LOG3


VALUES = Rules(_same, _soft_maximum, jax.nn.softplus)
# The activations stretch no error and exceed their largest argument by log 3 at most: so
# errors are those of the positive sums and products made here, eps each, added up.
SIZES = Rules(jnp.abs, lambda y: jnp.max(_pairs(y), 1) + LOG3, lambda y: y + LOG3)
# No derivative of an activation, of first or second order, is larger than one in size.
_CURVATURES = SIZES._replace(bend=_unit_curvature)


def grouped(slopes: np.ndarray, bent: np.ndarray) -> Groups:
    """Divides the inputs of a convex network into groups.

    Args:
        slopes: 1, -1 or 0, the sign that each slope must have, (d,).
        bent: indices of the convex inputs.

    Returns:
        The groups.
    """
    is_bent = np.isin(np.arange(slopes.size), bent)

    def indices(mask: np.ndarray) -> tuple[int, ...]:
        return tuple(np.flatnonzero(mask).tolist())

    return Groups(
        bent=indices(is_bent & (slopes == 0)),
        bent_and_rising=indices(is_bent & (slopes != 0)),
        rising=indices(~is_bent & (slopes != 0)),
        free=indices(~is_bent & (slopes == 0)),
        signs=np.where(slopes < 0, -1.0, 1.0),
    )


def init(key: jax.Array, *, groups: Groups, width: int, depth: int) -> Any:
    """Draws parameters with activations of order one for inputs of order one.

    Args:
        key: typed.
        groups: of the inputs.
        width: of the hidden layers, even.
        depth: the number of linear layers.

    Returns:
        Parameters for `evaluate`.
    """
    keys = iter(jax.random.split(key, 12 * (depth + 1)))

    def block(name: str, fan_in: int, units: int) -> jax.Array:
        w = jax.random.normal(next(keys), (fan_in, units))
        return w / (STEEP if name in POSITIVE else np.sqrt(fan_in))

    def spread(units: int) -> jax.Array:
        """Draws biases that let units bend at different places of the inputs."""
        return jax.random.uniform(next(keys), (units,), minval=-2.0, maxval=2.0)

    def layer(fan_ins: dict[str, int], units: int, bias: Any = 0.0) -> dict[str, Any]:
        blocks = {name: block(name, n, units) for name, n in fan_ins.items()}
        return {**blocks, "bias": jnp.zeros(units) + bias}

    params: dict[str, Any] = {}
    for name, fan_ins in (
        ("free", {"free": len(groups.free)}),
        ("rising", {"rising": len(groups.rising), **_wide(groups.free, "free", width)}),
    ):
        if fan_ins[name]:
            hidden = [layer({name: width}, width) for _ in range(depth - 2)]
            params[name] = [layer(fan_ins, width, spread(width)), *hidden]
    context = _wide(groups.free, "free", width) | _wide(groups.rising, "rising", width)
    bent = {"bent": len(groups.bent), "bent and rising": len(groups.bent_and_rising)}
    params["convex"] = []
    for k in range(depth):
        units = width if k < depth - 1 else 1
        fan_ins = {name: n for name, n in bent.items() if n} | context
        if k:
            # The bias subtracts the sum of soft maxima of numbers of order one.
            fan_ins, bias = {"hidden": width // 2, **fan_ins}, -1.5
        else:
            bias = spread(units)
        one = layer(fan_ins, units, bias)
        one["gates"] = {
            name: layer(dict.fromkeys(read, width), fan_ins[name], _OPEN[name])
            for name in _READ
            if name in fan_ins and (read := [n for n in context if n in _READ[name]])
        }
        params["convex"].append(one)
    return params


# Inputs that the gate of each block may read: a monotone input may not turn the sign of a
# slope of another. The bias below is that at which the gate is one.
_READ = {"bent": {"free"}, "bent and rising": {"free"}, "hidden": {"free", "rising"}}
_OPEN = {"bent": 1.0, **dict.fromkeys(("bent and rising", "hidden"), np.log(np.e - 1))}


def _wide(indices: Sequence[int], name: str, width: int) -> dict[str, int]:
    return {name: width} if indices else {}


def _sum(layer: Any, signals: dict[str, jax.Array], rules: Rules) -> jax.Array:
    """Returns weights times the signals that the layer reads, plus bias."""
    total = rules.size(layer["bias"])
    for name in [name for name in signals if name in layer]:
        weights = layer[name]
        if name in POSITIVE:
            weights = jax.nn.softplus(STEEP * weights) / len(weights)
        else:
            weights = rules.size(weights)
        total = total + product(signals[name], weights)
    return total


def evaluate(
    params: Any,
    x: jax.Array,
    groups: Groups,
    rules: Rules = VALUES,
    others: Rules = VALUES,
    step: jax.Array | None = None,
) -> jax.Array:
    """Evaluates the network at x with decreasing inputs negated, or a bound of its terms.

    Args:
        params: of `init`.
        x: (d,), rising.
        groups: of its inputs.
        rules: of the path from the convex inputs to the value.
        others: of the other inputs' path, `SIZES` where rounding differs along it.
        step: added to the size of the convex inputs, (d,).

    Returns:
        The value, or the bound, ().
    """
    values, sizes = _embedded(params, x, groups)
    context = sizes if others is SIZES else values
    start = rules.size(x) if step is None else rules.size(x) + step
    signals = {name: rules.size(signal) for name, signal in context.items()}
    for name, chosen in (
        ("bent", groups.bent),
        ("bent and rising", groups.bent_and_rising),
    ):
        if chosen:
            signals[name] = start[np.array(chosen)]
    y = jnp.zeros(1, x.dtype)
    for k, layer in enumerate(params["convex"]):
        if k:
            signals["hidden"] = rules.bend(y)
        gated = dict(signals)
        for name, gate in layer["gates"].items():
            opening = _sum(gate, context, others)
            opening = others.gate(opening) if name in POSITIVE else opening
            gated[name] = signals[name] * rules.size(opening)
        y = _sum(layer, gated, rules)
    return y[0]


def _embedded(
    params: Any, x: jax.Array, groups: Groups
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Returns features of the inputs that are not convex, and the sizes of their terms."""
    chosen = {"free": groups.free, "rising": groups.rising}
    values = {name: x[np.array(indices)] for name, indices in chosen.items() if indices}
    sizes = {name: jnp.abs(value) for name, value in values.items()}
    for name in values:
        for layer in params[name]:
            size = _sum(layer, sizes, SIZES)
            values[name] = jnp.tanh(_sum(layer, values, VALUES))
            # No slope of tanh within one of y is above e^2 < 8 times that at y.
            sizes[name] = 8 * size * (1 - values[name] ** 2) + 1
    return values, sizes


def curvature(
    params: Any, groups: Groups, directions: jax.Array, x: jax.Array
) -> jax.Array:
    """Returns a bound for the Hessian's terms, each unit's weight times squared slope.

    Args:
        params: of `init`.
        groups: of the inputs.
        directions: length of a step along each input, >= 0, (d,).
        x: (d,), rising.

    Returns:
        The bound, in units of f per squared step, ().
    """

    def line(step: jax.Array) -> jax.Array:
        return evaluate(params, x, groups, _CURVATURES, step=step * directions)

    return jax.grad(jax.grad(line))(jnp.zeros((), x.dtype))


def roundings(groups: Groups, width: int, depth: int) -> tuple[float, float]:
    """Returns errors of one evaluation, in eps of the result's size, in any order of sums.

    A sum of n products has n + 1 (gamma_n of Higham, of half an eps each: the other half
    is for derivatives, which are sums as long), an activation eight, weights two, and a
    product with a gate one more than its factors have together.

    Args:
        groups: of the inputs.
        width: of the hidden layers.
        depth: the number of linear layers.

    Returns:
        Those of points that differ in convex inputs alone, where gates are the same
        numbers, and those of points that differ anyhow.
    """
    embedded = width * (bool(groups.free) + bool(groups.rising))
    bent = depth * (width // 2 + embedded + len(groups.signs) + 12)
    others = depth * (embedded + len(groups.signs) + 12)
    gates = depth * (embedded + 12 + others) if embedded else 0
    return float(bent), float(bent + others + gates)
