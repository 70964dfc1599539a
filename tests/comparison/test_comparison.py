"""Comparisons: cleaned stores, two runs, evaluations before and after, the page and the command."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from looking import look_at
from pages import Page, check_page

import dskrobust as dr
from dskrobust import cli
from dskrobust.comparison.models import COLUMNS
from dskrobust.errors import InvalidOptionError, StaleResultsError
from dskrobust.evaluation.fold_matrices import interval
from dskrobust.label_thresholds import HIGHEST
from dskrobust.reviews import apply_decisions
from dskrobust.store import DecisionWriter

NAMES = ("zero", "one & <b>two</b>", "three")
WRONG, TWINS, DROPPED = (4, 11, 40), (20, 49), (33, 49)
PARTS = {"train": {"x": "train", "x_L30": "train:L30"}, "test": {"t": "test"}}


def data():
    """Ninety pictures of three classes: some labels are wrong, and two equal rows contradict."""
    rng = np.random.default_rng(2)
    y = np.arange(90) % 3
    X = np.clip(rng.normal(70 * y[:, None] + 30, 25, (90, 12)), 0, 255).astype(np.uint8)
    X[TWINS[1]] = X[TWINS[0]]
    y[list(WRONG)] = (y[list(WRONG)] + 1) % 3
    return X, y, np.where(np.arange(90) < 60, "train", "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store, and what cleaning made of it, both searched and evaluated."""
    folder = tmp_path_factory.mktemp("made")
    shown = {"classes": NAMES, "image_shape": (3, 4)}
    spec = dr.StoreSpec("pictures", "categorical", scale=1 / 255, **shown)
    before = dr.create_store(str(folder / "own.zarr"), *data(), spec=spec)
    dr.label_quality(before).write()
    writer = DecisionWriter(before)
    for row in WRONG:
        writer.add(row, "relabel", row % 3)
    for row in DROPPED:
        writer.add(row, "drop")
    after = apply_decisions(before, folder / "own-cleaned.zarr").store
    for store in (before, after):
        dr.label_quality(store).write()
        dr.evaluate(store, **PARTS, models=[dr.Model("knn", {"neighbors": [1, 3]})]).compute()
    return before, after


@pytest.fixture(scope="module")
def compared(made):
    return dr.compare(*made)


def test_what_cleaning_did_is_counted(made, compared):
    assert compared.rows.dropped.tolist() == sorted(DROPPED)
    assert compared.counts["relabelled"] == len(WRONG)
    old, new = (dr.sample_robustness(store) for store in made)
    R, S = (np.asarray(scores.robustness) for scores in (old, new))
    kept = np.setdiff1d(np.arange(90), DROPPED)
    change = S - R[kept]
    assert compared.counts["changed"] == (change != 0).sum()
    assert compared.counts["rising"] == (change > 0).sum()
    assert compared.counts["falling"] == (change < 0).sum()
    assert compared.counts["contradictory before"] == (np.asarray(old.reach) == 0).sum()
    assert compared.counts["contradictory after"] == (np.asarray(new.reach) == 0).sum()
    moved = compared.samples
    order = np.lexsort((np.arange(len(kept)), -np.abs(change)))
    relabelled = np.isin(kept, WRONG)
    order = [row for row in order if change[row] or relabelled[row]][:50]
    assert moved["row"].tolist() == order
    np.testing.assert_array_equal(moved["change"], change[order])
    np.testing.assert_array_equal(moved["R before"], R[kept][order])
    witness = np.asarray(old.witness)[kept][order]
    assert moved["witness before"].tolist() == witness.tolist()
    fates = {**dict.fromkeys(WRONG, "relabelled"), **dict.fromkeys(DROPPED, "dropped")}
    assert moved["it was"].tolist() == [fates.get(row, "") for row in witness.tolist()]
    assert set(compared.dropped["row"]) == set(DROPPED)


def test_suspicious_rows_are_counted_by_the_same_thresholds(made, compared):
    before, after = (dr.find_label_issues(store, threshold=HIGHEST) for store in made)
    old, new = (set(t.loc[t["is_issue"], "row"].tolist()) for t in (before, after))
    kept = np.setdiff1d(np.arange(90), DROPPED).tolist()
    here = {row: k for k, row in enumerate(kept)}
    assert compared.counts["suspicious before"] == len(old)
    assert compared.counts["suspicious after"] == len(new)
    assert compared.counts["suspicious dropped"] == len(old & set(DROPPED))
    assert compared.counts["suspicious no longer"] == len(
        [row for row in old - set(DROPPED) if here[row] not in new]
    )
    assert compared.counts["suspicious newly"] == len([r for r in new if kept[r] not in old])
    assert str(HIGHEST) in compared.found.thresholds


