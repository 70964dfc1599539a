"""Run the notebooks again and keep their outputs: python scripts/notebooks.py [NAME.ipynb ...]

Only what belongs to the story is kept: no times of execution, nothing that was printed to stderr,
no names of temporary folders, no ports that were free by chance; pictures have a palette, which
makes them a third as large.
`DSKROBUST_DATA` (and `DSKROBUST_STORES`) give `paper.ipynb` its real data.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parents[1] / "notebooks"
SECONDS = 600  # a cell may take
RANDOM_FOLDER = re.compile(re.escape(tempfile.gettempdir()) + r"/tmp\w+/")
DASHBOARD = re.compile(r"http://127\.0\.0\.1:\d+/")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # small data: more only wait


def run(path: Path) -> Any:
    """Return a notebook after running it in its folder; a cell that fails is an error."""
    notebook: Any = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as sockets:  # files, no open ports
        kernel = AsyncKernelManager(
            kernel_name="python3", transport="ipc", ip=str(Path(sockets, "kernel"))
        )
        client = NotebookClient(notebook, kernel, timeout=SECONDS)
        client.execute(env={**os.environ, **ONE_THREAD}, cwd=str(path.parent))
    return clean(notebook)


def clean(notebook: Any) -> Any:
    """Take out of a notebook what would differ without need the next time."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            for output in cell.outputs:
                if "text" in output:
                    output["text"] = _steady(output["text"])
            for data in (o.get("data", {}) for o in cell.outputs):
                for kind in ("text/html", "text/plain"):
                    if kind in data:
                        data[kind] = _steady(data[kind])
                if "image/png" in data:
                    data["image/png"] = _smaller(data["image/png"])
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _steady(text: str) -> str:
    """Return a text without temporary folders, and with the dashboard at its usual port."""
    return DASHBOARD.sub("http://127.0.0.1:8787/", RANDOM_FOLDER.sub("", text))


def _smaller(png: str) -> str:
    """Return a picture, in base64, with a palette of 256 colours."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        image.convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(FOLDER.glob("*.ipynb")))
    parser.add_argument("--out", type=Path, help="write them into this folder instead")
    options = parser.parse_args()
    for path in options.notebooks:
        print(path.name, flush=True)
        nbformat.write(run(path.resolve()), options.out / path.name if options.out else path)


if __name__ == "__main__":
    main()
