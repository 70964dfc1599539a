"""Arrays that are mapped from a file, as rows that any process reads from the file itself."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceFileError
from ..store import LazyRows


@dataclass(frozen=True)
class MappedRows(LazyRows):
    """A strided array in a file; small enough for every task, mapped while rows are read.

    Attributes
    ----------
    path : Path
    offset : int
        Of the first value, in bytes.
    stored : numpy.dtype
        As values lie in the file; `dtype` is the same in this machine's byte order.
    strides : tuple of int
        Bytes from one row, and one column, to the next.
    """

    path: Path
    offset: int
    stored: np.dtype[Any]
    strides: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi.

        Raises
        ------
        SourceFileError
            Where this process cannot see the file, or the file has become shorter.
        """
        try:
            values = np.memmap(self.path, np.uint8, mode="r")
            rows: NDArray[Any] = np.ndarray(
                self.shape, self.stored, values, self.offset, self.strides
            )
        except (OSError, ValueError, TypeError) as error:
            raise SourceFileError(
                f"{self.path} cannot be read by a worker: {error}; keep the file where all workers "
                "see it, or write a store first (create_store)"
            ) from error
        return np.array(rows[lo:hi], self.dtype)


def mapped(array: Any) -> Any:
    """Return an array that is mapped from a file as `MappedRows`; any other as it is."""
    owner = array
    while isinstance(owner, np.ndarray) and getattr(owner, "_mmap", None) is None:
        owner = owner.base  # views of a memmap are plain arrays
    if not isinstance(owner, np.memmap) or not owner.filename or owner.mode == "c":
        return array  # with mode c, what was changed is not in the file
    if owner.mode != "r":
        owner.flush()
    start = np.frombuffer(owner._mmap, np.uint8).ctypes.data  # type: ignore[attr-defined]
    page = owner.offset - owner.offset % mmap.ALLOCATIONGRANULARITY
    offset = int(array.ctypes.data) - start + page
    native = array.dtype.newbyteorder("=")
    return MappedRows(Path(owner.filename), offset, array.dtype, array.strides, array.shape, native)
