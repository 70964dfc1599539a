"""Text in CSV files: spreadsheets would run a cell that begins like a formula."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MARK = "'"  # before a text that is no formula, as spreadsheets themselves have it
# How formulas begin, also in full-width characters. A text that has marks before it gets one more,
# so that taking one away from every such text gives back what was written.
_FORMULA = f"^{MARK}*[=+\\-@\t\r\n＝＋－＠]"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def harmless(text: str) -> str:
    """Return a text as a cell that nothing runs; numbers stay numbers."""
    return MARK + text if re.match(_FORMULA, text) and not _NUMBER.fullmatch(text) else text


def harmless_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose names and texts are harmless as cells."""
    import pandas as pd

    columns = {
        harmless(str(name)): column
        if pd.api.types.is_numeric_dtype(column)
        else pd.Series(map(_harmless_value, column), column.index, object)  # 1 beside None stays 1
        for name, column in frame.items()
    }
    return pd.DataFrame(columns)


def _harmless_value(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) else value


def harmless_table(table: pa.Table) -> pa.Table:
    """Return a table whose texts are harmless as cells."""
    import pyarrow as pa

    for k, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            table = table.set_column(k, field, _harmless_column(table.column(k)))
    return table


def _harmless_column(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    import pyarrow as pa
    from pyarrow import compute

    begins = compute.match_substring_regex(column, _FORMULA)
    if not compute.any(begins).as_py():
        return column
    texts = column.filter(begins).to_pylist()
    cells = pa.array(map(harmless, texts), column.type, size=len(texts))
    joined = column.combine_chunks()
    return compute.replace_with_mask(joined, begins.combine_chunks(), cells)
