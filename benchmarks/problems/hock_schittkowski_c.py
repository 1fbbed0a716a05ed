"""Problems 86 to 104 of Hock and Schittkowski (1981), written from their statement.

Functions take all variables as one tuple x; x[0] is its x1.
"""

import jax.numpy as jnp
import numpy as np

from benchmarks.problems.published import Published, published

E_86 = np.array([-15.0, -27, -36, -18, -12])
C_86 = np.array(
    [
        [30.0, -20, -10, 32, -10],
        [-20, 39, -6, -31, 32],
        [-10, -6, 10, -6, -10],
        [32, -31, -6, 39, -20],
        [-10, 32, -10, -20, 30],
    ]
)
D_86 = np.array([4.0, 8, 10, 6, 2])
A_86 = np.array(
    [
        [-16, 2, 0, 1, 0],
        [0, -2, 0, 0.4, 2],
        [-3.5, 0, 2, 0, 0],
        [0, -2, 0, -4, -1],
        [0, -9, -2, 1, -2.8],
        [2, 0, -4, 0, 0],
        [-1, -1, -1, -1, -1],
        [-1, -2, -3, -2, -1],
        [1, 2, 3, 4, 5],
        [1, 1, 1, 1, 1],
    ]
)
B_86 = np.array([-40, -2, -0.25, -4, -4, -1, -40, -60, 5, 1])


def linear(row, limit):
    """Makes a row of A x - b."""
    return lambda *x: jnp.stack(x) @ row - limit


def polynomial_95(limits, name, value) -> Published:
    """Makes one of problems 95 to 98, which differ in the limits of four constraints."""

    def first(a, b, c, d, e, f):
        terms = 17.1 * a + 38.2 * b + 204.2 * c + 212.3 * d + 623.4 * e + 1495.5 * f
        terms += -169 * a * c - 3580 * c * e - 3810 * d * e - 18500 * d * f
        return terms - 24300 * e * f - limits[0]

    def second(a, b, c, d, e, f):
        terms = 17.9 * a + 36.8 * b + 113.9 * c + 169.7 * d + 337.8 * e + 1385.2 * f
        terms += -139 * a * c - 2450 * d * e - 16600 * d * f
        return terms - 17200 * e * f - limits[1]

    return published(
        name,
        lambda a, b, c, d, e, f: (
            4.3 * a + 31.8 * b + 63.3 * c + 15.8 * d + 68.5 * e + 4.7 * f
        ),
        (0, 0, 0, 0, 0, 0),
        value,
        nonnegative=[
            first,
            second,
            lambda a, b, c, d, e, f: (
                -273 * b - 70 * d - 819 * e + 26000 * d * e - limits[2]
            ),
            lambda a, b, c, d, e, f: (
                159.9 * a
                - 311 * b
                + 587 * d
                + 391 * e
                + 2198 * f
                - 14000 * a * f
                - limits[3]
            ),
        ],
        lower=0,
        upper=(0.31, 0.046, 0.068, 0.042, 0.028, 0.0134),
    )


def rocket_99(*x):
    """Returns range, height and climb of problem 99 at its last time."""
    force = (50, 50, 75, 75, 75, 100, 100)
    steps = np.diff([0, 25, 50, 100, 150, 200, 290, 380])
    away = height = climb = 0.0
    for angle, a, step in zip(x, force, steps.tolist()):
        up = a * jnp.sin(angle) - 32
        away += a * step * jnp.cos(angle)
        height += 0.5 * step**2 * up + step * climb
        climb += step * up
    return away, height, climb


def geometric_101(a, name, value) -> Published:
    """Makes one of problems 101 to 103, which differ in one exponent of their loss."""

    def loss(x1, x2, x3, x4, x5, x6, x7):
        return (
            10 * x1 * x4**2 * x7**a / (x2 * x6**3)
            + 15 * x3 * x4 / (x1 * x2**2 * x5 * x7**0.5)
            + 20 * x2 * x6 / (x1**2 * x4 * x5**2)
            + 25 * x1**2 * x2**2 * x5**0.5 * x7 / (x3 * x6**2)
        )

    return published(
        name,
        loss,
        (6, 6, 6, 6, 6, 6, 6),
        value,
        nonnegative=[
            lambda x1, x2, x3, x4, x5, x6, x7: (
                1
                - 0.5 * x1**0.5 * x7 / (x3 * x6**2)
                - 0.7 * x1**3 * x2 * x6 * x7**0.5 / x3**2
                - 0.2 * x3 * x6 ** (2 / 3) * x7**0.25 / (x2 * x4**0.5)
            ),
            lambda x1, x2, x3, x4, x5, x6, x7: (
                1
                - 1.3 * x2 * x6 / (x1**0.5 * x3 * x5)
                - 0.8 * x3 * x6**2 / (x4 * x5)
                - 3.1 * x2**0.5 * x6 ** (1 / 3) / (x1 * x4**2 * x5)
            ),
            lambda x1, x2, x3, x4, x5, x6, x7: (
                1
                - 2 * x1 * x5 * x7 ** (1 / 3) / (x3**1.5 * x6)
                - 0.1 * x2 * x5 / (x3**0.5 * x6 * x7**0.5)
                - x2 * x3**0.5 * x5 / x1
                - 0.65 * x3 * x5 * x7 / (x2**2 * x6)
            ),
            lambda x1, x2, x3, x4, x5, x6, x7: (
                1
                - 0.2 * x2 * x5**0.5 * x7 ** (1 / 3) / (x1**2 * x4)
                - 0.3 * x1**0.5 * x2**2 * x3 * x4 ** (1 / 3) * x7**0.25 / x5 ** (2 / 3)
                - 0.4 * x3 * x5 * x7**0.75 / (x1**3 * x2**2)
                - 0.5 * x4 * x7**0.5 / x3**2
            ),
            lambda *x: loss(*x) - 100,
            lambda *x: 3000 - loss(*x),
        ],
        lower=(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01),
        upper=10,
    )


