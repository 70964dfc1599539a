"""HDF5 files, folders of images, and frames and collections in memory as sources of data."""

import sys

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import cli
from dskrobust.datasets import ReaderOptions, append, open_reader, reader, take
from dskrobust.datasets.image_folder import folder_content
from dskrobust.errors import InvalidDataError, InvalidOptionError, SourceFileError
from dskrobust.store import Block

h5py = pytest.importorskip("h5py")
polars = pytest.importorskip("polars")
Image = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(0)
N = 40
X = RNG.random((N, 3))
NAMES = np.array([("cat", "dog", "owl")[k % 3] for k in range(N)])
SPLIT = np.array(["train"] * 30 + ["test"] * 10)


def gather(source):
    """Return all rows of a reader as one block."""
    fields = zip(*source.blocks(), strict=True)
    return Block(*(None if parts[0] is None else np.concatenate(parts) for parts in fields))


# -- HDF5 --------------------------------------------------------------------------------------


def write_hdf5(path, **data_sets):
    with h5py.File(path, "w") as file:
        for name, values in data_sets.items():
            values = np.asarray(values)
            text = values.dtype.kind == "U"
            file.create_dataset(
                name.replace("__", "/"), data=values.astype(object) if text else values
            )
    return str(path)


@pytest.mark.parametrize("end", ["h5", "hdf5"])
def test_hdf5(tmp_path, monkeypatch, end):
    monkeypatch.setattr(reader, "BLOCK_ROWS", 7)
    path = write_hdf5(tmp_path / f"own.{end}", X=X, y=NAMES, fold=SPLIT)
    source = open_reader(path, options=ReaderOptions(split="fold"))
    assert [len(block.labels) for block in source.blocks()] == [7] * 5 + [5]
    block = gather(source)
    np.testing.assert_array_equal(block.features, X)
    assert [source.spec.classes[code] for code in block.labels] == NAMES.tolist()
    assert source.spec.groups == ("train", "test")
    assert block.split.tolist() == [0] * 30 + [1] * 10
    assert source.spec.provenance["files"][0]["name"] == f"own.{end}"


def test_hdf5_with_paths_and_images(tmp_path):
    images = RNG.integers(0, 255, (N, 6, 5, 3), dtype=np.uint8)
    path = write_hdf5(tmp_path / "a.h5", train__images=images, train__labels=np.arange(N) % 4)
    source = open_reader(path, options=ReaderOptions(x="train/images", y="train/labels"))
    assert source.spec.image_shape == (3, 6, 5)
    expected = np.moveaxis(images, -1, 1).reshape(N, -1)
    np.testing.assert_array_equal(gather(source).features, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": "features"}, "has no data set 'features' but X, group/z, short, y; name"),
        ({"x": "group"}, "has no data set 'group'"),
        ({"y": "short"}, r"X' of .* has 40 rows, data set '/short' of .* 39"),
        ({"target": "y"}, "option target='y' means nothing to an HDF5 file"),
    ],
)
def test_bad_hdf5_files_are_refused(tmp_path, given, message):
    path = write_hdf5(tmp_path / "a.h5", X=X, y=NAMES, short=np.arange(N - 1), group__z=X)
    with pytest.raises((SourceFileError, InvalidDataError, InvalidOptionError), match=message):
        open_reader(path, options=ReaderOptions(**given))


