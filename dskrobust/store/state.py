"""What a store says of its data: one immutable record for every state that it has been in.

The record of a state is created under its number, which only one process can do: whoever finds the
number taken looks at the new state and goes on from there. So no state is ever half written, none
overwrites another, and readers see one or the other. A mark beside every record keeps a store from
falling back to an older state where the newest record is lost.

Not every file system creates a whole record in one step. One that is cut off and has no mark was
never finished: readers keep to the state before it, and once its writer is gone the next one takes
the number behind it. A writer who only stood still then finds a newer state than its own, as below.

Nobody reads any state but the newest, so all but the last ones go after a while. Then their numbers
are free again, for a writer who has stood still since before: having made a state, it looks whether
that is the newest one, or is in it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ..errors import DamagedStoreError, DskrobustError, StoreError
from . import claims, format1
from .objects import Objects
from .seals import (
    FORMAT,
    MARK,
    OLD_DATA,
    damaged_object,
    decoded,
    drop_record,
    encoded,
    is_cut_off,
    seal,
    unseal,
)
from .spec import GroupSummary, StoreSpec, Summary

STATES, SEGMENTS = "states", "segments"
KIND = "state"
RECORD = ".state"
DIGITS = 8
FATE = ".fate"  # beside a segment
KEPT, COMMITTED, GONE = b"kept", "committed", b"gone"
ATTEMPTS = 100  # to make the next state while others make theirs
LOOKS = 10  # for the newest state, while others remove old ones
STAY = 16  # states, the newest ones; whoever lists them late finds one of these
YOUNG = 600.0  # seconds that a state stays however many are newer

Count = Annotated[int, Meta(ge=0, le=2**53)]
Rows = Annotated[int, Meta(ge=1, le=2**53)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record whose fields are checked when it is read."""


class Segment(Record, frozen=True):
    """Rows that were written at once.

    Attributes
    ----------
    rows : int
    digest : str
        Fingerprint of features, labels and split.
    path : str
        Folder of its arrays; "" where those of several segments follow each other (format 1).
    """

    rows: Rows
    digest: Digest
    path: str


class Known(Record, frozen=True):
    """What is known of all rows, but for the column sums; see `Summary`."""

    rows: Rows
    largest_feature: Annotated[float, Meta(ge=0)]
    label_bounds: dict[str, float]
    groups: dict[Count, GroupSummary]


class Link(Record, frozen=True):
    """An array elsewhere; of a split also the values that its codes stand for."""

    url: str
    values: tuple[Any, ...] | None = None


class State(Record, frozen=True):
    """A state of a store.

    Attributes
    ----------
    spec : StoreSpec
    unit_rows : int
        Rows of a chunk of features and of a checksum.
    ids : bool
        Whether rows have ids.
    segments : tuple of Segment
    arrays : dict
        Name → Zarr metadata of a segment's array, with no rows.
    links : dict
        Name → array elsewhere, which takes the place of the segments'.
    known : Known
    """

    spec: StoreSpec
    unit_rows: Annotated[int, Meta(ge=1, le=2**24)]
    ids: bool
    segments: Annotated[tuple[Segment, ...], Meta(min_length=1)]
    arrays: dict[str, dict[str, Any]]
    links: dict[str, Link]
    known: Known

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(segment.rows for segment in self.segments)

    def summary(self, sums: Any) -> Summary:
        """Return the summary with the column sums (d,)."""
        known = self.known
        bounds, groups = dict(known.label_bounds), dict(known.groups)
        return Summary(known.rows, sums, known.largest_feature, bounds, groups)


def known_of(summary: Summary) -> Known:
    """Return what a state keeps of a summary."""
    return Known(
        rows=summary.rows,
        largest_feature=summary.largest_feature,
        label_bounds=dict(summary.label_bounds),
        groups=dict(summary.groups),
    )


class Numbered(NamedTuple):
    """A state and its number; -1 for one that an earlier version of dskrobust wrote."""

    number: int
    state: State


class _Found(NamedTuple):
    """The newest state, None where there is none, and the last number that a record has.

    That number is higher than the state's where a record behind it was begun and not finished.
    """

    newest: Numbered | None
    last: int

    @property
    def is_begun(self) -> bool:
        return self.last > (-1 if self.newest is None else self.newest.number)


def newest(objects: Objects, known: int = -1) -> Numbered | None:
    """Return the newest state, None where there is no finished store.

    A record that was begun, and whose writer was killed, is passed over.

    Parameters
    ----------
    objects : Objects
    known : int
        Number of a state that is there, also where a file system lists it late.

    Raises
    ------
    DamagedStoreError
        Where its record is missing or is not what was written.
    StoreError
        Where a later version wrote it, or the store cannot be reached.
    """
    return _find(objects, known).newest


def newest_by_name(objects: Objects) -> Numbered | None:
    """Return the newest state, also where a file system lists folders late: by the next numbers."""
    found = _find(objects)
    while objects.read(_key(found.last + 1)) is not None:
        found = _find(objects, found.last + 1)
    return found.newest


