"""Splits that are drawn: shares, classes, rows that stay together, seeds; of every source."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import (
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.datasets import ReaderOptions, SplitOptions, append, open_reader
from dskrobust.datasets.opening import with_drawn_split
from dskrobust.datasets.reader import StreamReader, array_blocks
from dskrobust.datasets.splits import Drawing, RowKeys, group_keys
from dskrobust.errors import InvalidDataError, InvalidOptionError

SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.floats(0.05, 0.95).filter(lambda share: share not in (0, 1))


def draw(options, rows, labels=None, groups=None, seed=0):
    keys = RowKeys(np.zeros(0) if labels is None else np.asarray(labels), groups)
    return Drawing("some", rows, keys).split(options, seed)


@st.composite
def classes(draw_from):
    """Labels of at least two rows each, in any order."""
    counts = draw_from(st.lists(st.integers(2, 30), min_size=2, max_size=6))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw_from(SEEDS)).permutation(labels)


@st.composite
def patients(draw_from):
    """Hashes of names, some of many rows."""
    counts = draw_from(st.lists(st.integers(1, 12), min_size=12, max_size=40))
    names = np.repeat([f"patient {k}" for k in range(len(counts))], counts)
    return group_keys(np.random.default_rng(draw_from(SEEDS)).permutation(names))


def parted(split, groups):
    """Groups that are not in one part."""
    return [g for g in np.unique(groups) if len(np.unique(split[groups == g])) > 1]


# -- what is drawn ------------------------------------------------------------------------------


@given(rows=st.integers(2, 300), size=SHARES, seed=SEEDS)
def test_a_share_of_the_rows(rows, size, seed):
    assume(np.ceil(size * rows) < rows)
    split = draw(SplitOptions(test_size=size), rows, seed=seed)
    assert split.dtype == np.int16
    assert split.sum() == np.ceil(size * rows)
    splitter = ShuffleSplit(1, test_size=size, random_state=seed)
    _, test = next(splitter.split(np.zeros(rows)))
    np.testing.assert_array_equal(np.flatnonzero(split), np.sort(test))


@given(rows=st.integers(3, 300), size=st.integers(1, 299), seed=SEEDS)
def test_a_number_of_rows(rows, size, seed):
    assume(size < rows)
    assert draw(SplitOptions(test_size=size), rows, seed=seed).sum() == size


@given(y=classes(), size=SHARES, seed=SEEDS)
def test_every_class_is_split_alike_to_one_row(y, size, seed):
    tested = int(np.ceil(size * len(y)))
    kinds = len(np.unique(y))
    assume(kinds <= tested <= len(y) - kinds)
    split = draw(SplitOptions(test_size=size, stratify=True), len(y), y, seed=seed)
    assert split.sum() == tested
    for label in np.unique(y):
        own = split[y == label]
        assert abs(own.sum() - len(own) * tested / len(y)) < 1
    splitter = StratifiedShuffleSplit(1, test_size=size, random_state=seed)
    _, test = next(splitter.split(np.zeros(len(y)), y))
    np.testing.assert_array_equal(np.flatnonzero(split), np.sort(test))


@given(groups=patients(), size=st.floats(0.1, 0.9), seed=SEEDS)
def test_groups_are_on_one_side(groups, size, seed):
    split = draw(SplitOptions(test_size=size, group="p"), len(groups), groups=groups, seed=seed)
    assert parted(split, groups) == []
    splitter = GroupShuffleSplit(1, test_size=size, random_state=seed)
    _, test = next(splitter.split(np.zeros(len(groups)), groups=groups))
    np.testing.assert_array_equal(np.flatnonzero(split), np.sort(test))


@given(groups=patients(), size=st.sampled_from([0.5, 0.33, 0.25, 0.2, 0.1]), seed=SEEDS)
def test_groups_are_on_one_side_by_class_too(groups, size, seed):
    y = np.random.default_rng(seed).integers(0, 2, len(groups))
    folds = round(1 / size)
    assume(np.bincount(y, minlength=2).min() >= folds)
    options = SplitOptions(test_size=size, stratify=True, group="p")
    split = draw(options, len(groups), y, groups, seed)
    assert parted(split, groups) == []
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    test = next(splitter.split(np.zeros(len(y)), y, groups))[1]
    np.testing.assert_array_equal(np.flatnonzero(split), test)


@given(rows=st.integers(10, 300), folds=st.integers(2, 10), seed=SEEDS)
def test_folds_are_equally_large(rows, folds, seed):
    split = draw(SplitOptions(folds=folds), rows, seed=seed)
    counts = np.bincount(split, minlength=folds)
    assert len(counts) == folds
    assert np.ptp(counts) <= 1
    splitter = KFold(folds, shuffle=True, random_state=seed)
    for code, (_, test) in enumerate(splitter.split(np.zeros(rows))):
        np.testing.assert_array_equal(np.flatnonzero(split == code), test)


@given(y=classes(), folds=st.integers(2, 5), seed=SEEDS)
def test_folds_have_every_class_alike_to_one_row(y, folds, seed):
    assume(np.bincount(y).max() >= folds)
    split = draw(SplitOptions(folds=folds, stratify=True), len(y), y, seed=seed)
    for label in np.unique(y):
        assert np.ptp(np.bincount(split[y == label], minlength=folds)) <= 1


@pytest.mark.filterwarnings("ignore:The least populated class")
@given(groups=patients(), folds=st.integers(2, 8), stratify=st.booleans(), seed=SEEDS)
def test_folds_part_no_group(groups, folds, stratify, seed):
    y = np.random.default_rng(seed).integers(0, 2, len(groups))
    assume(np.bincount(y, minlength=2).max() >= folds)
    options = SplitOptions(folds=folds, stratify=stratify, group="p")
    split = draw(options, len(groups), y, groups, seed)
    assert parted(split, groups) == []
    largest = np.unique(groups, return_counts=True)[1].max()
    if not stratify:
        assert np.ptp(np.bincount(split, minlength=folds)) <= largest


@given(y=classes(), seed=SEEDS)
def test_the_same_seed_draws_the_same_and_another_another(y, seed):
    y = np.tile(y, 40)
    options = SplitOptions(test_size=0.5, stratify=True)
    first, again = (draw(options, len(y), y, seed=seed) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != draw(options, len(y), y, seed=(seed + 1) % 2**32)).any()


def test_seeds_decide_which_of_equal_groups_are_together():
    groups = np.repeat(np.arange(40), 3)
    options = SplitOptions(folds=4, group="p")
    drawn = {draw(options, 120, groups=groups, seed=seed).tobytes() for seed in range(5)}
    assert len(drawn) == 5


def test_labels_need_not_be_whole_numbers():
    y = np.repeat([0.5, 1.25], 10)
    split = draw(SplitOptions(test_size=0.2, stratify=True), 20, y)
    assert [split[y == label].sum() for label in (0.5, 1.25)] == [2, 2]


def test_texts_of_a_group_have_the_same_key_in_every_block():
    names = np.array(["anna", "bert", "anna", "ünal"])
    parts = np.concatenate([group_keys(names[:1]), group_keys(names[1:])])
    np.testing.assert_array_equal(group_keys(names), parts)
    assert len(np.unique(parts)) == 3


# -- of sources ---------------------------------------------------------------------------------


def visits(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "a": rng.normal(size=rows),
            "b": rng.normal(size=rows),
            "ill": rng.choice(["no", "yes", "perhaps"], rows),
            "patient": rng.choice([f"p{k}" for k in range(15)], rows),
        }
    )


def saved(folder, end, frame):
    """Write the visits into a file; return its path and the options of its reader."""
    path = folder / f"visits.{end}"
    arrays = {"X": np.ascontiguousarray(frame[["a", "b"]])}
    arrays |= {"y": frame.ill.to_numpy().astype(str), "p": frame.patient.to_numpy().astype(str)}
    if end == "npz":
        np.savez(path, **arrays)
    elif end == "npy":
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values)
        return folder / "X.npy", {"y": "y.npy"}, "p.npy"
    elif end == "h5":
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values if name == "X" else values.astype(object)
    else:
        tables = {"csv": frame.to_csv, "parquet": frame.to_parquet, "feather": frame.to_feather}
        options = {} if end == "feather" else {"index": False}
        tables[end](path, **options)
        return path, {"target": "ill"}, "patient"
    return path, {}, "p"


@pytest.mark.parametrize("end", ["csv", "parquet", "feather", "npz", "npy", "h5"])
def test_every_format_is_split_alike(tmp_path, end, monkeypatch):
    frame = visits()
    path, options, group = saved(tmp_path, end, frame)
    asked = {"test_size": 0.2, "group": group, "seed": 3, **options}
    store = dr.ingest(str(path), tmp_path / "s.zarr", **asked)
    assert (store.groups, store.columns) == (("train", "test"), 2)
    wanted = draw(SplitOptions(test_size=0.2, group="p"), 120,
                  groups=group_keys(frame.patient.to_numpy().astype(str)), seed=3)  # fmt: skip
    np.testing.assert_array_equal(store.split_codes[:], wanted)
    plain = dr.ingest(str(path), tmp_path / "p.zarr", **options,
                      **({"drop": ["patient"]} if "target" in options else {}))  # fmt: skip
    np.testing.assert_array_equal(store.features[:], plain.features[:])
    np.testing.assert_array_equal(store.labels[:], plain.labels[:])
    for step in (7, 50):  # rows of a block
        monkeypatch.setattr("dskrobust.datasets.reader.BLOCK_ROWS", step)
        read = open_reader(str(path), options=ReaderOptions.of(None, asked))
        np.testing.assert_array_equal(np.concatenate([b.split for b in read.blocks()]), wanted)
    by_class = dr.ingest(str(path), tmp_path / "c.zarr", **options, folds=3, stratify=True)
    counts = pd.crosstab(by_class.labels[:], by_class.split)
    assert (np.ptp(counts.to_numpy(), axis=1) <= 1).all()
    assert list(counts.columns) == ["fold-1", "fold-2", "fold-3"]


def test_a_store_keeps_how_it_was_split(tmp_path):
    visits().to_csv(tmp_path / "v.csv", index=False)
    asked = ["--target", "ill", "--test-size", "0.2", "--stratify", "--drop", "patient"]
    out = str(tmp_path / "s.zarr")
    done = CliRunner().invoke(main, ["ingest", str(tmp_path / "v.csv"), *asked, "-o", out])
    assert done.exit_code == 0, done.output
    line = "split: 20 % of the rows drawn as test, by class, seed 0"
    assert line in done.stdout
    store = dr.open_store(out)
    assert line in store.spec.decisions
    assert line in [note.text for note in store.notes]
    assert store.spec.provenance["split"] == {"test_size": 0.2, "stratify": True, "seed": 0}
    assert line in CliRunner().invoke(main, ["show", out]).stdout
    told = CliRunner().invoke(
        main, ["ingest", str(tmp_path / "v.csv"), "--target", "ill", "--folds", "4", "--group",
               "patient", "--seed", "2", "--dry-run"])  # fmt: skip
    assert "rows drawn, rows of one 'patient' together, seed 2" in told.stdout
    assert "fold-1, fold-2, fold-3, fold-4" in told.stdout


def test_of_a_number_of_rows_and_of_real_labels(tmp_path):
    store = dr.ingest("diabetes", tmp_path / "s.zarr", test_size=42, seed=1)
    assert (store.split == "test").sum() == 42
    assert "split: 42 rows drawn as test, seed 1" in store.spec.decisions


def test_images_are_split(tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for k in range(20):
        folder = tmp_path / "photos" / ("cat" if k % 4 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(rng.integers(0, 255, (4, 4), np.uint8)).save(folder / f"{k}.png")
    store = dr.ingest(str(tmp_path / "photos"), tmp_path / "s.zarr", test_size=0.4, stratify=True)
    assert pd.crosstab(store.labels[:], store.split)["test"].tolist() == [6, 2]
    with pytest.raises(InvalidOptionError, match="means nothing to a folder of images"):
        dr.ingest(str(tmp_path / "photos"), tmp_path / "n.zarr", test_size=0.4, group="p")


def test_the_digits_own_split_gives_way(tmp_path):
    store = dr.ingest("digits", tmp_path / "s.zarr", folds=3, stratify=True)
    splitter = StratifiedKFold(3, shuffle=True, random_state=0)
    for k, (_, rows) in enumerate(splitter.split(store.features[:], store.labels[:])):
        np.testing.assert_array_equal(np.flatnonzero(store.split_codes[:] == k), rows)


def test_rows_that_are_appended_need_a_group(tmp_path):
    visits().to_csv(tmp_path / "v.csv", index=False)
    store = dr.ingest(str(tmp_path / "v.csv"), tmp_path / "s.zarr", target="ill", test_size=0.25,
                      group="patient")  # fmt: skip
    more = visits(30, seed=1)
    more.to_csv(tmp_path / "more.csv", index=False)
    more.drop(columns="patient").to_csv(tmp_path / "fewer.csv", index=False)
    with pytest.raises(InvalidOptionError, match=r"which group .*: train, test, or a new one"):
        append(store, str(tmp_path / "more.csv"))
    with pytest.raises(InvalidOptionError, match=r"no split .* is drawn; .*group=NAME"):
        append(store, str(tmp_path / "more.csv"), group="test", test_size=0.2)
    for name, length in (("more", 150), ("fewer", 180)):
        store = append(store, str(tmp_path / f"{name}.csv"), group="test")
        assert (store.rows, store.columns) == (length, 2)
        assert set(store.split[length - 30 :]) == {"test"}


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"test_size": 0.2, "folds": 5}, "test_size and folds are both given"),
        ({"test_size": 1.0}, "test_size=1.0 is neither a share"),
        ({"test_size": 0}, "test_size=0 is neither a share"),
        ({"test_size": True}, "test_size=True is neither a share"),
        ({"test_size": float("nan")}, "test_size=nan is neither a share"),
        ({"test_size": "0.2"}, "test_size='0.2' is neither a share"),
        ({"test_size": 20, "group": "p"}, "rows of one p stay together"),
        ({"test_size": 0.3, "group": "p", "stratify": True}, "one of a whole number of folds"),
        ({"test_size": 0.7, "group": "p", "stratify": True}, "one of a whole number of folds"),
        ({"folds": 1}, "folds=1 is no number of folds"),
        ({"folds": 2.0}, "folds=2.0 is no number of folds"),
        ({"folds": 1_001}, "folds=1001 is no number of folds"),
        ({"stratify": True}, "stratify=True says how a split is drawn, but none is"),
        ({"group": "p"}, "give test_size or folds too"),
        ({"test_size": 0.2, "split": "s"}, "split='s' names the groups that there are"),
        ({"folds": 2, "split": "s"}, "leave it or folds away"),
    ],
)
def test_options_that_mean_nothing(given_options, message):
    with pytest.raises(InvalidOptionError, match=message):
        ReaderOptions.of(None, given_options)


@pytest.mark.parametrize(
    ("what", "given_options", "error", "message"),
    [
        ("iris", {"test_size": 150}, InvalidDataError, "no such split can be drawn"),
        ("iris", {"folds": 151}, InvalidDataError, "no such split can be drawn"),
        ("iris", {"test_size": 2, "stratify": True}, InvalidDataError, "number of classes"),
        ("iris", {"test_size": 0.2, "seed": 2**32}, InvalidOptionError, "seed 4294967296 is too"),
        ("iris", {"test_size": 0.2, "group": "p"}, InvalidOptionError, "means nothing to iris"),
        ("diabetes", {"folds": 5, "stratify": True}, InvalidOptionError, "diabetes has real lab"),
    ],
)
def test_what_cannot_be_drawn(tmp_path, what, given_options, error, message):
    with pytest.raises(error, match=message) as caught:
        dr.ingest(what, tmp_path / "s.zarr", **given_options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize("asked", [{"folds": 4}, {"test_size": 0.5}])
@pytest.mark.parametrize("stratify", [False, True])
def test_too_few_values_to_keep_together(asked, stratify):
    groups, y = np.zeros(40, np.int64), np.tile([0, 1], 20)
    with pytest.raises(
        InvalidDataError, match=r"'p' has 1 different value, too few for [24] parts"
    ):
        draw(SplitOptions(group="p", stratify=stratify, **asked), 40, y, groups)


def test_readers_without_keys_are_read_twice(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(30, 2)), np.tile([0, 1, 2], 10)
    spec = dr.StoreSpec("own", "categorical")
    plain = StreamReader(spec, None, lambda: array_blocks(X, y, np.zeros(30, np.int16)))
    options = ReaderOptions.of(None, {"test_size": np.int64(6), "stratify": True})
    read = with_drawn_split(plain, "own", options)
    split = np.concatenate([block.split for block in read.blocks()])
    assert [int(split[y == label].sum()) for label in range(3)] == [2, 2, 2]
    kept = {"split": {"test_size": 6, "stratify": True, "seed": 0}}
    assert json.loads(json.dumps(read.spec.provenance)) == kept


def test_a_class_of_one_row_is_named(tmp_path):
    frame = visits()
    frame.loc[5, "ill"] = "very"
    frame.to_csv(tmp_path / "v.csv", index=False)
    asked = ["--target", "ill", "--test-size", "0.2", "--stratify", "--dry-run"]
    done = CliRunner().invoke(main, ["ingest", str(tmp_path / "v.csv"), *asked])
    assert done.exit_code == 1
    assert "class 'very' has one row only" in done.stderr
    assert "leave --stratify away" in done.stderr
    with pytest.raises(InvalidDataError, match="or leave stratify away"):
        dr.ingest(str(tmp_path / "v.csv"), tmp_path / "s.zarr", target="ill", folds=2,
                  stratify=True)  # fmt: skip


def test_a_source_with_groups_has_its_split(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for k in range(8):
        folder = tmp_path / "photos" / ("train" if k % 2 else "test") / ("cat" if k < 4 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        image.fromarray(np.full((4, 4), 20 * k, np.uint8)).save(folder / f"{k}.png")
    with pytest.raises(InvalidOptionError, match="has groups already, train, test; leave folds"):
        dr.ingest(str(tmp_path / "photos"), tmp_path / "s.zarr", folds=2)


def test_columns_that_say_who_belongs_together(tmp_path):
    frame = visits()
    frame.to_csv(tmp_path / "v.csv", index=False)
    asked = {"target": "ill", "test_size": 0.2}
    with pytest.raises(InvalidOptionError, match=r"no column 'person' \(option group\)"):
        dr.ingest(str(tmp_path / "v.csv"), tmp_path / "s.zarr", group="person", **asked)
    frame.loc[7, "patient"] = None
    frame.to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(InvalidDataError, match="column 'patient'"):
        dr.ingest(str(tmp_path / "v.csv"), tmp_path / "s.zarr", group="patient", **asked)
    frame.assign(patient="one").to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(InvalidDataError, match="'patient' has 1 different value, too few for 2"):
        dr.ingest(str(tmp_path / "v.csv"), tmp_path / "s.zarr", group="patient", **asked)


def test_equal_rows_on_both_sides_are_told_of(tmp_path):
    frame = visits(60).drop(columns="patient")
    pd.concat([frame, frame]).to_csv(tmp_path / "v.csv", index=False)
    asked = ["--target", "ill", "--test-size", "0.2", "--out", str(tmp_path / "s.zarr")]
    done = CliRunner().invoke(main, ["ingest", str(tmp_path / "v.csv"), *asked])
    (line,) = [line for line in done.stdout.splitlines() if "of test in train too" in line]
    assert "split with --group COLUMN" in line
