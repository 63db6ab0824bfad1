"""Agents and nodes that fail: what the application notices, and that everything is as before once they are repaired."""

import os
import select
import signal
import time

import objects
import pins
from kube import SYSTEM, TAGS, load, timed
from lab import processes
from objects import APP

# No RPC that begins at a bad moment may hang for longer (seconds).
HANG = 3.0
NO_NUMBER = {"env[0]__name": "WEIR_WORKERS", "env[0]__value": "none"}


def waits_to_be_restarted(pod: dict) -> bool:
    states = [status["state"] for status in pod["status"].get("containerStatuses", [])]
    return any(state.get("waiting", {}).get("reason") == "CrashLoopBackOff" for state in states)


def restarts(cluster, namespace: str) -> dict[str, int]:
    """Of the containers that are ready, by their pods."""
    return {
        pod["metadata"]["name"]: status["restartCount"]
        for pod in cluster.get("pods", f"--namespace={namespace}")["items"]
        for status in pod["status"].get("containerStatuses", [])
        if status["ready"]
    }


def assert_plain(cluster, target) -> None:
    """One backend a connection, nobody listens for weir in the pod, and no connect hangs."""
    result = cluster.greet(APP, "client", target, "--rpcs", 30)
    assert (result["errors"], len(result["backends"])) == ([], 1)
    assert cluster.listening(APP, "client") == []
    result = cluster.greet(APP, "client", target, "--rpcs", 30, "--reconnect")
    assert result["errors"] == []
    assert result["latency_ms"]["max"] < 1000 * HANG


def assert_balanced(cluster, target) -> None:
    result = cluster.greet(APP, "client", target, "--rpcs", 60)
    assert (result["errors"], len(result["backends"])) == ([], 3)


def test_a_flag_that_no_agent_starts_with_leaves_the_node_on_kube_proxy(cluster, target, weir):
    before = cluster.agents()[0]["metadata"]["name"]
    attached = pins.ids(cluster.node)
    with load(cluster, target) as result:
        cluster.apply_chart(TAGS[1], **NO_NUMBER)
        with timed("the new agent is in a crash loop"):
            processes.wait_until(lambda: waits_to_be_restarted(cluster.agents()[0]), 60, "a crash loop", interval=0.5)
        # The one before goes on: a rolling update waits.
        assert_balanced(cluster, target)
        cluster.kubectl("delete", "pod", before, f"--namespace={SYSTEM}", timeout=60)
        assert_plain(cluster, target)
        assert pins.existing(attached) == attached
        with timed("a good flag again, rolled out"):
            cluster.install(TAGS[1])
        cluster.wait_enrolled(APP, "client")
        seen = result()
    assert seen["errors"] == []
    assert_balanced(cluster, target)


def kill(pid: int) -> None:
    """Returns when it is dead: until then its listeners take connections."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        assert select.select([process], [], [], 10)[0], "it does not die"
    finally:
        os.close(process)


def test_an_agent_that_is_killed_again_and_again_fails_only_what_it_was_serving(cluster, target, weir):
    """As soon as it serves, until the kubelet lets it wait."""
    kills = []

    def serving():
        found = cluster.agent_processes()
        return found if found and len(cluster.listening(APP, "client")) == 1 else None

    with load(cluster, target, "--reconnect") as result:
        while not kills or not waits_to_be_restarted(cluster.agents()[0]):
            assert len(kills) < 5
            for pid in processes.wait_until(serving, 30, "the agent serves", interval=0.2):
                kill(pid)
            kills.append(time.monotonic())
            time.sleep(2)
        assert_plain(cluster, target)
        name = cluster.agents()[0]["metadata"]["name"]
        cluster.kubectl("delete", "pod", name, f"--namespace={SYSTEM}", timeout=60)
        cluster.wait_rolled_out()
        cluster.wait_enrolled(APP, "client")
        seen = result()
    print(f"\n{len(kills)} kills: {seen['ok']} RPCs answered, {len(seen['errors'])} not, the slowest {seen['latency_ms']['max']} ms")
    stray = [
        error
        for error in seen["errors"]
        if error["code"] != "UNAVAILABLE" or not any(error["started"] < dead < error["ended"] + 0.2 for dead in kills)
    ]
    assert stray == []
    assert seen["ok"] > 200
    assert seen["latency_ms"]["max"] < 1000 * HANG
    assert_balanced(cluster, target)


def test_rpcs_go_on_while_containerd_and_the_kubelet_are_killed(cluster, target, weir):
    before = restarts(cluster, SYSTEM)
    with load(cluster, target) as result:
        with timed("containerd and kubelet killed, and a new pod is enrolled"):
            cluster.node.restart("containerd", "kubelet")
            cluster.apply(objects.client(APP, "late"))
            cluster.wait_enrolled(APP, "late", 60)
        seen = result()
    assert seen["errors"] == []
    assert len(seen["backends"]) == 3
    # A kubelet that starts takes no pod for ready before its first probe, which the API server hears of later.
    processes.wait_until(lambda: restarts(cluster, SYSTEM) == before, 60, "the agent is ready and was not restarted", interval=0.5)
    cluster.kubectl("wait", f"--namespace={APP}", "pod/late", "--for=condition=Ready", "--timeout=30s")
    result = cluster.greet(APP, "late", target, "--rpcs", 30)
    assert (result["errors"], len(result["backends"])) == ([], 3)
    cluster.kubectl("delete", "pod", "late", f"--namespace={APP}")


def test_a_node_that_loses_power_comes_back_with_nothing_stale(cluster, target, weir):
    before = {namespace: restarts(cluster, namespace) for namespace in (SYSTEM, APP)}
    attached, enrolled = pins.ids(cluster.node), sorted(cluster.enrolled())
    cluster.node.lose_power()
    processes.wait_until(lambda: not pins.existing(attached), 10, "maps and links went with the power", 0.5)

    def restarted() -> bool:
        try:
            now = {namespace: restarts(cluster, namespace) for namespace in before}
        except processes.CommandFailed:  # a busy API server
            return False
        return all(now[n].get(pod, 0) > count for n, pods in before.items() for pod, count in pods.items())

    with timed("a node that lost power is Ready"):
        cluster.node.boot()
    with timed("... and all its pods run again"):
        processes.wait_until(restarted, 90, "all pods run again", interval=0.5)
    cluster.wait_enrolled(APP, "client")
    assert_balanced(cluster, target)
    assert sorted(cluster.enrolled()) == enrolled
    assert len(cluster.listening(APP, "client")) == 1
    assert {kind: len(found) for kind, found in pins.ids(cluster.node).items()} == {
        kind: len(found) for kind, found in attached.items()
    }
