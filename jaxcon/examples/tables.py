r"""Tables with shape rules: Engel's food expenditure and values of call options.

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
    "engel",
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


def _truth(x: np.ndarray) -> np.ndarray:
    return np.asarray(price(jnp.asarray(x[:, 0]), jnp.asarray(x[:, 1])), float)
