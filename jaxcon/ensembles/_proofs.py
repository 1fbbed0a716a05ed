"""Proofs that a fitted ensemble obeys its rules on the whole box of the training data."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import product
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon._checks import check_function, check_number, check_type
from jaxcon.certify import (
    Boxes,
    Claim,
    Counterexample,
    Outcome,
    Progress,
    Proved,
    Undecided,
)
from jaxcon.certify._branch import examiner
from jaxcon.certify._proof import proved
from jaxcon.derivatives import Partial, Value
from jaxcon.ensembles._columns import Block, Column, cube_size, offsets
from jaxcon.ensembles._ensemble import Ensemble
from jaxcon.ensembles._losses import Loss
from jaxcon.ensembles._rules import FAR, Kinds

BUDGET = 10.0  # seconds of a proof
MOST = 4096  # combinations of levels and of missing values that are proved one by one

Pair = tuple[float, float]


class RuleProof(NamedTuple):
    """Outcome of a proof of one rule of an ensemble.

    Attributes:
        outcome: "proved", "counterexample", "undecided", "by construction" or "not tried".
        sentence: the same in words, with the columns' names and units.
        volume: share of the box that is not decided, from 0 to 1.
    """

    outcome: str
    sentence: str
    volume: float = 0.0

    def __str__(self) -> str:
        """Returns the sentence."""
        return self.sentence


def prove(
    ensemble: Ensemble,
    *,
    budget: float = BUDGET,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[RuleProof, ...]:
    """Proves or refutes each rule of an ensemble on the box of its training data.

    Every combination of levels of categories and of missing values is a box of its own.
    A rule does not speak of rows in which its own input is missing.

    Args:
        ensemble: fitted, with its rules.
        budget: seconds, compilation apart.
        progress: called from time to time (see `jaxcon.certify.verify`).

    Returns:
        One `RuleProof` for each rule.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the budget is negative.
    """
    check_type("ensemble", ensemble, Ensemble, "an Ensemble")
    check_number("budget", budget, least=0)
    if progress is not None:
        check_function("progress", progress, "(Progress) -> None")
    kinds, bounds = ensemble.kinds, ensemble.bounds
    if not kinds.names:
        return ()
    if _combinations(ensemble.layout) > MOST:
        reason = f"not tried: there are more than {MOST:,} combinations of levels"
        return (RuleProof("not tried", reason, 1.0),) * len(kinds.names)
    built = ensemble.ends is not None and ensemble.ends == (bounds.lower, bounds.upper)
    rooms = tuple(zip(map(float, bounds.slope_lower), map(float, bounds.slope_upper)))
    ends = (float(bounds.lower), float(bounds.upper))
    steepness = tuple(map(float, bounds.steepness))
    rules, step = _step(
        ensemble.layout, ensemble.loss, kinds.nameless, rooms, ends, steepness, built
    )
    start = _start(ensemble.layout, kinds, rules)
    mixture = jax.tree.map(lambda leaf: np.asarray(leaf, float), ensemble.mixture)
    words = [kinds.names[rule] for rule in rules]
    outcomes = proved(step, words, mixture, start, budget=budget, progress=progress)
    found: list[RuleProof] = []
    for place in range(len(kinds.names)):
        own = [one for one, rule in zip(outcomes, rules) if rule == place]
        if own:
            found.append(worded(own, partial(_place, ensemble.columns)))
        else:
            found.append(RuleProof("by construction", "holds by construction"))
    return tuple(found)


def worded(own: Sequence[Outcome], place: Callable[[np.ndarray], str]) -> RuleProof:
    """Returns the outcome of one rule, from those of its claims.

    Args:
        own: outcomes of its claims.
        place: point of the box -> its words, in the columns' units.

    Returns:
        The outcome, with a sentence.
    """
    for one in own:
        if isinstance(one, Counterexample):
            where = place(one.point)
            return RuleProof("counterexample", f"counterexample at {where}")
    left = (
        max(one.volume for one in own if isinstance(one, Undecided))
        if any(isinstance(one, Undecided) for one in own)
        else 0.0
    )
    boxes = max(one.boxes for one in own)  # all claims share them
    if left or not all(isinstance(one, Proved) for one in own):
        share = f"{100 * left:.3g} %" if left >= 1e-6 else "less than 0.0001 %"
        return RuleProof("undecided", f"undecided: {share} of the volume left", left)
    return RuleProof("proved", f"proved on the whole box ({boxes:,} boxes)")


def _place(columns: Sequence[Column], v: np.ndarray) -> str:
    """Returns an encoded row in the columns' units, e.g. "income = 812"."""
    parts = []
    for column, start in zip(columns, offsets([one.block for one in columns])):
        size = column.block.size
        own = v[start : start + size]
        if column.missing and v[start + size] > 0.5:
            parts.append(f"{column.name} missing")
        elif not column.is_number:
            known = own.max() > 0.5
            level = column.levels[int(own.argmax())] if known else "another level"
            parts.append(f"{column.name} = {level}")
        elif column.peak is not None:
            below, above = column.widths
            rising = own[1] >= 1.0
            value = column.lower + below * own[0]
            value = value if rising else column.upper - above * own[1]
            parts.append(f"{column.name} = {value:.4g}")
        else:
            value = column.lower + column.widths[0] * own[0]
            if column.levels:
                value = column.levels[min(round(value), len(column.levels) - 1)]
                parts.append(f"{column.name} = {value}")
            else:
                parts.append(f"{column.name} = {value:.4g}")
    return ", ".join(parts)


