"""Commands of the command line: fit, predict and example."""

import csv
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxcon import report, tabular
from jaxcon.cli import _folder
from jaxcon.comparison import Evaluator, train
from jaxcon.examples import STUDIES, TABLES, TableExample
from jaxcon.tabular import Rules, Settings, TableError
from jaxcon.training import Interrupted, NonFiniteError

try:
    import tyro
except ImportError:
    print("jaxcon: the command needs tyro: pip install 'jaxcon[cli]'", file=sys.stderr)
    sys.exit(2)

MethodName = Literal["unconstrained", "penalty", "lagrangian", "augmented"]

app = tyro.extras.SubcommandApp()


def dispatch(arguments: Sequence[str] | None) -> None:
    """Parses the arguments and runs the command that they name.

    Args:
        arguments: those of the command line where None.
    """
    app.cli(
        prog="jaxcon",
        description="Fits networks whose exact derivatives obey constraints.",
        args=arguments,
        # Flags read --increasing and --steps, whatever dataclass holds them.
        config=(tyro.conf.OmitArgPrefixes,),
    )


@app.command
def fit(
    data: tyro.conf.Positional[Path | None] = None,
    *,
    target: str | None = None,
    inputs: tuple[str, ...] = (),
    rules: Rules = Rules(),
    method: MethodName | None = None,
    compare: tyro.conf.FlagCreatePairsOff[bool] = False,
    settings: Settings = Settings(),
    out: Path | None = None,
) -> None:
    """Fits a network to a table under shape constraints on its exact derivatives.

    Args:
        data: CSV of numbers whose first line holds the columns' names. Without it, Engel's
            food expenditure data, increasing and concave in income, by every method.
        target: column to fit.
        inputs: columns to fit it from; all others unless given.
        rules: the shape constraints.
        method: the method of training; the augmented Lagrangian unless given.
        compare: train by every method and compare.
        settings: of the fit.
        out: new folder for the results.
    """
    if compare and method:
        raise TableError("--compare trains in every method; leave out --method")
    if data is None:
        example = _engel(target, inputs, rules)
    elif target is None:
        raise TableError("--target is needed: the column to fit")
    else:
        if target in inputs:
            raise TableError(f"--inputs: {target!r} is the target")
        columns = (*inputs, target) if inputs else None
        table = tabular.read_csv(data, columns)
        example = TableExample(table, target, rules, truth=None)
    held = example.rules != Rules()
    if compare and not held:
        raise TableError("--compare needs something to hold, e.g. --increasing COLUMN")
    every = compare or (data is None and method is None and held)
    only = None if every else method or "augmented"
    name = "engel" if data is None else data.stem
    _run(example, settings, only, out, name, data)


@app.command
def predict(
    run: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[Path],
    *,
    method: str | None = None,
    out: Path | None = None,
) -> None:
    """Applies a fitted model to new rows and prints them with its predictions, as CSV.

    Args:
        run: folder that `jaxcon fit` wrote.
        data: CSV with the columns the model was fitted from.
        method: the method of the parameters; the one trained last unless given.
        out: new CSV to write instead of printing.
    """
    scaling, params = _folder.read_model(run, method)
    x = tabular.read_csv(data, scaling.inputs).values
    outside = int(np.any((x < scaling.lower) | (x > scaling.upper), axis=1).sum())
    if outside:
        say(
            f"{outside} of {len(x)} rows lie outside the box that the model was fitted "
            "in, where its constraints were not enforced"
        )
    names = [*scaling.inputs, scaling.target]
    rows = np.column_stack([x, scaling.predict(params, x)])
    if out is None:
        _write_rows(sys.stdout, names, rows)
        return
    try:
        with open(out, "x", newline="", encoding="utf-8") as file:
            _write_rows(file, names, rows)
    except OSError as error:
        raise TableError(f"--out {out} cannot be written: {error.strerror}") from None


@app.command
def example(
    name: tyro.conf.Positional[str],
    *,
    settings: Settings = Settings(),
    out: Path | None = None,
) -> None:
    """Runs a packaged example and compares every method on it.

    Args:
        name: one of: engel, call-surface (tables), smoothing, probabilities, bounded,
            sparse, ordering, doubling, positive, conservation, rates, poisson, front,
            diffusion.
        settings: of the fit; all but the seed are for the examples that are tables.
        out: new folder for the results.
    """
    if name in TABLES:
        _run(TABLES[name](), settings, None, out, name, None)
    elif name in STUDIES:
        _study(name, settings, out)
    else:
        known = ", ".join([*TABLES, *STUDIES])
        raise TableError(f"there is no example {name!r}; there are {known}")


