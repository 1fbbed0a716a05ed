"""Arguments of the command line."""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, NoReturn, get_type_hints

from jaxcon.ensembles._proofs import BUDGET
from jaxcon.examples import STUDIES, TABLES
from jaxcon.tabular import Rules, Settings, TableError

METHODS = ("default", "unconstrained", "penalty", "lagrangian", "augmented")
LOSSES = ("squared_error", "absolute_error", "huber", "poisson", "gamma", "classes")
# Flags of methods alone; all of `_add_ensemble` are of ensembles alone.
OF_METHODS = ("width", "depth", "learning_rate", "strength", "margin")
OF_ENSEMBLES = (
    "monotone",
    "convex_together",
    "concave_together",
    "unimodal",
    "slope",
    "categorical",
    "quantiles",
    "loss",
    "log",
    "members",
    "batch",
    "no_report",
    "prove",
    "json",
)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses a command line.

    Args:
        arguments: its words, without the program's name.

    Returns:
        The command and its arguments; "rules" and "settings" where it takes them, and
        "given", the names of those that stand on the line.

    Raises:
        TableError: a word is none of the command's, has no value, or stands twice.
    """
    parser, commands = _parsers()
    words = _joined(list(arguments))
    found, unknown = parser.parse_known_args(words)
    if found.name_of_command is None:
        stray = f"{_short(unknown[0])} is no command; " if unknown else ""
        raise TableError(f"{stray}a command is needed: {', '.join(commands)}")
    flags = [one for one in commands[found.name_of_command]._option_string_actions]
    for word in unknown:
        if word.startswith("-") and word != "-":
            flag = word.split("=")[0]
            (near,) = get_close_matches(flag, flags, n=1, cutoff=0.0)
            raise TableError(f"there is no flag {_short(flag)}; the nearest is {near}")
    if unknown:
        raise TableError(f"{_short(unknown[0])} is one argument too many")
    for kind, name in ((Rules, "rules"), (Settings, "settings")):
        names = [field.name for field in fields(kind)]
        if hasattr(found, names[0]):
            values = {one: found.__dict__.pop(one) for one in names}
            setattr(found, name, kind(**values))
    given = found.__dict__.setdefault("given", set())
    given |= {name for name in OF_ENSEMBLES if getattr(found, name, None)}
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise TableError(message.removeprefix("argument "))


class _Once(argparse.Action):
    """Stores a value, and refuses a second one, which would replace it."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: Any = None
    ) -> None:
        given = namespace.__dict__.setdefault("given", set())
        if option_string is not None and self.dest in given:
            raise argparse.ArgumentError(self, "it is given twice")
        given.add(self.dest)
        setattr(namespace, self.dest, tuple(values) if self.nargs == "+" else values)


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """Builds the parser, and that of each command."""
    parser = _Parser(
        prog="jaxcon",
        description="Fits networks whose exact derivatives obey constraints.",
        allow_abbrev=False,
    )
    each = parser.add_subparsers(dest="name_of_command", parser_class=_Parser)
    commands = {}

    def add(name: str, text: str) -> _Parser:
        commands[name] = each.add_parser(
            name,
            help=text,
            description=text,
            allow_abbrev=False,
        )
        return commands[name]

    _add_fit(
        add(
            "fit",
            "Fits an ensemble of networks to a table under shape rules, or one network by "
            "methods of constrained training.",
        )
    )
    _add_predict(
        add("predict", "Applies a fitted model to new rows and prints them as CSV.")
    )
    certify = add("certify", "Proves the rules of a fitted model on its whole box.")
    _add_model(certify)
    _flag(
        certify,
        "--seconds",
        default=None,
        type=_real,
        metavar="SECONDS",
        help=f"most seconds of the proof (default: {BUDGET:g})",
    )
    _add_example(
        add("example", "Runs a packaged example and compares every method on it.")
    )
    return parser, commands


