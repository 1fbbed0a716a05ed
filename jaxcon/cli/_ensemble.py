"""Fits of ensembles by the command, their folders, and their predictions.

================= =============================================================
run.json          every setting, the data's hash, versions, results and verdicts
model.safetensors the ensemble; its hash stands in run.json
report.md         errors beside plain models, the verdict on each rule
rule-INPUT.png    the fit along an input that a rule names
pair-A-B.png      the fit over two inputs in which it bends jointly
calibration.png   shares of new targets in the intervals
checkpoint.npz    of a training that was stopped, for --resume
================= =============================================================
"""

import hashlib
import json
import re
import shlex
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from jaxcon import ensembles, report
from jaxcon.cli import _folder
from jaxcon.cli._proofs import proofs_of
from jaxcon.cli._record import (
    no_run,
    strict,
    write_json,
    write_whole,
    writing,
)
from jaxcon.cli._tables import Task, frame_of
from jaxcon.cli._words import printable, say
from jaxcon.ensembles import Ensemble, EnsembleFit, Frame, load_ensemble, save_ensemble
from jaxcon.ensembles._frame import is_missing
from jaxcon.ensembles._proofs import BUDGET
from jaxcon.ensembles._report import error, error_name
from jaxcon.tabular import TableError
from jaxcon.tabular._checks import check_flag
from jaxcon.tabular._columns import parse_columns
from jaxcon.tabular._csv import read_bytes
from jaxcon.training._signals import Signals

_MODEL, _CHECKPOINT, _REPORT = "model.safetensors", "checkpoint.npz", "report.md"
# Figures along inputs where every input has a rule, as bounds are.
_FIGURES = 12


def fit_table(task: Task, given: Namespace) -> int:
    """Fits an ensemble, and writes its folder as it goes.

    Args:
        task: of `read_task`.
        given: the command's arguments.

    Returns:
        The exit code: 3 where a rule does not hold, else 0.

    Raises:
        ImportError: safetensors is not installed.
        TableError: the folder cannot be made, or holds another run.
    """
    if find_spec("safetensors") is None:
        raise ImportError(
            "an ensemble's file needs safetensors: pip install 'jaxcon[cli]'"
        )
    entries: dict[str, Any] = {
        "data": task.data,
        "rows": task.frame.rows,
        "target": task.target,
        "inputs": list(task.frame.names),
        "classes": list(task.classes),
        "loss": task.loss.kind,
        **task.asked,
    }
    folder, before = _folder.open_folder(given.out, task.name, given.resume, entries)
    entries["command"] = _command(task)
    run = _Run(folder, entries, before)
    task.describe()
    try:
        fit = run.kept() or run.train(task)
        run.prove(fit)
        if not run.entries["results"]:
            run.report(task, fit)
    except BaseException as stop:
        run.stop(stop)
        raise
    run.show(given.json)
    return run.code


