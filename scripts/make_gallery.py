"""Run the commands of the gallery's page, and renew its images.

    python scripts/make_gallery.py

Needs the extra full. The commands run in a folder for temporary files; what the page shows of it is
copied into notebooks/images/gallery.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PAGE = NOTEBOOKS / "gallery.md"


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
            shutil.copy(Path(folder) / image.name, image)


if __name__ == "__main__":
    main()
