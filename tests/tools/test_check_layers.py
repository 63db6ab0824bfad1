"""tools/check_layers: what it lets pass and what it stops."""

import importlib.machinery
import importlib.util
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "check_layers"
loader = importlib.machinery.SourceFileLoader("check_layers", str(SCRIPT))
check_layers = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_layers", loader))
loader.exec_module(check_layers)

CASES = [
    ("down one layer", "proxy/a.h", '#include "http2/connection.h"', None),
    ("down to the ground", "admin/a.cpp", '#include "base/fd.h"', None),
    ("the same folder", "proxy/a.h", '#include "proxy/b.h"', None),
    ("up", "http2/a.h", '#include "proxy/exchange.h"', "http2 may not include proxy"),
    ("up by one", "base/a.h", '  #  include "http/headers.h"', "base may not include http"),
    ("a neighbour", "kubernetes/a.h", '#include "telemetry/rpc.h"', "kubernetes may not include telemetry"),
    ("routing chooses by config", "routing/a.h", '#include "config/snapshot.h"', None),
    ("config knows no routing", "config/a.h", '#include "routing/match.h"', "config may not include routing"),
    ("a pure module and I/O", "routing/a.h", '#include "io/reactor.h"', "routing may not include io"),
    ("a pure module and sockets", "http2/a.cpp", "#include <sys/socket.h>", "http2 is pure"),
    ("iovec is no socket", "http2/a.cpp", "#include <sys/uio.h>", None),
    ("what parts agree on", "interception/a.h", '#include "weir/bpf_abi.h"', None),
    ("a generated skeleton", "interception/a.cpp", '#include "weir.skel.h"', None),
    ("without its folder", "proxy/a.h", '#include "exchange.h"', "name it by its folder"),
    ("a comment", "base/a.h", '// #include "proxy/exchange.h"', None),
    ("a library", "kubernetes/a.cpp", '#include "yaml-cpp/yaml.h"', None),
    ("a folder nobody placed", "helpers/a.h", "", "not a layer"),
]


@pytest.mark.parametrize("path,line,expected", [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_one_include(tmp_path, path, line, expected):
    file = tmp_path / "userspace" / path
    file.parent.mkdir(parents=True)
    file.write_text(f"#pragma once\n{line}\n")
    found = check_layers.violations(tmp_path)
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1
        assert expected in found[0]


def test_a_violation_names_file_and_line_and_fails(tmp_path):
    (tmp_path / "userspace" / "base").mkdir(parents=True)
    (tmp_path / "userspace" / "base" / "a.h").write_text('#pragma once\n\n#include "io/socket.h"\n')
    done = subprocess.run([SCRIPT, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("userspace/base/a.h:3: ")


def test_this_repository_is_clean():
    done = subprocess.run([SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_folder_of_the_house_is_placed_once():
    placed = [folder for level in check_layers.ORDER for folder in level]
    assert len(placed) == len(set(placed))
