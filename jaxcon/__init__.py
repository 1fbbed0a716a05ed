"""Constrained training of neural networks in JAX.

min f(θ) subject to h(θ) = 0 and g(θ) ≤ 0, where h and g may be exact derivatives of a
network with respect to its inputs. Start at `Constraints`, `Lagrangian` and `solve`;
`shapes` has ready constraints, `layers` networks that obey by construction.
"""

from importlib.metadata import version as _version

from jaxcon import (
    certify,
    derivatives,
    domains,
    layers,
    methods,
    multipliers,
    penalties,
    points,
    projections,
    report,
    shapes,
)
from jaxcon.comparison import (
    compare,
)
from jaxcon.constraints import (
    Constraints,
    evaluate,
    feasible,
    max_violation,
    proxy,
    tighten,
    violation,
)
from jaxcon.diagnosis import (
    Diagnosis,
    diagnose,
)
from jaxcon.identifiability import (
    Identification,
    NonIdentifiable,
    cramer_rao_bound,
    fisher_information,
    identify,
)
from jaxcon.lagrangians import (
    Evaluation,
    Lagrangian,
    Point,
    SplitBatch,
    adaptive_penalty,
    augmented_lagrangian,
    growing_penalty,
    lagrangian,
    multiplier_estimates,
    zero_multipliers,
)
from jaxcon.layers import (
    from_module,
)
from jaxcon.methods import (
    Method,
    Problem,
)
from jaxcon.optimality import (
    KKT,
    active,
    conflict,
    kkt,
    least_squares_multipliers,
    polish,
    sensitivity,
)
from jaxcon.primal_dual import (
    Info,
    PrimalDualState,
    Solver,
    alternating,
    augmented_lagrangian_method,
    extragradient,
    simultaneous,
    stochastic_lagrangian,
)
from jaxcon.selection import (
    best_iterate,
    mixture,
)
from jaxcon.training import (
    FitResult,
    History,
    SweepResult,
    fit,
    solve,
    sweep,
)
from jaxcon.transforms import (
    GradientTerms,
    MeanConvex,
    MeanSquares,
    balance_by_gradient_norm,
    balance_by_kernel_trace,
    balance_by_loss_rate,
    balance_by_relative_loss,
    balance_by_uncertainty,
    bound_constraints,
    capped,
    causal_weights,
    clip_by_percentile,
    clip_by_z_score,
    clip_each_example,
    clip_residual,
    conflict_free,
    counted,
    dual_ascent,
    each_term,
    every,
    fixed_penalty,
    gauss_newton,
    method_of_multipliers,
    newton,
    nupi,
    pid,
    project_conflicts,
    proximal,
    residual_attention,
    restart_every,
    restart_when_feasible,
    scale_by_pi,
    self_scaled_broyden,
    soap,
    when_stalled,
)

__version__ = _version("jaxcon")

__all__ = [  # noqa: RUF022 (by task)
    # Rooms.
    "certify",
    "derivatives",
    "domains",
    "layers",
    "methods",
    "multipliers",
    "penalties",
    "points",
    "projections",
    "report",
    "shapes",
    # The problem.
    "Constraints",
    "evaluate",
    "feasible",
    "max_violation",
    "proxy",
    "tighten",
    "violation",
    "Evaluation",
    "Lagrangian",
    "Point",
    "SplitBatch",
    # Objectives as plain functions.
    "augmented_lagrangian",
    "lagrangian",
    "multiplier_estimates",
    "zero_multipliers",
    # Solvers and runs.
    "Info",
    "PrimalDualState",
    "Solver",
    "alternating",
    "augmented_lagrangian_method",
    "extragradient",
    "simultaneous",
    "stochastic_lagrangian",
    "FitResult",
    "History",
    "SweepResult",
    "fit",
    "solve",
    "sweep",
    # Optimizers of multipliers and rules for penalties.
    "capped",
    "dual_ascent",
    "every",
    "fixed_penalty",
    "method_of_multipliers",
    "nupi",
    "pid",
    "restart_every",
    "restart_when_feasible",
    "scale_by_pi",
    "when_stalled",
    "adaptive_penalty",
    "growing_penalty",
    # Optimizers of parameters.
    "MeanConvex",
    "MeanSquares",
    "gauss_newton",
    "newton",
    "proximal",
    "self_scaled_broyden",
    "soap",
    # Weights of single residuals.
    "causal_weights",
    "residual_attention",
    # Gradients of single terms: balancing and clipping.
    "GradientTerms",
    "balance_by_gradient_norm",
    "balance_by_kernel_trace",
    "balance_by_loss_rate",
    "balance_by_relative_loss",
    "balance_by_uncertainty",
    "bound_constraints",
    "clip_by_percentile",
    "clip_by_z_score",
    "clip_each_example",
    "clip_residual",
    "conflict_free",
    "counted",
    "each_term",
    "project_conflicts",
    # Is the result optimal, and why not.
    "KKT",
    "active",
    "conflict",
    "kkt",
    "least_squares_multipliers",
    "polish",
    "sensitivity",
    "Diagnosis",
    "diagnose",
    "best_iterate",
    "mixture",
    # Recovering physical parameters.
    "Identification",
    "NonIdentifiable",
    "cramer_rao_bound",
    "fisher_information",
    "identify",
    # Comparing methods.
    "Method",
    "Problem",
    "compare",
    # Modules of other frameworks.
    "from_module",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
