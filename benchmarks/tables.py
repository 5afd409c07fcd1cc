"""Plain tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["milliseconds", "print_table", "ratio"]


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: the first column to the left, figures to the right."""
    lines = [tuple(headings), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        first, *others = zip(line, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def milliseconds(seconds: float) -> str:
    """Return seconds as milliseconds, with as many digits as mean something."""
    value = seconds * 1000
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def ratio(value: float) -> str:
    """Return a ratio with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
