"""Renders charts/weir with a Helm built by tools/go_tool.

    render(...)      the objects of `helm template`, as dictionaries; keywords as of template()
    template(...)    its text
    helm(...)        any helm command, run apart from this machine's configuration
"""

import functools
import os
import subprocess
import tempfile
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "weir"
HERE = Path(__file__).parent
FULL = HERE / "values" / "full.yaml"
# What `helm template` is to take the cluster for: nothing in the golden files depends on Helm's own idea of it.
KUBERNETES = "1.36.0"
OPERATOR = "monitoring.coreos.com/v1"


@functools.cache
def binary() -> Path:
    built = subprocess.run(
        [REPOSITORY / "tools" / "go_tool", "helm"], stdout=subprocess.PIPE, text=True, check=True, timeout=1200
    )
    return Path(built.stdout.strip()) / "helm"


def helm(*arguments, text: str | None = None) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home}
        command = [str(binary()), *map(str, arguments)]
        return subprocess.run(command, env=environment, input=text, capture_output=True, text=True, timeout=60)


class Refused(Exception):
    """What Helm said instead of rendering."""


def template(values: dict | None = None, files=(), release="weir", kubernetes=KUBERNETES, apis=()) -> str:
    """`helm template` of the chart in namespace weir-system, its hooks too; `values` over those of the `files`, `apis` as
    known to the cluster besides Kubernetes' own."""
    command = ["template", release, CHART, "--namespace", "weir-system", "--kube-version", kubernetes]
    for api in apis:
        command += ["--api-versions", api]
    for file in files:
        command += ["--values", file]
    if values is not None:
        command += ["--values", "-"]
    done = rendered(tuple(command), None if values is None else yaml.safe_dump(values))
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


@functools.cache
def rendered(command: tuple, values: str | None) -> subprocess.CompletedProcess:
    return helm(*command, text=values)


def render(**options) -> list[dict]:
    return [document for document in yaml.safe_load_all(template(**options)) if document]


def one(objects: list[dict], kind: str, ending: str = "") -> dict:
    """The only object of a kind whose name ends so."""
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(ending)]
    assert len(found) == 1, f"{len(found)} objects {kind} *{ending}"
    return found[0]
