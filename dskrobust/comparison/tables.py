"""What two sides come to, as tables: counts, groups, classes, and the rows that changed most."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import pandas as pd
from dask.base import compute
from numpy.typing import NDArray

from ..distributions import Distances, Sample, chance, distances
from ..records import as_records, lowest, sample, summed
from ..report.tables import group_table
from .joined import joined_records
from .rows import RowMap
from .sides import LabelColumns, Side, common_thresholds

KINDS = ("suspicious", "contradictory")
POINTS = 4_000  # rows that are drawn, R after over R before
MOST_GROUPS = 8  # whose distributions are compared
PAIR = np.dtype([("value", np.int64), ("other", np.int64), ("rows", np.int64)])


class Found(NamedTuple):
    """What passes over the rows of both sides found.

    Attributes
    ----------
    counts : dict of str to int
        Of shared rows: relabelled, changed, rising, falling, other witness; and for every kind of
        KINDS how many there are before and after, and how many were dropped, are no longer or are
        newly so.
    sums : tuple of ndarray
        Of both sides a record a label: value, rows, sum of R, and how many are of every kind.
    moved : ndarray (k,) of records
        The shared rows whose R changed most.
    gone : ndarray (k,) of records
        The least robust rows that only the first side has.
    pairs : ndarray of PAIR
        Labels before and after of relabelled rows, and how many.
    points : ndarray of records
        Some of the shared rows.
    thresholds : str
        What makes a label suspicious.
    """

    counts: dict[str, int]
    sums: tuple[NDArray[np.void], NDArray[np.void]]
    moved: NDArray[np.void]
    gone: NDArray[np.void]
    pairs: NDArray[np.void]
    points: NDArray[np.void]
    thresholds: str


def find(before: Side, after: Side, rows: RowMap | None, labels: LabelColumns, top: int) -> Found:
    """Go through all rows of both sides, and return what they come to."""
    thresholds, told = common_thresholds(before, after)
    old = before.records(labels.before, thresholds)
    new = after.records(labels.after, thresholds)
    asked: dict[str, Any] = {}
    for name, records in (("before", old), ("after", new)):
        asked |= {f"{kind} {name}": records[kind].sum() for kind in KINDS}
        asked[f"sums {name}"] = class_sums(records) if labels.names else np.empty(0)
    if rows is not None:
        joined = joined_records(old, new, rows)
        asked |= _of_shared(joined, top)
        lost = _with_gone(old, rows)
        asked["gone"] = lowest(lost, "robustness", top, "gone")
        asked |= {f"{kind} dropped": (lost["gone"] & lost[kind]).sum() for kind in KINDS}
    done = dict(zip(asked, compute(*asked.values()), strict=True))
    none = np.empty(0, PAIR)
    moved, gone, pairs, points = (
        done.pop(name, none) for name in ("moved", "gone", "pairs", "points")
    )
    sums = done.pop("sums before"), done.pop("sums after")
    counts = {name: int(count) for name, count in done.items()}
    return Found(counts, sums, moved, gone, pairs, points, told)


def _of_shared(joined: da.Array, top: int) -> dict[str, Any]:
    shared, change = joined["shared"], joined["change"]
    asked = {
        "relabelled": joined["relabelled"].sum(),
        "other witness": joined["other_witness"].sum(),
        "changed": (shared & (change != 0)).sum(),
        "rising": (shared & (change > 0)).sum(),
        "falling": (shared & (change < 0)).sum(),
        "moved": lowest(joined, "order", top, "changed"),
        "pairs": label_pairs(joined),
        "points": sample(joined[["row", "shared", "robustness", "robustness_before",
                                 "relabelled"]], POINTS),
    }  # fmt: skip
    for kind in KINDS:
        old, new = joined[f"{kind}_before"], joined[kind]
        asked[f"{kind} no longer"] = (shared & old & ~new).sum()
        asked[f"{kind} newly"] = (shared & ~old & new).sum()
    return asked


def _with_gone(records: da.Array, rows: RowMap) -> da.Array:
    """Return the first side's records with whether the second one lacks the row."""
    columns = {name: records[name] for name in records.dtype.names[1:]}
    among = partial(np.isin, test_elements=rows.dropped, assume_unique=True)
    gone = records["row"].map_blocks(among, dtype=bool)
    return as_records({**columns, "gone": gone}, records.chunks)


