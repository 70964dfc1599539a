"""Hugging Face datasets on disk, written here as `save_to_disk` does, and Arrow streams alone."""

import json

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli
from dskrobust.datasets import ReaderOptions, append, open_reader, reader
from dskrobust.datasets.splits import SplitOptions
from dskrobust.errors import DskrobustError, InvalidDataError, InvalidOptionError, SourceFileError
from dskrobust.store import Block

N = 30
NAMES = ["zebra", "ant", "owl", "never"]
FEATURES = {
    "e": {"feature": {"dtype": "float32", "_type": "Value"}, "length": 2, "_type": "List"},
    "img": {"shape": [2, 3], "dtype": "uint8", "_type": "Array2D"},
    "a": {"dtype": "int32", "_type": "Value"},
    "label": {"names": NAMES, "_type": "ClassLabel"},
}
RNG = np.random.default_rng(0)
E = RNG.random((N, 2), np.float32)
IMG = RNG.integers(0, 255, (N, 2, 3), dtype=np.uint8)
CODES = np.arange(N) % 3


def rows(lo=0, hi=N, codes=CODES, **more):
    """Return rows lo:hi as an Arrow table."""
    return pa.table(
        {
            "e": pa.array(list(E[lo:hi]), pa.list_(pa.float32(), 2)),
            "img": pa.array(IMG[lo:hi].tolist(), pa.list_(pa.list_(pa.uint8()))),
            "a": pa.array(np.arange(lo, hi, dtype=np.int32)),
            "label": pa.array(codes[lo:hi], pa.int64()),
            **{name: values[lo:hi] for name, values in more.items()},
        }
    )


def write_stream(path, table, size=8):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=size)
    return path


def save(folder, *tables, features=FEATURES, state=None, names=None):
    """Write tables as the files of a Dataset, in an order that is not that of their names."""
    folder.mkdir(parents=True)
    names = names or [f"data-{9 - k:05d}-of-{len(tables):05d}.arrow" for k in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        write_stream(folder / name, table)
    files = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps({**files, **(state or {})}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return str(folder)


def save_splits(folder, **tables):
    for name, table in tables.items():
        save(folder / name, table)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(tables)}))
    return str(folder)


def gather(source):
    """Return all rows of a reader as one block."""
    parts = zip(*source.blocks(), strict=True)
    return Block(*(None if part[0] is None else np.concatenate(part) for part in parts))


PLAIN = ReaderOptions(scale="none")


def test_a_dataset_is_read_in_the_order_of_its_state(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "BLOCK_ROWS", 7)
    source = open_reader(save(tmp_path / "own", rows(0, 20), rows(20)), options=PLAIN)
    assert max(len(block.labels) for block in source.blocks()) <= 7
    block = gather(source)
    np.testing.assert_array_equal(block.labels, CODES)
    expected = np.concatenate([E, IMG.reshape(N, 6), np.arange(N)[:, None]], axis=1)
    np.testing.assert_array_equal(block.features, expected)
    parts = [f"img[{i}][{k}]" for i in range(2) for k in range(3)]
    assert source.spec.feature_names == ("e[0]", "e[1]", *parts, "a")
    assert (source.spec.classes, source.spec.groups) == (tuple(NAMES), ("all",))
    assert source.spec.provenance["reader"] == "hugging-face"


