"""Problems 106 to 118 of Hock and Schittkowski (1981), written from their statement.

Functions take all variables as one tuple x; x[0] is its x1.
"""

from itertools import pairwise
from math import cos, inf, sin

import jax.numpy as jnp
import numpy as np

from benchmarks.problems.hock_schittkowski_c import A_86, B_86, C_86, D_86, E_86
from benchmarks.problems.published import published

SINE, COSINE = sin(0.25), cos(0.25)


def node_107(i):
    """Makes the real and the reactive balance of node i of three of problem 107."""
    c, d = 48.4 / 50.176 * SINE, 48.4 / 50.176 * COSINE
    demand, reactive = (0.4, 0.4, 0.8)[i], (0.2, 0.2, -0.337)[i]

    def sums(x):
        volts, phases = x[4:7], (0.0, -x[7], -x[8])
        pairs = [(volts[i] * volts[j], phases[i] - phases[j]) for j in {0, 1, 2} - {i}]
        sines = sum(product * jnp.sin(angle) for product, angle in pairs)
        cosines = sum(product * jnp.cos(angle) for product, angle in pairs)
        return sines, cosines

    def balance(*x):
        sines, cosines = sums(x)
        made = x[i] if i < 2 else 0.0
        return demand - made + 2 * c * x[4 + i] ** 2 - d * sines - c * cosines

    def reactive_balance(*x):
        sines, cosines = sums(x)
        made = x[2 + i] if i < 2 else 0.0
        return reactive - made + 2 * d * x[4 + i] ** 2 + c * sines - d * cosines

    return balance, reactive_balance


def node_109(i):
    """Makes the real and the reactive balance of node i of three of problem 109."""
    a = 50.176

    def sums(x):
        volts, phases = x[4:7], (0.0, x[2], x[3])
        pairs = [
            (volts[i] * volts[j], phases[i] - phases[j] - 0.25) for j in {0, 1, 2} - {i}
        ]
        sines = sum(product * jnp.sin(angle) for product, angle in pairs)
        cosines = sum(product * jnp.cos(angle) for product, angle in pairs)
        return sines, cosines

    def balance(*x):
        made = a * (400 - x[i]) if i < 2 else 881.779 * a
        return sums(x)[0] + 2 * SINE * x[4 + i] ** 2 + made

    def reactive_balance(*x):
        made = a * (x[7 + i] - 200) if i < 2 else 22.938 * a
        return sums(x)[1] + made + (0.7533e-3 * a - 2 * COSINE) * x[4 + i] ** 2

    return balance, reactive_balance


FREE_ENERGIES = np.array(
    [
        -6.089,
        -17.164,
        -34.054,
        -5.914,
        -24.721,
        -14.986,
        -24.100,
        -10.708,
        -26.662,
        -22.179,
    ]
)
ELEMENTS = np.array(
    [
        [1, 2, 2, 0, 0, 1, 0, 0, 0, 1],
        [0, 0, 0, 1, 2, 1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 1, 1, 2, 1],
    ],
    float,
)


def free_energy(amounts):
    """Returns Gibbs' free energy of a mixture, the loss of problems 111 and 112."""
    return amounts @ (FREE_ENERGIES + jnp.log(amounts / jnp.sum(amounts)))


def balance_112(row, total, amounts):
    """Makes an element's balance in problems 111 (amounts: exp) and 112."""
    return lambda *x: row @ amounts(jnp.stack(x)) - total


BALANCES = tuple(zip(ELEMENTS, (2, 1, 1)))


def octane_114(x):
    """Returns the four quantities of problem 114 that lie between two lines."""
    return (
        35.82 - 0.222 * x[9] - 0.9 * x[8],
        -133 + 3 * x[6] - 0.99 * x[9],
        1.12 * x[0] + 0.13167 * x[0] * x[7] - 0.00667 * x[0] * x[7] ** 2 - 0.99 * x[3],
        57.425 + 1.098 * x[7] - 0.038 * x[7] ** 2 + 0.325 * x[5] - 0.99 * x[6],
    )


def concentration_116(i, j):
    """Makes the inequality of problem 116 that joins entries i and j."""
    return lambda *x: x[j] - 0.03475 * x[i] - 0.975 * x[i] * x[j] + 0.00975 * x[i] ** 2


