"""Rules that turn statistics of a history into verdicts with figures and advice."""

from typing import Any

import numpy as np

from jaxcon.diagnosis import _statistics as stats
from jaxcon.diagnosis._tracks import Track, worst_violation
from jaxcon.diagnosis._verdicts import Verdict


def _quoted(tracks: list[Track]) -> str:
    return " and ".join(repr(track.name) for track in tracks)


def _figures(values: Any) -> str:
    return " and ".join(f"{value:.3g}" for value in values)


def _verdict(kind: str, tracks: list[Track], text: str) -> list[Verdict]:
    names = tuple(track.name for track in tracks)
    return [Verdict(kind, names, f"{kind}: {text}")]


def not_finite(finite: np.ndarray) -> list[Verdict]:
    skipped, first = int((~finite).sum()), int(np.argmin(finite))
    return _verdict(
        "not finite",
        [],
        f"{skipped} of {len(finite)} steps ({skipped / len(finite):.1%}) were skipped, the "
        f"first in row {first}; look for logarithms and divisions in loss and "
        "constraints, or lower the learning rates",
    )


def too_short(count: int) -> list[Verdict]:
    return _verdict(
        "too short to say", [], f"{count} finite steps, of {stats.FEW} needed"
    )


def jumping(tracks: list[Track], loss: np.ndarray, tolerance: float) -> list[Verdict]:
    loss_jumps = stats.jumps(loss) > stats.SETTLED * np.median(
        np.abs(stats.last_half(loss))
    )
    found = [
        t
        for t in tracks
        if stats.jumps(t.violation) > tolerance or (loss_jumps and t.above(tolerance))
    ]
    if penalized := [t for t in found if t.penalty[-1] > 0]:
        return _too_large(penalized, "jump up and down from step to step")
    if found:
        return _verdict(
            "oscillating",
            found,
            f"the violations of {_quoted(found)} jump up and down from step to step; "
            "lower the primal learning rate, then the dual one",
        )
    return []


def _too_large(tracks: list[Track], what: str) -> list[Verdict]:
    penalties = _figures(t.penalty[-1] for t in tracks)
    return _verdict(
        "penalty too large",
        tracks,
        f"under a penalty of {penalties} the violations of {_quoted(tracks)} {what}; "
        "lower the penalty, or the primal learning rate that has to follow it",
    )


def diverging(tracks: list[Track], loss: np.ndarray, tolerance: float) -> list[Verdict]:
    found = [t for t in tracks if t.above(tolerance) and stats.explodes(t.violation)]
    if penalized := [t for t in found if t.penalty[-1] > 0]:
        return _too_large(penalized, "grow from step to step")
    if found:
        return _verdict(
            "diverging",
            found,
            f"the violations of {_quoted(found)} grow without bound; lower the primal "
            "learning rate, or add a penalty where the loss bends down",
        )
    if stats.explodes(np.abs(loss)):
        return _verdict(
            "diverging",
            [],
            f"the loss goes to {loss[-1]:.3g}; lower the primal learning rate, or ask "
            "whether the loss is bounded where the constraints hold",
        )
    return []


def oscillating(tracks: list[Track], tolerance: float) -> list[Verdict]:
    found, periods = [], []
    for track in tracks:
        swings = np.ptp(
            stats.detrended(np.array_split(stats.last_half(track.violation), 2)[1])
        )
        period = stats.period(track.violation) or stats.period(track.multiplier)
        if (
            period
            and swings > tolerance
            and stats.growth(track.violation) > stats.LASTING
        ):
            found.append(track)
            periods.append(period)
    if not found:
        return []
    grows = max(stats.growth(t.violation) for t in found) > 1.1
    steps = " and ".join(str(period) for period in periods)
    return _verdict(
        "oscillating",
        found,
        f"the violations of {_quoted(found)} swing with a period of {steps} steps and "
        f"{'grow' if grows else 'do not shrink'}; lower the dual rate, damp with a penalty "
        "or with nupi's kp, or take extragradient",
    )


