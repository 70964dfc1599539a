"""Sections of the page for what further commands left in the store."""

import numpy as np
import pandas as pd
import pytest
from pages import Page, check_page

import dskrobust as dr
from dskrobust.advice_tables import kept_advice
from dskrobust.report import StoredResults, write_report
from dskrobust.report.further import further_sections
from dskrobust.store import current_results, find_results

SECTIONS = {"folds": "Folds", "hardness": "Instance hardness",
            "tailoring": "What to train on for which samples"}  # fmt: skip


def stored(url, groups=("train", "train", "test")):
    rng = np.random.default_rng(4)
    y = np.arange(120) % 3
    X = rng.normal(1.5 * y[:, None], 1.0, (120, 4))
    return dr.create_store(url, X, y, np.array(groups)[np.arange(120) // 3 % len(groups)])


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A store that is scored, and nothing else."""
    store = stored(str(tmp_path_factory.mktemp("bare") / "bare.zarr"))
    dr.sample_robustness(store).write()
    return store


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A store that has everything."""
    store = stored(str(tmp_path_factory.mktemp("full") / "full.zarr"))
    dr.instance_hardness(store, k=5).write()
    dr.make_folds(store, 3, seed=2).robustness().write()
    dr.make_folds(store, 4).robustness(metric="cityblock").write()  # not the result's metric
    models = [dr.Model("knn", {"neighbors": [1, 3]})]
    dr.tailor(store, models, windows=2, validation=dr.Validation(3, 2)).compute()
    return store


def results_of(store):
    found = [r for r in find_results(store) if r.parameters["metric"] == "euclidean"]
    return StoredResults(store, found[-1])


def test_only_what_is_there_has_a_section(bare, tmp_path):
    results = StoredResults(bare, current_results(bare))
    assert set(further_sections(results)) == {"alignment"}
    path = write_report(bare, tmp_path / "bare.html")
    check_page(path)
    page = Page(path)
    assert not set(SECTIONS) & {section["id"] for section in page.all("section")}
    one = stored(str(tmp_path / "one.zarr"), ("all",))
    dr.sample_robustness(one).write()
    assert further_sections(StoredResults(one, current_results(one))) == {}


def test_every_section_is_on_the_page(full, tmp_path):
    path = write_report(full, tmp_path / "full.html", results_of(full).result)
    check_page(path)
    page = Page(path)
    for key, title in SECTIONS.items():
        assert key in {section["id"] for section in page.all("section")}
        assert title in page.text


def test_the_alignment_is_that_of_the_groups(full):
    results = results_of(full)
    (row,) = further_sections(results)["alignment"].tables[0].rows
    found = dr.alignment(results.scores, "train", "test").summary()
    assert row == ("test", "39", f"{found.median_t:.4f}", f"{found.kolmogorov:.4f}",
                   f"{found.chance:.4f}", f"{found.wasserstein:.4f}", found.verdict)  # fmt: skip


def test_selections_that_were_scored_are_compared(full, tmp_path):
    store = stored(str(tmp_path / "own.zarr"))
    scores = dr.sample_robustness(store).write()
    chosen = {name: dr.select_subset(scores, name) for name in ("train:L30", "train:M20+test:M9")}
    alone = dr.sample_robustness(store, references={"train:L30": chosen["train:L30"]}).write()
    both = dr.sample_robustness(store, references=chosen).write()
    mine = {"train:M9": np.arange(9)}  # rows that are not what the name says
    dr.sample_robustness(store, references=mine).write()
    dr.sample_robustness(store, metric="cityblock", references=chosen).write()
    dr.make_folds(store, 3, seed=2).robustness().write()
    results = StoredResults(store, current_results(store))
    groups, selections = further_sections(results)["alignment"].tables
    assert len(groups.rows) == 1
    wanted = (dr.alignment(both, *chosen), dr.alignment(alone, "train:L30", "test"))
    assert selections.rows == [
        (one.x, f"{one.size_x:,}", f"{one.median_x:.4f}", one.t, f"{one.size_t:,}",
         f"{one.median_t:.4f}", f"{one.kolmogorov:.4f}", f"{one.chance:.4f}",
         f"{one.wasserstein:.4f}", one.verdict)
        for one in (made.summary() for made in wanted)
    ]  # fmt: skip
    path = write_report(store, tmp_path / "own.html")
    check_page(path)
    assert "R in selections that were scored" in Page(path).text


def test_folds_are_those_that_are_scored(full):
    (table,) = further_sections(results_of(full))["folds"].tables
    folds = dr.make_folds(full, 3, seed=2)
    found = folds.summary(folds.robustness())
    assert len(table.rows) == 3 * 2 + 2
    for row, (_, wanted) in zip(table.rows, found.iterrows(), strict=False):
        assert row[:2] == (str(wanted["fold"]), wanted["group"])
        assert row[4] == f"{wanted['median']:.4f}"
    own = found.loc[found["group"] == "train", "median"]
    assert table.rows[-2][4] == f"{own.mean():.4f} ± {own.std():.4f}"
    assert "3 folds" in table.caption


def test_tailoring_says_what_the_command_said(full):
    made = further_sections(results_of(full))["tailoring"]
    models = [dr.Model("knn", {"neighbors": [1, 3]})]
    tailored = dr.tailor(full, models, windows=2, validation=dr.Validation(3, 2)).compute()
    assert made.words == tailored.findings()
    assert len(made.tables[0].rows) == len(tailored.choices) == 2
    assert len(kept_advice(full)) == 1  # the same plan again is kept once
    assert results_of(full).evaluations == []  # the folds that measured it are no reader's
    dr.tailor(full, models, windows=None, validation=dr.Validation(3, 2)).compute()
    assert len(kept_advice(full)) == 2


def test_hardness_is_what_was_measured(full):
    section = further_sections(results_of(full))["hardness"]
    found = dr.instance_hardness(full, k=5)
    classes, hardest = section.tables
    assert len(classes.rows) == len(found.by_class())
    rows = pd.Series([row[0] for row in hardest.rows]).str.replace(",", "").astype(int)
    assert rows.tolist() == found.hardest(12)["row"].tolist()
    assert (
        f"{int((np.asarray(found.kdn) > 0.5).sum()):,} of 120 samples are hard" in section.words[0]
    )


def test_what_is_kept_goes_with_the_data(tmp_path):
    store = stored(str(tmp_path / "own.zarr"))
    models = [dr.Model("knn", {"neighbors": [1]})]
    dr.tailor(store, models, windows=None, validation=dr.Validation(3, 2)).compute()
    assert kept_advice(store)
    rows = store.features[:6], store.labels[:6]
    np.savez(tmp_path / "more.npz", X=rows[0], y=rows[1])
    grown = dr.append(store.url, str(tmp_path / "more.npz"), group="train")
    assert kept_advice(grown) == []
