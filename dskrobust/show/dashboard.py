"""The page *Robustness* of Dask's dashboard, drawn by Bokeh from what a `Board` knows.

Five plots: tiles as a matrix that fills up, R so far, pairs and bytes over time, and the memory of
every worker beside what the plan projects. They are looked at anew twice a second, and only while
somebody looks.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, Div, LinearColorMapper, NumeralTickFormatter, Span
from bokeh.plotting import figure
from bokeh.server.tornado import BokehTornado
from distributed.dashboard.components import DashboardComponent, add_periodic_callback
from distributed.dashboard.components.scheduler import BOKEH_THEME, env
from distributed.dashboard.core import BokehApplication
from distributed.dashboard.scheduler import template_variables
from tornado.ioloop import IOLoop

from .. import display
from .run_board import RunBoard

if TYPE_CHECKING:
    from distributed import Scheduler

Newest = Callable[[], "RunBoard | None"]  # the run that began last

PAGE = "robustness"  # of the dashboard
REFRESH = 500  # milliseconds between two looks
MIB = 2**20
FULL, OTHER = "#2e86c1", "#e08214"
PALETTE = ["#e8eef3", "#c6dcec", "#a3cae4", "#81b8dc", "#5fa5d4", "#4696cb", "#2e86c1"]
NOTHING = "Nothing was computed on this scheduler since it started."


def described(run: RunBoard | None) -> str:
    """Return a run in words, as HTML."""
    if run is None:
        return NOTHING
    totals, elapsed = run.totals, run.changed - run.started
    share = run.looked_at / run.pairs if run.pairs else 1.0
    parts = [f"{run.done:,} of {display.counted(run.tiles, 'tile')}, {share:.1%} of the pairs"]
    if run.found:
        parts.append(f"{run.found:,} tiles were in the store")
    if run.looked_at:
        parts.append(f"{totals['proven'] / run.looked_at:.3%} of them proven")
    parts.append(f"{display.size(totals['bytes_read'])} read")
    if run.complete:
        parts.append(f"done in {display.clock(elapsed)}")
    elif share > 0:
        parts.append(f"about {display.clock(elapsed * (1 - share) / share)} left")
    words = run.bounds.words()
    lines = [f"<b>{html.escape(display.shown_name(run.title))}</b>", " · ".join(parts), words]
    return "<br>".join(line for line in lines if line)


class _Plot(DashboardComponent):
    """A plot of the newest run.

    Parameters
    ----------
    newest : callable
    scheduler : Scheduler
    """

    def __init__(self, newest: Newest, scheduler: Scheduler, **kwargs: Any) -> None:
        self.newest, self.scheduler = newest, scheduler
        self.source = ColumnDataSource({name: [] for name in self.columns})
        self.root = self.draw(**kwargs)

    columns: tuple[str, ...] = ()
    title = ""

    def draw(self, **kwargs: Any) -> Any:
        """Return the plot, empty."""
        raise NotImplementedError

    def looked_at(self, run: RunBoard) -> dict[str, Any] | None:
        """Return the columns of the source as they are now; None to leave them."""
        raise NotImplementedError

    def update(self) -> None:
        """Look at the run that began last."""
        run = self.newest()
        found = None if run is None else self.looked_at(run)
        if found is not None:
            self.source.data = found


class Words(_Plot):
    """The run in words."""

    columns = ("text",)

    def draw(self, **kwargs: Any) -> Any:
        return Div(text=NOTHING, sizing_mode="stretch_width", margin=(8, 12, 8, 12),
                   styles={"font-size": "14px", "line-height": "1.5"})  # fmt: skip

    def update(self) -> None:
        self.root.text = described(self.newest())


class Tiles(_Plot):
    """Which pairs of blocks are done."""

    columns, title = ("image", "x", "y", "dw", "dh"), "Tiles done, by rows"

    def draw(self, **kwargs: Any) -> Any:
        shown = figure(title=self.title, tools="hover,wheel_zoom,box_zoom,reset", match_aspect=True,
                       tooltips=[("rows", "$y{0,0} and $x{0,0}"), ("done", "@image{0%}")],
                       x_axis_label="row", y_axis_label="row", **kwargs)  # fmt: skip
        mapper = LinearColorMapper(PALETTE, low=0, high=1, nan_color="rgba(0, 0, 0, 0)")
        shown.image("image", "x", "y", "dw", "dh", source=self.source, color_mapper=mapper)
        shown.y_range.flipped = True
        for axis in (shown.xaxis, shown.yaxis):
            axis.formatter = NumeralTickFormatter(format="0,0")
        return shown

    def looked_at(self, run: RunBoard) -> dict[str, Any]:
        shares = run.shares().astype(np.float32)
        return {"image": [shares], "x": [0], "y": [0], "dw": [run.rows], "dh": [run.rows]}


class Bounds(_Plot):
    """How R so far is distributed, and where it started."""

    columns, title = ("left", "right", "now", "first"), "R so far, an upper bound of R"

    def draw(self, **kwargs: Any) -> Any:
        told = [("R", "@left{0.0000} to @right{0.0000}"), ("samples", "@now{0,0}"),
                ("at first", "@first{0,0}")]  # fmt: skip
        shown = figure(title=self.title, tools="hover,reset", tooltips=told, x_axis_label="R",
                       y_axis_label="samples", **kwargs)  # fmt: skip
        sides = {"left": "left", "right": "right", "bottom": 0, "source": self.source}
        shown.quad(top="now", color=FULL, line_color="white", legend_label="now", **sides)
        shown.quad(top="first", fill_alpha=0, line_color=OTHER, legend_label="at first", **sides)
        shown.legend.location = "top_left"
        shown.yaxis.formatter = NumeralTickFormatter(format="0,0")
        return shown

    def looked_at(self, run: RunBoard) -> dict[str, Any]:
        counts = run.bounds.counts(display.BINS)
        if counts is None:
            return {name: [] for name in self.columns}
        edges, now, first = counts
        return {"left": edges[:-1], "right": edges[1:], "now": now, "first": first}


class _Curve(_Plot):
    """Something that grows while a run goes on."""

    columns, of = ("seconds", "value"), 1

    def draw(self, **kwargs: Any) -> Any:
        shown = figure(title=self.title, tools="hover,reset", x_axis_label="seconds",
                       tooltips=[("after", "@seconds{0.0} s"), (self.title, self.form)],
                       **kwargs)  # fmt: skip
        shown.line("seconds", "value", source=self.source, color=FULL, line_width=2)
        shown.y_range.start = 0
        return shown

    form = "@value{0.0%}"

    def scale(self, run: RunBoard) -> float:
        """What a value is divided by."""
        raise NotImplementedError

    def looked_at(self, run: RunBoard) -> dict[str, Any]:
        curve = np.array(run.curve)
        return {"seconds": curve[:, 0], "value": curve[:, self.of] / self.scale(run)}


class Pairs(_Curve):
    """The share of all pairs over time."""

    title = "Pairs done"

    def draw(self, **kwargs: Any) -> Any:
        shown = super().draw(**kwargs)
        shown.y_range.end = 1
        shown.yaxis.formatter = NumeralTickFormatter(format="0%")
        return shown

    def scale(self, run: RunBoard) -> float:
        return max(1, run.pairs)


class Read(_Curve):
    """Bytes of features that were read over time."""

    title, of, form = "MiB of features read", 2, "@value{0,0.0}"

    def scale(self, run: RunBoard) -> float:
        return MIB


class Memory(_Plot):
    """What every worker holds, beside what the plan projects."""

    columns, title = ("worker", "held"), "MiB held by each worker; the line is projected"

    def draw(self, **kwargs: Any) -> Any:
        shown = figure(title=self.title, tools="hover,reset", y_range=["–"],
                       tooltips=[("worker", "@worker"), ("MiB", "@held{0,0}")],
                       **kwargs)  # fmt: skip
        shown.hbar("worker", right="held", height=0.7, source=self.source, color=FULL)
        self._projected = Span(location=0, dimension="height", line_color=OTHER, line_width=2)
        shown.add_layout(self._projected)
        shown.x_range.start = 0
        shown.xaxis.formatter = NumeralTickFormatter(format="0,0")
        return shown

    def looked_at(self, run: RunBoard) -> dict[str, Any]:
        workers = sorted(self.scheduler.workers.values(), key=lambda ws: ws.address)
        names = [f"{display.shown_name(str(ws.name))} at {ws.address}" for ws in workers]
        held = [ws.metrics.get("memory", 0) / MIB for ws in workers]
        self._projected.location = run.projected / MIB
        self.root.x_range.end = 1.1 * max([run.projected / MIB, *held])
        if list(self.root.y_range.factors) != names:
            self.root.y_range.factors = names
        return {"worker": names, "held": held}


PLOTS: dict[str, type[_Plot]] = {
    plot.__name__.lower(): plot for plot in (Tiles, Bounds, Pairs, Read, Memory)
}


LINES = (("tiles", "bounds"), ("pairs", "read", "memory"))  # of the page
HEIGHTS, LOW = {"tiles": 420, "bounds": 420}, 260  # in pixels


def _whole_page(newest: Newest, scheduler: Scheduler, extra: dict[str, Any], doc: Any) -> None:
    """Fill a document with all plots."""
    words = Words(newest, scheduler)
    shown = {name: plot(newest, scheduler, height=HEIGHTS.get(name, LOW),
                         sizing_mode="stretch_width")
             for name, plot in PLOTS.items()}  # fmt: skip
    for one in (words, *shown.values()):
        one.update()
        add_periodic_callback(doc, one, REFRESH)
    rows = [[shown[name].root for name in names] for names in LINES]
    lines = [row(*plots, sizing_mode="stretch_width") for plots in rows]
    doc.add_root(column(words.root, *lines, sizing_mode="stretch_width"))
    doc.title = "Dask: Robustness"
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.theme = BOKEH_THEME


def _single(
    plot: type[_Plot], newest: Newest, scheduler: Scheduler, extra: dict[str, Any], doc: Any
) -> None:
    """Fill a document with one plot, for a pane of JupyterLab."""
    one = plot(newest, scheduler, sizing_mode="stretch_both")
    one.update()
    add_periodic_callback(doc, one, REFRESH)
    doc.add_root(one.root)
    doc.title, doc.theme = f"Dask: Robustness, {plot.__name__.lower()}", BOKEH_THEME


def add_pages(scheduler: Scheduler, newest: Newest) -> None:
    """Add the page and its single plots to a scheduler's dashboard.

    Dask makes one application of its own pages when a scheduler starts, so ours are another one
    behind the same prefix; the first application is the one whose plots are listed.
    """
    known = scheduler.http_application.applications
    first = next((one for one in known if isinstance(one, BokehTornado)), None)
    if first is None:  # it serves no dashboard
        return
    variables = template_variables(scheduler)
    if PAGE not in variables["pages"]:
        variables["pages"].insert(1, PAGE)
    pages: dict[str, Callable[..., None]] = {f"/{PAGE}": partial(_whole_page, newest)}
    for name, plot in PLOTS.items():
        pages[f"/individual-{PAGE}-{name}"] = partial(_single, plot, newest)
    ours = BokehApplication(pages, scheduler, prefix=first.prefix, template_variables=variables)
    scheduler.http_application.add_application(ours)
    ours.initialize(IOLoop.current())
    ours.start()
    listed = cast("dict[str, Any]", first._applications)
    for name in pages:
        if name.startswith("/individual-"):
            listed.setdefault(name, ours._applications[name])
