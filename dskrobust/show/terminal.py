"""What commands write for people: lines, tables, histograms, pictures and a progress display.

In a terminal there are colours and one moving line; anywhere else plain lines without control
codes. Results go to standard output, progress and remarks to standard error.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..credentials import without_credentials
from ..display import big as big
from ..display import clock as clock
from ..display import counted as counted
from ..display import digits_of, round_edges, visible
from ..display import moment as moment
from ..display import number as number
from ..display import shown_name as shown_name
from ..display import size as size

if TYPE_CHECKING:
    from .sheets import Cell, Sheet

ACCENT, QUIET, STRONG = "cyan", "bright_black", "bold"
PLAIN_WIDTH = 120  # columns where there is no terminal
MOST_BINS = 14
MOST_CLASSES = 200  # lines of a table
SHADES = " ░▒▓█"
BAR = "█"
BAR_WIDTH, LEAST_BAR = 32, 6  # columns of a bar of progress
EXPENDABLE = ("elapsed", "count", "note")  # of a line of progress that is too long
SPARKS = " ▁▂▃▄▅▆▇█"


def console(*, stderr: bool = False) -> Console:
    """Return a console for the current standard output or error."""
    stream: TextIO | None = sys.stderr if stderr else sys.stdout
    if stream is None:  # closed by whoever started this process
        return Console(file=io.StringIO(), width=PLAIN_WIDTH)
    if isinstance(stream, io.TextIOWrapper) and "utf" not in (stream.encoding or "").lower():
        stream.reconfigure(errors="replace")
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, highlight=False, width=width)


def say(text: str = "", *, style: str = "", stderr: bool = False) -> None:
    """Write one line, never broken; square brackets are only text."""
    console(stderr=stderr).print(Text(_told(text), style), soft_wrap=True)


def fact(name: str, text: str, *, width: int = 12) -> None:
    """Write a line that starts with a quiet name."""
    console().print(Text.assemble((f"{name:<{width}}", QUIET), _told(text)), soft_wrap=True)


def _told(text: str) -> str:
    """Return a line as it may be seen: nothing commands the terminal, addresses hold no keys."""
    return visible(without_credentials(text))


def heading(text: str) -> None:
    """Write a heading with an empty line above."""
    say()
    say(text, style=STRONG)


def show(part: RenderableType) -> None:
    """Write a table or a picture."""
    console().print(part)


def table(*columns: str, text: Sequence[int] = (0,), quiet: Sequence[int] = ()) -> Table:
    """Return an empty table: numbers to the right, columns listed in `text` to the left.

    Where lines are too short, only the columns of text lose some of theirs.
    """
    made = Table(box=box.SIMPLE_HEAD, header_style=QUIET)
    made.pad_edge = False
    for k, name in enumerate(columns):
        style = QUIET if k in quiet else ""
        justify: Literal["left", "right"] = "left" if k in text else "right"
        made.add_column(
            Text(visible(name), no_wrap=True, overflow="ellipsis"),
            justify=justify,
            style=style,
            no_wrap=k not in text,
        )
    return made


def add_row(to: Table, *cells: Any, style: str | None = None) -> None:
    """Add a row of plain texts (or rich ones) to a table."""
    texts = [c if isinstance(c, Text) else Text(visible(str(c))) for c in cells]
    for text in texts:
        text.no_wrap, text.overflow = True, "ellipsis"
    to.add_row(*texts, style=style)


# -- distributions ---------------------------------------------------------------------------


def bin_edges(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return round edges that span all values in at most MOST_BINS equal steps."""
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    return round_edges(low, high, MOST_BINS)


