"""What a scenario is: a name, what is expected in words, and a function that plays it and says what it saw."""

import signal
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Seen(NamedTuple):
    text: str
    passed: bool


@dataclass(frozen=True)
class Scenario:
    name: str
    expected: str
    play: Callable  # of the World; returns Seen


@dataclass(frozen=True)
class Outcome:
    scenario: Scenario
    seen: Seen
    seconds: float


ALL: list[Scenario] = []
# Seconds for one.
LIMIT = 60


def scenario(name: str, expected: str):
    """Adds the decorated function to the scenarios, which are played in the order of their definition."""

    def add(play: Callable) -> Callable:
        ALL.append(Scenario(name, expected, play))
        return play

    return add


def play(world, chosen: Scenario) -> Outcome:
    """An exception is an observation like any other, and fails the scenario."""
    started = time.monotonic()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT)
    try:
        world.behave()
        seen = chosen.play(world)
    except Exception as error:
        seen = Seen(f"{type(error).__name__}: {error}", False)
    finally:
        signal.alarm(0)
    return Outcome(chosen, seen, time.monotonic() - started)


def too_long(*_) -> None:
    raise TimeoutError(f"no end after {LIMIT} s")


def errors(result: dict) -> str:
    """The failed RPCs of a greeter client's result, in a few words."""
    codes = [error["code"] for error in result["errors"]]
    return ", ".join(f"{codes.count(code)} {code}" for code in sorted(set(codes))) or "no error"


def shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


class Table:
    """Aligned columns, a line as soon as it is known."""

    def __init__(self, scenarios: list[Scenario]):
        cells = [("scenario", "expected"), *((s.name, s.expected) for s in scenarios)]
        self._widths = [max(map(len, column)) for column in zip(*cells)]
        self._row("scenario", "expected", "observed", "")

    def add(self, outcome: Outcome) -> None:
        lines = outcome.seen.text.splitlines() or [""]
        self._row(outcome.scenario.name, outcome.scenario.expected, lines[0], "PASS" if outcome.seen.passed else "FAIL")
        for line in lines[1:]:
            print(f"    {line}", flush=True)

    def _row(self, name: str, expected: str, observed: str, verdict: str) -> None:
        print(f"{name:<{self._widths[0]}}  {expected:<{self._widths[1]}}  {observed:<78}  {verdict}".rstrip(), flush=True)


def write_junit(path: Path, outcomes: list[Outcome]) -> None:
    suite = ElementTree.Element("testsuite", name="scenarios", tests=str(len(outcomes)))
    for outcome in outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", classname="scenarios", name=outcome.scenario.name, time=f"{outcome.seconds:.3f}"
        )
        if not outcome.seen.passed:
            message = f"expected: {outcome.scenario.expected}; observed: {outcome.seen.text}"
            ElementTree.SubElement(case, "failure", message=message)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(suite).write(path)
