"""Notes on a store's data: what was noticed of it, and what may be done; kept beside the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..errors import Hint
from . import format1
from .objects import Address, Objects
from .seals import read_record, write_record
from .state import Record

KIND = "notes"
NOTES = "notes.record"

READING = "reading"
SCALE = "scale"
IDENTIFIER = "identifier"
CONSTANT = "constant columns"
EQUAL_ROWS = "equal rows"
CONTRADICTIONS = "equal rows with different labels"
SHARED_ROWS = "equal rows across groups"
CLASSES = "classes"
RARE_CLASS = "rare class"
LABEL_KIND = "label kind"
SPELLING = "spelling"


@dataclass(frozen=True)
class Note:
    """Something noticed of a store's data.

    Attributes
    ----------
    kind : str
        "reading" (what was decided), "scale", "identifier", "constant columns", "equal rows",
        "equal rows with different labels", "equal rows across groups", "classes", "rare class",
        "label kind" or "spelling".
    text : str
        One line.
    remedy : Hint, optional
        What may be done, as Python and as the command line word it.
    columns, classes : tuple of str
        Names that the note is of, the first ones where there are many.
    details : mapping
        Its figures: plain values.
    """

    kind: str
    text: str
    remedy: Hint | None = None
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy.python}" if self.remedy else self.text

    @property
    def on_command_line(self) -> str:
        """The text with the remedy as the command line words it."""
        return f"{self.text}; {self.remedy.command}" if self.remedy else self.text


class NotesRecord(Record, frozen=True):
    """Notes, and the digests of the segments that they are of."""

    segments: tuple[str, ...]
    notes: tuple[Note, ...]


def keep_notes(
    address: Address, segments: Sequence[tuple[int, str]], notes: Sequence[Note]
) -> None:
    """Write down the notes on the data that the segments' digests stand for.

    They lie in a record of their own: what a store says of itself is only written by commits.
    """
    kept = NotesRecord(segments=_digests(segments), notes=tuple(notes))
    write_record(Objects(address), KIND, NOTES, kept)


def read_notes(address: Address, segments: Sequence[tuple[int, str]]) -> tuple[Note, ...] | None:
    """Return what is noted of a store's data; None where nobody has looked at it.

    Raises
    ------
    DamagedStoreError
        Where the notes are lost or not what was written.
    """
    objects = Objects(address)
    kept = read_record(objects, KIND, NOTES, NotesRecord)
    if kept is None and (old := format1.attributes(objects, "notes")):
        with suppress(msgspec.ValidationError):  # an earlier version's, which had no checksum
            kept = msgspec.convert(old, NotesRecord)
    return None if kept is None or kept.segments != _digests(segments) else kept.notes


def _digests(segments: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(digest for _, digest in segments)
