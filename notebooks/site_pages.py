"""What the documentation site is made of while it is built: mathematics, figures, tables.

Formulas become MathML, which browsers show without a script. Directives make pages from what the
repository knows: `commands` prints their help, `catalogue` lists the tables and figures of the
paper, `changes` collects the fragments in `changes`, `benchmarks` draws a figure from a file in
`results`, `speeds` prints the table of all speeds.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from dskrobust.cli import main
from dskrobust.report import catalogue
from dskrobust.report.style import COLOURS

RESULTS = Path(__file__).parent / "results"
FRAGMENTS = Path(__file__).parent / "changes"
SCRIPTS = Path(__file__).parents[1] / "scripts"


@cache
def _script(name: str) -> ModuleType:
    """Return a script of the repository, such as benchmarks/pairs, as a module."""
    path = SCRIPTS / f"{name}.py"
    sys.path.insert(0, str(path.parent))  # it may import its neighbours
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- mathematics -----------------------------------------------------------------------------


def visit_math(self: Any, node: nodes.math) -> None:
    """Write a formula in a line as MathML."""
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_displaymath(self: Any, node: nodes.math_block) -> None:
    """Write a formula of its own as MathML."""
    self.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


# -- commands --------------------------------------------------------------------------------


class Commands(SphinxDirective):
    """The help of all commands, each under its name."""

    def run(self) -> list[nodes.Node]:
        around = click.Context(
            main, info_name="dskrobust", terminal_width=88, **main.context_settings
        )
        parts = [f"## All commands\n\n{_fenced(main.get_help(around))}"]
        for name in main.list_commands(around):
            command = main.get_command(around, name)
            assert command is not None
            with click.Context(command, around, name, terminal_width=88) as context:
                parts.append(f"## {name}\n\n{_fenced(command.get_help(context))}")
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


# -- the list of tables and figures ----------------------------------------------------------


class Catalogue(SphinxDirective):
    """A table of everything in the paper that is made here, with its command and function."""

    def run(self) -> list[nodes.Node]:
        lines = ["| in the paper | what | command | Python |", "|---|---|---|---|"]
        for entry in catalogue:
            commands = ", then ".join(f"`{c}`" for c in (entry.needs, entry.command) if c)
            cells = [entry.name, f"{entry.what} ({entry.section})", commands,
                     f"{{py:obj}}`~{entry.function}`"]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        return self.parse_text_to_nodes("\n".join(lines))


# -- changes ---------------------------------------------------------------------------------


class Changes(SphinxDirective):
    """The fragments of what has changed since the last release, by kind; then the releases."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(FRAGMENTS))
        release = _script("release")
        kinds = release.fragments()
        for path in (path for paths in kinds.values() for path in paths):
            self.env.note_dependency(str(path))
        parts = [release.section("To come", kinds)] if kinds else []
        released = FRAGMENTS / "released.md"
        if released.exists():
            parts.append(released.read_text(encoding="utf-8"))
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


# -- figures of the benchmarks ---------------------------------------------------------------


