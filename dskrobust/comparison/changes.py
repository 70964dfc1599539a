"""What changed between two sides, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import pandas as pd

from ..credentials import without_credentials
from ..report.provenance import data_facts
from .models import model_changes
from .rows import RowMap
from .sides import Side, label_columns, same_run
from .tables import (
    Apart,
    Found,
    changed_rows,
    class_changes,
    dropped_samples,
    find,
    group_changes,
    groups_apart,
    label_changes,
)


@dataclass(frozen=True, eq=False, repr=False)
class Changes:
    """What changed between two sides; `Comparison` says what the fields are."""

    differences: pd.DataFrame
    rows: RowMap | None
    counts: Mapping[str, int]
    groups: pd.DataFrame
    apart: Mapping[str, Apart]
    classes: pd.DataFrame | None
    relabelled: pd.DataFrame
    dropped: pd.DataFrame
    samples: pd.DataFrame
    models: pd.DataFrame
    before: Side = field(repr=False)
    after: Side = field(repr=False)
    found: Found = field(repr=False)

    @property
    def one_store(self) -> bool:
        """Whether two runs of one store are compared."""
        return self.before.store.url == self.after.store.url

    @property
    def one_scale(self) -> bool:
        """Whether R of both sides has the same scale: metric, label map and factor are equal."""
        sides = self.before, self.after
        runs = [same_run(side.results.result) for side in sides]
        return runs[0] == runs[1] and sides[0].store.spec.scale == sides[1].store.spec.scale

    @classmethod
    def between(cls, before: Side, after: Side, rows: RowMap | None, top: int) -> Self:
        """Go through both sides.

        rows: as `match_rows` tells. top: rows whose R changed most, and dropped rows, at most.
        """
        labels = label_columns(before, after)
        found = find(before, after, rows, labels, top)
        one_store = before.store.url == after.store.url
        none = pd.DataFrame()
        return cls(
            differences(before, after),
            rows,
            found.counts,
            group_changes(before, after),
            groups_apart(before, after),
            class_changes(found, labels.names),
            label_changes(found, labels.names),
            dropped_samples(before, found),
            none if rows is None else changed_rows(before, after, rows, found, labels),
            none if one_store else model_changes(before, after, rows),
            before,
            after,
            found,
        )


def differences(before: Side, after: Side, *, nameless: bool = False) -> pd.DataFrame:
    """Return the facts of data and run in which two sides differ: name, before, after.

    nameless: whether of addresses in the provenance only the last part is left.
    """
    facts = [_facts(side, nameless) for side in (before, after)]
    names = dict.fromkeys([*facts[0], *facts[1]])
    lines = [
        (name, *(one.get(name, "–") for one in facts))
        for name in names
        if facts[0].get(name) != facts[1].get(name)
    ]
    return pd.DataFrame(lines, columns=["name", "before", "after"])


def _facts(side: Side, nameless: bool) -> dict[str, str]:
    """Return what is known of data and run by name; values of one name in a line."""
    made: dict[str, str] = {"Store": without_credentials(side.store.url)}
    for name, value in data_facts(side.results, nameless=nameless):
        made[name] = f"{made[name]}; {value}" if name in made else value
    made["Preparation"] = "; ".join(side.store.spec.decisions) or "–"
    return made
