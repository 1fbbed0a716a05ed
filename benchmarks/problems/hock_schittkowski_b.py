"""Problems 45 to 84 of Hock and Schittkowski (1981), written from their statement.

Variables a to e are its x1 to x5.
"""

from math import asin, inf, sqrt

import jax.numpy as jnp
from jax.scipy.special import ndtr

from benchmarks.problems.published import published

A56, B56 = asin(sqrt(1 / 4.2)), asin(sqrt(5 / 7.2))
POLYNOMIAL_59 = (  # coefficient, power of a, power of b
    (-75.196, 0, 0),
    (3.8112, 1, 0),
    (-0.12694, 2, 0),
    (0.0020567, 3, 0),
    (-1.0345e-5, 4, 0),
    (6.8306, 0, 1),
    (-0.030234, 1, 1),
    (1.28134e-3, 2, 1),
    (-3.5256e-5, 3, 1),
    (2.266e-7, 4, 1),
    (-0.25645, 0, 2),
    (-3.405e-4, 1, 2),
    (5.2375e-6, 2, 2),
    (6.3e-8, 3, 2),
    (0.0034604, 0, 3),
    (1.6638e-6, 1, 3),
    (-7e-10, 3, 3),
    (-1.3514e-5, 0, 4),
)


def yield_59(a, b):
    """Returns the response surface of problem 59."""
    terms = sum(factor * a**i * b**j for factor, i, j in POLYNOMIAL_59)
    return terms + 28.106 / (b + 1) + 2.8673 * jnp.exp(0.0005 * a * b)


def control_chart(a, b, n):
    """Makes the cost of problems 68 and 69, an economic control chart (d = 1)."""
    return lambda x, y, z, w: (
        (a * n - (b * (jnp.exp(x) - 1) - z) * w / (jnp.exp(x) - 1 + w)) / x
    )


def chart_curves(n):
    """Makes the equations of problems 68 and 69 (d = 1)."""
    return [
        lambda x, y, z, w: z - 2 * ndtr(-y),
        lambda x, y, z, w: w - ndtr(-y + sqrt(n)) - ndtr(-y - sqrt(n)),
    ]


def power_flow(angle):
    """Makes problem 74 or 75, whose angles differ by `angle` at most."""
    return {
        "loss": lambda a, b, c, d: 3 * a + 1e-6 * a**3 + 2 * b + 2e-6 / 3 * b**3,
        "start": (0, 0, 0, 0),
        "equality": [
            lambda a, b, c, d: (
                1000 * jnp.sin(-c - 0.25) + 1000 * jnp.sin(-d - 0.25) + 894.8 - a
            ),
            lambda a, b, c, d: (
                1000 * jnp.sin(c - 0.25) + 1000 * jnp.sin(c - d - 0.25) + 894.8 - b
            ),
            lambda a, b, c, d: (
                1000 * jnp.sin(d - 0.25) + 1000 * jnp.sin(d - c - 0.25) + 1294.8
            ),
        ],
        "nonnegative": [
            lambda a, b, c, d: d - c + angle,
            lambda a, b, c, d: c - d + angle,
        ],
        "lower": (0, 0, -angle, -angle),
        "upper": (1200, 1200, angle, angle),
    }


PLANES_51 = [
    lambda a, b, c, d, e: a + 3 * b - 4,
    lambda a, b, c, d, e: c + d - 2 * e,
    lambda a, b, c, d, e: b - e,
]
PLANES_52 = [lambda a, b, c, d, e: a + 3 * b, *PLANES_51[1:]]
CURVES_78 = [
    lambda a, b, c, d, e: a**2 + b**2 + c**2 + d**2 + e**2 - 10,
    lambda a, b, c, d, e: b * c - 5 * d * e,
    lambda a, b, c, d, e: a**3 + b**3 + 1,
]
UPPER_80 = (2.3, 2.3, 3.2, 3.2, 3.2)
LOWER_80 = tuple(-bound for bound in UPPER_80)


def between(function, low, high):
    """Makes two functions that are zero or more where one lies between two numbers."""
    return [lambda *x: function(*x) - low, lambda *x: high - function(*x)]


COST_84 = (-24345, -8720288.849, 150512.5253, -156.6950325, 476470.3222, 729482.8271)
ROWS_84 = (
    (-145421.402, 2931.1506, -40.427932, 5106.192, 15711.36),
    (-155011.1084, 4360.53352, 12.9492344, 10236.884, 13176.786),
    (-326669.5104, 7390.68412, -27.8986976, 16643.076, 30988.146),
)


