"""What an examination found, and how it reads."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from typing_extensions import override

__all__ = ["Finding", "Report", "Verdict"]


class Verdict(StrEnum):
    """What a finding means: nothing to do, something to know, or something to change first."""

    PASS = "pass"  # noqa: S105 - a verdict
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: What was looked at, in a word or two.
        verdict: What it means.
        found: What was seen.
        advice: What to do; empty if nothing has to be done.
    """

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings of one examination; ``str(report)`` is a table for a terminal.

    Attributes:
        subject: The name of the module's class.
        findings: In the order of the checks.
    """

    subject: str
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Verdict:
        """The gravest verdict of all."""
        order = list(Verdict)
        return max((finding.verdict for finding in self.findings), key=order.index, default=Verdict.PASS)

    def __getitem__(self, check: str) -> Finding:
        """Return the finding of one check.

        Raises:
            KeyError: There was no such check.
        """
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(check)

    @override
    def __str__(self) -> str:
        return "\n".join(self._lines(width=shutil.get_terminal_size((100, 24)).columns))

    def _lines(self, *, width: int) -> Iterator[str]:
        label_width = max((len(finding.check) for finding in self.findings), default=0)
        indent = " " * (label_width + 8)
        yield f"{self.subject}: {self._counts()}"
        for finding in self.findings:
            start = f"{finding.verdict:4}  {finding.check:{label_width}}  "
            yield textwrap.fill(
                finding.found,
                width=width,
                initial_indent=start,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
            if finding.advice:
                yield textwrap.fill(
                    finding.advice,
                    width=width,
                    initial_indent=f"{indent}-> ",
                    subsequent_indent=f"{indent}   ",
                    break_on_hyphens=False,
                )

    def _counts(self) -> str:
        numbers = {verdict: sum(found.verdict == verdict for found in self.findings) for verdict in Verdict}
        return ", ".join(f"{number} {verdict}" for verdict, number in numbers.items())
