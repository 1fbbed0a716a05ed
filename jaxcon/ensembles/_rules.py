"""Shape rules by the columns' names, and their bounds in scaled units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxcon._checks import check_choice, check_each, check_number, check_type, described
from jaxcon.ensembles._columns import Column, offsets
from jaxcon.ensembles._losses import Loss

# Stands for no bound; its square is finite in float32.
_FAR = 1e18


@dataclass(frozen=True)
class ShapeRules:
    """Shape rules of a fitted function.

    Attributes:
        monotone: by column, 1 for a prediction that must not fall along it, -1 for one that
            must not rise; of several classes, such signs by class number.
        convex: groups of columns in which it must be convex jointly.
        concave: groups of columns in which it must be concave jointly.
        bounds: least and greatest prediction, in the target's units; None for no bound.
        slope_bounds: by column, least and greatest slope, in target units per input unit.
        lipschitz: greatest Euclidean norm of the gradient, in target units per input unit.
        unimodal: by column, the place up to which the prediction must not fall and beyond
            which it must not rise; None where the data are to choose it.
    """

    monotone: Mapping[str, Any] = field(default_factory=dict)
    convex: tuple[tuple[str, ...], ...] = ()
    concave: tuple[tuple[str, ...], ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    slope_bounds: Mapping[str, tuple[float | None, float | None]] = field(
        default_factory=dict
    )
    lipschitz: float | None = None
    unimodal: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for word in ("monotone", "slope_bounds", "unimodal"):
            by_column = getattr(self, word)
            check_type(word, by_column, Mapping, "a dict by column")
            check_each(word, list(by_column), str, "columns' names")
        for name, sign in self.monotone.items():
            signs = sign.values() if isinstance(sign, Mapping) else [sign]
            if isinstance(sign, Mapping):
                for output in sign:
                    check_number(f"monotone: class of {name!r}", output, whole=True)
            for one in signs:
                check_choice(f"monotone[{name!r}]", one, (-1, 0, 1))
        for word in ("convex", "concave"):
            groups = getattr(self, word)
            check_each(word, groups, (list, tuple), "groups of columns")
            for group in groups:
                check_each(word, group, str, "columns' names")
                if not group or len(set(group)) < len(group):
                    raise ValueError(f"{word}: a group must name each column once")
        check_pair("bounds", self.bounds)
        for name, pair in self.slope_bounds.items():
            check_pair(f"slope_bounds[{name!r}]", pair)
        if self.lipschitz is not None:
            check_number("lipschitz", self.lipschitz, above=0)
        for name, peak in self.unimodal.items():
            if peak is not None:
                check_number(f"unimodal[{name!r}]", peak)

    def __bool__(self) -> bool:
        """Returns whether there is any rule."""
        named = (self.monotone, self.convex, self.concave, self.slope_bounds)
        return (
            any(map(bool, (*named, self.unimodal)))
            or self.bounds != (None, None)
            or self.lipschitz is not None
        )


def check_pair(name: str, pair: Any) -> None:
    """Refuses what is no pair of rising numbers, each or both of which may be None.

    Args:
        name: of the pair, for the message.
        pair: least and greatest.

    Raises:
        TypeError: it is no pair, or holds no numbers.
        ValueError: a number is not finite, or they do not rise.
    """
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise TypeError(f"{name} must be (least, greatest), got {described(pair)}")
    for end in pair:
        if end is not None:
            check_number(name, end)
    low, high = pair
    if low is not None and high is not None and not low < high:
        raise ValueError(f"{name}: {low:g} is not below {high:g}")


class Kinds(NamedTuple):
    """Rules of an encoded row without their numbers, hashable.

    Attributes:
        slopes: (entry, output) of each bounded slope; output -1 for all.
        curvatures: (entries, sign, output) of each: 1 for convex, -1 for concave.
        bounded: whether predictions have bounds.
        steep: entries in the gradient whose norm is bounded.
        flags: (entry, entry that is 1 where it is missing) of numbers with missing values.
        names: of the rules, in words: slopes, curvatures, bounds, gradient.
    """

    slopes: tuple[tuple[int, int], ...] = ()
    curvatures: tuple[tuple[tuple[int, ...], int, int], ...] = ()
    bounded: bool = False
    steep: tuple[int, ...] = ()
    flags: tuple[tuple[int, int], ...] = ()
    names: tuple[str, ...] = ()

    @property
    def nameless(self) -> "Kinds":
        """Rules without words, so that like ones of all tables share a program."""
        return self._replace(names=("",) * len(self.names))


class Bounds(NamedTuple):
    """Numbers of the rules in scaled units.

    Attributes:
        slope_lower: (slopes,), per range of the entry.
        slope_upper: (slopes,).
        lower: of predictions, ().
        upper: of predictions, ().
        steepness: by which each slope is multiplied in the gradient's norm, (steep,).
    """

    slope_lower: Any
    slope_upper: Any
    lower: Any
    upper: Any
    steepness: Any


def resolve(
    rules: ShapeRules,
    columns: Sequence[Column],
    loss: Loss,
    center: float,
    unit: float,
) -> tuple[Kinds, Bounds]:
    """Converts rules to entries of encoded rows and to scaled units.

    Args:
        rules: by name.
        columns: the encoding.
        loss: of the target.
        center: of the target.
        unit: of the target.

    Returns:
        `Kinds` and `Bounds`.

    Raises:
        ValueError: a rule names no column, one of categories without order, or contradicts
            another.
    """
    starts = offsets([one.block for one in columns])
    places = dict(zip((one.name for one in columns), starts))
    by_name = {one.name: one for one in columns}
    slopes: dict[tuple[str, int], list[float]] = {}
    words: dict[tuple[str, int], list[str]] = {}

    def narrow(name: str, output: int, low: float, high: float, word: str) -> None:
        _check_column(name, by_name, word)
        room = slopes.setdefault((name, output), [-_FAR, _FAR])
        room[:] = [max(room[0], low), min(room[1], high)]
        words.setdefault((name, output), []).append(word)
        if room[0] > room[1] or room[0] == room[1] != 0 or low == high:
            raise ValueError(
                f"{' and '.join(words[name, output])} leave no slope in {name!r}"
            )

    for name, sign in rules.monotone.items():
        for output, one in sign.items() if isinstance(sign, Mapping) else [(-1, sign)]:
            if output >= loss.outputs:
                raise ValueError(f"monotone[{name!r}]: there is no class {output}")
            if one == 1:
                narrow(name, output, 0.0, _FAR, _of("rising", output))
            elif one == -1:
                narrow(name, output, -_FAR, 0.0, _of("falling", output))
    for name, (low, high) in rules.slope_bounds.items():
        _check_column(name, by_name, "slope_bounds")
        factor = by_name[name].widths[0] / unit
        low = -_FAR if low is None else low * factor
        high = _FAR if high is None else high * factor
        narrow(name, -1, low, high, "slope bounds")
    for name in rules.unimodal:
        _check_column(name, by_name, "unimodal", peak=True)
    curvatures, bent = [], []
    for word, sign, groups in (
        ("convex", 1, rules.convex),
        ("concave", -1, rules.concave),
    ):
        for group in groups:
            for name in group:
                _check_column(name, by_name, word)
            curvatures.append((tuple(places[name] for name in group), sign, -1))
            bent.append(f"{word} in {', '.join(group)}")
    low, high = rules.bounds
    numbers = [one for one in columns if one.is_number]
    steep = rules.lipschitz is not None
    entries = {
        one.name: range(places[one.name], places[one.name] + one.block.size)
        for one in numbers
    }
    flags = tuple(
        (entry, entries[one.name].stop)
        for one in numbers
        if one.missing
        for entry in entries[one.name]
    )
    peaks = [(entry, -1) for name in rules.unimodal for entry in entries[name]]
    named = [f"{' and '.join(words[key])} in {key[0]}" for key in slopes]
    for name in rules.unimodal:
        at = f"{by_name[name].peak:g}"
        named += [f"rising in {name} up to {at}", f"falling in {name} from {at}"]
    named += bent
    named += ["within bounds"] if rules.bounds != (None, None) else []
    named += ["Lipschitz"] if steep else []
    kinds = Kinds(
        (*((places[name], output) for name, output in slopes), *peaks),
        tuple(curvatures),
        rules.bounds != (None, None),
        tuple(entry for one in numbers for entry in entries[one.name]) if steep else (),
        flags,
        tuple(named),
    )
    widths = np.array([width for one in numbers for width in one.widths])
    room = np.array([*slopes.values(), *[[0.0, _FAR]] * len(peaks)], float).reshape(
        -1, 2
    )
    return kinds, Bounds(
        room[:, 0],
        room[:, 1],
        -_FAR if low is None else (low - center) / unit,
        _FAR if high is None else (high - center) / unit,
        unit / (widths * rules.lipschitz) if steep else np.zeros(0),
    )


def _of(word: str, output: int) -> str:
    return word if output < 0 else f"{word} for class {output}"


def _check_column(
    name: str, known: Mapping[str, Column], word: str, peak: bool = False
) -> None:
    if name not in known:
        listed = ", ".join(map(repr, list(known)[:20]))
        raise ValueError(f"{word}: there is no column {name!r}; there are {listed}")
    if not known[name].is_number:
        raise ValueError(
            f"{word}: column {name!r} holds categories without an order, along which "
            "nothing rises or bends; give its levels in order by categorical_features"
        )
    if known[name].peak is not None and not peak:
        raise ValueError(f"{word}: column {name!r} is unimodal already")
