"""Fingerprints of runs: what a run that is resumed must have in common with the first.

Numbers are compared up to their rounding, so that a run may be resumed on another
machine. Functions are compared by their names, by the numbers and arrays that they close
over, and by the numbers written in them or named there; lists and objects that they close
over, and what they compute, are not compared.
"""

import dataclasses
import functools
import hashlib
import re
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon.constraints import named
from jaxcon.lagrangians import Lagrangian
from jaxcon.primal_dual import PrimalDualState, Solver
from jaxcon.training._source import Source

# Parts of an array that are summed by themselves.
_PARTS = 16
# Roundings of its entries that two arrays of equal numbers may differ by, and the most.
_ROUNDINGS, _MOST = 64, 0.02
# Functions of functions that are looked into, at most.
_DEPTH = 12
# Libraries whose functions' insides are not looked into: they are of their version.
_CLOSED = {"jax", "jaxlib", "numpy", "flax", "equinox", "builtins", "functools"}
_PLAIN = (bool, int, float, complex, str, type(None))


def fingerprint(
    solver: Solver, state: PrimalDualState, source: Source, tolerance: float
) -> dict[str, Any]:
    """Describes a run by its problem, optimizers, start and data.

    Args:
        solver: of the run.
        state: that it starts from.
        source: of its batches.
        tolerance: largest violation that counts as feasible.

    Returns:
        A dict of dicts by name, of text or of summed arrays; JSON holds it.
    """
    problem = solver.problem
    names = [f"{kind} {name!r}" for kind, name, _ in named(state.multipliers)]
    plain = {
        "order of steps": solver.name,
        "constraints": ", ".join(names) or "none",
        "tolerance": repr(float(tolerance)),
    }
    read: dict[str, Any] = {}
    for name, part in (
        ("penalty", problem.penalty),
        ("barrier", problem.barrier),
        ("multipliers", problem.multipliers),
        ("primal", solver.primal.update),
        ("dual", solver.dual),
        ("per_term", solver.per_term),
        ("points", solver.points),
        ("loss", problem.loss),
        ("constraints", problem.constraints._asdict()),
    ):
        read.update(_facts(name, part, frozenset()))
    start = {
        f"the start's {field}{place}": fact
        for field in PrimalDualState._fields
        if field not in ("step", "skipped")
        for place, fact in _sums(getattr(state, field))
    }
    batch: Any = [source.batches] if source.fixed else []
    name = "the batch"
    if source.streamed:
        name, batch = "the first batch", source.peek()
    data = {f"{name}{place}": fact for one in batch for place, fact in _sums(one)}
    if source.key is not None:
        data |= {f"the key{place}": fact for place, fact in _sums(source.key)}
    python = ".".join(map(str, sys.version_info[:2]))
    versions = f"python {python}, jax {jax.__version__}, optax {optax.__version__}"
    return {
        "plain": plain,
        "read": read,
        "start": start,
        "data": data,
        "versions": {"": versions},
    }


def difference(saved: dict[str, Any], ours: dict[str, Any], group: str) -> str | None:
    """Returns a clause that names the first difference of two runs.

    Args:
        saved: fingerprint of the run that was saved.
        ours: that of the run that is to go on.
        group: of its groups, the one to compare.

    Returns:
        A clause; None if there is no difference.
    """
    # Other versions of optax close over other names.
    if group == "read" and saved["versions"] != ours["versions"]:
        return None
    theirs, mine = saved[group], ours[group]
    for name in [*mine, *(name for name in theirs if name not in mine)]:
        was, is_ = theirs.get(name, "nothing"), mine.get(name, "nothing")
        if isinstance(was, dict) and isinstance(is_, dict):
            if was["form"] == is_["form"]:
                if not _same(was, is_):
                    return f"{_short(name)}: other values there than here"
                continue
            was, is_ = was["form"], is_["form"]
        if was != is_ and not _same_number(was, is_):
            return f"{_short(name)}: {_worded(was)} there, {_worded(is_)} here"
    return None


def _same_number(was: Any, is_: Any) -> bool:
    """Returns whether two texts are one number: optax's schedules make integers floats."""
    try:
        return float(was) == float(is_)
    except (TypeError, ValueError):
        return False


def _short(name: str) -> str:
    """Returns a path without the names that optax and jaxcon give to their plumbing."""
    plumbing = r"\.(init|update|init_fn|update_fn|tx|inner|transform)\b(\[\d+\])*"
    return re.sub(plumbing, "", re.sub(r"\.(init|update)_fns\[\d+\]", "", name))


def _worded(fact: Any) -> str:
    return fact["form"] if isinstance(fact, dict) else fact


