"""The command `show`: what a store holds, how R is distributed, and the scores of single rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from .options import asked_result, json_option, metric_options, store_argument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from ..scores import Scores
    from ..store import ResultTables, Store

FIRST = 10  # least robust rows, and contradictions, that are shown
TOGETHER = "all together"  # R in the union of the groups
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Loaded:
    """What `show` needs of the scores, as NumPy arrays (n,)."""

    robustness: NDArray[np.float64]
    lipschitz: NDArray[np.float64]
    reach: NDArray[np.float64]
    witness: NDArray[np.int64]
    nearest: NDArray[np.int64]
    split: NDArray[np.int16]
    groups: tuple[str, ...]
    together: NDArray[np.float64]

    def of_group(self, group: str) -> NDArray[np.float64]:
        """R of the samples of a group."""
        return self.robustness[self.split == self.groups.index(group)]

    @property
    def by_group(self) -> dict[str, NDArray[np.float64]]:
        """R of every group that has samples."""
        found = {group: self.of_group(group) for group in self.groups}
        return {group: values for group, values in found.items() if len(values)}

    @property
    def with_union(self) -> dict[str, NDArray[np.float64]]:
        """R of every group, and of all samples in the union of several groups (paper, 3.5)."""
        own = self.by_group
        return own | {TOGETHER: self.together} if len(own) > 1 else own

    def least(self, count: int) -> NDArray[np.int64]:
        """Row numbers of the least robust samples, ties by row number."""
        import numpy as np

        return np.argsort(self.robustness, kind="stable")[:count]

    @property
    def contradictions(self) -> NDArray[np.int64]:
        """Rows with a differently labelled twin at distance 0."""
        import numpy as np

        return np.flatnonzero(self.reach == 0)


def load(scores: Scores) -> Loaded:
    """Read stored scores."""
    from dask.base import compute

    names = [f.name for f in fields(Loaded) if f.name not in ("groups", "together")]
    wanted = *(getattr(scores, name) for name in names), scores.robustness_within()
    *values, together = compute(*wanted, scheduler="threads")
    named = dict(zip(names, values, strict=True))
    return Loaded(**named, groups=scores.groups, together=together)


def group_table(loaded: Loaded) -> Table:
    """Return R's least, median and largest value for every group and for their union."""
    import numpy as np

    from .. import terminal

    shown = terminal.table("R in", "samples", "least", "median", "largest")
    for group, values in loaded.with_union.items():
        cells = (f"{v:.4f}" for v in (values.min(), np.median(values), values.max()))
        terminal.add_row(shown, group, f"{len(values):,}", *cells)
    return shown


def contradiction_line(loaded: Loaded) -> str | None:
    """Return a line on contradictory samples, where there are any."""
    rows = loaded.contradictions
    if not len(rows):
        return None
    pairs = ", ".join(f"{row} and {loaded.nearest[row]}" for row in rows[:5])
    return (
        f"{len(rows):,} samples have a twin at distance 0 with another label: Q is infinite and "
        f"R is 0 (rows {pairs}{', …' if len(rows) > 5 else ''})"
    )


def label_text(store: Store, label: Any) -> str:
    """Return how a label is called, in the units it had before it was scaled."""
    import numpy as np

    from ..datasets import restore_labels
    from ..subsets import class_name

    if store.spec.label_kind == "categorical":
        return class_name(store, label)
    values = np.atleast_1d(restore_labels(store.spec, label))
    text = ", ".join(f"{v:.6g}" for v in values[:4]) + (", …" if len(values) > 4 else "")
    return text if len(values) == 1 else f"({text})"


