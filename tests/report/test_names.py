"""Names of any kind in figures, on the page and in the terminal: shown as they are, in one line."""

import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

import dskrobust as dr
from dskrobust import cli
from dskrobust.display import NO_NAME, shown_name, visible
from dskrobust.report import StoredResults, draw, figures, style, write_report
from dskrobust.show.sheets import Cell, Sheet, to_html, to_markdown, to_text
from dskrobust.store import current_results

NAMES = ("$0-$25k", "_none", r"$\frac{1}$", "two\nlines", "<b>bold</b> & co", "שלום", "",
         "\x1b[31mred", "long " * 60, r"back\slash \$ and $")  # fmt: skip
GROUPS = ("_train", "$a_$", "two\nlines")
FEW = settings(max_examples=3, deadline=None)


def texts(figure):
    """Lay a figure out and return its texts, each as mathematics or not."""
    figure.draw_without_rendering()
    found = [each for each in figure.findobj(Text) if each.get_text()]
    return {each.get_text(): each._preprocess_math(each.get_text())[1] for each in found}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A scored store of small images whose classes and groups have odd names."""
    rng = np.random.default_rng(2)
    y, split = np.arange(120) % len(NAMES), np.arange(120) // 40
    X = rng.integers(0, 255, (120, 12), dtype=np.uint8)
    spec = dr.StoreSpec("<i>$x$\n</i>", "categorical", classes=NAMES, groups=GROUPS,
                        scale=1 / 255, image_shape=(3, 4))  # fmt: skip
    made = dr.create_store(str(tmp_path_factory.mktemp("odd") / "odd.zarr"), X, y,
                           np.array(GROUPS)[split], spec=spec)  # fmt: skip
    dr.label_quality(made).write()
    return made


@pytest.mark.parametrize("name", ["robustness_by_class", "robustness_by_group", "extreme_rows",
                                  "extreme_columns"])  # fmt: skip
def test_figures_draw_names_as_they_are(store, name):
    found = texts(draw(StoredResults(store, current_results(store)), name))
    assert not any(found.values())
    names = GROUPS if name == "robustness_by_group" else NAMES
    drawn = "|".join(found)
    for each in names:
        assert shown_name(each, 12 if "extreme" in name else 18) in drawn
    if name.startswith("robustness"):
        assert any(text.startswith("_train") for text in found)


def test_own_images_have_odd_labels(store):
    wishes = dr.report.Wishes(own=(np.full((2, 12), 100, np.uint8), ["$0-$25k", "_none"]))
    found = texts(draw(StoredResults(store, current_results(store)), "own_images", wishes))
    assert not any(found.values())
    assert any("($0-$25k)" in text for text in found)


def test_the_page_holds_every_name_and_its_figures_are_xml(store, tmp_path):
    import base64
    from xml.etree import ElementTree

    page = write_report(store, tmp_path / "odd.html").read_text(encoding="utf-8")
    shown = re.sub("<script>.*?</script>", "", page, flags=re.S)
    assert not re.search("[\x00-\x08\x0b-\x1f]", shown)
    for text in (NO_NAME, "$0-$25k", r"$\frac{1}$", "שלום", "&lt;b&gt;bold&lt;/b&gt; &amp; co"):
        assert text in shown
    assert "<b>bold" not in page
    figures_ = re.findall('data:image/svg[+]xml;base64,([^"]*)', shown)
    assert len(figures_) == 3  # R by class, by group, and its alignment between two groups
    for figure in figures_:
        ElementTree.fromstring(base64.b64decode(figure))


def test_the_terminal_shows_names_in_one_line(store, tmp_path):
    for arguments in (["show", store.url], ["show", store.url, "3", "7"], ["issues", store.url]):
        result = CliRunner().invoke(cli.main, arguments)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
        assert "two\nlines" not in result.output
    shown = CliRunner().invoke(cli.main, ["show", store.url]).output
    assert r"two\nlines" in shown
    assert re.search(r"\d\.\d{4} ", shown)  # long names don't push the numbers out


@given(st.text(max_size=60), st.integers(3, 50))
def test_a_shown_name_is_one_line_that_fits(name, most):
    shown = shown_name(name, most)
    assert 0 < len(shown) <= max(most, len(NO_NAME))
    assert len(shown.splitlines()) == 1
    assert visible(shown) == shown
    if visible(name) == name and name.strip() and len(name) <= most:
        assert shown == name


LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=25)


@given(st.lists(LATIN, min_size=1, max_size=6, unique=True))
@FEW
def test_subsets_and_settings_of_any_name(names):
    names = [*names, "x_L40"]
    trials = pd.DataFrame(
        [{"train": train, "test": "t_L5", "k": k, "how": names[0], "acc": 0.5}
         for train in names for k in (1, 2)]
    )  # fmt: skip
    for figure in (
        figures.hyperparameter_curves(trials, "k", others=["how"]),
        figures.learning_curves(trials.rename(columns={"k": "epoch"}), "acc"),
        figures.label_histograms(pd.DataFrame({"subset": names, "label": 1.0}), name=names[0]),
    ):
        found = texts(figure)
        assert any("L40" in text and is_math for text, is_math in found.items())
    legend = style.new_figure(2).subplots()
    (line,) = legend.plot([1, 2])
    style.legend(legend, [(line, name) for name in names])
    assert [text.get_text() for text in legend.get_legend().get_texts()] == names


def test_glyphs_of_no_font_are_told_once():
    samples = pd.DataFrame({"group": "\U0001327f\U00013280", "robustness": [0.1, 0.2]})
    with pytest.warns(UserWarning, match="are in no font") as caught:
        style.save(figures.robustness_by_group(samples), "svg")
    assert len(caught) == 1


def test_sheets_keep_their_lines_whatever_the_names():
    cell = (Cell((("0.5", True),)),)
    sheet = Sheet("", (("", 1),), (("", "x_L40"),), ((NAMES[3], cell), ("a|<b>", cell)), "")
    assert len(to_text(sheet).splitlines()) == 5
    assert [line.count("|") - line.count(r"\|") for line in to_markdown(sheet).splitlines()] == [
        3
    ] * 4
    assert "x<sub>L40</sub>" in to_html(sheet)
    assert "<b>" not in to_html(sheet).replace("<b>0.5</b>", "")
