"""Words of verdicts: names, figures and the verdict itself."""

from typing import Any

from jaxcon.diagnosis._tracks import Track
from jaxcon.diagnosis._verdicts import Verdict


def quoted(tracks: list[Track]) -> str:
    """Returns the names of constraints, joined."""
    return " and ".join(repr(track.name) for track in tracks)


def figures(values: Any) -> str:
    """Returns numbers in three digits, joined."""
    return " and ".join(f"{value:.3g}" for value in values)


def verdict(kind: str, tracks: list[Track], text: str) -> list[Verdict]:
    """Returns one verdict, as a list to be added to others."""
    names = tuple(track.name for track in tracks)
    return [Verdict(kind, names, f"{kind}: {text}")]