class _Run:
    """Folder of a fit, and the entries of its run.json.

    Attributes:
        entries: of run.json.
    """

    def __init__(
        self, folder: Path, entries: dict[str, Any], before: dict[str, Any] | None
    ):
        self.folder = folder
        kept: dict[str, Any] = dict.fromkeys(("model", "fit"))
        kept |= {"seconds": {}, "results": [], "verdicts": [], "notes": []}
        self.entries: dict[str, Any] = entries | kept
        if before is not None:
            self.entries |= {name: before[name] for name in kept}
        self._at = (0, 0)
        write_json(folder, self.entries)

    @property
    def code(self) -> int:
        """Returns the exit code."""
        return 0 if all(one["holds"] for one in self.entries["verdicts"]) else 3

    def kept(self) -> EnsembleFit | None:
        """Reads back a fit that was trained to its end; None if there is none."""
        if self.entries["fit"] is None or not self.entries["fit"]["whole"]:
            return None
        say(f"{self.folder}: fitted before")
        ensemble = read_model(self.folder, self.entries["model"])
        kept = self.entries["fit"]
        return EnsembleFit(
            ensemble,
            losses=np.array(kept["losses"], float),
            decay=kept["decay"],
            own=np.array(kept["own"], float),
            steps=kept["steps"],
            residuals=tuple(map(float, kept["residuals"])),
            active=tuple(map(float, kept["active"])),
        )

    def train(self, task: Task) -> EnsembleFit:
        """Fits the ensemble, and writes it."""
        begun, marks = time.monotonic(), []
        rows, _ = task.split()
        with Signals() as signals, _Bar() as move:

            def watch(done: int, steps: int, loss: float) -> None:
                # From now on a signal waits for the end of a call of the program, so
                # that what was reached is whole.
                signals.deferred = True
                marks.append(time.monotonic())
                self._at = done, steps
                move(done, steps, loss)
                signals.check()

            try:
                fit = ensembles.fit_ensemble(
                    *task.part(rows),
                    task.loss,
                    task.rules,
                    options=task.options,
                    watch=watch,
                    checkpoint=self.folder / _CHECKPOINT,
                )
            except ValueError as fault:  # a checkpoint of another fit, or a damaged one
                raise TableError(str(fault)) from None
            seconds = {"all": time.monotonic() - begun}
            if len(marks) > 2:
                usual = float(np.median(np.diff(marks)))
                seconds["compiling"] = max(0.0, marks[0] - begun - usual)
            self.entries["seconds"] = seconds
            self.write(fit, whole=True)
            signals.check()
        return fit

    def write(self, fit: EnsembleFit, whole: bool) -> None:
        """Writes the ensemble, then run.json.

        Args:
            fit: as far as it went.
            whole: whether it went to its end.
        """
        path = self.folder / _MODEL
        with writing(path):
            extra = {name: self.entries[name] for name in ("target", "classes")}
            save_ensemble(fit.ensemble, path, extra)
        self.entries["model"] = {"sha256": _digest(path)}
        numbers = {"whole": whole} | fit._asdict()
        del numbers["ensemble"]
        self.entries["fit"] = strict(numbers)
        self._judge(fit, None)

    def prove(self, fit: EnsembleFit) -> None:
        """Proves the rules, unless that was done, and writes the verdicts."""
        budget = self.entries["settings"]["prove"]
        budget = BUDGET if budget is None else budget
        if budget and any(one["proof"] is None for one in self.entries["verdicts"]):
            self._judge(fit, proofs_of(fit.ensemble, "prove", budget))

    def _judge(self, fit: EnsembleFit, proofs: Any) -> None:
        """Writes the verdict on each rule."""
        self.entries["verdicts"] = [
            strict(one._asdict())
            | {"proof": one.proof and strict(one.proof._asdict())}
            | {"holds": one.holds, "sentence": str(one)}
            for one in ensembles.verdicts(fit, proofs)
        ]
        write_json(self.folder, self.entries)

    def report(self, task: Task, fit: EnsembleFit) -> None:
        """Sets the fit beside plain models, and writes the report and the figures."""
        train, test = (task.part(rows) for rows in task.split())
        notes: list[str] = []
        label = error_name(task.loss)
        if len(test[1]) and not self.entries["settings"]["no_report"]:
            say("fitting plain models to compare with")
            made = ensembles.report(fit, train, test, task.rules, options=task.options)
            rows, notes = made.rows, list(made.notes)
            self.entries["fit"] |= {"cost": made.cost, "cost_error": made.cost_error}
        else:
            parts = {"training": train, "held-out": test} if len(test[1]) else {}
            rows: list[dict[str, Any]] = [{"model": "this fit"}]
            for name, (frame, y) in (parts or {"training": train}).items():
                predicted = fit.ensemble.predict(frame)
                rows[0][f"{name} {label}"] = error(task.loss, y, predicted)
        self.entries |= {"results": strict(rows), "notes": notes}
        text = f"# {task.name}: {task.target}\n\n{report.markdown(rows)}\n"
        text += "".join(f"- {line}\n" for line in self._sentences())
        write_whole(
            self.folder / _REPORT, lambda path: path.write_text(text, encoding="utf-8")
        )
        with writing(self.folder):
            _draw(self.folder, task, fit.ensemble, train, test)
        write_json(self.folder, self.entries)

    def _sentences(self) -> list[str]:
        return [one["sentence"] for one in self.entries["verdicts"]] + [
            *self.entries["notes"]
        ]

    def show(self, as_json: bool) -> None:
        """Prints the report, and what to try where a rule does not hold."""
        entries = self.entries
        if as_json:
            names = ("target", "inputs", "rows", "classes", "loss", "results")
            found = {name: entries[name] for name in (*names, "notes", "seconds")}
            rules = [
                {name: one[name] for name in one if name != "sentence"}
                for one in entries["verdicts"]
            ]
            found |= {"rules": rules, "obeys": self.code == 0}
            found |= {"folder": str(self.folder)}
            found |= {
                name: entries["fit"][name]
                for name in ("cost", "cost_error")
                if name in entries["fit"]
            }
            print(json.dumps(strict(found), indent=2, allow_nan=False))
        else:
            print(report.markdown(entries["results"]))
            for line in self._sentences():
                print(printable(line))
            text = f"fitted in {entries['seconds']['all']:.1f} s"
            if "compiling" in entries["seconds"]:
                text += (
                    f", about {entries['seconds']['compiling']:.1f} s of it compiling"
                )
            print(text)
            print(f"everything is in {printable(str(self.folder))}", flush=True)
        if self.code:
            broken = [one["rule"] for one in entries["verdicts"] if not one["holds"]]
            say(
                f"broken: {'; '.join(broken)}. Try more --members or more --steps, --log "
                "for a positive target, or drop the rule that the data contradict"
            )

    def stop(self, stop: BaseException) -> None:
        """Writes what was reached, and says in the error how to go on."""
        reason = re.sub(r"; \.result holds it$", "", str(stop))
        interrupted = isinstance(stop, KeyboardInterrupt)
        reason = reason or ("stopped by Ctrl-C" if interrupted else repr(stop))
        done, steps = self._at
        if interrupted and done < steps:
            reason += f" after step {done} of {steps}"
        fit = getattr(stop, "result", None)
        self.entries["stopped"] = reason
        with suppress(OSError):  # of a disk that is full
            if isinstance(fit, EnsembleFit):
                self.write(fit, whole=False)
            else:
                write_json(self.folder, self.entries)
        if interrupted or isinstance(stop, FloatingPointError):
            place = shlex.quote(str(self.folder))
            stop.args = (
                f"{reason}; saved in {self.folder}; the same command with --resume "
                f"--out {place} goes on",
            )


