"""Columns of tables become features: equal to scikit-learn's, kept, reused, told."""

import json
import re
import subprocess
import sys
from decimal import Decimal

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from dask_ml.preprocessing import MinMaxScaler as DaskMinMaxScaler
from dask_ml.preprocessing import StandardScaler as DaskStandardScaler
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.datasets import feature_texts, restore_features
from dskrobust.datasets.quantiles import digit_counts, order_statistic
from dskrobust.errors import InvalidDataError, InvalidOptionError

SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler, "robust": RobustScaler}


def passengers(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.normal(30, 14, rows).round(1)
    age[rng.random(rows) < 0.2] = np.nan
    deck = rng.choice(["A", "B", "C"], rows).astype(object)
    deck[rng.random(rows) < 0.7] = None
    return pd.DataFrame(
        {
            "PassengerId": np.arange(1, rows + 1),
            "Survived": rng.choice(["no", "yes"], rows),
            "Pclass": rng.integers(1, 4, rows),
            "Name": [f"Person {k}" for k in range(rows)],
            "Sex": rng.choice(["female", "male"], rows),
            "Age": age,
            "Fare": rng.gamma(2, 20, rows).round(2),
            "Deck": deck,
            "Boarded": rng.choice(
                pd.date_range("1912-04-10", periods=4).strftime("%Y-%m-%d"), rows
            ),
        }
    )


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_a_table_as_people_have_it_needs_one_line(tmp_path, end):
    frame, path = passengers(), tmp_path / f"passengers.{end}"
    if end == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.assign(Boarded=pd.to_datetime(frame.Boarded)).to_parquet(path, index=False)
    store = dr.ingest(str(path), tmp_path / "own.zarr", target="Survived")
    assert store.spec.feature_names == (
        "Pclass", "Sex=female", "Sex=male", "Age", "Fare",
        "Deck=A", "Deck=B", "Deck=C", "Deck=(missing)", "Boarded",
    )  # fmt: skip
    days = (pd.to_datetime(frame.Boarded) - pd.Timestamp(0)).dt.days
    numbers = frame[["Pclass", "Age", "Fare"]].assign(Boarded=days).to_numpy(float)
    wanted = StandardScaler().fit_transform(SimpleImputer(strategy="median").fit_transform(numbers))
    np.testing.assert_allclose(store.features[:][:, [0, 3, 4, 9]], wanted, atol=1e-12, rtol=1e-12)
    deck = frame[["Deck"]].fillna("(missing)")
    encoder = OneHotEncoder(sparse_output=False, categories=[["A", "B", "C", "(missing)"]])
    np.testing.assert_array_equal(store.features[:][:, 5:9], encoder.fit_transform(deck))
    told = " | ".join(store.spec.decisions)
    assert f"Age: {frame.Age.isna().sum()} missing values filled with the median" in told
    for words in ("PassengerId: names the rows", "Name: left out", "Sex: 2 categories",
                  "Boarded: dates", "numbers are scaled"):  # fmt: skip
        assert words in told
    assert dr.sample_robustness(store).robustness.compute().shape == (400,)


@pytest.mark.parametrize("scale", SCALERS)
@pytest.mark.parametrize("impute", ["median", "most-frequent"])
def test_scales_equal_scikit_learns(tmp_path, scale, impute):
    frame = passengers(301)[["Survived", "Age", "Fare"]].round()
    frame.to_csv(tmp_path / "own.csv", index=False)
    asked = {"target": "Survived", "scale": scale, "impute": impute}
    store = dr.ingest(str(tmp_path / "own.csv"), tmp_path / "own.zarr", **asked)
    filled = SimpleImputer(strategy=impute.replace("-", "_")).fit_transform(frame[["Age", "Fare"]])
    wanted = SCALERS[scale]().fit_transform(filled)
    np.testing.assert_allclose(store.features[:], wanted, rtol=1e-12, atol=1e-12)
    units = restore_features(store.spec, store.features[:])
    np.testing.assert_allclose(units, filled, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_scales_equal_dask_mls(tmp_path, scale):
    frame = passengers(500)[["Survived", "Pclass", "Fare"]]
    frame.to_parquet(tmp_path / "own.parquet", index=False)
    store = dr.ingest(
        str(tmp_path / "own.parquet"), tmp_path / "own.zarr", target="Survived", scale=scale
    )
    made = {"standard": DaskStandardScaler, "minmax": DaskMinMaxScaler}[scale]()
    numbers = dd.from_pandas(frame[["Pclass", "Fare"]].astype(float), npartitions=3)
    wanted = made.fit_transform(numbers.to_dask_array(lengths=True)).compute()
    np.testing.assert_allclose(store.features[:], wanted, rtol=1e-12, atol=1e-12)


def test_ordinal_codes_and_dropped_columns(tmp_path):
    frame = passengers(200)
    frame.to_csv(tmp_path / "own.csv", index=False)
    store = dr.ingest(
        str(tmp_path / "own.csv"), tmp_path / "own.zarr", target="Survived", encode="ordinal",
        scale="none", drop=["Name", "Boarded", "Deck"], id="PassengerId",
    )  # fmt: skip
    assert store.spec.feature_names == ("Pclass", "Sex", "Age", "Fare")
    np.testing.assert_array_equal(store.ids[:], frame.PassengerId)
    np.testing.assert_array_equal(store.features[:][:, 1], frame.Sex == "male")


def test_fine_numbers_are_left_alone(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.standard_normal((50, 3)).astype(np.float32), columns=list("abc"))
    frame.assign(y=np.arange(50) % 2).to_parquet(tmp_path / "own.parquet")
    store = dr.ingest(str(tmp_path / "own.parquet"), tmp_path / "own.zarr")
    assert (store.spec.preparation, store.spec.decisions) == (None, ())
    assert store.row_shape("features")[1] == np.float32
    np.testing.assert_array_equal(store.features[:], frame.to_numpy())


def test_huge_columns_are_scaled_and_it_is_said(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"time": rng.random(90) * 1e5, "a": rng.random(90), "y": np.arange(90) % 2}
    )
    frame.to_csv(tmp_path / "own.csv", index=False)
    asked = [str(tmp_path / "own.csv"), "-o", str(tmp_path / "own.zarr")]
    done = CliRunner().invoke(main, ["ingest", *asked])
    assert done.exit_code == 0, done.output
    assert "'time' spreads" in done.output
    np.testing.assert_allclose(dr.open_store(tmp_path / "own.zarr").features[:].std(axis=0), 1)
    plain = dr.ingest(asked[0], tmp_path / "plain.zarr", scale="none")
    np.testing.assert_array_equal(plain.features[:], frame[["time", "a"]].to_numpy())


def test_appended_rows_are_prepared_alike(tmp_path):
    frame = passengers(300)
    for name, part in (("all", frame), ("old", frame[:200]), ("new", frame[200:])):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    store = dr.ingest(str(tmp_path / "old.csv"), tmp_path / "own.zarr", target="Survived")
    grown = dr.append(store, str(tmp_path / "new.csv"))
    scaled = (frame.Fare - frame.Fare[:200].mean()) / frame.Fare[:200].std(ddof=0)
    np.testing.assert_allclose(grown.features[:][:, 4], scaled, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(grown.ids[:], frame.PassengerId)
    median = frame.Age[:200].median()
    units = restore_features(grown.spec, grown.features[:])[:, 3]
    np.testing.assert_allclose(units, frame.Age.fillna(median), rtol=1e-9)
    frame[:9].assign(Sex="unknown").to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(InvalidDataError, match="row 0 has 'unknown' in column 'Sex'"):
        dr.append(grown, str(tmp_path / "odd.csv"))
    with pytest.raises(InvalidOptionError, match="impute='median': rows that are appended"):
        dr.append(grown, str(tmp_path / "new.csv"), impute="median")
    np.savez(tmp_path / "odd.npz", X=np.ones((2, 10)), y=["no", "yes"])
    with pytest.raises(InvalidDataError, match="append the rows as a table"):
        dr.append(grown, str(tmp_path / "odd.npz"))
    assert dr.open_store(store.url).rows == 300


def test_a_dry_run_writes_nothing(tmp_path):
    passengers().to_csv(tmp_path / "own.csv", index=False)
    asked = [str(tmp_path / "own.csv"), "--target", "Survived", "--out", str(tmp_path / "a.zarr")]
    done = CliRunner().invoke(main, ["ingest", *asked, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "400 × 10: Pclass, Sex=female" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["own.csv"]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"impute": "error"}, InvalidDataError, r"column 'Age' has no value in \d+ of 400 rows"),
        ({"prepare": "none"}, InvalidDataError, "column 'Name' holds text"),
        ({"impute": "mean"}, InvalidOptionError, "impute is one of median, most-frequent, error"),
        ({"encode": "hash"}, InvalidOptionError, "encode is one of onehot, ordinal"),
        ({"scale": "log"}, InvalidOptionError, "scale is one of standard"),
        ({"prepare": "all"}, InvalidOptionError, "prepare is auto or none"),
        ({"drop": ["Nobody"]}, InvalidOptionError, "no column 'Nobody' .option drop."),
        ({"id": "Nobody"}, InvalidOptionError, "no column 'Nobody' .option id."),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, asked, error, message):
    passengers().to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(error, match=message):
        dr.ingest(str(tmp_path / "own.csv"), tmp_path / "a.zarr", target="Survived", **asked)


def test_words_for_a_scale_are_for_tables(tmp_path):
    np.savez(tmp_path / "own.npz", X=np.eye(4), y=[0, 1, 0, 1])
    with pytest.raises(InvalidOptionError, match="scale='standard' is for the columns of a table"):
        dr.ingest(str(tmp_path / "own.npz"), tmp_path / "a.zarr", scale="standard")


def test_columns_that_only_end_like_ids_stay(tmp_path):
    names = ["paid", "valid", "grid", "humid"]
    frame = pd.DataFrame({name: np.arange(40) + k for k, name in enumerate(names)})
    frame.assign(y=np.arange(40) % 2).to_csv(tmp_path / "own.csv", index=False)
    store = dr.ingest(str(tmp_path / "own.csv"), tmp_path / "own.zarr")
    assert store.spec.feature_names == tuple(names)
    assert not store.has_ids


def test_constant_columns_do_not_decide_the_scale(tmp_path):
    frame = pd.DataFrame({"a": np.linspace(0, 1, 40), "b": 0.1, "y": np.arange(40) % 2})
    frame.to_csv(tmp_path / "own.csv", index=False)
    store = dr.ingest(str(tmp_path / "own.csv"), tmp_path / "own.zarr")
    assert store.spec.decisions == ()
    scaled = dr.ingest(str(tmp_path / "own.csv"), tmp_path / "b.zarr", scale="standard")
    wanted = StandardScaler().fit_transform(frame[["a", "b"]])
    np.testing.assert_allclose(scaled.features[:], wanted, rtol=1e-12, atol=1e-12)


def test_an_infinite_value_is_named_before_it_spreads(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0, np.inf, 4.0], "b": [0, 1e6, 2e6, 5e6], "y": [0, 1, 0, 1]})
    frame.to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(InvalidDataError, match="row 2 of column 'a' is inf"):
        dr.ingest(str(tmp_path / "own.csv"), tmp_path / "own.zarr")


