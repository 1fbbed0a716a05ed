"""Tables to fit ensembles to: what a command line asks for, read and checked."""

import sys
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcon.cli._words import printable, say
from jaxcon.ensembles import Frame, Loss, Options, ShapeRules, read_target
from jaxcon.ensembles._columns import describe_columns
from jaxcon.ensembles._frame import is_missing, scalar_levels
from jaxcon.ensembles._losses import CLASSES, first_score, scale_of
from jaxcon.ensembles._reference import reference
from jaxcon.ensembles._rules import Bounds, resolve
from jaxcon.examples import TABLES
from jaxcon.tabular import Rules, TableError
from jaxcon.tabular._checks import RANGES, check_flag, check_rules, inputs_of
from jaxcon.tabular._columns import Columns, parse_columns
from jaxcon.tabular._csv import File, digest
from jaxcon.tabular._table import LEAST_SPREAD, no_column

# Largest magnitude in scaled units, of which float32 holds the square.
_FAR = 1e18
# Rows from which on some are held out for the report, and levels that are too many.
_HELD_OUT, _LEVELS = 10, 255


class Task(NamedTuple):
    """Table and how an ensemble is to be fitted to it.

    Attributes:
        name: of the run.
        data: path and hash of the file; None of packaged data.
        target: name of the target.
        frame: inputs.
        y: target, (rows,); of classes their numbers.
        classes: labels, in their order; () of numbers.
        left_out: number of rows without a target.
        loss: of the target.
        rules: of the prediction.
        options: of the fit.
        held_out: share of the rows kept for the report.
        asked: rules and settings by flag, for run.json.
    """

    name: str
    data: dict[str, str] | None
    target: str
    frame: Frame
    y: np.ndarray
    classes: tuple[str, ...]
    left_out: int
    loss: Loss
    rules: ShapeRules
    options: Options
    held_out: float
    asked: dict[str, dict[str, Any]]

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Draws the rows that are fitted, and those that are held out."""
        rows = self.frame.rows
        held = round(self.held_out * rows) if rows >= _HELD_OUT else 0
        order = np.random.default_rng(self.options.seed).permutation(rows)
        return np.sort(order[held:]), np.sort(order[:held])

    def part(self, rows: np.ndarray) -> tuple[Frame, np.ndarray]:
        """Returns inputs and targets of some rows."""
        columns = tuple(column[rows] for column in self.frame.columns)
        return self.frame._replace(columns=columns), self.y[rows]

    def describe(self) -> None:
        """Prints what is fitted from which columns."""
        shown = []
        for name, cells in zip(self.frame.names, self.frame.columns):
            lost = sum(map(is_missing, cells)) if cells.dtype == object else None
            lost = np.isnan(cells).sum() if lost is None else lost
            notes = [f"{lost} missing"] if lost else []
            if cells.dtype == object:
                levels = len(scalar_levels(cells))
                notes = [f"{levels} categories", *notes]
                if levels > min(_LEVELS, 0.5 * len(cells)) and len(cells) >= 20:
                    say(f"{name!r} has {levels} categories; --inputs can leave it out")
            shown.append(f"{name!r} ({', '.join(notes)})" if notes else repr(name))
        if len(shown) > 20:
            shown = [*shown[:20], f"{len(shown) - 20} more"]
        rows = self.frame.rows
        say(f"{self.name}: {self.target!r} from {', '.join(shown)}, {rows} rows")
        if self.left_out:
            say(f"{self.left_out} more rows are left out: {self.target!r} is missing")
        if self.classes:
            say(
                f"classes: {', '.join(map(repr, self.classes))}"
                + (
                    f"; rules are of the probability of {self.classes[1]!r}"
                    if len(self.classes) == 2
                    else ""
                )
            )
        if not len(self.split()[1]):
            say(f"all {rows} rows are fitted, and nothing is scored")


def ask_target(given: Namespace, content: bytes) -> str:
    """Returns the target, which a terminal is asked for where it is not given.

    Args:
        given: the command's arguments.
        content: the file's bytes.

    Returns:
        The name of a column.

    Raises:
        TableError: it is not given.
    """
    if given.target is not None:
        return given.target
    names, _ = File(content, given.data).header(given.inputs or None)
    free = [name for name in names if name and name not in given.inputs]
    if not free:
        raise TableError("--target is needed: the column to fit")
    if sys.stdin.isatty() and sys.stderr.isatty():
        print(f"fit {printable(repr(free[-1]))}? [Y/n] ", end="", file=sys.stderr)
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in ("", "y", "yes"):
            return free[-1]
    raise TableError(
        f"--target is needed: the column to fit, e.g. --target {free[-1]!r}, the last one"
    )


def read_task(given: Namespace, content: bytes | None) -> Task:
    """Reads the table and all that the command line asks for.

    Args:
        given: the command's arguments.
        content: the file's bytes; None for Engel's data.

    Returns:
        A `Task`.

    Raises:
        TableError: it names the first fault.
    """
    settings, monotone = given.settings, _signs(given)
    wanted = replace(
        given.rules,
        increasing=_merged(given.rules.increasing, monotone, 1),
        decreasing=_merged(given.rules.decreasing, monotone, -1),
    )
    labels = [given.target] if given.loss == "classes" else []
    as_text = [*given.categorical, *labels]
    if content is None:
        found, data, name = _engel(given, as_text), None, "engel"
        target = "foodexp" if given.target is None else given.target
        new = ("convex_together", "concave_together", "unimodal", "slope")
        if wanted == Rules() and target == "foodexp" and not given.given & {*new}:
            wanted = TABLES["engel"]().rules
    else:
        target, name = given.target, Path(given.data).stem
        if target in given.inputs:
            raise TableError(f"--inputs: {target!r} is the target")
        columns = (*given.inputs, target) if given.inputs else None
        found = parse_columns(content, given.data, columns, as_text)
        path = str(given.data.resolve() if given.data.is_file() else given.data)
        data = {"path": path, "sha256": digest(content)}
    inputs = inputs_of(found.names, target)
    _check_flags(given, settings)
    _check_names("--monotone", tuple(monotone), inputs, target)
    check_rules(wanted, target, inputs)
    rules = _rules(given, wanted, target, inputs)
    _check_names("--categorical", given.categorical, [*inputs, target], None)
    frame, cells, left_out = _rows(found, target)
    if len(cells) < 2:
        raise TableError(
            f"the table has {len(cells)} row{'s' * (len(cells) != 1)} with "
            f"{target!r}; two are the least"
        )
    y, classes, loss = _target(given, target, cells)
    options = Options(
        given.members or Options().members,
        settings.steps if "steps" in given.given else None,
        settings.seed,
        given.batch,
    )
    task = Task(
        name,
        data,
        target,
        frame,
        y,
        classes,
        left_out,
        loss,
        rules,
        options,
        settings.held_out,
        _asked(given, wanted, options.steps),
    )
    _check_room(task)
    return task


def _asked(
    given: Namespace, wanted: Rules, steps: int | None
) -> dict[str, dict[str, Any]]:
    """Returns rules and settings by flag, for run.json."""
    groups = ("convex_together", "concave_together", "slope")
    flags = ("members", "batch", "quantiles", "loss", "log", "categorical")
    flags += ("no_report", "prove")
    rules = asdict(wanted)
    rules |= {one: [*map(list, getattr(given, one))] for one in groups}
    rules |= {"unimodal": list(given.unimodal)}
    settings = {one: getattr(given, one) for one in flags} | {"steps": steps}
    settings |= {one: getattr(given.settings, one) for one in ("seed", "held_out")}
    return {"rules": rules, "settings": settings}


def frame_of(found: Columns) -> Frame:
    """Returns the columns of a file as an ensemble takes them.

    Args:
        found: in the file.

    Returns:
        A `Frame`.
    """
    return Frame(found.names, found.columns, {}, ())


def _engel(given: Namespace, as_text: list[str]) -> Columns:
    """Returns the columns of Engel's data that are asked for."""
    table = TABLES["engel"]().table
    target = "foodexp" if given.target is None else given.target
    for column in (*given.inputs, target):
        if column not in table.names:
            where = "Engel's data (no file was given)"
            raise TableError(no_column(column, table.names, where))
    if target in given.inputs:
        raise TableError(f"--inputs: {target!r} is the target")
    columns = [
        np.array([f"{cell:g}" for cell in cells], object)
        if name in as_text
        else cells.copy()
        for name, cells in zip(table.names, table.values.T)
    ]
    return Columns(table.names, tuple(columns))


