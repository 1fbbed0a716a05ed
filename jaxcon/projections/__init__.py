"""The nearest points of sets that `optax.projections` lacks.

Each function takes *one* output y of shape (m,), so that it can be a network's last line,
and is differentiable in all that it is given; batch with `jax.vmap`.
"""

from jaxcon.projections._affine import affine as affine
