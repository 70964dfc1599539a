"""Whatever holds features and labels: read as a person reads it, or refused, at every door."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import brute
import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
import scipy.sparse
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust.datasets import take
from dskrobust.datasets.mapped import MappedRows, mapped
from dskrobust.errors import DskrobustError, InvalidDataError, SourceFileError
from dskrobust.ids import held_ids

pytestmark = [
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
    pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning"),
]


def scored(X, y, split=None):
    return dr.sample_robustness(X, y, split).compute(scheduler="sync")


def stored(folder):
    def score(X, y, split=None):
        store = dr.create_store(folder / "a.zarr", X, y, split, overwrite=True)
        return dr.sample_robustness(store).compute(scheduler="sync")

    return score


def doors(folder):
    return {"arrays": scored, "store": stored(folder)}


# -- containers that hold values as they are -----------------------------------------------------

NAMES = ("a", "b", "c")


def as_frame(values):
    return pd.DataFrame(dict(zip(NAMES, values.T, strict=False)))


def as_nullable(values):
    kinds = {"b": "boolean", "f": "Float64", "i": "Int64", "u": "UInt8"}
    return as_frame(values).astype(kinds[values.dtype.kind])


def as_arrow_backed(values):
    return as_frame(values).convert_dtypes(dtype_backend="pyarrow")


def as_zarr(values):
    array = zarr.create_array({}, shape=values.shape, dtype=values.dtype, zarr_format=2)
    array[:] = values
    return array


def as_memmap(values, path):
    made = np.lib.format.open_memmap(path, "w+", values.dtype, values.shape)
    made[:] = values
    return made


FEATURES = {
    "array": lambda v: v,
    "foreign bytes": lambda v: v.astype(v.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "every second row": lambda v: np.repeat(v, 2, axis=0)[::2],
    "list": lambda v: v.tolist(),
    "without a mask": np.ma.array,
    "Dask": lambda v: da.from_array(v, chunks=(3, 2)),
    "Dask, foreign bytes": lambda v: da.from_array(v.astype(v.dtype.newbyteorder(">")), chunks=4),
    "Dask without a mask": lambda v: da.from_array(np.ma.array(v), chunks=(4, 1)),
    "Zarr": as_zarr,
    "Zarr, foreign bytes": lambda v: as_zarr(v.astype(v.dtype.newbyteorder(">"))),
    "pandas": as_frame,
    "nullable": as_nullable,
    "Arrow-backed": as_arrow_backed,
    "Polars": lambda v: polars.from_pandas(as_frame(v)),
    "Arrow": lambda v: pa.Table.from_pandas(as_frame(v)),
    "Dask frame": lambda v: dd.from_pandas(as_frame(v), npartitions=2),
}
LABELS = {
    "array": lambda v: v,
    "foreign bytes": lambda v: v.astype(v.dtype.newbyteorder(">")),
    "list": lambda v: v.tolist(),
    "column": lambda v: v[:, None],
    "objects": lambda v: v.astype(object),
    "without a mask": np.ma.array,
    "Zarr": as_zarr,
    "column of Zarr": lambda v: as_zarr(v[:, None]),
    "Series": lambda v: pd.Series(v, index=np.arange(len(v)) + 7),
    "one column": lambda v: pd.DataFrame({"label": v}),
    "Index": pd.Index,
    "nullable": lambda v: pd.Series(v).astype(
        {"b": "boolean", "f": "Float64", "i": "Int32", "U": "string"}[v.dtype.kind]
    ),
    "Arrow-backed": lambda v: pd.Series(pa.array(v), dtype=pd.ArrowDtype(pa.array(v).type)),
    "Polars": lambda v: polars.Series("label", v),
    "Arrow": pa.array,
    "Dask series": lambda v: dd.from_pandas(pd.Series(v), npartitions=2),
}
OF_NUMBERS = {
    "Dask": lambda v: da.from_array(v, chunks=3),
    "Dask column": lambda v: da.from_array(v[:, None], chunks=4),
}
OF_TEXT = {
    "bytes": lambda v: v.astype("S"),
    "objects of bytes": lambda v: np.array([s.encode() for s in v], object),
    "categories": lambda v: pd.Series(pd.Categorical(v)),
    "bare categories": pd.Categorical,
    "strings": lambda v: pd.Series(v, dtype="string"),
    "StringDType": lambda v: v.astype(np.dtypes.StringDType()),
    "Polars categories": lambda v: polars.Series(v, dtype=polars.Categorical),
}


@dataclass(frozen=True)
class Case:
    """Labelled values, and the containers that they are given in."""

    X: np.ndarray
    y: np.ndarray
    features: str
    labels: str

    @property
    def given(self):
        makers = {**LABELS, **OF_NUMBERS, **OF_TEXT}
        return FEATURES[self.features](self.X), makers[self.labels](self.y)

    @property
    def expected(self):
        """The brute force on the values."""
        kind = "real" if self.y.dtype.kind == "f" else "categorical"
        codes = np.unique(self.y, return_inverse=True)[1] if kind == "categorical" else self.y
        return brute.score(self.X.astype(float), codes, labels=kind)


@st.composite
def cases(draw):
    n, d = draw(st.integers(4, 9)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dtype = draw(st.sampled_from(["bool", "uint8", "int64", "float32", "float64"]))
    X = rng.integers(0, 2 if dtype == "bool" else 100, (n, d)).astype(dtype)
    kind = draw(st.sampled_from(["numbers", "reals", "flags", "text"]))
    codes = rng.integers(0, 2 if kind == "flags" else 3, n)
    codes[:2] = 0, 1
    y = {
        "numbers": codes.astype(draw(st.sampled_from(["int8", "int32", "int64"]))),
        "reals": codes / 4,
        "flags": codes == 1,
        "text": np.array(["ant", "bee", "Übel"])[codes],
    }[kind]
    makers = list(LABELS) + list(OF_TEXT if kind == "text" else OF_NUMBERS)
    if kind == "text":
        makers = [m for m in makers if "Zarr" not in m and m != "foreign bytes"]
        y = y if draw(st.booleans()) else np.where(y == "Übel", "cow", y)
    chosen = draw(st.sampled_from(makers))
    if chosen == "bytes":
        y = np.where(y == "Übel", "cow", y)
    return Case(X, y, draw(st.sampled_from(list(FEATURES))), chosen)


@settings(max_examples=25)
@given(case=cases())
def test_every_container_is_read_as_it_is_meant(tmp_path_factory, case):
    folder = tmp_path_factory.mktemp("own")
    for score in doors(folder).values():
        brute.assert_same(score(*case.given), case.expected)


# -- what is refused -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something wrong in row r and column c of features, and what the message must say."""

    make: Callable
    said: str


