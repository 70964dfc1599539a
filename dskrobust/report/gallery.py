"""Figures that show samples: the extremes of every class, and one's own images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 10  # pictures in a line
SMALL = 8  # points
FIT = 12  # characters beside a picture
PROBABILITY = "in brackets: probability of the class, trimmed mean of the networks"


@style.styled
def extreme_columns(extremes: pd.DataFrame) -> Figure:
    """Return the most (upper row) and the least robust sample of every class (Figures 5, 12).

    Parameters
    ----------
    extremes : DataFrame
        label, end ("least" or "most"), rank, robustness, picture (an array); and, where models
        were asked, probability: the trimmed mean of theirs of the sample's class, in brackets.
    """
    first = extremes[extremes["rank"] == 1]
    classes = style.values_of(first, "label")
    across = min(ACROSS, len(classes))
    bands = -(-len(classes) // across)
    figure = style.new_figure(2.2 * bands + 0.2, max(style.WIDTH * across / ACROSS, 2.5))
    grid = figure.subplots(2 * bands, across, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for k, name in enumerate(classes):
        band, column = divmod(k, across)
        for line, end in enumerate(("most", "least")):
            for sample in _rows(first[(first["label"] == name) & (first["end"] == end)]):
                axes = grid[2 * band + line, column]
                _draw(axes, sample["picture"], _caption(sample))
                if line == 0:
                    axes.set_title(style.short(name, FIT), fontsize=9)
                if column == 0:
                    _beside(axes, f"{end} robust")
    if "probability" in first and first["probability"].notna().any():
        figure.supxlabel(PROBABILITY, fontsize=9, wrap=True)
    return figure


@style.styled
def extreme_rows(extremes: pd.DataFrame) -> Figure:
    """Return a line a class: the most robust samples, then the least robust ones (Figure 2).

    Parameters
    ----------
    extremes : DataFrame
        As of `extreme_columns`; all ranks are shown.
    """
    classes = style.values_of(extremes, "label")
    count = int(extremes["rank"].max())
    figure = style.new_figure(1.15 * len(classes) + 0.4, min(style.WIDTH, 0.9 * (2 * count + 1)))
    widths = [1.0] * count + [0.35] + [1.0] * count
    grid = figure.subplots(len(classes), 2 * count + 1, squeeze=False, width_ratios=widths)
    for axes in grid.ravel():
        axes.axis("off")
    for line, name in zip(grid, classes, strict=True):
        for end, start in (("most", 0), ("least", count + 1)):
            own = extremes[(extremes["label"] == name) & (extremes["end"] == end)]
            for sample in _rows(own):
                _draw(line[start + int(sample["rank"]) - 1], sample["picture"], _caption(sample))
        _beside(line[0], style.short(name, FIT))
    grid[0, 0].set_title("most robust", fontsize=9, loc="left")
    grid[0, count + 1].set_title("least robust", fontsize=9, loc="left")
    return figure


@style.styled
def own_images(scored: pd.DataFrame) -> Figure:
    """Return one's own images with R and their label, and their witnesses below (Figure 13).

    Parameters
    ----------
    scored : DataFrame
        As of `score_own`: picture, label, robustness, witness, witness_label, witness_picture.
    """
    across = min(ACROSS, max(1, len(scored)))
    bands = max(1, -(-len(scored) // across))
    figure = style.new_figure(2.7 * bands + 0.2, max(style.WIDTH * across / ACROSS, 2.5))
    grid = figure.subplots(2 * bands, across, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for k, sample in enumerate(_rows(scored)):
        band, column = divmod(k, across)
        top, below = grid[2 * band, column], grid[2 * band + 1, column]
        label, other = (style.short(sample[k], FIT) for k in ("label", "witness_label"))
        _draw(top, sample["picture"], f"R {sample['robustness']:.3f} ({label})")
        if sample["witness"] >= 0:
            _draw(below, sample["witness_picture"], f"row {sample['witness']}\n({other})")
        if column == 0:
            _beside(top, "own image")
            _beside(below, "its witness")
    return figure


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]


def _caption(sample: dict[str, Any]) -> str:
    probability = sample.get("probability")
    known = probability is not None and probability == probability
    return f"R {sample['robustness']:.3f}" + (f" ({probability:.2f})" if known else "")


def _draw(axes: Axes, picture: Any, caption: str) -> None:
    """Draw a picture with its pixels as they are, and a line below it."""
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.text(0.5, -0.04, caption, transform=axes.transAxes, ha="center", va="top", fontsize=SMALL)


def _beside(axes: Axes, text: str) -> None:
    """Write to the left of a picture, upwards."""
    axes.text(-0.06, 0.5, text, transform=axes.transAxes, rotation=90, ha="right", va="center",
              fontsize=9)  # fmt: skip
