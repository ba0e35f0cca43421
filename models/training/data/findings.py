"""What a look at a data set found: each kind of fault once, counted, with examples and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""The gravest first. Errors refuse training; a warning says what is left out or may harm."""

EXAMPLES = 5
"""Places that a finding names; the rest is counted."""


@dataclass(frozen=True)
class Finding:
    """One kind of fault, and how often it is there.

    Attributes:
        severity: an ``error`` refuses training.
        code: for programs, such as ``box-outside``.
        message: what was found, a sentence.
        advice: what to do about it, a sentence; "" where nothing is to do.
        count: places where it was found.
        examples: the first of them.
        dataset: its name, where a report is on two.
    """

    severity: Severity
    code: str
    message: str
    advice: str = ""
    count: int = 1
    examples: tuple[str, ...] = ()
    dataset: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON has them."""
        return {**asdict(self), "examples": list(self.examples)}

    def __str__(self) -> str:
        of = f"{self.dataset}: " if self.dataset else ""
        places = f" ({self.places})" if self.examples else ""
        return f"{of}{self.message}{places}{' ' + self.advice if self.advice else ''}"

    @property
    def places(self) -> str:
        """How often, and where first: ``7, such as a.jpg, b.jpg``; "" if it has no places."""
        if not self.examples:
            return ""
        such = ", such as" if self.count > len(self.examples) else ":"
        return f"{self.count}{such} {', '.join(self.examples)}"

    @classmethod
    def at(
        cls, severity: Severity, code: str, message: str, advice: str, places: Sequence[str]
    ) -> Finding:
        """One whose places are known already; the first become the examples."""
        return cls(severity, code, message, advice, len(places), tuple(places[:EXAMPLES]))


class FindingCounter:
    """Collects places of faults into one finding per code, in the order in which codes came."""

    def __init__(self) -> None:
        self._kinds: dict[str, Finding] = {}
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, kind: Finding, example: str) -> None:
        """One more place of the fault; of ``kind``, count and examples are not read."""
        code = kind.code
        self._kinds.setdefault(code, kind)
        self._counts[code] = self._counts.get(code, 0) + 1
        examples = self._examples.setdefault(code, [])
        if len(examples) < EXAMPLES:
            examples.append(example)

    def findings(self) -> tuple[Finding, ...]:
        """What was collected."""
        return tuple(
            replace(kind, count=self._counts[code], examples=tuple(self._examples[code]))
            for code, kind in self._kinds.items()
        )


def gravest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors, then warnings, then notes; within each the order stays."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
