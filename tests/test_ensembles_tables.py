"""Tables made ready for ensembles: columns, held-out rows, errors for intervals."""

import itertools
from decimal import Decimal
from functools import partial

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
from tables import assert_each, assert_refused

from jaxcon.ensembles import Loss, Options, read_frame
from jaxcon.ensembles._columns import (
    cube_size,
    describe_columns,
    encode,
    expand,
    offsets,
)
from jaxcon.ensembles._intervals import calibrate
from jaxcon.ensembles._prepared import Prepared, folds, merged, padded_rows


@pytest.fixture
def rng():
    """A generator of its own for each test."""
    return np.random.default_rng(0)


def test_read_frame_reads_cells_alike_from_pandas_polars_and_lists():
    ages, towns = [31.0, None, 47.0, 5.0], ["a", None, "b", ""]
    kinds = [
        pd.array(ages, dtype="Float64"),
        pd.array([31, None, 47, 5], dtype="Int64"),
    ]
    numbers = [pd.DataFrame({"c": one}) for one in kinds]
    numbers += [pl.DataFrame({"c": ages}), pl.DataFrame({"c": [31, None, 47, 5]})]
    numbers += [[[one] for one in ages], np.array(ages, object)[:, None]]
    numbers += [[[None if one is None else Decimal(one)] for one in ages]]
    for given in numbers:
        (found,) = read_frame(given).columns
        np.testing.assert_array_equal(found, np.array([31, np.nan, 47, 5]))
    texts = [pd.DataFrame({"c": pd.array(towns, dtype="string")})]
    texts += [pl.DataFrame({"c": towns}), [[one] for one in towns]]
    for given in texts:
        frame = read_frame(given)
        (column,) = describe_columns(frame, np.full(4, 2.0), {})
        assert column.levels == ("a", "b")
        assert column.missing
        np.testing.assert_array_equal(
            encode([column], frame), [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]
        )
    for yes in (pd.array([True, None], dtype="boolean"), pl.Series([True, None])):
        frame = (pd if hasattr(yes, "isna") else pl).DataFrame({"c": yes})
        np.testing.assert_array_equal(read_frame(frame).columns[0], [1, np.nan])
    mixed = read_frame([["a", 1.5], ["b", 2]])  # text makes no text of numbers
    assert [column.dtype.kind for column in mixed.columns] == ["O", "f"]


def test_read_frame_takes_levels_and_their_order_from_the_dtype():
    levels = ["S", "M", "L"]
    ordered = pd.CategoricalDtype(levels, ordered=True)
    cells = ["M", "S", "M", "S"]  # no L
    frames = [pd.DataFrame({"c": cells}).astype({"c": ordered})]
    frames += [pl.DataFrame({"c": pl.Series(cells, dtype=pl.Enum(levels))})]
    for frame in map(read_frame, frames):
        (column,) = describe_columns(frame, np.ones(4), {})
        assert column.levels == ("S", "M", "L")
        assert column.ordered
        np.testing.assert_allclose(encode([column], frame)[:, 0], [0.5, 0, 0.5, 0])
    plain = [pd.DataFrame({"c": pd.Categorical(cells, categories=levels)})]
    plain += [pl.DataFrame({"c": pl.Series(cells, dtype=pl.Categorical)})]
    for frame in map(read_frame, plain):
        (column,) = describe_columns(frame, np.ones(4), {})
        assert column.levels == ("M", "S")  # in their own order
        assert not column.ordered


def test_read_frame_refuses_what_is_neither_number_nor_text():
    day, span = np.datetime64("2020-01-01"), np.timedelta64(1, "D")
    cells = {"c": np.array([day, day + span])}

    def called(given, names=None):
        return lambda: read_frame(given, names)

    assert_refused(
        [
            (called(pd.DataFrame(cells)), TypeError, "column 'c' holds datetime64"),
            (called(pl.DataFrame(cells)), TypeError, "column 'c' holds datetime64"),
            (
                called(pd.DataFrame({"c": [[1], [2]]})),
                TypeError,
                "'c', row 0 holds list",
            ),
            (called(pd.DataFrame({"c": [1j]})), TypeError, "column 'c' holds complex"),
            (called([[1.0], [1.0, 2.0]]), TypeError, "rows of one length"),
            (called([1.0, 2.0]), ValueError, "two dimensions"),
            (called(np.ones((2, 2)), ["a"]), ValueError, "names has 1 for 2 columns"),
            (called(np.ones((2, 2)), ["a", "a"]), ValueError, "two columns .* 'a'"),
        ],
        most=200,
    )