def gap(value):
    def make(X, r, c):
        made = X.astype(object)
        made[r, c] = value
        return made

    return make


def masked(X, r, c):
    made = np.ma.array(X)
    made[r, c] = np.ma.masked
    return made


def nan(X, r, c):
    made = X.astype(float)
    made[r, c] = np.nan
    return made


def null(X, r, c):
    frame = as_nullable(X)
    frame.iloc[r, c] = pd.NA
    return frame


def column_of(values):
    def make(X, r, c):
        return as_frame(X).assign(**{NAMES[c]: values(len(X))})

    return make


def from_blocks(X, dtype=None, shape=None):
    return da.from_delayed(dask.delayed(lambda: X)(), shape or X.shape, dtype or X.dtype)


def days(n):
    return pd.date_range("2026-01-01", periods=n)


def intervals(n):
    return pd.cut(pd.Series(np.arange(float(n))), 2)


ROW, CELL = "row {r}", "row {r}, column {c}"
FAULTS = {
    "NaN": Fault(nan, CELL),
    "NaN of Dask": Fault(lambda X, r, c: da.from_array(nan(X, r, c), chunks=(2, 1)), CELL),
    "NaN of a frame": Fault(lambda X, r, c: as_frame(nan(X, r, c)), CELL),
    "None": Fault(gap(None), CELL),
    "NA": Fault(gap(pd.NA), CELL),
    "text": Fault(gap("x"), "dtype object"),
    "mask": Fault(masked, CELL),
    "mask of Dask": Fault(lambda X, r, c: da.from_array(masked(X, r, c), chunks=(2, 1)), CELL),
    "list of masked rows": Fault(lambda X, r, c: list(masked(X, r, c)), CELL),
    "null": Fault(null, "(column {c} is nan|column '{name}')"),
    "null of Dask": Fault(lambda X, r, c: dd.from_pandas(null(X, r, c), npartitions=2),
                          "row {r}.* column ('{name}'|{c} is nan)"),
    "null of Polars": Fault(lambda X, r, c: polars.from_pandas(null(X, r, c)), ROW),
    "null of Arrow": Fault(lambda X, r, c: null(X, r, c).convert_dtypes(dtype_backend="pyarrow"),
                           ROW),
    "text column": Fault(column_of(lambda n: ["x"] * n), "'{name}'"),
    "mixed column": Fault(column_of(lambda n: [1, "x"] + [2] * (n - 2)), "column {name}"),
    "dates": Fault(column_of(days), "'{name}'"),
    "intervals": Fault(column_of(intervals), "'{name}' holds intervals"),
    "periods": Fault(column_of(lambda n: days(n).to_period("D")), "'{name}' holds periods"),
    "sparse column": Fault(column_of(lambda n: pd.arrays.SparseArray([0] * n)),
                           "'{name}' is sparse"),
    "complex column": Fault(column_of(lambda n: np.ones(n, complex)), "frame"),
    "identifiers": Fault(column_of(lambda n: 2**60 + np.arange(n)), "column ('{name}'|{c})"),
    "csr_matrix": Fault(lambda X, r, c: scipy.sparse.csr_matrix(X), "sparse.*toarray"),
    "coo_array": Fault(lambda X, r, c: scipy.sparse.coo_array(X), "sparse.*toarray"),
    "sparse blocks": Fault(lambda X, r, c: da.from_array(X, chunks=(3, -1)).map_blocks(
        scipy.sparse.csr_matrix), "sparse.*toarray"),
    "sparse blocks in secret": Fault(lambda X, r, c: from_blocks(scipy.sparse.csr_matrix(X)),
                                     "rows 0 to {n} is sparse"),
    "other dtype": Fault(lambda X, r, c: from_blocks(X + 0.1, np.float32),
                         "rows 0 to {n} is float64.*float32"),
    "other numbers": Fault(lambda X, r, c: from_blocks(X + 0.5, np.int64),
                           "rows 0 to {n} is float64.*int64"),
    "fewer rows": Fault(lambda X, r, c: from_blocks(X[1:], shape=X.shape), "rows 0 to {n} has the"),
    "more columns": Fault(lambda X, r, c: from_blocks(np.hstack([X, X]), shape=X.shape),
                          "rows 0 to {n} has the shape"),
    "flat blocks": Fault(lambda X, r, c: from_blocks(X[:, 0], shape=X.shape), "has the shape"),
    "complex": Fault(lambda X, r, c: X.astype(complex), "real numbers"),
    "dates in an array": Fault(lambda X, r, c: X.astype("M8[s]"), "real numbers"),
    "text in an array": Fault(lambda X, r, c: X.astype(str), "real numbers"),
    "text in a list": Fault(lambda X, r, c: [["1"] * X.shape[1]] * len(X), "X row 0, column 0"),
    "ragged": Fault(lambda X, r, c: [*X.tolist()[:-1], [1] * 9], "X is no array"),
    "twice": Fault(lambda X, r, c: as_frame(np.hstack([X, X])[:, :2]).set_axis(["a", "a"], axis=1),
                   "called 'a'"),
    "other dtype in a Dask frame": Fault(lambda X, r, c: dd.from_pandas(
        as_frame(X), npartitions=1).map_partitions(lambda part: part + 0.5, meta=as_frame(X)),
        "partition from row 0 is float64, but its meta declares int64"),
    "other columns in a Dask frame": Fault(lambda X, r, c: dd.from_pandas(
        as_frame(X), npartitions=1).map_partitions(lambda part: part.add_prefix("x"),
        meta=as_frame(X)), "not what its meta declares: .* columns"),
    "text in a Dask frame": Fault(lambda X, r, c: dd.from_pandas(
        as_frame(X), npartitions=1).map_partitions(lambda part: part.astype(str), meta=as_frame(X)),
        "'a'"),
    "names that are equal as text": Fault(
        lambda X, r, c: as_frame(np.hstack([X, X])[:, :2]).set_axis([1, "1"], axis=1),
        "called '1'"),
}  # fmt: skip


