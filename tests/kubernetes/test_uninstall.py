"""What an agent leaves in the kernel when it ends: nothing after an uninstall, everything for a successor otherwise."""

import time

import pytest
from fake_api import FakeApi
from lab.certificates import Authority
from lab.control_plane import write_kubeconfig

HOME = "weir-system"
GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
TOLD = 1.0  # seconds in which an agent has certainly heard of a change


@pytest.fixture(scope="module")
def authority(lab):
    folder = lab.folder / "authority"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture(scope="module")
def api(lab, authority):
    with FakeApi(lab.netns, authority.sign("server", "/CN=fake", "IP:127.0.0.1")) as started:
        lab.objects = started
        lab.namespace("default")
        yield started


def home(api, **metadata) -> None:
    api.publish("home", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME, **metadata}})


def daemon_set(api, **metadata) -> None:
    api.publish("own", {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "weir", "namespace": HOME, **metadata}})


@pytest.fixture
def agents(lab, api, authority, service, client):
    """Two agents of the node, as an update has them for a while; none runs."""
    home(api)
    daemon_set(api)
    cluster = {"server": api.url, "certificate_authority": authority.certificate}
    kubeconfig = write_kubeconfig(lab.folder / "fake.kubeconfig", cluster, {"token": "secret"})
    own = ["--namespace", HOME, "--daemonset", "weir", "--events=false"]
    both = [lab.agent(kubeconfig=kubeconfig, arguments=own, metrics_port=port) for port in (15020, 15021)]
    yield both
    for agent in both:
        if agent.running:
            agent.stop()
    both[0].uninstall()


@pytest.fixture
def agent(agents, client):
    """The first of them, which has seen its DaemonSet."""
    first = agents[0]
    first.start(timeout=30)
    first.wait_enrolled(client)
    first.wait(lambda: first.metric("weir_kubernetes_synced", resource="own daemonset") == 1, 20, "the DaemonSet is known")
    return first


def leaves(lab, agent) -> bool:
    """Whether anything is pinned once the agent has ended."""
    time.sleep(TOLD)
    assert agent.stop() == 0
    return lab.bpf_dir.exists()


def test_an_update_leaves_all(lab, agent):
    assert leaves(lab, agent)


def test_without_its_daemonset_nothing_stays(lab, api, agent):
    api.withdraw("own")
    assert not leaves(lab, agent)


def test_a_daemonset_that_waits_for_its_pods_is_as_good_as_gone(lab, api, agent):
    """kubectl delete --cascade=foreground."""
    daemon_set(api, **GOING)
    assert not leaves(lab, agent)


def test_a_namespace_that_goes_takes_weir_with_it(lab, api, agent):
    """kubectl delete namespace: pods may end before the DaemonSet does."""
    home(api, **GOING)
    assert not leaves(lab, agent)


def test_who_may_not_look_leaves_all(lab, api, agents, client):
    refused = lambda exchange: exchange.refuse(403, "Forbidden", "daemonsets.apps is forbidden")  # noqa: E731
    with api.fault(refused, "daemonsets"):
        agents[0].start(timeout=30)
        agents[0].wait_enrolled(client)
        api.withdraw("own")
        assert leaves(lab, agents[0])


def test_a_daemonset_that_was_never_there_says_nothing(lab, api, agents, client):
    """As the one of a chart's earlier name."""
    api.withdraw("own")
    agents[0].start(timeout=30)
    agents[0].wait_enrolled(client)
    assert leaves(lab, agents[0])


def test_a_successor_that_starts_keeps_its_hooks(lab, api, agents, agent, client, service):
    """The DaemonSet was deleted and made again (or is another one by now): the old agent knows only the first half."""
    successor = agents[1]
    busy = lambda exchange: exchange.refuse(503, "ServiceUnavailable", "not yet")  # noqa: E731
    with api.fault(busy, "services"):
        successor.start(ready=False)
        successor.wait(lambda: "is taken over from" in successor.log_tail(100), 20, "the successor has found the agent")
        api.withdraw("own")
        assert leaves(lab, agent)
    daemon_set(api)
    successor.wait(successor.ready, 60, "the successor is ready")
    successor.wait_enrolled(client)
    successor.wait_applied(timeout=20)
    client.wait_backends(service.target, 3)
