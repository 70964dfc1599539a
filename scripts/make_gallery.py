"""Run the commands of the gallery's page, and renew its images.

    python scripts/make_gallery.py

Needs the extra full. The commands run in a folder for temporary files; what the page shows of it is
copied into notebooks/images/gallery.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PAGE = NOTEBOOKS / "gallery.md"
WIDTH, COLOURS = 1200, 256


def commands(page: str) -> list[str]:
    """Return the commands of a page, in their order."""
    blocks = re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def images(page: str) -> list[Path]:
    """Return the images that a page shows."""
    return [NOTEBOOKS / name for name in re.findall(r"^!\[.*?\]\((.*?)\)", page, re.MULTILINE)]


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for line in commands(page):
            print(line, flush=True)
            words = line.split()[1:]
            subprocess.run([sys.executable, "-m", "dskrobust", *words], cwd=folder, check=True)
        for image in images(page):
            image.parent.mkdir(parents=True, exist_ok=True)
            shrink(Path(folder) / image.name, image)


def shrink(made: Path, kept: Path) -> None:
    """Keep a figure at a page's width, in as many colours as such figures have."""
    with Image.open(made) as image:
        small = image.convert("RGB")
    small.thumbnail((WIDTH, WIDTH))
    small.quantize(COLOURS).save(kept, optimize=True)


if __name__ == "__main__":
    main()
