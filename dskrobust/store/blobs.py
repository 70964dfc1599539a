"""Small checked records in a store: arrays that are written in one piece, or are not there.

A blob is an array of one chunk, which is written atomically and whose codec notices every flipped
bit. A missing or damaged one is None to whoever reads it, and is made again.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import ContainsArrayError

from ..errors import DamagedStoreError
from . import arrays, writing


class Address(Protocol):
    """Where a store is."""

    @property
    def url(self) -> str: ...

    @property
    def storage_options(self) -> dict[str, Any]: ...


def open_root(address: Address, mode: str) -> zarr.Group:
    """Open the group of the store at an address."""
    return writing.open_group(address.url, address.storage_options, mode)


@dataclass(frozen=True)
class Blobs:
    """The blobs in one folder of a store.

    Attributes
    ----------
    address : Address
        Of the store.
    path : str
        The folder in it.
    """

    address: Address
    path: str

    def group(self) -> zarr.Group:
        """Open the folder for reading; a KeyError where there is none."""
        group = open_root(self.address, "r")[self.path]
        assert isinstance(group, zarr.Group)
        return group

    def names(self) -> list[str]:
        """Return the names of all blobs in the folder, damaged or not."""
        try:
            return list(self.group().array_keys())
        except KeyError:
            return []

    def read(self, name: str) -> NDArray[Any] | None:
        """Return a blob, None where there is none or a damaged one."""
        try:
            return arrays.read_plain(self._array(name, "r"))
        except (KeyError, ValueError, TypeError, DamagedStoreError):
            return None

    def rows(self, name: str, lo: int, hi: int) -> NDArray[Any]:
        """Return some rows of a blob of several chunks; a KeyError where there is none."""
        return np.asarray(self._array(name, "r")[lo:hi])

    def write(self, name: str, values: NDArray[Any], *, chunk_bytes: int | None = None) -> None:
        """Write a blob; with `chunk_bytes` a large one, in several chunks and uncompressed."""
        shape = values.shape
        if chunk_bytes is not None:
            shape = (max(1, chunk_bytes // values.itemsize), *values.shape[1:])
        self._create(name, values, shape, compress=chunk_bytes is None)

    def write_once(self, name: str, values: NDArray[Any]) -> None:
        """Write a blob whose name says which values they are, unless it is there.

        Of two that do so at once both write the same bytes: neither takes away what the other has
        written.
        """
        if self.read(name) is not None:
            return
        with suppress(KeyError, ValueError, TypeError):  # of metadata that is damaged
            try:
                self._create(name, values, values.shape, overwrite=False)
            except ContainsArrayError:
                self._array(name, "r+")[:] = values
        if self.read(name) is None:
            self.write(name, values)

    def drop(self, name: str = "") -> None:
        """Remove a blob or a folder in this one; all of it without a name."""
        path = f"{self.path}/{name}".rstrip("/")
        with suppress(KeyError, FileNotFoundError):  # another run may be dropping it too
            root = open_root(self.address, "r+")
            if path in root:
                del root[path]

    def _array(self, name: str, mode: str) -> zarr.Array[Any]:
        array = open_root(self.address, mode)[f"{self.path}/{name}"]
        assert isinstance(array, zarr.Array)
        return array

    def _create(
        self, name: str, values: NDArray[Any], chunks: tuple[int, ...], **how: bool
    ) -> None:
        root, path = open_root(self.address, "r+"), f"{self.path}/{name}"
        arrays.create_array(root, path, values.shape, chunks, values.dtype, **how)[:] = values


def pack(values: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Return named arrays as the bytes of one blob."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **values)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def unpack(packed: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a blob."""
    with np.load(io.BytesIO(packed.tobytes()), allow_pickle=False) as named:
        return dict(named)
