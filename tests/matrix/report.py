"""The matrix as a table, a line as soon as it is known, and as JUnit."""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from row import Row, Step

COLUMNS = ("what", "port", "direct", "weir", "handled", "verdict", "note")


@dataclass
class Outcome:
    row: Row
    direct: list[Step] = field(default_factory=list)
    weir: list[Step] = field(default_factory=list)
    handled: str = ""
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        return "FAIL" if self.failures else "same"


def summary(steps: list[Step]) -> str:
    """"8 of 9": steps that ended as they should."""
    return f"{sum(step.right for step in steps)} of {len(steps)}"


class Table:
    def __init__(self, rows: list[Row]):
        cells = [*((r.what, str(r.port), "99 of 99", "99 of 99", "not diverted") for r in rows)]
        self._widths = [max(map(len, column)) for column in zip(COLUMNS, *cells)]
        self._line(*COLUMNS)

    def add(self, outcome: Outcome) -> None:
        row = outcome.row
        self._line(
            row.what, str(row.port), summary(outcome.direct), summary(outcome.weir), outcome.handled, outcome.verdict,
            "; ".join(outcome.notes),
        )  # fmt: skip
        for failure in outcome.failures:
            print(f"    {failure}", flush=True)

    def _line(self, *cells: str) -> None:
        padded = [f"{cell:<{width}}" for cell, width in zip(cells, [*self._widths, 7, 0])]
        print("  ".join(padded).rstrip(), flush=True)


def write_junit(path: Path, outcomes: list[Outcome]) -> None:
    suite = ElementTree.Element("testsuite", name="matrix", tests=str(len(outcomes)))
    for outcome in outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", classname="matrix", name=outcome.row.name, time=f"{outcome.seconds:.3f}"
        )
        if outcome.failures:
            ElementTree.SubElement(case, "failure", message="\n".join(outcome.failures))
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(suite).write(path)
