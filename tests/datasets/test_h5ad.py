"""AnnData files, written here with h5py as anndata does since 0.8."""

import numpy as np
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli
from dskrobust.datasets import ReaderOptions, append, open_reader, reader
from dskrobust.datasets.splits import SplitOptions
from dskrobust.errors import DskrobustError, InvalidDataError, InvalidOptionError, SourceFileError
from dskrobust.store import Block

h5py = pytest.importorskip("h5py")

RNG = np.random.default_rng(0)
N = 40
X = RNG.random((N, 3), np.float32)
PCA = RNG.random((N, 2))
CELLS = np.array([("B", "T", "NK")[k % 3] for k in range(N)])
BATCH = np.array(["late"] * 25 + ["early"] * 15)


def text(values):
    return np.asarray(values).astype(object)


def encoded(item, kind):
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, "0.2.0"
    return item


def frame(file, name, index, order=()):
    group = encoded(file.create_group(name), "dataframe")
    group.attrs["_index"] = "_index"
    group.attrs["column-order"] = text(order) if order else np.zeros(0)
    encoded(group.create_dataset("_index", data=text(index)), "string-array")
    return group


def categorical(group, name, values, missing=()):
    known, codes = np.unique(values, return_inverse=True)
    codes[list(missing)] = -1
    made = encoded(group.create_group(name), "categorical")
    made.create_dataset("categories", data=text(known) if known.dtype.kind == "U" else known)
    made.create_dataset("codes", data=codes.astype(np.int8))


def nullable(group, name, values, missing=()):
    made = encoded(group.create_group(name), "nullable-integer")
    made.create_dataset("values", data=values)
    made.create_dataset("mask", data=np.isin(np.arange(N), missing))


def write(path, x=X, change=lambda file: None, rows=N):
    """Write an AnnData file; `change` does something to it at the end."""
    with h5py.File(path, "w") as file:
        encoded(file.create_dataset("X", data=x, chunks=True, compression="gzip"), "array")
        order = ("cell", "batch", "score", "n", "ok", "whole", "gap")
        obs = frame(file, "obs", [f"c{k}" for k in range(rows)], order)
        categorical(obs, "cell", CELLS)
        obs.create_dataset("batch", data=text(BATCH))
        obs.create_dataset("score", data=PCA[:, 0])
        obs.create_dataset("n", data=np.arange(N) % 4)
        obs.create_dataset("ok", data=np.arange(N) % 2 == 0)
        nullable(obs, "whole", np.arange(N) % 5)
        categorical(obs, "gap", CELLS, [11])
        frame(file, "var", ["g0", "g1", "g2"])
        file.create_dataset("obsm/X_pca", data=PCA)
        file.create_dataset("layers/counts", data=np.arange(3 * N).reshape(N, 3))
        change(file)
    return str(path)


def gather(source):
    """Return all rows of a reader as one block."""
    parts = zip(*source.blocks(), strict=True)
    return Block(*(None if part[0] is None else np.concatenate(part) for part in parts))


def test_an_anndata_file(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "BLOCK_ROWS", 7)
    options = ReaderOptions(target="cell", split="batch")
    source = open_reader(write(tmp_path / "own.h5ad"), options=options)
    assert max(len(block.labels) for block in source.blocks()) == 7
    block = gather(source)
    np.testing.assert_array_equal(block.features, X)
    assert block.features.dtype == np.float32
    assert [source.spec.classes[code] for code in block.labels] == CELLS.tolist()
    assert [source.spec.groups[code] for code in block.split] == BATCH.tolist()
    assert block.ids.tolist() == [f"c{k}" for k in range(N)]
    assert source.spec.feature_names == ("g0", "g1", "g2")
    assert source.spec.groups == ("late", "early")


@pytest.mark.parametrize(
    ("target", "kind", "expected"),
    [
        ("score", "real", PCA[:, 0]),
        ("n", "categorical", np.arange(N) % 4),
        ("ok", "categorical", np.arange(N) % 2 == 0),
        ("whole", "categorical", np.arange(N) % 5),
    ],
)
def test_columns_that_are_numbers(tmp_path, target, kind, expected):
    source = open_reader(write(tmp_path / "own.h5ad"), options=ReaderOptions(target=target))
    assert source.spec.label_kind == kind
    np.testing.assert_array_equal(gather(source).labels, expected)
    dr.ingest(str(tmp_path / "own.h5ad"), tmp_path / "own.zarr", target=target)


def raw(file):
    file.create_dataset("raw/X", data=np.zeros((N, 2)))
    frame(file, "raw/var", ["r0", "r1"])


@pytest.mark.parametrize(
    ("x", "names", "expected"),
    [
        ("layers/counts", ("g0", "g1", "g2"), np.arange(3 * N).reshape(N, 3)),
        ("obsm/X_pca", ("X_pca[0]", "X_pca[1]"), PCA),
        ("raw/X", ("r0", "r1"), np.zeros((N, 2))),
    ],
)
def test_other_matrices(tmp_path, x, names, expected):
    path = write(tmp_path / "own.h5ad", change=raw)
    source = open_reader(path, options=ReaderOptions(target="cell", x=x))
    assert source.spec.feature_names == names
    np.testing.assert_array_equal(gather(source).features, expected)


