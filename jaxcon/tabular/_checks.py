"""Requirements of a table, its rules and the settings."""

from dataclasses import asdict

import numpy as np

from jaxcon.tabular._rules import Rules
from jaxcon.tabular._settings import Settings
from jaxcon.tabular._table import Table, TableError, no_column

# Upper ends of the settings that have one; a seed must fit 64 bits.
_BEYOND = {"held_out": 1, "seed": 2**63}


def check(table: Table, target: str, rules: Rules, settings: Settings) -> None:
    """Refuses tables, rules and settings that cannot be fitted.

    Args:
        table: inputs and target; every column but the target is an input.
        target: name of the target column.
        rules: the shape constraints.
        settings: of the fit.

    Raises:
        TableError: it names the first fault.
    """
    if target not in table.names:
        raise TableError(no_column(target, table.names, "the table"))
    if len(table.names) == 1:
        raise TableError(f"the table has no column but the target {target!r}")
    for name, value in asdict(settings).items():
        least = 0 if name in ("seed", "margin") else np.nextafter(0, 1)
        if not least <= value < _BEYOND.get(name, np.inf):
            raise TableError(f"--{name.replace('_', '-')} {value} is out of range")
    rows = len(table.values)
    if min(held_out_rows(rows, settings), rows - held_out_rows(rows, settings)) < 2:
        raise TableError(
            f"the table has {rows} row{'s' * (rows != 1)}; with --held-out "
            f"{settings.held_out} that leaves fewer than two to fit or to score"
        )
    for name in table.names:
        if np.ptp(table.column(name)) == 0:
            raise TableError(f"column {name!r} is constant")
    inputs = [name for name in table.names if name != target]
    for rule in ("increasing", "decreasing", "convex", "concave"):
        for name in getattr(rules, rule):
            if name == target:
                raise TableError(f"--{rule} {name}: that is the target, not an input")
            if name not in inputs:
                raise TableError(f"--{rule}: {no_column(name, inputs, 'the table')}")
    for one, other in (("increasing", "decreasing"), ("convex", "concave")):
        both = sorted(set(getattr(rules, one)) & set(getattr(rules, other)))
        if both:
            raise TableError(f"{both[0]!r} cannot be both {one} and {other}")
    for bound in ("lower", "upper", "lipschitz"):
        value = getattr(rules, bound)
        if value is not None and not np.isfinite(value):
            raise TableError(f"--{bound} {value} is not a finite number")
    if None not in (rules.lower, rules.upper) and not rules.lower < rules.upper:  # pyright: ignore[reportOperatorIssue]
        raise TableError(f"--lower {rules.lower} is not below --upper {rules.upper}")
    if rules.lipschitz is not None and not rules.lipschitz > 0:
        raise TableError(f"--lipschitz {rules.lipschitz} must be positive")


def held_out_rows(rows: int, settings: Settings) -> int:
    """Returns the number of rows that are held out for the score.

    Args:
        rows: their number in the table.
        settings: of the fit.

    Returns:
        The share `settings.held_out` of them, rounded.
    """
    return round(settings.held_out * rows)
