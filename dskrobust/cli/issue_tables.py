"""What the command `issues` says of suspicious labels and of other oddities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from ..data_issues import DataIssues
    from ..label_issues import Findings, IssueSummary
    from ..label_regression import RegressionFindings
    from ..label_thresholds import Thresholds
    from ..store import Store

CLASSES = 12  # that thresholds are shown of
WIDE = 100  # columns of a terminal that has room for distances


def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values; what is missing or infinite is None."""
    import numpy as np

    cells = table.replace([np.inf, -np.inf], np.nan).astype(object)
    return list(cells.where(cells.notna(), None).to_dict("records"))


def say_labels(found: IssueSummary, findings: Findings, worst: list[dict[str, Any]]) -> None:
    """Say how many labels of classes are suspicious, how sure that is, and which are worst."""
    from ..show import terminal

    _say_count(found.issues, found.rows)
    say_worth(findings.thresholds, found.issues)
    for label, rows, flagged in found.crowded.itertuples(index=False):
        terminal.say(
            f"{flagged / rows:.0%} of the class {label} is flagged. So many are hardly wrong each: "
            "look whether the class is named otherwise in part of the data, or whether the "
            "features tell it apart at all.",
            style="yellow",
        )  # fmt: skip
    _say_worst(worst)
    if findings.thresholds.calibrated and found.issues:
        _say_classes(found, findings)


def _say_count(issues: int, rows: int) -> None:
    from ..show import terminal

    verb = "is" if issues == 1 else "are"
    terminal.say(
        f"{issues:,} of {terminal.counted(rows, 'label')} {verb} suspicious", style=terminal.STRONG
    )


def say_worth(thresholds: Thresholds, issues: int) -> None:
    """Say what planted errors tell of the thresholds, and what to do next."""
    from ..show import terminal

    if thresholds.calibrated:
        terminal.say(thresholds.words())
    if issues:
        terminal.say("Suspicious is not wrong: look at each before you change it.")


def _say_worst(worst: list[dict[str, Any]]) -> None:
    from ..show import terminal

    named = bool(worst) and "id" in worst[0]
    own, end = (("row", "id"), "_id") if named else (("row",), "")
    heads = {f"witness{end}": "witness", "witness_distance": "at", f"nearest_same{end}": "same",
             "same_distance": "at"}  # fmt: skip
    if terminal.console().width < WIDE:  # names are worth more than distances
        heads = {name: head for name, head in heads.items() if head != "at"}
    names = ("score", *own, "label", "suggested", *heads.values(), "limits")
    words = {"id", "label", "suggested"} | ({"witness", "same"} if named else set())
    text = [k for k, name in enumerate(names) if name in words]
    quiet = [k for k, name in enumerate(names) if name == "at"]
    shown = terminal.table(*names, text=text, quiet=quiet)
    for facts in worst:
        terminal.add_row(
            shown,
            "–" if facts["score"] is None else f"{facts['score']:.3f}",
            *(facts[name] for name in (*own, "given_label")),
            *(_cell(facts[name]) for name in ("suggested_label", *heads)),
            f"{facts['witness_of']:,}",
            style=None if facts["is_issue"] else terminal.QUIET,
        )
    terminal.show(shown)
    terminal.say(
        "Score: 0 where the label does not fit its surroundings, 1 where it does. Witness and "
        "same: the nearest samples of another label and of the same; at: how far they are. "
        "Limits: how many samples have this one as witness. –: there is none in its group. "
        "Pale: no issue.",
        style=terminal.QUIET,
    )


def _say_classes(found: IssueSummary, findings: Findings) -> None:
    """Show the classes of which most is flagged, with what their thresholds are worth."""
    from ..show import terminal

    table = findings.threshold_table().set_index("label")
    rest = table.iloc[-1]
    terminal.heading("How sure that is, class by class")
    shown = terminal.table("class", "samples", "flagged", "", "threshold", "found", "right")
    for label, rows, flagged in found.classes.head(CLASSES).itertuples(index=False):
        known = table.loc[label] if label in table.index else rest
        terminal.add_row(
            shown, label, f"{rows:,}", f"{flagged:,}", f"{flagged / rows:.1%}",
            *(_share(known[name], text) for name, text in _WORTH.items()),
        )  # fmt: skip
    terminal.show(shown)
    terminal.say(
        "Threshold: the largest score that is flagged. Found: the share of planted errors that is. "
        "Right: an estimate of the share of what is flagged that is an error, if beside those that "
        "are there 1 % of the labels were.",
        style=terminal.QUIET,
    )


_WORTH = {"threshold": "{:.2f}", "found": "{:.0%}", "precision": "≈ {:.0%}"}


def _share(value: float, text: str) -> str:
    return "–" if value != value else text.format(value)


