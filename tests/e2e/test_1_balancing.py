"""An application of real pods before weir and after: what changes, and what must not."""

import os
import re
from pathlib import Path

import pytest

import objects
from kube import timed
from lab import processes
from objects import APP

PLAIN = "plain"
RPCS = 60
# From a pod's network namespace, seen to be ready, to the open listener; before, runc is at work. Of pods that start one after
# another all but one have to be this fast, of a hundred at once, which keep two cores busy for a minute, half.
# (99 of 100 that start one after another: tests/integration/test_enrolment.py, where a start takes no second.)
ENROLMENT_MS = 20
ONE_BY_ONE = 20
ENROLLED = r" pod app/(\S+): listening in .* ([0-9.]+) ms after its first .* ready for ([0-9.]+) ms at most"
# first_rpc's exit status.
NOT_DIVERTED = 3
# Fewer where the machine can't: WEIR_E2E_PODS.
EARLY = int(os.environ.get("WEIR_E2E_PODS", "100"))


@pytest.fixture(scope="module")
def plain(cluster, weir) -> str:
    """A namespace that does not ask for weir, with a client."""
    cluster.apply(objects.namespace(PLAIN), objects.client(PLAIN))
    cluster.kubectl("wait", f"--namespace={PLAIN}", "pod/client", "--for=condition=Ready", "--timeout=30s")
    return PLAIN


def test_one_connection_has_one_backend_before_weir(cluster, target):
    result = cluster.greet(APP, "client", target, "--rpcs", RPCS)
    assert result["errors"] == []
    assert len(result["backends"]) == 1


def test_with_weir_all_servers_answer_one_connection(cluster, target, weir):
    result = cluster.greet(APP, "client", target, "--rpcs", RPCS)
    assert result["errors"] == []
    pods = cluster.get("pods", f"--namespace={APP}", "--selector=app=greeter")["items"]
    assert len(pods) == 3
    assert set(result["backends"]) == {pod["metadata"]["name"] for pod in pods}


def test_a_server_sees_the_clients_address(cluster, target, weir):
    own = cluster.get("pod", "client", f"--namespace={APP}")["status"]["podIP"]
    peers = cluster.greet(APP, "client", target, "--rpcs", 6)["peers"]
    # As gRPC writes it: ipv4:ADDRESS:PORT, or ipv6:[::ffff:ADDRESS]:PORT with %5B and %5D for the brackets.
    assert peers
    assert [peer for peer in peers if f":{own}:" not in peer and f":{own}%5D:" not in peer] == []


def test_a_namespace_that_is_not_enrolled_is_untouched(cluster, target, plain):
    result = cluster.greet(plain, "client", target, "--rpcs", RPCS)
    assert result["errors"] == []
    assert len(result["backends"]) == 1
    assert f"{plain}/client" not in cluster.enrolled()


def test_servers_of_an_enrolled_namespace_pass_the_kubelets_probes(cluster, weir):
    """Ready: the kubelet dialled the pod and liked the answer."""
    probes = {
        "probed-tcp": {"tcpSocket": {"port": "grpc"}},
        "probed-grpc": {"grpc": {"port": objects.PORT}},
        "probed-http": {"httpGet": {"port": 8080, "path": "/"}},
    }
    web = objects.container("web", objects.PYTHON, "-m", "http.server", "8080")
    for name, probe in probes.items():
        probed = {**web, "readinessProbe": {"periodSeconds": 1, **probe}} if "httpGet" in probe else objects.greeter(probe)
        cluster.apply(objects.pod(name, APP, probed))
    for name in probes:
        cluster.kubectl("wait", f"--namespace={APP}", f"pod/{name}", "--for=condition=Ready", "--timeout=30s", timeout=40)
    cluster.kubectl("delete", "pods", f"--namespace={APP}", *probes)


def test_a_pod_with_a_sidecar_is_refused_and_says_why(cluster, weir):
    containers = [objects.container(name, "sleep", "infinity") for name in ("client", "istio-proxy")]
    cluster.apply(objects.pod("sidecar", APP, *containers))
    cluster.kubectl("wait", f"--namespace={APP}", "pod/sidecar", "--for=condition=Ready", "--timeout=30s")

    def refused():
        described = cluster.weirctl("describe", "pod", "sidecar", f"--namespace={APP}")
        return described if described.get("state") == "refused" else None

    described = processes.wait_until(refused, 20, "the pod with a sidecar is refused", interval=0.3)
    assert described["reason"] == "has the container istio-proxy"
    cluster.kubectl("delete", "pod", "sidecar", f"--namespace={APP}")


