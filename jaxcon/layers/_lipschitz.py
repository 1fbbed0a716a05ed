"""Lipschitz networks: slopes are bounded in the 2-norm or input by input."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_array, check_choice
from jaxcon.layers._certificates import Certificate, Gap
from jaxcon.layers._certificates import lipschitz as lipschitz_guarantee
from jaxcon.layers._certificates import slope as slope_guarantee
from jaxcon.layers._networks import Network, checked_input, positive_sizes
from jaxcon.layers._norms import (
    bounded_entries,
    bounded_rows,
    cayley,
    group_sort,
    soft_clip,
)
from jaxcon.projections import product

CAVEAT = (
    "A difference of two values is exact to rounding of the largest hidden values, which "
    "grow with |x|, not of the difference; products are made at the highest precision."
)


EXACT = 16.0  # eps, of the norm of a weight from `cayley`: division, root, transposes


class _Step(NamedTuple):
    """Layer of slope at most one.

    Attributes:
        init: (key, n, m) -> free weights, for n inputs and m outputs.
        apply: (layer, h (n,)) -> the layer's output (m,), and the size of its terms ().
        roundings: (n, m) -> its rounding error, in machine epsilons of that size.
    """

    init: Callable[[jax.Array, int, int], dict[str, jax.Array]]
    apply: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]
    roundings: Callable[[int, int], float]


# Roundings of a layer, in eps = 2 u. A sum of k terms is exact to k u of their sizes' sum.
#
# 2-norm. Of Q (N, n), n <= N, from `cayley`, Q^T Q has n^2 entries, each a sum of N terms
# of sizes that sum to 1 at most: |Q|^2 <= 1 + n N u. A product with m rows of length at
# most one and k terms is off by sqrt(m) k u |h|. An orthogonal layer thus has n N / 4 +
# sqrt(m) k / 2 <= n N. A sandwich has |Q|^2 and two such products of N terms together,
# each between factors sqrt(2): n N / 2 + sqrt(n) N. Elementwise steps add four, and the
# sixth powers and roots of `soft_clip` two more.
#
# Infinity norm. A row over its own 1-norm has one that is exact to (n + 1) u, its product
# with h to n u of |h|; the bias adds two: n + 2 eps.
#
# Later layers pass an error on undiminished, at most: over all layers it is the sum.


def _orthogonal_init(key: jax.Array, n: int, m: int) -> dict[str, jax.Array]:
    return {"v": jax.random.normal(key, (m, n)) / np.sqrt(max(m, n))}


def _orthogonal(layer: Any, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Evaluates W h + b, where W has orthonormal rows or columns."""
    size = jnp.linalg.norm(h) + jnp.linalg.norm(layer["b"])
    return product(cayley(layer["v"]), h) + layer["b"], size


def _sandwich_init(key: jax.Array, n: int, m: int) -> dict[str, jax.Array]:
    # Saturating within the range of the inputs: nearly straight units seldom bend enough.
    return {**_contraction_init(key, n, m), "d": jnp.full(m, np.log(0.2))}


