"""The nearest points of sets that `optax.projections` lacks.

Each function takes *one* output y of shape (m,), so that it can be a network's last line,
and is differentiable in all that it is given; batch with `jax.vmap`.
"""

from jaxcon.projections._affine import affine as affine
from jaxcon.projections._box_section import box_section as box_section
from jaxcon.projections._cones import second_order_cone as second_order_cone
from jaxcon.projections._polyhedron import Projection as Projection
from jaxcon.projections._polyhedron import polyhedron as polyhedron
from jaxcon.projections._spectral import spectral_ball as spectral_ball
