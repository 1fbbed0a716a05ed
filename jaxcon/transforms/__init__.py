r"""Gradient transforms for multipliers, clipping and balanced terms.

The transforms of optax are used as they are. `optax.clip`, `clip_by_global_norm`,
`clip_by_block_rms` and `adaptive_grad_clip` stand before an optimizer, on either side::

    primal = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    dual = jc.dual_ascent(optax.chain(optax.clip(1.0), optax.sgd(0.1)))

and so do `optax.zero_nans`, `apply_if_finite` and `MultiSteps` with `skip_not_finite`.
A step leaves everything unchanged if some number in it is not finite. Put these three
before the parameters' optimizer only if the step is to continue without the NaN. A clip
of single examples, by `optax.per_example_global_norm_clip`, is `clip_each_example`.

The end point of training under clipping
----------------------------------------
A descent on :math:`L = f + \sum_i \lambda_i h_i` rests where its direction is zero and
the multipliers no longer move, :math:`h_i = 0`. The effect of a clip on that point depends
on the quantity that is clipped.

**The sum.** Clipping by the global norm, by a percentile or a z-score of past norms
multiplies :math:`\nabla L` by one number s > 0; clipping entries, blocks or units
multiplies each of them by its own. The result is zero where :math:`\nabla L` is, and
nowhere else: every KKT point is kept, with its multipliers, and no other is added. If
gradients are exact, only the path changes. If the step is clipped and the multiplier's is
not, the iterates can oscillate for ever; a penalty damps this. The mean of a noisy gradient
differs from the mean of the clipped one: where the noise is skewed and often clipped, the
point moves, as below.

**Each term.** :math:`s_0 \nabla f + \sum_i s_i \lambda_i \nabla h_i = 0` with
:math:`h_i = 0` is a KKT point whose multipliers are

.. math:: \lambda_i^* = \frac{s_i}{s_0} \lambda_i

If such :math:`\lambda_i` exist, the parameters end at the same point as without a clip, and
the multipliers of training have other units. They exist if only the loss is clipped
(``optax.masked(clip, GradientTerms(True, False))``), or, if all terms are clipped to one
norm c, where :math:`\|\lambda_i^* \nabla h_i\| < \max(c, \|\nabla f\|)` for every i.
Otherwise, as always with one constraint and :math:`\|\nabla f\| > c`, the clipped parts
balance before the constraint holds: the multiplier winds up and the violation stays.
Under a fixed penalty, where :math:`\lambda_i = w h_i`, training ends at the minimum for the
weight :math:`w s_i / s_0`. If the constraint's part is clipped, training that starts where
:math:`\nabla f` is short stops where its norm has grown to c.
`jaxcon.least_squares_multipliers` returns the multipliers of the problem itself.

**The constraints' part relative to the loss's**, at most :math:`\kappa \|\nabla f\|`. At a
KKT point the two have equal norms: :math:`\kappa > 1` keeps it and adds no other,
:math:`\kappa = 1` rests wherever they are opposed, and with :math:`\kappa < 1` the
direction is zero only where :math:`\nabla f` is: at the unconstrained minimum.

**Each sample.** A mean of clipped gradients is zero at an M-estimate, as of Huber's loss.
Of three numbers 0, 0 and y the mean is y / 3. With gradients clipped to c < 2 y / 3, the
first two pull back by :math:`2 \theta` and the last by c: :math:`\theta = c / 2`. That is
the bias, and also the protection, because it does not grow with y.

**A residual**, clipped to c where it is the weight of its gradient. At h = 0 nothing is
clipped, so a feasible point is kept. Under a fixed penalty, :math:`w h^2 / 2` becomes
Huber's penalty.

**The parameters**, after each move. This is projected descent, which adds the set to the
constraints (`jaxcon.proximal`, with the projections of optax).

The end point of training under weights and moving points
---------------------------------------------------------
Weights multiply a whole term (``per_term=`` of an order) or the square of each residual
(``weights=`` of `MeanSquares`); rules of `jaxcon.points` move the points over which a mean
or a constraint runs. Each is a constant to differentiation.

========================== ============================ ================================
rule                       end under fixed penalties    end beside moving multipliers
========================== ============================ ================================
`balance_by_gradient_norm` minimum of the fixed penalty the KKT point, with multipliers
`balance_by_kernel_trace`  under the last weights       in other units,
                           :math:`w_i / w_0`            :math:`w_i \lambda_i / w_0`
`balance_by_relative_loss` minimum of the fixed penalty not for these: the terms' values
`balance_by_uncertainty`   under the last weights       vanish where multipliers settle
`balance_by_loss_rate`     as without it: where values  the KKT point with its
                           settle, all weights are 1    multipliers
`residual_attention`       as without it where all      the KKT point of the weighted
                           residuals can vanish; else   loss; the same as without
                           with smaller large ones, of  weights where all residuals
                           one term alone where         vanish there
                           :math:`\sum r_i^4` is least
`causal_weights`           as without it where all      as with `residual_attention`
                           residuals can vanish; else
                           later times count less
`points.rad`               as without it where the      of a constraint on all points
`points.rar_d`             residual can vanish; else    the same KKT point, up to the
`points.r3`                the mean of squares is over  gaps between points: the
                           their density, and large     multipliers are a measure, and
                           residuals count more         its masses follow the points
`points.adversarial`       likewise, with a mean that   the same; of an inequality the
                           is near the largest square   masses gather at its maxima
========================== ============================ ================================

A loss whose residuals run over moving points is another loss after each move. Points drawn
at random until the end leave the multipliers a noise of the size of a gap, and a penalty
damps it. Weights and points change the gradient in steps, so optimizers that learn
curvature from gradients (`optax.lbfgs`) mistake a change for curvature; `gauss_newton`,
whose model is of one step, does not.
"""

