"""A cleaned store: relabelled rows have their new labels, dropped ones are gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..credentials import last_part, without_credentials
from ..declared_types import checked_arguments
from ..display import counted
from ..errors import Hint, InvalidOptionError
from ..store import (
    DROP,
    KEEP,
    RELABEL,
    Decision,
    DecisionLog,
    DecisionWriter,
    RowChanges,
    Store,
    StoreSpec,
    keep_dropped,
    open_store,
    read_decisions,
    write_cleaned,
)
from .carrying import carry_results


@dataclass(frozen=True)
class Cleaning:
    """What became of a store by its reviewers' decisions.

    Attributes
    ----------
    store : Store
        The cleaned one.
    relabelled, dropped : int
        Rows with another label, and rows that are gone.
    linked_bytes : int
        Bytes on the disk that both stores share, as hard links; 0 where rows were copied.
    carried : int
        Results that the new store has of the old one, with only those rows searched anew that
        changes touch.
    """

    store: Store
    relabelled: int
    dropped: int
    linked_bytes: int
    carried: int = 0


@checked_arguments()
def apply_decisions(
    store: Store | str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    anonymous: bool = False,
    results: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Cleaning:
    """Make a store in which relabelled rows have their new labels and dropped rows are gone.

    Rows that are kept, left as unsure or not decided stay as they are, and so do groups, classes,
    ids, scales and units. What was decided on rows that stay is kept with the new store too, as
    "keep", so that a review of it does not ask again. Chunks of features in which nothing changed
    are hard links, where both stores lie on one file system of this machine and no row before them
    was dropped; else they are copied.

    Parameters
    ----------
    store : Store or str
    out : str
        The new store, never `store` itself.
    overwrite : bool
        Replace a store that is there already.
    anonymous : bool
        Leave the folder of the store out of the new one's provenance, and reviewers' names.
    results : bool
        Whether to take over the searches for the nearest samples of another and of the same label
        that the store holds (of categories; see `dskrobust.reviews.carrying`). They equal those
        that are computed anew, to the last bit.
    progress : callable, optional
        Called with numbers of rows that were written.

    Returns
    -------
    Cleaning

    Raises
    ------
    InvalidDataError
        Where no row would be left.
    InvalidOptionError
        Where nothing was decided that changes anything, or `out` is the store itself.
    StoreError
    """
    opened = open_store(store)
    log = read_decisions(opened)
    held = log.newest
    changes = _changes(opened, held, log)
    spec = _spec(opened, changes, anonymous)
    made = write_cleaned(
        str(out), opened, changes, spec,
        overwrite=overwrite, storage_options=opened.storage_options, progress=progress,
    )  # fmt: skip
    keep_dropped(made.store, opened, changes)
    _carry(made.store, held, changes, anonymous)
    carried = carry_results(opened, made.store, changes) if results else []
    return Cleaning(
        made.store, len(changes.labels), len(changes.dropped), made.linked_bytes, len(carried)
    )


def _changes(store: Store, held: Mapping[int, Decision], log: DecisionLog) -> RowChanges:
    """Return what the decisions that hold change."""
    labels: dict[int, int | float] = {
        row: made.label
        for row, made in held.items()
        if made.decision == RELABEL and made.label is not None
    }
    dropped = [row for row, made in held.items() if made.decision == DROP]
    if not labels and not dropped:
        counts = Counter(made.decision for made in held.values())
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "no decisions"
        if log.foreign:
            told += f", and {log.foreign:,} on data that was replaced since"
        raise InvalidOptionError(
            f"{store.url} has {told}: nothing to relabel or drop",
            Hint("call review(store) first", "run `dskrobust review STORE` first"),
        )
    return RowChanges(labels, np.array(sorted(dropped), np.int64))


def _spec(store: Store, changes: RowChanges, anonymous: bool) -> StoreSpec:
    """Return what the cleaned store says of its data."""
    shown = last_part if anonymous else without_credentials
    done = (
        f"{counted(len(changes.labels), 'row')} relabelled",
        f"{counted(len(changes.dropped), 'row')} dropped",
    )
    provenance: dict[str, Any] = {
        **store.spec.provenance,
        "reviewed": {
            "source": shown(store.address.url),
            "source_fingerprint": [digest for _, digest in store.segments],
            "relabelled": len(changes.labels),
            "dropped": len(changes.dropped),
        },
    }
    if "source_fingerprint" in provenance and len(changes.dropped):
        provenance["source_fingerprint"] = []  # rows are no longer those that were embedded
    line = f"reviewed: {', '.join(done)}"
    return replace(store.spec, provenance=provenance, decisions=(*store.spec.decisions, line))


def _carry(
    store: Store, held: Mapping[int, Decision], changes: RowChanges, anonymous: bool
) -> None:
    """Keep what was decided on rows that stay: they are as their reviewers want them."""
    settled = {row: made for row, made in held.items() if made.decision in (KEEP, RELABEL)}
    rows = changes.new_rows(np.array(list(settled), np.int64))
    told = [
        Decision(
            row=row, decision="keep", who="" if anonymous else made.who, when=made.when,
            comment=made.comment,
        )
        for row, made in zip(rows.tolist(), settled.values(), strict=True)
    ]  # fmt: skip
    if told:
        DecisionWriter(store).extend(told)
