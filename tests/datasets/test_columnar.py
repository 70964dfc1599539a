"""Parquet and Arrow files, folders of them, pandas' row index, columns of lists, and URLs."""

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

import dskrobust as dr
from dskrobust.datasets import ReaderOptions, append, open_reader, reader, take
from dskrobust.datasets.places import Place
from dskrobust.errors import InvalidDataError, InvalidOptionError, SourceFileError
from dskrobust.store import Block

N = 24
FRAME = pd.DataFrame(
    {"a": np.arange(N, dtype=float), "b": np.arange(N)[::-1], "label": ["x", "y", "z"] * 8}
)


def gather(source):
    """Return all rows of a reader as one block."""
    parts = zip(*source.blocks(), strict=True)
    return Block(*(None if part[0] is None else np.concatenate(part) for part in parts))


def check(source, features=("a", "b"), rows=N):
    block = gather(source)
    assert source.spec.feature_names == features
    assert source.rows == rows
    np.testing.assert_array_equal(block.features[:, 0], np.arange(rows))
    assert [source.spec.classes[k] for k in block.labels] == (["x", "y", "z"] * rows)[:rows]
    return block


def parts(folder, count=12, names="part.{}.parquet"):
    """Write the frame into `count` files, the tenth of which comes after the second."""
    folder.mkdir(parents=True)
    for k, rows in enumerate(np.array_split(np.arange(N), count)):
        FRAME.iloc[rows].to_parquet(folder / names.format(k), index=False)
    return folder


@pytest.mark.parametrize("name", ["own.parquet", "own"])
def test_a_folder_of_parts(tmp_path, name):
    folder = parts(tmp_path / name)
    (folder / "_SUCCESS").touch()
    (folder / "_metadata").write_text("of the writer")
    (folder / ".part.0.parquet.crc").write_text("of the writer")
    store = dr.ingest(str(folder), tmp_path / "own.zarr")
    assert (store.spec.name, store.spec.provenance["parts"]) == ("own", 12)
    np.testing.assert_array_equal(store.features[:], FRAME[["a", "b"]])
    assert append(store, str(folder)).rows == 2 * N


def test_folders_that_are_named_by_columns(tmp_path):
    frame = FRAME.assign(year=np.arange(N) // 12 + 2023, kind=["u v", "w"] * 12)
    frame.to_parquet(tmp_path / "own", partition_cols=["year", "kind"], index=False)
    source = open_reader(str(tmp_path / "own"), options=ReaderOptions(split="kind"))
    block = gather(source)
    assert source.spec.feature_names == ("a", "b", "year")
    assert set(source.spec.groups) == {"u v", "w"}
    rows = block.features[:, 0].astype(int)
    assert sorted(rows) == list(range(N))
    np.testing.assert_array_equal(block.features[:, 2], frame["year"].to_numpy()[rows])
    found = np.array(source.spec.groups)[block.split]
    np.testing.assert_array_equal(found, frame["kind"].to_numpy()[rows])


def test_a_label_that_folders_name(tmp_path):
    FRAME.to_parquet(tmp_path / "own", partition_cols=["label"], index=False)
    source = open_reader(str(tmp_path / "own"))
    block = gather(source)
    found = np.array(source.spec.classes)[block.labels]
    np.testing.assert_array_equal(
        found, FRAME["label"].to_numpy()[block.features[:, 0].astype(int)]
    )


def other_column(folder):
    FRAME.rename(columns={"b": "c"}).to_parquet(folder / "part.1.parquet", index=False)


def other_type(folder):
    FRAME.assign(b="t").to_parquet(folder / "part.1.parquet", index=False)


def no_key(folder):
    parts(folder / "year=2024", 1)


def empty_folder(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_column, r"part\.1\.parquet lacks the column 'b' of .*part\.0\.parquet"),
        (other_type, r"column 'b' holds int64 in .*part\.0\.parquet, but .*string in .*part\.1"),
        (no_key, "folders of one file are named by nothing, those of another one by year"),
        (empty_folder, "holds no Parquet or Arrow files"),
    ],
)
def test_parts_that_do_not_fit(tmp_path, change, message):
    folder = parts(tmp_path / "own.parquet", 2)
    change(folder)
    with pytest.raises((InvalidDataError, SourceFileError), match=message):
        open_reader(str(folder))


def test_parts_of_two_number_types(tmp_path):
    folder = parts(tmp_path / "own", 2)
    FRAME.iloc[12:].astype({"b": float}).to_parquet(folder / "part.1.parquet", index=False)
    block = check(open_reader(str(folder)))
    np.testing.assert_array_equal(block.features[:, 1], FRAME["b"])


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
@pytest.mark.parametrize("name", ["own.feather", "own.arrow"])
def test_arrow_files(tmp_path, monkeypatch, name, compression):
    monkeypatch.setattr(reader, "BLOCK_ROWS", 7)
    frame = FRAME.astype({"label": "category"})
    feather.write_feather(frame, str(tmp_path / name), compression=compression, chunksize=10)
    source = open_reader(str(tmp_path / name))
    assert max(len(block.labels) for block in source.blocks()) <= 7
    check(source)
    (tmp_path / name).write_bytes(b"ARROW1")
    with pytest.raises(SourceFileError, match="is no Arrow file, or a damaged one"):
        open_reader(str(tmp_path / name))
    with pytest.raises(InvalidOptionError, match="decimal=',' means nothing to a"):
        dr.ingest(str(parts(tmp_path / "own")), tmp_path / "a.zarr", decimal=",")