from jaxcon.transforms._ascent import dual_ascent, method_of_multipliers
from jaxcon.transforms._attention import (
    WeightRule,
    causal_weights,
    residual_attention,
)
from jaxcon.transforms._balancing import (
    BalanceState,
    balance_by_gradient_norm,
    balance_by_relative_loss,
    balance_by_uncertainty,
    conflict_free,
    project_conflicts,
)
from jaxcon.transforms._bounds import CappedState, capped, restart_when_feasible
from jaxcon.transforms._broyden import SelfScaledState, self_scaled_broyden
from jaxcon.transforms._clipping import (
    ClipState,
    bound_constraints,
    clip_by_percentile,
    clip_by_z_score,
    clip_each_example,
    clip_residual,
    counted,
    fired,
)
from jaxcon.transforms._control import nupi, pid, scale_by_pi
from jaxcon.transforms._entries import DualTransform
from jaxcon.transforms._entries import as_dual as as_dual
from jaxcon.transforms._fixed import fixed_penalty
from jaxcon.transforms._gauss_newton import GaussNewtonState, gauss_newton
from jaxcon.transforms._mean_convex import MeanConvex
from jaxcon.transforms._mean_squares import MeanSquares
from jaxcon.transforms._mean_squares import WeightedSquares as WeightedSquares
from jaxcon.transforms._newton import newton
from jaxcon.transforms._objective import Objective as Objective
from jaxcon.transforms._proximal import proximal
from jaxcon.transforms._rates import balance_by_kernel_trace, balance_by_loss_rate
from jaxcon.transforms._soap import SoapState, soap
from jaxcon.transforms._terms import GradientTerms, each_term
from jaxcon.transforms._terms import like as like
from jaxcon.transforms._terms import total as total
from jaxcon.transforms._timing import every, restart_every, when_stalled

__all__ = [
    "BalanceState",
    "CappedState",
    "ClipState",
    "DualTransform",
    "GaussNewtonState",
    "GradientTerms",
    "MeanConvex",
    "MeanSquares",
    "SelfScaledState",
    "SoapState",
    "WeightRule",
    "balance_by_gradient_norm",
    "balance_by_kernel_trace",
    "balance_by_loss_rate",
    "balance_by_relative_loss",
    "balance_by_uncertainty",
    "bound_constraints",
    "capped",
    "causal_weights",
    "clip_by_percentile",
    "clip_by_z_score",
    "clip_each_example",
    "clip_residual",
    "conflict_free",
    "counted",
    "dual_ascent",
    "each_term",
    "every",
    "fired",
    "fixed_penalty",
    "gauss_newton",
    "method_of_multipliers",
    "newton",
    "nupi",
    "pid",
    "project_conflicts",
    "proximal",
    "residual_attention",
    "restart_every",
    "restart_when_feasible",
    "scale_by_pi",
    "self_scaled_broyden",
    "soap",
    "when_stalled",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__
