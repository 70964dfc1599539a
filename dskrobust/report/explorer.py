"""Samples to look through in a page: R over classes or labels, and a table of what is selected.

Drawn by Bokeh, which the page carries, so that it needs no network.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..display import shown_name
from .results import MOST_CLASSES, StoredResults
from .style import COLOURS

LEAST, OTHERS = 1_000, 2_000  # samples: the least robust ones, and of the rest every k-th
BINS = 60
PLACE = "plot"  # id of the element that the plot is put in
JITTER = 0.36  # of the height of a class, to either side
TEXT = 60  # characters of a name
TOOLS = "xbox_select,tap,xpan,xwheel_zoom,reset"
COLUMNS = ("row", "id", "label", "group", "R", "Q", "reach", "witness", "its label")


class Explorer(NamedTuple):
    """What a page needs to show one.

    Attributes
    ----------
    scripts : tuple of str
        Run in this order.
    body : str
        HTML, where the plot is put.
    columns : tuple of str
        Of the table of what is selected.
    shown : int
        Samples in it.
    """

    scripts: tuple[str, ...]
    body: str
    columns: tuple[str, ...]
    shown: int


def explorer(results: StoredResults) -> Explorer:
    """Return what shows all samples, of many the least robust ones and some others."""
    from bokeh.core.types import ID
    from bokeh.embed import json_item
    from bokeh.resources import Resources

    table = picked_samples(results)
    item = _numbered(json_item(_plot(results, table), ID(PLACE)))
    text = json.dumps(item).replace("<", r"\u003c")  # no name ends the script
    script = f"Bokeh.embed.embed_item({text});"
    body = f'<div id="{PLACE}"></div>'
    quiet = Resources(mode="inline", components=["bokeh"], log_level="error")
    bokeh = "".join(quiet.js_raw)
    return Explorer((bokeh, script), body, tuple(table), len(table))


def _numbered(item: Any) -> Any:
    """Return Bokeh's description with ids that count from 1, so that a page is always the same."""
    known: dict[str, str] = {}

    def walk(part: Any) -> Any:
        if isinstance(part, dict):
            return {
                name: known.setdefault(value, f"m{len(known) + 1}")
                if name in ("id", "root_id") and isinstance(value, str)
                else walk(value)
                for name, value in part.items()
            }
        return [walk(one) for one in part] if isinstance(part, list) else part

    return walk(item)


def picked_samples(results: StoredResults) -> pd.DataFrame:
    """The samples that are shown, by the names of `COLUMNS`, the least robust first."""
    order = np.argsort(results.samples["robustness"].to_numpy(), kind="stable")
    if len(order) > LEAST + OTHERS:
        rest = np.linspace(LEAST, len(order) - 1, OTHERS).astype(np.int64)
        order = order[np.concatenate([np.arange(LEAST), rest])]
    ordered = results.samples.iloc[order]
    witness = ordered["witness"].to_numpy()
    there = witness >= 0
    other = np.full(len(ordered), "–", dtype=object)
    other[there] = results.label_texts(witness[there])
    made: dict[str, Any] = {
        "row": ordered.index, "label": results.label_texts(ordered.index),
        "group": ordered["group"].astype(str), "R": ordered["robustness"],
        "Q": ordered["lipschitz"], "reach": ordered["reach"],
        "witness": np.where(there, witness.astype(object), "–"), "its label": other,
    }  # fmt: skip
    table = pd.DataFrame({name: np.asarray(values) for name, values in made.items()})
    if results.store.has_ids:
        table["id"] = results.ids(table["row"])
    for name in {"label", "its label", "group", "id"} & set(table):
        table[name] = [shown_name(str(text), TEXT) for text in table[name]]
    return table[[name for name in COLUMNS if name in table]]


