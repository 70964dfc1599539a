"""Ids of rows in a store: kept, appended, linked and checked as all else is."""

from itertools import pairwise

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import zarr
from helpers import array_folder, flipped
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust.errors import DamagedStoreError, InvalidDataError, InvalidOptionError
from dskrobust.ids import as_kept, ids_of, plain_ids
from dskrobust.store import Block, creation, writing

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    """Make units of 8 rows or so, that a small store has many chunks of everything."""
    from dskrobust.store import arrays

    monkeypatch.setattr(arrays, "UNIT_BYTES", 256)
    monkeypatch.setattr(writing, "UNITS_PER_WRITE", 2)


def frame_of(n=50, index=None, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.random((n, 4)), columns=list("abcd"), index=index)
    return frame.assign(kind=np.where(np.arange(n) % 2, "odd", "even"))


def names_of(n, first=0):
    return np.array([f"p{7 * k % 101}/é" for k in range(first, first + n)], object)


def block_of(n, ids, seed=0):
    frame = frame_of(n, seed=seed)
    codes = np.arange(n) % 2
    return Block(frame[list("abcd")].to_numpy(), codes, np.zeros(n, np.int16), ids)


SPEC = dr.StoreSpec("own", "categorical")


INDEXES = {
    "text": (pd.Index(names_of(50), name="patient"), names_of(50)),
    "numbers": (pd.Index(np.arange(50)[::-1] * 3), np.arange(50)[::-1] * 3),
    "counted from 5": (pd.RangeIndex(5, 55), np.arange(5, 55)),
    "levels": (
        pd.MultiIndex.from_product([["u", "v"], range(25)]),
        np.array([f"{a}/{b}" for a in "uv" for b in range(25)], object),
    ),
    "dates": (
        pd.date_range("2024-02-28", periods=50),
        np.array([str(d) for d in pd.date_range("2024-02-28", periods=50).to_numpy()], object),
    ),
    "categories": (pd.CategoricalIndex(list("ab") * 25), np.array(list("ab") * 25, object)),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_an_index_becomes_ids(tmp_path, kind):
    index, wanted = INDEXES[kind]
    store = dr.create_store(str(tmp_path / "own.zarr"), frame_of(50, index), "kind")
    assert store.has_ids
    assert store.ids.shape == (50,)
    assert store.ids.dtype == wanted.dtype
    np.testing.assert_array_equal(store.ids[:], wanted)
    assert store.spec.feature_names == tuple("abcd")


def test_an_index_that_counts_is_none(tmp_path):
    store = dr.create_store(str(tmp_path / "own.zarr"), frame_of(20), "kind")
    assert not store.has_ids
    assert not array_folder(store.url, "ids").exists()
    np.testing.assert_array_equal(store.ids[3:], np.arange(3, 20))  # row numbers serve
    np.testing.assert_array_equal(store.ids[[7, 2]], [7, 2])


@pytest.mark.parametrize("pieces", [1, 4])
def test_dask_frames(tmp_path, pieces):
    named = frame_of(50, pd.Index(names_of(50)))
    parts = dd.from_pandas(named, npartitions=pieces, sort=False)
    store = dr.create_store(str(tmp_path / "named.zarr"), parts, "kind")
    np.testing.assert_array_equal(store.ids[:], names_of(50))
    counted = dd.from_pandas(frame_of(50), npartitions=pieces)
    assert not dr.create_store(str(tmp_path / "counted.zarr"), counted, "kind").has_ids
    files = dd.concat([dd.from_pandas(frame_of(20), npartitions=1)] * pieces)
    assert not dr.create_store(str(tmp_path / "files.zarr"), files, "kind").has_ids
    kept = counted[counted["a"] > 0.3]
    store = dr.create_store(str(tmp_path / "kept.zarr"), kept, "kind")
    np.testing.assert_array_equal(store.ids[:], kept.compute().index)


@pytest.mark.parametrize("kind", ["pandas", "dask", "polars"])
def test_a_column_becomes_ids(tmp_path, kind):
    frame = frame_of(30).assign(patient=names_of(30))
    if kind == "dask":
        frame = dd.from_pandas(frame, npartitions=3)
    if kind == "polars":
        frame = pytest.importorskip("polars").from_pandas(frame)
    store = dr.create_store(str(tmp_path / "own.zarr"), frame, "kind", ids="patient")
    np.testing.assert_array_equal(store.ids[:], names_of(30))
    assert store.spec.feature_names == tuple("abcd")
    with pytest.raises(InvalidOptionError, match="nobody"):
        dr.create_store(str(tmp_path / "b.zarr"), frame, "kind", ids="nobody")


def test_ids_beside_arrays_in_memory_and_elsewhere():
    frame = frame_of(40)
    X, y = frame[list("abcd")].to_numpy(), frame["kind"].to_numpy(str)
    url = "memory://ids-beside.zarr"
    made = dr.create_store(url, X, y, ids=names_of(40))
    np.testing.assert_array_equal(dr.open_store(made.url).ids[10:30], names_of(40)[10:30])


@given(
    ids=st.lists(TEXTS, min_size=1, max_size=60) | st.lists(st.integers(-(2**63), 2**63 - 1),
                                                            min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=3),
    data=st.data(),
)  # fmt: skip
@settings(max_examples=25)
def test_what_goes_in_comes_out(tmp_path_factory, ids, cuts, data):
    url = str(tmp_path_factory.mktemp("ids") / "own.zarr")
    block, ends = block_of(len(ids), plain_ids(ids)), sorted({0, *cuts, len(ids)})
    first, *rest = (
        Block(*(part[a:b] for part in block)) for a, b in pairwise(ends) if a < len(ids)
    )
    store = creation.write_store(url, SPEC, [first])
    for piece in rest:
        store = dr.append_rows(store, [piece])
    assert store.ids[:].tolist() == ids
    rows = data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=9))
    assert ids_of(store.ids, [*rows, -1]).tolist() == [*(ids[k] for k in rows), None]


