"""Input convex and concave networks, whose Hessian has eigenvalues of one sign."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_array, check_number
from jaxcon.layers import _convex_network as network
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

FLOOR = 1e-3  # of the rise of a bounded network before it is scaled to one


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
    r"""Builds a smooth network, jointly convex in chosen inputs and free in the others.

    .. math::
        z_{k+1, i} = \log(1 + e^{y_{k, 2i}} + e^{y_{k, 2i+1}}), \quad
        y_k = W_k (z_k \circ s_k) + A_k (x \circ a_k) + B_k u + C_k v + b_k, \quad
        f = y_n + \tfrac{\sigma}{2} \|x\|^2

    x are the convex inputs. The others enter through v, a free tanh network of those
    that are not monotone, and u, one of positive weights on the monotone ones that may
    read v. W, B and the gate s(u, v) are positive, and so are A and the gate a(v) of
    monotone convex inputs; all of it through softplus of free parameters. Units are soft
    maxima of pairs, since positive sums of softplus alone have no mixed second derivative
    below zero in monotone inputs: they cannot represent max(x_0, x_1).

    For any parameters, and every value of the other inputs, the Hessian in the convex
    inputs has exactly no eigenvalue below sigma, and slopes in the monotone inputs have
    their sign, in floating point too (a sum of products of numbers of one sign).

    It costs as much as a plain network of the same width, and about four times as much
    where some inputs are not convex. Choose `bounded_convex` where bounds are known too,
    `smooth_monotone` where only monotonicity is.

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
        TypeError: an argument is of another type.
        ValueError: an index is wrong or monotone both ways, no input is convex, sigma is
            negative or meets a monotone convex input, or the width is odd.

    References:
        Amos, Xu and Kolter, Input Convex Neural Networks (2017), eqs. 2 and 3, with ReLU
        for the activation and weights kept positive by projection.

    Example:
        >>> import jax, jaxcon as jc
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
    r"""Builds a smooth network, jointly concave in chosen inputs and free in the others.

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
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> utility = jc.layers.concave(1, increasing=0)
        >>> params = utility.init(jax.random.key(0))
        >>> f = lambda x: float(utility.apply(params, jnp.array([x])))
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
    r"""Builds a bounded network, monotone in every input and jointly convex on a box.

    .. math::
        f = l + (u - l) (w_0 + w_1 r(x)), \quad
        r(x) = \frac{c(x) - c(a)}{c(b) - c(a)}, \quad
        (w_0, w_1, w_2) = \operatorname{softmax}(\omega)

    c is convex and increasing towards the corner b of the box (the one where f is
    largest), with a floor on its slope so that the division is safe, and a is the
    opposite corner: r runs from 0 to 1. Every bounded, monotone and convex function on
    the box can be approximated so: shares of the range may go unused at either end.

    For any parameters the bounds (to the last bit) and the signs of the slopes hold exactly
    and everywhere, since points outside the box are moved to its boundary; convexity
    holds inside. It costs as much as three plain networks, of which two do not depend on x.

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
        TypeError: an argument is of another type.
        ValueError: a box or bounds without an inside, an input that is not monotone one
            way, or an odd width.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> price = jc.layers.bounded_convex([0.5], [1.5], 0.0, 1.0, decreasing=0)
        >>> params = price.init(jax.random.key(0))
        >>> bool(0 <= price.apply(params, jnp.array([99.0])) <= 1)
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
    r"""Builds a bounded network, monotone in every input and jointly concave on a box.

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
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> dose = jc.layers.bounded_concave([0.0], [4.0], 0.0, 1.0, increasing=0)
        >>> params = dose.init(jax.random.key(0))
        >>> bool(0 <= dose.apply(params, jnp.array([-9.0])) <= 1)
        True
    """
    about = ("bounded_concave", -1, domain_lower, domain_upper, lower, upper)
    return _bounded_network(*about, increasing, decreasing, width, depth)


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
    """Builds sign times a convex network."""
    _check_sizes(name, width, depth, inputs)
    check_number(f"{name}: strong", strong, least=0)
    every = range(inputs) if chosen is None else chosen
    bent = np.array(chosen_inputs(name, name, every, inputs), int)
    slopes = _slope_signs(name, increasing, decreasing, inputs)
    if not bent.size:
        raise ValueError(f"{name}: no input is {name}; see smooth_monotone")
    if strong and slopes[bent].any():
        raise ValueError(
            f"{name}: no function on the whole line is monotone in an input and strongly "
            f"{name} in it too; inputs {bent[slopes[bent] != 0].tolist()} can be "
            "increasing or decreasing, or strong above 0, but not both"
        )
    groups = network.grouped(sign * slopes, bent)
    directions = np.isin(np.arange(inputs), bent)

    def turned(x: jax.Array) -> jax.Array:
        return x * jnp.asarray(groups.signs, x.dtype)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        x = checked_input(name, x, inputs)
        y = network.evaluate(params, turned(x), groups)
        return sign * (y + strong / 2 * jnp.sum(x[bent] ** 2))

    def certificate(params: Any) -> Certificate:
        def magnitude(
            x: jax.Array, others: network.Rules = network.VALUES
        ) -> jax.Array:
            square = strong / 2 * jnp.sum(x[bent] ** 2)
            rules = network.SIZES, others
            return network.evaluate(params, turned(x), groups, *rules) + square

        def curvature_size(x: jax.Array) -> jax.Array:
            along = jnp.asarray(directions, x.dtype)
            return network.curvature(params, groups, along, turned(x)) + strong

        along_bent, anyhow = network.roundings(groups, width, depth)
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
        wide = partial(magnitude, others=network.SIZES)
        guarantees += _monotonicity(slopes, groups.rising, anyhow, wide)
        return Certificate(tuple(guarantees), _CAVEAT)

    return Network(
        partial(network.init, groups=groups, width=width, depth=depth),
        apply,
        certificate,
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
    """Builds a convex rise from 0 to 1 over the box, or its mirror image, within bounds."""
    low, high = (
        np.asarray(check_array(f"{name}: {word}", corner, "(d,)"), float)
        for word, corner in (
            ("domain_lower", domain_lower),
            ("domain_upper", domain_upper),
        )
    )
    if low.shape != high.shape or not low.size:
        raise ValueError(
            f"{name}: domain_lower and domain_upper must be of the same shape (d,), "
            f"d >= 1, got {low.shape} and {high.shape}"
        )
    if not (low < high).all():
        raise ValueError(
            f"{name}: not a box: domain_lower {low.tolist()} to domain_upper "
            f"{high.tolist()}"
        )
    check_number(f"{name}: lower", lower)
    check_number(f"{name}: upper", upper)
    if not lower < upper:
        raise ValueError(f"{name} needs lower < upper, got {lower} and {upper}")
    lower, upper = float(lower), float(upper)
    inputs = low.size
    _check_sizes(name, width, depth, inputs)
    slopes = _slope_signs(name, increasing, decreasing, inputs)
    if not slopes.all():
        raise ValueError(
            f"{name}: input {np.argmin(np.abs(slopes))} is neither increasing nor "
            "decreasing; only a constant is convex, bounded by its corners' values and free"
        )
    groups = network.grouped(sign * slopes, np.arange(inputs))
    ascent = sign * slopes  # of r
    start, scale = np.where(ascent > 0, low, high), ascent / (high - low)
    span = upper - lower

    def rise(params: Any, place: jax.Array) -> jax.Array:
        rising = network.evaluate(params["convex"], place, groups)
        return rising + FLOOR * jnp.mean(place)

    def ends(params: Any, dtype: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns c(a), the whole rise and the shares of the range."""
        first = rise(params, jnp.zeros(inputs, dtype))
        whole = rise(params, jnp.ones(inputs, dtype)) - first
        # Rounding may have removed the floor.
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
            """Returns df/dr divided by the whole rise."""
            _, whole, shares = ends(params, x.dtype)
            return span * shares[1] / whole

        def magnitude(x: jax.Array) -> jax.Array:
            corner = np.maximum(np.abs(low), np.abs(high))
            place = (jnp.abs(x) + jnp.asarray(corner, x.dtype)) * jnp.asarray(
                np.abs(scale), x.dtype
            )
            # Twice: the value at x and that at the corner, which it cancels.
            inner = 2 * network.evaluate(params["convex"], place, groups, network.SIZES)
            return slope_of(x) * inner + max(abs(lower), abs(upper))

        def curvature_size(x: jax.Array) -> jax.Array:
            along = jnp.asarray(np.abs(scale), x.dtype)
            about = params["convex"], groups, along, jnp.ones_like(x)
            return slope_of(x) * network.curvature(*about)

        # Beyond the network's own: place, the floor's mean, r and what is made of it.
        c = network.roundings(groups, width, depth)[0] + inputs + 12
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
        params = network.init(key, groups=groups, width=width, depth=depth)
        return {"convex": params, "shares": jnp.array([0.0, 2.0, 0.0])}

    return Network(init, apply, certificate)


_BOUNDED_CAVEAT = (
    f"{_CAVEAT} A network that rises little over the box, compared with its values there, "
    "has its rounding magnified by what scales that rise to the bounds."
)


def _check_sizes(name: str, width: int, depth: int, inputs: int) -> None:
    positive_sizes(name, width=width, depth=depth, inputs=inputs)
    if width % 2:
        raise ValueError(
            f"{name}: units come in pairs, the width must be even: {width}"
        )


def _slope_signs(
    name: str, increasing: Any, decreasing: Any, inputs: int
) -> np.ndarray:
    """Returns 1 for increasing, -1 for decreasing and 0 for free inputs, (d,)."""
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


def _strengthened(
    curve: Guarantee, sign: int, strong: float, bent: np.ndarray
) -> Guarantee:
    """Makes the guarantee that f without the square is curved still."""

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
    """Makes guarantees of slopes' signs, exact as sums of products of one sign."""
    promise = partial(slope, roundings=roundings, magnitude=magnitude)
    return [
        promise(int(i), lower=0.0) if slopes[i] > 0 else promise(int(i), upper=0.0)
        for i in indices
        if slopes[i]
    ]
