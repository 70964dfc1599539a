"""What a command's own process holds: said after it ran, and refused before where it is too much.

Shown are the peak as measured and as projected; a command imports first what it needs, so that
the projection counts it.
"""

from __future__ import annotations


def say_memory(projected: int) -> None:
    """Say what this process has held at most, beside what was projected."""
    from ..cluster.workers import peak_memory
    from ..show import terminal

    measured = terminal.size(peak_memory() or 0)
    terminal.fact("memory", f"{measured} at most, {terminal.size(projected)} projected")
