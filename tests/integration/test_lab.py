"""The lab itself: without weir it is a node as kube-proxy and kubelet make it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from lab import cgroups, processes, state
from lab.node import Lab

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def plain(lab):
    """A pod that does not ask for weir."""
    return lab.pod("plain")


@pytest.mark.parametrize("target", ["target", "target6", "mapped_target"])
def test_one_connection_one_backend(plain, service, target):
    result = plain.greet(getattr(service, target), "--rpcs", 200)
    assert result["ok"] == 200 and result["errors"] == []
    assert len(result["backends"]) == 1
    assert result["texts"] == {"service-mesh-lab": 200}


def test_connections_are_spread(plain, service):
    result = plain.greet(service.target, "--rpcs", 60, "--reconnect")
    assert result["errors"] == []
    assert len(result["backends"]) == 3


def test_servers_see_the_pods_own_address(plain, service):
    result = plain.greet(service.target, "--rpcs", 5)
    assert [peer.rsplit(":", 1)[0] for peer in result["peers"]] == [f"ipv4:{plain.ip}"]


def test_a_pod_reaches_itself_through_its_service(lab):
    pod = lab.pod("loop")
    pod.serve_greeter()
    loop = lab.service("loop", pods=[pod])
    assert pod.greet(loop.target, "--rpcs", 3)["backends"] == {pod.uid: 3}


def test_a_service_without_endpoints_refuses(lab, plain):
    empty = lab.service("empty")
    for address in (empty.vip, empty.vip6):
        with pytest.raises(ConnectionRefusedError):
            plain.connect(address, 50051)


def test_unready_endpoints_get_no_new_connection(lab, plain, greeters):
    service = lab.service("partly", pods=greeters)
    service.set_ready(greeters[0], False)
    result = plain.greet(service.target, "--rpcs", 40, "--reconnect")
    assert set(result["backends"]) == {greeters[1].uid, greeters[2].uid}
    service.set_ready(greeters[1], False)
    service.remove(greeters[2])
    with pytest.raises(ConnectionRefusedError):
        plain.connect(service.vip, 50051)
    # Nothing ready: what terminates and still serves is used, as kube-proxy does.
    service.set_ready(greeters[1], False, terminating=True)
    assert set(plain.greet(service.target, "--rpcs", 4, "--reconnect")["backends"]) == {greeters[1].uid}


def test_changing_the_rules_keeps_connections(lab, plain, greeters):
    service = lab.service("changing", pods=greeters[:1])
    running = plain.start_greet(service.target, "--rate", 200)
    processes.wait_until(lambda: plain.connections_to(50051), 10, "the client is connected")
    for i in range(20):
        service.set_ready(greeters[0], i % 2 == 1)
        time.sleep(0.03)
    result = plain.finish_greet(running)
    assert result["errors"] == [] and result["ok"] > 20


def test_manifests_say_what_is(lab, plain, service, greeters):
    pod = yaml.safe_load(plain.manifest.read_text())
    assert pod["metadata"]["uid"] == plain.uid
    assert pod["spec"]["nodeName"] == lab.node_name
    assert [entry["ip"] for entry in pod["status"]["podIPs"]] == [plain.ip, plain.ip6]
    written = yaml.safe_load(service.manifest.read_text())
    assert written["spec"]["clusterIPs"] == [service.vip, service.vip6]
    slices = list(yaml.safe_load_all(service.slices_manifest.read_text()))
    assert [s["addressType"] for s in slices] == ["IPv4", "IPv6"]
    assert [e["addresses"] for e in slices[0]["endpoints"]] == [[g.ip] for g in greeters]
    assert all(s["metadata"]["labels"]["kubernetes.io/service-name"] == "greeter" for s in slices)


def test_processes_are_in_the_pods_cgroup_and_namespace(plain):
    done = plain.run(["sh", "-c", "cat /proc/self/cgroup; readlink /proc/self/ns/net; ls -d /sys/fs/bpf"])
    cgroup = next(line for line in done.stdout.splitlines() if line.startswith("0::"))
    assert f"/kubepods/burstable/pod{plain.uid}/" in cgroup
    assert os.readlink(plain.netns) in done.stdout
    assert os.readlink(plain.netns) != os.readlink("/proc/self/ns/net")
    assert "/sys/fs/bpf" in done.stdout


def test_sockets_of_a_pod_in_other_hands(plain, greeters):
    with plain.listen(7000) as listener, greeters[0].connect(plain.ip, 7000) as outgoing:
        accepted, peer = listener.accept()
        with accepted:
            assert peer[0] == f"::ffff:{greeters[0].ip}"
            assert outgoing.getsockname()[0] == greeters[0].ip


@pytest.mark.parametrize(
    "driver,qos,shape",
    [
        ("cgroupfs", "burstable", "kubepods/burstable/pod{uid}/*"),
        ("cgroupfs", "guaranteed", "kubepods/pod{uid}/*"),
        ("systemd", "besteffort", "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid_}.slice/cri-containerd-*.scope"),
        ("systemd", "guaranteed", "kubepods.slice/kubepods-pod{uid_}.slice/cri-containerd-*.scope"),
    ],
)
def test_cgroup_shapes(driver, qos, shape):
    with Lab(f"t{os.getpid()}-shape", cgroup_driver=driver) as lab:
        pod = lab.pod("one", qos=qos)
        wanted = shape.format(uid=pod.uid, uid_=pod.uid.replace("-", "_"))
        assert len([path for path in lab.cgroup.glob(wanted) if path.is_dir()]) == 2
        assert cgroups.pids(pod.cgroup) == [pod.pid]


def test_pods_without_ipv6():
    with Lab(f"t{os.getpid()}-v4", ipv6=False) as lab:
        pod = lab.pod("one")
        pod.serve_greeter()
        service = lab.service("one", pods=[pod])
        assert service.vip6 is None
        assert lab.pod("two").greet(service.target, "--rpcs", 2)["ok"] == 2


def test_a_removed_pod_leaves_nothing(lab):
    pod = lab.pod("short")
    held = [pod.popen(["sleep", "60"]), pod.popen(["sleep", "60"])]
    pod.remove()
    assert not pod.cgroup.exists() and not pod.manifest.exists()
    assert all(process.returncode == -signal.SIGKILL for process in held)
    veths = processes.run(["ip", "-brief", "link"], netns=lab.netns).stdout
    assert f"{pod.veth}@" not in veths


def test_a_closed_lab_leaves_nothing():
    name = f"t{os.getpid()}-closed"
    with Lab(name) as lab:
        lab.pod("one").popen(["sleep", "60"])
        processes.wait_until(lambda: len(cgroups.pids(lab.cgroup)) == 3, 5, "node, sandbox and application run")
        pids = cgroups.pids(lab.cgroup)
    assert not lab.cgroup.exists() and not lab.folder.exists() and not lab.bpf_dir.exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    lab.close()


OWNER = """
import sys, time
sys.path.insert(0, {tools!r})
from lab.node import Lab
with Lab({name!r}) as lab:
    lab.pod("one").popen(["sleep", "600"])
    if {keep}:
        lab.keep()
    print("up", flush=True)
    time.sleep({seconds})
