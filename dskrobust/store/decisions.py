"""What reviewers decide of single rows: a log that only grows, in sheets of one writer each.

A sheet is a sealed object that its writer replaces as a whole. Nobody else writes to it, so several
reviewers at once lose nothing; the log is all sheets together, in the order of time.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

from ..errors import InvalidOptionError
from .dataset import Store
from .seals import MARK, SHEET, read_record, write_record
from .state import Count, Digest, Record

DECISIONS = "decisions"
KIND = "decisions"
MOST = 200  # decisions of a sheet, which is written anew with each
KEEP: Final = "keep"
RELABEL: Final = "relabel"
DROP: Final = "drop"
UNSURE: Final = "unsure"
UNDO: Final = "undo"
CHOICES = (KEEP, RELABEL, DROP, UNSURE)

Choice = Literal["keep", "relabel", "drop", "unsure", "undo"]


class Decision(Record, frozen=True):
    """An entry of the log.

    Attributes
    ----------
    row : int
    decision : {"keep", "relabel", "drop", "unsure", "undo"}
        The last takes the row's newest decision back, so that the one before it holds again.
    label : int or float, optional
        The new label as the store has labels: a class's position in ``spec.classes``, a scaled
        number.
    who : str
        The reviewer; empty where that was not to be kept.
    when : str
        ISO date and time, UTC.
    comment : str
    """

    row: Count
    decision: Choice
    label: int | float | None = None
    who: str = ""
    when: str = ""
    comment: str = ""


class SheetRecord(Record, frozen=True):
    """Decisions of one writer, and the digests of the data that their row numbers are of."""

    segments: tuple[Digest, ...]
    decisions: tuple[Decision, ...]


class DecisionLog(NamedTuple):
    """All decisions on a store's rows.

    Attributes
    ----------
    entries : tuple of Decision
        In the order of time.
    foreign : int
        How many there are of rows that the store held before it was replaced.
    """

    entries: tuple[Decision, ...]
    foreign: int

    @property
    def newest(self) -> dict[int, Decision]:
        """The decision that holds of every row that has one, by row number."""
        held: dict[int, list[Decision]] = {}
        for entry in self.entries:
            before = held.setdefault(entry.row, [])
            if entry.decision != UNDO:
                before.append(entry)
            elif before:
                before.pop()
        return {row: several[-1] for row, several in sorted(held.items()) if several}


def read_decisions(store: Store) -> DecisionLog:
    """Return the decisions on a store's rows.

    Raises
    ------
    DamagedStoreError
        Where a sheet is not what was written.
    """
    digests = tuple(digest for _, digest in store.segments)
    found: list[Decision] = []
    foreign = 0
    names = {name.removesuffix(MARK) for name in store.objects.names(DECISIONS)}
    for name in sorted(name for name in names if name.endswith(SHEET)):
        sheet = read_record(store.objects, KIND, f"{DECISIONS}/{name}", SheetRecord)
        if sheet is None:  # dropped meanwhile
            continue
        if sheet.segments == digests[: len(sheet.segments)]:  # rows that are appended come behind
            found += sheet.decisions
        else:
            foreign += len(sheet.decisions)
    return DecisionLog(tuple(sorted(found, key=lambda entry: entry.when)), foreign)


@dataclass
class DecisionWriter:
    """Adds decisions to a store's log, on sheets of its own.

    Attributes
    ----------
    store : Store
    who : str
        The reviewer.
    """

    store: Store
    who: str = ""
    _name: str = field(default="", init=False, repr=False)
    _sheet: tuple[Decision, ...] = field(default=(), init=False, repr=False)
    _last: str = field(default="", init=False, repr=False)

    def add(
        self,
        row: int,
        decision: Choice,
        label: int | float | None = None,
        comment: str = "",
    ) -> Decision:
        """Write a decision down; once this returns it stays, whatever is killed when.

        Raises
        ------
        InvalidOptionError
            For a row that does not exist, or a new label without "relabel" and the other way round.
        """
        if not 0 <= row < self.store.rows:
            raise InvalidOptionError(
                f"there is no row {row}; rows are 0 to {self.store.rows - 1:,}"
            )
        if (label is None) == (decision == RELABEL):
            raise InvalidOptionError(
                "a new label goes with the decision to relabel, and only there"
            )
        made = Decision(
            row=row, decision=decision, label=label, who=self.who, when=self._now(), comment=comment
        )
        self.extend([made])
        return made

    def extend(self, decisions: Sequence[Decision]) -> None:
        """Write down decisions as they are, whoever made them."""
        rest = tuple(decisions)
        while rest:
            if not self._name or len(self._sheet) >= MOST:
                self._name, self._sheet = f"{uuid.uuid4().hex}{SHEET}", ()
            free = MOST - len(self._sheet)
            sheet, rest = (*self._sheet, *rest[:free]), rest[free:]
            digests = tuple(digest for _, digest in self.store.segments)
            record = SheetRecord(segments=digests, decisions=sheet)
            write_record(self.store.objects, KIND, f"{DECISIONS}/{self._name}", record)
            self._sheet = sheet

    def _now(self) -> str:
        """Return a time behind all that is in the log: clocks differ, and stand still."""
        known = max(_latest(read_decisions(self.store).entries), self._last)
        now = datetime.now(UTC)
        if known:
            now = max(now, datetime.fromisoformat(known) + timedelta(microseconds=1))
        self._last = now.isoformat(timespec="microseconds")
        return self._last


def _latest(entries: Iterable[Decision]) -> str:
    return max((entry.when for entry in entries), default="")
