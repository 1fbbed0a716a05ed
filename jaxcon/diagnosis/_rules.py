"""Rules that turn statistics of a history into verdicts with figures and advice."""

import numpy as np

from jaxcon.diagnosis import _statistics as stats
from jaxcon.diagnosis._evidence import Evidence
from jaxcon.diagnosis._tracks import Track
from jaxcon.diagnosis._unmet import stalled
from jaxcon.diagnosis._verdicts import Verdict
from jaxcon.diagnosis._words import figures, quoted, verdict

# Lengths of a history over which a fall is extended.
_FORESEEN = 10


def not_finite(finite: np.ndarray) -> list[Verdict]:
    skipped, first = int((~finite).sum()), int(np.argmin(finite))
    return verdict(
        "not finite",
        [],
        f"{skipped} of {len(finite)} steps ({skipped / len(finite):.1%}) were skipped, the "
        f"first in row {first}; look for logarithms and divisions in loss and "
        "constraints, or lower the learning rates",
    )


def too_short(count: int) -> list[Verdict]:
    return verdict(
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
        return verdict(
            "oscillating",
            found,
            f"the violations of {quoted(found)} jump up and down from step to step; "
            "lower the primal learning rate, then the dual one",
        )
    return []


def _of_the_data(track: Track, swing: float, end: Evidence | None) -> bool:
    """Returns whether batches alone, at one point, make a violation swing so."""
    return end is not None and end.spread.get(track.name, 0.0) > swing / 2


def _too_large(tracks: list[Track], what: str) -> list[Verdict]:
    penalties = figures(t.penalty[-1] for t in tracks)
    return verdict(
        "penalty too large",
        tracks,
        f"under a penalty of {penalties} the violations of {quoted(tracks)} {what}; "
        "lower the penalty, or the primal learning rate that has to follow it",
    )


def diverging(tracks: list[Track], loss: np.ndarray, tolerance: float) -> list[Verdict]:
    found = [t for t in tracks if t.above(tolerance) and stats.explodes(t.violation)]
    if penalized := [t for t in found if t.penalty[-1] > 0]:
        return _too_large(penalized, "grow from step to step")
    if found:
        return verdict(
            "diverging",
            found,
            f"the violations of {quoted(found)} grow without bound; lower the primal "
            "learning rate, or add a penalty where the loss bends down",
        )
    # A loss that grows while violations fall is what it costs to meet them.
    paid = any(t.above(tolerance) and stats.trend(t.violation) < 0 for t in tracks)
    if stats.explodes(np.abs(loss)) and not paid:
        return verdict(
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
    return verdict(
        "oscillating",
        found,
        f"the violations of {quoted(found)} swing with a period of {steps} steps and "
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
    caps = figures(t.multiplier[-1] for t in found)
    violations = figures(stats.thirds(t.violation)[2] for t in found)
    return verdict(
        "cap reached",
        found,
        f"multipliers of {quoted(found)} sit on their cap ({caps}) with violations of "
        f"{violations}; raise the limit of capped(dual, limit), or the constraints "
        "cannot be met",
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
            verdicts += verdict(
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
            verdicts += verdict(
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
            verdicts += verdict(
                "winding up",
                [track],
                f"the multiplier of {track.name!r} was wound up to "
                f"{track.multiplier.max():.3g} and only unwinds, over {m0:.3g} and {m1:.3g}"
                f" to {m2:.3g}, though its constraint has been met for at least "
                f"{len(stats.last_half(track.violation))} steps; lower the dual rate, cap "
                "the multiplier, or damp with nupi's kp",
            )
    return verdicts


def converged(end: Evidence, tolerance: float, loss: np.ndarray) -> Verdict:
    value = "" if not len(loss) else f" of loss {stats.thirds(loss)[2]:.4g}"
    noise = (
        f", and as far as the noise of {end.batches} batches shows"
        if end.noise > end.stationarity
        else ""
    )
    return verdict(
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
    fixed: bool,
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
        return verdict(
            "still moving",
            above,
            f"violations are {where}, and over the last {steps:.0f} steps "
            f"move {moves}; {_outlook(above, stirring, tolerance, end, stride)}",
        )[0]
    if swinging := [t for t in stirring if stats.swings(t.multiplier)]:
        return verdict("still moving", swinging, _swing(swinging[0]))[0]
    if largest > tolerance and stats.growth(worst) < stats.LASTING:
        return verdict(
            "still moving",
            [],
            f"the worst violation swings up to {largest:.3g}, less and less; go on",
        )[0]
    if largest <= tolerance:
        return _at_a_feasible_point(loss, within, end)
    noisy = [t for t in tracks if stats.usually_below(t.violation) > tolerance]
    # None has to reach by itself how often all of them together do.
    noisy = noisy or [max(tracks, key=lambda t: stats.last_third(t.violation).max())]
    if fixed:
        return verdict(
            "oscillating",
            noisy,
            f"the violations of {quoted(noisy)} come and go, up to {largest:.3g}, though "
            "every step has the same data; lower the learning rates, and take the best "
            "iterate",
        )[0]
    return verdict(
        "noisy",
        noisy,
        f"the violations of {quoted(noisy)} come and go, up to {largest:.3g}, with no "
        "trend and no period; lower the learning rates or take larger batches, and take "
        "the best iterate",
    )[0]


def _at_a_feasible_point(
    loss: np.ndarray, within: str, end: Evidence | None
) -> Verdict:
    value = stats.thirds(loss)[2]
    rest = f"nothing moves: violations are {within} and the loss is {value:.4g}"
    if end is None:
        return verdict(
            "settled",
            [],
            f"{rest}; a history does not tell whether this is an optimum: ask jaxcon.kkt, "
            "or pass the run's end",
        )[0]
    if end.blind:
        return verdict(
            "settled",
            [],
            f"{rest}; the noise of {end.batches} batches hides whether this is an optimum: "
            "take larger ones, or judge by a batch of your own",
        )[0]
    if end.wanders:
        return verdict(
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
