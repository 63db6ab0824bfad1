"""NOTES.txt: one command at its end that verifies the installation, and warnings where they are due."""

import shutil
import subprocess

import pytest
import yaml
from render import CHART, KUBERNETES, OPERATOR, helm


@pytest.fixture(scope="module")
def chart(tmp_path_factory):
    """The chart with its notes as one more object: `helm template` leaves them out."""
    copy = tmp_path_factory.mktemp("chart") / "weir"
    shutil.copytree(CHART, copy)
    notes = copy / "templates" / "NOTES.txt"
    (copy / "templates" / "_notes.tpl").write_text('{{ define "notes" }}' + notes.read_text() + "{{ end }}")
    (copy / "templates" / "notes.yaml").write_text('notes: {{ include "notes" . | toJson }}\n')
    return copy


def notes(chart, *arguments, **values) -> str:
    command = ["template", "weir", chart, "--namespace", "mesh", "--kube-version", KUBERNETES, "--values", "-"]
    done = helm(*command, "--show-only", "templates/notes.yaml", *arguments, text=yaml.safe_dump(values))
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["notes"]


def test_the_last_line_verifies_the_installation(chart):
    last = notes(chart, fullnameOverride="grpc").strip().splitlines()[-1].strip()
    assert last == "kubectl -n mesh rollout status ds/grpc --timeout=5m && helm -n mesh test weir --logs"
    subprocess.run(["bash", "-n", "-c", last], check=True, timeout=20)


OPERATOR_MISSING, IO_URING, NO_HAND_OVER = "monitoring.coreos.com/v1", "RuntimeDefault", "updateStrategy OnDelete"


@pytest.mark.parametrize(
    "values,apis,warning",
    [
        ({}, [], None),
        ({"podMonitor": {"enabled": True}}, [], OPERATOR_MISSING),
        ({"prometheusRule": {"enabled": True}}, [], OPERATOR_MISSING),
        ({"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}, [OPERATOR], None),
        ({"seccompProfile": {"type": "RuntimeDefault"}}, [], IO_URING),
        ({"seccompProfile": {"type": "Unconfined"}}, [], None),
        ({"updateStrategy": {"type": "OnDelete"}}, [], NO_HAND_OVER),
    ],
    ids=str,
)
def test_warnings(chart, values, apis, warning):
    text = notes(chart, *(f"--api-versions={api}" for api in apis), **values)
    warnings = [paragraph for paragraph in text.split("\n\n") if paragraph.startswith("WARNING: ")]
    assert len(warnings) == (warning is not None)
    assert warning is None or warning in warnings[0]