# -- by label ----------------------------------------------------------------------------------


def class_sums(records: da.Array) -> da.Array:
    """Return what the rows of every label come to, a record a label, ascending; lazy."""
    kind = np.dtype([("value", np.int64), ("rows", np.int64), ("robustness", np.float64),
                     *((name, np.int64) for name in KINDS)])  # fmt: skip
    return summed(records, _class_records, kind)


def label_pairs(joined: da.Array) -> da.Array:
    """Return which labels relabelled rows had and have, as records of PAIR; lazy."""
    return summed(joined, _pair_records, PAIR, ("value", "other"))


def _class_records(records: NDArray[np.void], kind: np.dtype[Any]) -> NDArray[np.void]:
    made = np.zeros(len(records), kind)
    made["value"], made["rows"] = records["label"], 1
    for name in ("robustness", *KINDS):
        made[name] = records[name]
    return made


def _pair_records(joined: NDArray[np.void], kind: np.dtype[Any]) -> NDArray[np.void]:
    picked = joined[joined["relabelled"]]
    made = np.zeros(len(picked), kind)
    if picked["label"].dtype.kind != "f":  # numbers are all different
        made["value"], made["other"] = picked["label_before"], picked["label"]
    made["rows"] = 1
    return made


# -- tables ------------------------------------------------------------------------------------


def class_changes(found: Found, names: Sequence[str]) -> pd.DataFrame | None:
    """Return what became of every class, the largest change of its mean R first.

    Columns rows, R (the mean), suspicious and contradictory, each before and after, and change.
    """
    if not names:
        return None
    sides = []
    for sums in found.sums:
        table = pd.DataFrame({name: sums[name] for name in sums.dtype.names or ()})
        table["R"] = table.pop("robustness") / table["rows"]
        sides.append(table.set_index("value")[["rows", "R", *KINDS]])
    both = pd.concat(sides, axis=1, keys=("before", "after")).swaplevel(axis=1)
    both = both[[(name, side) for name in ("rows", "R", *KINDS) for side in ("before", "after")]]
    for name in ("rows", *KINDS):
        both[name] = both[name].fillna(0).astype(np.int64)
    both["change", ""] = both["R", "after"] - both["R", "before"]
    order = np.lexsort((both.index, -both["change", ""].abs().fillna(np.inf)))
    both = both.iloc[order]
    both.index = pd.Index([names[k] for k in both.index], name="label")
    return both


def label_changes(found: Found, names: Sequence[str]) -> pd.DataFrame:
    """Return how many rows had which label and have which now, the most first."""
    pairs = found.pairs[np.argsort(-found.pairs["rows"], kind="stable")]
    if not names:
        return pd.DataFrame({"before": [], "after": [], "rows": []})
    texts = np.array(names, dtype=object)
    return pd.DataFrame(
        {"before": texts[pairs["value"]], "after": texts[pairs["other"]], "rows": pairs["rows"]}
    )


def group_changes(before: Side, after: Side) -> pd.DataFrame:
    """Return samples, least, median and mean of R of every group, before and after."""
    sides = [group_table(side.results)[["samples", "least", "median"]] for side in (before, after)]
    names = list(dict.fromkeys([*sides[1].index, *sides[0].index]))
    both = pd.concat(sides, axis=1, keys=("before", "after")).swaplevel(axis=1).reindex(names)
    both = both[
        [(name, side) for name in ("samples", "least", "median") for side in ("before", "after")]
    ]
    both["change of median", ""] = both["median", "after"] - both["median", "before"]
    return both.rename_axis("group")


class Apart(NamedTuple):
    """How far R before and after are apart in a group.

    Attributes
    ----------
    distances : Distances
    chance : float
        The Kolmogorov distance that independent draws of these sizes stay below, 95 % of them.
    """

    distances: Distances
    chance: float


def groups_apart(before: Side, after: Side) -> dict[str, Apart]:
    """Return how far R before and after are apart in the largest groups that both have."""
    counts = [side.results.group_counts for side in (before, after)]
    both = [g for g in counts[1] if counts[1][g] and counts[0].get(g)]
    both = sorted(both, key=lambda group: -counts[1][group])[:MOST_GROUPS]
    lazy = [
        distances(_sample(before, g, counts[0][g]), _sample(after, g, counts[1][g])) for g in both
    ]
    return {
        group: Apart(found, chance(counts[0][group], counts[1][group]))
        for group, found in zip(both, compute(*lazy), strict=True)
    }


