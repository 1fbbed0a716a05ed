r"""Primal-dual solvers: simultaneous, alternating and extragradient steps.

One step evaluates loss and residuals once, weights their gradients, and moves the
parameters down and the multipliers up the Lagrangian. Known methods are combinations of
an order, a dual optimizer, and a penalty and barrier of the `Lagrangian`:

=========================== ==================================== ==================
method                      dual                                 penalty
=========================== ==================================== ==================
unconstrained               ``optax.set_to_zero()``              None
quadratic penalty           ``optax.set_to_zero()``              rho
Lagrangian (Arrow-Hurwicz)  ``dual_ascent(sgd(eta))``            None
optimistic ascent           ``dual_ascent(optimistic_…(eta))``   None
PI control of multipliers   ``nupi(eta, kp)``                    None
augmented Lagrangian        ``dual_ascent(sgd(eta))``            rho
Platt and Barr's damping    ``dual_ascent(sgd(eta))``            rho, simultaneous
method of multipliers       ``every(method_of_multipliers(),     rho, or
                            k)``                                 ``growing_penalty``
PECANN-CAPU                 ``when_stalled(                      ``adaptive_penalty``
                            method_of_multipliers())``
penalty-barrier multipliers ``every(method_of_multipliers(),     rho, and
                            k)``                                 ``barrier=``
=========================== ==================================== ==================

The orders differ in the body of their step and nowhere else.
"""

from jaxcon.primal_dual._augmented import RESCUES as RESCUES
from jaxcon.primal_dual._augmented import Outer, augmented_lagrangian_method
from jaxcon.primal_dual._averaged import stochastic_lagrangian
from jaxcon.primal_dual._orders import alternating, extragradient, simultaneous
from jaxcon.primal_dual._solver import Solver
from jaxcon.primal_dual._state import DualStates, Info, PrimalDualState

__all__ = [
    "DualStates",
    "Info",
    "Outer",
    "PrimalDualState",
    "Solver",
    "alternating",
    "augmented_lagrangian_method",
    "extragradient",
    "simultaneous",
    "stochastic_lagrangian",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