def cost_116(i, j, k):
    """Makes the inequality of problem 116 that bounds a cost from below."""
    return lambda *x: x[i] - 1.262626 * x[j] + 1.231059 * x[k] * x[j]


def colville_2_loss(*x):
    """Returns minus the dual of problem 86."""
    y, z = jnp.stack(x[:10]), jnp.stack(x[10:])
    return -(B_86 @ y) + z @ C_86 @ z + 2 * D_86 @ z**3


def colville_2_row(j):
    """Makes the constraint of problem 117 that belongs to variable j of problem 86."""

    def row(*x):
        y, z = jnp.stack(x[:10]), jnp.stack(x[10:])
        return 2 * C_86[:, j] @ z + 3 * D_86[j] * z[j] ** 2 + E_86[j] - A_86[:, j] @ y

    return row


def change_118(i, j, limit):
    """Makes the two inequalities 0 <= x_j - x_i + 7 <= limit of problem 118."""
    return [
        lambda *x: x[j] - x[i] + 7,
        lambda *x: limit - (x[j] - x[i] + 7),
    ]


def demand_118(i, limit):
    """Makes a period's demand in problem 118."""
    return lambda *x: x[i] + x[i + 1] + x[i + 2] - limit


HS_106_TO_118 = (
    published(
        "HS106",
        lambda *x: x[0] + x[1] + x[2],
        (5000, 5000, 5000, 200, 350, 150, 225, 425),
        7049.2480205287,
        nonnegative=[
            lambda *x: 1 - 0.0025 * (x[3] + x[5]),
            lambda *x: 1 - 0.0025 * (x[4] + x[6] - x[3]),
            lambda *x: 1 - 0.01 * (x[7] - x[4]),
            lambda *x: x[0] * x[5] - 833.33252 * x[3] - 100 * x[0] + 83333.333,
            lambda *x: x[1] * x[6] - 1250 * x[4] - x[1] * x[3] + 1250 * x[3],
            lambda *x: x[2] * x[7] - 1250000 - x[2] * x[4] + 2500 * x[4],
        ],
        lower=(100, 1000, 1000, 10, 10, 10, 10, 10),
        upper=(10000, 10000, 10000, 1000, 1000, 1000, 1000, 1000),
    ),
    published(
        "HS107",
        lambda *x: 3000 * x[0] + 1000 * x[0] ** 3 + 2000 * x[1] + 666.667 * x[1] ** 3,
        (0.8, 0.8, 0.2, 0.2, 1.0454, 1.0454, 1.0454, 0, 0),
        5055.0118035438,
        equality=[node_107(i)[kind] for kind in (0, 1) for i in range(3)],
        lower=(0, 0, -inf, -inf, 0.90909, 0.90909, 0.90909, -inf, -inf),
        upper=(inf, inf, inf, inf, 1.0909, 1.0909, 1.0909, inf, inf),
    ),
    published(
        "HS108",
        lambda *x: (
            -0.5
            * (
                x[0] * x[3]
                - x[1] * x[2]
                + x[2] * x[8]
                - x[4] * x[8]
                + x[4] * x[7]
                - x[5] * x[6]
            )
        ),
        (1, 1, 1, 1, 1, 1, 1, 1, 1),
        -0.8660254038,
        nonnegative=[
            lambda *x: 1 - x[2] ** 2 - x[3] ** 2,
            lambda *x: 1 - x[8] ** 2,
            lambda *x: 1 - x[4] ** 2 - x[5] ** 2,
            lambda *x: 1 - x[0] ** 2 - (x[1] - x[8]) ** 2,
            lambda *x: 1 - (x[0] - x[4]) ** 2 - (x[1] - x[5]) ** 2,
            lambda *x: 1 - (x[0] - x[6]) ** 2 - (x[1] - x[7]) ** 2,
            lambda *x: 1 - (x[2] - x[4]) ** 2 - (x[3] - x[5]) ** 2,
            lambda *x: 1 - (x[2] - x[6]) ** 2 - (x[3] - x[7]) ** 2,
            lambda *x: 1 - x[6] ** 2 - (x[7] - x[8]) ** 2,
            lambda *x: x[0] * x[3] - x[1] * x[2],
            lambda *x: x[2] * x[8],
            lambda *x: -x[4] * x[8],
            lambda *x: x[4] * x[7] - x[5] * x[6],
        ],
        lower=(*8 * (-inf,), 0),
    ),
    published(
        "HS109",
        lambda *x: 3 * x[0] + 1e-6 * x[0] ** 3 + 2 * x[1] + 0.522074e-6 * x[1] ** 3,
        (0, 0, 0, 0, 0, 0, 0, 0, 0),
        5326.8513300862,
        equality=[node_109(i)[kind] for kind in (0, 1) for i in range(3)],
        nonnegative=[
            lambda *x: x[3] - x[2] + 0.55,
            lambda *x: x[2] - x[3] + 0.55,
            lambda *x: 2250000 - x[0] ** 2 - x[7] ** 2,
            lambda *x: 2250000 - x[1] ** 2 - x[8] ** 2,
        ],
        lower=(0, 0, -0.55, -0.55, 196, 196, 196, -400, -400),
        upper=(inf, inf, 0.55, 0.55, 252, 252, 252, 800, 800),
    ),
    published(
        "HS110",
        lambda *x: (
            jnp.sum(jnp.log(jnp.stack(x) - 2) ** 2 + jnp.log(10 - jnp.stack(x)) ** 2)
            - jnp.prod(jnp.stack(x)) ** 0.2
        ),
        10 * (9,),
        -45.778469707446,
        lower=2.001,
        upper=9.999,
    ),
    published(
        "HS111",
        lambda *x: free_energy(jnp.exp(jnp.stack(x))),
        10 * (-2.3,),
        -47.761090859366,
        equality=[balance_112(*balance, jnp.exp) for balance in BALANCES],
        lower=-100,
        upper=100,
    ),
    published(
        "HS112",
        lambda *x: free_energy(jnp.stack(x)),
        10 * (0.1,),
        -47.761090859366,
        equality=[balance_112(*balance, lambda x: x) for balance in BALANCES],
        lower=1e-6,
    ),
    published(
        "HS113",
        lambda *x: (
            x[0] ** 2
            + x[1] ** 2
            + x[0] * x[1]
            - 14 * x[0]
            - 16 * x[1]
            + (x[2] - 10) ** 2
            + 4 * (x[3] - 5) ** 2
            + (x[4] - 3) ** 2
            + 2 * (x[5] - 1) ** 2
            + 5 * x[6] ** 2
            + 7 * (x[7] - 11) ** 2
            + 2 * (x[8] - 10) ** 2
            + (x[9] - 7) ** 2
            + 45
        ),
        (2, 3, 5, 5, 1, 2, 7, 3, 6, 10),
        24.30620906818,
        nonnegative=[
            lambda *x: 105 - 4 * x[0] - 5 * x[1] + 3 * x[6] - 9 * x[7],
            lambda *x: -10 * x[0] + 8 * x[1] + 17 * x[6] - 2 * x[7],
            lambda *x: 8 * x[0] - 2 * x[1] - 5 * x[8] + 2 * x[9] + 12,
            lambda *x: (
                -3 * (x[0] - 2) ** 2
                - 4 * (x[1] - 3) ** 2
                - 2 * x[2] ** 2
                + 7 * x[3]
                + 120
            ),
            lambda *x: -5 * x[0] ** 2 - 8 * x[1] - (x[2] - 6) ** 2 + 2 * x[3] + 40,
            lambda *x: (
                -0.5 * (x[0] - 8) ** 2 - 2 * (x[1] - 4) ** 2 - 3 * x[4] ** 2 + x[5] + 30
            ),
            lambda *x: (
                -(x[0] ** 2)
                - 2 * (x[1] - 2) ** 2
                + 2 * x[0] * x[1]
                - 14 * x[4]
                + 6 * x[5]
            ),
            lambda *x: 3 * x[0] - 6 * x[1] - 12 * (x[8] - 8) ** 2 + 7 * x[9],
        ],
    ),
    published(
        "HS114",
        lambda *x: (
            5.04 * x[0] + 0.035 * x[1] + 10 * x[2] + 3.36 * x[4] - 0.063 * x[3] * x[6]
        ),
        (1745, 12000, 110, 3048, 1974, 89.2, 92.8, 8, 3.6, 145),
        -1768.8069637162,
        equality=[
            lambda *x: 1.22 * x[3] - x[0] - x[4],
            lambda *x: 98000 * x[2] / (x[3] * x[8] + 1000 * x[2]) - x[5],
            lambda *x: (x[1] + x[4]) / x[0] - x[7],
        ],
        nonnegative=[
            lambda *x: octane_114(x)[0],
            lambda *x: octane_114(x)[1],
            lambda *x: -octane_114(x)[0] + x[8] * (1 / 0.9 - 0.9),
            lambda *x: -octane_114(x)[1] + (1 / 0.99 - 0.99) * x[9],
            lambda *x: octane_114(x)[2],
            lambda *x: octane_114(x)[3],
            lambda *x: -octane_114(x)[2] + (1 / 0.99 - 0.99) * x[3],
            lambda *x: -octane_114(x)[3] + (1 / 0.99 - 0.99) * x[6],
        ],
        lower=(1e-5, 1e-5, 1e-5, 1e-5, 1e-5, 85, 90, 3, 1.2, 145),
        upper=(2000, 16000, 120, 5000, 2000, 93, 95, 12, 4, 162),
    ),
    published(
        "HS116",
        lambda *x: x[10] + x[11] + x[12],
        (0.5, 0.8, 0.9, 0.1, 0.14, 0.5, 489, 80, 650, 450, 150, 150, 150),
        97.587509558071,
        nonnegative=[
            lambda *x: x[2] - x[1],
            lambda *x: x[1] - x[0],
            lambda *x: 1 - 0.002 * x[6] + 0.002 * x[7],
            lambda *x: x[10] + x[11] + x[12] - 50,
            lambda *x: 250 - x[10] - x[11] - x[12],
            cost_116(12, 9, 2),
            concentration_116(1, 4),
            concentration_116(2, 5),
            lambda *x: x[4] * x[6] - x[0] * x[7] - x[3] * x[6] + x[3] * x[7],
            lambda *x: (
                1
                - 0.002 * (x[1] * x[8] + x[4] * x[7] - x[0] * x[7] - x[5] * x[8])
                - x[4]
                - x[5]
            ),
            lambda *x: (
                x[1] * x[8]
                - x[2] * x[9]
                - x[5] * x[8]
                - 500 * x[1]
                + 500 * x[5]
                + x[1] * x[9]
            ),
            lambda *x: x[1] - 0.9 - 0.002 * (x[1] * x[9] - x[2] * x[9]),
            concentration_116(0, 3),
            cost_116(10, 7, 0),
            cost_116(11, 8, 1),
        ],
        lower=(*3 * (0.1,), 1e-4, *4 * (0.1,), 500, 0.1, 1, 1e-4, 1e-4),
        upper=(1, 1, 1, 0.1, 0.9, 0.9, 1000, 1000, 1000, 500, 150, 150, 150),
    ),
    published(
        "HS117",
        colville_2_loss,
        (*6 * (0.001,), 60, *8 * (0.001,)),
        32.348678965723,
        nonnegative=[colville_2_row(j) for j in range(5)],
        lower=0,
    ),
    published(
        "HS118",
        lambda *x: (
            np.tile([2.3, 1.7, 2.2], 5) @ jnp.stack(x)
            + np.tile([0.0001, 0.0001, 0.00015], 5) @ jnp.stack(x) ** 2
        ),
        (20, 55, 15, *4 * (20, 60, 20)),
        664.8204500,
        nonnegative=[
            *(
                bound
                for first, limit in enumerate((13, 14, 13))
                for i, j in pairwise(range(first, 15, 3))
                for bound in change_118(i, j, limit)
            ),
            *(demand_118(3 * i, d) for i, d in enumerate((60, 50, 70, 85, 100))),
        ],
        lower=(8, 43, 3, *12 * (0,)),
        upper=(21, 57, 16, *4 * (90, 120, 60)),
    ),
)
