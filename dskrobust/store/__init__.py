"""The Zarr store: features, labels, split and results. The only importer of zarr."""

from .creation import append_rows, check_names, create_store, default_spec, open_array, write_store
from .dataset import SourceAddress, Store, StoredArray, is_zarr, open_store
from .evaluations import EvaluationRecords, evaluation_records, find_evaluations
from .memo import TileMemo
from .prefixes import PREFIX_ROWS, PrefixArrays, load_basis, save_basis
from .results import ResultTables, ResultWriter, current_results, find_results, matching
from .spec import Block, GroupSummary, LazyRows, StoreSpec, Summary, summarise
from .writing import (
    ARRAYS,
    Layout,
    Written,
    commit_segment,
    create_empty,
    grow,
    layout_of,
    write_rows,
)

__all__ = [
    "ARRAYS",
    "PREFIX_ROWS",
    "Block",
    "EvaluationRecords",
    "GroupSummary",
    "Layout",
    "LazyRows",
    "PrefixArrays",
    "ResultTables",
    "ResultWriter",
    "SourceAddress",
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
    "create_store",
    "current_results",
    "default_spec",
    "evaluation_records",
    "find_evaluations",
    "find_results",
    "grow",
    "is_zarr",
    "layout_of",
    "load_basis",
    "matching",
    "open_array",
    "open_store",
    "save_basis",
    "summarise",
    "write_rows",
    "write_store",
]
