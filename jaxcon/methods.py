r"""Training methods: penalty, Lagrangian, augmented Lagrangian, projection and others.

A `Problem` defines the network, the loss and the constraints, but no training method. A
`Method` makes a `Solver` of it, from at most one hyperparameter. Some methods first change
the network to one that obeys the constraints by construction. All builders here take the
primal optimizer first. Rates and weights are divided by a constraint's number of
residuals, so that their meaning does not depend on the number of points.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon import penalties
from jaxcon._checks import check_choice, check_function, check_number, inside
from jaxcon.constraints import Constraints, evaluate, named
from jaxcon.lagrangians import Lagrangian
from jaxcon.primal_dual import Solver, alternating, augmented_lagrangian_method
from jaxcon.transforms import (
    dual_ascent,
    every,
    fixed_penalty,
    method_of_multipliers,
    proximal,
    scale_by_pi,
)
from jaxcon.transforms._entries import as_transform

__all__ = [
    "PENALTIES",
    "Apply",
    "Method",
    "Problem",
    "afterwards",
    "augmented",
    "by_construction",
    "default",
    "lagrangian",
    "multipliers",
    "penalty",
    "pi_control",
    "projected",
    "standard",
    "unconstrained",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


Apply = Callable[[Any, jax.Array], jax.Array]


class Problem(NamedTuple):
    """Definition of a constrained training problem.

    Loss, constraints and score take the network as their first argument, so that a method
    may replace it by another one.

    Attributes:
        init: (key) -> params.
        apply: (params, x (d,)) -> output of one example.
        loss: (apply, params, batch) -> ().
        constraints: (apply) -> the `Constraints` that must hold. Those on points read
            them from ``batch["points"]``.
        batch: data and points, a dict of arrays.
        score: (apply, params) -> {name: number}, smaller is better, on data with which no
            method was trained on.
        lower: lower corner of the box in which constraints on points must hold, (d,); None
            where there are none.
        upper: upper corner, (d,).
        trained: (apply) -> `Constraints` of training, if not `constraints` themselves:
            some with a margin, or proxies for them.
        unseen: the batch on which constraints are evaluated after training, with other
            data than `batch` and the same names; `batch` itself unless given.
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
        """Evaluates the loss of the problem's own network, ()."""
        return self.loss(self.apply, params, batch)

    def held(self) -> Constraints:
        """Returns the constraints that must hold of the problem's own network."""
        return self.constraints(self.apply)

    def trained_on(self) -> Constraints:
        """Returns the constraints on which its network is trained."""
        return (self.trained or self.constraints)(self.apply)


def _unchanged(problem: Problem) -> Problem:
    return problem


class Method(NamedTuple):
    """Method of training a problem.

    Attributes:
        solver: (problem, value) -> `Solver`.
        hyperparameter: its name, e.g. "weight"; "" where the method has none.
        value: of the hyperparameter.
        change: problem -> problem, before anything else: another network or other
            constraints to train on.
    """

    solver: Callable[[Problem, Any], Solver]
    hyperparameter: str = ""
    value: float = float("nan")
    change: Callable[[Problem], Problem] = _unchanged


def default(primal: optax.GradientTransformation | None = None) -> Method:
    """Solves by `jaxcon.augmented_lagrangian_method`, which stops by itself.

    Args:
        primal: an optax transform for the parameters; the solver's own unless given.

    Returns:
        A `Method` without hyperparameter.

    Raises:
        TypeError: `primal` is no optax transform.
    """
    if primal is not None:
        primal = as_transform("primal", primal)

    def solver(problem: Problem, _: Any) -> Solver:
        lagrangian = Lagrangian(problem.objective, problem.trained_on())
        return augmented_lagrangian_method(lagrangian, primal)

    return Method(solver)


def unconstrained(primal: optax.GradientTransformation) -> Method:
    """Minimises the loss alone; constraints are evaluated without effect.

    Args:
        primal: an optax transform for the parameters.

    Returns:
        A `Method` without hyperparameter.

    Raises:
        TypeError: `primal` is no optax transform.
    """
    primal = as_transform("primal", primal)
    return Method(lambda problem, _: _alternating(problem, primal, optax.set_to_zero()))


# name: penalties of an equality and of an inequality.
PENALTIES: dict[str, tuple[Callable, Callable]] = {
    "quadratic": (penalties.quadratic, penalties.squared_hinge),
    "absolute": (penalties.absolute, penalties.hinge),
    "huber": (penalties.huber, lambda g: penalties.huber(jnp.maximum(g, 0))),
    # The residual itself: the weighted sum of two objectives, often called a penalty.
    "linear": (lambda h: h, lambda g: g),
}