@settings(max_examples=80)
@given(fault=st.sampled_from(list(FAULTS)), n=st.integers(4, 8), d=st.integers(1, 3),
       data=st.data())  # fmt: skip
def test_features_are_refused_by_name(tmp_path_factory, fault, n, d, data):
    r, c = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, d - 1))
    X, y = np.arange(n * d).reshape(n, d), np.arange(n) % 2
    fault = FAULTS[fault]
    said = fault.said.format(r=r, c=c, n=n, name=NAMES[c])
    for score in doors(tmp_path_factory.mktemp("own")).values():
        with pytest.raises(DskrobustError) as caught:
            score(fault.make(X, r, c), y)
        assert re.search(said, str(caught.value)), caught.value
        assert "\n" not in str(caught.value)


def with_gap(value):
    def make(y, r):
        made = np.array([f"kind {k}" for k in y], object)
        made[r] = value
        return made

    return make


def series(value, dtype):
    return lambda y, r: pd.Series(with_gap(value)(y, r), dtype=dtype)


def number_gap(y, r):
    made = pd.Series(y, dtype="Int64")
    made[r] = pd.NA
    return made


def without(y, r):
    made = np.ma.array(y)
    made[r] = np.ma.masked
    return made


LABEL_FAULTS = {
    "None": (with_gap(None), "y row {r} has no label"),
    "NaN": (with_gap(np.nan), "y row {r} has no label"),
    "NA": (with_gap(pd.NA), "y row {r} has no label"),
    "empty": (with_gap(""), "y row {r} has no label"),
    "empty text": (lambda y, r: with_gap("")(y, r).astype(str), "y row {r} has no label"),
    "list": (lambda y, r: with_gap(None)(y, r).tolist(), "y row {r} has no label"),
    "NaN in a list": (lambda y, r: with_gap(np.nan)(y, r).tolist(), "y row {r} has no label"),
    "number": (with_gap(3), "y row {r} is 3"),
    "number in a list": (lambda y, r: with_gap(3)(y, r).tolist(), "y row {r} is 3"),
    "NaN of numbers": (lambda y, r: np.where(np.arange(len(y)) == r, np.nan, y), "row {r}"),
    "mask": (without, "y row {r} is masked"),
    "mask of a column": (lambda y, r: without(y, r)[:, None], "y row {r}, column 0 is masked"),
    "mask of Dask": (lambda y, r: da.from_array(without(y, r), chunks=2), "y row {r} is masked"),
    "strings": (series(pd.NA, "string"), r"y: .*\(row {r}\)"),
    "categories": (series(None, "category"), r"y: .*\(row {r}\)"),
    "nullable": (number_gap, "y: row {r} "),
    "null of Arrow": (lambda y, r: number_gap(y, r).astype("int64[pyarrow]"), "y: row {r} "),
    "null of Polars": (lambda y, r: polars.from_pandas(number_gap(y, r)), "y: row {r} "),
    "identifiers": (lambda y, r: 2**60 + y, "row 0.*text"),
    "identifiers in a Series": (lambda y, r: pd.Series(2**60 + y), "y: column.*text"),
    "intervals": (lambda y, r: intervals(len(y)), "y: column 'y' holds intervals.*astype"),
    "bare intervals": (lambda y, r: intervals(len(y)).array, "holds intervals"),
    "dates": (lambda y, r: pd.Series(days(len(y))), "y: column 'y' holds timestamp"),
    "dates in an array": (lambda y, r: y.astype("M8[D]"), "labels of dtype"),
    "complex": (lambda y, r: y.astype(complex), "labels of dtype"),
    "long doubles": (lambda y, r: y.astype(np.longdouble), "labels of dtype"),
    "sparse": (lambda y, r: scipy.sparse.csr_matrix(y[:, None]), "y is sparse"),
    "sparse Series": (lambda y, r: pd.Series(pd.arrays.SparseArray(y)), "column 'y' is sparse"),
    "broken bytes": (lambda y, r: np.array([b"\xff", *[b"a"] * (len(y) - 1)]), "y holds bytes"),
    "other dtype": (lambda y, r: from_blocks(y + 0.5, np.int64), "y: the block of rows 0 to {n}"),
    "fewer": (lambda y, r: from_blocks(y[1:], shape=y.shape), "y: the block of rows 0 to {n}"),
    "half a character": (lambda y, r: with_gap("\ud800")(y, r), "y row {r} is no UTF-8"),
    "short": (lambda y, r: y[1:], "equally long"),
    "deep": (lambda y, r: y[:, None, None], "equally long|shape"),
}  # fmt: skip


