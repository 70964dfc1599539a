"""Notes in words: what is worth saying of what one pass over the data has found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...display import counted, listed
from ...errors import Hint
from ...labels import label_name, nearly_equal
from .. import notes
from ..notes import Note
from ..spec import StoreSpec
from .classes import MOST, ClassCounts
from .columns import ColumnState
from .equal_rows import EqualRows

FEW, MOST_NAMES, MOST_CLASSES, MOST_PAIRS = 3, 5, 12, 100
HALF = 0.5  # share of the mean squared distance beyond which columns decide it
TIMES_OTHERS = 9.0  # their variance over that of the others, on average: three times the spread
SPREADS = 100.0  # largest over least standard deviation
RARE = 0.01  # share of a class; with many classes half of what they would have on average
MANY_LABELS, MANY_SHARE = 50, 0.05  # different whole numbers that are rather no classes
RISING_ROWS = 10  # fewer may rise by chance
SECONDS = (3e8, 4e9)  # since 1970, of dates from 1979 to 2096

STANDARD = Hint(
    'give every column the same spread with scale="standard"',
    "give every column the same spread with --scale standard",
)
ID_NAME = re.compile(
    r"(.*[ _.-])?(id|uuid|guid)|.*[a-z]I[dD]|index|idx|unnamed: ?\d+(\.\d+)?|__index_level_\d+__"
    r"|row|rownames?|row[ _.-]?(nr|no|num|number)|nr|no\.?|serial"
)
TIME_NAME = re.compile(r"(.*[ _.-])?(time|timestamp|datetime|date|ts|epoch|unix)")


@dataclass(frozen=True)
class Found:
    """What one pass over n rows of d columns has found.

    Attributes
    ----------
    rows : int
    columns : ColumnState
    variance : ndarray (d,)
        After the store's scale, up to a common factor.
    spread : ndarray (d,)
        Standard deviations after the store's scale.
    classes : ClassCounts or None
        None where labels are no categories.
    equal : EqualRows
    """

    rows: int
    columns: ColumnState
    variance: NDArray[np.float64]
    spread: NDArray[np.float64]
    classes: ClassCounts | None
    equal: EqualRows


def notes_of(spec: StoreSpec, found: Found) -> tuple[Note, ...]:
    """Return the notes on a store's data, in the order of how much they change distances."""
    made = [Note(notes.READING, decision) for decision in spec.decisions]
    if spec.image_shape is None:  # all pixels have one unit, and a border that never changes
        names = _column_names(spec, len(found.spread))
        made += [*_scale(names, found), *_identifiers(spec, names, found)]
        made += _constant(names, found)
    made += _equal(spec, found)
    if found.classes is not None:
        made += [*_label_kind(spec, found, found.classes), *_classes(spec, found, found.classes)]
    return (*made, *_spelling(spec))


def _column_names(spec: StoreSpec, count: int) -> tuple[str, ...]:
    """Return the columns' names, each in one line."""
    return tuple(" ".join(str(name).split()) for name in spec.column_names(count))


def _share(part: float) -> str:
    if part > 0.999:
        return "over 99.9 %"
    return f"{100 * part:.3g} %"


# -- columns -------------------------------------------------------------------------------------


def _scale(names: Sequence[str], found: Found) -> Iterator[Note]:
    """Columns that decide distances by their scale alone."""
    few, share = _deciding(found.variance)
    chosen = [names[k] for k in few]
    varied = found.spread[found.spread > 0]
    if not len(varied):
        return
    ratio = float(varied.max() / varied.min())
    one_unit = found.columns.low.dtype.itemsize == 1  # bytes, as of pictures
    wide = ratio > SPREADS and not one_unit
    parts = []
    if chosen:
        verb = "makes" if len(chosen) == 1 else "make"
        part = f"{verb} up {_share(share)} of the mean squared distance between rows"
        parts.append(f"{_counted(chosen)} {part}")
    if wide:
        low = names[int(np.where(found.spread > 0, found.spread, np.inf).argmin())]
        high = names[int(found.spread.argmax())]
        parts.append(
            f"standard deviations go from {varied.min():.3g} ({low}) to {varied.max():.3g} ({high})"
        )
        chosen = chosen or [high]
    if parts:
        details = {"share": share if len(few) else 0.0, "spreads": ratio}
        yield Note(notes.SCALE, ", and ".join(parts), STANDARD, tuple(chosen), details=details)


