"""Shape rules by the columns' names, and their bounds in scaled units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxcon._checks import check_choice, check_each, check_number, check_type, described
from jaxcon.ensembles._columns import Column, offsets
from jaxcon.ensembles._losses import LOCATION, Ends, Loss

# Stands for no bound; its square is finite in float32.
FAR = 1e18


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
    named = {one.name: one for one in columns}
    starts = offsets([one.block for one in columns])
    entries = {
        one.name: range(start, start + one.block.size)
        for one, start in zip(columns, starts)
        if one.is_number
    }
    slopes = _slopes(rules, named, loss, unit)
    peaks = _peaks(rules, named)
    bent = _curvatures(rules, named)
    bounded, steep = rules.bounds != (None, None), rules.lipschitz is not None
    each = [entry for one in entries.values() for entry in one]
    words = [
        f"{' and '.join(one.words)} in {name}" for (name, _), one in slopes.items()
    ]
    words += [word for pair in peaks.values() for word in pair]
    words += [f"{word} in {', '.join(group)}" for word, _, group in bent]
    words += ["within bounds"] * bounded + ["Lipschitz"] * steep
    modes = [(entry, -1) for name in peaks for entry in entries[name]]
    kinds = Kinds(
        (*((entries[name].start, output) for name, output in slopes), *modes),
        tuple(
            (tuple(entries[n].start for n in group), sign, -1)
            for _, sign, group in bent
        ),
        bounded,
        tuple(each) if steep else (),
        tuple(
            (e, entries[n].stop)
            for n in entries
            if named[n].missing
            for e in entries[n]
        ),
        tuple(words),
    )
    rooms = [(one.low, one.high) for one in slopes.values()] + [(0.0, FAR)] * len(modes)
    room = np.array(rooms, float).reshape(-1, 2)
    low, high = rules.bounds
    widths = np.array([width for name in entries for width in named[name].widths])
    return kinds, Bounds(
        room[:, 0],
        room[:, 1],
        -FAR if low is None else _scaled(low, center, unit, 1),
        FAR if high is None else _scaled(high, center, unit, -1),
        unit / (widths * rules.lipschitz) if rules.lipschitz else np.zeros(0),
    )


def ends_of(loss: Loss, kinds: Kinds, bounds: Bounds) -> Ends:
    """Returns the bounds in which predictions are held by construction.

    A corner at a lower bound bends upwards, so that where a rule is concave a penalty holds
    the bound instead; likewise at an upper bound where one is convex.

    Args:
        loss: of the target.
        kinds: the rules.
        bounds: their numbers.

    Returns:
        Least and greatest prediction, or None where there are none.
    """
    signs = {sign for _, sign, _ in kinds.curvatures}
    if not kinds.bounded or loss.kind not in LOCATION or signs == {1, -1}:
        return None
    lower = -FAR if -1 in signs else bounds.lower
    return lower, FAR if 1 in signs else bounds.upper


def _scaled(end: float, center: float, unit: float, inwards: int) -> float:
    """Scales a bound so that no rounding leads out of it on the way back."""
    scaled = (end - center) / unit
    step = max(np.spacing(abs(scaled)), np.spacing(max(abs(center), abs(end))) / unit)
    while inwards * (center + unit * scaled - end) < 0:
        scaled += inwards * step
    return float(scaled)


class _Room(NamedTuple):
    """Slopes that the rules leave along a column, and the rules' words."""

    low: float = -FAR
    high: float = FAR
    words: tuple[str, ...] = ()


def _slopes(
    rules: ShapeRules, named: Mapping[str, Column], loss: Loss, unit: float
) -> dict[tuple[str, int], _Room]:
    """Returns what slopes are left by column and output, -1 for all."""
    found: dict[tuple[str, int], _Room] = {}

    def narrow(name: str, output: int, low: float, high: float, word: str) -> None:
        _check_column(name, named, word)
        before = found.get((name, output), _Room())
        room = _Room(
            max(before.low, low), min(before.high, high), (*before.words, word)
        )
        if room.low > room.high or room.low == room.high != 0 or low == high:
            raise ValueError(f"{' and '.join(room.words)} leave no slope in {name!r}")
        found[name, output] = room

    for name, sign in rules.monotone.items():
        for output, one in sign.items() if isinstance(sign, Mapping) else [(-1, sign)]:
            if output >= loss.outputs:
                raise ValueError(f"monotone[{name!r}]: there is no class {output}")
            if one == 1:
                narrow(name, output, 0.0, FAR, _of("rising", output))
            elif one == -1:
                narrow(name, output, -FAR, 0.0, _of("falling", output))
    for name, (low, high) in rules.slope_bounds.items():
        _check_column(name, named, "slope_bounds")
        factor = named[name].widths[0] / unit
        low = -FAR if low is None else low * factor
        high = FAR if high is None else high * factor
        narrow(name, -1, low, high, "slope bounds")
    return found


def _peaks(rules: ShapeRules, named: Mapping[str, Column]) -> dict[str, list[str]]:
    """Returns the two rules in words, up to a mode and from it, by column."""
    found = {}
    for name in rules.unimodal:
        _check_column(name, named, "unimodal", peak=True)
        at = f"{named[name].peak:g}"
        found[name] = [f"rising in {name} up to {at}", f"falling in {name} from {at}"]
    return found


def _curvatures(
    rules: ShapeRules, named: Mapping[str, Column]
) -> list[tuple[str, int, tuple[str, ...]]]:
    """Returns word, sign and group of every curvature."""
    kinds = [("convex", 1, rules.convex), ("concave", -1, rules.concave)]
    found = [(word, sign, tuple(one)) for word, sign, every in kinds for one in every]
    for word, _, group in found:
        for name in group:
            _check_column(name, named, word)
    return found


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
