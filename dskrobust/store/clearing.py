"""Clearing up: what no state of a store refers to goes, once nobody is at work on the store.

What was replaced (rows, results) stays as long as somebody may still read it, and what was begun as
long as somebody may still write it. What is listed before one looks for others was not begun since;
what is still of no use after that was not finished meanwhile. Old states go beside others at work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from ..errors import DskrobustError
from . import claims
from .looked import DIAGNOSIS, kept_runs
from .objects import Objects
from .results import RECORD, RESULTS, superseded
from .seals import drop_record
from .state import SEGMENTS, State, may_go, newest_by_name, prune

PREFIXES, TILES = "prefixes", "tiles"
DIGEST = 12  # characters of a digest in the names of tiles


def clear_up(objects: Objects) -> None:
    """Remove what is no longer needed, unless others are at work; failing that, the next one."""
    with suppress(OSError, DskrobustError):
        prune(objects)
        before = set(_unneeded(objects)[1])
        if before and not claims.others(objects.address):
            number, now = _unneeded(objects)
            for key in now:
                if key in before:
                    _drop(objects, key, number)


def _drop(objects: Objects, key: str, number: int) -> None:
    """Remove what a state has no need of; of a result first what makes it one."""
    kind = key.partition("/")[0]
    if kind == SEGMENTS and not may_go(objects, key, number):
        return
    if kind == RESULTS:
        drop_record(objects, f"{key}/{RECORD}")
    objects.drop(key)


def _unneeded(objects: Objects) -> tuple[int, Iterable[str]]:
    """Return the number of the newest state, and the keys of what it has no need of."""
    found = newest_by_name(objects)
    return (-1, ()) if found is None else (found.number, _unneeded_by(found.state, objects))


def _unneeded_by(state: State, objects: Objects) -> Iterator[str]:
    kept = {segment.path for segment in state.segments}
    digests = {segment.digest for segment in state.segments}
    for name in _folders(objects, SEGMENTS):
        if f"{SEGMENTS}/{name}" not in kept:
            yield f"{SEGMENTS}/{name}"
    if "" not in kept:  # rows that an earlier version wrote were replaced
        yield from (n for n in objects.names("") if n in ("features", "labels", "split", "center"))
    yield from superseded(objects, [segment.digest for segment in state.segments])
    runs = kept_runs(objects.address)
    yield from (f"{DIAGNOSIS}/{n}" for n in _folders(objects, DIAGNOSIS) if n not in runs)
    for kind in _folders(objects, PREFIXES):
        for basis in _folders(objects, f"{PREFIXES}/{kind}"):
            folder = f"{PREFIXES}/{kind}/{basis}"
            names = [n for n in _folders(objects, folder) if n not in digests]
            yield from (
                f"{folder}/{name}{end}"
                for name in names
                for end in (".prefixes.made", ".prefixes", "")
            )
    short = {digest[:DIGEST] for digest in digests}
    for run in _folders(objects, TILES):
        for tile in objects.names(f"{TILES}/{run}"):
            rows = tile.removesuffix(".blob").split(".")
            if tile.endswith(".blob") and not {r.rpartition("-")[2] for r in rows} <= short:
                yield f"{TILES}/{run}/{tile}"


def _folders(objects: Objects, folder: str) -> list[str]:
    """Return the names of the folders in one; objects have a dot in theirs."""
    return [name for name in objects.names(folder) if "." not in name]
