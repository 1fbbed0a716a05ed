"""Proofs of an ensemble's rules by the command."""

from jaxcon.cli._words import printable, say
from jaxcon.ensembles import Ensemble, RuleProof, prove
from jaxcon.ensembles._proofs import BUDGET
from jaxcon.tabular._checks import check_flag


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
    for name, proof in zip(ensemble.kinds.names, proofs):
        print(printable(f"{name}: {proof}"))
    if not proofs:
        print("this run has no rules")
    return 3 if any(one.outcome == "counterexample" for one in proofs) else 0
