"""tools/cluster/runc-caps: what the machine withholds leaves a container's specification, and nothing else does."""

import copy
import importlib.machinery
import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "cluster" / "runc-caps"
HAVE = {"CAP_BPF", "CAP_CHOWN"}


@pytest.fixture
def runc_caps(monkeypatch):
    loader = importlib.machinery.SourceFileLoader("runc_caps", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("runc_caps", loader))
    loader.exec_module(module)
    monkeypatch.setattr(module, "bounding_set", lambda: HAVE)
    return module


# as containerd's shim calls it -> the file to rewrite
CALLS = [
    ("create", ["--root", "/r", "create", "--bundle", "/b", "--pid-file", "/p", "id"], "/b/config.json"),
    ("create with =", ["create", "--bundle=/b", "id"], "/b/config.json"),
    ("run here", ["run", "id"], "./config.json"),
    ("exec", ["--log", "/l", "exec", "--process", "/tmp/process", "id"], "/tmp/process"),
    ("exec of a command", ["exec", "id", "ls"], ""),
    ("start", ["start", "id"], ""),
    ("delete", ["delete", "--force", "id"], ""),
]


@pytest.mark.parametrize("arguments,expected", [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_which_file(runc_caps, arguments, expected):
    assert runc_caps.specification(arguments) == expected


PROCESS = {"args": ["a"], "capabilities": {"bounding": ["CAP_BPF", "CAP_SYS_RESOURCE"], "effective": ["CAP_CHOWN"], "ambient": []}}
STRIPPED = {"bounding": ["CAP_BPF"], "effective": ["CAP_CHOWN"], "ambient": []}


@pytest.mark.parametrize(
    "content", [{"ociVersion": "1.0.2", "process": PROCESS}, PROCESS, {"process": {"args": ["a"]}}], ids=["create", "exec", "none"]
)
def test_strip(runc_caps, tmp_path, content):
    path = tmp_path / "specification"
    path.write_text(json.dumps(content))
    runc_caps.strip(str(path))
    expected = copy.deepcopy(content)
    process = expected.get("process", expected)
    if "capabilities" in process:
        process["capabilities"] = STRIPPED
    assert json.loads(path.read_text()) == expected


def test_this_machine(runc_caps, monkeypatch):
    monkeypatch.undo()
    # As the kernel numbers them (linux/capability.h).
    assert [runc_caps.NAMES.index(name) for name in ("CHOWN", "NET_ADMIN", "SYS_ADMIN", "SYS_RESOURCE", "BPF")] == [0, 12, 21, 24, 39]
    assert "CAP_CHOWN" in runc_caps.bounding_set()