def test_rows_are_appended_and_a_dry_run_writes_nothing(tmp_path):
    path = write(tmp_path / "own.h5ad")
    store = dr.ingest(path, tmp_path / "own.zarr", target="cell", x="obsm/X_pca", split="batch")
    grown = append(store, path, split="batch")
    assert (grown.rows, grown.columns) == (2 * N, 2)
    assert grown.ids[N:].tolist() == grown.ids[:N].tolist()
    given = ["ingest", path, "--target", "cell", "--dry-run", "--out", str(tmp_path / "b.zarr")]
    told = CliRunner().invoke(cli.main, given).output
    assert "40 × 3: g0, g1, g2" in told
    assert not (tmp_path / "b.zarr").exists()


def test_a_split_is_drawn_by_a_column_of_obs(tmp_path):
    drawn = SplitOptions(test_size=0.4, group="batch")
    options = ReaderOptions(target="cell", drawn=drawn)
    source = open_reader(write(tmp_path / "own.h5ad"), options=options)
    block = gather(source)
    assert block.ids[3] == "c3"
    pairs = {(batch, code) for batch, code in zip(BATCH, block.split.tolist(), strict=True)}
    assert len(pairs) == 2
    assert source.spec.groups == ("train", "test")


def sparse(file):
    del file["X"]
    encoded(file.create_group("X"), "csr_matrix")


def only_sparse(file):
    sparse(file)
    del file["obsm"], file["layers"]


def no_obs(file):
    del file["obs"]


def old_obs(file):
    del file["obs"]
    file.create_dataset("obs", data=np.zeros(N, [("index", "S3"), ("cell", "S3")]))


def old_categories(file):
    file["obs"].create_group("__categories")


def twice(file):
    file["var/_index"][1] = "g0"


def wide(file):
    del file["var"]
    frame(file, "var", ["g0", "g1"])


def odd_column(file):
    del file["obs/cell"]
    encoded(file["obs"].create_group("cell"), "awkward-array")


def no_column(file):
    del file["obs/cell"]


def no_codes(file):
    del file["obs/cell/codes"]


def beyond(file):
    file["obs/cell/codes"][5] = 9


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        (sparse, {}, r"'X' .*is sparse \(csr_matrix\), dense ones are layers/counts, obsm/X_pca; "),
        (only_sparse, {}, r"dense ones are none; name one with x=NAME, or write it dense"),
        (None, {"x": "layers/q"}, "no dense matrix 'layers/q' but X, layers/counts, obsm/X_pca"),
        (None, {"target": None}, "which column of obs holds the labels.*cell, batch, score"),
        (None, {"target": "q"}, r"obs of .* has no column 'q' \(option target\) but cell, batch"),
        (None, {"split": "q"}, r"has no column 'q' \(option split\)"),
        (None, {"target": "gap"}, "column 'gap' of obs of .*: row 11 has no value"),
        (None, {"drop": "g0"}, r"option drop=.* means nothing to an .h5ad file"),
        (None, {"scale": "standard"}, "takes a factor"),
        (no_obs, {}, "is no AnnData file: it has no obs but X"),
        (old_obs, {}, "is not as anndata writes it since 0.8; read the file with"),
        (old_categories, {}, "is not as anndata writes it since 0.8"),
        (twice, {}, r"var of .* has the name 'g0' twice; .*var_names_make_unique"),
        (wide, {}, "has 3 columns, var names 2"),
        (odd_column, {}, "column 'cell' of obs of .* has the encoding 'awkward-array'"),
        (no_column, {}, "column 'cell' of obs of .* is missing"),
        (no_codes, {}, "column 'cell' of obs of .* lacks a part"),
        (beyond, {}, "row 5 is beyond its 3 categories"),
    ],
)
def test_what_is_refused(tmp_path, change, given, message):
    path = write(tmp_path / "own.h5ad", change=change or (lambda file: None))
    with pytest.raises((InvalidDataError, InvalidOptionError, SourceFileError), match=message):
        gather(open_reader(path, options=ReaderOptions(**{"target": "cell", **given})))


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "own.h5ad"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceFileError, match=r"own\.h5ad cannot be read as an HDF5 file.*trunc"):
        open_reader(str(path), options=ReaderOptions(target="cell"))
    write(path, rows=N - 1)
    with pytest.raises(DskrobustError, match="they must be equally long"):
        open_reader(str(path), options=ReaderOptions(target="cell"))


def test_a_file_of_the_library(tmp_path):
    anndata = pytest.importorskip("anndata")
    pandas = pytest.importorskip("pandas")
    obs = pandas.DataFrame({"cell": pandas.Categorical(CELLS)}, index=[f"c{k}" for k in range(N)])
    made = anndata.AnnData(X, obs, pandas.DataFrame(index=["g0", "g1", "g2"]))
    made.write_h5ad(tmp_path / "own.h5ad")
    source = open_reader(str(tmp_path / "own.h5ad"), options=ReaderOptions(target="cell"))
    block = gather(source)
    np.testing.assert_array_equal(block.features, X)
    assert [source.spec.classes[code] for code in block.labels] == CELLS.tolist()
    assert block.ids.tolist() == list(made.obs_names)