def test_booleans_decimals_and_categories_of_numbers(tmp_path):
    columns = {
        "flag": pa.array([True, None, False, True] * 5),
        "cost": pa.array([Decimal("1.25"), Decimal("2.5"), None, Decimal("0.75")] * 5),
        "size": pa.array([3, 1, 3, 2] * 5).dictionary_encode(),
        "y": pa.array([0, 1, 0, 1] * 5),
    }
    parquet.write_table(pa.table(columns), tmp_path / "own.parquet")
    asked = {"scale": "none", "impute": "most-frequent"}
    store = dr.ingest(str(tmp_path / "own.parquet"), tmp_path / "own.zarr", **asked)
    wanted = [[1, 1.25, 3], [1, 2.5, 1], [0, 0.75, 3], [1, 0.75, 2]] * 5
    np.testing.assert_array_equal(store.features[:], wanted)


def test_left_out_columns_need_not_come_again(tmp_path):
    frame = passengers(200)
    frame.to_csv(tmp_path / "own.csv", index=False)
    store = dr.ingest(
        str(tmp_path / "own.csv"), tmp_path / "own.zarr", target="Survived", drop=["Fare"]
    )
    frame.drop(columns=["Name", "Fare"]).to_csv(tmp_path / "more.csv", index=False)
    assert dr.append(store, str(tmp_path / "more.csv")).rows == 400
    frame.drop(columns=["PassengerId"]).to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(InvalidDataError, match="lacks the column 'PassengerId'"):
        dr.append(store, str(tmp_path / "less.csv"))


