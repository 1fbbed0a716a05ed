"""The problems by hand in JAX: (params, data) -> `Parts`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

EMPTY = jnp.zeros(0)


class Parts(NamedTuple):
    """Loss and residuals.

    Attributes:
        loss: ().
        equality: h, (m,).
        inequality: g, (n,), with slopes.
        strict: true g, (n,), where the other is its smooth stand-in.
    """

    loss: jax.Array
    equality: jax.Array = EMPTY
    inequality: jax.Array = EMPTY
    strict: jax.Array | None = None


def layers(params: Any, x: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def net(params: Any, x: jax.Array) -> jax.Array:
    return layers(params, x)[..., 0]


def slopes(params: Any, x: jax.Array) -> jax.Array:
    return jax.vmap(jax.grad(net, argnums=1), (None, 0))(params, x)


def second(params: Any, x: jax.Array, i: int) -> jax.Array:
    along = jnp.zeros_like(x).at[:, i].set(1.0)

    def first(x: jax.Array) -> jax.Array:
        return jax.jvp(lambda x: net(params, x), (x,), (along,))[1]

    return jax.jvp(first, (x,), (along,))[1]


def monotone(params: Any, d: Any) -> Parts:
    loss = jnp.mean((net(params, d["x"]) - d["y"]) ** 2)
    margin = d.get("margin", 0.0)
    return Parts(loss, inequality=margin - slopes(params, d["points"]).ravel())


def surface(params: Any, d: Any) -> Parts:
    loss = jnp.mean((net(params, d["x"]) - d["y"]) ** 2)
    slope = slopes(params, d["points"])
    bend = second(params, d["points"], 0)
    wrong = jnp.concatenate([slope[:, 0], -bend, -slope[:, 1]])
    return Parts(loss, inequality=wrong + d["margin"])


def poisson(params: Any, d: Any) -> Parts:
    laplacian = sum(second(params, d["x"], i) for i in range(d["x"].shape[1]))
    loss = jnp.mean((laplacian + d["source"]) ** 2)
    return Parts(loss, net(params, d["boundary"]) - d["values"])


def double_in_the_mean(params: Any, d: Any) -> Parts:
    y = net(params, d["x"])
    return Parts(jnp.mean((y - d["y"]) ** 2), jnp.mean(y - 2 * d["x"][:, 0])[None])


def double_pointwise(params: Any, d: Any) -> Parts:
    y = net(params, d["x"])
    return Parts(jnp.mean((y - d["y"]) ** 2), y - 2 * d["x"][:, 0])


def sum_to_one(params: Any, d: Any) -> Parts:
    logits = layers(params, d["x"])
    own = jnp.take_along_axis(logits, d["label"][:, None], axis=1)
    total = jnp.sum(jax.nn.sigmoid(layers(params, d["points"])), axis=1)
    return Parts(jnp.mean(jax.nn.softplus(-own)), total - 1)


def lambda_number(params: Any, d: Any) -> Parts:
    k = params["lambda"] * jnp.mean(d["x"] ** 2, axis=1)
    return Parts((params["lambda"] - d["prior"]) ** 2, k - d["k"])


def lambda_network(params: Any, d: Any) -> Parts:
    loss = jnp.mean(slopes(params, d["points"]) ** 2)
    k = jnp.mean(net(params, d["x"][..., None]) * d["x"] ** 2, axis=1)
    return Parts(loss, k - d["k"])


def logistic(score: jax.Array, label: Any) -> jax.Array:
    return jnp.mean(jax.nn.softplus(score) - label * score)


def neyman_pearson(params: Any, d: Any) -> Parts:
    negative, positive = net(params, d["negative"]), net(params, d["positive"])
    loss = 0.5 * (logistic(negative, 0.0) + logistic(positive, 1.0))
    smooth = jnp.mean(jax.nn.sigmoid(negative / d["temperature"])) - d["limit"]
    strict = jnp.mean(negative > 0) - d["limit"]
    return Parts(loss, inequality=smooth[None], strict=strict[None])


def fairness(params: Any, d: Any) -> Parts:
    one, other = net(params, d["x0"]), net(params, d["x1"])
    loss = 0.5 * (logistic(one, d["y0"]) + logistic(other, d["y1"]))
    soft = [
        jnp.mean(jax.nn.sigmoid(score / d["temperature"])) for score in (one, other)
    ]
    hard = [jnp.mean(score > 0) for score in (one, other)]
    smooth = jnp.stack([soft[1] - soft[0], soft[0] - soft[1]]) - d["limit"]
    strict = jnp.stack([hard[1] - hard[0], hard[0] - hard[1]]) - d["limit"]
    return Parts(loss, inequality=smooth, strict=strict)


def draw_groups(key: jax.Array, d: Any) -> Any:
    rows = jax.random.randint(key, (2, 128), 0, d["x0"].shape[0])
    drawn = {f"{name}{g}": d[f"{name}{g}"][rows[g]] for name in "xy" for g in (0, 1)}
    return d | drawn


def cmdp(params: Any, d: Any) -> Parts:
    policy = jax.nn.softmax(params["logits"])
    chain = jnp.einsum("sa,sat->ts", policy, d["moves"])
    inverse = jnp.eye(len(chain)) - d["discount"] * chain
    visits = jnp.linalg.solve(inverse, (1 - d["discount"]) * d["first"])
    share = visits[:, None] * policy
    spent = jnp.sum(share * d["cost"]) - d["limit"]
    return Parts(-jnp.sum(share * d["reward"]), inequality=spent[None])


def lipschitz(params: Any, d: Any) -> Parts:
    steepness = jnp.linalg.norm(slopes(params, d["points"]), axis=1)
    loss = logistic(net(params, d["x"]), d["y"])
    return Parts(loss, inequality=steepness - d["limit"])


def entropy(params: Any, d: Any) -> Parts:
    p = jnp.exp(params["logarithm"])
    off = jnp.stack([jnp.sum(p) - 1, p @ d["faces"] - d["mean"]])
    return Parts(jnp.sum(p * params["logarithm"]), off)


def regulator(params: Any, d: Any) -> Parts:
    states = jnp.concatenate([d["first"][None], params["states"]])
    moved = states[:-1] @ d["a"].T + jnp.outer(params["controls"], d["b"])
    loss = jnp.sum(params["states"] ** 2) + jnp.sum(params["controls"] ** 2)
    return Parts(loss, (states[1:] - moved).ravel())


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
DRAWN: dict[str, Callable[[jax.Array, Any], Any]] = {
    "fairness, minibatches": draw_groups
}
