"""Files that are written for the user: whole or not at all, here or where fsspec can write."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from .errors import DskrobustError, InvalidOptionError, OutputError, system_reason
from .paths import behind_links, expand, local_path, special_kind

FIGURES = (".svg", ".png", ".pdf")  # ends of files that a figure is drawn into


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
        For another end, a folder that does not exist, a folder or device instead of a file, or a
        file system that nobody knows.
    OutputError
        Where the folder of this machine takes no new file.
    """
    text, path = expand(address), local_path(address)
    if ends and not text.lower().endswith(tuple(ends)):
        one = "one of " if len(ends) > 1 else ""
        raise InvalidOptionError(f"{text} must end in {one}{', '.join(ends)}")
    if path is not None and not path.parent.is_dir():
        raise InvalidOptionError(f"there is no folder {path.parent} to write {path.name} into")
    if path is not None:
        _check_place(path)
    else:
        import fsspec

        with _named(text):
            fsspec.core.url_to_fs(text)
    return text if path is None else path


def is_there(address: str | Path) -> bool:
    """Tell whether something is at a path or an fsspec URL already.

    Raises
    ------
    InvalidOptionError
        Where nobody can look.
    """
    if (path := local_path(address)) is not None:
        return path.exists()
    import fsspec

    with _named(str(address)):
        fs, name = fsspec.core.url_to_fs(str(address))
        return bool(fs.exists(name))


def free_output(address: str | Path, *, overwrite: bool) -> Path | str:
    """Return the path or URL of a file that can be written, and is not there or may be replaced.

    Raises
    ------
    InvalidOptionError, OutputError
    """
    path = check_output(address)
    if not overwrite and is_there(path):
        raise InvalidOptionError(f"{path} is there already; --overwrite replaces it")
    return path


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
    with written_at(path):
        part = _part_of(path)
        try:
            yield part
            part.replace(path)
        finally:
            with suppress(OSError):  # the folder itself may be gone
                part.unlink(missing_ok=True)


@contextmanager
def written_at(address: str | Path) -> Iterator[None]:
    """Name a file or folder in what the system says while it is written.

    Raises
    ------
    OutputError
        With what to do: free some space, write elsewhere. What the system says of other files
        comes as it is.
    """
    try:
        yield
    except (DskrobustError, BrokenPipeError):
        raise
    except OSError as error:
        if error.filename and not _concerns(str(error.filename), Path(address).absolute()):
            raise
        raise OutputError(f"{address} cannot be written: {system_reason(error)}") from error


def _concerns(name: str, address: Path) -> bool:
    """Tell whether a file is this one, lies below it, or beside it or a folder that it is in."""
    file = Path(name).absolute()
    return address in (file, *file.parents) or file.parent in address.parents


def _part_of(path: Path) -> Path:
    """Make the file beside another one that will become it; no two writers have the same."""
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.partial")
    part.touch(exist_ok=False)
    if path.exists():  # what was private stays so
        part.chmod(path.stat().st_mode & 0o777)
    return part


def check_folder(address: str | Path) -> None:
    """Refuse a place where no folder can be made or filled, before anything is computed for it.

    Raises
    ------
    InvalidOptionError
        Where a file is in the way, or the address is none of this machine.
    OutputError
        Where the folder, or the nearest one above that is there, takes no new file.
    """
    path = local_path(address)
    if path is None:
        raise InvalidOptionError(f"{address} must be a folder of this machine, not a URL")
    path = behind_links(path)
    there = next(p for p in (path, *path.parents) if os.path.lexists(p))
    if not there.is_dir():
        raise InvalidOptionError(f"{path}: {there} is no folder; choose another place")
    with written_at(path):
        _part_of(there / "any").unlink()


def _check_place(path: Path) -> None:
    """Refuse what cannot become a file, before anything is computed for it."""
    if path.exists() and (special := special_kind(path.stat().st_mode)):
        raise InvalidOptionError(f"{path} is {special[0]}; name a file to write")
    target = behind_links(path)
    if target.is_symlink() or not target.parent.is_dir():
        raise InvalidOptionError(f"{path} is a link that leads nowhere; remove it")
    with written_at(path):
        _part_of(target).unlink()


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
