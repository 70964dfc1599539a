"""The command `suspects`: samples whose labels are probably wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .options import absolute, cluster_options, json_option, store_argument, where_options

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ..mislabelled import LabelQuality
    from ..store import Store


@click.command()
@store_argument
@click.option("--top", "-n", type=click.IntRange(1), default=20, show_default=True,
              help="How many samples to list.")  # fmt: skip
@click.option("--metric", "-m", metavar="METRIC", help="As of `compute`; euclidean by default.")
@where_options
@click.option("--out", "-o", type=click.Path(dir_okay=False), metavar="FILE.csv",
              help="Write the list of all samples, most suspicious first.")  # fmt: skip
@json_option
def suspects(
    store: str,
    top: int,
    metric: str | None,
    out: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """List samples whose labels are probably wrong, the most suspicious first.

    A sample is suspicious where its nearest neighbour of another label is much closer than that
    of its own label (the ratio), and where it is the witness of many others. What is computed is
    kept in the store.

    \b
    Examples:
      dskrobust suspects mnist.zarr --top 50
      dskrobust suspects mnist.zarr --out suspects.csv
    """
    from ..labels import LabelMap
    from ..mislabelled import SAME, label_quality
    from ..robustness import pair_spec
    from ..store import matching, open_store
    from .runs import run

    options = cluster_options(**where)
    opened = open_store(absolute(store))
    chosen = metric or "euclidean"
    label_quality(opened, metric=chosen)  # refuses what it cannot judge before anything runs
    for labels in (LabelMap("categorical"), SAME):
        spec = pair_spec(opened, chosen, labels)
        if not any(r.covers(opened) for r in matching(opened, spec.parameters())):
            run(opened, spec, options)
    found = label_quality(opened, metric=chosen).compute(scheduler="threads")
    table = suspect_table(opened, found, len(found.ratio) if out else top)
    if out:
        table.to_csv(out, index=False)
    head = table.head(top).astype(object)
    listed = head.where(head.notna(), None).to_dict("records")
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    _print(listed, out)


def suspect_table(store: Store, found: LabelQuality, count: int) -> pd.DataFrame:
    """Return the most suspicious samples, one row each; without a neighbour, values are missing.

    So is an infinite ratio, of a sample at distance 0 from one of another label, or of the only
    sample of its label.
    """
    import numpy as np
    import pandas as pd

    from ..subsets import class_name

    labels, rows = np.asarray(store.labels[:]), found.suspects(count)
    known, codes = np.unique(labels, return_inverse=True)
    names = np.array([class_name(store, label) for label in known], dtype=object)[codes]
    reach, other = (np.asarray(v)[rows] for v in (found.scores.reach, found.scores.nearest))
    return pd.DataFrame(
        {
            "row": rows,
            "label": names[rows],
            "other_label": np.where(other < 0, None, names[other]),
            "other_row": _rows(other),
            "other_distance": _finite(reach),
            "same_row": _rows(found.same[rows]),
            "same_distance": _finite(found.same_distance[rows]),
            "ratio": _finite(found.ratio[rows]),
            "witness_of": found.witness_of[rows],
        }
    )


def _rows(rows: NDArray[np.int64]) -> pd.Series[Any]:
    """Row numbers (n,); -1 is missing."""
    import pandas as pd

    return pd.Series(rows, dtype="Int64").mask(rows < 0)


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.where(np.isfinite(values), values, np.nan)


def _print(listed: list[dict[str, Any]], out: str | None) -> None:
    from .. import terminal

    terminal.say("Labels that fit their surroundings least", style=terminal.STRONG)
    shown = terminal.table(
        "row", "label", "nearest other", "at", "nearest same", "at", "ratio", "witness of",
        text=(1, 2),
    )  # fmt: skip
    for facts in listed:
        other = (
            "–" if facts["other_row"] is None else f"{facts['other_label']} ({facts['other_row']})"
        )
        terminal.add_row(
            shown,
            facts["row"],
            facts["label"],
            other,
            _shown(facts["other_distance"]),
            "–" if facts["same_row"] is None else facts["same_row"],
            _shown(facts["same_distance"]),
            _ratio(facts),
            f"{facts['witness_of']:,}",
        )
    terminal.show(shown)
    terminal.say(
        "Ratio: distance of the nearest sample of the same label over that of another label. "
        "Witness of: how many samples' robustness this one limits. –: there is none in its group.",
        style=terminal.QUIET,
    )
    if out:
        terminal.fact("saved", out)


def _ratio(facts: dict[str, Any]) -> str:
    """Without a sample of the same label there is nothing to compare with."""
    if facts["ratio"] is not None:
        return f"{facts['ratio']:.2f}"
    return "–" if facts["same_row"] is None else "∞"


def _shown(value: float | None) -> str:
    from .. import terminal

    return "–" if value is None else terminal.number(value)
