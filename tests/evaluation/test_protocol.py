"""Trimmed means and performance matrices from made-up trials; how they are shown."""

import math
from html.parser import HTMLParser
from statistics import median

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from dskrobust.errors import InvalidDataError, InvalidOptionError
from dskrobust.evaluation.protocol import (
    Choice,
    performance_matrix,
    side_by_side,
    trimmed_mean,
    trimmed_means,
)
from dskrobust.show import terminal

finite = st.floats(-1e6, 1e6)


# -- trimmed mean ----------------------------------------------------------------------------


@given(st.lists(finite, min_size=25, max_size=25))
def test_of_25_values_the_middle_five_are_averaged(values):
    assert trimmed_mean(values) == np.mean(sorted(values)[10:15])


@given(st.lists(finite, min_size=1, max_size=60), st.randoms())
def test_trimmed_mean_is_scipys_in_any_order(values, random):
    expected = trim_mean(values, 0.4)
    assert trimmed_mean(values) == pytest.approx(expected, rel=1e-12, abs=1e-9)
    shuffled = random.sample(values, len(values))
    assert trimmed_mean(shuffled) == trimmed_mean(values)
    assert min(values) - 1e-9 <= trimmed_mean(values) <= max(values) + 1e-9


@given(st.lists(finite, min_size=1, max_size=5))
def test_few_values(values):
    expected = median(values) if len(values) != 4 else np.mean(sorted(values)[1:3])
    assert trimmed_mean(values) == pytest.approx(expected)


@given(st.integers(1, 30), st.integers(0, 3), st.integers(0, 9))
def test_columns_have_trimmed_means_each(rows, columns, seed):
    values = np.random.default_rng(seed).normal(size=(rows, columns))
    wanted = [trimmed_mean(column) for column in values.T]
    np.testing.assert_allclose(trimmed_means(values), wanted, rtol=1e-12)


@given(st.lists(finite, min_size=25, max_size=25), st.integers(0, 10), st.integers(0, 10))
def test_ten_runaways_at_either_end_do_not_matter(values, low, high):
    ordered = sorted(values)
    wild = [-math.inf] * low + ordered[low : 25 - high] + [math.inf] * high
    assert trimmed_mean(wild) == trimmed_mean(values)


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_no_mean_of_nothing(values):
    with pytest.raises(InvalidDataError, match="trimmed mean"):
        trimmed_mean(values)


# -- matrices --------------------------------------------------------------------------------

SUBSETS = ("x", "x_L24"), ("t", "t_L", "t_m")


def trials_of(acc, loss=None, trials=1, model="forest", sweep="trees", **others):
    """Rows of a table; `acc` and `loss` give a value for (train, test, swept value, trial)."""
    loss = loss or (lambda x, t, k, i: -acc(x, t, k, i))
    return [
        {"train": x, "test": t, "model": model, sweep: k, **others}
        | {"trial": i, "loss": loss(x, t, k, i), "acc": acc(x, t, k, i)}
        for x in SUBSETS[0]
        for t in SUBSETS[1]
        for k in (1, 2, 3)
        for i in range(trials)
    ]


def peak(x, t, k, i):
    """ACC is highest with 2 for x and 3 for x_L24; on t_m with 1."""
    best = 1 if t == "t_m" else 2 if x == "x" else 3
    return 0.6 - 0.01 * abs(k - best) - 0.001 * (x == "x")


@pytest.fixture
def table():
    return pd.DataFrame(trials_of(peak))


def matrix(rows, **options):
    choice = Choice(**{k: options.pop(k) for k in ("sweep", "best", "by") if k in options})
    return performance_matrix(pd.DataFrame(rows), **{"loss_high": True, **options}, choice=choice)


def test_one_value_for_each_training_subset(table):
    made = matrix(table, best="t")
    assert (made.train, made.test) == SUBSETS
    assert (made.sweep, made.model, made.trials) == ("trees", "forest", (1, 1))
    assert made.values.tolist() == [[2, 3]] * 3
    assert made.acc == pytest.approx(np.array([[0.599, 0.6], [0.599, 0.6], [0.589, 0.58]]))
    np.testing.assert_array_equal(made.loss, -made.acc)


def test_a_value_for_each_cell(table):
    made = matrix(table, sweep="trees")
    assert made.values.tolist() == [[2, 3], [2, 3], [1, 1]]
    assert made.acc == pytest.approx(np.array([[0.599, 0.6]] * 3))


def test_best_values_of_a_row_are_marked_as_they_print():
    acc = {("x", "t"): 0.5, ("x_L24", "t"): 0.50004, ("x", "t_L"): 0.7}
    rows = trials_of(lambda x, t, k, i: acc.get((x, t), 0.6))
    made = matrix(rows, best="t")
    assert made.best_acc.tolist() == [[True, True], [True, False], [True, True]]
    assert made.best_loss.tolist() == [[True, True], [False, True], [True, True]]
    low = matrix(rows, best="t", loss_high=False)
    assert low.best_loss.tolist() == made.best_acc.tolist()


