"""The page of Online News by many draws, from draws.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from draw_claims import EXTREMES, FIGURE_3, TEST, TRAIN

TITLES = {
    "6": "Table 6: k nearest neighbours where ACC is highest on t",
    "7": "Table 7: k nearest neighbours where ACC is highest on each test subset",
    "8": "Table 8: random forests where ACC is highest on t",
    "9": "Table 9: random forests where ACC is highest on each test subset",
}
FEW, MOST = 0.25, 0.75  # shares of the draws


def page(found: Mapping[str, Any]) -> str:
    """Return what was found as Markdown."""
    parts = [
        _head(found), _verdicts(found), _observations(found["observations"]), _extremes(found),
        _figure_9(found["figure_9"], found["draws"]), _figure_3(found), _majorities(found),
        *(_cells(number, rows, found["draws"], found["majorities"])
          for number, rows in found["cells"].items()),
        _chosen(found), _forests(found), _split_0(found["split_0"]),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(found: Mapping[str, Any]) -> str:
    used = ", ".join(f"{name} {number}" for name, number in found["libraries"].items())
    return "\n\n".join([
        "# Online News by many draws",
        "Written by `scripts/paper/draws.py` from draws.csv.gz and its neighbours in this folder. "
        f"{used}.",
        f"The paper drew 32,000 articles at random for training and does not say which. So here "
        f"are {found['draws']} draws: draw S is the split of `dskrobust ingest online-news --seed "
        f"S`, S from 0 to {found['draws'] - 1}. This copy of the data has 39,133 articles, the "
        "paper's had 39,644: x has 32,000 in both, t has 7,133 instead of 7,644. R is computed "
        "within x and within t. A number in brackets after a value of the paper is its rank: how "
        f"many of the {found['draws']} draws lie below it (those that print alike count half). In "
        f"{found['with_article']} draws the article with 843,300 shares is in x, as it must have "
        "been in the paper (E.1's extremes need it there). A draw takes "
        f"{found['seconds'][2]:.1f} s of one core.",
    ])  # fmt: skip


# -- claims ------------------------------------------------------------------------------------


def _verdicts(found: Mapping[str, Any]) -> str:
    rows = found["observations"]
    few = [row for row in rows if row["holds"] <= FEW * row["of"]]
    many = [row for row in rows if row["holds"] >= MOST * row["of"]]
    return "\n\n".join([
        "## In short",
        f"Of {len(rows)} claims {len(many)} hold in at least three of four draws, {len(few)} in at "
        f"most one of four, and for {len(rows) - len(few) - len(many)} it is a matter of the draw.",
        "What holds:", _listed(map(_short, many)) or "- nothing",
        "What does not:", _listed(map(_short, few)) or "- nothing",
    ])  # fmt: skip


def _short(row: Mapping[str, Any]) -> str:
    return f"{row['claim']} ({row['where']}): {row['holds']} of {row['of']}"


def _observations(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        (row["claim"], row["where"], row["rule"], f"{row['holds']} of {row['of']}",
         "{} of {}".format(*row["article"]), {None: "", True: "yes", False: "no"}[row["paper"]])
        for row in rows
    ]  # fmt: skip
    return "\n\n".join([
        "## Every claim",
        "The rule says when a draw keeps a claim. \"Article in x\": of the draws with the 843,300 "
        "shares in x. \"Paper\": whether the paper's own printed numbers keep the rule, where it "
        "prints them.",
        _table(("claim", "where", "rule", "holds in", "article in x", "paper"), lines, "lllrrl"),
    ])  # fmt: skip


# -- robustness and labels ---------------------------------------------------------------------


def _extremes(found: Mapping[str, Any]) -> str:
    words = dict(zip(EXTREMES, ("min R, x", "max R, x", "min R, t", "max R, t"), strict=True))
    lines = [
        (words[row["name"]], f"{row['paper']:.4f} ({row['below']:g})",
         f"{row['same']} of {found['draws']}", *_numbers(row["quantiles"], 4))
        for row in found["extremes"]
    ]  # fmt: skip
    return "## E.1: the extremes\n\n" + _table(
        ("", "paper (rank)", "the same", *_QUANTILES), lines, "lrrrrrrr"
    )


def _figure_9(found: Mapping[str, Any], draws: int) -> str:
    lines = [
        (side, f"{part['paper']:,} = {part['share']:.1%} ({part['below']:g})",
         *(f"{v:,.0f}" for v in part["quantiles"]),
         ", ".join(f"{v:,}" for v in part["conforming"]) or "none")
        for side, part in ((side, found[side]) for side in "xt")
    ]  # fmt: skip
    return "\n\n".join([
        "## Figure 9: samples below R = 0.65",
        _table(("", "paper (rank)", *_QUANTILES, "conforming"), lines, "lrrrrrrl"),
        _conforming(found),
    ])  # fmt: skip


def _conforming(found: Mapping[str, Any]) -> str:
    """Say whether Figure 9's counts and E.1's extremes can be of one split."""
    seeds = found["conforming"]
    if not seeds:
        return "No draw that was measured has all four extremes of E.1."
    said = [f"Conforming draws, with all four extremes of E.1: seeds {', '.join(map(str, seeds))}."]
    for side in "xt":
        part = found[side]
        low, high = min(part["conforming"]), max(part["conforming"])
        line = ", ".join(f"{value:.4f}" for value in part["conforming_line"])
        said.append(
            f"In them {low:,} to {high:,} samples of {side} are below 0.65, and the paper's share "
            f"of {side}, {part['share']:.1%}, is below R = {line}."
        )
        if not low <= part["paper"] <= high:
            said.append(f"None has the paper's {part['paper']:,}.")
    if not min(found["x"]["conforming"]) <= found["x"]["paper"] <= max(found["x"]["conforming"]):
        said.append("So by 3.3 and 3.4 the figure and E.1's extremes are not of one such split.")
    return " ".join(said)


def _figure_3(found: Mapping[str, Any]) -> str:
    by_name = {row["subset"]: row for row in found["above"]}
    lines = []
    for name in FIGURE_3:
        row = by_name[name]
        printed = "about 5 %"
        if row["paper"] is not None:
            printed = f"{100 * row['paper']:.1f} % ({row['below']:g})"
        popular = found["popular"][name]
        lines.append((name, printed, *(f"{100 * v:.1f}" for v in row["quantiles"]),
                      f"{100 * popular[0]:.1f} to {100 * popular[-1]:.1f}"))  # fmt: skip
    return "\n\n".join([
        "## Figure 3: shares above 10,000 in all ten subsets",
        _table(("%", "paper (rank)", *_QUANTILES, "popular, 5 to 95 %"), lines, "lrrrrrrr"),
        "For t_l the paper prints 0.34 %: of its 500 articles that would be 1.7. It is a slip for "
        "3.4 %, which is 17 articles and, as the text goes on, less than half of 7.6 %.",
    ])  # fmt: skip


def _majorities(found: Mapping[str, Any]) -> str:
    draws = found["draws"]
    lines = [
        (row["test"], *(_range(row[name]) for name in ("popular", "majority", "table_6")),
         f"{row['beaten_6']} of {draws}", _range(row["table_7"]), f"{row['beaten_7']} of {draws}")
        for row in found["majorities"]
    ]  # fmt: skip
    return "\n\n".join([
        "## What ACC is worth: majority-class rates",
        "Whoever says the more frequent class for every article has the majority-class rate as "
        "ACC. Beside it the best ACC of the six columns of Tables 6 and 7, and in how many draws "
        "it is above that rate. Medians, 5 to 95 %.",
        _table(("test", "popular", "majority rate", "Table 6, best", "above", "Table 7, best",
                "above"), lines, "lrrrrrr"),
    ])  # fmt: skip


# -- performance -------------------------------------------------------------------------------


def _cells(
    number: str,
    rows: Sequence[Mapping[str, Any]],
    draws: int,
    majorities: Sequence[Mapping[str, Any]],
) -> str:
    """Return a table of the paper: a Markdown table a measure."""
    by_name = {(row["cell"], row["measure"]): row for row in rows}
    kinds = list(dict.fromkeys(row["cell"].split("|")[1] for row in rows))
    rates = {row["test"]: row["majority"] for row in majorities}
    within = {
        m: [r["quantiles"][0] <= r["paper"] <= r["quantiles"][-1] for r in rows
            if r["measure"] == m]
        for m in ("loss", "acc", "value")
    }  # fmt: skip
    swept = "K" if number in "67" else "trees"
    parts = [
        f"## {TITLES[number]}",
        "Medians of the draws, 5 to 95 %; then the paper's value and its rank. Of the paper's "
        f"values within 5 to 95 %: LOSS {_count(within['loss'])}, ACC {_count(within['acc'])}, "
        f"{swept} {_count(within['value'])} cells.",
    ]
    for measure, word, digits in (("value", swept, 0), ("loss", "LOSS", 3), ("acc", "ACC", 3)):
        lines = []
        for test in TEST:
            cells = [
                _cell(by_name[name, measure], digits)
                for kind in kinds
                for x in TRAIN
                if (name := f"{number}|{kind}|{x}|{test}", measure) in by_name
            ]
            if cells and measure == "acc":
                cells.append(_range(rates[test]))
            if cells:
                lines.append((test if number in "79" or measure != "value" else "", *cells))
        head = (word, *(f"{kind.split('_')[0]}: {x}" for kind in kinds for x in TRAIN))
        head = (*head, "majority rate") if measure == "acc" else head
        parts.append(_table(head, lines, "l" + "r" * (len(head) - 1)))
    return "\n\n".join(parts)


def _cell(row: Mapping[str, Any], digits: int) -> str:
    printed = f"{row['paper']:.4f}" if digits else f"{row['paper']:.0f}"
    return f"{_range(row['quantiles'], digits)}; {printed} ({row['below']:g})"


def _chosen(found: Mapping[str, Any]) -> str:
    chosen = found["chosen"]
    if not found["candidates"]:
        return ""
    lines = ["## One draw, declared", found["rule"]]
    if chosen is None:
        return "\n\n".join([*lines, "No seed fits."])
    facts = chosen["facts"]
    shares = [(n, f"{100 * facts[f'above_{n}']:.1f}", f"{100 * facts[f'popular_{n}']:.1f}")
              for n in FIGURE_3]  # fmt: skip
    fit = ", ".join(f"{c['seed']} ({100 * c['distance']:.1f} points off)" for c in chosen["others"])
    return "\n\n".join([
        *lines,
        f"Those that fit: {fit}. The declared draw is seed {chosen['seed']}.",
        _table(("subset", "above 10,000 (%)", "popular (%)"), shares, "lrr"),
        *(f"{TITLES[n]}, LOSS \\ ACC:\n\n" + "\n".join(made)
          for n, made in chosen["matrices"].items()),
        f"It keeps {len(chosen['keeps'])} of the {chosen['asked']} claims on robustness, labels "
        "and neighbours:",
        _listed(chosen["keeps"]),
    ])  # fmt: skip


def _forests(found: Mapping[str, Any]) -> str:
    forests = found.get("forests")
    if forests is None:
        return ""
    seconds = forests["seconds"][2]
    words = (
        f"## Forests: {forests['draws']} draws\n\nOne trial a draw, of one forest of 9 trees whose "
        f"first trees are the smaller ones; {seconds:,.0f} s of one core a draw (median). "
        f"25 trials a draw would take {25 * seconds / 3600:.1f} core hours each, "
        f"{625 * seconds / 3600:,.0f} for 25 draws. The spread is that of the draw and of "
        "the trial together."
    )
    tables = (_cells(number, rows, forests["draws"], found["majorities"])
              for number, rows in forests["cells"].items())  # fmt: skip
    return "\n\n".join([words, *tables])


def _split_0(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    parts = [
        "## Three kinds of forests on one split",
        "On the split of seed 0, LOSS \\ ACC: the first trees of one forest of 9, independent "
        "forests as the paper ran them, and xgboost's parallel trees (another algorithm: rows "
        "without replacement, second-order leaves).",
    ]
    for row in sorted(rows, key=lambda row: row["table"]):
        trials = f"{row['trials']} trial{'s' * (row['trials'] > 1)}"
        parts += [f"Table {row['table']}, {row['forests']}, {trials}:", "\n".join(row["matrix"])]
    return "\n\n".join(parts)


# -- words -------------------------------------------------------------------------------------

_QUANTILES = ("5 %", "25 %", "median", "75 %", "95 %")


def _numbers(values: Iterable[float], digits: int) -> list[str]:
    return [f"{value:.{digits}f}" for value in values]


def _range(values: Sequence[float], digits: int = 3) -> str:
    low, middle, high = _numbers((values[0], values[2], values[-1]), digits)
    return f"{middle} ({low} to {high})"


def _count(kept: Sequence[bool]) -> str:
    return f"{sum(kept)} of {len(kept)}"


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]], sides: str) -> str:
    marks = {"l": "---", "r": "---:"}
    under = "|" + "|".join(marks[side] for side in sides) + "|"
    rows = ["| " + " | ".join(row) + " |" for row in (head, *lines)]
    return "\n".join([rows[0], under, *rows[1:]])
