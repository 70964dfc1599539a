"""Run the paper's networks on MNIST (F): Figure 12 with its probabilities.

    python scripts/paper/cnn_mnist.py mnist.zarr             # on this machine's GPUs
    python scripts/paper/cnn_mnist.py mnist.zarr --small     # a 20th of the images, on the CPU

The store needs results, as for `cnn.py`; the experiment is cnn-mnist.toml. Afterwards `dskrobust
report STORE --figure 12` draws the figure. What is written: the most and the least robust images
of every digit with R and probability, and rank correlations of both over all training images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
from cnn_claims import observation_row
from cnn_runs import EVERY, cluster, experiment_of, size_words, slice_of
from probabilities import asked_samples, correlations, extremes, relation_row
from tables import LIBRARIES, NOTEBOOKS, run, versions

import dskrobust as dr
from dskrobust.evaluation.protocol import PerformanceMatrix
from dskrobust.store import current_results

COMMAND = "python scripts/paper/cnn_mnist.py mnist.zarr"
ACC, WITHIN = 0.98, 0.005  # "about 98 %" in F


def facts_of(matrix: PerformanceMatrix, samples: pd.DataFrame, size: str, command: str) -> Any:
    """Return ACC, correlations and observations as plain values."""
    acc = float(matrix.acc[0, 0])
    near = abs(acc - ACC) <= WITHIN
    word = "holds" if near else "does not hold"
    rows = [
        {
            "claim": "a shallow CNN has an average ACC of about 98 % on t",
            "holds": int(near),
            "of": 1,
            "verdict": f"{word}: {acc:.4f}, within {WITHIN:g} is asked for ({size})",
        }
    ]
    found = correlations(samples)
    rows += [relation_row(one, name, size) for name, one in found.items()]
    return {
        "size": size,
        "versions": versions((*LIBRARIES, "torch")),
        "acc": acc,
        "rank_correlations": {name: one._asdict() for name, one in found.items()},
        "observations": [observation_row(row, "F, Figure 12", command) for row in rows],
    }


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", help="of MNIST, with results")
    parser.add_argument("--scheduler", metavar="ADDRESS")
    parser.add_argument("--small", action="store_true", help="on the CPU, with a 20th of the data")
    parser.add_argument("--slice", type=Path, default=Path("mnist-small.zarr"), metavar="STORE",
                        help="where --small keeps its data")  # fmt: skip
    parser.add_argument("--out", type=Path, help="the file of figures, .json")
    options = parser.parse_args()
    store = dr.open_store(options.store)
    if options.small:
        store = slice_of(store, options.slice, EVERY["mnist"])
    current_results(store)
    with cluster(options.scheduler, options.small) as client:
        evaluation = dr.evaluate(store, experiment_of("cnn-mnist", options.small), client=client)
        run(evaluation)
    samples = asked_samples(evaluation)
    size = size_words(store, EVERY["mnist"] if options.small else None)
    size += f"; {evaluation.experiment.trials} networks, trimmed mean"
    facts = facts_of(evaluation.matrix(), samples, size, f"{COMMAND}{' --small' * options.small}")
    out = options.out or NOTEBOOKS / "results" / f"cnn-mnist{'-small' * options.small}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    extremes(samples).to_csv(out.with_name(f"{out.stem}-figure-12.csv"), index=False)
    print(f"written to {out} and beside it")


if __name__ == "__main__":
    main()
