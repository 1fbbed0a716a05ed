"""Rules that turn statistics of a history into verdicts with figures and advice."""

from typing import Any

import numpy as np

from jaxcon.diagnosis import _statistics as stats
from jaxcon.diagnosis._evidence import Evidence
from jaxcon.diagnosis._tracks import Track, worst_violation
from jaxcon.diagnosis._verdicts import Verdict

# Lengths of a history over which a fall is extended.
_FORESEEN = 10


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


def jumping(
    tracks: list[Track], loss: np.ndarray, tolerance: float, end: Evidence | None
) -> list[Verdict]:
    loss_jumps = stats.jumps(loss) > stats.SETTLED * np.median(
        np.abs(stats.last_half(loss))
    )
    found = []
    for track in tracks:
        size = stats.jumps(track.violation)
        by_itself = size > tolerance and not _of_the_data(track, size, end)
        if by_itself or (loss_jumps and track.above(tolerance)):
            found.append(track)
    # A penalty that bends the objective less than the loss does is not to blame.
    penalized = [
        t
        for t in found
        if t.penalty[-1] > 0 and (end is None or end.stiffness.get(t.name, 0.0) > 1)
    ]
    if penalized:
        return _too_large(penalized, "jump up and down from step to step")
    if found:
        return _verdict(
            "oscillating",
            found,
            f"the violations of {_quoted(found)} jump up and down from step to step; "
            "lower the primal learning rate, then the dual one",
        )
    return []


def _of_the_data(track: Track, swing: float, end: Evidence | None) -> bool:
    """Returns whether batches alone, at one point, make a violation swing so."""
    return end is not None and end.spread.get(track.name, 0.0) > swing / 2


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
    # A loss that grows while violations fall is what it costs to meet them.
    paid = any(t.above(tolerance) and stats.trend(t.violation) < 0 for t in tracks)
    if stats.explodes(np.abs(loss)) and not paid:
        return _verdict(
            "diverging",
            [],
            f"the loss goes to {loss[-1]:.3g}; lower the primal learning rate, or ask "
            "whether the loss is bounded where the constraints hold",
        )
    return []


def oscillating(
    tracks: list[Track], tolerance: float, end: Evidence | None, stride: float
) -> list[Verdict]:
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
            and not _of_the_data(track, swings, end)
        ):
            found.append(track)
            periods.append(period * stride)
    if not found:
        return []
    grows = max(stats.growth(t.violation) for t in found) > 1.1
    steps = " and ".join(f"{period:.0f}" for period in periods)
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
        if t.above(tolerance)
        and stats.last_third(t.capped).mean() > 0.5
        # One that still falls has no need of more.
        and not stats.trend(t.violation) < 0
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
    violations = _figures(np.median(stats.last_half(t.violation)) for t in found)
    multipliers = _figures(t.multiplier[-1] for t in found)
    what = (
        f"stay at {violations} while their multipliers grow to {multipliers}"
        if len(found) > 1
        else f"stays at {violations} while its multiplier grows to {multipliers}"
    )
    if end is not None and end.infeasible:
        return _infeasible(found, what)
    return _verdict("not met", found, f"{_violations(found)} {what}; {_way_out(end)}")


def _violations(tracks: list[Track]) -> str:
    noun = "violations" if len(tracks) > 1 else "violation"
    return f"the {noun} of {_quoted(tracks)}"