def test_what_is_no_hdf5_file_is_refused(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"nothing")
    with pytest.raises(SourceFileError, match=r"a\.h5 cannot be read as an HDF5 file"):
        open_reader(str(tmp_path / "a.h5"))
    with pytest.raises(SourceFileError, match=r"there is no file .*b\.h5"):
        open_reader(str(tmp_path / "b.h5"))


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    path = write_hdf5(tmp_path / "a.h5", X=X, y=NAMES)
    folder = save_images(tmp_path / "images")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SourceFileError, match=r"needs h5py: pip install 'dskrobust\[formats\]'"):
        open_reader(path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(SourceFileError, match=r"needs Pillow: pip install"):
        open_reader(str(folder))


def test_hdf5_rows_are_appended(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", features=X, animal=NAMES)
    store = dr.ingest(path, tmp_path / "a.zarr", x="features", y="animal")
    grown = append(store, path)  # names are those of the first file
    assert grown.rows == 2 * N
    np.testing.assert_array_equal(grown.features[N:], X)


# -- folders of images ---------------------------------------------------------------------------


def save_images(folder, groups=("train", "test"), size=(6, 5), grey=False, count=3):
    """Write `count` images per group and class; without groups, classes lie in the folder."""
    rng = np.random.default_rng(1)
    for group in groups or ("",):
        for name in ("owl", "cat"):
            (folder / group / name).mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 255, size if grey else (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / group / name / f"{k}.png")
    return folder


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("groups", [("test", "train"), ()])
def test_a_folder_of_images(tmp_path, monkeypatch, groups, grey):
    monkeypatch.setattr(reader, "BLOCK_ROWS", 5)
    folder = save_images(tmp_path / "animals", groups, grey=grey)
    (folder / "read.me").write_text("not an image")
    source = open_reader(str(folder))
    assert max(len(block.labels) for block in source.blocks()) == 5
    block, files = gather(source), list(folder_content(folder).images)
    spec = source.spec
    assert (spec.name, spec.classes, spec.scale) == ("animals", ("cat", "owl"), 1 / 255)
    assert spec.groups == (("train", "test") if groups else ("all",))
    assert spec.image_shape == ((6, 5) if grey else (3, 6, 5))
    assert source.rows == len(files) == len(block.labels) == (12 if groups else 6)
    for row, file in enumerate(files):
        values = np.asarray(Image.open(file.path))
        values = values if grey else np.moveaxis(values, -1, 0)
        np.testing.assert_array_equal(block.features[row], values.ravel())
        assert spec.classes[block.labels[row]] == file.label == file.path.parent.name
        assert spec.groups[block.split[row]] == file.group
    assert spec.provenance["images"] == len(files)


def test_grey_images_among_coloured_ones(tmp_path):
    folder = save_images(tmp_path / "a")
    Image.new("L", (5, 6), 7).save(folder / "train" / "cat" / "0.png")
    Image.new("RGBA", (5, 6), (1, 2, 3, 255)).save(folder / "train" / "cat" / "1.png")
    features = gather(open_reader(str(folder))).features
    assert features[0].tolist() == [7] * 90
    assert features[1].tolist() == [1] * 30 + [2] * 30 + [3] * 30


def drop_classes(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def empty_class(folder):
    (folder / "train" / "dog").mkdir()


def mixed_depth(folder):
    (folder / "dog").mkdir()


def other_size(folder):
    Image.new("RGB", (6, 6)).save(folder / "test" / "owl" / "2.png")


def deep(folder):
    Image.new("I;16", (5, 6)).save(folder / "test" / "owl" / "2.png")


def transparent(folder):
    Image.new("RGBA", (5, 6), (1, 2, 3, 100)).save(folder / "test" / "owl" / "2.png")


def broken(folder):
    (folder / "test" / "owl" / "2.png").write_bytes(b"nothing")


def cut(folder):
    path = folder / "test" / "owl" / "2.png"
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_classes, "has no sub-folders; put images into one per class"),
        (empty_class, r"train/dog holds no images \(\.png"),
        (mixed_depth, "dog has no sub-folders, but test has"),
        (other_size, r"owl/2\.png has 6 × 6 pixels, .*train/cat/0\.png has 6 × 5; resize"),
        (deep, r"owl/2\.png has pixels of the mode I;16"),
        (transparent, r"owl/2\.png has transparent pixels"),
        (broken, r"owl/2\.png cannot be read as an image"),
        (cut, r"owl/2\.png cannot be read as an image"),
    ],
)
def test_bad_folders_are_refused(tmp_path, change, message):
    folder = save_images(tmp_path / "a")
    change(folder)
    with pytest.raises((SourceFileError, InvalidDataError), match=message) as caught:
        gather(open_reader(str(folder)))
    assert "\n" not in str(caught.value)


def test_the_commands_take_files_and_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path / "animals")
    write_hdf5("own.h5", X=X, y=NAMES)
    for arguments, name in (
        (["animals"], "animals"),
        (["own.h5"], "own"),
        (["./animals", "--overwrite"], "animals"),
    ):
        result = CliRunner().invoke(cli.main, ["ingest", *arguments])
        assert result.exit_code == 0, result.output
        assert dr.open_store(f"{name}.zarr").rows in (12, N)


# -- frames --------------------------------------------------------------------------------------

COLUMNS = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "kind": NAMES, "fold": SPLIT}


def as_pandas():
    return pd.DataFrame(COLUMNS, index=np.arange(N) + 100)


def as_categories():
    return as_pandas().astype({"kind": "category", "fold": "category"})


def as_polars():
    return polars.DataFrame(COLUMNS).with_columns(polars.col("fold").cast(polars.Categorical))


def as_arrow():
    return pa.table(COLUMNS)


def as_dask():
    return dd.from_pandas(as_pandas(), npartitions=3)


FRAMES = [as_pandas, as_categories, as_polars, as_arrow, as_dask]