def _signs(given: Namespace) -> dict[str, int]:
    """Reads the signs of --monotone by column."""
    signs: dict[str, int] = {}
    for word in ",".join(given.monotone).split(",") if given.monotone else []:
        name = word.strip()
        sign = -1 if name.startswith("-") else 1
        name = name[name[:1] in ("+", "-") :]
        if not name:
            raise TableError("--monotone needs names of columns, e.g. --monotone a,-b")
        if signs.get(name, sign) != sign:
            raise TableError(f"--monotone: {name!r} cannot be both rising and falling")
        if name in signs:
            raise TableError(f"--monotone: {name!r} is named twice")
        signs[name] = sign
    return signs


def _merged(
    named: tuple[str, ...], signs: dict[str, int], sign: int
) -> tuple[str, ...]:
    more = [one for one, own in signs.items() if own == sign and one not in named]
    return (*named, *more)


def _check_flags(given: Namespace, settings: Any) -> None:
    """Refuses numbers out of range, and flags that exclude each other."""
    for name in ("steps", "seed", "held_out"):
        check_flag(name, getattr(settings, name), **RANGES[name])
    if given.members is not None:
        check_flag("members", given.members, least=1, most=1000, whole=True)
    if given.batch is not None:
        check_flag("batch", given.batch, least=1, most=10**7, whole=True)
    for one in given.quantiles:
        check_flag("quantiles", one, above=0, below=1)
    if len(set(given.quantiles)) < len(given.quantiles):
        raise TableError("--quantiles: a level is named twice")
    kinds = [("--quantiles", given.quantiles), ("--loss", given.loss)]
    both = [flag for flag, value in [*kinds, ("--log", given.log)] if value]
    if len(both) > 1:
        raise TableError(f"{both[0]} and {both[1]} are two losses; leave one out")


