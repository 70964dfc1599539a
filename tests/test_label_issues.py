"""The ranked table of labels that are suspicious, and the command `issues`."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from dask.callbacks import Callback
from hypothesis import given, settings
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from strategies import data_sets

import dskrobust as dr
from dskrobust import cli, label_issues, label_planting, memory, scores, witnesses
from dskrobust.cli import compute as runs
from dskrobust.cluster import ClusterOptions, local
from dskrobust.errors import InvalidOptionError, MemoryPlanError
from dskrobust.label_issues import Findings
from dskrobust.subsets import whole

COLUMNS = ["row", "split", "is_issue", "score", "given_label", "suggested_label", "witness"]
COLUMNS += ["witness_distance", "nearest_same", "same_distance", "ratio", "witness_of"]
WRONG = 7  # a sample amid the other class


@pytest.fixture(autouse=True)
def _plant_little(monkeypatch):
    monkeypatch.setattr(label_planting, "ROUNDS", 12)


@pytest.fixture(scope="module")
def made():
    """Two distant classes, a wrong label, and a class with a single sample."""
    rng = np.random.default_rng(5)
    y = np.repeat(["cat", "dog"], 30)
    X = rng.normal(size=(60, 3)) + 20 * (y == "dog")[:, None]
    y[WRONG] = "dog"
    return np.vstack([X, [[50.0, 50, 50]]]), np.append(y, "owl")


@pytest.fixture(scope="module")
def url(tmp_path_factory, made):
    url = str(tmp_path_factory.mktemp("labels") / "s.zarr")
    dr.label_quality(dr.create_store(url, *made)).write()
    return url


@settings(max_examples=20)
@given(made=data_sets(labels=("categorical",)))
def test_every_row_is_there_and_agrees_with_the_search(made):
    found = dr.label_quality(made.X, made.y, made.split, scale=made.scale).compute()
    table = dr.find_label_issues(made.X, made.y, made.split, scale=made.scale, threshold=0.4)
    assert list(table.columns) == COLUMNS
    assert sorted(table["row"]) == list(range(len(made.y)))
    rows = table["row"].to_numpy()
    np.testing.assert_array_equal(table["score"], found.score[rows])
    known = table["score"].dropna()
    assert known.is_monotonic_increasing
    assert known.between(0, 1).all()
    assert table["score"].notna().sum() == (found.same >= 0).sum()
    ties = table["score"].diff() == 0
    assert (table["row"].diff()[ties] > 0).all()
    names = np.array([str(label) for label in made.y])
    assert table["given_label"].tolist() == names[rows].tolist()
    asked = table.dropna(subset="witness")
    assert asked["suggested_label"].tolist() == names[asked["witness"].astype(int)].tolist()
    assert (asked["given_label"] != asked["suggested_label"]).all()
    issues = table[table["is_issue"]]
    assert (issues["score"] <= 0.4).all()
    score = table.set_index("row")["score"]
    assert (issues["score"].to_numpy() <= score[issues["witness"].astype(int)].to_numpy()).all()


def test_wrong_digits_are_found_with_their_labels():
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(y), 54, replace=False)
    noisy = y.copy()
    noisy[wrong] = (y[wrong] + rng.integers(1, 10, 54)) % 10
    table = dr.find_label_issues(dr.sample_robustness(X, noisy), threshold=0.4)
    is_wrong = np.isin(table["row"], wrong)
    assert average_precision_score(is_wrong, -table["score"]) > 0.97
    hits = table["is_issue"] & is_wrong
    assert hits.sum() >= 52
    assert table["is_issue"].sum() <= 70
    suggested = table.loc[hits, "suggested_label"].astype(int)
    assert (suggested == y[table.loc[hits, "row"]]).mean() > 0.95


def test_the_wrong_label_comes_first(made):
    table = dr.find_label_issues(*made)
    first, last = table.iloc[0], table.iloc[-1]
    assert (first["row"], first["given_label"], first["suggested_label"]) == (WRONG, "dog", "cat")
    assert first["is_issue"]
    assert table["is_issue"].sum() == 1
    assert (last["row"], last["given_label"], last["is_issue"]) == (60, "owl", False)
    assert last[["score", "nearest_same", "same_distance", "ratio"]].isna().all()
    assert not dr.find_label_issues(*made, threshold=0)["is_issue"].any()


def test_both_of_a_contradiction_are_issues():
    X = np.array([[0.0], [1.0], [9.0], [9.0], [20.0], [21.0]])
    table = dr.find_label_issues(X, [0, 0, 0, 1, 1, 1], threshold=0)
    assert sorted(table.loc[table["is_issue"], "row"]) == [2, 3]


def test_scores_of_anything_will_do(made, url, raise_if_dask_computes):
    expected = dr.find_label_issues(*made)
    store = dr.open_store(url)
    stored = [url, store, dr.sample_robustness(store), dr.label_quality(store)]
    lazy = dr.sample_robustness(*made)
    for data in (*stored, lazy, lazy.compute(), dr.label_quality(*made), dr.label_quality(lazy)):
        pd.testing.assert_frame_equal(dr.find_label_issues(data), expected)
    with raise_if_dask_computes():
        dr.label_quality(lazy)


@pytest.mark.parametrize("top", [1, 7, 61, 100])
def test_the_worst_few_are_those_of_the_whole_table(url, made, top):
    for data in ((url,), made):
        worst = dr.find_label_issues(*data, top=top)
        pd.testing.assert_frame_equal(worst, dr.find_label_issues(*data).head(top))


def test_no_task_holds_all_rows(tmp_path, made, monkeypatch):
    """Not of results, nor of the joins of rows with their witnesses, and the client few."""
    monkeypatch.setattr(scores, "RESULT_ROWS", 10)
    monkeypatch.setattr(witnesses, "ROWS", 20)
    store = dr.create_store(str(tmp_path / "s.zarr"), *made)
    quality = dr.label_quality(store).write()
    sizes = []

    def look(key, result, dask, state, worker):
        sizes.extend(np.size(part) for part in (result if isinstance(result, tuple) else [result]))

    with Callback(posttask=look):
        found = Findings.of(quality, 0.4).summary(top=3)
    assert len(sizes) > 100
    assert max(sizes) <= 20
    pd.testing.assert_frame_equal(found.worst, dr.find_label_issues(*made).head(3))
    assert (found.issues, found.rows) == (1, 61)


def test_more_than_fits_is_refused_with_the_numbers(url, monkeypatch):
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(local, "this_machine", lambda: local.Machine(2, 20_000))
    with pytest.raises(MemoryPlanError, match=r"61 rows .* 24 KiB .* 20 KiB; .* top=1_000"):
        dr.find_label_issues(url)
    assert len(dr.find_label_issues(url, top=61)) == 61
    stored = dr.sample_robustness(dr.open_store(url))
    monkeypatch.setattr(local, "this_machine", lambda: local.Machine(2, 4_000))
    for ask in (stored.to_frame, stored.compute):
        with pytest.raises(MemoryPlanError, match=r"61 rows .* 4 KiB; .* export_scores"):
            ask()


def test_numpy_copies_that_do_not_fit_are_refused(url, monkeypatch):
    stored, lists = dr.sample_robustness(url), dr.nearest_neighbours(url, 2)
    asks = (dr.label_quality(url).compute, lists.compute, lists.graph, whole(stored).compute)
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(local, "this_machine", lambda: local.Machine(2, 500))
    for ask in asks:
        with pytest.raises(MemoryPlanError, match=r"61 rows"):
            ask()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"top": 0}, "top must be a number of samples from 1 on, not 0"),
        ({"threshold": 1.5}, "threshold must lie between 0 and 1, but is 1.5"),
        ({"threshold": float("nan")}, "threshold must lie"),
    ],
)
def test_bad_options_are_refused(made, given, message):
    with pytest.raises(InvalidOptionError, match=message):
        dr.find_label_issues(*made, **given)


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def call(url):
    """Run the command on a store whose results are all there; return standard output."""

    def run(*arguments):
        result = CliRunner().invoke(cli.main, ["issues", url, *map(str, arguments)])
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        return result.stdout

    return run


def test_the_command_lists_the_worst(call):
    lines = call("--top", 3).splitlines()
    assert lines[0] == "1 of 61 labels is suspicious"
    (head,) = (k for k, line in enumerate(lines) if "suggested" in line)
    listed = [line.split() for line in lines[head + 1 :] if line.strip()[:2] == "0."]
    assert len(listed) == 3
    assert listed[0][1:4] == [str(WRONG), "dog", "cat"]
    assert "Pale: no issue." in " ".join(lines)
    (alone,) = (x.split() for x in call("--top", 61).splitlines() if x.split()[:1] == ["–"])
    assert (alone[0], alone[1], alone[-3:-1]) == ("–", "60", ["–", "–"])


def test_json(call, url):
    first, *others = json.loads(call("--json", "--top", 61))
    assert len(others) == 60
    expected = dr.find_label_issues(url).iloc[0].to_dict()
    assert first == expected
    assert others[-1]["score"] is others[-1]["nearest_same"] is others[-1]["ratio"] is None


@pytest.mark.parametrize("name", ["all.csv", "all.csv.gz", "all.parquet"])
def test_all_samples_are_written(call, url, tmp_path, name):
    out = tmp_path / name
    assert f"saved       {out}" in call("--out", out, "--top", 2)
    table = pd.read_parquet(out) if name.endswith("t") else pd.read_csv(out)
    expected = dr.find_label_issues(url)
    pd.testing.assert_frame_equal(table.astype(expected.dtypes), expected)


def test_a_threshold_can_be_given(call):
    assert call("--max-score", 0.0, "--top", 1).startswith("0 of 61 labels are suspicious")


def test_vector_labels_are_refused(tmp_path):
    X = np.arange(20.0)[:, None]
    store = dr.create_store(str(tmp_path / "r.zarr"), X, np.hstack([X, X]) / 7)
    result = CliRunner().invoke(cli.main, ["issues", store.url])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.endswith("has vector labels; how they fit is told for categories only")


@pytest.mark.parametrize("name", ["all.csv", "all.parquet"])
def test_of_many_samples_the_file_has_the_order_of_the_rows(call, url, tmp_path, monkeypatch, name):
    monkeypatch.setattr(label_issues, "SORTED_ROWS", 60)
    monkeypatch.setattr(label_issues, "NAMED_ROWS", 7)
    out = tmp_path / name
    call("--out", out)
    table = pd.read_parquet(out) if name.endswith("t") else pd.read_csv(out)
    expected = dr.find_label_issues(url).sort_values("row", ignore_index=True)
    pd.testing.assert_frame_equal(table.astype(expected.dtypes), expected)


def test_of_many_rows_workers_make_the_tables(url, monkeypatch):
    def started(options):
        raise ConnectionRefusedError

    monkeypatch.setattr("dskrobust.cluster.connect", started)
    store = dr.open_store(url)
    with runs.workers_for(store, ClusterOptions()):
        monkeypatch.setattr(runs, "MOST_HERE", 60)
    with pytest.raises(ConnectionRefusedError), runs.workers_for(store, ClusterOptions()):
        pass


def test_what_is_missing_is_computed_first(tmp_path, made, local_cluster):
    """On the workers, as is what is made of it."""
    fresh = dr.create_store(str(tmp_path / "f.zarr"), *made)
    where = ["--scheduler", local_cluster.scheduler_address]
    asked = ["issues", fresh.url, "--json", *where, "--top", "1"]
    here = []
    with Callback(pretask=lambda key, dask, state: here.append(key)):
        result = CliRunner().invoke(cli.main, asked)
    assert here == []
    assert result.exit_code == 0, result.output
    assert [issue["row"] for issue in json.loads(result.stdout)] == [7]
