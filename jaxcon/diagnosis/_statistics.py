"""Statistics of a series of a run, robust against a few wild steps."""

import numpy as np

# Rows below which no statistic means anything.
FEW = 20
# A series that moves by less than this share of its size has settled.
SETTLED = 1e-2
# Swings last if from one quarter of the history to the next they keep this much width.
LASTING = 0.5


def last_half(series: np.ndarray) -> np.ndarray:
    """Returns the last half, or the last rows that make up the fewest that count."""
    return series[min(len(series) // 2, max(len(series) - FEW, 0)) :]


def thirds(series: np.ndarray) -> list[float]:
    """Returns b0, b1, b2, medians of the thirds of the last half; zeros of no rows."""
    parts = np.array_split(last_half(series), 3)
    return [float(np.median(part)) if len(part) else 0.0 for part in parts]


def last_third(series: np.ndarray) -> np.ndarray:
    return np.array_split(last_half(series), 3)[2]


def usually_below(series: np.ndarray) -> float:
    """Returns the 95 % quantile of the last third."""
    return float(np.quantile(last_third(series), 0.95))


def straightness(series: np.ndarray) -> float:
    """Returns net change over path length: 1 only rises, -1 only falls, 0 is no change."""
    path = np.abs(np.diff(series)).sum()
    return float((series[-1] - series[0]) / path) if path > 0 else 0.0


def doubt(series: np.ndarray) -> float:
    """Returns three standard errors of a third's median, from differences of steps."""
    tail = last_half(series)
    # For normal noise the median of |differences| is 0.6745 * sqrt(2) deviations, and a
    # median's standard error is 1.25 times a mean's.
    deviation = np.median(np.abs(np.diff(tail))) / (0.6745 * np.sqrt(2))
    return 3 * 1.25 * float(deviation) / np.sqrt(len(tail) / 3)


def limit(violation: np.ndarray) -> float:
    """Returns Aitken's limit of a violation's thirds, 0 if it need not level off."""
    b0, b1, b2 = thirds(violation)
    if abs(b0 - b2) <= doubt(violation) + 1e-6 * b2:
        return b2
    if b0 < b2:
        # A violation that still rises does not follow its multiplier yet.
        return b2 if b2 < 1.1 * b0 else 0.0
    first, second = b0 - b1, b1 - b2
    if second > 0.8 * first:
        return 0.0
    ratio = max(second, 0.0) / first
    return max(b2 - second * ratio / (1 - ratio), 0.0)


def stays(violation: np.ndarray, tolerance: float) -> bool:
    """Returns whether the limit is above the tolerance and half the present violation."""
    return limit(violation) > max(tolerance, thirds(violation)[2] / 2)


def blocks(series: np.ndarray) -> np.ndarray:
    """Returns medians of nine parts of the last half, or fewer where rows are few."""
    tail = last_half(series)
    return np.array(
        [np.median(part) for part in np.array_split(tail, min(9, len(tail)))]
    )


def swings(series: np.ndarray) -> bool:
    """Returns whether a series rises and falls by much more than its scatter."""
    steps = np.diff(blocks(series))
    less = min(steps[steps > 0].sum(), -steps[steps < 0].sum())
    net = abs(float(steps.sum()))
    scatter = np.sqrt(3) * doubt(series)  # a ninth has a third of a third's rows
    # A multiplier that noise drives wanders too, but by less than a quarter of itself.
    return bool(less > max(np.max(np.abs(series)), net, 12 * scatter) / 4)


def descends(series: np.ndarray) -> bool:
    """Returns whether a series falls from part to part, and still does in the last."""
    steps, scatter = np.diff(blocks(series)), np.sqrt(3) * doubt(series)
    return bool((steps <= scatter).all() and steps[-3:].sum() < 0)


def falls(violation: np.ndarray) -> bool:
    b0, b1, b2 = thirds(violation)
    return b0 > b1 > b2


def detrended(series: np.ndarray) -> np.ndarray:
    time = np.arange(len(series)) - (len(series) - 1) / 2
    centred = series - series.mean()
    return centred - time * (time @ centred) / (time @ time)


def period(series: np.ndarray) -> int | None:
    """Returns the steps after which a series repeats, thrice at least; None if never."""
    tail = last_half(series)
    # Divided by the largest so far, growing swings become constant ones.
    tail = tail / np.maximum(np.maximum.accumulate(tail), np.finfo(float).tiny)
    tail = detrended(tail)
    power = np.abs(np.fft.rfft(tail, 2 * len(tail))) ** 2
    likeness = np.fft.irfft(power)[: len(tail) // 3 + 1]
    # The remainder of a straight line is rounding, which has any period.
    if likeness[0] < 1e-12 * len(tail) or not (likeness < 0).any():
        return None
    begin = int(np.argmax(likeness < 0))
    lag = begin + int(np.argmax(likeness[begin:]))
    early, late = tail[:-lag], tail[lag:]
    spread = np.std(early) * np.std(late)
    alike = spread > 0 and np.mean((early - early.mean()) * (late - late.mean()))
    return lag if lag >= 3 and alike > spread / 2 else None


def growth(series: np.ndarray) -> float:
    """Returns the width of the last quarter's swings over that of the quarter before."""
    tail = last_half(series) / (np.max(np.abs(series)) or 1.0)  # squares may overflow
    before, after = (np.std(part) for part in np.array_split(tail, 2))
    if before == 0:
        return np.inf if after > 0 else 0.0
    return float(after / before)


def jumps(series: np.ndarray) -> float:
    """Returns the median step of a series that goes up and down in turn and goes on so."""
    size = float(np.max(np.abs(series))) or 1.0
    steps = np.diff(last_half(series) / size)  # squares may overflow
    # -1 for strict alternation, -1/2 for white noise, positive for smooth motion.
    turning = (steps[:-1] @ steps[1:]) / ((steps @ steps) or 1.0)
    before, after = (np.median(np.abs(part)) for part in np.array_split(steps, 2))
    strict = turning < -0.5 - max(0.2, 2 / np.sqrt(len(steps)))
    return size * float(after) if strict and after > LASTING * before else 0.0


def explodes(series: np.ndarray) -> bool:
    b0, b1, b2 = thirds(series)
    return b0 > 0 and b1 > 3 * b0 and b2 > 3 * b1


def soars(series: np.ndarray) -> bool:
    b0, _, b2 = thirds(series)
    return trend(series) > 0 and b2 > 9 * abs(b0)


def trend(series: np.ndarray) -> float:
    """Returns b2 - b0 where it exceeds a hundredth of the size and the scatter; else 0."""
    b0, _, b2 = thirds(series)
    low, high = np.quantile(last_half(series), [0.25, 0.75])
    size = max(abs(b2), float(np.ptp(series)))
    # A straight line changes by 4/3 of its interquartile range from third to third.
    scatter = max(high - low, doubt(series))
    settled = abs(b2 - b0) <= max(SETTLED * size, scatter)
    return 0.0 if settled else b2 - b0
