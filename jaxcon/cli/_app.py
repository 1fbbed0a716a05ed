"""Commands of the command line: fit, predict and example."""

import contextlib
import csv
import os
import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from jaxcon import report, tabular
from jaxcon.cli import _folder
from jaxcon.cli._arguments import OF_ENSEMBLES, OF_METHODS, parse
from jaxcon.cli._ensemble import fit_table, predict_table, read_model
from jaxcon.cli._proofs import certify_network, certify_run
from jaxcon.cli._record import read_run, write_json, writing
from jaxcon.cli._tables import ask_target, read_task
from jaxcon.cli._words import printable, say
from jaxcon.comparison import Evaluator, train
from jaxcon.examples import STUDIES, TABLES, TableExample
from jaxcon.tabular import Rules, Settings, TableError
from jaxcon.tabular._checks import RANGES, check_flag, check_rules
from jaxcon.tabular._csv import digest, parse_csv, read_bytes
from jaxcon.tabular._table import check_path, listed, no_column
from jaxcon.training import NonFiniteError

# Violation found by search from which on a single method's fit is said to be broken.
_BROKEN = 1e-3


def dispatch(arguments: Sequence[str]) -> int:
    """Parses the arguments and runs the command that they name.

    Args:
        arguments: those of the command line.

    Returns:
        The exit code: 3 where a fit breaks a rule, else 0.
    """
    given = parse(arguments)
    for name in ("data", "run", "out"):
        path = getattr(given, name, None)
        if path is not None:
            check_path("--out" if name == "out" else "the path", path)
            setattr(given, name, Path(path))
    if getattr(given, "resume", False) and given.out is None:
        raise TableError("--resume needs --out: the folder of the run to go on with")
    commands = {"fit": _fit, "predict": _predict, "certify": _certify}
    commands |= {"example": _example}
    return commands[given.name_of_command](given)


def _fit(given: Namespace) -> int:
    """Fits an ensemble to a table, or a network by one method or all."""
    data, rules = given.data, given.rules
    if given.compare and given.method:
        raise TableError("--compare trains in every method; leave out --method")
    by_method = given.compare or given.method is not None
    for name in OF_ENSEMBLES if by_method else OF_METHODS:
        if name in given.given:
            flag = f"--{name.replace('_', '-')}"
            one, other = "an ensemble", "networks by --method or --compare"
            one, other = (one, other) if by_method else (other, one)
            raise TableError(f"{flag} is for {one}, not for {other}")
    # Read once: a pipe has nothing to give a second time.
    content = None if data is None else read_bytes(data)
    if content is not None:
        given.target = ask_target(given, content)
    if not by_method:
        return fit_table(read_task(given, content), given)
    target, source = given.target, None
    if data is None or content is None:
        example = _engel(target, given.inputs, rules)
    else:
        if target in given.inputs:
            raise TableError(f"--inputs: {target!r} is the target")
        columns = (*given.inputs, target) if given.inputs else None
        table = parse_csv(content, data, columns)
        example = TableExample(table, target, rules, truth=None)
        path = str(data.resolve() if data.is_file() else data)
        source = {"path": path, "sha256": digest(content)}
    held = example.rules != Rules()
    if given.compare and not held:
        raise TableError("--compare needs something to hold, e.g. --increasing COLUMN")
    name = "engel" if data is None else data.stem
    rows = _run(example, given, given.method, name, source)
    if given.method in (None, "unconstrained"):
        return 0
    worst = max(float(row["violation (search)"]) for row in rows)
    if worst <= _BROKEN:
        return 0
    say(
        f"broken: a search found a violation of {worst:.2g}. Try more --steps, a greater "
        "--margin, or an ensemble, which needs no --method"
    )
    return 3


def _predict(given: Namespace) -> int:
    """Applies a fitted model to new rows."""
    run = read_run(given.run)
    if "model" in run:
        _write(given.out, *predict_table(given, run))
        return 0
    if given.level is not None:
        raise TableError(f"--level: {given.run} is of a method, which has no intervals")
    scaling, params = _folder.read_model(given.run, given.method)
    x = tabular.read_csv(given.data, scaling.inputs).values
    predicted = scaling.predict(params, x)
    lost = np.flatnonzero(~np.isfinite(predicted))
    if lost.size:
        raise TableError(
            f"{given.data}: row {lost[0] + 1} lies so far outside the box that the model "
            "was fitted in that its prediction is not finite"
        )
    outside = int(np.any((x < scaling.lower) | (x > scaling.upper), axis=1).sum())
    names = [report.csv_text(name) for name in (*scaling.inputs, scaling.target)]
    _write(given.out, names, np.column_stack([x, predicted]).tolist())
    if outside:
        say(
            f"{outside} of {len(x)} rows lie outside the box that the model was fitted "
            "in, where its constraints were not enforced"
        )
    return 0


