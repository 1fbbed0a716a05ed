r"""Says in words what a run's history shows: what went wrong, and what to try.

Everything is read from the last half of the history, where the start no longer
counts, through medians of its three thirds :math:`b_0, b_1, b_2`, which a few wild steps
do not move. A history says nothing of what was never tried, so a verdict is evidence,
not proof; `jaxcon.optimality` judges the point itself.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxcon.constraints import Constraints, named
from jaxcon.primal_dual import Info

# Rows below which no statistic means anything.
_FEW = 20
# What moves by less than this share of its size has settled.
_SETTLED = 1e-2
# Swings last if from one quarter of the history to the next they keep this much width.
_LASTING = 0.5


class Verdict(NamedTuple):
    """One thing that a history shows.

    Attributes:
        kind: one of the kinds that `diagnose` lists.
        constraints: the names it concerns; none if it concerns the whole run.
        text: one sentence with the figures and what to try.
    """

    kind: str
    constraints: tuple[str, ...]
    text: str


class Diagnosis(NamedTuple):
    """All verdicts of a history; `str` gives one sentence per line.

    Attributes:
        verdicts: at least one, what is wrong before what is well.
    """

    verdicts: tuple[Verdict, ...]

    def __str__(self) -> str:
        return "\n".join(verdict.text for verdict in self.verdicts)


def diagnose(history: Info, tolerance: float = 1e-3) -> Diagnosis:
    r"""What a finished or running fit did, as verdicts that name the constraints.

    - *not finite*: steps were skipped, because something was not finite.
    - *too short to say*: fewer than 20 steps were finite.
    - *diverging*: a violation or the loss more than triples from third to third.
    - *penalty too large*: a violation does so under a penalty, or under one it or the loss
      jumps up and down from step to step (its differences have a lag-one
      autocorrelation below -0.7, where white noise has -1/2).
    - *oscillating*: a violation swings by more than the tolerance, repeats with a period
      (it resembles itself a period later, with a correlation above 1/2), and its swings do
      not shrink by half from one quarter of the history to the next; or it
      jumps up and down from step to step, without a penalty.
    - *cap reached*: a violation stays above the tolerance while a multiplier of it sits on
      its cap.
    - *infeasible*: a multiplier climbs from third to third, multiplier times violation
      outweighs the loss and its change since the first row, and the violation levels off
      above the tolerance all the same (Aitken's limit of its thirds). Several that do so
      at once are in conflict, also if they give way to each other and only the worst of
      their violations levels off.
    - *winding up*: a multiplier climbs steadily while its violation lags behind and falls
      ever faster, so that it will overshoot; or it has overshot, and only comes down,
      its constraint being met all the while; or it and the loss grow more than ninefold
      from first to last third, though its constraint is met in the median.
    - *penalty too small*: a violation has settled above the tolerance under a penalty, and
      its multiplier moves by less than a hundredth of all that pulls,
      :math:`\lambda + \rho \max(g, 0)`.
    - *not pulled*: the same without a penalty.
    - *noisy*: violations above the tolerance come and go with no trend and no period.
    - *still moving*: none of these, but violation, loss or a multiplier has a trend, or the
      violations' swings shrink.
    - *converged*: all violations are within the tolerance, and nothing has a trend.

    Args:
        history: `Info` of arrays with one row per step: a `FitResult.history`, or what
            `fit` hands to a callback, for a run under method.
        tolerance: largest violation that counts as feasible, in the constraints' units.

    Returns:
        A `Diagnosis`.

    Raises:
        ValueError: the history is no sequence of steps of one run.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
        >>> both = jc.Constraints(inequality={
        ...     "x <= -1": lambda x, _: x + 1.0, "x >= 1": lambda x, _: 1.0 - x})
        >>> solver = jc.alternating(
        ...     lambda x, _: x**2, both, optax.sgd(0.1), jc.dual_ascent(optax.sgd(0.1)))
        >>> result = jc.fit(solver, solver.init(jnp.array(2.0)), steps=500)
        >>> (verdict,) = result.diagnosis.verdicts
        >>> print(verdict.kind, verdict.constraints)
        infeasible ('x <= -1', 'x >= 1')
    """
    finite = np.asarray(history.finite, bool)
    if finite.ndim != 1:
        raise ValueError(
            f"history.finite has shape {finite.shape}; a history has one row per step of "
            "one run, as FitResult.history has"
        )
    tracks, loss = _tracks(history, finite), np.asarray(history.loss, float)[finite]
    verdicts = [] if finite.all() else _not_finite(finite)
    if len(loss) < _FEW:
        verdicts += _diverging(tracks, loss, tolerance) or _too_short(len(loss))
        return Diagnosis(tuple(verdicts))
    unstable = _jumping(tracks, loss, tolerance) or _oscillating(tracks, tolerance)
    unstable = unstable or _diverging(tracks, loss, tolerance)
    restless = {name for verdict in unstable for name in verdict.constraints}
    troubles = [
        *unstable,
        *_capped(tracks, tolerance),
        *_infeasible(tracks, loss, tolerance),
        *_winding_up(tracks, loss, tolerance),
        *_at_rest([t for t in tracks if t.name not in restless], tolerance),
    ]
    verdicts += troubles or [_state(tracks, loss, tolerance)]
    return Diagnosis(tuple(verdicts))


class _Track(NamedTuple):
    """What the finite steps saw of one constraint, each of shape (t,)."""

    name: str
    kind: str
    violation: np.ndarray
    multiplier: np.ndarray
    penalty: np.ndarray
    capped: np.ndarray

    def above(self, tolerance: float) -> bool:
        return _thirds(self.violation)[2] > tolerance

    def climbs(self) -> bool:
        """Whether the multiplier rises from third to third, and no slower later."""
        m0, m1, m2 = _thirds(self.multiplier)
        return _trend(self.multiplier) > 0 and m2 - m1 > (m1 - m0) / 2 > 0

    def stirs(self) -> bool:
        """Whether the multiplier moves by a share of all that pulls, penalty included."""
        with np.errstate(over="ignore"):  # beside an endless pull nothing counts
            pull = np.median(_tail(self.multiplier + self.penalty * self.violation))
        return bool(np.ptp(_tail(self.multiplier)) > _SETTLED * pull)

    def uncapped(self) -> "_Track":
        """The steps before a multiplier first sat on its cap."""
        end = int(np.argmax(self.capped)) if self.capped.any() else len(self.capped)
        return self._replace(
            violation=self.violation[:end], multiplier=self.multiplier[:end]
        )


def _tracks(history: Info, finite: np.ndarray) -> list[_Track]:
    def of(field: Constraints, kind: str, name: str) -> np.ndarray:
        absent = np.zeros(len(finite))
        return np.asarray(getattr(field, kind).get(name, absent), float)[finite]

    fields = history.violation, history.multiplier, history.penalty, history.capped
    return [
        _Track(name, kind, *(of(field, kind, name) for field in fields))
        for kind, name, _ in named(history.violation)
    ]


def _tail(series: np.ndarray) -> np.ndarray:
    return series[min(len(series) // 2, max(len(series) - _FEW, 0)) :]


def _thirds(series: np.ndarray) -> list[float]:
    """b0, b1, b2: medians of the thirds of the last half; zeros if there is nothing."""
    parts = np.array_split(_tail(series), 3)
    return [float(np.median(part)) if len(part) else 0.0 for part in parts]


def _worst(tracks: list[_Track]) -> np.ndarray:
    """The largest violation at each step that all of them have."""
    rows = min(len(track.violation) for track in tracks)
    return np.max([track.violation[:rows] for track in tracks], axis=0)


def _last(series: np.ndarray) -> np.ndarray:
    return np.array_split(_tail(series), 3)[2]


def _usually_below(series: np.ndarray) -> float:
    """What 95 % of the last third stay below."""
    return float(np.quantile(_last(series), 0.95))


def _straightness(series: np.ndarray) -> float:
    """Net change over the method travelled: 1 only rises, -1 only falls, 0 goes nowhere."""
    method = np.abs(np.diff(series)).sum()
    return float((series[-1] - series[0]) / method) if method > 0 else 0.0


def _doubt(series: np.ndarray) -> float:
    """Three standard errors of a third's median, from how much steps differ."""
    tail = _tail(series)
    # For normal noise the median of |differences| is 0.6745 * sqrt(2) deviations, and a
    # median's standard error is 1.25 times a mean's.
    deviation = np.median(np.abs(np.diff(tail))) / (0.6745 * np.sqrt(2))
    return 3 * 1.25 * float(deviation) / np.sqrt(len(tail) / 3)


def _levels_off_at(violation: np.ndarray) -> float:
    """Where a violation is heading: Aitken's limit of its thirds, 0 if it need not stop."""
    b0, b1, b2 = _thirds(violation)
    if abs(b0 - b2) <= _doubt(violation) + 1e-6 * b2:
        return b2
    if b0 < b2:
        # A violation that still rises has not answered to its multiplier yet.
        return b2 if b2 < 1.1 * b0 else 0.0
    first, second = b0 - b1, b1 - b2
    if second > 0.8 * first:
        return 0.0
    ratio = max(second, 0.0) / first
    return max(b2 - second * ratio / (1 - ratio), 0.0)


def _stays(violation: np.ndarray, tolerance: float) -> bool:
    """Whether a violation heads to no less than the tolerance and half of what it is."""
    return _levels_off_at(violation) > max(tolerance, _thirds(violation)[2] / 2)


def _falls(violation: np.ndarray) -> bool:
    b0, b1, b2 = _thirds(violation)
    return b0 > b1 > b2


def _detrended(series: np.ndarray) -> np.ndarray:
    time = np.arange(len(series)) - (len(series) - 1) / 2
    centred = series - series.mean()
    return centred - time * (time @ centred) / (time @ time)


def _period(series: np.ndarray) -> int | None:
    """After how many steps a series repeats; None if it does not, three times over."""
    tail = _tail(series)
    # Beside the largest so far, swings that grow look like swings that do not.
    tail = tail / np.maximum(np.maximum.accumulate(tail), np.finfo(float).tiny)
    tail = _detrended(tail)
    power = np.abs(np.fft.rfft(tail, 2 * len(tail))) ** 2
    likeness = np.fft.irfft(power)[: len(tail) // 3 + 1]
    # What is left of a straight line is rounding, which has any period.
    if likeness[0] < 1e-12 * len(tail) or not (likeness < 0).any():
        return None
    begin = int(np.argmax(likeness < 0))
    period = begin + int(np.argmax(likeness[begin:]))
    early, late = tail[:-period], tail[period:]
    spread = np.std(early) * np.std(late)
    alike = spread > 0 and np.mean((early - early.mean()) * (late - late.mean()))
    return period if period >= 3 and alike > spread / 2 else None


def _growth(series: np.ndarray) -> float:
    """How many times as wide the swings of the last quarter are as those before."""
    tail = _tail(series) / (np.max(np.abs(series)) or 1.0)  # squares may overflow
    before, after = (np.std(part) for part in np.array_split(tail, 2))
    if before == 0:
        return np.inf if after > 0 else 0.0
    return float(after / before)


def _jumps(series: np.ndarray) -> float:
    """The usual step of a series that goes up and down in turn and keeps doing so."""
    size = float(np.max(np.abs(series))) or 1.0
    steps = np.diff(_tail(series) / size)  # squares may overflow
    # -1 for strict alternation, -1/2 for white noise, positive for smooth motion.
    turning = (steps[:-1] @ steps[1:]) / ((steps @ steps) or 1.0)
    before, after = (np.median(np.abs(part)) for part in np.array_split(steps, 2))
    strict = turning < -0.5 - max(0.2, 2 / np.sqrt(len(steps)))
    return size * float(after) if strict and after > _LASTING * before else 0.0


def _explodes(series: np.ndarray) -> bool:
    b0, b1, b2 = _thirds(series)
    return b0 > 0 and b1 > 3 * b0 and b2 > 3 * b1


def _soars(series: np.ndarray) -> bool:
    b0, _, b2 = _thirds(series)
    return _trend(series) > 0 and b2 > 9 * abs(b0)


def _trend(series: np.ndarray) -> float:
    """b2 - b0 where that is more than a hundredth of the size and than the scatter."""
    b0, _, b2 = _thirds(series)
    low, high = np.quantile(_tail(series), [0.25, 0.75])
    size = max(abs(b2), float(np.ptp(series)))
    # A straight line changes by 4/3 of its interquartile range from third to third.
    scatter = max(high - low, _doubt(series))
    settled = abs(b2 - b0) <= max(_SETTLED * size, scatter)
    return 0.0 if settled else b2 - b0


def _quoted(tracks: list[_Track]) -> str:
    return " and ".join(repr(track.name) for track in tracks)


def _figures(values: Any) -> str:
    return " and ".join(f"{value:.3g}" for value in values)


def _verdict(kind: str, tracks: list[_Track], text: str) -> list[Verdict]:
    names = tuple(track.name for track in tracks)
    return [Verdict(kind, names, f"{kind}: {text}")]


def _not_finite(finite: np.ndarray) -> list[Verdict]:
    skipped, first = int((~finite).sum()), int(np.argmin(finite))
    return _verdict(
        "not finite",
        [],
        f"{skipped} of {len(finite)} steps ({skipped / len(finite):.1%}) were skipped, the "
        f"first in row {first}; look for logarithms and divisions in loss and "
        "constraints, or lower the learning rates",
    )


def _too_short(count: int) -> list[Verdict]:
    return _verdict("too short to say", [], f"{count} finite steps, of {_FEW} needed")


def _jumping(tracks: list[_Track], loss: np.ndarray, tolerance: float) -> list[Verdict]:
    loss_jumps = _jumps(loss) > _SETTLED * np.median(np.abs(_tail(loss)))
    found = [
        t
        for t in tracks
        if _jumps(t.violation) > tolerance or (loss_jumps and t.above(tolerance))
    ]
    if priced := [t for t in found if t.penalty[-1] > 0]:
        return _too_large(priced, "jump up and down from step to step")
    if found:
        return _verdict(
            "oscillating",
            found,
            f"the violations of {_quoted(found)} jump up and down from step to step; "
            "lower the primal learning rate, then the dual one",
        )
    return []


def _too_large(tracks: list[_Track], what: str) -> list[Verdict]:
    penalties = _figures(t.penalty[-1] for t in tracks)
    return _verdict(
        "penalty too large",
        tracks,
        f"under a penalty of {penalties} the violations of {_quoted(tracks)} {what}; "
        "lower the penalty, or the primal learning rate that has to follow it",
    )


def _diverging(
    tracks: list[_Track], loss: np.ndarray, tolerance: float
) -> list[Verdict]:
    found = [t for t in tracks if t.above(tolerance) and _explodes(t.violation)]
    if priced := [t for t in found if t.penalty[-1] > 0]:
        return _too_large(priced, "grow from step to step")
    if found:
        return _verdict(
            "diverging",
            found,
            f"the violations of {_quoted(found)} grow without bound; lower the primal "
            "learning rate, or add a penalty where the loss bends down",
        )
    if _explodes(np.abs(loss)):
        return _verdict(
            "diverging",
            [],
            f"the loss goes to {loss[-1]:.3g}; lower the primal learning rate, or ask "
            "whether the loss is bounded where the constraints hold",
        )
    return []


def _oscillating(tracks: list[_Track], tolerance: float) -> list[Verdict]:
    found, periods = [], []
    for track in tracks:
        swings = np.ptp(_detrended(np.array_split(_tail(track.violation), 2)[1]))
        period = _period(track.violation) or _period(track.multiplier)
        if period and swings > tolerance and _growth(track.violation) > _LASTING:
            found.append(track)
            periods.append(period)
    if not found:
        return []
    grows = max(_growth(t.violation) for t in found) > 1.1
    steps = " and ".join(str(period) for period in periods)
    return _verdict(
        "oscillating",
        found,
        f"the violations of {_quoted(found)} swing with a period of {steps} steps and "
        f"{'grow' if grows else 'do not shrink'}; lower the dual rate, damp with a penalty "
        "or with nupi's kp, or take extragradient",
    )


def _capped(tracks: list[_Track], tolerance: float) -> list[Verdict]:
    found = [t for t in tracks if t.above(tolerance) and _last(t.capped).mean() > 0.5]
    if not found:
        return []
    caps = _figures(t.multiplier[-1] for t in found)
    violations = _figures(_thirds(t.violation)[2] for t in found)
    return _verdict(
        "cap reached",
        found,
        f"multipliers of {_quoted(found)} sit on their cap ({caps}) with violations of "
        f"{violations}; raise the limit of capped(dual, limit), or the constraints "
        "cannot be met",
    )


def _infeasible(
    tracks: list[_Track], loss: np.ndarray, tolerance: float
) -> list[Verdict]:
    free = (t.uncapped() for t in tracks if t.above(tolerance))
    climbing = [t for t in free if len(t.violation) >= _FEW and t.climbs()]
    found = [t for t in climbing if _stays(t.violation, tolerance)]
    # Rivals may give way to each other in turn, and only the worst violation stays.
    rivals = [
        t for t in climbing if _stays(t.violation, tolerance) or not _falls(t.violation)
    ]
    if rivals and _stays(_worst(rivals), tolerance):
        found = rivals
    # A dual rate far too small looks the same until multipliers weigh as much as the
    # loss. While a feasible convex problem is solved slowly enough, sum lambda g stays
    # below what feasibility costs in loss; where nothing is feasible it has no bound.
    price = sum(_thirds(t.violation)[2] * float(t.multiplier[-1]) for t in found)
    level = _thirds(loss)[2]
    at_stake = max(abs(level), abs(loss[0] - level))
    if not found or price < at_stake:
        return []
    violations = _figures(np.median(_tail(t.violation)) for t in found)
    multipliers = _figures(t.multiplier[-1] for t in found)
    what = (
        f"{_quoted(found)} cannot all hold near here: their violations stay at {violations}"
        f" while their multipliers grow to {multipliers}; relax one of them"
        if len(found) > 1
        else f"{_quoted(found)} cannot hold near here: its violation stays at {violations} "
        f"while its multiplier grows to {multipliers}; relax it, or start elsewhere"
    )
    return _verdict("infeasible", found, f"{what} (jaxcon.conflict weighs them)")


def _winding_up(
    tracks: list[_Track], loss: np.ndarray, tolerance: float
) -> list[Verdict]:
    verdicts = []
    for track in tracks:
        b0, b1, b2 = _thirds(track.violation)
        m0, m1, m2 = _thirds(track.multiplier)
        straightness = _straightness(_tail(track.multiplier))
        doubt = _doubt(track.violation)
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
        soar = track.climbs() and _soars(track.multiplier) and _soars(loss)
        if soar and max(b0, b1, b2) <= tolerance:
            l0, _, l2 = _thirds(loss)
            verdicts += _verdict(
                "winding up",
                [track],
                f"the multiplier of {track.name!r} climbs from {m0:.3g} to {m2:.3g} and "
                f"the loss from {l0:.3g} to {l2:.3g}, though its constraint is mostly met; "
                "lower the dual rate or the penalty, cap the multiplier, or ask whether a "
                "finite one exists (a squared equality has none)",
            )
        met = np.mean(_tail(track.violation) <= tolerance) > 0.95
        falls = straightness < -0.7 and m0 - m1 > 0.1 * m0
        evenly = m2 == 0 or m1 - m2 > 0.8 * (m0 - m1)
        if track.kind == "inequality" and met and falls and evenly:
            verdicts += _verdict(
                "winding up",
                [track],
                f"the multiplier of {track.name!r} was wound up to "
                f"{track.multiplier.max():.3g} and only unwinds, over {m0:.3g} and {m1:.3g}"
                f" to {m2:.3g}, though its constraint has been met for at least "
                f"{len(_tail(track.violation))} steps; lower the dual rate, cap the "
                "multiplier, or damp with nupi's kp",
            )
    return verdicts


def _at_rest(tracks: list[_Track], tolerance: float) -> list[Verdict]:
    def rests(track: _Track) -> bool:
        raised = np.ptp(_tail(track.penalty)) > _SETTLED * np.max(track.penalty)
        still = not (raised or track.stirs() or track.capped[-1])
        return still and track.above(tolerance) and not _trend(track.violation)

    verdicts, found = [], [t for t in tracks if rests(t)]
    if priced := [t for t in found if t.penalty[-1] > 0]:
        penalties = _figures(t.penalty[-1] for t in priced)
        violations = _figures(_thirds(t.violation)[2] for t in priced)
        verdicts += _verdict(
            "penalty too small",
            priced,
            f"a penalty of {penalties} leaves {_quoted(priced)} with violations of "
            f"{violations}; raise it, or let the multipliers climb",
        )
    if alone := [t for t in found if not t.penalty[-1] > 0]:
        violations = _figures(_thirds(t.violation)[2] for t in alone)
        verdicts += _verdict(
            "not pulled",
            alone,
            f"the violations of {_quoted(alone)} stay at {violations}, but their "
            "multipliers do not move and there is no penalty; give the dual a rate",
        )
    return verdicts


def _state(tracks: list[_Track], loss: np.ndarray, tolerance: float) -> Verdict:
    worst = np.max([np.zeros_like(loss), *(t.violation for t in tracks)], axis=0)
    largest = _usually_below(worst)
    within = f"within the tolerance {tolerance:.3g}"
    above = [t for t in tracks if t.above(tolerance)]
    series = [
        ("the loss", loss),
        *((f"the multiplier of {t.name!r}", t.multiplier) for t in tracks if t.stirs()),
        # Within the tolerance a violation may do as it likes.
        *((f"the violation of {t.name!r}", t.violation) for t in above),
    ]
    moving = [(what, *_thirds(each)[::2]) for what, each in series if _trend(each)]
    if moving:
        where = within if largest <= tolerance else f"up to {largest:.3g}"
        moves = ", ".join(
            f"{what} from {b0:.3g} to {b2:.3g}" for what, b0, b2 in moving
        )
        return _verdict(
            "still moving",
            above,
            f"violations are {where}, and over the last {len(_tail(loss))} steps move "
            f"{moves}; {_outlook(above, tolerance)}",
        )[0]
    if largest > tolerance and _growth(worst) < _LASTING:
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
            f"loss ({_thirds(loss)[2]:.4g}) and all multipliers have settled",
        )[0]
    noisy = [t for t in tracks if _usually_below(t.violation) > tolerance]
    # None has to reach by itself how often all of them together do.
    noisy = noisy or [max(tracks, key=lambda t: _last(t.violation).max())]
    return _verdict(
        "noisy",
        noisy,
        f"the violations of {_quoted(noisy)} come and go, up to {largest:.3g}, with no "
        "trend and no period; lower the learning rates or take larger batches, and take "
        "the best iterate",
    )[0]


def _outlook(above: list[_Track], tolerance: float) -> str:
    """What to do while a run still moves: go on, and for how long, or pull harder."""
    if not above:
        return "go on"
    steps = 0.0
    for track in above:
        b0, _, b2 = _thirds(track.violation)
        if b0 - b2 <= _SETTLED * b2:
            return f"the violation of {track.name!r} does not fall yet: raise its dual rate"
        # As if it fell by the same factor in equal times; thirds lie a third apart.
        thirds = 2 * np.log(b2 / tolerance) / np.log(b0 / b2)
        steps = max(steps, thirds * len(_tail(track.violation)) / 3)
    return f"go on, for about {steps:.2g} steps at this rate"