def test_classes_and_groups(made, compared):
    for store, side in zip(made, ("before", "after"), strict=True):
        labels, R = store.labels[:], np.asarray(dr.sample_robustness(store).robustness)
        for code, name in enumerate(NAMES):
            own = compared.classes.loc[name]
            assert own["rows", side] == (labels == code).sum()
            assert own["R", side] == pytest.approx(R[labels == code].mean(), abs=1e-14)
        for group in ("train", "test"):
            found = compared.groups.loc[group, ("median", side)]
            assert found == np.median(R[store.split == group])
    change = compared.classes["change", ""]
    assert change.abs().is_monotonic_decreasing
    assert compared.relabelled["rows"].sum() == len(WRONG)
    pairs = {(NAMES[data()[1][row]], NAMES[row % 3]) for row in WRONG}
    assert set(compared.relabelled[["before", "after"]].itertuples(index=False, name=None)) == pairs


def test_models_stand_cell_by_cell(made, compared):
    table = compared.models
    assert list(table) == list(COLUMNS)
    assert set(table["train"]) == {"x", "x_L30"}
    for store, side in zip(made, ("before", "after"), strict=True):
        matrix = dr.evaluate(store, **PARTS, models=[dr.Model("knn", {"neighbors": [1, 3]})])
        acc = matrix.compute().matrix().acc[0]
        found = table.set_index("train").loc[["x", "x_L30"], side]
        np.testing.assert_allclose(found, acc, atol=1e-15)
    assert table["low"].isna().all()  # one trial says nothing of its spread


def test_folds_of_the_same_rows_are_compared_one_by_one(tmp_path):
    X, y, _ = data()
    sides = []
    for name, scale in (("plain", 1.0), ("scaled", np.linspace(0.1, 5, 12))):
        store = dr.create_store(str(tmp_path / f"{name}.zarr"), X * scale, y)
        dr.sample_robustness(store).write()
        parts = {"train": {"x": "train"}, "test": {"t": "test"}}
        models = [dr.Model("knn", {"neighbors": [1]})]
        made = dr.evaluate(store, **parts, models=models, folds=3, seed=1).compute()
        sides.append((store, made.matrix().stacked("acc")[:, 0, 0]))
    (one, old), (other, new) = sides
    (line,) = dr.compare(one, other).models.itertuples()
    assert (line.low, line.high) == pytest.approx(interval(new - old))
    assert line.change == pytest.approx((new - old).mean())
    assert "3 folds, one by one" in line.repeats


# -- what is said ------------------------------------------------------------------------------


def test_it_is_said_in_words(compared):
    said = repr(compared)
    assert "Of 90 rows 2 are dropped and 3 are relabelled" in said
    assert "before, " in said
    assert "contradictory samples before, 0 after: 1 were dropped" in said
    assert "Class " in said
    assert "knn" in said
    html = compared._repr_html_()
    assert "<b>two</b>" not in html
    assert "Rows whose R changed most" in html


def test_two_runs_of_a_store(made, tmp_path):
    url = str(tmp_path / "own.zarr")
    shutil.copytree(made[0].url, url)
    with pytest.raises(InvalidOptionError, match=r"has 1 result of its data \(euclidean"):
        dr.compare(url)
    city = dr.sample_robustness(url, metric="cityblock").write()
    found = dr.compare(dr.sample_robustness(url), city)
    assert found.rows.same
    assert found.counts["relabelled"] == 0
    assert not len(found.models)
    R, S = (np.asarray(dr.sample_robustness(url, metric=m).robustness)
            for m in ("euclidean", "cityblock"))  # fmt: skip
    W, V = (np.asarray(dr.sample_robustness(url, metric=m).witness)
            for m in ("euclidean", "cityblock"))  # fmt: skip
    assert found.counts["other witness"] == (W != V).sum()
    assert f"{(W != V).sum():,} of 90 rows" in repr(found)
    assert "Class" not in repr(found)  # R of two metrics has two scales
    row = found.samples["row"].iloc[0]
    assert row == np.abs(S - R).argmax()
    assert "metric euclidean before, cityblock after" in repr(found)
    assert [line.words for line in dr.compare(url).headlines] == [
        line.words for line in found.headlines
    ]
    with pytest.raises(InvalidOptionError, match="both sides are"):
        dr.compare(city, city)
    dr.sample_robustness(url, metric="chebyshev").write()
    with pytest.raises(InvalidOptionError, match="has 3 results"):
        dr.compare(url)
    new = dr.create_store(str(tmp_path / "new.zarr"), *data())
    with pytest.raises(StaleResultsError, match="has no results yet"):
        dr.compare(url, new)
    lazy = dr.sample_robustness(new)
    with pytest.raises(InvalidOptionError, match="only scores that are in a store"):
        dr.compare(lazy, city)


