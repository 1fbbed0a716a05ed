"""Problems 1 to 44 of Hock and Schittkowski (1981), written from their statement.

Variables a, b, c, d are its x1 to x4.
"""

from math import inf, log, pi, sqrt

import jax.numpy as jnp
import numpy as np

from benchmarks.problems.published import published


def rosenbrock(a, b):
    """Returns Rosenbrock's valley along b = a²."""
    return 100 * (b - a**2) ** 2 + (1 - a) ** 2


def weibull_25(a, b, c):
    """Sums the 99 squares of problem 25."""
    i = np.arange(1, 100) / 100
    u = 25 + (-50 * np.log(i)) ** (2 / 3)
    return jnp.sum((jnp.exp(-((u - b) ** c) / a) - i) ** 2)


HS_1_TO_44 = (
    published("HS1", rosenbrock, (-2, 1), 0.0, lower=(-inf, -1.5)),
    published("HS2", rosenbrock, (-2, 1), 0.050426187893607, lower=(-inf, 1.5)),
    published(
        "HS3", lambda a, b: b + 1e-5 * (b - a) ** 2, (10, 1), 0.0, lower=(-inf, 0)
    ),
    published(
        "HS4", lambda a, b: (a + 1) ** 3 / 3 + b, (1.125, 0.125), 8 / 3, lower=(1, 0)
    ),
    published(
        "HS5",
        lambda a, b: jnp.sin(a + b) + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1,
        (0, 0),
        -sqrt(3) / 2 - pi / 3,
        lower=(-1.5, -3),
        upper=(4, 3),
    ),
    published(
        "HS6",
        lambda a, b: (1 - a) ** 2,
        (-1.2, 1),
        0.0,
        equality=[lambda a, b: 10 * (b - a**2)],
    ),
    published(
        "HS7",
        lambda a, b: jnp.log(1 + a**2) - b,
        (2, 2),
        -sqrt(3),
        equality=[lambda a, b: (1 + a**2) ** 2 + b**2 - 4],
    ),
    published(
        "HS8",
        lambda a, b: -1.0,
        (2, 1),
        -1.0,
        equality=[lambda a, b: a**2 + b**2 - 25, lambda a, b: a * b - 9],
    ),
    published(
        "HS9",
        lambda a, b: jnp.sin(pi * a / 12) * jnp.cos(pi * b / 16),
        (0, 0),
        -0.5,
        equality=[lambda a, b: 4 * a - 3 * b],
    ),
    published(
        "HS10",
        lambda a, b: a - b,
        (-10, 10),
        -1.0,
        nonnegative=[lambda a, b: -3 * a**2 + 2 * a * b - b**2 + 1],
    ),
    published(
        "HS11",
        lambda a, b: (a - 5) ** 2 + b**2 - 25,
        (4.9, 0.1),
        -8.4984642231547,
        nonnegative=[lambda a, b: -(a**2) + b],
    ),
    published(
        "HS12",
        lambda a, b: a**2 / 2 + b**2 - a * b - 7 * a - 7 * b,
        (0, 0),
        -30.0,
        nonnegative=[lambda a, b: 25 - 4 * a**2 - b**2],
    ),
    published(
        "HS13",
        lambda a, b: (a - 2) ** 2 + b**2,
        (-2, -2),
        1.0,
        nonnegative=[lambda a, b: (1 - a) ** 3 - b],
        lower=0,
        ill_posed="no constraint qualification at the answer (1, 0): no multipliers exist",
    ),
    published(
        "HS14",
        lambda a, b: (a - 2) ** 2 + (b - 1) ** 2,
        (2, 2),
        9 - 2.875 * sqrt(7),
        equality=[lambda a, b: a - 2 * b + 1],
        nonnegative=[lambda a, b: -(a**2) / 4 - b**2 + 1],
    ),
    published(
        "HS15",
        rosenbrock,
        (-2, 1),
        306.5,
        nonnegative=[lambda a, b: a * b - 1, lambda a, b: a + b**2],
        upper=(0.5, inf),
    ),
    published(
        "HS16",
        rosenbrock,
        (-2, 1),
        0.25,
        nonnegative=[lambda a, b: a + b**2, lambda a, b: a**2 + b],
        lower=(-0.5, -inf),
        upper=(0.5, 1),
    ),
    published(
        "HS17",
        rosenbrock,
        (-2, 1),
        1.0,
        nonnegative=[lambda a, b: b**2 - a, lambda a, b: a**2 - b],
        lower=(-0.5, -inf),
        upper=(0.5, 1),
    ),
    published(
        "HS18",
        lambda a, b: 0.01 * a**2 + b**2,
        (2, 2),
        5.0,
        nonnegative=[lambda a, b: a * b - 25, lambda a, b: a**2 + b**2 - 25],
        lower=(2, 0),
        upper=50,
    ),
    published(
        "HS19",
        lambda a, b: (a - 10) ** 3 + (b - 20) ** 3,
        (20.1, 5.84),
        -6961.8138755801,
        nonnegative=[
            lambda a, b: (a - 5) ** 2 + (b - 5) ** 2 - 100,
            lambda a, b: -((b - 5) ** 2) - (a - 6) ** 2 + 82.81,
        ],
        lower=(13, 0),
        upper=100,
    ),
    published(
        "HS20",
        rosenbrock,
        (-2, 1),
        81.5 - 25 * sqrt(3),
        nonnegative=[
            lambda a, b: a + b**2,
            lambda a, b: a**2 + b,
            lambda a, b: a**2 + b**2 - 1,
        ],
        lower=(-0.5, -inf),
        upper=(0.5, inf),
    ),
    published(
        "HS21",
        lambda a, b: 0.01 * a**2 + b**2 - 100,
        (-1, -1),
        -99.96,
        nonnegative=[lambda a, b: 10 * a - b - 10],
        lower=(2, -50),
        upper=50,
    ),
    published(
        "HS22",
        lambda a, b: (a - 2) ** 2 + (b - 1) ** 2,
        (2, 2),
        1.0,
        nonnegative=[lambda a, b: -a - b + 2, lambda a, b: -(a**2) + b],
    ),
    published(
        "HS23",
        lambda a, b: a**2 + b**2,
        (3, 1),
        2.0,
        nonnegative=[
            lambda a, b: a + b - 1,
            lambda a, b: a**2 + b**2 - 1,
            lambda a, b: 9 * a**2 + b**2 - 9,
            lambda a, b: a**2 - b,
            lambda a, b: b**2 - a,
        ],
        lower=-50,
        upper=50,
    ),
    published(
        "HS24",
        lambda a, b: ((a - 3) ** 2 - 9) * b**3 / (27 * sqrt(3)),
        (1, 0.5),
        -1.0,
        nonnegative=[
            lambda a, b: a / sqrt(3) - b,
            lambda a, b: a + sqrt(3) * b,
            lambda a, b: -a - sqrt(3) * b + 6,
        ],
        lower=0,
    ),
    published(
        "HS25",
        weibull_25,
        (100, 12.5, 3),
        0.0,
        lower=(0.1, 0, 0),
        upper=(100, 25.6, 5),
        ill_posed="the loss is flat at the start, to eight digits",
    ),
    published(
        "HS26",
        lambda a, b, c: (a - b) ** 2 + (b - c) ** 4,
        (-2.6, 2, 2),
        0.0,
        equality=[lambda a, b, c: (1 + b**2) * a + c**4 - 3],
    ),
    published(
        "HS27",
        lambda a, b, c: 0.01 * (a - 1) ** 2 + (b - a**2) ** 2,
        (2, 2, 2),
        0.04,
        equality=[lambda a, b, c: a + c**2 + 1],
    ),
    published(
        "HS28",
        lambda a, b, c: (a + b) ** 2 + (b + c) ** 2,
        (-4, 1, 1),
        0.0,
        equality=[lambda a, b, c: a + 2 * b + 3 * c - 1],
    ),
    published(
        "HS29",
        lambda a, b, c: -a * b * c,
        (1, 1, 1),
        -16 * sqrt(2),
        nonnegative=[lambda a, b, c: -(a**2) - 2 * b**2 - 4 * c**2 + 48],
    ),
    published(
        "HS30",
        lambda a, b, c: a**2 + b**2 + c**2,
        (1, 1, 1),
        1.0,
        nonnegative=[lambda a, b, c: a**2 + b**2 - 1],
        lower=(1, -10, -10),
        upper=10,
    ),
    published(
        "HS31",
        lambda a, b, c: 9 * a**2 + b**2 + 9 * c**2,
        (1, 1, 1),
        6.0,
        nonnegative=[lambda a, b, c: a * b - 1],
        lower=(-10, 1, -10),
        upper=(10, 10, 1),
    ),
    published(
        "HS32",
        lambda a, b, c: (a + 3 * b + c) ** 2 + 4 * (a - b) ** 2,
        (0.1, 0.7, 0.2),
        1.0,
        equality=[lambda a, b, c: 1 - a - b - c],
        nonnegative=[lambda a, b, c: 6 * b + 4 * c - a**3 - 3],
        lower=0,
    ),
    published(
        "HS33",
        lambda a, b, c: (a - 1) * (a - 2) * (a - 3) + c,
        (0, 0, 3),
        sqrt(2) - 6,
        nonnegative=[
            lambda a, b, c: c**2 - b**2 - a**2,
            lambda a, b, c: a**2 + b**2 + c**2 - 4,
        ],
        lower=0,
        upper=(inf, inf, 5),
    ),
    published(
        "HS34",
        lambda a, b, c: -a,
        (0, 1.05, 2.9),
        -log(log(10)),
        nonnegative=[
            lambda a, b, c: b - jnp.exp(a),
            lambda a, b, c: c - jnp.exp(b),
        ],
        lower=0,
        upper=(100, 100, 10),
    ),
    published(
        "HS35",
        lambda a, b, c: (
            9
            - 8 * a
            - 6 * b
            - 4 * c
            + 2 * a**2
            + 2 * b**2
            + c**2
            + 2 * a * b
            + 2 * a * c
        ),
        (0.5, 0.5, 0.5),
        1 / 9,
        nonnegative=[lambda a, b, c: 3 - a - b - 2 * c],
        lower=0,
    ),
    published(
        "HS36",
        lambda a, b, c: -a * b * c,
        (10, 10, 10),
        -3300.0,
        nonnegative=[lambda a, b, c: 72 - a - 2 * b - 2 * c],
        lower=0,
        upper=(20, 11, 42),
    ),
    published(
        "HS37",
        lambda a, b, c: -a * b * c,
        (10, 10, 10),
        -3456.0,
        nonnegative=[
            lambda a, b, c: 72 - a - 2 * b - 2 * c,
            lambda a, b, c: a + 2 * b + 2 * c,
        ],
        lower=0,
        upper=42,
    ),
    published(
        "HS38",
        lambda a, b, c, d: (
            rosenbrock(a, b)
            + 90 * (d - c**2) ** 2
            + (1 - c) ** 2
            + 10.1 * ((b - 1) ** 2 + (d - 1) ** 2)
            + 19.8 * (b - 1) * (d - 1)
        ),
        (-3, -1, -3, -1),
        0.0,
        lower=-10,
        upper=10,
    ),
    published(
        "HS39",
        lambda a, b, c, d: -a,
        (2, 2, 2, 2),
        -1.0,
        equality=[
            lambda a, b, c, d: b - a**3 - c**2,
            lambda a, b, c, d: a**2 - b - d**2,
        ],
    ),
    published(
        "HS40",
        lambda a, b, c, d: -a * b * c * d,
        (0.8, 0.8, 0.8, 0.8),
        -0.25,
        equality=[
            lambda a, b, c, d: a**3 + b**2 - 1,
            lambda a, b, c, d: a**2 * d - c,
            lambda a, b, c, d: d**2 - b,
        ],
    ),
    published(
        "HS41",
        lambda a, b, c, d: 2 - a * b * c,
        (2, 2, 2, 2),
        52 / 27,
        equality=[lambda a, b, c, d: a + 2 * b + 2 * c - d],
        lower=0,
        upper=(1, 1, 1, 2),
    ),
    published(
        "HS42",
        lambda a, b, c, d: (a - 1) ** 2 + (b - 2) ** 2 + (c - 3) ** 2 + (d - 4) ** 2,
        (1, 1, 1, 1),
        28 - 10 * sqrt(2),
        equality=[
            lambda a, b, c, d: a - 2,
            lambda a, b, c, d: c**2 + d**2 - 2,
        ],
    ),
    published(
        "HS43",
        lambda a, b, c, d: (
            a**2 + b**2 + 2 * c**2 + d**2 - 5 * a - 5 * b - 21 * c + 7 * d
        ),
        (0, 0, 0, 0),
        -44.0,
        nonnegative=[
            lambda a, b, c, d: 8 - a**2 - b**2 - c**2 - d**2 - a + b - c + d,
            lambda a, b, c, d: 10 - a**2 - 2 * b**2 - c**2 - 2 * d**2 + a + d,
            lambda a, b, c, d: 5 - 2 * a**2 - b**2 - c**2 - 2 * a + b + d,
        ],
    ),
    published(
        "HS44",
        lambda a, b, c, d: a - b - c - a * c + a * d + b * c - b * d,
        (0, 0, 0, 0),
        -15.0,
        nonnegative=[
            lambda a, b, c, d: 8 - a - 2 * b,
            lambda a, b, c, d: 12 - 4 * a - b,
            lambda a, b, c, d: 12 - 3 * a - 4 * b,
            lambda a, b, c, d: 8 - 2 * c - d,
            lambda a, b, c, d: 8 - c - 2 * d,
            lambda a, b, c, d: 5 - c - d,
        ],
        lower=0,
    ),
)
