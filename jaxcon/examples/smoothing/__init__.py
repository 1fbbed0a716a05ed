r"""Bounds on the slope of a noisy series and on the Laplacian of a noisy field.

A series :math:`y_i = f^*(t_i) + \varepsilon_i` is known to come from a function no steeper
than L. Its truth is a triangle wave with rounded corners,

.. math::
    f^*(t) = \frac{L}{a k} \arcsin(a \sin kt), \qquad \max |f^{*\prime}| = L,

close to that bound most of the time. The problem is the least-squares fit among all
functions with :math:`|f'| \le L`. Its values z at the samples are known: they solve

.. math::
    \min_z \frac{1}{n} \sum_i (z_i - y_i)^2 \quad \text{subject to} \quad
    |z_{i+1} - z_i| \le L\, (t_{i+1} - t_i),

because lines no steeper than L join any such z. The multipliers are the fall of the error
per unit of a steeper bound.

Smoothing layers act on the function, :math:`f_s(t) = \sum_k w_k f(t + kh)`: h is the
samples' distance, so that on the samples this is the usual convolution of the series,
with the network's own continuation at the edges, and weights that sum to one preserve
constants. Averaging K nodes of a function with :math:`|f| \le B` guarantees
:math:`|f_s(t + h) - f_s(t)| \le 2B / K`, no more: between nodes f is arbitrary, and only
the integral over a window of width Kh has :math:`|f_s'| \le 2B / Kh`. Without a bound on f
there is no guarantee at all. The difference proxies, penalty and bound on
:math:`(f(t_{i+1}) - f(t_i)) / h`, do not depend on f between samples either.

The field is measured with noise on a grid. Its proxy is the five-point stencil:

.. math::
    u^*(x, y) = \frac{C}{8 \pi^2} \cos 2 \pi x \cos 2 \pi y
    + \frac12 \operatorname{Re} (2x - 1 + (2y - 1) i)^3, \qquad \max |\Delta u^*| = C,

.. math::
    \Delta_h u = \frac{u_E + u_W + u_N + u_S - 4 u_0}{h^2}.

Violations are fractions of L and of C, "steepest slope" and "largest Laplacian" are not.
Methods with a bound on exact derivatives end, for seed 0, with an RMSE of at most 0.12 to
either truth, in the series at most 0.06 from z and with a total multiplier within 25 % of
the optimum's; their violations are, in the mean over four series, below a tenth of those
of methods that use differences. The tables have the results of all other methods. The
field has no projection, because no simple set of weights is known that bounds its
Laplacian. Run it by ``jaxcon example smoothing``.
"""

from collections.abc import Iterator
from functools import partial

from jaxcon.examples._example import Findings, study
from jaxcon.examples.smoothing._layers import (
    bounded_moving_average,
    bounded_waves,
    gaussian,
    init_learned_convolution,
    init_lines,
    init_steep_network,
    init_waves,
    learned_convolution,
    max_min_of_lines,
    moving_average,
    smoothed,
)
from jaxcon.examples.smoothing._methods import field_methods, series_methods
from jaxcon.examples.smoothing._problems import (
    differences,
    field_problem,
    series_problem,
    stencil,
)
from jaxcon.examples.smoothing._report import (
    draw_field,
    draw_series,
    exact,
    field_note,
    proxies,
    series_note,
)
from jaxcon.examples.smoothing._truth import (
    CHECKED,
    CHECKED_SIDE,
    CURVED,
    FREQUENCY,
    MARGIN,
    NODES,
    NOISE,
    PROXIES,
    ROUNDING,
    SAMPLES,
    SHARPNESS,
    SIDE,
    STEEPEST,
    STEPS,
    STRENGTH,
    TOLERANCES,
    WEIGHT,
    field,
    lipschitz_regression,
    series,
)

__all__ = [
    "CHECKED",
    "CHECKED_SIDE",
    "CURVED",
    "FREQUENCY",
    "MARGIN",
    "NODES",
    "NOISE",
    "PROXIES",
    "ROUNDING",
    "SAMPLES",
    "SHARPNESS",
    "SIDE",
    "STEEPEST",
    "STEPS",
    "STRENGTH",
    "TOLERANCES",
    "WEIGHT",
    "bounded_moving_average",
    "bounded_waves",
    "differences",
    "draw_field",
    "draw_series",
    "exact",
    "field",
    "field_methods",
    "field_note",
    "field_problem",
    "findings",
    "gaussian",
    "init_learned_convolution",
    "init_lines",
    "init_steep_network",
    "init_waves",
    "learned_convolution",
    "lipschitz_regression",
    "max_min_of_lines",
    "moving_average",
    "proxies",
    "series",
    "series_methods",
    "series_note",
    "series_problem",
    "smoothed",
    "stencil",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of every method on the series and on the field.

    Args:
        seed: of the noise and of the initial parameters.
        skip: first parts that are left out.

    Yields:
        `Findings` of the series, then of the field.
    """
    # A step on the field takes ten times as long, so there is no sweep.
    parts = (
        (series_problem(seed), series_methods(), (0.1, 10.0), draw_series, series_note),
        (field_problem(seed), field_methods(), (), draw_field, field_note),
    )
    titles = ("a series that is not steep", "a field that is not strongly curved")
    for title, (problem, tried, factors, draw, note) in [*zip(titles, parts)][skip:]:
        yield study(
            title,
            problem,
            tried,
            steps=STEPS,
            factors=factors,
            seed=seed,
            note=note,
            draw=partial(draw, problem),
        )
