"""A formula in a docstring is a claim: here each is evaluated against its function."""

import importlib
import inspect
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tables import assert_each

import jaxcon as jc
from jaxcon import penalties
from jaxcon.lagrangians import (
    penalty_barrier_lagrangian,
    scheduled_penalty,
    unsettled,
)
from jaxcon.lagrangians import safeguarded_estimates as safeguarded

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


def log_quadratic(t):
    inside = np.log(2 * np.maximum(-t, 0.5))
    return np.where(t < -0.5, -inside / 4 - 3 / 8, t + t**2 / 2)


def exponential_quadratic(t):
    return np.where(t <= 0, np.exp(np.minimum(t, 0)) - 1, t + t**2 / 2)


def barrier_lagrangian(f, residuals, multipliers, rho, barrier):
    (h, mu), (g, lam) = pairs(residuals, multipliers)
    phi = {penalties.log_quadratic: log_quadratic}[barrier]
    return f + (mu * h + rho / 2 * h**2).sum() + (lam / rho * phi(rho * g)).sum()


def not_settled(residuals, multipliers, penalty):
    (h, _), (g, lam) = pairs(residuals, multipliers)
    return np.concatenate(
        [h, np.maximum(g, -lam / np.asarray(penalty.inequality["g"]))]
    )


def multiplier_estimates(residuals, multipliers, rho):
    (h, mu), (g, lam) = pairs(residuals, multipliers)
    return np.concatenate([mu + rho * h, positive_part(lam + rho * g)])


