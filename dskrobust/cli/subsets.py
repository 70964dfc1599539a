"""The command `subsets`: least and most robust samples, and what labels they have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .options import File, asked_result, json_option, metric_options, opened_store, store_argument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..scores import Scores
    from ..store import Store
    from ..subsets import LabelTable, Subset


@dataclass(frozen=True)
class Columns:
    """Computed subsets side by side, every whole group before the subsets of it.

    Attributes
    ----------
    subsets, bases : lists of Subset
        And the whole group of each.
    labels : LabelTable
    robustness : ndarray (n,)
        R of every row of the store.
    """

    subsets: list[Subset]
    bases: list[Subset]
    labels: LabelTable
    robustness: NDArray[np.float64]

    @property
    def chosen(self) -> list[Subset]:
        """The subsets without the whole groups."""
        return [s for s, base in zip(self.subsets, self.bases, strict=True) if s is not base]

    def spans(self) -> list[tuple[float, float]]:
        """Least and largest R of every subset."""
        ends = [self.robustness[s.indices[[0, -1]]] for s in self.subsets]
        return [(float(low), float(high)) for low, high in ends]


@click.command()
@store_argument
@click.option("--least", "-l", multiple=True, type=click.IntRange(1), metavar="N",
              help="The N least robust samples; may be given several times.")  # fmt: skip
@click.option("--most", "-M", multiple=True, type=click.IntRange(1), metavar="N",
              help="The N most robust samples; may be given several times.")  # fmt: skip
@click.option("--within", "-w", multiple=True, metavar="GROUP[:L500]",
              help="A group, or a selection in one; every group by default.")  # fmt: skip
@metric_options
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE.npz",
              help="Write the row numbers, least robust first, one array per subset; and the ids "
                   "of rows that have some, as SUBSET_ids.")  # fmt: skip
@json_option
def subsets(
    store: str,
    least: tuple[int, ...],
    most: tuple[int, ...],
    within: tuple[str, ...],
    metric: str | None,
    labels: str | None,
    label_bound: float | None,
    out: str | None,
    as_json: bool,
) -> None:
    """Select the least and most robust samples and count their classes, as in the paper's Table 1.

    Without sizes: the two halves. A size that is larger than a group leaves that group out.
    Percentages are shares of the class in the whole group. For real labels the table has their
    quantiles.

    \b
    Examples:
      dskrobust subsets mnist.zarr --least 48000 --most 48000
      dskrobust subsets mnist.zarr --within test --least 5000 --out test.npz
    Nested, the 500 least robust of the 5,000 least robust:
      dskrobust subsets mnist.zarr --within test:L5000 --least 500
    """
    from ..export import write_subsets
    from ..outputs import check_output
    from ..scores import read_scores

    if out:
        check_output(out)
    opened = opened_store(store)
    result = asked_result(opened, metric, labels, label_bound)
    scores = read_scores(opened, result)
    columns = side_by_side(opened, scores, select(scores, within, least, most))
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


def side_by_side(store: Store, scores: Scores, chosen: Sequence[tuple[str, Subset]]) -> Columns:
    """Compute subsets and the whole groups they are of, and count their labels."""
    from ..subsets import class_counts, whole

    subsets: list[Subset] = []
    bases: list[Subset] = []
    for root in dict.fromkeys(root for root, _ in chosen):
        base = whole(scores, _group(scores, root)).compute()
        picked = [subset.compute() for name, subset in chosen if name == root]
        subsets += [base, *picked]
        bases += [base] * (1 + len(picked))
    labels = class_counts(store, subsets, bases)
    return Columns(subsets, bases, labels, scores.robustness.compute(scheduler="threads"))


def select(
    scores: Scores, within: Sequence[str], least: Sequence[int], most: Sequence[int]
) -> list[tuple[str, Subset]]:
    """Return (group, subset) for every size in every place where it fits.

    Raises
    ------
    InvalidOptionError
        For an unknown group, or a size that fits nowhere.
    """
    from ..errors import InvalidOptionError
    from ..subsets import least_robust, most_robust, parse_selection, select_subset

    places = [
        (parse_selection(text, scores.groups)[0], select_subset(scores, text))
        for text in within or scores.groups
    ]
    largest = max((len(place) for _, place in places), default=0)
    for asked in (*least, *most):
        if asked > largest:
            where = ", ".join(f"{place.name} {len(place):,}" for _, place in places)
            raise InvalidOptionError(f"cannot choose {asked:,} samples; there are {where}")
    chosen = []
    for root, place in places:
        count = len(place)
        if not count:
            continue
        halves = not least and not most and count > 1
        for choose, wanted in ((least_robust, least), (most_robust, most)):
            half = count // 2 if choose is least_robust else count - count // 2
            fitting = [n for n in ((half,) if halves else wanted) if n <= count]
            chosen += [(root, choose(scores, n, place)) for n in fitting]
    return chosen


def _group(scores: Scores, name: str) -> str | None:
    """Return a group's name, None for all samples."""
    return name if name in scores.groups else None


def subset_facts(store: Store, columns: Columns) -> list[dict[str, Any]]:
    """Return subsets and their labels as plain values."""
    return [_subset_facts(store, columns, k) for k in range(len(columns.subsets))]


def _subset_facts(store: Store, columns: Columns, k: int) -> dict[str, Any]:
    from ..datasets import restore_labels

    table, (low, high) = columns.labels, columns.spans()[k]
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
    spans = (f"{low:.3f}–{high:.3f}" for low, high in columns.spans())
    terminal.add_row(shown, "R", *spans, style=terminal.QUIET)
    terminal.show(shown)
    terminal.say(
        "Quantiles of the labels, in their own units."
        if labels.shares is None
        else "Percentages: share of the class in the whole group.",
        style=terminal.QUIET,
    )
