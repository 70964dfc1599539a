"""Windows of the spectrum: what they select, and the h-map, against training one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

import dskrobust as dr
from dskrobust.errors import InvalidOptionError
from dskrobust.evaluation.windows import ALL, shades, window_selections


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 240)
    X = rng.normal(size=(240, 3)) + y[:, None]
    split = np.where(np.arange(240) % 3 == 0, "test", "train")
    made = dr.create_store(str(tmp_path_factory.mktemp("windows") / "w.zarr"), X, y, split)
    dr.sample_robustness(made).write()
    return made


@given(st.integers(2, 12), st.floats(0.05, 0.95), st.integers(20, 3000))
def test_windows_slide_from_end_to_end(count, width, rows):
    windows = dr.Windows(count, width)
    try:
        ranks = list(windows.ranks(rows).values())
    except InvalidOptionError:
        step = (rows - round(width * rows)) / (count - 1)
        assert step < 2 or not round(width * rows)
        return
    assert ranks[0][0] == 0
    assert ranks[-1][1] == rows
    assert {stop - start for start, stop in ranks} == {round(width * rows)}
    assert np.ptp(np.diff([start for start, _ in ranks])) <= 1 if count > 2 else True
    assert len(set(windows.names)) == count


def test_the_ends_are_the_papers_subsets(store):
    scores = dr.sample_robustness(store)
    named = window_selections(store, "train", dr.Windows(3, 0.25))
    assert named == {
        ALL: "train", "0–25%": "train:L40", "38–62%": "train:L100-L60", "75–100%": "train:M40",
    }  # fmt: skip
    R = np.asarray(scores.robustness)
    train = np.flatnonzero(store.read("split", 0, 240) == store.groups.index("train"))
    order = train[np.argsort(R[train], kind="stable")]
    middle = dr.select_subset(scores, named["38–62%"]).compute().indices
    np.testing.assert_array_equal(middle, order[60:100])


def test_every_cell_is_what_scikit_learn_reaches(store):
    models = [dr.Model("knn", {"neighbors": [1, 5], "weights": ["uniform"]})]
    made = dr.spectrum(store, models, (dr.Windows(2, 0.5), dr.Windows(2, 0.4)))
    assert "0 of 1 steps finished" in repr(made)
    scores, X, y = dr.sample_robustness(store), store.features[:], store.labels[:].ravel()
    experiment = made.evaluation.experiment
    values, settings = made.grid("knn")
    for i, test in enumerate(experiment.test.values()):
        t = np.sort(dr.select_subset(scores, test).compute().indices)
        for j, train in enumerate(experiment.train.values()):
            x = np.sort(dr.select_subset(scores, train).compute().indices)
            reached = {
                k: KNeighborsClassifier(k, algorithm="brute").fit(X[x], y[x]).score(X[t], y[t])
                for k in (1, 5)
            }
            assert values[i, j] == max(reached.values())
            assert reached[int(settings[i, j].split("neighbors=")[1][0])] == values[i, j]
    cells = made.cells
    assert (cells.loc[cells["train"] == ALL, "gain"] == 0).all()
    assert "0–50%" in made._repr_html_()
    assert len(made.findings()) == 3


def test_the_figure_has_a_panel_a_model(store):
    pytest.importorskip("matplotlib")
    from dskrobust.report.spectrum import heat_map

    grid = {"neighbors": [1, 3], "weights": ["uniform", "distance"]}
    made = dr.spectrum(store, [dr.Model("knn", grid)], 2)
    (axes,) = heat_map(made).axes
    for text in axes.texts:  # the value, and a line for every hyper-parameter
        names = [line.partition("=")[0] for line in text.get_text().split("\n")[1:]]
        assert names == ["neighbors", "weights"]
    assert len(axes.texts) == 9
    assert [label.get_text() for label in axes.get_xticklabels()] == [ALL, "0–50%", "50–100%"]


def test_shades_go_from_the_worst_to_the_best_of_a_row():
    found = shades(np.array([[1.0, 3.0, 2.0], [5.0, 5.0, np.nan]]))
    np.testing.assert_array_equal(found, [[0, 1, 0.5], [0.5, 0.5, np.nan]])


@pytest.mark.parametrize(
    ("windows", "said"),
    [(1, "2 to 100 windows"), (dr.Windows(90, 0.5), "too few"), (True, "2 to 100")],
)
def test_windows_that_cannot_be(store, windows, said):
    with pytest.raises(InvalidOptionError, match=said):
        dr.spectrum(store, [dr.Model("knn")], windows)


def test_a_group_that_is_not_there(store):
    with pytest.raises(InvalidOptionError, match="no group 'validation'"):
        dr.spectrum(store, [dr.Model("knn")], groups=("train", "validation"))
