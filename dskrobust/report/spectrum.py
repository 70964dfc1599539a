"""Heat maps of performance by windows of both robustness spectra (paper, section 5 ii)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.matrices import number_text
from ..evaluation.windows import Spectrum, shades
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = (1.45, 0.62)  # inches
EDGE = (1.3, 1.1)
DARK = 0.6  # shades from here on have white text


@style.styled
def heat_map(spectrum: Spectrum) -> Figure:
    """Return a panel a model: test windows × training windows, and what is best in every cell.

    Colours go from the worst to the best of a row, as rows differ in how hard they are.

    Parameters
    ----------
    spectrum : Spectrum
        Computed if need be.
    """
    from matplotlib.figure import Figure

    train, test = spectrum.windows
    width, height = CELL[0] * len(train) + EDGE[0], CELL[1] * len(test) + EDGE[1]
    count = len(spectrum.models)
    figure = Figure(figsize=(width, height * count), layout="constrained")
    for axes, model in zip(
        figure.subplots(count, squeeze=False)[:, 0], spectrum.models, strict=True
    ):
        _panel(axes, spectrum, model)
        axes.set_xticks(range(len(train)), train)
        axes.set_yticks(range(len(test)), test)
        axes.set_xlabel("trained on, least to most robust")
        axes.set_ylabel("tested on")
        axes.set_title(f"{model}: {spectrum.measure} and best hyper-parameters")
    return figure


def _panel(axes: Axes, spectrum: Spectrum, model: str) -> None:
    depths = shades(spectrum.scores(model))
    values, settings = spectrum.grid(model)
    axes.imshow(depths, cmap="Blues", vmin=-0.15, vmax=1.25, aspect="auto")
    axes.grid(False)
    axes.axvline(0.5, color="white", linewidth=4)  # whole groups stand apart
    axes.axhline(0.5, color="white", linewidth=4)
    for (i, j), value in np.ndenumerate(values):
        lines = [style.short(part, 24) for part in str(settings[i, j]).split(", ")]
        said = "\n".join([number_text(value), *lines])
        colour = "white" if depths[i, j] > DARK else "black"
        axes.text(j, i, said, ha="center", va="center", fontsize=7, color=colour)
