"""The network, the bounds and the groups of `benchmarks.derivatives`."""

import functools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _derivatives_peers as peers
from benchmarks._derivatives_peers import Function, Operator, TorchMethod
from jaxcon import derivatives as jd

HIDDEN, PROBES, DETERMINANTS = 3, 16, 4


class Size(NamedTuple):
    """A network d-w-w-w-m and its batch of n, with the GEMM FLOPs of its layers."""

    n: int
    d: int
    m: int
    w: int

    @property
    def first(self) -> int:
        return 2 * self.n * self.d * self.w

    @property
    def hidden(self) -> int:
        return 2 * self.n * (HIDDEN - 1) * self.w**2

    @property
    def last(self) -> int:
        return 2 * self.n * self.w * self.m

    @property
    def primal(self) -> int:
        """A step through the value alone, but for the last layer."""
        return 2 * self.first + 3 * self.hidden

    @property
    def value_step(self) -> int:
        return self.primal + 3 * self.last


def jacobian_bound(s: Size) -> float:
    """Forward, the first layer free; or reverse, the last layer free."""
    forward = 3 * s.d * (s.hidden + s.last)
    return s.primal + min(forward, 3 * s.m * (s.hidden + s.first))


def laplacian_bound(s: Size) -> float:
    """Collapsed: first-order tangents and one second-order stream."""
    return collapsed_bound(s, tangents=min(s.d, s.w))


def collapsed_bound(s: Size, tangents: int) -> float:
    return s.primal + 3 * tangents * s.hidden + 3 * (s.hidden + s.last)


def hessian_bound(s: Size) -> float:
    """Forward over forward, by symmetry; or forward over reverse."""
    forward = 3 * s.d * (s.d + 1) / 2 * (s.hidden + s.last)
    reverse = 3 * (s.hidden + s.first) * (1 + s.d)
    return s.primal + 3 * s.d * s.hidden + min(forward, reverse)


def mlp(params: Any, x: jax.Array) -> jax.Array:
    """The network at one example x (d,) -> (m,)."""
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def scalar(params: Any, x: jax.Array) -> jax.Array:
    return mlp(params, x)[0]


def of_line(params: Any, t: jax.Array) -> jax.Array:
    return mlp(params, t[None])[0]


class Group(NamedTuple):
    """One derivative at one size, by jaxcon and by others; the first of them is right."""

    size: Size
    bound: Callable[[Size], float]
    ours: Operator
    others: dict[str, Operator]
    torch: dict[str, TorchMethod]
    view: Callable[[Any, jax.Array], jax.Array] = scalar
    prepare: Callable[[], Any] = lambda: None  # before anything is compiled
    params: Callable[[Size], Any] | None = None  # of another network than a dense one


def problem(group: Group) -> tuple[Any, jax.Array]:
    """Random parameters, and the batch: (n, d), of a function of a scalar (n,)."""
    n, d, m, w = group.size
    sizes = (d, *[w] * HIDDEN, m)
    keys = jax.random.split(jax.random.key(0), 2 * HIDDEN + 3)
    if group.params is not None:
        return group.params(group.size), jax.random.normal(keys[0], (n, d))
    params = [
        {
            "w": jax.random.normal(k, (i, o)) / i**0.5,
            "b": jax.random.normal(b, (o,)) / 10,
        }
        for k, b, i, o in zip(keys[1::2], keys[2::2], sizes, sizes[1:])
    ]
    x = jax.random.normal(keys[0], (n, d))
    return params, x[:, 0] if group.view is of_line else x


def flat(answer: Any) -> tuple[np.ndarray, np.ndarray]:
    loss, gradient = answer
    leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(gradient)]
    return np.asarray(loss, np.float64), np.concatenate(leaves, dtype=np.float64)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def diagonal(d: int) -> jax.Array:
    """The direction of every directional derivative."""
    return jnp.full(d, d**-0.5)


def directional(f: Function) -> Function:
    return lambda x: jd.directional_derivative(f, diagonal(x.size))(x)


def one_pass(f: Function) -> Function:
    return jd.derivatives(f, jd.Value(), jd.Jacobian(), jd.Laplacian())


def three_calls(f: Function) -> Function:
    return peers.apart(jd.jacobian, lambda f: jd.laplacian(lambda x: f(x)[0]))(f)


def estimate(f: Function) -> Function:
    return jd.laplacian(f, probes=PROBES, key=jax.random.key(2))