def _certify(given: Namespace) -> int:
    """Proves the rules of a fitted model again."""
    run = read_run(given.run)
    if "model" not in run:
        scaling, params = _folder.read_model(given.run, given.method)
        rules = Rules(**run["rules"])
        check_rules(rules, scaling.target, list(scaling.inputs))
        return certify_network(scaling, params, rules, given.seconds)
    if given.method is not None:
        raise TableError(f"--method: {given.run} is of an ensemble, not of methods")
    if run["model"] is None:
        raise TableError(f"{given.run} holds a run that was stopped before it trained")
    return certify_run(read_model(given.run, run["model"]), given.seconds)


def _example(given: Namespace) -> int:
    """Runs a packaged example."""
    if given.name in TABLES:
        _run(TABLES[given.name](), given, None, given.name, None)
    elif given.name in STUDIES:
        _study(given)
    else:
        known = ", ".join([*TABLES, *STUDIES])
        raise TableError(f"there is no example {given.name!r}; there are {known}")
    return 0


def _study(given: Namespace) -> None:
    """Runs an example's parts and writes each as soon as it is finished."""
    name, seed = given.name, given.settings.seed
    foreign = _flags(given.settings, without=Settings(seed=seed))
    if foreign:
        raise TableError(
            f"{foreign[0]} is for tables; example {name!r} takes --seed and --out"
        )
    check_flag("seed", seed, **RANGES["seed"])
    entries: dict[str, Any] = {"example": name, "seed": seed, "parts": {}, "notes": {}}
    folder, before = _folder.open_folder(given.out, name, given.resume, entries)
    command = ["jaxcon", "example", name, "--seed", str(seed)]
    entries["command"] = shlex.join(command)
    if before is not None:
        entries |= {key: before[key] for key in ("parts", "notes")}
    write_json(folder, entries)
    say(f"{name}: its parts come one by one")

    def show(title: str) -> None:
        table, note = report.markdown(entries["parts"][title]), entries["notes"][title]
        print(f"## {title}\n\n{table}\n{note}\n", flush=True)

    try:
        for title in entries["parts"]:
            show(title)
        for findings in STUDIES[name](seed, len(entries["parts"])):
            entries["parts"][findings.title] = findings.rows
            entries["notes"][findings.title] = findings.note
            _folder.write_findings(folder, findings, entries)
            show(findings.title)
    except KeyboardInterrupt:
        write_json(folder, entries | {"stopped": "stopped by Ctrl-C"})
        raise KeyboardInterrupt(f"stopped by Ctrl-C; {_saved(folder)}") from None
    write_json(folder, entries)
    print(f"everything is in {printable(str(folder))}")


def _saved(folder: Path) -> str:
    place = shlex.quote(str(folder))
    return f"saved in {folder}; the same command with --resume --out {place} goes on"


def _engel(target: str | None, inputs: tuple[str, ...], rules: Rules) -> TableExample:
    """Returns the packaged data, under its own rules unless others are given."""
    engel = TABLES["engel"]()
    own = target in (None, engel.target) and rules == Rules()
    target = engel.target if target is None else target
    if target in inputs:
        raise TableError(f"--inputs: {target!r} is the target")
    for column in (*inputs, target):
        if column not in engel.table.names:
            raise TableError(
                no_column(column, engel.table.names, "Engel's data (no file was given)")
            )
    return engel._replace(target=target, rules=engel.rules if own else rules)


def _run(
    example: TableExample,
    given: Namespace,
    only: str | None,
    name: str,
    data: dict[str, str] | None,
) -> list[report.Row]:
    """Trains by one method or all, writes the run's folder after each, returns rows."""
    (table, target, rules, truth), settings = example, given.settings
    problem, scaling = tabular.problem(table, target, rules, settings, truth)
    methods = tabular.methods(settings)
    methods = methods if only is None else {only: methods[only]}
    entries: dict[str, Any] = {
        "data": data,
        "rows": len(table.values),
        "target": target,
        "rules": asdict(rules),
        "settings": asdict(settings),
        "scaling": scaling.to_json(),
        "methods": list(methods),
    }
    folder, before = _folder.open_folder(given.out, name, given.resume, entries)
    entries["command"] = _command(example, settings, only, name, data)
    run = _folder.RunFolder(folder, entries, before)
    say(f"{name}: {target!r} from {listed(scaling.inputs)}, {len(table.values)} rows")
    if run.finished:
        say(f"{name}: {', '.join(run.finished)} finished before")
    evaluator, method_name = Evaluator(problem), ""
    try:
        for method_name, method in methods.items():
            if method_name in run.finished:
                continue
            say(f"{name}: {method_name}")
            with run.checkpoints(method_name) as checkpoint:
                result = train(
                    problem,
                    method,
                    steps=settings.steps,
                    seed=settings.seed,
                    checkpoint=checkpoint,
                )
            run.finish(evaluator(method_name, method, result))
    except (KeyboardInterrupt, NonFiniteError, OSError) as stop:
        reason = re.sub(r"(; saved in .*)?; \.result holds it$", "", str(stop))
        reason = reason or "stopped by Ctrl-C"
        # The last iterate counts as trained: it can be used for predictions.
        result = getattr(stop, "result", None)
        with contextlib.suppress(OSError):  # of a disk that is full
            run.stop(reason, method_name, result and result.state.params)
        if isinstance(stop, OSError):
            _show(run, target)
        else:
            stop.args = (f"{reason}; {_saved(folder)}",)
        raise
    except ValueError as error:  # a checkpoint of something else, or a damaged one
        raise TableError(str(error)) from None
    _show(run, target)
    run.write_results()
    with writing(folder):
        _plot_curves(folder, example, scaling, run.parameters)
    print(f"everything is in {printable(str(folder))}", flush=True)
    return run.rows


