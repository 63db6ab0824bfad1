"""What the chart renders, whole: golden/default.yaml and golden/full.yaml.

A change of the chart shows in their diff. To renew them: WEIR_RENEW_GOLDEN=1 make chart-test
"""

import difflib
import os

import pytest
from render import CHART, FULL, HERE, OPERATOR, helm, template

CASES = {"default": {}, "full": {"files": [FULL], "apis": [OPERATOR]}}


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    path = HERE / "golden" / f"{name}.yaml"
    rendered = template(**CASES[name])
    if "WEIR_RENEW_GOLDEN" in os.environ:
        path.write_text(rendered)
    expected = path.read_text()
    diff = difflib.unified_diff(expected.splitlines(), rendered.splitlines(), str(path), "rendered", lineterm="")
    assert rendered == expected, "\n".join(diff) + "\nrenew with WEIR_RENEW_GOLDEN=1 make chart-test"


@pytest.mark.parametrize("values", [[], ["--values", FULL]], ids=["default", "full"])
def test_lint(values):
    done = helm("lint", "--strict", CHART, *values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 chart(s) failed" in done.stdout


def test_the_package_holds_what_is_needed_and_no_more(tmp_path):
    import tarfile

    done = helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(tmp_path.glob("weir-*.tgz"))) as archive:
        names = {name.removeprefix("weir/") for name in archive.getnames()}
    assert {"Chart.yaml", "values.yaml", "values.schema.json", "README.md", "templates/NOTES.txt"} <= names
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {"templates", "files"}
