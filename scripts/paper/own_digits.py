"""Write the images of Figure 13 to notebooks/paper/own-digits: digits of another hand than MNIST's.

    python scripts/paper/own_digits.py

They are the first ones of scikit-learn's digits, of 8 × 8 pixels, enlarged to 20 × 20 and framed as
MNIST's are, with the paper's two jokes: the "4" is blank, and the "3" is a 4.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

FOLDER = Path(__file__).parents[2] / "notebooks" / "paper" / "own-digits"
SIDE, FRAME = 20, 4  # pixels of a digit, and around it


def images() -> dict[str, NDArray[np.uint8]]:
    """Return the images by their labels, (28, 28) each."""
    digits = load_digits()
    first = {str(k): digits.images[np.flatnonzero(digits.target == k)[0]] for k in range(10)}
    meant = {**first, "3": first["4"], "4": np.zeros_like(first["4"])}
    return {label: framed(image) for label, image in meant.items()}


def framed(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return an image of 8 × 8 values of 0 … 16 as MNIST has its digits."""
    large = zoom(image, SIDE / len(image), order=1) * (255 / 16)
    return np.pad(large.round().clip(0, 255).astype(np.uint8), FRAME)


def main() -> None:
    for label, image in images().items():
        path = FOLDER / label / "own.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, optimize=True)


if __name__ == "__main__":
    main()
