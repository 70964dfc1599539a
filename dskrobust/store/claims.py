"""Who is at work on a store: claims that beat as long as their owner lives.

A claim saves work and keeps others from clearing up what is in use; no result depends on one. An
exclusive claim has a name that one owner has at a time: whoever wants it too waits, or leaves. A
claim of one that was killed ends with its process on the same machine, elsewhere once it has not
beaten for a while.
"""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec
import psutil

from ..errors import (
    BusyStoreError,
    BusyStoreWarning,
    DamagedStoreError,
    DskrobustError,
    StoreError,
)
from ..paths import absolute
from ..user_warnings import warn
from .objects import Address, Objects, Place
from .seals import encoded, read_record, seal

CLAIMS = "claims"
KIND = "claim"
END = ".claim"
BEAT = 5.0  # seconds
EXPIRY = 30.0  # without a beat, seen by whoever waits
FORGOTTEN = 600.0  # seconds by the clock since the last beat, seen by whoever clears up
LOOK = 0.5  # seconds between two looks at another's claim

_held: ContextVar[frozenset[tuple[str, str]]] = ContextVar("held", default=frozenset())
_beating: set[str] = set()  # owners in this process
_ours: ContextVar[frozenset[str]] = ContextVar("ours", default=frozenset())  # owners


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Who does what since when.

    Attributes
    ----------
    what : str
        In words.
    owner : str
        Of this claim alone.
    host, machine : str
        Name of the machine, and what tells its processes from those of others.
    process : int
    started : float
        When the process began, in ticks since the machine did: no clock that is set changes it.
    since, beaten : str
        When the claim was made and last renewed, UTC.
    beats : int
    """

    what: str
    owner: str
    host: str
    machine: str
    process: int
    started: float
    since: str
    beaten: str
    beats: int = 0

    def __str__(self) -> str:
        return f"{self.what} since {self.since} on {self.host} (process {self.process})"

    @property
    def is_over(self) -> bool:
        """Whether the owner ran on this machine and is gone."""
        if self.machine != _machine():
            return False
        if self.process == os.getpid():  # its thread may have gone without a word
            return self.owner not in _beating
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's
            return False
        with suppress(psutil.Error):
            if psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE:
                return True  # its parent does not look
        began = _began(self.process)
        return began is not None and began != self.started

    @property
    def is_forgotten(self) -> bool:
        """Whether the owner is gone, as far as the clock tells."""
        if self.machine == _machine():
            return self.is_over
        age = datetime.now(UTC) - datetime.fromisoformat(self.beaten)
        return age.total_seconds() > FORGOTTEN


@cache
def _machine() -> str:
    """Return what tells the processes of this machine (or container) from those of others."""
    parts = [platform.node()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip()]
        parts += [os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _began(process: int) -> float | None:
    """Return when a process of this machine began; None where nobody says."""
    try:
        return float(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _new(what: str) -> Claim:
    return Claim(
        what=what,
        owner=uuid.uuid4().hex,
        host=platform.node(),
        machine=_machine(),
        process=os.getpid(),
        started=_began(os.getpid()) or 0.0,
        since=_now(),
        beaten=_now(),
    )


# -- holding one ---------------------------------------------------------------------------------


class _Held:
    """A claim that is there, and beats."""

    def __init__(self, objects: Objects, key: str, claim: Claim) -> None:
        self._objects, self._key, self._claim = objects, key, claim
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="dskrobust-claim", daemon=True)
        self._heart.start()

    @property
    def owner(self) -> str:
        return self._claim.owner

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            beats = self._claim.beats + 1
            self._claim = msgspec.structs.replace(self._claim, beats=beats, beaten=_now())
            with suppress(OSError, DskrobustError):  # the next beat may get through
                there = _read(self._objects, self._key)
                if there is not None and there.owner != self.owner:  # it was taken over: stay seen
                    self._key = f"{CLAIMS}/{self.owner}{END}"
                self._objects.write(self._key, _sealed(self._key, self._claim))

    def release(self) -> None:
        """Stop beating and take the claim away, unless another has taken it over."""
        self._over.set()
        self._heart.join()
        _beating.discard(self._claim.owner)
        with suppress(OSError, DskrobustError):
            there = _read(self._objects, self._key)
            if there is None or there.owner == self._claim.owner:
                self._objects.drop(self._key)


def _objects(address: Address) -> Objects:
    """Return the objects of a store, also after this process has gone to another folder."""
    return Objects(Place(absolute(address.url), address.storage_options))


def _sealed(key: str, claim: Claim) -> bytes:
    return seal(KIND, key, encoded(claim))


def _read(objects: Objects, key: str) -> Claim | None:
    """Return a claim; None where there is none or a damaged one.

    Raises
    ------
    StoreError
        Where it cannot be read now, or a later version wrote it: somebody is there.
    """
    with suppress(DamagedStoreError):
        return read_record(objects, KIND, key, Claim)
    return None


@contextmanager
def at_work(address: Address, what: str, *, writes: bool = False) -> Iterator[None]:
    """Say that something reads or writes a store; what others replace stays as long.

    Who only reads a store that is read-only says nothing; who writes has to be able to.
    """
    objects, claim = _objects(address), _new(what)
    key = f"{CLAIMS}/{claim.owner}{END}"
    held = None
    _beating.add(claim.owner)  # before it can be seen
    try:
        objects.create(key, _sealed(key, claim))
        held = _Held(objects, key, claim)
    except (OSError, DskrobustError):
        _beating.discard(claim.owner)
        if writes:
            raise
    token = _ours.set(_ours.get() | {claim.owner})
    try:
        yield
    finally:
        _ours.reset(token)
        if held is not None:
            held.release()


@contextmanager
def exclusive(
    address: Address, name: str, what: str, *, wait: bool = True, over: Callable[[], bool] = bool
) -> Iterator[bool]:
    """Hold a claim that only one has at a time; yield False where the work is done meanwhile.

    Parameters
    ----------
    address : Address
    name : str
        Of the claim.
    what : str
        What is done, in words.
    wait : bool
        Whether to wait for another who has it.
    over : callable
        Tells whether the work is done, so that nobody has to hold the claim any more.

    Raises
    ------
    BusyStoreError
        Where another has it and `wait` is false.

    Warns
    -----
    BusyStoreWarning
        Once, where another is waited for.
    """
    if (address.url, name) in _held.get():  # by a caller of ours
        yield True
        return
    objects, key, claim = _objects(address), f"{CLAIMS}/{name}{END}", _new(what)
    _beating.add(claim.owner)  # before it can be seen
    try:
        held = _acquire(objects, key, claim, wait, over)
    except BaseException:
        _beating.discard(claim.owner)
        raise
    if held is None:
        yield False
        return
    held_before, ours_before = _held.get(), _ours.get()
    _held.set(held_before | {(address.url, name)})
    _ours.set(ours_before | {held.owner})
    try:
        yield True
    finally:
        _held.set(held_before)
        _ours.set(ours_before)
        held.release()


def _acquire(
    objects: Objects, key: str, claim: Claim, wait: bool, over: Callable[[], bool]
) -> _Held | None:
    """Return the claim once it is ours; None once the work is done."""
    seen: Claim | None = None
    since = time.monotonic()
    while not objects.create(key, _sealed(key, claim)):
        other = _read(objects, key)
        if other is not None and not other.is_over:
            if not wait and not other.is_forgotten:
                raise BusyStoreError(f"another is at work on {objects.address.url}: {other}")
            if seen is None or other.owner != seen.owner:
                _tell(objects, other)
            if other != seen:
                seen, since = other, time.monotonic()
            if time.monotonic() - since < EXPIRY:
                time.sleep(LOOK)
                if over():
                    return None
                continue
        if _read(objects, key) == other:  # nobody else took it over just now
            objects.drop(key)
    return _Held(objects, key, claim)


def _tell(objects: Objects, other: Claim) -> None:
    warn(
        f"another is at work on {objects.address.url}: {other}. Waiting until it is done or gone; "
        "what it has finished is taken over",
        BusyStoreWarning,
    )


def others(address: Address) -> list[Claim]:
    """Return the claims of others that are at work, threads too; those of who is gone go."""
    objects, alive = _objects(address), []
    for name in objects.names(CLAIMS):
        if not name.endswith(END):
            continue
        key = f"{CLAIMS}/{name}"
        try:
            claim = _read(objects, key)
        except StoreError:
            alive.append(_new("what this version cannot read is done"))
            continue
        if claim is not None and not claim.is_forgotten:
            alive += [] if claim.owner in _ours.get() else [claim]
        else:
            with suppress(OSError, DskrobustError):
                objects.drop(key)
    return alive
