"""An application of real pods before weir and after: what changes, and what must not."""

import os

import pytest

import objects
from kube import timed
from lab import processes
from objects import APP

PLAIN = "plain"
RPCS = 60
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


def test_pods_that_connect_at_once_are_not_missed(cluster, target, plain):
    """Bash's first act is to connect; what the kernel says of the connection's other end is the listener, on loopback."""
    address, port = target.split(":")
    script = f"exec 3<>/dev/tcp/{address}/{port} && grep -q ' 0100007F:[0-9A-F]* 01 ' /proc/self/net/tcp"
    bash = ["/bin/bash", "-c", script]
    undiverted = cluster.node.run("kubectl", "exec", f"--namespace={plain}", "client", "--", *bash, check=False)
    assert undiverted.returncode == 1
    with timed(f"{EARLY} pods that connect at once"):
        cluster.apply(objects.job("early", APP, EARLY, bash))
        wait = ["wait", f"--namespace={APP}", "job/early", "--for=condition=Complete", "--timeout=180s"]
        cluster.kubectl(*wait, timeout=190)
    status = cluster.get("job", "early", f"--namespace={APP}")["status"]
    cluster.kubectl("delete", "job", "early", f"--namespace={APP}")
    assert (status["succeeded"], status.get("failed", 0)) == (EARLY, 0)