@pytest.mark.parametrize("index", ["__index_level_0__", "patient"])
@pytest.mark.parametrize("form", ["parquet", "feather", "folder", "frame"])
def test_the_row_index_of_pandas_names_the_rows(tmp_path, form, index):
    name = None if index.startswith("__") else index
    frame = FRAME.set_axis(np.arange(N) * 3 + 7).rename_axis(name)
    table = pa.Table.from_pandas(frame, preserve_index=True)
    assert index in table.schema.names
    if form == "frame":
        assert take(table, "label").feature_names == ("a", "b")
        assert take(table, index, "label").feature_names == ("a", "b")
        return
    path = tmp_path / ("own/0.parquet" if form == "folder" else f"own.{form}")
    path.parent.mkdir(exist_ok=True)
    if form == "feather":
        feather.write_feather(table, str(path))
    else:
        parquet.write_table(table, path)
    source = open_reader(str(path.parent if form == "folder" else path))
    assert check(source).ids.tolist() == (np.arange(N) * 3 + 7).tolist()
    assert source.spec.preparation["id"] == index
    assert not source.remarks
    kept = open_reader(str(path), options=ReaderOptions(target=index, split="label"))
    assert gather(kept).labels.tolist() == (np.arange(N) * 3 + 7).tolist()


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("form", ["parquet", "feather", "frame", "pandas"])
def test_lists_are_as_many_columns(tmp_path, fixed, form):
    wide = np.random.default_rng(0).random((N, 5)).astype(np.float32)
    kind = pa.list_(pa.float32(), 5) if fixed else pa.list_(pa.float32())
    table = pa.table({"a": FRAME["a"], "e": pa.array(list(wide), kind), "label": FRAME["label"]})
    names = ("a", *(f"e[{k}]" for k in range(5)))
    if form in ("frame", "pandas"):
        given = FRAME[["a", "label"]].assign(e=list(wide)) if form == "pandas" else table
        taken = take(given, "label")
        assert set(taken.feature_names) == set(names)
        at = [taken.feature_names.index(name) for name in names[1:]]
        np.testing.assert_array_equal(np.asarray(taken.X[3:9])[:, at], wide[3:9])
        return
    path = str(tmp_path / f"own.{form}")
    parquet.write_table(table, path) if form == "parquet" else feather.write_feather(table, path)
    block = check(open_reader(path), names)
    np.testing.assert_array_equal(block.features[:, 1:], wide)


def test_a_sliced_table_of_lists():
    table = pa.table({"e": pa.array([[k, k + 1] for k in range(9)]), "label": list(range(9))})
    taken = take(table.slice(4, 4), "label")
    assert np.asarray(taken.X[:]).tolist() == [[k, k + 1] for k in range(4, 8)]


# -- URLs --------------------------------------------------------------------------------------


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True) if files.ls("/") else None


def test_tables_at_urls(tmp_path, memory):
    with fsspec.open("memory://here/own.csv.gz", "wb", compression="gzip") as file:
        file.write(FRAME.to_csv(index=False, sep=";").encode())
    folder = parts(tmp_path / "parts", 11)
    memory.put(str(folder), "/there", recursive=True)
    feather.write_feather(FRAME, str(tmp_path / "own.feather"))
    memory.put(str(tmp_path / "own.feather"), "/here/own.feather")
    memory.put(str(folder / "part.0.parquet"), "/here/one.parquet")
    for url in ("memory://here/own.csv.gz", "memory://there", "memory://here/own.feather"):
        check(open_reader(url))
    check(open_reader("memory://here/one.parquet"), rows=3)
    store = dr.ingest("memory://here/own.csv.gz", tmp_path / "own.zarr", source_options={})
    assert store.spec.name == "own"
    assert append(store, "memory://there").rows == 2 * N
    with pytest.raises(SourceFileError, match=r"there is no file memory://here/none\.csv"):
        open_reader("memory://here/none.csv")
    with pytest.raises(InvalidOptionError, match="is no table: of what lies at a URL"):
        open_reader("memory://here/own.npz")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.org/b/own.csv?key=1", "own.csv"),
        ("simplecache::s3://bucket/own.csv", "own.csv"),
        ("zip://own.csv::https://a.org/b.zip", "own.csv"),
        ("s3://bucket/own/", "own"),
    ],
)
def test_names_of_urls(url, name):
    assert Place(url).name == name


def test_a_url_that_nobody_knows():
    with pytest.raises(SourceFileError, match=r"nowhere://own\.csv cannot be read: Protocol"):
        open_reader("nowhere://own.csv")


@pytest.mark.parametrize(
    ("folders", "classes"),
    [(("01", "1"), ("01", "1")), (("01", "02"), None), (("--1", "2"), ("--1", "2"))],
)
def test_folders_are_numbers_where_these_tell_them_apart(tmp_path, folders, classes):
    for k, name in enumerate(folders):
        (tmp_path / "own" / f"label={name}").mkdir(parents=True)
        part = pd.DataFrame({"a": [1.0 + k, 2.0]})
        part.to_parquet(tmp_path / "own" / f"label={name}" / "part.parquet", index=False)
    store = dr.ingest(str(tmp_path / "own"), tmp_path / "own.zarr", target="label")
    assert store.spec.classes == classes
    assert len(np.unique(store.labels[:])) == 2
