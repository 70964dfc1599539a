"""The command `suspects`: samples whose labels are probably wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .options import absolute, cluster_options, json_option, local_options, store_argument

if TYPE_CHECKING:
    from ..mislabelled import LabelQuality
    from ..store import Store


@click.command()
@store_argument
@click.option("--top", "-n", type=click.IntRange(1), default=20, show_default=True,
              help="How many samples to list.")  # fmt: skip
@click.option("--metric", "-m", metavar="METRIC", help="As of `compute`; euclidean by default.")
@click.option("--scheduler", metavar="ADDRESS", help="A running scheduler: tcp://HOST:8786.")
@click.option("--scheduler-file", metavar="FILE", help="Where a scheduler wrote its address.")
@local_options
@click.option("--no-dashboard", is_flag=True, help="No dashboard for the local cluster.")
@click.option("--out", "-o", type=click.Path(dir_okay=False), metavar="FILE.csv",
              help="Write the list of all samples, most suspicious first.")  # fmt: skip
@json_option
def suspects(
    store: str,
    top: int,
    metric: str | None,
    no_dashboard: bool,
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

    options = cluster_options(dashboard=not no_dashboard, **where)
    opened = open_store(absolute(store))
    chosen = metric or "euclidean"
    label_quality(opened, metric=chosen)  # refuses what it cannot judge before anything runs
    for labels in (LabelMap("categorical"), SAME):
        spec = pair_spec(opened, chosen, labels)
        if not any(r.covers(opened) for r in matching(opened, spec.parameters())):
            run(opened, spec, options)
    found = label_quality(opened, metric=chosen).compute(scheduler="threads")
    listed = suspect_facts(opened, found, len(found.ratio) if out else top)
    if out:
        import pandas as pd

        pd.DataFrame(listed).to_csv(out, index=False)
    if as_json:
        click.echo(json.dumps(listed[:top], indent=2))
        return
    _print(listed[:top], out)


def suspect_facts(store: Store, found: LabelQuality, count: int) -> list[dict[str, Any]]:
    """Return the most suspicious samples as plain values; without a neighbour these are null."""
    import numpy as np

    from ..subsets import class_name

    labels = np.asarray(store.labels[:])
    reach, other = (np.asarray(v) for v in (found.scores.reach, found.scores.nearest))
    listed = []
    for row in found.suspects(count).tolist():
        same, different = int(found.same[row]), int(other[row])
        listed.append(
            {
                "row": row,
                "label": class_name(store, labels[row]),
                "other_label": class_name(store, labels[different]) if different >= 0 else None,
                "other_row": different if different >= 0 else None,
                "other_distance": _finite(reach[row]),
                "same_row": same if same >= 0 else None,
                "same_distance": _finite(found.same_distance[row]),
                "ratio": _finite(found.ratio[row]),
                "witness_of": int(found.witness_of[row]),
            }
        )
    return listed


def _finite(value: Any) -> float | None:
    return float(value) if abs(value) < float("inf") else None


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
            "∞" if facts["ratio"] is None else f"{facts['ratio']:.2f}",
            f"{facts['witness_of']:,}",
        )
    terminal.show(shown)
    terminal.say(
        "Ratio: distance of the nearest sample of the same label over that of another label. "
        "Witness of: how many samples' robustness this one limits.",
        style=terminal.QUIET,
    )
    if out:
        terminal.fact("saved", out)


def _shown(value: float | None) -> str:
    from .. import terminal

    return "–" if value is None else terminal.number(value)
