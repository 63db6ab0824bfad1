"""The chart's capabilities and its seccomp profile are enough for the agent's whole life."""

import json
import sys
from pathlib import Path

import pytest
from lab import processes
from lab.agent import Agent, AgentFailed, binary
from render import CHART, HERE, one, render

# linux/capability.h
NUMBERS = {"NET_ADMIN": 12, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "BPF": 39}
PROFILE = CHART / "files/seccomp.json"


def capabilities() -> list[str]:
    container = one(render(), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
    return container["securityContext"]["capabilities"]["add"]


class Confined(Agent):
    """An agent with a container's privileges, in a pod's cgroup, which is all it sees of /proc/self/cgroup."""

    def __init__(self, lab, profile=PROFILE, **options):
        super().__init__(lab, **options)
        confine = [sys.executable, str(HERE / "confine.py"), str(profile), ",".join(capabilities())]
        self._container = ["unshare", "--cgroup", *confine]
        self._cgroup = lab.kubepods / "burstable" / "pod11111111-2222-3333-4444-555555555555" / "weir-agent"
        self._cgroup.parent.mkdir(parents=True, exist_ok=True)

    @property
    def argv(self) -> list[str]:
        return [*self._container, *super().argv]

    def uninstall(self) -> None:
        processes.run([*self._container, str(binary("weir-agent")), "uninstall", "--bpf-dir", str(self.lab.bpf_dir)])


def test_privileges_suffice(lab, service, client, greeters):
    older = client.connect(service.vip, service.ports[0].port)
    agent = Confined(lab, workers=2)
    agent.start()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines())
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert status["CapEff"] == status["CapBnd"] == "%016x" % sum(1 << NUMBERS[name] for name in capabilities())
    agent.wait_enrolled(client)
    agent.wait_applied()
    result = client.greet(service.target, "--rpcs", 900)
    assert result["errors"] == []
    assert set(result["backends"]) == {pod.uid for pod in greeters}
    # A pod that comes later, and one that goes.
    late = lab.pod("late", dataplane="enabled")
    agent.wait_enrolled(late)
    assert late.greet(service.target, "--rpcs", 30)["errors"] == []
    # The hooks see each connection once: none is attached above the pods as well.
    metrics = dict(line.rsplit(" ", 1) for line in agent.admin("/metrics")[1].splitlines() if line[0] != "#")
    assert (metrics["weir_bpf_handed_over_total"], metrics["weir_bpf_handover_missed_total"]) == ("2", "0")
    # Socket diagnosis in the pod's namespace, and the right to close a connection there.
    agent.wait(lambda: agent.enrolment(client)["unmanaged_connections"] == 1, 5, "the older connection is counted")
    agent.weirctl("adopt", "--pod", "client", "--yes", "--active")
    with pytest.raises(ConnectionAbortedError):
        while older.recv(4096):
            pass
    older.close()
    assert agent.stop() == 0
    assert (lab.bpf_dir / "v1" / "links").exists()
    agent.uninstall()
    assert not lab.bpf_dir.exists()
    log = agent.log.read_text()
    assert "Operation not permitted" not in log and "Permission denied" not in log, log


def test_a_profile_without_io_uring_does_not_do(lab, tmp_path):
    """So the filter filters; and it is what an agent meets under the default profile of newer runtimes."""
    profile = json.loads(PROFILE.read_text())
    profile["syscalls"] = [rule for rule in profile["syscalls"] if "io_uring_setup" not in rule["names"]]
    without = tmp_path / "profile.json"
    without.write_text(json.dumps(profile))
    agent = Confined(lab, profile=without)
    with pytest.raises(AgentFailed, match="io_uring"):
        agent.start()
