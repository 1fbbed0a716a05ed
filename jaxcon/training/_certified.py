"""Training that alternates with proofs."""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import points
from jaxcon._checks import check_each, check_number, check_type, described
from jaxcon.certify import Counterexample, Outcome, Proofs, Target, Undecided, verify
from jaxcon.certify._verify import corners, domains_of, network_of
from jaxcon.constraints import named, tighten
from jaxcon.primal_dual import PrimalDualState, Solver
from jaxcon.shapes import Pointwise
from jaxcon.training._result import FitResult
from jaxcon.training._sequence import carrying, handed_over, joined
from jaxcon.training._source import Source

POINTS = 128  # of the box where the constraints are checked beside their own
SEARCHED = 4096  # points among which those are sought where a constraint is broken
TIMES = 1.5  # a margin rises by so many times the violation that was found
BOX = "{}, on the box"

Fit = Callable[..., FitResult]
Claims = dict[str, Pointwise]


class Plan(NamedTuple):
    """Constraints of one round of training.

    Attributes:
        points: points of the box where they are checked beside their own, (n, d).
        margins: by the constraint's name.
    """

    points: Any
    margins: dict[str, float]


def certified(
    fit: Fit,
    solver: Solver,
    start: Any,
    batches: Any,
    key: jax.Array | None,
    steps: int,
    target: Target,
    place: Any,
) -> FitResult:
    """Trains until the constraints are proved, or the rounds are used up.

    Each round trains under constraints that are also checked at points of the box. Then
    they are verified at the best iterate. Points where one is broken, or where the proof
    resists, take the places of others, its margin rises, and the optimizers begin anew.

    Args:
        fit: (solver, start, batches, checkpoint=) -> result of one round.
        solver: of the user's problem.
        start: parameters or a state.
        batches: as of `fit`.
        key: as of `fit`.
        steps: of each round.
        target: what is to be proved.
        place: folder of checkpoints, or None.

    Returns:
        The last round's result, with the history of all and with the certificate.

    Raises:
        TypeError: the target is none.
        ValueError: there is nothing to prove, or the target's box is empty.
    """
    claims, untried = _claims(solver, target)
    if place is not None and not isinstance(place, (str, os.PathLike)):
        raise TypeError(
            f"fit: certify saves each round in a folder of its own; pass checkpoint= as a "
            f"path, not {described(place)}"
        )
    example = Source(batches, key).example(
        start.params if isinstance(start, PrimalDualState) else start
    )
    if isinstance(batches, Iterator):
        batches = chain([example], batches)
    plan = Plan(_sought(target)[:POINTS], dict.fromkeys(claims, 0.0))
    earlier: list[FitResult] = []
    for number in range(target.rounds + 1):
        with carrying(earlier):
            folder = None if place is None else Path(place) / f"round-{number}"
            tightened = _tightened(solver, claims, plan)
            if isinstance(start, PrimalDualState):
                # Multipliers on the box stay behind: their points are others now.
                moved = {BOX.format(name) for name in claims}
                start = handed_over(tightened, start, example, but=moved)
            result = fit(tightened, start, batches, checkpoint=folder)
            # Something else may have ended it, e.g. a callback or the last batch.
            begun = int(start.step) if isinstance(start, PrimalDualState) else 0
            ended = int(result.state.step) < begun + steps
            is_last = number == target.rounds
            is_last |= ended and not tightened.finished(result.state)
            params = result.best.params
        earlier.append(result)
        with carrying(earlier):
            saved = None if place is None else Path(place) / f"round-{number + 1}.npz"
            known = None if is_last else _loaded(saved, claims)
            if known is None:
                outcomes = _verified(claims, params, target)
                proofs = Proofs(outcomes, plan.margins, number, untried)
                if proofs.holds or is_last:
                    return joined(earlier)._replace(certificate=proofs)
                known = _next(claims, params, target, plan, outcomes)
                _save(saved, known, claims)
            plan, start = known, result.state._replace(params=params)
    raise AssertionError("the last round returns")


def _claims(solver: Solver, target: Any) -> tuple[Claims, tuple[str, ...]]:
    """Returns the constraints that are to be proved, and the names of all others."""
    form = "a jaxcon.certify.Target(lower, upper)"
    check_type("fit: certify", target, Target, form)
    corners("fit: certify", target.lower, target.upper)
    domains_of("fit: certify", target.within)
    check_number("fit: certify.budget", target.budget, least=0)
    check_number("fit: certify.rounds", target.rounds, least=0, whole=True)
    if solver.points:
        raise ValueError(
            "fit: certify chooses points where the proof resists: it goes without points= "
            "of the solver"
        )
    entries = solver.problem.constraints.inequality
    able = {n: one for n, one in entries.items() if isinstance(one, Pointwise)}
    if target.names is not None:
        check_each("fit: certify.names", target.names, str, "names of constraints")
    for name in target.names or ():
        if name not in able:
            raise ValueError(
                f"fit: certify names {name!r}; inequalities of jaxcon.shapes are "
                f"{', '.join(map(repr, able)) or 'none'}"
            )
    chosen = {n: one for n, one in able.items() if n in (target.names or able)}
    if not chosen:
        raise ValueError(
            "fit: certify proves inequalities of jaxcon.shapes, of which the problem has "
            "none; leave it out, or state a rule with jaxcon.shapes"
        )
    names = [name for _, name, _ in named(solver.problem.constraints)]
    for name in chosen:
        if BOX.format(name) in names:
            raise ValueError(
                f"fit: certify adds a constraint {BOX.format(name)!r}; name yours otherwise"
            )
    others = [name for name in names if name not in chosen]
    return chosen, tuple(others)


