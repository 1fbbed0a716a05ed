r"""Orders the moves: simultaneous, alternating, extragradient.

One step reads the batch, evaluates loss and residuals once, weighs their gradients and
moves parameters (down) and multipliers (up). Known methods are combinations of parts:

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

from jaxcon.primal_dual._orders import alternating, extragradient, simultaneous
from jaxcon.primal_dual._state import DualStates, Info, Loss, PrimalDualState, Solver

__all__ = [
    "DualStates",
    "Info",
    "Loss",
    "PrimalDualState",
    "Solver",
    "alternating",
    "extragradient",
    "simultaneous",
]
