"""tools/image: what it can't do it says in one line, with what to do."""

import subprocess
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "image"


def test_nothing_built(tmp_path):
    done = subprocess.run([str(TOOL), "--build", str(tmp_path)], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"image: no weir-agent in {tmp_path}: make build\n"
