"""Hooks that are gone while the agent runs come back, and until then the agent says that it is not ready."""

import json
import os

import pytest
from lab import processes
from lab.node import Lab


def attached(lab) -> set[str]:
    """Names of the programs that stand at the hooks of the pods' cgroup."""
    output = processes.run(["bpftool", "--json", "cgroup", "show", str(lab.kubepods)]).stdout
    return {program["name"] for program in json.loads(output.strip() or "[]")}


def rows(agent) -> set[tuple]:
    """Of the pinned map; names of services are a running agent's."""
    return {(row["address"], row["mode"], row["generation"]) for row in agent.bpf("services")}


def test_pins_that_somebody_removes(lab, agent, client, service):
    """As an agent does that takes its own end for an uninstall while its successor starts."""
    before = attached(lab)
    assert "weir_connect4" in before
    agent.uninstall()
    agent.wait(lambda: attached(lab) == before, 5, "the programs are attached again")
    agent.wait(lambda: (lab.bpf_dir / "v1" / "maps" / "pods").exists(), 5, "the maps are pinned again")
    agent.wait(agent.ready, 5, "the agent is ready again")
    assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3
    assert [row["pod"] for row in agent.bpf("pods")] == ["default/client"]


def test_a_successor_uses_the_same_maps(lab, agent, client, service):
    """After that: rows written by this agent are in the maps that the next one finds."""
    agent.uninstall()
    agent.wait(lambda: "weir_connect4" in attached(lab), 5, "the programs are attached again")
    services = rows(agent)
    assert services
    agent.stop()
    assert rows(agent) == services
    agent.start()
    agent.wait_enrolled(client)
    assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3


@pytest.mark.timeout(120)
def test_a_kubepods_folder_that_is_made_again():
    with Lab(f"t{os.getpid()}-remade") as lab:
        agent = lab.agent()
        agent.start()
        assert "weir_connect4" in attached(lab)
        for folder in (*lab.kubepods.iterdir(), lab.kubepods):
            if folder.is_dir():
                folder.rmdir()
        # The kernel lets go of the links from a work queue.
        agent.wait(lambda: agent.admin("/readyz")[0] == 503, 15, "the agent is not ready")
        assert "not attached" in agent.admin("/readyz")[1] and str(lab.kubepods) in agent.admin("/readyz")[1]
        lab.kubepods.mkdir()
        for qos in ("burstable", "besteffort"):
            (lab.kubepods / qos).mkdir()
        agent.wait(agent.ready, 5, "the agent is ready again")
        assert "weir_connect4" in attached(lab)
        pods = lab.greeters(3)
        service = lab.service("greeter", pods=pods)
        client = lab.pod("client", dataplane="enabled")
        agent.wait_enrolled(client)
        agent.wait_applied()
        assert len(client.greet(service.target, "--rpcs", 60)["backends"]) == 3
        assert agent.stop() == 0
