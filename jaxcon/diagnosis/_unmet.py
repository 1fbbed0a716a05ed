"""Rules on violations that stay, and on runs that rest where nothing is optimal."""

import numpy as np

from jaxcon.diagnosis import _statistics as stats
from jaxcon.diagnosis import _stuck as stuck
from jaxcon.diagnosis._evidence import Evidence
from jaxcon.diagnosis._tracks import Track, worst_violation
from jaxcon.diagnosis._verdicts import Verdict
from jaxcon.diagnosis._words import figures, quoted, verdict
from jaxcon.primal_dual import Outer


def level(
    tracks: list[Track], loss: np.ndarray, tolerance: float, end: Evidence | None
) -> list[Verdict]:
    """Judges violations that stay while their multipliers climb."""
    free = (t.uncapped() for t in tracks if t.above(tolerance))
    climbing = [t for t in free if len(t.violation) >= stats.FEW and t.climbs()]
    found = [t for t in climbing if stats.stays(t.violation, tolerance)]
    # Rivals may give way to each other in turn, and only the worst violation stays.
    rivals = [
        t
        for t in climbing
        if stats.stays(t.violation, tolerance) or not stats.falls(t.violation)
    ]
    if rivals and stats.stays(worst_violation(rivals), tolerance):
        found = rivals
    # A dual rate far too small looks alike until multipliers weigh as much as the loss.
    # While a feasible convex problem is solved slowly enough, sum lambda g stays below
    # what feasibility costs in loss; where nothing is feasible it has no bound.
    pull = sum(stats.thirds(t.violation)[2] * float(t.multiplier[-1]) for t in found)
    level = stats.thirds(loss)[2]
    at_stake = max(abs(level), abs(loss[0] - level))
    if not found or pull < at_stake:
        return []
    violations = figures(np.median(stats.last_half(t.violation)) for t in found)
    multipliers = figures(t.multiplier[-1] for t in found)
    what = (
        f"stay at {violations} while their multipliers grow to {multipliers}"
        if len(found) > 1
        else f"stays at {violations} while its multiplier grows to {multipliers}"
    )
    if end is not None and end.infeasible:
        return infeasible(found, what)
    return verdict("not met", found, f"{_violations(found)} {what}; {_way_out(end)}")


def _violations(tracks: list[Track]) -> str:
    noun = "violations" if len(tracks) > 1 else "violation"
    return f"the {noun} of {quoted(tracks)}"


def infeasible(tracks: list[Track], what: str) -> list[Verdict]:
    """Judges constraints that cannot all hold; `what` says how their violations stay."""
    cannot, relax = (
        ("cannot all hold near here: their violations", "relax one of them")
        if len(tracks) > 1
        else (
            "cannot hold near here: its violation",
            "relax it, or start elsewhere",
        )
    )
    return verdict(
        "infeasible",
        tracks,
        f"{quoted(tracks)} {cannot} {what}, and no short step mends that; {relax} "
        "(jaxcon.conflict weighs them)",
    )


def _way_out(end: Evidence | None) -> str:
    """Returns what to do about a violation that no conflict explains."""
    if end is None:
        return (
            "a history does not tell whether the problem is feasible; ask jaxcon.conflict, "
            "or pass the run's end"
        )
    mended = "descent from there mends it"
    if end.way > 0:
        times = f"{end.way:.2g} times the parameters' size"
        mended = f"to first order a step of {times} mends it"
    if end.stationary:
        return f"{mended}; raise the dual rate, or go on"
    return (
        f"{mended}, but the parameters lag behind their multipliers: raise the primal "
        "learning rate, or lower the dual one"
    )


def at_rest(
    tracks: list[Track], tolerance: float, end: Evidence | None
) -> list[Verdict]:
    def rests(track: Track) -> bool:
        raised = np.ptp(stats.last_half(track.penalty)) > stats.SETTLED * np.max(
            track.penalty
        )
        still = not (raised or track.stirs() or track.capped[-1])
        return still and track.above(tolerance) and not stats.trend(track.violation)

    found = [t for t in tracks if rests(t)]
    if not found:
        return []
    if end is not None and end.infeasible:
        violations = figures(stats.thirds(t.violation)[2] for t in found)
        verb = "stay" if len(found) > 1 else "stays"
        return infeasible(found, f"{verb} at {violations}")
    verdicts = []
    if penalized := [t for t in found if t.penalty[-1] > 0]:
        verdicts += _under_a_penalty(penalized, end)
    if alone := [t for t in found if not t.penalty[-1] > 0]:
        verdicts += _without_a_penalty(alone, end)
    return verdicts


def _under_a_penalty(tracks: list[Track], end: Evidence | None) -> list[Verdict]:
    penalties = figures(t.penalty[-1] for t in tracks)
    violations = figures(stats.thirds(t.violation)[2] for t in tracks)
    leaves = f"a penalty of {penalties} leaves {quoted(tracks)} with violations of"
    if end is None:
        return verdict(
            "not met",
            tracks,
            f"{leaves} {violations}, and nothing moves; a history does not tell whether "
            "the penalty is too small or the parameters are stuck; ask jaxcon.kkt, or "
            "pass problem and state",
        )
    if not end.stationary:
        return stalled(tracks, end)
    return verdict(
        "penalty too small",
        tracks,
        f"{leaves} {violations}; raise it, or let the multipliers climb",
    )


def _without_a_penalty(tracks: list[Track], end: Evidence | None) -> list[Verdict]:
    violations = figures(stats.thirds(t.violation)[2] for t in tracks)
    # Of several entries the history shows the largest multiplier alone.
    hidden = [t for t in tracks if end and 0 < end.hidden.get(t.name, 0.0) < 0.99]
    if end is not None and hidden:
        shares = figures(end.hidden[t.name] for t in hidden)
        return verdict(
            "still moving",
            hidden,
            f"the violations of {quoted(tracks)} stay at {violations}, and multipliers of "
            f"violated entries are {shares} of the largest, beneath which they may climb "
            "unseen; go on, or raise the dual rate",
        )
    return verdict(
        "not pulled",
        tracks,
        f"the violations of {quoted(tracks)} stay at {violations}, but their "
        "multipliers do not move and there is no penalty; give the dual a rate",
    )


def stalled(tracks: list[Track], end: Evidence) -> list[Verdict]:
    """Judges a run that rests where the KKT residuals are not small."""
    by_rates = "raise the learning rates, or let them decay later"
    advice = stuck.advice(end) or by_rates
    if isinstance(getattr(end.end.state, "rule", None), Outer):
        advice = "start elsewhere, or compute in float64"
    stiffest = max(end.stiffness, key=lambda name: end.stiffness[name], default=None)
    if stiffest is not None and end.stiffness[stiffest] > 1 / stats.SETTLED:
        advice = (
            f"the penalty of {stiffest!r} outweighs the loss by "
            f"{end.stiffness[stiffest]:.2g} to 1: lower it"
        )
    largest = " and ".join(end.shortfalls()[:2])
    return verdict(
        "stalled",
        tracks,
        f"nothing moves, but KKT residuals are not small: {largest}; {advice}",
    )
