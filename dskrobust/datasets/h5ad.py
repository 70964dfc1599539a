"""AnnData files (.h5ad): a matrix of features, whose labels and groups are columns of obs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..display import meant
from ..errors import Hint, InvalidDataError, InvalidOptionError, SourceFileError
from ..store import StoreSpec
from .arrays import rows_reader
from .hdf5 import MOST_NAMES, Hdf5Rows, opened
from .reader import ReaderOptions, StreamReader, provenance, reads
from .tables import TARGET_NAMES

NULLABLE = ("nullable-integer", "nullable-boolean", "nullable-string-array")
VARIABLES = {"X": "var", "layers": "var", "raw": "raw/var"}  # whose index names a matrix's columns


@reads(".h5ad")
def open_h5ad(path: Path, options: ReaderOptions) -> StreamReader:
    """Return the reader of an AnnData file as anndata writes it since 0.8.

    Features are X, or the dense matrix that the option x names: ``layers/NAME``, ``obsm/NAME`` or
    ``raw/X``. Labels and groups are columns of obs, whose index gives the ids. The matrix is read
    by rows, never as a whole.

    Raises
    ------
    SourceFileError
        For a file that is no AnnData file or an older one, and for a missing matrix.
    InvalidOptionError
        For a column that obs does not have, or where none is named.
    InvalidDataError
        For a sparse matrix, and for a column with missing values.
    """
    options.allow("an .h5ad file", "x", "target", "split", "group")
    with opened(path) as file:
        obs = Frame.open(file, path, "obs")
        features = _matrix(file, path, options.x)
        names = _feature_names(file, path, options.x, features.shape[1])
        target = obs.target(options)
        columns = [obs.column(target, "target")]
        if beside := options.split or options.drawn.group:
            columns.append(obs.column(beside, "split" if options.split else "group"))
        ids = obs.index
    spec = StoreSpec(
        path.stem,
        "categorical",
        feature_names=names,
        provenance=provenance("h5ad", [path], x=options.x, target=target),
    )
    return rows_reader([features, *columns], spec, options, ids)


# -- matrices ----------------------------------------------------------------------------------


def _matrix(file: Any, path: Path, name: str) -> Hdf5Rows:
    """Look up a dense matrix."""
    dense = _dense(file)
    item = file.get(name)
    encoding = "" if item is None else str(item.attrs.get("encoding-type", ""))
    others = ", ".join(dense[:MOST_NAMES]) or "none"
    if encoding.endswith("_matrix") or "h5sparse_format" in getattr(item, "attrs", ()):
        raise InvalidDataError(
            f"matrix '{name}' of {path} is sparse ({encoding or 'of an older format'}), dense ones "
            f"are {others}",
            Hint(
                "name one with x=NAME, or write it dense (.toarray())",
                "name one with --x NAME, or write it dense (.toarray())",
            ),
        )
    if name not in dense:
        raise SourceFileError(
            f"{path} has no dense matrix '{name}' but {others}",
            Hint("name one with x=NAME", "name one with --x NAME"),
        )
    return Hdf5Rows.of(item)


def _dense(file: Any) -> list[str]:
    """Return the names of the matrices that can be features."""
    inside = (
        f"{group}/{name}"
        for group in ("layers", "obsm")
        if hasattr(file.get(group), "keys")
        for name in file[group]
    )
    names = ("X", *inside, "raw/X")
    return [name for name in names if len(getattr(file.get(name), "shape", None) or ()) == 2]


def _feature_names(file: Any, path: Path, name: str, columns: int) -> tuple[str, ...]:
    """Return the names of a matrix's columns: those of var, or NAME[0], … in obsm."""
    first, _, last = name.partition("/")
    if first not in VARIABLES:
        return tuple(f"{last}[{k}]" for k in range(columns))
    frame = Frame.open(file, path, VARIABLES[first])
    index = frame.index
    if index.shape[0] != columns:
        raise InvalidDataError(
            f"matrix '{name}' of {path} has {columns:,} columns, {frame.name} names "
            f"{index.shape[0]:,}; the file is damaged: write it again"
        )
    names = tuple(str(value) for part in index.slices(columns) for value in part)
    twice = next((value for value, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InvalidDataError(
            f"{frame.name} of {path} has the name '{twice}' twice; make the names of columns "
            "unique (adata.var_names_make_unique()) and write it again"
        )
    return names


# -- obs and var -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """A data frame of an opened AnnData file."""

    path: Path
    name: str
    group: Any

    @classmethod
    def open(cls, file: Any, path: Path, name: str) -> Frame:
        """Look up a data frame."""
        group = file.get(name)
        if group is None:
            has = ", ".join(list(file)[:MOST_NAMES]) or "nothing"
            raise SourceFileError(f"{path} is no AnnData file: it has no {name} but {has}")
        index = "" if hasattr(group, "dtype") else group.attrs.get("_index", "")
        if not index or "__categories" in group:
            raise SourceFileError(
                f"{name} of {path} is not as anndata writes it since 0.8; read the file with "
                "anndata.read_h5ad and write it again"
            )
        return cls(path, name, group)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        order = [str(name) for name in self.group.attrs.get("column-order", ())]
        return order or [name for name in self.group if name != self.group.attrs["_index"]]

    @property
    def index(self) -> FrameColumn:
        """What the rows are called."""
        return self._column(str(self.group.attrs["_index"]))

    def target(self, options: ReaderOptions) -> str:
        """Return the name of the label column."""
        likely = [name for name in self.names if name.lower() in TARGET_NAMES]
        if options.target is None and len(likely) == 1:
            return likely[0]
        if options.target is None:
            raise InvalidOptionError(
                f"{self.path}: which column of {self.name} holds the labels? There are "
                f"{self._listed}",
                Hint("name it with target=COLUMN", "name it with --target COLUMN"),
            )
        return options.target

    def column(self, name: str, option: str) -> FrameColumn:
        """Look up a column."""
        if name not in self.names:
            raise InvalidOptionError(
                f"{self.name} of {self.path} has no column '{name}' (option {option}) but "
                f"{self._listed}{meant(name, self.names)}"
            )
        return self._column(name)

    @property
    def _listed(self) -> str:
        names = self.names
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        return (", ".join(names[:MOST_NAMES]) or "none") + more

    def _column(self, name: str) -> FrameColumn:
        item, where = self.group.get(name), f"column '{name}' of {self.name} of {self.path}"
        encoding = "" if item is None else str(item.attrs.get("encoding-type", "array"))
        try:
            if encoding == "categorical":
                categories = Hdf5Rows.of(item["categories"])
                known = categories.read(0, categories.shape[0])
                return FrameColumn(where, Hdf5Rows.of(item["codes"]), known)
            if encoding in NULLABLE:
                return FrameColumn(
                    where, Hdf5Rows.of(item["values"]), empty=Hdf5Rows.of(item["mask"])
                )
        except KeyError as error:
            raise SourceFileError(f"{where} lacks a part; write the file again") from error
        if not hasattr(item, "dtype"):
            what = "is missing" if item is None else f"has the encoding '{encoding}'"
            raise SourceFileError(
                f"{where} {what}; columns are numbers, text or categories: write the file again"
            )
        return FrameColumn(where, Hdf5Rows.of(item))


@dataclass(frozen=True)
class FrameColumn:
    """A column, read by rows.

    Attributes
    ----------
    where : str
        What messages call it.
    values : Hdf5Rows
        The values themselves, or the codes of categories.
    categories : ndarray, optional
    empty : Hdf5Rows, optional
        Where a value is missing.
    """

    where: str
    values: Hdf5Rows
    categories: NDArray[Any] | None = None
    empty: Hdf5Rows | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype if self.categories is None else self.categories.dtype

    def slices(self, step: int) -> Generator[NDArray[Any]]:
        """Yield runs of `step` rows, shape (step,); the last one is shorter."""
        for a in range(0, self.shape[0], step):
            b = min(a + step, self.shape[0])
            values = self.values.read(a, b)
            if self.categories is not None:
                self._refuse(values < 0, a, "has no value; drop the row or fill the value in")
                most = len(self.categories)
                self._refuse(values >= most, a, f"is beyond its {most} categories: write it again")
                values = self.categories[values]
            elif self.empty is not None:
                empty = self.empty.read(a, b).astype(bool)
                self._refuse(empty, a, "has no value; drop the row or fill the value in")
            yield values

    def _refuse(self, wrong: NDArray[np.bool_], first: int, why: str) -> None:
        if wrong.any():
            raise InvalidDataError(f"{self.where}: row {first + int(wrong.argmax())} {why}")
