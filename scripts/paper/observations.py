"""Every observation of the paper's 4.2, 4.3, D, E and F as a row, with its verdict by number.

    python scripts/paper/observations.py

Reads what is committed in notebooks/results and computes nothing large: rows on CIFAR-10 and MNIST
are made here (`claims.py`); rows on Online News and networks are the "observations" of the files
that their scripts leave there. Writes observations.md and observations.json beside them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from claims import (
    PRINTED,
    RESULTS,
    UNTESTED,
    Evidence,
    Row,
    counted,
    digit_rows,
    judged,
    label_rows,
    neighbour_rows,
    network_rows,
    prototype_rows,
)
from tables import NOTEBOOKS, OBSERVATIONS, our_matrices, read_paper

OWN = "observations.json"
NEWS = {
    6: "online-news-knn",
    7: "online-news-knn",
    8: "online-news-forest",
    9: "online-news-forest",
}
SECTIONS = (
    ("4.2", "CIFAR-10: labels and single images"),
    ("4.2.1", "CIFAR-10: networks"),
    ("4.2.2", "CIFAR-10: nearest neighbours"),
    ("D", "CIFAR-10: additional material"),
    ("4.3", "Online News: labels"),
    ("4.3.1", "Online News: nearest neighbours"),
    ("4.3.2", "Online News: random forests"),
    ("E", "Online News: additional material"),
    ("F", "MNIST"),
)
KINDS = {  # how verdicts begin
    "holds in": "holds in part", "holds": "holds", "contradicted": "contradicted",
    "slip": "slip of the pen", PRINTED: "printed numbers only",
}  # fmt: skip
PLACES = {  # where a table or figure belongs
    "Table 1": "4.2", **dict.fromkeys(("Table 2", "Table 3", "Table 4"), "4.2.1"),
    "Table 5": "4.2.2", "Table 6": "4.3.1", "Table 7": "4.3.1", "Table 8": "4.3.2",
    "Table 9": "4.3.2", "Table 10": "F", "Figure 3": "4.3", "Figure 9": "E", "4.1": "4.3",
}  # fmt: skip
EXPLAINED = (
    ("4.3.1", "This may be explained by the different distributions of the least robust samples in "
     "x and t"),
    ("4.3.2", "This is likely caused by the model learning to connect small changes in feature "
     "space with large changes in label space. Hence, it tends to overshoot predictions for more "
     "robust data"),
    ("4.3.2", "The first we attribute again to the different distributions of x_L2 and t_l; for "
     "the second we expect a similar explanation as for KNN (comp. 3.6)"),
)  # fmt: skip


# -- rows of others --------------------------------------------------------------------------------


def committed() -> list[tuple[str, list[Row]]]:
    """Return the rows that other scripts left in notebooks/results, by file."""
    found = []
    for path in sorted(RESULTS.glob("*.json")):
        made = json.loads(path.read_text()) if path.name != OWN else None
        rows = made.get("observations", []) if isinstance(made, dict) else []
        if rows:
            found.append((path.name, [row_of(made) for made in rows]))
    return found


def row_of(made: Mapping[str, Any]) -> Row:
    """Return a row that another script left: claim, where, command, and verdict or holds and of."""
    holds, of = made.get("holds"), made.get("of")
    verdict = made.get("verdict")
    if verdict is None:
        what = made.get("what", "draws")
        verdict = judged(bool(holds)) if of in (None, 1) else _of(int(holds or 0), int(of), what)
    words = [made.get("rule"), made.get("numbers")]
    if made.get("paper") is not None:
        words.append(f"in the paper's own tables: {'yes' if made['paper'] else 'no'}")
    if made.get("article"):
        kept, there = made["article"]
        words.append(f"{kept} of the {there} draws that have the most shared article in x")
    said = "; ".join(str(word) for word in words if word)
    return Row(made["where"], made["claim"], verdict, said, made["command"])


def _of(holds: int, of: int, what: str) -> str:
    return counted([True] * holds + [False] * (of - holds), what)


def news_rows() -> list[Row]:
    """Return the rows of 4.3 by the draw of seed 0 alone, for where there are no others."""
    command = "python scripts/paper/tables.py --online-news online-news.zarr"
    rows = [Row("4.3", "this holds for only 0.34% of t_l (i.e. less than half the relative amount)",
                "slip", "3.4 % must be meant: 0.34 % of 500 articles are 1.7, and half of the 7.6 "
                "% in x_L2 are 3.8 %", "dskrobust subsets online-news.zarr")]  # fmt: skip
    for table in read_paper(NOTEBOOKS / "paper" / "tables.toml"):
        if table.number not in NEWS:
            continue
        trials = pd.read_csv(RESULTS / f"trials-{NEWS[table.number]}.csv.gz")
        sides = our_matrices(table, trials, loss_high=True)
        rows += [
            Row(f"{PLACES[f'Table {table.number}']}, Table {table.number}", seen.words,
                counted(map(seen.holds, sides), "sides of the table, in one draw"), "", command)
            for seen in OBSERVATIONS if table.number in seen.tables
        ]  # fmt: skip
    return rows


def curve_rows(known: Iterable[Row]) -> list[Row]:
    """Return the rows of D.3 by the curves that are committed, where no other file has them."""
    if any(row.where.startswith("D.3") for row in known):
        return []
    rows = []
    for path in sorted(RESULTS.glob("*-figures-6-7.csv")):
        small = "-small" in path.name
        size = "with a 100th of the images" if small else "in full"
        rows += prototype_rows(pd.read_csv(path), size)
    return rows


def missing_rows(known: Iterable[Row]) -> list[Row]:
    """Return rows that only trained networks could judge, where no other file has them."""
    words = "not run: no networks on all of the data are committed"
    claims = {
        "relationship": ("D.2", "there seems to be no definitive relationship between [robustness "
                         "and average model probability]"),
        "98": ("F, Figure 12", "a shallow CNN with an average accuracy of about 98%"),
    }  # fmt: skip
    said = " ".join(row.claim for row in known)
    return [Row(*row, words, "", "") for word, row in claims.items() if word not in said]


def every_row(evidence: Evidence) -> list[Row]:
    """Return all rows, in the order of the paper's sections."""
    others = [row for _, rows in committed() for row in rows]
    rows = [*label_rows(evidence), *network_rows(evidence), *neighbour_rows(evidence), *others]
    rows += [*curve_rows(others), *missing_rows(others)]
    there = {section_of(row) for row in others}
    rows += [row for row in news_rows() if section_of(row) not in there]
    rows += [Row(where, claim, UNTESTED, "", "") for where, claim in EXPLAINED]
    rows += digit_rows(evidence)
    order = [name for name, _ in SECTIONS]
    return sorted(rows, key=lambda row: order.index(section_of(row)))