class _Bar:
    """Progress bar on stderr; none where tqdm is missing or stderr is no terminal."""

    def __enter__(self) -> Callable[[int, int, float], None]:
        self._bar: Any = None
        if find_spec("tqdm") is not None:
            from tqdm.auto import tqdm

            self._bar = tqdm(unit=" steps", disable=None)
            self._bar.set_postfix_str("compiling")
        return self._move

    def _move(self, done: int, steps: int, loss: float) -> None:
        if self._bar is not None:
            self._bar.total = steps
            self._bar.set_postfix_str(f"held-out loss {loss:.4g}", refresh=False)
            self._bar.update(done - self._bar.n)

    def __exit__(self, *error: Any) -> None:
        # A closed terminal must not end a finished run.
        with suppress(OSError, ValueError):
            if self._bar is not None:
                self._bar.close()


def _draw(
    folder: Path,
    task: Task,
    ensemble: Ensemble,
    train: tuple[Frame, np.ndarray],
    test: tuple[Frame, np.ndarray],
) -> None:
    """Draws the figures of the rules, and that of the intervals."""
    if find_spec("matplotlib") is None:
        say("no figures are drawn: pip install 'jaxcon[cli]'")
        return
    rules, names = task.rules, task.frame.names
    groups = (*rules.convex, *rules.concave)
    shaped = [*rules.monotone, *(one for group in groups for one in group)]
    shaped += [*rules.slope_bounds, *rules.unimodal]
    if rules.bounds != (None, None) or rules.lipschitz is not None:
        shaped += [one.name for one in ensemble.columns if one.is_number][:_FIGURES]
    plain = {name: _file_name(name, names) for name in names}
    for name in dict.fromkeys(shaped):
        ensembles.plot_rule(ensemble, *train, name, folder / f"rule-{plain[name]}.png")
    for group in groups:
        for first, second in pairwise(group):
            path = folder / f"pair-{plain[first]}-{plain[second]}.png"
            ensembles.plot_pair(ensemble, train[0], first, second, path)
    stated = task.loss.kind == "quantile" or bool(task.classes)
    if (ensemble.calibration is not None or stated) and len(test[1]):
        ensembles.plot_calibration(ensemble, *test, folder / "calibration.png")


def _file_name(column: str, columns: tuple[str, ...]) -> str:
    """Returns a file name of a column, numbered if two columns would share one."""
    plain = [_folder.short(re.sub(r"\W", "-", name)) for name in columns]
    folded = [name.casefold() for name in plain]
    place = columns.index(column)
    shared = folded.count(folded[place]) > 1
    return f"{plain[place]}-{place}" if shared else plain[place]


