"""Notes on a store's data: what one pass finds, against counts by hand, and where it is kept."""

import json
from collections import Counter
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import cli
from dskrobust.errors import DamagedStoreError
from dskrobust.store import Block, Store, creation, diagnosis
from dskrobust.store.diagnosis import equal_rows
from dskrobust.store.diagnosis.classes import class_counts
from dskrobust.store.diagnosis.columns import column_state


def table(rows=400, columns=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, columns)), rng.integers(0, 2, rows)


def made(tmp_path, X, y, split=None, **facts):
    spec = dr.StoreSpec("s", "categorical", **facts) if facts else None
    return dr.create_store(str(tmp_path / "s.zarr"), X, y, split, spec=spec, overwrite=True)


def by_kind(store):
    notes = store.notes
    assert notes is not None
    assert all("\n" not in note.on_command_line for note in notes)
    return {note.kind: note for note in notes}


# -- columns -------------------------------------------------------------------------------------


def test_like_columns_have_nothing_to_be_said_of(tmp_path):
    assert list(by_kind(made(tmp_path, *table()))) == ["classes"]


@pytest.mark.parametrize("columns", [2, 3, 4, 30])
def test_one_wide_column_decides_distances(tmp_path, columns):
    X, y = table(columns=columns)
    X[:, 1] *= 50
    note = by_kind(made(tmp_path, X, y))["scale"]
    assert note.columns == ("column 1",)
    variance = X.var(axis=0)
    assert note.details["share"] == pytest.approx(variance[1] / variance.sum())
    assert "mean squared distance" in note.text
    assert "--scale standard" in note.on_command_line
    assert 'scale="standard"' in str(note)


def test_two_wide_columns_decide_together(tmp_path):
    X, y = table(columns=30)
    X[:, [4, 9]] *= 40
    note = by_kind(made(tmp_path, X, y))["scale"]
    assert set(note.columns) == {"column 4", "column 9"}


def test_a_narrow_column_is_seen_too(tmp_path):
    X, y = table()
    X[:, 2] *= 0.001
    note = by_kind(made(tmp_path, X, y))["scale"]
    assert "(column 2)" in note.text
    assert note.details["share"] == 0
    assert note.details["spreads"] > 100


def test_the_larger_of_two_or_three_like_columns_is_no_reason(tmp_path):
    for columns in (1, 2, 3):
        X, y = table(columns=columns)
        X[:, 0] *= 1.5
        assert "scale" not in by_kind(made(tmp_path, X, y))


def test_constant_columns_are_counted_and_are_no_reason_for_scale(tmp_path):
    X, y = table()
    X[:, [0, 3]] = 7
    notes = by_kind(made(tmp_path, X, y))
    assert notes["constant columns"].columns == ("column 0", "column 3")
    assert "2 of 6 columns are constant" in notes["constant columns"].text
    assert "scale" not in notes


def test_huge_values_have_spreads(tmp_path):
    X, y = table()
    X[:, 2] *= 1e149
    note = by_kind(made(tmp_path, X, y))["scale"]
    assert note.columns == ("column 2",)
    assert note.details["share"] == pytest.approx(1)


@pytest.mark.parametrize("name", ["id", "ID", "user_id", "customerID", "uuid", "index", "Index",
                                  "Unnamed: 0", "row", "row nr", "Nr"])  # fmt: skip
def test_columns_called_like_identifiers(tmp_path, name):
    X, y = table(columns=3)
    names = ("a", name, "b")
    note = by_kind(made(tmp_path, X, y, feature_names=names))["identifier"]
    assert note.columns == (name,)
    shown = f"'{name}'" if " " in name else name
    assert f"--drop {shown}," in note.on_command_line
    assert f"--id {shown}" in note.on_command_line
    assert f"drop={name!r}" in str(note)


@pytest.mark.parametrize("name", ["width", "humid", "liquid", "rowing", "valid", "indexed", "kid"])
def test_other_names_are_none(tmp_path, name):
    X, y = table(columns=2)
    assert "identifier" not in by_kind(made(tmp_path, X, y, feature_names=("a", name)))


