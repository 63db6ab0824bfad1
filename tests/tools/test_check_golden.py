"""tools/check_golden: what it counts, and what it reports."""

import importlib.machinery
import importlib.util
import subprocess
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "check_golden"
loader = importlib.machinery.SourceFileLoader("check_golden", str(SCRIPT))
check_golden = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_golden", loader))
loader.exec_module(check_golden)

MANIFEST = """\
kind: Rule
metadata: {annotations: {a.dev/list: x}}
spec:
  host: h
  http:
  - match: [{uri: {exact: /a}}, {headers: {x-user: {prefix: b}}}]
    retries: {retryOn: "reset, 503"}
  subsets: [{policy: {tls: {mode: SIMPLE}}}]
  empty: {}
data:
  mesh: |
    rootNamespace: r
    retries: {attempts: 1}
"""


def golden(root: Path, fields: list[str], cases: list[dict], manifests: list[str] | None = None) -> Path:
    (root / "tables").mkdir()
    (root / "manifests").mkdir()
    (root / "manifests" / "rule.yaml").write_text(MANIFEST)
    (root / "fields.yaml").write_text(yaml.safe_dump(fields))
    table = {"name": "t", "manifests": manifests or [MANIFEST], "cases": cases}
    (root / "tables" / "a.yaml").write_text(yaml.safe_dump(table))
    return root


def case(name: str, *fields: str, negative: bool = False) -> dict:
    return {"name": name, "fields": list(fields)} | ({"negative": True} if negative else {})


@pytest.mark.parametrize(
    "field,there",
    [
        ("Rule", True),
        ("Other", False),
        ("Rule.spec.host", True),
        ("Rule.spec.http.match.uri.exact", True),
        ("Rule.spec.http.match.uri.prefix", False),
        ("Rule.spec.http.match.headers.*.prefix", True),
        ("Rule.spec.http.match.headers.*.exact", False),
        ("Rule.spec.http.retries.retryOn=503", True),
        ("Rule.spec.http.retries.retryOn=50", False),
        ("Rule.spec.**.tls.mode=SIMPLE", True),
        ("Rule.spec.**.tls.mode=MUTUAL", False),
        ("Rule.spec.empty", True),
        ("Rule.spec.empty.*", False),
        ("Rule.data.mesh.retries.attempts", True),
        ("Rule.data.mesh.attempts", False),
        ("Rule.metadata.annotations.a.dev/list", True),
    ],
)
def test_a_field_stands_in_a_manifest(field, there):
    assert check_golden.stands_in(field, [yaml.safe_load(MANIFEST)]) is there


HOST = "Rule.spec.host"


@pytest.mark.parametrize(
    "cases,expected",
    [
        ([case("a", "host"), case("b", HOST, negative=True)], []),
        ([case("a", "spec.host", negative=True), case("b", HOST, negative=True)], []),
        ([], [f"{HOST}: 0 cases are about it, 2 are needed"]),
        ([case("b", "host", negative=True)], [f"{HOST}: 1 cases are about it, 2 are needed"]),
        ([case("a", "host"), case("b", "host")], [f"{HOST}: no case about it is negative"]),
        (
            [case("a", "host"), case("b", "host", negative=True), case("c", "ost")],
            ["a.yaml: t: c: the field ost is nothing in fields.yaml"],
        ),
    ],
)
def test_what_is_missing(tmp_path, cases, expected):
    assert check_golden.problems(golden(tmp_path, [HOST], cases)) == expected


def test_a_case_is_not_about_what_its_manifests_do_not_have(tmp_path):
    cases = [case("a", "host"), case("b", "host", negative=True)]
    found = check_golden.problems(golden(tmp_path, [HOST], cases, ["kind: Rule\nspec: {}\n"]))
    assert found[0] == f"a.yaml: t: a: the field {HOST} does not stand in its manifests"
    assert found[-1] == f"{HOST}: 0 cases are about it, 2 are needed"


def test_a_name_that_means_two_fields_is_refused(tmp_path):
    fields = [HOST, "Rule.metadata.host"]
    found = check_golden.problems(golden(tmp_path, fields, [case("a", "host")]))
    assert found[0] == f"a.yaml: t: a: the field host is {HOST}, Rule.metadata.host"


def test_manifests_are_read_from_files_too(tmp_path):
    cases = [case("a", "host"), case("b", "host", negative=True)]
    assert check_golden.problems(golden(tmp_path, [HOST], cases, ["rule.yaml"])) == []


def test_it_fails_and_says_why(tmp_path):
    done = subprocess.run([SCRIPT, golden(tmp_path, [HOST], [])], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{HOST}: 0 cases are about it, 2 are needed\n"


def test_this_repository_is_covered():
    done = subprocess.run([SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
