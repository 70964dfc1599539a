"""Does alignment (paper, 3.5) tell which training subset is best for a test subset?

    python scripts/paper/alignment.py --cifar10 cifar10.zarr --online-news online-news.zarr

The stores need results (`dskrobust compute`). One pass over the pairs scores all samples against
all of the paper's subsets. Performance is read from the trials in notebooks/results, so nothing is
trained. Writes alignment.md and alignment.json there.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

import dskrobust as dr

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
RESULTS = NOTEBOOKS / "results"
TRIALS = {  # data → experiment and trials, what is swept
    "cifar10": [("table5-cifar10-knn", "cifar10-knn", "neighbors")],
    "online-news": [
        ("tables6-7-online-news-knn", "online-news-knn", "neighbors"),
        ("tables8-9-online-news-forest", "online-news-forest", "trees"),
    ],
}
DISTANCES = ("kolmogorov", "wasserstein", "mean")


def aligned(address: str, experiment: str) -> pd.DataFrame:
    """Return how far every training subset is from every test subset: a row a pair."""
    asked = tomllib.loads((NOTEBOOKS / "experiments" / f"{experiment}.toml").read_text())
    store = dr.open_store(address)
    stored = dr.sample_robustness(store)
    chosen = {**asked["train"], **asked["test"]}
    names = {name: text if text in store.groups else name for name, text in chosen.items()}
    references = {
        name: dr.select_subset(stored, text).compute()
        for name, text in chosen.items()
        if text not in store.groups
    }
    scores = dr.sample_robustness(store, references=references).write()
    rows = []
    for train in asked["train"]:
        for test in asked["test"]:
            found = dr.alignment(scores, names[train], names[test]).summary()
            rows.append({"train": train, "test": test, "kolmogorov": found.kolmogorov,
                         "wasserstein": found.wasserstein, "mean": found.mean})  # fmt: skip
    return pd.DataFrame(rows)


def performance(trials: str, swept: str, loss_high: bool) -> pd.DataFrame:
    """Return the best mean ACC and LOSS of every training subset, test subset and kind of model."""
    table = pd.read_csv(RESULTS / f"trials-{trials}.csv.gz")
    kind = "weights" if "weights" in table else "criterion"
    table["loss"] *= 1 if loss_high else -1  # high is good
    setting = ["model", kind, "train", "test", swept]
    means = table.groupby(setting, sort=False)[["acc", "loss"]].mean()
    best = means.groupby(level=setting[:-1], sort=False).max().reset_index()
    return best.rename(columns={kind: "kind"})


def verdict(cells: pd.DataFrame, distance: str, measure: str) -> dict[str, Any]:
    """Return how alignment goes with performance within the rows of one test subset and model."""
    correlations, wins, whole = [], 0, 0
    for _, row in cells.groupby(["model", "kind", "test"], sort=False):
        correlations.append(spearmanr(-row[distance], row[measure]).statistic)
        best = row.loc[row[measure] == row[measure].max(), "train"]
        wins += row.loc[row[distance].idxmin(), "train"] in set(best)
        whole += "x" in set(best)
    return {
        "distance": distance, "measure": measure, "rows": len(correlations),
        "spearman": float(pd.Series(correlations).mean()),
        "aligned_wins": wins, "whole_wins": whole,
        "by_chance": len(correlations) / cells["train"].nunique(),
    }  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """Return what was found as Markdown."""
    lines = [
        "# Does alignment tell which training subset is best?",
        "",
        "Written by `scripts/paper/alignment.py`: the distance of R within every training subset "
        "of the paper from R within every test subset, beside the performance in the committed "
        "trials (each at its best hyper-parameter). A row is a test subset and a kind of model; "
        "within it the training subsets are ranked. Spearman: mean rank correlation of nearness "
        "and performance, 1 where alignment ranks them as performance does. There are few "
        "subsets a row, and rows share their samples, so no p-value is given.",
    ]
    for data, part in found.items():
        lines += ["", f"## {data}", "", f"Scored and aligned in {part['seconds']:.0f} s.", "",
                  "| models | distance | measure | Spearman | best aligned set wins | whole x wins "
                  "| by chance |", "|---|---|---|---:|---:|---:|---:|"]  # fmt: skip
        lines += [
            f"| {v['trials']} | {v['distance']} | {v['measure'].upper()} | {v['spearman']:+.2f} "
            f"| {v['aligned_wins']} of {v['rows']} | {v['whole_wins']} of {v['rows']} "
            f"| {v['by_chance']:.1f} |"
            for v in part["verdicts"]
        ]
        table = pd.DataFrame(part["alignment"]).pivot(
            index="test", columns="train", values="kolmogorov"
        )
        order = list(dict.fromkeys(a["train"] for a in part["alignment"]))
        lines += ["", "Kolmogorov distances:", "", "| | " + " | ".join(order) + " |",
                  "|---|" + "---:|" * len(order)]  # fmt: skip
        for test in dict.fromkeys(a["test"] for a in part["alignment"]):
            cells = " | ".join(f"{table.loc[test, train]:.3f}" for train in order)
            lines.append(f"| {test} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cifar10", metavar="STORE")
    parser.add_argument("--online-news", metavar="STORE")
    options = parser.parse_args()
    stores = {"cifar10": options.cifar10, "online-news": options.online_news}
    found: dict[str, Any] = {}
    for data, address in stores.items():
        if not address:
            continue
        started, verdicts = time.perf_counter(), []
        near = aligned(address, TRIALS[data][0][0])
        seconds = time.perf_counter() - started
        for _, trials, swept in TRIALS[data]:
            best = performance(trials, swept, loss_high=data == "online-news")
            cells = best.merge(near, on=["train", "test"], validate="many_to_one")
            verdicts += [
                {"trials": trials, **verdict(cells, distance, measure)}
                for distance in DISTANCES
                for measure in ("acc", "loss")
            ]
        found[data] = {
            "seconds": seconds, "alignment": near.to_dict("records"), "verdicts": verdicts,
        }  # fmt: skip
    (RESULTS / "alignment.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "alignment.md").write_text(page(found))


if __name__ == "__main__":
    main()