def safeguarded_estimates(multipliers, estimates):
    (mu, new), (lam, bold) = pairs(multipliers, estimates)
    del mu
    bounded = np.minimum(np.maximum(bold, 0.3 * lam), lam / 0.3)
    return np.concatenate([new, np.maximum(bounded, np.finfo(float).eps)])


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
    penalties.log_quadratic: (
        r"""\varphi(t) = t + \tfrac12 t^2 \quad (t \ge -\tfrac12), \qquad
        \varphi(t) = -\tfrac14 \log(-2t) - \tfrac38 \quad (t < -\tfrac12)""",
        log_quadratic,
        residual,
    ),
    penalties.exponential_quadratic: (
        r"""\varphi(t) = e^t - 1 \quad (t \le 0), \qquad
        \varphi(t) = t + \tfrac12 t^2 \quad (t > 0)""",
        exponential_quadratic,
        residual,
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
    penalty_barrier_lagrangian: (
        r"""f + \sum \left( \mu h + \tfrac{\rho}{2} h^2 \right)
          + \sum \frac{\lambda}{\rho} \varphi(\rho g)""",
        barrier_lagrangian,
        lambda: (
            jnp.array(RNG.normal()),
            *problem(RNG.uniform(0.1, 10), penalties.log_quadratic),
        ),
    ),
    unsettled: (
        r"h, \qquad \max(g, -\lambda / \rho)",
        not_settled,
        lambda: problem(
            jax.tree.map(lambda _: jnp.array(RNG.uniform(0.1, 10)), entries())
        ),
    ),
    jc.multiplier_estimates: (
        r"\hat\mu = \mu + \rho h, \qquad \hat\lambda = \max(\lambda + \rho g, 0)",
        multiplier_estimates,
        lambda: problem(RNG.uniform(0.1, 10)),
    ),
    safeguarded: (
        r"""\lambda \leftarrow \max\left(
            \min(\max(\hat\lambda, \kappa \lambda), \lambda / \kappa), \epsilon
        \right), \qquad \kappa = 0.3""",
        safeguarded_estimates,
        lambda: (entries(nonnegative=True), entries(scale=2.0)),
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


ETA, RHO, CAP, SHARE = 0.3, 0.7, 0.4, 0.9
KP, KI, KD, NU = 0.8, 0.5, 1.5, 0.6


def ascent(e, m, v, clamp):
    for e_t in e:
        m = clamp(m + ETA * e_t)
        yield m


def method_of_multipliers(e, m, v, clamp):
    for e_t in e:
        m = clamp(m + RHO * e_t)
        yield m


def pi(e, m, v, clamp, eta=1.0, zero=False):
    xi = np.zeros_like(m) if zero else e[0]
    for e_t in e:
        before, xi = xi, NU * xi + (1 - NU) * e_t
        m = clamp(m + eta * (KI * e_t + KP * (xi - before)))
        yield m


def nupi(e, m, v, clamp):
    return pi(e, m, v, clamp, ETA, zero=True)


def pid(e, m, v, clamp):
    before, integral = e[0], np.zeros_like(m)
    for e_t in e:
        rise, integral = clamp(e_t - before), clamp(integral + e_t)
        before = e_t
        yield clamp(KP * e_t + KI * integral + KD * rise)


def capped(e, m, v, clamp):
    for e_t in e:
        m = clamp(np.clip(m + ETA * e_t, -CAP, CAP))
        yield m


def restart_when_feasible(e, m, v, clamp):
    for e_t in e:
        m = clamp(np.where((e_t <= 0) & (clamp is positive_part), 0, m + ETA * e_t))
        yield m


def fixed_penalty(e, m, v, clamp):
    for e_t in e:
        # (r^2 / 2)' = r and (max(r, 0)^2 / 2)' = max(r, 0)
        yield RHO / e_t.size * clamp(e_t)


def when_stalled(e, m, v, clamp):
    for t, e_t in enumerate(e):
        m = clamp(m + ETA * e_t) if stalled(v, t) else m
        yield m


def stalled(v, t):
    return t > 0 and v[t] >= v[t - 1] - (1 - SHARE) * abs(v[t - 1])


SGD = jc.dual_ascent(optax.sgd(ETA))

# function: (its formula, a transform it makes, the multipliers after each call in NumPy
# from residuals, first multipliers, objectives and what keeps inequalities' >= 0)
RECURSIONS = {
    jc.dual_ascent: (
        r"""\mu \leftarrow \mu + \eta h, \qquad
        \lambda \leftarrow \max(0, \lambda + \eta g).""",
        SGD,
        ascent,
    ),
    jc.method_of_multipliers: (
        r"""\mu \leftarrow \mu + \rho h, \qquad
        \lambda \leftarrow \max(\lambda + \rho g, 0)""",
        jc.method_of_multipliers(),
        method_of_multipliers,
    ),
    jc.scale_by_pi: (
        r"""u_t = k_i e_t + k_p (\xi_t - \xi_{t-1}), \qquad
        \xi_t = \nu \xi_{t-1} + (1 - \nu) e_t""",
        # Ascent of rate 1 adds its increments up.
        jc.dual_ascent(optax.chain(jc.scale_by_pi(KP, KI, NU), optax.sgd(1.0))),
        pi,
    ),
    jc.nupi: (
        r"""\mu_{t+1} = \mu_t + \eta \left( k_i e_t + k_p (\xi_t - \xi_{t-1}) \right),
        \qquad \xi_t = \nu \xi_{t-1} + (1 - \nu) e_t""",
        jc.nupi(ETA, KP, KI, NU, init="zero"),
        nupi,
    ),
    jc.pid: (
        r"""D_t &= \max(g_t - g_{t-1}, 0), \qquad I_t = \max(I_{t-1} + g_t, 0) \\
        \lambda_{t+1} &= \max(k_p g_t + k_i I_t + k_d D_t, 0)""",
        jc.pid(KP, KI, KD),
        pid,
    ),
    jc.capped: (
        r"""\mu \leftarrow \min(\max(\mu, -c), c), \qquad
        \lambda \leftarrow \min(\max(\lambda, 0), c)""",
        jc.capped(SGD, CAP),
        capped,
    ),
    jc.restart_when_feasible: (
        r"\lambda \leftarrow 0 \quad \text{where} \quad g \le 0",
        jc.restart_when_feasible(SGD),
        restart_when_feasible,
    ),
    jc.fixed_penalty: (
        r"\mu_i = \frac{w}{n} p'(h_i), \qquad \lambda_i = \frac{w}{n} q'(g_i)",
        jc.fixed_penalty(RHO, jc.penalties.quadratic, jc.penalties.squared_hinge),
        fixed_penalty,
    ),
    jc.when_stalled: (
        r"v_t \ge v_{t-1} - (1 - \omega) |v_{t-1}|",
        jc.when_stalled(SGD, SHARE),
        when_stalled,
    ),
}


EVERY, GAMMA, TAU, EPS, LIMIT = 2, 3.0, 0.8, 0.5, 20.0


def scheduled(rho, unsettled_at, v):
    for t in range(1, 21):
        yield RHO + t


def growing(rho, unsettled_at, v):
    before = np.inf
    for t in range(1, 21):
        falls = t > 1 and v[t - 1] < v[t - 2] - abs(v[t - 2]) / 1000
        if t % EVERY == 0 and not falls:
            now = abs(unsettled_at(t - 1, rho)).max()
            if now > max(TAU * before, EPS):
                rho = min(GAMMA * rho, LIMIT)
            before = now
        yield rho


def adaptive(rho, unsettled_at, v):
    mean_square = 0.0
    for t in range(20):
        c = unsettled_at(t, rho)
        mean_square = NU * mean_square + (1 - NU) * np.mean(c**2)
        if stalled(v, t):
            rho = max(rho, ETA / np.sqrt(mean_square + EPS))
        yield rho


# function: (its formulas, a rule it makes, its penalty after each call in NumPy from the
# first one, what is unsettled at call t under a penalty, and the objectives)
RULES = {
    scheduled_penalty: (
        [r"\rho_t = \mathrm{schedule}(t)"],
        scheduled_penalty(lambda t: RHO + t),
        scheduled,
    ),
    jc.growing_penalty: (
        [
            r"|h|",
            r"|\max(g, -\lambda / \rho)|",
            r"""\rho \leftarrow \min(\gamma \rho, \rho_{\max}) \quad \text{if} \quad
            V > \max(\tau V', \epsilon)""",
            r"L_t \ge L_{t-1} - |L_{t-1}| / 1000",
        ],
        jc.growing_penalty(
            RHO, every=EVERY, factor=GAMMA, decrease=TAU, tolerance=EPS, limit=LIMIT
        ),
        growing,
    ),
    jc.adaptive_penalty: (
        [
            r"\max(g, -\lambda / \rho)",
            r"""\bar v \leftarrow \zeta \bar v + (1 - \zeta) \operatorname{mean}(C^2),
            \qquad \rho \leftarrow
            \max\left(\rho, \frac{\eta}{\sqrt{\bar v + \epsilon}}\right)""",
            r"L_t \ge L_{t-1} - (1 - \omega) |L_{t-1}|",
        ],
        jc.adaptive_penalty(ETA, decay=NU, initial=RHO / 4, decrease=SHARE, eps=EPS),
        adaptive,
    ),
}


def flat(value):
    """One array: of Constraints, the points of all entries as they were written."""
    if isinstance(value, jc.Constraints):
        return np.hstack([np.ravel(e) for _, _, e in jc.constraints.named(value)])
    return np.asarray(value)


def assert_formula(function):
    """Asserts that a formula is in the docstring and gives what the function gives."""
    formula, in_numpy, arguments = FORMULAS[function]
    words = " ".join(inspect.getdoc(function).split())
    assert " ".join(formula.split()) in words
    for _ in range(20):
        args = arguments()
        # Sums of at most ten terms of size up to rho * 10: some roundings of float64.
        np.testing.assert_allclose(
            flat(function(*args)), in_numpy(*args), rtol=1e-13, atol=1e-13
        )


def test_docstring_formulas_are_their_functions(x64):
    assert_each(FORMULAS, assert_formula)


def assert_recursion(function):
    """Asserts that a recursion is in the docstring and moves as the transform does."""
    formula, dual, in_numpy = RECURSIONS[function]
    words = " ".join(inspect.getdoc(function).split())
    assert " ".join(formula.split()) in words
    rng = np.random.default_rng(3)
    h, g = rng.normal(size=(2, 20, 5))
    v = rng.normal(size=20)
    multipliers = jc.Constraints({"h": jnp.zeros(5)}, {"g": jnp.zeros(5)})
    state, path = dual.init(multipliers), []
    for t in range(20):
        residuals = jc.Constraints({"h": jnp.array(h[t])}, {"g": jnp.array(g[t])})
        estimates = jc.multiplier_estimates(residuals, multipliers, RHO)
        penalty = jax.tree.map(lambda _: jnp.array(RHO), residuals)
        extra = {"value": v[t], "estimates": estimates, "penalty": penalty}
        moves, state = optax.with_extra_args_support(dual).update(
            residuals, state, multipliers, **extra
        )
        multipliers = optax.apply_updates(multipliers, moves)
        path.append(multipliers)
    mu = np.stack([multipliers.equality["h"] for multipliers in path])
    lam = np.stack([multipliers.inequality["g"] for multipliers in path])
    # Twenty sums of numbers of size ten: some roundings of float64.
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-13)
    close(mu, list(in_numpy(h, np.zeros(5), v, lambda m: m)))
    close(lam, list(in_numpy(g, np.zeros(5), v, positive_part)))


def test_docstring_recursions_are_their_transforms(x64):
    assert_each(RECURSIONS, assert_recursion)


def assert_rule(function):
    """Asserts that formulas are in the docstring and grow what the rule grows."""
    formulas, rule, in_numpy = RULES[function]
    words = " ".join(inspect.getdoc(function).split())
    for formula in formulas:
        assert " ".join(formula.split()) in words
    rng = np.random.default_rng(3)
    # Large at last, so that growth is seen.
    h, g = rng.normal(size=(2, 20, 5)) * np.geomspace(0.1, 2, 20)[:, None]
    v, lam = rng.normal(size=20), rng.uniform(0.1, 2, size=5)
    multipliers = jc.Constraints({"h": jnp.array(lam)}, {"g": jnp.array(lam)})
    penalty, state = rule.init(multipliers, jnp.float64)
    first, path = float(penalty.equality["h"]), []
    for t in range(20):
        residuals = jc.Constraints({"h": jnp.array(h[t])}, {"g": jnp.array(g[t])})
        penalty, state = rule.update(
            residuals, state, penalty, multipliers, jnp.array(v[t])
        )
        path.append(jax.tree.leaves(penalty))
    want = (
        list(in_numpy(first, lambda t, rho: h[t], v)),
        list(in_numpy(first, lambda t, rho: np.maximum(g[t], -lam / rho), v)),
    )
    # Twenty sums of a few roundings each.
    np.testing.assert_allclose(np.transpose(path), want, rtol=1e-12)
    assert np.min(np.ptp(want, axis=1)) > 0


def test_docstring_rules_are_their_penalties(x64):
    assert_each(RULES, assert_rule)


TRANSFORMS = [
    f"transforms.{room}"
    for room in ("_ascent", "_bounds", "_control", "_fixed", "_timing")
]


def test_docstring_formulas_of_these_rooms_are_all_evaluated():
    known = FORMULAS | RECURSIONS | RULES
    lagrangians = ["lagrangians._formulas", "lagrangians._penalty_rules"]
    for room in ("penalties", *lagrangians, *TRANSFORMS):
        module = importlib.import_module(f"jaxcon.{room}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            own = function.__module__ == module.__name__
            if own and re.search(r":math:|\.\. math::", str(function.__doc__)):
                assert function in known, f"{room}.{name}"
