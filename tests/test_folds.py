"""Folds: one pass gives what separate stores of every split give, to the last bit."""

import tempfile
from dataclasses import replace

import brute
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import strategies as own
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import folds as module
from dskrobust.errors import InvalidDataError, InvalidOptionError, StaleResultsError
from dskrobust.evaluation.fold_matrices import fold_matrix, interval
from dskrobust.evaluation.protocol import Choice
from dskrobust.folds import fold_codes, keep_groups
from dskrobust.members import inside
from dskrobust.store import find_results

THREADS = {"scheduler": "threads", "num_workers": 2}
COUNT = 3
pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")


def create(folder, data, split=None):
    kind, _, norm = data.labels.partition("-")
    spec = dr.StoreSpec("own", kind, label_norm=norm or "l2", scale=data.scale)
    return dr.create_store(f"{folder}/own.zarr", data.X, data.y, split, spec=spec)


def assert_as_alone(view, alone, rows):
    """Compare a fold's scores with those of its rows alone, split so."""
    order = [alone.groups.index(group) for group in view.groups]
    for name in brute.TABLES:
        got, wanted = np.asarray(getattr(view, name))[rows], np.asarray(getattr(alone, name))
        wanted = wanted[:, order] if wanted.ndim == 2 else wanted
        if "witness" in name or "nearest" in name:
            wanted = np.where(wanted < 0, -1, rows[wanted])
        np.testing.assert_array_equal(got, wanted, err_msg=name)


@settings(max_examples=12)
@given(draw=st.data(), data=own.data_sets(groups=(COUNT, COUNT)), drawn=st.booleans())
def test_a_fold_equals_a_store_of_its_own(draw, data, drawn):
    with tempfile.TemporaryDirectory() as folder:
        if drawn:
            within = draw.draw(st.sampled_from([None, "a"]))
            store = create(folder, data, np.where(data.split == "a", "a", "b"))
            assume(within is None or (data.split == "a").sum() >= COUNT)
            folds = dr.make_folds(store, COUNT, seed=draw.draw(st.integers(0, 9)), within=within)
        else:
            names = {"a": "fold-1", "b": "fold-2", "c": "fold-3"}
            folds = dr.make_folds(create(folder, data, [names[name] for name in data.split]))
        codes = fold_codes(folds.sets, 0, len(data.X))
        rows = np.flatnonzero(codes >= 0)
        asked = {"labels": data.labels, "scale": data.scale}
        scores = folds.robustness(labels=data.labels, options=draw.draw(own.options()))
        scores = scores if draw.draw(st.booleans()) else scores.compute(**THREADS)
        for number in range(1, COUNT + 1):
            test = codes[rows] == number - 1
            sides = [np.unique(data.y[rows][side], axis=0) for side in (test, ~test)]
            assume(min(map(len, sides)) > 1)  # a group of one label is refused
            split = np.where(test, "test", "train")
            alone = dr.sample_robustness(data.X[rows], data.y[rows], split, **asked)
            view = folds.scores(scores, number).compute(**THREADS)
            norm = replace(alone.compute(**THREADS), label_norm=view.label_norm)
            norm = replace(norm, robustness=view.label_norm / (norm.lipschitz + view.label_norm))
            assert_as_alone(view, norm, rows)
            assert view.sizes == ((~test).sum(), test.sum())


# -- a store with folds ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(150, 4)).round(1)
    y = (X[:, 0] + rng.normal(size=150) > 0).astype(int) + 2 * (X[:, 1] > 1)
    return own.Data(X, y, None, "categorical")


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    return create(tmp_path_factory.mktemp("folds"), data)


@pytest.fixture(scope="module")
def scored(store):
    folds = dr.make_folds(store, COUNT)
    return folds, folds.robustness().write()


def test_drawn_folds_are_kept_and_spread_classes(store, data, scored, monkeypatch):
    folds, _ = scored
    assert folds.names == ("fold-1", "fold-2", "fold-3")
    codes = fold_codes(folds.sets, 0, 150)
    counts = np.array([np.bincount(data.y[codes == k], minlength=4) for k in range(COUNT)])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert folds.sizes == tuple(counts.sum(axis=1))
    assert "by class, seed 0" in repr(folds)
    assert "fold-2" in folds._repr_html_()
    monkeypatch.setattr(module, "_draw", None)  # nothing is drawn again
    assert dr.make_folds(store.url, COUNT) == folds


