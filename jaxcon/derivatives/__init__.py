"""Reads a network: the exact derivatives of a function with respect to its inputs.

Every operator takes a pure function of ONE example, x of shape (d,), and returns a pure
function of one example; batch with ``jax.vmap``. A constraint on a slope is then

    def decreasing(params, batch):
        slope = partial_derivative(partial(price, params), 0)
        return jax.vmap(slope)(batch["points"])

The operators choose the mode with fewer directions from the shapes: a gradient is one
reverse pass, one direction is one jvp, a Jacobian is whichever has fewer, and second
derivatives are forward over reverse. ``derivatives`` computes several in one pass and
``explain`` tells the choice and its cost. All compose with ``jax.jit``, ``jax.vmap``
and ``jax.grad``. A function with a ``jax.custom_vjp`` inside has no forward mode in
JAX, so that only its gradient, and its Jacobian when m < d, can be had.
"""

from jaxcon.derivatives._operators import (
    curl,
    derivative,
    directional_derivative,
    divergence,
    gradient,
    hessian,
    hessian_diagonal,
    hessian_vector_product,
    jacobian,
    jacobian_norm_squared,
    laplacian,
    partial_derivative,
    value_and_gradient,
    value_and_jacobian,
    value_and_laplacian,
)
from jaxcon.derivatives._several import (
    Directional,
    Divergence,
    Gradient,
    Hessian,
    HessianDiagonal,
    Jacobian,
    Laplacian,
    Partial,
    Value,
    derivatives,
    explain,
)

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
    "value_and_gradient",
    "value_and_jacobian",
    "value_and_laplacian",
]
