"""Networks whose slopes lie between bounds, among them monotone ones."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_array
from jaxcon.layers._certificates import Certificate, slope
from jaxcon.layers._lipschitz import body
from jaxcon.layers._networks import (
    Network,
    checked_input,
    chosen_inputs,
    positive_sizes,
)

CAVEAT = (
    "The value is a difference of terms as large as the learned slopes times |x|: where "
    "they cancel, it is exact to their rounding, and steps finer than that may have either "
    "sign; float64 moves that out of sight."
)


def derivative_box(
    inputs: int, lower: Any, upper: Any, *, width: int = 64, depth: int = 3
) -> Network:
    r"""Builds a scalar network with every slope between two bounds, for any parameters.

    .. math::
        f(x) = \sum_i m_i x_i + g(s_1 x_1, \dots, s_d x_d), \qquad
        l_i \le \frac{\partial f}{\partial x_i} \le u_i

    where g has slopes within [-1, 1] by each input (as `lipschitz` by "norms"). Between two
    finite bounds :math:`m = (l + u)/2` and :math:`s = (u - l)/2`: equal bounds make a
    straight line. With one of them infinite, s is learned and the finite one holds,
    :math:`m = l + s` or :math:`u - s`; with none, :math:`m = 0`. A learned s is an
    exponential, so that a few hundred steps find its order of magnitude, and no constant
    has to be guessed that must dominate the true slope. It starts at 1.

    The cost is that of a plain network of the width. It is piecewise linear, so its second
    derivatives are zero: for those, and for a sign of the slope that is exact in floating
    point, choose `smooth_monotone`.

    Args:
        inputs: d.
        lower: l, () or (d,), in units of f per unit of input; -inf for none.
        upper: u >= l, likewise; inf for none.
        width: of the hidden layers.
        depth: the number of linear layers of g.

    Returns:
        The network, with a slope guarantee for every input that has a bound.

    Raises:
        TypeError: an argument is of another type.
        ValueError: a bound has another shape or is NaN, a lower bound is above the upper
            one, or infinite on the wrong side.

    References:
        Kitouni, Nolte and Williams, Expressive Monotonic Neural Networks (2023), for
        l = 0 and a constant s.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> network = jc.layers.derivative_box(2, [0.0, -1.0], [jnp.inf, 1.0])
        >>> params = network.init(jax.random.key(0))
        >>> slopes = jax.grad(network.apply, argnums=1)(params, jnp.ones(2))
        >>> bool(slopes[0] >= 0) and bool(abs(slopes[1]) <= 1)
        True
    """
    return _derivative_box("derivative_box", inputs, lower, upper, width, depth)


def monotone(
    inputs: int,
    *,
    increasing: int | Sequence[int] = (),
    decreasing: int | Sequence[int] = (),
    width: int = 64,
    depth: int = 3,
) -> Network:
    r"""Builds a scalar network that never falls, or never rises, in chosen inputs.

    .. math::
        \frac{\partial f}{\partial x_i} \ge 0 \ (i \text{ increasing}), \qquad
        \frac{\partial f}{\partial x_j} \le 0 \ (j \text{ decreasing})

    It is `derivative_box` with one bound at zero, and none for the other inputs: the
    slopes may be as large as the data require; flat parts and kinks are exact.

    Args:
        inputs: d.
        increasing: indices of inputs in which it never falls.
        decreasing: of those in which it never rises.
        width: of the hidden layers.
        depth: the number of linear layers.

    Returns:
        The network, with a slope guarantee for every chosen input.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an index is not one of 0, …, d - 1, comes twice, or none is given.

    References:
        Kitouni, Nolte and Williams, Expressive Monotonic Neural Networks (2023), where
        the slopes' size is a constant; here it is learned.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> network = jc.layers.monotone(2, increasing=0)
        >>> params = network.init(jax.random.key(0))
        >>> low, high = jnp.array([0.0, 1.0]), jnp.array([0.5, 1.0])
        >>> bool(network.apply(params, low) <= network.apply(params, high))
        True
    """
    positive_sizes("monotone", inputs=inputs, width=width, depth=depth)
    rising = chosen_inputs("monotone", "increasing", increasing, inputs)
    falling = chosen_inputs("monotone", "decreasing", decreasing, inputs)
    if not rising and not falling:
        raise ValueError("monotone: increasing or decreasing must name an input")
    if both := set(rising) & set(falling):
        raise ValueError(
            f"monotone: increasing and decreasing both name input {min(both)}"
        )
    lower, upper = np.full(inputs, -np.inf), np.full(inputs, np.inf)
    lower[list(rising)] = 0.0
    upper[list(falling)] = 0.0
    return _derivative_box("monotone", inputs, lower, upper, width, depth)


def _derivative_box(
    name: str, inputs: int, lower: Any, upper: Any, width: int, depth: int
) -> Network:
    """Builds the network of `derivative_box` under the name that its errors give."""
    inner = body(name, "norms", inputs, 1, width, depth)
    low, high = _bounds(name, inputs, lower, upper)
    finite = np.isfinite(low) & np.isfinite(high)
    # The size of an input's slopes is learned, around a bound or around zero.
    anchor = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high, 0.0))
    side = 1.0 * np.isfinite(low) - np.isfinite(high)
    half = (np.where(finite, high, 0.0) - np.where(finite, low, 0.0)) / 2

    def init(key: jax.Array) -> Any:
        return {"log_slopes": jnp.zeros(inputs), "layers": inner.init(key)}

    def scales(params: Any) -> tuple[jax.Array, jax.Array]:
        """Returns m and s, (d,)."""
        # e^20 is wide enough for any data; beyond, float32 would overflow far out.
        learned = jnp.exp(jnp.clip(params["log_slopes"], -20.0, 20.0))
        known, bound, sign = (
            jnp.asarray(v, learned.dtype) for v in (half, anchor, side)
        )
        s = jnp.where(finite, known, learned)
        return jnp.where(finite, bound + known, bound + sign * s), s

    def forward(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = checked_input(name, x, inputs)
        m, s = scales(params)
        # S g(s x / S) has the same slopes, and kinks that stay where they are as s grows.
        largest = jnp.maximum(jnp.max(s), jnp.finfo(s.dtype).tiny)
        inside, size = inner.forward(params["layers"], s / largest * x)
        return (
            jnp.sum(m * x) + largest * inside[0],
            jnp.sum(jnp.abs(m * x)) + largest * size,
        )

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return forward(params, x)[0]

    def certificate(params: Any) -> Certificate:
        m, s = scales(params)
        bounded = np.flatnonzero(np.isfinite(low) | np.isfinite(high)).tolist()
        slopes = [
            slope(
                index,
                low[index].item(),
                high[index].item(),
                roundings=inner.roundings + inputs,  # of the sum of m x
                slope_size=jnp.abs(m[index]) + s[index],
                magnitude=lambda x: forward(params, x)[1],
            )
            for index in bounded
        ]
        return Certificate(tuple(slopes), CAVEAT)

    return Network(init, apply, certificate)


def _bounds(
    name: str, inputs: int, lower: Any, upper: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Checks both bounds and returns them, (d,)."""
    both = []
    for word, bound in (("lower", lower), ("upper", upper)):
        given = check_array(f"{name}: {word}", bound, "() or (d,)", finite=False)
        if given.shape not in ((), (inputs,)):
            raise ValueError(
                f"{name} takes {word} of shape () or ({inputs},), got {given.shape}"
            )
        both.append(np.broadcast_to(np.asarray(given, float), inputs))
    low, high = both
    if not np.all((low <= high) & (low < np.inf) & (high > -np.inf)):
        raise ValueError(f"{name} needs lower <= upper, got {low} and {high}")
    return low, high
