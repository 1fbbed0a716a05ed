"""The index: every paper's claims with their verdicts, from the recorded runs."""

import importlib
import pkgutil

import papers
from papers import _table


def modules() -> list[str]:
    """Names of the papers' files, by year and author."""
    names = [m.name for m in pkgutil.iter_modules(papers.__path__) if m.name[0] != "_"]
    return sorted(names, key=lambda name: (name.split("_")[0][-4:], name))


def index() -> str:
    """One line for each claim.

    Returns:
        A Markdown table.
    """
    lines = []
    for name in modules():
        paper = importlib.import_module(f"papers.{name}")
        lines += [
            [f"`papers.{name}`", v.claim, v.found, "yes" if v.holds else "no"]
            for v in paper.verdicts(paper.MEASURED)
        ]
    return _table.grid(["file", "claim", "measured", "holds"], lines)


if __name__ == "__main__":
    print(index())
