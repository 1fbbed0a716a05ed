"""Folder of one run of the command: its files, their writers and readers.

=================== ===========================================================
run.json            every setting, the data's hash, versions, seed, the results
parameters.npz      parameters of every method, by name (arrays only, no pickle)
history.npz         violation and multipliers of every method over the steps
checkpoints         of the method at work, for --resume
table.csv, table.md the comparison
history.png         violation and multipliers over the steps
curve-INPUT.png     fit, slope and curvature against a constrained input
tables.md           all tables of an example in parts; PART.csv, PART.png
=================== ===========================================================

A file is replaced as a whole, and run.json last: whenever the command is killed, run.json
describes what the other files hold. It has a hash of every entry, and of the arrays of
every method.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

from jaxcon import report
from jaxcon.cli._record import (
    machine,
    no_run,
    read_arrays,
    read_run,
    strict,
    write_arrays,
    write_json,
    write_whole,
    writing,
)
from jaxcon.cli._words import say
from jaxcon.comparison import MethodEvaluation
from jaxcon.examples import Findings
from jaxcon.tabular import Scaling, Settings, TableError, init_network

# Seconds between two checkpoints.
INTERVAL = 30

# Entries of run.json that decide what is trained, and the flag or the words for each.
_DECISIVE = {
    "example": "the example",
    "seed": "--seed",
    "target": "--target",
    "methods": "the methods",
    "inputs": "--inputs",
    "classes": "the classes",
    "loss": "the loss",
    "data": "the data",
    "rows": "the number of rows",
    "scaling": "the scaling of the data",
}


def open_folder(
    out: Path | None, name: str, resume: bool, entries: dict[str, Any]
) -> tuple[Path, dict[str, Any] | None]:
    """Makes the folder of a run, or opens that of a run to go on with.

    Args:
        out: the folder, or None for the first free ``jaxcon-runs/NAME-k``.
        name: of the run, used where `out` is None.
        resume: whether to go on with a run that is in `out`.
        entries: those of the run that decide what is trained.

    Returns:
        The folder, and run.json's entries; None if it is a new run.

    Raises:
        TableError: the folder exists, cannot be made, or holds another run.
    """
    if resume and out is not None and out.is_dir():
        left = {path.name.removesuffix(".part") for path in out.iterdir()}
        # A run that was killed at its beginning has no run.json yet.
        begun = {"run.json", "parameters.npz", "history.npz"}
        if left <= begun and not (out / "run.json").exists():
            return out, None
        before = read_run(out)
        _check_same(out, before, strict(entries))
        for name, value in machine().items():
            if before[name] != value:
                say(f"{out} was begun with other {name}; the last bits may differ")
        return out, before
    number = 1
    while out is None:
        free = Path("jaxcon-runs") / f"{short(name)}-{number}"
        out, number = (None if free.exists() else free), number + 1
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise TableError(f"--out {out} exists already; name a new folder") from None
    except OSError as error:
        raise TableError(f"--out {out} cannot be made: {error.strerror}") from None
    return out, None


def _check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses to go on with a run by another command or with other data."""
    if "example" not in {*before, *now} and ("model" in before) == ("methods" in now):
        one, other = "an ensemble", "methods"
        one, other = (one, other) if "model" in before else (other, one)
        raise TableError(f"--resume: the methods: {folder} is of {one}, not of {other}")
    pairs: dict[str, tuple[Any, Any]] = {
        f"--{name.replace('_', '-')}": (before.get(part, {}).get(name), value)
        for part in ("rules", "settings")
        for name, value in now.get(part, {}).items()
    }
    then, value = before.get("scaling"), now.get("scaling")
    if then and value:
        pairs["--inputs"] = then["inputs"], value["inputs"]
    for entry, words in _DECISIVE.items():
        if entry in before or entry in now:
            pairs[words] = before.get(entry), now.get(entry)
    then, value = pairs.get("the data", (None, None))
    if then and value:
        pairs["the data"] = f"SHA-256 {then['sha256']}", f"SHA-256 {value['sha256']}"
    for words, (then, value) in pairs.items():
        if then != value:
            raise TableError(
                f"--resume: {words}: {_shown(then)} in {folder}, {_shown(value)} now"
            )


def _shown(value: Any) -> str:
    if value in (None, []):
        return "not given"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return repr(value) if isinstance(value, str) else str(value)


