"""The command `subsets`: least and most robust samples, and what labels they have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import Hint
from .memory import say_memory
from .options import (
    File,
    asked_result,
    cluster_options,
    json_option,
    metric_options,
    opened_store,
    store_argument,
    where_options,
)
from .renamed import WithOldNames

if TYPE_CHECKING:
    from ..scores import Scores
    from ..store import Store
    from ..subsets import LabelTable, Subset


FACT_BYTES = 600  # of a class of a subset as a plain value and as JSON
SUBSET_BYTES = 256 * 2**10  # of a subset's tasks
FEWER = Hint(
    "ask for fewer subsets at a time", "ask for fewer subsets at a time with --within and --select"
)


@dataclass(frozen=True)
class Columns:
    """Subsets side by side, every whole group before the subsets of it.

    Attributes
    ----------
    subsets, bases : lists of Subset
        And the whole group of each.
    labels : LabelTable
    spans : list of (float, float)
        Least and largest R of every subset.
    """

    subsets: list[Subset]
    bases: list[Subset]
    labels: LabelTable
    spans: list[tuple[float, float]]

    @property
    def chosen(self) -> list[Subset]:
        """The subsets without the whole groups."""
        return [s for s, base in zip(self.subsets, self.bases, strict=True) if s is not base]


@click.command(cls=WithOldNames, old={"--save": "--out"})
@store_argument
@click.option("--least", "-l", multiple=True, type=click.IntRange(1), metavar="N",
              help="The N least robust samples; may be given several times.")  # fmt: skip
@click.option("--most", "-M", multiple=True, type=click.IntRange(1), metavar="N",
              help="The N most robust samples; may be given several times.")  # fmt: skip
@click.option("--select", "-s", "selections", multiple=True, metavar="SELECTION",
              help="In words: L3000+M45000 joins the 3,000 least and the 45,000 most robust, "
                   "L500-L100 takes the 100 away, L500:M20 nests; of the groups of --within, or "
                   "with one's name first, train:L500. May be given several times.")  # fmt: skip
@click.option("--within", "-w", multiple=True, metavar="GROUP[:L500]",
              help="A group, or a selection in one; every group by default.")  # fmt: skip
@metric_options
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE.npz",
              help="Write the row numbers, least robust first, one array per subset; and the ids "
                   "of rows that have some, as SUBSET_ids. In a .parquet file: columns subset, "
                   "row and id.")  # fmt: skip
@where_options
@json_option
def subsets(
    store: str,
    least: tuple[int, ...],
    most: tuple[int, ...],
    selections: tuple[str, ...],
    within: tuple[str, ...],
    metric: str | None,
    labels: str | None,
    label_bound: float | None,
    out: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Select the least and most robust samples and count their classes, as in the paper's Table 1.

    Without sizes: the two halves. A size that is larger than a group leaves that group out.
    Percentages are shares of the class in the whole group. For real labels the table has their
    quantiles. More than a million samples are ranked by the workers of a cluster.

    \b
    Examples:
      dskrobust subsets mnist.zarr --least 48000 --most 48000
      dskrobust subsets mnist.zarr --within test --least 5000 --out test.npz
    Nested, the 500 least robust of the 5,000 least robust:
      dskrobust subsets mnist.zarr --within test:L5000 --least 500
    Joined, the 3,000 least and the 45,000 most robust:
      dskrobust subsets mnist.zarr --within train --select L3000+M45000
    """
    from ..export import write_subsets
    from ..memory import projected_peak
    from ..outputs import check_output
    from ..scores import read_scores
    from .compute import workers_for

    cluster = cluster_options(**where)
    if out:
        check_output(out)
    opened = opened_store(store)
    result = asked_result(opened, metric, labels, label_bound)
    scores = read_scores(opened, result)
    chosen = select(scores, within, Wanted(least, most, selections))
    needed = subsets_memory(opened, 2 * len(chosen), as_json)
    projected = projected_peak("a table of subsets", needed, FEWER)
    with workers_for(opened, cluster):
        columns = side_by_side(opened, scores, chosen)
        if out:
            write_subsets(out, {s.name: s.indices for s in columns.chosen}, scores.ids)
    if as_json:
        facts = subset_facts(opened, columns)
        click.echo(json.dumps({"result": result.name, "subsets": facts}, indent=2))
        return
    from ..show import terminal
    from ..show.overview import asked_words

    terminal.say(f"{opened.spec.name}: {asked_words(result.parameters)}", style=terminal.STRONG)
    _print(opened, columns)
    if out:
        terminal.fact("saved", f"row numbers{' and ids' * opened.has_ids} in {out}")
    say_memory(projected)


def subsets_memory(store: Store, subsets: int, as_json: bool) -> int:
    """Return how many bytes so many columns of subsets hold at most, until they are printed."""
    from ..label_counts import counting_memory
    from ..label_fit import most_labels
    from ..memory import tasks_at_once
    from ..ranking import sorting_memory
    from .compute import MOST_HERE

    tasks, labels = tasks_at_once(), most_labels(store)
    held = counting_memory(store.rows, labels, subsets, tasks)
    if store.rows <= MOST_HERE:  # else workers sort
        held += sorting_memory(store.rows, tasks)
    return held + as_json * labels * subsets * FACT_BYTES + subsets * SUBSET_BYTES