def _find(objects: Objects, known: int = -1) -> _Found:
    key = STATES
    for look in range(LOOKS):
        last = max(max(_numbers(objects), default=-1), known)
        if last < 0:
            return _Found(_of_format1(objects), -1)
        key = _key(last)
        record = _read(objects, key)
        if isinstance(record, State):
            return _Found(Numbered(last, _checked(record, objects, key)), last)
        if record is None:
            known = -1  # there are newer ones by now, so that this one was removed
        elif look == LOOKS - 1 or not _others(objects):
            return _Found(_last_finished(objects, last), last)
        time.sleep(random.uniform(0, 0.1 * look))
    raise StoreError(
        f"{key} of {objects.address.url} is listed and not there: others change the store, and its "
        "file system is slow to say so; try again"
    )


def _read(objects: Objects, key: str) -> State | Literal["begun"] | None:
    """Return a record; "begun" where it is only its beginning, as not everywhere is that one step.

    The mark comes behind a record, so that one without it, and cut off, was never finished.

    Raises
    ------
    DamagedStoreError
        Also where there is a mark and no record.
    """
    data, url = objects.read(key), objects.address.url
    if data is None or is_cut_off(data):
        marked = objects.read(f"{key}{MARK}") is not None
        data = objects.read(key)  # again: it may be there by now
        if data is None and marked:
            raise damaged_object(url, key, "is missing")
        if data is None or (is_cut_off(data) and not marked):
            return None if data is None else "begun"
    return decoded(unseal(KIND, key, data, url), State, key, url)


def _last_finished(objects: Objects, below: int) -> Numbered | None:
    """Return the newest state below a number, None where there is none."""
    for number in sorted((n for n in _numbers(objects) if n < below), reverse=True):
        record = _read(objects, _key(number))
        if isinstance(record, State):
            return Numbered(number, _checked(record, objects, _key(number)))
    return _of_format1(objects)


def _others(objects: Objects) -> bool:
    """Whether others are at work, of whom one may be making a record; so where nobody can tell."""
    with suppress(OSError, DskrobustError):
        return bool(claims.others(objects.address))
    return True


def _of_format1(objects: Objects) -> Numbered | None:
    """Return the state of a store that an earlier version wrote."""
    old = format1.state(objects)
    if old is None:
        return None
    converted = decoded(encoded(old), State, "zarr.json", objects.address.url)
    return Numbered(-1, _checked(converted, objects))


def _numbers(objects: Objects) -> set[int]:
    names = (name.partition(".") for name in objects.names(STATES))
    return {int(number) for number, dot, end in names if number.isdigit() and end}


def _key(number: int, end: str = RECORD) -> str:
    return f"{STATES}/{number:0{DIGITS}d}{end}"  # a mark may be of a record that was lost


def _checked(state: State, objects: Objects, key: str = "zarr.json") -> State:
    """Refuse numbers that do not fit together."""
    url, groups = objects.address.url, state.known.groups
    if state.rows != state.known.rows or sum(g.rows for g in groups.values()) != state.rows:
        raise damaged_object(url, key, f"counts {state.known.rows} rows, but has {state.rows}")
    if any(code >= len(state.spec.groups) for code in groups):
        raise damaged_object(url, key, "has rows of a group without a name")
    return state


def change(objects: Objects, to: Callable[[State | None], State]) -> Numbered:
    """Make a new state of the newest one, in one step; others may make theirs meanwhile.

    Parameters
    ----------
    objects : Objects
    to : callable
        Returns the new state for the newest one (None: there is none); called again where another
        process was quicker.

    Raises
    ------
    StoreError
        Where others change the store all the time.
    """
    taken = -1
    for attempt in range(ATTEMPTS):
        found = _find(objects, taken)
        if found.is_begun and _others(objects):  # it is being made: nobody overtakes it
            time.sleep(random.uniform(0, min(1.0, 0.01 * attempt)))
            continue
        before, number = found.newest, found.last + 1
        state = to(None if before is None else before.state)
        if before is not None and state is before.state:
            return before
        key = _key(number)
        if objects.create(key, seal(KIND, key, encoded(state))):
            with suppress(OSError, DskrobustError):  # the state is there, whatever comes after
                objects.write(f"{key}{MARK}", _now().isoformat(timespec="seconds").encode())
                if max(_numbers(objects), default=number) > number:
                    continue  # built upon by others, or made where an old one was removed
            return Numbered(number, state)
        taken = number
        time.sleep(random.uniform(0, min(1.0, 0.01 * attempt)))
    raise StoreError(f"{objects.address.url} is changed by others all the time; try again later")


def past(objects: Objects) -> list[str]:
    """Return the keys of the states that nobody reads any more, rising: all before the newest."""
    found = newest(objects)
    number = -1 if found is None else found.number
    return [_key(n) for n in sorted(_numbers(objects)) if n < number]


