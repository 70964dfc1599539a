"""Which row of one store is which of another, and the records of both side by side."""

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust.comparison import RowMap, joined, match_rows
from dskrobust.comparison.joined import joined_records
from dskrobust.comparison.tables import class_sums, label_pairs
from dskrobust.errors import InvalidOptionError
from dskrobust.reviews import apply_decisions
from dskrobust.store import DecisionWriter

RECORD = np.dtype([("row", np.int64), ("split", np.int16), ("robustness", float),
                   ("witness", np.int64), ("contradictory", bool), ("suspicious", bool),
                   ("label", np.int64)])  # fmt: skip


@st.composite
def maps(draw):
    """A map of rows of one store to those of another, and by brute force what it says."""
    before = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    new = draw(st.integers(0, 9))
    gone = np.sort(rng.choice(before, draw(st.integers(0, before - 1)), replace=False))
    stays = np.setdiff1d(np.arange(before), gone)
    if draw(st.booleans()):
        truth = np.append(stays, np.full(new, -1))
        return RowMap("", before, len(truth), gone), truth
    truth = rng.permutation(np.append(stays, np.full(new, -1)))
    return RowMap("", before, len(truth), gone, truth), truth


@given(maps(), st.data())
def test_numbers_of_rows_are_those_of_the_other_store(made, data):
    rows, truth = made
    lo = data.draw(st.integers(0, len(truth) - 1))
    hi = data.draw(st.integers(lo + 1, len(truth)))
    np.testing.assert_array_equal(rows.numbers(lo, hi).all(), truth[lo:hi])
    np.testing.assert_array_equal(rows.old_rows(np.arange(len(truth))), truth)
    assert rows.shared == (truth >= 0).sum()
    assert rows.new == (truth < 0).sum()
    assert rows.same == (len(truth) == rows.before and (truth == np.arange(len(truth))).all())


def records(rng, n):
    made = np.zeros(n, RECORD)
    made["row"], made["robustness"] = np.arange(n), rng.integers(0, 4, n) / 4
    for name in ("label", "split"):
        made[name] = rng.integers(0, 3, n)
    made["witness"] = rng.integers(0, n, n)
    made["suspicious"], made["contradictory"] = rng.random((2, n)) < 0.3
    return made