@settings(max_examples=80)
@given(fault=st.sampled_from(list(LABEL_FAULTS)), n=st.integers(4, 8), data=st.data())
def test_labels_are_refused_by_name(tmp_path_factory, fault, n, data):
    r = data.draw(st.integers(0, n - 1))
    X, y = np.arange(float(n))[:, None], np.arange(n) % 3
    make, said = LABEL_FAULTS[fault]
    for score in doors(tmp_path_factory.mktemp("own")).values():
        with pytest.raises(DskrobustError) as caught:
            score(X, make(y, r))
        assert re.search(said.format(r=r, n=n), str(caught.value)), caught.value
        assert "\n" not in str(caught.value)


def test_gaps_are_counted_and_the_first_rows_named():
    y = np.array(["a", None, "b", None, "", "a", None], object)
    with pytest.raises(InvalidDataError, match=r"row 1 has no label \(4 of 7 .* 1, 3, 4, …\)"):
        dr.sample_robustness(np.arange(7.0)[:, None], y)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (["a", None, "b", "a"], "split row 1 has no group name"),
        (["a", "", "b", "a"], "split row 1 has no group name"),
        (np.ma.array([0, 1, 0, 1], mask=[0, 0, 1, 0]), "split row 2 is masked"),
        (pd.Series(["a", pd.NA, "b", "a"], dtype="string"), r"split: .*\(row 1\)"),
        (pd.cut(pd.Series(np.arange(4.0)), 2), "split: column 'split' holds intervals"),
        (np.arange(4).astype("M8[D]"), "split has dtype datetime"),
        (scipy.sparse.csr_matrix(np.eye(4)), "split is sparse"),
    ],
)
def test_groups_are_refused_by_name(tmp_path, split, said):
    for score in doors(tmp_path).values():
        with pytest.raises(DskrobustError, match=said):
            score(np.arange(4.0)[:, None], np.array([0, 1, 0, 1]), split)