def finite(value: Any) -> float | None:
    """Return a number that JSON can hold; None stands for infinity."""
    import math

    return float(value) if math.isfinite(value) else None


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

    With row numbers: the scores of these rows against every group. In JSON null stands for an
    infinite value, or for no witness.

    \b
    Examples:
      dskrobust show mnist.zarr
      dskrobust show mnist.zarr 31251 34917
      dskrobust show mnist.zarr --json | jq .robustness.train.median
    """
    from ..scores import read_scores
    from ..store import find_results, open_store

    opened = open_store(store)
    if rows:
        result = asked_result(opened, metric, labels, label_bound)
        facts = row_facts(opened, read_scores(opened, result), rows)
        if as_json:
            click.echo(json.dumps(facts, indent=2))
        else:
            _print_rows(opened, result, facts)
        return
    results = find_results(opened)
    shown, loaded = None, None
    if metric or labels or label_bound or any(r.covers(opened) for r in results):
        shown = asked_result(opened, metric, labels, label_bound)
        loaded = load(read_scores(opened, shown))
    if as_json:
        click.echo(json.dumps(store_facts(opened, store, results, shown, loaded), indent=2))
    else:
        _print_store(opened, store, results, shown, loaded)


def store_facts(
    store: Store,
    address: str,
    results: Sequence[ResultTables],
    result: ResultTables | None,
    loaded: Loaded | None,
) -> dict[str, Any]:
    """Return what a store holds as plain values."""
    counts = store.summary.groups
    facts: dict[str, Any] = {
        "store": address,
        "name": store.spec.name,
        "rows": store.rows,
        "columns": store.columns,
        "dtype": str(store.row_shape("features")[1]),
        "scale": store.spec.scale,
        "labels": store.spec.label_kind,
        "classes": store.spec.classes,
        "groups": {g: counts[k].rows for k, g in enumerate(store.groups) if k in counts},
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
    if loaded is not None and result is not None:
        facts["shown"] = result.name
        facts["robustness"] = _distribution(loaded)
        facts["least_robust"] = least_facts(store, loaded)
        facts["contradictions"] = len(loaded.contradictions)
    return facts


def _distribution(loaded: Loaded) -> dict[str, Any]:
    import numpy as np

    from ..terminal import bin_edges

    distributions = loaded.with_union
    edges = bin_edges(list(distributions.values()))
    return {
        group: {
            "samples": len(values),
            "least": float(values.min()),
            "median": float(np.median(values)),
            "largest": float(values.max()),
            "quantiles": {str(q): float(np.quantile(values, q)) for q in QUANTILES},
            "histogram": {
                "edges": edges.tolist(),
                "counts": np.histogram(values, edges)[0].tolist(),
            },
        }
        for group, values in distributions.items()
    }


def least_facts(store: Store, loaded: Loaded, count: int = FIRST) -> list[dict[str, Any]]:
    """Return the least robust samples with their witnesses as plain values."""
    rows = loaded.least(count)
    labels, other = store.labels[rows], store.labels[loaded.witness[rows]]
    return [
        {
            "row": int(row),
            "group": loaded.groups[loaded.split[row]],
            "label": label_text(store, labels[k]),
            "robustness": float(loaded.robustness[row]),
            "lipschitz": finite(loaded.lipschitz[row]),
            "reach": finite(loaded.reach[row]),
            "witness": int(loaded.witness[row]),
            "witness_label": label_text(store, other[k]),
        }
        for k, row in enumerate(rows)
    ]


def row_facts(store: Store, scores: Scores, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return the scores of rows against every group as plain values."""
    from ..errors import InvalidOptionError

    beyond = [row for row in rows if row >= store.rows]
    if beyond:
        raise InvalidOptionError(f"there is no row {beyond[0]}; rows go from 0 to {store.rows - 1}")
    return [_row_facts(store, scores, row) for row in rows]