def _plot(results: StoredResults, table: pd.DataFrame) -> Any:
    """The histogram of R above the samples, both over R."""
    from bokeh.layouts import gridplot
    from bokeh.models import CDSView, ColumnDataSource, GroupFilter, HoverTool, Range1d

    low, high = float(table["R"].min()), float(table["R"].max())
    pad = 0.02 * (high - low) or 0.01
    across = Range1d(start=low - pad, end=high + pad, bounds="auto")
    look: dict[str, Any] = {"x_range": across, "tools": TOOLS}
    above = _histogram(results, (low, high), look)
    height, place = _heights(results, table)
    below = _figure(height=height, x_axis_label="sample robustness R", **look, **place)
    groups = [shown_name(str(group), TEXT) for group in results.group_counts]
    colour = dict(zip(groups, COLOURS * len(groups), strict=False))
    source = ColumnDataSource(
        {**{name: table[name] for name in table}, "y": _places(results, table),
         "colour": [colour[group] for group in table["group"]]},
        name="samples",
    )  # fmt: skip
    for group in groups:
        view = CDSView(filter=GroupFilter(column_name="group", group=group))
        below.scatter("R", "y", source=source, view=view, size=6, alpha=0.65, color=colour[group],
                      nonselection_alpha=0.08, legend_label=group)  # fmt: skip
    tips = [(name, f"@{{{name}}}" + "{0.0000}" * (name in ("R", "Q", "reach"))) for name in table]
    below.add_tools(HoverTool(tooltips=tips))
    below.legend.visible = len(groups) > 1
    below.legend.orientation, below.legend.border_line_color = "horizontal", None
    below.add_layout(below.legend[0], "above")
    grid = gridplot([[above], [below]], sizing_mode="stretch_width",
                    toolbar_options={"logo": None})  # fmt: skip
    grid.name = "explorer"
    return grid


def _figure(**look: Any) -> Any:
    from bokeh.plotting import figure

    made = figure(**look)
    made.grid.grid_line_color = "#e3e3e3"
    made.outline_line_color = None
    return made


def _histogram(results: StoredResults, ends: tuple[float, float], look: dict[str, Any]) -> Any:
    """How many samples have which R, of all that are known."""
    from bokeh.models import ColumnDataSource, HoverTool

    values = results.samples["robustness"].to_numpy()
    low, high = ends
    counts, edges = np.histogram(values, BINS, (low, high if high > low else low + 1e-9))
    source = ColumnDataSource(
        {"left": edges[:-1], "right": edges[1:], "samples": counts,
         "share": counts / max(1, len(values))},
        name="bins",
    )  # fmt: skip
    above = _figure(height=150, **look)
    above.quad("left", "right", "samples", bottom=0, source=source, color=COLOURS[0], alpha=0.55,
               line_color="white", nonselection_alpha=0.15)  # fmt: skip
    above.add_tools(HoverTool(tooltips=[("R", "@left{0.0000} to @right{0.0000}"),
                                        ("samples", "@samples{0,0} (@share{0.0%})")]))  # fmt: skip
    above.yaxis.axis_label, above.xaxis.visible, above.y_range.start = "samples", False, 0
    return above


def _heights(results: StoredResults, table: pd.DataFrame) -> tuple[int, dict[str, Any]]:
    """Return how high the plot of samples is, and its upright axis."""
    if results.has_real_labels:
        return 360, {"y_axis_label": "label"}
    names = _lines(results, table)
    return 120 + 26 * len(names), {"y_range": names[::-1]}


def _lines(results: StoredResults, table: pd.DataFrame) -> list[str]:
    """Return the names of the lines: classes, the first ones, or all samples in one."""
    if not results.categorical:
        return ["all"]
    codes = results.samples.loc[table["row"], "label"].cat
    there = [
        shown_name(str(name), TEXT) for name in codes.remove_unused_categories().cat.categories
    ]
    names = list(dict.fromkeys(there))
    return names if len(names) <= MOST_CLASSES else [*names[:MOST_CLASSES], "others"]


def _places(results: StoredResults, table: pd.DataFrame) -> list[Any]:
    """Return where samples lie upright: at their label, or scattered over the line of a class."""
    if results.has_real_labels:
        return [float(value) for value in results.samples.loc[table["row"], "label"]]
    names = set(_lines(results, table))
    rest = "others" if results.categorical else "all"
    scatter = np.random.default_rng(0).uniform(-JITTER, JITTER, len(table)).round(3).tolist()
    own = [label if label in names else rest for label in table["label"]]
    return list(zip(own, scatter, strict=True))