class Benchmarks(SphinxDirective):
    """A figure that is drawn from a file in results: speed, growth, memory, labels, networks."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name, draw = FIGURES[self.arguments[0]]
        path = RESULTS / name
        self.env.note_dependency(str(path))
        figure, caption = draw(json.loads(path.read_text()))
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        data = base64.b64encode(buffer.getvalue()).decode()
        html = (
            f'<figure class="benchmark"><img alt="{escape(caption)}" '
            f'src="data:image/svg+xml;base64,{data}"><figcaption>{escape(caption)} '
            f"(<code>notebooks/results/{name}</code>)</figcaption></figure>"
        )
        return [nodes.raw("", html, format="html")]


class Speeds(SphinxDirective):
    """The table of seconds beside peers, as scripts/benchmarks/pairs.py prints it."""

    def run(self) -> list[nodes.Node]:
        path = RESULTS / "pairs.json"
        self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(
            _script("benchmarks/pairs").table(json.loads(path.read_text()))
        )


def _bars(axes: Axes, rows: Mapping[str, Mapping[str, float]], unit: str) -> None:
    """Horizontal bars, a group a row, each with its value; a colour for every name."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    at, ticks = 0.0, []
    for row in rows.values():
        start = at
        for name, value in row.items():
            axes.barh(at, value, 0.8, color=COLOURS[names.index(name) % len(COLOURS)], label=name)
            text = f" {value:,.0f}" if value >= 100 else f" {value:.3g}"
            axes.annotate(text, (value, at), va="center", fontsize=9)
            at += 1
        ticks.append((start + at - 1) / 2)
        at += 0.8
    axes.set_yticks(ticks, list(rows))
    axes.set_ylim(at - 0.9, -0.9)
    axes.set_xlabel(unit)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(rows: Mapping[str, Mapping[str, float]], across: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure as high as these bars, with so many panels."""
    figure = Figure(figsize=(8, 0.7 + 0.26 * sum(len(r) + 0.8 for r in rows.values())))
    figure.set_layout_engine("constrained")
    return figure, list(figure.subplots(1, across, sharey=True, squeeze=False)[0])


def _legend(figure: Figure, axes: Axes) -> None:
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=len(handles),
                  frameon=False)  # fmt: skip


def speed(found: Any) -> tuple[Figure, str]:
    """Seconds of dskrobust and its peers, for the works that have both."""
    works = [row for rows in found["works"].values() for row in rows]
    rows = {w["work"]: w["seconds"] for w in works if len(w["seconds"]) > 1 and _peers(w)}
    machines = [f"{w['machine']['cores']} cores, {' '.join(w['machine']['instructions'])}"
                for w in works if w["work"] in rows]  # fmt: skip
    where = " or ".join(dict.fromkeys(machines))
    figure, (axes,) = _figure(rows)
    _bars(axes, rows, "seconds (logarithmic)")
    axes.set_xscale("log")
    _legend(figure, axes)
    notes = dict.fromkeys(w["note"] for w in works if "note" in w)
    return figure, "; ".join([f"Seconds of the same work, {where}", *notes])


def _peers(work: Mapping[str, Any]) -> bool:
    return any(key.startswith("times faster than") for key in work)


def graph(found: Any) -> tuple[Figure, str]:
    """Seconds of a graph of neighbours, and the share of the right ones that each peer found."""
    shares = {name: found[f"{name}: recall"] for name in found["seconds"] if name != "dskrobust"}
    figure, (axes,) = _figure({"": found["seconds"]})
    _bars(axes, {found["work"]: found["seconds"]}, "seconds")
    _legend(figure, axes)
    has = found["machine"]
    right = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    where = f"{has['cores']} cores, {' '.join(has['instructions'])}"
    return figure, f"Seconds of {found['work']}, {where}; right neighbours: {right}"


def growth(found: Any) -> tuple[Figure, str]:
    """How time grows from n to 4n rows."""
    rows = {f"{w['work'].removeprefix('growth, ')}: n^{w['exponent']:.2f}": w["seconds"]
            for w in found["works"]["growth"]}  # fmt: skip
    figure, (axes,) = _figure(rows)
    _bars(axes, rows, "seconds")
    _legend(figure, axes)
    return figure, "Seconds for n and for four times as many rows"


def memory(found: Any) -> tuple[Figure, str]:
    """Projected and measured peaks of workers beside their limit and the data."""
    peaks = {f"measured, worker {k}": v for k, v in enumerate(found["measured peaks MiB"], 1)}
    rows = {
        "features": {"MiB": found["features MiB"]},
        "memory limit": {"MiB": found["memory limit MiB"]},
        "projected peak": {"MiB": found["projected peak MiB"]},
        **{name: {"MiB": value} for name, value in peaks.items()},
    }
    caption = (
        f"Data {found['times the workers' + chr(39) + ' memory']:.0f} times the memory of "
        f"{found['workers']} workers; {found['spilled bytes']:,} bytes were spilled"
    )
    figure, (axes,) = _figure(rows)
    _bars(axes, rows, "MiB")
    return figure, caption


def labels(found: Any) -> tuple[Figure, str]:
    """Average precision of the wrong labels found, and what that took, beside Datalab."""
    runs = {name: run for name, run in found.items() if isinstance(run, dict) and "datalab" in run}
    measures = ("average precision", "processor seconds", "peak MiB")
    figure, panels = _figure({name: dict.fromkeys(("a", "b"), 0.0) for name in runs}, len(measures))
    for axes, measure in zip(panels, measures, strict=True):
        rows = {name: {who: run[who][measure] for who in ("dskrobust", "datalab")}
                for name, run in runs.items()}  # fmt: skip
        _bars(axes, rows, measure)
    _legend(figure, panels[0])
    return figure, found["work"]


FIGURES: dict[str, tuple[str, Callable[[Any], tuple[Figure, str]]]] = {
    "speed": ("pairs.json", speed),
    "growth": ("pairs.json", growth),
    "graph": ("graph.json", graph),
    "memory": ("memory.json", memory),
    "labels": ("label-issues.json", labels),
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the renderer and the directives to Sphinx."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    app.add_directive("commands", Commands)
    app.add_directive("catalogue", Catalogue)
    app.add_directive("changes", Changes)
    app.add_directive("benchmarks", Benchmarks)
    app.add_directive("speeds", Speeds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