def _infeasible(tracks: list[Track], what: str) -> list[Verdict]:
    cannot, relax = (
        ("cannot all hold near here: their violations", "relax one of them")
        if len(tracks) > 1
        else (
            "cannot hold near here: its violation",
            "relax it, or start elsewhere",
        )
    )
    return _verdict(
        "infeasible",
        tracks,
        f"{_quoted(tracks)} {cannot} {what}, and no short step mends that; {relax} "
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
        mended = f"to first order a step of {end.way:.2g} times the parameters' size mends it"
    if end.stationary:
        return f"{mended}; raise the dual rate, or go on"
    return (
        f"{mended}, but the parameters lag behind their multipliers: raise the primal "
        "learning rate, or lower the dual one"
    )


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
        violations = _figures(stats.thirds(t.violation)[2] for t in found)
        verb = "stay" if len(found) > 1 else "stays"
        return _infeasible(found, f"{verb} at {violations}")
    verdicts = []
    if penalized := [t for t in found if t.penalty[-1] > 0]:
        verdicts += _under_a_penalty(penalized, end)
    if alone := [t for t in found if not t.penalty[-1] > 0]:
        verdicts += _without_a_penalty(alone, end)
    return verdicts


def _under_a_penalty(tracks: list[Track], end: Evidence | None) -> list[Verdict]:
    penalties = _figures(t.penalty[-1] for t in tracks)
    violations = _figures(stats.thirds(t.violation)[2] for t in tracks)
    leaves = f"a penalty of {penalties} leaves {_quoted(tracks)} with violations of"
    if end is None:
        return _verdict(
            "not met",
            tracks,
            f"{leaves} {violations}, and nothing moves; a history does not tell whether "
            "the penalty is too small or the parameters are stuck; ask jaxcon.kkt, or "
            "pass problem and state",
        )
    if not end.stationary:
        return stalled(tracks, end)
    return _verdict(
        "penalty too small",
        tracks,
        f"{leaves} {violations}; raise it, or let the multipliers climb",
    )


def _without_a_penalty(tracks: list[Track], end: Evidence | None) -> list[Verdict]:
    violations = _figures(stats.thirds(t.violation)[2] for t in tracks)
    # Of several entries the history shows the largest multiplier alone.
    hidden = [t for t in tracks if end and 0 < end.hidden.get(t.name, 0.0) < 0.99]
    if end is not None and hidden:
        shares = _figures(end.hidden[t.name] for t in hidden)
        return _verdict(
            "still moving",
            hidden,
            f"the violations of {_quoted(tracks)} stay at {violations}, and multipliers of "
            f"violated entries are {shares} of the largest, beneath which they may climb "
            "unseen; go on, or raise the dual rate",
        )
    return _verdict(
        "not pulled",
        tracks,
        f"the violations of {_quoted(tracks)} stay at {violations}, but their "
        "multipliers do not move and there is no penalty; give the dual a rate",
    )


def stalled(tracks: list[Track], end: Evidence) -> list[Verdict]:
    """Judges a run that rests where the KKT residuals are not small."""
    advice = "raise the learning rates, or let them decay later"
    stiffest = max(end.stiffness, key=lambda name: end.stiffness[name], default=None)
    if stiffest is not None and end.stiffness[stiffest] > 1 / stats.SETTLED:
        advice = (
            f"the penalty of {stiffest!r} outweighs the loss by "
            f"{end.stiffness[stiffest]:.2g} to 1: lower it"
        )
    largest = " and ".join(end.shortfalls()[:2])
    return _verdict(
        "stalled",
        tracks,
        f"nothing moves, but KKT residuals are not small: {largest}; {advice}",
    )


def converged(end: Evidence, tolerance: float, loss: np.ndarray) -> Verdict:
    value = "" if not len(loss) else f" of loss {stats.thirds(loss)[2]:.4g}"
    noise = (
        f", and as far as the noise of {end.batches} batches shows"
        if end.noise > end.stationarity
        else ""
    )
    return _verdict(
        "converged",
        [],
        f"the end is a KKT point{value}: violations are within the tolerance "
        f"{tolerance:.3g}, the Lagrangian's gradient is {end.stationarity:.1e} times the "
        f"scale of the loss's and the gap {end.gap:.1e} times that of the loss {end.data}"
        f"{noise}",
    )[0]


def state(
    tracks: list[Track],
    loss: np.ndarray,
    tolerance: float,
    end: Evidence | None,
    stride: float,
) -> Verdict:
    worst = np.max([np.zeros_like(loss), *(t.violation for t in tracks)], axis=0)
    largest = stats.usually_below(worst)
    within = f"within the tolerance {tolerance:.3g}"
    above = [t for t in tracks if t.above(tolerance)]
    stirring = [t for t in tracks if t.stirs()]
    series = [
        ("the loss", loss),
        *((f"the multiplier of {t.name!r}", t.multiplier) for t in stirring),
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
        steps = len(stats.last_half(loss)) * stride
        return _verdict(
            "still moving",
            above,
            f"violations are {where}, and over the last {steps:.0f} steps "
            f"move {moves}; {_outlook(above, stirring, tolerance, end, stride)}",
        )[0]
    if swinging := [t for t in stirring if stats.swings(t.multiplier)]:
        return _verdict("still moving", swinging, _swing(swinging[0]))[0]
    if largest > tolerance and stats.growth(worst) < stats.LASTING:
        return _verdict(
            "still moving",
            [],
            f"the worst violation swings up to {largest:.3g}, less and less; go on",
        )[0]
    if largest <= tolerance:
        return _at_a_feasible_point(loss, within, end)
    noisy = [t for t in tracks if stats.usually_below(t.violation) > tolerance]
    # None has to reach by itself how often all of them together do.
    noisy = noisy or [max(tracks, key=lambda t: stats.last_third(t.violation).max())]
    if end is not None and end.end.fixed:
        return _verdict(
            "oscillating",
            noisy,
            f"the violations of {_quoted(noisy)} come and go, up to {largest:.3g}, though "
            "every step has the same data; lower the learning rates, and take the best "
            "iterate",
        )[0]
    return _verdict(
        "noisy",
        noisy,
        f"the violations of {_quoted(noisy)} come and go, up to {largest:.3g}, with no "
        "trend and no period; lower the learning rates or take larger batches, and take "
        "the best iterate",
    )[0]


def _at_a_feasible_point(
    loss: np.ndarray, within: str, end: Evidence | None
) -> Verdict:
    value = stats.thirds(loss)[2]
    rest = f"nothing moves: violations are {within} and the loss is {value:.4g}"
    if end is None:
        return _verdict(
            "settled",
            [],
            f"{rest}; a history does not tell whether this is an optimum: ask jaxcon.kkt, "
            "or pass the run's end",
        )[0]
    if end.blind:
        return _verdict(
            "settled",
            [],
            f"{rest}; the noise of {end.batches} batches hides whether this is an optimum: "
            "take larger ones, or judge by a batch of your own",
        )[0]
    if end.wanders:
        return _verdict(
            "settled",
            [],
            f"{rest}, but the Lagrangian's gradient over {end.batches} batches is "
            f"{end.stationarity:.2g} times the scale of the loss's, less than the noise of "
            "one batch, in which the parameters wander; lower the learning rates",
        )[0]
    return stalled([], end)[0]


def _swing(track: Track) -> str:
    tail = stats.blocks(track.multiplier)
    return (
        f"the multiplier of {track.name!r} swings between {tail.min():.3g} and "
        f"{tail.max():.3g}; lower the dual rate, or damp with a penalty or with nupi's kp"
    )


def _outlook(
    above: list[Track],
    stirring: list[Track],
    tolerance: float,
    end: Evidence | None,
    stride: float,
) -> str:
    """Returns the advice for a run that still moves: go on, how long, or otherwise."""
    for track in stirring:
        if stats.swings(track.multiplier):
            return _swing(track)
    rows = 0.0
    for track in above:
        b0, _, b2 = stats.thirds(track.violation)
        if stats.trend(track.violation) > 0 and stats.trend(track.multiplier) > 0:
            return (
                f"the violation of {track.name!r} grows while its multiplier does, and "
                "nothing shows that more steps will meet it: try other learning rates, or "
                "add a penalty"
            )
        if b0 - b2 <= stats.SETTLED * b2:
            if end is not None and end.lags(track):
                return (
                    f"the violation of {track.name!r} does not fall yet, as the parameters "
                    "lag behind its multiplier: raise the primal learning rate"
                )
            return f"the violation of {track.name!r} does not fall yet: raise its dual rate"
        if not stats.descends(track.violation):
            return (
                f"the violation of {track.name!r} does not fall steadily: go on, and look "
                "again"
            )
        # As if it fell by the same factor in equal times; thirds lie a third apart.
        thirds = 2 * np.log(b2 / tolerance) / np.log(b0 / b2) if tolerance else np.inf
        rows = max(rows, thirds * len(stats.last_half(track.violation)) / 3)
    if rows > _FORESEEN * max((len(track.violation) for track in above), default=1):
        return "at this rate it would take many times as long: raise the learning rates"
    return (
        f"go on, for about {rows * stride:.2g} steps at this rate" if above else "go on"
    )
