"""The Zarr store: features, labels, split and results. The only importer of zarr."""

from .claims import at_work, exclusive
from .clearing import clear_up
from .creation import (
    SEEN_BY_ALL,
    PartedRows,
    append_rows,
    write_parts,
    write_store,
    writing_memory,
)
from .dataset import SourceAddress, Store, is_zarr, open_store
from .diagnosis import diagnose, is_id_name
from .evaluations import (
    SPAN,
    EvaluationRecords,
    RowRange,
    evaluation_records,
    find_evaluations,
    row_ranges,
)
from .from_arrays import (
    Arrays,
    default_spec,
    link_arrays,
    linking_memory,
    open_array,
    write_arrays,
)
from .inspection import Look, inspect
from .memo import TileMemo
from .notes import RARE_CLASS, READING, SCALE, SHARED_ROWS, Note
from .prefixes import PREFIX_ROWS, PrefixArrays, load_basis, save_basis
from .results import (
    ResultTables,
    ResultWriter,
    current_results,
    find_results,
    matching,
    one_label,
)
from .small_results import keep_small, read_small
from .spec import (
    EMBEDDING,
    Block,
    GroupSummary,
    LazyRows,
    StoreSpec,
    Summary,
    TaskRows,
    lossless,
    summarise,
)
from .stored_array import StoredArray
from .turns import made_once
from .writing import (
    ARRAYS,
    Layout,
    SegmentWriter,
    StorageOptions,
    begin_scratch,
    check_free,
    commit_new,
    layout_of,
)
from .written import Written, fold

__all__ = [
    "ARRAYS",
    "EMBEDDING",
    "Arrays",
    "PREFIX_ROWS",
    "PartedRows",
    "RARE_CLASS",
    "READING",
    "SCALE",
    "SEEN_BY_ALL",
    "SHARED_ROWS",
    "SPAN",
    "Block",
    "EvaluationRecords",
    "GroupSummary",
    "Layout",
    "LazyRows",
    "Note",
    "PrefixArrays",
    "ResultTables",
    "ResultWriter",
    "RowRange",
    "SegmentWriter",
    "SourceAddress",
    "StorageOptions",
    "Store",
    "StoreSpec",
    "StoredArray",
    "Summary",
    "TaskRows",
    "TileMemo",
    "Written",
    "append_rows",
    "at_work",
    "begin_scratch",
    "check_free",
    "clear_up",
    "commit_new",
    "current_results",
    "default_spec",
    "diagnose",
    "evaluation_records",
    "exclusive",
    "find_evaluations",
    "find_results",
    "Look",
    "fold",
    "inspect",
    "is_id_name",
    "is_zarr",
    "keep_small",
    "layout_of",
    "link_arrays",
    "linking_memory",
    "load_basis",
    "lossless",
    "made_once",
    "matching",
    "one_label",
    "open_array",
    "open_store",
    "read_small",
    "row_ranges",
    "save_basis",
    "summarise",
    "write_arrays",
    "write_parts",
    "write_store",
    "writing_memory",
]
