"""How a CSV file is written: what its user says, and what its first lines show."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..declared_types import check_types
from ..errors import Hint, InvalidOptionError, SourceFileError

DELIMITERS = ("\t", ";", "|", ",")  # a comma may be a decimal mark as well: the last choice
WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "pipe", " ": "space"}
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SEPARATED = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # Excel's own line above the header
MOST_RECORDS = 200  # that are looked at


@dataclass(frozen=True)
class CsvOptions:
    """How a CSV file is written; what is None is told from its first lines.

    Attributes
    ----------
    delimiter : str, optional
        Between the columns: one character, or tab, comma, semicolon, pipe or space.
    decimal : {".", ","}, optional
        The decimal mark.
    thousands : str, optional
        Between groups of three digits; empty for none. A column is understood without it where
        all of its values are grouped alike.
    encoding : str, optional
        As Python calls it: utf-8, utf-16, cp1252, latin-1.
    header : bool
        Whether the first line holds the columns' names; without it they are c0, c1 and so on.
    comment : str, optional
        Lines that start with it are left out; empty for none.
    """

    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None
    header: bool = True
    comment: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("delimiter", "thousands"):
            given = getattr(self, name)
            object.__setattr__(self, name, WORDS.get(given, given))
        mark = self.delimiter
        if mark is not None and (len(mark) != 1 or mark in '"\r\n' or not mark.isascii()):
            raise InvalidOptionError(
                f"delimiter must be one ASCII character, as , ; | or tab, not {mark!r}"
            )
        if self.decimal not in (None, ".", ","):
            raise InvalidOptionError(f"decimal must be . or , but is {self.decimal!r}")
        if self.thousands and (len(self.thousands) > 1 or self.thousands.isalnum()):
            raise InvalidOptionError(
                f"thousands must be one character, as , . or space, not {self.thousands!r}"
            )
        if self.decimal is not None and self.decimal == self.thousands:
            raise InvalidOptionError(f"decimal and thousands are both {self.decimal!r}")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError as error:
            raise InvalidOptionError(
                f"there is no encoding {self.encoding!r}; utf-8, utf-16, cp1252 and latin-1 are "
                "frequent ones"
            ) from error


SNIFFED = CsvOptions()


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes
    ----------
    delimiter, decimal, encoding, comment : str
        As in `CsvOptions`.
    thousands : str
        The character that may group digits.
    grouping_given : bool
        Whether `thousands` was given: then groups need not be regular.
    header : bool
    above : int
        Lines above the header: one where Excel says what separates the columns.
    first : tuple of str
        Cells of the first record.
    longest, records : int
        Characters of the longest record, and number of records, among those looked at.
    remarks : tuple of str
        What was told from the first lines, a line each.
    """

    delimiter: str
    decimal: str
    encoding: str
    comment: str
    thousands: str = ""
    grouping_given: bool = False
    header: bool = True
    above: int = 0
    first: tuple[str, ...] = ()
    longest: int = 0
    records: int = 0
    remarks: tuple[str, ...] = ()


