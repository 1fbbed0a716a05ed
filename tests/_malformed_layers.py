"""Good calls of layers, projections, penalties and points, to be altered one by one."""

from functools import partial

import jax
import jax.numpy as jnp

import jaxcon as jc


def network(**sizes):
    """A small network that may do anything."""
    return jc.layers.mlp(2, width=4, depth=2, **sizes)


def checked():
    """What `check` takes, for a bounded network."""
    bounded = network().then(jc.layers.bounded(0.0, 1.0))
    draw = partial(jc.points.uniform, lower=[0.0, 0.0], upper=[1.0, 2.0])
    return {
        "apply": bounded.apply,
        "params": bounded.init(jax.random.key(0)),
        "certificate": bounded.certificate,
        "sampler": draw,
        "num": 8,
        "reach": 10.0,
        "key": jax.random.key(0),
    }


def linear():
    """A flax module."""
    from flax import nnx

    return nnx.Linear(2, 3, rngs=nnx.Rngs(0))


def rngs():
    """Keys of flax."""
    from flax import nnx

    return nnx.Rngs(0)


def of(**given):
    """A function that returns these arguments."""
    return lambda: dict(given)


BOX = {"lower": [0.0, 0.0], "upper": [1.0, 2.0]}
DISC = jc.domains.ball([0.0, 0.0], 1.0)
SIZES = {"width": 4, "depth": 2}
Y = jnp.array([2.0, 0.3, 0.2])
POLYHEDRON = {
    "A": jnp.ones((1, 3)),
    "b": jnp.ones(1),
    "C": jnp.eye(3),
    "lower": jnp.zeros(3),
    "upper": jnp.full(3, 0.5),
    "iterations": 20,
}