def penalty(
    primal: optax.GradientTransformation,
    weight: float,
    kind: str = "quadratic",
    *,
    per_term: optax.GradientTransformation | None = None,
) -> Method:
    r"""Minimises a fixed penalty, :math:`f + w \operatorname{mean} p(\text{residual})`.

    Args:
        primal: an optax transform for the parameters.
        weight: w > 0, in loss units per unit of the penalty.
        kind: a key of `PENALTIES`: "quadratic" (halved; of :math:`g_+` for inequalities),
            "absolute" (hinge), "huber" or "linear".
        per_term: a transform that balances the loss and the penalties, e.g.
            `jaxcon.balance_by_gradient_norm()` or `jaxcon.conflict_free()`.

    Returns:
        A `Method` whose hyperparameter is the weight.

    Raises:
        TypeError: `primal` or `per_term` is no optax transform, or the weight no number.
        ValueError: there is no such penalty, or the weight is not positive.
    """
    primal = as_transform("primal", primal)
    check_number("weight", weight, above=0)
    check_choice("kind", kind, PENALTIES)
    if per_term is not None:
        per_term = as_transform("per_term", per_term)
    return Method(
        lambda problem, w: _alternating(
            problem, primal, fixed_penalty(w, *PENALTIES[kind]), per_term=per_term
        ),
        "weight",
        weight,
    )


def multipliers(
    primal: optax.GradientTransformation,
    dual: Callable[[Any], optax.GradientTransformation],
    rate: float,
) -> Method:
    """Optimizes the plain Lagrangian with multipliers moved by any transform.

    Args:
        primal: an optax transform for the parameters.
        dual: (rate) -> transform for multipliers, e.g.
            ``lambda rate: jc.dual_ascent(optax.adam(rate))``.
        rate: c > 0; a constraint of n residuals has the transform of c / n.

    Returns:
        A `Method` whose hyperparameter is the rate.

    Raises:
        TypeError: `primal` is no optax transform, `dual` no function, or the rate no
            number.
        ValueError: the rate is not positive.
    """
    primal = as_transform("primal", primal)
    check_function("dual", dual, "(rate) -> transform")
    check_number("rate", rate, above=0)

    def solver(problem: Problem, rate: Any) -> Solver:
        def of(n: int) -> Any:
            with inside("dual"):
                return dual(rate / n)

        return _alternating(problem, primal, _per_residual(problem, of))

    return Method(solver, "rate", rate)


def lagrangian(primal: optax.GradientTransformation, rate: float) -> Method:
    r"""Moves multipliers by ascent, :math:`\lambda \leftarrow [\lambda + \eta\, g]_+`.

    The residual in this ascent is clipped to [-1, 1], which bounds a single move, because
    the first residuals may be thousands of times the later ones.

    Args:
        primal: an optax transform for the parameters.
        rate: c > 0; the dual rate of a constraint of n residuals is c / n.

    Returns:
        A `Method` whose hyperparameter is the rate.

    Raises:
        TypeError: `primal` is no optax transform, or the rate no number.
        ValueError: the rate is not positive.
    """
    return multipliers(primal, _ascent, rate)


def pi_control(
    primal: optax.GradientTransformation, rate: float, gain: float = 10.0
) -> Method:
    """Moves multipliers by PI control (`jaxcon.nupi`), with residuals clipped to [-1, 1].

    Args:
        primal: an optax transform for the parameters.
        rate: c > 0; the integral rate of a constraint of n residuals is c / n.
        gain: k_p >= 0, the proportional gain, in steps.

    Returns:
        A `Method` whose hyperparameter is the rate.

    Raises:
        TypeError: `primal` is no optax transform, or a number is none.
        ValueError: the rate is not positive, or the gain is negative.
    """
    check_number("gain", gain, least=0)
    return multipliers(primal, lambda rate: _ascent(rate, scale_by_pi(gain)), rate)


def augmented(
    primal: optax.GradientTransformation, strength: float, period: int = 1
) -> Method:
    r"""Optimizes the augmented Lagrangian of penalty :math:`\rho = c / n`.

    Multipliers move at every step by ascent of rate :math:`\rho`, clipped as in
    `lagrangian`, or, as in the classical method, at every `period`-th to their estimates.
    Few constraints on a network's loss, with an optimizer that has momentum, need the
    second: if multipliers moved at every step, the oscillations would grow.

    Args:
        primal: an optax transform for the parameters.
        strength: c > 0, in loss units per squared residual unit; the quadratic term is
            :math:`\tfrac{c}{2} \operatorname{mean}(g_+^2)`.
        period: steps from one move of the multipliers to the next, >= 1.

    Returns:
        A `Method` whose hyperparameter is the strength.

    Raises:
        TypeError: `primal` is no optax transform, or a number is none.
        ValueError: the strength is not positive, or the period below 1.
    """
    primal = as_transform("primal", primal)
    check_number("strength", strength, above=0)
    check_number("period", period, least=1, whole=True)

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
    """Minimises the loss alone and projects the parameters after each move.

    Args:
        primal: an optax transform for the parameters.
        operator: params -> params (see `jaxcon.proximal`).

    Returns:
        A `Method` without hyperparameter.

    Raises:
        TypeError: `primal` is no optax transform, or `operator` no function.
    """
    primal = as_transform("primal", primal)
    check_function("operator", operator, "params -> params")
    return unconstrained(proximal(primal, operator))


