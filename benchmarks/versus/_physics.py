"""DeepXDE and jinns on Poisson's equation: boundary values by a weight on their loss."""

import os
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.versus._lane import PENALTIES, RATE, Iterate, Lane

POISSON = ("Poisson 1-D", "Poisson 2-D")


def by_deepxde(
    name: str, arrays: Any, setting: dict[str, float], steps: int, every: int
) -> Iterator[Iterate]:
    os.environ["DDE_BACKEND"] = "pytorch"
    import deepxde as dde  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    dde.config.set_default_float("float32")
    x, axes = arrays["x"], range(arrays["x"].shape[1])
    source = torch.tensor(arrays["source"])[:, None]
    edge = dde.icbc.PointSetBC(arrays["boundary"], arrays["values"][:, None])
    count = len(arrays["boundary"])

    def equation(x: Any, u: Any) -> Any:
        laplacian = sum(dde.grad.hessian(u, x, i=i, j=i)[count:] for i in axes)
        return laplacian + source

    box = dde.geometry.Hypercube([0.0] * len(axes), [1.0] * len(axes))
    if len(axes) == 1:
        box = dde.geometry.Interval(0.0, 1.0)
    data = dde.data.PDE(box, equation, edge, num_domain=0, anchors=x)
    net = dde.nn.FNN([len(axes), 64, 64, 1], "tanh", "Glorot normal")
    with torch.no_grad():
        for linear, layer in zip(net.linears, arrays["weights"]):
            linear.weight.copy_(torch.tensor(layer["w"].T.copy()))
            linear.bias.copy_(torch.tensor(layer["b"]))
    model = dde.Model(data, net)
    weights = [1.0, setting["penalty"]]
    decay = ("cosine", steps, 0.0)
    model.compile("adam", lr=RATE, loss_weights=weights, decay=decay, verbose=0)
    for done in range(every, steps + 1, every):
        model.train(iterations=every, display_every=every, verbose=0)
        layers = [
            {"w": linear.weight.detach().numpy().T, "b": linear.bias.detach().numpy()}
            for linear in net.linears
        ]
        yield Iterate(done, jax.tree.map(np.array, layers))


def by_jinns(
    name: str, arrays: Any, setting: dict[str, float], steps: int, every: int
) -> Iterator[Iterate]:
    import equinox as eqx
    import jinns  # pyright: ignore[reportMissingImports]

    begun, d = time.perf_counter(), arrays["x"].shape[1]

    def value(x: jax.Array) -> jax.Array:
        if d == 1:
            return jnp.reshape(x, (1,))
        return x[0:1] * x[1:2]

    def force(x: jax.Array) -> jax.Array:
        if d == 1:
            return 4 * jnp.pi**2 * jnp.sin(2 * jnp.pi * x)
        return 2 * jnp.pi**2 * jnp.prod(jnp.sin(jnp.pi * x), keepdims=True)

    class Equation(jinns.loss.PDEStatio):
        def equation(self, x: Any, u: Any, params: Any) -> Any:
            return jinns.loss.laplacian_rev(x, u, params).reshape(1) + force(x)

    class Edge(jinns.loss.BoundaryConditionAbstract):
        @jinns.loss.equation_on_all_facets_equal
        def equation_u(self, inputs: Any, u: Any, params: Any) -> Any:
            return u(jnp.atleast_1d(inputs), params)

        @jinns.loss.equation_on_all_facets_equal
        def equation_f(self, inputs: Any, params: Any, gridify: bool = False) -> Any:
            return value(inputs)

    data = jinns.data.CubicMeshPDEStatio(
        key=jax.random.key(0),
        n=len(arrays["x"]),
        nb=len(arrays["boundary"]),
        omega_border_batch_size=len(arrays["boundary"]) // (2 * d),
        dim=d,
        min_pts=(0.0,) * d,
        max_pts=(1.0,) * d,
        method="grid",
    )
    tanh = (jax.nn.tanh,)
    sizes = [(eqx.nn.Linear, d, 64), (eqx.nn.Linear, 64, 64), (eqx.nn.Linear, 64, 1)]
    u, drawn = jinns.nn.PINN_MLP.create(
        key=jax.random.key(0),
        eqx_list=(sizes[0], tanh, sizes[1], tanh, sizes[2]),
        eq_type="PDEStatio",
    )
    given = [leaf.T for layer in arrays["weights"] for leaf in (layer["w"], layer["b"])]
    tree = jax.tree.structure(drawn)
    params = jinns.parameters.Params(
        nn_params=jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in given]),
        eq_params={},
    )
    loss = jinns.loss.LossPDEStatio(
        u=u,
        dynamic_loss=Equation(),
        boundary_condition=Edge(),
        loss_weights=jinns.loss.LossWeightsPDEStatio(
            dyn_loss=1.0, boundary_loss=setting["penalty"]
        ),
        params=params,
    )
    tracked = jax.tree.map(lambda leaf: True, params)
    path = jinns.solve(
        n_iter=steps,
        init_params=params,
        data=data,
        loss=loss,
        optimizer=optax.adam(optax.cosine_decay_schedule(RATE, steps)),
        tracked_params=tracked,
        verbose=False,
    )[6]
    whole = time.perf_counter() - begun
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(path.nn_params)]
    for done in range(every, steps + 1, every):
        now = [leaf[done - 1].T for leaf in leaves]
        layers = [{"w": w, "b": b} for w, b in zip(now[::2], now[1::2])]
        yield Iterate(done, layers, whole * done / steps)


PHYSICS = (
    Lane(
        "DeepXDE, weighted",
        by_deepxde,
        PENALTIES,
        lambda name: (by_deepxde,),
        ("torch", "deepxde"),
        POISSON,
    ),
    Lane(
        "jinns, weighted",
        by_jinns,
        PENALTIES,
        lambda name: (by_jinns,),
        ("jinns",),
        POISSON,
        iterative=False,
    ),
)
