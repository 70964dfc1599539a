"""Zarr's views of folders and file systems; in a module of its own, as Zarr is loaded late."""

from __future__ import annotations

from zarr.core.buffer import Buffer
from zarr.storage import FsspecStore, LocalStore

from ..paths import NO_LINKS

__all__ = ["Files", "FsspecStore"]


class Files(LocalStore):
    """Zarr's view of a folder, also where there are no hard links, by which Zarr creates."""

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        try:
            await super().set_if_not_exists(key, value)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if not await self.exists(key):  # whoever else makes it writes the same
                await self.set(key, value)
