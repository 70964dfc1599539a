"""Where the values of an HDF5 data set lie: it may lead to other files."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import SourceFileError


def check_sources(path: Path, data_set: Any) -> None:
    """Refuse a data set whose values lie outside of the folder of its file, or in no HDF5 file.

    Who made the file may not read what we may. External links and virtual data sets are followed
    inside the folder.

    Parameters
    ----------
    path : Path
        The file that was named.
    data_set : h5py.Dataset
        One that was found in it, maybe by a link.

    Raises
    ------
    SourceFileError
        Naming the data set and the other file.
    """
    folder, seen, left = path.resolve().parent, set(), [data_set]
    with ExitStack() as stack:
        while left:
            part = left.pop()
            home = Path(part.file.filename).resolve()
            if not home.is_relative_to(folder):
                raise _refusal(path, data_set, f"lies in {home}, out of the folder of its file")
            if part.external:
                name = part.external[0][0]
                raise _refusal(path, data_set, f"has its values in {name}, which is no HDF5 file")
            if part.is_virtual and (home, part.name) not in seen:
                seen.add((home, part.name))
                left += (_source(stack, path, part, each) for each in part.virtual_sources())


def _source(stack: ExitStack, path: Path, part: Any, source: Any) -> Any:
    """Return the data set that a virtual one takes values of."""
    import h5py

    file = part.file
    if source.file_name != ".":
        other = Path(file.filename).resolve().parent / source.file_name
        if not other.is_file():  # HDF5 would fill its values up in silence
            raise _refusal(path, part, f"takes values of {source.file_name}, which is not there")
        file = stack.enter_context(h5py.File(other, "r"))
    found = file.get(source.dset_name)
    if not isinstance(found, h5py.Dataset):
        raise _refusal(path, part, f"takes values of {source.dset_name}, which is no data set")
    return found


def _refusal(path: Path, data_set: Any, what: str) -> SourceFileError:
    return SourceFileError(
        f"data set '{data_set.name}' of {path} {what}; copy it into the file: h5py's "
        "file.create_dataset(NAME, data=other[:])"
    )
