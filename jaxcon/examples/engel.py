"""Engel's food expenditure data: a real table that should rise and flatten.

235 Belgian working-class households of 1857: annual income and food expenditure in
Belgian francs. Engel's law says that food's share falls as income rises, so expenditure
should be increasing and concave in income. A flexible network left alone is neither.

Source: Koenker and Bassett, Robust Tests of Heteroscedasticity Based on Regression
Quantiles, Econometrica 50 (1982), 43-61; distributed with the R package quantreg and,
marked public domain, with statsmodels (``statsmodels.datasets.engel``), of which
``engel.csv`` beside this file is an unchanged copy.
"""

from pathlib import Path

from jaxcon.examples._example import TableExample
from jaxcon.tabular import Rules, read_csv

PATH = Path(__file__).with_name("engel.csv")


def engel() -> TableExample:
    """Food expenditure, increasing and concave in income.

    Returns:
        A `TableExample` without a known truth.
    """
    return TableExample(
        table=read_csv(PATH),
        target="foodexp",
        rules=Rules(increasing=("income",), concave=("income",)),
        truth=None,
    )
