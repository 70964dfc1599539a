"""Append rows of any source to a store: columns, classes and groups matched by their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..declared_types import checked_arguments
from ..display import listed
from ..errors import Hint, InvalidDataError, InvalidOptionError
from ..labels import one_spelling
from ..paths import expand_path
from ..store import (
    Block,
    Layout,
    Store,
    StoreSpec,
    append_rows,
    open_store,
    summarise,
    writing_memory,
)
from . import online_news
from .images import images_like
from .new_rows import number_texts
from .opening import is_table, open_reader, source_name
from .preparation import Preparation
from .reader import Reader, ReaderKeywords, ReaderOptions, constant_split
from .room import with_room
from .tables import CSV_ENDS

Columns = NDArray[np.int64] | None


@checked_arguments("what")
def append(
    store: Store | str | Path,
    what: str | os.PathLike[str],
    source: str | Path | None = None,
    *,
    group: str | None = None,
    progress: Callable[[int], None] | None = None,
    remark: Callable[[str], None] | None = None,
    options: ReaderOptions | None = None,
    **keywords: Unpack[ReaderKeywords],
) -> Store:
    """Append the rows of a data set or file to a store; a kill leaves the store as it was.

    Classes and groups are matched by their names, and new ones are added behind the store's; so
    are the columns of tables. Where the store's values were scaled (Online News), new rows in
    their own units are scaled with the bounds that the store recorded, and may leave [0, 1].

    Parameters
    ----------
    store : Store or str
        An opened store, or its address.
    what : str or path
        What is read, as for `ingest`.
    source : path, optional
        Folder of the official files, as for `ingest`.
    group : str, optional
        Group of all new rows, an old or a new one; needed where the source has no groups, unless
        the store has none either.
    progress : callable, optional
        Called with the number of rows after each write.
    remark : callable, optional
        Called with what nobody said but the source showed, a line each: the delimiter of a CSV
        file, or the files of a folder of images that are left out.
    options : ReaderOptions, optional
        Of the reader, instead of the keywords below.
    **keywords : str, float, int, bool or mapping
        Options of the reader by name, as for `ingest`. Names of arrays and columns, the label kind,
        and how images were resized or turned grey are those of the store's own source where the
        options do not say otherwise.

    Raises
    ------
    InvalidDataError
        Where columns, labels or scale do not fit the store, or a new group has one label only.
    InvalidOptionError
        Where the group is missing or empty.
    StoreError
        Where the store only links to its arrays.
    OutputError
        Where the disk has no room for the rows.
    """
    more = more_rows(store, what, source, group, ReaderOptions.of(options, keywords))
    if remark is not None:
        for line in more.reader.remarks:
            remark(line)
    return more.append(progress)


def more_rows(
    store: Store | str | Path,
    what: str | os.PathLike[str],
    source: str | Path | None,
    group: str | None,
    options: ReaderOptions,
) -> MoreRows:
    """Open the rows that `append` takes, and match their names with the store's."""
    if group == "":
        raise InvalidOptionError("the name of a group must not be empty")
    store, name = open_store(store), source_name(what)
    reader = _open(store.spec, name, source, options)
    return MoreRows(store, reader, match(store.spec, reader.spec, name, group))


def _open(spec: StoreSpec, what: str, source: str | Path | None, options: ReaderOptions) -> Reader:
    """Open the source with the names that the store's own source had."""
    if options.drawn.asked:
        raise InvalidOptionError(
            "no split of rows that are appended is drawn",
            Hint("give all of them a group with group=NAME", "give all of them one with --into"),
        )
    for name in ("impute", "encode"):
        if getattr(options, name) is not None:
            raise InvalidOptionError(
                f"{name}={getattr(options, name)!r}: rows that are appended are prepared as those "
                f"of {spec.name} were; leave it away, or ingest all rows again"
            )
    options = _like_before(spec, what, source, options)
    options = replace(options, prepare="none")  # nothing is fitted anew
    if spec.scaling is not None:
        return _open_scaled(spec, what, source, options)
    if spec.preparation is not None:
        known = Preparation.from_json(spec.preparation)
        reader = open_reader(what, source, replace(options, preparation=known))
        if reader.spec.preparation is None:
            raise InvalidDataError(
                f"the columns of {spec.name} were prepared (filled, encoded or scaled): append the "
                "rows as a table, a CSV or Parquet file, with the columns as they were"
            )
        return reader
    reader = open_reader(what, source, options)
    for column in (reader.spec.preparation or {}).get("columns", ()):
        if column.get("unit"):
            raise InvalidDataError(
                f"{what}: column '{column['name']}' holds numbers with {column['unit']}, but with "
                f"no unit in the rows of {spec.name}; write them as there"
            )
    return reader


