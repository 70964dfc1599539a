"""The report: what the page shows, the paper's list, own images, the command, and a browser."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from distributed import Client
from helpers import ROOT
from looking import look_at
from matplotlib.figure import Figure
from pages import Page, check_page

import dskrobust as dr
from dskrobust import cli
from dskrobust.errors import InvalidDataError, InvalidOptionError, StaleResultsError
from dskrobust.evaluation.findings import PROBABILITIES
from dskrobust.label_thresholds import HIGHEST
from dskrobust.report import (
    ReportOptions,
    StoredResults,
    Wishes,
    catalogue,
    draw,
    drawing,
    score_own,
    write_report,
)
from dskrobust.report.tables import closest_pairs, extremes
from dskrobust.store import current_results, find_evaluations

CLASSES = ("<b>cat</b> & co", "dog", "a class with quite a long name")
MODEL = dr.Model("forest", {"trees": [1, 2, 3], "criterion": ["gini", "entropy"]})


def results_of(url, **options):
    store = dr.open_store(url)
    return StoredResults(store, current_results(store), **options)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A scored store of small images with contradictory pairs, forests and a network's curves."""
    rng = np.random.default_rng(3)
    y = np.arange(90) % 3
    X = (60 * y[:, None] + rng.integers(0, 120, (90, 36))).astype(np.uint8)
    X[1], X[31] = X[0], X[30]
    split = np.where(np.arange(90) < 60, "train", "test")
    shown = {"classes": CLASSES, "image_shape": (6, 6)}
    spec = dr.StoreSpec("small <images>", "categorical", scale=1 / 255, **shown)
    url = str(tmp_path_factory.mktemp("images") / "images.zarr")
    store = dr.create_store(url, X, y, split, spec=spec)
    dr.label_quality(store).write()
    parts = {
        "train": {"x": "train", "x_L30": "train:L30"},
        "test": {"t": "test", "t_L9": "test:L9"},
    }
    dr.evaluate(url, **parts, models=[MODEL], trials=2).compute()
    add_network(dr.open_store(url))
    return url


def add_network(store):
    """Add the record of a network of two trials, as evaluations keep it."""
    (records,) = find_evaluations(store)
    rows = [
        {"train": "x", "test": test, "setting": {"epochs": epochs}, "trial": trial, "seed": trial,
         "loss": 1 / epochs, "acc": epochs / 4, "balanced_loss": 2 / epochs}
        for test in ("t", "t_L9") for epochs in (1, 2) for trial in (1, 2)
    ]  # fmt: skip
    facts = {
        "model": "cnn", "kind": "cnn", "parameters": {}, "options": {}, "seeds": [1, 2],
        "seconds": 3661.0, "date": "2026-11-23T10:00:00+00:00", "versions": {},
        "curve_epochs": [1, 2, 3], "curve_tests": ["t", "t_L9"],
    }  # fmt: skip
    arrays = {
        "curves": np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2) / 24,
        PROBABILITIES["train"]: np.full(60, 0.875, np.float32),
    }
    records.save("network", {"rows": rows, "facts": facts}, arrays)


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """A scored store of real labels with two features, in one group, never evaluated."""
    rng = np.random.default_rng(8)
    X = rng.uniform(size=(40, 2))
    url = str(tmp_path_factory.mktemp("plane") / "plane.zarr")
    spec = dr.StoreSpec("plane", "real", feature_names=("width", "height"))
    store = dr.create_store(url, X, 100 * X[:, 0] + rng.normal(size=40), spec=spec)
    dr.sample_robustness(store).write()
    return url


