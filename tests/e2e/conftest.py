"""One node and one application for all tests. What comes later in the order of files needs what came before."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import objects  # noqa: E402
from kube import Cluster, timed  # noqa: E402
from objects import APP  # noqa: E402


@pytest.fixture(scope="session")
def cluster():
    with Cluster() as started:
        yield started


@pytest.fixture(scope="session")
def target(cluster) -> str:
    """Three greeters behind a Service, and a client pod, in an enrolled namespace; returns the Service's name."""
    probe = {"tcpSocket": {"port": "grpc"}}
    with timed("three servers and a client are ready"):
        cluster.apply(
            objects.namespace(APP, **objects.ENROLLED),
            objects.deployment("greeter", APP, 3, objects.greeter(probe)),
            objects.service("greeter", APP),
            objects.client(APP),
        )
        cluster.kubectl("rollout", "status", f"--namespace={APP}", "deployment/greeter", "--timeout=60s", timeout=70)
        cluster.kubectl("wait", f"--namespace={APP}", "pod/client", "--for=condition=Ready", "--timeout=30s")
    return f"greeter.{APP}:80"


@pytest.fixture(scope="session")
def weir(cluster, target) -> None:
    """The chart installed, and the client enrolled."""
    with timed("helm install, rolled out"):
        cluster.install()
    cluster.wait_enrolled(APP, "client")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    cluster = item.funcargs.get("cluster")
    if not report.failed or cluster is None:
        return
    for title, command in {
        "pods": ["get", "pods", "--all-namespaces", "--output=wide"],
        "agents": ["logs", "--namespace=weir-system", "--selector=app.kubernetes.io/component=node", "--tail=40", "--prefix"],
        "events": ["get", "events", "--all-namespaces", "--field-selector=type=Warning"],
    }.items():
        report.sections.append((title, cluster.kubectl(*command, check=False)))


def pytest_terminal_summary(terminalreporter, config):
    counts = {outcome: len(terminalreporter.stats.get(outcome, [])) for outcome in ("passed", "failed", "error")}
    config.checks = f"e2e: {counts['passed']} checks passed, {counts['failed'] + counts['error']} failed"


def pytest_unconfigure(config):
    """The last line."""
    print(getattr(config, "checks", "e2e: no check was made"), flush=True)
