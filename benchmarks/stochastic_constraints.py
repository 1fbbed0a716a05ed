"""How far does noise in the residuals bend the multipliers, and what straightens them?

Question     By how much does the clamp of lambda at 0, or max(lambda + rho g, 0), answer to
             noise alone? Do a smaller rate, averaging or a batch of the dual's own help?
Conditions   Residuals with Gaussian noise of deviation 0.5; SGD of rate 0.1 on the
             multiplier, 0.01 (iii: 0.2, 0.05) on the parameter, dual first. Means over the
             later three quarters of 64 runs of 20,000 steps (i) or 32 of 40,000. Standard
             errors: as given; (ii) up to 0.0005 of x. "Own batch": jc.SplitBatch. Theory:
             (i) the largest sum of a random walk (Spitzer), (ii) the parameter where it
             balances (i), or the mean of a rectified Gaussian. float32.
Run          python -m benchmarks.stochastic_constraints
Last         2026-11-21, jax 0.12.0, CPU (one seed; the machine matters to no figure).

             (i) mean multiplier of a slack constraint, at margins 0.10, 0.25, 0.50
             sgd                                 0.0971 ± 8   0.02649 ± 13   0.006299 ± 28
             sgd, rate / 10                      0.0097       0.00265        0.000630
             every 10th                          0.0960       0.02608        0.006174
             MultiSteps(.., 10), in or around    0.0054       0.00044        0.000004
             ema(0.9)                            0.0266       0.00037        0
             sgd: theory                         0.0983       0.02660        0.006319
             mean of 10: theory                  0.0055       0.00044        0.000003
             rate σ² / 2 m                       0.1250       0.05000        0.025000

             (ii) min (x - a)² s.t. x <= c, at penalties none, 1 and 10
                               a 0, c 0.2: x = 0           a 2, c 1: x = 1, λ = 2
             sgd              -0.0165 -0.0572 -0.2542   1.000 2.00  1.000 2.00  0.980 0.21
             sgd, rate / 10   -0.0019 -0.0503 -0.2527   1.000 2.00  1.000 2.00  0.993 0.05
             every 10th       -0.0159 -0.0536 -0.2530   0.998 2.01  0.998 2.01  0.975 0.31
             MultiSteps       -0.0005 -0.0496 -0.2525   1.000 2.00  1.000 2.00  0.994 0.05
             ema(0.9)         -0.0008 -0.0496 -0.2525   1.000 2.00  1.000 2.00  0.986 0.16
             sgd, own batch   -0.0166 -0.0534 -0.2531   1.000 2.00  1.000 2.00  0.970 0.37
             no multiplier     0      -0.0495 -0.2525   2.000 0     1.659 0     0.997 0
             theory           -0.0168 -0.0495 -0.2506   (first sgd, then no multiplier)

             (iii) min (x - 2)² s.t. a x <= 1 in the mean, var a = 1/4: x = 1; λ, at
             penalties none and 1, with the same batch and with the dual's own
             simultaneous                            2.000 1.751   1.998 1.749
             theory                                  2.000 1.750   2.000 1.750
             alternating                             1.950 1.701   1.999 1.749
             theory                                  1.950 1.700   2.000 1.750

Conclusion   A slack constraint pushes: by rate σ² / 2 m at little slack, by less at more,
             and always in proportion to the rate. Averaging k residuals counts as noise
             σ / sqrt(k): at the speed of a k-th of the rate it is 2 to 170 times better,
             inside or around the ascent, to the bit; `every` is no averaging and helps
             nothing. ema keeps the full speed and helps the more, the longer its window
             is against (σ / m)² steps. An active constraint and its lambda stay, as
             long as rho σ is small against lambda: at 10 the noise does most of the
             push and lambda falls to what is missing. The penalty's own push (Jensen) is
             there without any multiplier, and neither averaging in the dual nor a batch
             of its own removes it: only a smaller rho or larger batches do. An own batch
             removes the correlation of lambda's move with the gradient that it weights,
             rate var a, which simultaneous moves do not have; rho var a stays.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcon as jc

Draw = Callable[[jax.Array], Any]


class Mean(NamedTuple):
    """A mean over independent runs.

    Attributes:
        value: the mean.
        error: its standard error.
    """

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:#.4g} ± {self.error:.0e}"


# What theory says.


def clamped_mean(rate: float, margin: float, noise: float) -> float:
    r"""The mean multiplier of a slack constraint whose residual is noisy.

    The multiplier is a random walk kept at or above 0, of steps
    :math:`\eta (-m + \sigma \epsilon_t)`. In the long run it is distributed as the
    largest of the walk's sums, :math:`S_k \sim N(-k \eta m, k \eta^2 \sigma^2)`, so

    .. math::
        E \lambda = \sum_{k \ge 1} \tfrac1k E \max(S_k, 0)
          \to \tfrac{\eta \sigma^2}{2 m} \quad \text{for } m / \sigma \to 0

    Args:
        rate: eta of the ascent.
        margin: m > 0, how slack the constraint is.
        noise: sigma, the standard deviation of its residual.

    Returns:
        The mean. It is proportional to eta whatever the margin is.

    References:
        Spitzer, A Combinatorial Lemma and Its Application to Probability Theory (1956).
    """
    # Terms fall off as exp(-k (m / sigma)^2 / 2): the rest is below 1e-20.
    k = np.arange(1.0, 100.0 * (noise / margin) ** 2 + 100.0)
    return float(rate * np.sum(rectified_mean(-k * margin, np.sqrt(k) * noise) / k))


def rectified_mean(mean: Any, noise: Any) -> Any:
    r"""The mean of a rectified Gaussian, never below its rectified mean (Jensen).

    .. math::
        E \max(z + s \epsilon, 0) = z \Phi(z / s) + s \varphi(z / s)

    Args:
        mean: z.
        noise: s > 0.

    Returns:
        The mean, in the shape of the arguments.
    """
    from scipy.stats import norm

    return mean * norm.cdf(mean / noise) + noise * norm.pdf(mean / noise)


def pushed(cap: float, push: Callable[[float], float]) -> float:
    r"""Where :math:`\min x^2` s.t. :math:`x \le c` rests under a mean push.

    Args:
        cap: c > 0, so that the constraint is slack at the answer 0.
        push: the mean multiplier estimate at a margin, which falls with the margin.

    Returns:
        x < 0 with :math:`2 x + \mathrm{push}(c - x) = 0`.
    """
    from scipy.optimize import brentq

    return float(brentq(lambda x: 2.0 * x + push(cap - x), -10.0, 0.0))  # pyright: ignore[reportArgumentType]


# What happens.


def multiplier_under_noise(
    dual: optax.GradientTransformation,
    margin: float,
    noise: float,
    key: jax.Array,
    steps: int = 20_000,
    runs: int = 64,
) -> Mean:
    """The mean multiplier that `dual` keeps for a slack constraint; nothing else moves.

    Args:
        dual: a transform for multipliers.
        margin: how slack the constraint is.
        noise: the standard deviation of its residual.
        key: a key.
        steps: in each run, the first quarter of which is not counted.
        runs: independent ones.

    Returns:
        The mean.
    """
    dual = optax.with_extra_args_support(dual)

    def step(carry: Any, key: jax.Array) -> Any:
        lam, state = carry
        g = jc.Constraints(inequality={"g": noise * jax.random.normal(key) - margin})
        climb, state = dual.update(g, state, lam)
        lam = optax.apply_updates(lam, climb)
        return (lam, state), lam.inequality["g"]  # pyright: ignore[reportAttributeAccessIssue]

    def run(key: jax.Array) -> jax.Array:
        lam: Any = jc.Constraints(inequality={"g": jnp.zeros(())})
        start = (lam, dual.init(lam))
        return jax.lax.scan(step, start, jax.random.split(key, steps))[1]

    return _mean(jax.jit(jax.vmap(run))(jax.random.split(key, runs)))


def parabola(aim: float, residual: Callable[[Any, Any], jax.Array]) -> tuple[Any, Any]:
    """Loss and constraints of min (x - aim)^2 under one noisy inequality."""
    constraints = jc.Constraints(inequality={"cap": residual})
    return lambda x, _: ((x - aim) ** 2, x), constraints


def shifted(cap: float, noise: float) -> tuple[Callable[..., jax.Array], Draw]:
    """A bound x <= cap plus noise, which does not enter its gradient; and the noise."""
    draw = lambda key: noise * jax.random.normal(key)  # noqa: E731
    return lambda x, batch: x - cap + batch, draw


def scaled(noise: float) -> tuple[Callable[..., jax.Array], Draw]:
    """A x <= 1, which holds in the mean for x <= 1; and the draws of A, of mean 1."""
    draw = lambda key: 1.0 + noise * jax.random.normal(key)  # noqa: E731
    return lambda x, batch: batch * x - 1.0, draw


def paired(draw: Draw) -> Draw:
    """Two independent batches, one for each step."""
    return lambda key: jc.SplitBatch(*(draw(k) for k in jax.random.split(key)))


class Rest(NamedTuple):
    """Means over the later part of long runs.

    Attributes:
        x: of the parameter.
        multiplier: of lambda.
    """

    x: Mean
    multiplier: Mean


def rest(
    solver: jc.Solver,
    draw: Draw,
    key: jax.Array,
    steps: int = 40_000,
    runs: int = 32,
) -> Rest:
    """Where a solver rests whose loss returns x beside its value.

    Args:
        solver: of one parameter and one inequality called "cap".
        draw: key -> batch.
        key: a key.
        steps: in each run, the first quarter of which is not counted.
        runs: independent ones.

    Returns:
        The means.
    """

    def step(state: Any, key: jax.Array) -> Any:
        state, info = solver.step(state, draw(key))
        return state, (info.aux, info.multiplier.inequality["cap"])

    def run(key: jax.Array) -> Any:
        start = solver.init(jnp.zeros(()), draw(key))
        return jax.lax.scan(step, start, jax.random.split(key, steps))[1]

    x, multiplier = jax.jit(jax.vmap(run))(jax.random.split(key, runs))
    return Rest(_mean(x), _mean(multiplier))


def _mean(rows: jax.Array) -> Mean:
    """Over runs (first axis) and all steps (last axis) but the first quarter."""
    late = np.asarray(rows, np.float64)[:, rows.shape[1] // 4 :].mean(1)
    return Mean(float(late.mean()), float(late.std(ddof=1) / len(late) ** 0.5))


# The table.

RATE, NOISE, CALLS = 0.1, 0.5, 10
PRIMAL = optax.sgd(0.01)


def duals() -> dict[str, optax.GradientTransformation]:
    """What is tried against the noise."""

    def averaged(transform: optax.GradientTransformation) -> Any:
        return optax.MultiSteps(transform, CALLS).gradient_transformation()

    sgd, ema = optax.sgd(RATE), optax.ema(1.0 - 1.0 / CALLS)
    return {
        "sgd": jc.dual_ascent(sgd),
        "sgd, rate / 10": jc.dual_ascent(optax.sgd(RATE / CALLS)),
        "every 10th": jc.every(jc.dual_ascent(sgd), CALLS),
        "MultiSteps(dual_ascent, 10)": averaged(jc.dual_ascent(sgd)),
        "dual_ascent(MultiSteps(sgd, 10))": jc.dual_ascent(averaged(sgd)),
        "ema(0.9)": jc.dual_ascent(optax.chain(ema, sgd)),
    }


def multipliers_table(key: jax.Array) -> None:
    print(f"\n(i) mean multiplier of a slack constraint, noise {NOISE}, rate {RATE}")
    margins = [0.2 * NOISE, 0.5 * NOISE, NOISE]
    heads = "".join(f"{f'margin {margin:.2f}':>22s}" for margin in margins)
    print(f"{'':34s}{heads}")
    theory = {
        "sgd: theory": partial(clamped_mean, RATE),
        "mean of 10: theory": lambda margin, noise: clamped_mean(
            RATE, margin, noise / CALLS**0.5
        ),
        "rate σ² / 2 m": lambda margin, noise: RATE * noise**2 / (2 * margin),
    }
    for name, dual in duals().items():
        row = [multiplier_under_noise(dual, margin, NOISE, key) for margin in margins]
        print(f"{name:34s}" + "".join(f"{mean!s:>22s}" for mean in row), flush=True)
    for name, mean in theory.items():
        row = [mean(margin, NOISE) for margin in margins]
        print(f"{name:34s}" + "".join(f"{value:22.2e}" for value in row))


def solutions_table(key: jax.Array) -> None:
    """Both answers of each method: x of the slack problem, x and lambda of the active."""
    penalties = (None, 1.0, 10.0)
    print(
        f"\n(ii) min (x - a)² s.t. x <= c, noise {NOISE}, at penalties none, 1 and 10"
    )
    print(f"{'':34s}{'a 0, c 0.2: x = 0':>28s}{'a 2, c 1: x = 1, λ = 2':>40s}")
    methods = {name: (dual, False) for name, dual in duals().items()}
    methods["sgd, own batch"] = (jc.dual_ascent(optax.sgd(RATE)), True)
    methods["no multiplier"] = (optax.set_to_zero(), False)
    for name, (dual, own) in methods.items():
        cells = []
        for aim, cap in ((0.0, 0.2), (2.0, 1.0)):
            residual, draw = shifted(cap, NOISE)
            loss, constraints = parabola(aim, residual)
            for penalty in penalties:
                solver = jc.alternating(
                    jc.Lagrangian(loss, constraints, penalty=penalty), PRIMAL, dual
                )
                found = rest(solver, paired(draw) if own else draw, key)
                cells.append(
                    f"{found.x.value:10.4f}"
                    if aim < cap
                    else f"{found.x.value:8.3f} {found.multiplier.value:5.3f}"
                )
        print(f"{name:34s}" + "".join(cells), flush=True)
    print(
        f"{'sgd: theory':34s}{pushed(0.2, lambda m: clamped_mean(RATE, m, NOISE)):10.4f}"
    )
    alone = [
        pushed(0.2, lambda m, rho=rho: rectified_mean(-rho * m, rho * NOISE))
        for rho in penalties[1:]
    ]
    print(f"{'no multiplier: theory':44s}" + "".join(f"{x:10.4f}" for x in alone))


def correlated(
    order: str, penalty: float | None, own: bool, key: jax.Array, **more: Any
) -> tuple[Rest, float]:
    r"""Min (x - 2)^2 s.t. a x <= 1 in the mean, E a = 1: answer x = 1, lambda = 2.

    Where residual and gradient read the same draw of a, the mean of their product is
    not the product of their means. With :math:`s^2 = \operatorname{var} a`,

    .. math::
        E[(\lambda + c\,(a x - 1))\, a] = E \lambda + c\, ((1 + s^2) E x - 1)

    and c is the sum of :math:`\rho`, whose residual is the gradient's own, and, where
    the multiplier moves before it weights the same batch, of :math:`\eta`.

    Args:
        order: name of an order of steps.
        penalty: rho, or None.
        own: whether the dual has a batch of its own.
        key: a key.
        **more: of `rest`.

    Returns:
        Where the method rests, and the mean multiplier that theory puts there.
    """
    rate, noise = 0.2, 0.5
    residual, draw = scaled(noise)
    loss, constraints = parabola(2.0, residual)
    solver = getattr(jc, order)(
        jc.Lagrangian(loss, constraints, penalty=penalty),
        optax.sgd(0.05),
        jc.dual_ascent(optax.sgd(rate)),
    )
    found = rest(solver, paired(draw) if own else draw, key, **more)
    at_once = rate if order == "alternating" and not own else 0.0
    x = found.x.value
    bend = (at_once + (penalty or 0.0)) * ((1.0 + noise**2) * x - 1.0)
    return found, 2.0 * (2.0 - x) - bend


def correlation_table(key: jax.Array) -> None:
    print("\n(iii) min (x - 2)² s.t. a x <= 1 in the mean, noise 0.5: x = 1, λ = 2")
    print(f"{'':34s}{'penalty':>8s}{'x':>20s}{'λ':>20s}{'λ, theory':>12s}")
    for order in ("simultaneous", "alternating"):
        for own in (False, True):
            for penalty in (None, 1.0):
                found, theory = correlated(order, penalty, own, key)
                label = order + (", own batch" if own else "")
                print(
                    f"{label:34s}{penalty or '-':>8}{found.x!s:>20s}"
                    f"{found.multiplier!s:>20s}{theory:12.4f}",
                    flush=True,
                )


def main() -> None:
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    key = jax.random.key(0)
    multipliers_table(key)
    solutions_table(key)
    correlation_table(key)


if __name__ == "__main__":
    main()
