"""Penalty and augmented Lagrangian by hand in torch.

On one thread: on networks this small two are no faster, and where cores are shared, far
slower.
"""

from collections.abc import Iterator
from typing import Any

import jax
import torch  # pyright: ignore[reportMissingImports]

from benchmarks.versus._lane import RATE, Iterate
from benchmarks.versus._torch_problems import DRAWN, PROBLEMS

torch.set_num_threads(1)


def tensor(leaf: Any) -> torch.Tensor:
    return torch.tensor(leaf, dtype=torch.float32)


def parameter(leaf: Any) -> torch.Tensor:
    return tensor(leaf).requires_grad_()


def numbers(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.detach().numpy().copy(), params)


def by_hand(
    name: str, arrays: Any, setting: dict[str, float], steps: int, every: int
) -> Iterator[Iterate]:
    problem, draw = PROBLEMS[name], DRAWN.get(name, lambda data: data)
    data = {key: tensor(value) for key, value in arrays.items() if key != "weights"}
    params = jax.tree.map(parameter, arrays["weights"])
    adam = torch.optim.Adam(jax.tree.leaves(params), lr=RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    c, rate = setting["penalty"], setting.get("rate", 0.0)
    mu = nu = torch.zeros(1)
    for step in range(1, steps + 1):
        loss, h, g, strict = problem(params, draw(data))
        equal = (mu * h + c / 2 * h**2).sum() / max(len(h), 1)
        pushed = (torch.relu(nu + c * g) ** 2 - nu**2).sum() / (2 * c)
        adam.zero_grad()
        (loss + equal + pushed / max(len(g), 1)).backward()
        adam.step()
        decay.step()
        mu = mu + rate * h.detach()
        nu = torch.relu(nu + rate * (g if strict is None else strict).detach())
        if step % every == 0:
            yield Iterate(step, numbers(params))
