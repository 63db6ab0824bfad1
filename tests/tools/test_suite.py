"""tools/suite: times, time limits, and the closing line that CI reads."""

import importlib.machinery
import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "suite"


@pytest.fixture
def suite(tmp_path):
    loader = importlib.machinery.SourceFileLoader("suite", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("suite", loader))
    loader.exec_module(module)
    module.REPORTS = tmp_path / "reports"
    return module


PYTEST = """<testsuites><testsuite name="pytest"><testcase name="a"/><testcase name="b"><failure/></testcase>
<testcase name="c"><error/></testcase><testcase name="d"><skipped/></testcase></testsuite></testsuites>"""
CTEST = """<testsuite name="x"><testcase name="a" status="run"/><testcase name="b" status="fail"><failure message=""/></testcase>
<testcase name="c" status="notrun"><skipped/></testcase></testsuite>"""


@pytest.mark.parametrize("text,expected", [(PYTEST, (1, 2)), (CTEST, (1, 1))], ids=["pytest", "ctest"])
def test_counts(suite, tmp_path, text, expected):
    (tmp_path / "x.xml").write_text(text)
    assert suite.count(tmp_path / "x.xml") == expected


def test_report_sums_up(suite, capsys):
    assert suite.run("good", ["true"], 10) == 0
    (suite.REPORTS / "good.xml").write_text("<testsuite><testcase name='a'/><testcase name='b'/></testsuite>")
    assert suite.run("broken-build", ["false"], 10) == 1
    assert suite.report() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 1 failed"


def test_what_hangs_is_ended(suite):
    assert suite.run("hangs", ["sleep", "60"], 0.2) == 124
    assert (suite.REPORTS / "hangs.seconds").read_text().split()[1] == "124"


def test_times_of_one_suite_add_up(suite):
    for _ in range(2):
        suite.run("twice", ["sleep", "0.2"], 10)
    assert float((suite.REPORTS / "twice.seconds").read_text().split()[0]) >= 0.4
