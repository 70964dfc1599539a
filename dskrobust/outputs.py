"""Files that are written for the user: whole or not at all, here or where fsspec can write."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from .errors import InvalidOptionError
from .paths import behind_links, expand, local_path


def check_output(address: str | Path, ends: Sequence[str] = ()) -> Path | str:
    """Return the path or URL of a file that can be written; refuse others before work is done.

    Parameters
    ----------
    address : str or Path
        A path or an fsspec URL.
    ends : sequence of str
        Of which its name must have one.

    Raises
    ------
    InvalidOptionError
        For another end, a folder that does not exist, or a file system that nobody knows.
    """
    text, path = expand(address), local_path(address)
    if ends and not text.lower().endswith(tuple(ends)):
        raise InvalidOptionError(f"{text} must end in {', '.join(ends)}, which says the format")
    if path is not None and not path.parent.is_dir():
        raise InvalidOptionError(f"there is no folder {path.parent} to write {path.name} into")
    if path is None:
        import fsspec

        with _named(text):
            fsspec.core.url_to_fs(text)
    return text if path is None else path


@contextmanager
def whole_file(address: str | Path) -> Iterator[Path]:
    """Yield the local file to write; only once it is complete it takes its place.

    Raises
    ------
    InvalidOptionError
        Where an fsspec URL cannot be written.
    """
    path = local_path(address)
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / PurePosixPath(str(address)).name
            yield part
            _send(part, str(address))
        return
    path = behind_links(path)  # a link stays one
    part = path.with_name(f"{path.name}.partial")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _send(part: Path, address: str) -> None:
    import fsspec

    with _named(address), part.open("rb") as file, fsspec.open(address, "wb") as out:
        shutil.copyfileobj(file, out, 2**20)


@contextmanager
def _named(address: str) -> Iterator[None]:
    """Name the address in whatever a file system raises; each has its own exceptions."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InvalidOptionError(f"{address} cannot be written: {said}") from error