def reactor_104(a, b, c, d, e, f, g, h):
    """Returns the loss of problem 104."""
    return 0.4 * (a / g) ** 0.67 + 0.4 * (b / h) ** 0.67 + 10 - a - b


HS_86_TO_104 = (
    published(
        "HS86",
        lambda *x: (
            E_86 @ jnp.stack(x)
            + jnp.stack(x) @ C_86 @ jnp.stack(x)
            + D_86 @ jnp.stack(x) ** 3
        ),
        (0, 0, 0, 0, 1),
        -32.348678965723,
        nonnegative=[linear(row, limit) for row, limit in zip(A_86, B_86)],
        lower=0,
    ),
    published(
        "HS93",
        lambda a, b, c, d, e, f: (
            0.0204 * a * d * (a + b + c)
            + 0.0187 * b * c * (a + 1.57 * b + d)
            + 0.0607 * a * d * e**2 * (a + b + c)
            + 0.0437 * b * c * f**2 * (a + 1.57 * b + d)
        ),
        (5.54, 4.4, 12.02, 11.82, 0.702, 0.852),
        135.07596282915,
        nonnegative=[
            lambda a, b, c, d, e, f: 0.001 * a * b * c * d * e * f - 2.07,
            lambda a, b, c, d, e, f: (
                1
                - 0.00062 * a * d * e**2 * (a + b + c)
                - 0.00058 * b * c * f**2 * (a + 1.57 * b + d)
            ),
        ],
        lower=0,
    ),
    polynomial_95((4.97, -1.88, -29.08, -78.02), "HS95", 0.015619525242394),
    polynomial_95((4.97, -1.88, -69.08, -118.02), "HS96", 0.015619525242394),
    polynomial_95((32.97, 25.12, -29.08, -78.02), "HS97", 3.135809122807),
    polynomial_95((32.97, 25.12, -124.08, -173.02), "HS98", 3.135809122807),
    published(
        "HS99",
        lambda *x: -(rocket_99(*x)[0] ** 2),
        (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
        -831079891.51011,
        equality=[
            lambda *x: rocket_99(*x)[1] - 1e5,
            lambda *x: rocket_99(*x)[2] - 1e3,
        ],
        lower=0,
        upper=1.58,
    ),
    published(
        "HS100",
        lambda a, b, c, d, e, f, g: (
            (a - 10) ** 2
            + 5 * (b - 12) ** 2
            + c**4
            + 3 * (d - 11) ** 2
            + 10 * e**6
            + 7 * f**2
            + g**4
            - 4 * f * g
            - 10 * f
            - 8 * g
        ),
        (1, 2, 0, 4, 0, 1, 1),
        680.6300573744,
        nonnegative=[
            lambda a, b, c, d, e, f, g: (
                127 - 2 * a**2 - 3 * b**4 - c - 4 * d**2 - 5 * e
            ),
            lambda a, b, c, d, e, f, g: 282 - 7 * a - 3 * b - 10 * c**2 - d + e,
            lambda a, b, c, d, e, f, g: 196 - 23 * a - b**2 - 6 * f**2 + 8 * g,
            lambda a, b, c, d, e, f, g: (
                -4 * a**2 - b**2 + 3 * a * b - 2 * c**2 - 5 * f + 11 * g
            ),
        ],
    ),
    geometric_101(-0.25, "HS101", 1809.7647655714),
    geometric_101(0.125, "HS102", 911.88057143011),
    geometric_101(0.5, "HS103", 543.66795846628),
    published(
        "HS104",
        reactor_104,
        (6, 3, 0.4, 0.2, 6, 6, 1, 0.5),
        3.9511634401034,
        nonnegative=[
            lambda a, b, c, d, e, f, g, h: 1 - 0.0588 * e * g - 0.1 * a,
            lambda a, b, c, d, e, f, g, h: 1 - 0.0588 * f * h - 0.1 * a - 0.1 * b,
            lambda a, b, c, d, e, f, g, h: (
                1 - 4 * c / e - 2 / (c**0.71 * e) - 0.0588 * g / c**1.3
            ),
            lambda a, b, c, d, e, f, g, h: (
                1 - 4 * d / f - 2 / (d**0.71 * f) - 0.0588 * h / d**1.3
            ),
            lambda *x: reactor_104(*x) - 1,
            lambda *x: 4.2 - reactor_104(*x),
        ],
        lower=0.1,
        upper=10,
    ),
)
