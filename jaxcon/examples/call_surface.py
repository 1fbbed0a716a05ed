r"""A surface of noisy call prices: second derivatives, and a truth to measure against.

The true price of a call of strike K and maturity T on an asset worth 1, without
interest, is a mixture of two Black-Scholes prices,

.. math::
    C(K, T) = w\, B(K, T, \sigma_1) + (1 - w)\, B(K, T, \sigma_2), \quad
    B = \Phi(d_1) - K \Phi(d_1 - \sigma \sqrt T), \quad
    d_1 = \frac{-\log K + \sigma^2 T / 2}{\sigma \sqrt T},

so that it is free of arbitrage: decreasing and convex in strike (or a spread or a
butterfly would be worth less than nothing) and increasing in maturity (calendar). Quotes
carry normal noise; a network fitted to them without constraints breaks all three.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon.examples._example import TableExample
from jaxcon.tabular import Rules, Table

WEIGHT = 0.6
VOLATILITIES = (0.15, 0.4)  # per square root of a year
STRIKES = (0.6, 1.4)  # in units of the asset's price
MATURITIES = (0.1, 1.5)  # years
NOISE = 0.02  # in units of the asset's price


def price(strike: jax.Array, maturity: jax.Array) -> jax.Array:
    """The true call price, in units of the asset's price.

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
    """Black and Scholes' price of a call on an asset worth 1, without interest.

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
    """Simulated quotes at uniformly random strikes and maturities.

    Args:
        quotes: how many.
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
