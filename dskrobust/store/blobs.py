"""Small checked arrays in a store: one sealed object each, whole or not there.

Whatever is killed when, a blob has all its values; one that was changed is an error that names it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedStoreError
from ..processes import ProcessLock
from . import format1
from .objects import Address, Objects
from .seals import damaged_object, seal, unseal

KIND = "blob"
END = ".blob"
# NumPy reads headers by `ast`, which in CPython 3.11 raises SystemError in several threads at once
_one_at_a_time = ProcessLock()


@cache
def _zstd() -> Any:
    """Return the codec, whose library arrays in memory do not need."""
    from numcodecs import Zstd

    return Zstd(level=1)


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

    @property
    def objects(self) -> Objects:
        """All objects of the store."""
        return Objects(self.address)

    def key(self, name: str) -> str:
        """Return the key of a blob."""
        return f"{self.path}/{name}{END}"

    def names(self) -> list[str]:
        """Return the names of all blobs in the folder, damaged or not."""
        found = self.objects.names(self.path)
        new = [name.removesuffix(END) for name in found if name.endswith(END)]
        return sorted({*new, *format1.blob_names(self.address, self.path, found)})

    def read(self, name: str) -> NDArray[Any] | None:
        """Return a blob, None where there is none.

        Raises
        ------
        DamagedStoreError
            Where it is not what was written; it is named.
        """
        key, data = self.key(name), self.objects.read(self.key(name))
        if data is None:
            return format1.read_blob(self.address, f"{self.path}/{name}")
        content = unseal(KIND, key, data, self.address.url)
        try:
            return _load(_zstd().decode(content))
        except (ValueError, RuntimeError, EOFError) as error:
            raise damaged_object(self.address.url, key, f"cannot be read: {error}") from error

    def whole(self, name: str) -> NDArray[Any] | None:
        """Return a blob that can be made again: None also where it is damaged."""
        try:
            return self.read(name)
        except DamagedStoreError:
            return None

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Write a blob, in place of one that is there."""
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        key = self.key(name)
        self.objects.write(key, seal(KIND, key, bytes(_zstd().encode(buffer.getbuffer()))))

    def write_once(self, name: str, values: NDArray[Any]) -> None:
        """Write a blob whose name says which values they are, unless it is there."""
        if self.whole(name) is None:
            self.write(name, values)

    def drop(self, name: str = "") -> None:
        """Remove a blob or a folder in this one; all of it without a name."""
        if name:
            self.objects.drop(self.key(name))
        self.objects.drop(f"{self.path}/{name}".rstrip("/"))


def pack(values: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Return named arrays as the bytes of one blob."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **values)
    return np.frombuffer(buffer.getbuffer(), np.uint8)  # no copy


def unpack(packed: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a blob."""
    content = packed.tobytes()
    with _one_at_a_time, np.load(io.BytesIO(content), allow_pickle=False) as named:
        return dict(named)


def _load(content: bytes) -> NDArray[Any]:
    with _one_at_a_time:
        values: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
        return values
