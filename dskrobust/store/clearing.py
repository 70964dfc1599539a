"""Clearing up: what no state of a store refers to goes, once nobody is at work on the store.

What was replaced (rows, results) stays as long as somebody may still read it, and what was begun as
long as somebody may still write it; what is listed before one looks for others was not begun since.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from ..errors import DskrobustError
from . import claims
from .objects import Objects
from .results import superseded
from .state import State, newest

SEGMENTS, PREFIXES, TILES, DIAGNOSIS = "segments", "prefixes", "tiles", "diagnosis"
DIGEST = 12  # characters of a digest in the names of tiles


def clear_up(objects: Objects) -> None:
    """Remove what is no longer needed, unless others are at work; failing that, the next one."""
    with suppress(OSError, DskrobustError):
        found = newest(objects)
        if found is None:
            return
        unneeded = list(_unneeded(objects, found.state))
        if unneeded and not claims.others(objects.address):
            for key in unneeded:
                objects.drop(key)


def _unneeded(objects: Objects, state: State) -> Iterator[str]:
    kept = {segment.path for segment in state.segments}
    digests = {segment.digest for segment in state.segments}
    for name in objects.names(SEGMENTS):
        if "." not in name and f"{SEGMENTS}/{name}" not in kept:
            yield f"{SEGMENTS}/{name}"
    if "" not in kept:  # rows that an earlier version wrote were replaced
        yield from (n for n in objects.names("") if n in ("features", "labels", "split", "center"))
    yield from superseded(objects, [segment.digest for segment in state.segments])
    yield from (f"{DIAGNOSIS}/{name}" for name in objects.names(DIAGNOSIS))
    for kind in objects.names(PREFIXES):
        for basis in objects.names(f"{PREFIXES}/{kind}"):
            folder = f"{PREFIXES}/{kind}/{basis}"
            names = [n for n in objects.names(folder) if n.partition(".")[0] not in digests]
            yield from (f"{folder}/{n}" for n in names if not n.startswith("basis"))
    short = {digest[:DIGEST] for digest in digests}
    for run in objects.names(TILES):
        for tile in objects.names(f"{TILES}/{run}"):
            rows = tile.removesuffix(".blob").split(".")
            if not {part.rpartition("-")[2] for part in rows} <= short:
                yield f"{TILES}/{run}/{tile}"
