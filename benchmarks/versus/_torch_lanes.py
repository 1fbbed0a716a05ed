"""Lanes in torch, imported where they run."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from benchmarks.versus._lane import AUGMENTED, CONTROLS, PENALTIES, RATES, Iterate, Lane


def _train(module: str, function: str) -> Callable[..., Iterator[Iterate]]:
    def train(*arguments: Any) -> Iterator[Iterate]:
        return getattr(import_module(f"benchmarks.versus.{module}"), function)(
            *arguments
        )

    return train


def _user(module: str, *functions: str) -> Callable[[str], tuple[Any, ...]]:
    def user(name: str) -> tuple[Any, ...]:
        problems = import_module("benchmarks.versus._torch_problems")
        here = import_module(f"benchmarks.versus.{module}")
        drawn = tuple(problems.DRAWN[n] for n in (name,) if n in problems.DRAWN)
        written = tuple(getattr(here, function) for function in functions)
        return (*written, problems.PROBLEMS[name], *drawn)

    return user


def _lane(name: str, settings: Any, module: str, *functions: str, needs: Any) -> Lane:
    return Lane(
        name,
        _train(module, functions[0]),
        settings,
        _user(module, *functions),
        ("torch", *needs),
    )


_COOPER: Any = ("_torch_frameworks", "by_cooper", "Constrained")
_FRAMEWORKS = ("cooper", "humancompatible.train")
TORCH = (
    _lane("torch by hand, penalty", PENALTIES, "_torch_by_hand", "by_hand", needs=()),
    _lane(
        "torch by hand, augmented Lagrangian",
        AUGMENTED,
        "_torch_by_hand",
        "by_hand",
        needs=(),
    ),
    _lane("Cooper, Lagrangian", RATES, *_COOPER, needs=_FRAMEWORKS),
    _lane("Cooper, augmented Lagrangian", AUGMENTED, *_COOPER, needs=_FRAMEWORKS),
    _lane("Cooper, nuPI", CONTROLS, *_COOPER, needs=_FRAMEWORKS),
    _lane(
        "humancompatible-train, ALM",
        AUGMENTED,
        "_torch_frameworks",
        "by_humancompatible",
        needs=_FRAMEWORKS,
    ),
)
