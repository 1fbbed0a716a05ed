"""Files of fitted ensembles: arrays in the safetensors format, all else as JSON beside.

Such a file holds no code, so that one from a stranger is safe to read.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcon._checks import check_type
from jaxcon.ensembles._columns import Column
from jaxcon.ensembles._ensemble import Ensemble
from jaxcon.ensembles._intervals import Calibration
from jaxcon.ensembles._losses import Loss
from jaxcon.ensembles._network import Inputs
from jaxcon.ensembles._reference import Reference
from jaxcon.ensembles._rules import Bounds, Kinds

_ARRAYS = ("inputs", "members", "bounds", "reference")


def save_ensemble(
    ensemble: Ensemble, path: Any, extra: Mapping[str, Any] | None = None
) -> None:
    """Writes an ensemble to a file.

    Args:
        ensemble: to write.
        path: of the file, which is replaced as a whole.
        extra: further entries, of JSON's types.

    Raises:
        TypeError: an argument is of another type.
        ImportError: safetensors is not installed.
        OSError: the file cannot be written.
    """
    check_type("ensemble", ensemble, Ensemble, "a fitted Ensemble")
    check_type("path", path, (str, os.PathLike), "a file's path")
    if extra is not None:
        check_type("extra", extra, Mapping, "a dict")
    from safetensors.numpy import save

    arrays = {
        name: np.array(leaf, float, order="C")
        for name, leaf in _named({one: getattr(ensemble, one) for one in _ARRAYS})
    }
    calibration = ensemble.calibration
    if calibration is not None:
        arrays["calibration"] = np.array(calibration.scores, float, order="C")
    entries = {
        "columns": [column._asdict() for column in ensemble.columns],
        "loss": ensemble.loss._asdict(),
        "center": ensemble.center,
        "unit": ensemble.unit,
        "kinds": ensemble.kinds._asdict(),
        "share": ensemble.share,
        "layers": len(ensemble.members["layers"]),
        "calibration": calibration and calibration._replace(scores=None)._asdict(),
        "extra": dict(extra or {}),
    }
    text = json.dumps(entries, default=_plain)
    beside = Path(path).with_name(Path(path).name + ".part")
    # Written here, since the library's own files are for their owner alone.
    beside.write_bytes(save(arrays, metadata={"jaxcon": text}))
    os.replace(beside, path)


def load_ensemble(path: Any) -> tuple[Ensemble, dict[str, Any]]:
    """Reads an ensemble from a file.

    Args:
        path: of the file.

    Returns:
        The ensemble, and the further entries that were written with it.

    Raises:
        ImportError: safetensors is not installed.
        OSError: the file cannot be read.
        ValueError: it holds no ensemble, or is damaged.
    """
    from safetensors import SafetensorError, safe_open

    check_type("path", path, (str, os.PathLike), "a file's path")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            if "jaxcon" not in metadata:
                raise ValueError(f"{path} holds no ensemble of jaxcon")
            entries = json.loads(metadata["jaxcon"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        return _ensemble(entries, arrays), entries["extra"]
    except SafetensorError as error:
        raise ValueError(f"{path} holds no ensemble of jaxcon: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _ensemble(entries: dict[str, Any], arrays: dict[str, np.ndarray]) -> Ensemble:
    """Builds an ensemble of a file's entries and arrays."""
    layer = {"w": None, "b": None}
    like = {
        "inputs": Inputs(None, None),
        "members": {"layers": [layer] * entries["layers"], "linear": None},
        "bounds": Bounds(*[None] * 5),
        "reference": Reference(*[None] * 3),
    }
    leaves, tree = jax.tree.flatten(like, is_leaf=lambda x: x is None)
    names = [name for name, _ in _named(like)]
    assert len(names) == len(leaves)
    parts = jax.tree.unflatten(tree, [arrays[name] for name in names])
    kept = entries["calibration"]
    kinds = Kinds(**{name: _tuples(one) for name, one in entries["kinds"].items()})
    return Ensemble(
        columns=tuple(
            Column(**one | {"levels": tuple(one["levels"])})
            for one in entries["columns"]
        ),
        loss=Loss(**entries["loss"] | {"levels": tuple(entries["loss"]["levels"])}),
        center=entries["center"],
        unit=entries["unit"],
        kinds=kinds,
        share=entries["share"],
        calibration=kept and Calibration(**kept | {"scores": arrays["calibration"]}),
        **parts,
    )


def _named(tree: Any) -> list[tuple[str, Any]]:
    paths = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: x is None)
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in paths
    ]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Converts NumPy's scalars and arrays to types of JSON."""
    if not isinstance(value, (np.generic, np.ndarray)):
        raise TypeError(f"extra: a {type(value).__name__} has no form in JSON")
    return value.tolist()