def _open_scaled(
    spec: StoreSpec, what: str, source: str | Path | None, options: ReaderOptions
) -> Reader:
    """Open more rows of Online News, whose labels are scaled too."""
    path = source if what == "online-news" else what
    if path is None or (what != "online-news" and not what.lower().endswith(CSV_ENDS)):
        raise InvalidOptionError(
            f"the values in {spec.name} were scaled: append the rows in their own units, as a CSV "
            "file with the official columns",
            Hint("that is online-news, source=FILE.csv", "that is online-news --source FILE.csv"),
        )
    return online_news.open_more(expand_path(path), spec, options)


def _like_before(
    spec: StoreSpec, what: str, source: str | Path | None, options: ReaderOptions
) -> ReaderOptions:
    origin, default = spec.provenance, ReaderOptions()
    known: dict[str, Any] = {}
    if options.labels is None and spec.label_kind != "categorical":
        known["labels"] = spec.label_kind
    end = "".join(Path(what).suffixes).lower()
    if end.endswith(".h5ad") and options.x == default.x:
        known["x"] = origin.get("x", default.x)
    if options.target is None and (end.endswith(".h5ad") or is_table(what, source)):
        known["target"] = origin.get("target")
    if end.endswith((".npz", ".h5", ".hdf5")):
        names = zip(("x", "y"), origin.get("arrays", ())[:2], strict=False)
        known |= {n: v for n, v in names if getattr(options, n) == getattr(default, n)}
    if spec.image_shape and expand_path(what).is_dir():
        known |= {n: v for n, v in images_like(spec).items() if getattr(options, n) is None}
    return replace(options, **known)


# -- matching names --------------------------------------------------------------------------


