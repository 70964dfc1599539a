"""h(x_AB, t_AB) (paper, section 5 ii) for the data and models of Tables 5 and 6.

    python scripts/paper/windows.py --cifar10 cifar10.zarr --online-news online-news.zarr

The stores need results (`dskrobust compute`). K-nearest-neighbour models of the tables' own grids
are trained on five windows of the training spectrum, half of it each, and tested on five of the
test spectrum. Writes windows.md and windows.json to notebooks/results.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from dask.distributed import Client

import dskrobust as dr
from dskrobust.cluster import ClusterOptions

RESULTS = Path(__file__).parents[2] / "notebooks" / "results"
KNN = dr.Model("knn", {"neighbors": [*range(1, 16)], "weights": ["uniform", "distance"]})
PARTS: dict[str, dict[str, Any]] = {"cifar10": {}, "online-news": {"threshold": 1400}}


def heat(address: str, parts: dict[str, Any], client: Client) -> dict[str, Any]:
    """Return the cells of a store's heat map, and what is found in it."""
    started = time.perf_counter()
    made = dr.spectrum(address, [KNN], client=client, name="windows", **parts).compute()
    (model,) = made.models
    values, settings = made.grid(model)
    train, test = made.windows
    return {
        "measure": str(made.measure), "train": train, "test": test, "values": values.tolist(),
        "settings": settings.tolist(), "findings": made.findings(),
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def page(found: dict[str, dict[str, Any]]) -> str:
    """Return the heat maps as a page."""
    lines = [
        "# h(x_AB, t_AB) by windows of both spectra",
        "",
        "Written by `scripts/paper/windows.py`: k nearest neighbours, K from 1 to 15 and both "
        "weights, the best of them in every cell, on that very test window. Windows are half of a "
        "group each, from its least (0%) to its most robust end; the outermost are the paper's L "
        "and M subsets.",
    ]
    for data, part in found.items():
        lines += ["", f"## {data}: {part['measure']}", "",
                  "| test \\ train | " + " | ".join(part["train"]) + " |",
                  "|---|" + "---:|" * len(part["train"])]  # fmt: skip
        for name, values, settings in zip(
            part["test"], part["values"], part["settings"], strict=True
        ):
            cells = (f"{v:.4f} ({s})" for v, s in zip(values, settings, strict=True))
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += ["", *part["findings"], "", f"{part['seconds']:.0f} s."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cifar10", metavar="STORE")
    parser.add_argument("--online-news", metavar="STORE")
    options = parser.parse_args()
    stores = {"cifar10": options.cifar10, "online-news": options.online_news}
    with dr.connect(ClusterOptions(workers=2, threads=1, dashboard=False)) as client:
        found = {
            data: heat(address, PARTS[data], client) for data, address in stores.items() if address
        }
    (RESULTS / "windows.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "windows.md").write_text(page(found))


if __name__ == "__main__":
    main()