def _add_fit(fit: _Parser) -> None:
    """Adds the arguments of `jaxcon fit`."""
    fit.add_argument(
        "data",
        nargs="?",
        default=None,
        help="CSV whose first line holds the columns' names, of numbers and categories; "
        "blank, NA, NaN and null cells are missing; without it, Engel's food expenditure "
        "data, increasing and concave in income",
    )
    _flag(
        fit,
        "--target",
        default=None,
        metavar="COLUMN",
        help="column to fit; labels of two or more classes give probabilities",
    )
    _flag(
        fit,
        "--inputs",
        default=(),
        nargs="+",
        metavar="COLUMN",
        help="columns to fit it from; all others unless given",
    )
    _flag(
        fit,
        "--method",
        default=None,
        choices=METHODS,
        help="fit one network by this method instead of an ensemble, to numbers alone",
    )
    fit.add_argument(
        "--compare",
        action="store_true",
        default=False,
        help="fit one network by every method and compare, to numbers alone",
    )
    _add_options(fit, Rules, "rules")
    _add_ensemble(fit)
    _add_options(fit, Settings, "settings")
    _add_folder(fit)


def _add_model(command: _Parser) -> None:
    """Adds the arguments that name a fitted model."""
    command.add_argument("run", help="folder that `jaxcon fit` wrote")
    _flag(
        command,
        "--method",
        default=None,
        help="method of the parameters; the one trained last unless given",
    )


def _add_predict(predict: _Parser) -> None:
    """Adds the arguments of `jaxcon predict`."""
    _add_model(predict)
    predict.add_argument("data", help="CSV with the columns the model was fitted from")
    _flag(
        predict,
        "--level",
        default=None,
        type=_real,
        metavar="SHARE",
        help="also print the ends of intervals that hold this share of new targets",
    )
    _flag(predict, "--out", default=None, help="new CSV to write instead of printing")


def _add_example(example: _Parser) -> None:
    """Adds the arguments of `jaxcon example`."""
    names = f"{', '.join(TABLES)} (tables), {', '.join(STUDIES)}"
    example.add_argument("name", help=f"one of: {names}")
    _add_options(
        example, Settings, "settings; all but the seed are for the examples with tables"
    )
    _add_folder(example)


def _flag(parser: Any, *names: str, **options: Any) -> None:
    parser.add_argument(*names, action=_Once, **options)


def _add_folder(parser: Any) -> None:
    _flag(parser, "--out", default=None, help="new folder for the results")
    parser.add_argument(
        "--resume",
        action="store_true",
        default=False,
        help="go on with the run in --out, which was stopped or killed",
    )


def _add_ensemble(parser: Any) -> None:
    """Adds the flags of ensembles."""
    group = parser.add_argument_group("ensembles (neither --method nor --compare)")
    _add_shapes(group)
    _add_fits(group)


def _add_shapes(group: Any) -> None:
    """Adds the flags of rules that ensembles alone have."""
    _flag(
        group,
        "--monotone",
        default=(),
        type=_listed,
        metavar="A,-B",
        help="inputs along which it must not fall, those with a minus not rise",
    )
    for kind in ("convex", "concave"):
        group.add_argument(
            f"--{kind}-together",
            action="append",
            default=[],
            nargs="+",
            metavar="COLUMN",
            help=f"inputs in which it must be {kind} jointly; may stand again",
        )
    _flag(
        group,
        "--unimodal",
        default=(),
        nargs="+",
        metavar="COLUMN",
        help="inputs along which it must rise to one peak and fall beyond",
    )
    group.add_argument(
        "--slope",
        action="append",
        default=[],
        type=_listed,
        metavar="COLUMN LOW HIGH",
        help="bounds of a slope, in target units per input unit, none for no bound; may "
        "stand again",
    )


