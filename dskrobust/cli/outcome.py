"""What `evaluate` and `run` print and write once an experiment is through."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..outputs import whole_file, written_at
from ..paths import behind_links
from ..user_warnings import warn

if TYPE_CHECKING:
    from ..evaluation import CrossValidation, Evaluation

    Evaluated = Evaluation | CrossValidation


def report(
    evaluation: Evaluated, as_json: bool, written: Sequence[tuple[str, Any]], balanced: bool
) -> None:
    """Print what came out; fail where steps failed, with a line for each."""
    if as_json:
        click.echo(json.dumps(evaluation_facts(evaluation), indent=2))
    else:
        _print(evaluation, written, balanced)
    mixed = [f"{name} {' and '.join(v)}" for name, v in evaluation.versions().items() if len(v) > 1]
    if mixed:
        warn(f"the steps were made with different versions: {', '.join(mixed)}")
    say_failures(evaluation)


def say_failures(evaluation: Evaluated) -> None:
    """Say in a line each which steps failed.

    Raises
    ------
    EvaluationError
        Where any did.
    """
    from ..evaluation import summary_of
    from ..show import terminal

    for failure in evaluation.failures:
        terminal.say(f"Failed: {failure}", style="red", stderr=True)
    if evaluation.failures:
        raise summary_of(evaluation.failures, len(evaluation.jobs))


def evaluation_facts(evaluation: Evaluated) -> dict[str, Any]:
    """Return an evaluation as plain values; LOSS and ACC that are not there are null."""
    table, sessions = (t.astype(object) for t in (evaluation.table, evaluation.sessions))
    more = {"sessions": sessions.where(sessions.notna(), None).to_dict("records")}
    return {
        **evaluation.facts(),
        "versions": evaluation.versions(),
        "records": _record_paths(evaluation),
        "table": table.where(table.notna(), None).to_dict("records"),
        **(more if len(sessions) else {}),
        "failures": [str(failure) for failure in evaluation.failures],
    }


def _record_paths(evaluation: Evaluated) -> str | list[str]:
    """Return where the finished steps lie in the store: of folds, of each."""
    paths = [part.records.path for part in evaluation.parts]
    return paths[0] if len(paths) == 1 else paths


def _print(evaluation: Evaluated, written: Sequence[tuple[str, Any]], balanced: bool) -> None:
    from ..show import terminal

    for matrix in _matrices(evaluation, balanced):
        terminal.say()
        for line in str(matrix).splitlines():
            terminal.say(line)
    terminal.say()
    for line in session_lines(evaluation):
        terminal.fact("epochs", line)
    for name, path in written:
        terminal.fact(name, str(path))
    first, *others = (part.records for part in evaluation.parts)
    names = ", ".join([first.path, *(records.name for records in others)])
    terminal.fact("records", f"{first.address.url}/{names}")


def session_lines(evaluation: Evaluated) -> list[str]:
    """Return how networks came to their epochs, as the paper's Table 4 and C.3 have it."""
    lines = []
    for row in evaluation.sessions.to_dict("records"):
        line = f"{row['model']} on {row['train']}: {row['epochs']}"
        if row["way"] == "best-weights":
            lasted = ", ".join(map(str, row["best_epochs"]))
            line += f"+{row['extra']:.0f} ({row['average']:.0f}); the first session's: [{lasted}]"
        elif row["way"] == "search":
            edge = "" if row["inside"] else ", where the search ended: LOSS may fall further"
            line += f", after {row['threshold']:.0f} in the first session{edge}"
        lines.append(line)
    return lines


def _matrices(evaluation: Evaluated, balanced: bool) -> list[Any]:
    """Return matrices as Tables 6 and 8 have them, then, where there is a choice, 7 and 9.

    `balanced` adds those of the re-weighted LOSS, as Table 3 has them.
    """
    chosen = any(len(m.spec.grid.get(m.sweep, ())) > 1 for m in evaluation.models)
    made = [matrix for best in (None, "each")[: 1 + chosen] for matrix in evaluation.matrices(best)]
    return made + (evaluation.matrices(loss="balanced_loss") if balanced else [])


def write(evaluation: Evaluated, folder: Path, balanced: bool) -> list[Path]:
    """Write the table, the matrices, the provenance and, where there are some, the curves."""
    from ..export import write_csv

    with written_at(folder):
        behind_links(folder).mkdir(parents=True, exist_ok=True)
    table, text, facts = (folder / name for name in ("table.csv", "matrices.md", "facts.json"))
    written = [table, text, facts]
    write_csv(evaluation.table, table)
    if len(curves := evaluation.curves):
        written.append(folder / "curves.csv")
        write_csv(curves, written[-1])
    _write_text(text, "\n\n".join(map(_markdown, _matrices(evaluation, balanced))) + "\n")
    plain = {k: v for k, v in evaluation_facts(evaluation).items() if k != "table"}
    _write_text(facts, json.dumps(plain, indent=2) + "\n")
    return written


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def _markdown(matrix: Any) -> str:
    from ..show.sheets import markdown_text

    sheet = matrix.sheet()
    title, foot = map(markdown_text, (sheet.title, sheet.foot))
    return f"**{title}**\n\n{matrix.to_markdown()}\n\n{foot}"
