"""Lines of user code by one rule, for all lanes.

Counted are the statements of the functions that a user of the lane writes, and of every
function or class of this repository's benchmarks that they call by name: not docstrings,
not what the framework contains, and not what measures, `yield` and what it needs.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any

from benchmarks.versus._lane import Iterate


def count(functions: Iterable[Callable[..., Any]]) -> int:
    """Counts the statements of functions and of the benchmarks' functions they call."""
    return sum(_statements(function) for function in _reached(functions))


def _reached(functions: Iterable[Callable[..., Any]]) -> list[Callable[..., Any]]:
    found: list[Callable[..., Any]] = []
    waiting = [inspect.unwrap(function) for function in functions]
    while waiting:
        function = waiting.pop()
        if function in found:
            continue
        found.append(function)
        for code, place in _codes(function):
            for name in _names(code):
                called = inspect.unwrap(place.get(name, len))
                if _is_ours(called):
                    waiting.append(called)
    return found


def _codes(written: Any) -> list[tuple[CodeType, dict[str, Any]]]:
    parts = vars(written).values() if inspect.isclass(written) else (written,)
    functions = [part for part in parts if inspect.isfunction(part)]
    return [(function.__code__, function.__globals__) for function in functions]


def _is_ours(called: Any) -> bool:
    kind = inspect.isfunction(called) or inspect.isclass(called)
    if not kind or called is Iterate:
        return False
    return called.__module__.startswith("benchmarks.")


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _statements(function: Callable[..., Any]) -> int:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return sum(not _is_left_out(node) for node in nodes)


def _is_left_out(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return all(map(_is_left_out, node.body))
    if not isinstance(node, ast.Expr):
        return False
    text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return text or isinstance(node.value, (ast.Yield, ast.YieldFrom))