def section_of(row: Row) -> str:
    """Return the section that a row stands in."""
    first = row.where.split(",")[0].split(";")[0].strip()
    first = PLACES.get(first, first)
    known = [name for name, _ in SECTIONS if first == name or first.startswith(f"{name}.")]
    return max(known, key=len) if known else first


# -- the page --------------------------------------------------------------------------------------


def kind(row: Row) -> str:
    """Return the kind of a verdict, for counting."""
    for start, name in KINDS.items():
        if row.verdict.startswith(start):
            return name
    return "not tested"


def page(rows: Sequence[Row]) -> str:
    """Return the rows as a page."""
    kinds = Counter(map(kind, rows))
    said = ", ".join(f"{name} {kinds[name]}" for name in (*KINDS.values(), "not tested"))
    lines = [
        "# The paper's observations, one by one",
        "",
        "Written by `scripts/paper/observations.py` from the numbers in `notebooks/results`. "
        f"{len(rows)} rows: {said}.",
    ]
    for name, title in SECTIONS:
        own = [row for row in rows if section_of(row) == name]
        if own:
            lines += ["", f"## {name} {title}", "",
                      "| where | claim | verdict | numbers | command |",
                      "|---|---|---|---|---|"]  # fmt: skip
            lines += [f"| {' | '.join(map(_cell, _shown(row)))} |" for row in own]
    return "\n".join(lines) + "\n"


def _shown(row: Row) -> tuple[str, ...]:
    command = f"`{row.command}`" if row.command else ""
    return row.where, row.claim, f"**{row.verdict}**", row.numbers, command


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def facts_of(rows: Iterable[Row]) -> list[dict[str, str]]:
    """Return rows as plain values, with their sections and the kinds of their verdicts."""
    return [{"section": section_of(row), "kind": kind(row), **row._asdict()} for row in rows]


def read_rows() -> list[Row]:
    """Return the rows that are committed."""
    made = json.loads((RESULTS / OWN).read_text())["rows"]
    return [Row(**{name: row[name] for name in Row._fields}) for row in made]


def main() -> None:
    rows = every_row(Evidence())
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in facts_of(rows))
    (RESULTS / OWN).write_text(f'{{"rows": [\n{lines}\n]}}\n')
    (RESULTS / OWN).with_suffix(".md").write_text(page(rows))
    print(f"{len(rows)} rows, {dict(Counter(map(kind, rows)))}")


if __name__ == "__main__":
    main()
