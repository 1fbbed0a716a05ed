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

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcon import report
from jaxcon._checks import described
from jaxcon.cli._words import say
from jaxcon.comparison import MethodEvaluation
from jaxcon.examples import Findings
from jaxcon.tabular import Scaling, Settings, TableError, init_network
from jaxcon.tabular._checks import check_settings

# Seconds between two checkpoints.
INTERVAL = 30

# Entries of run.json that decide what is trained, and the flag or the words for each.
_DECISIVE = {
    "example": "the example",
    "seed": "--seed",
    "target": "--target",
    "methods": "the methods",
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
        _check_same(out, before, _strict(entries))
        for name, value in _machine().items():
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
            "parameters": _write_arrays(
                self.folder / "parameters.npz", self.parameters
            ),
            "histories": _write_arrays(self.folder / "history.npz", traces),
        }
        write_json(self.folder, self._entries)

    def write_results(self) -> None:
        """Writes the table, as CSV and as Markdown, and the history's figure."""
        report.write_csv(self.rows, self.folder / "table.csv")
        table = report.markdown(self.rows)
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
        policies = ocp.checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            save_decision_policy=policies.ContinuousCheckpointingPolicy(
                minimum_interval_secs=INTERVAL
            ),
        )
        # Orbax needs a full path.
        folder = self._checkpoints(method).resolve()
        with ocp.CheckpointManager(folder, options=options) as manager:
            yield manager

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
            self.parameters[name] = _read_arrays(
                self.folder, "parameters.npz", name, like, before["parameters"]
            )
            like = dict.fromkeys(report.Trace._fields)
            trace = _read_arrays(
                self.folder, "history.npz", name, like, before["histories"]
            )
            self._traces[name] = report.Trace(**trace)
            self._places[name] = before["worst points"][name]


def write_json(folder: Path, entries: dict[str, Any]) -> None:
    """Writes run.json, with the versions of all libraries of the run and all hashes.

    Args:
        folder: of the run.
        entries: further entries.
    """
    whole = _strict(entries | _machine())
    whole["hashes"] = _hashes(whole)
    text = json.dumps(whole, indent=2, allow_nan=False) + "\n"
    _write(folder / "run.json", lambda path: path.write_text(text, encoding="utf-8"))


def _machine() -> dict[str, Any]:
    """Returns what the last bits of results depend on beside the settings."""
    packages = ("jaxcon", "jax", "jaxlib", "optax", "numpy", "scipy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "versions": versions | {"python": platform.python_version()},
        "device": jax.devices()[0].device_kind,
        "x64": jax.config.jax_enable_x64,  # pyright: ignore[reportAttributeAccessIssue]
    }


def write_findings(folder: Path, findings: Findings, entries: dict[str, Any]) -> None:
    """Writes one part of an example: its table, as CSV and Markdown, and its figures.

    Args:
        folder: of the run.
        findings: those of the part.
        entries: of run.json, with the part's.
    """
    name = findings.title.replace(" ", "-")
    report.write_csv(findings.rows, folder / f"{name}.csv")
    for figure, draw in findings.figures.items():
        draw(folder / f"{figure}.png")
    tables = "".join(
        f"## {title}\n\n{report.markdown(rows)}\n{entries['notes'][title]}\n\n"
        for title, rows in entries["parts"].items()
    )
    _write(folder / "tables.md", lambda path: path.write_text(tables, encoding="utf-8"))
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
        raise _no_run(folder, "run.json is of an example without a table")
    scaling, trained = Scaling.from_json(run["scaling"]), run["trained"]
    if not trained:
        raise TableError(f"{folder} holds a run that was stopped before it trained")
    method = str(trained[-1] if method is None else method)
    if method not in trained:
        known = ", ".join(map(repr, trained))
        raise TableError(f"{folder} has no method {method!r}; it has {known}")
    like = _network_of(scaling, Settings(**run["settings"]))
    hashes = run["parameters"]
    return scaling, _read_arrays(folder, "parameters.npz", method, like, hashes)


def read_run(folder: Path) -> dict[str, Any]:
    """Reads run.json, and refuses one that was not written by the command.

    Args:
        folder: of the run.

    Returns:
        Its entries.

    Raises:
        TableError: there is none, or it was altered; the message names the entry.
    """
    path = folder / "run.json"
    if not os.path.isfile(path):
        raise _no_run(folder, "it has no run.json")
    try:
        text = path.read_text(encoding="utf-8")
        run = json.loads(text)
        if not isinstance(run, dict):
            raise TypeError(f"its entries must have names, got {described(run)}")
        _check_entries(run)
    except OSError as error:
        raise _no_run(folder, f"run.json cannot be read: {error.strerror}") from None
    except RecursionError:
        raise _no_run(folder, "run.json: it is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise _no_run(folder, f"run.json: {error}") from None
    return run


def short(name: str) -> str:
    """Returns the beginning of a name, short enough for that of a file.

    Args:
        name: of any length.

    Returns:
        At most 50 letters.
    """
    return name[:50]


# Types of the entries of a fit, and of those of an example in parts.
_FIT = {
    "command": str,
    "data": dict | None,
    "rows": int,
    "target": str,
    "rules": dict,
    "settings": dict,
    "scaling": dict,
    "methods": list,
    "trained": list,
    "results": list,
    "worst points": dict,
    "parameters": dict,
    "histories": dict,
    "versions": dict,
    "device": str,
    "x64": bool,
    "hashes": dict,
}
_STUDY = {
    "command": str,
    "example": str,
    "seed": int,
    "parts": dict,
    "notes": dict,
    "versions": dict,
    "device": str,
    "x64": bool,
    "hashes": dict,
}


# How messages call these types.
_KINDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "entries by name",
    dict | None: "entries by name, or null",
}


