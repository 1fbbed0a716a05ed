"""The true series and field, and the constants of both problems."""

import numpy as np

STEEPEST = 8.0  # L, units of the series per unit of time
ROUNDING = 0.95  # a; 1 is a triangle wave with sharp corners
FREQUENCY = 4 * np.pi  # k, radians per unit of time
SAMPLES = 31  # of the series, evenly on [0, 1]
NODES = 9  # of a smoothing kernel, one sample apart
CURVED = 40.0  # C, units of the field per squared unit of length
SIDE = 15  # samples along each side of the field, evenly on [0, 1]
SHARPNESS = (
    20.0  # of the by-construction method's maxima and minima, per unit of the series
)
CHECKED = 121  # points at which the slope is checked, four for each sample
CHECKED_SIDE = 29  # along each side of the field, two for each sample
NOISE = 0.3  # standard deviation, in both
MARGIN = 0.03  # of L or C, in training with bounds
STEPS = 3000
STRENGTH = 0.1  # of all multiplier methods, and the weight of smoothness penalties
WEIGHT = 10.0  # of penalties on the bounds
# Names of methods that use only differences begin with these.
PROXIES = ("difference", "stencil")
# Tolerances of methods with a bound on exact derivatives: RMSE to the truth of the series
# and to its optimum, relative error of its total multiplier, RMSE to the truth of the
# field.
TOLERANCES = {"series": 0.12, "optimum": 0.06, "multipliers": 0.25, "field": 0.12}


def series(t: np.ndarray) -> np.ndarray:
    """Evaluates the true series, which is nowhere steeper than L.

    Args:
        t: times, any shape.

    Returns:
        f*(t), of that shape.
    """
    swing = np.arcsin(ROUNDING * np.sin(FREQUENCY * t))
    return STEEPEST / (ROUNDING * FREQUENCY) * swing


def field(x: np.ndarray) -> np.ndarray:
    """Evaluates the true field, whose Laplacian is nowhere larger than C.

    Args:
        x: places (n, 2) in the unit square.

    Returns:
        u*(x), (n,).
    """
    waves = np.cos(2 * np.pi * x[:, 0]) * np.cos(2 * np.pi * x[:, 1])
    z = (2 * x[:, 0] - 1) + (2 * x[:, 1] - 1) * 1j
    return CURVED / (8 * np.pi**2) * waves + (z**3).real / 2


def lipschitz_regression(
    t: np.ndarray, y: np.ndarray, constant: float
) -> tuple[np.ndarray, float]:
    r"""Computes the best fit among all functions no steeper than a constant.

    This is bounded least squares in the first value and the increments.

    Args:
        t: increasing times, (n,).
        y: targets, (n,).
        constant: L.

    Returns:
        Values z at t, (n,), and :math:`-d f / d \log L`: the fall of the mean squared
        error per fraction by which L is raised.
    """
    from scipy.optimize import lsq_linear

    room = constant * np.diff(t)
    sums = np.tri(len(t))
    upper = np.append(np.inf, room)
    z = sums @ lsq_linear(sums, y, (-upper, upper), method="bvls").x
    gradient = 2 / len(t) * sums.T @ (z - y)
    return z, float(np.abs(gradient[1:]) @ room)
