"""Sealed objects: what a store says of itself, with a checksum over it and over where it lies.

An object begins with a line, ``dskrobust KIND FORMAT CHECKSUM LENGTH``; its content follows. The
checksum covers kind, format, key and content, so that an object that was changed, cut off or put in
another one's place is an error that names it.
"""

from __future__ import annotations

import json
from shlex import quote
from typing import Any, TypeVar

import google_crc32c
import msgspec

from ..errors import DamagedStoreError, Hint, StoreError
from .objects import Objects

NAME = b"dskrobust"
OLD_DATA = ("zarr.json", "features", "labels", "split", "ids", "checksums", "center")
DATA = ("states", "segments", *OLD_DATA)
MARK = ".made"  # beside a record: it was there
SHEET = ".decisions"  # what a reviewer decided
EVALUATION = ".evaluation"  # what the steps of an evaluation are of
FORMAT = 2
MOST_HEADER = 200

T = TypeVar("T")


def seal(kind: str, key: str, content: bytes) -> bytes:
    """Return the bytes of an object of some kind at some key."""
    return _header(kind, FORMAT, key, content) + b"\n" + content


def _header(kind: str, form: int, key: str, content: bytes) -> bytes:
    """Return the first line of a sealed object, without its end."""
    crc = _checksum(kind, form, key, content)
    return b"%s %s %d %08x %d" % (NAME, kind.encode(), form, crc, len(content))


def unseal(kind: str, key: str, data: bytes, url: str) -> bytes:
    """Return the content of a sealed object.

    Raises
    ------
    DamagedStoreError
        Where it is not what was written; it is named.
    StoreError
        Where a later version wrote it.
    """
    header, _, content = data.partition(b"\n")
    parts = header.split(b" ") if len(header) <= MOST_HEADER else []
    if len(parts) != 5 or parts[0] != NAME:
        raise damaged_object(url, key, "is not what was written")
    try:
        said, form, length = parts[1].decode(), int(parts[2]), int(parts[4])
    except ValueError as error:
        raise damaged_object(url, key, "is not what was written") from error
    if len(content) != length:
        raise damaged_object(url, key, f"has {len(content)} of {length} bytes")
    if header != _header(said, form, key, content):  # bit by bit: hexadecimal digits have two cases
        raise damaged_object(url, key, "was changed after it was written")
    if form != FORMAT:
        raise StoreError(
            f"{key} of {url} is of store format {form}, this version reads {FORMAT}; use the "
            "version of dskrobust that wrote it"
        )
    if said != kind:
        raise damaged_object(url, key, f"is a {said}, not a {kind}")
    return content


def is_cut_off(data: bytes) -> bool:
    """Whether bytes are only the beginning of a sealed object, as a write leaves that is killed."""
    header, line, content = data.partition(b"\n")
    if not line:
        return len(header) <= MOST_HEADER and header.startswith(NAME[: len(header)])
    length = header.rpartition(b" ")[2]
    return header.startswith(NAME) and length.isdigit() and len(content) < int(length)


def damaged_object(url: str, key: str, what: str) -> DamagedStoreError:
    """Build the error that names a damaged object."""
    return DamagedStoreError(f"object '{key}' of {url} {what}", remedy_of(url, key))


def damaged_node(url: str, key: str) -> DamagedStoreError:
    """Build the error that names damaged Zarr metadata, which the store's records know."""
    return DamagedStoreError(
        f"object '{key}' of {url} is missing or was changed", repair(url, "writes it again")
    )


def repair(url: str, does: str) -> Hint:
    """Return what repairs a store, and what that does."""
    return Hint(
        f"verify_store({url!r}, repair=True) {does}",
        f"`dskrobust verify {quote(url)} --repair` {does}",
    )


def remedy_of(url: str, key: str) -> Hint:
    """Return what to do about damage: what was computed can be made again, data cannot."""
    if key.partition("/")[0] in DATA:
        return Hint(*["write the store again from its source"] * 2)
    if key.endswith(EVALUATION):
        return Hint(*["run the same evaluation again, which writes it anew"] * 2)
    what = "review those rows" if key.endswith(SHEET) else "make it"
    return repair(url, f"removes it; then {what} again")


def kind_of(data: bytes) -> str:
    """Return the kind that a sealed object says it is; "" where it says nothing."""
    parts = data[:MOST_HEADER].partition(b"\n")[0].split(b" ")
    return parts[1].decode(errors="replace") if len(parts) == 5 else ""


def _checksum(kind: str, form: int, key: str, content: bytes) -> int:
    crc = google_crc32c.value(f"{kind} {form} {key}\n".encode())
    return int(google_crc32c.extend(crc, content))


def write_record(objects: Objects, kind: str, key: str, record: Any) -> None:
    """Write a typed record (or plain values) as a sealed object, and a mark that it was written."""
    objects.write(key, seal(kind, key, encoded(record)))
    objects.write(f"{key}{MARK}", b"")


def drop_record(objects: Objects, key: str) -> None:
    """Remove a record with its mark."""
    objects.drop(f"{key}{MARK}")
    objects.drop(key)


def read_record(objects: Objects, kind: str, key: str, of: type[T]) -> T | None:
    """Return a typed record, None where there never was one.

    Raises
    ------
    DamagedStoreError
        Naming the object, and the field where a value is impossible; also where it was lost.
    """
    data, url = objects.read(key), objects.address.url
    if data is None:
        if objects.read(f"{key}{MARK}") is not None:
            raise damaged_object(url, key, "is missing")
        return None
    return decoded(unseal(kind, key, data, url), of, key, url)


def encoded(record: Any) -> bytes:
    """Return a record as JSON."""
    plain = msgspec.to_builtins(record, enc_hook=_plain)
    return json.dumps(plain, ensure_ascii=False).encode()


def decoded(content: bytes, of: type[T], key: str, url: str) -> T:
    """Return the record that JSON holds.

    Raises
    ------
    DamagedStoreError
        Naming the object and the field.
    """
    try:
        return msgspec.convert(json.loads(content), of, str_keys=True)
    except (ValueError, RecursionError) as error:  # of JSON; msgspec's are ValueErrors too
        raise damaged_object(url, key, f"cannot be understood: {error}") from error


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return value.tolist()
    raise TypeError(f"{value!r} cannot be kept in a store")
