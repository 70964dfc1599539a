"""Ids of rows are given back: frames, files, commands, the report."""

import json

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli, export
from dskrobust.label_issues import issue_table
from dskrobust.report import write_report
from dskrobust.store import StoredArray

RNG = np.random.default_rng(5)
N = 60
NAMES = np.array([f"<p{k}>" for k in RNG.permutation(N)], object)
FRAME = pd.DataFrame(RNG.random((N, 3)), columns=list("abc"), index=pd.Index(NAMES, name="who"))
FRAME = FRAME.assign(species=np.where(RNG.random(N) < 0.4, "cat", "dog"))


def store_of(folder, frame, y="species"):
    return dr.create_store(str(folder / "own.zarr"), frame, y)


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    store = store_of(tmp_path_factory.mktemp("ids"), FRAME)
    dr.label_quality(store).write()
    return dr.sample_robustness(store)


@pytest.fixture
def call(scores):
    def run(command, *arguments):
        asked = [command, scores.store.url, *map(str, arguments)]
        result = CliRunner().invoke(cli.main, asked)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def assert_named(table, named="witness"):
    """The witness of a row, found by its number, has the id beside it."""
    rows = table[named].dropna().astype(int)
    assert table.loc[rows.index, f"{named}_id"].tolist() == NAMES[rows].tolist()


@pytest.mark.parametrize("how", ["stored", "arrays", "dask"])
def test_scores_join_the_frame(scores, how):
    if how != "stored":
        data = FRAME if how == "arrays" else dd.from_pandas(FRAME, npartitions=3, sort=False)
        scores = dr.sample_robustness(data, "species")
    joined = FRAME.join(scores.to_frame())
    assert joined.index.name == "who"
    np.testing.assert_array_equal(joined["row"], np.arange(N))
    assert joined["species"].tolist() == joined["label"].tolist()
    np.testing.assert_array_equal(joined["reach"], np.asarray(scores.reach))
    assert_named(joined)


@pytest.mark.parametrize("order", ["filtered", "levels"])
def test_numbers_and_levels_join_too(tmp_path, order):
    numbers = RNG.permutation(N) * 3
    levels = pd.MultiIndex.from_arrays([NAMES, numbers])
    frame = FRAME.set_axis(numbers if order == "filtered" else levels)
    store = store_of(tmp_path, frame)
    joined = frame.set_axis(store.ids[:]).join(dr.sample_robustness(store).to_frame())
    np.testing.assert_array_equal(joined["row"], np.arange(N))
    if order == "filtered":
        assert frame.index.equals(pd.Index(store.ids[:]))
        np.testing.assert_array_equal(joined["witness_id"], numbers[joined["witness"]])
    else:
        assert joined.index[4] == f"{NAMES[4]}/{numbers[4]}"


def test_every_group_and_real_labels_have_names(tmp_path):
    frame = FRAME.drop(columns="species").assign(y=RNG.random(N))
    store = dr.create_store(str(tmp_path / "own.zarr"), frame, "y", np.arange(N) % 2)
    table = dr.sample_robustness(store).to_frame(by_group=True)
    assert "reach_0_id" not in table
    for named in ("witness", "nearest", "witness_0", "witness_1"):
        assert_named(table, named)


def test_tables_without_ids_are_as_before(tmp_path):
    store = store_of(tmp_path, FRAME.reset_index(drop=True))
    scores = dr.sample_robustness(store)
    assert scores.ids is None
    table = scores.to_frame()
    assert table.index.equals(pd.RangeIndex(N))
    assert not any("id" in name.split("_") for name in table)
    assert dr.least_robust(scores, 3).ids is None


def test_issues_and_subsets_are_named(scores):
    issues = dr.find_label_issues(scores)
    assert issues.index.tolist() == NAMES[issues["row"]].tolist()
    assert_named(issues)
    assert_named(issues, "nearest_same")
    least = dr.least_robust(scores, 4).compute()
    assert least.ids.tolist() == NAMES[least.indices].tolist()


# -- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", export.FORMATS)
def test_files_begin_with_the_id(call, scores, tmp_path, monkeypatch, end):
    monkeypatch.setattr(export, "NAMED_ROWS", 7)
    for command, expected in (
        ("export", scores.to_frame()),
        ("issues", dr.find_label_issues(scores)),
    ):
        out = tmp_path / f"{command}{end}"
        call(command, "--out", out)
        table = pd.read_parquet(out) if end == ".parquet" else pd.read_csv(out)
        expected = expected.reset_index()
        assert table.columns[0] == "id"
        pd.testing.assert_frame_equal(table.astype(expected.dtypes), expected)


def test_a_first_block_without_a_witness_fits_the_others(tmp_path):
    table = pd.DataFrame({"row": range(4), "witness": pd.array([None, None, 3, 0], "Int64")})
    blocks = [export.with_ids(table[a : a + 2], NAMES) for a in (0, 2)]
    path = export.write_frames(blocks, tmp_path / "a.parquet")
    assert pd.read_parquet(path)["witness_id"].tolist()[2:] == [NAMES[3], NAMES[0]]


def test_subsets_are_written_with_ids(call, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "NAMED_ROWS", 7)
    call("subsets", "--least", 20, "--most", 3, "--out", tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {f"all_{s}{end}" for s in ("L20", "M3") for end in ("", "_ids")}
        for name in ("all_L20", "all_M3"):
            assert arrays[f"{name}_ids"].tolist() == NAMES[arrays[name]].tolist()


def test_only_what_is_shown_is_read(call, scores, monkeypatch):
    read = []
    real = StoredArray._pick

    def pick(self, rows):
        if self._name == "ids":
            read.append(len(rows))
        return real(self, rows)

    monkeypatch.setattr(StoredArray, "_pick", pick)
    issue_table(dr.label_quality(scores))
    next(export.score_frames(scores, rows=5))
    assert max(read) == 5
    call("issues", "--top", 3)
    call("show", 3)
    call("show")
    assert max(read) <= 10


# -- commands ----------------------------------------------------------------------------------


def test_shown_rows_have_names(call, scores):
    (facts,) = json.loads(call("show", 3, "--json"))
    witness = int(scores.witness[3].compute())
    own = facts["against"]["all"]
    assert (facts["row"], facts["id"], own["witness_id"]) == (3, NAMES[3], NAMES[witness])
    assert NAMES[witness] in call("show", 3)
    first = json.loads(call("show", "--json"))["least_robust"][0]
    assert first["id"] == NAMES[first["row"]]
    assert first["witness_id"] == NAMES[first["witness"]]
    (line,) = (x for x in call("show").splitlines() if x.split()[:1] == [str(first["row"])])
    assert line.split()[1] == first["id"]
    assert "ids         text" in call("show")


def test_listed_issues_have_names(call):
    (first,) = json.loads(call("issues", "--json", "--top", 1))
    assert first["id"] == NAMES[first["row"]]
    assert any(first["id"] in x and first["witness_id"] in x for x in call("issues").splitlines())


def test_the_report_has_names(scores, tmp_path):
    page = write_report(scores.store.url, tmp_path / "r.html").read_text()
    least = dr.least_robust(scores, 1).ids[0]
    assert least.replace("<", "&lt;").replace(">", "&gt;") in page
    assert least not in page
