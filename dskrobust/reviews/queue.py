"""Which samples are shown, in which order, and what they are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..display import number
from ..label_fit import LabelQuality, label_quality
from ..label_issues import Findings
from ..label_regression import NEIGHBOURS, RegressionFindings, regression_quality
from ..store import Store

if TYPE_CHECKING:
    import pandas as pd

    from .options import ReviewOptions


class Neighbour(NamedTuple):
    """A sample beside the one that is judged: what it is to that, its row, its distance."""

    role: str
    row: int
    distance: float


class Case(NamedTuple):
    """A sample that is judged.

    Attributes
    ----------
    row : int
    group : str
    suggested : str
        The label that its surroundings suggest; "" where they suggest none.
    is_issue : bool
    facts : tuple of (str, str)
        What the suspicion rests on, in words.
    neighbours : tuple of Neighbour
        Witness and nearest namesake; of real labels the two nearest.
    """

    row: int
    group: str
    suggested: str
    is_issue: bool
    facts: tuple[tuple[str, str], ...]
    neighbours: tuple[Neighbour, ...]


def make_queue(store: Store, metric: Any, options: ReviewOptions, run: Any = None) -> list[Case]:
    """Return the most suspicious samples of a store, the worst first; what is missing is searched.

    Only these come into this process where labels are classes.

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    if store.spec.label_kind == "real":
        quality = regression_quality(store, metric=metric, options=run)
        findings = quality.findings(options.threshold)
        return _real_cases(findings, quality.lists.write(), options.top)
    known = label_quality(store, metric=metric, options=run)
    if known.scores.result is None or known.same_scores.result is None:
        known = known.write()
    return _cases(known, options)


def _cases(quality: LabelQuality, options: ReviewOptions) -> list[Case]:
    """Return cases of classes: those of `dskrobust issues`, in its order."""
    findings = Findings.of(quality.staged(), options.threshold).persist()
    table = findings.frame(findings.worst(options.top).compute())
    return [_case(row) for row in _records(table) if row["witness"] >= 0]


def _case(row: dict[str, Any]) -> Case:
    neighbours = [Neighbour("witness", int(row["witness"]), float(row["witness_distance"]))]
    facts = [("score", f"{row['score']:.3f}")]
    if row["nearest_same"] >= 0:
        distance = float(row["same_distance"])
        neighbours.append(Neighbour("namesake", int(row["nearest_same"]), distance))
        facts.append(("ratio", number(row["ratio"])))
    facts.append(("witness of", f"{row['witness_of']:,}"))
    return Case(
        int(row["row"]), str(row["split"]), str(row["suggested_label"]), bool(row["is_issue"]),
        tuple(facts), tuple(neighbours),
    )  # fmt: skip


def _real_cases(findings: RegressionFindings, lists: Any, top: int) -> list[Case]:
    """Return cases of real labels, each with its two nearest samples."""
    table = findings.table(top)
    rows = table["row"].to_numpy(np.int64)
    cases = []
    for row, place in zip(_records(table), rows.tolist(), strict=True):
        index = np.asarray(lists.index[place : place + 1])[0]
        distance = np.asarray(lists.distance[place : place + 1])[0]
        roles = ("nearest", "second nearest")
        neighbours = tuple(
            Neighbour(role, int(index[k]), float(distance[k])) for k, role in enumerate(roles)
        )
        facts = (
            ("score", f"{row['score']:.3f}"),
            (f"median of {NEIGHBOURS} nearest", number(row["neighbours_label"])),
            ("off by", number(row["difference"])),
            ("their spread", number(row["spread"])),
        )
        expected = number(row["neighbours_label"])
        cases.append(
            Case(place, str(row["split"]), expected, bool(row["is_issue"]), facts, neighbours)
        )
    return cases


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table; a row number that is missing is -1."""
    numbers = table.select_dtypes("Int64").columns
    return list(
        table.assign(**{name: table[name].fillna(-1) for name in numbers}).to_dict("records")
    )
