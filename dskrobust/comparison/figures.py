"""Figures of a comparison: R of both sides over each other, and row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..report import style
from .sides import Side

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

BINS = 50
MOST_PANELS = 4  # groups


@style.styled
def robustness_of_both(before: Side, after: Side) -> Figure:
    """Return how R is distributed before and after, a panel for each of the largest groups."""
    drawn = [side.results.overview.by_group for side in (before, after)]
    names = sorted({*drawn[0], *drawn[1]}, key=lambda g: -len(drawn[1].get(g, ())))[:MOST_PANELS]
    every = np.concatenate([values for side in drawn for values in side.values()])
    low, high = float(every.min()), float(every.max())
    edges = np.linspace(low, max(high, low + 1e-9), BINS + 1)
    figure, (panels,) = style.panels([len(names)], 2, 3.0 if len(names) < 3 else 2.4, sharex=True)
    looks = style.look_of(["before", "after"])
    entries: dict[str, tuple[Artist, str]] = {}
    for axes, name in zip(panels, names, strict=True):
        for (said, look), side in zip(looks.items(), drawn, strict=True):
            values = side.get(name, np.empty(0))
            counts = np.histogram(values, edges)[0]
            shares = 100 * counts / max(1, counts.sum())
            line = axes.stairs(shares, edges, color=look["color"], linestyle=look["linestyle"],
                               linewidth=1.5)  # fmt: skip
            axes.stairs(shares, edges, color=look["color"], fill=True, alpha=0.12)
            entries.setdefault(said, (line, said))
        axes.set_title(style.short(name, style.LONG))
        axes.set(ylim=(0, None))
    figure.supxlabel("sample robustness R", fontsize=10)
    figure.supylabel("share of samples (%)", fontsize=10)
    style.legend_above(figure, entries)
    return figure


@style.styled
def robustness_row_by_row(points: pd.DataFrame) -> Figure:
    """Return R after over R before of some rows.

    Parameters
    ----------
    points : DataFrame
        One row a row: before, after, relabelled.
    """
    figure = style.new_figure(4.2, 4.6)
    axes = figure.subplots()
    values = points[["before", "after"]].to_numpy()
    low, high = float(values.min()), float(values.max())
    pad = 0.03 * (high - low) or 0.01
    axes.axline((low, low), slope=1, color="black", linewidth=0.8)
    entries: list[tuple[Any, str]] = []
    relabelled = points["relabelled"].to_numpy(bool)
    kinds: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("label kept", ~relabelled, {"s": 10, "alpha": 0.4, "marker": "o", "linewidths": 0}),
        ("relabelled", relabelled, {"s": 26, "alpha": 1.0, "marker": "x", "linewidths": 1.4}),
    )
    for (name, own, look), colour in zip(kinds, style.COLOURS, strict=False):
        if own.any():
            place = points["before"][own], points["after"][own]
            entries.append((axes.scatter(*place, color=colour, rasterized=True, **look), name))
    axes.set(xlabel="R before", ylabel="R after", aspect="equal",
             xlim=(low - pad, high + pad), ylim=(low - pad, high + pad))  # fmt: skip
    if len(entries) > 1:
        style.legend(axes, entries, loc="upper left")
    return figure
