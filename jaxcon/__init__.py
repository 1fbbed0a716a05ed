"""Constrained training of neural networks in JAX."""

from jaxcon.constraints import Constraints as Constraints
from jaxcon.constraints import evaluate, violation, max_violation, feasible, proxy
from jaxcon.kkt import KKT, kkt
from jaxcon.lagrangian import lagrangian, augmented_lagrangian, zero_multipliers, multiplier_estimates
from jaxcon.primal_dual import simultaneous, alternating, extragradient
from jaxcon.transforms import dual_ascent
from jaxcon.training import fit
