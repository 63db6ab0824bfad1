"""The helm test's script, run against agents that are ready, not ready, silent, or not there."""

import http.server
import socket
import subprocess
import threading

import pytest
from render import CHART

SCRIPT = (CHART / "files/ready.sh").read_text()


class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, text = self.server.answer
        self.send_response(status if self.path == "/readyz" else 404)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def agents():
    """Starts agents on 127.0.0.1 and up, all on one port; returns it."""
    started = []

    def start(*answers):
        port = 0
        for number, answer in enumerate(answers, 1):
            server = http.server.ThreadingHTTPServer((f"127.0.0.{number}", port), Agent)
            server.answer, port = answer, server.server_port
            threading.Thread(target=server.serve_forever, daemon=True).start()
            started.append(server)
        return port

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def run(tmp_path, addresses, port):
    # A name with these addresses: getent of a headless Service's name gives a line for each and type of socket.
    tool = tmp_path / "getent"
    lines = "".join(f"{a} {kind} name\n" for a in addresses for kind in ("STREAM", "DGRAM", "RAW"))
    tool.write_text(f"#!/bin/sh\n[ \"$1 $2\" = 'ahosts weir-metrics' ] || exit 3\nprintf '%s' '{lines}'\n")
    tool.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "AGENTS": "weir-metrics", "PORT": str(port)}
    done = subprocess.run(["bash", "-euc", SCRIPT], env=env, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout


READY, DRAINING = (200, "ready\n"), (503, "draining\n")


def test_all_ready(tmp_path, agents):
    port = agents(READY, READY)
    assert run(tmp_path, ["127.0.0.1", "127.0.0.2"], port) == (0, "127.0.0.1: ready\n127.0.0.2: ready\n")


def test_one_not_ready(tmp_path, agents):
    port = agents(READY, DRAINING)
    assert run(tmp_path, ["127.0.0.1", "127.0.0.2"], port) == (1, "127.0.0.1: ready\n127.0.0.2: not ready: draining\n")


def test_one_does_not_answer(tmp_path, agents):
    port = agents(READY)
    status, output = run(tmp_path, ["127.0.0.1", "127.0.0.2"], port)
    assert status == 1
    assert "127.0.0.1: ready\n" in output and "127.0.0.2: not ready: " in output and "refused" in output


def test_one_is_silent(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        status, output = run(tmp_path, ["127.0.0.1"], silent.getsockname()[1])
    assert (status, output) == (1, "127.0.0.1: not ready: \n")


def test_nobody_there(tmp_path):
    assert run(tmp_path, [], 1) == (1, "no agent: weir-metrics has no addresses\n")
