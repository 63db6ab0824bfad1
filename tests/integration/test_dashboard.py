"""Every query of the chart's dashboard and alerts finds its labels on the metric that it names, as an agent exposes them."""

import sys
from pathlib import Path

import pytest

for folder in ("kubernetes", "chart"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / folder))

from fake_api import FakeApi  # noqa: E402
from lab.certificates import Authority  # noqa: E402
from lab.control_plane import write_kubeconfig  # noqa: E402
from queries import grouped_by, labels_of, queries  # noqa: E402

# What Prometheus adds to every series.
SCRAPE = {"namespace", "pod", "instance", "job", "node"}


@pytest.fixture(scope="module")
def api(lab):
    """The configuration comes from an API server, so that the metrics about it are there."""
    folder = lab.folder / "authority"
    folder.mkdir()
    authority = Authority(folder)
    with FakeApi(lab.netns, authority.sign("server", "/CN=fake", "IP:127.0.0.1")) as started:
        started.authority = authority
        lab.objects = started
        lab.namespace("default")
        yield started


@pytest.fixture(scope="module")
def exposed(lab, api, request):
    """{metric: labels of its series}, of an agent that has seen traffic, and connections older than itself."""
    service, client = (request.getfixturevalue(name) for name in ("service", "client"))
    older = client.connect(service.vip, 50051)
    cluster = {"server": api.url, "certificate_authority": api.authority.certificate}
    kubeconfig = write_kubeconfig(lab.folder / "fake.kubeconfig", cluster, {"token": "secret"})
    agent = lab.agent(kubeconfig=kubeconfig, arguments=["--namespace", "default", "--pod-name", "weir-x"])
    agent.start(timeout=30)
    agent.wait_enrolled(client)
    agent.wait_applied()
    assert client.greet(service.target, "--rpcs", 30)["errors"] == []
    wrong = client.connect(service.vip, 50051)  # not the HTTP/2 that the port declares: relayed, and counted
    wrong.sendall(b"no HTTP/2\r\n")
    wrong.close()
    agent.wait(lambda: agent.metric("istio_tcp_connections_closed_total") >= 1, 10, "the relayed connection has ended")
    with lab.service("nobody") as nobody:
        agent.wait_applied()
        assert client.greet(nobody.target, "--rpcs", 1)["errors"]
    agent.wait(lambda: agent.metric("weir_unmanaged_connections") == 1, 10, "the older connection is counted")
    found = {}
    for name, labels, _ in agent.samples():
        found.setdefault(name, set()).update(labels)
    older.close()
    agent.stop()
    return found


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.place)
def test_a_query_names_labels_of_its_metrics(exposed, query):
    needed = labels_of(query)
    assert needed, f"no metric of weir's: {query.text}"
    for metric, labels in needed.items():
        assert metric in exposed, f"an agent has no {metric}: {query.text}"
        assert labels <= exposed[metric] | SCRAPE, f"{metric} has only {sorted(exposed[metric])}: {query.text}"
    assert query.shown <= grouped_by(query) or not grouped_by(query), f"{query.shown} of {query.text}"
