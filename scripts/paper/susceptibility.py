"""Are networks that were trained on more robust samples less susceptible? (section 5 iii)

    python scripts/paper/susceptibility.py mnist.zarr --train 2000 --test 500

The first rows of both groups go into a store among the temporary files, and the small CNN is
trained on all of its training rows and on their halves, on the CPU or, with --device gpu, on a GPU.
The figures are written to notebooks/results/susceptibility.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

import dskrobust as dr
from dskrobust.evaluation.rows import read_features
from dskrobust.show import terminal

RESULT = Path(__file__).parents[2] / "notebooks" / "results" / "susceptibility.json"
LIBRARIES = ("dskrobust", "numpy", "torch")
LEVELS = (8, 16, 32, 64)  # of 255
RATE = 1e-3  # of RMSprop: a few rows and epochs are to do


def part_of(store: dr.Store, train: int, test: int, folder: str) -> dr.Store:
    """Return a store of the first rows of both groups, with results."""
    split = store.split
    rows = [np.flatnonzero(split == name)[:n] for name, n in (("train", train), ("test", test))]
    some = np.sort(np.concatenate(rows))
    known = store.spec
    spec = dr.StoreSpec(known.name, "categorical", scale=known.scale, image_shape=known.image_shape)
    features, labels = read_features(store, some, None), store.labels[some]
    made = dr.create_store(f"{folder}/part.zarr", features, labels, split=split[some], spec=spec)
    dr.sample_robustness(made).write()
    return made


def main() -> None:
    """Train, attack, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--attack", choices=("fgsm", "pgd"), default="fgsm")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--out", type=Path, default=RESULT)
    wanted = parser.parse_args()
    opened = dr.open_store(wanted.store)
    parameters = {"epochs": wanted.epochs, "learning_rate": RATE}
    model = dr.Model("cnn", {}, parameters, {"device": wanted.device})
    with tempfile.TemporaryDirectory() as folder:
        store = part_of(opened, wanted.train, wanted.test, folder)
        began = time.perf_counter()
        made = dr.susceptibility(
            store, attack=wanted.attack, sizes=[level / 255 for level in LEVELS], model=model,
            trials=wanted.trials,
        ).compute()  # fmt: skip
        seconds = time.perf_counter() - began
        cells = made.to_frame().to_dict("records")
        found = {
            "data": opened.spec.name,
            "rows": {"train": wanted.train, "test": wanted.test},
            "network": {"kind": "cnn", **parameters},
            "device": wanted.device,
            "trials": wanted.trials,
            "attack": made.attack_words,
            "findings": made.findings(),
            "foot": made.foot(),
            "seconds": round(seconds, 1),
            "versions": {name: version(name) for name in LIBRARIES},
            "cells": [
                {k: None if v != v else round(v, 6) if isinstance(v, float) else v
                 for k, v in cell.items()}
                for cell in cells
            ],
        }  # fmt: skip
    wanted.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for line in made.findings():
        terminal.say(line)


if __name__ == "__main__":
    main()