def _tightened(solver: Solver, claims: Claims, plan: Plan) -> Solver:
    """Returns a solver of the problem with margins, and checked at points of the box."""
    problem = solver.problem
    inequality: dict[str, Any] = dict(problem.constraints.inequality)
    for name, claim in claims.items():
        margin = plan.margins[name]
        inequality[name] = tighten(claim, margin)
        there = dataclasses.replace(claim, on=plan.points)
        inequality[BOX.format(name)] = tighten(there, margin)
    penalty = problem.penalty
    if isinstance(penalty, Mapping):
        penalty = _also(penalty, claims)
    more = problem.constraints._replace(inequality=inequality)
    changed = dataclasses.replace(problem, constraints=more, penalty=penalty)
    dual = solver.dual
    if isinstance(dual, Mapping):
        dual = _also(dual, claims)
    return dataclasses.replace(solver, problem=changed, dual=dual)


def _also(entries: Mapping[str, Any], claims: Claims) -> dict[str, Any]:
    """Returns entries by name, those of the claims on the box too."""
    found = {BOX.format(name): entries[name] for name in claims if name in entries}
    return {**entries, **found}


def _verified(claims: Claims, params: Any, target: Target) -> dict[str, Outcome]:
    """Returns the outcomes of proofs; claims on one network share the work."""
    groups: dict[Any, Claims] = {}
    for name, claim in claims.items():
        groups.setdefault(network_of(claim), {})[name] = claim
    found: dict[str, Outcome] = {}
    for group in groups.values():
        found |= verify(
            group,
            target.lower,
            target.upper,
            params=params,
            within=target.within,
            budget=target.budget,
        )
    return {name: found[name] for name in claims}


def _next(
    claims: Claims,
    params: Any,
    target: Target,
    plan: Plan,
    outcomes: Mapping[str, Outcome],
) -> Plan:
    """Returns the plan that follows proofs of which some did not succeed."""
    sought = _sought(target)
    margins, found = dict(plan.margins), []
    failed = {name: one for name, one in outcomes.items() if not one.holds}
    most = POINTS // (4 * len(failed)) + 1
    for name, outcome in failed.items():
        values = np.asarray(_residuals(claims[name])(params, sought))
        # Of a vector the largest; where it is no number, nothing is said.
        values = values.reshape(len(sought), -1).max(axis=1)
        values = np.where(np.isnan(values), -np.inf, values)
        worst = np.argsort(-values)[:most]
        found.append(np.asarray(sought)[worst[values[worst] > 0]])
        violation = float(values[worst[0]])
        if isinstance(outcome, Counterexample):
            found.append(outcome.point[None])
            violation = max(violation, outcome.value)
        elif isinstance(outcome, Undecided):
            rest = outcome.rest.taken(slice(0, most))
            found.append(rest.lower + (rest.upper - rest.lower) / 2)
            bounds = outcome.rest.bound[np.isfinite(outcome.rest.bound)]
            if len(bounds):  # half of the boxes that resist would then be proved
                violation = max(violation, float(np.median(bounds)) / TIMES)
        if np.isfinite(violation):
            margins[name] += TIMES * max(violation, 0.0)
    kept = np.concatenate([*found, np.asarray(plan.points)])[:POINTS]
    return Plan(jnp.asarray(kept, plan.points.dtype), margins)


def _sought(target: Target) -> jax.Array:
    """Returns Sobol points of the domain, at least `POINTS`."""
    found = points.sobol(target.lower, target.upper, SEARCHED)
    for outside in domains_of("fit: certify", target.within):
        worst = jax.vmap(lambda x, outside=outside: jnp.max(outside(x)))(found)
        found = found[np.flatnonzero(np.asarray(worst) <= 0)]
    if not len(found):
        raise ValueError(
            f"fit: certify found none of {SEARCHED:,} points of the box within the domain"
        )
    # The same ones again, where the domain is a small part of the box.
    return found[np.resize(np.arange(len(found)), max(len(found), POINTS))]


@lru_cache(maxsize=16)
def _residuals(claim: Pointwise) -> Callable[[Any, jax.Array], jax.Array]:
    """Returns (params, points (n, d)) -> residuals (n, ...), compiled once."""
    there = dataclasses.replace(claim, on=None)
    return jax.jit(lambda params, x: there(params, x))


def _save(place: Path | None, plan: Plan, claims: Claims) -> None:
    """Writes a plan, so that a run that is resumed has the same."""
    if place is None:
        return
    margins = np.array([plan.margins[name] for name in claims])
    with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as file:
        np.savez(file, points=np.asarray(plan.points), margins=margins)
    os.replace(file.name, place)


def _loaded(place: Path | None, claims: Claims) -> Plan | None:
    """Returns the plan that was written, or None."""
    if place is None or not place.exists():
        return None
    with np.load(place) as file:
        margins = dict(zip(claims, file["margins"].tolist(), strict=True))
        return Plan(jnp.asarray(file["points"]), margins)
