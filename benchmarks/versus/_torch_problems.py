"""The problems in torch: (params, data) -> loss, equalities, inequalities, strict ones."""

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]
from torch.nn.functional import softplus  # pyright: ignore[reportMissingImports]

Parts = tuple[Tensor, Tensor, Tensor, Tensor | None]
NONE = torch.zeros(0)


def layers(params: Any, x: Tensor) -> Tensor:
    for layer in params[:-1]:
        x = torch.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def net(params: Any, x: Tensor) -> Tensor:
    return layers(params, x)[..., 0]


def derivative(y: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(y.sum(), x, create_graph=True)[0]


def slopes(params: Any, points: Tensor) -> tuple[Tensor, Tensor]:
    x = points.detach().requires_grad_()
    return derivative(net(params, x), x), x


def monotone(params: Any, d: Any) -> Parts:
    loss = ((net(params, d["x"]) - d["y"]) ** 2).mean()
    slope, _ = slopes(params, d["points"])
    return loss, NONE, d.get("margin", 0.0) - slope.ravel(), None


def surface(params: Any, d: Any) -> Parts:
    loss = ((net(params, d["x"]) - d["y"]) ** 2).mean()
    slope, x = slopes(params, d["points"])
    bend = derivative(slope[:, 0], x)[:, 0]
    wrong = torch.cat([slope[:, 0], -bend, -slope[:, 1]])
    return loss, NONE, wrong + d["margin"], None


def poisson(params: Any, d: Any) -> Parts:
    slope, x = slopes(params, d["x"])
    axes = range(x.shape[1])
    laplacian = sum(derivative(slope[:, i], x)[:, i] for i in axes)
    loss = ((laplacian + d["source"]) ** 2).mean()
    return loss, net(params, d["boundary"]) - d["values"], NONE, None


def double_in_the_mean(params: Any, d: Any) -> Parts:
    y = net(params, d["x"])
    off = (y - 2 * d["x"][:, 0]).mean()[None]
    return ((y - d["y"]) ** 2).mean(), off, NONE, None


def double_pointwise(params: Any, d: Any) -> Parts:
    y = net(params, d["x"])
    return ((y - d["y"]) ** 2).mean(), y - 2 * d["x"][:, 0], NONE, None


def sum_to_one(params: Any, d: Any) -> Parts:
    own = layers(params, d["x"]).gather(1, d["label"].long()[:, None])
    total = torch.sigmoid(layers(params, d["points"])).sum(1)
    return softplus(-own).mean(), total - 1, NONE, None


def lambda_number(params: Any, d: Any) -> Parts:
    k = params["lambda"] * (d["x"] ** 2).mean(1)
    return (params["lambda"] - d["prior"]) ** 2, k - d["k"], NONE, None


def lambda_network(params: Any, d: Any) -> Parts:
    slope, _ = slopes(params, d["points"])
    k = (net(params, d["x"][..., None]) * d["x"] ** 2).mean(1)
    return (slope**2).mean(), k - d["k"], NONE, None


def logistic(score: Tensor, label: Any) -> Tensor:
    return (softplus(score) - label * score).mean()


def neyman_pearson(params: Any, d: Any) -> Parts:
    negative, positive = net(params, d["negative"]), net(params, d["positive"])
    loss = 0.5 * (logistic(negative, 0.0) + logistic(positive, 1.0))
    smooth = torch.sigmoid(negative / d["temperature"]).mean() - d["limit"]
    strict = (negative > 0).float().mean() - d["limit"]
    return loss, NONE, smooth[None], strict[None]


def fairness(params: Any, d: Any) -> Parts:
    one, other = net(params, d["x0"]), net(params, d["x1"])
    loss = 0.5 * (logistic(one, d["y0"]) + logistic(other, d["y1"]))
    soft = [torch.sigmoid(score / d["temperature"]).mean() for score in (one, other)]
    hard = [(score > 0).float().mean() for score in (one, other)]
    smooth = torch.stack([soft[1] - soft[0], soft[0] - soft[1]]) - d["limit"]
    strict = torch.stack([hard[1] - hard[0], hard[0] - hard[1]]) - d["limit"]
    return loss, NONE, smooth, strict


def draw_groups(d: Any) -> Any:
    rows = torch.randint(len(d["x0"]), (2, 128))
    drawn = {f"{name}{g}": d[f"{name}{g}"][rows[g]] for name in "xy" for g in (0, 1)}
    return d | drawn


def cmdp(params: Any, d: Any) -> Parts:
    policy = torch.softmax(params["logits"], 1)
    chain = torch.einsum("sa,sat->ts", policy, d["moves"])
    inverse = torch.eye(len(chain)) - d["discount"] * chain
    visits = torch.linalg.solve(inverse, (1 - d["discount"]) * d["first"])
    share = visits[:, None] * policy
    spent = (share * d["cost"]).sum() - d["limit"]
    return -(share * d["reward"]).sum(), NONE, spent[None], None


def lipschitz(params: Any, d: Any) -> Parts:
    slope, _ = slopes(params, d["points"])
    loss = logistic(net(params, d["x"]), d["y"])
    return loss, NONE, slope.norm(dim=1) - d["limit"], None


def entropy(params: Any, d: Any) -> Parts:
    p = params["logarithm"].exp()
    off = torch.stack([p.sum() - 1, p @ d["faces"] - d["mean"]])
    return (p * params["logarithm"]).sum(), off, NONE, None


def regulator(params: Any, d: Any) -> Parts:
    states = torch.cat([d["first"][None], params["states"]])
    moved = states[:-1] @ d["a"].T + torch.outer(params["controls"], d["b"])
    loss = (params["states"] ** 2).sum() + (params["controls"] ** 2).sum()
    return loss, (states[1:] - moved).ravel(), NONE, None


PROBLEMS: dict[str, Callable[[Any, Any], Parts]] = {
    "monotone 1-D": monotone,
    "monotone 2-D": monotone,
    "call surface": surface,
    "Poisson 1-D": poisson,
    "Poisson 2-D": poisson,
    "y = 2x in the mean": double_in_the_mean,
    "y = 2x pointwise": double_pointwise,
    "sum to one": sum_to_one,
    "lambda, a number": lambda_number,
    "lambda, a network": lambda_network,
    "Neyman-Pearson": neyman_pearson,
    "fairness, minibatches": fairness,
    "CMDP": cmdp,
    "Lipschitz classifier": lipschitz,
    "maximum entropy": entropy,
    "linear regulator": regulator,
}
DRAWN: dict[str, Callable[[Any], Any]] = {"fairness, minibatches": draw_groups}