def _deciding(variance: NDArray[np.float64]) -> tuple[NDArray[np.intp], float]:
    """Return up to FEW columns that make up more than half of all variance, and their share.

    They end where variances fall most. None where they spread less than three times as wide as
    the others do: of two or three like columns one always has half.
    """
    total = float(variance.sum())
    order = np.argsort(-variance, kind="stable")
    best, widest, share = 0, 0.0, 0.0
    for count in range(1, min(FEW, len(variance) - 1) + 1):
        part = float(variance[order[:count]].sum())
        others = max(total - part, 0.0) / (len(variance) - count)
        next_one = float(variance[order[count]])
        fall = float(variance[order[count - 1]]) / next_one if next_one else np.inf
        if part > HALF * total and part / count >= TIMES_OTHERS * others and fall > widest:
            best, widest, share = count, fall, min(part / total, 1.0)
    return order[:best], share


def _counted(columns: Sequence[str]) -> str:
    word = "column" if len(columns) == 1 else f"{len(columns)} columns:"
    if len(columns) == 1 and columns[0].startswith("column "):
        return columns[0]
    return f"{word} {listed(columns)}"


def _identifiers(spec: StoreSpec, names: Sequence[str], found: Found) -> Iterator[Note]:
    """Columns that number the rows, or are called so."""
    constant = found.columns.constant
    for k, name in enumerate(names):
        why = None if constant[k] else _number_like(spec, name, k, found)
        if why is not None:
            remedy = _left_out(name) if spec.feature_names else _NO_FEATURE
            yield Note(notes.IDENTIFIER, f"{_counted([name])} {why}", remedy, (name,))


_NO_FEATURE = Hint(*["leave it out of the features"] * 2)


def _left_out(name: str) -> Hint:
    drop, beside = "leave it out with", "or keep it beside the rows with"
    return Hint(
        f"{drop} drop={name!r}, {beside} id={name!r}",
        f"{drop} --drop {quote(name)}, {beside} --id {quote(name)}",
    )


def _number_like(spec: StoreSpec, name: str, column: int, found: Found) -> str | None:
    """Return why a column may say which row it is rather than what it is like."""
    rises, falls, never_falls, _ = found.columns.steps[:, column]
    only = len(found.spread) == 1
    if found.rows >= RISING_ROWS and (rises or falls) and not only:
        return f"{'rises' if rises else 'falls'} with every row, as a number of the rows does"
    if not spec.feature_names:
        return "holds times that rise with the rows" if _rising_times(column, found) else None
    if is_id_name(name):
        return "is called like an identifier"
    timely = TIME_NAME.fullmatch(name.lower()) and never_falls and found.rows >= RISING_ROWS
    if not only and (timely or _rising_times(column, found)):
        return "holds times that rise with the rows"
    return None


def is_id_name(name: str) -> bool:
    """Tell whether a column is called as columns are that name or number the rows."""
    return bool(ID_NAME.fullmatch(name) or ID_NAME.fullmatch(name.lower()))


def _rising_times(column: int, found: Found) -> bool:
    """Whether values are seconds (or milli-, micro-, nanoseconds) since 1970 and never fall."""
    if found.rows < RISING_ROWS or not found.columns.steps[2, column]:
        return False
    low, high = float(found.columns.low[column]), float(found.columns.high[column])
    return any(
        unit * SECONDS[0] <= low and high <= unit * SECONDS[1] for unit in (1.0, 1e3, 1e6, 1e9)
    )


def _constant(names: Sequence[str], found: Found) -> Iterator[Note]:
    constant = [names[k] for k in np.flatnonzero(found.columns.constant).tolist()]
    if constant and found.rows > 1:
        verb = "is" if len(constant) == 1 else "are"
        text = f"{len(constant):,} of {len(names):,} columns {verb} constant: {listed(constant)}"
        yield Note(
            notes.CONSTANT,
            text,
            columns=tuple(constant[:MOST_NAMES]),
            details={"count": len(constant)},
        )


# -- rows ----------------------------------------------------------------------------------------


