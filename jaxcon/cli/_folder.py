"""Folder of one run of the command: its files, their writers and readers.

=================== ===========================================================
run.json            every setting, the data's hash, versions, seed, the results
parameters.npz      parameters of every method, by name (arrays only, no pickle)
table.csv, table.md the comparison
history.png         violation and multipliers over the steps
curve-INPUT.png     fit, slope and curvature against a constrained input
tables.md           all tables of an example in parts; PART.csv, PART.png
=================== ===========================================================
"""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import numpy as np

from jaxcon import report
from jaxcon.comparison import MethodEvaluation
from jaxcon.examples import Findings
from jaxcon.tabular import Scaling, TableError, init_network


def new_folder(out: Path | None, name: str) -> Path:
    """Makes the folder of a new run, which must not exist.

    Args:
        out: the folder to make, or None for the first free ``jaxcon-runs/NAME-k``.
        name: of the run, used where `out` is None.

    Returns:
        The folder, made.

    Raises:
        TableError: `out` exists, or cannot be made.
    """
    number = 1
    while out is None:
        free = Path("jaxcon-runs") / f"{name}-{number}"
        out, number = (None if free.exists() else free), number + 1
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise TableError(f"--out {out} exists already; name a new folder") from None
    except OSError as error:
        raise TableError(f"--out {out} cannot be made: {error.strerror}") from None
    return out


def write_json(folder: Path, entries: dict[str, Any]) -> None:
    """Writes run.json, with the versions of all libraries of the run.

    Args:
        folder: of the run.
        entries: further entries.
    """
    packages = ("jaxcon", "jax", "jaxlib", "optax", "numpy", "scipy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    versions["python"] = platform.python_version()
    whole = entries | {
        "versions": versions,
        "device": jax.devices()[0].device_kind,
        "x64": jax.config.jax_enable_x64,  # pyright: ignore[reportAttributeAccessIssue]
    }
    text = json.dumps(_strict(whole), indent=2, allow_nan=False) + "\n"
    _write(folder / "run.json", lambda path: path.write_text(text, encoding="utf-8"))


def write_parameters(folder: Path, parameters: dict[str, Any]) -> None:
    """Writes parameters.npz, one array "METHOD/LAYER/NAME" each.

    Args:
        folder: of the run.
        parameters: networks by method.
    """
    arrays: dict[str, Any] = {
        f"{method}/{_name(path)}": np.asarray(leaf)
        for method, params in parameters.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }

    def save(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, **arrays)

    _write(folder / "parameters.npz", save)


def write_results(folder: Path, evaluations: Sequence[MethodEvaluation]) -> None:
    """Writes the table, as CSV and as Markdown, and the history's figure.

    Args:
        folder: of the run.
        evaluations: of the methods that finished.
    """
    rows = report.rows(evaluations)
    report.write_csv(rows, folder / "table.csv")
    (folder / "table.md").write_text(report.markdown(rows), encoding="utf-8")
    report.plot_history(evaluations, folder / "history.png")


def write_findings(folder: Path, findings: Findings) -> None:
    """Writes one part of an example: its table, as CSV and Markdown, and its figures.

    Args:
        folder: of the run; what stands in tables.md already is kept.
        findings: those of the part.
    """
    name = findings.title.replace(" ", "-")
    report.write_csv(findings.rows, folder / f"{name}.csv")
    table = report.markdown(findings.rows)
    with open(folder / "tables.md", "a", encoding="utf-8") as file:
        file.write(f"## {findings.title}\n\n{table}\n{findings.note}\n\n")
    for figure, draw in findings.figures.items():
        draw(folder / f"{figure}.png")


def read_model(folder: Path, method: str | None) -> tuple[Scaling, Any]:
    """Reads the scaling and the parameters of a finished run.

    Args:
        folder: of the run.
        method: the method of the parameters; None for the last one trained.

    Returns:
        The `Scaling` and the network's parameters.

    Raises:
        TableError: the folder holds no run, or not that method.
    """
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        scaling = Scaling.from_json(run["scaling"])
        settings, trained = run["settings"], run["trained"]
        # Opened here, because NumPy leaves a torn file open.
        with open(folder / "parameters.npz", "rb") as file:
            arrays = dict(np.load(file, allow_pickle=False))
    except (OSError, KeyError, TypeError, ValueError, EOFError, BadZipFile):
        raise TableError(f"{folder} holds no run of jaxcon fit") from None
    if not trained:
        raise TableError(f"{folder} holds a run that was stopped before it trained")
    method = trained[-1] if method is None else method
    if method not in trained:
        known = ", ".join(map(repr, trained))
        raise TableError(f"{folder} has no method {method!r}; it has {known}")
    sizes = (len(scaling.inputs), *(settings["width"],) * settings["depth"], 1)
    like = jax.eval_shape(lambda: init_network(jax.random.key(0), sizes))
    params = jax.tree_util.tree_map_with_path(
        lambda path, _: arrays[f"{method}/{_name(path)}"], like
    )
    return scaling, params


def file_hash(path: Path) -> str:
    """Computes the SHA-256 hash of a file's bytes, in hexadecimal.

    Args:
        path: the file.

    Returns:
        64 characters.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file beside `path` and moves it there, so that it is whole or absent."""
    beside = path.with_name(path.name + ".part")
    write(beside)
    os.replace(beside, path)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _strict(entry: Any) -> Any:
    """Converts NumPy's arrays and numbers and non-finite numbers to types of JSON."""
    if isinstance(entry, dict):
        return {key: _strict(value) for key, value in entry.items()}
    if isinstance(entry, (list, tuple)):
        return [_strict(value) for value in entry]
    if isinstance(entry, float):
        return entry if np.isfinite(entry) else str(entry)
    if entry is None or isinstance(entry, (str, int)):
        return entry
    return _strict(np.asarray(entry).tolist())
