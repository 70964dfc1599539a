"""Decisions of reviewers: a log that loses nothing, a table, and the store that comes of them."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers import flipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust.errors import (
    DamagedStoreError,
    DskrobustError,
    InvalidDataError,
    InvalidOptionError,
)
from dskrobust.reviews.labels import LabelNames
from dskrobust.store import (
    CHOICES,
    RELABEL,
    UNDO,
    DecisionWriter,
    RowChanges,
    StoreSpec,
    decisions,
    read_decisions,
)
from dskrobust.store.writing import Layout

ROWS = 24


def make(path, rows=ROWS, *, ids=True, real=False, **how):
    rng = np.random.default_rng(1)
    X = rng.integers(0, 9, (rows, 3)).astype(np.uint8)
    y = (
        rng.normal(size=rows)
        if real
        else np.array(["a", "b", "<b>c</b>"], object)[np.arange(rows) % 3]
    )
    split = np.array(["train", "test"], object)[(np.arange(rows) % 4 == 0) * 1]
    names = [f"n{k}" for k in range(rows)] if ids else None
    return dr.create_store(str(path), X, y, split, ids=names, **how)


few = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
entries = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 4), st.sampled_from((*CHOICES, UNDO))), max_size=25
)


@given(entries)
@few
def test_several_writers_lose_nothing_and_undo_gives_back(tmp_path_factory, monkeypatch, made):
    """Writers that take turns in any order: all entries are there, and the newest holds."""
    monkeypatch.setattr(decisions, "MOST", 3)
    store = make(tmp_path_factory.mktemp("log") / "s.zarr", 6)
    writers = [DecisionWriter(store, f"person {k}") for k in range(3)]
    model = {row: [] for row in range(5)}
    for who, row, decision in made:
        writers[who].add(row, decision, 1 if decision == RELABEL else None, f"of {who}")
        if decision != UNDO:
            model[row].append((decision, f"person {who}"))
        elif model[row]:
            model[row].pop()
    log = read_decisions(dr.open_store(store.url))
    assert [(e.row, e.decision, e.who) for e in log.entries] == [
        (row, decision, f"person {who}") for who, row, decision in made
    ]
    held = {row: (e.decision, e.who) for row, e in log.newest.items()}
    assert held == {row: several[-1] for row, several in model.items() if several}


def test_a_table_has_names_and_times(tmp_path):
    store = make(tmp_path / "s.zarr")
    writer = DecisionWriter(store, "me")
    writer.add(5, "relabel", LabelNames(store).stored("b"), "it says b")
    writer.add(3, "keep")
    writer.add(3, "drop")
    table = dr.decisions(store)
    assert table.index.tolist() == ["n3", "n5"]
    assert table["decision"].tolist() == ["drop", "relabel"]
    assert table["new_label"].tolist()[1] == "b"
    assert table["new_label"].isna().tolist() == [True, False]
    assert table["given_label"].tolist() == [("a", "b", "<b>c</b>")[k % 3] for k in (3, 5)]
    assert table["split"].tolist() == ["train", "train"]
    assert str(table["when"].dtype).startswith("datetime64[")
    assert table["who"].eq("me").all()
    assert len(dr.decisions(store, history=True)) == 3
    empty = dr.decisions(make(tmp_path / "empty.zarr"))
    assert list(empty) == list(table)
    assert not len(empty)


def test_numbers_are_in_their_own_units(tmp_path):
    rows = pd.DataFrame({"a": np.arange(12.0), "y": np.linspace(10, 30, 12)})
    store = dr.create_store(str(tmp_path / "s.zarr"), rows, "y")
    names = LabelNames(store)
    DecisionWriter(store).add(0, "relabel", names.stored("17.5"))
    assert dr.decisions(store)["new_label"].tolist() == ["17.5"]
    made = dr.apply_decisions(store, tmp_path / "c.zarr")
    assert LabelNames(made.store).of_rows(np.array([0, 11])) == ["17.5", "30"]
    for text in ("x", "nan", "inf", "1e200", ""):
        with pytest.raises(InvalidOptionError):
            names.stored(text)


@pytest.mark.parametrize(("row", "decision", "label"), [
    (-1, "keep", None), (ROWS, "keep", None), (0, "relabel", None), (0, "keep", 1),
])  # fmt: skip
def test_what_means_nothing_is_refused(tmp_path, row, decision, label):
    store = make(tmp_path / "s.zarr")
    with pytest.raises(InvalidOptionError):
        DecisionWriter(store).add(row, decision, label)
    assert not read_decisions(store).entries


def test_damage_is_named_and_mended(tmp_path):
    store = make(tmp_path / "s.zarr")
    DecisionWriter(store).add(0, "keep")
    (sheet,) = (tmp_path / "s.zarr/decisions").glob("*.decisions")
    for bit in (3, 400, 8 * sheet.stat().st_size - 9):
        with (
            flipped(sheet, bit),
            pytest.raises(DamagedStoreError, match=f"{sheet.name}.*review those rows again"),
        ):
            dr.decisions(store)
    sheet.write_bytes(sheet.read_bytes()[:-5])
    report = dr.verify_store(store, repair=True, sample=1)
    assert f"decisions/{sheet.name}" in report.mended
    assert not read_decisions(store).entries
    DecisionWriter(store).add(0, "keep")
    (sheet,) = (tmp_path / "s.zarr/decisions").glob("*.decisions")
    sheet.unlink()
    with pytest.raises(DamagedStoreError, match="missing"):
        dr.decisions(store)


def test_rows_that_are_appended_leave_decisions_and_others_take_them_away(tmp_path):
    store = make(tmp_path / "s.zarr")
    DecisionWriter(store).add(7, "drop")
    more = dr.append_rows(
        store, [store.read_block(0, 3)._replace(ids=np.array(["x", "y", "z"], object))]
    )
    assert dr.decisions(more)["row"].tolist() == [7]
    again = make(tmp_path / "s.zarr", overwrite=True, ids=False)
    assert not len(dr.decisions(again)) or again.segments == store.segments
    other = dr.create_store(str(tmp_path / "s.zarr"), np.eye(5), np.arange(5) % 2, overwrite=True)
    table = dr.decisions(other)
    assert not len(table)
    assert table.attrs["foreign"] == 1


# -- a cleaned store ---------------------------------------------------------------------------

changes = st.dictionaries(
    st.integers(0, ROWS - 1), st.sampled_from(("keep", "drop", "unsure", "a", "b", "<b>c</b>"))
)


@given(changes, st.booleans(), st.booleans())
@few
def test_a_cleaned_store_is_what_its_rows_make(
    tmp_path_factory, monkeypatch, wanted, ids, appended
):
    """It equals a store that is made of the cleaned rows from the start, to the last digest."""
    monkeypatch.setattr(Layout, "unit_rows", property(lambda layout: 4))
    monkeypatch.setattr("dskrobust.store.writing.UNITS_PER_WRITE", 2)
    folder = tmp_path_factory.mktemp("clean")
    store = make(folder / "s.zarr", ids=ids)
    if appended:
        store = dr.append_rows(store, [store.read_block(0, 9)._replace(
            ids=store.ids[:9] if ids else None)])  # fmt: skip
    writer, names = DecisionWriter(store), LabelNames(store)
    labels, stays = store.labels[:].copy(), np.ones(store.rows, bool)
    for row, decision in wanted.items():
        if decision in CHOICES:
            writer.add(row, decision)
            stays[row] = decision != "drop"
        else:
            labels[row] = names.stored(decision)
            writer.add(row, "relabel", labels[row].item())
    if not ({*wanted.values()} - {"keep", "unsure"}):
        with pytest.raises(InvalidOptionError, match="nothing to relabel or drop"):
            dr.apply_decisions(store, folder / "c.zarr")
        return
    before = {p: p.read_bytes() for p in (folder / "s.zarr").rglob("*") if p.is_file()}
    if not stays.any():
        return
    made = dr.apply_decisions(store, folder / "c.zarr")
    assert {p: p.read_bytes() for p in (folder / "s.zarr").rglob("*") if p.is_file()} == before
    fresh = dr.create_store(
        str(folder / "f.zarr"), store.features[:][stays], labels[stays],
        store.split[stays], ids=store.ids[:][stays] if ids else None,
        spec=StoreSpec("s", "categorical", classes=store.spec.classes, groups=store.groups),
    )  # fmt: skip
    assert made.store.segments == fresh.segments
    shutil.rmtree(folder / "s.zarr")  # links stand by themselves
    cleaned = dr.open_store(made.store.url)
    for name in ("features", "labels", "split", "ids"):
        assert (getattr(cleaned, name)[:] == getattr(fresh, name)[:]).all()
    assert cleaned.groups == store.groups
    assert cleaned.spec.classes == store.spec.classes
    assert (made.linked_bytes > 0) == (not appended and stays[:8].all())
    settled = [row for row, d in wanted.items() if d not in ("drop", "unsure")]
    moved = RowChanges({}, np.flatnonzero(~stays)).new_rows(np.array(sorted(settled), np.int64))
    assert dr.decisions(cleaned)["row"].tolist() == moved.tolist()
    assert dr.decisions(cleaned)["decision"].eq("keep").all()


def test_chunks_are_shared_and_where_they_cannot_be_they_are_copied(tmp_path, monkeypatch):
    store = make(tmp_path / "s.zarr")
    DecisionWriter(store).add(0, "relabel", 2)

    def shared():
        made = dr.apply_decisions(store, tmp_path / "c.zarr", overwrite=True)
        old, new = (s.state.segments[0].path for s in (store, made.store))
        files = [("s.zarr", old), ("c.zarr", new)]
        links = [(tmp_path / folder / path / "features/c/0/0").stat() for folder, path in files]
        assert (links[0].st_ino == links[1].st_ino) == (made.linked_bytes > 0)
        dr.append_rows(made.store, [store.read_block(0, 3)._replace(ids=store.ids[:3])])
        assert store.features[:].tolist() == dr.open_store(store.url).features[:].tolist()
        return made.linked_bytes

    assert shared()

    real = os.link

    def refuse(old, new):
        if "features" in str(old):
            raise OSError(18, "Invalid cross-device link")
        real(old, new)

    monkeypatch.setattr(os, "link", refuse)
    assert not shared()


def test_linked_arrays_stay_linked(tmp_path):
    import zarr

    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    arrays = [zarr.create_array(str(tmp_path / n), data=v, chunks=(4, *v.shape[1:]))
              for n, v in (("X", X), ("y", y))]  # fmt: skip
    store = dr.link_store(str(tmp_path / "s.zarr"), *arrays)
    DecisionWriter(store).add(3, "relabel", 0)
    made = dr.apply_decisions(store, tmp_path / "c.zarr").store
    assert set(made.state.links) == {"features"}
    assert made.labels[3] == 0
    assert store.labels[3] == 1
    assert (made.features[:] == X).all()
    DecisionWriter(store).add(4, "drop")
    less = dr.apply_decisions(store, tmp_path / "d.zarr").store
    assert not less.state.links
    assert less.rows == 19


def test_what_cannot_be_applied_is_refused(tmp_path):
    store = make(tmp_path / "s.zarr", 4)
    with pytest.raises(InvalidOptionError, match="no decisions: nothing to relabel or drop"):
        dr.apply_decisions(store, tmp_path / "c.zarr")
    writer = DecisionWriter(store)
    for row in range(4):
        writer.add(row, "drop")
    with pytest.raises(InvalidDataError, match="none is left"):
        dr.apply_decisions(store, tmp_path / "c.zarr")
    writer.add(0, "keep")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "s.zarr")
    for same in ("s.zarr", "link.zarr", "./s.zarr"):
        with pytest.raises(InvalidOptionError, match="is the store itself"):
            dr.apply_decisions(store, tmp_path / same, overwrite=True)
    dr.apply_decisions(store, tmp_path / "c.zarr")
    with pytest.raises(DskrobustError, match="already a store"):
        dr.apply_decisions(store, tmp_path / "c.zarr")