def test_decisions_are_said_wherever_the_store_is_shown(tmp_path):
    passengers().to_csv(tmp_path / "own.csv", index=False)
    asked = [str(tmp_path / "own.csv"), "--target", "Survived", "-o", str(tmp_path / "own.zarr")]
    done = CliRunner().invoke(main, ["ingest", *asked])
    store = dr.open_store(tmp_path / "own.zarr")
    shown = CliRunner().invoke(main, ["show", store.url, "--json"])
    for decision in store.spec.decisions:
        assert decision in done.output
        assert decision in {note["text"] for note in json.loads(shown.output)["notes"]}
    assert [str(n) for n in store.notes if n.kind == "reading"] == list(store.spec.decisions)


def test_a_task_contradicts_other_labels(tmp_path):
    asked = ["ingest", "digits", "--task", "regression", "--labels", "categorical"]
    done = CliRunner().invoke(main, [*asked, "-o", str(tmp_path / "own.zarr")])
    assert done.exit_code == 2
    assert "--task regression means --labels real" in done.output


@given(
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=60),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_order_statistics_are_exact(values, parts, random):
    rank = random.randrange(len(values))
    cut = np.array_split(np.array(values), parts)

    def counts(shift, prefix):
        return sum(digit_counts(part, shift, prefix) for part in cut)

    assert order_statistic(counts, rank) == np.sort(np.array(values))[rank]