@pytest.mark.parametrize(
    "split",
    [
        np.array([b"train", b"train", b"test", b"test"]),
        pd.Series(["train", "train", "test", "test"], dtype="category"),
        np.array(["train", "train", "test", "test"], object)[:, None],
        polars.Series(["train", "train", "test", "test"]),
    ],
)
def test_groups_in_any_container(tmp_path, split):
    for score in doors(tmp_path).values():
        found = score(np.arange(4.0)[:, None], np.array([0, 1, 0, 1]), split)
        assert found.groups == ("test", "train")


def test_more_groups_than_codes_are_refused(tmp_path):
    X = np.zeros((40_000, 1))
    for score in doors(tmp_path).values():
        with pytest.raises(InvalidDataError, match="split has 40,000 different values"):
            score(X, np.arange(40_000) % 2, np.arange(40_000))


# -- the other doors -------------------------------------------------------------------------------

BAD = {
    "sparse": (scipy.sparse.csr_matrix(np.eye(6)), "sparse"),
    "masked": (np.ma.array(np.eye(6), mask=np.eye(6) * (np.arange(6) == 2)), "row 2, column 2"),
    "NaN": (np.where(np.eye(6) * (np.arange(6) == 2), np.nan, np.eye(6)), "row 2, column 2"),
    "text column": (pd.DataFrame({"a": range(6), "b": ["x"] * 6}), "column 'b'"),
    "intervals": (pd.DataFrame({"a": intervals(6)}), "column 'a'"),
}


