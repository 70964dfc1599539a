"""The command `issues`: samples whose labels are probably wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .options import (
    File,
    Number,
    cluster_options,
    json_option,
    metric_option,
    opened_store,
    store_argument,
    where_options,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..cluster import ClusterOptions
    from ..label_issues import IssueSummary
    from ..store import Store


@click.command()
@store_argument
@click.option("--top", "-n", type=click.IntRange(1, 100_000), default=20, show_default=True,
              help="How many samples to list.")  # fmt: skip
@click.option("--max-score", type=Number(0, 1), metavar="SCORE",
              help="Largest score of an issue; 0.4 by default.")  # fmt: skip
@metric_option
@where_options
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE",
              help="Write the list of all samples: .parquet, .csv or .csv.gz; beyond a million "
              "samples in the order of the rows.")  # fmt: skip
@json_option
def issues(
    store: str,
    top: int,
    max_score: float | None,
    metric: str | None,
    out: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """List samples whose labels are probably wrong, the worst first.

    A label is suspicious where the nearest neighbour of another label is much closer than that of
    its own label (the ratio), and where the sample is the witness of many others. The score joins
    both, from 0 (does not fit) to 1; no model is trained. What is computed is kept in the store.
    Where rows have ids, the list gives them too.

    \b
    Examples:
      dskrobust issues mnist.zarr --top 50
      dskrobust issues mnist.zarr --out issues.csv
    """
    from ..export import FORMATS, with_ids, write_frames
    from ..label_fit import label_quality
    from ..label_issues import THRESHOLD, Findings
    from ..outputs import check_output
    from .compute import workers_for

    path = check_output(out, FORMATS) if out else None
    options = cluster_options(**where)
    opened = opened_store(store)
    chosen = metric or "euclidean"
    label_quality(opened, metric=chosen)  # refuses what it cannot judge before anything runs
    _search(opened, chosen, options, quiet=as_json)
    with workers_for(opened, options):
        quality = label_quality(opened, metric=chosen)
        findings = Findings.of(quality, THRESHOLD if max_score is None else max_score)
        if path:
            findings = findings.persist()
            write_frames(findings.frames(), path)
        found = findings.summary(top)
    worst = with_ids(found.worst, quality.scores.ids)
    plain = _plain(worst if quality.scores.ids is None else worst.reset_index())
    if as_json:
        click.echo(json.dumps(plain, indent=2))
        return
    _print(found, plain)
    _say_why_weak(opened)
    if path:
        from ..show import terminal

        terminal.fact("saved", str(path))


def _search(store: Store, metric: str, options: ClusterOptions, *, quiet: bool) -> None:
    """Run what the store does not hold yet: nearest samples of another and of the same label."""
    from ..runs import pair_spec
    from ..store import matching
    from .compute import run

    for rule in ("different", "same"):
        spec = pair_spec(store, metric, "categorical", rule)
        if not any(r.covers(store) for r in matching(store, spec.parameters())):
            run(store, spec, options, quiet=quiet)


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values; what is missing or infinite is None."""
    import numpy as np

    cells = table.replace([np.inf, -np.inf], np.nan).astype(object)
    return list(cells.where(cells.notna(), None).to_dict("records"))


def _print(found: IssueSummary, worst: list[dict[str, Any]]) -> None:
    from ..show import terminal

    terminal.say(
        f"{found.issues:,} of {terminal.counted(found.rows, 'label')} probably wrong",
        style=terminal.STRONG,
    )
    named = bool(worst) and "id" in worst[0]
    own, end = (("row", "id"), "_id") if named else (("row",), "")
    shown = terminal.table(
        "score", *own, "label", "suggested", "witness", "at", "same", "at", "limits",
        text=(2, 3, 4, 5, 7) if named else (2, 3), quiet=(6, 8) if named else (5, 7),
    )  # fmt: skip
    for facts in worst:
        terminal.add_row(
            shown,
            "–" if facts["score"] is None else f"{facts['score']:.3f}",
            *(facts[name] for name in (*own, "given_label")),
            *(_shown(facts[n]) for n in ("suggested_label", f"witness{end}", "witness_distance")),
            *(_shown(facts[name]) for name in (f"nearest_same{end}", "same_distance")),
            f"{facts['witness_of']:,}",
            style=None if facts["is_issue"] else terminal.QUIET,
        )
    terminal.show(shown)
    terminal.say(
        "Score: 0 where the label does not fit its surroundings, 1 where it does. Witness and "
        "same: the nearest samples of another label and of the same, and how far they are. "
        "Limits: how many samples have this one as witness. –: there is none in its group. "
        "Pale: no issue.",
        style=terminal.QUIET,
    )


def _say_why_weak(store: Store) -> None:
    """Say why suspicion is weak, where the store's notes give a reason."""
    from ..show import terminal
    from ..store import RARE_CLASS, SCALE

    reasons = {
        SCALE: "Weak suspicion: a few columns decide which samples are near",
        RARE_CLASS: "Weak suspicion in a rare class: the nearest sample is mostly of another, "
        "wrong or not, so its samples are compared with each other",
    }
    for note in store.notes or ():
        if note.kind in reasons:
            terminal.say(f"{reasons[note.kind]} ({note.on_command_line}).", style="yellow")


def _shown(value: Any) -> Any:
    from ..show import terminal

    if value is None:
        return "–"
    return terminal.number(value) if isinstance(value, float) else value
