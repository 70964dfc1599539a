"""The demonstration: its story, and the pictures in it."""

import re

import numpy as np
from click.testing import CliRunner

from dskrobust import cli, open_store
from dskrobust.cli.story import PAIRS, first_pairs
from dskrobust.scores import read_scores
from dskrobust.show import terminal
from dskrobust.store import current_results


def test_the_demonstration_tells_its_story(tmp_path):
    out = tmp_path / "kept.zarr"
    result = CliRunner().invoke(cli.main, ["demo", "--out", str(out), "--workers", "1"])
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert "\x1b" not in result.output
    for part in ("R = r / (r + 1)", "1,797 images", "all 1,613,706 pairs", "How robust", "witness",
                 "train_L719", "halves do to a model", f"dskrobust show {out}"):  # fmt: skip
        assert part in text
    matrix = text[text.index("What the halves do to a model") :]
    rows = re.findall(r"^ *(t|t_L|t_M) +(.*)$", matrix, re.M)
    assert [name for name, _ in rows] == ["t", "t_L", "t_M"]
    for _, values in rows:
        assert len(accs := re.findall(r"\b[01]\.\d{4}", values)) == 3
        assert min(map(float, accs)) > 0.8
    assert text.count("R 0.5") == PAIRS
    assert "▓" in text
    store = open_store(str(out))
    scores = read_scores(store, current_results(store)).compute()
    row = int(np.argmin(scores.robustness))
    assert f"row {row}" in text
    assert f"row {scores.witness[row]}" in text


def test_pairs_are_shown_once():
    robustness = np.array([0.5, 0.3, 0.2, 0.2, 0.9])
    witness = np.array([4, 0, 3, 2, 0])
    assert first_pairs(robustness, witness) == [2, 1, 0]
    assert first_pairs(robustness, witness, 2) == [2, 1]


def test_pictures_without_colours_are_shades():
    drawn = terminal.picture(np.array([[0.0, 1.0], [0.5, 0.3]]), colour=False)
    assert drawn.plain == "  ██\n▒▒░░"


def test_pictures_with_colours_are_half_blocks():
    drawn = terminal.picture(np.array([[0.0, 1.0]] * 3), colour=True)
    assert drawn.plain == "▀▀\n▀▀"
    styles = [str(span.style) for span in drawn.spans]
    assert styles[:2] == ["rgb(0,0,0) on rgb(0,0,0)", "rgb(255,255,255) on rgb(255,255,255)"]
    assert styles[3] == "rgb(255,255,255) on rgb(0,0,0)"  # below the last row there is nothing


def test_enlarging_interpolates():
    image = np.array([[0.0, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(terminal.enlarge(image, 4), [[0, 0.25, 0.75, 1]] * 4)
    np.testing.assert_array_equal(terminal.enlarge(image, 2), image)
