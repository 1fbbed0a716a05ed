"""Rules as users of scikit-learn, LightGBM and XGBoost spell them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcon._checks import check_number, described
from jaxcon.ensembles import Frame, ShapeRules


def rules_of(
    frame: Frame,
    *,
    monotone_constraints: Any = None,
    convex: Any = None,
    concave: Any = None,
    bounds: Any = None,
    slope_bounds: Any = None,
    lipschitz: Any = None,
    unimodal: Any = None,
    classes: Sequence[Any] = (),
) -> ShapeRules:
    """Reads the rules of an estimator.

    Args:
        frame: inputs, whose columns the rules name or number.
        monotone_constraints: signs by column, or one for each column in order; of more
            than two classes, by column a dict of signs by class.
        convex: columns, or groups of them.
        concave: columns, or groups of them.
        bounds: least and greatest prediction, each or both None.
        slope_bounds: by column, least and greatest slope.
        lipschitz: greatest norm of the gradient.
        unimodal: columns, or the place of the mode by column.
        classes: labels; () in regression.

    Returns:
        `ShapeRules` by name.

    Raises:
        TypeError: a rule is of another type.
        ValueError: a rule names no column, or a number is out of its range.
    """
    return ShapeRules(
        monotone=_signs(frame, monotone_constraints, classes),
        convex=_groups(frame, "convex", convex),
        concave=_groups(frame, "concave", concave),
        bounds=_pair("bounds", bounds),
        slope_bounds={
            name: _pair(f"slope_bounds[{name!r}]", pair)
            for name, pair in _by_column(frame, "slope_bounds", slope_bounds).items()
        },
        lipschitz=_lipschitz(lipschitz),
        unimodal=_peaks(frame, unimodal),
    )


def categorical_of(categorical: Any, frame: Frame) -> dict[str, Sequence[Any] | None]:
    """Reads which columns hold categories.

    Args:
        categorical: "from_dtype", names, numbers or a mask of columns, or by column the
            levels in their order, None where they have none.
        frame: inputs.

    Returns:
        Levels by name, None where they have no order.

    Raises:
        TypeError: it is of another type.
        ValueError: it names no column.
    """
    if categorical is None or (
        isinstance(categorical, str) and categorical == "from_dtype"
    ):
        return {}
    if isinstance(categorical, Mapping):
        chosen = _by_column(frame, "categorical_features", categorical)
        return {
            name: levels
            if levels is None
            else tuple(_sequence(f"categorical_features[{name!r}]", levels))
            for name, levels in chosen.items()
        }
    names = _sequence("categorical_features", categorical)
    mask = np.asarray(names)
    if mask.dtype == bool:
        if len(mask) != len(frame.names):
            raise ValueError(
                f"categorical_features has {len(mask)} marks for {len(frame.names)} columns"
            )
        names = np.flatnonzero(mask).tolist()
    return {_column(frame, "categorical_features", one): None for one in names}


def _signs(frame: Frame, given: Any, classes: Sequence[Any]) -> dict[str, Any]:
    """Returns signs by column; those of classes by class number."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        signs = _sequence("monotone_constraints", given)
        if len(signs) != len(frame.names):
            raise ValueError(
                f"monotone_constraints has {len(signs)} signs for "
                f"{len(frame.names)} columns"
            )
        given = dict(zip(range(len(signs)), signs))
    found = {}
    for name, sign in _by_column(frame, "monotone_constraints", given).items():
        if isinstance(sign, Mapping):
            found[name] = {
                _class(name, label, classes): _sign(name, one)
                for label, one in sign.items()
            }
        elif _sign(name, sign):
            if len(classes) > 2:
                raise ValueError(
                    f"monotone_constraints[{name!r}]: of {len(classes)} classes, name "
                    f"those that become more or less probable, e.g. {{{classes[-1]!r}: 1}}"
                )
            found[name] = _sign(name, sign)
    return found


def _class(name: str, label: Any, classes: Sequence[Any]) -> int:
    known = list(classes)
    if len(known) <= 2 or label not in known:
        raise ValueError(
            f"monotone_constraints[{name!r}]: {label!r} is none of "
            f"{'three or more classes' if len(known) <= 2 else f'the classes {known}'}"
        )
    return known.index(label)


def _sign(name: str, sign: Any) -> int:
    words = {"pos": 1, "neg": -1, "no_cst": 0, "increasing": 1, "decreasing": -1}
    sign = words.get(sign, sign) if isinstance(sign, str) else sign
    if isinstance(sign, (str, bool)) or np.ndim(sign) or sign not in (-1, 0, 1):
        raise ValueError(
            f"monotone_constraints[{name!r}] must be -1, 0 or 1, got {described(sign)}"
        )
    return int(sign)


def _groups(frame: Frame, word: str, given: Any) -> tuple[tuple[str, ...], ...]:
    """Returns groups of columns; a column by itself is a group of one."""
    if given is None:
        return ()
    groups = []
    for one in [given] if isinstance(given, (str, int)) else _sequence(word, given):
        alone = isinstance(one, (str, int, np.integer))
        members = [one] if alone else _sequence(word, one)
        group = tuple(_column(frame, word, member) for member in members)
        if not group or len(set(group)) < len(group):
            raise ValueError(f"{word}: a group must name each of its columns once")
        groups.append(group)
    return tuple(groups)


def _peaks(frame: Frame, given: Any) -> dict[str, float | None]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        peaks = _by_column(frame, "unimodal", given)
        for name, peak in peaks.items():
            if peak is not None:
                check_number(f"unimodal[{name!r}]", peak)
        return peaks
    names = [given] if isinstance(given, (str, int)) else _sequence("unimodal", given)
    return {_column(frame, "unimodal", one): None for one in names}


def _pair(name: str, given: Any) -> tuple[float | None, float | None]:
    if given is None:
        return None, None
    ends = _sequence(name, given)
    if len(ends) != 2:
        raise ValueError(f"{name} must be (least, greatest), got {described(given)}")
    for end in ends:
        if end is not None:
            check_number(name, end, finite=False)
    low = -np.inf if ends[0] is None else float(ends[0])
    high = np.inf if ends[1] is None else float(ends[1])
    if not low < high:
        raise ValueError(f"{name}: {low:g} is not below {high:g}")
    return None if low == -np.inf else low, None if high == np.inf else high


def _lipschitz(given: Any) -> float | None:
    if given is None:
        return None
    check_number("lipschitz", given, above=0)
    return float(given)


def _by_column(frame: Frame, word: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{word} must be a dict by column, got {described(given)}")
    return {_column(frame, word, key): value for key, value in given.items()}


def _sequence(word: str, given: Any) -> list[Any]:
    unordered = (str, bytes, Mapping, set, frozenset)
    if isinstance(given, unordered) or not isinstance(given, Iterable):
        raise TypeError(f"{word} must be a sequence, got {described(given)}")
    return list(given)


def _column(frame: Frame, word: str, given: Any) -> str:
    """Returns the name of a column that is given by name or by number."""
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool):
        if not 0 <= given < len(frame.names):
            raise ValueError(
                f"{word}: there is no column {given} of {len(frame.names)}"
            )
        return frame.names[given]
    if given not in frame.names:
        known = ", ".join(map(repr, frame.names[:20]))
        raise ValueError(f"{word}: there is no column {given!r}; there are {known}")
    return str(given)