def test_the_pass_is_read_from_the_store(scored):
    folds, scores = scored
    assert folds.robustness().result.name == scores.result.name
    keep_groups(scores)
    (plain,) = find_results(folds.store)
    assert "references" not in plain.parameters
    alone = dr.sample_robustness(folds.store)
    assert alone.result.name == plain.name
    other = dr.sample_robustness(folds.store.features[:], folds.store.labels[:]).compute()
    for name in brute.TABLES:
        np.testing.assert_array_equal(getattr(alone, name), getattr(other, name))


def test_subsets_of_a_fold(scored):
    folds, scores = scored
    view = folds.scores(scores, 2)
    low = dr.select_subset(view, "train:L20").compute()
    R = np.asarray(view.robustness)
    train = np.flatnonzero(fold_codes(folds.sets, 0, 150) != 1)
    wanted = train[np.lexsort((train, R[train]))[:20]]
    np.testing.assert_array_equal(low.indices, wanted)
    table = folds.summary(scores)
    assert list(table["samples"][2:4]) == [len(train), 150 - len(train)]
    assert table["least"][2] == R[train].min()
    assert table["median"][2] in R[train]
    eager = folds.summary(scores.compute())
    pd.testing.assert_frame_equal(table, eager)


def test_rows_in_no_fold(tmp_path, data):
    split = np.where(np.arange(150) % 5 == 0, "test", "train")
    folds = dr.make_folds(create(tmp_path, data, split), COUNT, within="train")
    assert sum(folds.sizes) == 120
    assert "within train" in folds.drawn
    view = folds.scores(folds.robustness(), 1)
    assert isinstance(view.robustness, da.Array)
    outside = np.asarray(view.split) < 0
    np.testing.assert_array_equal(outside, split == "test")
    np.testing.assert_array_equal(np.isnan(np.asarray(view.robustness)), outside)
    np.testing.assert_array_equal(np.asarray(view.witness) < 0, outside)


def test_members_of_a_fold_are_its_own(scored):
    folds, scores = scored
    view = folds.scores(scores, 2)
    wanted = fold_codes(folds.sets, 0, 150) == 1
    np.testing.assert_array_equal(inside(view, "test").compute(), wanted)
    np.testing.assert_array_equal(inside(view, "train").compute(), ~wanted)
    found = dr.alignment(view, "train", "test").summary()
    assert (found.size_x, found.size_t) == (folds.train_size(2), folds.sizes[1])
    assert found.size == 150


@pytest.mark.parametrize("name", ["begin", "save_counts"])
def test_a_drawing_that_was_killed_is_done_again(tmp_path, data, store, monkeypatch, name):
    fresh = create(tmp_path, data)
    with monkeypatch.context() as patch:
        patch.setattr(module.EvaluationRecords, name, dead)
        with pytest.raises(KeyboardInterrupt):
            dr.make_folds(fresh, COUNT, seed=np.int64(0))
    again, whole = dr.make_folds(fresh, COUNT), dr.make_folds(store, COUNT)
    assert (again.drawn, again.sizes) == (whole.drawn, whole.sizes)
    np.testing.assert_array_equal(fold_codes(again.sets, 0, 150), fold_codes(whole.sets, 0, 150))


def dead(*args):
    raise KeyboardInterrupt


def test_what_is_refused(tmp_path, data, store, scored):
    with pytest.raises(InvalidOptionError, match="has no folds, its groups are all; say how many"):
        dr.make_folds(store)
    with pytest.raises(InvalidDataError, match="no such split can be drawn"):
        dr.make_folds(store, 200, stratify=False)
    with pytest.raises(InvalidOptionError, match="the seed must be a whole number"):
        dr.make_folds(store, COUNT, seed=0.5)
    folds, scores = scored
    for number in (0, 4, True):
        with pytest.raises(InvalidOptionError, match="there is no fold"):
            folds.scores(scores, number)
    named = create(tmp_path, data, [f"fold-{k % 2 + 1}" for k in range(150)])
    with pytest.raises(InvalidOptionError, match="has 2 folds, and 5 are asked for; give 2"):
        dr.make_folds(named, 5)
    with pytest.raises(InvalidOptionError, match="says how folds are drawn"):
        dr.make_folds(named, within="fold-1")
    real = replace(data, y=data.X[:, 0], labels="real")
    (tmp_path / "real").mkdir()
    with pytest.raises(InvalidOptionError, match="but the labels are numbers"):
        dr.make_folds(create(tmp_path / "real", real), 3, stratify=True)


# -- evaluation --------------------------------------------------------------------------------

ASKED = {
    "train": {"x": "train", "x_L": "train:L40", "x_M": "train:M40"},
    "test": {"t": "test", "t_L": "test:L20"},
    "models": [
        dr.Model("knn", {"neighbors": [1, 3]}),
        dr.Model("forest", {"trees": [1, 3]}),
    ],
    "trials": 2,
}