@lru_cache(maxsize=32)
def _step(
    layout: tuple[Block, ...],
    loss: Loss,
    kinds: Kinds,
    rooms: tuple[Pair, ...],
    ends: Pair,
    steepness: tuple[float, ...],
    built: bool,
) -> tuple[tuple[int, ...], Any]:
    """Returns the rule of each claim, and the compiled examination of boxes."""

    def apply(mixture: Any, v: jax.Array) -> jax.Array:
        return mixture.at(layout, loss, v)

    claims: list[tuple[int, Claim]] = []
    place = 0
    for (entry, output), room in zip(kinds.slopes, rooms):
        residual = _between(room, output)
        claims.append((place, Claim("", apply, (Partial(entry),), residual)))
        place += 1
    for entries, sign, output in kinds.curvatures:
        outputs = range(loss.outputs) if output < 0 else [output]
        for one in outputs:
            claims.append((place, _curvature(apply, entries, sign, one)))
        place += 1
    if kinds.bounded:
        if not built:
            claims.append((place, Claim("", apply, (Value(),), _between(ends, -1))))
        place += 1
    if kinds.steep:
        wanted = tuple(Partial(entry) for entry in kinds.steep)
        claims.append((place, Claim("", apply, wanted, _steep(steepness))))
    if not claims:
        return (), None
    # Up to two inputs more boxes cost less than the compilation of adjoints.
    level = "forward" if cube_size(layout) < 3 else "adjoint"
    step = examiner([one for _, one in claims], level=level)
    return tuple(rule for rule, _ in claims), step


def _between(room: Pair, output: int) -> Callable[..., list[jax.Array]]:
    """Returns the residual of a quantity (m,) between two numbers, of which one is far."""

    def residual(v: jax.Array, found: jax.Array) -> list[jax.Array]:
        del v
        own = found if output < 0 else found[output : output + 1]
        low, high = room
        parts = [] if low <= -FAR / 2 else [low - own]
        return parts + ([] if high >= FAR / 2 else [own - high])

    return residual


def _curvature(apply: Any, entries: tuple[int, ...], sign: int, output: int) -> Claim:
    """Returns the claim that one output is convex or concave in some entries."""
    size = len(entries)
    pairs = [(i, j) for i in range(size) for j in range(i, size)]

    def residual(v: jax.Array, *second: jax.Array) -> jax.Array:
        del v
        found = {pair: sign * one[output] for pair, one in zip(pairs, second)}
        if size == 1:
            return -found[0, 0]
        rows = [
            jnp.stack([found[min(i, j), max(i, j)] for j in range(size)])
            for i in range(size)
        ]
        return jnp.stack(rows)

    wanted = tuple(Partial(tuple(sorted((entries[i], entries[j])))) for i, j in pairs)
    return Claim("", apply, wanted, residual, framed=size > 1)


def _steep(steepness: tuple[float, ...]) -> Callable[..., jax.Array]:
    """Returns the residual of the squared norm of a scaled gradient."""

    def residual(v: jax.Array, *slopes: jax.Array) -> jax.Array:
        del v
        squares = [jnp.square(s * w) for s, w in zip(slopes, steepness)]
        return sum(squares[1:], squares[0]) - 1.0

    return residual


def _options(block: Block) -> list[tuple[list[float], list[float]]]:
    """Returns the boxes of one column's entries that cover all of its rows."""
    if block.category:
        rows = [*np.eye(block.size).tolist(), [0.0] * block.size]
        found = [(row, row) for row in rows]
    elif block.size == 2:
        found = [([0.0, 1.0], [1.0, 1.0]), ([1.0, 0.0], [1.0, 1.0])]
    else:
        found = [([0.0], [1.0])]
    if not block.missing:
        return found
    present = [([*low, 0.0], [*high, 0.0]) for low, high in found]
    gone = [0.0] * block.size + [1.0]
    # A missing value of a number is encoded as its mean, which standardising removes.
    most = gone if block.category else [1.0] * (block.size + 1)
    return [*present, (gone, most)]


def _combinations(layout: Sequence[Block]) -> int:
    return prod(len(_options(block)) for block in layout)


def _start(layout: Sequence[Block], kinds: Kinds, rules: Sequence[int]) -> Boxes:
    """Returns the boxes that cover all rows, with the claims that they are not of."""
    chosen = list(product(*map(_options, layout)))
    lower, upper = (
        np.array([np.concatenate([option[side] for option in row]) for row in chosen])
        for side in (0, 1)
    )
    bound = np.full((len(lower), len(rules)), np.inf)
    of_rules = [(entry,) for entry, _ in kinds.slopes]
    of_rules += [entries for entries, *_ in kinds.curvatures]
    for column, rule in enumerate(rules):
        own = of_rules[rule] if rule < len(of_rules) else ()
        for entry, flag in kinds.flags:
            if entry in own:
                bound[lower[:, flag] > 0.5, column] = -np.inf
    return Boxes(lower, upper, bound)
