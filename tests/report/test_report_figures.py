"""Figures from tidy tables: odd tables, colours, and the same bytes for the same table."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from dskrobust.errors import InvalidDataError
from dskrobust.report import figures, style
from dskrobust.report.pictures import as_picture, to_png

FEW = settings(max_examples=6, deadline=None)


def drawn(figure, lay_out=True):
    """Lay a figure out, which warns where something does not fit, and return its panels."""
    assert isinstance(figure, Figure)
    assert not hasattr(figure, "number"), "pyplot knows of the figure"
    if lay_out:
        figure.draw_without_rendering()
    return figure.axes


@st.composite
def sample_tables(draw):
    """Samples in one to three groups and any number of classes, some of them NaN or empty."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    count = draw(st.integers(1, 60))
    classes, groups = draw(st.integers(1, 27)), draw(st.integers(1, 3))
    robustness = rng.uniform(0, 1, count) if draw(st.booleans()) else np.full(count, 0.5)
    robustness[1::5] = np.nan
    names = [f"a rather long name of class {k} of $ and <" for k in range(classes)]
    return pd.DataFrame(
        {
            "group": pd.Categorical.from_codes(rng.integers(0, groups, count), list("abc")),
            "label": pd.Categorical.from_codes(rng.integers(0, classes, count), names),
            "robustness": robustness,
        }
    )


@given(sample_tables(), st.sampled_from([None, 0.3]))
@FEW
def test_distributions_of_any_table(samples, threshold):
    (axes,) = drawn(figures.robustness_by_group(samples, threshold), lay_out=False)
    groups = samples["group"].nunique()
    assert len(axes.get_legend_handles_labels()[1]) == groups + (threshold is not None)
    assert axes.get_xlabel()
    assert "%" in axes.get_ylabel()
    panels = drawn(figures.robustness_by_class(samples), lay_out=False)
    assert len(panels) == min(samples["label"].nunique(), figures.MOST_PANELS)


def test_many_panels_fit():
    rng = np.random.default_rng(0)
    names = [f"a rather long name of a class {k}" for k in range(26)]
    samples = pd.DataFrame(
        {"group": "x", "label": rng.choice(names, 300), "robustness": rng.uniform(size=300)}
    )
    assert len(drawn(figures.robustness_by_class(samples))) == figures.MOST_PANELS
    index = pd.MultiIndex.from_product(
        [list("xyz"), ["t", "t_L", "t_M", "t_l"], range(1, 4), ["mae", "mse"]],
        names=["train", "test", "trees", "criterion"],
    )
    trials = pd.DataFrame({"acc": 0.5, "loss": 0.1}, index).reset_index()
    made = figures.hyperparameter_curves(trials, "trees", ["loss", "acc"], ["criterion"])
    assert len(drawn(made)) == 8
    labels = pd.DataFrame({"subset": np.repeat(names[:9], 3), "label": np.tile([1, 2, 9.0], 9)})
    assert len(drawn(figures.label_histograms(labels))) == 9


def test_shares_add_up_to_the_whole():
    samples = pd.DataFrame({"group": "x", "robustness": np.linspace(0.2, 0.8, 50)})
    (axes,) = figures.robustness_by_group(samples).axes
    outline = axes.patches[0].get_data()
    assert outline.values.sum() == pytest.approx(100)
    assert outline.edges[[0, -1]] == pytest.approx([0.2, 0.8])


def test_a_threshold_tells_how_many_are_below():
    samples = pd.DataFrame({"group": list("xxxy"), "robustness": [0.1, 0.2, 0.7, 0.9]})
    (axes,) = figures.robustness_by_group(samples, 0.65).axes
    said = axes.get_legend_handles_labels()[1]
    assert said == ["x, 3 samples, 2 of them (66.7%) below", "y, 1 samples, 0 of them (0.0%) below",
                    "R = 0.65"]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"robustness": [0.5]}, "needs a column 'group'"),
        ({"group": ["x"], "robustness": [np.nan]}, "no value of R"),
        ({"group": [], "robustness": []}, "no group"),
    ],
)
def test_tables_without_anything_to_draw(table, message):
    with pytest.raises(InvalidDataError, match=message):
        figures.robustness_by_group(pd.DataFrame(table))