def test_the_runtime_confines_the_agent(cluster, weir):
    """By the seccomp profile that the chart puts on the node (2: filtered)."""
    (pid,) = cluster.agent_processes()
    process = Path(f"/proc/{pid}")
    assert re.search(r"^Seccomp:\s+2$", (process / "status").read_text(), re.MULTILINE)
    environment = dict(entry.partition("=")[::2] for entry in (process / "environ").read_text().split("\0"))
    limit = cluster.agents()[0]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert limit.endswith("Gi") and int(environment["WEIR_MEMORY_LIMIT"]) == int(limit.removesuffix("Gi")) << 30


def test_every_agent_passes_helm_test(cluster, weir):
    """As a user asks: by the Service's name, from a pod of the chart."""
    assert "Succeeded" in cluster.helm("test", "weir", "--timeout=60s")


def test_pods_that_connect_at_once_are_not_missed(cluster, target, plain):
    """A real gRPC library's first RPC, and, as early as can be, a shell's first act; both then ask the kernel whether the
    connection's other end is a listener on loopback."""
    address = cluster.get("service", "greeter", f"--namespace={APP}")["spec"]["clusterIP"]
    script = f"exec 3<>/dev/tcp/{address}/80 && grep -q ' 0100007F:[0-9A-F]* 01 ' /proc/self/net/tcp"
    jobs = {
        "first-rpc": (EARLY, ["/apps/first_rpc", f"{address}:80"], NOT_DIVERTED),
        "first-act": (EARLY // 5, ["/bin/bash", "-c", script], 1),
    }
    for _, command, status in jobs.values():
        undiverted = cluster.node.run("kubectl", "exec", f"--namespace={plain}", "client", "--", *command, check=False)
        assert undiverted.returncode == status, undiverted
    with timed(f"{sum(pods for pods, *_ in jobs.values())} pods that connect at once"):
        cluster.apply(*(objects.job(name, APP, pods, command) for name, (pods, command, _) in jobs.items()))
        complete = ["wait", f"--namespace={APP}", *(f"job/{name}" for name in jobs), "--for=condition=Complete"]
        cluster.kubectl(*complete, "--timeout=180s", timeout=190)
    ended = {name: cluster.get("job", name, f"--namespace={APP}")["status"] for name in jobs}
    whole, ready = enrolment_of(cluster, *jobs)
    cluster.kubectl("delete", "jobs", *jobs, f"--namespace={APP}")
    assert {name: (status["succeeded"], status.get("failed", 0)) for name, status in ended.items()} == {
        name: (pods, 0) for name, (pods, *_) in jobs.items()
    }
    assert len(ready) == sum(pods for pods, *_ in jobs.values())
    report("at once", whole, ready)
    assert ready[len(ready) // 2] < ENROLMENT_MS


def test_pods_that_start_one_after_another_are_listened_in_at_once(cluster, target, weir):
    cluster.apply(objects.job("by-one", APP, ONE_BY_ONE, ["/bin/true"], at_once=1))
    with timed(f"{ONE_BY_ONE} pods, one after another"):
        cluster.kubectl("wait", f"--namespace={APP}", "job/by-one", "--for=condition=Complete", "--timeout=180s", timeout=190)
    whole, ready = enrolment_of(cluster, "by-one")
    cluster.kubectl("delete", "job", "by-one", f"--namespace={APP}")
    assert len(ready) == ONE_BY_ONE
    report("one after another", whole, ready)
    assert ready[-2] < ENROLMENT_MS


def enrolment_of(cluster, *jobs: str) -> tuple[list[float], list[float]]:
    """Milliseconds to the open listener, in order, of the jobs' pods: from the first process, and since the namespace was ready."""
    found = {pod: times for pod, *times in re.findall(ENROLLED, cluster.agent_log()) if pod.startswith(tuple(f"{job}-" for job in jobs))}
    whole, ready = (sorted(float(times[part]) for times in found.values()) for part in (0, 1))
    return whole, ready


def report(which: str, whole: list[float], ready: list[float]) -> None:
    print(f"\n{which}, from the first process to the open listener: {percentiles(whole)}; since the namespace was ready: {percentiles(ready)}")


def percentiles(ordered: list[float]) -> str:
    p50, p99 = (ordered[int(share * len(ordered))] for share in (0.5, 0.99))
    return f"median {p50} ms, p99 {p99} ms, most {ordered[-1]} ms"
