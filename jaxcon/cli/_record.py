"""Record of a run: run.json and arrays, with hashes by which alterations are found."""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcon._checks import described
from jaxcon.tabular import Scaling, Settings, TableError
from jaxcon.tabular._checks import check_settings


def write_json(folder: Path, entries: dict[str, Any]) -> None:
    """Writes run.json, with the versions of all libraries of the run and all hashes.

    Args:
        folder: of the run.
        entries: further entries.
    """
    whole = strict(entries | machine())
    whole["hashes"] = _hashes(whole)
    text = json.dumps(whole, indent=2, allow_nan=False) + "\n"
    write_whole(
        folder / "run.json", lambda path: path.write_text(text, encoding="utf-8")
    )


def machine() -> dict[str, Any]:
    """Returns what the last bits of results depend on beside the settings."""
    packages = ("jaxcon", "jax", "jaxlib", "optax", "numpy", "scipy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "versions": versions | {"python": platform.python_version()},
        "device": jax.devices()[0].device_kind,
        "x64": jax.config.jax_enable_x64,  # pyright: ignore[reportAttributeAccessIssue]
    }


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
        raise no_run(folder, "it has no run.json")
    try:
        text = path.read_text(encoding="utf-8")
        run = json.loads(text)
        if not isinstance(run, dict):
            raise TypeError(f"its entries must have names, got {described(run)}")
        _check_entries(run)
    except OSError as error:
        raise no_run(folder, f"run.json cannot be read: {error.strerror}") from None
    except RecursionError:
        raise no_run(folder, "run.json: it is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise no_run(folder, f"run.json: {error}") from None
    return run


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

# Those of a fit of an ensemble.
_ENSEMBLE = {
    "command": str,
    "data": dict | None,
    "rows": int,
    "target": str,
    "inputs": list,
    "classes": list,
    "loss": str,
    "rules": dict,
    "settings": dict,
    "model": dict | None,
    "fit": dict | None,
    "seconds": dict,
    "results": list,
    "verdicts": list,
    "notes": list,
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
    types = _STUDY if "example" in run else _ENSEMBLE if "model" in run else _FIT
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


def no_run(folder: Path, why: str) -> TableError:
    """Returns the error of a folder that holds no run, or an altered one.

    Args:
        folder: the folder.
        why: in a few words.

    Returns:
        The error, to raise.
    """
    return TableError(f"{folder} holds no run of jaxcon fit: {why}")


def write_arrays(path: Path, trees: dict[str, Any]) -> dict[str, str]:
    """Writes a file of arrays "METHOD/LAYER/NAME".

    Args:
        path: the file.
        trees: of arrays, by method.

    Returns:
        A hash of the arrays of each method.
    """
    arrays = {name: _named(tree) for name, tree in trees.items()}

    def save(path: Path) -> None:
        flat: dict[str, Any] = {
            f"{method}/{name}": array
            for method, tree in arrays.items()
            for name, array in tree.items()
        }
        with open(path, "wb") as file:
            np.savez(file, **flat)

    write_whole(path, save)
    return {name: _hash_of_arrays(tree) for name, tree in arrays.items()}


def read_arrays(
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

    Raises:
        TableError: an array is missing, of another shape or altered.
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
        raise no_run(folder, f"it has no {file}") from None
    except Exception:  # NumPy and zipfile raise a dozen kinds
        raise no_run(folder, f"{file} cannot be read; it is damaged") from None
    for name, (_, wanted) in zip(names, paths):
        if name not in found:
            raise no_run(folder, f"{file} lacks '{method}/{name}'")
        shape = found[name].shape
        if wanted is not None and shape != wanted.shape:
            raise no_run(
                folder,
                f"{file}: '{method}/{name}' is of shape {shape}, not {wanted.shape}",
            )
    if _hash_of_arrays(found) != hashes.get(method):
        raise no_run(folder, f"{file}: arrays of {method!r} were altered")
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


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file beside `path` and moves it there, so that it is whole or absent.

    Args:
        path: the file.
        write: function of a path that writes it.
    """
    beside = path.with_name(path.name + ".part")
    try:
        with writing(path):
            write(beside)
            os.replace(beside, path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Adds the name of a file or a folder to the error of a full disk, which names none.

    Args:
        path: what is written.

    Yields:
        Nothing.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def strict(entry: Any) -> Any:
    """Converts NumPy's arrays and numbers and non-finite numbers to types of JSON.

    Args:
        entry: of any depth.

    Returns:
        Dicts with names, lists, text, finite numbers, truth values and None.
    """
    if isinstance(entry, dict):
        return {key: strict(value) for key, value in entry.items()}
    if isinstance(entry, (list, tuple)):
        return [strict(value) for value in entry]
    if isinstance(entry, float):
        return float(entry) if math.isfinite(entry) else str(entry)
    if entry is None or isinstance(entry, (str, int)):
        return entry
    return strict(np.asarray(entry).tolist())
