"""Labs for the tests: one per module, with an agent where the test asks for one.

A test that fails is followed by the end of each log and the commands that enter the pods.
"""

import os
import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tools"))

from lab.node import Lab  # noqa: E402


def lab_name(module: str) -> str:
    """Unique on this machine: two runs side by side never meet."""
    short = re.sub(r"[^a-z0-9]+", "-", module.rsplit(".", 1)[-1].removeprefix("test_").lower())[:16].strip("-")
    return f"t{os.getpid()}-{short}"


def sanitizer_reports(logs: Path) -> str:
    """What an agent of a sanitizers' build (WEIR_BUILD_DIR=build/asan) says before it ends itself."""
    for path in sorted(logs.glob("agent*.log")):
        text = path.read_text(errors="replace")
        if found := re.search(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|: runtime error: ", text):
            return text[max(0, found.start() - 200) : found.start() + 6000]
    return ""


@pytest.fixture(scope="module")
def lab(request):
    with Lab(lab_name(request.module.__name__)) as made:
        yield made
        reports = sanitizer_reports(made.folder / "logs")
        assert not reports, f"a sanitizer found something in the agent:\n{reports}"


@pytest.fixture(scope="module")
def greeters(lab):
    """Three pods that each run a greeter server."""
    return lab.greeters(3)


@pytest.fixture(scope="module")
def service(lab, greeters):
    """Service greeter: a declared gRPC port with the three greeters behind."""
    return lab.service("greeter", pods=greeters)


@pytest.fixture(scope="module")
def client(lab):
    """A pod that asks for weir by its label."""
    return lab.pod("client", dataplane="enabled")


@pytest.fixture(scope="module")
def agent(lab, service, client):
    """An agent that has enrolled the client and applied the service."""
    started = lab.agent()
    started.start()
    started.wait_enrolled(client)
    started.wait_applied()
    return started


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    made = item.funcargs.get("lab")
    if not report.failed or made is None:
        return
    logs = made.folder / "logs"
    for path in sorted(logs.glob("*.log")) if logs.is_dir() else []:
        text = path.read_text(errors="replace").splitlines()[-40:]
        if text:
            report.sections.append((f"end of {path.name}", "\n".join(text)))
    report.sections.append(("pods", "\n".join(f"{pod.name}: {pod.enter_command}" for pod in made.pods)))