# -- appending ---------------------------------------------------------------------------------


def test_rows_are_appended_with_their_ids(tmp_path):
    store = creation.write_store(str(tmp_path / "own.zarr"), SPEC, [block_of(21, names_of(21))])
    store = dr.append_rows(store, [block_of(30, names_of(30, 21), 1)])
    np.testing.assert_array_equal(store.ids[:], names_of(51))
    with pytest.raises(InvalidDataError, match=r"row 51 .*no ids"):
        dr.append_rows(store, [block_of(9, None)])
    assert dr.open_store(store.url).rows == 51


def test_a_store_without_ids_keeps_none(tmp_path):
    store = creation.write_store(str(tmp_path / "own.zarr"), SPEC, [block_of(21, None)])
    store = dr.append_rows(store, [block_of(30, names_of(30), 1)])
    assert not store.has_ids
    assert store.rows == 51


def test_ids_of_another_kind_fit_where_nothing_is_lost(tmp_path):
    store = creation.write_store(str(tmp_path / "n.zarr"), SPEC, [block_of(8, np.arange(8))])
    store = dr.append_rows(store, [block_of(8, np.array(["8", "-9"] * 4, object), 1)])
    assert store.ids[-3:].tolist() == [-9, 8, -9]
    with pytest.raises(InvalidDataError, match="row 17 is '007'"):
        dr.append_rows(store, [block_of(2, np.array(["7", "007"], object))])
    text = creation.write_store(str(tmp_path / "t.zarr"), SPEC, [block_of(8, names_of(8))])
    assert dr.append_rows(text, [block_of(8, np.arange(8), 1)]).ids[-1:].tolist() == ["7"]


# -- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "wide", "int32", "given"])
def test_links(tmp_path, kind):
    frame, names = frame_of(40), names_of(40)
    values = {
        "text": names.astype(np.dtypes.StringDType()),
        "wide": names,
        "int32": np.arange(40, dtype=np.int32)[::-1].copy(),
        "given": names,
    }[kind]
    X, y = (
        zarr.array(v, store=str(tmp_path / f"{name}.zarr"), chunks=(7, *v.shape[1:]))
        for name, v in {"X": frame[list("abcd")].to_numpy(), "y": np.arange(40) % 2}.items()
    )
    ids = values
    if kind != "given":
        dtype = np.dtypes.StringDType() if kind == "wide" else values.dtype
        ids = zarr.create_array(str(tmp_path / "i.zarr"), shape=(40,), chunks=(7,), dtype=dtype)
        ids[:] = values
    store = dr.link_store(str(tmp_path / "own.zarr"), X, y, ids=ids)
    assert array_folder(store.url, "ids").exists() == (kind == "given")
    np.testing.assert_array_equal(store.ids[:], values)
    if kind != "given":
        ids[11] = ids[12]
        with pytest.raises(DamagedStoreError, match="changed after it was linked"):
            dr.open_store(store.url).ids[:]


# -- damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["text", "numbers"])
def damaged(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("flip") / "own.zarr"
    ids = names_of(40) if request.param == "text" else np.arange(40)[::-1]
    creation.write_store(str(path), SPEC, [block_of(40, ids)])
    folder = array_folder(path, "ids")
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix != ".json")
    return path, ids, [*files, folder.with_name("checksums.blob")]


@settings(max_examples=60)
@given(data=st.data())
def test_flipped_bits_are_noticed(damaged, data):
    path, ids, files = damaged
    file = data.draw(st.sampled_from(files))
    bit = data.draw(st.integers(0, 8 * file.stat().st_size - 1))
    with flipped(file, bit), pytest.raises(DamagedStoreError):
        dr.open_store(str(path)).ids[:]
    np.testing.assert_array_equal(dr.open_store(str(path)).ids[:], ids)


def test_missing_and_changed_chunks_are_noticed(damaged):
    path, _, files = damaged
    good = files[0].read_bytes()
    files[0].unlink()
    with pytest.raises(DamagedStoreError, match=r"ids'.* chunk 0 "):
        dr.verify_store(dr.open_store(str(path)))
    files[0].write_bytes(good)


# -- what is no id -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", None, "c"], "ids row 1 is missing"),
        ([1.0, float("nan")], "ids row 1 is missing"),
        (pd.Index([pd.Timestamp(0), pd.NaT]), "ids row 1 is missing"),
        (pd.array([1, None], "Int64"), "ids row 1 is missing"),
        (np.ma.array([1, 2], mask=[False, True]), "ids row 1 is missing"),
        (["a", "\ud800"], "ids row 1 .*no valid text"),
        (np.array([1, 2**64 - 1], np.uint64), "ids row 1 .*64 bits"),
        ([["a"], ["b"]], "shape"),
    ],
)
def test_what_is_no_id_is_refused(ids, message):
    with pytest.raises(InvalidDataError, match=message):
        plain_ids(ids)


def test_ids_as_long_as_the_data(tmp_path):
    frame = frame_of(6)
    with pytest.raises(InvalidDataError, match=r"ids have shape \(5,\), not \(6,\)"):
        dr.create_store(str(tmp_path / "own.zarr"), frame, "kind", ids=range(5))


@given(st.integers(-(2**63), 2**63 - 1))
@example(-(2**63))
def test_numbers_survive_as_text(number):
    ids = plain_ids([number])
    text = as_kept(ids, np.dtype(object))
    assert text.tolist() == [str(number)]
    assert as_kept(text, ids.dtype).tolist() == [number]
