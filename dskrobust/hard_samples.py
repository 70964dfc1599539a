"""Instance hardness as tables: of all samples, of the hardest few, and of every class."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute
from numpy.typing import NDArray

from . import display
from .export import ID, NAMED_ROWS, with_ids
from .ids import held_ids
from .labels import label_names
from .records import BLOCK_ROWS, as_records, summed

if TYPE_CHECKING:
    import pandas as pd

HARD = 0.5  # kDN above which a vote of the k nearest is against the label
COUNTED = ("hard", "enemy_nearest", "tomek")
RECORD_BYTES = 300  # of a sample in a block: its columns, as a record, and in order
TABLE_BYTES = 1_000  # of a sample or a class in a table, as texts too
CARD_ROWS = 10  # of a table in a notebook


def hardness_records(found: Any) -> da.Array:
    """Return one record a sample, (n,), of its group, label and measures; lazy."""
    names = ("split", "label", *found.measures)
    columns = {name: getattr(found, name) for name in names}
    return as_records(columns, stored=found.searches is None)


def hardest_records(found: Any, count: int) -> da.Array:
    """Return the records (count,) of the largest kDN, then of the largest N2; lazy.

    Ties by row number; what is not known comes last.
    """
    records, pick = hardness_records(found), partial(_hardest, count=count)
    return da.reduction(
        records, pick, pick, combine=pick, axis=0, keepdims=True, dtype=records.dtype,
        meta=np.empty(0, records.dtype), output_size=min(count, len(records)),
    )  # fmt: skip


def _hardest(records: NDArray[np.void], axis: Any, keepdims: bool, count: int) -> NDArray[np.void]:
    order = np.lexsort((records["row"], -records["n2"], -records["kdn"]))
    return records[order[:count]]


def hardness_frames(found: Any) -> Iterator[pd.DataFrame]:
    """Yield the table of all samples in pieces, in the order of their rows, with their ids."""
    records, ids = hardness_records(found), found.ids
    for lo in range(0, found.rows, NAMED_ROWS):
        yield with_ids(hardness_frame(found, records[lo : lo + NAMED_ROWS].compute()), ids)


def hardness_frame(found: Any, records: NDArray[np.void]) -> pd.DataFrame:
    """Return records (k,) as a table."""
    import pandas as pd

    columns: dict[str, Any] = {
        "row": records["row"],
        "split": np.array(found.groups, dtype=object)[records["split"]],
        "label": label_names(records["label"], found.classes),
    }
    columns |= {name: records[name] for name in found.measures}
    link = pd.Series(records["tomek_link"], dtype="Int64")
    columns["tomek_link"] = link.mask(link < 0)
    return pd.DataFrame(columns)


def hardness_memory(count: int, classes: int, tasks: int) -> int:
    """Return how many bytes tables of the hardest samples and of classes hold at most.

    Parameters
    ----------
    count, classes : int
        Rows of both tables.
    tasks : int
        That run at once.
    """
    return tasks * BLOCK_ROWS * RECORD_BYTES + (count + classes) * TABLE_BYTES


def class_hardness(found: Any) -> da.Array:
    """Return of every class of every group how many samples are hard, and how; lazy records.

    Fields are split, label, rows, and of how many of these the k nearest vote against the label
    (hard), the nearest sample has another label (enemy_nearest), and there is a Tomek link (tomek).
    """
    records = hardness_records(found)
    fields = [(name, np.int64) for name in ("rows", *COUNTED)]
    keys = [(name, records.dtype[name]) for name in ("split", "label")]
    of_class = np.dtype(keys + fields)
    return summed(records, _counted, of_class, ("split", "label"))


def _counted(records: NDArray[np.void], kind: np.dtype[Any]) -> NDArray[np.void]:
    made = np.empty(len(records), kind)
    made["split"], made["label"], made["rows"] = records["split"], records["label"], 1
    made["hard"] = records["kdn"] > HARD
    made["enemy_nearest"] = records["n2"] > HARD
    made["tomek"] = records["tomek_link"] >= 0
    return made


def class_frame(found: Any, counts: NDArray[np.void]) -> pd.DataFrame:
    """Return records of classes (c,) as a table, the class with the largest share of hard first."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "split": np.array(found.groups, dtype=object)[counts["split"]],
            "label": label_names(counts["label"], found.classes),
            **{name: counts[name] for name in ("rows", *COUNTED)},
        }
    )
    share = table["hard"] / table["rows"]
    return table.iloc[np.argsort(-share.to_numpy(), kind="stable")].reset_index(drop=True)


def hardness_card(found: Any) -> str:
    """Return what instance hardness shows in a notebook."""
    title = f"Instance hardness of {found.name}"
    subtitle = (
        f"{display.counted(found.rows, 'sample')} in {', '.join(found.groups)}, k = {found.k}"
    )
    if found.lazy_arrays and found.result is None:
        ask = "hardness.compute()" if found.store is None else "hardness.write()"
        hint = display.code("Nothing runs until it is asked for: ", ask)
        return display.card(title, f"{subtitle} · not computed yet", hint)
    worst, counts = compute(
        hardest_records(found, CARD_ROWS), class_hardness(found), scheduler="threads"
    )
    hardest = with_ids(hardness_frame(found, worst), held_ids(found.ids))
    classes = class_rows(class_frame(found, counts), CARD_ROWS)
    return display.card(
        title,
        f"{subtitle} · computed",
        display.caption("Classes, by their share of hard samples"),
        display.table(CLASS_HEAD, classes, text=(0, 1)),
        display.caption("Hardest samples"),
        display.table(*hardest_rows(hardest), text=(1, 2)),
        f"Hard: most of the {found.k} nearest have another label. Useful: lies in so many local "
        "sets. Harmful: nearest enemy of so many.",
    )


CLASS_HEAD = ("group", "class", "samples", "hard", "nearest an enemy", "in Tomek links")


def class_rows(classes: pd.DataFrame, most: int) -> list[tuple[str, ...]]:
    """Return the first classes as texts: numbers, with their shares of the class."""
    rows = []
    for one in classes.head(most).to_dict("records"):
        shares = (f"{one[name]:,} ({one[name] / one['rows']:.1%})" for name in COUNTED)
        rows.append((str(one["split"]), str(one["label"]), f"{one['rows']:,}", *shares))
    return rows


def hardest_rows(hardest: pd.DataFrame) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return the head and the rows of hard samples as texts; those with ids have them first."""
    named = hardest.index.name == ID
    table = hardest.reset_index() if named else hardest
    own, link = (ID, f"tomek_link_{ID}") if named else ("row", "tomek_link")
    names = (own, "split", "label", "kdn", "n2", "reach", "local_set", "usefulness",
             "harmfulness", link)  # fmt: skip
    cells = table[list(names)].astype(object)
    plain = cells.where(cells.notna(), None).to_numpy()
    head = (own, "group", "class", "kDN", "N2", "reach", "local set", "useful", "harmful", "Tomek")
    return head, [[_shown(cell) for cell in row] for row in plain]


def _shown(cell: Any) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return display.number(cell)
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
