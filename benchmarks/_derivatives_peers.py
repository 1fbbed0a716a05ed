"""How others take the derivatives that `benchmarks.derivatives` measures.

In JAX a method is a function of f that returns a function of one example x, as jaxcon's
operators are. In PyTorch it is a function of a network that takes batches and of the
batch, as DeepXDE, PINA and PhysicsNeMo have it ("torch autograd"), or of torch.func.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.jet import jet

Function = Callable[[jax.Array], Any]
Operator = Callable[[Function], Function]
TorchMethod = Callable[[Any, Any], Any]
peer = functools.cache(importlib.import_module)


# First order.
def times(jacobian: Operator, along: Callable[[int], jax.Array]) -> Operator:
    """The whole Jacobian, multiplied by one direction."""
    return lambda f: lambda x: jacobian(f)(x) @ along(x.size)


def jvp(along: Callable[[int], jax.Array]) -> Operator:
    return lambda f: lambda x: jax.jvp(f, (x,), (along(x.size),))[1]


def apart(*operators: Operator) -> Operator:
    """The value and each derivative, every one written as its own call."""
    return lambda f: lambda x: (f(x), *(operator(f)(x) for operator in operators))


# Second order: v·H(x) v of a scalar f, to be summed over directions v.
def jvp_of_grad(f: Function, x: jax.Array, v: jax.Array) -> jax.Array:
    return jax.jvp(jax.grad(f), (x,), (v,))[1] @ v


def nested_grad(f: Function, x: jax.Array, v: jax.Array) -> jax.Array:
    return jax.grad(lambda x: jax.grad(f)(x) @ v)(x) @ v


def nested_jvp(f: Function, x: jax.Array, v: jax.Array) -> jax.Array:
    return jax.jvp(lambda x: jax.jvp(f, (x,), (v,))[1], (x,), (v,))[1]


def second_jet(f: Function, x: jax.Array, v: jax.Array) -> jax.Array:
    return jet(f, (x,), ((v, jnp.zeros_like(v)),))[1][1]


def summed(form: Callable, directions: Callable[[int], Any] = jnp.eye) -> Operator:
    """Sums a quadratic form over directions; over the unit vectors: a Laplacian."""

    def operator(f: Function) -> Function:
        def at(x: jax.Array) -> jax.Array:
            v = jnp.asarray(directions(x.size))
            return jnp.sum(jax.vmap(lambda v: form(f, x, v))(v))

        return at

    return operator


def trace(hessian: Operator) -> Operator:
    return lambda f: lambda x: jnp.trace(hessian(f)(x), axis1=-2, axis2=-1)


def rows_of_hessian(f: Function) -> Function:
    """One jvp of the gradient a row."""
    slope = jax.grad(f)
    return lambda x: jax.vmap(lambda v: jax.jvp(slope, (x,), (v,))[1])(jnp.eye(x.size))


def folx_laplacian(f: Function) -> Function:
    return lambda x: _folx(f)(x).laplacian


def folx_all(f: Function) -> Function:
    """Value, Jacobian and Laplacian, which folx has from one pass."""

    def at(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        result = _folx(f)(x)
        return result.x, result.jacobian.dense_array, result.laplacian

    return at


def _folx(f: Function, threshold: int = 0) -> Function:
    # At sparsity_threshold 0 the Jacobian is dense, as that of a dense network is.
    return peer("folx").forward_laplacian(f, sparsity_threshold=threshold)


def folx_energy(threshold: int) -> Operator:
    """The Laplacian of f and the squared norm of its gradient, together."""

    def operator(f: Function) -> Function:
        def at(x: jax.Array) -> jax.Array:
            result = _folx(f, threshold)(x)
            slope = result.jacobian.dense_array
            return result.laplacian + slope @ slope

        return at

    return operator


def energy_jvp_of_grad(f: Function) -> Function:
    def at(x: jax.Array) -> jax.Array:
        slope = jax.grad(f)(x)
        return summed(jvp_of_grad)(f)(x) + slope @ slope

    return at


def of_parts(operator: Operator) -> Operator:
    """An operator on real functions, applied to real and imaginary parts."""

    def applied(f: Function) -> Function:
        real, imaginary = (
            operator(lambda x, part=part: part(f(x))) for part in (jnp.real, jnp.imag)
        )
        return lambda x: jax.lax.complex(real(x), imaginary(x))

    return applied


def five_entries(f: Function) -> Function:
    """Five entries of the whole Hessian."""

    def at(x: jax.Array) -> tuple[jax.Array, ...]:
        h = jax.hessian(f)(x)
        return tuple(h[i, i + 1] for i in range(0, 10, 2))

    return at


# Fourth order, of one input.
def fourth_grad(f: Function) -> Function:
    for _ in range(4):
        f = jax.grad(f)
    return f


def fourth_jvp(f: Function) -> Function:
    def along(f: Function) -> Function:
        return lambda t: jax.jvp(f, (t,), (jnp.ones_like(t),))[1]

    for _ in range(4):
        f = along(f)
    return f


def fourth_jet(f: Function) -> Function:
    def at(t: jax.Array) -> jax.Array:
        zero = jnp.zeros_like(t)
        return jet(f, (t,), ((jnp.ones_like(t), zero, zero, zero),))[1][3]

    return at


# PyTorch.
def torch_step(
    method: TorchMethod, params: Any, x: jax.Array
) -> Callable[[], tuple[float, list[np.ndarray]]]:
    """A training step of the same network: mean squared derivative, its gradient."""
    torch = peer("torch")
    torch.set_num_threads(1)

    def tensor(array: jax.Array) -> Any:
        return torch.tensor(np.asarray(array)).requires_grad_()

    weights, inputs = jax.tree.map(tensor, params), tensor(x)
    leaves = jax.tree.leaves(weights)

    def network(x: Any) -> Any:
        for layer in weights[:-1]:
            x = torch.tanh(x @ layer["w"] + layer["b"])
        return x @ weights[-1]["w"] + weights[-1]["b"]

    def step() -> tuple[float, list[np.ndarray]]:
        results = method(network, inputs)
        results = results if isinstance(results, tuple) else (results,)
        loss = torch.stack([result.square().mean() for result in results]).sum()
        gradient = torch.autograd.grad(
            loss, leaves, allow_unused=True, materialize_grads=True
        )
        return loss.item(), [leaf.numpy() for leaf in gradient]

    return step


def torch_value(f: Any, x: Any) -> Any:
    return f(x if x.ndim == 2 else x[:, None])


def torch_gradient(f: Any, x: Any) -> Any:
    return _slope(f(x)[:, 0], x)


def torch_value_and_gradient(f: Any, x: Any) -> Any:
    y = f(x)
    return y, _slope(y[:, 0], x)


def torch_jacobian(f: Any, x: Any) -> Any:
    torch = peer("torch")
    return torch.stack([_slope(column, x) for column in f(x).unbind(1)], 1)


def torch_directional(f: Any, x: Any) -> Any:
    """The whole Jacobian times (1, …, 1)/√d."""
    return torch_jacobian(f, x).sum(-1) / x.shape[1] ** 0.5


def torch_laplacian(f: Any, x: Any) -> Any:
    return _torch_trace(_slope(f(x)[:, 0], x), x)


def torch_all(f: Any, x: Any) -> Any:
    y = f(x)
    slope = _slope(y[:, 0], x)
    return y, slope, _torch_trace(slope, x)


def torch_hessian(f: Any, x: Any) -> Any:
    torch = peer("torch")
    slope = _slope(f(x)[:, 0], x)
    return torch.stack([_slope(column, x) for column in slope.unbind(1)], 1)


def torch_fourth(f: Any, x: Any) -> Any:
    y = f(x[:, None])[:, 0]
    for _ in range(4):
        y = _slope(y, x)
    return y


def func_jacobian(f: Any, x: Any) -> Any:
    func = peer("torch.func")
    return func.vmap(func.jacrev(f))(x)


def func_directional(f: Any, x: Any) -> Any:
    func = peer("torch.func")
    v = (x[0].detach() * 0 + 1) / x.shape[1] ** 0.5
    return func.vmap(lambda x: func.jvp(f, (x,), (v,))[1])(x)


def func_hessian(f: Any, x: Any) -> Any:
    func = peer("torch.func")
    return func.vmap(func.hessian(lambda x: f(x)[0]))(x)


def func_laplacian(f: Any, x: Any) -> Any:
    return func_hessian(f, x).diagonal(dim1=-2, dim2=-1).sum(-1)


def _torch_trace(slope: Any, x: Any) -> Any:
    columns = enumerate(slope.unbind(1))
    return sum(_slope(column, x)[:, i] for i, column in columns)


def _slope(y: Any, x: Any) -> Any:
    """The derivative of each example's scalar y by its own x, kept differentiable."""
    autograd = peer("torch").autograd
    return autograd.grad(y.sum(), x, create_graph=True)[0]
