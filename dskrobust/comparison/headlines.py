"""What changed between two sides, in words with numbers: each with its evidence and a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from ..display import counted, shown_name
from ..report.headlines import Headline, search_command
from ..show.overview import TOGETHER
from .changes import Changes
from .models import is_sure
from .sides import same_run

LARGE = 0.0001  # change of R that is worth a word
VERDICTS = {"suspicious": "suspicious label", "contradictory": "contradictory sample"}


def headlines(made: Changes) -> Iterator[Headline]:
    """Yield what changed, the data first, then what that does to scores and models."""
    looks: list[Callable[[Changes], Iterator[Headline]]] = [_data, _runs, _kinds]
    looks += [_medians, _classes, _rows] if made.one_scale else []
    for look in (*looks, _witnesses, _models):
        yield from look(made)


def _data(made: Changes) -> Iterator[Headline]:
    """What differs in the rows and their labels."""
    rows, before, after = made.rows, made.before.store, made.after.store
    if rows is None:
        said = (
            f"Which row is which is not known: {before.rows:,} rows before, {after.rows:,} after. "
            "So distributions are compared, and no rows; ids would tell (ingest --ids)."
        )
        yield Headline(said, "data", "")
        return
    parts = [
        (len(rows.dropped), "dropped"),
        (made.counts["relabelled"], "relabelled"),
        (rows.new, "new"),
    ]
    told = [f"{count:,} {'are' if count > 1 else 'is'} {what}" for count, what in parts if count]
    if told:
        said = f"Of {before.rows:,} rows {_listed(told)}; {rows.how}."
        yield Headline(said, "data", "")
    elif not made.one_store:
        said = f"No row was dropped, relabelled or added: {rows.how}."
        yield Headline(said, "data", "")


def _runs(made: Changes) -> Iterator[Headline]:
    """How the scores were computed otherwise."""
    one, other = (same_run(side.results.result) for side in (made.before, made.after))
    told = [
        f"{name} {one.get(name, '–')} before, {other.get(name, '–')} after"
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]
    if told:
        yield Headline(f"The runs differ: {'; '.join(told)}.", "facts", "")
    if not made.one_scale:
        said = (
            "R of both has not the same scale (metric, label map, factor on the features): compare "
            "witnesses, and which rows are least robust, not by how much R differs."
        )
        yield Headline(said, "facts", "")


def _kinds(made: Changes) -> Iterator[Headline]:
    """How many rows are suspicious and contradictory, and what became of them."""
    for kind, name in VERDICTS.items():
        if kind == "suspicious" and not (made.before.is_searched and made.after.is_searched):
            continue
        old, new = made.counts[f"{kind} before"], made.counts[f"{kind} after"]
        if not old and not new:
            continue
        said = f"{counted(old, name)} before, {new:,} after{_transitions(made, kind)}"
        command = search_command(made.after.results, "review") if kind == "suspicious" else (
            search_command(made.after.results, "issues", "--kind", "contradictions"))  # fmt: skip
        yield Headline(f"{said}.", "kinds", command if new else "")


def _transitions(made: Changes, kind: str) -> str:
    """Return what became of the rows of a kind."""
    what = {"dropped": "were dropped", "no longer": "are no longer", "newly": "are newly so"}
    counts = {said: made.counts.get(f"{kind} {name}", 0) for name, said in what.items()}
    told = [f"{count:,} {said}" for said, count in counts.items() if count]
    return f": {_listed(told)}" if told else ""


def _medians(made: Changes) -> Iterator[Headline]:
    """The group whose median of R changed most."""
    groups = made.groups.drop(TOGETHER, errors="ignore")
    change = groups["change of median", ""].dropna()
    if not len(change):
        return
    group = change.abs().idxmax()
    low, high = (groups.loc[group, ("median", side)] for side in ("before", "after"))
    if abs(change[group]) < LARGE:
        yield Headline(
            f"The median of R of {shown_name(group)} stays at {high:.4f}.", "robustness", ""
        )
        return
    verb = "rises" if change[group] > 0 else "falls"
    said = f"The median of R of {shown_name(group)} {verb} from {low:.4f} to {high:.4f}"
    apart = made.apart.get(str(group))
    if apart is not None:
        where = "within" if apart.distances.kolmogorov <= apart.chance else "beyond"
        said += (
            f"; the distributions are {apart.distances.kolmogorov:.4f} apart (Kolmogorov), {where} "
            f"the {apart.chance:.4f} of two random draws of these sizes"
        )
    yield Headline(f"{said}.", "robustness", "")


def _classes(made: Changes) -> Iterator[Headline]:
    if made.classes is None or len(made.classes) < 2:
        return
    both = made.classes.dropna(subset=[("change", "")])
    if not len(both) or abs(both["change", ""].iloc[0]) < LARGE:
        return
    first = both.iloc[0]
    old, new = (first["R", side] for side in ("before", "after"))
    said = (
        f"Class {shown_name(both.index[0])} changed most: its mean R goes from {old:.4f} to "
        f"{new:.4f} ({_signed(new - old)}; {int(first['rows', 'before']):,} rows before, "
        f"{int(first['rows', 'after']):,} after)."
    )
    yield Headline(said, "classes", "")


def _rows(made: Changes) -> Iterator[Headline]:
    """How many rows have another R, and the one that changed most."""
    if made.rows is None or not made.rows.shared:
        return
    changed, rising = made.counts["changed"], made.counts["rising"]
    if not changed:
        yield Headline("R of every row that both have is the same to the last bit.", "rows", "")
        return
    share = changed / made.rows.shared
    said = (
        f"R of {changed:,} of the {made.rows.shared:,} rows that both have changed ({share:.1%}): "
        f"{rising:,} are more robust, {made.counts['falling']:,} less."
    )
    if len(made.samples):
        row = made.samples.iloc[0]
        fate = f", which was {row['it was']}" if row["it was"] else ""
        witness = "" if row["witness before"] is pd.NA else (
            f"; its witness was row {row['witness before']}{fate}")  # fmt: skip
        ends = f"{row['R before']:.4f} to {row['R']:.4f}"
        said += f" Row {row['row']} changed most, from {ends}{witness}."
    yield Headline(said, "rows", "")


def _witnesses(made: Changes) -> Iterator[Headline]:
    if made.rows is not None and made.rows.shared and not made.one_scale:
        count = made.counts["other witness"]
        said = (
            f"{count:,} of {made.rows.shared:,} rows ({count / made.rows.shared:.1%}) have another "
            "witness than before."
        )
        yield Headline(said, "rows", "")


def _models(made: Changes) -> Iterator[Headline]:
    """The model whose accuracy changed most, surely where one did."""
    table = made.models
    if not len(table):
        if not made.one_store and made.before.results.evaluations:
            said = (
                "Models were evaluated before, and none on the same subsets after: run the same "
                "command on the second store to see what the change does to them."
            )
            yield Headline(said, "models", "")
        return
    sure = table[(table["low"] > 0) | (table["high"] < 0)]
    among = sure if len(sure) else table
    line = among.loc[among["change"].abs().idxmax()]
    ends = ""
    if not np.isnan(line["low"]):
        low, high = _signed(line["low"]), _signed(line["high"])
        ends = f" (95 % interval {low} to {high}, {line['repeats']})"
    said = (
        f"{line['model']} trained on {line['train']}: {line['measure']} on {line['test']} goes "
        f"from {line['before']:.4f} to {line['after']:.4f}, {_signed(line['change'])}{ends}"
    )
    if not np.isnan(line["low"]) and not is_sure(line):
        said += "; that may be chance"
    yield Headline(f"{said}.", "models", "")


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
