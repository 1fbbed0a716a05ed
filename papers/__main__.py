"""The index: every paper's claims with their verdicts, from the recorded runs."""

import importlib
import pkgutil
from typing import Any

import papers
from papers import _table


def modules() -> list[Any]:
    """The papers' files, by year and author."""
    names = [m.name for m in pkgutil.iter_modules(papers.__path__) if m.name[0] != "_"]
    names.sort(key=lambda name: (name.split("_")[0][-4:], name))
    return [importlib.import_module(f"papers.{name}") for name in names]


def title(paper: Any) -> str:
    """The first line of its file."""
    return paper.__doc__.splitlines()[0].rstrip(".")


def summary() -> str:
    """How many claims of each paper hold, ours among them.

    Returns:
        A Markdown table.
    """
    lines = []
    for paper in modules():
        held = [verdict.holds for verdict in paper.verdicts(paper.MEASURED)]
        lines.append(
            [f"`{paper.__name__}`", title(paper), f"{sum(held)} of {len(held)}"]
        )
    return _table.grid(["file", "paper", "claims that hold"], lines)


def index() -> str:
    """All claims, paper by paper, and the summary.

    Returns:
        Several lines.
    """
    parts = [
        f"{title(paper)}\n{_table.judged(paper.verdicts(paper.MEASURED))}"
        for paper in modules()
    ]
    return "\n\n".join([*parts, summary()])


if __name__ == "__main__":
    print(index())
