"""xarray's collections as sources of data.

xarray is in no extra: where it is installed, Dask imports it in every worker, which costs 75 MiB.
`pip install xarray` runs these tests.
"""

import dask.array as da
import numpy as np
import pytest

import dskrobust as dr
from dskrobust.datasets import take
from dskrobust.errors import InvalidDataError, InvalidOptionError

xarray = pytest.importorskip("xarray")

RNG = np.random.default_rng(0)
N = 40
X = RNG.random((N, 3))
NAMES = np.array([("cat", "dog", "owl")[k % 3] for k in range(N)])
SPLIT = np.array(["train"] * 30 + ["test"] * 10)


def columns():
    values = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "kind": NAMES, "fold": SPLIT}
    return xarray.Dataset({name: ("sample", value) for name, value in values.items()})


def test_variables_are_columns(tmp_path):
    store = dr.create_store(tmp_path / "a.zarr", columns(), "kind", "fold")
    np.testing.assert_array_equal(store.features[:], X)
    assert store.spec.classes == ("cat", "dog", "owl")
    assert store.split.tolist() == SPLIT.tolist()
    assert store.spec.feature_names == ("a", "b", "c")
    expected = dr.sample_robustness(X, NAMES, SPLIT).compute(scheduler="threads").robustness
    for data, y in ((columns(), "kind"), (columns().drop_vars("kind"), NAMES)):
        found = dr.sample_robustness(data, y, "fold").compute(scheduler="threads")
        np.testing.assert_array_equal(found.robustness, expected)


@pytest.mark.parametrize("chunks", [None, 7])
def test_images_in_xarray(tmp_path, chunks):
    images = RNG.integers(0, 255, (N, 6, 5, 3), dtype=np.uint8)
    data = xarray.Dataset(
        {
            "images": (("x", "y", "channel", "time"), np.moveaxis(images, 0, -1)),
            "label": ("time", NAMES),
        },
        coords={"fold": ("time", SPLIT)},
    )  # fmt: skip
    data = data if chunks is None else data.chunk({"time": chunks, "x": 2})
    store = dr.create_store(tmp_path / "a.zarr", data, "label", "fold")
    np.testing.assert_array_equal(store.features[:], np.moveaxis(images, -1, 1).reshape(N, -1))
    assert store.spec.image_shape == (3, 6, 5)
    assert store.split.tolist() == SPLIT.tolist()


def test_a_data_array_with_coordinates():
    data = xarray.DataArray(X, dims=("n", "d"), coords={"kind": ("n", NAMES)})
    expected = dr.sample_robustness(X, NAMES).compute(scheduler="threads").robustness
    for y in ("kind", NAMES, data["kind"]):
        found = dr.sample_robustness(data, y).compute(scheduler="threads")
        np.testing.assert_array_equal(found.robustness, expected)
    with pytest.raises(InvalidOptionError, match="DataArray has no coordinate 'sort'"):
        dr.sample_robustness(data, "sort")


def test_lazy_variables_are_read_in_blocks(ranges_read):
    rows = take(columns().drop_vars("fold"), "kind").X
    read = ranges_read(rows)
    options = dr.RunOptions(block_rows=10)
    dr.sample_robustness(rows, NAMES, options=options).compute(scheduler="sync")
    assert read
    assert max(hi - lo for lo, hi in read) <= 10


@pytest.mark.parametrize(
    ("data", "y", "error", "message"),
    [
        (columns(), "sort", InvalidOptionError, r"has no variable 'sort' \(option y\) but a,"),
        (columns()[["kind"]], "kind", InvalidDataError, "no features along 'sample'"),
        (columns(), "kind", InvalidDataError, "variable 'fold' has dtype .*, not numbers"),
        (xarray.Dataset(), NAMES, InvalidDataError, "the Dataset has no variables"),
    ],
)
def test_what_is_not_there_is_named(data, y, error, message):
    with pytest.raises(error, match=message):
        dr.sample_robustness(data, y)


def test_chunked_arrays_stay_lazy(raise_if_dask_computes):
    data = xarray.DataArray(da.from_array(X, chunks=(7, 2)), dims=("n", "d"))
    with raise_if_dask_computes():
        taken = take(data, NAMES)
        assert isinstance(taken.X, da.Array)
        dr.sample_robustness(data, NAMES)
    np.testing.assert_array_equal(taken.X.compute(), X)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("other", [X[:, 0], np.arange(N)])
def test_whole_numbers_beside_others_are_not_rounded(lazy, other):
    big = np.uint64(2**53 + 1) + np.arange(N).astype(np.uint64)
    data = xarray.Dataset({"id": ("row", big), "b": ("row", other)})
    with pytest.raises(InvalidDataError, match=r"variable 'id' has the value \d+, which float64"):
        dr.sample_robustness(data.chunk({"row": 7}) if lazy else data, np.arange(N) % 2).compute()
