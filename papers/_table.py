"""What all papers' files share: claimed and measured numbers, side by side."""

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

# What a paper prints of one method: a number by column; None where it prints none.
Claimed = dict[str, dict[str, float | None]]


class Spread(NamedTuple):
    """A number measured over seeds.

    Attributes:
        mean: over the seeds.
        deviation: of the seeds (n - 1); None where there is one only.
    """

    mean: float
    deviation: float | None = None


# What was measured, under the same rows and columns; None where a row has no such number.
Measured = dict[str, dict[str, Spread | None]]


class Conditions(NamedTuple):
    """Where the recorded numbers come from.

    Attributes:
        date: of the run, e.g. "2026-11-25".
        versions: of jax, ...
        machine: in words.
        seconds: the whole run's.
        gradients: evaluations of a gradient, in all; by method in the table if they differ.
    """

    date: str
    versions: str
    machine: str
    seconds: float
    gradients: int


class Verdict(NamedTuple):
    """One claim, and whether it stands.

    Attributes:
        claim: in words, with the number.
        found: what was measured, in words, with the number.
        holds: whether it does.
    """

    claim: str
    found: str
    holds: bool


def spread(values: Iterable[float]) -> Spread:
    """Mean and deviation over seeds.

    Args:
        values: at least one.

    Returns:
        A `Spread`.
    """
    values = [float(value) for value in values]
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation)


def number(measured: Measured, row: str, column: str) -> Spread:
    """A number that every run has.

    Args:
        measured: a table.
        row: of it.
        column: of the row.

    Returns:
        The number.

    Raises:
        ValueError: the table has none there.
    """
    found = measured[row][column]
    if found is None:
        raise ValueError(f"{row!r} has no {column!r}")
    return found


def here(seconds: float, gradients: int) -> Conditions:
    """The conditions of a run that ends now.

    Args:
        seconds: it took.
        gradients: it evaluated.

    Returns:
        `Conditions` of this machine.
    """
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    machine = f"{cores or os.cpu_count()} CPU cores"
    if device.platform != "cpu":
        machine = f"{device.device_kind}, {machine}"
    return Conditions(
        datetime.date.today().isoformat(),
        f"jax {jax.__version__}, Python {platform.python_version()}",
        machine,
        seconds,
        gradients,
    )


def check_same_keys(claimed: Claimed, measured: Measured) -> None:
    """Refuses two tables that cannot stand side by side.

    Args:
        claimed: of a paper.
        measured: of us.

    Raises:
        ValueError: a row or a column is in one only.
    """
    keys = [
        {(row, c) for row in table for c in table[row]} for table in (claimed, measured)
    ]
    for row, column in sorted(keys[0] ^ keys[1]):
        raise ValueError(f"{row!r}, {column!r} stands in one table only")


def text(value: float | Spread | None) -> str:
    """A number as it is printed.

    Args:
        value: a number, one with its deviation, or none.

    Returns:
        Four digits, the deviation in brackets; "" for none.
    """
    if value is None:
        return ""
    if not isinstance(value, Spread):
        return f"{value:.4g}"
    if value.deviation is None:
        return f"{value.mean:.4g}"
    return f"{value.mean:.4g} ({value.deviation:.2g})"


def markdown(claimed: Claimed, measured: Measured) -> str:
    """Both tables as one.

    Args:
        claimed: of a paper.
        measured: of us.

    Returns:
        A Markdown table: a line for each method, up to two columns for each number.
    """
    check_same_keys(claimed, measured)
    columns = dict.fromkeys(c for row in claimed.values() for c in row)
    tables = {"claimed": claimed, "measured": measured}
    # What a paper prints of no method has no column of its own.
    kept = [
        (column, who)
        for column in columns
        for who, table in tables.items()
        if any(row.get(column) is not None for row in table.values())
    ]
    lines = [
        [row, *(text(tables[who][row].get(column)) for column, who in kept)]
        for row in claimed
    ]
    return grid(["method", *(f"{column}, {who}" for column, who in kept)], lines)


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table of text, its columns aligned.

    Args:
        head: of the columns.
        lines: as many cells each.

    Returns:
        The table, without a newline at its end.
    """
    widths = [max(map(len, column)) for column in zip(head, *lines)]

    def line(cells: Sequence[str], fill: Callable[[str, int], str]) -> str:
        return "| " + " | ".join(map(fill, cells, widths)) + " |"

    rule = line(["" for _ in head], lambda _, width: "-" * width)
    return "\n".join(
        [line(head, str.ljust), rule, *(line(x, str.ljust) for x in lines)]
    )


def judged(verdicts: Iterable[Verdict]) -> str:
    """Verdicts in words.

    Args:
        verdicts: on a paper's claims.

    Returns:
        A line for each.
    """
    return "\n".join(
        f"- {'holds' if v.holds else 'does not hold'}: {v.claim}; found: {v.found}"
        for v in verdicts
    )


def report(
    subject: str,
    claimed: Claimed,
    measured: Measured,
    conditions: Conditions,
    verdicts: Sequence[Verdict],
    differences: Sequence[str],
) -> str:
    """All that a paper's file has to say, as its `main` prints it.

    Args:
        subject: authors, title, year.
        claimed: its numbers.
        measured: ours.
        conditions: of ours.
        verdicts: on its claims.
        differences: from its protocol.

    Returns:
        Several lines.
    """
    numbered = [f"{i}. {words}" for i, words in enumerate(differences, 1)]
    run = (
        f"{conditions.date}, {conditions.versions}, {conditions.machine}: "
        f"{conditions.seconds:.0f} s, {conditions.gradients:,} gradients"
    )
    parts = [subject, markdown(claimed, measured), run, judged(verdicts)]
    return "\n\n".join([*parts, "Differences from the paper:\n" + "\n".join(numbered)])


def run(paper: Any) -> None:
    """The command of a paper's file: measures again, prints all, draws if asked to.

    Args:
        paper: its module.
    """
    parser = argparse.ArgumentParser(description=paper.SUBJECT)
    parser.add_argument("--figure", metavar="PATH", help="draw it there as well")
    path = parser.parse_args().figure
    began = time.perf_counter()
    measured, gradients = paper.measure()
    print(
        report(
            paper.SUBJECT,
            paper.CLAIMED,
            measured,
            here(time.perf_counter() - began, gradients),
            paper.verdicts(measured),
            paper.DIFFERENCES,
        )
    )
    if path:
        paper.figure(path)