def _command(task: Task) -> str:
    """Returns the command that repeats a run, with every setting."""
    words = ["jaxcon", "fit", *([] if task.data is None else [task.data["path"]])]
    words += ["--target", task.target, "--inputs", *task.frame.names]
    for name, value in (task.asked["rules"] | task.asked["settings"]).items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif name in ("convex_together", "concave_together", "slope"):
            words += [word for one in value for word in (flag, *one)]
        elif isinstance(value, (list, tuple)):
            words += [flag, *map(str, value)] if value else []
        elif value not in (None, False):
            words += [flag, str(value)]
    return shlex.join(words)


def predict_table(
    given: Namespace, run: dict[str, Any]
) -> tuple[list[str], list[list[Any]]]:
    """Predicts new rows by the ensemble of a run.

    Args:
        given: the command's arguments.
        run: run.json's entries.

    Returns:
        Names of the columns and the rows.

    Raises:
        TableError: the run has no model, the rows cannot be read, or intervals are asked
            for that it has not.
    """
    if given.method is not None:
        raise TableError(f"--method: {given.run} was fitted by an ensemble")
    if given.level is not None:
        check_flag("level", given.level, above=0, below=1)
    if run["model"] is None:
        raise TableError(f"{given.run} holds a run that was stopped before it trained")
    ensemble = read_model(given.run, run["model"])
    if given.level is not None and ensemble.calibration is None:
        raise TableError(
            f"--level: {given.run} predicts "
            f"{'probabilities' if run['classes'] else 'quantiles'}, without intervals"
        )
    columns = ensemble.columns
    frame = frame_of(
        parse_columns(
            read_bytes(given.data),
            given.data,
            [one.name for one in columns],
            categorical=[one.name for one in columns if one.levels],
            numbers=[one.name for one in columns if not one.levels],
        )
    )
    predicted, target = ensemble.predict(frame), run["target"]
    names = [target]
    if run["loss"] == "binary":
        predicted = np.column_stack([1 - predicted, predicted])
    if run["classes"]:
        names = [f"{target}={label}" for label in run["classes"]]
    elif ensemble.loss.levels:
        names = [f"{target} {level:g}" for level in ensemble.loss.levels]
    if given.level is not None:
        ends = ensemble.predict_interval(frame, given.level)
        predicted, names = (
            np.column_stack([predicted, ends]),
            [*names, "lower", "upper"],
        )
    _warn_of(ensemble, frame)
    cells = [
        ["" if is_missing(cell) else _plain(cell) for cell in column.tolist()]
        for column in (*frame.columns, *predicted.T)
    ]
    header = [report.csv_text(name) for name in (*frame.names, *names)]
    return header, [list(row) for row in zip(*cells)]


def _plain(cell: Any) -> Any:
    return report.csv_text(cell) if isinstance(cell, str) else cell


def _warn_of(ensemble: Ensemble, frame: Frame) -> None:
    """Warns of rows outside the box, and of levels that the training data had not."""
    outside = np.zeros(frame.rows, bool)
    for column, cells in zip(ensemble.columns, frame.columns):
        if not column.levels:
            outside |= (cells < column.lower) | (cells > column.upper)
            continue
        known = set(column.levels)
        odd = [cell for cell in cells if not is_missing(cell) and cell not in known]
        if odd:
            some = ", ".join(map(repr, sorted(set(odd))[:3]))
            more = ", ..." if len(set(odd)) > 3 else ""
            say(
                f"{len(odd)} of {frame.rows} rows hold a {column.name!r} that the model "
                f"does not know: {some}{more}"
            )
    if outside.any():
        say(
            f"{outside.sum()} of {frame.rows} rows lie outside the box that the model was "
            "fitted in, and are predicted as at its edge"
        )


def read_model(folder: Path, kept: dict[str, Any]) -> Ensemble:
    """Reads the ensemble of a run, and refuses another than was written.

    Args:
        folder: of the run.
        kept: its hash, from run.json.

    Returns:
        The ensemble.

    Raises:
        TableError: there is none, or it was altered.
    """
    path = folder / _MODEL
    try:
        if _digest(path) != kept["sha256"]:
            raise no_run(folder, f"{_MODEL} was altered since the run was written")
        return load_ensemble(path)[0]
    except FileNotFoundError:
        raise no_run(folder, f"it has no {_MODEL}") from None
    except OSError as fault:
        raise no_run(folder, f"{_MODEL} cannot be read: {fault.strerror}") from None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
