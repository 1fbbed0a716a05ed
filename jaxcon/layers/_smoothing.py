"""Smoothing of outputs on a regular grid, by averages of neighbours."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_number, described
from jaxcon.layers._certificates import Certificate, Function, Gap, Guarantee
from jaxcon.layers._networks import Network, Output, output
from jaxcon.layers._outputs import vector
from jaxcon.projections import product

ORDERS = (1, 2)  # of the differences that are guaranteed
MOST_STEPS = 1_000_000  # of a grid, that a kernel is wide


def moving_average(width: int) -> Output:
    r"""Replaces each output of a regular grid by the mean of its neighbours and itself.

    .. math::
        f_i = \sum_{|k| \le h} w_k\, z_{i + k}, \qquad w_k = \frac{1}{2h + 1}

    with :math:`z_0` and :math:`z_{m-1}` repeated beyond the ends, so that every output is a
    weighted mean of inputs: it stays between the least and the greatest of them. No
    difference is bounded by that alone. If the outputs are in [l, u] before, as after
    `bounded`, then differences of order k are at most

    .. math::
        |\Delta^k f_i| \le (u - l)\, c_k, \qquad
        c_k = \tfrac12 \sum_j |\Delta^k w_j|,

    because rows of differences sum to zero; for this kernel :math:`c_1 = 1 / (2h + 1)`
    and :math:`c_2 = 2 / (2h + 1)`. It costs 2h + 1 products for each output. `gaussian`
    is smoother for the same spread.

    Args:
        width: 2h + 1, odd, in grid steps.

    Returns:
        The output layer, of y (m,).

    Raises:
        TypeError: an argument is of another type.
        ValueError: the width is not odd and positive; when called, y is not (m,).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> print(jc.layers.moving_average(3)(jnp.array([0.0, 3.0, 0.0, 0.0])))
        [1. 1. 1. 0.]
    """
    _check_odd("moving_average", width)
    return _smoothing("moving_average", np.full(width, 1 / width))


def gaussian(sigma: float) -> Output:
    r"""Replaces each output of a regular grid by a normally weighted mean around it.

    .. math::
        f_i = \sum_{|k| \le 4 \sigma} w_k\, z_{i + k}, \qquad
        w_k \propto e^{-k^2 / 2 \sigma^2}

    with the guarantees of `moving_average`, for a kernel that is smooth itself: its
    :math:`c_1` is close to :math:`0.4 / \sigma` and its :math:`c_2` to
    :math:`0.48 / \sigma^2`, so that second differences fall with the square of the spread.
    It costs 8 sigma products for each output.

    Args:
        sigma: σ > 0, in grid steps.

    Returns:
        The output layer, of y (m,).

    Raises:
        TypeError: sigma is no number.
        ValueError: sigma is not positive, or above 125,000; when called, y is not (m,).

    Example:
        >>> import jax.numpy as jnp, jaxcon as jc
        >>> bump = jc.layers.gaussian(1.0)(jnp.array([0.0, 0.0, 1.0, 0.0, 0.0]))
        >>> [f"{y:.3f}" for y in bump]
        ['0.054', '0.242', '0.399', '0.242', '0.054']
    """
    check_number("gaussian: sigma", sigma, above=0, most=MOST_STEPS / 8)
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-np.square(np.arange(-reach, reach + 1) / sigma) / 2)
    return _smoothing("gaussian", weights / weights.sum())


def learned_smoothing(network: Network, width: int) -> Network:
    r"""Smooths a network's outputs on a regular grid by a learned kernel.

    .. math::
        f_i = \sum_{|k| \le h} w_k\, z_{i + k}, \qquad w = \operatorname{softmax}(a)

    For any a weights are positive and sum to one, so the guarantees of `moving_average`
    hold, with :math:`c_k` of the present kernel: the certificate depends on the
    parameters. Training may make the kernel a single 1, and then nothing is smoothed: use
    `moving_average` or `gaussian` for a bound on differences that stays.

    Args:
        network: with outputs (m,); bounded ones make differences bounded.
        width: 2h + 1, odd, in grid steps.

    Returns:
        A network with parameters {"network": its own, "kernel": a (width,)}; it begins as
        a moving average.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the width is not odd and positive; when called, the outputs are not
            (m,).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> inner = jc.layers.mlp(1, 10).then(jc.layers.bounded(-1.0, 1.0))
        >>> network = jc.layers.learned_smoothing(inner, 5)
        >>> params = network.init(jax.random.key(0))
        >>> steps = jnp.diff(network.apply(params, jnp.ones(1)))
        >>> bool(jnp.max(jnp.abs(steps)) <= 2 / 5)
        True
    """
    if not isinstance(network, Network):
        raise TypeError(
            "learned_smoothing: network must be a Network of jaxcon.layers, got "
            f"{described(network)}"
        )
    _check_odd("learned_smoothing", width)

    def init(key: jax.Array) -> Any:
        return {"network": network.init(key), "kernel": jnp.zeros(width)}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        z = vector("learned_smoothing", network.apply(params["network"], x))
        return _averages(z, jax.nn.softmax(params["kernel"]).astype(z.dtype))

    def certificate(params: Any) -> Certificate:
        before = network.certificate(params["network"])
        carry = _smoother(np.asarray(jax.nn.softmax(params["kernel"]), float))
        kept = tuple(filter(None, map(carry, before.guarantees)))
        return Certificate(kept, before.caveat)

    return Network(init, apply, certificate)


def _smoothing(name: str, weights: np.ndarray) -> Output:
    def function(y: jax.Array, x: Any) -> jax.Array:
        del x
        y = vector(name, y)
        return _averages(y, jnp.asarray(weights, y.dtype))

    return output(function, carry=_smoother(weights))


def _averages(y: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns weighted means of neighbours, the ends repeated, (m,)."""
    reach = weights.size // 2
    places = np.arange(y.size)[:, None] + np.arange(-reach, reach + 1)[None, :]
    neighbours = y[np.clip(places, 0, y.size - 1)]
    return product(neighbours, weights)