def encoding_of(head: bytes, where: str, options: CsvOptions) -> str:
    """Return the encoding that is given, or that the first bytes show."""
    if options.encoding is not None:
        name = codecs.lookup(options.encoding).name
        return "utf-8-sig" if name == "utf-8" and head.startswith(codecs.BOM_UTF8) else name
    for mark, name in BOMS:
        if head.startswith(mark):
            return name
    if b"\0" in head:
        even, odd = head[:200:2].count(0), head[1:200:2].count(0)
        if min(even, odd) == 0 and max(even, odd) > len(head[:200]) // 4:
            return "utf-16-be" if even else "utf-16-le"
        raise SourceFileError(f"{where} holds bytes that are no text; is it a CSV file?")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def decoded(head: bytes, encoding: str, where: str) -> str:
    """Return the text of the first bytes, whose last character may be cut."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError as error:
        raise SourceFileError(
            f"{where} is no text in {encoding} (nor UTF-8): {error}",
            Hint("name its encoding with encoding=NAME", "name its encoding with --encoding NAME"),
        ) from error


def lines_of(text: str) -> list[str]:
    """Return the lines with their ends; only line feeds and carriage returns end one."""
    return list(io.StringIO(text, newline=""))


def records(lines: Sequence[str], delimiter: str, complete: bool) -> list[tuple[int, list[str]]]:
    """Return (characters, cells) of the first records that are whole; quotes hold line breaks.

    A cell beyond the limit of the module csv, or an open quote, ends the list.
    """
    found: list[tuple[int, list[str]]] = []
    reader, at = csv.reader(lines, delimiter=delimiter), 0
    try:
        for cells in reader:
            if reader.line_num == len(lines) and not complete:
                break
            size = sum(map(len, lines[at : reader.line_num]))
            at = reader.line_num
            if cells:
                found.append((size, cells))
            if len(found) == MOST_RECORDS:
                break
    except csv.Error:
        pass
    return found


def sniff(text: str, form: tuple[str, bool], name: str, options: CsvOptions) -> Dialect:
    """Return how a file is written.

    Parameters
    ----------
    text : str
        The file's beginning.
    form : (str, bool)
        Its encoding, and whether that is the whole file.
    name : str
        Of the file; .tsv says tab.
    options : CsvOptions
    """
    encoding, complete = form
    lines = lines_of(text)
    comment = _comment(lines, options)
    lines = without_comments(lines, comment)
    said = SEPARATED.fullmatch(lines[0].rstrip("\r\n")) if lines else None
    lines = lines[1:] if said else lines
    told = said[1] if said else None
    delimiter = options.delimiter or told or _delimiter(lines, complete, name, options.header)
    whole = records(lines, delimiter, complete)
    cells = [row for _, row in whole]
    decimal = options.decimal or _decimal(cells[options.header :], delimiter, options.thousands)
    given = options.thousands
    found = Dialect(
        delimiter,
        decimal,
        encoding,
        comment,
        thousands={".": ",", ",": "."}[decimal] if given is None else given,
        grouping_given=bool(given),
        header=options.header,
        above=int(said is not None),
        first=tuple(cells[0]) if cells else (),
        longest=max((size for size, _ in whole), default=0),
        records=len(whole),
    )
    return replace(found, remarks=_remarks(found, options))


def without_comments(lines: Iterable[str], comment: str) -> list[str]:
    """Return the lines that are no comments; within quotes none is."""
    if not comment:
        return list(lines)
    kept, quotes = [], 0
    for line in lines:
        if quotes % 2 or not line.startswith(comment):
            quotes += line.count('"')
            kept.append(line)
    return kept


def _remarks(found: Dialect, options: CsvOptions) -> tuple[str, ...]:
    said = []
    if options.delimiter is None and found.delimiter != ",":
        said.append(f"columns are separated by {NAMES[found.delimiter]} (option delimiter)")
    if options.decimal is None and found.decimal != ".":
        said.append("the decimal mark is a comma (option decimal)")
    if options.encoding is None and found.encoding not in ("utf-8", "utf-8-sig"):
        said.append(f"the encoding is {found.encoding} (option encoding)")
    if options.comment is None and found.comment:
        said.append(f"lines that start with {found.comment} are comments (option comment)")
    return tuple(said)


def _comment(lines: Sequence[str], options: CsvOptions) -> str:
    """Return what begins a comment: # where the first lines have it, and not as many columns."""
    if options.comment is not None:
        return options.comment
    seen = [line for line in lines[:MOST_RECORDS] if line.strip()]
    marked = [line for line in seen if line.startswith("#")]
    plain = next((line for line in seen if not line.startswith("#")), None)
    if not marked or seen[0] is not marked[0] or plain is None:
        return ""
    likely = max(DELIMITERS, key=plain.count)
    head, row = (len(next(csv.reader([line], delimiter=likely))) for line in (marked[0], plain))
    return "#" if len(marked) > 1 or head != row else ""


def _delimiter(lines: Sequence[str], complete: bool, name: str, header: bool) -> str:
    """Return the character that cuts all of the first records into the same number of cells."""
    if ".tsv" in name.lower():
        return "\t"
    widths = {}
    for delimiter in DELIMITERS:
        counts = {len(cells) for _, cells in records(lines, delimiter, complete)}
        if len(counts) == 1 and max(counts) > 1:
            widths[delimiter] = max(counts)
    if widths:
        return max(widths, key=lambda d: widths[d]) if header else next(iter(widths))
    first = next((line for line in lines if line.strip()), "")
    return max((",", *DELIMITERS), key=first.count)


UNIT_SIGNS = " \u00a0\u202f$€£¥%‰°"  # beside numbers, which show the decimal mark without them
DIGITS = r"[+-]?\d*{mark}\d+([eE][+-]?\d+)?"
GROUPS = r"[+-]?\d{{1,3}}({mark}\d{{3}})+"


def _decimal(rows: Sequence[Sequence[str]], delimiter: str, thousands: str | None) -> str:
    """Return the decimal mark: that of the numbers in the first rows which can only be it."""
    if thousands in (".", ","):
        return {".": ",", ",": "."}[thousands]
    cells = [cell.strip(UNIT_SIGNS) for row in rows for cell in row]
    sure, maybe = {}, {}
    for mark, other in ((".", ","), (",", ".")):
        m, o = re.escape(mark), re.escape(other)
        number = re.compile(f"{DIGITS.format(mark=m)}|{GROUPS.format(mark=o)}{m}\\d+")
        grouped = re.compile(GROUPS.format(mark=m))
        found = [cell for cell in cells if mark in cell and number.fullmatch(cell)]
        maybe[mark] = bool(found)
        sure[mark] = any(not grouped.fullmatch(cell) for cell in found)
    if sure["."] or not maybe[","]:
        return "."
    if sure[","]:
        return ","
    # Only numbers like 1,500: groups of digits in a file with commas between columns.
    return "," if delimiter != "," and not maybe["."] else "."


def is_number(text: str, decimal: str = ".") -> bool:
    """Return whether Python reads a number there."""
    try:
        float(text.replace(decimal, "."))
    except ValueError:
        return False
    return True
