"""What objects show in notebooks: well-formed, self-contained, readable; numbers in words."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import display
from dskrobust.subsets import whole

OPTIONS = dr.RunOptions(dr.Resources(1, 1, 2**30), block_rows=100)


def parsed(html):
    """Return the elements of HTML that must be well-formed and ask for nothing from elsewhere."""
    assert not re.search(r"<(script|link|img|iframe)|@import|url\(", html)
    assert set(re.findall(r"https?://[^\"<]*", html)) <= {"http://127.0.0.1:8787/status"}
    return ElementTree.fromstring(f"<div>{html}</div>")


def words(html):
    root = parsed(html)
    for style in root.iter("style"):
        style.text = ""
    return " ".join(" ".join(root.itertext()).split())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(300, 4)), np.array(["<owl>", "cat & dog"])[np.arange(300) % 2]
    X[7] = X[8]
    split = np.where(np.arange(300) < 200, "train", "test")
    return dr.create_store(str(tmp_path_factory.mktemp("d") / "own.zarr"), X, y, split)


@pytest.fixture(scope="module")
def scores(store):
    return dr.sample_robustness(store, options=OPTIONS).write()


def test_scores_show_their_plan_first(store):
    lazy = dr.sample_robustness(store, metric="cityblock", options=OPTIONS)
    text = words(lazy._repr_html_())
    for part in ("Robustness of own.zarr", "300 samples in test, train", "cityblock, categorical",
                 "not computed yet", "tiles 6 pairs of blocks", "peak", "limit 1.0 GiB",
                 "time", "scores.write()"):  # fmt: skip
        assert part in text
    assert words(lazy.plan._repr_html_()).startswith("Plan of 300 rows; nothing runs yet workers 1")
    assert "scores.compute()" in words(
        dr.sample_robustness(np.eye(4), np.arange(4) % 2, options=OPTIONS)._repr_html_()
    )


def test_scores_show_what_came_out(scores):
    html = scores._repr_html_()
    text = words(html)
    contradicting = "2 samples have a twin at distance 0 with another label"
    for part in ("computed", contradicting, "rows 7 and 8, 8 and 7", "all together 300",
                 "Least robust samples", "7 train cat & dog 0.0000 ∞ 0 8 <owl>"):  # fmt: skip
        assert part in text
    counts = [
        int(bar.find("title").text.split(": ")[1].split()[0])
        for bar in parsed(html).iter("rect")
        if bar.get("class") == "bar"
    ]
    assert sum(counts) == 300
    with pytest.warns(UserWarning, match="twin"):
        computed = dr.sample_robustness(
            scores.store.features[:], scores.store.labels[:], scores.store.split, options=OPTIONS
        ).compute(scheduler="sync")
    assert "Least robust samples" in words(computed._repr_html_())


def test_scores_of_real_labels_without_a_store():
    rng = np.random.default_rng(1)
    found = dr.sample_robustness(rng.normal(size=(40, 2)), np.arange(40) / 4, options=OPTIONS)
    assert "real labels" in words(found.compute(scheduler="sync")._repr_html_())


def test_large_scores_are_not_read_for_a_glance(scores, monkeypatch):
    monkeypatch.setattr("dskrobust.show.overview.MOST_ROWS", 299)
    assert "300 rows are too many to read" in words(scores._repr_html_())
    assert "<svg" not in dr.least_robust(scores, 20)._repr_html_()


def test_a_subset_shows_where_it_lies(scores):
    html = dr.least_robust(scores, 50, within="train")._repr_html_()
    assert "train_L50 50 samples of 200, R from 0.0000 to" in words(html)
    assert 'class="before"' in html
    lazy = dr.sample_robustness(scores.store, metric="cityblock", options=OPTIONS)
    assert "not computed yet" in words(dr.least_robust(lazy, 50)._repr_html_())


def test_label_tables_have_shares_or_quantiles(scores, tmp_path):
    picked = [dr.least_robust(scores, 60), dr.most_robust(scores, 60)]
    text = words(dr.class_counts(scores.store, picked, [whole(scores)] * 2)._repr_html_())
    assert re.search(r"class all_L60 all_M60 <owl>|class all_L60 all_M60 cat & dog", text)
    assert re.search(r"\d+ \(\d+%\)", text)
    rng = np.random.default_rng(0)
    real = dr.create_store(str(tmp_path / "r.zarr"), rng.normal(size=(30, 2)), rng.normal(size=30))
    table = dr.class_counts(real, [dr.least_robust(dr.sample_robustness(real), 20).compute()])
    assert words(table._repr_html_()).startswith("Labels in subsets quantile all_L20 0%")


def test_a_store_shows_what_it_holds(store, scores):
    text = words(dr.open_store(store.url)._repr_html_())
    for part in ("300 × 4 float64", "2 classes: <owl>, cat & dog", "test 100, train 200",
                 "scores euclidean"):  # fmt: skip
        assert part in text


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=display.BINS),
    st.floats(-1, 1),
    st.floats(1e-6, 1),
    st.booleans(),
)
def test_histograms_are_drawn_inside_their_frame(counts, low, step, outlined):
    values, edges = np.array(counts), low + step * np.arange(len(counts) + 1)
    html = display.histograms({"a": values}, edges, before=values if outlined else None)
    root = ElementTree.fromstring(html.text)
    _, _, width, height = map(float, root.get("viewBox").split())
    bars = list(root.iter("rect"))
    assert len(bars) == np.count_nonzero(values)
    for bar in bars:
        x, y, w, h = (float(bar.get(k)) for k in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height + 0.11
    for text in root.iter("text"):
        assert 0 <= float(text.get("x")) <= width


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 60))
def test_edges_are_round_and_span_the_values(a, b, most):
    low, high = sorted((a, b))
    edges = display.round_edges(low, high, most)
    assert len(edges) <= most + 1
    assert edges[0] <= low + 1e-12
    assert edges[-1] >= high
    assert (np.diff(edges) > 0).all()


def test_numbers_in_words():
    assert [display.size(n) for n in (0, 2**10, 3 * 2**20)] == ["0 B", "1 KiB", "3.0 MiB"]
    seconds = (0.04, 59, 61, 7200)
    assert [display.clock(s) for s in seconds] == ["0.0 s", "59 s", "1:01 min", "2:00 h"]
    assert [display.big(n) for n in (999, 1e6, 2.5e9)] == ["999", "1 M", "2.5 G"]
    assert display.counted(1, "tile") == "1 tile"
