r"""Methods to train: each turns one definition of a problem into a method.

A `Problem` says what is to be fitted and what must hold, and nothing of how. A `Method`
makes a `Solver` of it, from at most one hyperparameter, perhaps after changing the
network to one that obeys by construction. All builders here take the primal optimizer
first; rates and weights are divided by a constraint's number of residuals, so that they
mean the same however many points it is checked at.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon import penalties
from jaxcon.constraints import Constraints, evaluate, named
from jaxcon.primal_dual import Solver, alternating
from jaxcon.transforms import (
    dual_ascent,
    every,
    fixed_penalty,
    method_of_multipliers,
    proximal,
    scale_by_pi,
)

Apply = Callable[[Any, jax.Array], jax.Array]


class Problem(NamedTuple):
    """What is to be fitted and what must hold.

    Loss, constraints and score take the network as their first argument, so that a method
    may put another one in its place.

    Attributes:
        init: (key) -> params.
        apply: (params, x (d,)) -> output of one example.
        loss: (apply, params, batch) -> ().
        constraints: (apply) -> `Constraints`: what must hold. Those that read points read
            them from ``batch["points"]``.
        batch: data and points, a dict of arrays.
        score: (apply, params) -> {name: number}, smaller is better, measured on data no
            method was trained on.
        lower: lower corner of the box in which constraints on points must hold, (d,); None
            where there are none.
        upper: upper corner, (d,).
        trained: (apply) -> `Constraints` that are trained on, if not `constraints`
            themselves: some with a margin, or stand-ins for them.
        unseen: the batch that constraints are judged on, with other data than `batch`
            and the same names; `batch` itself unless given.
    """

    init: Callable[[jax.Array], Any]
    apply: Apply
    loss: Callable[[Apply, Any, Any], jax.Array]
    constraints: Callable[[Apply], Constraints]
    batch: dict[str, Any]
    score: Callable[[Apply, Any], dict[str, float]]
    lower: Any = None
    upper: Any = None
    trained: Callable[[Apply], Constraints] | None = None
    unseen: dict[str, Any] | None = None

    def objective(self, params: Any, batch: Any) -> jax.Array:
        """The loss of the problem's own network, ()."""
        return self.loss(self.apply, params, batch)

    def held(self) -> Constraints:
        """What must hold of the problem's own network."""
        return self.constraints(self.apply)

    def trained_on(self) -> Constraints:
        """What its network is trained on."""
        return (self.trained or self.constraints)(self.apply)


def _unchanged(problem: Problem) -> Problem:
    return problem


class Method(NamedTuple):
    """How to train.

    Attributes:
        solver: (problem, value) -> `Solver`.
        hyperparameter: what its value is, e.g. "weight"; "" where it has none.
        value: of it.
        change: problem -> problem, before anything else: another network or other
            constraints to train on.
    """

    solver: Callable[[Problem, Any], Solver]
    hyperparameter: str = ""
    value: float = float("nan")
    change: Callable[[Problem], Problem] = _unchanged


def unconstrained(primal: optax.GradientTransformation) -> Method:
    """The loss alone; constraints are evaluated and have no say.

    Args:
        primal: an optax transform for the parameters.

    Returns:
        A `Method` without hyperparameter.
    """
    return Method(lambda problem, _: _alternating(problem, primal, optax.set_to_zero()))


# name: prices of an equality and of an inequality.
PRICES: dict[str, tuple[Callable, Callable]] = {
    "quadratic": (penalties.quadratic, penalties.squared_hinge),
    "absolute": (penalties.absolute, penalties.hinge),
    "huber": (penalties.huber, lambda g: penalties.huber(jnp.maximum(g, 0))),
    # The residual itself: the weighted sum of two aims that many call a penalty.
    "linear": (lambda h: h, lambda g: g),
}


