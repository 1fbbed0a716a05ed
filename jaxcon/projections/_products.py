"""The product of matrices that projections and layers are made of."""

from functools import partial

import jax.numpy as jnp

# Accelerators keep 8 to 11 bits of each factor unless told otherwise: more error than a
# constraint or a bound on a norm can bear.
product = partial(jnp.matmul, precision="highest")