def sugar_84(a0, a1, a2, a3, a4):
    """Makes a row of problem 84: a (a0 + a1 b + a2 c + a3 d + a4 e)."""
    return lambda a, b, c, d, e: a * (a0 + a1 * b + a2 * c + a3 * d + a4 * e)


HS_45_TO_84 = (
    published(
        "HS45",
        lambda a, b, c, d, e: 2 - a * b * c * d * e / 120,
        (2, 2, 2, 2, 2),
        1.0,
        lower=0,
        upper=(1, 2, 3, 4, 5),
    ),
    published(
        "HS46",
        lambda a, b, c, d, e: (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4 + (e - 1) ** 6,
        (sqrt(2) / 2, 1.75, 0.5, 2, 2),
        0.0,
        equality=[
            lambda a, b, c, d, e: a**2 * d + jnp.sin(d - e) - 1,
            lambda a, b, c, d, e: b + c**4 * d**2 - 2,
        ],
    ),
    published(
        "HS48",
        lambda a, b, c, d, e: (a - 1) ** 2 + (b - c) ** 2 + (d - e) ** 2,
        (3, 5, -3, 2, -2),
        0.0,
        equality=[
            lambda a, b, c, d, e: a + b + c + d + e - 5,
            lambda a, b, c, d, e: c - 2 * (d + e) + 3,
        ],
    ),
    published(
        "HS49",
        lambda a, b, c, d, e: (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4 + (e - 1) ** 6,
        (10, 7, 2, -3, 0.8),
        0.0,
        equality=[
            lambda a, b, c, d, e: a + b + c + 4 * d - 7,
            lambda a, b, c, d, e: c + 5 * e - 6,
        ],
    ),
    published(
        "HS50",
        lambda a, b, c, d, e: (a - b) ** 2 + (b - c) ** 2 + (c - d) ** 4 + (d - e) ** 2,
        (35, -31, 11, 5, -5),
        0.0,
        equality=[
            lambda a, b, c, d, e: a + 2 * b + 3 * c - 6,
            lambda a, b, c, d, e: b + 2 * c + 3 * d - 6,
            lambda a, b, c, d, e: c + 2 * d + 3 * e - 6,
        ],
    ),
    published(
        "HS51",
        lambda a, b, c, d, e: (
            (a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2 + (e - 1) ** 2
        ),
        (2.5, 0.5, 2, -1, 0.5),
        0.0,
        equality=PLANES_51,
    ),
    published(
        "HS52",
        lambda a, b, c, d, e: (
            (4 * a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2 + (e - 1) ** 2
        ),
        (2, 2, 2, 2, 2),
        1859 / 349,
        equality=PLANES_52,
    ),
    published(
        "HS53",
        lambda a, b, c, d, e: (
            (a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2 + (e - 1) ** 2
        ),
        (2, 2, 2, 2, 2),
        176 / 43,
        equality=PLANES_52,
        lower=-10,
        upper=10,
    ),
    published(
        "HS55",
        lambda a, b, c, d, e, f: a + 2 * b + 4 * e + jnp.exp(a * d),
        (1, 2, 0, 0, 0, 2),
        19 / 3,
        equality=[
            lambda a, b, c, d, e, f: a + 2 * b + 5 * e - 6,
            lambda a, b, c, d, e, f: a + b + c - 3,
            lambda a, b, c, d, e, f: d + e + f - 2,
            lambda a, b, c, d, e, f: a + d - 1,
            lambda a, b, c, d, e, f: b + e - 2,
            lambda a, b, c, d, e, f: c + f - 2,
        ],
        lower=0,
        upper=(1, inf, inf, 1, inf, inf),
    ),
    published(
        "HS56",
        lambda a, b, c, d, e, f, g: -a * b * c,
        (1, 1, 1, A56, A56, A56, B56),
        -3.456,
        equality=[
            lambda a, b, c, d, e, f, g: a - 4.2 * jnp.sin(d) ** 2,
            lambda a, b, c, d, e, f, g: b - 4.2 * jnp.sin(e) ** 2,
            lambda a, b, c, d, e, f, g: c - 4.2 * jnp.sin(f) ** 2,
            lambda a, b, c, d, e, f, g: a + 2 * b + 2 * c - 7.2 * jnp.sin(g) ** 2,
        ],
    ),
    published(
        "HS59",
        yield_59,
        (90, 10),
        -7.8027894715384,
        nonnegative=[
            lambda a, b: a * b - 700,
            lambda a, b: b - a**2 / 125,
            lambda a, b: (b - 50) ** 2 - 5 * (a - 55),
        ],
        lower=0,
        upper=(75, 65),
    ),
    published(
        "HS60",
        lambda a, b, c: (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 4,
        (2, 2, 2),
        0.03256820025507,
        equality=[lambda a, b, c: a * (1 + b**2) + c**4 - 4 - 3 * sqrt(2)],
        lower=-10,
        upper=10,
    ),
    published(
        "HS61",
        lambda a, b, c: 4 * a**2 + 2 * b**2 + 2 * c**2 - 33 * a + 16 * b - 24 * c,
        (0, 0, 0),
        -143.64614219778,
        equality=[
            lambda a, b, c: 3 * a - 2 * b**2 - 7,
            lambda a, b, c: 4 * a - c**2 - 11,
        ],
    ),
    published(
        "HS62",
        lambda a, b, c: (
            -32.174
            * (
                255 * jnp.log((a + b + c + 0.03) / (0.09 * a + b + c + 0.03))
                + 280 * jnp.log((b + c + 0.03) / (0.07 * b + c + 0.03))
                + 290 * jnp.log((c + 0.03) / (0.13 * c + 0.03))
            )
        ),
        (0.7, 0.2, 0.1),
        -26272.514487318,
        equality=[lambda a, b, c: a + b + c - 1],
        lower=0,
        upper=1,
    ),
    published(
        "HS63",
        lambda a, b, c: 1000 - a**2 - 2 * b**2 - c**2 - a * b - a * c,
        (2, 2, 2),
        961.71517213005,
        equality=[
            lambda a, b, c: 8 * a + 14 * b + 7 * c - 56,
            lambda a, b, c: a**2 + b**2 + c**2 - 25,
        ],
        lower=0,
    ),
    published(
        "HS64",
        lambda a, b, c: 5 * a + 50000 / a + 20 * b + 72000 / b + 10 * c + 144000 / c,
        (1, 1, 1),
        6299.8424279215,
        nonnegative=[lambda a, b, c: 1 - 4 / a - 32 / b - 120 / c],
        lower=1e-5,
        upper=300,
    ),
    published(
        "HS65",
        lambda a, b, c: (a - b) ** 2 + (a + b - 10) ** 2 / 9 + (c - 5) ** 2,
        (-5, 5, 0),
        0.95352885680478,
        nonnegative=[lambda a, b, c: 48 - a**2 - b**2 - c**2],
        lower=(-4.5, -4.5, -5),
        upper=(4.5, 4.5, 5),
    ),
    published(
        "HS66",
        lambda a, b, c: 0.2 * c - 0.8 * a,
        (0, 1.05, 2.9),
        0.51816327418154,
        nonnegative=[
            lambda a, b, c: b - jnp.exp(a),
            lambda a, b, c: c - jnp.exp(b),
        ],
        lower=0,
        upper=(100, 100, 10),
    ),
    published(
        "HS68",
        control_chart(0.0001, 1, 24),
        (1, 1, 1, 1),
        -0.92042500363975,
        equality=chart_curves(24),
        lower=(0.0001, 0, 0, 0),
        upper=(100, 100, 2, 2),
    ),
    published(
        "HS69",
        control_chart(0.1, 1000, 4),
        (1, 1, 1, 1),
        -956.71288665003,
        equality=chart_curves(4),
        lower=(0.0001, 0, 0, 0),
        upper=(100, 100, 2, 2),
    ),
    published(
        "HS71",
        lambda a, b, c, d: a * d * (a + b + c) + c,
        (1, 5, 5, 1),
        17.014017289156,
        equality=[lambda a, b, c, d: a**2 + b**2 + c**2 + d**2 - 40],
        nonnegative=[lambda a, b, c, d: a * b * c * d - 25],
        lower=1,
        upper=5,
    ),
    published(
        "HS72",
        lambda a, b, c, d: 1 + a + b + c + d,
        (1, 1, 1, 1),
        727.67935778961,
        nonnegative=[
            lambda a, b, c, d: 0.0401 - 4 / a - 2.25 / b - 1 / c - 0.25 / d,
            lambda a, b, c, d: 0.010085 - 0.16 / a - 0.36 / b - 0.64 / c - 0.64 / d,
        ],
        lower=0.001,
        upper=(4e5, 3e5, 2e5, 1e5),
    ),
    published(
        "HS73",
        lambda a, b, c, d: 24.55 * a + 26.75 * b + 39 * c + 40.5 * d,
        (1, 1, 1, 1),
        29.894378159143,
        equality=[lambda a, b, c, d: a + b + c + d - 1],
        nonnegative=[
            lambda a, b, c, d: 2.3 * a + 5.6 * b + 11.1 * c + 1.3 * d - 5,
            lambda a, b, c, d: (
                12 * a
                + 11.9 * b
                + 41.8 * c
                + 52.1 * d
                - 21
                - 1.645
                * jnp.sqrt(0.28 * a**2 + 0.19 * b**2 + 20.5 * c**2 + 0.62 * d**2)
            ),
        ],
        lower=0,
    ),
    published("HS74", value=5126.4981095953, **power_flow(0.55)),
    published("HS75", value=5174.4126953777, **power_flow(0.48)),
    published(
        "HS76",
        lambda a, b, c, d: (
            a**2 + 0.5 * b**2 + c**2 + 0.5 * d**2 - a * c + c * d - a - 3 * b + c - d
        ),
        (0.5, 0.5, 0.5, 0.5),
        -103 / 22,
        nonnegative=[
            lambda a, b, c, d: 5 - a - 2 * b - c - d,
            lambda a, b, c, d: 4 - 3 * a - b - 2 * c + d,
            lambda a, b, c, d: b + 4 * c - 1.5,
        ],
        lower=0,
    ),
    published(
        "HS77",
        lambda a, b, c, d, e: (
            (a - 1) ** 2 + (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4 + (e - 1) ** 6
        ),
        (2, 2, 2, 2, 2),
        0.24150512879018,
        equality=[
            lambda a, b, c, d, e: a**2 * d + jnp.sin(d - e) - 2 * sqrt(2),
            lambda a, b, c, d, e: b + c**4 * d**2 - 8 - sqrt(2),
        ],
    ),
    published(
        "HS78",
        lambda a, b, c, d, e: a * b * c * d * e,
        (-2, 1.5, 2, -1, -1),
        -2.9197004089637,
        equality=CURVES_78,
    ),
    published(
        "HS79",
        lambda a, b, c, d, e: (
            (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 2 + (c - d) ** 4 + (d - e) ** 4
        ),
        (2, 2, 2, 2, 2),
        0.078776820871057,
        equality=[
            lambda a, b, c, d, e: a + b**2 + c**3 - 2 - 3 * sqrt(2),
            lambda a, b, c, d, e: b - c**2 + d + 2 - 2 * sqrt(2),
            lambda a, b, c, d, e: a * e - 2,
        ],
    ),
    published(
        "HS80",
        lambda a, b, c, d, e: jnp.exp(a * b * c * d * e),
        (-2, 2, 2, -1, -1),
        0.053949847770272,
        equality=CURVES_78,
        lower=LOWER_80,
        upper=UPPER_80,
    ),
    published(
        "HS81",
        lambda a, b, c, d, e: jnp.exp(a * b * c * d * e) - 0.5 * (a**3 + b**3 + 1) ** 2,
        (-2, 2, 2, -1, -1),
        0.053949847770272,
        equality=CURVES_78,
        lower=LOWER_80,
        upper=UPPER_80,
    ),
    published(
        "HS83",
        lambda a, b, c, d, e: (
            5.3578547 * c**2 + 0.8356891 * a * e + 37.293239 * a - 40792.141
        ),
        (78, 33, 27, 27, 27),
        -30665.538671783,
        nonnegative=[
            *between(
                lambda a, b, c, d, e: (
                    85.334407
                    + 0.0056858 * b * e
                    + 0.0006262 * a * d
                    - 0.0022053 * c * e
                ),
                0,
                92,
            ),
            *between(
                lambda a, b, c, d, e: (
                    80.51249 + 0.0071317 * b * e + 0.0029955 * a * b + 0.0021813 * c**2
                ),
                90,
                110,
            ),
            *between(
                lambda a, b, c, d, e: (
                    9.300961 + 0.0047026 * c * e + 0.0012547 * a * c + 0.0019085 * c * d
                ),
                20,
                25,
            ),
        ],
        lower=(78, 33, 27, 27, 27),
        upper=(102, 45, 45, 45, 45),
    ),
    published(
        "HS84",
        lambda *x: -COST_84[0] - sugar_84(*COST_84[1:])(*x),
        (2.52, 2, 37.5, 9.25, 6.8),
        -5280335.133,
        nonnegative=[
            *between(sugar_84(*ROWS_84[0]), 0, 294000),
            *between(sugar_84(*ROWS_84[1]), 0, 294000),
            *between(sugar_84(*ROWS_84[2]), 0, 277200),
        ],
        lower=(0, 1.2, 20, 9, 6.5),
        upper=(1000, 2.4, 60, 9.3, 7),
    ),
)