@st.composite
def trial_tables(draw):
    """Trials of any number of subsets and settings; some LOSS is missing, and some rows are."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    trains = draw(st.lists(st.sampled_from(["x", "x_L40", "x_M4", "own $rows"]), min_size=1,
                           unique=True))  # fmt: skip
    tests = [f"t_{k}" for k in range(draw(st.integers(1, 5)))]
    index = pd.MultiIndex.from_product(
        [trains, tests, [1, 2, 5], ["uniform", None], range(draw(st.integers(1, 5)))],
        names=["train", "test", "neighbors", "weights", "trial"],
    )
    table = pd.DataFrame(index=index).reset_index()
    table["acc"], table["loss"] = rng.uniform(size=(2, len(table)))
    table.loc[table["train"] == trains[0], "loss"] = np.nan
    return table.drop(index=table.index[1::7])


@given(trial_tables())
@FEW
def test_curves_of_any_trials(trials):
    measures = ["acc", "loss"] if trials["loss"].notna().any() else ["acc"]
    made = figures.hyperparameter_curves(trials, "neighbors", measures, ["weights"])
    panels = drawn(made, lay_out=False)
    assert len(panels) == trials["test"].nunique() * len(measures)
    for axes in panels:
        for line in axes.lines:  # no point where there is no number
            assert np.isfinite(line.get_ydata()).all()


def test_curves_are_trimmed_means():
    accs = [0.1, 0.5, 0.6, 0.7, 9.0]
    trials = pd.DataFrame({"train": "x", "test": "t", "trees": 1, "trial": range(5), "acc": accs})
    (axes,) = figures.hyperparameter_curves(trials, "trees").axes
    assert axes.lines[0].get_ydata() == pytest.approx([0.6])


def test_a_measure_that_no_trial_has():
    trials = pd.DataFrame({"train": ["x"], "test": "t", "trees": 1, "loss": np.nan})
    with pytest.raises(InvalidDataError, match="no trial has a LOSS"):
        figures.hyperparameter_curves(trials, "trees", ["loss"])


@pytest.mark.parametrize("trains", [["x"], ["x", "x_L40", "x_M40"]])
@pytest.mark.parametrize("measure", ["loss", "acc"])
def test_learning_curves(trains, measure):
    index = pd.MultiIndex.from_product(
        [trains, ["t", "t_L5"], range(1, 4), range(1, 31)],
        names=["train", "test", "trial", "epoch"],
    )
    curves = pd.DataFrame(index=index).reset_index().assign(model="cnn")
    curves["loss"] = 2 / curves["epoch"] + curves["trial"] / 10
    curves["acc"] = np.where(curves["epoch"] < 5, np.nan, 0.5)
    panels = drawn(figures.learning_curves(curves, measure))
    assert len(panels) == len(trains)
    assert [axes.get_ylabel() for axes in panels] == [figures.NAMES[measure]] * len(trains)
    line = panels[0].lines[0]
    assert len(line.get_xdata()) == (30 if measure == "loss" else 26)
    if measure == "loss":
        assert line.get_ydata()[0] == pytest.approx(2.2)


@given(st.integers(1, 9), st.sampled_from([None, 3.0]), st.booleans())
@FEW
def test_label_histograms(subsets, cut, constant):
    rng = np.random.default_rng(subsets)
    names = [f"x_L{k}" for k in range(subsets)]
    values = np.ones(40 * subsets) if constant else rng.exponential(2, 40 * subsets)
    labels = pd.DataFrame({"subset": np.repeat(names, 40), "label": values})
    labels.loc[3, "label"] = np.nan
    panels = drawn(figures.label_histograms(labels, cut, name="shares"), lay_out=False)
    assert len(panels) == subsets
    for axes, (_, own) in zip(panels, labels.groupby("subset"), strict=True):
        below, above = (patch.get_data().values for patch in axes.patches)
        assert below.sum() + above.sum() == pytest.approx(100)
        if cut is not None:
            assert above[0] == pytest.approx(100 * (own["label"].dropna() >= cut).mean())


def pictures(classes, count, colour):
    shape = (6, 6, 3) if colour else (5, 7)
    return pd.DataFrame(
        [
            {"label": f"class {k}", "end": end, "rank": rank, "robustness": 0.25,
             "picture": np.full(shape, 9 * k, np.uint8), "probability": [0.5, np.nan][rank % 2]}
            for k in range(classes) for end in ("least", "most") for rank in range(1, count + 1)
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "count", "colour"), [(1, 1, True), (13, 1, False), (3, 4, True)]
)
def test_extremes(classes, count, colour):
    table = pictures(classes, count, colour)
    figure = figures.extreme_columns(table)
    shown = [axes for axes in drawn(figure) if axes.images]
    assert len(shown) == 2 * classes
    assert figure.get_supxlabel() == ""  # nobody was asked of rank 1
    asked = figures.extreme_columns(table.assign(probability=0.5))
    drawn(asked)
    assert "trimmed mean" in asked.get_supxlabel()
    shown = [axes for axes in drawn(figures.extreme_rows(table)) if axes.images]
    assert len(shown) == 2 * classes * count
    captions = {text.get_text() for axes in shown for text in axes.texts}
    assert "R 0.250" in captions
    assert ("R 0.250 (0.50)" in captions) == (count > 1)


def test_reach_circles():
    points = pd.DataFrame(
        {
            "x": [0.0, 3, 0, 0], "y": [0.0, 4, 1, 2], "label": list("aabb"),
            "reach": [1.0, np.inf, 1, 2], "witness": [2, -1, 0, 0],
        }
    )  # fmt: skip
    (axes,) = drawn(figures.reach_circles(points, ("width (cm)", "height (cm)")))
    assert sorted(patch.radius for patch in axes.patches) == [1, 1, 2]
    assert axes.get_xlabel() == "width (cm)"
    both = pd.concat([points.assign(panel="first map"), points.assign(panel="second map")])
    assert [a.get_title() for a in drawn(figures.reach_circles(both))] == [
        "first map",
        "second map",
    ]


def test_lines_are_told_apart_without_colour():
    looks = style.look_of(range(28))
    assert len({(look["color"], look["linestyle"]) for look in looks.values()}) == 28
    assert len({look["linestyle"] for look in list(looks.values())[:4]}) == 4


def test_the_same_table_gives_the_same_bytes():
    samples = pd.DataFrame({"group": "x", "robustness": [0.1, 0.5]})
    for kind, start in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        first, second = (style.save(figures.robustness_by_group(samples), kind) for _ in range(2))
        assert first == second
        assert first.startswith(start)


@pytest.mark.parametrize(
    ("row", "shape", "scale", "picture"),
    [
        ([0, 51, 255, 102], (2, 2), 1 / 255, [[0, 51], [255, 102]]),
        ([-1, 0, 1, 3], (1, 4), 1.0, [[0, 64, 128, 255]]),
        ([5, 5], (1, 2), 1.0, [[0, 0]]),
        ([0, 1, 0.2], (3, 1, 1), 1.0, [[[0, 255, 51]]]),
        ([0, 1], (2, 1, 1), 1.0, [[128]]),
        ([0, 1, 0.2, 0.7], (4, 1, 1), 1.0, [[[0, 255, 51]]]),
    ],
)
def test_rows_as_pictures(row, shape, scale, picture):
    found = as_picture(np.array(row), shape, scale)
    assert found.dtype == np.uint8
    assert found.tolist() == picture
    assert to_png(found).startswith(b"\x89PNG")