def test_splits_are_groups_unless_a_column_is_named(tmp_path):
    kind = pa.array(["u", "v"] * (N // 2))
    address = save_splits(tmp_path / "own", train=rows(0, 20, k=kind), test=rows(20, k=kind))
    source = open_reader(address)
    assert source.spec.groups == ("train", "test")
    np.testing.assert_array_equal(gather(source).split, [0] * 20 + [1] * 10)
    for named, groups in (("k", ("u", "v")), ("split", ("train", "test"))):
        assert open_reader(address, options=ReaderOptions(split=named)).spec.groups == groups
    assert "k=u" in source.spec.feature_names
    train, drawn = (
        str(tmp_path / "own" / "train"),
        {"drawn": SplitOptions(test_size=5, stratify=True)},
    )
    assert open_reader(train).spec.groups == ("all",)
    block = gather(open_reader(train, options=ReaderOptions(**drawn)))
    assert np.bincount(block.split).tolist() == [15, 5]
    with pytest.raises(InvalidOptionError, match="has groups already, train, test"):
        open_reader(address, options=ReaderOptions(**drawn))


def test_a_column_called_split_stays_a_column(tmp_path):
    own = pa.array(["x", "y"] * (N // 2))
    address = save_splits(tmp_path / "own", train=rows(0, 20, split=own), test=rows(20, split=own))
    assert open_reader(address).spec.groups == ("all",)
    assert open_reader(address, options=ReaderOptions(split="split")).spec.groups == ("x", "y")


def test_rows_are_appended_by_names(tmp_path):
    address = save_splits(tmp_path / "own", train=rows(0, 20), test=rows(20))
    store = append(dr.ingest(address, tmp_path / "own.zarr", scale="standard"), address)
    assert (store.rows, store.groups) == (2 * N, ("train", "test"))
    np.testing.assert_array_equal(store.features[:N], store.features[N:])
    grown = append(store, str(tmp_path / "own" / "test"), group="later")
    assert grown.groups == ("train", "test", "later")


def test_lists_of_any_length_are_dropped(tmp_path):
    tokens = pa.array([[1] * (k % 4) for k in range(N)])
    address = save(tmp_path / "own", rows(tokens=tokens))
    with pytest.raises(InvalidDataError, match="'tokens'"):
        open_reader(address)
    store = dr.ingest(address, tmp_path / "own.zarr", drop="tokens")
    assert append(store, address).columns == 9


def test_classes_of_other_columns_are_categories_and_groups(tmp_path):
    features = {**FEATURES, "kind": {"names": ["q", "p"], "_type": "ClassLabel"}}
    address = save(tmp_path / "own", rows(kind=pa.array([0, 1, 1] * 10)), features=features)
    source = open_reader(address, options=PLAIN)
    assert source.spec.feature_names[-2:] == ("kind=p", "kind=q")
    np.testing.assert_array_equal(gather(source).features[:3, -2:], [[0, 1], [1, 0], [1, 0]])
    assert open_reader(address, options=ReaderOptions(split="kind")).spec.groups == ("q", "p")


def test_a_url_and_a_dry_run(tmp_path):
    address = save(tmp_path / "own", rows())
    files = fsspec.filesystem("memory")
    files.put(address, "memory://hugging", recursive=True)
    here, there = gather(open_reader(address)), gather(open_reader("memory://hugging"))
    np.testing.assert_array_equal(here.features, there.features)
    told = CliRunner().invoke(cli.main, ["ingest", address, "--dry-run"]).output
    assert "zebra, ant, owl, never" in told
    assert "30 × 9" in told
    files.rm("memory://hugging", recursive=True)


IMAGE = pa.array([{"bytes": b"P", "path": "a.png"}] * N)


def of_type(kind):
    return {**FEATURES, "picture": {"_type": kind}}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"features": of_type("Image")}, r"'picture' holds images, .*drop=\['picture'\]"),
        ({"features": of_type("Audio")}, r"'picture' holds audio, not numbers; leave it out"),
        ({}, r"'picture' holds struct<.*cannot become features; leave it out with drop"),
    ],
)
def test_columns_of_media_are_refused_by_name(tmp_path, made, message):
    address = save(tmp_path / "own", rows(picture=IMAGE), **made)
    with pytest.raises(InvalidDataError, match=message):
        open_reader(address)
    assert open_reader(address, options=ReaderOptions(drop="picture")).rows == N


def indices(folder):
    state = json.loads((folder / "state.json").read_text())
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (folder / "state.json").write_text(json.dumps(state))


def no_info(folder):
    (folder / "dataset_info.json").unlink()


