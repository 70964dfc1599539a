"""What scores come to: R per group, contradictions, the least robust samples; as HTML too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute
from dask.threaded import get as get_threads  # by name Dask would import its scheduler
from numpy.typing import NDArray

from .. import display
from ..clients import current_client
from ..datasets import restore_labels
from ..ids import ids_of
from ..labels import label_name
from ..records import BLOCK_ROWS, as_records, group_ranges, lowest, sample

if TYPE_CHECKING:
    from ..store import Store, StoreSpec

FIRST = 10  # least robust rows, and contradictions, that are shown
TOGETHER = "all together"  # R in the union of the groups
HEAD = ("R in", "samples", "least", "median", "largest")
MOST_ROWS = 20_000_000  # of scores that are read only to be looked at
SAMPLE_ROWS = 1_000_000  # of which medians and histograms are made
BLOCK_GRAPH = 48 * 2**10  # bytes of the tasks of a block
RECORD_BYTES = 59  # of a row, see `score_records`


@dataclass(frozen=True)
class Overview:
    """What the scores of all samples come to, from one pass over their blocks.

    Attributes
    ----------
    drawn : ndarray (k,) of records
        Of all samples; of more than SAMPLE_ROWS those of a random sample: see `score_records`.
    ranges : dict
        Group, or TOGETHER where there are several → number, least and largest R of all its samples.
    lowest : ndarray (FIRST,) of records
        Of the least robust samples, ties by row number.
    twins : ndarray (FIRST,) of records
        Of the first samples with a differently labelled twin at distance 0.
    contradictions : int
        How many there are.
    rows : int
        Number of samples.
    groups : tuple of str
    """

    drawn: NDArray[np.void]
    ranges: dict[str, tuple[int, float, float]]
    lowest: NDArray[np.void]
    twins: NDArray[np.void]
    contradictions: int
    rows: int
    groups: tuple[str, ...]

    @classmethod
    def of(cls, scores: Any) -> Overview:
        """Read the scores that a store holds, or those that are computed."""
        records = score_records(scores)
        own = group_ranges(records["split"], records["robustness"], len(scores.groups))
        union = group_ranges(da.zeros_like(records["split"]), records["together"], 1)
        twin = records["contradictory"]
        drawn, least, twins, count, own, union = compute(
            sample(records, SAMPLE_ROWS), lowest(records, "robustness", FIRST),
            lowest(records, "row", FIRST, "contradictory"), twin.sum(), own, union,
            scheduler=get_threads,
        )  # fmt: skip
        ranges = _ranges(scores.groups, own)
        if len(ranges) > 1:
            ranges |= _ranges((TOGETHER,), union)
        return cls(drawn, ranges, least, twins, int(count), scores.rows, scores.groups)

    @property
    def is_sample(self) -> bool:
        """Whether not all samples were drawn."""
        return len(self.drawn) < self.rows

    def of_group(self, group: str) -> NDArray[np.float64]:
        """R of the samples drawn of a group."""
        own = self.drawn["split"] == self.groups.index(group)
        return np.ascontiguousarray(self.drawn["robustness"][own])

    @property
    def by_group(self) -> dict[str, NDArray[np.float64]]:
        """R of what was drawn of every group."""
        groups = {group: self.of_group(group) for group in self.groups}
        return {group: values for group, values in groups.items() if len(values)}

    @property
    def with_union(self) -> dict[str, NDArray[np.float64]]:
        """R of every group, and of all samples in the union of several groups (paper, 3.5)."""
        own = self.by_group
        together = np.ascontiguousarray(self.drawn["together"])
        return own | {TOGETHER: together} if TOGETHER in self.ranges else own

    def table(self) -> dict[str, dict[str, float]]:
        """Return R by group: samples, least, 5 %, median, 95 % and largest value.

        Number, least and largest value are those of all samples, the quantiles of what was drawn.
        """
        drawn = self.with_union
        return {
            group: {
                "samples": number,
                "least": low,
                **_quantiles(drawn.get(group, np.empty(0))),
                "largest": high,
            }
            for group, (number, low, high) in self.ranges.items()
        }

    def group_rows(self) -> Iterator[tuple[str, ...]]:
        """Name, samples, and R's least, median and largest value of every group and the union."""
        for group, facts in self.table().items():
            cells = (f"{facts[name]:.4f}" for name in HEAD[2:])
            yield (display.shown_name(group), f"{facts['samples']:,}", *cells)

    def sample_line(self) -> str:
        """Return a line on what is of a sample only, where `is_sample`."""
        return (
            f"Medians and histograms are of a random sample of {len(self.drawn):,} samples; "
            "numbers, least and largest values are of all"
        )

    def contradiction_line(self) -> str | None:
        """Return a line on contradictory samples, where there are any."""
        if not self.contradictions:
            return None
        pairs = ", ".join(f"{twin['row']} and {twin['nearest']}" for twin in self.twins[:5])
        return (
            f"{self.contradictions:,} samples have a twin at distance 0 with another label: Q is "
            f"infinite and R is 0 (rows {pairs}{', …' if self.contradictions > 5 else ''})"
        )


