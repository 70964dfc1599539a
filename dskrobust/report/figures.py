"""The paper's figures from tidy tables; each function returns a matplotlib Figure.

Nothing here reads a store or touches pyplot's state: the same table gives the same figure. Colours
are told apart by colour-blind people, and lines by their dashes or markers too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pandas as pd
from dask.base import compute

from ..errors import InvalidDataError
from ..evaluation.protocol import trimmed_mean
from ..ranking import in_chunks
from . import style
from .gallery import extreme_columns, extreme_rows, own_images

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import StepPatch

    from ..alignments import Alignment

__all__ = [
    "aligned_robustness",
    "extreme_columns",
    "extreme_rows",
    "hyperparameter_curves",
    "label_histograms",
    "learning_curves",
    "own_images",
    "reach_circles",
    "robustness_by_class",
    "robustness_by_group",
]

BINS = 60
MOST_POINTS = 5_000  # of a scatter of pairs
MOST_PANELS = 24
MARGIN = 0.2  # of the points' range, around them
NAMES = {"loss": "LOSS", "acc": "ACC"}
AXES = {"neighbors": "K, number of neighbours", "trees": "number of trees"}

# -- robustness ------------------------------------------------------------------------------


@style.styled
def robustness_by_group(samples: pd.DataFrame, threshold: float | None = None) -> Figure:
    """Return how R is distributed in every group (Figure 9).

    Parameters
    ----------
    samples : DataFrame
        One row a sample: group, robustness.
    threshold : float, optional
        Marked by a line; the legend says how many samples of each group lie below.
    """
    groups = style.values_of(samples, "group")
    edges = _edges(samples["robustness"])
    figure = style.new_figure(3.4)
    axes = figure.subplots()
    entries: list[tuple[Artist, str]] = []
    for name, look in style.look_of(groups).items():
        values = samples.loc[samples["group"] == name, "robustness"].dropna()
        said = f"{style.short(name, style.LONG)}, {len(values):,} samples"
        if threshold is not None:
            below = int((values < threshold).sum())
            said += f", {below:,} of them ({below / max(1, len(values)):.1%}) below"
        entries.append((_share_line(axes, values, edges, look, said, fill=True), said))
    if threshold is not None:
        said = f"R = {threshold:g}"
        mark = axes.axvline(threshold, color="black", dashes=(4, 3), linewidth=1, label=said)
        entries.append((mark, said))
    axes.set(xlabel="sample robustness R", ylabel="share of samples (%)", ylim=(0, None))
    style.legend(axes, entries, loc="upper left")
    return figure


@style.styled
def robustness_by_class(samples: pd.DataFrame, most: int = MOST_PANELS) -> Figure:
    """Return how R is distributed in every class, a line for each group (Figure 4).

    Parameters
    ----------
    samples : DataFrame
        One row a sample: group, label, robustness.
    most : int
        Of more classes those with the lowest medians of R are shown.
    """
    classes = style.values_of(samples, "label")
    shown = classes
    if len(classes) > most:
        medians = samples.groupby("label", observed=True)["robustness"].median()
        least = set(medians.nsmallest(most).index)
        shown = [name for name in classes if name in least]
    looks = style.look_of(style.values_of(samples, "group"))
    edges = _edges(samples["robustness"], BINS // 2)
    figure, (panels,) = style.panels([len(shown)], 5, 1.55, sharex=True, sharey=True)
    entries: dict[Any, tuple[Artist, str]] = {}
    for axes, name in zip(panels, shown, strict=True):
        own = samples[samples["label"] == name]
        for group, look in looks.items():
            values = own.loc[own["group"] == group, "robustness"].dropna()
            said = style.short(group, style.LONG)
            entries.setdefault(group, (_share_line(axes, values, edges, look, said), said))
            if len(values):
                axes.axvline(float(values.median()), color=look["color"], linewidth=0.8, alpha=0.7)
        axes.set_title(style.short(name))
    panels[0].set_ylim(bottom=0)  # of all, as they share it
    said = "sample robustness R (thin upright lines: medians)"
    if len(shown) < len(classes):
        said += f"; {len(shown)} of {len(classes)} classes, those with the lowest medians"
    figure.supxlabel(said, fontsize=10)
    figure.supylabel("share of samples (%)", fontsize=10)
    style.legend_above(figure, entries)
    return figure


def _share_line(
    axes: Axes,
    values: pd.Series[float],
    edges: np.ndarray[Any, Any],
    look: Mapping[str, Any],
    label: str,
    *,
    fill: bool = False,
) -> StepPatch:
    """Shares of values per bin as a line of steps; nothing for no values."""
    counts = np.histogram(values, edges)[0]
    shares = 100 * counts / max(1, counts.sum())
    line = axes.stairs(shares, edges, color=look["color"], linestyle=look["linestyle"],
                       linewidth=1.5, label=label)  # fmt: skip
    if fill:
        axes.stairs(shares, edges, color=look["color"], fill=True, alpha=0.15)
    return line


def _edges(values: pd.Series[float], bins: int = BINS) -> np.ndarray[Any, Any]:
    known = values[np.isfinite(values)]
    if not len(known):
        raise InvalidDataError("the table has no value of R that is a number; compute it first")
    low, high = float(known.min()), float(known.max())
    if high - low < 1e-9:  # one value: a bin around it
        low, high = low - 0.01, high + 0.01
    return np.linspace(low, high, bins + 1)


@style.styled
def aligned_robustness(made: Alignment) -> Figure:
    """Return how R is distributed in two sets, and R in the one against R in the other (3.5).

    Parameters
    ----------
    made : Alignment
        Shares are of all samples; of pairs, at most 5,000 at even steps of the rows are drawn.
    """
    sides = (made.x, in_chunks(made.robustness_x), in_chunks(made.in_x)), (
        made.t, in_chunks(made.robustness_t), in_chunks(made.in_t))  # fmt: skip
    either, r_x, r_t = sides[0][2] | sides[1][2], sides[0][1], sides[1][1]
    steps = slice(None, None, max(1, len(r_x) // MOST_POINTS))
    low, high, keep, *pairs = compute(
        da.minimum(r_x, r_t).min(), da.maximum(r_x, r_t).max(),
        *(column[steps] for column in (either, r_x, r_t)),
    )  # fmt: skip
    edges = np.linspace(float(low), max(float(high), float(low) + 1e-9), BINS + 1)
    counts = compute(*(da.histogram(r, edges, weights=s.astype(int))[0] for _, r, s in sides))
    figure = style.new_figure(3.6)
    shares, scatter = figure.subplots(1, 2, width_ratios=(3, 2))
    entries: list[tuple[Artist, str]] = []
    for (name, *_), count, look in zip(
        sides, counts, style.look_of(["x", "t"]).values(), strict=True
    ):
        said = f"{style.short(name, style.LONG)}, {int(count.sum()):,} samples"
        line = shares.stairs(100 * count / max(1, count.sum()), edges, color=look["color"],
                             linestyle=look["linestyle"], linewidth=1.5, label=said)  # fmt: skip
        entries.append((line, said))
    shares.set(xlabel="sample robustness R in the own set", ylabel="share of samples (%)",
               ylim=(0, None))  # fmt: skip
    style.legend(shares, entries, loc="upper left")
    scatter.axline((edges[0], edges[0]), slope=1, color="black", linewidth=0.8)
    scatter.scatter(pairs[0][keep], pairs[1][keep], s=3, alpha=0.3, color=style.COLOURS[2],
                    rasterized=True)  # fmt: skip
    scatter.set(xlabel=f"R in {style.short(made.x)}", ylabel=f"R in {style.short(made.t)}",
                aspect="equal")  # fmt: skip
    return figure


# -- labels ----------------------------------------------------------------------------------


@style.styled
def label_histograms(
    labels: pd.DataFrame, cut: float | None = None, *, name: str = "label"
) -> Figure:
    """Return how real labels are distributed in every subset (Figure 3).

    Parameters
    ----------
    labels : DataFrame
        One row a sample of a subset: subset, label.
    cut : float, optional
        Labels from here on are gathered in the last bar, and their share is printed; the 95 %
        quantile of the first subset by default.
    name : str
        What the label is, with its unit.
    """
    subsets = style.values_of(labels, "subset")
    if cut is None:
        first = labels.loc[labels["subset"] == subsets[0], "label"].dropna()
        cut = float(first.quantile(0.95))
    low = float(labels["label"].min())
    low = low if low < cut else cut - 1.0  # nothing lies below the cut
    width = (cut - low) / 40
    edges = np.append(low + width * np.arange(41), cut + 3 * width)  # the last bar: all above
    figure, (panels,) = style.panels(
        [len(subsets)], 5 if len(subsets) % 5 == 0 else 4, 1.7, sharex=True, sharey=True
    )
    for axes, subset in zip(panels, subsets, strict=True):
        values = labels.loc[labels["subset"] == subset, "label"].dropna().to_numpy()
        counts = np.histogram(np.minimum(values, cut + width), edges)[0]
        shares = 100 * counts / max(1, counts.sum())
        axes.stairs(shares[:-1], edges[:-1], fill=True, color=style.COLOURS[0])
        axes.stairs(shares[-1:], edges[-2:], fill=True, color=style.COLOURS[1])
        axes.axvline(cut, color="black", dashes=(4, 3), linewidth=1)
        above = float((values >= cut).mean()) if len(values) else math.nan
        axes.text(cut - width, 0.95, f"{above:.1%} from\n{cut:,.6g} on", ha="right", va="top",
                  transform=axes.get_xaxis_transform(), fontsize=9)  # fmt: skip
        said = f"{style.subset_name(subset)}, {len(values):,} samples"
        axes.set_title(said, parse_math=True)
    figure.supxlabel(
        f"{style.short(name, style.LONG)} (from {cut:,.6g} on in one bar)", fontsize=10
    )
    figure.supylabel("share of samples (%)", fontsize=10)
    return figure


# -- curves ----------------------------------------------------------------------------------


@style.styled
def hyperparameter_curves(
    trials: pd.DataFrame,
    sweep: str,
    measures: Sequence[str] = ("acc",),
    others: Sequence[str] = (),
) -> Figure:
    """Return LOSS or ACC over a hyper-parameter, a panel a test subset (Figures 8, 10 and 11).

    Colour and marker tell the training subset, dashes the settings of the other hyper-parameters.

    Parameters
    ----------
    trials : DataFrame
        One row a trial of one model: train, test, the hyper-parameters, loss, acc. Trials are
        averaged by the trimmed mean (paper, 4.1).
    sweep : str
        The hyper-parameter along the axis.
    measures : sequence of {"acc", "loss"}
    others : sequence of str
        Hyper-parameters that vary too.
    """
    tests, looks = style.values_of(trials, "test"), style.look_of(style.values_of(trials, "train"))
    figure, blocks = style.panels([len(tests)] * len(measures), 3, 2.2, sharex=True)
    entries: dict[Any, tuple[Artist, str]] = {}
    for measure, panels in zip(measures, blocks, strict=True):
        means = _means(trials, ["test", "train", *others, sweep], measure)
        dashes = dict.fromkeys(key[2:-1] for key in means)
        dashes = dict(zip(dashes, itertools.cycle(style.LINES), strict=False))
        for axes, test in zip(panels, tests, strict=True):
            for train, setting in itertools.product(looks, dashes):
                points = [(key[-1], v) for key, v in means.items()
                          if key[:-1] == (test, train, *setting)]  # fmt: skip
                at, values = zip(*points, strict=True) if points else ((), ())
                rest = (style.literal(style.short(value)) for value in setting)
                said = ", ".join([style.subset_name(train), *rest])
                look = {**looks[train], "linestyle": dashes[setting], "label": said}
                (line,) = axes.plot(at, values, **look)
                entries.setdefault((train, setting), (line, said))
            axes.set_title(f"tested on {style.subset_name(test)}", parse_math=True)
            axes.set_ylabel(NAMES[measure])
            axes.locator_params(axis="x", integer=True, nbins=6)
    figure.supxlabel(AXES.get(sweep, style.short(sweep, style.LONG)), fontsize=10)
    style.legend_above(figure, entries, math=True)
    return figure


@style.styled
def learning_curves(curves: pd.DataFrame, measure: str = "loss") -> Figure:
    """Return LOSS or ACC over the epochs of a training, a line a test subset (Figures 6 and 7).

    Parameters
    ----------
    curves : DataFrame
        One row an epoch of a trial: train, test, epoch, loss, acc. Of several trials the trimmed
        mean is drawn, and all of them lie in the shade.
    measure : {"loss", "acc"}
    """
    trains = style.values_of(curves, "train")
    means = _means(curves, ["train", "test", "epoch"], measure)
    spread = curves.groupby(["train", "test", "epoch"], sort=True, observed=True)[measure]
    ends = spread.agg(["min", "max"])
    looks = style.look_of(style.values_of(curves, "test"))
    across = 1 if len(trains) == 1 else 2
    figure, (panels,) = style.panels([len(trains)], across, 3.6 - 0.5 * across, sharey=True)
    entries: dict[Any, tuple[Artist, str]] = {}
    for axes, train in zip(panels, trains, strict=True):
        for test, look in looks.items():
            points = [(key[-1], v) for key, v in means.items() if key[:-1] == (train, test)]
            if not points:
                continue
            epochs, values = zip(*points, strict=True)
            every = max(1, len(epochs) // 10)
            said = style.subset_name(test)
            (line,) = axes.plot(epochs, values, **look, markevery=every, label=said)
            entries.setdefault(test, (line, said))
            low, high = (ends.loc[(train, test)][end].loc[list(epochs)] for end in ("min", "max"))
            axes.fill_between(epochs, low, high, color=look["color"], alpha=0.12, linewidth=0)
        axes.set_title(f"trained on {style.subset_name(train)}", parse_math=True)
        axes.set(xlabel="epoch", ylabel=NAMES[measure])
    style.legend_above(figure, entries, math=True)
    return figure


def _means(table: pd.DataFrame, keys: list[str], measure: str) -> dict[tuple[Any, ...], float]:
    """Trimmed means of a measure; where there is no number there is no point."""
    known = table.dropna(subset=[measure])
    if known.empty:
        raise InvalidDataError(
            f"no trial has a {NAMES[measure]}; models without probabilities have no LOSS"
        )
    grouped = known.groupby(keys, sort=True, observed=True, dropna=False)[measure]
    return {key: trimmed_mean(values) for key, values in grouped}


# -- the idea --------------------------------------------------------------------------------


@style.styled
def reach_circles(points: pd.DataFrame, names: tuple[str, str] = ("x", "y")) -> Figure:
    """Return samples with two features, their reach and their witness (the idea of Figure 1).

    Parameters
    ----------
    points : DataFrame
        One row a sample: x, y, label, reach, witness (a row of the table), and optionally panel:
        one label map each.
    names : tuple of str
        What the two features are, with their units.
    """
    maps = style.values_of(points, "panel") if "panel" in points else [None]
    figure, (panels,) = style.panels([len(maps)], 2, 3.6, sharex=True, sharey=True)
    for axes, shown in zip(panels, maps, strict=True):
        own = points if shown is None else points[points["panel"] == shown]
        own = own.reset_index(drop=True)
        entries = []
        for label, look in style.look_of(style.values_of(own, "label")).items():
            part, said = own[own["label"] == label], style.short(label)
            (dots,) = axes.plot(part["x"], part["y"], look["marker"], color=look["color"],
                                label=said, zorder=3)  # fmt: skip
            entries.append((dots, said))
            for sample in part[np.isfinite(part["reach"])].itertuples():
                _circle(axes, sample, look["color"])
        known = own[own["witness"] >= 0]
        there = own.loc[known["witness"].astype(int)]
        axes.plot([known["x"], there["x"]], [known["y"], there["y"]], color=style.QUIET,
                  linewidth=0.8)  # fmt: skip
        _frame(axes, points)
        axes.set(aspect="equal", title="" if shown is None else style.short(shown, style.LONG))
        axes.set(xlabel=style.short(names[0], style.LONG), ylabel=style.short(names[1], style.LONG))
        style.legend(axes, entries, loc="upper right", frameon=True, framealpha=0.9)
    return figure


def _frame(axes: Axes, points: pd.DataFrame) -> None:
    """Show the points with some room around them; large circles are cut."""
    for name, limit in (("x", axes.set_xlim), ("y", axes.set_ylim)):
        low, high = float(points[name].min()), float(points[name].max())
        room = MARGIN * ((high - low) or 1.0)
        limit(low - room, high + room)


def _circle(axes: Axes, sample: Any, colour: str) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Circle

    shape = Circle((sample.x, sample.y), sample.reach, facecolor=(*to_rgb(colour), 0.04),
                   edgecolor=(*to_rgb(colour), 0.4))  # fmt: skip
    axes.add_patch(shape)