def _check_names(
    flag: str, names: tuple[str, ...], inputs: list[str], target: str | None
) -> None:
    """Refuses names of no input, of the target, and those named twice."""
    for name in names:
        if name == target:
            raise TableError(f"{flag} {name}: that is the target, not an input")
        if name not in inputs:
            raise TableError(f"{flag}: {no_column(name, inputs, 'the table')}")
        if names.count(name) > 1:
            raise TableError(f"{flag}: {name!r} is named twice")


def _rules(
    given: Namespace, wanted: Rules, target: str, inputs: list[str]
) -> ShapeRules:
    """Returns the rules of an ensemble."""
    for kind in ("convex_together", "concave_together"):
        flag = f"--{kind.replace('_', '-')}"
        for group in getattr(given, kind):
            _check_names(flag, tuple(group), inputs, target)
            if len(group) < 2:
                raise TableError(f"{flag} needs two columns or more, got {group[0]!r}")
    _check_names("--unimodal", given.unimodal, inputs, target)
    sloped: dict[str, tuple[float | None, float | None]] = {}
    for words in given.slope:
        if len(words) != 3:
            raise TableError("--slope needs COLUMN LOW HIGH, e.g. --slope a 0 none")
        name, low, high = words[0], _end(words[1]), _end(words[2])
        _check_names("--slope", (name,), inputs, target)
        if name in sloped:
            raise TableError(f"--slope: {name!r} is named twice")
        if low is None and high is None:
            raise TableError(f"--slope {name}: none and none bound nothing")
        if low is not None and high is not None and not low < high:
            raise TableError(f"--slope {name}: {low} is not below {high}")
        sloped[name] = low, high
    both = {*wanted.increasing, *wanted.decreasing} & {*given.unimodal}
    if both:
        raise TableError(f"{min(both)!r} cannot be both monotone and unimodal")
    return ShapeRules(
        monotone=dict.fromkeys(wanted.increasing, 1)
        | dict.fromkeys(wanted.decreasing, -1),
        convex=(*((one,) for one in wanted.convex), *map(tuple, given.convex_together)),
        concave=(
            *((one,) for one in wanted.concave),
            *map(tuple, given.concave_together),
        ),
        bounds=(wanted.lower, wanted.upper),
        slope_bounds=sloped,
        lipschitz=wanted.lipschitz,
        unimodal=dict.fromkeys(given.unimodal),
    )


def _end(word: str) -> float | None:
    """Reads an end of --slope."""
    if word.lower() == "none":
        return None
    try:
        if not word.isascii() or "_" in word:
            raise ValueError
        value = float(word)
    except ValueError:
        raise TableError(f"--slope: {word!r} is no number, nor none") from None
    check_flag("slope", value, least=-1e30, most=1e30)
    return value


def _rows(found: Columns, target: str) -> tuple[Frame, np.ndarray, int]:
    """Leaves out rows without a target, and returns inputs, targets and their number."""
    cells = found.columns[found.names.index(target)]
    if cells.dtype == object:
        kept = np.array([not is_missing(cell) for cell in cells])
    else:
        kept = ~np.isnan(cells)
    inputs = [
        (name, column[kept])
        for name, column in zip(found.names, found.columns)
        if name != target
    ]
    names, columns = zip(*inputs)
    return Frame(names, columns, {}, ()), cells[kept], int(np.sum(~kept))