def _facts(name: str, value: Any, above: frozenset[int]) -> Iterator[tuple[str, Any]]:
    """Yields what can be read of a value, by path."""
    if id(value) in above or len(above) > _DEPTH:
        return
    above |= {id(value)}
    inside: dict[str, Any] = {}
    if isinstance(value, _PLAIN):
        yield name, repr(value)
    elif isinstance(value, (jax.Array, np.ndarray, np.generic)):
        for place, fact in _sums(value):
            yield f"{name}{place}", fact
    elif isinstance(value, Lagrangian):
        return  # described by itself
    elif isinstance(value, functools.partial):
        inside = {"": value.func, **value.keywords}
        inside |= {f"[{i}]": entry for i, entry in enumerate(value.args)}
    elif isinstance(value, types.MethodType):
        inside = {"": value.__func__}
    elif isinstance(value, types.FunctionType):
        yield name, f"{value.__module__}.{value.__qualname__}".replace(".<locals>", "")
        inside = _inside(value)
    elif hasattr(value, "__wrapped__"):  # of jax.jit and others
        inside = {"": value.__wrapped__}
    elif isinstance(value, Mapping):
        inside = {f"[{key!r}]": entry for key, entry in value.items()}
    elif hasattr(value, "_asdict"):
        inside = value._asdict()
    elif isinstance(value, tuple):
        inside = {f"[{i}]": entry for i, entry in enumerate(value)}
    else:
        yield name, f"{type(value).__module__}.{type(value).__qualname__}"
        ours = type(value).__module__.split(".")[0] == "jaxcon"
        if ours and dataclasses.is_dataclass(value):
            fields = [field.name for field in dataclasses.fields(value)]
            inside = {field: getattr(value, field) for field in fields}
    for part, entry in inside.items():
        dot = "." if part and not part.startswith("[") else ""
        yield from _facts(f"{name}{dot}{part}", entry, above)


def _inside(function: types.FunctionType) -> dict[str, Any]:
    """Returns what a function reads beside its arguments, by name."""
    if (function.__module__ or "").split(".")[0] in _CLOSED:
        return {}
    code, found = function.__code__, {}
    for name, cell in zip(code.co_freevars, function.__closure__ or ()):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a variable that was deleted, or is not assigned yet
            continue
    found |= function.__kwdefaults__ or {}
    defaults = function.__defaults__ or ()
    named_ = code.co_varnames[: code.co_argcount]
    found |= dict(zip(named_[len(named_) - len(defaults) :], defaults))
    if function.__module__.split(".")[0] not in ("optax", "jaxcon"):
        written = [repr(one) for one in code.co_consts if isinstance(one, (int, float))]
        found["numbers"] = ", ".join(written)
        read = {name: function.__globals__.get(name) for name in code.co_names}
        kinds = (bool, int, float, complex, jax.Array, np.ndarray, np.generic)
        found |= {name: one for name, one in read.items() if isinstance(one, kinds)}
    return found


def _sums(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yields the summed arrays of a tree, by path."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path), _summed(leaf)


def _summed(leaf: Any) -> dict[str, Any]:
    """Returns an array's form, and sums of its parts or a hash of its bytes."""
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    dtype = jnp.result_type(leaf)
    form = f"{dtype}{list(np.shape(leaf))}".replace(" ", "")
    if not getattr(leaf, "is_fully_addressable", True):
        return {"form": form}
    array = np.ravel(np.asarray(leaf))
    if not jnp.issubdtype(dtype, jnp.inexact):
        return {"form": form, "hash": hashed(array)}
    parts = np.array_split(array, _PARTS)
    sums, scales, broken = [], [], []
    for start, part in zip(np.cumsum([0, *map(len, parts)]), parts):
        wide = part.astype(complex if np.iscomplexobj(part) else float)
        finite = np.isfinite(wide)
        # Each entry with a weight of its own: exchanged ones change the sum.
        weights = 1.5 + 0.5 * np.sin(start + np.arange(len(part)))
        terms = np.where(finite, wide, 0) * weights
        sums.append([float(terms.real.sum()), float(terms.imag.sum())])
        scales.append(float(np.abs(terms).sum()))
        broken.append(part[~finite])
    rounding = min(_ROUNDINGS * float(jnp.finfo(dtype).eps), _MOST)
    return {
        "form": form,
        "sums": sums,
        "within": [rounding * scale for scale in scales],
        "not finite": hashed(np.concatenate([*broken, np.isfinite(array)])),
    }


def _same(was: dict[str, Any], is_: dict[str, Any]) -> bool:
    if "sums" not in is_ or "sums" not in was:
        return was == is_
    apart = np.abs(np.subtract(was["sums"], is_["sums"]))
    near = np.all(apart <= np.asarray(is_["within"])[:, None])
    return bool(near) and was["not finite"] == is_["not finite"]


def hashed(array: np.ndarray) -> str:
    """Returns a short hash of an array's bytes."""
    return hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()
