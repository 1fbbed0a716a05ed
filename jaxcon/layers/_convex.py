"""Convex by construction: networks whose Hessian has no eigenvalue below zero."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.layers._certificates import (
    Certificate,
    Function,
    Guarantee,
    curved,
    slope,
    within,
)
from jaxcon.layers._networks import (
    Network,
    checked_input,
    chosen_inputs,
    positive_sizes,
)
from jaxcon.layers._norms import product

# Blocks of weights that must not be negative: on what has to enter increasingly.
POSITIVE = {"hidden", "bent and rising", "rising"}
STEEP = (
    8.0  # positive weights are softplus(8 w) / n: in Adam's steps as fast as free ones
)
FLOOR = 1e-3  # of the rise of a bounded network before it is scaled to one
LOG3 = float(np.log(3.0))


def convex(
    inputs: int,
    *,
    convex: Any = None,
    increasing: Any = (),
    decreasing: Any = (),
    strong: float = 0.0,
    width: int = 64,
    depth: int = 3,
) -> Network:
    r"""A smooth network that is convex in chosen inputs, jointly, and free in the others.

    .. math::
        z_{k+1, i} = \log(1 + e^{y_{k, 2i}} + e^{y_{k, 2i+1}}), \quad
        y_k = W_k (z_k \circ s_k) + A_k (x \circ a_k) + B_k u + C_k v + b_k, \quad
        f = y_n + \tfrac{\sigma}{2} \|x\|^2

    x are the convex inputs. The others enter through v, a free tanh network of those
    that are not monotone, and u, one of positive weights on the monotone ones that may
    read v. W, B and the gate s(u, v) are positive, and so are A and the gate a(v) of
    monotone convex inputs; all of it through softplus of free parameters. Units are soft
    maxima of pairs, since positive sums of softplus alone have no mixed second derivative
    below zero in monotone inputs: max(x_0, x_1) is out of their reach.

    Exactly: for any parameters, and every value of the other inputs, the Hessian in the
    convex inputs has no eigenvalue below sigma, and slopes in the monotone inputs have
    their sign, in floating point too (a sum of products of numbers of one sign).

    It costs a plain network of the same width, and about four where some inputs are not
    convex. Choose `bounded_convex` where bounds are known too, `smooth_monotone` where
    only monotonicity is.

    Args:
        inputs: d.
        convex: indices of the inputs in which f is convex; None for all.
        increasing: indices of inputs, convex or not, in which f does not fall.
        decreasing: indices of inputs, convex or not, in which f does not rise.
        strong: sigma >= 0, in units of f per squared unit of the convex inputs.
        width: of the hidden layers.
        depth: the number of linear layers.

    Returns:
        A scalar network.

    Raises:
        ValueError: an index is wrong or monotone both ways, no input is convex, sigma is
            negative or meets a monotone convex input, or the width is odd.

    References:
        Amos, Xu and Kolter, Input Convex Neural Networks (2017), eqs. 2 and 3, with ReLU
        for the activation and weights kept positive by projection.

    Example:
        >>> import jax
        >>> import jaxcon as jc
        >>> call = jc.layers.convex(2, convex=0, decreasing=0, increasing=1)
        >>> print(call.certificate(call.init(jax.random.key(0))).guarantees[0].statement)
        f is convex in inputs 0
    """
    about = ("convex", 1, inputs, convex, increasing, decreasing)
    return _curved_network(*about, strong, width, depth)


def concave(
    inputs: int,
    *,
    concave: Any = None,
    increasing: Any = (),
    decreasing: Any = (),
    strong: float = 0.0,
    width: int = 64,
    depth: int = 3,
) -> Network:
    r"""A smooth network that is concave in chosen inputs, jointly, and free in the others.

    .. math:: f = -g, \quad g \text{ convex in the same inputs}

    Guarantees, cost and references are those of `convex`, with the sign changed.

    Args:
        inputs: d.
        concave: indices of the inputs in which f is concave; None for all.
        increasing: indices of inputs in which f does not fall.
        decreasing: indices of inputs in which f does not rise.
        strong: sigma >= 0: no eigenvalue of the Hessian is above -sigma.
        width: of the hidden layers.
        depth: the number of linear layers.

    Returns:
        A scalar network.

    Raises:
        ValueError: as `convex`.

    Example:
        >>> import jax
        >>> import jaxcon as jc
        >>> utility = jc.layers.concave(1, increasing=0)
        >>> params = utility.init(jax.random.key(0))
        >>> f = lambda x: float(utility.apply(params, jax.numpy.array([x])))
        >>> 0 <= f(2.0) - f(1.0) <= f(1.0) - f(0.0)
        True
    """
    about = ("concave", -1, inputs, concave, increasing, decreasing)
    return _curved_network(*about, strong, width, depth)


def bounded_convex(
    domain_lower: Any,
    domain_upper: Any,
    lower: float,
    upper: float,
    *,
    increasing: Any = (),
    decreasing: Any = (),
    width: int = 64,
    depth: int = 3,
) -> Network:
    r"""A network that is monotone in every input, convex in all on a box, and bounded.

    .. math::
        f = l + (u - l) (w_0 + w_1 r(x)), \quad
        r(x) = \frac{c(x) - c(a)}{c(b) - c(a)}, \quad
        (w_0, w_1, w_2) = \operatorname{softmax}(\omega)

    c is convex and increasing towards the corner b of the box (the one where f is
    largest), with a floor on its slope so that the division is safe, and a is the
    opposite corner: r runs from 0 to 1. Every bounded, monotone and convex function on
    the box can be approached so: shares of the range may go unused at either end.

    Exactly, for any parameters: the bounds (to the last bit) and the signs of the slopes
    hold everywhere, since points outside the box are moved to its boundary; convexity
    holds inside. It costs three plain networks, of which two do not depend on x.

    Args:
        domain_lower: lower corner of the box (d,).
        domain_upper: upper corner (d,).
        lower: l, in units of f.
        upper: u > l.
        increasing: indices of inputs in which f does not fall.
        decreasing: indices of all other inputs, in which f does not rise.
        width: of the hidden layers.
        depth: the number of linear layers.

    Returns:
        A scalar network.

    Raises:
        ValueError: a box or bounds without an inside, an input that is not monotone one
            way, or an odd width.

    Example:
        >>> import jax
        >>> import jaxcon as jc
        >>> price = jc.layers.bounded_convex([0.5], [1.5], 0.0, 1.0, decreasing=0)
        >>> params = price.init(jax.random.key(0))
        >>> bool(0 <= price.apply(params, jax.numpy.array([99.0])) <= 1)
        True
    """
    about = ("bounded_convex", 1, domain_lower, domain_upper, lower, upper)
    return _bounded_network(*about, increasing, decreasing, width, depth)


def bounded_concave(
    domain_lower: Any,
    domain_upper: Any,
    lower: float,
    upper: float,
    *,
    increasing: Any = (),
    decreasing: Any = (),
    width: int = 64,
    depth: int = 3,
) -> Network:
    r"""A network that is monotone in every input, concave in all on a box, and bounded.

    .. math:: f = u - (u - l) (w_0 + w_1 r(x))

    with r as in `bounded_convex`, falling where f rises. Guarantees and cost are those
    of `bounded_convex`: a saturating dose response, a utility, a learning curve.

    Args:
        domain_lower: lower corner of the box (d,).
        domain_upper: upper corner (d,).
        lower: l, in units of f.
        upper: u > l.
        increasing: indices of inputs in which f does not fall.
        decreasing: indices of all other inputs, in which f does not rise.
        width: of the hidden layers.
        depth: the number of linear layers.

    Returns:
        A scalar network.

    Raises:
        ValueError: as `bounded_convex`.

    Example:
        >>> import jax
        >>> import jaxcon as jc
        >>> dose = jc.layers.bounded_concave([0.0], [4.0], 0.0, 1.0, increasing=0)
        >>> params = dose.init(jax.random.key(0))
        >>> bool(0 <= dose.apply(params, jax.numpy.array([-9.0])) <= 1)
        True
    """
    about = ("bounded_concave", -1, domain_lower, domain_upper, lower, upper)
    return _bounded_network(*about, increasing, decreasing, width, depth)


class _Groups(NamedTuple):
    """How each input enters: indices of the groups, and signs that make all rise."""

    bent: tuple[int, ...]  # convex
    bent_and_rising: tuple[int, ...]
    rising: tuple[int, ...]  # increasing, not convex
    free: tuple[int, ...]
    signs: np.ndarray  # (d,)


class _Rules(NamedTuple):
    """What the network is evaluated with: numbers themselves, or bounds of their size."""

    size: Function  # of a free weight or bias
    bend: Function  # the activation
    gate: Function  # softplus


def _same(y: jax.Array) -> jax.Array:
    return y


def _pairs(y: jax.Array) -> jax.Array:
    return y.reshape(-1, 2)


def _soft_maximum(y: jax.Array) -> jax.Array:
    """Of zero and of each pair, (n,) -> (n / 2,)."""
    return jax.nn.softplus(jax.nn.logsumexp(_pairs(y), axis=1))


def _unit_curvature(y: jax.Array) -> jax.Array:
    """Sums of pairs, with first and second derivatives one at every y."""
    moved = y - jax.lax.stop_gradient(y)
    return jnp.sum(_pairs(y + moved**2 / 2), 1) + LOG3


_VALUES = _Rules(_same, _soft_maximum, jax.nn.softplus)
# The activations stretch no error and exceed their largest argument by log 3 at most: so
# errors are those of the positive sums and products made here, eps each, added up.
_SIZES = _Rules(jnp.abs, lambda y: jnp.max(_pairs(y), 1) + LOG3, lambda y: y + LOG3)
# No derivative of an activation, of first or second order, is larger than one in size.
_CURVATURES = _SIZES._replace(bend=_unit_curvature)


def _curved_network(
    name: str,
    sign: int,
    inputs: int,
    chosen: Any,
    increasing: Any,
    decreasing: Any,
    strong: float,
    width: int,
    depth: int,
) -> Network:
    """Sign times a convex network."""
    every = range(inputs) if chosen is None else chosen
    bent = np.array(chosen_inputs(name, name, every, inputs), int)
    slopes = _slope_signs(name, increasing, decreasing, inputs)
    if not bent.size:
        raise ValueError(f"{name}: no input is {name}; see smooth_monotone")
    if not 0 <= strong < np.inf:
        raise ValueError(f"{name}: strong must be >= 0 and finite, got {strong}")
    if strong and slopes[bent].any():
        raise ValueError(
            f"{name}: no function on the whole line is monotone in an input and strongly "
            f"{name} in it too; name inputs {bent[slopes[bent] != 0].tolist()} for one of "
            "the two"
        )
    _check_sizes(name, width, depth)
    groups = _groups(sign * slopes, bent)
    directions = np.isin(np.arange(inputs), bent)

    def turned(x: jax.Array) -> jax.Array:
        return x * jnp.asarray(groups.signs, x.dtype)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        x = checked_input(name, x, inputs)
        y = _evaluate(params, turned(x), groups)
        return sign * (y + strong / 2 * jnp.sum(x[bent] ** 2))

    def certificate(params: Any) -> Certificate:
        def magnitude(x: jax.Array, others: _Rules = _VALUES) -> jax.Array:
            square = strong / 2 * jnp.sum(x[bent] ** 2)
            return _evaluate(params, turned(x), groups, _SIZES, others) + square

        def curvature_size(x: jax.Array) -> jax.Array:
            along = jnp.asarray(directions, x.dtype)
            return _curvature(params, groups, along, turned(x)) + strong

        along_bent, anyhow = _roundings(groups, width, depth)
        curve = curved(
            bent.tolist(),
            sign,
            roundings=along_bent,
            magnitude=magnitude,
            curvature_size=curvature_size,
        )
        guarantees = [curve]
        if strong:
            guarantees.append(_strengthened(curve, sign, strong, bent))
        guarantees += _monotonicity(slopes, bent, along_bent, magnitude)
        wide = partial(magnitude, others=_SIZES)
        guarantees += _monotonicity(slopes, groups.rising, anyhow, wide)
        return Certificate(tuple(guarantees), _CAVEAT)

    return Network(
        partial(_init, groups=groups, width=width, depth=depth), apply, certificate
    )


_CAVEAT = (
    "Differences of the value are to rounding of the sums inside it, which are larger than "
    "the value where they cancel; signs of slopes are exact, while sums do not overflow. "
    "Along a monotone input that is not convex the tolerance of differences is a worst "
    "case that may exceed f: there the test of slopes decides."
)


def _bounded_network(
    name: str,
    sign: int,
    domain_lower: Any,
    domain_upper: Any,
    lower: float,
    upper: float,
    increasing: Any,
    decreasing: Any,
    width: int,
    depth: int,
) -> Network:
    """A convex rise from 0 to 1 over the box, or its mirror image, put between bounds."""
    low, high = (np.asarray(corner, float) for corner in (domain_lower, domain_upper))
    if low.ndim != 1 or low.shape != high.shape:
        raise ValueError(
            f"{name}: corners of a box are two vectors of the same shape (d,), got "
            f"{low.shape} and {high.shape}"
        )
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ValueError(f"{name}: not a box: {low.tolist()} to {high.tolist()}")
    if not -np.inf < lower < upper < np.inf:
        raise ValueError(
            f"{name}: bounds must be finite and lower < upper, got {lower} and {upper}"
        )
    _check_sizes(name, width, depth)
    inputs = low.size
    slopes = _slope_signs(name, increasing, decreasing, inputs)
    if not slopes.all():
        raise ValueError(
            f"{name}: input {np.argmin(np.abs(slopes))} is neither increasing nor "
            "decreasing; only a constant is convex, bounded by its corners' values and free"
        )
    groups = _groups(sign * slopes, np.arange(inputs))
    ascent = sign * slopes  # of r
    start, scale = np.where(ascent > 0, low, high), ascent / (high - low)
    span = upper - lower

    def rise(params: Any, place: jax.Array) -> jax.Array:
        return _evaluate(params["convex"], place, groups) + FLOOR * jnp.mean(place)

    def ends(params: Any, dtype: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """r(a) and the whole rise, and the shares of the range."""
        first = rise(params, jnp.zeros(inputs, dtype))
        whole = rise(params, jnp.ones(inputs, dtype)) - first
        # Where rounding has eaten the floor.
        return first, jnp.maximum(whole, FLOOR), jax.nn.softmax(params["shares"])

    def apply(params: Any, x: jax.Array) -> jax.Array:
        x = checked_input(name, x, inputs)
        place = (x - jnp.asarray(start, x.dtype)) * jnp.asarray(scale, x.dtype)
        # Unlike clip, this has one-sided derivatives on the box's boundary, not halves.
        place = jnp.where(place < 0, 0.0, jnp.where(place > 1, 1.0, place))
        first, whole, shares = ends(params, x.dtype)
        r = (rise(params, place) - first) / whole
        y = (lower if sign > 0 else upper) + sign * span * (shares[0] + shares[1] * r)
        # Rounding alone can leave the bounds: moving back must not move derivatives.
        return y + jax.lax.stop_gradient(jnp.clip(y, lower, upper) - y)

    def certificate(params: Any) -> Certificate:
        def slope_of(x: jax.Array) -> jax.Array:
            """df/dr and the division by the whole rise."""
            _, whole, shares = ends(params, x.dtype)
            return span * shares[1] / whole

        def magnitude(x: jax.Array) -> jax.Array:
            corner = np.maximum(np.abs(low), np.abs(high))
            place = (jnp.abs(x) + jnp.asarray(corner, x.dtype)) * jnp.asarray(
                np.abs(scale), x.dtype
            )
            # Twice: the value at x and that at the corner, which it cancels.
            inner = 2 * _evaluate(params["convex"], place, groups, _SIZES)
            return slope_of(x) * inner + max(abs(lower), abs(upper))

        def curvature_size(x: jax.Array) -> jax.Array:
            along = jnp.asarray(np.abs(scale), x.dtype)
            ones = jnp.ones_like(x)
            return slope_of(x) * _curvature(params["convex"], groups, along, ones)

        # Beyond the network's own: place, the floor's mean, r and what is made of it.
        c = _roundings(groups, width, depth)[0] + inputs + 12
        curve = curved(
            range(inputs),
            sign,
            roundings=c,
            magnitude=magnitude,
            curvature_size=curvature_size,
            domain=(low, high),
        )
        guarantees = (
            within(lower, upper),
            curve,
            *_monotonicity(slopes, range(inputs), c, magnitude),
        )
        return Certificate(guarantees, _BOUNDED_CAVEAT)

    def init(key: jax.Array) -> Any:
        params = _init(key, groups=groups, width=width, depth=depth)
        return {"convex": params, "shares": jnp.array([0.0, 2.0, 0.0])}

    return Network(init, apply, certificate)


_BOUNDED_CAVEAT = (
    f"{_CAVEAT} A network that rises little over the box, compared with its values there, "
    "has its rounding magnified by what scales that rise to the bounds."
)


def _check_sizes(name: str, width: int, depth: int) -> None:
    positive_sizes(name, width=width, depth=depth)
    if width % 2:
        raise ValueError(
            f"{name}: units come in pairs, the width must be even: {width}"
        )


def _slope_signs(
    name: str, increasing: Any, decreasing: Any, inputs: int
) -> np.ndarray:
    """1 for increasing, -1 for decreasing, 0 for free inputs, (d,)."""
    signs = np.zeros(inputs, int)
    for sign, word, chosen in (
        (1, "increasing", increasing),
        (-1, "decreasing", decreasing),
    ):
        for index in chosen_inputs(name, word, chosen, inputs):
            if signs[index]:
                raise ValueError(
                    f"{name}: input {index} is both increasing and decreasing"
                )
            signs[index] = sign
    return signs


def _groups(slopes: np.ndarray, bent: np.ndarray) -> _Groups:
    """Groups of inputs of a convex network with these signs of slopes."""
    is_bent = np.isin(np.arange(slopes.size), bent)

    def indices(mask: np.ndarray) -> tuple[int, ...]:
        return tuple(np.flatnonzero(mask).tolist())

    return _Groups(
        bent=indices(is_bent & (slopes == 0)),
        bent_and_rising=indices(is_bent & (slopes != 0)),
        rising=indices(~is_bent & (slopes != 0)),
        free=indices(~is_bent & (slopes == 0)),
        signs=np.where(slopes < 0, -1.0, 1.0),
    )


def _init(key: jax.Array, *, groups: _Groups, width: int, depth: int) -> Any:
    """Parameters with activations of order one for inputs of order one."""
    keys = iter(jax.random.split(key, 12 * (depth + 1)))

    def block(name: str, fan_in: int, units: int) -> jax.Array:
        w = jax.random.normal(next(keys), (fan_in, units))
        return w / (STEEP if name in POSITIVE else np.sqrt(fan_in))

    def spread(units: int) -> jax.Array:
        """Biases that let units bend at different places of the inputs."""
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
            # What soft maxima of numbers of order one add up to is taken off again.
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


# What the gate of each block may read: a monotone input may not turn the sign of a slope
# of another. And the bias at which the gate is one.
_READ = {"bent": {"free"}, "bent and rising": {"free"}, "hidden": {"free", "rising"}}
_OPEN = {"bent": 1.0, **dict.fromkeys(("bent and rising", "hidden"), np.log(np.e - 1))}


def _wide(indices: Sequence[int], name: str, width: int) -> dict[str, int]:
    return {name: width} if indices else {}


def _sum(layer: Any, signals: dict[str, jax.Array], rules: _Rules) -> jax.Array:
    """Weights times what the layer reads, and bias."""
    total = rules.size(layer["bias"])
    for name in [name for name in signals if name in layer]:
        weights = layer[name]
        if name in POSITIVE:
            weights = jax.nn.softplus(STEEP * weights) / len(weights)
        else:
            weights = rules.size(weights)
        total = total + product(signals[name], weights)
    return total


def _evaluate(
    params: Any,
    x: jax.Array,
    groups: _Groups,
    rules: _Rules = _VALUES,
    others: _Rules = _VALUES,
    step: jax.Array | None = None,
) -> jax.Array:
    """The network at x with decreasing inputs turned round, or a bound of its terms.

    Args:
        params: of `_init`.
        x: (d,), rising.
        groups: of its inputs.
        rules: of the way from the convex inputs to the value.
        others: of the other inputs' way, `_SIZES` where rounding differs along it.
        step: added to the size of the convex inputs.
    """
    values, sizes = _embedded(params, x, groups)
    context = sizes if others is _SIZES else values
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
    params: Any, x: jax.Array, groups: _Groups
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """What the inputs that are not convex have to say, and the size of its terms."""
    chosen = {"free": groups.free, "rising": groups.rising}
    values = {name: x[np.array(indices)] for name, indices in chosen.items() if indices}
    sizes = {name: jnp.abs(value) for name, value in values.items()}
    for name in values:
        for layer in params[name]:
            size = _sum(layer, sizes, _SIZES)
            values[name] = jnp.tanh(_sum(layer, values, _VALUES))
            # No slope of tanh within one of y is above e^2 < 8 times that at y.
            sizes[name] = 8 * size * (1 - values[name] ** 2) + 1
    return values, sizes


def _curvature(
    params: Any, groups: _Groups, directions: jax.Array, x: jax.Array
) -> jax.Array:
    """A bound for the terms of the Hessian, each unit's weight times squared slope, ()."""

    def line(step: jax.Array) -> jax.Array:
        return _evaluate(params, x, groups, _CURVATURES, step=step * directions)

    return jax.grad(jax.grad(line))(jnp.zeros((), x.dtype))