def _row_facts(store: Store, scores: Scores, row: int) -> dict[str, Any]:
    from dask.base import compute

    names = ("lipschitz", "reach", "witness", "nearest")
    tables = [getattr(scores, f"{name}_by_group") for name in names]
    q, reach, witness, nearest = compute(*(t[row] for t in tables), scheduler="sync")
    own = int(store.split_codes[row])
    against = {}
    for k, group in enumerate(scores.groups):
        there = int(witness[k]) >= 0
        against[group] = {
            "robustness": float(scores.label_norm / (q[k] + scores.label_norm)),
            "lipschitz": finite(q[k]),
            "reach": finite(reach[k]),
            "witness": int(witness[k]) if there else None,
            "witness_label": label_text(store, store.labels[int(witness[k])]) if there else None,
            "nearest": int(nearest[k]) if there else None,
        }
    return {
        "row": row,
        "group": scores.groups[own],
        "label": label_text(store, store.labels[row]),
        "robustness": against[scores.groups[own]]["robustness"],
        "against": against,
    }


def _print_store(
    store: Store,
    address: str,
    results: Sequence[ResultTables],
    result: ResultTables | None,
    loaded: Loaded | None,
) -> None:
    from .. import terminal
    from .data import describe

    describe(store)
    for found in results:
        state = "" if found.covers(store) else f", of {found.rows:,} rows of earlier data"
        when = terminal.moment(found.facts.get("date"))
        seconds = terminal.clock(float(found.facts.get("seconds", 0)))
        mark = " ←" if result is not None and found.name == result.name and len(results) > 1 else ""
        terminal.fact("result", f"{asked_words(found)}{state}, computed {when} in {seconds}{mark}")
    if loaded is None:
        terminal.fact("result", "none for this data yet")
        terminal.fact("next", f"dskrobust compute {address}")
        return
    terminal.show(group_table(loaded))
    terminal.heading("How robust the samples are")
    terminal.show(terminal.histogram(loaded.by_group))
    terminal.heading("The least robust samples and their witnesses")
    terminal.show(_least_table(least_facts(store, loaded)))
    line = contradiction_line(loaded)
    if line:
        terminal.say(line, style="yellow")


def asked_words(result: ResultTables) -> str:
    """Return a result's metric and label map in words."""
    parameters = result.parameters
    norm = f"-{parameters['norm']}" if "norm" in parameters else ""
    bound = f", ‖y‖∞ ≤ {parameters['bound']:g}" if parameters.get("bound") else ""
    return f"{parameters['metric']}, {parameters['labels']}{norm} labels{bound}"


def _least_table(facts: Sequence[dict[str, Any]]) -> Table:
    from .. import terminal

    columns = ("row", "group", "label", "R", "Q", "reach", "witness", "its label")
    shown = terminal.table(*columns, text=(1, 2, 7))
    for f in facts:
        numbers = (_number(f["lipschitz"]), _number(f["reach"]))
        cells = (f["row"], f["group"], f["label"], f"{f['robustness']:.4f}", *numbers)
        terminal.add_row(shown, *cells, f["witness"], f["witness_label"])
    return shown


def _number(value: float | None) -> str:
    from ..terminal import number

    return "∞" if value is None else number(value)


def _print_rows(store: Store, result: ResultTables, facts: Sequence[dict[str, Any]]) -> None:
    from .. import terminal

    terminal.say(f"{store.spec.name}: {asked_words(result)}", style=terminal.STRONG)
    columns = ("row", "label", "against", "R", "Q", "reach", "nearest", "witness", "its label")
    shown = terminal.table(*columns, text=(1, 2, 8))
    for f in facts:
        first = True
        for group, a in f["against"].items():
            own = group == f["group"]
            cells = (f["row"], f["label"]) if first else ("", "")
            first = False
            terminal.add_row(
                shown,
                *cells,
                f"{group} (own)" if own else group,
                f"{a['robustness']:.4f}",
                _number(a["lipschitz"]),
                _number(a["reach"]),
                *("–" if a[n] is None else a[n] for n in ("nearest", "witness", "witness_label")),
                style=None if own else terminal.QUIET,
            )
    terminal.show(shown)