# -- frames --------------------------------------------------------------------------------------

KINDS = ("pandas", "polars", "arrow", "dask")


def as_kind(frame, kind):
    """Return a pandas frame as one of another library."""
    if kind == "polars":
        return pytest.importorskip("polars").from_pandas(frame)
    if kind == "arrow":
        return pa.Table.from_pandas(frame, preserve_index=False)
    return dd.from_pandas(frame, npartitions=4) if kind == "dask" else frame


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_prepared_as_files_are(tmp_path, kind):
    frame = passengers(120)
    frame.to_parquet(tmp_path / "own.parquet", index=False)
    read = dr.ingest(str(tmp_path / "own.parquet"), tmp_path / "a.zarr", target="Survived")
    given = as_kind(frame, kind)
    store = dr.create_store(
        tmp_path / "b.zarr", given, "Survived", preparation=dr.PreparationOptions()
    )
    assert store.spec.feature_names == read.spec.feature_names
    assert store.spec.decisions == read.spec.decisions
    assert store.spec.preparation == read.spec.preparation
    np.testing.assert_array_equal(store.features[:], read.features[:])
    np.testing.assert_array_equal(store.ids[:], frame.PassengerId)
    frame.iloc[:7].to_csv(tmp_path / "more.csv", index=False)
    grown = dr.append(store, str(tmp_path / "more.csv"), target="Survived")
    np.testing.assert_array_equal(grown.features[120:], read.features[:7])


@pytest.mark.parametrize("kind", ["pandas", "dask"])
def test_an_index_goes_before_a_column_that_counts(tmp_path, kind):
    frame = passengers(60).assign(Name="x").set_index(np.arange(60) * 2 + 1)
    store = dr.create_store(
        tmp_path / "own.zarr", as_kind(frame, kind), "Survived",
        preparation=dr.PreparationOptions(scale="none"),
    )  # fmt: skip
    np.testing.assert_array_equal(store.ids[:], frame.index)
    assert "PassengerId" not in store.spec.feature_names
    assert store.spec.preparation["id"] is None
    assert any("PassengerId: left out" in line for line in store.spec.decisions)


def test_a_column_whose_name_is_empty_is_not_lost_beside_an_index(tmp_path):
    frame = pd.DataFrame({"": ["a", "b", "a", "b"], "p": [0.5, 1, 2, 4], "y": [0, 1, 1, 0]})
    store = dr.create_store(
        tmp_path / "own.zarr", frame.set_index(np.array([4, 9, 2, 7])), "y",
        preparation=dr.PreparationOptions(scale="none"),
    )  # fmt: skip
    assert store.spec.feature_names == ("=a", "=b", "p")


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_preparation_columns_stay_as_they_are(tmp_path, kind):
    frame = passengers(30)
    with pytest.raises(InvalidDataError, match=r"'Name' holds .*PreparationOptions"):
        dr.create_store(tmp_path / "a.zarr", as_kind(frame, kind), "Survived")
    numbers = frame[["Survived", "Pclass", "Fare"]]
    plain = dr.create_store(tmp_path / "b.zarr", as_kind(numbers, kind), "Survived")
    asked = dr.PreparationOptions(prepare="none")
    same = dr.create_store(
        tmp_path / "c.zarr", as_kind(numbers, kind), "Survived", preparation=asked
    )
    assert same.spec.preparation is None
    assert same.row_shape("features") == plain.row_shape("features")
    np.testing.assert_array_equal(same.features[:], plain.features[:])


def test_arrays_have_no_columns_to_prepare(tmp_path):
    with pytest.raises(InvalidOptionError, match="preparation is for the columns of a frame"):
        dr.create_store(
            tmp_path / "a.zarr", np.zeros((2, 2)), [0, 1], preparation=dr.PreparationOptions()
        )


