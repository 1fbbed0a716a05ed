"""Constrained training of neural networks in JAX: the front door, which lists names.

min f(θ) subject to h(θ) = 0 and g(θ) ≤ 0, where h and g may be exact derivatives of a
network with respect to its inputs. Start at `Constraints`, `alternating` and `fit`.
"""

from importlib.metadata import version as _version

from jaxcon import derivatives as derivatives
from jaxcon import layers as layers
from jaxcon import methods as methods
from jaxcon import multipliers as multipliers
from jaxcon import penalties as penalties
from jaxcon import points as points
from jaxcon import projections as projections
from jaxcon import report as report
from jaxcon import shapes as shapes
from jaxcon.comparison import compare as compare
from jaxcon.constraints import Constraints as Constraints
from jaxcon.constraints import evaluate as evaluate
from jaxcon.constraints import feasible as feasible
from jaxcon.constraints import max_violation as max_violation
from jaxcon.constraints import proxy as proxy
from jaxcon.constraints import tighten as tighten
from jaxcon.constraints import violation as violation
from jaxcon.diagnosis import Diagnosis as Diagnosis
from jaxcon.diagnosis import diagnose as diagnose
from jaxcon.identifiability import Identification as Identification
from jaxcon.identifiability import NonIdentifiable as NonIdentifiable
from jaxcon.identifiability import cramer_rao_bound as cramer_rao_bound
from jaxcon.identifiability import fisher_information as fisher_information
from jaxcon.identifiability import identify as identify
from jaxcon.lagrangians import augmented_lagrangian as augmented_lagrangian
from jaxcon.lagrangians import lagrangian as lagrangian
from jaxcon.lagrangians import multiplier_estimates as multiplier_estimates
from jaxcon.lagrangians import zero_multipliers as zero_multipliers
from jaxcon.layers import from_module as from_module
from jaxcon.methods import Method as Method
from jaxcon.methods import Problem as Problem
from jaxcon.optimality import KKT as KKT
from jaxcon.optimality import active as active
from jaxcon.optimality import conflict as conflict
from jaxcon.optimality import kkt as kkt
from jaxcon.optimality import least_squares_multipliers as least_squares_multipliers
from jaxcon.optimality import sensitivity as sensitivity
from jaxcon.primal_dual import Info as Info
from jaxcon.primal_dual import PrimalDualState as PrimalDualState
from jaxcon.primal_dual import Solver as Solver
from jaxcon.primal_dual import alternating as alternating
from jaxcon.primal_dual import extragradient as extragradient
from jaxcon.primal_dual import simultaneous as simultaneous
from jaxcon.selection import best_iterate as best_iterate
from jaxcon.selection import mixture as mixture
from jaxcon.training import FitResult as FitResult
from jaxcon.training import SweepResult as SweepResult
from jaxcon.training import fit as fit
from jaxcon.training import sweep as sweep
from jaxcon.transforms import GradientTerms as GradientTerms
from jaxcon.transforms import MeanSquares as MeanSquares
from jaxcon.transforms import adaptive_penalty as adaptive_penalty
from jaxcon.transforms import balance_by_gradient_norm as balance_by_gradient_norm
from jaxcon.transforms import balance_by_relative_loss as balance_by_relative_loss
from jaxcon.transforms import balance_by_uncertainty as balance_by_uncertainty
from jaxcon.transforms import bound_constraints as bound_constraints
from jaxcon.transforms import capped as capped
from jaxcon.transforms import clip_by_percentile as clip_by_percentile
from jaxcon.transforms import clip_by_z_score as clip_by_z_score
from jaxcon.transforms import clip_each_example as clip_each_example
from jaxcon.transforms import clip_residual as clip_residual
from jaxcon.transforms import conflict_free as conflict_free
from jaxcon.transforms import counted as counted
from jaxcon.transforms import dual_ascent as dual_ascent
from jaxcon.transforms import each_term as each_term
from jaxcon.transforms import every as every
from jaxcon.transforms import fixed_penalty as fixed_penalty
from jaxcon.transforms import gauss_newton as gauss_newton
from jaxcon.transforms import growing_penalty as growing_penalty
from jaxcon.transforms import method_of_multipliers as method_of_multipliers
from jaxcon.transforms import nupi as nupi
from jaxcon.transforms import pid as pid
from jaxcon.transforms import project_conflicts as project_conflicts
from jaxcon.transforms import proximal as proximal
from jaxcon.transforms import restart_every as restart_every
from jaxcon.transforms import restart_when_feasible as restart_when_feasible
from jaxcon.transforms import scale_by_pi as scale_by_pi
from jaxcon.transforms import when_stalled as when_stalled

__version__ = _version("jaxcon")
