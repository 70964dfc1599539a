"""Put A.4's bound beside L(F − y) for some models (3.5, A.4); count natural adversarials (3.6).

    python scripts/paper/bounds.py mnist.zarr --train 4000 --test 1000

The first rows of both groups go into a store among the temporary files. The figures are written to
notebooks/results/model-bounds.json: for every model the error on the test rows, ‖F − y‖∞,
L(F − y), A.4's bound and the share of L that it explains.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

import dskrobust as dr
from dskrobust.show import terminal

RESULTS = Path(__file__).parents[2] / "notebooks" / "results"
LIBRARIES = ("dskrobust", "numpy", "scikit-learn", "torch")
RATE = 1e-3  # of the small CNN's RMSprop: a few rows and epochs are to do
EVERY = 2  # epochs between two looks at the small CNN


def part_of(store: dr.Store, train: int, test: int, folder: str) -> dr.Store:
    """Return a store of the first rows of both groups."""
    split = store.split
    rows = [np.flatnonzero(split == name)[:n] for name, n in (("train", train), ("test", test))]
    some = np.sort(np.concatenate(rows))
    return dr.create_store(
        f"{folder}/part.zarr", store.features[some], store.labels[some], split=split[some]
    )


def models(store: dr.Store, epochs: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield models by name, with their probabilities of all rows."""
    X, y, train = store.features[:], store.labels[:], store.split == "train"
    for k in (1, 5, 15):
        yield (
            f"{k}-nearest neighbours",
            KNeighborsClassifier(k).fit(X[train], y[train]).predict_proba(X),
        )
    for trees in (1, 9, 100):
        forest = RandomForestClassifier(trees, random_state=0)
        yield f"forest of {trees}", forest.fit(X[train], y[train]).predict_proba(X)
    yield from small_cnn(X, y, train, epochs)


def small_cnn(
    X: NDArray[Any], y: NDArray[Any], train: NDArray[np.bool_], epochs: int
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the probabilities of the small CNN (C.1) as it learns."""
    from dskrobust.evaluation.models.networks.settings import Training
    from dskrobust.evaluation.models.networks.trials import Trials

    side = int(np.sqrt(X.shape[1]))
    shape = (1, side, side) if side * side == X.shape[1] else (3, 32, 32)
    training = Training("cnn", shape, int(y.max()) + 1, learning_rate=RATE, scale=1 / 255)
    trials = Trials(training, X[train], y[train].astype(np.int64), [0])
    for epoch in range(1, epochs + 1):
        trials.train_epoch()
        if epoch % EVERY == 0:
            yield f"small CNN, {epoch} epochs", trials.probabilities(X)[0].astype(np.float64)


def compared(store: dr.Store, probabilities: NDArray[Any]) -> dict[str, Any]:
    """Return the error on the test rows, the norms and the bound."""
    started = time.perf_counter()
    found = dr.lipschitz_error(store, probabilities).summary()
    test, y = store.split == "test", store.labels[:]
    wrong = probabilities.argmax(axis=1) != y
    return {
        "error on test": float(wrong[test].mean()),
        "error on train": float(wrong[~test].mean()),
        "seconds": round(time.perf_counter() - started, 1),
        **found.facts(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    whole = dr.open_store(asked.store)
    with tempfile.TemporaryDirectory() as folder:
        store = part_of(whole, asked.train, asked.test, folder)
        scores = dr.sample_robustness(store).write()
        kept: dict[str, Any] = {
            "work": f"{whole.spec.name}, the first {asked.train:,} training and {asked.test:,} "
            "test rows; pixels as stored",
            "versions": {name: version(name) for name in LIBRARIES},
            "models": {},
        }
        table = terminal.table("model", "error", "‖F − y‖∞", "L(F − y)", "bound", "share")
        for name, probabilities in models(store, asked.epochs):
            facts = kept["models"][name] = compared(store, probabilities)
            values = (
                facts["deviation"]["value"],
                facts["lipschitz_error"],
                facts["bound"]["value"],
            )
            shown = (f"{v:.4g}" for v in values)
            terminal.add_row(
                table, name, f"{facts['error on test']:.1%}", *shown, f"{facts['share']:.0%}"
            )
        terminal.show(table)
        adversarials = dr.natural_adversarials(scores)
        kept["natural adversarials"] = adversarials.facts()
        for text in adversarials.words():
            terminal.say(text)
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    (RESULTS / "model-bounds.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
