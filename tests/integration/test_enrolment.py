"""Pods come under weir by label, in time for their first connect, and leave it without a trace."""

import pytest
from lab.agent import pod_listener
from lab import processes
from lab.node import Lab


def backends(pod, service):
    return len(pod.greet(service.target, "--rpcs", 60)["backends"])


def test_a_label_that_comes_and_goes(lab, agent, service):
    pod = lab.pod("late")
    assert backends(pod, service) == 1
    pod.labels["weir.dev/dataplane"] = "enabled"
    pod.publish()
    agent.wait_enrolled(pod)
    assert backends(pod, service) == 3
    pod.labels["weir.dev/dataplane"] = "disabled"
    pod.publish()
    agent.wait_withdrawn(pod)
    assert backends(pod, service) == 1
    pod.remove()


def test_a_label_on_the_namespace(lab, agent, service):
    lab.namespace("team", dataplane="enabled")
    pod = lab.pod("member", namespace="team")
    stranger = lab.pod("stranger", namespace="team", dataplane="disabled")
    agent.wait_enrolled(pod)
    assert backends(pod, service) == 3
    assert pod_listener(stranger) is None and backends(stranger, service) == 1
    lab.namespace("team")
    agent.wait_withdrawn(pod)
    assert backends(pod, service) == 1
    pod.remove()
    stranger.remove()


def test_observe_diverts_nothing_and_counts(lab, agent, service):
    pod = lab.pod("watched", dataplane="observe")
    agent.wait_enrolled(pod)
    observed, diverted = agent.bpf_stat("observed"), agent.bpf_stat("diverted")
    assert backends(pod, service) == 1
    assert agent.bpf_stat("observed") == observed + 1
    assert agent.bpf_stat("diverted") == diverted
    pod.remove()


@pytest.mark.parametrize(
    "options,words",
    [
        ({"containers": ("app", "istio-proxy")}, "istio-proxy"),
        ({"containers": ("app", "linkerd-proxy")}, "linkerd-proxy"),
        ({"labels": {"istio.io/dataplane-mode": "ambient"}}, "ambient"),
    ],
    ids=["istio", "linkerd", "ambient"],
)
def test_refused_pods_have_a_reason(lab, agent, service, options, words):
    pod = lab.pod("refused", dataplane="enabled", **options)
    agent.wait_state("refused", pod)
    assert words in agent.enrolment(pod)["reason"]
    assert pod_listener(pod) is None and backends(pod, service) == 1
    pod.remove()


def test_excluded_ports(lab, agent, service):
    pod = lab.pod("picky", dataplane="enabled", annotations={"weir.dev/exclude-outbound-ports": "50051,8080"})
    agent.wait_enrolled(pod)
    assert backends(pod, service) == 1
    pod.remove()


def test_a_port_of_the_pods_own_is_not_taken(lab, agent, service):
    """A pod that listens on what would be weir's port: the next one is taken."""
    pod = lab.pod("squatter")
    held = [pod.listen(port) for port in (61000, 61001)]
    pod.labels["weir.dev/dataplane"] = "enabled"
    pod.publish()
    agent.wait_enrolled(pod)
    assert backends(pod, service) == 3
    for listener in held:
        listener.close()
    pod.remove()


def test_a_hundred_starts_are_in_time(lab, agent, service):
    """The listener is open within 20 ms of the sandbox process; an application comes 140 ms later at the earliest."""
    took = []
    for i in range(100):
        pod = lab.pod("born", dataplane="enabled")
        agent.wait_enrolled(pod)
        took.append(agent.enrolment(pod)["enrolment_ms"])
        if i % 20 == 0:
            assert backends(pod, service) == 3
        pod.remove()
    took.sort()
    assert took[95] < 20 and took[99] < 140, took[-10:]


def test_pods_that_go_give_everything_back(lab, agent, service):
    descriptors = agent.descriptors()
    for _ in range(5):
        pods = [lab.pod(f"brief-{i}", dataplane="enabled") for i in range(4)]
        agent.wait_enrolled(*pods)
        for pod in pods:
            assert backends(pod, service) == 3
        for pod in pods:
            pod.remove()
    agent.wait(lambda: sum(worker["pods"] for worker in agent.stats()["workers"]) == 1, 3, "the pods are gone")
    agent.wait(lambda: agent.descriptors() <= descriptors, 3, "the pods' descriptors are gone")


@pytest.mark.parametrize("driver,qos", [("cgroupfs", "guaranteed"), ("systemd", "burstable"), ("systemd", "guaranteed")])
def test_cgroup_drivers(request, driver, qos):
    with Lab(f"e{request.node.name[-12:-1].replace('_', '-')}-{id(request) % 10000}", cgroup_driver=driver) as lab:
        pods = lab.greeters(3)
        service = lab.service("greeter", pods=pods)
        client = lab.pod("client", dataplane="enabled", qos=qos)
        agent = lab.agent()
        agent.start()
        agent.wait_enrolled(client)
        agent.wait_applied()
        assert backends(client, service) == 3
        assert agent.stop() == 0


def test_pods_without_ipv6(request):
    with Lab(f"v4-{id(request) % 100000}", ipv6=False) as lab:
        pods = lab.greeters(3)
        service = lab.service("greeter", pods=pods)
        client = lab.pod("client", dataplane="enabled")
        client.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"])
        agent = lab.agent()
        agent.start()
        agent.wait_enrolled(client)
        agent.wait_applied()
        assert backends(client, service) == 3
        processes.wait_until(lambda: agent.bpf_stat("diverted") >= 1, 2, "it was diverted")
