"""Good calls of proofs on boxes, to be altered one by one."""

import jax.numpy as jnp

import jaxcon as jc
from jaxcon import certify
from jaxcon.derivatives import Value

BOX = {"lower": [0.0], "upper": [1.0]}


def apply(params, x):
    """A network of one output."""
    return x[0]


def f(x):
    """A function of one point."""
    return x[0]


def of(**given):
    """A function that returns these arguments."""
    return lambda: dict(given)


def residual():
    """A constraint on the network."""
    return jc.shapes.bounded(apply, None, 2.0)


def enclosed(f, lower, upper, quantity, method):
    """The bounds of one quantity."""
    return certify.bounds(f, lower, upper, quantity, method=method)


def explained(f, lower, upper, quantity):
    """The account of one quantity."""
    return certify.explain(f, lower, upper, quantity)


CALLS = {"certify.bounds": enclosed, "certify.explain": explained}

GOOD = {
    "certify.ball": of(centre=[0.0], radius=1.0),
    "certify.between": lambda: {
        "constraint": residual(),
        "lower": -3.0,
        "upper": 1.0,
    },
    "certify.bounds": of(f=f, **BOX, quantity=Value(), method="adjoint"),
    "certify.convex": of(apply=apply, inputs=[0], sign=1),
    "certify.explain": of(f=f, **BOX, quantity=Value()),
    "certify.extremum": lambda: {
        "constraint": residual(),
        **BOX,
        "params": None,
        "within": [certify.simplex()],
        "tolerance": 0.1,
        "budget": 1.0,
    },
    "certify.half_space": of(normal=[1.0], offset=1.0),
    "certify.monotone": of(apply=apply, signs={0: 1}),
    "certify.simplex": of(total=1.0),
    "certify.verify": lambda: {
        "claim": residual(),
        **BOX,
        "params": None,
        "within": [certify.simplex()],
        "tolerance": 0.0,
        "budget": 1.0,
        "resume": None,
        "progress": lambda progress: None,
    },
    "certify.width": lambda: {
        "claim": residual(),
        "lower": [[0.0]],
        "upper": [[1.0]],
    },
}

FREE = {
    # By argument, what it takes beside values like the good one.
    "certify.between": {"lower": ("-inf",), "upper": ("-inf",)},
    "certify.extremum": {"params": ("all",)},
    "certify.verify": {"params": ("all",)},
}

NAMES = {
    # Words by which what is wrong with an argument is named.
    "certify.between": ["certify got"],
    "certify.bounds": ["quantit"],
    "certify.explain": ["quantit"],
    "certify.extremum": ["certify got"],
    "certify.monotone": ["the sign", "an input"],
    "certify.convex": ["the sign"],
    "certify.verify": ["certify got"],
    "certify.width": ["certify got"],
}

FUNCTIONS = {
    # Functions that are called at once, and their names in what they raise.
    ("certify.bounds", "f"): ["bounds: f", "derivatives: f", "raised in apply"],
    ("certify.explain", "f"): ["explain: f", "derivatives: f", "raised in apply"],
}


def use(name, made, given):
    """Uses a domain at a point, a claim on a box."""
    if name in ("certify.ball", "certify.half_space", "certify.simplex"):
        return made(jnp.zeros(1))
    if name == "certify.width":
        return made(None, None)
    if isinstance(made, certify.Claim):
        return certify.verify(made, **BOX, budget=1.0)
    return None