@dataclass
class Matched:
    """How a reader's rows become a store's rows.

    Attributes
    ----------
    groups : tuple of str
        The store's groups with new ones behind them.
    classes : tuple of str, optional
    columns : ndarray of int, optional
        Position in the reader's rows of every column of the store.
    group_codes, label_codes : ndarray of int, optional
        The store's code for every one of the reader's codes.
    group : int, optional
        The code of the group that takes all rows.
    numbered : bool
        Whether the reader's numbers are names of the store's classes.
    first_new : int
        Code of the first new group.
    """

    groups: tuple[str, ...]
    classes: tuple[str, ...] | None
    columns: Columns
    group_codes: NDArray[np.int16] | None
    label_codes: NDArray[np.int64] | None
    group: int | None
    numbered: bool
    first_new: int
    varied: dict[int, tuple[float, ...] | None] = field(default_factory=dict)

    def blocks(self, reader: Reader) -> Iterator[Block]:
        """Yield the reader's blocks as the store has its own.

        Raises
        ------
        InvalidDataError
            At the end, where a new group has one label: then nothing becomes part of the store.
        """
        for block in reader.blocks():
            features = block.features if self.columns is None else block.features[:, self.columns]
            matched = Block(
                features, self._labels(block.labels), self._split(block.split), block.ids
            )
            self._watch(matched)
            yield matched
        for code, label in self.varied.items():
            if label is not None:
                raise InvalidDataError(
                    f"all new rows of the new group {self.groups[code]!r} have the same label; "
                    "robustness needs two different labels in every group (paper, 3.1)"
                )

    def _labels(self, labels: NDArray[Any]) -> NDArray[Any]:
        if self.numbered:
            return self._numbers(labels)
        return labels if self.label_codes is None else self.label_codes[labels]

    def _numbers(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Replace numbers by the positions of their texts among the classes, new ones behind."""
        assert self.classes is not None
        known, inverse = np.unique(labels, return_inverse=True)
        names = number_texts(known, self.classes)
        strange = [name for name in names if name not in self.classes]
        if strange:
            raise InvalidDataError(
                f"label {strange[0]} is none of the store's classes {listed(self.classes)}; give "
                "labels as text to add a class"
            )
        return np.array([self.classes.index(name) for name in names], np.int64)[inverse]

    def _split(self, split: NDArray[np.int16]) -> NDArray[np.int16]:
        if self.group is not None:
            return constant_split(len(split), self.group)
        assert self.group_codes is not None
        return self.group_codes[split]

    def _watch(self, block: Block) -> None:
        """Remember the first label of a new group until a second one is seen."""
        if int(block.split.max(initial=0)) < self.first_new:
            return
        for code, group in summarise(block).groups.items():
            if code < self.first_new:
                continue
            first = self.varied.setdefault(code, group.label)
            if group.varied or first != group.label:
                self.varied[code] = None


@dataclass(frozen=True)
class MoreRows:
    """Rows of a source that fit behind those of a store.

    Attributes
    ----------
    store : Store
    reader : Reader
    matched : Matched
    """

    store: Store
    reader: Reader
    matched: Matched

    @property
    def memory(self) -> int:
        """How many bytes appending them holds at most beyond what is held by now."""
        store, rows = self.store, self.reader.rows
        ids = store.row_shape("ids")[1] if store.has_ids else None
        layout = Layout(*store.row_shape("features"), *store.row_shape("labels"), ids)
        return writing_memory(layout, None if rows is None else store.rows + rows)

    def append(self, progress: Callable[[int], None] | None = None) -> Store:
        """Write them, and return the store with them."""
        return append_rows(
            self.store,
            with_room(self.matched.blocks(self.reader), self.reader.rows, self.store.url),
            groups=self.matched.groups,
            classes=self.matched.classes,
            progress=progress,
        )


def match(spec: StoreSpec, new: StoreSpec, what: str, group: str | None = None) -> Matched:
    """Match a reader's names with a store's.

    Parameters
    ----------
    spec, new : StoreSpec
        The store's and the reader's.
    what : str
        What messages call the source.
    group : str, optional
        Group of all new rows.

    Raises
    ------
    InvalidDataError, InvalidOptionError
        Where they do not fit together.
    """
    _check_kinds(spec, new, what)
    if group is None and new.groups == ("all",) and spec.groups != ("all",):
        raise InvalidOptionError(
            f"{what} does not say which group its rows are of: {', '.join(spec.groups)}, or a new "
            "one",
            Hint("name it with group=NAME", "name it with --into NAME"),
        )
    groups = _merged(spec.groups, (group,) if group is not None else new.groups)
    names = np.array([groups.index(name) for name in new.groups if group is None], np.int16)
    classes, codes, numbered = _classes(spec, new, what)
    return Matched(
        groups,
        classes,
        _columns(spec, new, what),
        None if group is not None else names,
        codes,
        None if group is None else groups.index(group),
        numbered,
        len(spec.groups),
    )


def _check_kinds(spec: StoreSpec, new: StoreSpec, what: str) -> None:
    if new.label_kind != spec.label_kind:
        raise InvalidDataError(
            f"{what} has {new.label_kind} labels, {spec.name} {spec.label_kind} ones"
        )
    if new.scale not in (1.0, spec.scale):
        raise InvalidDataError(
            f"features of {what} have the scale {new.scale:.6g}, those of {spec.name} "
            f"{spec.scale:.6g}; give them in the store's units"
        )
    if new.image_shape and spec.image_shape and new.image_shape != spec.image_shape:
        raise InvalidDataError(
            f"images of {what} have the shape {new.image_shape}, those of {spec.name} "
            f"{spec.image_shape}"
        )


def _columns(spec: StoreSpec, new: StoreSpec, what: str) -> Columns:
    """Return where the store's columns are among the reader's, where both have names."""
    old, names = spec.feature_names, new.feature_names
    if old is None or names is None or old == names:
        return None
    missing = [name for name in old if name not in names]
    extra = [name for name in names if name not in old]
    if missing or extra:
        parts = [f"{word} {listed(some)}" for word, some in
                 (("lacks", missing), ("has besides", extra)) if some]  # fmt: skip
        raise InvalidDataError(
            f"the columns of {what} are not those of {spec.name}: it {' and '.join(parts)}"
        )
    return np.array([names.index(name) for name in old], np.int64)


def _classes(
    spec: StoreSpec, new: StoreSpec, what: str
) -> tuple[tuple[str, ...] | None, NDArray[np.int64] | None, bool]:
    """Return all classes, the store's code for each of the reader's, and whether it has numbers."""
    if spec.classes is None and new.classes is None:
        return None, None, False
    if spec.classes is None:
        assert new.classes is not None
        try:
            return None, np.array([int(name) for name in new.classes], np.int64), False
        except ValueError as error:
            raise InvalidDataError(
                f"labels of {what} are text ({listed(new.classes)}), those of {spec.name} numbers; "
                "write the numbers that they stand for"
            ) from error
    if new.classes is None:
        return spec.classes, None, True
    called = one_spelling(new.classes, what, spec.classes)
    classes = _merged(spec.classes, list(called.values()))
    return classes, np.array([classes.index(called[n]) for n in new.classes], np.int64), False


def _merged(old: tuple[str, ...], new: Sequence[str]) -> tuple[str, ...]:
    """Return the old names with the new ones behind them."""
    return (*old, *(name for name in dict.fromkeys(new) if name not in old))
