"""The command `show`: what a store holds, how R is distributed, and the scores of single rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ..credentials import without_credentials
from ..errors import Hint
from .memory import say_memory
from .options import (
    asked_result,
    json_option,
    metric_options,
    opened_store,
    say_next,
    store_argument,
)

if TYPE_CHECKING:
    from rich.table import Table

    from ..scores import Scores
    from ..show.overview import Overview
    from ..store import Note, ResultTables, Store

FEWER = Hint(
    "run fewer tasks at once: dask.config.set(num_workers=1)",
    "name the rows to show, or run fewer tasks at once: DASK_NUM_WORKERS=1",
)
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def group_table(overview: Overview) -> Table:
    """Return R's least, median and largest value for every group and for their union."""
    from ..show import terminal
    from ..show.overview import HEAD

    shown = terminal.table(*HEAD)
    for row in overview.group_rows():
        terminal.add_row(shown, *row)
    return shown


# -- show ------------------------------------------------------------------------------------


@click.command()
@store_argument
@click.argument("rows", nargs=-1, type=click.IntRange(0), metavar="[ROW]...")
@metric_options
@json_option
def show(
    store: str,
    rows: tuple[int, ...],
    metric: str | None,
    labels: str | None,
    label_bound: float | None,
    as_json: bool,
) -> None:
    """Show what a store holds: data, results, how R is distributed, the least robust samples.

    With row numbers: the scores of these rows against every group, with their ids where they have
    some. In JSON null stands for an
    infinite value, or for no witness.

    \b
    Examples:
      dskrobust show mnist.zarr
      dskrobust show mnist.zarr 31251 34917
      dskrobust show mnist.zarr --json | jq .robustness.train.median
    """
    from ..memory import projected_peak, tasks_at_once
    from ..scores import read_scores
    from ..show.overview import Overview, overview_memory
    from ..store import find_results

    opened = opened_store(store)
    if rows:
        result = asked_result(opened, metric, labels, label_bound)
        facts = row_facts(opened, read_scores(opened, result), rows)
        if as_json:
            click.echo(json.dumps(facts, indent=2))
        else:
            _print_rows(opened, result, facts)
        return
    results = find_results(opened)
    scores, overview, projected = None, None, None
    if metric or labels or label_bound or any(r.covers(opened) for r in results):
        shown = asked_result(opened, metric, labels, label_bound)
        scores = read_scores(opened, shown)
        sets = len(scores.groups) + len(scores.references)
        needed = overview_memory(scores.rows, sets, tasks_at_once())
        projected = projected_peak("an overview of all scores", needed, FEWER)
        overview = Overview.of(scores)
    if as_json:
        click.echo(json.dumps(store_facts(opened, store, results, scores, overview), indent=2))
    else:
        _print_store(opened, store, results, scores, overview)
        if projected is not None:
            say_memory(projected)


def store_facts(
    store: Store,
    address: str,
    results: Sequence[ResultTables],
    scores: Scores | None,
    overview: Overview | None,
) -> dict[str, Any]:
    """Return what a store holds as plain values."""
    from ..show.overview import least_facts

    counts = store.summary.groups
    facts: dict[str, Any] = {
        "store": without_credentials(address),
        "name": store.spec.name,
        "rows": store.rows,
        "columns": store.columns,
        "dtype": str(store.row_shape("features")[1]),
        "scale": store.spec.scale,
        "provenance": dict(store.spec.provenance),
        "labels": store.spec.label_kind,
        "classes": store.spec.classes,
        "groups": {g: counts[k].rows for k, g in enumerate(store.groups) if k in counts},
        "notes": None if store.notes is None else [_plain(note) for note in store.notes],
        "results": [
            {
                "name": r.name,
                "parameters": dict(r.parameters),
                "rows": r.rows,
                "current": r.covers(store),
                "facts": dict(r.facts),
            }
            for r in results
        ],
    }
    if overview is not None and scores is not None and scores.result is not None:
        facts["shown"] = scores.result.name
        facts["robustness"] = _distribution(overview)
        facts["sampled"] = len(overview.drawn) if overview.is_sample else None
        facts["least_robust"] = least_facts(scores, overview)
        facts["contradictions"] = overview.contradictions
    return facts


def _plain(note: Note) -> dict[str, Any]:
    values = asdict(note)
    return {**values, "remedy": note.remedy.command if note.remedy else None}


def _distribution(overview: Overview) -> dict[str, Any]:
    import numpy as np

    from ..show.terminal import bin_edges

    distributions = overview.with_union
    edges = bin_edges(list(distributions.values()))
    table = overview.table()
    return {
        group: {
            **{name: table[group][name] for name in ("samples", "least", "median", "largest")},
            "quantiles": {str(q): float(np.quantile(values, q)) for q in QUANTILES},
            "histogram": {
                "edges": edges.tolist(),
                "counts": np.histogram(values, edges)[0].tolist(),
            },
        }
        for group, values in distributions.items()
    }