@pytest.mark.parametrize("make", FRAMES)
def test_a_frame_becomes_a_store(tmp_path, make):
    store = dr.create_store(tmp_path / "a.zarr", make(), "kind", "fold")
    np.testing.assert_array_equal(store.features[:], X)
    assert [store.spec.classes[code] for code in store.labels[:]] == NAMES.tolist()
    assert store.split.tolist() == SPLIT.tolist()
    assert store.spec.feature_names == ("a", "b", "c")
    assert (store.spec.name, store.spec.label_kind) == ("a.zarr", "categorical")


@pytest.mark.parametrize("make", FRAMES)
def test_a_frame_is_scored(make):
    expected = dr.sample_robustness(X, NAMES, SPLIT).compute(scheduler="threads")
    found = dr.sample_robustness(make(), "kind", "fold").compute(scheduler="threads")
    np.testing.assert_array_equal(found.robustness, expected.robustness)
    assert set(found.to_frame()["label"]) == {"cat", "dog", "owl"}
    drop = {as_arrow: "drop_columns", as_polars: "drop"}
    frame = make()
    frame = getattr(frame, drop[make])("kind") if make in drop else frame.drop(columns="kind")
    beside = dr.sample_robustness(frame, NAMES, "fold").compute(scheduler="threads")
    np.testing.assert_array_equal(beside.robustness, expected.robustness)


@settings(max_examples=15)
@given(
    dtypes=st.lists(st.sampled_from(["bool", "int8", "uint16", "int64", "float32", "float64"]),
                    min_size=1, max_size=4),
    rows=st.integers(2, 30),
    parts=st.integers(1, 4),
    data=st.data(),
)  # fmt: skip
def test_columns_keep_their_values_whatever_the_frame(dtypes, rows, parts, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    columns = {f"x{k}": rng.integers(0, 100, rows).astype(t) for k, t in enumerate(dtypes)}
    wide = np.stack(list(columns.values()), axis=1)
    frame = pd.DataFrame({**columns, "y": np.arange(rows)})
    kinds = [frame, polars.from_pandas(frame), dd.from_pandas(frame, npartitions=parts)]
    for made in kinds:
        taken = take(made, "y")
        features = np.asarray(taken.X)
        np.testing.assert_array_equal(features, wide)
        assert features.dtype == (
            np.uint8
            if wide.dtype == bool
            else np.result_type(*(np.uint8 if t == "bool" else t for t in dtypes))
        )
        np.testing.assert_array_equal(taken.y, np.arange(rows))
        lo = data.draw(st.integers(0, rows - 1))
        np.testing.assert_array_equal(np.asarray(taken.X[lo:]), wide[lo:])


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (np.arange(N) % 3, "categorical"),
        (np.arange(N) % 2 == 0, "categorical"),
        (np.linspace(0, 1, N), "real"),
        (pd.array(np.arange(N) % 3, dtype="Int64"), "categorical"),
        (pd.Categorical(np.arange(N) % 3), "categorical"),
    ],
)
def test_labels_of_a_frame(tmp_path, labels, kind):
    frame = pd.DataFrame({"a": X[:, 0], "y": labels})
    store = dr.create_store(tmp_path / "a.zarr", frame, "y")
    assert store.spec.label_kind == kind
    np.testing.assert_array_equal(store.labels[:], np.asarray(labels).astype(float))


def missing(frame):
    frame["kind"] = frame["kind"].mask(frame["a"] == frame["a"].iloc[4])


def missing_number(frame):
    frame["b"] = pd.array([1, 2, None, *range(N - 3)], dtype="Int64")


def text_column(frame):
    frame["b"] = "x"


def nan(frame):
    frame.loc[103, "b"] = np.nan


