"""Exact derivatives of a function with respect to its inputs.

Every operator takes a pure function of ONE example, x of shape (d,), and returns a pure
function of one example; batch with ``jax.vmap``. A constraint on a slope is then

    def decreasing(params, batch):
        slope = partial_derivative(partial(apply, params), 0)
        return jax.vmap(slope)(batch["points"])

``derivatives`` computes several in one pass, and ``explain`` lists the passes and their
cost. A gradient is one reverse pass. Tangents along directions are carried forwards with
the value, and every sum of second derivatives as one more stream, by interpretation of
f's jaxpr; orders above the second are Taylor series. All operators compose with
``jax.jit``, ``jax.vmap`` and ``jax.grad``. A function with a ``jax.custom_vjp`` inside
has no forward mode in JAX: its derivatives up to the second are then taken backwards.
One with a loop that JAX differentiates only forwards is taken forwards.

Zeros of a tangent that are known when f is traced are never multiplied: the derivative
in one input is finite where another input's slope is infinite, e.g. that of a square
root at a corner of a box. A sort, or places that depend on x, end that knowledge.

Outputs may be complex, e.g. a wave function's; inputs are real. Linear systems and
logarithms of determinants are differentiated with one factorisation. Stacked tangents
known to be zero for most inputs, e.g. of distances between particles, are not computed.

``value_and_grad`` is the derivative of a batch's loss with respect to the parameters,
computed in tiles of as many examples as fit the cache.
"""

from jaxcon.derivatives._explain import explain
from jaxcon.derivatives._first_order import (
    curl,
    directional_derivative,
    divergence,
    gradient,
    jacobian,
    jacobian_norm_squared,
    value_and_curl,
    value_and_directional_derivative,
    value_and_divergence,
    value_and_gradient,
    value_and_jacobian,
    value_and_jacobian_norm_squared,
)
from jaxcon.derivatives._higher_order import (
    derivative,
    hessian,
    hessian_diagonal,
    hessian_vector_product,
    partial_derivative,
    value_and_derivative,
    value_and_hessian,
    value_and_hessian_diagonal,
    value_and_hessian_vector_product,
    value_and_partial_derivative,
)
from jaxcon.derivatives._laplacian import (
    laplacian,
    unbiased_square,
    value_and_laplacian,
)
from jaxcon.derivatives._quantities import (
    Directional,
    Divergence,
    Gradient,
    Hessian,
    HessianDiagonal,
    Jacobian,
    Laplacian,
    Partial,
    Value,
)
from jaxcon.derivatives._rows import rows_of as rows_of
from jaxcon.derivatives._several import derivatives
from jaxcon.derivatives._tiling import tiled_vmap, value_and_grad

__all__ = [
    "Directional",
    "Divergence",
    "Gradient",
    "Hessian",
    "HessianDiagonal",
    "Jacobian",
    "Laplacian",
    "Partial",
    "Value",
    "curl",
    "derivative",
    "derivatives",
    "directional_derivative",
    "divergence",
    "explain",
    "gradient",
    "hessian",
    "hessian_diagonal",
    "hessian_vector_product",
    "jacobian",
    "jacobian_norm_squared",
    "laplacian",
    "partial_derivative",
    "tiled_vmap",
    "unbiased_square",
    "value_and_curl",
    "value_and_derivative",
    "value_and_directional_derivative",
    "value_and_divergence",
    "value_and_grad",
    "value_and_gradient",
    "value_and_hessian",
    "value_and_hessian_diagonal",
    "value_and_hessian_vector_product",
    "value_and_jacobian",
    "value_and_jacobian_norm_squared",
    "value_and_laplacian",
    "value_and_partial_derivative",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