class RunFolder:
    """Folder of a fit, with what its methods have reached.

    Attributes:
        parameters: networks by method, those of a stopped method too.
        rows: of the table, for each finished method.
    """

    def __init__(
        self, folder: Path, entries: dict[str, Any], before: dict[str, Any] | None
    ):
        self.folder, self._entries = folder, entries
        self.parameters: dict[str, Any] = {}
        self.rows: list[report.Row] = []
        self._traces: dict[str, report.Trace] = {}
        self._places: dict[str, Any] = {}
        if before is not None:
            self._read(before)
        self.write()

    @property
    def finished(self) -> list[str]:
        """Names of the methods that have finished."""
        return [str(row["method"]) for row in self.rows]

    def finish(self, evaluation: MethodEvaluation) -> None:
        """Writes a method that has finished, and deletes its checkpoints."""
        name, result = evaluation.name, evaluation.result
        self.parameters[name] = result.state.params
        self._traces[name] = report.trace(result)
        self._places[name] = evaluation.worst_points
        self.rows += report.rows([evaluation])
        try:
            self.write()
        except OSError:  # a full disk, which the checkpoints help to fill
            shutil.rmtree(self._checkpoints(name), ignore_errors=True)
            self.write()
        shutil.rmtree(self._checkpoints(name), ignore_errors=True)
        with suppress(OSError):  # a method that was stopped has its own there
            self._checkpoints(name).parent.rmdir()

    def stop(self, reason: str, method: str, params: Any) -> None:
        """Writes why a run was stopped, and what the method at work had reached."""
        if params is not None:
            self.parameters[method] = params
            reason = f"{method}: {reason}"
        self._entries["stopped"] = reason
        self.write()
        if self.rows:
            self.write_results()

    def write(self) -> None:
        """Writes the arrays, then run.json."""
        traces = {name: one._asdict() for name, one in self._traces.items()}
        self._entries |= {
            "trained": list(self.parameters),
            "results": self.rows,
            "worst points": self._places,
            "parameters": write_arrays(self.folder / "parameters.npz", self.parameters),
            "histories": write_arrays(self.folder / "history.npz", traces),
        }
        write_json(self.folder, self._entries)

    def write_results(self) -> None:
        """Writes the table, as CSV and as Markdown, and the history's figure."""
        table = report.markdown(self.rows)
        with writing(self.folder):
            report.write_csv(self.rows, self.folder / "table.csv")
            (self.folder / "table.md").write_text(table, encoding="utf-8")
            report.plot_history(self._traces, self.folder / "history.png")

    @contextmanager
    def checkpoints(self, method: str) -> Iterator[Any]:
        """Opens the checkpoints of a method.

        Args:
            method: its name.

        Yields:
            An orbax manager; None without orbax.
        """
        try:
            import orbax.checkpoint as ocp
        except ImportError:
            say(
                "the run is not saved as it goes, and cannot be resumed: pip install "
                "'jaxcon[checkpoint]'"
            )
            yield None
            return
        for name in ("absl", "asyncio"):  # orbax logs what it raises as well
            logging.getLogger(name).setLevel(logging.CRITICAL)
        policies = ocp.checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            save_decision_policy=policies.ContinuousCheckpointingPolicy(
                minimum_interval_secs=INTERVAL
            ),
        )
        # Orbax needs a full path.
        folder = self._checkpoints(method).resolve()
        manager = ocp.CheckpointManager(folder, options=options)
        try:
            yield manager
        finally:
            with suppress(Exception):  # `fit` has told what could not be saved
                manager.close()

    def _checkpoints(self, method: str) -> Path:
        return self.folder / "checkpoints" / method.replace(" ", "-")

    def _read(self, before: dict[str, Any]) -> None:
        """Reads back the methods that have finished."""
        for row in before["results"]:
            name = row["method"]
            self.rows.append(
                {
                    key: value if key == "method" else float(value)
                    for key, value in row.items()
                }
            )
            scaling, settings = before["scaling"], Settings(**before["settings"])
            like = _network_of(Scaling.from_json(scaling), settings)
            self.parameters[name] = read_arrays(
                self.folder, "parameters.npz", name, like, before["parameters"]
            )
            like = dict.fromkeys(report.Trace._fields)
            trace = read_arrays(
                self.folder, "history.npz", name, like, before["histories"]
            )
            self._traces[name] = report.Trace(**trace)
            self._places[name] = before["worst points"][name]


def write_findings(folder: Path, findings: Findings, entries: dict[str, Any]) -> None:
    """Writes one part of an example: its table, as CSV and Markdown, and its figures.

    Args:
        folder: of the run.
        findings: those of the part.
        entries: of run.json, with the part's.
    """
    name = findings.title.replace(" ", "-")
    with writing(folder):
        report.write_csv(findings.rows, folder / f"{name}.csv")
        for figure, draw in findings.figures.items():
            draw(folder / f"{figure}.png")
    tables = "".join(
        f"## {title}\n\n{report.markdown(rows)}\n{entries['notes'][title]}\n\n"
        for title, rows in entries["parts"].items()
    )
    write_whole(
        folder / "tables.md", lambda path: path.write_text(tables, encoding="utf-8")
    )
    write_json(folder, entries)


def read_model(folder: Path, method: str | None) -> tuple[Scaling, Any]:
    """Reads the scaling and the parameters of a run.

    Args:
        folder: of the run.
        method: the method of the parameters; None for the last one trained.

    Returns:
        The `Scaling` and the network's parameters.

    Raises:
        TableError: the folder holds no run, an altered one, or not that method.
    """
    run = read_run(folder)
    if "scaling" not in run:
        raise no_run(folder, "run.json is of an example without a table")
    scaling, trained = Scaling.from_json(run["scaling"]), run["trained"]
    if not trained:
        raise TableError(f"{folder} holds a run that was stopped before it trained")
    method = str(trained[-1] if method is None else method)
    if method not in trained:
        known = ", ".join(map(repr, trained))
        raise TableError(f"{folder} has no method {method!r}; it has {known}")
    like = _network_of(scaling, Settings(**run["settings"]))
    hashes = run["parameters"]
    return scaling, read_arrays(folder, "parameters.npz", method, like, hashes)


def short(name: str) -> str:
    """Returns the beginning of a name, short enough for that of a file.

    Args:
        name: of any length.

    Returns:
        At most 50 letters.
    """
    return name[:50]


def _network_of(scaling: Scaling, settings: Settings) -> Any:
    """Returns shapes and dtypes of a run's network."""
    sizes = (len(scaling.inputs), *(settings.width,) * settings.depth, 1)
    return jax.eval_shape(lambda: init_network(jax.random.key(0), sizes))
