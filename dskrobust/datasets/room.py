"""Whether a store of what a reader reads has room on its disk, told from the first block."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from ..space import check_space
from ..store import Block

CHUNK_BYTES = 4 * 2**20  # of features: the last chunk is written as large as the others
SAMPLE_BYTES = 2**20  # of features that are packed to see how small they become


def with_room(blocks: Iterator[Block], rows: int | None, address: str) -> Iterator[Block]:
    """Yield blocks, once there is room for as many rows at an address.

    Parameters
    ----------
    blocks : iterator of Block
    rows : int, optional
        In all blocks together; where nobody knows, nothing is refused.
    address : str
        Of the store, there already or not.

    Raises
    ------
    OutputError
        With what the rows may take and what is free, before any block is yielded.
    """
    for count, block in enumerate(blocks):
        if not count and rows and len(block.split):
            needed = rows * stored_bytes(block) // len(block.split)
            check_space(address, needed + CHUNK_BYTES, f"{rows:,} rows")
        yield block


def stored_bytes(block: Block) -> int:
    """Return the bytes that a store takes for a block, about: floats are not packed."""
    features = np.ascontiguousarray(block.features)
    size = features.nbytes
    if features.dtype.kind != "f" and size:
        part = memoryview(features.reshape(-1).view(np.uint8))[:SAMPLE_BYTES]  # type: ignore[arg-type]
        size = size * len(zlib.compress(part, 1)) // len(part)
    return size + np.asarray(block.labels).nbytes + block.split.nbytes