def _target(
    given: Namespace, target: str, cells: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...], Loss]:
    """Returns the target as numbers, its classes and its loss."""
    labels = cells.dtype == object
    if labels or given.loss == "classes":
        classes = _in_order({str(cell) for cell in cells})
        some = repr(min(classes))
        if given.loss not in (None, "classes") or given.quantiles or given.log:
            raise TableError(
                f"{target!r} holds labels, e.g. {some}, and the loss is of numbers"
            )
        if len(classes) < 2:
            raise TableError(f"column {target!r} is constant: {some}")
        if len(classes) > min(1000, len(cells) / 2):
            raise TableError(
                f"column {target!r} holds {len(classes)} labels in {len(cells)} rows, "
                f"e.g. {some}: too many for classes"
            )
        place = {label: number for number, label in enumerate(classes)}
        y = np.array([place[str(cell)] for cell in cells], float)
        if len(classes) == 2:
            return y, classes, Loss("binary")
        return y, classes, Loss("multinomial", len(classes))
    spread = float(np.ptp(cells))
    if spread < LEAST_SPREAD:
        word = f"varies by {spread:g}, {LEAST_SPREAD:g} is the least"
        raise TableError(f"column {target!r} {'is constant' if spread == 0 else word}")
    if given.quantiles:
        levels = tuple(sorted(given.quantiles))
        loss = Loss("quantile", len(levels), levels)
    else:
        loss = Loss("log_squared_error" if given.log else given.loss or "squared_error")
    try:
        return read_target(cells, len(cells), loss), (), loss
    except ValueError as error:
        flag = "--log" if given.log else f"--loss {given.loss}"
        words = str(error).replace("y must", f"{target!r} must", 1)
        raise TableError(f"{flag}: {words.split(' for loss')[0]}") from None


def _in_order(labels: set[str]) -> tuple[str, ...]:
    """Sorts labels: numbers by value, else by letters."""
    try:
        return tuple(sorted(labels, key=lambda one: (float(one), one)))
    except ValueError:
        return tuple(sorted(labels))


def _check_room(task: Task) -> None:
    """Refuses rules that contradict each other, and numbers that float32 has not."""
    shaped = (task.rules.monotone, task.rules.convex, task.rules.concave)
    more = (task.rules.slope_bounds, task.rules.unimodal)
    if task.loss.kind == "multinomial" and any((*shaped, *more)):
        raise TableError(
            f"{task.target!r} has {len(task.classes)} classes, whose probabilities "
            "cannot all rise or bend alike; rules along inputs are for numbers and two "
            "classes"
        )
    rows = len(task.y)
    held = round(task.held_out * rows)
    if rows >= _HELD_OUT and min(held, rows - held) < 2:
        raise TableError(
            f"the table has {rows} rows; with --held-out {task.held_out} that leaves fewer "
            "than two to fit or to score"
        )
    if task.loss.kind in CLASSES:
        for flag in ("lower", "upper"):
            if task.asked["rules"][flag] is not None:
                check_flag(flag, task.asked["rules"][flag], least=0, most=1)
    weight = np.ones(rows)
    columns = tuple(
        one._replace(peak=one.center) if one.name in task.rules.unimodal else one
        for one in describe_columns(task.frame, weight, {})
    )
    center, unit = scale_of(task.loss, task.y, weight)
    try:
        kinds, bounds = resolve(task.rules, columns, task.loss, center, unit)
        _check_bounds(task, bounds)
        first = first_score(task.loss, (task.y - center) / unit, weight)
        constant = np.atleast_1d(np.asarray(task.loss.prediction(first, np), float))
        d = sum(one.block.size + one.block.missing for one in columns)
        reference(kinds, bounds, task.loss, constant, d)
    except TableError:
        raise
    except ValueError as error:
        raise TableError(str(error).split("; give its levels")[0]) from None


def _check_bounds(task: Task, bounds: Bounds) -> None:
    """Refuses numbers of rules that float32 has not in scaled units."""
    for flag, value in (("lower", bounds.lower), ("upper", bounds.upper)):
        if not abs(value) <= _FAR:
            raise TableError(
                f"--{flag} {task.asked['rules'][flag]} lies {abs(value):.1g} standard "
                f"deviations of {task.target!r} from its mean, where {_FAR:g} is the most"
            )
    if not np.all(np.abs([*bounds.slope_lower, *bounds.slope_upper]) <= _FAR):
        raise TableError(f"--slope allows more than {_FAR:g} standard deviations")
    steep = np.asarray(bounds.steepness)
    if not np.all((steep >= 1 / _FAR) & (steep <= _FAR)):
        inputs = ", ".join(map(repr, task.frame.names))
        raise TableError(
            f"--lipschitz {task.rules.lipschitz} is out of float32's range over {inputs}"
        )
