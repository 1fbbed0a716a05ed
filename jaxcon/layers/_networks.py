"""Networks, constructions and output layers: pure functions with a certificate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_array, check_function, check_number, described, inside
from jaxcon.layers._certificates import Certificate, Guarantee

Apply = Callable[[Any, jax.Array], jax.Array]

# Beyond these a size is a slip: its weights fit no memory, or its layers take hours.
MOST = {"depth": 10_000}
MOST_UNITS, MOST_WEIGHTS = 10_000_000, 2**31


def _none(guarantee: Guarantee) -> Guarantee | None:
    """Returns None: an unknown output keeps no guarantee of the wrapped network."""
    del guarantee
    return None


def everywhere_bounded(guarantee: Guarantee) -> Guarantee | None:
    """Returns a guarantee of bounds everywhere, which stays for any inputs; else None.

    Args:
        guarantee: of the wrapped network.

    Returns:
        The guarantee, or None.
    """
    everywhere = guarantee.domain is None and guarantee.kind == "within"
    if everywhere and not any(map(callable, guarantee.constant)):
        return guarantee
    return None


@dataclass(frozen=True, eq=False)
class Construction:
    """Wrapper that makes any network keep a guarantee.

    Attributes:
        wrap: apply -> apply, e.g. for `jaxcon.methods.by_construction`.
        promises: the certificate of the result.
        carry: guarantee of the wrapped network -> the guarantee as it holds after
            wrapping, or None if it does not.
    """

    wrap: Callable[[Apply], Apply]
    promises: Certificate
    carry: Callable[[Guarantee], Guarantee | None] = _none

    def certificate(self, params: Any = None) -> Certificate:
        """Returns the certificate of the result, which holds for any parameters."""
        del params
        return self.promises


@dataclass(frozen=True, eq=False)
class Output(Construction):
    """Construction that needs the wrapped network's output alone, and perhaps x.

    It is called on one output, `output(y)` or `output(y, x)`, so that it can be the last
    of `flax.nnx.Sequential` or a line in a function of one's own.
    """

    function: Callable[[jax.Array, Any], jax.Array] = lambda y, x: y

    def __call__(self, y: jax.Array, x: Any = None) -> jax.Array:
        """Returns the output that keeps the guarantee, of one example."""
        return self.function(y, x)


def output(
    function: Callable[[jax.Array, Any], jax.Array],
    *guarantees: Guarantee,
    carry: Callable[[Guarantee], Guarantee | None] = _none,
    caveat: str = "",
) -> Output:
    """Makes an `Output` of a pure function and its guarantees.

    Args:
        function: (y, x) -> the output that keeps the guarantees; x is the network's
            input, or None where the output is called without it.
        *guarantees: of the result.
        carry: see `Construction`.
        caveat: effects of rounding that the tolerances do not show.

    Returns:
        The output layer.

    Raises:
        TypeError: an argument is no function, guarantee or text.
    """
    check_function("output: function", function, "(y, x) -> y")
    check_function("output: carry", carry, "(guarantee) -> guarantee or None")
    for one in guarantees:
        if not isinstance(one, Guarantee):
            raise TypeError(
                f"output: guarantees must be Guarantees, got {described(one)}"
            )
    if not isinstance(caveat, str):
        raise TypeError(f"output: caveat must be text, got {described(caveat)}")

    def wrap(apply: Apply) -> Apply:
        return lambda params, x: function(apply(params, x), x)

    return Output(wrap, Certificate(guarantees, caveat), carry, function)


class Network(NamedTuple):
    """Network that keeps its guarantees for any parameters.

    Attributes:
        init: (key) -> params, a pytree of floating-point arrays.
        apply: (params, x) -> y for one example x (d,).
        certificate: (params) -> `Certificate`, with the constants at these parameters.
    """

    init: Callable[[jax.Array], Any]
    apply: Apply
    certificate: Callable[[Any], Certificate]

    def then(self, construction: Construction) -> "Network":
        """Wraps the network in a construction.

        Args:
            construction: e.g. `jaxcon.layers.bounded(0.0, 1.0)`.

        Returns:
            A network with the same parameters, certified for the guarantees of the
            construction and for those of this network that it carries.

        Raises:
            TypeError: it is no construction.
        """
        if not isinstance(construction, Construction):
            raise TypeError(
                "then: construction must be a Construction or an Output, e.g. "
                f"jc.layers.bounded(0.0, 1.0), got {described(construction)}"
            )

        def certificate(params: Any) -> Certificate:
            before, promised = self.certificate(params), construction.certificate()
            carried = filter(None, map(construction.carry, before.guarantees))
            caveats = filter(None, [before.caveat, promised.caveat])
            return Certificate((*promised.guarantees, *carried), " ".join(caveats))

        return Network(self.init, construction.wrap(self.apply), certificate)


def checked_input(name: str, x: jax.Array, inputs: int) -> jax.Array:
    """Checks the shape of one example and returns it as an array of floats.

    Args:
        name: of the layer.
        x: one example.
        inputs: d.

    Returns:
        x (d,).

    Raises:
        TypeError: x is no array of numbers.
        ValueError: x is not of shape (d,).
    """
    x = floating(f"{name}: x", x)
    if x.shape != (inputs,):
        raise ValueError(
            f"{name} takes one example x of shape ({inputs},), got {x.shape}; "
            "use jax.vmap for a batch"
        )
    return x


def one_example(name: str, x: jax.Array) -> jax.Array:
    """Checks that x is one example, of however many inputs, and returns it as floats.

    Args:
        name: of the layer.
        x: one example.

    Returns:
        x (d,).

    Raises:
        TypeError: x is no array of numbers.
        ValueError: x is not of shape (d,).
    """
    x = floating(f"{name}: x", x)
    if x.ndim != 1:
        raise ValueError(
            f"{name} takes one example x of shape (d,), got {x.shape}; "
            "use jax.vmap for a batch"
        )
    return x


def at_input(name: str, given: Any, x: jax.Array | None) -> Any:
    """Evaluates a function at x, and returns anything else as it is.

    Args:
        name: of the layer, perhaps with that of the parameter.
        given: a number, an array, or a function of x.
        x: (d,), or None where the layer is called without it.

    Returns:
        A number or an array.

    Raises:
        TypeError: the function returns no array of numbers.
        ValueError: x is needed and not given.
    """
    if not callable(given):
        return given
    if x is None:
        raise ValueError(
            f"{name} depends on the network's input: call it as layer(y, x)"
        )
    with inside(name):
        found = given(x)
    return check_array(f"{name} of x", found, "of any shape", finite=None)


def check_term(name: str, given: Any, form: str, *, finite: bool = True) -> Any:
    """Refuses what is neither a function of x nor an array of numbers.

    Args:
        name: of the layer and the argument.
        given: as the caller passed it.
        form: the shapes allowed of an array.
        finite: whether infinity is refused.

    Returns:
        The array, or the function as it is.

    Raises:
        TypeError: it is neither.
        ValueError: its number of axes or an entry is not allowed.
    """
    if callable(given) and not isinstance(given, type):
        return given
    return check_array(name, given, form, finite=finite)


def floating(name: str, x: Any) -> jax.Array:
    """Converts to floats, since integers would round a layer's constants to integers.

    Args:
        name: of the layer and the argument.
        x: an array of numbers.

    Returns:
        The array, of its own dtype if that is one of floats.

    Raises:
        TypeError: it is no array of numbers.
    """
    x = jnp.asarray(check_array(name, x, "of any shape", finite=None))
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def chosen_inputs(name: str, word: str, chosen: Any, inputs: int) -> tuple[int, ...]:
    """Checks indices of inputs and returns them as a sorted tuple.

    Args:
        name: of the layer.
        word: the name of the choice, e.g. "increasing".
        chosen: an index or several.
        inputs: d.

    Returns:
        The indices, each once.

    Raises:
        TypeError: it is neither an integer nor several.
        ValueError: an index is not one of 0, …, d - 1 or comes twice.
    """
    several = (list, tuple, set, frozenset, range)
    if isinstance(chosen, np.ndarray) and chosen.ndim == 1:
        chosen = chosen.tolist()
    given = tuple(chosen) if isinstance(chosen, several) else (chosen,)
    for index in given:
        check_number(f"{name}: {word}", index, whole=True)
    indices = tuple(map(int, given))
    for index in indices:
        if not 0 <= index < inputs:
            raise ValueError(
                f"{name}: {word} names input {index}; there are inputs 0 to {inputs - 1}"
            )
    if len(set(indices)) < len(indices):
        raise ValueError(f"{name}: {word} names an input twice: {indices}")
    return tuple(sorted(indices))


def positive_sizes(name: str, **sizes: int) -> None:
    """Refuses a network without inputs, outputs, units or layers, or with too many.

    Args:
        name: of the network.
        **sizes: by word.

    Raises:
        TypeError: a size is no number.
        ValueError: a size is below one or no integer, or weights of such a size fit no
            memory.
    """
    for word, size in sizes.items():
        most = MOST.get(word, MOST_UNITS)
        check_number(f"{name}: {word}", size, least=1, most=most, whole=True)
    units = {word: int(size) for word, size in sizes.items() if word not in MOST}
    if "width" in units:
        units["width again"] = units["width"]
    (first, n), (_, m) = sorted(units.items(), key=lambda unit: -unit[1])[:2]
    if n * m > MOST_WEIGHTS:
        word = first.removesuffix(" again")
        raise ValueError(
            f"{name}: {word} {n} makes {n * m} weights, more than fit in memory"
        )


def activated(
    name: str, activation: Callable[[jax.Array], jax.Array], z: jax.Array
) -> jax.Array:
    """Applies an activation to the units of a layer.

    Args:
        name: of the network.
        activation: (n,) -> (n,).
        z: (n,).

    Returns:
        Shape (n,).

    Raises:
        TypeError: it returns no array of numbers.
        ValueError: it returns another shape.
    """
    with inside(f"{name}: activation"):
        h = activation(z)
    h = check_array(f"{name}: what activation returns", h, "(n,)", finite=None)
    if h.shape != z.shape:
        raise ValueError(
            f"{name}: activation returns shape {h.shape} for units of shape {z.shape}"
        )
    return h


def dense(key: jax.Array, n: int, m: int) -> dict[str, jax.Array]:
    """Draws a linear layer: weights of variance 1/n, biases zero.

    Args:
        key: of the weights.
        n: inputs.
        m: outputs.

    Returns:
        w (n, m) and b (m,).
    """
    return {"w": jax.random.normal(key, (n, m)) / jnp.sqrt(n), "b": jnp.zeros(m)}


def mlp(
    inputs: int,
    outputs: int | None = None,
    *,
    width: int = 64,
    depth: int = 3,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    adaptive: float | None = None,
) -> Network:
    r"""Builds a plain multilayer perceptron, to be wrapped in constructions.

    .. math:: h_k = \sigma(s a_k (W_k h_{k-1} + b_k)), \quad f = W_n h_{n-1} + b_n

    with :math:`s a_k = 1`, unless `adaptive` gives s: then the slopes a are trained, one
    for each hidden layer, from 1/s on. A larger s makes them move faster.

    Args:
        inputs: d.
        outputs: m, or None for a scalar.
        width: of the hidden layers.
        depth: the number of linear layers.
        activation: sigma, (n,) -> (n,).
        adaptive: s > 0, or None for slopes that stay 1.

    Returns:
        A network that guarantees nothing.

    Raises:
        TypeError: a size is no number, or the activation no function.
        ValueError: a size is below one or no integer, or too large for memory; or s is
            not positive; when called, the activation returns another shape.

    References:
        Jagtap, Kawaguchi and Karniadakis, Locally Adaptive Activation Functions with
        Slope Recovery for Deep and Physics-Informed Neural Networks (2020), for the
        slope of a layer.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> network = jc.layers.mlp(2).then(jc.layers.bounded(0.0, 1.0))
        >>> params = network.init(jax.random.key(0))
        >>> bool(0 <= network.apply(params, jnp.ones(2)) <= 1)
        True
    """
    last = 1 if outputs is None else outputs
    positive_sizes("mlp", depth=depth, inputs=inputs, width=width, outputs=last)
    check_function("mlp: activation", activation, "(n,) -> (n,)")
    if adaptive is not None:
        check_number("mlp: adaptive", adaptive, above=0)
    sizes = [inputs, *[width] * (depth - 1), last]

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, depth)
        layers = [dense(*each) for each in zip(keys, sizes, sizes[1:])]
        if adaptive is None:
            return layers
        slope = {"a": jnp.full((), 1 / adaptive)}
        return [*({**layer, **slope} for layer in layers[:-1]), layers[-1]]

    def apply(params: Any, x: jax.Array) -> jax.Array:
        h = checked_input("mlp", x, inputs)
        for layer in params[:-1]:
            z = h @ layer["w"] + layer["b"]
            if adaptive is not None:
                z = adaptive * layer["a"] * z
            h = activated("mlp", activation, z)
        y = h @ params[-1]["w"] + params[-1]["b"]
        return y[0] if outputs is None else y

    return Network(init, apply, lambda params: Certificate())