def _smoother(weights: np.ndarray) -> Callable[[Guarantee], Guarantee | None]:
    """Returns the carry of a kernel: bounds stay, and bound the differences."""
    bounds = {k: _difference_bound(weights, k) for k in ORDERS}

    def carry(before: Guarantee) -> Guarantee | None:
        if before.kind != "within" or any(map(callable, before.constant)):
            return None
        # Neighbours may have bounds of their own.
        low, high = (
            float(pick(np.asarray(bound, float)))
            for pick, bound in zip((np.min, np.max), before.constant)
        )

        def value(f: Function, x: jax.Array, y: jax.Array) -> Gap:
            del y
            out = f(x)
            return Gap(jnp.max(jnp.maximum(low - out, out - high)), size(out))

        def size(out: jax.Array) -> jax.Array:
            finite = [abs(bound) for bound in (low, high) if np.isfinite(bound)]
            return jnp.maximum(jnp.max(jnp.abs(out)), max(finite, default=0.0))

        def difference(order: int) -> Callable[..., Gap]:
            def steps(f: Function, x: jax.Array, y: jax.Array) -> Gap:
                del y
                out = f(x)
                most = jnp.max(jnp.abs(jnp.diff(out, order)), initial=0.0)
                return Gap(most - (high - low) * bounds[order], 2**order * size(out))

            return steps

        limits = [f"{(high - low) * bound:g}" for bound in bounds.values()]
        return replace(
            before,
            statement=(
                f"{low:g} <= f(x) <= {high:g}, differences of orders "
                f"{', '.join(map(str, bounds))} at most {', '.join(limits)}"
            ),
            tests={
                "value": value,
                **{f"difference {k}": difference(k) for k in ORDERS},
            },
            # A sum of as many products, and weights that sum to one as nearly.
            roundings=before.roundings + len(weights) + 1.0,
            size="the outputs and the bounds, twice for each difference",
            constant=(low, high),
        )

    return carry


def _difference_bound(weights: np.ndarray, order: int) -> float:
    """Returns c_k, the largest difference of weighted means of inputs in [0, 1]."""
    # The ends repeated add up columns of rows, which makes none of these sums larger.
    padded = np.pad(weights, order)
    return float(np.abs(np.diff(padded, order)).sum() / 2)


def _check_odd(name: str, width: int) -> None:
    check_number(f"{name}: width", width, least=1, most=MOST_STEPS, whole=True)
    if width % 2 == 0:
        raise ValueError(f"{name} needs an odd width, got {width}")