@pytest.fixture(scope="module")
def pages(images, plane, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {Path(url).stem: write_report(url, folder / f"{Path(url).stem}.html")
            for url in (images, plane)}  # fmt: skip


# -- the page --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["images", "plane"])
def test_a_page_is_whole_accessible_and_needs_nothing(pages, name):
    check_page(pages[name])


def test_what_the_page_of_images_says(pages, images):
    page, results = Page(pages["images"]), results_of(images)
    assert "Sample robustness of small <images>" in page.text
    assert "<b>cat</b> & co" in page.text  # as text, not as an element
    assert not page.all("b") or "cat" not in str(page.all("b"))
    assert "What was noticed of the data when it was written." in page.text
    assert "classes, <b>cat</b> & co: " in page.text
    assert "4 samples have a twin at distance 0 with another label" in page.text
    for digest in (digest for _, digest in results.store.segments):
        assert digest in page.text
    for row, witness in ((0, 1), (30, 31)):
        assert re.search(rf"\b{row} \S.*? {witness} ", page.text)
    assert "forest" in page.text
    assert "re-weighted by class" in page.text
    assert "1:01:01 h" in page.text
    assert "(0.88)" in page.text  # the network's probability
    least = results.samples.query("group == 'train'")["robustness"].min()
    assert f"R {least:.4f} (0.88)" in page.text


def test_label_issues_are_shown_where_the_store_knows_them(images, pages, tmp_path):
    issues = dr.find_label_issues(images, threshold=HIGHEST)  # as no errors were planted yet
    found = issues[issues["is_issue"]]
    page = Page(pages["images"])
    assert f"The {min(12, len(found))} most suspicious labels" in page.text
    same = found["nearest_same"].iloc[0]
    assert any(img["alt"].startswith(f"row {same},") for img in page.all("img"))
    lacking = tmp_path / "lacking.zarr"
    shutil.copytree(images, lacking)
    for about in (lacking / "results").glob("*/record.result"):
        if '"same"' in about.read_text():
            shutil.rmtree(about.parent)
    assert "Nobody has looked yet." in Page(write_report(str(lacking), tmp_path / "r.html")).text


def test_what_the_page_of_a_plane_says(pages):
    page = Page(pages["plane"])
    assert "No sample has a twin at distance 0 with another label." in page.text
    assert "differs most in" in page.text
    assert re.search(r"width [\d.e-]+ → [\d.e-]+", page.text)
    assert "No model was evaluated on this data yet: " in page.text
    assert "has one group" in page.text
    assert "ingest the data with --test-size 0.2" in page.text
    assert "dskrobust evaluate" not in page.text
    assert len(page.all("img")) == 2  # R, and the labels of the halves


def test_only_shown_rows_are_read(images, monkeypatch, tmp_path):
    asked = []
    plain = type(dr.open_store(images).features).__getitem__

    def watched(self, key):
        if self._name == "features":
            asked.append(key)
        return plain(self, key)

    monkeypatch.setattr(type(dr.open_store(images).features), "__getitem__", watched)
    monkeypatch.setattr("dskrobust.report.style.save", lambda figure, kind: b"")
    write_report(images, tmp_path / "r.html", options=ReportOptions(samples=1, pairs=2))
    assert asked
    for key in asked:
        assert isinstance(key, np.ndarray)
        assert len(key) <= 2 * 3 * 2 + 4


def test_vector_labels_and_another_metric(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    X, url = rng.normal(size=(20, 3)), str(tmp_path / "vectors.zarr")
    store = dr.create_store(url, X, rng.normal(size=(20, 2)))
    dr.sample_robustness(store, metric="mahalanobis").write()
    monkeypatch.setattr("dskrobust.report.style.save", lambda figure, kind: b"")
    page = Page(write_report(url, tmp_path / "r.html"))
    assert "mahalanobis" in page.text
    assert "quantiles of the labels" in page.text
    found = score_own(results_of(url), X[:4], store.labels[:4] * 0.99)
    assert (found["reach"] == 0).all()  # of the sample itself, whose label is another now
    assert found["witness"].tolist() == [0, 1, 2, 3]


def test_no_results_yet(tmp_path):
    url = str(tmp_path / "new.zarr")
    dr.create_store(url, np.eye(4), np.arange(4) % 2)
    with pytest.raises(StaleResultsError, match="has no results yet; call sample_robustness"):
        write_report(url, tmp_path / "r.html")
    result = CliRunner().invoke(cli.main, ["report", url])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "dskrobust compute" in result.stderr


# -- tables ----------------------------------------------------------------------------------


def test_extremes_are_those_of_the_subsets(images):
    results = results_of(images)
    table = extremes(results.samples, "train", 3)
    train = results.samples.query("group == 'train'")
    for name, part in table.groupby("label"):
        own = train.loc[train["label"] == name, "robustness"]
        least = part[part["end"] == "least"]
        assert least["robustness"].tolist() == sorted(own)[:3]
        most = part[part["end"] == "most"]
        assert most["robustness"].tolist() == sorted(own, reverse=True)[:3]
    scores = results.scores
    everything = extremes(results.samples.drop(columns="label"), "train", 5)
    found = everything.query("end == 'least'")["row"].tolist()
    assert found == dr.least_robust(scores, 5, "train").compute().indices.tolist()


def test_pairs_are_there_once_the_closest_first(images):
    samples = results_of(images).samples
    pairs = closest_pairs(samples, 10)
    assert len(pairs) == len({frozenset(p) for p in pairs[["row", "witness"]].to_numpy().tolist()})
    assert pairs["robustness"].is_monotonic_increasing
    assert pairs[pairs["kind"] == "contradictory"][["row", "witness"]].to_numpy().tolist() == [
        [0, 1],
        [30, 31],
    ]


def test_subsets_stand_beside_their_group(images, plane):
    found = results_of(images).subsets
    assert {group: [s.name for s in part] for group, part in found.items()} == {
        "train": ["x", "x_L30"],
        "test": ["t", "t_L9"],
    }
    asked = results_of(images, subsets=["test:L4", "test:M5"]).subsets
    assert [s.name for s in asked["test"]] == ["test", "test_L4", "test_M5"]
    assert [s.name for s in results_of(plane).subsets["all"]] == ["all", "all_L20", "all_M20"]


@pytest.mark.cluster
def test_evaluations_may_call_other_rows_alike(tmp_path, local_cluster):
    rng, url = np.random.default_rng(8), str(tmp_path / "real.zarr")
    X, halves = rng.uniform(size=(40, 2)), np.repeat(["train", "test"], 20)
    store = dr.create_store(url, X, X[:, 0] + 1, halves, spec=dr.StoreSpec("real", "real"))
    dr.sample_robustness(store).write()
    model = dr.Model("sklearn.linear_model.Ridge")
    with Client(local_cluster):
        for suffix in ("", ":L8", ":M8"):
            asked = {"x": f"train{suffix}"}, {"t": f"test{suffix}"}
            dr.evaluate(store, dr.Experiment(*asked, [model])).compute()
    names = [[s.name for s in part] for part in results_of(url).subsets.values()]
    assert sorted(names) == [
        ["t", "t (8 samples)", "t (8 samples), 2"],
        ["x", "x (8 samples)", "x (8 samples), 2"],
    ]
    page = write_report(url, tmp_path / "real.html").read_text(encoding="utf-8")
    assert "x (8 samples), 2" in page


def test_the_newest_of_two_steps_counts(images, tmp_path):
    url = str(tmp_path / "twice.zarr")
    shutil.copytree(images, url)
    store = dr.open_store(url)
    (records,) = find_evaluations(store)
    old = records.load("network")
    old["facts"]["date"] = "2020-01-01T00:00:00+00:00"
    rows = [{**row, "acc": 0.0} for row in old["rows"]]
    records.save("older", {"rows": rows, "facts": old["facts"]})
    tables = {m.spec.name: m for m in results_of(url).evaluations[0].models}
    again = {m.spec.name: m for m in results_of(images).evaluations[0].models}
    pd.testing.assert_frame_equal(tables["cnn"].table, again["cnn"].table)
    assert len(tables["cnn"].steps) == 2


def test_matrices_are_those_of_the_evaluation(images):
    parts = {
        "train": {"x": "train", "x_L30": "train:L30"},
        "test": {"t": "test", "t_L9": "test:L9"},
    }
    made = dr.evaluate(images, **parts, models=[MODEL], trials=2).compute()
    (forest,) = (m for m in results_of(images).evaluations[0].models if m.spec.kind == "forest")
    columns = ["train", "test", "trees", "criterion", "trial", "loss", "acc"]
    pd.testing.assert_frame_equal(forest.table[columns], made.table[columns], check_dtype=False)
    for best in ("t", "each"):
        found = forest.matrices(best)
        shown = made.matrices(best)
        whole = shown[0].matrices if hasattr(shown[0], "matrices") else shown
        assert sorted(m.sheet().title for m in found) == sorted(m.sheet().title for m in whole)
        by_title = {m.sheet().title: m.sheet() for m in whole}
        assert all(m.sheet() == by_title[m.sheet().title] for m in found)


# -- the paper's list --------------------------------------------------------------------------


def test_the_list_has_every_table_and_figure_once():
    names = [entry.name for entry in catalogue]
    wanted = [f"Table {n}" for n in range(1, 11)] + [f"Figure {n}" for n in range(1, 14)]
    assert names[: len(wanted)] == wanted
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("entry", catalogue, ids=lambda entry: entry.name)
def test_an_entry_names_what_is_there(entry):
    assert callable(entry.resolve())
    for line in filter(None, (entry.needs, entry.command)):
        program, name, *arguments = shlex.split(line)
        assert program == "dskrobust"
        command = cli.main.commands[name]
        command.make_context(name, arguments)  # refuses options that are not there
        for path in arguments:
            assert not path.endswith(".toml") or (ROOT / path).is_file()


@pytest.mark.parametrize("number", range(1, 14))
def test_every_figure_is_made_of_small_stores(images, plane, number, monkeypatch):
    entry = next(e for e in catalogue if e.name == f"Figure {number}")
    called = []
    name = entry.function.rsplit(".", 1)[1]
    plain = entry.resolve()
    monkeypatch.setattr(f"dskrobust.report.figures.{name}",
                        lambda *a, **k: called.append(name) or plain(*a, **k))  # fmt: skip
    real = number in (1, 3, 9)
    wishes = Wishes(own=(np.zeros((2, 6, 6), np.uint8), ["dog", "owl"]), threshold=0.5)
    results = results_of(plane if real else images)
    if number in (8, 10):  # of nearest neighbours there is no evaluation
        with pytest.raises(InvalidOptionError, match="no evaluation of knn"):
            draw(results, number, wishes)
        for each in results.evaluations[0].models:
            object.__setattr__(each.spec, "kind", "knn")
    assert isinstance(draw(results, number, wishes), Figure)
    assert called == [name]


def test_figures_that_a_store_has_nothing_for(images, plane):
    for url, number, message in (
        (images, 1, "samples with two features"),
        (images, 3, "shows real labels"),
        (plane, 4, "shows classes"),
        (plane, 2, "holds no images"),
        (plane, 6, "no curves over epochs; .* has one group"),
        (images, 8, "no evaluation of knn; run dr.evaluate"),
        (plane, 11, "no evaluation of forest"),
        (images, 13, "give them as Wishes"),
        (images, 14, "figures 1 to 13, not 14"),
    ):
        with pytest.raises(InvalidOptionError, match=message):
            draw(results_of(url), number)
    with pytest.raises(InvalidOptionError, match="there is no class 'owl'"):
        draw(results_of(images), 2, Wishes(classes=["owl"]))


def test_figures_have_names(images, monkeypatch):
    assert set(drawing.FIGURES) >= {entry.figure for entry in catalogue if entry.figure}
    assert isinstance(draw(results_of(images), "extreme_columns"), Figure)
    with pytest.raises(InvalidOptionError, match="did you mean 'extreme_rows'"):
        draw(results_of(images), "extreme_row")
    monkeypatch.setattr(drawing, "FIGURES", {})
    drawing.figure("blank")(lambda results, wishes: Figure())  # all that a new one takes
    assert isinstance(draw(results_of(images), "blank"), Figure)


# -- own samples -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
def test_own_images_are_scored_as_the_estimator_does(images):
    store = dr.open_store(images)
    X, y = store.features[60:70], store.labels[60:70]
    found = score_own(results_of(images), X.reshape(10, 6, 6), [CLASSES[label] for label in y])
    model = dr.SampleRobustness(scale=1 / 255).fit(store.features[:60], store.labels[:60])
    assert found["robustness"].tolist() == model.score_samples(X, y).tolist()
    near = np.linalg.norm(X[0].astype(float) - store.features[:60].astype(float), axis=1)
    near[store.labels[:60] == y[0]] = np.inf
    assert found["witness"][0] == near.argmin()
    assert found["witness_label"][0] == CLASSES[store.labels[near.argmin()]]
    new = score_own(results_of(images), X, ["owl"] * 10, within="test")
    assert (new["reach"] == 0).all()  # the samples themselves: none of them is an owl
    assert new["witness"].tolist() == list(range(60, 70))


@pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
def test_numbers_are_names_where_classes_are_called_by_numbers(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 3 + 1
    store = dr.create_store(tmp_path / "own.zarr", X, y.astype(str))
    dr.sample_robustness(store).write()
    results = results_of(store.url)
    by_name, by_number = (
        score_own(results, X[:4], labels) for labels in (y[:4].astype(str), y[:4])
    )
    pd.testing.assert_frame_equal(by_name, by_number)
    with pytest.raises(InvalidDataError, match="X row 1, column 0 is masked"):
        score_own(results, np.ma.array(X[:2], mask=[[0, 0], [1, 0]]), y[:2])


def test_own_samples_of_real_labels(plane):
    store = dr.open_store(plane)
    found = score_own(results_of(plane), store.features[:3] + 0.01, store.labels[:3])
    assert found["robustness"].between(0, 1).all()
    assert "picture" not in found
    with pytest.raises(InvalidDataError, match="label row 1 has the norm 1000"):
        score_own(results_of(plane), np.zeros((2, 2)), [1.0, 1000.0])
    with pytest.raises(InvalidDataError, match=r"must have the shape \(k, 2\)"):
        score_own(results_of(plane), np.zeros((2, 3)), [1.0, 2.0])
    with pytest.raises(InvalidDataError, match="none of them NaN"):
        score_own(results_of(plane), [[np.nan, 1]], [1.0])
    with pytest.raises(InvalidDataError, match="there are 2 samples, but 1 labels"):
        score_own(results_of(plane), np.zeros((2, 2)), [1.0])


# -- the command -------------------------------------------------------------------------------


def call(*arguments, code=0):
    result = CliRunner().invoke(cli.main, ["report", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def test_help_fits_a_terminal():
    text = CliRunner().invoke(cli.main, ["report", "--help"], prog_name="dskrobust").output
    assert "dskrobust report " in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_command_writes_a_page_and_figures(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as quick:
        quick.setattr("dskrobust.report.style.save", lambda figure, kind: b"")
        said = call(images, "--samples", 1, "--subset", "train:L7")
    assert "images.html" in said
    assert "train_L7" in Page(tmp_path / "images.html").text
    np.savez("own.npz", X=np.zeros((1, 6, 6), np.uint8), y=np.array(["dog"]))
    call(images, "--figure", 13, "--images", "own.npz")
    assert (tmp_path / "figure13.svg").read_text().startswith("<?xml")
    call(images, "--figure", 2, "--class", "dog", "--out", "some.png")
    call(images, "--figure", "robustness_by_class")
    assert (tmp_path / "robustness_by_class.svg").is_file()
    assert (tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")
    assert "some.doc must end in one of .svg, .png, .pdf" in call(
        images, "--figure", 2, "--out", "some.doc", code=1
    )
    assert "give a STORE" in call(code=2)


def test_the_command_lists_what_makes_what():
    said = call("--list")
    for entry in catalogue:
        assert f"{entry.name}: " in said
        assert entry.command in said


# -- a browser ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "width"), [("images", 1280), ("images", 800), ("plane", 800)])
def test_in_a_browser(browser, pages, tmp_path, name, width):
    text = pages[name].read_text(encoding="utf-8")
    assert "default-src 'none';" in text
    assert "script-src 'sha256-" in text
    found = look_at(browser, text, tmp_path / "page.html", width)
    assert found["broken"] == found["loaded"] == found["missing"] == found["wide"] == []
    pictures = Page(pages[name]).all("img")
    assert 0 < found["images"] <= len(pictures)  # long tables show their first rows
    assert found["page"] <= found["width"] <= width
    if width == 1280:
        assert found["scrolled"] == 0