def capped(tracks: list[Track], tolerance: float) -> list[Verdict]:
    found = [
        t
        for t in tracks
        if t.above(tolerance) and stats.last_third(t.capped).mean() > 0.5
    ]
    if not found:
        return []
    caps = _figures(t.multiplier[-1] for t in found)
    violations = _figures(stats.thirds(t.violation)[2] for t in found)
    return _verdict(
        "cap reached",
        found,
        f"multipliers of {_quoted(found)} sit on their cap ({caps}) with violations of "
        f"{violations}; raise the limit of capped(dual, limit), or the constraints "
        "cannot be met",
    )


def infeasible(
    tracks: list[Track], loss: np.ndarray, tolerance: float
) -> list[Verdict]:
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
    violations = _figures(np.median(stats.last_half(t.violation)) for t in found)
    multipliers = _figures(t.multiplier[-1] for t in found)
    what = (
        f"{_quoted(found)} cannot all hold near here: their violations stay at {violations}"
        f" while their multipliers grow to {multipliers}; relax one of them"
        if len(found) > 1
        else f"{_quoted(found)} cannot hold near here: its violation stays at {violations} "
        f"while its multiplier grows to {multipliers}; relax it, or start elsewhere"
    )
    return _verdict("infeasible", found, f"{what} (jaxcon.conflict weighs them)")


def winding_up(
    tracks: list[Track], loss: np.ndarray, tolerance: float
) -> list[Verdict]:
    verdicts = []
    for track in tracks:
        b0, b1, b2 = stats.thirds(track.violation)
        m0, m1, m2 = stats.thirds(track.multiplier)
        straightness = stats.straightness(stats.last_half(track.multiplier))
        doubt = stats.doubt(track.violation)
        faster = b0 - b1 > -doubt and b1 - b2 > b0 - b1 + max(0.1 * (b0 - b1), doubt)
        steadily = track.climbs() and straightness > 0.7
        if b2 > tolerance and steadily and faster:
            verdicts += _verdict(
                "winding up",
                [track],
                f"the multiplier of {track.name!r} climbs from {m0:.3g} to {m2:.3g} while "
                f"its violation falls from {b0:.3g} to {b2:.3g} and ever faster, and will "
                "overshoot; lower the dual rate or raise the primal one, or damp with "
                "nupi's kp",
            )
        soar = track.climbs() and stats.soars(track.multiplier) and stats.soars(loss)
        if soar and max(b0, b1, b2) <= tolerance:
            l0, _, l2 = stats.thirds(loss)
            verdicts += _verdict(
                "winding up",
                [track],
                f"the multiplier of {track.name!r} climbs from {m0:.3g} to {m2:.3g} and "
                f"the loss from {l0:.3g} to {l2:.3g}, though its constraint is mostly met; "
                "lower the dual rate or the penalty, cap the multiplier, or ask whether a "
                "finite one exists (a squared equality has none)",
            )
        met = np.mean(stats.last_half(track.violation) <= tolerance) > 0.95
        falls = straightness < -0.7 and m0 - m1 > 0.1 * m0
        evenly = m2 == 0 or m1 - m2 > 0.8 * (m0 - m1)
        if track.kind == "inequality" and met and falls and evenly:
            verdicts += _verdict(
                "winding up",
                [track],
                f"the multiplier of {track.name!r} was wound up to "
                f"{track.multiplier.max():.3g} and only unwinds, over {m0:.3g} and {m1:.3g}"
                f" to {m2:.3g}, though its constraint has been met for at least "
                f"{len(stats.last_half(track.violation))} steps; lower the dual rate, cap "
                "the multiplier, or damp with nupi's kp",
            )
    return verdicts