def penalty(
    primal: optax.GradientTransformation,
    weight: float,
    price: str = "quadratic",
    *,
    per_term: optax.GradientTransformation | None = None,
) -> Method:
    r"""A fixed penalty: :math:`f + w \operatorname{mean} p(\text{residual})`.

    Args:
        primal: an optax transform for the parameters.
        weight: w, in loss units per unit of price.
        price: a key of `PRICES`: "quadratic" (halved; of :math:`g_+` for inequalities),
            "absolute" (hinge), "huber" or "linear".
        per_term: what balances the loss and the prices of the constraints, e.g.
            `jaxcon.balance_by_gradient_norm()` or `jaxcon.conflict_free()`.

    Returns:
        A `Method` whose hyperparameter is the weight.

    Raises:
        ValueError: there is no such price.
    """
    if price not in PRICES:
        raise ValueError(f"there is no price {price!r}; there are {', '.join(PRICES)}")
    return Method(
        lambda problem, w: _alternating(
            problem, primal, fixed_penalty(w, *PRICES[price]), per_term=per_term
        ),
        "weight",
        weight,
    )


def multipliers(
    primal: optax.GradientTransformation,
    dual: Callable[[Any], optax.GradientTransformation],
    rate: float,
) -> Method:
    """The plain Lagrangian, its multipliers moved by any transform.

    Args:
        primal: an optax transform for the parameters.
        dual: (rate) -> transform for multipliers, e.g.
            ``lambda rate: jc.dual_ascent(optax.adam(rate))``.
        rate: c; a constraint of n residuals has the transform of c / n.

    Returns:
        A `Method` whose hyperparameter is the rate.
    """

    def solver(problem: Problem, rate: Any) -> Solver:
        return _alternating(
            problem, primal, _per_residual(problem, lambda n: dual(rate / n))
        )

    return Method(solver, "rate", rate)


def lagrangian(primal: optax.GradientTransformation, rate: float) -> Method:
    r"""Multipliers by ascent, :math:`\lambda \leftarrow [\lambda + \eta\, g]_+`.

    What one step may add is bounded: the residual the multipliers see is clipped to
    [-1, 1], because the first residuals may be thousands of times the later ones.

    Args:
        primal: an optax transform for the parameters.
        rate: c; the dual rate of a constraint of n residuals is c / n.

    Returns:
        A `Method` whose hyperparameter is the rate.
    """
    return multipliers(primal, _ascent, rate)


def pi_control(
    primal: optax.GradientTransformation, rate: float, gain: float = 10.0
) -> Method:
    """Multipliers by PI control (`jaxcon.nupi`), the residual clipped as in `lagrangian`.

    Args:
        primal: an optax transform for the parameters.
        rate: c; the integral rate of a constraint of n residuals is c / n.
        gain: k_p, the proportional gain, in steps.

    Returns:
        A `Method` whose hyperparameter is the rate.
    """
    return multipliers(primal, lambda rate: _ascent(rate, scale_by_pi(gain)), rate)


def augmented(
    primal: optax.GradientTransformation, strength: float, period: int = 1
) -> Method:
    r"""The augmented Lagrangian, :math:`\rho = c / n`.

    Multipliers move at every step by ascent of rate :math:`\rho`, clipped as in
    `lagrangian`, or, as in the classical method, at every `period`-th to their estimates.
    A few constraints on a network's loss, with an optimizer that has momentum, want the
    second: at every step they would swing up.

    Args:
        primal: an optax transform for the parameters.
        strength: c, in loss units per squared residual unit; the quadratic term is
            :math:`\tfrac{c}{2} \operatorname{mean}(g_+^2)`.
        period: steps from one move of the multipliers to the next.

    Returns:
        A `Method` whose hyperparameter is the strength.
    """

    def solver(problem: Problem, strength: Any) -> Solver:
        rho = _per_residual(problem, lambda n: strength / n)
        if period == 1:
            duals = _per_residual(problem, lambda n: _ascent(strength / n))
        else:
            duals = every(method_of_multipliers(), period)
        return _alternating(problem, primal, duals, penalty=rho)

    return Method(solver, "strength", strength)