def mixed(frame):
    frame["b"] = [1, "x"] * (N // 2)


def large(frame):
    frame["b"] = 2**60 + np.arange(N)


def twice():
    return as_pandas().set_axis(list("aacde"), axis=1)


@pytest.mark.parametrize("partitions", [0, 3])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, r"column 'kind' has no value in 1 of 40 rows \(row 4\)"),
        (missing_number, "row 2 has no value in column 'b'"),
        (text_column, "column 'b' holds .*string, not numbers; drop it or encode it first"),
        (nan, "features row 3, column 1 is nan"),
        (large, "column 'b' has the value 11529215046068"),
    ],
)
def test_bad_frames_are_refused(tmp_path, change, message, partitions):
    frame = as_pandas().astype({"b": object if change is mixed else float})
    change(frame)
    if change is missing_number:
        frame = frame.astype({"a": "int64", "c": "int64"})
    made = dd.from_pandas(frame, npartitions=partitions) if partitions else frame
    with pytest.raises(InvalidDataError, match=message) as caught:
        dr.create_store(tmp_path / "a.zarr", made, "kind", "fold")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize(
    ("make", "y", "error", "message"),
    [
        (as_pandas, "sort", InvalidOptionError, r"frame has no column 'sort' \(option y\) but a"),
        (as_dask, "sort", InvalidOptionError, "the Dask frame has no column 'sort'"),
        (lambda: X, "kind", InvalidOptionError, "y='kind' names a column, but X is .* ndarray"),
        (lambda: as_polars().lazy(), "kind", InvalidOptionError, r"LazyFrame; collect\(\) it"),
        (lambda: as_pandas()[["kind"]], "kind", InvalidDataError, "no columns besides the labels"),
        (twice, "d", InvalidDataError, "two columns of the frame are called 'a'"),
        (lambda: as_pandas().assign(b=[1, "x"] * 20), "kind", InvalidDataError, "mixed types"),
        (lambda: as_pandas()[["a", "kind"]][:0], "kind", InvalidDataError, "no rows"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(make, y, error, message):
    with pytest.raises(error, match=message):
        dr.sample_robustness(make(), y)


# -- data sets of HDF5 -----------------------------------------------------------------------------


def test_hdf5_data_sets(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", X=X, y=NAMES, fold=SPLIT)
    expected = dr.sample_robustness(X, NAMES, SPLIT).compute(scheduler="threads").robustness
    with h5py.File(path) as file:
        found = dr.sample_robustness(file["X"], file["y"], file["fold"])
        store = dr.create_store(tmp_path / "a.zarr", file["X"], file["y"], file["fold"])
    np.testing.assert_array_equal(found.compute(scheduler="threads").robustness, expected)
    np.testing.assert_array_equal(store.features[:], X)
    assert store.spec.classes == ("cat", "dog", "owl")


def test_lazy_rows_are_read_in_blocks(tmp_path, ranges_read):
    path = write_hdf5(tmp_path / "a.h5", X=X)
    with h5py.File(path) as file:
        rows = take(file["X"], NAMES).X
    read = ranges_read(rows)
    options = dr.RunOptions(block_rows=10)
    dr.sample_robustness(rows, NAMES, options=options).compute(scheduler="sync")
    assert read
    assert max(hi - lo for lo, hi in read) <= 10


def test_a_group_of_hdf5_is_no_data_set(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", X=X)
    with h5py.File(path) as file, pytest.raises(InvalidOptionError, match="is no data set"):
        dr.sample_robustness(file, NAMES)


def test_worker_processes_read_lazy_rows(client, tmp_path):
    path = write_hdf5(tmp_path / "a.h5", X=X)
    expected = dr.sample_robustness(X, NAMES).compute(scheduler="threads").robustness
    with h5py.File(path) as file:
        scores = dr.sample_robustness(file["X"], NAMES)
    np.testing.assert_array_equal(scores.compute().robustness, expected)


@pytest.mark.parametrize("form", ["npz", "h5"])
@pytest.mark.parametrize("empty", ["y", "fold"])
def test_empty_text_is_no_label_and_no_group(tmp_path, form, empty):
    arrays = {"X": np.eye(4), "y": np.array(list("abab")), "fold": np.array(list("uuvv"))}
    arrays[empty][2] = ""
    path = tmp_path / f"own.{form}"
    if form == "npz":
        np.savez(path, **arrays)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values if name == "X" else values.astype("S")
    with pytest.raises(InvalidDataError, match="row 2 has no value"):
        dr.ingest(str(path), tmp_path / "own.zarr", split="fold")


def test_a_data_set_is_found_from_another_folder(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    X, y = np.random.default_rng(0).normal(size=(8, 2)), np.arange(8) % 2
    with h5py.File("own.h5", "w") as file:
        file["X"] = X
    with h5py.File("own.h5") as file:
        scores = dr.sample_robustness(file["X"], y)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    np.testing.assert_array_equal(
        scores.compute().reach, dr.sample_robustness(X, y).compute().reach
    )


def test_names_of_an_enumeration_are_classes(tmp_path):
    h5py = pytest.importorskip("h5py")
    path, kind = tmp_path / "own.h5", h5py.enum_dtype({"cat": 3, "dog": 1}, basetype="i1")
    with h5py.File(path, "w") as file:
        file["X"] = np.arange(4.0)[:, None]
        file.create_dataset("y", data=np.array([3, 1, 1, 3], "i1"), dtype=kind)
        file.create_dataset("odd", data=np.array([3, 1, 2, 3], "i1"), dtype=kind)
        made = dr.create_store(str(tmp_path / "made.zarr"), file["X"], file["y"])
    for store in (made, dr.ingest(str(path), str(tmp_path / "read.zarr"))):
        assert store.spec.classes == ("cat", "dog")
        assert store.labels[:].tolist() == [0, 1, 1, 0]
    with pytest.raises(InvalidDataError, match="row 2 is 2, which its enumeration does not name"):
        dr.ingest(str(path), str(tmp_path / "odd.zarr"), y="odd")
