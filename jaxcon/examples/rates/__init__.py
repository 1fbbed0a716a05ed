r"""Classification with a limit on the rate of false alarms, through a proxy.

.. math::
    \min_\theta \text{logistic loss} \quad \text{subject to} \quad
    \frac{1}{n} \sum_{\text{negatives}} 1[s_\theta(x) > 0] \le \alpha = 0.05

for a linear score s, on two sets of data. The gradient of the rate is zero. A surrogate,
the mean of sigmoid(s) in place of the indicator, has a gradient. But it is another
constraint, and a stricter one if most negatives are far from the threshold. With
`jaxcon.proxy` the parameters follow the surrogate's gradient and the multiplier moves by
the rate itself.

**Two Gaussians** have unit variance and a distance of :math:`\delta = 2`. The truth is the
lemma of Neyman and Pearson: among all classifiers with a rate of false alarms of at most
:math:`\alpha`, the fewest misses are

.. math::
    \Phi(\Phi^{-1}(1 - \alpha) - \delta) = 0.3612

The rates of a linear score are :math:`\Phi(b / |w|)` and
:math:`\Phi(-(w_1 \delta + b) / |w|)`, so the results are measured without a sample.
From 1,000 evenly spread examples of each class, multipliers through the proxy reach the
optimum's two rates to 0.005; projection, moving the threshold and construction reach them
to 0.02 (construction has fewer false alarms on these examples than elsewhere, because they
determine its threshold).

**Breast cancer** (scikit-learn's data): benign or malignant by two features, half of the
cases for training. There is no closed form, but the sampling error is known: if a rule has
the rate :math:`\alpha` on n training negatives, its rate on m unseen ones deviates by about
:math:`\sqrt{\alpha (1 - \alpha) (1 / n + 1 / m)} = 0.023`. The same methods reach a rate on
the training cases within one case of :math:`\alpha`, and on unseen ones within three
deviations.

Run it: ``jaxcon example rates``.

References:
    Neyman and Pearson, On the Problem of the Most Efficient Tests of Statistical
    Hypotheses (1933). Cotter et al., Two-Player Games for Efficient Non-Convex Constrained
    Optimization (2019).
"""

from collections.abc import Iterator
from functools import partial

from jaxcon.examples._example import Findings, study
from jaxcon.examples.rates._data import (
    FEATURES,
    LIMIT,
    SEPARATION,
    Batch,
    affine_rates,
    breast_cancer,
    gaussians,
    optimal_misses,
)
from jaxcon.examples.rates._methods import PRIMAL, STEPS, STRENGTH, methods
from jaxcon.examples.rates._problems import (
    alarms,
    breast_cancer_problem,
    gaussian_problem,
    logistic_loss,
    misses,
    sampling_deviation,
    scores,
    smooth_alarms,
    threshold,
)
from jaxcon.examples.rates._report import (
    Curve,
    cancer_note,
    draw,
    gaussian_note,
    moved_curve,
    optimal_curve,
)

__all__ = [
    "FEATURES",
    "LIMIT",
    "PRIMAL",
    "SEPARATION",
    "STEPS",
    "STRENGTH",
    "Batch",
    "Curve",
    "affine_rates",
    "alarms",
    "breast_cancer",
    "breast_cancer_problem",
    "draw",
    "findings",
    "gaussian_problem",
    "gaussians",
    "logistic_loss",
    "methods",
    "misses",
    "moved_curve",
    "optimal_curve",
    "optimal_misses",
    "sampling_deviation",
    "scores",
    "smooth_alarms",
    "threshold",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of every method on both sets of data.

    Args:
        seed: of the data and of the initial parameters.
        skip: first parts that are left out.

    Yields:
        `Findings` of the Gaussians, then of breast cancer.
    """
    parts = (
        ("rates of Gaussians", gaussian_problem(seed), gaussian_note, optimal_curve),
        (
            "rates of breast cancer",
            breast_cancer_problem(seed),
            cancer_note,
            moved_curve,
        ),
    )
    for title, problem, note, curve in parts[skip:]:
        yield study(
            title,
            problem,
            methods(),
            steps=STEPS,
            factors=(0.1, 10.0),
            seed=seed,
            note=partial(note, problem),
            draw=partial(draw, problem, curve),
        )
