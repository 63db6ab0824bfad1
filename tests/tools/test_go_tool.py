"""tools/go_tool: what it asks Go for, without Go."""

import importlib.machinery
import importlib.util
import json
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "go_tool"
loader = importlib.machinery.SourceFileLoader("go_tool", str(TOOL))
go_tool = importlib.util.module_from_spec(importlib.util.spec_from_loader("go_tool", loader))
loader.exec_module(go_tool)

THEIRS = """\
module k8s.io/kubernetes

go 1.26.0

godebug default=go1.26

require (
	go.etcd.io/etcd/client/v3 v3.6.8
	k8s.io/api v0.0.0
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/sample-controller => ./staging/src/k8s.io/sample-controller
)
"""


def test_the_siblings_of_kubernetes_get_their_published_versions(tmp_path):
    (tmp_path / "go.mod").write_text(THEIRS)
    module = go_tool.kubernetes_module(lambda *_: json.dumps({"Dir": str(tmp_path)}), "k8s.io/kubernetes@v1.36.3")
    assert module.splitlines() == [
        "module weir.dev/tools",
        "go 1.26.0",
        "godebug default=go1.26",
        "require k8s.io/kubernetes v1.36.3",
        "require k8s.io/component-base v0.36.3",
        "require k8s.io/kubectl v0.36.3",
        "require go.etcd.io/etcd/server/v3 v3.6.8",
        "replace k8s.io/api => k8s.io/api v0.36.3",
        "replace k8s.io/sample-controller => k8s.io/sample-controller v0.36.3",
    ]


def test_every_tool_can_be_made():
    for name, tool in go_tool.TOOLS.items():
        assert all("@v" in module for module in tool.modules), f"{name}: a module without a version"
        if tool.source:
            assert all((TOOL.parent / tool.source / package).is_dir() for package in tool.packages.values())
        assert tool.packages or tool.files, f"{name}: nothing to make"
