"""Notes on a store's data: what was noticed of it, and what may be done; kept beside the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import zarr

from ..errors import Hint
from . import writing
from .blobs import Address, open_root

NOTES = "notes"
KEY = writing.KEY

COLUMN = "column"
SCALE = "scale"
IDENTIFIER = "identifier"
CONSTANT = "constant columns"
EQUAL_ROWS = "equal rows"
CONTRADICTIONS = "equal rows with different labels"
SHARED_ROWS = "equal rows across groups"
CLASSES = "classes"
RARE_CLASS = "rare class"
LABEL_KIND = "label kind"


@dataclass(frozen=True)
class Note:
    """Something noticed of a store's data.

    Attributes
    ----------
    kind : str
        "column" (what became of it), "scale", "identifier", "constant columns", "equal rows",
        "equal rows with different labels", "equal rows across groups", "classes", "rare class" or
        "label kind".
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


def keep_notes(
    address: Address, segments: Sequence[tuple[int, str]], notes: Sequence[Note]
) -> None:
    """Write down the notes on the data that the segments' digests stand for.

    They lie in a group of their own: the store's metadata is only written by commits.
    """
    group = open_root(address, "r+").require_group(NOTES)
    group.attrs[KEY] = {"segments": _digests(segments), "notes": [asdict(note) for note in notes]}


def read_notes(group: zarr.Group, segments: Sequence[tuple[int, str]]) -> tuple[Note, ...] | None:
    """Return what is noted in a store's group; None where nobody has looked at this data."""
    try:
        kept: dict[str, Any] = dict(group[NOTES].attrs.get(KEY, {}))  # type: ignore[arg-type]
    except (KeyError, ValueError, TypeError):  # none, or damaged
        return None
    if kept.get("segments") != _digests(segments):
        return None
    return tuple(_note(values) for values in kept["notes"])


def _digests(segments: Sequence[tuple[int, str]]) -> list[str]:
    return [digest for _, digest in segments]


def _note(values: Mapping[str, Any]) -> Note:
    remedy = values["remedy"]
    return Note(
        values["kind"],
        values["text"],
        Hint(*remedy) if remedy else None,
        tuple(values["columns"]),
        tuple(values["classes"]),
        dict(values["details"]),
    )