def _study(name: str, settings: Settings, out: Path | None) -> None:
    """Runs an example's parts and writes each as soon as it is finished."""
    foreign = _flags(settings, without=Settings(seed=settings.seed))
    if foreign:
        raise TableError(
            f"{foreign[0]} is for tables; example {name!r} takes --seed and --out"
        )
    if not 0 <= settings.seed < 2**32:
        raise TableError(f"--seed {settings.seed} is out of range")
    folder = _folder.new_folder(out, name)
    command = ["jaxcon", "example", name, "--seed", str(settings.seed)]
    entries: dict[str, Any] = {"command": shlex.join(command), "parts": {}}
    say(f"{name}: its parts come one by one")
    try:
        for findings in STUDIES[name](settings.seed):
            entries["parts"][findings.title] = findings.rows
            _folder.write_findings(folder, findings)
            _folder.write_json(folder, entries)
            print(f"## {findings.title}\n\n{report.markdown(findings.rows)}")
            print(f"{findings.note}\n", flush=True)
    except KeyboardInterrupt:
        entries["stopped"] = "stopped by Ctrl-C"
        raise KeyboardInterrupt(f"stopped by Ctrl-C; saved in {folder}") from None
    finally:
        _folder.write_json(folder, entries)
    print(f"everything is in {folder}")


def _engel(target: str | None, inputs: tuple[str, ...], rules: Rules) -> TableExample:
    """Returns the packaged data, under its own rules unless others are given."""
    engel = TABLES["engel"]()
    if (target or engel.target) in inputs:
        raise TableError(f"--inputs: {target or engel.target!r} is the target")
    for column in (*inputs, *filter(None, [target])):
        if column not in engel.table.names:
            raise TableError(
                f"Engel's data (no file was given) has no column {column!r}; it has "
                f"{', '.join(map(repr, engel.table.names))}"
            )
    own = target in (None, engel.target) and rules == Rules()
    return engel._replace(
        target=target or engel.target, rules=engel.rules if own else rules
    )


def _run(
    example: TableExample,
    settings: Settings,
    only: str | None,
    out: Path | None,
    name: str,
    data: Path | None,
) -> None:
    """Trains by one method or all, and writes the run's folder after each."""
    table, target, rules, truth = example
    problem, scaling = tabular.problem(table, target, rules, settings, truth)
    methods = tabular.methods(settings)
    methods = methods if only is None else {only: methods[only]}
    folder = _folder.new_folder(out, name)
    evaluator, evaluations, parameters = Evaluator(problem), [], {}
    entries: dict[str, Any] = {
        "command": _command(example, settings, only, name, data),
        "data": None
        if data is None
        else {"path": str(data.resolve()), "sha256": _folder.file_hash(data)},
        "rows": len(table.values),
        "target": target,
        "rules": asdict(rules),
        "settings": asdict(settings),
        "scaling": scaling.to_json(),
        "trained": [],
    }

    def record() -> None:
        entries["trained"] = list(parameters)
        entries["results"] = report.rows(evaluations)
        entries["worst points"] = {
            evaluation.name: evaluation.worst_points for evaluation in evaluations
        }
        _folder.write_parameters(folder, parameters)
        _folder.write_json(folder, entries)

    record()
    try:
        for method_name, method in methods.items():
            say(f"{name}: {method_name}")
            try:
                result = train(
                    problem, method, steps=settings.steps, seed=settings.seed
                )
            except (Interrupted, NonFiniteError) as stop:
                # The last iterate counts as trained: it can be used for predictions.
                parameters[method_name] = stop.result.state.params
                entries["stopped"] = f"{method_name}: {stop}"
                raise
            parameters[method_name] = result.state.params
            evaluations.append(evaluator(method_name, method, result))
            record()
    except (KeyboardInterrupt, NonFiniteError) as stop:
        reason = str(stop) or "stopped by Ctrl-C"
        entries.setdefault("stopped", reason)
        stop.args = (f"{reason.removesuffix('; .result holds it')}; saved in {folder}",)
        raise
    finally:
        record()
        if evaluations:
            _folder.write_results(folder, evaluations)
    print(report.markdown(entries["results"]), end="")
    print(f"\nviolations are in standard deviations of {target} per whole range of an")
    print("input (of its square, for curvatures; of --lipschitz, for that);")
    print(f"everything is in {folder}")
    _plot_curves(folder, example, scaling, parameters)


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
    """Returns a file name of a column, numbered if "a b" and "a-b" would share one."""
    plain = [re.sub(r"\W", "-", name) for name in columns]
    place = columns.index(column)
    shared = plain.count(plain[place]) > 1
    return f"{plain[place]}-{place}" if shared else plain[place]


def _command(
    example: TableExample,
    settings: Settings,
    only: str | None,
    name: str,
    data: Path | None,
) -> str:
    """Returns the command that repeats this run, with every setting."""
    if data is None and name != "engel":
        words = ["jaxcon", "example", name]
    else:
        words = ["jaxcon", "fit", *([] if data is None else [str(data.resolve())])]
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


def _write_rows(file: Any, names: list[str], rows: np.ndarray) -> None:
    writer = csv.writer(file)
    writer.writerow(names)
    writer.writerows(rows.tolist())


def say(message: str) -> None:
    print(f"jaxcon: {message}", file=sys.stderr)
