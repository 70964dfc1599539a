"""Make the README's picture from scikit-learn's digits: who is least robust, and because of whom.

python scripts/make_picture.py [--out notebooks/images/least_robust.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits

mpl.use("Agg")
from matplotlib import pyplot as plt

import dskrobust as dr

PAIRS = 7
INK = "#1b3a5c"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("notebooks/images/least_robust.png"))
    options = parser.parse_args()
    digits = load_digits()
    scores = dr.sample_robustness(digits.data, digits.target, scale=1 / 16).compute()
    order = np.argsort(scores.robustness, kind="stable")
    chosen: list[int] = []
    for row in order:  # one of every mutual pair
        if scores.witness[row] not in chosen and len(chosen) < PAIRS:
            chosen.append(int(row))
    figure = plt.figure(figsize=(11, 3.1), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 2.1])
    axes = left.subplots()
    axes.hist(scores.robustness, bins=40, color=INK)
    axes.set(xlabel="sample robustness R", ylabel="samples")
    axes.set_title("1,797 digits", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    grid = right.subplots(2, PAIRS)
    for column, row in enumerate(chosen):
        for line, index in enumerate((row, int(scores.witness[row]))):
            image = grid[line, column]
            image.imshow(digits.images[index], cmap="gray_r")
            image.set(xticks=[], yticks=[])
            image.spines[:].set_color("#bbbbbb")
            text = f"“{digits.target[index]}”"
            image.set_title(
                f"{text}  R = {scores.robustness[row]:.3f}" if line == 0 else text, fontsize=9
            )
    grid[0, 0].set_ylabel("least robust", fontsize=10)
    grid[1, 0].set_ylabel("its witness", fontsize=10)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=130)
    print(options.out)


if __name__ == "__main__":
    main()