def side_by_side(store: Store, scores: Scores, chosen: Sequence[tuple[str, Subset]]) -> Columns:
    """Put subsets after the whole groups they are of, and count their labels."""
    from ..subsets import class_counts, robustness_spans, whole

    subsets: list[Subset] = []
    bases: list[Subset] = []
    for root in dict.fromkeys(root for root, _ in chosen):
        base = whole(scores, root if root in scores.groups else None)
        picked = [subset for name, subset in chosen if name == root]
        subsets += [base, *picked]
        bases += [base] * (1 + len(picked))
    spans = robustness_spans(scores, subsets)
    return Columns(subsets, bases, class_counts(store, subsets, bases), spans)


class Wanted(NamedTuple):
    """Sizes and selections that are asked for of every place."""

    least: Sequence[int]
    most: Sequence[int]
    selections: Sequence[str]


def select(scores: Scores, within: Sequence[str], wanted: Wanted) -> list[tuple[str, Subset]]:
    """Return (group, subset) for every size in every place where it fits, and every selection.

    Raises
    ------
    InvalidOptionError
        For an unknown group, a size that fits nowhere, or a selection that is none.
    """
    from ..selection import is_relative
    from ..subsets import select_subset

    places = [(text, select_subset(scores, text)) for text in within or scores.groups]
    _check_sizes(places, (*wanted.least, *wanted.most))
    chosen = []
    for text, place in places:
        if place:
            chosen += [(_root(scores, text), s) for s in _sized(scores, place, wanted)]
    for text in wanted.selections:
        if not is_relative(text, scores.groups):
            chosen.append((_root(scores, text), select_subset(scores, text)))
            continue
        chosen += [(_root(scores, where), select_subset(scores, text, place))
                   for where, place in places]  # fmt: skip
    return chosen


def _sized(scores: Scores, place: Subset, wanted: Wanted) -> Iterator[Subset]:
    """Yield the subsets of a place of the sizes that fit; its halves where nothing is asked."""
    from ..subsets import least_robust, most_robust

    count = len(place)
    if not any(wanted) and count > 1:
        yield least_robust(scores, count // 2, place)
        yield most_robust(scores, count - count // 2, place)
    for choose, sizes in ((least_robust, wanted.least), (most_robust, wanted.most)):
        yield from (choose(scores, size, place) for size in sizes if size <= count)


def _check_sizes(places: Sequence[tuple[str, Subset]], sizes: Sequence[int]) -> None:
    from ..errors import InvalidOptionError

    largest = max((len(place) for _, place in places), default=0)
    for asked in sizes:
        if asked > largest:
            where = ", ".join(f"{place.name} {len(place):,}" for _, place in places)
            raise InvalidOptionError(f"cannot choose {asked:,} samples; there are {where}")


def _root(scores: Scores, text: str) -> str:
    """Return the only group that a selection names; all where it names several."""
    from ..selection import ALL, parse_selection

    groups = {str(term.group) for term in parse_selection(text, scores.groups)}
    return groups.pop() if len(groups) == 1 else ALL


def subset_facts(store: Store, columns: Columns) -> list[dict[str, Any]]:
    """Return subsets and their labels as plain values."""
    return [_subset_facts(store, columns, k) for k in range(len(columns.subsets))]


def _subset_facts(store: Store, columns: Columns, k: int) -> dict[str, Any]:
    from ..datasets import restore_labels

    table, (low, high) = columns.labels, columns.spans[k]
    facts: dict[str, Any] = {
        "name": columns.subsets[k].name,
        "of": columns.bases[k].name,
        "size": len(columns.subsets[k]),
        "robustness": {"least": low, "largest": high},
    }
    values = table.values[:, k]
    if table.shares is not None:
        facts["classes"] = {
            name: {"count": int(count), "share": float(share)}
            for name, count, share in zip(table.labels, values, table.shares[:, k], strict=True)
        }
        return facts
    facts["label_quantiles"] = dict(zip(table.labels, values.tolist(), strict=True))
    if store.spec.scaling:
        units = restore_labels(store.spec, values).tolist()
        facts["label_quantiles_in_units"] = dict(zip(table.labels, units, strict=True))
    return facts


def _print(store: Store, columns: Columns) -> None:
    from ..datasets import restore_labels
    from ..show import terminal

    labels, values = columns.labels, columns.labels.values
    if labels.shares is None:
        values = restore_labels(store.spec, values)
    shown = terminal.label_table(
        labels.subsets,
        labels.labels,
        values,
        labels.shares,
        [subset is base for subset, base in zip(columns.subsets, columns.bases, strict=True)],
    )
    shown.add_section()
    sizes = (f"{len(subset):,}" for subset in columns.subsets)
    terminal.add_row(shown, "samples", *sizes, style=terminal.STRONG)
    spans = (f"{low:.3f}–{high:.3f}" for low, high in columns.spans)
    terminal.add_row(shown, "R", *spans, style=terminal.QUIET)
    terminal.show(shown)
    terminal.say(
        "Quantiles of the labels, in their own units."
        if labels.shares is None
        else "Percentages: share of the class in the whole group.",
        style=terminal.QUIET,
    )
