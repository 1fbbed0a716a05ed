"""Construction that prescribes a network's integral."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_array
from jaxcon.layers._certificates import Certificate, Function, Gap, Guarantee
from jaxcon.layers._networks import Apply, Construction, check_term, one_example
from jaxcon.layers._outputs import evaluated


def integral(points: Any, weights: Any, value: Any) -> Construction:
    r"""Prescribes a network's integral, as a quadrature rule computes it.

    .. math::
        f(x) = N(x) + \frac{1}{\sum_i w_i} \Bigl( I - \sum_i w_i N(x_i) \Bigr), \qquad
        \sum_i w_i f(x_i) = I

    Of all functions with that sum, f is the one that differs from N by a constant. Weights
    of one half for two points prescribe a mean. The points are of the first inputs; where
    there are others, such as time, the integral is prescribed at each of their values. It
    costs one evaluation of N for each of the n points; without other inputs the sum does
    not depend on x, and `jax.vmap` computes it once for a whole batch.

    Args:
        points: the rule's points (n, k), in the units of the first k inputs, e.g. of
            Gauss and Legendre, or `jaxcon.domains.Domain.sobol`.
        weights: w (n,), of any signs, whose sum is not zero.
        value: I, a number or x (d,) -> () or the network's shape, a function of the other
            inputs only, in units of f times those of the weights.

    Returns:
        The construction.

    Raises:
        TypeError: an argument is of another type.
        ValueError: points and weights do not fit or the weights' sum is zero; when called,
            x has fewer inputs than the points, or I's shape does not fit the network's.

    Example:
        >>> import jax, jax.numpy as jnp, jaxcon as jc
        >>> nodes, weights = jnp.linspace(0.0, 1.0, 5)[:, None], jnp.full(5, 0.2)
        >>> mass = jc.layers.integral(nodes, weights, value=3.0)
        >>> network = jc.layers.mlp(1).then(mass)
        >>> params = network.init(jax.random.key(0))
        >>> values = jax.vmap(lambda x: network.apply(params, x))(nodes)
        >>> print(f"{weights @ values:.4f}")
        3.0000
    """
    nodes = np.asarray(check_array("integral: points", points, "(n, k)"), float)
    rule = np.asarray(check_array("integral: weights", weights, "(n,)"), float)
    if not nodes.size or len(nodes) != len(rule):
        raise ValueError(
            f"integral: weights must be one for each of the points (n, k), got shapes "
            f"{rule.shape} and {nodes.shape}"
        )
    total = float(rule.sum())
    if not total:
        raise ValueError("integral: weights must not have the sum zero")
    value = check_term("integral: value", value, "of any shape")
    inputs = nodes.shape[1]

    def at_nodes(f: Function, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns f at the points, what their sum is to be, and the weights."""
        others = jnp.broadcast_to(x[inputs:], (len(nodes), x.size - inputs))
        where = jnp.concatenate([jnp.asarray(nodes, x.dtype), others], axis=1)
        found = jax.vmap(f)(where)
        wanted = evaluated("integral", "value", value, found[0], where[0])
        return found, wanted, jnp.asarray(rule, found.dtype)

    def wrap(apply: Apply) -> Apply:
        def wrapped(params: Any, x: jax.Array) -> jax.Array:
            x = one_example("integral", x)
            if x.size < inputs:
                raise ValueError(
                    f"integral: the points have {inputs} inputs, one example x has {x.size}"
                )
            y = apply(params, x)
            found, wanted, w = at_nodes(lambda x: apply(params, x), x)
            # Twice: the rounding of a long first move may be large beside what is left.
            for _ in range(2):
                move = (wanted - jnp.tensordot(w, found, 1)) / total
                y, found = y + move, found + move[None]
            return y

        return wrapped

    def off(f: Function, x: jax.Array, y: jax.Array) -> Gap:
        del y
        found, wanted, w = at_nodes(f, x)
        # Two sums of n terms, each to n - 1 half roundings of all that was added.
        added = jnp.tensordot(jnp.abs(w), jnp.abs(found), 1) + jnp.abs(wanted)
        gap = jnp.abs(jnp.tensordot(w, found, 1) - wanted)
        return Gap(jnp.max(gap), (len(nodes) + 1) * jnp.max(added))

    text = "I(x)" if callable(value) else str(value)
    guarantee = Guarantee(
        f"sum of w_i f(x_i) = {text}",
        kind="integral",
        tests={"value": off},
        roundings=1.0,
        size="(n + 1) times the sum of sizes",
        constant=value,
    )
    caveat = "Where N is large beside f, its rounding is added to that of the sum."
    return Construction(wrap, Certificate((guarantee,), caveat))
