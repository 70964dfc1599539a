"""Sources that workers read: the same stores as of one process, and none of the rows read here."""

from functools import partial

import dask
import numpy as np
import pyarrow as pa
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import feather, parquet

import dskrobust as dr
from dskrobust import cli
from dskrobust.datasets import open_reader
from dskrobust.datasets.columnar import ColumnarFile
from dskrobust.datasets.places import Place
from dskrobust.datasets.reader import ReaderOptions, StreamReader
from dskrobust.errors import InvalidDataError, SourceFileError, StoreError
from dskrobust.store import Layout, creation, writing, written

ROWS, COLUMNS = 9_000, 40
UNIT = 256  # rows


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A source of every kind that has parts, and how it is read."""
    folder = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    y = rng.integers(0, 3, ROWS)
    columns = {f"c{k}": X[:, k] for k in range(COLUMNS)}
    table = pa.table({**columns, "label": np.array(["a", "b", "c"])[y], "id": np.arange(ROWS)})
    for number, (lo, hi) in enumerate([(0, 5_001), (5_001, ROWS)]):
        part = folder / "parts" / f"half={number}"
        part.mkdir(parents=True)
        parquet.write_table(table.slice(lo, hi - lo), part / "p.parquet", row_group_size=1_700)
    feather.write_feather(table, folder / "t.feather", chunksize=700)
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for k in range(30):
            pixels = rng.integers(0, 256, (8, 9), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{k:02}.png")
    group = zarr.open_group(folder / "arrays.zarr")
    arrays = {"X": X, "y": y.astype(np.float64) / 2, "s": y % 2}
    made = {
        k: group.create_array(k, data=v, chunks=(1_000, *v.shape[1:])) for k, v in arrays.items()
    }
    named = {"target": "label", "id": "id"}
    return {
        "Parquet": partial(dr.ingest, str(folder / "parts"), split="half", **named),
        "Arrow": partial(dr.ingest, str(folder / "t.feather"), scale="standard", **named),
        "npy": partial(dr.ingest, str(folder / "X.npy"), y="y.npy", test_size=0.3, stratify=True),
        "images": partial(dr.ingest, str(folder / "photos")),
        "Zarr": lambda out: dr.create_store(out, made["X"], made["y"], made["s"]),
        "links": lambda out: dr.link_store(out, made["X"], made["y"], made["s"]),
    }  # fmt: skip


@pytest.fixture
def many_writes(monkeypatch):
    """Let a write have few rows, so that there are many."""
    monkeypatch.setattr(Layout, "unit_rows", UNIT)
    monkeypatch.setattr(writing, "UNITS_PER_WRITE", 1)


def facts(store):
    """What a store is, but for where its segments lie."""
    spec, summary = store.spec, store.summary
    sums = summary.column_sum.tobytes(), summary.largest_feature, dict(summary.groups)
    rows = store.features[:].tobytes(), store.labels[:].tobytes(), store.split_codes[:].tobytes()
    ids = list(store.ids[:]) if store.has_ids else None
    return [store.segments[0], spec.classes, spec.groups, spec.decisions, sums, rows, ids]


@pytest.mark.parametrize("kind", ["Parquet", "Arrow", "npy", "images", "Zarr", "links"])
def test_stores_are_those_of_one_process(kind, sources, tmp_path, many_writes, monkeypatch):
    one = sources[kind](tmp_path / "one.zarr")
    read = []
    with dask.config.set(scheduler="threads"), monkeypatch.context() as patch:
        patch.setattr("dskrobust.datasets.opening.shares_process", lambda: False)
        patch.setattr("dskrobust.store.from_arrays.shares_process", lambda: False)
        real = creation.by_workers
        for module in ("creation", "from_arrays"):
            patch.setattr(
                f"dskrobust.store.{module}.by_workers",
                lambda tasks, *more: read.append(len(tasks)) or real(tasks, *more),
            )
        many = sources[kind](tmp_path / "many.zarr")
    assert read
    assert read[0] == -(-one.rows // UNIT)
    assert facts(one) == facts(many)


@pytest.mark.parametrize("kind", ["Parquet", "images", "Zarr", "links"])
def test_this_process_writes_no_rows(kind, sources, tmp_path, client, monkeypatch):
    def nobody(*args):
        raise AssertionError("rows are written here")

    monkeypatch.setattr(writing.SegmentWriter, "write", nobody)  # here, not in the workers
    store = sources[kind](tmp_path / "s.zarr")
    assert store.rows == (60 if kind == "images" else ROWS)


@given(cuts=st.lists(st.integers(0, ROWS), min_size=2, max_size=2).map(sorted))
@pytest.mark.parametrize("kind", ["Parquet", "Arrow", "npy"])
def test_parts_are_the_rows_between(kind, cuts, sources):
    given = sources[kind]
    reader = open_reader(*given.args, options=ReaderOptions.of(None, given.keywords))
    assert isinstance(reader, StreamReader)
    lo, hi = cuts
    if lo == hi:
        return
    whole, part = list(reader.blocks()), list(reader.part(lo, hi)())
    for k in range(3):
        every, some = (np.concatenate([block[k] for block in blocks]) for blocks in (whole, part))
        np.testing.assert_array_equal(some, every[lo:hi])


def test_a_part_reads_only_its_row_groups(tmp_path):
    table = pa.table({"a": np.arange(1_000.0), "y": np.arange(1_000) % 2})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=100)
    file = ColumnarFile.open(Place.of(tmp_path / "t.parquet"))
    damaged = bytearray((tmp_path / "t.parquet").read_bytes())
    chunk = parquet.read_metadata(tmp_path / "t.parquet").row_group(0).column(0)
    start = chunk.data_page_offset
    damaged[start : start + 20] = bytes(20)
    (tmp_path / "t.parquet").write_bytes(damaged)
    part = file.part(350, 420)
    rows = np.concatenate([batch.column("a") for batch in part.batches({"a": pa.float64()})])
    assert rows.tolist() == list(range(350, 420))
    with pytest.raises(SourceFileError):
        list(file.batches({"a": pa.float64()}))


def test_a_fault_names_its_row_in_the_file(tmp_path, many_writes, monkeypatch):
    values = np.arange(2_000.0)
    values[1_500] = np.inf
    parquet.write_table(pa.table({"a": values, "y": np.arange(2_000) % 2}), tmp_path / "t.parquet")
    monkeypatch.setattr("dskrobust.datasets.opening.shares_process", lambda: False)
    with pytest.raises(InvalidDataError, match="row 1500 of column 'a'"):
        dr.ingest(str(tmp_path / "t.parquet"), tmp_path / "s.zarr", prepare="none")
    assert not (tmp_path / "s.zarr").exists()


def test_an_array_that_a_worker_does_not_see_is_no_array_of_zeros(tmp_path, monkeypatch):
    X = zarr.create_array(tmp_path / "X", data=np.ones((50, 3)), chunks=(10, 3))
    y = zarr.create_array(tmp_path / "y", data=np.arange(50) % 2, chunks=(50,))
    monkeypatch.setattr("dskrobust.store.from_arrays.shares_process", lambda: False)
    (tmp_path / "X").rename(tmp_path / "elsewhere")  # as on another host
    with pytest.raises(StoreError, match=r"is not there on .* where a worker reads it"):
        dr.create_store(tmp_path / "s.zarr", X, y)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 255, 256, 257, 300])
def test_sums_are_folded_in_the_same_tree(count):
    from dask.delayed import delayed

    rng = np.random.default_rng(count)

    def block(k):
        return dr.store.Block(
            rng.standard_normal((2, 3)) * 10.0 ** (k % 7), np.zeros(2), np.zeros(2, np.int16)
        )

    parts = [written.record_rows(2 * k, block(k), 1) for k in range(count)]
    one = written.fold(iter(parts))
    with dask.config.set(scheduler="sync"):
        many = creation.by_workers([delayed(part) for part in parts])
    assert one.summary.column_sum.tobytes() == many.summary.column_sum.tobytes()
    assert one.digests == many.digests == tuple(d for part in parts for d in part.digests)
    assert one.summary.rows == 2 * count
    np.testing.assert_array_equal(one.checksums, many.checksums)


@pytest.mark.cluster
def test_the_command_line_reads_by_workers(tmp_path, monkeypatch):
    from click.testing import CliRunner

    np.save(tmp_path / "X.npy", np.random.default_rng(0).standard_normal((3_000, 5)))
    np.save(tmp_path / "y.npy", np.arange(3_000) % 2)
    monkeypatch.chdir(tmp_path)
    words = [
        "ingest",
        "X.npy",
        "--y",
        "y.npy",
        "--out",
        "s.zarr",
        "--no-dashboard",
        "--threads",
        "1",
    ]
    small = CliRunner().invoke(cli.main, [*words, "--workers", "1", "--memory-limit", "100MiB"])
    assert small.exit_code == 1
    assert "a worker holds up to" in small.stderr
    assert not (tmp_path / "s.zarr").exists()
    done = CliRunner().invoke(cli.main, [*words, "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert dr.open_store("s.zarr").rows == 3_000
