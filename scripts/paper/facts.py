"""What single samples say of the paper's 4.2, D.2 and F: small numbers out of large stores.

    python scripts/paper/facts.py --cifar10 cifar10.zarr --mnist mnist.zarr

The stores need results (`dskrobust compute`). Writes facts.json to notebooks/results, which
`observations.py` and the paper's notebook read.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import own_digits
from labels import RESULTS
from numpy.typing import NDArray
from scipy.stats import spearmanr

import dskrobust as dr
from dskrobust.report import StoredResults, score_own
from dskrobust.report.tables import extremes
from dskrobust.store import current_results

FACTS = RESULTS / "facts.json"
FRAME = 4  # pixels around an image that count as its background


def extreme_facts(results: StoredResults) -> list[dict[str, Any]]:
    """Return the least and the most robust training sample of every class, with its witness."""
    table = extremes(results.samples, "train", 1)
    labels = results.label_texts(table["witness"])
    kept = table[["label", "end", "row", "robustness", "witness"]].assign(witness_label=labels)
    return [{**row, "robustness": round(row["robustness"], 4)} for row in kept.to_dict("records")]


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return Spearman's rank correlation to three digits."""
    return round(float(spearmanr(a, b).statistic), 3)


def cifar10_facts(results: StoredResults) -> dict[str, Any]:
    """Return the extremes of every class, and how R goes with an unusual background."""
    samples = results.samples.query("group == 'train'")
    shape = results.store.spec.image_shape or ()
    images = results.store.features[samples.index.to_numpy()].reshape(-1, *shape)
    frame = np.ones(shape[1:], bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    border = images[:, :, frame]
    colours = border.mean(axis=2, dtype=np.float64)
    unusual = np.linalg.norm(colours - colours.mean(axis=0), axis=1)
    contrast = border.std(axis=2, dtype=np.float64).mean(axis=1)
    return {
        "extremes": extreme_facts(results),
        "background": {
            "colour far from the mean": rank_correlation(unusual, samples["robustness"]),
            "contrast": rank_correlation(contrast, samples["robustness"]),
        },
    }


def mnist_facts(results: StoredResults) -> dict[str, Any]:
    """Return extremes, the 2,000 most robust of x, how R goes with ink, and own digits."""
    samples = results.samples.query("group == 'train'")
    ink = results.store.features[samples.index.to_numpy()].mean(axis=1, dtype=np.float64)
    held = samples.assign(ink=ink)
    most = dr.class_counts(results.store, [dr.select_subset(results.scores, "train:M2000")])
    own = own_digits.images()
    scored = score_own(results, np.stack(list(own.values())), list(own))
    group = held.groupby("label", observed=True)
    return {
        "extremes": extreme_facts(results),
        "x_M2": dict(zip(most.labels, most.values[:, 0].tolist(), strict=True)),
        "ink": {
            "all": rank_correlation(ink, held["robustness"]),
            **{str(k): rank_correlation(g["ink"], g["robustness"]) for k, g in group},
        },
        "quantiles": held["robustness"].quantile([0, 0.05, 0.5, 0.95, 1]).round(4).tolist(),
        "own": [
            {"label": row["label"], "robustness": round(row["robustness"], 4),
             "witness_label": row["witness_label"],
             "more_robust_than": round(float((held["robustness"] < row["robustness"]).mean()), 3)}
            for row in scored[["label", "robustness", "witness_label"]].to_dict("records")
        ],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cifar10", metavar="STORE")
    parser.add_argument("--mnist", metavar="STORE")
    options = parser.parse_args()
    found = json.loads(FACTS.read_text()) if FACTS.exists() else {}
    for name, make, address in (
        ("cifar10", cifar10_facts, options.cifar10),
        ("mnist", mnist_facts, options.mnist),
    ):
        if address:
            store = dr.open_store(address)
            found[name] = make(StoredResults(store, current_results(store)))
            FACTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
