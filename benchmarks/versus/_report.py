"""The table and the figure of recorded rows."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.problems.networks import ALL
from benchmarks.versus._default import DEFAULT
from benchmarks.versus._run import FEASIBLE, RATIO

HEAD = (
    "lane",
    "violation",
    "accuracy",
    "stays from step",
    "seconds",
    "of step",
    "lines",
    "setting",
    "",
)
WITHIN = 1.05  # of the best accuracy
NEVER = 100.0  # where the figure has runs that did not stay feasible, in seconds


def grouped(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Groups rows by problem and lane, in the problems' order."""
    tables: dict[str, dict[str, list[Any]]] = {}
    for problem in ALL:
        for row in rows:
            if row["problem"] == problem:
                tables.setdefault(problem, {}).setdefault(row["lane"], []).append(row)
    return tables


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summarises one lane's seeds on one problem.

    Args:
        rows: of all seeds.

    Returns:
        Worst violation, median accuracy, and medians over seeds of the steps and seconds
        to stay feasible, infinite where a seed never did.
    """
    kept = [row["stays from second"] for row in rows]
    steps = [row["stays from step"] for row in rows]
    return {
        "violation": max(row["violation"] for row in rows),
        "accuracy": statistics.median(row["accuracy"] for row in rows),
        "feasible": sum(row["stays from step"] is not None for row in rows),
        "seeds": len(rows),
        "steps": statistics.median(math.inf if s is None else s for s in steps),
        "seconds": statistics.median(math.inf if s is None else s for s in kept),
        "ratio": rows[0][RATIO],
        "lines": rows[0]["lines"],
        "setting": rows[0]["setting"],
    }


def losses(problem: str, lanes: dict[str, Any]) -> str:
    """Says in what jaxcon's default is behind another lane of a problem.

    Args:
        problem: its name.
        lanes: the summary of each lane that ran.

    Returns:
        The words; empty where it is behind in nothing, or did not run.
    """
    own = lanes.get(DEFAULT.name)
    if own is None:
        return ""
    words, others = [], [s for name, s in lanes.items() if name != DEFAULT.name]
    if own["feasible"] < own["seeds"]:
        words.append(f"feasible on {own['feasible']} of {own['seeds']} seeds")
    obeying = [s for s in others if s["feasible"] == s["seeds"]]
    if obeying:
        best = min(s["accuracy"] for s in obeying)
        if own["accuracy"] > max(WITHIN * best, ALL[problem].enough):
            words.append(f"accuracy, {own['accuracy'] / best:.2f} times the best error")
        quickest = min(s["seconds"] for s in obeying)
        if own["seconds"] > quickest:
            words.append(f"time, {own['seconds']:.2g} s against {quickest:.2g} s")
    return "loses: " + "; ".join(words) if words else ""


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Writes one Markdown table for each problem.

    Args:
        rows: as recorded.

    Returns:
        The text.
    """
    parts = [
        "Violation: the worst of all seeds on the dense grid. Stays: medians over seeds, "
        f"from where the violation is at most {FEASIBLE:g} ever after. Of step: the time "
        "of a step as a ratio to the augmented Lagrangian by hand in JAX, in turns.\n"
    ]
    for problem, lanes in grouped(rows).items():
        parts.append(f"\n## {problem} ({ALL[problem].measure})\n")
        parts.append("| " + " | ".join(HEAD) + " |")
        parts.append("|" + "---|" * len(HEAD))
        ran = {
            lane: summary(found)
            for lane, found in lanes.items()
            if not any("failed" in row for row in found)
        }
        for lane, found in lanes.items():
            if lane not in ran:
                reason = next(row["failed"] for row in found if "failed" in row)
                parts.append(f"| {lane} |" + " |" * 7 + f" failed: {reason} |")
                continue
            note = losses(problem, ran) if lane == DEFAULT.name else ""
            parts.append(_line(lane, ran[lane], note))
    return "\n".join(parts) + "\n"


def _line(lane: str, s: dict[str, Any], note: str) -> str:
    never = math.isinf(s["steps"])
    cells = (
        lane,
        f"{s['violation']:.1e}",
        f"{s['accuracy']:.3g}",
        "never" if never else f"{s['steps']:.0f} ({s['feasible']}/{s['seeds']})",
        "" if never else f"{s['seconds']:.2g}",
        "" if s["ratio"] is None else f"{s['ratio']:.2f}",
        str(s["lines"]),
        ", ".join(f"{name} {value:g}" for name, value in s["setting"].items()),
        note,
    )
    return "| " + " | ".join(cells) + " |"


def figure(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws accuracy against seconds to stay feasible, one panel for each problem.

    Runs that did not stay feasible are hollow, at the right.

    Args:
        rows: as recorded.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    tables = grouped(rows)
    names = list(dict.fromkeys(row["lane"] for row in rows))
    across = min(4, len(tables))
    down = -(-len(tables) // across)
    drawing = Figure(figsize=(4 * across, 3.2 * down), layout="constrained")
    marks: dict[str, Any] = {}
    for place, (problem, lanes) in enumerate(tables.items(), 1):
        axes = drawing.add_subplot(down, across, place)
        for lane, found in lanes.items():
            style: dict[str, Any] = {"color": f"C{names.index(lane) % 10}"}
            style |= {"marker": "*" if lane == DEFAULT.name else "o", "ls": ""}
            for row in found:
                if not math.isfinite(row.get("accuracy", math.inf)):
                    continue
                second = row["stays from second"]
                fill = {"fillstyle": "none"} if second is None else {}
                x, y = second or NEVER, max(row["accuracy"], 1e-9)
                (marks[lane],) = axes.loglog(x, y, **style, **fill)
        low, high = axes.get_ylim()
        axes.set(xlim=(1e-2, 2 * NEVER), ylim=(low / 2, high * 2), title=problem)
        axes.set(xlabel="seconds to stay feasible", ylabel=ALL[problem].measure)
        axes.minorticks_off()
    if marks:
        drawing.legend(marks.values(), marks, loc="outside lower center", ncols=4)
    drawing.savefig(path, dpi=120)