GOOD = {
    # A dotted name, below jaxcon, and what makes the arguments of a good call of it.
    "from_module": lambda: {"module": linear()},
    "domains.ball": of(center=[0.0, 0.0], radius=1.0),
    "domains.box": of(**BOX),
    "domains.half_space": of(normal=[1.0, 0.0], offset=1.0),
    "domains.implicit": of(function=lambda x: 1 - x @ x, **BOX),
    "domains.polygon": of(vertices=[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
    "penalties.absolute": of(h=Y),
    "penalties.quadratic": of(h=Y),
    "penalties.hinge": of(g=Y),
    "penalties.squared_hinge": of(g=Y),
    "penalties.huber": of(h=Y, delta=1.0),
    "penalties.log_barrier": of(g=-Y),
    "penalties.log_quadratic": of(t=Y),
    "penalties.exponential_quadratic": of(t=Y),
    "points.grid": of(**BOX, num=3),
    "points.uniform": lambda: {"key": jax.random.key(0), **BOX, "num": 3},
    "points.sobol": of(**BOX, num=4, seed=0),
    "points.boundary": of(**BOX, num=2, seed=0),
    "points.worst_case": of(
        residual=lambda x: x[:, 0], **BOX, num=4, steps=2, ascents=2, seed=0
    ),
    "projections.affine": of(y=Y, A=jnp.ones((1, 3)), b=jnp.ones(1)),
    "projections.box_section": of(y=Y, lower=0.0, upper=1.0, weights=1.0, total=1.5),
    "projections.polyhedron": of(y=Y, **POLYHEDRON),
    "projections.second_order_cone": of(y=Y, t=2.0),
    "projections.spectral_ball": of(W=jnp.ones((2, 2)), radius=1.0),
    "layers.affine": of(A=jnp.ones((1, 3)), b=jnp.ones(1)),
    "layers.bounded": of(lower=0.0, upper=1.0),
    "layers.bounded_concave": of(
        domain_lower=[0.0],
        domain_upper=[1.0],
        lower=0.0,
        upper=1.0,
        increasing=0,
        **SIZES,
    ),
    "layers.bounded_convex": of(
        domain_lower=[0.0],
        domain_upper=[1.0],
        lower=0.0,
        upper=1.0,
        decreasing=0,
        **SIZES,
    ),
    "layers.bounded_entries": of(W=jnp.ones((2, 2))),
    "layers.bounded_rows": of(W=jnp.ones((2, 2))),
    "layers.box_boundary": of(**BOX, value=3.0, faces={0: "both"}),
    "layers.box_section": of(lower=0.0, upper=[0.5, 0.5, 1.0], weights=1.0, total=1.0),
    "layers.cayley": of(V=jnp.ones((2, 2))),
    "layers.check": checked,
    "layers.concave": of(inputs=2, concave=0, increasing=1, strong=0.5, **SIZES),
    "layers.convex": of(inputs=2, convex=0, decreasing=1, strong=0.5, **SIZES),
    "layers.derivative_box": of(inputs=2, lower=[0.0, -1.0], upper=1.0, **SIZES),
    "layers.dirichlet": of(domain=DISC, value=lambda x: x[0]),
    "layers.divergence_free": of(inputs=2),
    "layers.flux": of(domain=DISC, value=1.0, coefficient=2.0),
    "layers.fourier_features": of(inputs=2, num=3, scale=[1.0, 2.0], seed=0),
    "layers.gaussian": of(sigma=1.0),
    "layers.group_sort": of(x=Y),
    "layers.half_space": of(a=jnp.ones(2), upper=1.0),
    "layers.half_spaces": of(C=jnp.eye(2), upper=jnp.ones(2), iterations=20),
    "layers.initial_value": of(index=0, start=0.0, value=2.0, rate=1.0),
    "layers.integral": of(points=[[0.0], [1.0]], weights=[0.5, 0.5], value=1.0),
    "layers.learned_smoothing": lambda: {"network": network(outputs=5), "width": 3},
    "layers.lipschitz": of(inputs=2, outputs=2, constant=3.0, by="norms", **SIZES),
    "layers.mixed": of(
        index=0,
        dirichlet_at=1.0,
        neumann_at=0.0,
        value=5.0,
        slope=0.0,
        coefficient=1.0,
    ),
    "layers.mlp": of(inputs=2, outputs=2, activation=jnp.sin, adaptive=5.0, **SIZES),
    "layers.modified_mlp": of(
        inputs=2, outputs=2, width=4, depth=3, activation=jnp.sin
    ),
    "layers.module": lambda: {"network": network(), "rngs": rngs()},
    "layers.monotone": of(inputs=2, increasing=0, decreasing=1, **SIZES),
    "layers.moving_average": of(width=3),
    "layers.neumann": of(index=0, lower=0.0, upper=2.0, left=0.0, right=1.0),
    "layers.oblique_correction": of(
        A=[[1.0, -1.0]], lower=[0.0], upper=[1.0], max_condition=10.0
    ),
    "layers.ordered": of(gap=1.0),
    "layers.output": of(
        function=lambda y, x: y, carry=lambda guarantee: None, caveat=""
    ),
    "layers.periodic": of(periods={0: 2.0}),
    "layers.polyhedron": of(**POLYHEDRON),
    "layers.positive": of(lower=0.0),
    "layers.positive_definite": of(minimum=1.0),
    "layers.robin": of(
        index=0, lower=0.0, upper=2.0, left=(1.0, 2.0), right=(0.0, 1.0)
    ),
    "layers.siren": of(inputs=2, outputs=2, frequency=5.0, **SIZES),
    "layers.smooth_monotone": of(
        inputs=2, increasing=0, decreasing=1, groups=2, planes=2
    ),
    "layers.spectral_ball": of(shape=(2, 2), radius=1.0),
    "layers.sums_to": of(total=1.0),
}

VALUE = ("[1.0]", "[]", "array", "array (2,)", "1.0", "lambda")
FREE = {
    # By argument, what it takes beside values like the good one.
    "layers.affine": {"b": ("lambda",)},
    "layers.bounded": {
        "lower": ("-inf", "lambda"),
        "upper": ("[1.0]", "array (2,)", "lambda"),
    },
    "layers.box_boundary": {"value": VALUE},
    "layers.box_section": {
        "lower": ("-inf", "lambda"),
        "weights": ("lambda",),
        "total": ("lambda",),
    },
    "layers.check": {"apply": ("-> (2, 1)",)},
    "layers.concave": {"increasing": ("set",)},
    "layers.convex": {"decreasing": ("set",)},
    "layers.derivative_box": {"upper": ("array (2,)",)},
    "layers.dirichlet": {"value": VALUE},
    "layers.flux": {"value": VALUE, "coefficient": VALUE},
    "layers.half_space": {"a": ("lambda",), "upper": ("lambda",)},
    "layers.half_spaces": {"upper": ("lambda",)},
    "layers.initial_value": {"value": VALUE, "rate": VALUE},
    "layers.integral": {"value": VALUE},
    "layers.lipschitz": {"constant": ("array (2,)",)},
    "layers.mixed": {"value": VALUE, "slope": VALUE, "coefficient": VALUE},
    "layers.monotone": {"increasing": ("set",), "decreasing": ("set",)},
    "layers.neumann": {"left": VALUE, "right": VALUE},
    "layers.output": {"caveat": ("'a'", "'zzz'", "''")},
    "layers.polyhedron": dict.fromkeys(("A", "b", "C", "lower", "upper"), ("lambda",)),
    "layers.positive": {"lower": VALUE},
    "layers.smooth_monotone": {"increasing": ("set",), "decreasing": ("set",)},
    "layers.spectral_ball": {"radius": ("lambda",)},
    "layers.sums_to": {"total": ("lambda",)},
    "projections.box_section": {"lower": ("-inf",)},
    # Data, of which NaN makes NaN.
    "projections.second_order_cone": {"t": ("nan", "NumPy nan", "-inf")},
}
FUNCTIONS = {
    # Functions that are called at once, and their names in what they raise.
    ("points.worst_case", "residual"): ["worst_case: residual"],
    ("layers.check", "apply"): ["check: apply"],
    ("layers.check", "certificate"): ["check: certificate"],
    ("layers.check", "sampler"): ["check: sampler", "what sampler returns"],
}