def _roundings(groups: _Groups, width: int, depth: int) -> tuple[float, float]:
    """Errors of the size of the result, in eps, of one evaluation in any order of sums.

    A sum of n products has n + 1 (gamma_n of Higham, of half an eps each: the other half
    is for derivatives, which are sums as long), an activation eight, weights two, and a
    product with a gate one more than its factors have together.

    Returns:
        Those of points that differ in convex inputs alone, where gates are the same
        numbers, and those of points that differ anyhow.
    """
    embedded = width * (bool(groups.free) + bool(groups.rising))
    bent = depth * (width // 2 + embedded + len(groups.signs) + 12)
    others = depth * (embedded + len(groups.signs) + 12)
    gates = depth * (embedded + 12 + others) if embedded else 0
    return float(bent), float(bent + others + gates)


def _strengthened(
    curve: Guarantee, sign: int, strong: float, bent: np.ndarray
) -> Guarantee:
    """The claim that what is left without the square is curved still."""

    def without(f: Function) -> Function:
        return lambda x: f(x) - sign * strong / 2 * jnp.sum(x[bent] ** 2)

    def strengthened(test: Any) -> Any:
        return lambda f, x, y: test(without(f), x, y)

    return replace(
        curve,
        statement=f"{curve.statement}, strongly: by {strong:g}",
        kind=f"strongly {curve.kind}",
        tests={name: strengthened(test) for name, test in curve.tests.items()},
        constant=strong,
    )


def _monotonicity(
    slopes: np.ndarray, indices: Any, roundings: float, magnitude: Function
) -> list[Guarantee]:
    """Signs of slopes, exact: each is a sum of products of numbers of one sign."""
    promise = partial(slope, roundings=roundings, magnitude=magnitude)
    return [
        promise(int(i), lower=0.0) if slopes[i] > 0 else promise(int(i), upper=0.0)
        for i in indices
        if slopes[i]
    ]
