"""Plan of the passes, decided from shapes alone, in one function.

The rule rests on the measurements of ``python -m benchmarks.derivatives`` (on a CPU;
nothing was measured elsewhere, so the rule is the same there):

- First order: it goes backwards if f has fewer outputs than directions are wanted, else
  forwards. A single direction is always one tangent.
- Second order: sums of pure second derivatives (Laplacians), single entries and
  diagonals go forwards, each sum as one stream whatever the number of its terms.
- A whole Hessian goes forwards over backwards, unless there are so few inputs that
  all its entries are fewer streams.
- Tangents and cotangents are unrolled up to 16, because stacked ones leave the cache.
  Beyond 16 they are stacked, because the program would grow with every one of them. So
  are single second derivatives from the fourth on that share no tangents: unrolled they
  are compiled for longer than a whole Hessian.
- If there are more directions than the first layer is wide, as many tangents as it is
  wide suffice.

References:
  Griewank and Walther, "Evaluating Derivatives" (2008), chapters 3, 4 and 13.
"""

from typing import NamedTuple

from jaxcon.derivatives._layouts import Form

UNROLLED = 16
APART = 4  # single second derivatives, from which on one program for all is mapped
OVER_REVERSE = "forward over reverse"  # a mode for functions without forward mode

# A direction of the input: a number i is the unit vector of input i; a pair (t, r) is
# row r of the directions of quantity number t.
Key = int | tuple[int, int]


class Need(NamedTuple):
    """Derivatives wanted of one f at one x, as far as they determine the passes."""

    inputs: int  # d
    outputs: int  # m, 1 for a scalar, twice as many if they are complex
    whole: bool = False  # the gradient or Jacobian
    singles: tuple[Key, ...] = ()  # single first derivatives
    pairs: tuple[tuple[int, int], ...] = ()  # single second derivatives
    sums: tuple[tuple[Key, ...], ...] = ()  # sums of pure second derivatives
    hessian: bool = False


class Plan(NamedTuple):
    """Plan of at most one pass of each kind."""

    tangents: tuple[Key, ...] = ()  # of the forward pass
    sums: tuple[tuple[Key, ...], ...] = ()  # its streams of second order: sums
    pairs: tuple[tuple[int, int], ...] = ()  # and single entries
    backward: bool = False  # a reverse pass for the gradient or Jacobian
    hessian: str = ""  # "forward" over reverse, "reverse" over reverse, or none
    separate: bool = False  # pairs in a program of their own, vmapped over them
    unroll: bool = True  # the tangents
    unroll_reverse: bool = True  # the cotangents
    narrow: int = 0  # so many tangents from the first layer on, as it is wide

    @property
    def forms(self) -> tuple[Form, ...]:
        """Forms of the forward pass without weights: sums first, then pairs."""
        place = {key: n for n, key in enumerate(self.tangents)}
        sums = [tuple(place[key] for key in keys) for keys in self.sums]
        pairs = [] if self.separate else self.pairs
        return (
            *(Form(places, places) for places in sums),
            *(Form((place[i],), (place[j],)) for i, j in pairs),
        )


def choose(need: Need, mode: str | None, unroll: bool | None, width: int = 0) -> Plan:
    """Returns the plan; ``width`` is the first layer's, if below the single sum's."""
    d, m = need.inputs, need.outputs
    second = need.hessian or need.pairs or need.sums
    if mode in ("reverse", OVER_REVERSE):
        hessian = "reverse" if mode == "reverse" else "forward"
        return Plan(
            backward=not second,
            hessian=hessian if second else "",
            unroll=_unroll(d, unroll),
            unroll_reverse=_unroll(m, unroll),
        )

    # A Hessian: all entries forwards, or a tangent for each input over a reverse pass.
    entries = tuple((i, j) for i in range(d) for j in range(i, d))
    together = 1 + d + len(entries)
    forwards = together if len(entries) <= UNROLLED else 1 + 3 * len(entries)
    if need.hessian and mode is None and (1 + d) * (1 + m) < forwards:
        return Plan(hessian="forward", unroll=_unroll(d, unroll))
    pairs = entries if need.hessian else need.pairs

    # Second order goes forwards. Too many single entries go one by one.
    separate = _separate(need, pairs) if unroll is None else not unroll and bool(pairs)
    slim = width > 0 and mode is None and len(need.sums) == 1
    if slim and width + 3 * len(pairs) < len(need.sums[0]):
        separate = bool(pairs)  # or they would need the directions of the input
    streamed = () if separate else pairs
    tangents = _unique(*need.sums, *streamed)

    # First order: the derivatives that these tangents do not give already.
    wanted = _unique(range(d) if need.whole else (), need.singles)
    missing = [key for key in wanted if key not in tangents]
    # At a tie forwards, which keeps no intermediates, but for a gradient of one input.
    few = m < len(missing) or (m == 1 and need.whole and not tangents)
    backward = bool(missing) and mode is None and few
    narrow = 0
    if slim and not streamed:
        # From the first layer on the tangents are no directions of the input.
        if width + (m if wanted else 0) < len(tangents):
            narrow, backward = width, bool(wanted)
    if not backward:
        tangents = _unique(tangents, missing)
    return Plan(
        tangents=tangents,
        sums=need.sums,
        pairs=pairs,
        backward=backward,
        separate=separate,
        unroll=_unroll(len(tangents), unroll),
        unroll_reverse=_unroll(m, unroll),
        narrow=narrow,
    )


