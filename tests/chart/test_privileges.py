"""The chart's capabilities and its seccomp profile are enough for the agent's whole life."""

import json
import sys
from pathlib import Path

import pytest
from lab.agent import Agent, AgentFailed
from render import CHART, HERE, one, render

# linux/capability.h
NUMBERS = {"NET_ADMIN": 12, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "BPF": 39}
PROFILE = CHART / "files/seccomp.json"


def capabilities() -> list[str]:
    container = one(render(), "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
    return container["securityContext"]["capabilities"]["add"]


class Confined(Agent):
    """An agent with a container's privileges."""

    def __init__(self, lab, capabilities, profile=PROFILE, **options):
        super().__init__(lab, **options)
        self._confine = [sys.executable, str(HERE / "confine.py"), str(profile), ",".join(capabilities)]

    @property
    def argv(self) -> list[str]:
        return [*self._confine, *super().argv]


def test_privileges_suffice(lab, service, client, greeters):
    agent = Confined(lab, capabilities(), workers=2)
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
    assert agent.admin("/metrics")[0] == 200
    assert agent.stop() == 0
    log = agent.log.read_text()
    assert "Operation not permitted" not in log and "Permission denied" not in log, log


def test_a_profile_without_io_uring_does_not_do(lab, tmp_path):
    """So the filter filters; and it is what an agent meets under the default profile of newer runtimes."""
    profile = json.loads(PROFILE.read_text())
    profile["syscalls"] = [rule for rule in profile["syscalls"] if "io_uring_setup" not in rule["names"]]
    without = tmp_path / "profile.json"
    without.write_text(json.dumps(profile))
    agent = Confined(lab, capabilities(), profile=without)
    with pytest.raises(AgentFailed, match="io_uring"):
        agent.start()
