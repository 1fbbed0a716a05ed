"""Compiled programs, shared by equal ones."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax

# Most programs kept; one holds its code, not the data.
_MOST = 32
# Above this, constants are not written out to be compared.
_LARGEST_CONSTANTS = 2**22

_EXECUTABLES: OrderedDict[Any, Any] = OrderedDict()


class Program:
    """A function compiled ahead of time for each kind of arguments.

    Two functions that lower to the same text share one executable: a new solver of equal
    functions, or a new proof of an equal claim, is traced, but not compiled again.

    Attributes:
        layout: what the function writes down about its outputs when it is traced.
    """

    def __init__(self, function: Callable[..., Any], layout: list[Any]):
        self.layout = layout
        self._jitted = jax.jit(function)
        self._known: dict[Any, Any] = {}

    def __call__(self, *args: Any) -> Any:
        """Evaluates the function."""
        return self.executable(*args)(*args)

    def executable(self, *args: Any) -> Callable[..., Any]:
        """Returns the compiled program for arguments like these."""
        kind = _kind(args)
        if kind not in self._known:
            self._known[kind] = self._compiled(kind, args)
        return self._known[kind]

    def _compiled(self, kind: Any, args: Any) -> Any:
        traced = self._jitted.trace(*args)
        constants = sum(getattr(c, "nbytes", 0) for c in traced.jaxpr.consts)
        lowered = traced.lower()
        if constants > _LARGEST_CONSTANTS:
            return lowered.compile()
        key = kind, hashlib.sha256(lowered.as_text().encode()).digest()
        if key not in _EXECUTABLES:
            _EXECUTABLES[key] = lowered.compile()
            if len(_EXECUTABLES) > _MOST:
                _EXECUTABLES.popitem(last=False)
        _EXECUTABLES.move_to_end(key)
        return _EXECUTABLES[key]


def _kind(args: Any) -> Any:
    leaves, tree = jax.tree.flatten(args)
    return tree, tuple(map(_leaf_kind, leaves))


def _leaf_kind(leaf: Any) -> Any:
    aval = jax.typeof(leaf)
    return aval, getattr(leaf, "sharding", None), getattr(leaf, "committed", None)
