"""Smooth monotone networks: soft minima of soft maxima of planes."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.layers._certificates import Certificate, slope
from jaxcon.layers._networks import (
    Network,
    checked_input,
    chosen_inputs,
    positive_sizes,
)

STEEP = 4.0  # monotone weights are softplus(4 w), which a few hundred steps make steep
COLDEST = 1e-3  # of temperatures: planes over it must not overflow


def smooth_monotone(
    inputs: int,
    *,
    increasing: Any = (),
    decreasing: Any = (),
    groups: int = 6,
    planes: int = 6,
) -> Network:
    r"""Builds a smooth network that is monotone in chosen inputs.

    .. math::
        f = -t \log \sum_g e^{-m_g / t}, \quad m_g = t \log \sum_h e^{a_{gh} / t}, \quad
        a_{gh} = w_{gh} \cdot x + b_{gh}

    which is the smallest of the groups' largest planes, softly at the learned temperature
    t, and has derivatives of every order. The weights of increasing inputs are softplus of
    free ones, those of decreasing inputs its negative, all others free. Minima of maxima
    of planes come as close as wanted to every continuous function that is monotone in
    those inputs.

    For any parameters a slope is a mean of the planes' weights, which all have its sign, so
    that the sign is exact in floating point too; differences of the value have it to
    rounding of the planes.

    It costs one layer of groups × planes units. Choose it where second derivatives are
    constrained or trained on, and for few inputs and little data; choose `monotone`,
    which is piecewise linear, deeper and bounded in its slopes, for many inputs.

    Args:
        inputs: d.
        increasing: indices of the inputs in which f does not fall.
        decreasing: indices of the inputs in which f does not rise.
        groups: the number of groups, of which the soft minimum is taken.
        planes: the number of planes in each group.

    Returns:
        A scalar network.

    Raises:
        TypeError: an argument is of another type.
        ValueError: an index is wrong, an input monotone both ways, or none monotone; or a
            size is below one.

    References:
        Sill, Monotonic Networks (1998). Igel, Smooth Min-Max Monotonic Networks (2024).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> demand = jc.layers.smooth_monotone(2, decreasing=0)
        >>> params = demand.init(jax.random.key(0))
        >>> bool(jax.grad(demand.apply, 1)(params, jnp.ones(2))[0] <= 0)
        True
    """
    positive_sizes("smooth_monotone", inputs=inputs, groups=groups, planes=planes)
    rising, falling = (
        chosen_inputs("smooth_monotone", word, chosen, inputs)
        for word, chosen in (("increasing", increasing), ("decreasing", decreasing))
    )
    if both := set(rising) & set(falling):
        raise ValueError(
            f"smooth_monotone: inputs {sorted(both)} are both increasing and decreasing"
        )
    if not rising + falling:
        raise ValueError(
            "smooth_monotone: increasing or decreasing must name an input; see mlp"
        )
    signs = np.zeros((inputs, 1, 1))
    signs[list(rising)], signs[list(falling)] = 1.0, -1.0

    def init(key: jax.Array) -> Any:
        slopes, places = jax.random.normal(key, (2, inputs, groups, planes))
        # Every plane touches the mean of all where the inputs are `places`: none idles.
        offset = jnp.mean(_signed(slopes, signs), (1, 2), keepdims=True)
        bias = jnp.sum((offset - _signed(slopes, signs)) * places, 0)
        return {"slopes": slopes, "bias": bias, "temperature": jnp.array(-1.5)}

    def temperature(params: Any) -> jax.Array:
        return COLDEST + jax.nn.softplus(params["temperature"])

    def apply(params: Any, x: jax.Array) -> jax.Array:
        x = checked_input("smooth_monotone", x, inputs)
        weights = _signed(params["slopes"], signs)
        t = temperature(params)
        a = (jnp.tensordot(x, weights, 1, precision="highest") + params["bias"]) / t
        most = jax.nn.logsumexp(a, axis=1)
        return -t * jax.nn.logsumexp(-most)

    def certificate(params: Any) -> Certificate:
        def magnitude(x: jax.Array) -> jax.Array:
            weights = jnp.abs(_signed(params["slopes"], signs))
            terms = jnp.tensordot(jnp.abs(x), weights, 1) + jnp.abs(params["bias"])
            return jnp.max(terms) + temperature(params) * np.log(groups * planes)

        # A plane has d + 1 terms, its weight three roundings, the division by t and the
        # product with it one each. Log-sum-exp stretches no error; its own, relative, are
        # those of exp (its argument's, two), of a sum of as many terms as there are
        # planes or groups, of log and of the largest that is put back: eight besides.
        promise = partial(
            slope, roundings=inputs + groups + planes + 20.0, magnitude=magnitude
        )
        guarantees = [
            *(promise(index, lower=0.0) for index in rising),
            *(promise(index, upper=0.0) for index in falling),
        ]
        return Certificate(tuple(guarantees), _CAVEAT)

    return Network(init, apply, certificate)


_CAVEAT = (
    "Signs of slopes are exact; differences of the value are to rounding of the largest "
    "plane, which far from the data is larger than the value."
)


def _signed(slopes: jax.Array, signs: np.ndarray) -> jax.Array:
    """Returns weights (d, groups, planes), of the sign that their input requires."""
    positive = jnp.asarray(signs, slopes.dtype) * jax.nn.softplus(STEEP * slopes)
    return jnp.where(jnp.asarray(signs == 0), slopes, positive)
