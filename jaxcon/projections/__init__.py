"""Projections onto sets that `optax.projections` lacks.

Each function takes *one* output y of shape (m,), so that it can be a network's last line,
and is differentiable in all its arguments; batch with `jax.vmap`.
"""

from jaxcon.projections._affine import affine
from jaxcon.projections._affine import product as product
from jaxcon.projections._box_section import box_section
from jaxcon.projections._cones import second_order_cone
from jaxcon.projections._polyhedron import Projection, polyhedron
from jaxcon.projections._spectral import spectral_ball

__all__ = [
    "Projection",
    "affine",
    "box_section",
    "polyhedron",
    "second_order_cone",
    "spectral_ball",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
