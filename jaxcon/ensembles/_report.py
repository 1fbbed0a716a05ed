"""Reports of fits: errors beside plain models, what rules cost, and each rule's verdict."""

from typing import Any, NamedTuple

import numpy as np

from jaxcon._checks import check_each, check_type, described
from jaxcon._display import text_table
from jaxcon.ensembles._baselines import boosted_trees, linear_model
from jaxcon.ensembles._checked import read_weight
from jaxcon.ensembles._columns import encode
from jaxcon.ensembles._ensemble import Ensemble
from jaxcon.ensembles._fit import EnsembleFit, fit_ensemble
from jaxcon.ensembles._frame import Frame
from jaxcon.ensembles._losses import Loss
from jaxcon.ensembles._prepared import Options
from jaxcon.ensembles._proofs import RuleProof
from jaxcon.ensembles._rules import ShapeRules

# Share of the move to a plain function above which it is said.
_FAR = 0.05


class RuleVerdict(NamedTuple):
    """Verdict on one rule.

    Attributes:
        rule: in words.
        violation: the worst over the box that a search found, 0 where it is kept, in
            standard deviations of the target per range of the input.
        active: share of the rows at which it is active, less than a tenth of a standard
            deviation of the target, per range of the input, from being broken.
        proof: outcome of `prove`; None where it was not tried.
    """

    rule: str
    violation: float
    active: float
    proof: RuleProof | None = None

    @property
    def holds(self) -> bool:
        """Returns whether it is proved, or else whether no violation was found."""
        if self.proof is not None and self.proof.outcome == "proved":
            return True
        refuted = self.proof is not None and self.proof.outcome == "counterexample"
        return self.violation <= 0 and not refuted

    def __str__(self) -> str:
        """Returns the verdict in a sentence."""
        told = "" if self.proof is None else str(self.proof)
        if not self.holds and self.violation > 0:
            also = f"; {told}" if "counterexample" in told else ""
            return f"{self.rule}: broken, by up to {self.violation:.2g}{also}"
        if not self.holds:
            return f"{self.rule}: broken, {told}"
        where = (
            f"active at {100 * self.active:.0f} % of the rows"
            if self.active >= 0.005
            else "active nowhere"
        )
        searched = "a search of the whole box found no violation"
        if self.proof is None:
            return f"{self.rule}: holds, {searched}; {where}"
        if self.proof.outcome in ("proved", "by construction"):
            return f"{self.rule}: {told}; {where}"
        return f"{self.rule}: {told}, {searched}; {where}"


class Report(NamedTuple):
    """Report of a fit.

    Attributes:
        error: name of the error.
        rows: of each model its name and its errors on training and on held-out rows.
        cost: held-out loss with rules minus without, relative to the latter.
        cost_error: its standard error over the members' folds.
        verdicts: of the rules.
        notes: what else to know, in sentences.
    """

    error: str
    rows: list[dict[str, Any]]
    cost: float
    cost_error: float
    verdicts: tuple[RuleVerdict, ...]
    notes: tuple[str, ...]

    @property
    def obeys(self) -> bool:
        """Returns whether every rule holds."""
        return all(verdict.holds for verdict in self.verdicts)

    def __str__(self) -> str:
        """Returns a table and sentences."""
        lines = [text_table(self.rows), *map(str, self.verdicts), *self.notes]
        return "\n".join(lines)


def report(
    fit: EnsembleFit,
    train: tuple[Frame, np.ndarray],
    held_out: tuple[Frame, np.ndarray],
    rules: ShapeRules,
    *,
    weight: np.ndarray | None = None,
    categorical: Any = None,
    options: Options = Options(),
) -> Report:
    """Sets a fit beside plain models and one without rules, on rows that none has seen.

    Args:
        fit: to report on.
        train: inputs and target that it was fitted to.
        held_out: inputs and target that it was not.
        rules: of the fit.
        weight: of the training rows; 1 unless given.
        categorical: as in `fit_ensemble`.
        options: of the fit.

    Returns:
        A `Report`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: it has another size.
    """
    check_type("fit", fit, EnsembleFit, "an EnsembleFit")
    check_type("rules", rules, ShapeRules, "ShapeRules")
    for name, pair in (("train", train), ("held_out", held_out)):
        if not (
            isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], Frame)
        ):
            raise TypeError(f"{name} must be (Frame, target), got {described(pair)}")
    ensemble, loss = fit.ensemble, fit.ensemble.loss
    weight = read_weight("weight", weight, train[0].rows)
    rows = [_row("this fit", loss, ensemble.predict, train, held_out)]
    free = fit
    if rules:
        free = fit_ensemble(
            *train,
            loss,
            ShapeRules(),
            weight=weight,
            categorical=categorical,
            options=options,
        )
        without = free.ensemble.predict
        rows.append(_row("without rules", loss, without, train, held_out))
    plain = free.ensemble.columns  # without modes
    v = encode(plain, train[0])
    line = linear_model(plain, loss, v, train[1], weight)
    trees = boosted_trees(plain, loss, rules, v, train[1], weight)
    for name, model in (("straight line", line), ("boosted trees", trees)):
        if model is not None:
            rows.append(
                _row(
                    name, loss, lambda f, m=model: m(encode(plain, f)), train, held_out
                )
            )
    cost, spread = _cost(fit, free) if rules else (0.0, 0.0)
    return Report(
        error_name(loss),
        rows,
        cost,
        spread,
        verdicts(fit),
        tuple(_notes(rows, ensemble, cost, spread, bool(rules))),
    )


