"""/readyz: what it says of an agent that is ready, and why another is not."""

import re
import subprocess
import time

import pytest
from lab.agent import Agent


def test_details_of_an_agent_that_is_ready(lab, agent, client):
    status, body = agent.admin("/readyz")
    assert status == 200
    lines = body.splitlines()
    assert lines[0] == "ready"
    assert re.fullmatch(r"configuration: revision \d+, built \d+ s ago", lines[1])
    assert lines[2] == f"manifests {lab.manifests}: watching"
    assert lines[3] == "pods: 1 listened in"


class Hindered(Agent):
    """An agent that can't see the pods' processes: it does not have the node's PID namespace."""

    @property
    def argv(self):
        return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *super().argv]


@pytest.mark.timeout(120)
def test_pods_that_are_not_listened_in_at_the_start(lab, agent, client):
    """They keep the agent from being ready, but not for ever."""
    agent.stop()
    hindered = Hindered(lab)
    hindered.start(ready=False)
    started = time.monotonic()

    def answer():
        try:
            status, body = hindered.admin("/readyz")
            return None if body == "starting\n" else (status, body)
        except OSError:
            return None

    try:
        status, body = hindered.wait(answer, 10, "the agent answers")
        assert (status, body.split(":")[0]) == (503, "1 pod is not listened in")
        assert "default/client (its processes are not visible" in body
        hindered.wait(lambda: answer()[0] == 200, 60, "the agent is ready without that pod")
        assert 25 < time.monotonic() - started < 45
        assert "pods: 0 listened in; 1 pod is not listened in: default/client" in answer()[1]
    finally:
        hindered.kill()
    agent.start()
    agent.wait_enrolled(client)


def test_the_port_answers_while_others_drip_bytes(agent, lab):
    """Sixteen connections and more that never finish their request, twice as many as the port had threads."""
    dripping = f"""
import socket, time
clients = [socket.create_connection(("127.0.0.1", {agent.metrics_port})) for _ in range(40)]
print("connected", flush=True)
while True:
    for i, client in enumerate(clients):
        try:
            client.send(b"G")
        except OSError:
            clients[i] = socket.create_connection(("127.0.0.1", {agent.metrics_port}))
    time.sleep(0.2)
"""
    enter = ["nsenter", f"--net={lab.netns}"]
    attacker = subprocess.Popen([*enter, "python3", "-c", dripping], stdout=subprocess.PIPE, text=True)
    try:
        assert attacker.stdout.readline() == "connected\n"
        for path in ("healthz", "readyz") * 10:
            url = f"http://127.0.0.1:{agent.metrics_port}/{path}"
            done = subprocess.run([*enter, "curl", "--silent", "--fail", "--max-time", "1", url], timeout=10)
            assert done.returncode == 0, path
            time.sleep(0.2)
        agent.wait(lambda: agent.metric("weir_metrics_port_closed_total", reason="slow") >= 40, 10, "they are closed")
    finally:
        attacker.kill()
        attacker.wait()
