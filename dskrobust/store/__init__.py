"""The Zarr store: features, labels, split and results. The only importer of zarr."""

from .creation import (
    Arrays,
    append_rows,
    check_names,
    default_spec,
    link_arrays,
    open_array,
    write_arrays,
    write_store,
)
from .dataset import SourceAddress, Store, StoredArray, is_zarr, open_store
from .diagnosis import diagnose, is_id_name
from .evaluations import EvaluationRecords, evaluation_records, find_evaluations
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
from .spec import Block, GroupSummary, LazyRows, StoreSpec, Summary, summarise
from .writing import (
    ARRAYS,
    Layout,
    StorageOptions,
    Written,
    commit_segment,
    create_empty,
    grow,
    layout_of,
    write_rows,
)

__all__ = [
    "ARRAYS",
    "Arrays",
    "PREFIX_ROWS",
    "RARE_CLASS",
    "READING",
    "SCALE",
    "SHARED_ROWS",
    "Block",
    "EvaluationRecords",
    "GroupSummary",
    "Layout",
    "LazyRows",
    "Note",
    "PrefixArrays",
    "ResultTables",
    "ResultWriter",
    "SourceAddress",
    "StorageOptions",
    "Store",
    "StoreSpec",
    "StoredArray",
    "Summary",
    "TileMemo",
    "Written",
    "append_rows",
    "check_names",
    "commit_segment",
    "create_empty",
    "current_results",
    "default_spec",
    "diagnose",
    "evaluation_records",
    "find_evaluations",
    "find_results",
    "grow",
    "is_id_name",
    "is_zarr",
    "layout_of",
    "link_arrays",
    "load_basis",
    "matching",
    "one_label",
    "open_array",
    "open_store",
    "save_basis",
    "summarise",
    "write_arrays",
    "write_rows",
    "write_store",
]
