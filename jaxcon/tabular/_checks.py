"""Requirements of a table, its rules and the settings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from jaxcon._checks import check_each, check_number, check_type
from jaxcon.tabular._rules import Rules
from jaxcon.tabular._settings import Settings
from jaxcon.tabular._table import (
    LARGEST,
    LEAST_SPREAD,
    Table,
    TableError,
    is_one_line,
    no_column,
)

# Values of the settings that a fit in float32 can use, and a machine can hold.
RANGES: dict[str, dict[str, Any]] = {
    "steps": {"least": 1, "most": 10**7, "whole": True},
    "seed": {"least": 0, "below": 2**32, "whole": True},
    "held_out": {"above": 0, "below": 1},
    "width": {"least": 1, "most": 1024, "whole": True},
    "depth": {"least": 1, "most": 32, "whole": True},
    "learning_rate": {"least": 1e-30, "most": 1e38},
    "strength": {"least": 1e-30, "most": 1e30},
    "margin": {"least": 0, "most": 1e30},
}
# Inputs, with 64 points on each face of their box and 100,000 in it.
MOST_INPUTS = 500


def check(table: Table, target: str, rules: Rules, settings: Settings) -> None:
    """Refuses tables, rules and settings that cannot be fitted.

    Args:
        table: inputs and target; every column but the target is an input.
        target: name of the target column.
        rules: the shape constraints.
        settings: of the fit.

    Raises:
        TypeError: a rule or a setting is of another type.
        TableError: it names the first fault.
    """
    check_type("table", table, Table, "a jaxcon.tabular.Table")
    check_type("target", target, str, "a column's name")
    check_type("rules", rules, Rules, "jaxcon.tabular.Rules")
    _check_values(table)
    inputs = inputs_of(table.names, target)
    check_settings(settings)
    rows = len(table.values)
    if min(held_out_rows(rows, settings), rows - held_out_rows(rows, settings)) < 2:
        raise TableError(
            f"the table has {rows} row{'s' * (rows != 1)}; with --held-out "
            f"{settings.held_out} that leaves fewer than two to fit or to score"
        )
    for name, spread in zip(table.names, np.ptp(table.values, axis=0)):
        if spread == 0:
            raise TableError(f"column {name!r} is constant")
        if spread < LEAST_SPREAD:
            raise TableError(
                f"column {name!r} varies by {spread:g}, where {LEAST_SPREAD:g} is the least"
            )
    check_rules(rules, target, inputs)


def inputs_of(names: Sequence[str], target: str) -> list[str]:
    """Returns the columns but the target.

    Args:
        names: of all columns.
        target: name of the target column.

    Returns:
        Their names.

    Raises:
        TableError: the target is not there, or there are no or too many others.
    """
    if target not in names:
        raise TableError(no_column(target, names, "the table"))
    inputs = [name for name in names if name != target]
    if not inputs:
        raise TableError(f"the table has no column but the target {target!r}")
    if len(inputs) > MOST_INPUTS:
        raise TableError(
            f"the table has {len(inputs)} inputs; name at most {MOST_INPUTS} of them by "
            "--inputs"
        )
    return inputs


def check_settings(settings: Settings) -> None:
    """Refuses settings that no fit can use.

    Args:
        settings: of the fit.

    Raises:
        TypeError: one is no number.
        TableError: one is out of its range.
    """
    check_type("settings", settings, Settings, "jaxcon.tabular.Settings")
    for name, value in asdict(settings).items():
        check_flag(name, value, **RANGES[name])


def check_flag(name: str, value: Any, **bounds: Any) -> None:
    """Refuses a number of the settings or the rules, under the name of its flag.

    Args:
        name: of the setting.
        value: as the caller passed it.
        bounds: as `check_number` takes them.

    Raises:
        TypeError: it is no number.
        TableError: it is out of its range.
    """
    try:
        check_number(f"--{name.replace('_', '-')}", value, **bounds)
    except ValueError as error:
        raise TableError(str(error)) from None


def held_out_rows(rows: int, settings: Settings) -> int:
    """Returns the number of rows that are held out for the score.

    Args:
        rows: their number in the table.
        settings: of the fit.

    Returns:
        The share `settings.held_out` of them, rounded.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: `rows` is negative.
    """
    check_number("rows", rows, least=0, whole=True)
    check_type("settings", settings, Settings, "jaxcon.tabular.Settings")
    return round(settings.held_out * rows)


def _check_values(table: Table) -> None:
    """Refuses what `read_csv` does not return."""
    values = np.asarray(table.values)
    if values.ndim != 2 or values.shape[1] != len(table.names) or values.dtype != float:
        raise TableError(
            f"the table must hold float64 values of shape (rows, {len(table.names)}), got "
            f"{values.dtype} of shape {values.shape}"
        )
    counts = Counter(table.names)
    for name in table.names:
        if not name or not is_one_line(name):
            raise TableError(f"the table has a column called {name!r}")
        if counts[name] > 1:
            raise TableError(f"the table has two columns called {name!r}")
    faults = np.argwhere(~(np.abs(values) <= LARGEST))
    if len(faults):
        row, place = faults[0]
        raise TableError(
            f"column {table.names[place]!r}, row {row}: {values[row, place]} is not a "
            f"number of magnitude at most {LARGEST:g}"
        )


def check_rules(rules: Rules, target: str, inputs: list[str]) -> None:
    """Refuses rules that no function of the inputs can obey.

    Args:
        rules: the shape constraints.
        target: name of the target column.
        inputs: names of the others.

    Raises:
        TypeError: a rule is of another type.
        TableError: it names no input, or contradicts another.
    """
    for rule in ("increasing", "decreasing", "convex", "concave"):
        columns = getattr(rules, rule)
        check_each(f"--{rule}", columns, str, "names of columns")
        for name in columns:
            if name == target:
                raise TableError(f"--{rule} {name}: that is the target, not an input")
            if name not in inputs:
                raise TableError(f"--{rule}: {no_column(name, inputs, 'the table')}")
            if columns.count(name) > 1:
                raise TableError(f"--{rule}: {name!r} is named twice")
    for one, other in (("increasing", "decreasing"), ("convex", "concave")):
        both = sorted(set(getattr(rules, one)) & set(getattr(rules, other)))
        if both:
            raise TableError(f"{both[0]!r} cannot be both {one} and {other}")
    for bound in ("lower", "upper", "lipschitz"):
        value = getattr(rules, bound)
        if value is not None:
            check_flag(bound, value, **({"above": 0} if bound == "lipschitz" else {}))
    if None not in (rules.lower, rules.upper) and not rules.lower < rules.upper:  # pyright: ignore[reportOperatorIssue]
        raise TableError(f"--lower {rules.lower} is not below --upper {rules.upper}")