def _equal(spec: StoreSpec, found: Found) -> Iterator[Note]:
    """Equal rows; those that also differ in their labels; those in different groups."""
    equal, total = found.equal, found.rows
    if equal.rows:
        text = (
            f"{equal.rows:,} of {total:,} rows ({_share(equal.rows / total)}) equal another one in "
            f"every feature, {equal.repeats:,} would be gone if one of each was kept"
        )
        counts = {"rows": equal.rows, "repeats": equal.repeats}
        yield Note(notes.EQUAL_ROWS, text, details=counts)
    if equal.contradictory:
        rows = counted(equal.contradictory, "row")
        text = f"{rows} with an equal one of another label: the reach is 0"
        yield Note(notes.CONTRADICTIONS, text, details={"rows": equal.contradictory})
    if equal.shared:
        pairs = sorted(equal.shared.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
        named = [(spec.groups[a], spec.groups[b], rows) for (a, b), rows in pairs]
        words = [f"{counted(rows, 'row')} of {a} in {b} too" for a, b, rows in named]
        yield Note(
            notes.SHARED_ROWS,
            "equal rows: " + listed(words, 4),
            _ONE_GROUP,
            details={"pairs": [list(pair) for pair in named]},
        )


_ONE_GROUP = Hint(
    "keep equal rows in one group before models are compared: drop repeats, or split with "
    "group=COLUMN where a column tells what belongs together",
    "keep equal rows in one group before models are compared: drop repeats, or split with --group "
    "COLUMN where a column tells what belongs together",
)


# -- labels --------------------------------------------------------------------------------------


ONE_SPELLING = Hint(*["if they are one, write it in one way and make the store anew"] * 2)


def _spelling(spec: StoreSpec) -> Iterator[Note]:
    """Classes, and groups, that may be one in two spellings."""
    for of, names in (("classes", spec.classes or ()), ("groups", spec.groups)):
        if alike := nearly_equal(names):
            yield Note(
                notes.SPELLING,
                f"the {of} {alike[0]!r} and {alike[1]!r} differ only in case or blanks",
                ONE_SPELLING,
                classes=alike if of == "classes" else (),
                details={"of": of, "names": list(alike)},
            )


def _label_kind(spec: StoreSpec, found: Found, classes: ClassCounts) -> Iterator[Note]:
    """Whole numbers that are taken as classes and may be none."""
    if spec.classes or not (classes.too_many or classes.labels.dtype.kind in "iu"):
        return
    count = len(classes.labels)
    if classes.too_many or (count > MANY_LABELS and count > MANY_SHARE * found.rows):
        many = f"over {MOST:,}" if classes.too_many else f"{count:,}"
        text = (
            f"labels have {many} different values in {found.rows:,} rows and are taken as classes"
        )
        remedy = Hint('labels="real" takes them as numbers', "--labels real takes them as numbers")
        yield Note(notes.LABEL_KIND, text, remedy, details={"count": count})


def _classes(spec: StoreSpec, found: Found, classes: ClassCounts) -> Iterator[Note]:
    """All classes with their sizes, and those that are rare."""
    count = len(classes.labels)
    if not count:
        return
    names = [label_name(label, spec.classes) for label in classes.labels]
    sizes: list[Any] = classes.rows.tolist()
    each = [f"{name}: {rows:,}" for name, rows in zip(names, sizes, strict=True)]
    named = dict(zip(names[:MOST_CLASSES], sizes, strict=False))
    word = "class" if count == 1 else "classes"
    yield Note(
        notes.CLASSES,
        f"{count:,} {word}, {listed(each, MOST_CLASSES)}",
        classes=tuple(named),
        details={"count": count, "rows": named},
    )
    bound = min(RARE, 0.5 / count) * found.rows
    rare = sorted((rows, k) for k, rows in enumerate(sizes) if rows < bound)
    if rare:
        words = [f"{names[k]} has {_share(rows / found.rows)} ({rows:,})" for rows, k in rare]
        few = "class is" if len(rare) == 1 else "classes are"
        yield Note(
            notes.RARE_CLASS,
            f"{len(rare):,} {few} rare: {listed(words)}",
            classes=tuple(names[k] for _, k in rare[:MOST_CLASSES]),
            details={"rows": {names[k]: rows for rows, k in rare[:MOST_CLASSES]}},
        )