"""


def owner(name: str, keep=False, seconds=60) -> subprocess.Popen:
    script = OWNER.format(tools=str(TOOLS), name=name, keep=keep, seconds=seconds)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    return process


def end(process: subprocess.Popen, number=signal.SIGKILL) -> None:
    process.send_signal(number)
    process.wait(10)
    process.stdout.close()


def test_ctrl_c_cleans_up():
    name = f"t{os.getpid()}-ctrlc"
    end(owner(name), signal.SIGINT)
    assert not state.cgroup_root(name).exists() and not (state.ROOT / name).exists()


def test_what_a_killed_owner_left_is_cleaned_by_the_next_lab():
    name = f"t{os.getpid()}-killed"
    end(owner(name))
    assert state.cgroup_root(name).exists()
    with Lab(f"t{os.getpid()}-next"):
        assert not state.cgroup_root(name).exists() and not (state.ROOT / name).exists()


def test_a_lab_in_use_is_left_alone():
    name = f"t{os.getpid()}-inuse"
    process = owner(name)
    try:
        with pytest.raises(state.LabInUse, match=str(process.pid)):
            Lab(name).start()
        assert name not in state.clean_stale()
        assert state.cgroup_root(name).exists()
    finally:
        end(process, signal.SIGINT)


def test_a_kept_lab_outlives_its_owner_until_it_is_destroyed():
    name = f"t{os.getpid()}-kept"
    process = owner(name, keep=True, seconds=0)
    process.wait(10)
    process.stdout.close()
    assert name not in state.clean_stale()
    processes.wait_until(lambda: len(cgroups.pids(state.cgroup_root(name))) == 3, 5, "everything still runs")
    assert json.loads((state.ROOT / name / "state.json").read_text())["kept"]
    assert Lab.destroy(name)
    assert not state.cgroup_root(name).exists() and not (state.ROOT / name).exists()
    assert not Lab.destroy(name)


def test_v6_sockets_reach_v4_services(plain, service):
    with plain.connect(f"::ffff:{service.vip}", 50051) as connection:
        assert connection.family == socket.AF_INET6
        assert connection.getpeername()[0] == f"::ffff:{service.vip}"