def say_values(values: pd.DataFrame) -> None:
    """Show samples beside their witnesses and nearest namesakes."""
    from ..show import terminal

    if not len(values):
        return
    terminal.heading("The first ones beside their witnesses and nearest of the same label")
    shown = terminal.table("row", "column", "sample", "witness", "same", text=(1,))
    last = None
    for row, column, *cells in values.itertuples(index=False):
        terminal.add_row(shown, "" if row == last else row, column, *(c or "–" for c in cells))
        last = row
    terminal.show(shown)


def say_why_weak(store: Store) -> None:
    """Say why suspicion is weak, where the store's notes give a reason."""
    from ..show import terminal
    from ..store import RARE_CLASS, SCALE

    reasons = {
        SCALE: "Weak suspicion: a few columns decide which samples are near",
        RARE_CLASS: "Weak suspicion in a rare class: the nearest sample is mostly of another, "
        "wrong or not, so its samples are compared with each other",
    }
    for note in store.notes or ():
        if note.kind in reasons:
            terminal.say(f"{reasons[note.kind]} ({note.on_command_line}).", style="yellow")


def say_others(found: DataIssues | None) -> None:
    """Say in a few lines what else was found."""
    from rich.text import Text

    from ..show import terminal

    lines = [] if found is None else [line for line in found.lines() if line[1]]
    if found is None or not (lines or len(found.overlaps)):
        return
    terminal.heading("Also found")
    shown = terminal.table("--kind", "samples", "what it means", text=(0, 2))
    for kind, count, means in lines:
        shown.add_row(_PLURAL.get(kind, kind), f"{count:,}", Text(means))
    if len(found.overlaps):
        label, other, rows, share = next(found.overlaps.itertuples(index=False))
        means = f"most: {share:.1%} of class {label} lie nearest to {other}"
        shown.add_row("overlaps", f"{rows:,}", Text(terminal.shown_name(means)))
    terminal.show(shown)


_PLURAL = {"contradiction": "contradictions", "duplicate": "duplicates", "witness": "witnesses"}


def say_kind(kind: str, found: DataIssues, listed: list[dict[str, Any]]) -> None:
    """List findings of one kind."""
    from ..data_issues import KINDS
    from ..show import terminal

    if kind == "overlaps":
        terminal.say("Classes that overlap most", style=terminal.STRONG)
        shown = terminal.table("class", "nearest to", "samples", "of the class", text=(0, 1))
        for facts in listed:
            terminal.add_row(shown, facts["label"], facts["other_label"], f"{facts['rows']:,}",
                             f"{facts['share']:.1%}")  # fmt: skip
        terminal.show(shown)
        return
    one = found.kind(kind)
    count = found.counts.get(one, 0)
    terminal.say(f"{terminal.counted(count, 'sample')}: {KINDS[one]}", style=terminal.STRONG)
    if not listed:
        return
    named = bool(listed) and "id" in listed[0]
    own, end = (("row", "id"), "_id") if named else (("row",), "")
    shown = terminal.table(*own, "group", "label", "near to", "its label", "at", "limits",
                           text=(1, 2, 3, 4, 5) if named else (1, 2, 4))  # fmt: skip
    for facts in listed:
        terminal.add_row(
            shown, *(facts[name] for name in own), facts["split"], facts["label"],
            *(_cell(facts[name]) for name in (f"other{end}", "other_label", "distance")),
            f"{facts['witness_of']:,}",
        )  # fmt: skip
    terminal.show(shown)


def say_real(found: RegressionFindings, worst: list[dict[str, Any]]) -> None:
    """Say how many real labels are suspicious, how sure that is, and which are worst."""
    from ..show import terminal

    _say_count(found.issues, found.rows)
    say_worth(found.thresholds, found.issues)
    named = bool(worst) and "id" in worst[0]
    own = ("row", "id") if named else ("row",)
    shown = terminal.table("score", *own, "label", "neighbours", "off by", "spread", "nearest",
                           text=(2,) if named else ())  # fmt: skip
    for facts in worst:
        cells = ("given_label", "neighbours_label", "difference", "spread", "nearest")
        terminal.add_row(
            shown, f"{facts['score']:.3f}", *(facts[name] for name in own),
            *(_cell(facts[name]) for name in cells),
            style=None if facts["is_issue"] else terminal.QUIET,
        )  # fmt: skip
    terminal.show(shown)
    terminal.say(
        "Neighbours: the median label of the nearest samples; off by: how far the label is from "
        "it; spread: how far the neighbours' labels are from it as a rule. Pale: no issue.",
        style=terminal.QUIET,
    )


def _cell(value: Any) -> Any:
    from ..show import terminal

    if value is None:
        return "–"
    return terminal.number(value) if isinstance(value, float) else value