def _add_fits(group: Any) -> None:
    """Adds the flags of columns, losses and sizes of an ensemble."""
    _flag(
        group,
        "--categorical",
        default=(),
        nargs="+",
        metavar="COLUMN",
        help="columns whose numbers are names of categories",
    )
    _flag(
        group,
        "--quantiles",
        default=(),
        nargs="+",
        type=_real,
        metavar="LEVEL",
        help="quantiles to fit, that never cross, e.g. 0.05 0.5 0.95",
    )
    _flag(
        group,
        "--loss",
        default=None,
        choices=LOSSES,
        help="of the target: squared_error for numbers, classes for labels unless given",
    )
    group.add_argument(
        "--log",
        action="store_true",
        default=False,
        help="fit a positive target by its logarithm",
    )
    numbers = {"members": "networks of the ensemble", "batch": "rows of a step"}
    for name, text in numbers.items():
        _flag(
            group,
            f"--{name}",
            default=None,
            type=_whole,
            metavar="NUMBER",
            help=f"{text} (default: {8 if name == 'members' else 'by the rows'})",
        )
    group.add_argument(
        "--no-report",
        action="store_true",
        default=False,
        help="fit neither plain models nor one without rules to compare with",
    )
    _flag(
        group,
        "--prove",
        default=None,
        type=_real,
        metavar="SECONDS",
        help=f"most seconds of the proof of the rules, 0 for none (default: {BUDGET:g})",
    )
    group.add_argument(
        "--json",
        action="store_true",
        default=False,
        help="print one JSON object instead of the report",
    )


def _add_options(parser: Any, kind: type, title: str) -> None:
    """Adds a flag for each field of the rules or the settings."""
    group = parser.add_argument_group(title)
    helps, types = _attributes(kind.__doc__ or ""), get_type_hints(kind)
    for field in fields(kind):
        options: dict[str, Any] = {"default": field.default}
        if field.default == ():
            options |= {"nargs": "+", "metavar": "COLUMN"}
        else:
            whole = types[field.name] is int
            options |= {"type": _whole if whole else _real, "metavar": "NUMBER"}
        flag = f"--{field.name.replace('_', '-')}"
        text = helps.get(field.name, "").removesuffix(".").replace("%", "%%")
        if field.name == "steps":
            text += " (default: %(default)s; of an ensemble, by the rows)"
        elif field.name in OF_METHODS:
            text += " (of methods alone; default: %(default)s)"
        elif field.default not in ((), None):
            text += " (default: %(default)s)"
        _flag(group, flag, help=text, **options)


def _attributes(docstring: str) -> dict[str, str]:
    """Reads the sentences on a class's attributes from its docstring."""
    found = re.findall(r"^ {8}(\w+): (.*?)(?=^ {8}\w+: |\Z)", docstring, re.M | re.S)
    return {name: " ".join(text.split()) for name, text in found}


def _joined(words: list[str]) -> list[str]:
    """Joins flags to negative values, which argparse takes for flags."""
    kinds = [*fields(Rules), *fields(Settings)]
    flags = {f"--{one.name.replace('_', '-')}" for one in kinds if one.default != ()}
    joined, place = [], 0
    while place < len(words):
        word, place = words[place], place + 1
        if word in ("--monotone", "--slope"):
            # Columns and bounds may begin with a minus; the rest of them is one word.
            rest = words[place:]
            taken = [*takewhile(lambda one: not one.startswith("--"), rest)]
            taken = taken[:3] if word == "--slope" else taken
            place += len(taken)
            joined.append(f"{word}={json.dumps(taken)}" if taken else word)
            continue
        negative = re.fullmatch(r"-(\d.*|\.\d.*|inf.*|nan)", word, re.I)
        if joined and joined[-1] in flags and negative:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _listed(text: str) -> tuple[str, ...]:
    """Returns the words that `_joined` has joined, or the one that stood after "="."""
    try:
        words = json.loads(text)
    except ValueError:
        words = text
    return tuple(map(str, words)) if isinstance(words, list) else (text,)


def _whole(text: str) -> int:
    try:
        return int(_plain(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no whole number") from None


def _real(text: str) -> float:
    try:
        return float(_plain(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{_short(text)} is no number") from None


def _plain(text: str) -> str:
    """Returns the text of a number, as tables may have it: no 1_000, nor other digits."""
    if not text.isascii() or "_" in text:
        raise ValueError
    return text


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