@functools.cache
def probes(d: int) -> np.ndarray:
    """Directions over which the sum of v·H v is jaxcon's estimate, for its peers.

    The estimate is tr(H S); S is read from the estimates for f(x) = x·E x / 2.
    """
    units = jnp.eye(d * d).reshape(d * d, d, d)
    entry = jax.vmap(lambda e: estimate(lambda x: x @ e @ x / 2)(jnp.zeros(d)))
    moments = np.asarray(entry(units), np.float64).reshape(d, d)
    values, vectors = np.linalg.eigh(moments)
    kept = values > 1e-5 * values.max()
    return np.asarray(vectors[:, kept] * values[kept] ** 0.5, np.float32).T


def second_order(directions: Callable[[int], Any] = jnp.eye) -> dict[str, Operator]:
    forms = {
        "jvp of grad": peers.jvp_of_grad,
        "nested grad": peers.nested_grad,
        "nested jvp": peers.nested_jvp,
        "jet": peers.second_jet,
    }
    return {name: peers.summed(form, directions) for name, form in forms.items()}


def directionals(size: Size) -> Group:
    others = {
        "jax.jvp": peers.jvp(diagonal),
        "jax.jacfwd": peers.times(jax.jacfwd, diagonal),
        "jax.jacrev": peers.times(jax.jacrev, diagonal),
    }
    torch = {
        "torch autograd": peers.torch_directional,
        "torch.func": peers.func_directional,
    }
    bound = partial(collapsed_bound, tangents=0)
    return Group(size, bound, directional, others, torch, mlp)


def jacobians(size: Size) -> Group:
    others = {"jax.jacrev": jax.jacrev, "jax.jacfwd": jax.jacfwd}
    torch = {"torch autograd": peers.torch_jacobian, "torch.func": peers.func_jacobian}
    return Group(size, jacobian_bound, jd.jacobian, others, torch, mlp)


def laplacians(size: Size) -> Group:
    others = second_order() | {
        "trace of jax.hessian": peers.trace(jax.hessian),
        "folx": peers.folx_laplacian,
    }
    torch = {
        "torch autograd": peers.torch_laplacian,
        "torch.func": peers.func_laplacian,
    }
    return Group(size, laplacian_bound, jd.laplacian, others, torch)


def determinants_params(s: Size) -> dict[str, jax.Array]:
    sizes = {"p0": (4, 16), "p1": (16, 16), "h0": (20, s.w), "h1": (s.w, s.w)}
    sizes["out"] = (s.w, DETERMINANTS * s.d // 3)
    keys = jax.random.split(jax.random.key(0), len(sizes))
    return {
        name: jax.random.normal(k, shape) / shape[0] ** 0.5
        for k, (name, shape) in zip(keys, sizes.items())
    }


def determinants(p: Any, x: jax.Array) -> jax.Array:
    """The logarithm of a wave function of electrons at x (3 k,), like FermiNet's."""
    r = x.reshape(-1, 3)
    k = len(r)
    apart = r[:, None] - r[None]
    distance = jnp.sqrt(jnp.sum(apart**2, -1) + jnp.eye(k))
    pairs = jnp.concatenate([apart, distance[..., None]], -1)
    for layer in ("p0", "p1"):
        pairs = jnp.tanh(pairs @ p[layer])
    radius = jnp.sqrt(jnp.sum(r**2, -1, keepdims=True))
    h = jnp.concatenate([r, radius, pairs.mean(1)], -1)
    h = jnp.tanh(h @ p["h0"])
    h = h + jnp.tanh(h @ p["h1"])
    orbitals = (h @ p["out"] * jnp.exp(-radius)).reshape(k, DETERMINANTS, k)
    sign, size = jnp.linalg.slogdet(orbitals.transpose(1, 0, 2))
    largest = jax.lax.stop_gradient(size.max())
    return largest + jnp.log(jnp.abs(jnp.sum(sign * jnp.exp(size - largest))))


def energy(f: Function) -> Function:
    """The kinetic energy of the wave function whose logarithm f is, up to -1/2."""

    def at(x: jax.Array) -> jax.Array:
        found = jd.derivatives(f, jd.Gradient(), jd.Laplacian())(x)
        return found.laplacian + found.gradient @ found.gradient

    return at


def wave(params: Any, x: jax.Array) -> jax.Array:
    """A complex number from two outputs of the network: their size and phase."""
    size, phase = mlp(params, x)
    return jnp.exp(size + 1j * phase)


def kernels(s: Size) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(0), HIDDEN)
    channels = (1, *[s.w] * HIDDEN)
    return [
        jax.random.normal(k, (3, 3, i, o)) / (9 * i) ** 0.5
        for k, i, o in zip(keys, channels, channels[1:])
    ]


