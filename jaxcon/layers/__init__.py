"""Never breaks the rule: networks and outputs that obey for any parameters.

A `Network` is three pure functions, ``init(key)``, ``apply(params, x)`` of one example and
``certificate(params)``; an `Output` is called on one output, ``output(y)``, and a
`Construction` wraps any ``apply(params, x)``. ``network.then(output)`` puts them together
and keeps count of what still holds; ``check`` tries to break it. None needs flax:
``module`` makes an nnx module of a network, ``from_module`` a pure function of any module.
"""

from jaxcon.layers._certificates import Certificate as Certificate
from jaxcon.layers._certificates import Gap as Gap
from jaxcon.layers._certificates import Guarantee as Guarantee
from jaxcon.layers._check import Check as Check
from jaxcon.layers._check import check as check
from jaxcon.layers._conditions import box_boundary as box_boundary
from jaxcon.layers._conditions import dirichlet as dirichlet
from jaxcon.layers._conditions import initial_value as initial_value
from jaxcon.layers._conditions import mixed as mixed
from jaxcon.layers._conditions import neumann as neumann
from jaxcon.layers._conditions import periodic as periodic
from jaxcon.layers._convex import bounded_concave as bounded_concave
from jaxcon.layers._convex import bounded_convex as bounded_convex
from jaxcon.layers._convex import concave as concave
from jaxcon.layers._convex import convex as convex
from jaxcon.layers._fields import divergence_free as divergence_free
from jaxcon.layers._fields import gradient_field as gradient_field
from jaxcon.layers._fields import hamiltonian_field as hamiltonian_field
from jaxcon.layers._flax import from_module as from_module
from jaxcon.layers._flax import module as module
from jaxcon.layers._lipschitz import lipschitz as lipschitz
from jaxcon.layers._min_max import smooth_monotone as smooth_monotone
from jaxcon.layers._networks import Construction as Construction
from jaxcon.layers._networks import Network as Network
from jaxcon.layers._networks import Output as Output
from jaxcon.layers._networks import mlp as mlp
from jaxcon.layers._networks import output as output
from jaxcon.layers._norms import bounded_entries as bounded_entries
from jaxcon.layers._norms import bounded_rows as bounded_rows
from jaxcon.layers._norms import cayley as cayley
from jaxcon.layers._norms import group_sort as group_sort
from jaxcon.layers._outputs import bounded as bounded
from jaxcon.layers._outputs import ordered as ordered
from jaxcon.layers._outputs import positive as positive
from jaxcon.layers._outputs import positive_definite as positive_definite
from jaxcon.layers._outputs import simplex as simplex
from jaxcon.layers._outputs import sparse_simplex as sparse_simplex
from jaxcon.layers._outputs import sums_to as sums_to
from jaxcon.layers._polyhedra import half_spaces as half_spaces
from jaxcon.layers._polyhedra import polyhedron as polyhedron
from jaxcon.layers._sets import affine as affine
from jaxcon.layers._sets import box_section as box_section
from jaxcon.layers._sets import half_space as half_space
from jaxcon.layers._sets import oblique_correction as oblique_correction
from jaxcon.layers._sets import second_order_cone as second_order_cone
from jaxcon.layers._sets import spectral_ball as spectral_ball
from jaxcon.layers._slopes import derivative_box as derivative_box
from jaxcon.layers._slopes import monotone as monotone
from jaxcon.layers._smoothing import gaussian as gaussian
from jaxcon.layers._smoothing import learned_smoothing as learned_smoothing
from jaxcon.layers._smoothing import moving_average as moving_average