def test_columns_that_number_the_rows(tmp_path):
    X, y = table(rows=600)
    for values, why in (
        (np.arange(600) * 3.0, "rises with every row"),
        (-np.arange(600.0), "falls with every row"),
        (1.7e9 + np.repeat(np.arange(300), 2) * 60, "holds times"),
    ):
        X[:, 2] = values
        note = by_kind(made(tmp_path, X, y))["identifier"]
        assert note.columns == ("column 2",)
        assert why in note.text
        X[:, 2] = values[::-1] if "time" in why else np.roll(values, 1)
        assert "identifier" not in by_kind(made(tmp_path, X, y))


def test_the_only_column_may_rise(tmp_path):
    X = np.arange(50.0)[:, None]
    assert "identifier" not in by_kind(made(tmp_path, X, np.arange(50) % 2))


def test_pixels_are_left_alone(tmp_path):
    X = np.zeros((40, 4), np.uint8)
    X[:, 0], X[0, 1] = np.arange(40) * 6, 1
    kinds = set(by_kind(made(tmp_path, X, np.arange(40) % 2, image_shape=(2, 2))))
    assert kinds == {"classes"}


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=5),
    st.sampled_from(["uint8", "int64", "float32", "float64"]),
    st.integers(0, 2**32),
)
def test_states_of_columns_merge_to_that_of_all_rows(sizes, dtype, seed):
    rng = np.random.default_rng(seed)
    rows = sum(sizes)
    X = rng.integers(0, 3, (rows, 4)).astype(dtype)
    X[:, 1], X[:, 2] = np.sort(X[:, 1]), 1
    if dtype != "uint8":
        X[:, 3] = np.arange(rows)
    ends = np.cumsum(sizes)
    states = [column_state(X[b - a : b]) for a, b in zip(sizes, ends, strict=True)]
    state = states[0]
    for other in states[1:]:
        state = state.merge(other)
    assert state.rows == rows
    np.testing.assert_allclose(state.variance, X.astype(float).var(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(state.constant, (X[0] == X).all(axis=0))
    before, after = X[:-1], X[1:]
    for k, step in enumerate((after > before, after < before, after >= before, after <= before)):
        np.testing.assert_array_equal(state.steps[k], step.all(axis=0))


# -- rows ----------------------------------------------------------------------------------------


def by_hand(X, y, split):
    """Counts of equal rows in plain Python."""
    keys = [tuple(float(v) for v in row) for row in X]  # 0.0 == -0.0
    labels = [tuple(np.atleast_1d(label).astype(float)) for label in y]
    sizes, groups, found = Counter(keys), {}, {}
    for key, label, group in zip(keys, labels, split, strict=True):
        groups.setdefault(key, Counter())[int(group)] += 1
        found.setdefault(key, set()).add(label)
    shared = Counter()
    for counts in groups.values():
        for a in counts:
            for b in set(counts) - {a}:
                shared[a, b] += counts[a]
    several = [size for size in sizes.values() if size > 1]
    wrong = sum(sizes[key] for key, labels in found.items() if len(labels) > 1)
    return sum(several), sum(several) - len(several), wrong, dict(shared)


@pytest.fixture(scope="module")
def small_pieces():
    """Runs in pieces of few records, so that equal hashes lie in several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equal_rows, "PIECE_ROWS", 5)
        yield


@pytest.mark.usefixtures("small_pieces")
@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.integers(1, 3),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 2**32),
)
def test_equal_rows_are_those_counted_by_hand(tmp_path_factory, sizes, values, bits, seed):
    rng = np.random.default_rng(seed)
    rows = sum(sizes)
    X = rng.integers(0, values + 1, (rows, 3)) * rng.choice([-1.0, 1.0], (rows, 3))
    y = rng.integers(0, 2, rows) if seed % 2 else rng.integers(0, 2, (rows, 2)) * -1.0
    split = rng.integers(0, 3, rows).astype(np.int16)
    url = str(tmp_path_factory.mktemp("runs") / "p.zarr")
    address = dr.create_store(url, np.eye(3), [0, 1, 1]).address
    meeting = equal_rows.Meeting(address, bits, kept=True)
    left = []
    for number, (size, end) in enumerate(zip(sizes, np.cumsum(sizes), strict=True)):
        some = slice(end - size, end)
        records = equal_rows.gathered([equal_rows.row_records(X[some], y[some], split[some])])
        assert records["rows"].sum() == size
        left.append(meeting.leave(str(number), records))
    before = [one.run for one in left]
    for known in range(len(sizes)):  # so many ranges were there before the others
        found, at = equal_rows.EqualRows(), sum(sizes[:known])
        for part in range(meeting.parts):
            found = found.merge(meeting.meet(part, left[known:], before[:known]))
        earlier = equal_rows.EqualRows(*by_hand(X[:at], y[:at], split[:at]))
        found = found.merge(earlier)
        counts = found.rows, found.repeats, found.contradictory, found.shared
        assert counts == by_hand(X, y, split)


@pytest.fixture
def small_ranges(monkeypatch):
    """Ranges of few rows and parts of fewer, which are exchanged out of core."""
    monkeypatch.setattr(diagnosis, "RANGE_ROWS", 1)
    monkeypatch.setattr(equal_rows, "PART_ROWS", 5_000)


def copied(rows=30_000, columns=40):
    """Rows of which some are copies of others, far apart and in other groups."""
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((rows, columns)), rng.integers(0, 3, rows)
    split = np.where(np.arange(rows) < 20_000, "train", "test")
    X[-100:], X[5] = X[:100], X[4]
    y[-50:] = y[50:100]
    return X, y, split


def test_many_ranges_and_parts_find_what_one_does(tmp_path, small_ranges, monkeypatch):
    X, y, split = copied()
    several = made(tmp_path, X, y, split).notes
    names = {f.name for f in (tmp_path / "s.zarr" / "diagnosis").iterdir()}
    assert len(names) > 3
    monkeypatch.undo()
    assert several is not None
    for a, b in zip(several, dr.diagnose(str(tmp_path / "s.zarr")), strict=True):
        assert (a.kind, a.text, a.columns) == (b.kind, b.text, b.columns)
    notes = {note.kind: note for note in several}
    codes = np.where(split == "test", 0, 1)
    rows, repeats, wrong, shared = by_hand(X, y, codes)
    assert notes["equal rows"].details == {"rows": rows, "repeats": repeats}
    assert notes["equal rows with different labels"].details == {"rows": wrong}
    pairs = notes["equal rows across groups"].details["pairs"]
    assert sorted(pairs) == [["test", "train", shared[0, 1]], ["train", "test", shared[1, 0]]]


def test_workers_look_where_they_write(tmp_path, small_ranges, client):
    rows = da.random.default_rng(0).standard_normal((30_000, 40), chunks=(7_000, -1))
    X = da.concatenate([rows, rows[:100]])
    notes = by_kind(made(tmp_path, X, (X[:, 0] > 0).astype(int)))
    assert notes["equal rows"].details == {"rows": 200, "repeats": 100}


# -- labels --------------------------------------------------------------------------------------


def test_classes_and_the_rare_ones(tmp_path):
    X, _ = table(rows=1_000)
    y = np.repeat(["cat", "dog", "owl"], [600, 395, 5])
    notes = by_kind(made(tmp_path, X, y))
    assert notes["classes"].text == "3 classes, cat: 600, dog: 395, owl: 5"
    assert notes["classes"].details["rows"] == {"cat": 600, "dog": 395, "owl": 5}
    assert notes["rare class"].classes == ("owl",)
    assert "owl has 0.5 % (5)" in notes["rare class"].text


def test_many_like_classes_are_not_rare(tmp_path):
    X, _ = table(rows=3_000)
    notes = by_kind(made(tmp_path, X, np.arange(3_000) % 150))
    assert set(notes) == {"classes"}


def test_whole_numbers_that_may_be_no_classes(tmp_path):
    X, _ = table(rows=1_000)
    rng = np.random.default_rng(0)
    notes = by_kind(made(tmp_path, X, rng.integers(0, 500, 1_000)))
    assert "taken as classes" in notes["label kind"].text
    assert "--labels real" in notes["label kind"].on_command_line
    assert "label kind" not in by_kind(made(tmp_path, X, rng.integers(0, 50, 1_000)))
    assert not by_kind(made(tmp_path, X, rng.random(1_000)))


def test_names_that_differ_only_in_case_or_blanks(tmp_path):
    X, y = table()
    split = np.where(np.arange(len(y)) % 3, "train", " Train")
    store = dr.create_store(tmp_path / "a.zarr", X, np.array(["cat", "Cat  "])[y % 2], split)
    classes, groups = (n for n in dr.diagnose(store) if n.kind == "spelling")
    assert classes.text == "the classes 'Cat  ' and 'cat' differ only in case or blanks"
    assert classes.classes == ("Cat  ", "cat")
    assert groups.details == {"of": "groups", "names": [" Train", "train"]}
    apart = dr.create_store(tmp_path / "b.zarr", X, np.array(["cat", "cats"])[y % 2])
    assert "spelling" not in by_kind(apart)


def test_counts_of_labels_are_bounded(monkeypatch):
    monkeypatch.setattr("dskrobust.store.diagnosis.classes.MOST", 10)
    few, many = class_counts(np.arange(8)), class_counts(np.arange(4, 14))
    assert few.merge(few).rows.tolist() == [2] * 8
    assert few.merge(many).too_many
    assert not len(few.merge(many).merge(few).labels)


# -- where notes are -----------------------------------------------------------------------------


def test_every_door_looks(tmp_path):
    X, y = table()
    X[1] = X[0]
    np.savez(tmp_path / "a.npz", X=X, y=y)
    for name in "Xy":
        zarr.save_array(str(tmp_path / name), X if name == "X" else y, zarr_format=3)
    linked = [zarr.open_array(str(tmp_path / name), mode="r") for name in "Xy"]
    for store in (
        dr.ingest(str(tmp_path / "a.npz"), tmp_path / "a.zarr"),
        dr.link_store(str(tmp_path / "l.zarr"), *linked),
        made(tmp_path, X, y),
    ):
        assert "equal rows" in by_kind(store)
        assert "equal another one" in store._repr_html_()


def test_appended_rows_are_looked_at_and_old_notes_forgotten(tmp_path):
    X, y = table()
    store = made(tmp_path, X, y)
    assert "equal rows" not in by_kind(store)
    grown = dr.append_rows(store, [Block(X[:9], y[:9], np.zeros(9, np.int16))])
    assert by_kind(grown)["equal rows"].details == {"rows": 18, "repeats": 9}
    assert store.notes is None  # of the rows before nobody has kept any
    Path(store.url, "notes.record").unlink()
    with pytest.raises(DamagedStoreError, match=r"notes\.record.*is missing.*repair=True"):
        _ = grown.notes
    assert "notes.record" in grown._repr_html_()
    dr.verify_store(grown, repair=True)
    assert grown.notes is None
    assert dr.diagnose(store.url) == dr.open_store(store.url).notes


@pytest.fixture
def rows_read(monkeypatch):
    """What is read of stores, as (array, first row, last row + 1), once it is cleared."""
    read, found = Store.read, []

    def watched(self, name, lo, hi, out=None):
        found.append((name, lo, hi))
        return read(self, name, lo, hi, out)

    monkeypatch.setattr(Store, "read", watched)
    return found


def some_rows(rng, rows, dtype, kind):
    """Rows of few values, some columns rising, with labels of a kind, in two groups."""
    X = rng.integers(0, 3, (rows, 4)).astype(dtype)
    X[:, 3] = 7 if rng.integers(2) else rng.integers(0, 200, rows)
    y = rng.integers(0, 3, rows) if kind == "categorical" else rng.random(rows)
    return Block(X, y, rng.integers(0, 2, rows).astype(np.int16))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.sampled_from(["uint8", "float32", "float64"]),
    st.sampled_from(["categorical", "real"]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_notes_of_appended_rows_are_those_of_all(
    tmp_path_factory, rows_read, sizes, dtype, kind, many, seed
):
    """Also where runs meet in parts; and of the store only the new rows are read."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("grown")
    spec = dr.StoreSpec("s", kind, groups=("a", "b"), feature_names=("a", "b", "id", "d"))
    with pytest.MonkeyPatch.context() as patch:
        if many:
            patch.setattr(equal_rows, "PART_ROWS", 16)
            patch.setattr(equal_rows, "PIECE_ROWS", 4)
        store = creation.write_store(
            str(folder / "s.zarr"), spec, [some_rows(rng, 30, dtype, kind)]
        )
        for rows in sizes:
            rows_read.clear()
            before = store.rows
            store = dr.append_rows(store, [some_rows(rng, rows, dtype, kind)])
            assert {(lo, hi) for _, lo, hi in rows_read} == {(before, before + rows)}
        grown = store.notes
    assert grown is not None
    assert dr.diagnose(store.url) == grown


def test_what_is_lost_of_a_look_is_looked_at_again(tmp_path, rows_read):
    X, y = table()
    store = made(tmp_path, X, y)
    codes = np.zeros(9, np.int16)
    for k, kind in enumerate(("looked.blob", "*/0.blob")):
        for damage in (Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-1])):
            for file in Path(store.url, "diagnosis").glob(kind):
                damage(file)
            rows_read.clear()
            store = dr.append_rows(store, [Block(X[:9] + k, y[:9], codes)])
            assert min(lo for _, lo, _ in rows_read) == 0
            grown = store.notes
            assert grown == dr.diagnose(store.url)
    rows_read.clear()
    dr.append_rows(store, [Block(X[:9], y[:9], codes)])
    assert min(lo for _, lo, _ in rows_read) == store.rows