def test_a_dask_frame_is_read_a_partition_at_a_time(tmp_path):
    """Fitting computes every partition by itself; rows are prepared where partitions are."""
    frame, held = passengers(400), []
    parts = dd.from_pandas(frame, npartitions=8).map_partitions(
        lambda part: held.append(len(part)) or part, meta=frame.iloc[:0]
    )
    dr.create_store(tmp_path / "own.zarr", parts, "Survived", preparation=dr.PreparationOptions())
    assert max(held) == 50


def test_a_table_is_read_within_the_memory_that_was_projected(tmp_path):
    """Of a process of its own: 60 MB of features that are filled, encoded and scaled."""
    rng, step = np.random.default_rng(0), 25_000
    for k in range(6):
        frame = pd.DataFrame(rng.normal(size=(step, 48)).round(3)).add_prefix("n")
        frame.iloc[::9, ::5] = np.nan
        frame["colour"] = rng.choice(["red", "green"], step)
        frame["label"] = rng.integers(0, 2, step)
        frame.to_csv(tmp_path / "own.csv", mode="a", header=not k, index=False)
    words = ["ingest", "own.csv", "--scale", "standard"]
    code = f"from dskrobust.cli import main; main({words!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("memory "))
    peak, projected = re.findall(r"([\d.]+) (?:MiB|GiB)", line)
    assert float(peak) <= float(projected) < 1_024, line


def test_features_are_told_in_their_own_units(tmp_path):
    frame = passengers(80).assign(Boarded=pd.to_datetime("1912-04-10"))
    frame.loc[3, "Boarded"] += pd.Timedelta("2 days 18 hours")
    asked = dr.PreparationOptions(encode="ordinal", impute="median")
    store = dr.create_store(
        tmp_path / "own.zarr", frame.drop(columns="Name"), "Survived", preparation=asked
    )
    names, texts = store.spec.feature_names, feature_texts(store.spec, store.features[3])
    told = dict(zip(names, texts, strict=True))
    assert told["Boarded"] == "1912-04-12 18:00:00"
    assert feature_texts(store.spec, store.features[4])[names.index("Boarded")] == "1912-04-10"
    assert told["Sex"] == frame.Sex[3]
    assert float(told["Fare"]) == pytest.approx(frame.Fare[3], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_own_rows_are_prepared_as_the_stores_were(tmp_path, kind):
    frame = passengers(60)
    store = dr.create_store(
        tmp_path / "a.zarr", frame, "Survived", preparation=dr.PreparationOptions()
    )
    rows = np.asarray(dr.prepare(store, as_kind(frame.iloc[10:30], kind)))
    np.testing.assert_array_equal(rows, store.features[10:30])
    nameless = frame.iloc[10:30].drop(columns=["PassengerId", "Survived"])
    np.testing.assert_array_equal(dr.prepare(store, as_kind(nameless, kind)), rows)
    model = dr.SampleRobustness().fit(store.features[:], store.labels[:])
    scores = dr.sample_robustness(store).compute()
    found = model.score_samples(rows + 1e-9, store.labels[10:30])
    np.testing.assert_allclose(found, scores.robustness[10:30], rtol=1e-4)


def test_own_rows_of_another_kind_are_refused(tmp_path):
    frame = passengers(40)
    store = dr.create_store(
        tmp_path / "a.zarr", frame, "Survived", preparation=dr.PreparationOptions()
    )
    with pytest.raises(InvalidDataError, match="lacks the column 'Fare'"):
        dr.prepare(store, frame.drop(columns="Fare"))
    with pytest.raises(InvalidDataError, match="column 'Sex' holds numbers, but texts"):
        dr.prepare(store, frame.assign(Sex=1))
    with pytest.raises(InvalidDataError, match="row 3 has 'other' in column 'Sex'"):
        dr.prepare(store, frame.assign(Sex=["other" if k == 3 else "male" for k in range(40)]))
    plain = dr.create_store(tmp_path / "b.zarr", frame[["Fare", "Survived"]], "Survived")
    np.testing.assert_array_equal(dr.prepare(plain, frame), frame[["Fare"]])
    nameless = dr.create_store(tmp_path / "c.zarr", np.eye(2), [0, 1])
    with pytest.raises(InvalidOptionError, match="have no names"):
        dr.prepare(nameless, frame)


def test_categories_that_differ_in_case_or_blanks_are_pointed_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("plan,q,label\n" + "basic,1,a\nBasic ,2,b\npro,3,a\n" * 3)
    store = dr.ingest(str(path), tmp_path / "a.zarr")
    line = "plan: 'Basic ' and 'basic' differ only in case or blanks, and are two categories"
    assert line in store.spec.decisions