def no_data(folder):
    (folder / "data-00009-of-00001.arrow").unlink()


def half_a_record(folder):
    (folder / "state.json").write_text('{"_data_files": [')


def other_record(folder):
    (folder / "state.json").write_text('{"files": []}')


def no_file_names(folder):
    (folder / "state.json").write_text('{"_data_files": []}')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (indices, r"indices of selected or shuffled rows .*dataset\.flatten_indices\(\)"),
        (no_info, r"there is no file .*dataset_info\.json"),
        (no_data, r"there is no file .*data-00009-of-00001\.arrow"),
        (half_a_record, r"state\.json is no JSON file, or a damaged one"),
        (other_record, r"state\.json or dataset_info\.json is not as save_to_disk writes it"),
        (no_file_names, "has no rows"),
    ],
)
def test_what_is_no_whole_dataset_is_refused(tmp_path, change, message):
    address = save(tmp_path / "own", rows())
    change(tmp_path / "own")
    with pytest.raises(SourceFileError, match=message):
        open_reader(address)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.where(np.arange(N) == 4, 7, CODES), r"row 4 has the class 7 in column 'label'"),
        (np.where(np.arange(N) == 4, -1, CODES), r"'label' has no value in 1 of 30 rows \(row 4\)"),
    ],
)
def test_labels_without_a_class_are_refused(tmp_path, codes, message):
    with pytest.raises(InvalidDataError, match=message):
        gather(open_reader(save(tmp_path / "own", rows(codes=codes))))


def test_splits_of_other_classes_are_refused(tmp_path):
    address = save_splits(tmp_path / "own", train=rows(), test=rows())
    other = {**FEATURES, "label": {"names": NAMES[::-1], "_type": "ClassLabel"}}
    (tmp_path / "own" / "test" / "dataset_info.json").write_text(json.dumps({"features": other}))
    with pytest.raises(InvalidDataError, match="'label' has other classes in the split 'test'"):
        open_reader(address)
    with pytest.raises(InvalidOptionError, match="x='q' means nothing to a Hugging Face dataset"):
        open_reader(address, options=ReaderOptions(x="q"))


# -- Arrow streams -----------------------------------------------------------------------------


def test_a_stream_alone_and_cut_anywhere(tmp_path):
    path = write_stream(tmp_path / "own.arrow", rows())
    whole = path.read_bytes()
    np.testing.assert_array_equal(gather(open_reader(str(path))).labels, CODES)
    for end in range(0, len(whole), 8):
        path.write_bytes(whole[:end])
        with pytest.raises(SourceFileError, match=r"own\.arrow"):
            open_reader(str(path))
    for end in (len(whole) - 8, len(whole) - 4, len(whole) - 100):
        path.write_bytes(whole[:end])
        with pytest.raises(SourceFileError, match="it is truncated"):
            open_reader(str(path))


def test_a_stream_with_dictionaries_and_compression(tmp_path):
    table = rows().set_column(3, "label", pa.array(["b", "a"] * 15).dictionary_encode())
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    path = str(tmp_path / "own.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema, options=options) as s:
        s.write_table(table, max_chunksize=11)
    source = open_reader(path)
    assert source.spec.classes == ("a", "b")
    np.testing.assert_array_equal(gather(source).labels, [1, 0] * 15)


@pytest.mark.parametrize("shape", [(2, 3), (2, 2), (3, 3)])
def test_lists_of_lists_of_other_lengths_are_refused(tmp_path, shape):
    odd = [IMG[0].tolist()] * (N - 1) + [np.zeros(shape).tolist()]
    table = rows().set_column(1, "img", pa.array(odd, pa.list_(pa.list_(pa.float64()))))
    path = write_stream(tmp_path / "own.arrow", table)
    if shape == (2, 3):
        assert gather(open_reader(str(path))).features.shape == (N, 9)
        return
    with pytest.raises(DskrobustError, match=r"row 29 has [23] values in column 'img'"):
        gather(open_reader(str(path)))