def at_rest(tracks: list[Track], tolerance: float) -> list[Verdict]:
    def rests(track: Track) -> bool:
        raised = np.ptp(stats.last_half(track.penalty)) > stats.SETTLED * np.max(
            track.penalty
        )
        still = not (raised or track.stirs() or track.capped[-1])
        return still and track.above(tolerance) and not stats.trend(track.violation)

    verdicts, found = [], [t for t in tracks if rests(t)]
    if penalized := [t for t in found if t.penalty[-1] > 0]:
        penalties = _figures(t.penalty[-1] for t in penalized)
        violations = _figures(stats.thirds(t.violation)[2] for t in penalized)
        verdicts += _verdict(
            "penalty too small",
            penalized,
            f"a penalty of {penalties} leaves {_quoted(penalized)} with violations of "
            f"{violations}; raise it, or let the multipliers climb",
        )
    if alone := [t for t in found if not t.penalty[-1] > 0]:
        violations = _figures(stats.thirds(t.violation)[2] for t in alone)
        verdicts += _verdict(
            "not pulled",
            alone,
            f"the violations of {_quoted(alone)} stay at {violations}, but their "
            "multipliers do not move and there is no penalty; give the dual a rate",
        )
    return verdicts


def state(tracks: list[Track], loss: np.ndarray, tolerance: float) -> Verdict:
    worst = np.max([np.zeros_like(loss), *(t.violation for t in tracks)], axis=0)
    largest = stats.usually_below(worst)
    within = f"within the tolerance {tolerance:.3g}"
    above = [t for t in tracks if t.above(tolerance)]
    series = [
        ("the loss", loss),
        *((f"the multiplier of {t.name!r}", t.multiplier) for t in tracks if t.stirs()),
        # Within the tolerance a violation may do as it likes.
        *((f"the violation of {t.name!r}", t.violation) for t in above),
    ]
    moving = [
        (what, *stats.thirds(each)[::2]) for what, each in series if stats.trend(each)
    ]
    if moving:
        where = within if largest <= tolerance else f"up to {largest:.3g}"
        moves = ", ".join(
            f"{what} from {b0:.3g} to {b2:.3g}" for what, b0, b2 in moving
        )
        return _verdict(
            "still moving",
            above,
            f"violations are {where}, and over the last {len(stats.last_half(loss))} steps "
            f"move {moves}; {_outlook(above, tolerance)}",
        )[0]
    if largest > tolerance and stats.growth(worst) < stats.LASTING:
        return _verdict(
            "still moving",
            [],
            f"the worst violation swings up to {largest:.3g}, less and less; go on",
        )[0]
    if largest <= tolerance:
        return _verdict(
            "converged",
            [],
            f"violations are {within} (95 % of the last below {largest:.2g}), and the "
            f"loss ({stats.thirds(loss)[2]:.4g}) and all multipliers have settled",
        )[0]
    noisy = [t for t in tracks if stats.usually_below(t.violation) > tolerance]
    # None has to reach by itself how often all of them together do.
    noisy = noisy or [max(tracks, key=lambda t: stats.last_third(t.violation).max())]
    return _verdict(
        "noisy",
        noisy,
        f"the violations of {_quoted(noisy)} come and go, up to {largest:.3g}, with no "
        "trend and no period; lower the learning rates or take larger batches, and take "
        "the best iterate",
    )[0]


def _outlook(above: list[Track], tolerance: float) -> str:
    """Returns the advice for a run that still moves: go on, how long, or pull harder."""
    if not above:
        return "go on"
    steps = 0.0
    for track in above:
        b0, _, b2 = stats.thirds(track.violation)
        if b0 - b2 <= stats.SETTLED * b2:
            return f"the violation of {track.name!r} does not fall yet: raise its dual rate"
        # As if it fell by the same factor in equal times; thirds lie a third apart.
        thirds = 2 * np.log(b2 / tolerance) / np.log(b0 / b2)
        steps = max(steps, thirds * len(stats.last_half(track.violation)) / 3)
    return f"go on, for about {steps:.2g} steps at this rate"