def begun(objects: Objects) -> list[str]:
    """Return the keys of records behind the newest state whose writers were killed, rising."""
    found = _find(objects)
    if not found.is_begun or _others(objects):
        return []
    number = -1 if found.newest is None else found.newest.number
    return [_key(n) for n in sorted(_numbers(objects)) if n > number]


def prune(objects: Objects) -> None:
    """Remove old states, the oldest first; others may read and change the store meanwhile."""
    for key in past(objects)[: 1 - STAY]:
        if _is_young(objects.read(f"{key}{MARK}")):
            return
        drop_record(objects, key)


def _is_young(mark: bytes | None) -> bool:
    """Whether a state was made in the last minutes, as its mark says."""
    with suppress(ValueError):
        made = datetime.fromisoformat((mark or b"").decode())
        return abs((_now() - made).total_seconds()) < YOUNG  # a clock may have been set
    return False


def _now() -> datetime:
    return datetime.now(UTC)


def begin(objects: Objects) -> None:
    """Make the folder of a store, which has no state yet."""
    if format1.is_unfinished(objects):  # killed while an earlier version wrote it
        for name in OLD_DATA:
            objects.drop(name)
    objects.write("zarr.json", encoded(root_node()))


def root_node() -> dict[str, Any]:
    """Return the Zarr metadata of a store's own group."""
    return {
        "zarr_format": 3, "node_type": "group", "attributes": {format1.KEY: {"format": FORMAT}}
    }  # fmt: skip


# -- the fate of a segment -------------------------------------------------------------------------
#
# Between the look for a segment and the state that names it others may take its writer for dead. So
# whoever commits it, and whoever clears it up, first says so, which only one of them can. A segment
# that was committed keeps the number of its state: only who knows that one, or a newer one without
# the segment, can say that it was replaced. An older state, listed late, tells nothing.


def keep(objects: Objects, path: str) -> None:
    """Say that a segment is about to be named by a state.

    Raises
    ------
    StoreError
        Where others have cleared it up.
    """
    if not objects.create(f"{path}{FATE}", KEPT):
        raise StoreError(
            f"{objects.address.url}: the rows that were written were removed, as their writer "
            "seemed to be gone; nothing was added, write them again"
        )


def committed(objects: Objects, path: str, number: int) -> None:
    """Say which state names a segment: it may go once none does any more."""
    key = f"{path}{FATE}"
    with suppress(OSError, DskrobustError):  # else it stays for ever
        objects.write(key, seal(COMMITTED, key, str(number).encode()))


def may_go(objects: Objects, path: str, number: int) -> bool:
    """Whether a segment that the state of a number does not name can be removed; which is said."""
    key = f"{path}{FATE}"
    if objects.create(key, GONE):
        return True
    data = objects.read(key) or b""
    return is_fate(key, data) and data not in (KEPT, GONE) and _committed_by(key, data) <= number


def is_fate(key: str, data: bytes) -> bool:
    """Whether the fate of a segment is one that was written."""
    with suppress(DamagedStoreError, ValueError):
        return data in (KEPT, GONE) or _committed_by(key, data) >= 0
    return False


def _committed_by(key: str, data: bytes) -> int:
    """Return the number of the state that was the first to name a segment."""
    if data == COMMITTED.encode():  # by an earlier version, which kept no number
        return 0
    return int(unseal(COMMITTED, key, data, ""))


class Names(NamedTuple):
    """Groups and classes, in the order of their codes."""

    groups: tuple[str, ...]
    classes: tuple[str, ...] | None


def added(state: State, base: State, segment: Segment, more: Summary, names: Names) -> State:
    """Return a state with one more segment.

    Parameters
    ----------
    state : State
        The newest one.
    base : State
        The one that the segment was written for; others may have added rows since.
    segment : Segment
    more : Summary
        Of the segment.
    names : Names
        What the segment's codes are positions in: those of the base with new ones behind.

    Raises
    ------
    StoreError
        Where the store was replaced since, or others have added other names.
    """
    if segment in state.segments:  # it is in: only the answer got lost
        return state
    if state.segments[: len(base.segments)] != base.segments:
        raise StoreError(f"the store was replaced by another one meanwhile; {AGAIN}")
    both = {
        name: _joined(getattr(state.spec, name), getattr(base.spec, name), getattr(names, name))
        for name in Names._fields
    }
    return msgspec.structs.replace(
        state,
        spec=replace(state.spec, **both),
        segments=(*state.segments, segment),
        known=known_of(state.summary(0.0).merge(more)),
    )


AGAIN = "nothing was added; open it again and append once more"


def _joined(now: Any, before: Any, ours: Any) -> Any:
    """Return names with those that were added to some earlier ones by others, or by us."""
    if now is None or ours is None or ours[: len(now)] == now:
        return ours
    if ours == before or now[: len(ours)] == ours:
        return now
    raise StoreError(f"others have added other names than {', '.join(ours)} meanwhile; {AGAIN}")
