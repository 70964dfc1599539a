"""Frames of any library as Arrow tables, without what encodes their columns."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidDataError
from .containers import is_sparse, pandas_or_none


def as_table(frame: Any, where: str) -> Any:
    """Return a frame as Arrow table, numbers without a copy; index and encodings are dropped."""
    import pyarrow as pa

    if pandas_or_none() is not None and isinstance(frame, pandas_or_none().DataFrame):
        table = _pandas_arrow(frame, where)
    else:
        try:
            table = frame.to_arrow() if hasattr(frame, "to_arrow") else pa.table(frame)
        except Exception as error:  # whatever a library raises for a type that Arrow has not
            said = " ".join(str(error).split())
            raise InvalidDataError(f"{where} has a column that Arrow has not: {said}") from error
    twice = [name for k, name in enumerate(table.column_names) if name in table.column_names[:k]]
    if twice:
        raise InvalidDataError(f"two columns of {where} are called '{twice[0]}'; rename one")
    for k, field in enumerate(table.schema):
        kind = _plain_type(field.type)
        if kind != field.type:
            try:
                table = table.set_column(k, field.name, table.column(k).cast(kind))
            except pa.ArrowException as error:
                raise InvalidDataError(
                    f"{where}: column '{field.name}' holds {field.type}, which is neither numbers "
                    "nor UTF-8 text; encode it first"
                ) from error
    return table


def _plain_type(kind: Any) -> Any:
    """Return the Arrow type whose values stand for those of an encoded one."""
    from pyarrow import large_string, types

    if types.is_dictionary(kind):  # categories are classes by their names
        return _plain_type(kind.value_type)
    if types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    bytes_ = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return large_string() if bytes_ or types.is_string_view(kind) else kind


def _pandas_arrow(frame: Any, where: str) -> Any:
    """Return a pandas frame as Arrow table, or name the column that cannot be taken."""
    import pyarrow as pa

    pandas = pandas_or_none()
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InvalidDataError(f"two columns of {where} are called '{twice}'; rename one")
    for name, dtype in frame.dtypes.items():
        if isinstance(dtype, pandas.SparseDtype):
            raise InvalidDataError(
                f"{where}: column '{name}' is sparse; make it dense: .sparse.to_dense()"
            )
        of = dtype.categories.dtype if isinstance(dtype, pandas.CategoricalDtype) else dtype
        if isinstance(of, (pandas.IntervalDtype, pandas.PeriodDtype)):
            what = "intervals" if isinstance(of, pandas.IntervalDtype) else "periods"
            raise InvalidDataError(
                f"{where}: column '{name}' holds {what}; name them as text, .astype(str), for "
                "labels, or drop the column"
            )
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        cells = next((c for c in (_sparse_cells(frame, n) for n in frame.columns) if c), None)
        said = " ".join(" ".join(map(str, error.args)).split())
        raise InvalidDataError(cells or f"{where} has a column of mixed types: {said}") from error


def _sparse_cells(frame: Any, name: Any) -> str | None:
    """Say that a column holds sparse matrices."""
    if frame[name].dtype != object or not any(map(is_sparse, frame[name])):
        return None
    return f"column '{name}' holds sparse matrices; give them as one array, .toarray()"