def verdicts(
    fit: EnsembleFit, proofs: tuple[RuleProof, ...] | None = None
) -> tuple[RuleVerdict, ...]:
    """Returns the verdict on each rule of a fit.

    Args:
        fit: with its rules.
        proofs: of `prove`, one for each rule.

    Returns:
        One for each.

    Raises:
        TypeError: an argument is of another type.
        ValueError: there are more or fewer proofs than rules.
    """
    check_type("fit", fit, EnsembleFit, "an EnsembleFit")
    names = fit.ensemble.kinds.names
    if proofs is not None:
        check_each("proofs", proofs, RuleProof, "what prove returns")
        if len(proofs) != len(names):
            raise ValueError(f"there are {len(proofs)} proofs of {len(names)} rules")
    outcomes = proofs or (None,) * len(names)
    return tuple(
        # A residual that is no number is a violation.
        RuleVerdict(
            name, 0.0 if worst <= 0 else worst if worst > 0 else np.inf, active, proof
        )
        for name, worst, active, proof in zip(
            names, fit.residuals, fit.active, outcomes
        )
    )


def error_name(loss: Loss) -> str:
    """Returns the name of the error by which fits of a loss are compared."""
    names = {
        "squared_error": "RMSE",
        "log_squared_error": "RMSE",
        "absolute_error": "mean absolute error",
        "huber": "mean absolute error",
        "poisson": "mean Poisson deviance",
        "gamma": "mean gamma deviance",
        "quantile": "mean pinball loss",
    }
    return names.get(loss.kind, "log loss")


def error(loss: Loss, y: np.ndarray, predicted: np.ndarray) -> float:
    """Computes the error of predictions.

    Args:
        loss: of the target.
        y: target, (n,).
        predicted: (n, m), in the target's units.

    Returns:
        The error that `error_name` names.
    """
    first = predicted[:, 0]
    if loss.kind in ("squared_error", "log_squared_error"):
        return float(np.sqrt(np.mean(np.square(y - first))))
    if loss.kind in ("absolute_error", "huber"):
        return float(np.mean(np.abs(y - first)))
    if loss.kind == "quantile":
        missed = y[:, None] - predicted
        tau = np.array(loss.levels)
        return float(np.mean(np.maximum(tau * missed, (tau - 1) * missed)))
    if loss.kind in ("poisson", "gamma"):
        mean = np.maximum(first, 1e-12)
        ratio = y / mean
        if loss.kind == "gamma":
            return float(2 * np.mean(ratio - 1 - np.log(ratio)))
        known = np.where(y > 0, y * np.log(np.maximum(ratio, 1e-300)), 0.0)
        return float(2 * np.mean(known - y + mean))
    shares = np.clip(predicted, 1e-6, 1 - 1e-6)
    if loss.kind == "binary":
        return float(-np.mean(np.log(np.where(y == 1, shares[:, 0], 1 - shares[:, 0]))))
    return float(-np.mean(np.log(shares[np.arange(len(y)), y.astype(int)])))


def _row(
    name: str,
    loss: Loss,
    predict: Any,
    train: tuple[Frame, np.ndarray],
    held_out: tuple[Frame, np.ndarray],
) -> dict[str, Any]:
    label = error_name(loss)
    return {
        "model": name,
        f"training {label}": error(loss, train[1], predict(train[0])),
        f"held-out {label}": error(loss, held_out[1], predict(held_out[0])),
    }


def _cost(fit: EnsembleFit, free: EnsembleFit) -> tuple[float, float]:
    """Compares members pairwise, which hold out the same rows."""
    apart = fit.own - free.own
    usual = abs(float(np.mean(free.own))) or 1.0
    spread = np.std(apart, ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else np.nan
    return float(np.mean(apart)) / usual, float(spread) / usual


def _notes(
    rows: list[dict[str, Any]],
    ensemble: Ensemble,
    cost: float,
    spread: float,
    ruled: bool,
) -> list[str]:
    """Returns what the numbers mean, in sentences."""
    label = next(key for key in rows[0] if key.startswith("held-out"))
    held = {str(row["model"]): float(row[label]) for row in rows}
    own, line = held["this fit"], held["straight line"]
    notes = []
    if ruled:
        word = "higher" if cost > 0 else "lower"
        apart = f"{abs(100 * cost):.1f} % {word} than without them"
        if abs(cost) < 5e-4:
            apart = "the same as without them"
        notes.append(
            f"The held-out loss with the rules is {apart} (standard error "
            f"{100 * spread:.1f} %)."
        )
    if own > 1.01 * line:
        notes.append(
            f"Worse than a straight line: {label} {own:.4g} against {line:.4g}."
        )
    trees = held.get("boosted trees")
    if trees is not None and own > 1.02 * trees:
        notes.append(
            f"Worse than boosted trees: {label} {own:.4g} against {trees:.4g}."
        )
    if ensemble.share > _FAR:
        notes.append(
            f"To obey, the fit was moved by {100 * ensemble.share:.0f} % to a plain "
            "function: the rules and the data may contradict each other."
        )
    return notes
