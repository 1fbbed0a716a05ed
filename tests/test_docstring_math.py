"""A formula in a docstring is a claim: here each is evaluated against its function."""

import importlib
import inspect
import re

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcon as jc
from jaxcon import penalties

RNG = np.random.default_rng(3)


def positive_part(x):
    return np.maximum(x, 0)


def pairs(residuals, multipliers):
    """(h, mu) and (g, lambda), the points of all constraints in one array each."""
    for kind in jc.Constraints._fields:
        theirs, ours = getattr(multipliers, kind), getattr(residuals, kind)
        yield (
            np.concatenate([np.ravel(ours[name]) for name in ours]),
            np.concatenate([np.ravel(theirs[name]) for name in ours]),
        )


def lagrangian(f, residuals, multipliers):
    (h, mu), (g, lam) = pairs(residuals, multipliers)
    return f + (mu * h).sum() + (lam * g).sum()


def augmented_lagrangian(f, residuals, multipliers, rho):
    (h, mu), (g, lam) = pairs(residuals, multipliers)
    equality = (mu * h + rho / 2 * h**2).sum()
    return (
        f + equality + ((positive_part(lam + rho * g) ** 2 - lam**2) / (2 * rho)).sum()
    )


def multiplier_estimates(residuals, multipliers, rho):
    (h, mu), (g, lam) = pairs(residuals, multipliers)
    return np.concatenate([mu + rho * h, positive_part(lam + rho * g)])


def huber(h, delta):
    m = np.minimum(abs(h), delta)
    return m**2 / 2 + delta * (abs(h) - m)


def residual():
    return (jnp.array(RNG.normal(size=7) * 2),)


def entries(scale=1.0, nonnegative=False):
    """Residuals, or multipliers, of both kinds and both shapes."""
    h, hs, g = scale * RNG.normal(size=()), RNG.normal(size=3), RNG.normal(size=5)
    g = np.abs(g) if nonnegative else g
    return jc.Constraints({"h": jnp.array(h), "hs": jnp.array(hs)}, {"g": jnp.array(g)})


def problem(*more):
    return entries(), entries(nonnegative=True), *more


# function: (its formula, as the docstring has it; the same in NumPy; random arguments)
FORMULAS = {
    penalties.absolute: ("|h|", abs, residual),
    penalties.quadratic: (r"\tfrac12 h^2", lambda h: h**2 / 2, residual),
    penalties.hinge: (r"\max(g, 0)", positive_part, residual),
    penalties.squared_hinge: (
        r"\tfrac12 \max(g, 0)^2",
        lambda g: positive_part(g) ** 2 / 2,
        residual,
    ),
    penalties.huber: (
        r"\tfrac12 m^2 + \delta (|h| - m), \qquad m = \min(|h|, \delta)",
        huber,
        lambda: (*residual(), RNG.uniform(0.1, 2)),
    ),
    penalties.log_barrier: (
        r"-\log(-g)",
        lambda g: -np.log(-g),
        lambda: (-jnp.abs(*residual()),),
    ),
    jc.lagrangian: (
        r"f + \sum \mu h + \sum \lambda g",
        lagrangian,
        lambda: (jnp.array(RNG.normal()), *problem()),
    ),
    jc.augmented_lagrangian: (
        r"""f + \sum \left( \mu h + \tfrac{\rho}{2} h^2 \right)
          + \sum \frac{\max(\lambda + \rho g, 0)^2 - \lambda^2}{2 \rho}""",
        augmented_lagrangian,
        lambda: (jnp.array(RNG.normal()), *problem(RNG.uniform(0.1, 10))),
    ),
    jc.multiplier_estimates: (
        r"\hat\mu = \mu + \rho h, \qquad \hat\lambda = \max(\lambda + \rho g, 0)",
        multiplier_estimates,
        lambda: problem(RNG.uniform(0.1, 10)),
    ),
    jc.violation: (
        r":math:`|h|` and :math:`\max(g, 0)`",
        lambda r: np.concatenate(
            [abs(np.hstack([*r.equality.values()])), positive_part(r.inequality["g"])]
        ),
        lambda: (entries(),),
    ),
    jc.max_violation: (
        r"\max(|h|, g, 0)",
        lambda r: max(*abs(np.hstack([*r.equality.values()])), *r.inequality["g"], 0),
        lambda: (entries(),),
    ),
}


def flat(value):
    """One array: of Constraints, the points of all entries as they were written."""
    if isinstance(value, jc.Constraints):
        return np.hstack([np.ravel(e) for _, _, e in jc.constraints.named(value)])
    return np.asarray(value)


@pytest.mark.parametrize("function", FORMULAS, ids=lambda f: f.__name__)
def test_the_formula_stands_in_the_docstring_and_is_the_function(x64, function):
    formula, in_numpy, arguments = FORMULAS[function]
    words = " ".join(inspect.getdoc(function).split())
    assert " ".join(formula.split()) in words
    for _ in range(20):
        args = arguments()
        # Sums of at most ten terms of size up to rho * 10: some roundings of float64.
        np.testing.assert_allclose(
            flat(function(*args)), in_numpy(*args), rtol=1e-13, atol=1e-13
        )


@pytest.mark.parametrize("room", ["penalties", "lagrangian"])
def test_no_formula_of_these_rooms_goes_unevaluated(room):
    module = importlib.import_module(f"jaxcon.{room}")
    for name, function in inspect.getmembers(module, inspect.isfunction):
        own = function.__module__ == module.__name__
        if own and re.search(r":math:|\.\. math::", str(function.__doc__)):
            assert function in FORMULAS, name
