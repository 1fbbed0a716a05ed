"""Networks and output layers that keep their guarantees for any parameters.

A `Network` is three pure functions, ``init(key)``, ``apply(params, x)`` of one example and
``certificate(params)``; an `Output` is called on one output, ``output(y)``, and a
`Construction` wraps any ``apply(params, x)``. ``network.then(output)`` composes them and
keeps the guarantees that still hold; ``check`` searches for inputs that break one. None
needs flax: ``module`` makes an nnx module of a network, ``from_module`` a pure function of
any module.
"""

from jaxcon.layers._architectures import modified_mlp, siren
from jaxcon.layers._bounds import bounded, positive
from jaxcon.layers._certificates import Certificate, Gap, Guarantee
from jaxcon.layers._check import Check, check
from jaxcon.layers._conditions import box_boundary, conditions, initial_value
from jaxcon.layers._convex import bounded_concave, bounded_convex, concave, convex
from jaxcon.layers._domains import dirichlet, flux
from jaxcon.layers._ends import mixed, neumann, robin
from jaxcon.layers._fields import divergence_free, gradient_field, hamiltonian_field
from jaxcon.layers._flax import from_module, module
from jaxcon.layers._fourier import fourier_features
from jaxcon.layers._integral import integral
from jaxcon.layers._lipschitz import lipschitz
from jaxcon.layers._min_max import smooth_monotone
from jaxcon.layers._networks import Construction, Network, Output, mlp, output
from jaxcon.layers._norms import bounded_entries, bounded_rows, cayley, group_sort
from jaxcon.layers._oblique import oblique_correction
from jaxcon.layers._outputs import (
    ordered,
    positive_definite,
    simplex,
    sparse_simplex,
    sums_to,
)
from jaxcon.layers._periodic import periodic
from jaxcon.layers._polyhedra import half_spaces, polyhedron
from jaxcon.layers._sets import (
    affine,
    box_section,
    half_space,
    second_order_cone,
    spectral_ball,
)
from jaxcon.layers._slopes import derivative_box, monotone
from jaxcon.layers._smoothing import gaussian, learned_smoothing, moving_average

__all__ = [
    "Certificate",
    "Check",
    "Construction",
    "Gap",
    "Guarantee",
    "Network",
    "Output",
    "affine",
    "bounded",
    "bounded_concave",
    "bounded_convex",
    "bounded_entries",
    "bounded_rows",
    "box_boundary",
    "box_section",
    "cayley",
    "check",
    "concave",
    "conditions",
    "convex",
    "derivative_box",
    "dirichlet",
    "divergence_free",
    "flux",
    "fourier_features",
    "from_module",
    "gaussian",
    "gradient_field",
    "group_sort",
    "half_space",
    "half_spaces",
    "hamiltonian_field",
    "initial_value",
    "integral",
    "learned_smoothing",
    "lipschitz",
    "mixed",
    "mlp",
    "modified_mlp",
    "module",
    "monotone",
    "moving_average",
    "neumann",
    "oblique_correction",
    "ordered",
    "output",
    "periodic",
    "polyhedron",
    "positive",
    "positive_definite",
    "robin",
    "second_order_cone",
    "simplex",
    "siren",
    "smooth_monotone",
    "sparse_simplex",
    "spectral_ball",
    "sums_to",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