@pytest.mark.parametrize(("X", "said"), BAD.values(), ids=BAD)
def test_the_other_doors_refuse_the_same(X, said):
    y, good = np.arange(6) % 2, np.eye(6)
    fitted = dr.SampleRobustness().fit(good, y)
    calls = {
        "fit": lambda: dr.SampleRobustness().fit(X, y),
        "score_samples": lambda: fitted.score_samples(X, y),
        "neighbours": lambda: dr.nearest_neighbours(X, 2).compute(scheduler="sync"),
        "issues": lambda: dr.find_label_issues(X, y),
    }
    for call in calls.values():
        with pytest.raises(DskrobustError, match=said):
            call()


def test_the_sampler_refuses_what_is_masked_or_missing():
    pytest.importorskip("imblearn")
    y = np.arange(6) % 2
    for name in ("masked", "text column", "intervals"):
        X, said = BAD[name]
        with pytest.raises(DskrobustError, match=said):
            dr.RobustnessSampler(size=0.5).fit_resample(X, y)
    with pytest.raises(DskrobustError, match="NaN"):
        dr.RobustnessSampler(size=0.5).fit_resample(BAD["NaN"][0], y)
    with pytest.raises(DskrobustError, match="y row 2 is masked"):
        dr.RobustnessSampler(size=0.5).fit_resample(np.eye(6), without(y, 2))


def test_neighbours_need_no_labels_whatever_the_container():
    X = np.random.default_rng(0).integers(0, 50, (9, 2))
    wanted = dr.nearest_neighbours(X, 2).compute(scheduler="sync").index
    for name, make in FEATURES.items():
        found = dr.nearest_neighbours(make(X), 2).compute(scheduler="sync")
        np.testing.assert_array_equal(found.index, wanted, err_msg=name)


def test_one_column_of_labels_is_no_vector(tmp_path):
    X, y = np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([0, 2, 1, 2])
    wanted = scored(X, y).robustness
    model = dr.SampleRobustness().fit(X, y[:, None])
    np.testing.assert_array_equal(model.robustness_, wanted)
    np.testing.assert_array_equal(model.score_samples(X, y[:, None]), model.score_samples(X, y))
    issues = dr.find_label_issues(X, y[:, None])
    pd.testing.assert_frame_equal(issues, dr.find_label_issues(X, y))
    store = dr.create_store(tmp_path / "a.zarr", X, y[:, None])
    assert (store.spec.label_kind, store.labels.shape) == ("categorical", (4,))
    np.savez(tmp_path / "more.npz", X=X, y=y[:, None])
    assert dr.append(store, str(tmp_path / "more.npz")).labels[:].tolist() == [*y, *y]
    array = zarr.array(y[:, None], store=str(tmp_path / "y.zarr"))
    with pytest.raises(InvalidDataError, match=r"y has the shape \(4, 1\), and a link"):
        dr.link_store(tmp_path / "l.zarr", zarr.array(X, store=str(tmp_path / "x.zarr")), array)


def test_text_of_dask_is_known_to_stores_only(tmp_path):
    X, y = np.arange(6.0)[:, None], np.array(list("abcabc"))
    for made in (y, y.astype("S"), y.astype(object)):
        lazy = da.from_array(made, chunks=2)
        with pytest.raises(InvalidDataError, match="text labels in a Dask array"):
            scored(X, lazy)
        brute.assert_same(stored(tmp_path)(X, lazy), brute.score(X, np.arange(6) % 3))


