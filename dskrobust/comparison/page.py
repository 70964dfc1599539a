"""A comparison as one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..display import moment, shown_name
from ..outputs import free_output, whole_file
from ..report.headlines import Headline
from ..report.rendering import Image, drawn, photo, render_page
from . import figures
from .changes import Changes, differences
from .tables import KINDS, drawn_points

PICTURED = 24  # rows that are shown as pictures
TITLES = {
    "data": "What differs in the data",
    "kinds": "Suspicious and contradictory rows",
    "robustness": "How robust the samples are",
    "classes": "Classes",
    "rows": "Rows whose R changed most",
    "models": "Models",
    "facts": "Provenance of both",
}


def write_page(
    made: Changes,
    lines: Sequence[Headline],
    out: str | Path,
    *,
    overwrite: bool = False,
    anonymous: bool = False,
) -> Path | str:
    """Write a comparison's page; see `Comparison.write`."""
    path = free_output(out, overwrite=overwrite)
    page = render(made, lines, anonymous=anonymous)
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def render(made: Changes, lines: Sequence[Headline], *, anonymous: bool = False) -> str:
    """Return the page."""
    addresses = list(dict.fromkeys(side.store.url for side in (made.before, made.after)))
    addresses.sort(key=len, reverse=True)  # one may be the beginning of the other
    return render_page(
        "compare.html.jinja", _shown(made, lines, anonymous), addresses, anonymous=anonymous
    )


def _shown(made: Changes, lines: Sequence[Headline], anonymous: bool) -> dict[str, Any]:
    """Everything that the page shows, by the template's names."""
    titles = {key: title for key, title in TITLES.items() if key != "classes" or _has(made.classes)}
    titles = {key: title for key, title in titles.items() if key != "rows" or made.rows is not None}
    titles = {k: t for k, t in titles.items() if k != "models" or not made.one_store}
    names = list(dict.fromkeys(side.store.spec.name for side in (made.before, made.after)))
    return {
        "made": made,
        "titles": titles,
        "sections": list(titles.items()),
        "names": names,
        "version": version("dskrobust"),
        "runs": [_run_words(side) for side in (made.before, made.after)],
        "headlines": lines,
        "kinds": KINDS,
        "searched": made.before.is_searched and made.after.is_searched,
        "distribution": _distribution(made),
        "differences": differences(made.before, made.after, nameless=anonymous),
        "points": _points(made),
        "contradictions": made.counts["contradictory before"] + made.counts["contradictory after"],
        "apart": made.apart,
        "classes": made.classes,
        "samples": _samples(made),
        "dropped": _plain_rows(made.dropped),
    }


def _plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table by their columns' names; a row number that is missing is None."""
    return [
        {name: None if value is pd.NA else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def _has(table: pd.DataFrame | None) -> bool:
    return table is not None and len(table) > 0


def _run_words(side: Any) -> str:
    parameters, facts = side.results.result.parameters, side.results.result.facts
    return (
        f"{side.store.rows:,} rows, {parameters['metric']}, {parameters['labels']} labels, "
        f"computed {moment(facts.get('date'))}"
    )


def _distribution(made: Changes) -> Image:
    medians = [
        f"{shown_name(group)} {old:.3f} before, {new:.3f} after"
        for group, old, new in made.groups["median"][["before", "after"]].itertuples()
    ]
    figure = figures.robustness_of_both(made.before, made.after)
    return drawn(figure, f"Histograms of R before and after, medians: {'; '.join(medians)}")


def _points(made: Changes) -> Image | None:
    points = drawn_points(made.found)
    if not len(points) or not made.counts.get("changed"):
        return None
    said = (
        f"R after over R before of {len(points):,} rows: {made.counts['rising']:,} of all rows lie "
        f"above the line, {made.counts['falling']:,} below"
    )
    return drawn(figures.robustness_row_by_row(points), said)


def _samples(made: Changes) -> list[dict[str, Any]]:
    """The rows that changed most, with pictures of row and witnesses where there are some."""
    rows = _plain_rows(made.samples)
    if not rows or made.after.store.spec.image_shape is None:
        return rows
    first = rows[:PICTURED]
    after, before = made.after.results, made.before.results
    numbers = [r[k] for r in first for k in ("row", "witness") if r[k] is not None]
    new = after.pictures(np.array(numbers, np.int64))
    old: dict[int, Any] = {}
    if made.before.store.spec.image_shape is not None:
        numbers = [r["witness before"] for r in first if r["witness before"] is not None]
        old = before.pictures(np.array(numbers, np.int64))
    for row in first:
        parts = (("picture", new, row["row"], row["label"]),
                 ("witness_picture", new, row["witness"], row["its label"]),
                 ("old_picture", old, row["witness before"], row["its label before"]))  # fmt: skip
        for name, known, number, label in parts:
            if number in known:
                row[name] = photo(known[number], f"row {number}, {label}")
    return rows
