"""Verdicts on a history, and the diagnosis that collects them."""

from typing import NamedTuple

from jaxcon._display import html_table


class Verdict(NamedTuple):
    """Finding of a diagnosis, with its figures and its advice.

    Attributes:
        kind: one of the kinds that `diagnose` lists.
        constraints: the names it concerns; none if it concerns the whole run.
        text: one sentence with the figures and what to try.
    """

    kind: str
    constraints: tuple[str, ...]
    text: str


class Diagnosis(NamedTuple):
    """All verdicts of a history; it prints one sentence per line.

    Attributes:
        verdicts: at least one, troubles before what is well.
    """

    verdicts: tuple[Verdict, ...]

    def __str__(self) -> str:
        return "\n".join(verdict.text for verdict in self.verdicts)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html_table(
            [
                {
                    "verdict": verdict.kind,
                    "constraints": ", ".join(verdict.constraints) or "the whole run",
                    "figures and advice": verdict.text.removeprefix(
                        f"{verdict.kind}: "
                    ),
                }
                for verdict in self.verdicts
            ]
        )