def test_runs_of_what_was_replaced_go(tmp_path):
    X, y = table()
    made(tmp_path, X, y)
    folder = tmp_path / "s.zarr" / "diagnosis"
    before = {f.name for f in folder.iterdir()}
    store = made(tmp_path, X + 1, y)
    dr.append_rows(store, [Block(X[:9], y[:9], np.zeros(9, np.int16))])
    names = {f.name for f in folder.iterdir() if f.is_dir()}
    assert len(names) == 2
    assert not names & before


def test_linked_stores_keep_nothing_that_they_cannot_need(tmp_path, monkeypatch):
    X, y = table()
    for name in "Xy":
        zarr.save_array(str(tmp_path / name), X if name == "X" else y, zarr_format=3)
    linked = [zarr.open_array(str(tmp_path / name), mode="r") for name in "Xy"]
    monkeypatch.setattr(equal_rows, "PART_ROWS", 50)
    store = dr.link_store(str(tmp_path / "l.zarr"), *linked)
    assert store.notes == dr.diagnose(store.url)
    assert not [f for f in Path(store.url).rglob("diagnosis/**/*") if f.is_file()]


def test_commands_say_them(tmp_path):
    X, y = table()
    X[:, 0] *= 1e4
    np.savez(tmp_path / "a.npz", X=X, y=y)
    out = str(tmp_path / "a.zarr")

    def call(*arguments):
        result = CliRunner().invoke(cli.main, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    said = call("ingest", tmp_path / "a.npz", "--out", out)
    wanted = [f"note        {note.on_command_line}" for note in dr.open_store(out).notes]
    assert [line for line in said.splitlines() if line.startswith("note")] == wanted
    assert wanted[0].endswith("--scale standard")
    assert call("show", out).count("note  ") == len(wanted)
    facts = json.loads(call("show", out, "--json"))["notes"]
    assert [f["kind"] for f in facts] == [note.kind for note in dr.open_store(out).notes]
    assert "equal another one" in call("append", out, tmp_path / "a.npz")


def test_records_that_take_more_than_they_spare_do_not_stay(tmp_path, rows_read, monkeypatch):
    monkeypatch.setattr(diagnosis, "KEPT_AT_LEAST", 0)
    X, y = table()  # of few columns
    store = made(tmp_path, X, y)
    assert not [f for f in Path(store.url, "diagnosis").glob("*") if f.is_dir()]
    rows_read.clear()
    grown = dr.append_rows(store, [Block(X[:9], y[:9], np.zeros(9, np.int16))])
    assert min(lo for _, lo, _ in rows_read) == 0
    assert by_kind(grown)["equal rows"].details == {"rows": 18, "repeats": 9}
    wide = np.tile(X, (1, 60))
    dr.create_store(str(tmp_path / "wide.zarr"), wide, y)
    assert [f for f in (tmp_path / "wide.zarr" / "diagnosis").glob("*") if f.is_dir()]
