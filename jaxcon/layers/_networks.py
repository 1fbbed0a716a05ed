"""The form that all layers share: pure functions and a certificate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.layers._certificates import Certificate, Guarantee

Apply = Callable[[Any, jax.Array], jax.Array]


def _none(guarantee: Guarantee) -> Guarantee | None:
    """An output of which nothing is known keeps no guarantee of what it is put on."""
    del guarantee
    return None


@dataclass(frozen=True, eq=False)
class Construction:
    """Turns any network into one that obeys.

    Attributes:
        wrap: apply -> apply, e.g. for `jaxcon.methods.by_construction`.
        promises: what holds of the result.
        carry: guarantee -> the guarantee as it holds after wrapping, or None if it does
            not: what is left of what was known of the wrapped network.
    """

    wrap: Callable[[Apply], Apply]
    promises: Certificate
    carry: Callable[[Guarantee], Guarantee | None] = _none

    def certificate(self, params: Any = None) -> Certificate:
        """What holds of the result, whatever its parameters."""
        del params
        return self.promises


@dataclass(frozen=True, eq=False)
class Output(Construction):
    """A construction that needs the wrapped network's output alone, and perhaps x.

    It is called on one output, `output(y)` or `output(y, x)`, so that it can be the last
    of `flax.nnx.Sequential` or a line in a function of one's own.
    """

    function: Callable[[jax.Array, Any], jax.Array] = lambda y, x: y

    def __call__(self, y: jax.Array, x: Any = None) -> jax.Array:
        """The output that obeys, of one example."""
        return self.function(y, x)


def output(
    function: Callable[[jax.Array, Any], jax.Array],
    *guarantees: Guarantee,
    carry: Callable[[Guarantee], Guarantee | None] = _none,
    caveat: str = "",
) -> Output:
    """An `Output` of a pure function and what it guarantees.

    Args:
        function: (y, x) -> what obeys; x is the network's input, or None where the
            output is called without it.
        *guarantees: of the result.
        carry: what is left of the wrapped network's guarantees.
        caveat: what floating point can do.

    Returns:
        The output layer.
    """

    def wrap(apply: Apply) -> Apply:
        return lambda params, x: function(apply(params, x), x)

    return Output(wrap, Certificate(guarantees, caveat), carry, function)


class Network(NamedTuple):
    """A network that obeys for any parameters.

    Attributes:
        init: (key) -> params, a pytree of floating-point arrays.
        apply: (params, x) -> y for one example x (d,).
        certificate: (params) -> `Certificate`: what holds, with its constants.
    """

    init: Callable[[jax.Array], Any]
    apply: Apply
    certificate: Callable[[Any], Certificate]

    def then(self, construction: Construction) -> "Network":
        """The network with a construction put on it.

        Args:
            construction: e.g. `jaxcon.layers.bounded(0.0, 1.0)`.

        Returns:
            A network with the same parameters, certified for what the construction
            promises and for what it leaves of this one's guarantees.
        """

        def certificate(params: Any) -> Certificate:
            before, promised = self.certificate(params), construction.certificate()
            carried = filter(None, map(construction.carry, before.guarantees))
            caveats = filter(None, [before.caveat, promised.caveat])
            return Certificate((*promised.guarantees, *carried), " ".join(caveats))

        return Network(self.init, construction.wrap(self.apply), certificate)


def checked_input(name: str, x: jax.Array, inputs: int) -> jax.Array:
    """One example as an array, or an error that says what one example looks like.

    Args:
        name: of the layer.
        x: what was given.
        inputs: d.

    Returns:
        x (d,).

    Raises:
        ValueError: x is not of shape (d,).
    """
    if jnp.shape(x) != (inputs,):
        raise ValueError(
            f"{name} takes one example x of shape ({inputs},), got {jnp.shape(x)}; "
            "use jax.vmap for a batch"
        )
    return floating(x)


def at_input(name: str, given: Any, x: jax.Array | None) -> Any:
    """What was given, or what a function of x makes.

    Args:
        name: of the layer, perhaps with that of the parameter.
        given: a number, an array, or a function of x.
        x: (d,), or None where the layer is called without it.

    Returns:
        A number or an array.

    Raises:
        ValueError: x is needed and not given.
    """
    if not callable(given):
        return given
    if x is None:
        raise ValueError(
            f"{name} depends on the network's input: call it as layer(y, x)"
        )
    return given(x)


def floating(x: Any) -> jax.Array:
    """An array of floats: whole numbers would round a layer's constants to theirs."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def chosen_inputs(name: str, word: str, chosen: Any, inputs: int) -> tuple[int, ...]:
    """Indices of inputs as a sorted tuple, or an error that names the wrong one.

    Args:
        name: of the layer.
        word: what is chosen, e.g. "increasing".
        chosen: an index or several.
        inputs: d.

    Returns:
        The indices, each once.

    Raises:
        ValueError: an index is not one of 0, …, d - 1 or comes twice.
    """
    single = isinstance(chosen, (int, np.integer))
    indices = (int(chosen),) if single else tuple(map(int, chosen))
    for index in indices:
        if not 0 <= index < inputs:
            raise ValueError(
                f"{name}: {word} names input {index}; there are inputs 0 to {inputs - 1}"
            )
    if len(set(indices)) < len(indices):
        raise ValueError(f"{name}: {word} names an input twice: {indices}")
    return tuple(sorted(indices))


def positive_sizes(name: str, **sizes: int) -> None:
    """Refuses a network without inputs, outputs, units or layers.

    Args:
        name: of the network.
        **sizes: by word.

    Raises:
        ValueError: a size is below one.
    """
    for word, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: {word} must be at least 1, got {size}")


def mlp(
    inputs: int, outputs: int | None = None, *, width: int = 64, depth: int = 3
) -> Network:
    r"""A plain network, free to do anything: what a construction is put on.

    .. math:: h_k = \tanh(W_k h_{k-1} + b_k), \quad f = W_n h_{n-1} + b_n

    Args:
        inputs: d.
        outputs: m, or None for a scalar.
        width: of the hidden layers.
        depth: the number of linear layers.

    Returns:
        A network that guarantees nothing.

    Raises:
        ValueError: a size is below one.

    Example:
        >>> import jax
        >>> import jaxcon as jc
        >>> network = jc.layers.mlp(2).then(jc.layers.bounded(0.0, 1.0))
        >>> params = network.init(jax.random.key(0))
        >>> bool(0 <= network.apply(params, jax.numpy.ones(2)) <= 1)
        True
    """
    sizes = [inputs, *[width] * (depth - 1), 1 if outputs is None else outputs]
    positive_sizes("mlp", depth=depth, inputs=inputs, width=width, outputs=sizes[-1])

    def init(key: jax.Array) -> Any:
        return [
            {"w": jax.random.normal(k, (n, m)) / jnp.sqrt(n), "b": jnp.zeros(m)}
            for k, n, m in zip(jax.random.split(key, depth), sizes, sizes[1:])
        ]

    def apply(params: Any, x: jax.Array) -> jax.Array:
        h = checked_input("mlp", x, inputs)
        for layer in params[:-1]:
            h = jnp.tanh(h @ layer["w"] + layer["b"])
        y = h @ params[-1]["w"] + params[-1]["b"]
        return y[0] if outputs is None else y

    return Network(init, apply, lambda params: Certificate())