def projected(
    primal: optax.GradientTransformation, operator: Callable[[Any], Any]
) -> Method:
    """The loss alone, each move followed by a projection of the parameters.

    Args:
        primal: an optax transform for the parameters.
        operator: params -> params (see `jaxcon.proximal`).

    Returns:
        A `Method` without hyperparameter.
    """
    return unconstrained(proximal(primal, operator))


def by_construction(
    primal: optax.GradientTransformation,
    output: Callable[[Apply], Apply],
    init: Callable[[jax.Array], Any] | None = None,
) -> Method:
    """The loss alone, of a network that cannot break the rule.

    Args:
        primal: an optax transform for the parameters.
        output: apply -> apply: the problem's network with another output, or another
            network altogether.
        init: (key) -> params of that network; the problem's own unless given.

    Returns:
        A `Method` without hyperparameter.
    """

    def change(problem: Problem) -> Problem:
        return problem._replace(apply=output(problem.apply), init=init or problem.init)

    return unconstrained(primal)._replace(change=change)


def afterwards(
    primal: optax.GradientTransformation, output: Callable[[Apply], Apply]
) -> Method:
    """The loss alone, of the problem's own network; what is judged has another output.

    Args:
        primal: an optax transform for the parameters.
        output: apply -> apply, as in `by_construction`: here it is put on the trained
            network, which never saw it.

    Returns:
        A `Method` without hyperparameter.
    """

    def change(problem: Problem) -> Problem:
        def loss(apply: Apply, params: Any, batch: Any) -> jax.Array:
            del apply
            return problem.loss(problem.apply, params, batch)

        return problem._replace(apply=output(problem.apply), loss=loss)

    return unconstrained(primal)._replace(change=change)


def standard(
    primal: optax.GradientTransformation, strength: float
) -> dict[str, Method]:
    r"""Unconstrained, fixed penalties, Lagrangian and augmented Lagrangian.

    They share the primal optimizer and one `strength` c (see `augmented`). A fixed penalty
    is also shown a thousand times lighter and a hundred times heavier, because its weight
    is what one has to guess. Every method, the unconstrained one too, evaluates the
    constraints at every step, so that their histories can be compared; its seconds hold
    that.

    Args:
        primal: an optax transform for the parameters.
        strength: c > 0, in loss units per squared residual unit.

    Returns:
        Methods by name, in the order they are shown.
    """
    return {
        "unconstrained": unconstrained(primal),
        "light penalty": penalty(primal, strength / 1000),
        "penalty": penalty(primal, strength),
        "heavy penalty": penalty(primal, strength * 100),
        "lagrangian": lagrangian(primal, strength),
        "augmented": augmented(primal, strength),
    }


def _ascent(
    rate: Any, before: optax.GradientTransformation | None = None
) -> optax.GradientTransformation:
    middle = [] if before is None else [before]
    return dual_ascent(optax.chain(optax.clip(1.0), *middle, optax.sgd(rate)))


def _alternating(
    problem: Problem, primal: optax.GradientTransformation, dual: Any, **options: Any
) -> Solver:
    return alternating(problem.objective, problem.trained_on(), primal, dual, **options)


def _per_residual(problem: Problem, make: Callable[[int], Any]) -> Any:
    """`make(n)` for each constraint of n residuals, by name; one where all n are equal."""

    def residuals(key: jax.Array) -> Constraints:
        return evaluate(problem.trained_on(), problem.init(key), problem.batch)

    shapes = jax.eval_shape(residuals, jax.random.key(0))
    sizes = {name: residual.size for _, name, residual in named(shapes)}
    if len(set(sizes.values())) <= 1:
        return make(next(iter(sizes.values()), 1))
    return {name: make(size) for name, size in sizes.items()}