def _check_entries(run: dict[str, Any]) -> None:
    """Refuses entries of another type, out of range or with another hash."""
    types = _STUDY if "example" in run else _FIT
    for name, kind in types.items():
        if name not in run:
            raise ValueError(f"{name!r} is missing")
        if not isinstance(run[name], kind) or (kind is int and run[name] is True):
            raise TypeError(
                f"{name!r} must be {_KINDS[kind]}, got {described(run[name])}"
            )
    for name in run:
        if name not in types and name != "stopped":
            raise ValueError(f"{name!r} is no entry of a run")
    if types is _FIT:
        Scaling.from_json(run["scaling"])
        wanted = list(Settings.__dataclass_fields__)
        for name in {*wanted, *run["settings"]}:
            if name not in wanted or name not in run["settings"]:
                odd = "is missing" if name in wanted else "is none"
                raise ValueError(f"settings: {name!r} {odd}")
        check_settings(Settings(**run["settings"]))
        for name in run["trained"]:
            if not isinstance(name, str) or name not in run["parameters"]:
                raise ValueError(f"trained: {described(name)} has no parameters")
        for row in run["results"]:
            if not isinstance(row, dict) or row.get("method") not in run["trained"]:
                raise ValueError("results: a row is of no method in trained")
    hashes = _hashes(run)
    for name, value in hashes.items():
        if run["hashes"].get(name) != value:
            raise ValueError(f"{name!r} was altered since the run was written")
    for name in run["hashes"]:
        if name not in hashes:
            raise ValueError(f"{name!r} is missing")


def _no_run(folder: Path, why: str) -> TableError:
    return TableError(f"{folder} holds no run of jaxcon fit: {why}")


def _network_of(scaling: Scaling, settings: Settings) -> Any:
    """Returns shapes and dtypes of a run's network."""
    sizes = (len(scaling.inputs), *(settings.width,) * settings.depth, 1)
    return jax.eval_shape(lambda: init_network(jax.random.key(0), sizes))


def _write_arrays(path: Path, trees: dict[str, Any]) -> dict[str, str]:
    """Writes arrays "METHOD/LAYER/NAME", and returns a hash of those of each method."""
    arrays = {name: _named(tree) for name, tree in trees.items()}

    def save(path: Path) -> None:
        flat: dict[str, Any] = {
            f"{method}/{name}": array
            for method, tree in arrays.items()
            for name, array in tree.items()
        }
        with open(path, "wb") as file:
            np.savez(file, **flat)

    _write(path, save)
    return {name: _hash_of_arrays(tree) for name, tree in arrays.items()}


def _read_arrays(
    folder: Path, file: str, method: str, like: Any, hashes: dict[str, Any]
) -> Any:
    """Reads the arrays of one method, and refuses others than were written.

    Args:
        folder: of the run.
        file: its file of arrays.
        method: the method's name.
        like: a tree of arrays or their shapes; None for an array of any shape.
        hashes: by method, of run.json.

    Returns:
        A tree as `like`.
    """
    paths, tree = jax.tree_util.tree_flatten_with_path(
        like, is_leaf=lambda x: x is None
    )
    names = [_name(path) for path, _ in paths]
    try:
        # Opened here, because NumPy leaves a torn file open.
        with open(folder / file, "rb") as opened:
            stored = np.load(opened, allow_pickle=False)
            keys = {name: f"{method}/{name}" for name in names}
            found = {name: stored[key] for name, key in keys.items() if key in stored}
    except FileNotFoundError:
        raise _no_run(folder, f"it has no {file}") from None
    except Exception:  # NumPy and zipfile raise a dozen kinds
        raise _no_run(folder, f"{file} cannot be read; it is damaged") from None
    for name, (_, wanted) in zip(names, paths):
        if name not in found:
            raise _no_run(folder, f"{file} lacks '{method}/{name}'")
        shape = found[name].shape
        if wanted is not None and shape != wanted.shape:
            raise _no_run(
                folder,
                f"{file}: '{method}/{name}' is of shape {shape}, not {wanted.shape}",
            )
    if _hash_of_arrays(found) != hashes.get(method):
        raise _no_run(folder, f"{file}: arrays of {method!r} were altered")
    return jax.tree.unflatten(tree, list(found.values()))


def _named(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def _hash_of_arrays(arrays: dict[str, np.ndarray]) -> str:
    """Hashes arrays with their names, types and shapes."""
    total = hashlib.sha256()
    for name, array in arrays.items():
        total.update(f"{name} {array.dtype.str} {array.shape};".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _hashes(run: dict[str, Any]) -> dict[str, str]:
    """Hashes every entry of run.json but the hashes; of entries by name, each of them."""
    parts: dict[str, Any] = {}
    for name, entry in run.items():
        if name == "hashes":
            continue
        if isinstance(entry, dict) and entry:
            parts |= {f"{name}.{key}": value for key, value in entry.items()}
        else:
            parts[name] = entry
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        for name, value in parts.items()
    }


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file beside `path` and moves it there, so that it is whole or absent."""
    beside = path.with_name(path.name + ".part")
    try:
        write(beside)
        os.replace(beside, path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _strict(entry: Any) -> Any:
    """Converts NumPy's arrays and numbers and non-finite numbers to types of JSON."""
    if isinstance(entry, dict):
        return {key: _strict(value) for key, value in entry.items()}
    if isinstance(entry, (list, tuple)):
        return [_strict(value) for value in entry]
    if isinstance(entry, float):
        return float(entry) if math.isfinite(entry) else str(entry)
    if entry is None or isinstance(entry, (str, int)):
        return entry
    return _strict(np.asarray(entry).tolist())
