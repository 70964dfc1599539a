"""The paper's Tables 1 and 10, counted again and set beside the printed numbers.

    python scripts/paper/labels.py --cifar10 cifar10.zarr --mnist mnist.zarr

The stores need results (`dskrobust compute`). Writes table-1 and table-10, .json and .md, to
notebooks/results. `dskrobust subsets` prints the same counts.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dskrobust as dr

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
RESULTS = NOTEBOOKS / "results"
PRINTED = NOTEBOOKS / "paper" / "labels.toml"

REMARKS = {
    1: """\
Counts that are not the paper's: 93 images of our copy of CIFAR-10 are lossy. They move a few
samples over the edge of a subset; the labels of all others are the paper's.""",
    10: """\
The column x_M48 that the paper prints is no set of the 48,000 most robust: it is the training set
without the ranks 3,000 to 15,000, the union of its 3,000 least and 45,000 most robust samples,
`dskrobust subsets mnist.zarr --within train --select L3000+M45000`, in all ten counts. The 48,000
most robust, exact in integers, are in the last column.""",
}


def printed_tables() -> list[dict[str, Any]]:
    """Return what the paper prints of both tables."""
    return list(tomllib.loads(PRINTED.read_text())["tables"])


def selection(name: str) -> str:
    """Return what the paper calls x_L40 or t_M2 as a selection; sizes are in thousands."""
    group = {"x": "train", "t": "test"}[name[0]]
    return group if len(name) == 1 else f"{group}:{name[2]}{name[3:]}000"


def selections(table: Mapping[str, Any]) -> dict[str, str]:
    """Return the selections of a table's columns, and what else a printed name should mean."""
    slips = table.get("as", {})
    asked = {name: slips.get(name, selection(name)) for name in table["counts"]}
    return asked | {f"{name} by 4.2": selection(name) for name in slips}


def counted(store: dr.Store, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of every class in a table's subsets, as plain values."""
    scores, asked = dr.sample_robustness(store), selections(table)
    made = dr.class_counts(store, [dr.select_subset(scores, text) for text in asked.values()])
    columns = made.values.T.tolist()
    return {
        "number": table["number"],
        "title": table["title"],
        "data": table["data"],
        "classes": list(made.labels),
        "subsets": {
            name: {"selection": text, "counts": column}
            for (name, text), column in zip(asked.items(), columns, strict=True)
        },
    }


def differences(facts: Mapping[str, Any], table: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return the cells that are not the paper's: subset, class, ours less printed."""
    return [
        (name, label, ours - paper)
        for name, printed in table["counts"].items()
        for label, ours, paper in zip(
            facts["classes"], facts["subsets"][name]["counts"], printed, strict=True
        )
        if ours != paper
    ]


def page(facts: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Return a table as a page."""
    names, off = list(facts["subsets"]), differences(facts, table)
    cells = sum(map(len, table["counts"].values()))
    lines = [
        f"# The paper's Table {facts['number']}: {facts['title']}",
        "",
        "Written by `scripts/paper/labels.py`; the paper's numbers are in "
        "`notebooks/paper/labels.toml`. Sizes of subsets in thousands.",
        "",
        f"| | {' | '.join(names)} |",
        "|---|" + "---:|" * len(names),
    ]
    for k, label in enumerate(facts["classes"]):
        shown = [f"{facts['subsets'][name]['counts'][k]}" for name in names]
        lines.append(f"| {label} | {' | '.join(shown)} |")
    words = "".join(f"; {n}, {label}: {ours:+d}" for n, label, ours in off)
    lines += ["", f"**{cells - len(off)} of {cells} counts are the paper's**{words}.", ""]
    lines += [" ".join(REMARKS[facts["number"]].split())]
    slips = percent_slips(table, facts["classes"])
    if slips:
        lines += ["", f"Percentages that the paper's own counts do not give: {'; '.join(slips)}."]
    return "\n".join(lines) + "\n"


def percent_slips(table: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """Return the printed percentages that are off by more than their rounding."""
    slips = []
    for name, shares in table["percent"].items():
        of, counts = table["counts"][name[0]], table["counts"][name]
        for k, (printed, count, every) in enumerate(zip(shares, counts, of, strict=True)):
            if abs(100 * count / every - printed) > 0.5:
                label = classes[k]
                slips.append(f"{name}, {label}: {count} of {every} are {count / every:.0%}, "
                             f"printed {printed} %")  # fmt: skip
    return slips


def main() -> None:
    """Count what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cifar10", metavar="STORE")
    parser.add_argument("--mnist", metavar="STORE")
    options = vars(parser.parse_args())
    for table in printed_tables():
        if address := options[table["data"]]:
            facts = counted(dr.open_store(address), table)
            path = RESULTS / f"table-{table['number']}.json"
            path.write_text(as_json(facts))
            path.with_suffix(".md").write_text(page(facts, table))


def as_json(facts: Mapping[str, Any]) -> str:
    """Return facts as JSON, a line a subset."""
    lines = [f"  {json.dumps(name)}: {json.dumps(part)}" for name, part in facts["subsets"].items()]
    head = {name: value for name, value in facts.items() if name != "subsets"}
    return json.dumps(head)[:-1] + ',\n "subsets": {\n' + ",\n".join(lines) + "\n }}\n"


if __name__ == "__main__":
    main()