def test_an_evaluation_equals_those_of_separate_stores(tmp_path, data, store, scored, client):
    folds, _ = scored
    made = dr.evaluate(store, **ASKED, folds=COUNT)
    assert f"0 of {len(made.jobs)} steps finished" in repr(made)
    table = made.compute().table
    assert "computed" in repr(made)
    for number in (1, COUNT):
        split = np.where(fold_codes(folds.sets, 0, 150) == number - 1, "test", "train")
        (tmp_path / str(number)).mkdir()
        alone = create(tmp_path / str(number), data, split)
        dr.sample_robustness(alone).write()
        wanted = dr.evaluate(alone, **ASKED).compute().table
        own_part = table[table["fold"] == number].drop(columns="fold").reset_index(drop=True)
        pd.testing.assert_frame_equal(own_part, wanted, check_exact=True)
    again = dr.evaluate(store, **ASKED, folds=folds)
    assert again.finished() == len(again.jobs)
    shown = again.compute().matrices()
    assert [m.folds[0].model for m in shown] == ["knn", "forest"]
    assert str(shown[1]).splitlines()[0] == "forest"
    assert "±" in again._repr_html_()
    matrix = again.matrix("forest")
    trees = matrix.values[0]
    for j, name in enumerate(ASKED["train"]):
        rows = table[(table["model"] == "forest") & (table["train"] == name)]
        by_value = rows[rows["test"] == "t"].groupby("trees")["acc"].mean()
        assert by_value[trees[j]] == pytest.approx(by_value.max(), abs=1e-12)
        cell = rows[(rows["test"] == "t_L") & (rows["trees"] == trees[j])]
        by_fold = cell.groupby("fold")["acc"].mean()
        found = matrix.to_frame().set_index(["test", "train", "measure"]).loc["t_L", name, "acc"]
        wanted = [by_fold.mean(), by_fold.std(), by_fold.min(), by_fold.max(), trees[j]]
        np.testing.assert_allclose(found.to_numpy(float), wanted, rtol=0, atol=1e-12)


def test_selections_are_of_training_and_test_set(store, tmp_path, data):
    few = {**ASKED, "models": [dr.Model("knn", {"neighbors": [1]})]}
    for text, said in (("all", "choose train or test"), ("fold-1", "the groups are train, test")):
        with pytest.raises(InvalidOptionError, match=said):
            dr.evaluate(store, **{**few, "train": {"x": text}}, folds=COUNT)
    fresh = create(tmp_path, data)
    with pytest.raises(StaleResultsError, match="no results against its 4 folds"):
        dr.evaluate(fresh, **few, folds=4)
    groups = {"train": {"x": "train"}, "test": {"t": "test"}, "models": few["models"]}
    assert len(dr.evaluate(fresh, **groups, folds=4).parts) == 4  # needs no scores
    with pytest.raises(InvalidOptionError, match="no number of folds"):
        dr.Experiment(**few, folds=1)


def trials(acc):
    """Tables of folds with these values of ACC, (folds, training subsets)."""
    return [
        pd.DataFrame({"train": names, "test": "t", "model": "m", "trial": 1, "loss": 1.0, "acc": a})
        for names, a in ((["x", "x_L", "x_M"][: len(a)], a) for a in np.asarray(acc))
    ]


def test_what_is_decided():
    better = fold_matrix(
        trials([[0.5, 0.6], [0.52, 0.61], [0.51, 0.62]]), Choice(), loss_high=False
    )
    (line,) = better.advice()
    assert line.startswith("t: train on x_L rather than x (ACC 0.1000 higher, 95 % interval 0.0")
    assert line.endswith("better in 3 of 3 folds)")
    unsure = fold_matrix(trials([[0.5, 0.6], [0.6, 0.5], [0.5, 0.53]]), Choice(), loss_high=False)
    assert "x_L and x cannot be told apart" in unsure.advice()[0]
    first = fold_matrix(trials([[0.9, 0.1, 0.2], [0.9, 0.1, 0.21]]), Choice(), loss_high=False)
    assert first.comparisons()[0][1:3] == ("x", "x_M")
    assert fold_matrix(trials([[0.5], [0.6]]), Choice(), loss_high=False).advice() == []


def test_intervals_are_wider_than_of_independent_folds():
    gains = np.array([0.01, 0.03, 0.02, 0.05, 0.0])
    low, high = interval(gains)
    half = 2.7764451 * gains.std(ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    np.testing.assert_allclose([low, high], [0.022 - half, 0.022 + half], atol=1e-8)