def histogram(values: Mapping[str, NDArray[np.float64]], *, width: int = 28) -> Table:
    """Return bars of how values are distributed, one column per group, all on one scale."""
    edges = bin_edges(list(values.values()))
    counts = {name: np.histogram(v, edges)[0] for name, v in values.items()}
    shares = {name: c / max(1, c.sum()) for name, c in counts.items()}
    largest = max(float(s.max()) for s in shares.values())
    width = max(8, min(width, 60 // len(values)))
    digits = digits_of(edges)
    made = table("R from", *values, text=range(len(values) + 1))
    for k in range(len(edges) - 1):
        cells = [
            Text.assemble((bar(s[k] / largest, width), ACCENT), (f" {s[k]:.1%}", QUIET))
            if counts[name][k]
            else ""
            for name, s in shares.items()
        ]
        add_row(made, f"{edges[k]:.{digits}f}", *cells)
    return made


def bar(share: float, width: int) -> str:
    """Return a bar that fills a share of the width, in eighths of a character, never nothing."""
    eighths = max(1, round(share * width * 8))
    full, rest = divmod(eighths, 8)
    return BAR * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")


def spark(counts: NDArray[Any]) -> str:
    """Return counts as bars of one character each."""
    most = max(1, int(counts.max()))
    return "".join(SPARKS[-(-8 * int(count) // most)] for count in counts)


def label_table(
    subsets: Sequence[str],
    labels: Sequence[str],
    values: NDArray[Any],
    shares: NDArray[np.float64] | None,
    whole: Sequence[bool],
) -> Table:
    """Return labels × subsets: counts with their shares, or quantiles, as in the paper's Table 1.

    Of more than MOST_CLASSES classes the last ones are put together.

    Parameters
    ----------
    values, shares : ndarray (labels, subsets)
    whole : sequence of bool
        Which subsets are whole groups, whose shares say nothing.
    """
    shown = table("quantile" if shares is None else "class", *subsets)
    for k, name in enumerate(labels[:MOST_CLASSES]):
        if shares is None:
            add_row(shown, name, *(f"{v:,.6g}" for v in values[k]))
            continue
        cells = [
            f"{v:,}" if all_ else Text.assemble(f"{v:,}", (f" ({share:.0%})".rjust(7), QUIET))
            for v, share, all_ in zip(values[k], shares[k], whole, strict=True)
        ]
        add_row(shown, name, *cells)
    if len(labels) > MOST_CLASSES:
        rest = (f"{count:,}" for count in values[MOST_CLASSES:].sum(axis=0))
        add_row(shown, f"{len(labels) - MOST_CLASSES:,} more", *rest, style=QUIET)
    return shown


def performance_table(sheet: Sheet) -> Table:
    """Return a performance matrix, best values marked, as in the paper's Tables 5 to 9.

    Matrices beside each other are wide: show one table for each where lines are short.
    """
    names = sheet.named_columns()
    rows = [(name, [_marked(cell) for cell in cells]) for name, cells in sheet.rows]
    # heads stand above the numbers, not above the place of an asterisk
    heads = [
        [Text(f"{visible(text)} ") for text in line]
        for line in (names, *(h[1:] for h in sheet.heads[1:]))
    ]
    for k in range(len(names)):
        column = [*(line[k] for line in heads), *(cells[k] for _, cells in rows)]
        width = max(text.cell_len for text in column)
        for text in column:  # padded here: rich drops spaces at the end of what it aligns
            text.pad_left(width - text.cell_len)
    shown = table("", *(text.plain for text in heads[0]), text=range(len(names) + 1))
    for line, cells in zip(sheet.heads[1:], heads[1:], strict=True):
        add_row(shown, line[0], *cells, style=QUIET)
    for name, cells in rows:
        add_row(shown, name, *cells)
    return shown


def _marked(cell: Cell) -> Text:
    """The numbers of a cell, an asterisk or a space after each."""
    text = Text()
    for k, (part, best) in enumerate(cell.parts):
        text.append(" \\ " if k else "", QUIET)
        text.append(visible(part), STRONG if best else "")
        text.append("*" if best else " ", QUIET)
    return text.append(f" ({visible(cell.note)})" if cell.note else "", QUIET)


# -- pictures --------------------------------------------------------------------------------


def picture(grey: NDArray[np.float64], *, colour: bool) -> Text:
    """Return an image of values in 0 … 1, shape (height, width), as half blocks or shades.

    With colours one character shows two pixels, one above the other; without, two equal
    characters show one pixel.
    """
    levels = np.clip(grey, 0.0, 1.0)
    drawn = Text()
    if not colour:
        for k, row in enumerate(levels):
            shades = (SHADES[min(4, int(v * 5))] * 2 for v in row)
            drawn.append("".join(shades) + ("\n" if k < len(levels) - 1 else ""))
        return drawn
    tones = np.round(levels * 255).astype(int)
    if len(tones) % 2:
        tones = np.vstack([tones, np.zeros_like(tones[:1])])
    for k in range(0, len(tones), 2):
        for top, bottom in zip(tones[k], tones[k + 1], strict=True):
            drawn.append("▀", f"rgb({top},{top},{top}) on rgb({bottom},{bottom},{bottom})")
        if k < len(tones) - 2:
            drawn.append("\n")
    return drawn


def enlarge(grey: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return an image with `size` pixels a side, interpolated linearly."""
    for axis in (0, 1):
        length = grey.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.minimum(at.astype(int), length - 1)
        high = np.minimum(low + 1, length - 1)
        part = (at - low)[:, None] if axis == 0 else at - low
        grey = np.take(grey, low, axis) * (1 - part) + np.take(grey, high, axis) * part
    return grey


# -- progress --------------------------------------------------------------------------------


class Progress:
    """How far a job is, and how long it will take; use `progress`.

    Attributes
    ----------
    total : int or None
        Of `unit`, where it is known.
    phase : str
        What is done beside what is counted, such as before the first and after the last of it.
    """

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self.what, self.total, self.unit = _told(what), total, unit
        self.done, self.found, self.note, self.waiting = 0, 0, "", ""
        self.phase, self._beside = "", 0.0  # seconds of phases, which foretell nothing
        self.started = self.changed = self._since = time.monotonic()
        self._tell: Callable[[bool], None] = lambda now: None

    def begin(self, what: str, total: int | None) -> None:
        """Begin anew, after something else was waited for."""
        self.what, self.total, self.done, self.found = _told(what), total, 0, 0
        self.phase, self._beside = "", 0.0
        self.started = self.changed = self._since = time.monotonic()

    def begin_phase(self, name: str) -> None:
        """Say what is begun; the one before is over. "" where what is counted goes on."""
        if name == self.phase:
            return
        now = time.monotonic()
        self._beside += now - self._since if self.phase else 0.0
        self.phase, self._since = _told(name), now
        if name:
            self._tell(True)

    def add(self, count: int, *, found: bool = False) -> None:
        """Count what was done; `found` is what took no time because it was done before."""
        self.done += count
        self.found += count if found else 0
        self.changed = time.monotonic()
        self._tell(False)

    def remark(self, note: str) -> None:
        """Say how far what is under way has come."""
        self.note = _told(note)
        self._tell(False)

    def begin_waiting(self, what: str) -> None:
        """Say at once what keeps the job from going on."""
        self.waiting = _told(what)
        self._tell(True)

    def end_waiting(self, seconds: float) -> None:
        """Go on after so many seconds in which nothing could be done: they foretell nothing."""
        self.waiting = ""
        self.started += seconds
        self.changed += seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds that remain, once something was done."""
        worked = self.done - self.found
        if self.total is None or not worked:
            return None
        rate = max(0.0, self.changed - self.started - self._beside) / worked
        return max(0.0, (self.total - self.done) * rate - (time.monotonic() - self.changed))

    def words(self) -> list[str]:
        """Return what a line of progress says after its percentage."""
        return list(self._parts().values())

    def _parts(self) -> dict[str, str]:
        """Return what a line says, by what it is, in its order."""
        said = {"phase": self.waiting or self.phase, "note": self.note, "count": self._count()}
        if self.waiting:
            del said["note"]
        said["elapsed"] = clock(self.elapsed)
        going_on = self.total is not None and self.done < self.total
        if self.left is not None and going_on and not self.waiting and not self.phase:
            said["left"] = f"{clock(self.left)} left"
        return {name: text for name, text in said.items() if text}

    def _count(self) -> str:
        if not self.unit:
            return ""
        of = f" of {self.total:,}" if self.total is not None else ""
        one = (self.done if self.total is None else self.total) == 1
        return f"{self.done:,}{of} {self.unit.removesuffix('s') if one else self.unit}"

    def percent(self) -> str:
        """Return the share that is done."""
        return "" if not self.total else f"{min(100.0, 100 * self.done / self.total):3.0f} %"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.line(options.max_width)

    def line(self, width: int) -> Text:
        """Return the moving line, at most `width` columns wide: what is left stays to be read.

        The bar is shortened first; then go the seconds so far, the count and the note, then the
        bar, and last the title is cut.
        """
        bar = LEAST_BAR + 1 if self.total else 0
        parts, going = self._parts(), []
        for name in ("", *EXPENDABLE):
            parts.pop(name, None)
            going = [self.percent()] if self.total else []
            rest = cell_len("  ".join([self.what, *going, " · ".join(parts.values())]))
            if rest + bar <= width:
                break
        bar = min(BAR_WIDTH, width - rest - 1) if self.total else 0
        title = self.what
        if rest > width:
            room = max(4, cell_len(title) - (rest - width))
            title = f"{set_cell_size(title, room - 1).rstrip()}…"
        share = 0.0 if not self.total else min(1.0, self.done / self.total)
        drawn: list[Any] = [(f"{title}  ", STRONG)]
        if bar >= LEAST_BAR:
            full = round(share * bar)
            drawn += [("━" * full, ACCENT), ("━" * (bar - full), QUIET), " "]
        drawn += [f"{text}  " for text in going]
        line = Text.assemble(*drawn, (" · ".join(parts.values()), QUIET))
        line.no_wrap, line.overflow = True, "ellipsis"
        return line


@contextmanager
def progress(
    what: str, total: int | None = None, unit: str = "rows", below: Any = ""
) -> Iterator[Progress]:
    """Show how far a job is: a moving line in a terminal, elsewhere a line every tenth.

    Elsewhere is a log, and a terminal that can move nothing (TERM=dumb).

    below: what a terminal shows under the line, and others, as text, at its end.
    """
    screen = console(stderr=True)
    job = Progress(what, total, unit)
    if screen.is_terminal and not screen.is_dumb_terminal:
        shown = Group(job, below) if below else job
        with Live(shown, console=screen, refresh_per_second=8, transient=True):
            yield job
        return
    told = [0.0, 0.0]  # share and seconds at the last line

    def tell(now: bool) -> None:
        share = job.done / job.total if job.total else 0.0
        if now or share - told[0] >= 0.1 or job.elapsed - told[1] >= 30:
            told[:] = share, job.elapsed
            words = [w for w in (job.percent().strip(), *job.words(), str(below)) if w]
            print(f"{job.what}: {' · '.join(words)}", file=screen.file, flush=True)

    job._tell = tell
    yield job
