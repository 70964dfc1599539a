"""Hugging Face datasets on disk: what `save_to_disk` writes, Arrow streams and JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import PurePosixPath
from typing import Any

from ..errors import InvalidDataError, SourceFileError
from .arrow import Flaw, columns_of
from .columnar import ColumnarFile, PartedTable, common_types
from .places import Place
from .reader import SAVED, ReaderOptions, StreamReader, reads, source_errors
from .splits import NOTHING_DRAWN
from .tables import TABLE_OPTIONS, Source, open_table, opened

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
SPLIT = "split"  # the column that names the split of every row
MEDIA = {"Image": "images", "Audio": "audio", "Video": "videos", "Pdf": "PDF documents"}


def is_saved(folder: Place) -> bool:
    """Return whether a folder is a Dataset or DatasetDict as `save_to_disk` writes them."""
    return any(folder.child(name).is_file() for name in (STATE, SPLITS))


@reads(SAVED)
def open_saved(folder: Place, options: ReaderOptions) -> StreamReader:
    """Return the reader of a Dataset on disk, or of a DatasetDict, whose splits are groups.

    Features of the type ClassLabel are read as the names of their classes.

    Raises
    ------
    SourceFileError
        For files that are missing, truncated or damaged, and for selected or shuffled rows of
        which only the indices are written.
    InvalidDataError
        For columns of images, audio and the like that are not dropped, and for splits that do not
        fit together.
    """
    options.allow("a Hugging Face dataset", *TABLE_OPTIONS)
    splits = _splits(folder)
    features = _features(folder, splits)
    table, options = opened(partial(_parted, folder, splits), options)
    if options.split is None and SPLIT in table.constants[0]:
        options = replace(options, split=SPLIT, drawn=NOTHING_DRAWN)
    saved = SavedTable(table, features)
    source = Source(
        folder.name,
        {
            "reader": "hugging-face",
            "folder": folder.name,
            "parts": len(table.parts),
            "bytes": sum(part.place.size or 0 for part in table.parts),
        },
        saved.classes,
    )
    return open_table(saved, source, options)


# -- files -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SavedSplit:
    """A Dataset on disk.

    Attributes
    ----------
    name : str, optional
        Of the split, where a DatasetDict has it.
    files : tuple of Place
        Arrow streams in the order of the rows.
    features : mapping
        What ``dataset_info.json`` says of the columns.
    """

    name: str | None
    files: tuple[Place, ...]
    features: Mapping[str, Any]

    @classmethod
    def open(cls, name: str | None, folder: Place) -> SavedSplit:
        """Read what the JSON files say."""
        state, info = _record(folder, STATE), _record(folder, INFO)
        if state.get("_indices_data_files"):
            raise SourceFileError(
                f"{folder} holds indices of selected or shuffled rows beside all rows; save it as "
                "dataset.flatten_indices()"
            )
        try:
            files = tuple(_inside(folder, e["filename"]) for e in state["_data_files"])
            features = dict(info.get("features") or {})
        except (KeyError, TypeError, ValueError) as error:
            raise SourceFileError(
                f"{folder}: {STATE} or {INFO} is not as save_to_disk writes it; save it again"
            ) from error
        return cls(name, files, features)


def _inside(folder: Place, name: str) -> Place:
    """Return what is called so in a folder, and never what lies outside of it."""
    if name != PurePosixPath(name).name or name == "..":
        raise SourceFileError(f"{folder} names {name!r}, which does not lie in it; save it again")
    return folder.child(name)


def _record(folder: Place, name: str) -> dict[str, Any]:
    """Read a JSON file of a folder."""
    place = folder.child(name)
    with source_errors(str(place), "JSON"), place.open() as file:
        try:
            found = json.load(file)
        except ValueError as error:
            raise SourceFileError(f"{place} is no JSON file, or a damaged one: {error}") from error
    if not isinstance(found, dict):
        raise SourceFileError(f"{place} holds no record; save the dataset again")
    return found


def _splits(folder: Place) -> tuple[SavedSplit, ...]:
    """Return the splits of a DatasetDict in its order, or the one Dataset."""
    if not folder.child(SPLITS).is_file():
        return (SavedSplit.open(None, folder),)
    names = _record(folder, SPLITS).get("splits")
    if not isinstance(names, list) or not names:
        raise SourceFileError(f"{folder.child(SPLITS)} names no splits; save the dataset again")
    return tuple(SavedSplit.open(str(name), _inside(folder, str(name))) for name in names)


def _features(folder: Place, splits: Sequence[SavedSplit]) -> dict[str, Any]:
    """Return what all splits say of the columns, which must be the same classes."""
    found: dict[str, Any] = {}
    for split in splits:
        for name, feature in split.features.items():
            known = found.setdefault(name, feature)
            if _classes(known) != _classes(feature):
                raise InvalidDataError(
                    f"{folder}: column '{name}' has other classes in the split '{split.name}' than "
                    f"in '{splits[0].name}'; cast both to one ClassLabel"
                )
    return found


def _classes(feature: Any) -> tuple[str, ...]:
    """Return the names of the classes of a feature; none where it is no ClassLabel."""
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return ()
    return tuple(str(name) for name in feature.get("names") or ())


def _parted(
    folder: Place, splits: Sequence[SavedSplit], keep: Sequence[str | None] = ()
) -> PartedTable:
    """Read the schemas of all files; a column names the split, unless there is one of this name."""
    import pyarrow as pa

    parts = tuple(ColumnarFile.open(file, keep) for split in splits for file in split.files)
    if not parts:
        raise SourceFileError(f"{folder} has no rows")
    types = common_types(parts)
    constants: list[Mapping[str, Any]] = [{} for _ in parts]
    if splits[0].name is not None and SPLIT not in types:
        constants = [{SPLIT: split.name} for split in splits for _ in split.files]
        types[SPLIT] = pa.string()
    return PartedTable(str(folder), parts, tuple(constants), types)


# -- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class SavedTable:
    """The rows of a dataset on disk, with classes by their names.

    Attributes
    ----------
    table : PartedTable
    features : mapping
        What ``dataset_info.json`` says of the columns.
    """

    table: PartedTable
    features: Mapping[str, Any]
    sniffed = False

    @property
    def where(self) -> str:
        """What messages call it."""
        return self.table.where

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.table.names

    @property
    def rows(self) -> int:
        """How many all files have."""
        return self.table.rows

    @property
    def remarks(self) -> tuple[str, ...]:
        """As the table's own."""
        return self.table.remarks

    @cached_property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes of the columns that have any."""
        from pyarrow import types

        found = {name: _classes(feature) for name, feature in self.features.items()}
        whole = (name for name, kind in self.table.types.items() if types.is_integer(kind))
        return {name: found[name] for name in whole if found.get(name)}

    @cached_property
    def types(self) -> Mapping[str, Any]:
        """Arrow types of the columns; classes are text."""
        import pyarrow as pa

        return {**self.table.types, **dict.fromkeys(self.classes, pa.string())}

    def flaw(self, name: str) -> Flaw | None:
        """Return what a column holds that no table can make features of."""
        feature = self.features.get(name)
        kind = feature.get("_type") if isinstance(feature, dict) else None
        if kind not in MEDIA:
            return None
        ways = " (a folder of images can be ingested)" if kind == "Image" else ""
        return Flaw(f"holds {MEDIA[kind]}, not numbers{ways}")

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns, file by file."""
        import pyarrow as pa

        first, wanted = 0, {name: self.table.types[name] for name in columns}
        for batch in self.table.batches(wanted):
            arrays = [
                self._named(column, name, first) if name in self.classes else column
                for name, column in columns_of(batch).items()
            ]
            yield pa.record_batch(arrays, names=list(columns))
            first += batch.num_rows

    def _named(self, codes: Any, name: str, first: int) -> Any:
        """Return the names of classes for their codes, shape (b,); −1 stands for none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        names = self.classes[name]
        wrong = pc.fill_null(pc.or_(pc.less(codes, -1), pc.greater_equal(codes, len(names))), False)
        if (at := pc.index(wrong, True).as_py()) >= 0:
            raise InvalidDataError(
                f"{self.where}: row {first + at} has the class {codes[at]} in column '{name}', "
                f"which has {len(names)}: {INFO} or the row is wrong"
            )
        known = pc.if_else(pc.equal(codes, -1), pa.scalar(None, codes.type), codes)
        return pa.array(names, pa.string()).take(known)
