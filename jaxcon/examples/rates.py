r"""A limit on the rate of false alarms: an indicator, through a proxy, on two sets of data.

.. math::
    \min_\theta \text{logistic loss} \quad \text{subject to} \quad
    \frac{1}{n} \sum_{\text{negatives}} 1[s_\theta(x) > 0] \le \alpha = 0.05

for a linear score s. The rate has no gradient. A surrogate has one: the mean of sigmoid(s)
in place of the indicator. But it is another constraint, and a stricter one where most
negatives are far from the threshold. `jaxcon.proxy` lets the parameters follow the
surrogate while the multiplier sees the rate itself.

**Two Gaussians** of unit variance, :math:`\delta = 2` apart. Truth: the lemma of Neyman and
Pearson. Among all classifiers with a rate of false alarms of at most :math:`\alpha`, the
fewest misses are

.. math::
    \Phi(\Phi^{-1}(1 - \alpha) - \delta) = 0.3612

The rates of a linear score are :math:`\Phi(b / |w|)` and
:math:`\Phi(-(w_1 \delta + b) / |w|)`, so what is reached needs no sample to measure.
Reached from 1,000 evenly spread examples of each class: the optimum's two rates to 0.005 by
multipliers through the proxy, to 0.02 by projection, by moving the threshold and by
construction (which has fewer false alarms there than elsewhere: it fits the threshold's own
examples).

**Breast cancer** (scikit-learn's data): benign or malignant by two features, half of the
cases to train on. There is no closed form. What is known is the sampling error: of a rule
that has the rate :math:`\alpha` on n training negatives, the rate on m unseen ones deviates
by about :math:`\sqrt{\alpha (1 - \alpha) (1 / n + 1 / m)} = 0.023`. Reached by the same
methods: a rate on the training cases within one case of :math:`\alpha`, and on unseen ones
within three deviations.

Run it: ``jaxcon example rates``.

References:
    Neyman and Pearson, On the Problem of the Most Efficient Tests of Statistical
    Hypotheses (1933). Cotter et al., Two-Player Games for Efficient Non-Convex Constrained
    Optimization (2019).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import points, report
from jaxcon.comparison import MethodEvaluation
from jaxcon.constraints import Constraints, proxy
from jaxcon.examples._example import Findings, study
from jaxcon.methods import (
    Apply,
    Method,
    Problem,
    augmented,
    lagrangian,
    penalty,
    pi_control,
    unconstrained,
)
from jaxcon.transforms import proximal

LIMIT = 0.05  # alpha
SEPARATION = 2.0  # delta
FEATURES = ("mean radius", "mean texture")
STEPS = 4000
STRENGTH = 10.0
PRIMAL = optax.adam(optax.cosine_decay_schedule(0.03, STEPS))

Batch = dict[str, jax.Array]


def optimal_misses(alarms: Any) -> Any:
    r"""The fewest misses that go with a rate of false alarms, between the two Gaussians.

    .. math::
        \Phi(\Phi^{-1}(1 - \alpha) - \delta)

    Args:
        alarms: alpha, in (0, 1), any shape.

    Returns:
        Rates of that shape.
    """
    from scipy.stats import norm

    return norm.cdf(norm.isf(alarms) - SEPARATION)


def affine_rates(apply: Apply, params: Any) -> tuple[Any, Any]:
    r"""False alarms and misses of an affine score, over both whole Gaussians.

    .. math::
        \Phi(b / |w|), \qquad \Phi(-(w_1 \delta + b) / |w|)

    Args:
        apply: (params, x (2,)) -> b + w x.
        params: of it.

    Returns:
        Both rates.
    """
    from scipy.stats import norm

    b, w = jax.value_and_grad(partial(apply, params))(jnp.zeros(2))
    size = float(jnp.linalg.norm(w))
    return norm.cdf(b / size), norm.cdf(-(w[0] * SEPARATION + b) / size)


def gaussians(num: int, seed: int) -> Batch:
    """Evenly spread examples of both Gaussians, the positive one at (delta, 0).

    Args:
        num: n, of each.
        seed: of the scrambling.

    Returns:
        "negative" and "positive", each (n, 2).
    """
    spread = points.sobol([0.0] * 4, [1.0] * 4, num, seed=seed)
    z = jax.scipy.stats.norm.ppf(spread)
    return {"negative": z[:, :2], "positive": z[:, 2:] + jnp.array([[SEPARATION, 0.0]])}


def breast_cancer(seed: int) -> tuple[Batch, Batch]:
    """Two features of scikit-learn's breast cancer cases; malignant ones are positive.

    Args:
        seed: of the split into halves.

    Returns:
        Training and unseen cases, each "negative" (n, 2) and "positive" (m, 2), in
        standard deviations of the training cases.

    Raises:
        ImportError: scikit-learn is not installed, with the line that installs it.
    """
    try:
        from sklearn.datasets import load_breast_cancer
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise ImportError(
            "breast cancer data needs scikit-learn: pip install scikit-learn"
        ) from None
    data: Any = load_breast_cancer()
    x = data.data[:, [list(data.feature_names).index(name) for name in FEATURES]]
    malignant = data.target == list(data.target_names).index("malignant")
    halves: Any = train_test_split(
        x, malignant, test_size=0.5, stratify=malignant, random_state=seed
    )
    center, scale = halves[0].mean(axis=0), halves[0].std(axis=0)
    train, unseen = (
        {
            "negative": jnp.asarray(z[~positive], jnp.float32),
            "positive": jnp.asarray(z[positive], jnp.float32),
        }
        for z, positive in (
            ((part - center) / scale, label)
            for part, label in zip(halves[:2], halves[2:])
        )
    )
    return train, unseen


def scores(apply: Apply, params: Any, x: jax.Array) -> jax.Array:
    """The scores of many examples (n, d), shape (n,)."""
    return jax.vmap(partial(apply, params))(x)


def logistic_loss(apply: Apply, params: Any, batch: Batch) -> jax.Array:
    """The logistic loss of each class on average, and of both together, shape ()."""
    cross_entropy = optax.sigmoid_binary_cross_entropy
    alarm = cross_entropy(scores(apply, params, batch["negative"]), 0.0)
    miss = cross_entropy(scores(apply, params, batch["positive"]), 1.0)
    return 0.5 * (jnp.mean(alarm) + jnp.mean(miss))


def alarms(apply: Apply, params: Any, batch: Batch) -> jax.Array:
    """The share of negatives that are called positive, shape ()."""
    called = scores(apply, params, batch["negative"]) > 0
    return jnp.mean(jnp.where(called, 1.0, 0.0))


def misses(apply: Apply, params: Any, batch: Batch) -> jax.Array:
    """The share of positives that are not called so, shape ()."""
    called = scores(apply, params, batch["positive"]) > 0
    return jnp.mean(jnp.where(called, 0.0, 1.0))


def smooth_alarms(apply: Apply, params: Any, batch: Batch) -> jax.Array:
    """The surrogate: sigmoid in place of the indicator, shape ()."""
    return jnp.mean(jax.nn.sigmoid(scores(apply, params, batch["negative"])))


def threshold(apply: Apply, params: Any, negatives: jax.Array) -> jax.Array:
    """The lowest threshold that the limit allows on given negatives.

    Args:
        apply: (params, x (d,)) -> ().
        params: of it.
        negatives: (n, d).

    Returns:
        Halfway between the last score above it and the next, shape ().
    """
    ordered = jnp.sort(scores(apply, params, negatives))
    last = len(negatives) - int(LIMIT * len(negatives))
    return 0.5 * (ordered[last - 1] + ordered[last])


def _limited(rate: Any) -> Callable[[Apply], Constraints]:
    return lambda apply: Constraints(
        inequality={
            "false alarms": lambda params, batch: rate(apply, params, batch) - LIMIT
        }
    )


def _through_proxy(apply: Apply) -> Constraints:
    surrogate, strict = (
        _limited(rate)(apply).inequality["false alarms"]
        for rate in (smooth_alarms, alarms)
    )
    return Constraints(inequality={"false alarms": proxy(surrogate, strict)})


def _problem(train: Batch, unseen: Batch, score: Any) -> Problem:
    return Problem(
        init=lambda key: {"w": 0.1 * jax.random.normal(key, (2,)), "b": jnp.zeros(())},
        apply=lambda params, x: x @ params["w"] + params["b"],
        loss=logistic_loss,
        constraints=_limited(alarms),
        trained=_through_proxy,
        batch=train,
        unseen=unseen,
        score=score,
    )


def gaussian_problem(seed: int = 0) -> Problem:
    """Neyman and Pearson's problem, judged in closed form.

    Args:
        seed: of the examples.

    Returns:
        A `Problem` trained through the proxy.
    """

    def score(apply: Apply, params: Any) -> dict[str, Any]:
        false, missed = affine_rates(apply, params)
        away = np.hypot(false - LIMIT, missed - optimal_misses(LIMIT))
        return {"distance to optimum": away, "false alarms": false, "misses": missed}

    return _problem(gaussians(1000, seed), gaussians(2**15, seed + 1), score)


def breast_cancer_problem(seed: int = 0) -> Problem:
    """Malignant or benign, judged on the half of the cases that is held out.

    Args:
        seed: of the split.

    Returns:
        A `Problem` trained through the proxy.
    """
    train, unseen = breast_cancer(seed)

    def score(apply: Apply, params: Any) -> dict[str, Any]:
        return {
            "misses": misses(apply, params, unseen),
            "false alarms": alarms(apply, params, unseen),
            "training alarms": alarms(apply, params, train),
        }

    return _problem(train, unseen, score)


def sampling_deviation(train: Batch, unseen: Batch) -> float:
    r"""How far a rate set on one sample is from that on another, as a deviation.

    .. math::
        \sqrt{\alpha (1 - \alpha) (1 / n + 1 / m)}

    Args:
        train: n negatives, on which it is alpha.
        unseen: m negatives.

    Returns:
        The standard deviation, to first order.
    """
    both = sum(1 / len(part["negative"]) for part in (train, unseen))
    return float(np.sqrt(LIMIT * (1 - LIMIT) * both))


def methods() -> dict[str, Method]:
    """On the surrogate, through the proxy, and by the threshold.

    Returns:
        Methods by name.
    """

    def surrogate(method: Method) -> Method:
        return method._replace(
            change=lambda problem: problem._replace(trained=_limited(smooth_alarms))
        )

    return {
        "unconstrained": unconstrained(PRIMAL),
        "penalty, surrogate": surrogate(penalty(PRIMAL, STRENGTH)),
        "absolute penalty, surrogate": surrogate(penalty(PRIMAL, STRENGTH, "absolute")),
        "lagrangian, surrogate": surrogate(lagrangian(PRIMAL, 1.0)),
        "penalty, proxy": penalty(PRIMAL, STRENGTH),
        "lagrangian, proxy": lagrangian(PRIMAL, 1.0),
        "PI control, proxy": pi_control(PRIMAL, 1.0),
        "augmented, proxy": augmented(PRIMAL, STRENGTH),
        "projection": Method(_projected),
        "threshold moved": unconstrained(PRIMAL)._replace(change=_moved),
        "by construction": unconstrained(PRIMAL)._replace(change=_at_limit),
    }


def _projected(problem: Problem, _: Any) -> Any:
    """The bias falls to the nearest one that keeps the limit."""

    def lowered(params: Any) -> Any:
        above = threshold(problem.apply, params, problem.batch["negative"])
        return params | {"b": params["b"] - jnp.maximum(above, 0)}

    return unconstrained(proximal(PRIMAL, lowered)).solver(problem, None)


def _at_limit(problem: Problem) -> Problem:
    """A score whose threshold is always where the training negatives allow it."""

    def apply(params: Any, x: jax.Array) -> jax.Array:
        above = threshold(problem.apply, params, problem.batch["negative"])
        return problem.apply(params, x) - above

    return problem._replace(apply=apply)


def _moved(problem: Problem) -> Problem:
    """The same threshold, of a score that was trained without it."""
    return _at_limit(problem)._replace(
        loss=lambda _, params, batch: problem.loss(problem.apply, params, batch)
    )


def rates(seed: int = 0) -> Iterator[Findings]:
    """Both sets of data, every method.

    Args:
        seed: of the data and of the initial parameters.

    Yields:
        `Findings` of the Gaussians, then of breast cancer.
    """
    for title, problem, note, curve in (
        ("rates of Gaussians", gaussian_problem(seed), _gaussian_note, optimal_curve),
        (
            "rates of breast cancer",
            breast_cancer_problem(seed),
            _cancer_note,
            moved_curve,
        ),
    ):
        yield study(
            title,
            problem,
            methods(),
            steps=STEPS,
            factors=(0.1, 10.0),
            seed=seed,
            note=partial(note, problem),
            draw=partial(draw, problem, curve),
        )


def _gaussian_note(problem: Problem, outcomes: dict[str, MethodEvaluation]) -> str:
    on_surrogate, on_proxy = (
        outcomes[f"lagrangian, {kind}"].scores for kind in ("surrogate", "proxy")
    )
    moved = outcomes["threshold moved"].scores
    weights = outcomes["penalty, surrogate"].sensitivity
    assert weights is not None
    return (
        f"At most {LIMIT:.0%} false alarms cost at least {optimal_misses(LIMIT):.2%} "
        f"misses. The multiplier of the surrogate ends at "
        f"{on_surrogate['false alarms']:.2%} and {on_surrogate['misses']:.2%}, that of "
        f"the proxy at {on_proxy['false alarms']:.2%} and {on_proxy['misses']:.2%}; a "
        f"penalty on the surrogate, anywhere between "
        f"{weights.scores['false alarms'].min():.1%} and "
        f"{weights.scores['false alarms'].max():.1%} as its weight has it. Moving the "
        f"threshold ends at {moved['false alarms']:.2%} and {moved['misses']:.2%}: the "
        "limit does not turn the best direction."
    )


def _cancer_note(problem: Problem, outcomes: dict[str, MethodEvaluation]) -> str:
    on_proxy = outcomes["lagrangian, proxy"].scores
    on_surrogate = outcomes["lagrangian, surrogate"].scores
    deviation = sampling_deviation(problem.batch, _unseen(problem))
    return (
        f"The proxy ends at {on_proxy['training alarms']:.2%} of false alarms on the "
        f"training cases and {on_proxy['false alarms']:.2%} on unseen ones, where "
        f"{LIMIT:.0%} give or take {deviation:.1%} is what samples of this size say; the "
        f"surrogate at {on_surrogate['training alarms']:.2%} and "
        f"{on_surrogate['misses']:.1%} misses for the proxy's {on_proxy['misses']:.1%}."
    )


Curve = tuple[np.ndarray, np.ndarray, str]


def optimal_curve(problem: Problem, outcomes: Sequence[MethodEvaluation]) -> Curve:
    """The lemma's rates.

    Args:
        problem: of the Gaussians.
        outcomes: of its methods.

    Returns:
        False alarms and misses, and what they are.
    """
    rates = np.linspace(0.001, 0.25, 200)
    return rates, optimal_misses(rates), "Neyman and Pearson"


def moved_curve(problem: Problem, outcomes: Sequence[MethodEvaluation]) -> Curve:
    """The rates, on unseen examples, of an unconstrained score with any threshold.

    Args:
        problem: whose outcomes they are.
        outcomes: of its methods, the unconstrained one first.

    Returns:
        False alarms and misses, and what they are.
    """
    params, unseen = outcomes[0].result.state.params, _unseen(problem)
    negative, positive = (
        np.asarray(scores(problem.apply, params, unseen[name]))
        for name in ("negative", "positive")
    )
    cuts = np.quantile(negative, 1 - np.linspace(0.001, 0.25, 200))[:, None]
    alarms = np.mean(negative > cuts, axis=1)
    return alarms, np.mean(positive <= cuts, axis=1), "unconstrained, any threshold"


def draw(
    problem: Problem,
    curve: Callable[[Problem, Sequence[MethodEvaluation]], Curve],
    outcomes: Sequence[MethodEvaluation],
    path: Path,
) -> None:
    """The decisions among the examples, and the two rates.

    Args:
        problem: whose outcomes they are.
        curve: `optimal_curve` or `moved_curve`, to compare with.
        outcomes: of its methods, the unconstrained one first.
        path: the PNG to write.
    """
    figure = report.new_figure(13, 5.5)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    sizes = []
    for name, color in (("negative", "C0"), ("positive", "C3")):
        x = np.asarray(problem.batch[name])
        left.scatter(*x.T, s=6, color=color, alpha=0.3, label=name)
        sizes.append(f"{len(x)} {name}")
    limits = left.get_xlim(), left.get_ylim()
    across = [np.linspace(low, high, 100) for low, high in limits]
    plane = jnp.asarray(np.stack(np.meshgrid(*across), axis=-1), jnp.float32)
    *line, name = curve(problem, outcomes)
    right.plot(*line, color="0.5", lw=1, label=name)
    right.axvspan(LIMIT, 0.25, color="C3", alpha=0.1, lw=0, label="too many alarms")
    marks = "osD^v<>PX*h"
    for place, (outcome, mark) in enumerate(zip(outcomes, marks)):
        apply, params = (
            outcome.method.change(problem).apply,
            outcome.result.state.params,
        )
        color = f"C{place % 10}"
        height = jax.vmap(partial(scores, apply, params))(plane)
        line = "-" if place < 10 else "--"
        left.contour(*across, height, [0.0], colors=color, linestyles=line)
        at = outcome.scores["false alarms"], outcome.scores["misses"]
        right.plot(*at, mark, color=color, ms=8, alpha=0.8, label=outcome.name)
    left.set_title(", ".join(sizes))
    left.legend(fontsize=8)
    right.set(xlabel="false alarms, unseen", ylabel="misses, unseen", xlim=(0, 0.25))
    reached = outcomes[[one.name for one in outcomes].index("augmented, proxy")].scores
    right.set_title(
        f"augmented, proxy: {reached['false alarms']:.2%} alarms, "
        f"{reached['misses']:.2%} misses"
    )
    right.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def _unseen(problem: Problem) -> Batch:
    assert problem.unseen is not None
    return problem.unseen
