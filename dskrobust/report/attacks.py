"""The accuracy of networks under attack, by the size of the attack (paper, section 5 iii)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..evaluation.susceptibility import Susceptibility, size_text
from . import style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure


@style.styled
def accuracy_under_attack(made: Susceptibility) -> Figure:
    """Return a panel a test subset, a line a training subset, and 95 % intervals in their shade.

    Sizes stand side by side, at equal steps, as they mostly double.

    Parameters
    ----------
    made : Susceptibility
        Computed if need be.
    """
    (trains, tests), looks = made.subsets, style.look_of(made.subsets[0])
    figure, (panels,) = style.panels([len(tests)], 3, 2.9, sharey=True)
    entries: dict[Any, tuple[Artist, str]] = {}
    places = range(len(made.sizes))
    for axes, test in zip(panels, tests, strict=True):
        for train in trains:
            cells = [made.cells.get((train, test, size)) for size in made.sizes]
            known = [cell.acc for cell in cells if cell]
            if not known:  # its step failed
                continue
            look, said = looks[train], style.subset_name(train)
            (line,) = axes.plot(places, [acc.mean for acc in known], **look, label=said)
            low, high = ([getattr(acc, end) for acc in known] for end in ("low", "high"))
            axes.fill_between(places, low, high, color=look["color"], alpha=0.12, linewidth=0)
            entries.setdefault(train, (line, said))
        axes.set_title(f"tested on {style.subset_name(test)}", parse_math=True)
        axes.set_xticks(places, [size_text(size) if size else "0" for size in made.sizes])
        axes.tick_params(axis="x", labelrotation=45)
        axes.set_xlabel(f"size of the attack ({made.attack_words})")
        axes.set_ylim(0, 1)
    panels[0].set_ylabel("accuracy")
    style.legend_above(figure, entries, math=True)
    return figure
