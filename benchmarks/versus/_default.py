"""jaxcon's default, with nothing tuned."""

import time
from collections.abc import Iterator
from typing import Any

import jax

import jaxcon as jc
from benchmarks.problems.networks import ALL
from benchmarks.versus._lane import Iterate, Lane


def solved(name: str, arrays: Any, **options: Any) -> jc.FitResult:
    problem, params, batch = ALL[name].problem(arrays)
    key = jax.random.key(0) if ALL[name].minibatches else None
    return jc.solve(problem, params, batch, key=key, **options)


def train(
    name: str, arrays: Any, setting: dict[str, float], steps: int, every: int
) -> Iterator[Iterate]:
    """Solves, until it stops by itself, and yields the iterates a callback was shown."""
    seen: list[Iterate] = []
    begun = time.perf_counter()

    def record(state: Any, info: Any) -> None:
        params = jax.tree.map(jax.device_get, state.params)
        seen.append(Iterate(int(state.step), params, time.perf_counter() - begun))

    # A step of its own may be worth many of descent, so it is looked at more often.
    chunk = max(every // 10, 1)
    options = {"callbacks": [record], "chunk": chunk, "progress": False}
    result = solved(name, arrays, **options)
    whole, end = time.perf_counter() - begun, result.state
    yield from seen
    pace = result.seconds / max(int(end.step), 1)
    yield Iterate(int(end.step), end.params, whole, pace)


def user(name: str) -> tuple[Any, ...]:
    return (ALL[name].problem, solved)


DEFAULT = Lane("jaxcon, nothing tuned", train, ({},), user, iterative=False)