@pytest.mark.parametrize("make", LABELS.values(), ids=LABELS)
def test_issues_are_the_same_whatever_holds_the_labels(make):
    X, y = np.arange(12.0)[:, None], np.array([0, 0, 1, 2] * 3)
    pd.testing.assert_frame_equal(dr.find_label_issues(X, make(y)), dr.find_label_issues(X, y))


# -- ids -------------------------------------------------------------------------------------------

WITH_INDEX = {
    "pandas": lambda f: f,
    "nullable": lambda f: f.astype("Float64"),
    "Arrow-backed": lambda f: f.convert_dtypes(dtype_backend="pyarrow"),
    "Dask": lambda f: dd.from_pandas(f, npartitions=2, sort=False),
}


@pytest.mark.parametrize("make", WITH_INDEX.values(), ids=WITH_INDEX)
def test_an_index_is_ids_and_no_feature_at_any_door(tmp_path, make):
    names = [f"p{k}" for k in (7, 1, 30, 2, 9, 4)]
    frame = as_frame(np.arange(18.0).reshape(6, 3) ** 2).set_axis(names)
    y = np.arange(6) % 3
    wanted = brute.score(frame.to_numpy(), y)
    for score in doors(tmp_path).values():
        scores = score(make(frame), y)
        brute.assert_same(scores, wanted)
        assert np.asarray(held_ids(scores.ids)).tolist() == names
    assert sorted(dr.find_label_issues(make(frame), y).index) == sorted(names)
    gap = frame.set_axis([7, 1, 30, 2, 9, np.nan])
    for score in doors(tmp_path).values():
        with pytest.raises(InvalidDataError, match="ids row 5 is missing"):
            held_ids(score(make(gap), y).ids)


def test_ids_of_dask_are_as_many_as_its_rows(tmp_path):
    X, y, ids = np.eye(6), np.arange(6) % 2, da.from_array(np.arange(6), chunks=3)
    store = dr.create_store(tmp_path / "a.zarr", X, y, ids=ids * 5)
    assert store.ids[:].tolist() == list(range(0, 30, 5))
    short = ids.map_blocks(lambda block: block[1:], dtype=ids.dtype)
    with pytest.raises(InvalidDataError, match="4 ids for 6 rows from row 0"):
        dr.create_store(tmp_path / "b.zarr", X, y, ids=short)
    with pytest.raises(InvalidDataError, match="ids has unknown chunk sizes"):
        dr.create_store(tmp_path / "b.zarr", X, y, ids=ids[ids >= 0])


# -- memmaps ---------------------------------------------------------------------------------------