def _show(run: _folder.RunFolder, target: str) -> None:
    """Prints the table of the methods that have finished."""
    if run.rows:
        print(report.markdown(run.rows), end="")
        print(
            f"\nviolations are in standard deviations of {target} per whole range of an"
        )
        print(
            "input (of its square, for curvatures; of --lipschitz, for that)",
            flush=True,
        )


def _plot_curves(
    folder: Path,
    example: TableExample,
    scaling: tabular.Scaling,
    parameters: dict[str, Any],
) -> None:
    """Plots one figure for each constrained input, with all trained methods."""
    rules = example.rules
    shaped = (*rules.increasing, *rules.decreasing, *rules.convex, *rules.concave)
    everywhere = (rules.lower, rules.upper, rules.lipschitz) != (None, None, None)
    # Bounds and Lipschitz constants hold along every input.
    for column in scaling.inputs if everywhere else dict.fromkeys(shaped):
        curves = {
            method_name: tabular.curve(scaling, params, column)
            for method_name, params in parameters.items()
        }
        table, truth = example.table, example.truth
        data = (table.column(column), table.column(scaling.target))
        report.plot_curves(
            tabular.places(scaling, column),
            curves,
            (column, scaling.target),
            folder / f"curve-{_file_name(column, scaling.inputs)}.png",
            # Rows that differ in other inputs too do not lie along the curve.
            data=data if len(scaling.inputs) == 1 else None,
            truth=tabular.true_curve(scaling, truth, column) if truth else None,
        )


def _file_name(column: str, columns: Sequence[str]) -> str:
    """Returns a file name of a column, numbered if two columns would share one."""
    # A name has at most 255 bytes, a letter up to four, and some disks know no case.
    plain = [_folder.short(re.sub(r"\W", "-", name)) for name in columns]
    folded = [name.casefold() for name in plain]
    place = columns.index(column)
    shared = folded.count(folded[place]) > 1
    return f"{plain[place]}-{place}" if shared else plain[place]


def _command(
    example: TableExample,
    settings: Settings,
    only: str | None,
    name: str,
    data: dict[str, str] | None,
) -> str:
    """Returns the command that repeats this run, with every setting."""
    if data is None and name != "engel":
        words = ["jaxcon", "example", name]
    else:
        words = ["jaxcon", "fit", *([] if data is None else [data["path"]])]
        words += ["--target", example.target, "--inputs"]
        words += [column for column in example.table.names if column != example.target]
        words += ["--compare"] if only is None else ["--method", only]
        words += _flags(example.rules)
    return shlex.join([*words, *_flags(settings)])


def _flags(options: Rules | Settings, without: Any = None) -> list[str]:
    """Lists the options as command line flags, without those equal to `without`'s."""
    words = []
    for field in fields(options):
        value = getattr(options, field.name)
        if without is not None and value == getattr(without, field.name):
            continue
        if value is not None and value != ():
            words.append(f"--{field.name.replace('_', '-')}")
            words += map(str, value if isinstance(value, tuple) else [value])
    return words


def _write(out: Path | None, names: list[str], rows: list[list[Any]]) -> None:
    """Writes a new file whole, or none; prints the rows where there is no path."""
    if out is None:
        _write_rows(sys.stdout, names, rows)
        return
    try:
        with open(out, "x", newline="", encoding="utf-8") as file:
            try:
                _write_rows(file, names, rows)
                file.flush()
            except OSError:
                os.unlink(out)
                raise
    except OSError as error:
        raise TableError(f"--out {out} cannot be written: {error.strerror}") from None


def _write_rows(file: Any, names: list[str], rows: list[list[Any]]) -> None:
    writer = csv.writer(file)
    writer.writerow(names)
    writer.writerows(rows)