def by_construction(
    primal: optax.GradientTransformation,
    output: Callable[[Apply], Apply],
    init: Callable[[jax.Array], Any] | None = None,
) -> Method:
    """Minimises the loss alone, of a network that obeys the constraints by construction.

    Args:
        primal: an optax transform for the parameters.
        output: apply -> apply: the problem's network with another output, or another
            network altogether.
        init: (key) -> params of that network; the problem's own unless given.

    Returns:
        A `Method` without hyperparameter.

    Raises:
        TypeError: `primal` is no optax transform, or `output` or `init` no function.
    """
    check_function("output", output, "apply -> apply")
    if init is not None:
        check_function("init", init, "(key) -> params")

    def change(problem: Problem) -> Problem:
        first = init or problem.init

        def start(key: jax.Array) -> Any:
            with inside("init"):
                return first(key)

        return problem._replace(apply=_changed(output, problem.apply), init=start)

    return unconstrained(primal)._replace(change=change)


def afterwards(
    primal: optax.GradientTransformation, output: Callable[[Apply], Apply]
) -> Method:
    """Minimises the loss of the problem's own network and changes its output afterwards.

    Args:
        primal: an optax transform for the parameters.
        output: apply -> apply, as in `by_construction`; here it acts on the trained
            network and has no part in the training.

    Returns:
        A `Method` without hyperparameter.

    Raises:
        TypeError: `primal` is no optax transform, or `output` no function.
    """
    check_function("output", output, "apply -> apply")

    def change(problem: Problem) -> Problem:
        def loss(apply: Apply, params: Any, batch: Any) -> jax.Array:
            del apply
            return problem.loss(problem.apply, params, batch)

        return problem._replace(apply=_changed(output, problem.apply), loss=loss)

    return unconstrained(primal)._replace(change=change)


def _changed(output: Callable[[Apply], Apply], apply: Apply) -> Apply:
    """Returns the network of another output."""
    with inside("output"):
        made = output(apply)
    check_function("what output returns", made, "(params, x) -> output")
    return made


def standard(
    primal: optax.GradientTransformation, strength: float
) -> dict[str, Method]:
    r"""Lists the standard methods: the default, unconstrained, penalties, Lagrangians.

    All but the default share the primal optimizer and one `strength` c (see `augmented`).
    There are also a fixed penalty with a thousandth of the weight and one with a hundred
    times the weight, because the weight has to be guessed. Every method, the
    unconstrained one too, evaluates the constraints at every step, so that their histories
    can be compared; its seconds include this.

    Args:
        primal: an optax transform for the parameters.
        strength: c > 0, in loss units per squared residual unit.

    Returns:
        Methods by name, in the order of tables.

    Raises:
        TypeError: `primal` is no optax transform, or the strength no number.
        ValueError: the strength is not positive.
    """
    check_number("strength", strength, above=0)
    return {
        "unconstrained": unconstrained(primal),
        "light penalty": penalty(primal, strength / 1000),
        "penalty": penalty(primal, strength),
        "heavy penalty": penalty(primal, strength * 100),
        "lagrangian": lagrangian(primal, strength),
        "augmented": augmented(primal, strength),
        "default": default(),
    }


def _ascent(
    rate: Any, before: optax.GradientTransformation | None = None
) -> optax.GradientTransformation:
    middle = [] if before is None else [before]
    return dual_ascent(optax.chain(optax.clip(1.0), *middle, optax.sgd(rate)))


def _alternating(
    problem: Problem,
    primal: optax.GradientTransformation,
    dual: Any,
    penalty: Any = None,
    per_term: optax.GradientTransformation | None = None,
) -> Solver:
    lagrangian = Lagrangian(problem.objective, problem.trained_on(), penalty=penalty)
    return alternating(lagrangian, primal, dual, per_term=per_term)


def _per_residual(problem: Problem, make: Callable[[int], Any]) -> Any:
    """Calls `make(n)` for each constraint of n residuals; once if all n are equal."""

    def residuals(key: jax.Array) -> Constraints:
        return evaluate(problem.trained_on(), problem.init(key), problem.batch)

    shapes = jax.eval_shape(residuals, jax.random.key(0))
    sizes = {name: residual.size for _, name, residual in named(shapes)}
    if len(set(sizes.values())) <= 1:
        return make(next(iter(sizes.values()), 1))
    return {name: make(size) for name, size in sizes.items()}