VIEWS = {
    "all": lambda m: m,
    "some": lambda m: m[5:90:3, ::-2],
    "plain": lambda m: np.asarray(m)[10:],
    "turned": lambda m: m[:, 2:].T,
    "late": lambda m: m[-3:],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("dtype", ["<f4", ">i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_mapped_rows_are_those_of_the_file(tmp_path, view, dtype, order):
    values = np.arange(700).reshape(100, 7).astype(dtype)
    np.save(tmp_path / "x.npy", np.asarray(values, order=order))
    rows = mapped(view(np.load(tmp_path / "x.npy", mmap_mode="r")))
    assert isinstance(rows, MappedRows)
    assert rows.dtype.isnative
    np.testing.assert_array_equal(rows[:], view(values))
    np.testing.assert_array_equal(rows[1:3], view(values)[1:3])


def test_only_what_a_file_holds_is_mapped(tmp_path):
    values = np.arange(20.0).reshape(10, 2)
    np.save(tmp_path / "x.npy", values)
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[0] = 7
    for array in (values, private, da.from_array(values)):
        assert mapped(array) is array
    shared = np.load(tmp_path / "x.npy", mmap_mode="r+")
    shared[3] = -1
    np.testing.assert_array_equal(mapped(shared)[3:4], [[-1, -1]])


def test_workers_open_a_mapped_file(client, tmp_path):
    values = np.random.default_rng(0).standard_normal((200, 50))
    y = np.arange(200) % 3
    np.save(tmp_path / "x.npy", values)
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    scores = dr.sample_robustness(X, y, options=dr.RunOptions(scratch=str(tmp_path / "s")))
    assert len(dask.base.tokenize(X)) < 100
    sizes = [len(str(task)) for task in dict(scores.reach.__dask_graph__()).values()]
    assert max(sizes) < 20_000
    brute.assert_same(scores.compute(), brute.score(values, y))
    store = dr.create_store(tmp_path / "a.zarr", X, da.from_array(y, chunks=50))
    np.testing.assert_array_equal(store.features[:], values)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(SourceFileError, match=r"x.npy cannot be read by a worker.*create_store"):
        dr.sample_robustness(X, y).compute()


def test_a_memmap_of_this_process_is_not_copied(tmp_path):
    X = as_memmap(np.arange(40.0).reshape(20, 2), tmp_path / "x.npy")
    taken = take(X, np.arange(20) % 2)
    assert np.shares_memory(taken.X, X)
    brute.assert_same(scored(X, np.arange(20) % 2), brute.score(np.asarray(X), np.arange(20) % 2))


@pytest.mark.parametrize("kind", ["arrow", "polars"])
def test_decimals_are_exact_or_refused(tmp_path, kind):
    whole = [Decimal(2**53 + k) for k in range(4)]
    y = np.array([0, 1, 0, 1])

    def frame(values):
        table = pa.table({"a": pa.array(values, pa.decimal128(30, 2)), "b": [0.0] * 4})
        return polars.from_arrow(table) if kind == "polars" else table

    quarters = scored(frame([Decimal(k) / 4 for k in range(4)]), y)
    np.testing.assert_array_equal(quarters.reach, [0.25] * 4)
    for score in doors(tmp_path).values():
        with pytest.raises(InvalidDataError, match=f"'a' has the value {2**53 + 1}, which float64"):
            score(frame(whole), y)


def test_text_that_numpy_would_shorten_is_no_class(tmp_path):
    X, y = np.arange(4.0)[:, None], np.array(["a", "a\0", "a", "a\0"], object)
    for score in doors(tmp_path).values():
        with pytest.raises(InvalidDataError, match="y row 1 ends in NUL"):
            score(X, y)
        with pytest.raises(InvalidDataError, match="row 1 ends in NUL in column 'y'"):
            score(pa.table({"a": X[:, 0], "y": y.tolist()}), "y")


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.empty((4, 0)), r"y has shape \(4, 0\)"),
        (pd.MultiIndex.from_product([[0, 1], ["a", "b"]]), "index of 2 levels"),
    ],
)
def test_labels_that_are_none(tmp_path, y, said):
    for score in doors(tmp_path).values():
        with pytest.raises(InvalidDataError, match=said):
            score(np.arange(4.0)[:, None], y)


@pytest.mark.parametrize("find", [dr.find_label_issues, dr.find_data_issues, dr.instance_hardness])
def test_vectors_are_no_classes(find):
    with pytest.raises(InvalidDataError, match=r"categorical labels .* not \(6, 2\)"):
        find(np.arange(12.0).reshape(6, 2), np.arange(12).reshape(6, 2))


def test_an_archive_that_is_open_for_writing_is_not_opened_again(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(8, 2)), np.arange(8) % 2
    with zarr.storage.ZipStore(tmp_path / "own.zip", mode="w") as archive:
        array = zarr.create_array(archive, shape=X.shape, dtype=X.dtype)
        array[:] = X
        for score in doors(tmp_path).values():
            with pytest.raises(InvalidDataError, match="which is open for writing"):
                score(array, y)
    read_only = zarr.open_array(zarr.storage.ZipStore(tmp_path / "own.zip", mode="r"), mode="r")
    for score in doors(tmp_path).values():
        brute.assert_same(score(read_only, y), brute.score(X, y, labels="categorical"))
