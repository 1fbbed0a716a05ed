"""Networks for differential equations: sines, and gates between two encoders."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_function, check_number
from jaxcon.layers._certificates import Certificate
from jaxcon.layers._networks import (
    Network,
    activated,
    checked_input,
    dense,
    positive_sizes,
)


def siren(
    inputs: int,
    outputs: int | None = None,
    *,
    width: int = 64,
    depth: int = 3,
    frequency: float = 30.0,
) -> Network:
    r"""Builds a network of sines, for fields of high frequencies and their derivatives.

    .. math:: h_k = \sin(\omega (W_k h_{k-1} + b_k)), \quad f = W_n h_{n-1} + b_n

    begun so that each hidden layer's phases are distributed as the layer's before:

    .. math::
        W_1 \sim U\left(-\frac1d, \frac1d\right), \qquad
        W_k \sim U\left(-\frac{\sqrt{6 / n}}{\omega}, \frac{\sqrt{6 / n}}{\omega}\right),
        \qquad b_k \sim U\left(-\frac{1}{\sqrt n}, \frac{1}{\sqrt n}\right)

    of a layer with n inputs. Without the biases phases have variance one from the second
    layer on. Inputs belong in [-1, 1]; with d of them the first layer has frequencies of up
    to :math:`\omega / d` radians per unit. Any parameters may make others.

    Args:
        inputs: d.
        outputs: m, or None for a scalar.
        width: of the hidden layers.
        depth: the number of linear layers.
        frequency: omega > 0, in radians. The paper has 30, for images; a solution that
            varies over the whole domain needs less.

    Returns:
        A network that guarantees nothing.

    Raises:
        TypeError: a size or the frequency is no number.
        ValueError: a size is below one or no integer, or too large for memory; or the
            frequency is not positive.

    References:
        Sitzmann et al., Implicit Neural Representations with Periodic Activation
        Functions (2020); it leaves the biases open.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> network = jc.layers.siren(2, frequency=5.0)
        >>> params = network.init(jax.random.key(0))
        >>> laplacian = jc.derivatives.laplacian(lambda x: network.apply(params, x))
        >>> laplacian(jnp.zeros(2)).shape
        ()
    """
    last = 1 if outputs is None else outputs
    positive_sizes("siren", depth=depth, inputs=inputs, width=width, outputs=last)
    check_number("siren: frequency", frequency, above=0)
    sizes = [inputs, *[width] * (depth - 1), last]

    def init(key: jax.Array) -> Any:
        def layer(index: int, key: jax.Array, n: int, m: int) -> dict[str, jax.Array]:
            of_weights, of_biases = jax.random.split(key)
            reach = np.sqrt(6 / n).item() / frequency if index else 1 / n

            def drawn(key: jax.Array, shape: tuple[int, ...], most: float) -> jax.Array:
                return jax.random.uniform(key, shape, minval=-most, maxval=most)

            return {
                "w": drawn(of_weights, (n, m), reach),
                "b": drawn(of_biases, (m,), n**-0.5),
            }

        keys = jax.random.split(key, depth)
        return [layer(*each) for each in zip(range(depth), keys, sizes, sizes[1:])]

    def apply(params: Any, x: jax.Array) -> jax.Array:
        h = checked_input("siren", x, inputs)
        for layer in params[:-1]:
            h = jnp.sin(frequency * (h @ layer["w"] + layer["b"]))
        y = h @ params[-1]["w"] + params[-1]["b"]
        return y[0] if outputs is None else y

    return Network(init, apply, lambda params: Certificate())


def modified_mlp(
    inputs: int,
    outputs: int | None = None,
    *,
    width: int = 64,
    depth: int = 4,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
) -> Network:
    r"""Builds a multilayer perceptron whose hidden layers mix two encoders of the input.

    .. math::
        U &= \sigma(W_U x + b_U), \quad V = \sigma(W_V x + b_V), \quad
        h_1 = \sigma(W_1 x + b_1) \\
        z_k &= \sigma(W_k h_{k-1} + b_k), \quad
        h_k = (1 - z_k) \odot U + z_k \odot V, \quad f = W_n h_{n-1} + b_n

    Each hidden layer so multiplies functions of x, as solutions of differential equations
    often do. It costs two more layers of the inputs.

    Args:
        inputs: d.
        outputs: m, or None for a scalar.
        width: of the hidden layers.
        depth: the number n of linear layers between x and f, at least 3.
        activation: sigma, (n,) -> (n,).

    Returns:
        A network that guarantees nothing.

    Raises:
        TypeError: a size is no number, or the activation no function.
        ValueError: a size is too small, no integer, or too large for memory; when called,
            the activation returns another shape.

    References:
        Wang, Teng and Perdikaris, Understanding and Mitigating Gradient Flow Pathologies
        in Physics-Informed Neural Networks (2021).

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> network = jc.layers.modified_mlp(2)
        >>> params = network.init(jax.random.key(0))
        >>> network.apply(params, jnp.ones(2)).shape
        ()
    """
    name, last = "modified_mlp", 1 if outputs is None else outputs
    check_number(f"{name}: depth", depth, least=3, whole=True)
    positive_sizes(name, depth=depth, inputs=inputs, width=width, outputs=last)
    check_function(f"{name}: activation", activation, "(n,) -> (n,)")
    sizes = [inputs, *[width] * (depth - 1), last]

    def init(key: jax.Array) -> Any:
        of_u, of_v, *keys = jax.random.split(key, depth + 2)
        return {
            "u": dense(of_u, inputs, width),
            "v": dense(of_v, inputs, width),
            "layers": [dense(*each) for each in zip(keys, sizes, sizes[1:])],
        }

    def apply(params: Any, x: jax.Array) -> jax.Array:
        x = checked_input(name, x, inputs)

        def layer(params: Any, h: jax.Array) -> jax.Array:
            return activated(name, activation, h @ params["w"] + params["b"])

        first, *gates, output = params["layers"]
        u, v, h = (layer(each, x) for each in (params["u"], params["v"], first))
        for gate in gates:
            z = layer(gate, h)
            h = (1 - z) * u + z * v
        y = h @ output["w"] + output["b"]
        return y[0] if outputs is None else y

    return Network(init, apply, lambda params: Certificate())
