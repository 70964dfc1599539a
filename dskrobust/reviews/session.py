"""A reviewer at work: cases, what was decided of them, what was decided last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..display import moment, shown_name
from ..errors import InvalidOptionError
from ..store import RELABEL, UNDO, Choice, Decision, DecisionWriter, read_decisions
from .cases import CaseReader
from .queue import Case

MOST_NAMES = 5_000  # of classes that the page lists; any other can be typed


@dataclass
class Session:
    """Cases that are shown, and the log that decisions go into.

    Attributes
    ----------
    cases : sequence of Case
    reader : CaseReader
    writer : DecisionWriter
    """

    cases: Sequence[Case]
    reader: CaseReader
    writer: DecisionWriter
    _made: list[int] = field(default_factory=list, repr=False)  # places decided here, the last last

    @property
    def decided(self) -> dict[int, Decision]:
        """The decisions that hold now, whoever made them, by row."""
        return read_decisions(self.reader.store).newest

    def facts(self) -> dict[str, Any]:
        """Return what the page is told once."""
        names, store = self.reader.names, self.reader.store
        known = list(names.known)
        return {
            "name": shown_name(store.spec.name),
            "issues": [case.is_issue for case in self.cases],
            "labels": known[:MOST_NAMES],
            "more_labels": max(0, len(known) - MOST_NAMES),
            "real": names.real,
            "reviewer": self.writer.who,
        }

    def progress(self) -> dict[str, Any]:
        """Return how every case is decided, and whether there is something to take back."""
        known = self.decided
        states = [known.get(case.row) for case in self.cases]
        return {
            "states": [state and state.decision for state in states],
            "undoable": bool(self._made),
        }

    def case(self, place: int) -> dict[str, Any]:
        """Return what the page shows of a case."""
        case = self.cases[place]
        return {**self.reader.read(case), "place": place, "decision": self._told(case)}

    def _told(self, case: Case) -> dict[str, Any] | None:
        made = self.decided.get(case.row)
        if made is None:
            return None
        label = None if made.label is None else self.reader.names.names([made.label])[0]
        return {
            "decision": made.decision,
            "label": label,
            "who": made.who,
            "when": moment(made.when),
            "comment": made.comment,
        }

    def decide(self, place: int, decision: Choice, label: str | None, comment: str) -> None:
        """Write a decision down.

        Raises
        ------
        InvalidOptionError
            For a label that there is not, or that the row has already.
        """
        case = self.cases[place]
        stored = None
        if decision == RELABEL:
            names = self.reader.names
            if label is None or not label:
                raise InvalidOptionError("a row that gets another label needs that label")
            stored = names.stored(label)
            given = self.reader.store.labels[[case.row]].reshape(-1)[0]
            if stored == given:
                raise InvalidOptionError(f"row {case.row} has this label already; keep it")
        self.writer.add(case.row, decision, stored, comment.strip())
        self._made.append(place)

    def undo(self, place: int | None) -> int | None:
        """Take back the decision of a place, or the last one of this session; return the place."""
        if place is None:
            if not self._made:
                return None
            place = self._made.pop()
        elif place in self._made:
            self._made.reverse()
            self._made.remove(place)
            self._made.reverse()
        row = self.cases[place].row
        if row in self.decided:
            self.writer.add(row, UNDO)
        return place
