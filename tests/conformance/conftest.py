"""Go tools for the conformance suites, from the cache (tools/go_tool)."""

import subprocess
from pathlib import Path

import pytest

GO_TOOL = Path(__file__).resolve().parents[2] / "tools" / "go_tool"


@pytest.fixture(scope="session")
def go_tool():
    """A function: the folder of a tool's binaries, built when it is not in the cache yet."""

    def folder(name: str) -> Path:
        done = subprocess.run([GO_TOOL, name], stdout=subprocess.PIPE, text=True, timeout=1500, check=True)
        return Path(done.stdout.strip().splitlines()[-1])

    return folder


@pytest.fixture(scope="module")
def agent(lab, client):
    """An agent that has enrolled the client; services come later."""
    started = lab.agent()
    started.start()
    started.wait_enrolled(client)
    return started