@given(maps(), st.integers(0, 2**32), st.integers(1, 20))
def test_joined_records_stand_beside_those_of_the_same_row(made, seed, size):
    rows, truth = made
    rng = np.random.default_rng(seed)
    old, new = records(rng, rows.before), records(rng, rows.after)
    before, after = (da.from_array(one, chunks=max(1, len(one) // 2)) for one in (old, new))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joined, "BLOCK_ROWS", size)
        found = joined_records(before, after, rows).compute(scheduler="sync")
        pairs = label_pairs(joined_records(before, after, rows))
        sums, pairs = dask.compute(class_sums(after), pairs, scheduler="sync")
    there = truth >= 0
    np.testing.assert_array_equal(found["shared"], there)
    for name in RECORD.names:
        np.testing.assert_array_equal(found[name], new[name])
        np.testing.assert_array_equal(found[f"{name}_before"][there], old[name][truth[there]])
    np.testing.assert_array_equal(found["row_before"], truth)
    change = new["robustness"][there] - old["robustness"][truth[there]]
    np.testing.assert_array_equal(found["change"][there], change)
    assert np.isnan(found["change"][~there]).all()
    relabelled = new["label"][there] != old["label"][truth[there]]
    np.testing.assert_array_equal(found["relabelled"][there], relabelled)
    np.testing.assert_array_equal(found["changed"][there], relabelled | (change != 0))
    witness = truth[new["witness"]]  # as the first store numbers it
    other = there & (witness != found["witness_before"])
    np.testing.assert_array_equal(found["other_witness"], other)
    for one in sums:
        own = new[new["label"] == one["value"]]
        assert one["rows"] == len(own)
        assert one["robustness"] == own["robustness"].sum()  # quarters: no sum is rounded
        assert (one["suspicious"], one["contradictory"]) == (
            own["suspicious"].sum(), own["contradictory"].sum(),
        )  # fmt: skip
    assert sums["value"].tolist() == sorted(set(new["label"]))
    told = {(one["value"], one["other"]): one["rows"] for one in pairs}
    truth_of = {}
    for k in np.flatnonzero(found["relabelled"]):
        key = (int(found["label_before"][k]), int(found["label"][k]))
        truth_of[key] = truth_of.get(key, 0) + 1
    assert told == truth_of


# -- stores ------------------------------------------------------------------------------------


def table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return rng.normal(2 * y[:, None], 1.0, (n, 4)), y


@pytest.fixture
def store(tmp_path):
    return dr.create_store(str(tmp_path / "own.zarr"), *table())


def decide(store, dropped, relabelled=()):
    writer = DecisionWriter(store)
    for row in dropped:
        writer.add(row, "drop")
    for row in relabelled:
        writer.add(row, "relabel", (int(store.labels[row]) + 1) % 3)


def test_rows_of_a_cleaned_store_are_told_by_what_was_dropped(store, tmp_path):
    decide(store, [5, 17, 59], [2])
    made = apply_decisions(store, tmp_path / "cleaned.zarr").store
    rows = match_rows(store, made)
    assert rows.dropped.tolist() == [5, 17, 59]
    assert rows.new == 0
    np.testing.assert_array_equal(store.features[rows.old_rows(np.arange(57))], made.features[:])
    decide(store, [7])  # decided later: what was dropped is kept with the cleaned store
    assert match_rows(store, made).dropped.tolist() == [5, 17, 59]
    with pytest.raises(InvalidOptionError, match=r"was made of .* by `apply`; give the older"):
        match_rows(made, store)


def test_without_what_is_kept_the_decisions_tell_as_long_as_they_are_as_many(store, tmp_path):
    decide(store, [5, 17])
    made = apply_decisions(store, tmp_path / "cleaned.zarr").store
    for path in (tmp_path / "cleaned.zarr" / "small-results").iterdir():
        path.unlink()
    assert match_rows(store, made).dropped.tolist() == [5, 17]
    decide(store, [7])
    assert match_rows(store, made) is None


def test_equal_appended_and_embedded_data(store, tmp_path):
    assert match_rows(store, store).same
    dr.create_store(str(tmp_path / "more.zarr"), *table())
    more = dr.append(str(tmp_path / "more.zarr"), str(_saved(tmp_path, 9)))
    rows = match_rows(store, more)
    assert (rows.new, rows.shared, rows.same) == (9, 60, False)
    spec = dr.StoreSpec("seen", "categorical", provenance={
        "source_fingerprint": [digest for _, digest in store.segments]})  # fmt: skip
    rng = np.random.default_rng(3)
    seen = dr.create_store(str(tmp_path / "seen.zarr"), rng.normal(size=(60, 2)),
                           rng.integers(0, 2, 60), spec=spec)  # fmt: skip
    assert match_rows(store, seen).same
    scaled = dr.create_store(str(tmp_path / "scaled.zarr"), 3 * table()[0], table()[1])
    assert "labels in turn" in match_rows(store, scaled).how
    other = dr.create_store(str(tmp_path / "other.zarr"), table()[0], np.roll(table()[1], 1))
    assert match_rows(store, other) is None


def _saved(folder, n):
    X, y = table(n, 5)
    np.savez(folder / "new.npz", X=X, y=y)
    return folder / "new.npz"


@pytest.mark.parametrize("kind", ["text", "numbers", "both"])
def test_ids_tell_rows(tmp_path, kind):
    X, y = table()
    ids, order = np.arange(100, 160), np.random.default_rng(1).permutation(60)[:50]
    named = ids if kind == "numbers" else ids.astype(str)
    one = dr.create_store(str(tmp_path / "one.zarr"), X, y, ids=named)
    new = np.append(ids[order], [1, 2])
    rows = np.append(order, [0, 1])
    ids = new.astype(str) if kind == "text" else new
    other = dr.create_store(str(tmp_path / "other.zarr"), X[rows], y[rows], ids=ids)
    rows = match_rows(one, other)
    assert rows.old_rows(np.arange(52)).tolist() == [*order.tolist(), -1, -1]
    assert rows.dropped.tolist() == sorted(set(range(60)) - set(order.tolist()))
    twice = dr.create_store(str(tmp_path / "twice.zarr"), X[:50], y[:50], ids=named[[0] * 50])
    assert match_rows(one, twice) is None
