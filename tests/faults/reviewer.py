"""A browser that reviews: `dskrobust review --open` starts it with the address of the page.

    BROWSER="python reviewer.py FILE %s" dskrobust review STORE --open

It decides on every case that is open, in turn to keep, relabel, drop or leave it, and ends the
review. Rows whose decision the page says is kept are added to FILE at once. At the first answer
that is no success it leaves, and the review with it.
"""

import http.client
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

KEPT = "kept-rows"  # the name of FILE
DECISIONS = ("keep", "relabel", "drop", "unsure")


def command(told: Path | str) -> str:
    """What the variable BROWSER names; told: the file of what was kept."""
    return f"{sys.executable} -S {__file__} {told} %s"  # without site: nothing of it is needed


def kept_rows(told: Path) -> set[int]:
    """The rows whose decisions the page said are kept."""
    lines = told.read_text().splitlines(keepends=True) if told.exists() else []
    return {int(line) for line in lines if line.endswith("\n")}


class Page:
    """The page's server, asked for JSON."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None
        self._line = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        self._root = parts.path

    def ask(self, path: str, body: Any = None) -> Any:
        """Return an answer; None where it is no success."""
        sent = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        self._line.request("GET" if body is None else "POST", self._root + path, sent, headers)
        answer = self._line.getresponse()
        said = answer.read()
        return json.loads(said) if answer.status == 200 else None


def decide_all(page: Page, told: Path) -> None:
    """Decide on all that is open, as far as decisions are kept."""
    labels = page.ask("facts")["labels"]
    states = page.ask("progress")["states"]
    with told.open("a") as file:
        for place in (k for k, state in enumerate(states) if state is None):
            case = page.ask(f"cases/{place}")
            row = case["row"]
            other = labels[(labels.index(case["label"]) + 1) % len(labels)]
            made = DECISIONS[row % len(DECISIONS)]
            label = {"label": other} if made == "relabel" else {}
            if page.ask("decisions", {"place": place, "decision": made, **label}) is None:
                return
            file.write(f"{row}\n")
            file.flush()


def main() -> None:
    """Review."""
    page = Page(sys.argv[2])
    try:
        decide_all(page, Path(sys.argv[1]))
        page.ask("end", {})
    except (OSError, http.client.HTTPException):  # it was killed
        sys.exit(1)


if __name__ == "__main__":
    main()
