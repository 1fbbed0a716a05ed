r"""Tables with shape rules: food, call options, a dose's effect and values of houses.

**Engel's data** are 235 Belgian working-class households of 1857: annual income and food
expenditure in Belgian francs. Engel's law says that the share of food falls as income
rises, so expenditure should be increasing and concave in income. A flexible network
without constraints is neither. Source: Koenker and Bassett, Robust Tests of
Heteroscedasticity Based on Regression Quantiles, Econometrica 50 (1982), 43-61; the data
are distributed with the R package quantreg and, marked public domain, with statsmodels
(``statsmodels.datasets.engel``), of which ``engel.csv`` beside this file is an unchanged
copy.

**The call surface** has a known truth and rules for second derivatives. The true value of
a call of strike K and maturity T on an asset worth 1, without interest, is a mixture of two
Black-Scholes values,

.. math::
    C(K, T) = w\, B(K, T, \sigma_1) + (1 - w)\, B(K, T, \sigma_2), \quad
    B = \Phi(d_1) - K \Phi(d_1 - \sigma \sqrt T), \quad
    d_1 = \frac{-\log K + \sigma^2 T / 2}{\sigma \sqrt T},

so that it is free of arbitrage. It is decreasing and convex in strike, or a spread or a
butterfly would be worth less than nothing, and it is increasing in maturity (calendar).
Quotes carry normal noise; a network fitted to them without constraints breaks all three.

**The dose response** is Hill's curve, :math:`E(x) = x^2 / (1 + x^2)`, of which most doses
lie on the plateau near 1: a rule that asks for a slope there would bend it.

**The house prices** have nine inputs of different effect, in thousands,

.. math::
    p = 60 + 18 \sqrt{a} + 12 q - 30 (1 - e^{-y/25}) - 1.5 k + 20 \log(1 + g / 200)
    + 6 b + 0.02 a q - 10 \sin(w) + 2 f,

of area a, quality q, age y, distance k, garden g, bathrooms b, the garden's direction w and
the floor f; the ninth, the house's number, has none. They rise in area, quality, garden and
bathrooms, and fall with age and distance.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.examples._example import TableExample
from jaxcon.tabular import Rules, Table, read_csv

__all__ = [
    "MATURITIES",
    "NOISE",
    "PATH",
    "STRIKES",
    "VOLATILITIES",
    "WEIGHT",
    "black_scholes",
    "call_surface",
    "dose_response",
    "engel",
    "house_prices",
    "price",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


PATH = Path(__file__).with_name("engel.csv")
WEIGHT = 0.6
VOLATILITIES = (0.15, 0.4)  # per square root of a year
STRIKES = (0.6, 1.4)  # in units of the asset's price
MATURITIES = (0.1, 1.5)  # years
NOISE = 0.02  # in units of the asset's price


def engel() -> TableExample:
    """Returns food expenditure, increasing and concave in income.

    Returns:
        A `TableExample` without a known truth.
    """
    return TableExample(
        table=read_csv(PATH),
        target="foodexp",
        rules=Rules(increasing=("income",), concave=("income",)),
        truth=None,
    )


def price(strike: jax.Array, maturity: jax.Array) -> jax.Array:
    """Evaluates the true value of a call on an asset worth 1.

    Args:
        strike: K, any shape.
        maturity: T in years, the same shape.

    Returns:
        C(K, T), of that shape.
    """
    first, second = (black_scholes(strike, maturity, vol) for vol in VOLATILITIES)
    return WEIGHT * first + (1 - WEIGHT) * second


def black_scholes(
    strike: jax.Array, maturity: jax.Array, volatility: float
) -> jax.Array:
    """Evaluates Black and Scholes' value of a call on an asset worth 1, without interest.

    Args:
        strike: K, any shape.
        maturity: T in years, the same shape.
        volatility: sigma, per square root of a year.

    Returns:
        B(K, T, sigma), of that shape.
    """
    cdf = jax.scipy.stats.norm.cdf
    deviation = volatility * jnp.sqrt(maturity)
    d1 = (-jnp.log(strike) + deviation**2 / 2) / deviation
    return cdf(d1) - strike * cdf(d1 - deviation)


def call_surface(quotes: int = 250, seed: int = 0) -> TableExample:
    """Simulates quotes at uniformly random strikes and maturities.

    Args:
        quotes: their number.
        seed: of strikes, maturities and noise.

    Returns:
        A `TableExample` whose truth is `price`.
    """
    rng = np.random.default_rng(seed)
    strike = rng.uniform(*STRIKES, quotes)
    maturity = rng.uniform(*MATURITIES, quotes)
    x = np.stack([strike, maturity], axis=1)
    quoted = _truth(x) + NOISE * rng.normal(size=quotes)
    return TableExample(
        table=Table(("strike", "maturity", "price"), np.column_stack([x, quoted])),
        target="price",
        rules=Rules(
            decreasing=("strike",), convex=("strike",), increasing=("maturity",)
        ),
        truth=_truth,
    )


def dose_response(rows: int = 200, seed: int = 0) -> TableExample:
    """Simulates effects of uniformly random doses.

    Args:
        rows: their number.
        seed: of doses and noise.

    Returns:
        A `TableExample` whose truth is Hill's curve, with noise of deviation 0.02.
    """
    rng = np.random.default_rng(seed)
    dose = rng.uniform(0, 22, (rows, 1))
    effect = _hill(dose) + 0.02 * rng.normal(size=rows)
    return TableExample(
        table=Table(("dose", "effect"), np.column_stack([dose, effect])),
        target="effect",
        rules=Rules(increasing=("dose",)),
        truth=_hill,
    )


def _hill(x: np.ndarray) -> np.ndarray:
    return x[:, 0] ** 2 / (1 + x[:, 0] ** 2)


HOUSE = {  # least and greatest value of each input
    "area": (40.0, 250.0),  # square metres
    "quality": (1.0, 10.0),
    "age": (0.0, 80.0),  # years
    "distance": (0.0, 30.0),  # kilometres from the centre
    "garden": (0.0, 1000.0),  # square metres
    "bathrooms": (1.0, 4.0),
    "direction": (0.0, 6.28),  # of the garden, radians
    "floor": (0.0, 4.0),
    "number": (1.0, 99.0),
}


def house_prices(rows: int = 550, seed: int = 0) -> TableExample:
    """Simulates values of houses with nine uniformly random inputs.

    Args:
        rows: their number.
        seed: of inputs and noise.

    Returns:
        A `TableExample` with a known truth, and noise of deviation 25 thousand.
    """
    rng = np.random.default_rng(seed)
    lower, upper = np.array(list(HOUSE.values())).T
    x = rng.uniform(lower, upper, (rows, len(HOUSE)))
    prices = _house(x) + 25 * rng.normal(size=rows)
    return TableExample(
        table=Table((*HOUSE, "price"), np.column_stack([x, prices])),
        target="price",
        rules=Rules(
            increasing=("area", "quality", "garden", "bathrooms"),
            decreasing=("age", "distance"),
        ),
        truth=_house,
    )


def _house(x: np.ndarray) -> np.ndarray:
    area, quality, age, distance, garden, bathrooms, direction, floor, _ = x.T
    size = 18 * np.sqrt(area) + 0.02 * area * quality + 12 * quality + 6 * bathrooms
    place = 20 * np.log1p(garden / 200) - 1.5 * distance - 10 * np.sin(direction)
    return 60 + size + place - 30 * (1 - np.exp(-age / 25)) + 2 * floor


def _truth(x: np.ndarray) -> np.ndarray:
    return np.asarray(price(jnp.asarray(x[:, 0]), jnp.asarray(x[:, 1])), float)