def _sample(side: Side, group: str, size: int) -> Sample:
    scores = side.results.scores
    code = scores.groups.index(group)
    return Sample(scores.robustness, da.asarray(scores.split) == code, size)


def changed_rows(
    before: Side, after: Side, rows: RowMap, found: Found, labels: LabelColumns
) -> pd.DataFrame:
    """Return the rows whose R changed most, with label and witness before and after.

    Columns row and row before, id where there are some, group, label, label before, R before, R,
    change, witness and its label before, what became of that one, witness, its label.
    """
    moved = found.moved
    old_witness, new_witness = moved["witness_before"], moved["witness"]
    made: dict[str, Any] = {"row": moved["row"], "row before": moved["row_before"]}
    if (ids := after.results.ids(moved["row"])) is not None:
        made["id"] = ids
    made |= {
        "group": np.array(after.results.scores.groups, dtype=object)[moved["split"]],
        "label before": before.results.label_texts(moved["row_before"]),
        "label": after.results.label_texts(moved["row"]),
        "R before": moved["robustness_before"],
        "R": moved["robustness"],
        "change": moved["change"],
        "witness before": old_witness,
        "its label before": _texts(before, old_witness),
        "it was": _fates(before, after, rows, old_witness, labels.comparable),
        "witness": new_witness,
        "its label": _texts(after, new_witness),
    }
    table = pd.DataFrame(made)
    for name in ("witness before", "witness"):
        table[name] = pd.Series(table[name], dtype="Int64").mask(table[name] < 0)
    return table


def dropped_samples(before: Side, found: Found) -> pd.DataFrame:
    """Return the least robust rows that only the first side has: row, id, group, label, R, …."""
    gone = found.gone
    if not len(gone):
        return pd.DataFrame(columns=["row", "group", "label", "R", "witness", "its label"])
    made: dict[str, Any] = {"row": gone["row"]}
    if (ids := before.results.ids(gone["row"])) is not None:
        made["id"] = ids
    table = pd.DataFrame({
        **made,
        "group": np.array(before.results.scores.groups, dtype=object)[gone["split"]],
        "label": before.results.label_texts(gone["row"]),
        "R": gone["robustness"],
        "witness": gone["witness"],
        "its label": _texts(before, gone["witness"]),
    })  # fmt: skip
    table["witness"] = pd.Series(table["witness"], dtype="Int64").mask(table["witness"] < 0)
    return table


def _texts(side: Side, rows: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return what the labels of rows are called; nothing for -1."""
    made = np.full(len(rows), "", dtype=object)
    there = rows >= 0
    made[there] = side.results.label_texts(rows[there])
    return made


def _fates(
    before: Side, after: Side, rows: RowMap, witness: NDArray[np.int64], comparable: bool
) -> list[str]:
    """Return what became of some rows of the first side: dropped, relabelled, or nothing."""
    gone = np.isin(witness, rows.dropped) & (witness >= 0)
    new = _new_rows(rows, witness, gone)
    here = new >= 0
    own, other = _texts(before, witness), _texts(after, np.where(here, new, -1))
    relabelled = here & (own != other) & comparable
    return ["dropped" if d else "relabelled" if r else "" for d, r in
            zip(gone.tolist(), relabelled.tolist(), strict=True)]  # fmt: skip


def _new_rows(rows: RowMap, old: NDArray[np.int64], gone: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the numbers that rows of the first side have in the second one, -1 of dropped ones."""
    there = (old >= 0) & ~gone
    if rows.source is None:
        return np.where(there, old - np.searchsorted(rows.dropped, old), -1)
    order = np.argsort(rows.source, kind="stable")
    place = np.searchsorted(rows.source[order], np.where(there, old, 0))
    return np.where(there, order[np.minimum(place, len(order) - 1)], -1)


def drawn_points(found: Found) -> pd.DataFrame:
    """Return some of the shared rows: R before, R, relabelled."""
    points = found.points
    if not len(points):
        return pd.DataFrame(columns=["before", "after", "relabelled"])
    points = points[points["shared"]]
    return pd.DataFrame({"before": points["robustness_before"], "after": points["robustness"],
                         "relabelled": points["relabelled"]})  # fmt: skip