def _separate(need: Need, pairs: tuple[tuple[int, int], ...]) -> bool:
    """Returns whether single entries are many, or too many to unroll for no gain."""
    more = len(_unique(*need.sums, *pairs)) - len(_unique(*need.sums))
    # Two tangents and a stream for each, or the tangents not carried yet and a stream.
    unshared = 3 * len(pairs) <= more + len(pairs)
    return len(pairs) > UNROLLED or (len(pairs) >= APART and unshared)


def _unroll(k: int, asked: bool | None) -> bool:
    return k <= UNROLLED if asked is None else asked


def _unique(*groups) -> tuple:
    """Returns the members of all groups, each once."""
    return tuple(dict.fromkeys(key for group in groups for key in group))


def summary(need: Need, plan: Plan) -> str:
    """Returns the number of tangents and streams of the whole plan, as one phrase."""
    parts = []
    if plan.hessian == "forward":
        parts.append(f"{_count(need.inputs, 'tangent')} over a reverse pass")
    elif plan.hessian:
        parts.append("a reverse pass for each first derivative")
    if plan.tangents:
        layout = "unrolled" if plan.unroll else "stacked"
        tangents = plan.narrow or len(plan.tangents)
        parts.append(_count(tangents, layout + " tangent"))
    if plan.sums or plan.pairs:
        parts.append(_count(len(plan.sums) + len(plan.pairs), "second-order stream"))
    if plan.backward:
        parts.append("a reverse pass")
    return ", ".join(parts) + ("; " if parts else "")


def why_first(need: Need, plan: Plan, key: Key | None) -> str:
    """Returns how a first derivative is computed: all of them, or the one of a key."""
    m, d = need.outputs, need.inputs
    if plan.hessian:
        return "shared: read from the gradient inside the second-order pass"
    if plan.backward:
        text = f"reverse, {_count(m, 'cotangent')}: "
        if m == 1:
            text += "one output, so one backward pass gives every input"
        else:
            text += f"fewer outputs ({m}) than directions wanted"
        return text + ("" if key is None else ", read from the whole")
    if key is not None:
        return "forward, 1 tangent: a single direction is one tangent"
    why = f"no more inputs than outputs ({m})"
    if plan.forms:
        why = "most come with the second order"
    return f"forward, {_count(d, 'tangent')}: {why}"


def why_second(plan: Plan, keys: int, entry: bool) -> str:
    """Returns how a second derivative is computed: one entry, or a sum over keys."""
    if plan.hessian:
        over = f"{plan.hessian}-over-reverse"
        return f"{over}: an entry of the Hessian" if entry else f"{over}: from its rows"
    if entry:
        if plan.separate:
            return "forward, a program of its own for all entries, vmapped"
        return f"forward, {_count(keys, 'tangent')}, 1 stream: one entry"
    layout = "unrolled" if plan.unroll else "stacked"
    tangents = _count(plan.narrow or keys, layout + " tangent")
    why = ", as many as the first layer is wide" if plan.narrow else ""
    return f"forward, {tangents}{why}, collapsed: 1 stream"


def _count(k: int, noun: str) -> str:
    return f"{k} {noun}" + ("" if k == 1 else "s")