def test_rows_that_nobody_knows_are_not_compared(made, tmp_path):
    X, y, split = data()
    other = dr.create_store(str(tmp_path / "other.zarr"), X[:70] / 255, y[:70] + 1, split[:70])
    dr.sample_robustness(other).write()
    found = dr.compare(made[0], other)
    assert found.rows is None
    assert not len(found.samples)
    assert "Which row is which is not known" in repr(found)
    assert found.classes["rows", "before"].sum() == 90
    assert found.classes["rows", "after"].sum() == 70
    path = found.write(tmp_path / "page.html")
    check_page(path)
    assert "Nothing tells which row" in Page(path).text


@pytest.mark.parametrize("labels", ["real", "vector"])
def test_other_labels(tmp_path, labels):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3))
    y = X[:, 0] * 10 if labels == "real" else X[:, :2]
    sides = []
    for name in ("one", "other"):
        store = dr.create_store(str(tmp_path / f"{name}.zarr"), X, y)
        dr.sample_robustness(store).write()
        sides.append(store)
        X = X + rng.normal(scale=0.1, size=X.shape)
    found = dr.compare(*sides)
    assert found.rows.same
    assert found.classes is None
    assert found.counts["relabelled"] == 0
    assert found.counts["changed"] > 0
    check_page(found.write(tmp_path / "page.html"))


# -- the page ----------------------------------------------------------------------------------


def test_the_page_is_whole_and_always_the_same(compared, made, tmp_path):
    path = compared.write(tmp_path / "page.html")
    check_page(path)
    page = Page(path)
    assert "one & <b>two</b>" in page.text
    for words in ("Rows whose R changed most", "dropped", "knn", "Provenance of both"):
        assert words in page.text
    assert any("witness" not in image["alt"] for image in page.all("img"))
    assert path.stat().st_size < 3 * 2**20
    again = dr.compare(*made).write(tmp_path / "again.html")
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(InvalidOptionError, match="is there already"):
        compared.write(path)
    compared.write(path, overwrite=True, anonymous=True)
    assert str(tmp_path.parent) not in path.read_text(encoding="utf-8")


def test_the_page_in_a_browser(compared, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no browser")
    text = compared.write(tmp_path / "page.html").read_text(encoding="utf-8")
    act = """
      const table = [...document.querySelectorAll("table.listing")].at(-2);
      const heads = [...table.tHead.rows[0].cells];
      const change = heads.findIndex(h => h.textContent === "change");
      heads[change].querySelector("button").click();
      return [...table.tBodies].map(b => b.rows[0].cells[change].textContent);
    """
    for width in (1280, 800, 500):
        found = look_at(browser, text, tmp_path / f"{width}.html", width, act)
        assert found["broken"] == found["missing"] == found["wide"] == found["loaded"] == []
        assert found["page"] <= found["width"]
        values = [float(v.replace("−", "-")) for v in found["acted"]]
        assert values == sorted(values)
        assert len(values) > 2


# -- the command -------------------------------------------------------------------------------


def call(*args, code=0):
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output + result.stderr
    return result.stdout if code == 0 else result.stderr


def test_the_command_says_what_changed_and_writes_a_page(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, after = (store.url for store in made)
    told = call("compare", before, after)
    assert "2 are dropped and 3 are relabelled" in told
    assert (tmp_path / "own-own-cleaned.html").exists()
    assert "projected" in told
    assert "is there already; --overwrite replaces it" in call("compare", before, after, code=1)
    call("compare", before, after, "--overwrite", "--top", 3)
    found = json.loads(call("compare", before, after, "--json"))
    assert found["rows"]["dropped"] == 2
    assert found["counts"]["relabelled"] == 3
    assert len(found["samples"]) > 3
    assert not (tmp_path / "x.html").exists()
    call("compare", before, after, "--json", "--out", "x.html")
    assert (tmp_path / "x.html").exists()
    assert "give the older store first" in call("compare", after, before, code=1)


def test_the_command_compares_runs(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = str(tmp_path / "own.zarr")
    shutil.copytree(made[0].url, url)
    assert "--after-metric" in call("compare", url, code=1)
    assert "dskrobust compute" in call("compare", url, "--after-metric", "cityblock", code=1)
    dr.sample_robustness(url, metric="cityblock").write()
    told = call("compare", url, "--after-metric", "cityblock")
    assert "metric euclidean before, cityblock after" in told
    assert (tmp_path / "own-compared.html").exists()
    reverse = call("compare", url, "-m", "cityblock", "--after-metric", "euclidean",
                   "--out", "r.html")  # fmt: skip
    assert "metric cityblock before, euclidean after" in reverse
    assert "did you mean 'cityblock'" in call("compare", url, "--after-metric", "citiblock", code=1)


def test_tables_are_plain_frames(compared):
    for name in ("differences", "groups", "classes", "relabelled", "dropped", "samples", "models"):
        assert isinstance(getattr(compared, name), pd.DataFrame)