# name, cells of the training data, categorical, peak
CELLS = {
    "number": ([2.0, -1.0, 5.0, 0.5, 4.0, 3.0, -1.0, 5.0], False, None),
    "with gaps": ([np.nan, 1.0, 3.0, np.nan, 2.0, 2.5, 1.0, 3.0], False, None),
    "constant": ([7.0] * 8, False, None),
    "mode": ([0.0, 1.0, 4.0, np.nan, 10.0, 6.0, 0.0, 10.0], False, 4.0),
    "size": (["M", "S", "L", "M", None, "S", "L", "S"], ("S", "M", "L"), None),
    "colour": (["red", "blue", "red", "blue", "green", None, "red", "red"], None, None),
}


def table(cells=None):
    """Frame of the columns above, and their encoding."""
    given = {name: one for name, (one, *_) in CELLS.items()} | (cells or {})
    rows = np.array([*map(list, given.values())], object).T
    frame = read_frame(rows, list(given))
    categorical = {
        name: kind for name, (_, kind, _) in CELLS.items() if kind is not False
    }
    columns = describe_columns(frame, np.ones(frame.rows), categorical)
    return frame, tuple(one._replace(peak=CELLS[one.name][2]) for one in columns)


def chosen(columns, rows):
    """Points of the unit cube (n, c) that `expand` maps to encoded rows (n, d)."""
    u = []
    for column, place in zip(columns, offsets([one.block for one in columns])):
        size, category, missing = column.block
        own = rows[:, place : place + size]
        if category:
            known = own.max(1) == 1
            u.append((np.where(known, own.argmax(1), size) + 0.5) / (size + 1))
        elif size == 2:
            u.append(np.where(own[:, 0] < 1, own[:, 0] / 2, 1 - own[:, 1] / 2))
        else:
            u.append(own[:, 0])
        if missing:
            u.append(0.1 + 0.8 * rows[:, place + size])
    return np.stack(u, 1)