def row_facts(store: Store, scores: Scores, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return the scores of rows against every group as plain values."""
    from ..errors import InvalidOptionError

    beyond = [row for row in rows if row >= store.rows]
    if beyond:
        raise InvalidOptionError(f"there is no row {beyond[0]}; rows go from 0 to {store.rows - 1}")
    return [_row_facts(store, scores, row) for row in rows]


def _row_facts(store: Store, scores: Scores, row: int) -> dict[str, Any]:
    from dask.base import compute

    from ..definitions import robustness_of
    from ..show.overview import finite, id_facts, label_text

    names = ("lipschitz", "reach", "witness", "nearest")
    tables = [getattr(scores, f"{name}_by_group") for name in names]
    q, reach, witness, nearest = compute(*(t[row] for t in tables), scheduler="sync")
    own = int(store.split_codes[row])
    ids = id_facts(scores.ids, [row, *witness, *nearest])
    against = {}
    for k, group in enumerate(scores.groups):
        there = int(witness[k]) >= 0
        against[group] = {
            "robustness": float(robustness_of(q[k], scores.label_norm)),
            "lipschitz": finite(q[k]),
            "reach": finite(reach[k]),
            "witness": int(witness[k]) if there else None,
            "witness_label": label_text(store, store.labels[int(witness[k])]) if there else None,
            "nearest": int(nearest[k]) if there else None,
        }
        if ids is not None:
            others = {"witness_id": ids[1 + k], "nearest_id": ids[1 + len(witness) + k]}
            against[group] |= others
    return {
        "row": row,
        **({} if ids is None else {"id": ids[0]}),
        "group": scores.groups[own],
        "label": label_text(store, store.labels[row]),
        "robustness": against[scores.groups[own]]["robustness"],
        "against": against,
    }


def _print_store(
    store: Store,
    address: str,
    results: Sequence[ResultTables],
    scores: Scores | None,
    overview: Overview | None,
) -> None:
    from ..show import terminal
    from ..show.overview import asked_words, least_facts, least_table
    from .data import describe

    describe(store)
    name = None if scores is None or scores.result is None else scores.result.name
    for result in results:
        state = "" if result.covers(store) else f", of {result.rows:,} rows of earlier data"
        when = terminal.moment(result.facts.get("date"))
        seconds = terminal.clock(float(result.facts.get("seconds", 0)))
        mark = " ←" if result.name == name and len(results) > 1 else ""
        words = asked_words(result.parameters)
        terminal.fact("result", f"{words}{state}, computed {when} in {seconds}{mark}")
    if overview is None:
        terminal.fact("result", "none for this data yet")
        say_next(store, address)
        return
    terminal.show(group_table(overview))
    terminal.heading("How robust the samples are")
    terminal.show(terminal.histogram(overview.by_group))
    if overview.is_sample:
        terminal.say(f"{overview.sample_line()}.", style=terminal.QUIET)
    terminal.heading("The least robust samples and their witnesses")
    head, rows, text = least_table(least_facts(scores, overview))
    shown = terminal.table(*head, text=text)
    for row in rows:
        terminal.add_row(shown, *row)
    terminal.show(shown)
    line = overview.contradiction_line()
    if line:
        terminal.say(line, style="yellow")


def _print_rows(store: Store, result: ResultTables, facts: Sequence[dict[str, Any]]) -> None:
    from ..show import terminal
    from ..show.overview import asked_words, finite_text

    terminal.say(f"{store.spec.name}: {asked_words(result.parameters)}", style=terminal.STRONG)
    own_names, other = (("row", "id"), "_id") if store.has_ids else (("row",), "")
    shown = terminal.table(
        *own_names, "label", "against", "R", "Q", "reach", "nearest", "witness", "its label",
        text=(1, 2, 3, 7, 8, 9) if store.has_ids else (1, 2, 8),
    )  # fmt: skip
    others = f"nearest{other}", f"witness{other}", "witness_label"
    for f in facts:
        first = True
        for group, a in f["against"].items():
            own = group == f["group"]
            cells = [f[name] if first else "" for name in (*own_names, "label")]
            first = False
            terminal.add_row(
                shown,
                *cells,
                f"{group} (own)" if own else group,
                f"{a['robustness']:.4f}",
                finite_text(a["lipschitz"]),
                finite_text(a["reach"]),
                *("–" if a[name] is None else a[name] for name in others),
                style=None if own else terminal.QUIET,
            )
    terminal.show(shown)