def test_a_single_column_has_no_best():
    rows = [row for row in trials_of(peak) if row["train"] == "x"]
    assert not matrix(rows).best_acc.any()


@given(st.permutations(range(18)))
def test_the_order_of_values_and_trials_does_not_matter(order):
    rows = trials_of(lambda x, t, k, i: 0.5)
    seen = performance_matrix(pd.DataFrame([rows[j] for j in order]), loss_high=True)
    assert set(seen.values.ravel()) == {1}  # of equal ones the smallest
    assert seen.train == tuple(dict.fromkeys(rows[j]["train"] for j in order))
    assert seen.test == tuple(dict.fromkeys(rows[j]["test"] for j in order))


@given(st.integers(0, 2**32), st.integers(1, 25))
def test_cells_are_trimmed_means_of_their_own(seed, trials):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(trials_of(lambda *_: rng.random(), lambda *_: rng.normal(), trials))
    made = performance_matrix(frame, loss_high=True, choice=Choice(best="t_L"))
    assert made.trials == (trials, trials)
    means = frame.groupby(["train", "test", "trees"])[["loss", "acc"]].agg(trimmed_mean)
    for j, x in enumerate(made.train):
        best = means["acc"].loc[x, "t_L"].idxmax()
        for i, t in enumerate(made.test):
            assert made.values[i, j] == best
            assert made.acc[i, j] == means["acc"].loc[x, t, best]
            assert made.loss[i, j] == means["loss"].loc[x, t, best]


def test_other_models_and_hyper_parameters_stay_out():
    rows = [
        *trials_of(peak, criterion="mse"),
        *trials_of(lambda *a: peak(*a) / 2, criterion="mae"),
        *trials_of(lambda *a: 0.9, model="knn", sweep="neighbors", weights="uniform"),
    ]
    made = matrix(rows, model="forest", fixed={"criterion": "mae"}, sweep="trees", best="t")
    assert made.values.tolist() == [[2, 3]] * 3
    assert made.acc[0, 0] == pytest.approx(0.599 / 2)
    assert made.parameters == {"criterion": "mae"}
    # a column is of floats where another model lacks it
    assert str(made).splitlines()[2].split() == ["trees", "2", "3"]
    one = matrix(rows, model="knn", fixed={"neighbors": 2.0})
    assert one.sweep is None
    assert one.parameters == {"neighbors": 2, "weights": "uniform"}
    assert set(one.values.ravel()) == {None}


def test_hyper_parameters_of_any_kind():
    rows = trials_of(lambda x, t, k, i: {1: 0.5, 2: 0.5, 3: 0.4}[k], sweep="depth")
    for row in rows:
        row["depth"] = {1: None, 2: 7, 3: [4, 4]}[row["depth"]]
    assert set(matrix(rows).values.ravel()) == {7}  # none comes last
    assert matrix(rows, fixed={"depth": [4, 4]}).parameters == {"depth": (4, 4)}
    assert matrix(rows, fixed={"depth": None}).acc[0, 0] == 0.5


def test_missing_trials_leave_a_dash():
    rows = [row for row in trials_of(peak, trials=2) if (row["train"], row["test"]) != ("x", "t")]
    gone = {"train": "x_L24", "test": "t_L", "trees": 3, "trial": 1}
    made = matrix([row for row in rows if not gone.items() <= row.items()])
    assert made.trials == (1, 2)
    assert math.isnan(made.acc[made.test.index("t"), made.train.index("x")])
    line = next(line for line in str(made).splitlines() if line.startswith("t "))
    assert line.split()[1:4] == ["–", "\\", "–"]
    assert not made.best_acc[made.test.index("t"), made.train.index("x")]


def test_a_model_without_probabilities_has_no_loss():
    made = matrix(trials_of(peak, lambda *_: math.nan), best="t")
    assert np.isnan(made.loss).all()
    assert not made.best_loss.any()
    assert made.best_acc.any()


