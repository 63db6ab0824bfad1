"""A large cluster: what an agent needs for 5,000 Services with 10,000 endpoints and 1,000 pods."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab import manifests
from lab.service import Port

SERVICES, ENDPOINTS_EACH, PODS = 5000, 2, 1000
RESIDENT_MB, PEAK_MB = 60, 150
IDLE_SECONDS, IDLE_SHARE = 20, 0.002
LAST_APPLIED = "x" * 1000  # as kubectl leaves it on most objects
# Somebody's subsets, so that the pods of all nodes are asked for.
RULE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": {"name": "tracked", "namespace": "default"},
    "spec": {"host": "service-0", "subsets": [{"name": "first", "labels": {"app": "app-0"}}]},
}


def service_objects(number: int) -> list[dict]:
    name = f"service-{number}"
    port = Port("grpc", 50051, 50051)
    address = f"10.96.{100 + number // 250}.{number % 250}"
    service = manifests.service(name, "default", [address], [port], {})
    service["spec"]["ipFamilyPolicy"] = "SingleStack"
    service["metadata"].setdefault("annotations", {})["kubectl.kubernetes.io/last-applied-configuration"] = LAST_APPLIED
    slices = manifests.endpoint_slice(name, "default", "IPv4", [port], [], "another")
    slices["endpoints"] = [
        {
            "addresses": [f"10.250.{at // 250}.{at % 250}"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{at % 100}",
            "targetRef": {"kind": "Pod", "name": f"pod-{at % PODS}", "namespace": "default"},
        }
        for at in range(number * ENDPOINTS_EACH, (number + 1) * ENDPOINTS_EACH)
    ]
    return [service, slices]


def pod_object(number: int) -> dict:
    labels = {"app": f"app-{number % 200}", "pod-template-hash": f"{number:08x}"}
    pod = manifests.pod(f"pod-{number}", "default", "", [""], f"node-{number % 100}", labels, {}, ["app"])
    del pod["metadata"]["uid"], pod["status"]
    return pod


@pytest.fixture(scope="module")
def large_cluster(plane):
    began = time.monotonic()
    plane.apply_crds("virtualservices", "destinationrules")
    objects = [RULE, *(found for number in range(SERVICES) for found in service_objects(number))]
    objects += [pod_object(number) for number in range(PODS)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(plane.client.create, objects))
    print(f"the cluster was made in {time.monotonic() - began:.0f} s")


def memory_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(name)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.timeout(300)
def test_a_large_cluster(lab, plane, large_cluster, greeters, service, client):
    agent = lab.agent(kubeconfig=plane.kubeconfig("weir", token=plane.token("weir")))
    began = time.monotonic()
    agent.start(timeout=60)
    ready = time.monotonic() - began
    agent.wait_enrolled(client)
    agent.wait(lambda: len(client.greet(service.target, "--rpcs", 30)["backends"]) == 3, 20, "the service is balanced")
    agent.wait(lambda: agent.metric("weir_kubernetes_followed", resource="pods elsewhere") == 1, 20, "other nodes' pods are followed")
    changed = time.monotonic()
    service.set_ready(greeters[0], False)
    agent.wait(lambda: len(client.greet(service.target, "--rpcs", 30)["backends"]) == 2, 20, "a change is applied")
    changed = time.monotonic() - changed
    service.set_ready(greeters[0], True)
    time.sleep(5)
    before = cpu_seconds(agent.pid)
    time.sleep(IDLE_SECONDS)
    idle = (cpu_seconds(agent.pid) - before) / IDLE_SECONDS
    resident, peak = memory_mb(agent.pid, "VmRSS"), memory_mb(agent.pid, "VmHWM")
    print(f"ready in {ready:.1f} s, a change seen in {changed:.2f} s, idle {idle:.2%} of a core")
    print(f"RSS {resident:.0f} MB, peak {peak:.0f} MB")
    assert resident <= RESIDENT_MB
    assert peak <= PEAK_MB
    assert idle < IDLE_SHARE
    agent.stop()
