"""Proofs of a fit's rules by the command."""

from functools import partial
from typing import Any

import numpy as np

from jaxcon.certify import verify
from jaxcon.cli._words import printable, say
from jaxcon.ensembles import Ensemble, RuleProof, prove
from jaxcon.ensembles._proofs import BUDGET, worded
from jaxcon.tabular import Rules, Scaling, network
from jaxcon.tabular._checks import check_flag
from jaxcon.tabular._rules import rule_constraints


def proofs_of(ensemble: Ensemble, flag: str, budget: float) -> tuple[RuleProof, ...]:
    """Proves the rules of an ensemble, and says what it does.

    Args:
        ensemble: fitted.
        flag: name of the flag that sets the budget, for the message.
        budget: seconds.

    Returns:
        One outcome for each rule.

    Raises:
        TableError: the budget is negative.
    """
    check_flag(flag, budget, least=0)
    say(f"proving the rules on the whole box, for {budget:g} s at most")
    return prove(ensemble, budget=budget)


def certify_run(ensemble: Ensemble, seconds: float | None) -> int:
    """Proves the rules of a saved ensemble, and prints a sentence for each.

    Args:
        ensemble: of the run.
        seconds: budget; `BUDGET` unless given.

    Returns:
        The exit code: 3 where a rule is broken, else 0.

    Raises:
        TableError: the budget is negative.
    """
    proofs = proofs_of(ensemble, "seconds", BUDGET if seconds is None else seconds)
    return _told(dict(zip(ensemble.kinds.names, proofs)))


def certify_network(
    scaling: Scaling, params: Any, rules: Rules, seconds: float | None
) -> int:
    """Proves the rules of a saved network, and prints a sentence for each.

    Args:
        scaling: of the table.
        params: of the network.
        rules: of the run.
        seconds: budget; `BUDGET` unless given.

    Returns:
        The exit code: 3 where a rule is broken, else 0.

    Raises:
        TableError: the budget is negative.
    """
    budget = BUDGET if seconds is None else seconds
    check_flag("seconds", budget, least=0)
    held = rule_constraints(network, scaling, rules, margin=0.0).inequality
    if not held:
        return _told({})
    say(f"proving the rules on the whole box, for {budget:g} s at most")
    d = len(scaling.inputs)
    outcomes = verify(held, np.zeros(d), np.ones(d), params=params, budget=budget)
    place = partial(_place, scaling)
    return _told({name: worded([one], place) for name, one in outcomes.items()})


def _place(scaling: Scaling, v: np.ndarray) -> str:
    """Returns a point of the unit box in the columns' units, e.g. "income = 812"."""
    x = scaling.lower + v * (scaling.upper - scaling.lower)
    return ", ".join(f"{name} = {one:.4g}" for name, one in zip(scaling.inputs, x))


def _told(proofs: dict[str, RuleProof]) -> int:
    """Prints a sentence for each rule, and returns the exit code."""
    for name, proof in proofs.items():
        print(printable(f"{name}: {proof}"))
    if not proofs:
        print("this run has no rules")
    return 3 if any(one.outcome == "counterexample" for one in proofs.values()) else 0
