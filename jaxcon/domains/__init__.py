r"""Domains of differential equations, with smooth distances and points inside and on them.

`ball`, `half_space`, `box`, `polygon` and `implicit` make a `Domain`; ``a | b``, ``a & b``
and ``a - b`` combine two. The distance of each is zero on the boundary, positive inside,
negative outside and normalised to first order: along the inward normal it grows at the
rate one. Away from the boundary it is smooth and no distance to the nearest point, which
has kinks. `jaxcon.layers.dirichlet` and `jaxcon.layers.flux` take a domain.
"""

from jaxcon.domains._domain import Domain
from jaxcon.domains._polygon import polygon
from jaxcon.domains._shapes import ball, box, half_space, implicit

__all__ = [
    "Domain",
    "ball",
    "box",
    "half_space",
    "implicit",
    "polygon",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