def test_columns_encode_between_0_and_1_by_hand():
    frame, columns = table()
    v = encode(columns, frame)
    names = [name for column in columns for name in column.entry_names]
    by_name = dict(zip(names, v.T))
    assert v.shape == (8, len(names)) == (8, 12)
    np.testing.assert_allclose(
        by_name["number"], (np.array(CELLS["number"][0]) + 1) / 6
    )
    middle = (12.5 / 6 - 1) / 2  # the mean stands for what is missing
    wanted = [middle, 0, 1, middle, 0.5, 0.75, 0, 1]
    np.testing.assert_allclose(by_name["with gaps"], wanted)
    np.testing.assert_allclose(by_name["with gaps missing"], [1, 0, 0, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(by_name["constant"], 0)
    rising, falling = by_name["mode to its mode"], by_name["mode from its mode"]
    here = [0, 1, 2, 4, 5, 6, 7]
    np.testing.assert_allclose(rising[here], [0, 0.25, 1, 1, 1, 0, 1])
    np.testing.assert_allclose(falling[here], [1, 1, 1, 0, 2 / 3, 1, 0])
    known = [0, 1, 2, 3, 5, 6, 7]
    np.testing.assert_allclose(by_name["size"][known], [0.5, 0, 1, 0.5, 0, 1, 0])
    np.testing.assert_allclose(by_name["colour=blue"], [0, 1, 0, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(by_name["colour missing"], [0, 0, 0, 0, 0, 1, 0, 0])
    assert "colour=green" not in by_name  # of one row


NEW = {
    "number": [99.0, -99.0, np.nan, 1.0, 2.0, 3.0, 4.0, 5.0],  # beyond the box, missing
    "size": ["XL", "S", None, "M", "L", "L", "S", "S"],
    "colour": [
        "violet",
        None,
        "red",
        "blue",
        "",
        "green",
        "red",
        "red",
    ],  # unknown ones
    "constant": [8.0, 6.0, 7.0, 7.0, np.nan, 7.0, 7.0, 7.0],
}


def counted(columns, rows):
    """Encoded rows, the numbers in place of missing ones as zeros: they count nowhere."""
    rows = rows.copy()
    for column, place in zip(columns, offsets([one.block for one in columns])):
        size, _, missing = column.block
        if missing:
            rows[:, place : place + size] *= 1 - rows[:, place + size, None]
    return rows


def test_columns_are_all_reached_by_points_of_the_cube():
    frame, columns = table()
    layout = [one.block for one in columns]
    for given in (frame, table(NEW)[0]):
        rows = encode(columns, given)
        assert rows.min() >= 0
        assert rows.max() <= 1
        u = chosen(columns, rows)
        assert u.shape[1] == cube_size(layout)
        found = jax.vmap(partial(expand, layout))(u.astype(np.float32))
        np.testing.assert_allclose(found, counted(columns, rows), atol=1e-6)


def test_columns_have_unknown_and_missing_cells():
    columns = table()[1]
    rows = encode(columns, table(NEW)[0])
    names = [name for column in columns for name in column.entry_names]
    by_name = dict(zip(names, rows.T))
    np.testing.assert_allclose(by_name["number"][:3], [1, 0, (17.5 / 8 + 1) / 6])
    known = by_name["colour=blue"] + by_name["colour=red"]
    np.testing.assert_array_equal(known, [0, 0, 1, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(by_name["colour missing"], [0, 1, 0, 0, 1, 0, 0, 0])
    np.testing.assert_allclose(by_name["size"][[0, 1]], [columns[4].center / 2, 0])
    np.testing.assert_array_equal(by_name["size missing"], [0, 0, 1, 0, 0, 0, 0, 0])


def test_columns_of_numbers_have_their_slopes_along_coordinates():
    columns = table()[1]
    layout = [one.block for one in columns]
    u = np.full(cube_size(layout), 0.3, np.float32)
    jacobian = np.asarray(jax.jacfwd(partial(expand, layout))(u))
    # number, with gaps, constant, mode below its peak, size; categories are flat.
    wanted = np.zeros_like(jacobian)
    wanted[[0, 1, 3, 4, 7], [0, 1, 3, 4, 6]] = [1, 1, 1, 2, 1]
    np.testing.assert_array_equal(jacobian, wanted)


def test_columns_are_wider_at_an_end_of_a_single_row():
    cells = np.array([[0.0], [0.0], [1.0], [4.0], [10.0]])
    (column,) = describe_columns(read_frame(cells), np.ones(5), {})
    assert (column.lower, column.upper) == (0, 12.5)  # by 10 / (5 - 1)
    (small,) = describe_columns(read_frame(cells), np.full(5, 0.2), {})
    assert (small.lower, small.upper) == (0, 12.5)
    (twice,) = describe_columns(read_frame(cells), np.array([1.0, 1, 1, 1, 2]), {})
    assert (twice.lower, twice.upper) == (0, 10)


def test_columns_take_a_row_of_weight_2_for_two_rows():
    cells = np.array([["a", 1.0], ["b", 2.0], ["b", 4.0]], object)
    twice = read_frame(np.vstack([cells, cells[:1]]))
    once = describe_columns(read_frame(cells), np.array([2.0, 1, 1]), {})
    assert once == describe_columns(twice, np.ones(4), {})
    assert once[0].levels == ("a", "b")
    single = describe_columns(read_frame(cells[:2]), np.ones(2), {})
    assert single[0].levels == ("a",)  # no level has two rows: one is kept


def test_merged_adds_weights_whatever_the_order_of_rows(rng):
    v = rng.integers(0, 2, size=(60, 3)).astype(float)
    y, held = rng.integers(0, 2, size=60).astype(float), rng.uniform(size=60) < 0.3
    weight = rng.choice([0.0, 0.1, 0.3, 2.0], size=60)
    found = merged(v, y, weight, held)
    wanted = {}
    for row, one, w, mark in zip(v, y, weight, held):
        if w > 0:
            wanted[*row, one, mark] = wanted.get((*row, one, mark), 0.0) + w
    keys = [(*row, one, mark) for row, one, _, mark in zip(*found)]
    assert len(set(keys)) == len(keys)
    assert dict(zip(keys, found[2])) == pytest.approx(wanted)
    for _ in range(5):
        order = rng.permutation(60)
        again = merged(v[order], y[order], weight[order], held[order])
        for one, other in zip(found, again):
            np.testing.assert_array_equal(one, other)


def planted_errors(rng, rows, spread):
    """Predictions, and targets whose errors' spread rises with them."""
    predicted = rng.normal(size=rows)
    scale = 1 + spread * np.clip(predicted, -1.5, 1.5)
    return predicted, predicted + scale * rng.normal(size=rows)


def test_calibrate_covers_new_targets(rng):
    def check(case):
        rows, spread = case
        covered = []
        for _ in range(150):
            made = calibrate(
                *planted_errors(rng, rows, spread), np.ones(rows), (-4, 4), False
            )
            new, target = planted_errors(rng, 1000, spread)
            scores = (target - new) / (made.base + made.slope * new)
            low, high = made.quantiles(0.9)
            covered.append(np.mean((low <= scores) & (scores <= high)))
        assert 0.88 <= np.mean(covered) <= 0.92

    assert_each([(100, 0.0), (400, 0.0), (400, 0.6)], check)


def test_calibrate_s_ends_rise_with_the_prediction(rng):
    grid = np.linspace(-5, 5, 101)
    for rows, df in itertools.product((1, 2, 25, 200), (1, 3, 30)):
        for _ in range(40):
            predicted = rng.normal(size=rows)
            error = rng.standard_t(df, size=rows) * rng.choice([1, predicted[0]])
            weight = rng.choice([0.2, 1.0, 3.0], size=rows)
            made = calibrate(predicted, predicted + error, weight, (-5, 5), False)
            spread = made.base + made.slope * grid
            assert spread.min() > 0
            for quantile in made.quantiles(0.95):
                assert np.all(np.diff(grid + quantile * spread) > 0)
            rigid = calibrate(predicted, predicted + error, weight, (-5, 5), True)
            assert rigid.slope == 0


def test_calibrate_takes_weights_for_repetitions(rng):
    predicted, target = planted_errors(rng, 50, 0.3)
    weight = rng.integers(1, 4, size=50)
    repeated = [np.repeat(one, weight) for one in (predicted, target)]
    one = calibrate(predicted, target, weight.astype(float), (-4, 4), False)
    two = calibrate(*repeated, np.ones(weight.sum()), (-4, 4), False)
    for mine, theirs in zip(one, two):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)
    # Weights that sum to 1 are as many rows as there are.
    small = calibrate(predicted, target, np.full(50, 0.02), (-4, 4), False)
    alike = calibrate(predicted, target, np.ones(50), (-4, 4), False)
    assert small.quantiles(0.8) == pytest.approx(alike.quantiles(0.8))


def prepared(rng, rows, held):
    """A table of one column."""
    ones = np.ones(rows)
    v = rng.uniform(size=(rows, 1))
    return Prepared((), Loss("squared_error"), 0.0, 1.0, v, ones, 2 * ones, held)


def test_folds_hold_every_row_out_and_never_train_on_it(rng):
    def check(case):
        rows, members = case
        held = folds(rows, Options(members=members))
        assert held.shape == (members, rows)
        padded = padded_rows(prepared(rng, rows, held))
        number = len(padded.target)
        assert number >= rows
        assert int(padded.number) == rows
        assert np.all(padded.train[:, rows:] == 0)
        every = np.zeros((members, number))
        np.add.at(every, (slice(None), padded.seen), padded.held)
        np.testing.assert_array_equal(every[:, :rows], held)
        assert np.all(every[:, rows:] == 0)
        if rows < 5:
            assert np.all(held == 1)
            assert np.all(padded.train[:, :rows] == 1)
            return
        if members >= 5:
            assert np.all(held.any(0))
        assert np.all(held.sum(1) <= np.ceil(rows / 5))
        np.testing.assert_array_equal(padded.train[:, :rows], 1 - held)

    assert_each(itertools.product([1, 2, 4, 5, 6, 40, 83, 1000], [1, 5, 8]), check)


def test_folds_are_the_rows_that_are_given(rng):
    for rows in (2, 3, 40):
        marks = np.arange(rows) % 2 == 0
        padded = padded_rows(
            prepared(rng, rows, folds(rows, Options(members=2), marks))
        )
        np.testing.assert_array_equal(padded.train[:, :rows], np.tile(~marks, (2, 1)))
        assert set(padded.seen[padded.held[0] > 0]) == set(np.flatnonzero(marks))
