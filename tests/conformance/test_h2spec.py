"""h2spec in strict mode, from an enrolled pod, against a ClusterIP with nghttpd behind.

nghttpd itself is the yardstick: it is run through the same suite, directly, and the cases are compared one
by one. weir may fail at most one case, and only one that nghttpd fails too.
"""

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from lab.service import Port

PORT = 8080
CASES = 146  # h2spec v2.2.1
REPORTS = Path(__file__).resolve().parents[2] / "build" / "reports" / "h2spec"


@pytest.fixture(scope="module")
def backend(lab, tmp_path_factory):
    root = tmp_path_factory.mktemp("htdocs")
    (root / "index.html").write_text("<p>weir</p>\n" * 20)
    pod = lab.pod("nghttpd")
    pod.popen(["nghttpd", "--no-tls", "--htdocs", root, "--echo-upload", PORT])
    pod.wait_listening(PORT)
    return pod


def h2spec(folder: Path, pod, address: str, name: str, timeout=2) -> dict[str, str]:
    """Runs the suite in the pod: {case: "passed", "failed" or "skipped"}."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    host = f"[{address}]" if ":" in address else address
    command = [folder / "h2spec", "--strict", "--host", host, "--port", PORT, "--timeout", timeout, "--junit-report", report]
    try:
        done = pod.run(command, timeout=400, check=False)
    except subprocess.TimeoutExpired as hung:
        pytest.fail(f"h2spec hangs: {hung.stdout}")
    assert report.exists(), done.stdout + done.stderr
    (REPORTS / f"{name}.txt").write_text(done.stdout)
    results = {}
    for suite in ElementTree.parse(report).iter("testsuite"):
        for case in suite.iter("testcase"):
            outcome = "failed" if case.find("failure") is not None or case.find("error") is not None else "passed"
            if case.find("skipped") is not None:
                outcome = "skipped"
            # Sections may hold two cases of one name: the second gets a number.
            key = f"{case.get('package')} {case.get('classname')}"
            while key in results:
                key += "'"
            results[key] = outcome
    return results


@pytest.fixture(scope="module")
def direct(go_tool, lab, backend):
    """nghttpd's own results, by its pod's address from a pod that weir leaves alone."""
    return h2spec(go_tool("h2spec"), lab.pod("direct"), backend.ip, "direct")


@pytest.mark.timeout(500)
def test_the_yardstick(direct):
    assert len(direct) == CASES
    assert list(direct.values()).count("passed") >= 143


@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", ["vip", "vip6"])
def test_strict_through_weir(go_tool, lab, agent, client, backend, direct, family):
    service = lab.service("h2", ports=[Port("http2", PORT, PORT)], pods=[backend])
    agent.wait_applied()
    diverted = agent.bpf_stat("diverted")
    results = h2spec(go_tool("h2spec"), client, getattr(service, family), f"weir-{family}")
    lab.remove_service(service)
    assert agent.bpf_stat("diverted") - diverted >= CASES, "the suite went through the agent"
    assert len(results) == CASES
    failed = {case for case, outcome in results.items() if outcome == "failed"}
    assert len(failed) <= 1, failed
    assert all(direct[case] == "failed" for case in failed), failed
    skipped = {case for case, outcome in results.items() if outcome == "skipped"}
    assert all(direct[case] == "skipped" for case in skipped), skipped
    assert agent.running and agent.active_rpcs() == 0
