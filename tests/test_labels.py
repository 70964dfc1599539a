"""Spellings of one truth value are one class, through every door."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr

import dskrobust as dr
from dskrobust.errors import InvalidDataError
from dskrobust.labels import one_spelling

X = np.arange(6.0)[:, None]
MIXED = ["True", "TRUE", "False", "false", "FALSE", "true"]
CODES = [1, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (["True", "TRUE", "no way"], ["True", "True", "no way"]),
        (["TRUE", "FALSE"], ["TRUE", "FALSE"]),
        (["yes", "Yes ", "NO"], ["Yes", "Yes", "No"]),
        (["a", "A", "0", " 0"], ["a", "A", "0", " 0"]),
        (["true", "yes", "maybe"], ["true", "yes", "maybe"]),
    ],
)
def test_spellings_of_truth(names, called):
    assert list(one_spelling(names, "y").values()) == called


@pytest.mark.parametrize("names", [["True", "yes"], ["1", "true", "0"], ["False", "no", "yes"]])
def test_truth_in_two_words_is_refused(names):
    with pytest.raises(InvalidDataError, match="say the same in two ways"):
        one_spelling(names, "y")


def test_every_door_reads_one_class(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"a": X[:, 0], "label": MIXED})
    frame.to_csv("own.csv", index=False)
    frame.to_parquet("own.parquet")
    y = np.array(MIXED)
    np.savez("own.npz", X=X, y=y)
    doors = [dr.ingest(f"own.{end}", f"{end}.zarr") for end in ("csv", "parquet", "npz")]
    doors += [
        dr.create_store(f"{k}.zarr", X, values)
        for k, values in enumerate((y, y.astype(object), da.from_array(y, chunks=2)))
    ]
    doors.append(dr.create_store("frame.zarr", frame, "label"))
    for store in doors:
        assert store.spec.classes == ("False", "True")
        assert store.labels[:].tolist() == CODES
    want = dr.sample_robustness(X, np.array(CODES)).compute().robustness
    np.testing.assert_array_equal(dr.sample_robustness(X, y).compute().robustness, want)
    fitted = dr.SampleRobustness().fit(X, y)
    np.testing.assert_array_equal(fitted.robustness_, want)
    assert fitted.classes_.tolist() == ["False", "True"]
    again = [fitted.score_samples(X, np.array([word] * 6)) for word in ("TRUE", "True")]
    np.testing.assert_array_equal(*again)


def test_a_link_keeps_spellings(tmp_path):
    x = zarr.create_array(tmp_path / "x", shape=X.shape, dtype=X.dtype)
    y = zarr.create_array(tmp_path / "y", shape=(6,), dtype="<U5", zarr_format=2)
    x[:], y[:] = X, MIXED
    with pytest.raises(InvalidDataError, match="in several ways"):
        dr.link_store(str(tmp_path / "own.zarr"), x, y)


@pytest.mark.parametrize("labels", [["TRUE", "FALSE"], [True, False], [1, 0]])
def test_appended_rows_are_of_the_classes_that_are_there(tmp_path, labels):
    file, more = tmp_path / "own.csv", tmp_path / "more.parquet"
    pd.DataFrame({"a": X[:, 0], "label": ["true", "false"] * 3}).to_csv(file, index=False)
    pd.DataFrame({"a": [7.0, 8.0], "label": labels}).to_parquet(more)
    store = dr.ingest(str(file), str(tmp_path / "own.zarr"))
    assert dr.append(store, str(more)).labels[:].tolist() == [1, 0] * 4
    assert dr.open_store(store.url).spec.classes == ("false", "true")