def convolutions(params: Any, x: jax.Array) -> jax.Array:
    """A convolutional network at one square image x (d,)."""
    side = math.isqrt(x.size)
    h = x.reshape(1, side, side, 1)
    axes = ("NHWC", "HWIO", "NHWC")
    for kernel in params:
        h = jax.lax.conv_general_dilated(
            h, kernel, (1, 1), "SAME", dimension_numbers=axes
        )
        h = jnp.tanh(h)
    return jnp.mean(h)


def itself(f: Function) -> Function:
    return f


def five_entries(f: Function) -> Function:
    return jd.derivatives(f, *(jd.Partial((i, i + 1)) for i in range(0, 10, 2)))


def unbounded(s: Size) -> float:
    """No count of the products is made for this network."""
    return math.nan


GROUPS = {
    "gradient-3": Group(
        Size(512, 3, 1, 128),
        jacobian_bound,
        jd.gradient,
        {"jax.jacrev": jax.jacrev, "jax.jacfwd": jax.jacfwd, "jax.grad": jax.grad},
        {"torch autograd": peers.torch_gradient, "torch.func": peers.func_jacobian},
    ),
    "value-gradient-3": Group(
        Size(512, 3, 1, 128),
        jacobian_bound,
        jd.value_and_gradient,
        {"f and jax.grad": peers.apart(jax.grad), "together": jax.value_and_grad},
        {"torch autograd": peers.torch_value_and_gradient},
    ),
    "directional-3": directionals(Size(512, 3, 1, 128)),
    "directional-10": directionals(Size(512, 10, 10, 128)),
    "jacobian-10": jacobians(Size(512, 10, 10, 128)),
    "jacobian-50": jacobians(Size(256, 50, 10, 128)),
    "laplacian-3": laplacians(Size(512, 3, 1, 128)),
    "laplacian-10": laplacians(Size(512, 10, 1, 128)),
    "laplacian-50": laplacians(Size(256, 50, 1, 128)),
    "laplacian-400": laplacians(Size(128, 400, 1, 64)),
    "all-3": Group(
        Size(512, 3, 1, 128),
        laplacian_bound,
        one_pass,
        {
            "jax, three calls": peers.apart(jax.jacrev, peers.trace(jax.hessian)),
            "jaxcon, three calls": three_calls,
            "folx": peers.folx_all,
        },
        {"torch autograd": peers.torch_all},
        mlp,
    ),
    "hessian-3": Group(
        Size(512, 3, 1, 128),
        hessian_bound,
        jd.hessian,
        {
            "jvp of grad": peers.rows_of_hessian,
            "jax.hessian": jax.hessian,
            "jacrev of jacrev": lambda f: jax.jacrev(jax.jacrev(f)),
            "jacfwd of jacfwd": lambda f: jax.jacfwd(jax.jacfwd(f)),
        },
        {"torch autograd": peers.torch_hessian, "torch.func": peers.func_hessian},
    ),
    "fourth": Group(
        Size(512, 1, 1, 128),
        partial(collapsed_bound, tangents=3),
        partial(jd.derivative, order=4),
        {
            "nested jvp": peers.fourth_jvp,
            "nested grad": peers.fourth_grad,
            "jet": peers.fourth_jet,
        },
        {"torch autograd": peers.torch_fourth},
        of_line,
    ),
    "probes-50": Group(
        Size(256, 50, 1, 128),
        partial(collapsed_bound, tangents=PROBES),
        estimate,
        second_order(probes),
        {},
        prepare=partial(probes, 50),
    ),
    "determinants": Group(
        Size(64, 18, 1, 32),
        unbounded,
        energy,
        {
            "jvp of grad": peers.energy_jvp_of_grad,
            "folx": peers.folx_energy(0),
            "folx, sparse": peers.folx_energy(6),
        },
        {},
        determinants,
        params=determinants_params,
    ),
    "wave": Group(
        Size(512, 3, 2, 128),
        laplacian_bound,
        jd.laplacian,
        {
            "trace of jax.hessian": peers.of_parts(peers.trace(jax.hessian)),
            "folx": peers.folx_laplacian,
        },
        {},
        wave,
    ),
    "mixed-50": Group(
        Size(256, 50, 1, 128),
        unbounded,
        five_entries,
        {"jax.hessian": peers.five_entries},
        {},
    ),
    "convolutions": Group(
        Size(128, 256, 1, 16),
        unbounded,
        itself,
        {"jax": itself},
        {},
        convolutions,
        params=kernels,
    ),
}
