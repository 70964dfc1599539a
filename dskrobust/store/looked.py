"""What a look at a store's data keeps, so that the next one only looks at rows that are new.

Sums of columns, sizes of classes and counts of equal rows are one blob, for the segments that it
names. Hashes of rows lie beside it in runs, sorted: new rows meet equal ones there without one of
the old being read. All of it can be made again: where a piece is missing or damaged, the next look
is at all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedStoreError
from .blobs import Blobs, pack, unpack
from .objects import Address

DIAGNOSIS = "diagnosis"
NAME = "looked"
_SEGMENTS, _RUNS, _PIECES, _EDGES = "segments", "runs", "pieces", "edges"


class Run(NamedTuple):
    """Sorted hashes of a range of rows, in pieces.

    Attributes
    ----------
    name : str
        Of the folder that the pieces lie in.
    edges : ndarray (pieces,) uint64
        Where each piece begins.
    """

    name: str
    edges: NDArray[np.uint64]


@dataclass(frozen=True)
class Looked:
    """What is kept of a look.

    Attributes
    ----------
    segments : tuple of str
        Digests of the segments that were looked at.
    runs : tuple of Run
        Of their rows.
    arrays : dict
        Name → whatever else the look keeps.
    """

    segments: tuple[str, ...]
    runs: tuple[Run, ...]
    arrays: dict[str, NDArray[Any]]


def keep_looked(address: Address, looked: Looked) -> None:
    """Write down what a look found, in place of what the one before did."""
    edges = [run.edges for run in looked.runs]
    values = {
        **looked.arrays,
        _SEGMENTS: np.array(looked.segments, "U32"),
        _RUNS: np.array([run.name for run in looked.runs], "U"),
        _PIECES: np.array([len(e) for e in edges], np.int64),
        _EDGES: np.concatenate([np.empty(0, np.uint64), *edges]),
    }
    Blobs(address, DIAGNOSIS).write(NAME, pack(values))


def read_looked(address: Address, segments: Sequence[tuple[int, str]]) -> Looked | None:
    """Return what is kept of some of a store's first segments; None where nothing is."""
    looked = _read(address)
    digests = tuple(digest for _, digest in segments)
    if looked is None or looked.segments != digests[: len(looked.segments)]:
        return None
    return looked


def kept_runs(address: Address) -> set[str]:
    """Return the names of the runs that the next look needs."""
    looked = _read(address)
    return set() if looked is None else {run.name for run in looked.runs}


def _read(address: Address) -> Looked | None:
    packed = Blobs(address, DIAGNOSIS).whole(NAME)
    if packed is None:
        return None
    arrays = unpack(packed)
    segments, names = (tuple(arrays.pop(name).tolist()) for name in (_SEGMENTS, _RUNS))
    ends = np.cumsum(arrays.pop(_PIECES))[:-1]
    edges = np.split(arrays.pop(_EDGES), ends) if names else []
    return Looked(segments, tuple(map(Run, names, edges)), arrays)


def run_blobs(address: Address, name: str) -> Blobs:
    """Return where the pieces of a run lie."""
    return Blobs(address, f"{DIAGNOSIS}/{name}")


def read_piece(address: Address, run: Run, piece: int) -> NDArray[Any]:
    """Return a piece of a run.

    Raises
    ------
    DamagedStoreError
        Also where it is missing.
    """
    blobs = run_blobs(address, run.name)
    values = blobs.read(str(piece))
    if values is None:
        raise DamagedStoreError(f"object '{blobs.key(str(piece))}' of {address.url} is missing")
    return values