@pytest.mark.parametrize(
    ("change", "options", "error", "words"),
    [
        (None, {"best": "tL"}, InvalidOptionError, "did you mean 't_L'?"),
        (None, {"best": "u"}, InvalidOptionError, "there are t, t_L, t_m"),
        (None, {"sweep": "tree"}, InvalidOptionError, "did you mean 'trees'?"),
        (None, {"fixed": {"tree": 1}}, InvalidOptionError, "did you mean 'trees'?"),
        (None, {"fixed": {"trees": 4}}, InvalidOptionError, "there are 1, 2, 3"),
        (None, {"model": "forst"}, InvalidOptionError, "did you mean 'forest'?"),
        (lambda t: t.assign(depth=t["trees"]), {}, InvalidOptionError, "fixed={'trees': …}"),
        (lambda t: t.assign(model=["a", "b"] * 9), {}, InvalidOptionError, "one of a, b"),
        (lambda t: t.drop(columns="acc"), {}, InvalidDataError, "'acc'"),
        (lambda t: t[:0], {}, InvalidDataError, "no trials yet"),
        (lambda t: t.assign(trees=1), {}, InvalidDataError, "trial 0 of x on t is in the table tw"),
        (lambda t: t.assign(acc=math.nan), {}, InvalidDataError, "trials of x on t: "),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(table, change, options, error, words):
    with pytest.raises(error) as caught:
        matrix(change(table) if change else table, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# -- how they are shown ----------------------------------------------------------------------


@pytest.fixture
def sides():
    return [
        matrix(trials_of(lambda *a, s=s: peak(*a) / s, trials=25, criterion=name), best=best)
        for best in ("t", "each")
        for s, name in ((1, "mae"), (2, "mse"))
    ]


def test_plain_text(sides):
    assert str(sides[0]).splitlines() == [
        "forest, criterion = mae",
        "                       x               x_L24",
        "trees                  2                   3",
        "--------------------------------------------",
        "t      -0.5990* \\ 0.5990   -0.6000  \\ 0.6000*",
        "t_L    -0.5990* \\ 0.5990   -0.6000  \\ 0.6000*",
        "t_m    -0.5890  \\ 0.5890*  -0.5800* \\ 0.5800",
        "LOSS \\ ACC · LOSS is R², high is good · trees where ACC is highest on t · "
        "trimmed mean of 25 trials · * best of the row",
    ]
    assert repr(sides[0]) == str(sides[0])


def test_markdown(sides):
    assert sides[2].to_markdown().splitlines() == [
        "|  | x | x_L24 |",
        "|---|---:|---:|",
        "| t | **-0.5990** \\ 0.5990 (2) | -0.6000 \\ **0.6000** (3) |",
        "| t_L | **-0.5990** \\ 0.5990 (2) | -0.6000 \\ **0.6000** (3) |",
        "| t_m | **-0.5990** \\ 0.5990 (1) | -0.6000 \\ **0.6000** (1) |",
    ]
    only = side_by_side([m.showing("acc") for m in sides[:2]])
    assert only.to_markdown().splitlines()[::2] == [
        "|  | mae: x | mae: x_L24 | mse: x | mse: x_L24 |",
        "| trees | 2 | 3 | 2 | 3 |",
        "| t_L | 0.5990 | **0.6000** | 0.2995 | **0.3000** |",
    ]


def test_side_by_side(sides):
    both = side_by_side(sides[:2])
    title, groups, *_ = str(both).splitlines()
    assert title == "forest by criterion"
    assert groups.split() == ["|", "mae", "|", "mse"]
    assert len({line.index("|", 20) for line in str(both).splitlines()[1:3]}) == 1
    frame = both.to_frame()
    assert frame["mse"]["x"]["acc"].tolist() == sides[1].to_frame()["x"]["acc"].tolist()
    assert side_by_side([sides[0], sides[0]]).captions == ("(1)", "(2)")


def test_matrices_side_by_side_must_match(sides):
    with pytest.raises(InvalidOptionError, match="agree in best"):
        side_by_side(sides[1:3])
    with pytest.raises(InvalidOptionError, match="at least one"):
        side_by_side([])
    with pytest.raises(InvalidOptionError, match="shows loss, acc or both"):
        sides[0].showing("f1")


def test_frames(sides):
    frame = sides[2].to_frame()
    assert frame.index.tolist() == ["t", "t_L", "t_m"]
    assert frame["x"].columns.tolist() == ["loss", "acc", "trees"]
    assert frame["x"]["trees"].tolist() == [2, 2, 1]
    assert frame["x_L24"]["acc"].tolist() == sides[2].acc[:, 1].tolist()


class Tags(HTMLParser):
    """Collects what is in a page, and checks that tags are closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.best, self.rows = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "tr" in self.open:
            self.rows[-1] += data
        if "b" in self.open:
            self.best.append(data)


def test_html_is_complete_and_marks_the_best(sides):
    page = side_by_side(sides[2:])._repr_html_()
    seen = Tags(page)
    assert seen.rows[0] == "maemse"
    assert seen.rows[2] == (
        "t-0.5990 \\ 0.5990 (2)-0.6000 \\ 0.6000 (3)-0.2995 \\ 0.2995 (2)-0.3000 \\ 0.3000 (3)"
    )
    assert seen.best[:2] == ["-0.5990", "0.6000"]
    assert "t<sub>L</sub>" in page
    assert "http" not in page


def test_html_escapes_names():
    rows = [row | {"model": "<b>", "test": "a<i>"} for row in trials_of(peak) if row["test"] == "t"]
    page = matrix(rows)._repr_html_()
    assert "&lt;b&gt;" in page
    assert "a&lt;i&gt;" in page
    Tags(page)


def test_terminal_table(sides, capsys):
    terminal.show(terminal.performance_table(sides[0].sheet()))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[2:4] == [
        "trees                   2                    3",
        "t       -0.5990* \\ 0.5990    -0.6000  \\ 0.6000*",
    ]
    assert len({line.index("\\") for line in lines[3:]}) == 1
