"""The scenarios' own tools: what fails says so, to people, to CI and by the exit status."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

REPOSITORY = Path(__file__).resolve().parents[2]
SCENARIOS = REPOSITORY / "tests" / "scenarios"
sys.path[:0] = [str(SCENARIOS), str(REPOSITORY / "tools"), str(REPOSITORY / "tests" / "integration")]

import pytest  # noqa: E402
import routing  # noqa: E402
import scenario  # noqa: E402
from scenario import Outcome, Scenario, Seen  # noqa: E402


class World:
    def behave(self):
        pass


def outcomes(*plays):
    return [scenario.play(World(), Scenario(f"number {i}", "all is well", play)) for i, play in enumerate(plays)]


def broken(_):
    raise ValueError("no luck")


def slow(_):
    while True:
        pass


def test_an_exception_fails_a_scenario_and_not_the_run():
    assert [outcome.seen for outcome in outcomes(broken, lambda _: Seen("fine", True))] == [
        ("ValueError: no luck", False),
        ("fine", True),
    ]


def test_a_scenario_that_does_not_end_fails(monkeypatch):
    monkeypatch.setattr(scenario, "LIMIT", 1)
    assert outcomes(slow)[0].seen == ("TimeoutError: no end after 1 s", False)


# of 10,000 RPCs for a tenth, run after run; what is said of them, and whether that is expected
SHARES = [
    ([1000], "1000", True),
    ([1099], "1099", True),
    ([1100, 1000], "1100 (outside: once more) 1000", True),
    ([900, 901], "900 (outside: once more) 901", True),
    ([900, 1100], "900 (outside: once more) 1100", False),
]


@pytest.mark.parametrize("counts,text,expected", SHARES)
def test_a_share_outside_its_bounds_is_confirmed_by_one_more_run(counts, text, expected):
    runs = iter(counts)
    world = SimpleNamespace(
        grpc_service=SimpleNamespace(target="here"),
        v2=SimpleNamespace(pod=SimpleNamespace(uid="v2")),
        greet=lambda *_: {"backends": {"v1": 1, "v2": next(runs)}, "errors": []},
    )
    share = routing.share_of_v2(world, 0.1)
    assert (str(share), share.expected, list(runs)) == (text, expected, [])


def test_the_table_is_aligned(capsys):
    chosen = [Scenario("a", "short", None), Scenario("a longer name", "a longer expectation", None)]
    table = scenario.Table(chosen)
    table.add(Outcome(chosen[0], Seen("this", True), 0.1))
    table.add(Outcome(chosen[1], Seen("that\nand more", False), 0.1))
    _, first, second, more = capsys.readouterr().out.splitlines()
    assert first.index("this") == second.index("that") and first.index("PASS") == second.index("FAIL")
    assert more == "    and more"


def test_the_report_for_ci(tmp_path):
    path = tmp_path / "reports" / "scenarios.xml"
    scenario.write_junit(path, outcomes(broken, lambda _: Seen("fine", True)))
    cases = ElementTree.parse(path).findall("testcase")
    assert [case.find("failure") is not None for case in cases] == [True, False]
    assert "all is well" in cases[0].find("failure").get("message")


def test_names_are_unique_and_listed():
    listed = subprocess.run([SCENARIOS / "run", "--list"], capture_output=True, text=True, check=True, timeout=30).stdout
    names = [line.split(": ")[0] for line in listed.splitlines()]
    assert len(names) > 20 and len(set(names)) == len(names)


def test_an_unknown_name_is_an_error():
    done = subprocess.run([SCENARIOS / "run", "no-such-scenario"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "no-such-scenario" in done.stderr