def overview_memory(rows: int, sets: int, tasks: int) -> int:
    """Return how many bytes `Overview.of` holds at most, of scores against so many reference sets.

    tasks: how many run at once.
    """
    record, blocks = RECORD_BYTES, -(-rows // BLOCK_ROWS)
    # Q against all groups as read, decoded and picked; records and their parts
    block = BLOCK_ROWS * (3 * 8 * sets + 3 * record)
    # drawn block by block and joined; then R of every group and sorted for quantiles
    drawn = min(rows, SAMPLE_ROWS) * (2 * record + 4 * 8)
    return min(tasks, blocks) * block + drawn + blocks * BLOCK_GRAPH


def score_records(scores: Any) -> da.Array:
    """Return the scores in the own group as records (n,), lazy, with R in the union of groups.

    Fields are row, split, robustness, lipschitz, reach, witness, nearest, together, contradictory.
    """
    names = ("split", "robustness", "lipschitz", "reach", "witness", "nearest")
    columns = {name: getattr(scores, name) for name in names}
    twin = da.asarray(scores.reach) == 0
    columns |= {"together": scores.robustness_within(), "contradictory": twin}
    return as_records(columns, stored=scores.result is not None)


def _ranges(
    names: Sequence[str], found: NDArray[np.float64]
) -> dict[str, tuple[int, float, float]]:
    """Return number, least and largest value by name, of those that have any."""
    named = zip(names, found.tolist(), strict=True)
    return {name: (int(number), low, high) for name, (number, low, high) in named if number}


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    if not len(values):  # none of a small group was drawn
        return dict.fromkeys(("5 %", "median", "95 %"), math.nan)
    low, high = (float(np.quantile(values, share)) for share in (0.05, 0.95))
    return {"5 %": low, "median": float(np.median(values)), "95 %": high}


def least_facts(scores: Any, overview: Overview, count: int = FIRST) -> list[dict[str, Any]]:
    """Return the least robust samples with their witnesses as plain values."""
    least = overview.lowest[:count]
    rows, witnesses = least["row"], least["witness"]
    labels, others = (label_texts(scores, at) for at in (rows, witnesses))
    ids, other_ids = (id_facts(scores.ids, at) for at in (rows, witnesses))
    return [
        {
            "row": int(found["row"]),
            **({} if ids is None else {"id": ids[k]}),
            "group": overview.groups[found["split"]],
            "label": labels[k],
            "robustness": float(found["robustness"]),
            "lipschitz": finite(found["lipschitz"]),
            "reach": finite(found["reach"]),
            "witness": int(found["witness"]),
            **({} if other_ids is None else {"witness_id": other_ids[k]}),
            "witness_label": others[k],
        }
        for k, found in enumerate(least)
    ]


def id_facts(ids: Any, rows: Sequence[int] | NDArray[np.int64]) -> list[Any] | None:
    """Return the ids of rows as plain values; None where they have none, or only Dask has them."""
    if ids is None or hasattr(ids, "compute"):
        return None
    return list(ids_of(ids, rows))


def finite(value: Any) -> float | None:
    """Return a number that JSON can hold; None stands for infinity."""
    return float(value) if math.isfinite(value) else None


def finite_text(value: float | None) -> str:
    """Return what `finite` returned in words."""
    return display.number(np.inf if value is None else value)


# -- labels and parameters in words ----------------------------------------------------------


def label_texts(scores: Any, rows: NDArray[np.int64]) -> list[str]:
    """Return how the labels of rows are called; nothing where they are not at hand."""
    if scores.store is not None:
        return [label_text(scores.store, label) for label in scores.store.labels[rows]]
    arrays = scores.arrays
    if arrays is None or arrays.lazy:
        return [""] * len(rows)
    labels = (arrays.y[int(row)] for row in rows)
    if scores.categorical:
        return [label_name(label, arrays.classes) for label in labels]
    return [_number_text(label, None) for label in labels]


def label_text(store: Store, label: Any) -> str:
    """Return how a label is called, in the units it had before it was scaled."""
    if store.spec.label_kind == "categorical":
        return label_name(label, store.spec.classes)
    return _number_text(label, store.spec)


def _number_text(label: Any, spec: StoreSpec | None) -> str:
    values = np.atleast_1d(label if spec is None else restore_labels(spec, label))
    text = ", ".join(f"{v:.6g}" for v in values[:4]) + (", …" if len(values) > 4 else "")
    return text if len(values) == 1 else f"({text})"


def asked_words(parameters: Mapping[str, Any]) -> str:
    """Return a result's metric and label map in words."""
    norm = f"-{parameters['norm']}" if "norm" in parameters else ""
    bound = f", ‖y‖∞ ≤ {parameters['bound']:g}" if parameters.get("bound") else ""
    return f"{parameters['metric']}, {parameters['labels']}{norm} labels{bound}"


# -- HTML ------------------------------------------------------------------------------------


def scores_card(scores: Any) -> str:
    """Return what scores show in a notebook: the plan before, what came out after."""
    parameters = scores.spec.parameters() if scores.spec else scores.result.parameters
    state = "not computed yet" if scores.run else "computed"
    samples = f"{display.counted(scores.rows, 'sample')} in {', '.join(scores.groups)}"
    title = f"Robustness of {scores.name}"
    subtitle = " · ".join((samples, asked_words(parameters), state))
    parts = _planned(scores) if scores.run else _found(scores)
    return display.card(title, subtitle, *parts)


def _planned(scores: Any) -> Iterator[display.Html | str]:
    if scores.plan is not None:
        yield display.facts(scores.plan.described())
    if scores.store is None:
        yield display.code("Nothing runs until it is asked for: ", "scores.compute()")
    else:
        yield display.code("Nothing runs until it is asked for: ", "scores.write()",
                           " computes and keeps the results in the store")  # fmt: skip
    client = current_client()
    if client is not None:
        yield display.link("Dashboard", client.dashboard_link)


def _found(scores: Any) -> Iterator[display.Html | str]:
    if scores.rows > MOST_ROWS:
        yield f"{scores.rows:,} rows are too many to read for a glance; least_robust(scores, k)"
        return
    overview = Overview.of(scores)
    low = min(least for _, least, _ in overview.ranges.values())
    high = max(largest for _, _, largest in overview.ranges.values())
    edges = display.round_edges(low, high, display.BINS)
    counts = {f"R in {name}": np.histogram(r, edges)[0] for name, r in overview.by_group.items()}
    yield display.histograms(counts, edges)
    yield display.table(HEAD, overview.group_rows())
    if overview.is_sample:
        yield display.caption(overview.sample_line())
    line = overview.contradiction_line()
    if line:
        yield display.warning(line)
    yield display.caption("Least robust samples and their witnesses")
    yield display.table(*least_table(least_facts(scores, overview, FIRST // 2)))
    if scores.result is not None:
        facts = scores.result.facts
        took = display.clock(float(facts.get("seconds", 0)))
        yield f"Computed {display.moment(facts.get('date'))} in {took}; {scores.result.name}"


def subset_card(subset: Any) -> str:
    """Return what a subset shows in a notebook: how its R lies in that of all samples."""
    scores, size = subset.scores, display.counted(subset.size, "sample")
    if scores is None or scores.run or scores.rows > min(MOST_ROWS, SAMPLE_ROWS):
        lazy = "" if isinstance(subset.indices, np.ndarray) else ", row numbers not computed yet"
        return display.card(subset.name, size + lazy)
    rows, robustness, split = map(
        np.asarray,
        compute(subset.indices, scores.robustness, scores.split, scheduler="threads"),
    )
    picked = robustness[rows]
    there = robustness[np.isin(split, np.unique(split[rows]))]  # of the groups that it is from
    edges = display.round_edges(float(there.min()), float(there.max()), display.BINS)
    counts = {f"R in {subset.name}": np.histogram(picked, edges)[0]}
    least, largest = float(picked.min()), float(picked.max())
    return display.card(
        subset.name,
        f"{size} of {len(there):,}, R from {least:.4f} to {largest:.4f}",
        display.histograms(counts, edges, before=np.histogram(there, edges)[0]),
        f"The line is all of {scores.name}'s {', '.join(_groups_in(scores, split[rows]))}.",
    )


def _groups_in(scores: Any, codes: NDArray[np.int16]) -> list[str]:
    return [scores.groups[code] for code in np.unique(codes)]


def least_table(
    facts: list[dict[str, Any]],
) -> tuple[tuple[str, ...], list[tuple[str, ...]], tuple[int, ...]]:
    """Return head, rows and the columns of text of a table of the least robust samples."""
    named = bool(facts) and "id" in facts[0]
    own, other = (("row", "id"), "witness_id") if named else (("row",), "witness")
    head = (*own, "group", "label", "R", "Q", "reach", "witness", "its label")
    rows: list[tuple[str, ...]] = [
        (*(str(f[name]) for name in own), display.shown_name(f["group"]), f["label"],
         f"{f['robustness']:.4f}", finite_text(f["lipschitz"]), finite_text(f["reach"]),
         str(f[other]), f["witness_label"])
        for f in facts
    ]  # fmt: skip
    return head, rows, (1, 2, 3, 7, 8) if named else (1, 2, 7)
