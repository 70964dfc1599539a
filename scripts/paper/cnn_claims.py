"""What the paper says of its networks (4.2.1, D.2, D.3, F), as checks and as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tables import Observation, PaperTable, acc, loss, value

from dskrobust.evaluation.protocol import PerformanceMatrix

OBSERVATIONS = (
    Observation(
        (2, 3),
        "ACC on t is highest, and LOSS lowest, with x",
        lambda m: acc(m, "t") == max(m.acc[0]) and loss(m, "t") == min(m.loss[0]),
    ),
    Observation(
        (4,),
        "LOSS is lowest and ACC highest with x, on every test subset",
        lambda m: all(acc(m, t) == max(m.acc[i]) and loss(m, t) == min(m.loss[i])
                      for i, t in enumerate(m.test)),
    ),
    Observation(
        (2, 3, 4),
        "fewer epochs are best for x_L25 and x_M25 than for x",
        lambda m: max(value(m, "t", x) for x in ("x_L25", "x_M25")) < value(m, "t"),
    ),
    Observation(
        (2, 3),
        "with x_L40, LOSS is lower on t_L5 and t_L2 than with x, and higher on t_M5 and t_M2",
        lambda m: all(loss(m, t, "x_L40") < loss(m, t) for t in ("t_L5", "t_L2"))
        and all(loss(m, t, "x_L40") > loss(m, t) for t in ("t_M5", "t_M2")),
    ),
    Observation(
        (2, 3),
        "with x_M40, LOSS is lower on t_M5 and t_M2 than with x, and higher on t_L5 and t_L2",
        lambda m: all(loss(m, t, "x_M40") < loss(m, t) for t in ("t_M5", "t_M2"))
        and all(loss(m, t, "x_M40") > loss(m, t) for t in ("t_L5", "t_L2")),
    ),
    Observation(
        (2, 3, 4),
        "ACC is higher on t_L2 than on t_M2 with x_L25, and the other way round with x_M25",
        lambda m: acc(m, "t_L2", "x_L25") > acc(m, "t_M2", "x_L25")
        and acc(m, "t_L2", "x_M25") < acc(m, "t_M2", "x_M25"),
    ),
    Observation(
        (3,),
        "re-weighted LOSS differs less between test subsets with x_M25 than with x_L25",
        lambda m: np.ptp(m.loss[:, m.train.index("x_M25")])
        < np.ptp(m.loss[:, m.train.index("x_L25")]),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class CurveClaim:
    """Something D.3 says of the curves of the prototype.

    Attributes
    ----------
    words : str
    least : float
        Share of the epochs from which on it is said to hold.
    epochs : callable
        Curves (LOSS, then ACC, each epochs × test subsets) → one truth an epoch.
    """

    words: str
    least: float
    epochs: Callable[[pd.DataFrame, pd.DataFrame], pd.Series[bool]]


CURVE_CLAIMS = (
    CurveClaim("from the beginning LOSS is lower on t_M5 than on t_L5", 0.95,
               lambda loss, acc: loss["t_M5"] < loss["t_L5"]),
    CurveClaim("from the beginning ACC is higher on t_M5 than on t_L5", 0.95,
               lambda loss, acc: acc["t_M5"] > acc["t_L5"]),
    CurveClaim("LOSS on t_L2 is almost always the least of all five", 0.9,
               lambda loss, acc: loss["t_L2"] <= loss.min(axis=1)),
    CurveClaim("ACC is highest on t_L2 or on t_M2", 0.9,
               lambda loss, acc: acc[["t_L2", "t_M2"]].max(axis=1) >= acc.max(axis=1)),
)  # fmt: skip
CHANGES = "the test subset with the highest ACC changes every few epochs between t_L2 and t_M2"
FEW = 10  # epochs
NEAR = 0.05  # LOSS


def by_epoch(curves: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return a measure of one model as epochs × test subsets."""
    return curves.pivot(index="epoch", columns="test", values=measure)


def changes(acc: pd.DataFrame) -> int:
    """Return how often t_L2 takes the place of t_M2 as that with more ACC, or the other way."""
    difference = np.sign(acc["t_L2"] - acc["t_M2"])
    signs = difference[difference != 0].to_numpy()
    return int(np.count_nonzero(signs[1:] != signs[:-1]))


def curve_rows(curves: pd.DataFrame, size: str) -> list[dict[str, Any]]:
    """Return the claims of D.3 on the prototype's curves; `observation_row` adds the rest."""
    losses, accs = by_epoch(curves, "loss"), by_epoch(curves, "acc")
    epochs = len(losses)
    rows = []
    for claim in CURVE_CLAIMS:
        true = int(claim.epochs(losses, accs).sum())
        word = "holds" if true >= claim.least * epochs else "contradicted"
        said = f"{word}: in {true} of {epochs} epochs, {claim.least:.0%} are asked for"
        rows.append(
            {"claim": claim.words, "holds": true, "of": epochs, "verdict": f"{said} ({size})"}
        )
    times = changes(accs)
    holds = times >= epochs / FEW
    said = f"{'holds' if holds else 'contradicted'}: {times} changes in {epochs} epochs"
    rows.append({"claim": CHANGES, "holds": int(holds), "of": 1, "verdict": f"{said} ({size})"})
    return rows


def prototype_row(curves: pd.DataFrame, average: float, size: str) -> dict[str, Any]:
    """Return whether the prototype ends where the networks of Table 2 are on average, on t."""
    last = float(by_epoch(curves, "loss")["t"].iloc[-1])
    holds = abs(last - average) <= NEAR
    said = f"{last:.4f} beside {average:.4f}, within {NEAR:g} is asked for"
    return {
        "claim": "the prototype approximately has the average LOSS of Table 2 on t",
        "holds": int(holds),
        "of": 1,
        "verdict": f"{'holds' if holds else 'does not hold'}: {said} ({size})",
    }


def table_rows(paper: PaperTable, ours: Sequence[PerformanceMatrix], size: str) -> Iterable[Any]:
    """Yield what 4.2.1 says of a table, each with whether it holds for our matrices."""
    for seen in OBSERVATIONS:
        if paper.number in seen.tables:
            true = sum(map(seen.holds, ours))
            word = "holds" if true == len(ours) else "does not hold"
            yield {
                "claim": seen.words,
                "holds": int(true),
                "of": len(ours),
                "verdict": f"{word} ({size})",
            }


def observation_row(row: dict[str, Any], where: str, command: str) -> dict[str, Any]:
    """Return a row of observations.md: claim, where, holds, of, command, verdict."""
    return {
        "claim": row["claim"],
        "where": where,
        "holds": row["holds"],
        "of": row["of"],
        "command": command,
        "verdict": row["verdict"],
    }
