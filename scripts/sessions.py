"""Run the sessions that the documentation shows, and write what comes out into the pages.

    python scripts/sessions.py [PAGE ...] [--write]

A session is a fenced block of the kind `console`: commands after `$ `, each with what it printed.
Every page's run in a folder of their own that holds what `prepare` makes. Without --write what
differs is told, and the exit code is 1. Seconds, sizes of processes and addresses differ from run
to run: they do not count (`steady`).
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from click.testing import CliRunner

import dskrobust as dr
from dskrobust.cli import main as dskrobust
from dskrobust.store.decisions import DecisionWriter

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PYTHON = """# nets.py
def pooled(images):  # (b, 1, 8, 8) float32, in [0, 1]
    return images.reshape(len(images), 4, 2, 4, 2).mean((2, 4)).reshape(len(images), 16)
"""
VARIES = (  # what is no fact of the data, and what stands for it
    (r"\d[\d.,]* ?(?:ms|s|min|h)\b(?: \d+ s)?", "… s"),
    (r"\d[\d.,]* ?(?:KiB|MiB|GiB|TiB)", "… MiB"),
    (r"(?:http|tcp)://\S+", "…"),
    (r"\d+ (core|thread|tile|worker)s?\b", r"… \1s"),
    (r"\d[\d.]* ?%(?= of (?:the )?pairs)", "… %"),
    (r"\b[0-9a-f]{8,}\b", "…"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "…"),
    (r"[ \t]+", " "),
)


class Session(NamedTuple):
    """One command of a page, and what the page says that it prints."""

    command: str
    printed: str


def sessions(block: str) -> list[Session]:
    """Return the commands of a block, each with its lines."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [Session(*(part.partition("\n")[::2])) for part in parts]


def steady(text: str) -> str:
    """Return a text without what differs from run to run."""
    for pattern, kept in VARIES:
        text = re.sub(pattern, kept, text)
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def pages() -> list[Path]:
    """Return the pages that have sessions."""
    found = sorted(NOTEBOOKS.glob("**/*.md"))
    return [path for path in found if BLOCK.search(path.read_text(encoding="utf-8"))]


def prepare(folder: Path) -> None:
    """Make the files that sessions start from: scored digits with decisions, new ones, a table."""
    digits = dr.ingest("digits", folder / "digits.zarr")
    dr.sample_robustness(digits).write()
    writer = DecisionWriter(digits)
    for row, choice, label in ((37, "relabel", 8), (69, "drop", None), (5, "keep", None)):
        writer.add(row, choice, label)
    few = slice(0, 5)
    np.savez(folder / "new.npz", X=digits.features[few] // 2, y=digits.labels[few])
    (folder / "nets.py").write_text(PYTHON)
    rng = np.random.default_rng(0)
    lines = ["area,rooms,district,built,price"]
    for k in range(200):
        area = int(rng.integers(30, 160))
        place = ("harbour", "hill", "old town")[int(rng.integers(3))]
        rooms = "" if k % 40 == 7 else str(1 + area // 30)
        built = f"{int(rng.integers(1900, 2020))}-0{int(rng.integers(1, 10))}-01"
        price = area * (3 + len(place) / 4) * rng.uniform(0.8, 1.2)
        lines.append(f"{area},{rooms},{place},{built},{price:.1f}")
    (folder / "houses.csv").write_text("\n".join(lines) + "\n")


@contextmanager
def folder_of(made: Path) -> Iterator[None]:
    """Work in a fresh copy of what `prepare` made, as a dumb terminal of 88 columns."""
    before, environment = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(made, place, dirs_exist_ok=True)
        os.environ.update(COLUMNS="88", NO_COLOR="1", TERM="dumb", PYTHONPATH=_path(place))
        sys.path.insert(0, place)
        os.chdir(place)
        try:
            yield
        finally:
            os.chdir(before)
            sys.path.remove(place)
            sys.modules.pop("nets", None)
            os.environ.clear()
            os.environ.update(environment)


def _path(place: str) -> str:
    return os.pathsep.join([place, *filter(None, [os.environ.get("PYTHONPATH")])])


def output(command: str) -> str:
    """Return what a command of dskrobust writes to the standard output, run in this process.

    Raises
    ------
    RuntimeError
        Where it fails.
    """
    name, *words = shlex.split(command)
    assert name == "dskrobust"
    done = CliRunner().invoke(dskrobust, words, prog_name=name)
    return _told(command, done.exit_code, done.stdout, done.stderr)


def fresh_output(command: str) -> str:
    """Return the same of a process of its own, whose memory is what the command says that it is."""
    words = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(words, capture_output=True, text=True)
    return _told(command, done.returncode, done.stdout, done.stderr)


def _told(command: str, code: int, stdout: str, stderr: str) -> str:
    if code:
        raise RuntimeError(f"{command}: {stderr}")
    text = stdout.replace(f"{os.path.realpath(Path.cwd())}/", "").strip("\n")
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def renewed(page: str, run: Callable[[str], str]) -> str:
    """Return a page with what its commands print now, where that is other than it says."""

    def block(found: re.Match[str]) -> str:
        text = ""
        for session in sessions(found[1]):
            now = run(session.command)
            kept = session.printed if steady(session.printed) == steady(now) else now
            text += f"$ {session.command}\n{kept}"
        return f"```console\n{text}```"

    return BLOCK.sub(block, page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pages", nargs="*", type=Path, help="all where none is named")
    parser.add_argument("--write", action="store_true", help="write into the pages")
    options = parser.parse_args()
    chosen = [path.resolve() for path in options.pages] or pages()
    differ = 0
    with tempfile.TemporaryDirectory() as made:
        prepare(Path(made))
        for path in chosen:
            before = path.read_text(encoding="utf-8")
            with folder_of(Path(made)):
                after = renewed(before, fresh_output)
            if after == before:
                continue
            if options.write:
                path.write_text(after, encoding="utf-8")
            else:
                differ = 1
                lines = (text.splitlines(keepends=True) for text in (before, after))
                print(*difflib.unified_diff(*lines, str(path), "now"), sep="")
    return differ


if __name__ == "__main__":
    sys.exit(main())