def _sandwich(layer: Any, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Evaluates sqrt(2) A^T Psi sigma(sqrt(2) B h / Psi + b)."""
    a, b = _split(layer)
    # Beyond this range of the widths float32 has neither slope nor saturation left.
    psi = jnp.exp(jnp.clip(layer["d"], -10.0, 10.0))
    inner = np.sqrt(2.0).item() * product(b.T, h) / psi + layer["b"]
    hidden = psi * soft_clip(inner)
    terms = [h, psi * layer["b"], hidden]
    size = sum(map(jnp.linalg.norm, terms), start=jnp.zeros((), h.dtype))
    return np.sqrt(2.0).item() * product(a, hidden), size


def _contraction_init(key: jax.Array, n: int, m: int) -> dict[str, jax.Array]:
    return {"v": jax.random.normal(key, (m + n, m)) / np.sqrt(m + n)}


def _contraction(layer: Any, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Evaluates B h + b, where B is any matrix of spectral norm at most one."""
    size = jnp.linalg.norm(h) + jnp.linalg.norm(layer["b"])
    return product(_split(layer)[1].T, h) + layer["b"], size


def _split(layer: Any) -> tuple[jax.Array, jax.Array]:
    """Returns A^T and B^T, with A A^T + B B^T = I."""
    q = cayley(layer["v"])
    return q[: q.shape[1]], q[q.shape[1] :]


def _entries_init(key: jax.Array, n: int, m: int) -> dict[str, jax.Array]:
    return {"v": jax.random.uniform(key, (m, n), minval=-1.0, maxval=1.0)}


def _entries(layer: Any, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Evaluates W h + b with entries of size one at most."""
    size = jnp.sum(jnp.abs(h)) + jnp.max(jnp.abs(layer["b"]))
    return product(bounded_entries(layer["v"]), h) + layer["b"], size


def _rows_init(key: jax.Array, n: int, m: int) -> dict[str, jax.Array]:
    # Rows of 1-norm 2 on average: nearly all start at their bound.
    return {"v": jax.random.uniform(key, (m, n), minval=-4.0, maxval=4.0) / n}


def _rows(layer: Any, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Evaluates W h + b with rows of 1-norm one at most."""
    size = jnp.max(jnp.abs(h)) + jnp.max(jnp.abs(layer["b"]))
    return product(bounded_rows(layer["v"]), h) + layer["b"], size


def _sorted(step: _Step) -> _Step:
    """Returns the step on sorted pairs."""
    return step._replace(apply=lambda layer, h: step.apply(layer, group_sort(h)))


_ORTHOGONAL = _Step(_orthogonal_init, _orthogonal, lambda n, m: n * m + 4.0)
_SANDWICH = _Step(
    _sandwich_init, _sandwich, lambda n, m: (n + m) * (m / 2 + m**0.5) + 6.0
)
_CONTRACTION = _Step(_contraction_init, _contraction, _SANDWICH.roundings)
_ENTRIES = _Step(_entries_init, _entries, lambda n, m: n + 2.0)
_ROWS = _Step(_rows_init, _rows, _ENTRIES.roundings)

_STEPS: dict[str, Callable[[int], list[_Step]]] = {
    "sandwich": lambda depth: [_SANDWICH] * (depth - 1) + [_CONTRACTION],
    "cayley": lambda depth: [_ORTHOGONAL] + [_sorted(_ORTHOGONAL)] * (depth - 1),
    "norms": lambda depth: [_ENTRIES] + [_sorted(_ROWS)] * (depth - 1),
}


class Body(NamedTuple):
    r"""Network of slope at most one in every direction or every input.

    Attributes:
        init: (key) -> layers, of float arrays.
        forward: (layers, z (d,)) -> the output (m,), and the size of the largest terms
            inside, ().
        roundings: the rounding error, in machine epsilons of that size.
    """

    init: Callable[[jax.Array], list[dict[str, jax.Array]]]
    forward: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]
    roundings: float


def body(name: str, by: str, inputs: int, outputs: int, width: int, depth: int) -> Body:
    """Builds the layers of a network of bounded slope.

    Args:
        name: of the network, for its errors.
        by: the construction of the bound, see `lipschitz`.
        inputs: d.
        outputs: m.
        width: of the hidden layers.
        depth: the number of linear layers.

    Returns:
        A `Body`.

    Raises:
        ValueError: there is no such `by`, or a size is not positive.
    """
    check_choice(f"{name}: by", by, _STEPS)
    positive_sizes(name, inputs=inputs, outputs=outputs, width=width, depth=depth)
    steps = _STEPS[by](depth)
    pairs = list(pairwise([inputs, *[width] * (depth - 1), outputs]))

    def init(key: jax.Array) -> list[dict[str, jax.Array]]:
        layers = []
        for step, (n, m), k in zip(steps, pairs, jax.random.split(key, len(steps))):
            weights, offset = jax.random.split(k)
            # Kinks at different places; the output starts near zero.
            spread = jax.random.uniform(offset, (m,), minval=-1.0, maxval=1.0)
            bias = spread if len(layers) < len(steps) - 1 else jnp.zeros(m)
            layers.append({**step.init(weights, n, m), "b": bias})
        return layers

    def forward(layers: Any, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        magnitudes = []
        for step, layer in zip(steps, layers, strict=True):
            z, size = step.apply(layer, z)
            magnitudes.append(size)
        return z, jnp.max(jnp.stack(magnitudes))

    roundings = sum(step.roundings(*pair) for step, pair in zip(steps, pairs))
    return Body(init, forward, roundings)


def lipschitz(
    inputs: int,
    outputs: int | None = None,
    *,
    constant: Any = 1.0,
    by: str = "sandwich",
    width: int = 64,
    depth: int = 3,
) -> Network:
    r"""Builds a network with a Lipschitz constant that no parameters can exceed.

    .. math:: \|f(x) - f(y)\|_2 \le L \|x - y\|_2 \quad \text{for all } x, y

    By "sandwich",
    :math:`h \leftarrow \sqrt 2 A^T \Psi \sigma(\sqrt 2 \Psi^{-1} B h + b)`
    with :math:`A A^T + B B^T = I` from a Cayley transform and the smooth clip
    :math:`\sigma(x) = x / (1 + x^6)^{1/6}`: the bound is on a layer and its activation as
    a whole, not on each weight, so it loses the least. It is the only one with second
    derivatives: use it where a loss or a constraint has them.

    By "cayley", :math:`h \leftarrow \sigma(W h + b)` with orthonormal rows or columns and
    sorted pairs (`group_sort`), which lose no gradient. It is the tightest at a small
    constant, and piecewise linear.

    By "norms", the bound is on each input apart,
    :math:`|\partial f_k / \partial x_i| \le L_i` for every output: first-layer entries and
    later rows' 1-norms are at most one, and pairs are sorted. It is the cheapest, the
    choice where inputs have units of their own, and piecewise linear.

    For each example "cayley" and "norms" cost as much as a plain network of that width, and
    "sandwich" twice that. Once a batch, "cayley" and "sandwich" also solve a linear system
    as large as each layer is wide. All products are at the highest precision, those with
    the values too: in the short formats of accelerators the bound would hold to two or
    three digits, and their speed is given up for it.

    Args:
        inputs: d.
        outputs: m, or None for a scalar.
        constant: L > 0, in units of f per unit of input: one number, or with "norms" also
            one for each input, (d,).
        by: "sandwich", "cayley" or "norms".
        width: of the hidden layers.
        depth: the number of linear layers.

    Returns:
        The network. "sandwich" and "cayley" are certified in the 2-norm, with a test of
        every weight's singular values; "norms" has a slope guarantee for every input.

    Raises:
        TypeError: an argument is of another type.
        ValueError: there is no such `by`; a constant is not positive and finite, or there
            are several and `by` is not "norms" or their number is not d.

    References:
        Wang and Manchester, Direct Parameterization of Lipschitz-Bounded Deep Networks
        (2023), for "sandwich". Anil, Lucas and Grosse, Sorting Out Lipschitz Function
        Approximation (2019), for sorting. Kitouni, Nolte and Williams, Expressive Monotonic
        Neural Networks (2023), for "norms".

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> network = jc.layers.lipschitz(2, constant=3.0)
        >>> params = network.init(jax.random.key(0))
        >>> slopes = jax.grad(network.apply, argnums=1)(params, jnp.ones(2))
        >>> bool(jnp.linalg.norm(slopes) <= 3.0)
        True
    """
    count = 1 if outputs is None else outputs
    inner = body("lipschitz", by, inputs, count, width, depth)
    given = check_array("lipschitz: constant", constant, "() or (d,)")
    constant = np.asarray(given, float)
    one_each = by == "norms" and constant.shape == (inputs,)
    if not (constant.shape == () or one_each):
        allowed = f"() or ({inputs},)" if by == "norms" else "()"
        raise ValueError(
            f"lipschitz by {by!r} takes a constant of shape {allowed}, got {constant.shape}"
        )
    if not np.all((constant > 0) & (constant < np.inf)):
        raise ValueError(f"lipschitz: constant must be > 0 and finite, got {constant}")

    def forward(layers: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = checked_input("lipschitz", x, inputs)
        scale = jnp.asarray(constant, layers[0]["b"].dtype)
        return inner.forward(layers, scale * x)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        y, _ = forward(params, x)
        return y[0] if outputs is None else y

    def certificate(params: Any) -> Certificate:
        def magnitude(x: jax.Array) -> jax.Array:
            return forward(params, x)[1]

        def exact() -> Gap:
            # Of the weights as they are, in float64: `cayley` leaves a few roundings a
            # layer, not those of applying it.
            size = constant * EXACT * depth / inner.roundings
            return Gap(constant * (_product_of_norms(by, params) - 1), size)

        if by != "norms":
            claim = lipschitz_guarantee(
                constant.item(),
                roundings=inner.roundings,
                magnitude=magnitude,
                exact=exact,
            )
            return Certificate((claim,), CAVEAT)
        bounds = np.broadcast_to(constant, inputs).tolist()
        slopes = [
            slope_guarantee(
                index,
                -bound,
                bound,
                roundings=inner.roundings,
                slope_size=bound,
                magnitude=magnitude,
            )
            for index, bound in enumerate(bounds)
        ]
        return Certificate(tuple(slopes), CAVEAT)

    return Network(inner.init, apply, certificate)


def _product_of_norms(by: str, layers: Any) -> Any:
    """Returns the Lipschitz constant that the weights' singular values prove, ()."""
    weights = [np.asarray(cayley(layer["v"]), np.float64) for layer in layers]
    norms = np.array([np.linalg.svd(w, compute_uv=False).max() for w in weights])
    # A sandwich with A A^T + B B^T <= c^2 I has the slope c^2; its last layer, B alone.
    powers = [2 if by == "sandwich" else 1] * (len(norms) - 1) + [1]
    return np.prod(norms ** np.array(powers))
