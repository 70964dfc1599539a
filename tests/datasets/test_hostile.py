"""Tables of random types, gaps and names through every door: read right, or refused by name.

Nothing of the readers is used for what is expected: columns are filled, encoded and scaled here
with a few lines of Python.
"""

import datetime as dt
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust.errors import DskrobustError

DAY = dt.date(1970, 1, 1)
NAMES = st.text(st.sampled_from("abÄé 0_-.;,'\"\n%#=<"), min_size=1, max_size=5).filter(
    lambda name: name.strip() == name and name.lower() not in ("y", "id", "nr", "no", "no.")
    and " ".join(name.split()) == name and not name.isdigit()
)  # fmt: skip
WORDS = ("red", "green", "sky blue", "Ä,;b", 'quoted "q"', "NA", "0x1")
FINITE = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: round(v, 3))


@dataclass(frozen=True)
class Column:
    """Values of a kind, None where one is missing."""

    kind: str
    values: list

    @property
    def gaps(self):
        return sum(value is None for value in self.values)


@st.composite
def columns(draw, rows):
    kind = draw(st.sampled_from(["float", "int", "bool", "text", "date", "empty", "infinite"]))
    value = {
        "float": FINITE,
        "int": st.integers(-(2**40), 2**40),
        "bool": st.booleans(),
        "text": st.sampled_from(WORDS),
        "date": st.integers(-20_000, 40_000).map(lambda day: DAY + dt.timedelta(day)),
        "empty": st.none(),
        "infinite": st.sampled_from([0.5, float("inf"), float("-inf")]),
    }[kind]
    gaps = draw(st.sampled_from([0.0, 0.0, 0.3])) if kind != "empty" else 0.0
    drawn = draw(st.lists(value, min_size=rows, max_size=rows))
    holes = draw(st.lists(st.booleans(), min_size=rows, max_size=rows)) if gaps else [False] * rows
    return Column(kind, [None if hole else v for v, hole in zip(drawn, holes, strict=True)])


@st.composite
def tables(draw):
    rows = draw(st.integers(4, 14))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=lambda name: name.lower()))
    made = {name: draw(columns(rows)) for name in names}
    return made, draw(st.permutations([k % 2 for k in range(rows)]))


def frame_of(made, labels):
    """Return a pandas frame, of types that have gaps."""
    dtypes = {"float": float, "infinite": float, "int": "Int64", "bool": "boolean"}
    held = {name: pd.Series(c.values, dtype=dtypes.get(c.kind, object)) for name, c in made.items()}
    return pd.DataFrame({**held, "y": labels})


def polars_of(made, labels):
    import polars as pl

    return pl.DataFrame({**{name: c.values for name, c in made.items()}, "y": labels})


def expected(column):
    """Return (features, (n, k), whether it becomes features) of a column: median, one-hot, days."""
    if not any(value is not None for value in column.values):
        return None
    if column.kind == "text":
        kinds = sorted({value for value in column.values if value is not None})
        there = len(column.values) - column.gaps
        if 2 * len(kinds) > there:
            return None  # text that says something else in most rows
        kinds += [None] * bool(column.gaps)
        return np.array([[float(v == kind) for kind in kinds] for v in column.values])
    as_number = (lambda v: (v - DAY).days) if column.kind == "date" else float
    numbers = [None if v is None else as_number(v) for v in column.values]
    middle = float(np.median([v for v in numbers if v is not None]))
    return np.array([[middle if v is None else v] for v in numbers], float)


def check(made, read, store):
    """Compare a store with what the columns should have become, or an error with its culprit."""
    infinite = [name for name, c in made.items()
                if any(isinstance(v, float) and abs(v) == np.inf for v in c.values)]  # fmt: skip
    whole = [] if infinite else map(expected, made.values())
    parts = [part for part in whole if part is not None]
    if read is not None:
        said = str(read)
        shown = [" ".join(name.split()) for name in made]
        if infinite:
            assert any(f"'{name}'" in said and "row " in said for name in infinite), said
        else:
            assert not parts, said
            assert "no columns besides the labels" in said or any(n in said for n in shown), said
        return
    assert not infinite
    features = store.features[:]
    np.testing.assert_allclose(features, np.concatenate(parts, axis=1), rtol=1e-15)
    assert len(store.spec.feature_names) == features.shape[1]


def _ambiguous(column):
    """Whether text looks like something else: missing numbers."""
    return column.kind == "text" and set(column.values) <= {"NA", None}


def through(door, made, labels, folder):
    """Return (error, store) of a table that goes through a door."""
    frame, url = frame_of(made, labels), folder / "own.zarr"
    given = {"target": "y", "scale": "none", "overwrite": True}
    try:
        if door == "csv":
            frame.to_csv(folder / "own.csv", index=False)
            return None, dr.ingest(str(folder / "own.csv"), url, **given)
        if door == "parquet":
            frame.to_parquet(folder / "own.parquet", index=False)
            return None, dr.ingest(str(folder / "own.parquet"), url, **given)
        X = polars_of(made, labels) if door == "polars" else frame
        asked = dr.PreparationOptions(scale="none")
        return None, dr.create_store(url, X, "y", preparation=asked, overwrite=True)
    except DskrobustError as error:
        return error, None


@pytest.mark.parametrize("door", ["csv", "parquet", "pandas", "polars"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(table=tables())
def test_tables_are_read_right_or_refused_by_name(tmp_path_factory, door, table):
    made, labels = table
    if door == "csv":  # a file of text cannot tell these from what they look like
        made = {name: c for name, c in made.items() if not _ambiguous(c)}
        assume(made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error, store = through(door, made, labels, tmp_path_factory.mktemp("hostile"))
    check(made, error, store)


@pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
@given(table=tables())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_both_doors_agree_on_frames(tmp_path_factory, table):
    """A frame as it is: scored where it lies, or through a store, with the same result or error."""
    made, labels = table
    frame, said = frame_of(made, labels), []
    for door in (lambda: dr.sample_robustness(frame, "y"),
                 lambda: dr.sample_robustness(dr.create_store(
                     tmp_path_factory.mktemp("own") / "own.zarr", frame, "y"))):  # fmt: skip
        try:
            scores = door().compute()
            said.append((scores.lipschitz.tolist(), scores.witness.tolist()))
        except DskrobustError as error:
            said.append(type(error).__name__)
            assert any(f"'{n}'" in str(error) for n in made) or "row" in str(error), str(error)
    assert said[0] == said[1]
