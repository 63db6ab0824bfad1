"""Connections older than weir: counted, listed, and closed by `weirctl adopt`, as asked for and no further."""

import json
import select
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest
from lab import processes
from lab.agent import binary
from lab.service import Port
from test_relay import Echo

METRIC = "weir_unmanaged_connections"


def weirctl(agent, *arguments):
    """weirctl to its end, whatever the status."""
    argv = [binary("weirctl"), "--run-dir", agent.run_dir, "--bpf-dir", agent.lab.bpf_dir, *arguments]
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60)


def unmanaged(agent, *arguments):
    return json.loads(agent.weirctl("unmanaged", "-o", "json", *arguments))["connections"]


def adopt(agent, *arguments):
    """{source: result}"""
    adoption = json.loads(agent.weirctl("adopt", "-o", "json", *map(str, arguments)))
    return {connection["source"]: connection["result"] for connection in adoption["connections"]}


def source(connection):
    host, port = connection.getsockname()[:2]
    host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def echoes(connection):
    connection.sendall(b"ping")
    return connection.recv(4) == b"ping"


def was_aborted(connection):
    with pytest.raises(ConnectionAbortedError):
        connection.recv(1)
    return True


@pytest.fixture(scope="module")
def echo(lab):
    """An echo server behind a declared port (which is diverted) and one that is declared TCP."""
    pod = lab.pod("echo")
    server = Echo(pod, 7000)
    server.pod = pod
    server.declared = lab.service("echo", ports=[Port("grpc", 7000, 7000)], pods=[pod])
    server.plain = lab.service("plain", ports=[Port("tcp", 7000, 7000)], pods=[pod])
    yield server
    server.close()


@contextmanager
def older(lab, agent, *dialled, name="late"):
    """A pod and its connections to (address, port), which are older than its enrolment."""
    with lab.pod(name) as pod:
        connections = [pod.connect(address, port) for address, port in dialled]
        assert all(echoes(connection) for connection in connections)
        pod.labels["weir.dev/dataplane"] = "enabled"
        pod.publish()
        agent.wait_enrolled(pod)
        yield pod, connections
        for connection in connections:
            connection.close()


def test_a_grpc_client_older_than_the_agent(lab, greeters, service, echo, client):
    running = client.start_greet(service.target, "--rate", 4)
    processes.wait_until(lambda: client.connections_to(50051) == 1, 10, "the client has connected")
    stranger = lab.pod("stranger")
    others = [
        client.connect(echo.plain.vip, 7000),
        client.connect(echo.pod.ip, 7000),
        stranger.connect(echo.declared.vip, 7000),
    ]
    agent = lab.agent()
    agent.start()
    agent.wait_enrolled(client)
    agent.wait_applied()

    agent.wait(lambda: agent.metric(METRIC) == 1, 5, "it is counted")
    labels = next(labels for name, labels, _ in agent.samples() if name == METRIC)
    assert (labels["source_namespace"], labels["source_pod"]) == ("default", "client")
    assert labels["destination_service"] == "greeter.default.svc.cluster.local"
    assert agent.enrolment(client)["unmanaged_connections"] == 1
    assert "Unmanaged: 1 " in agent.weirctl("status")
    assert "dials again: 1 " in agent.weirctl("why", "client", "greeter:50051")

    # Four RPCs a second leave pauses that are long enough.
    def closed():
        return "closed" in adopt(agent, "--node", "--yes", "--min-idle", "100ms").values()

    agent.wait(closed, 10, "it is closed")
    time.sleep(5)
    result = client.finish_greet(running)
    # A C-core client that waits for nothing does not look at its socket: the next RPC finds it closed.
    assert [e["code"] for e in result["errors"]] in ([], ["UNAVAILABLE"])
    assert set(result["backends"]) == {pod.uid for pod in greeters}
    assert agent.bpf_stat("diverted") == 1
    assert all(echoes(connection) for connection in others), "another connection was touched"
    agent.wait(lambda: agent.metric(METRIC) == 0, 15, "it is not counted any more")
    assert agent.metric("weir_adoptions_total", result="closed") == 1
    assert agent.metric("weir_unmanaged_count_failures_total") == 0
    for connection in others:
        connection.close()
    stranger.remove()
    assert agent.stop() == 0


def test_nothing_without_yes(lab, agent, echo):
    with older(lab, agent, *[(echo.declared.vip, 7000)] * 3) as (pod, connections):
        plan = adopt(agent, "--pod", "late", "--min-idle", "0s")
        assert plan == {source(connection): "close" for connection in connections}
        assert "Nothing has been closed" in weirctl(agent, "adopt", "--pod", "late").stderr
        assert all(echoes(connection) for connection in connections)
        assert len(unmanaged(agent, "late")) == 3


@pytest.mark.parametrize(
    "arguments,status",
    [(["--yes"], 64), (["--node", "--limit", "0"], 64), (["--node", "--rate", "5000"], 64), (["--pod", "nobody", "--yes"], 65)],
)
def test_what_is_refused(agent, arguments, status):
    assert weirctl(agent, "adopt", *arguments).returncode == status


def test_the_bounds_hold_and_idle_ones_go_first(lab, agent, echo):
    with older(lab, agent, *[(echo.declared.vip, 7000)] * 6) as (pod, connections):
        for connection in reversed(connections):  # the last one is idle for longest
            assert echoes(connection)
            time.sleep(0.1)
        before = agent.metric("weir_adoptions_total", result="closed")
        started = time.monotonic()
        results = adopt(agent, "--pod", "late", "--yes", "--min-idle", "0s", "--limit", 3, "--rate", 4)
        assert time.monotonic() - started >= 2 / 4
        assert results == {
            source(connection): "closed" if place >= 3 else "limit" for place, connection in enumerate(connections)
        }
        assert list(results) == [source(connection) for connection in reversed(connections)]
        assert all(was_aborted(connection) for connection in connections[3:])
        assert all(echoes(connection) for connection in connections[:3])
        assert agent.metric("weir_adoptions_total", result="closed") == before + 3


def test_connections_in_use_are_left_alone(lab, agent, echo):
    with older(lab, agent, *[(echo.declared.vip, 7000)] * 2) as (pod, (quiet, busy)):
        time.sleep(0.5)
        busy.sendall(b"a reply that is not read")
        select.select([busy], [], [], 5)
        time.sleep(0.5)  # so that only the bytes tell
        found = {row["source"]: row for row in unmanaged(agent, "late")}
        assert found[source(busy)]["unread_bytes"] > 0 and found[source(quiet)]["unread_bytes"] == 0
        assert found[source(quiet)]["bytes_sent"] == found[source(quiet)]["bytes_received"] == 4
        assert found[source(quiet)]["idle_seconds"] >= 1
        assert adopt(agent, "--pod", "late", "--yes", "--min-idle", "400ms") == {
            source(quiet): "closed",
            source(busy): "active",
        }
        # The agent looks once more, whatever was planned: it has become busy since.
        assert adopt(agent, "--pod", "late", "--yes", "--active") == {source(busy): "closed"}
        assert was_aborted(quiet)
    assert agent.metric("weir_adoptions_total", result="closed") >= 2


def test_what_has_changed_since_it_was_listed(lab, agent, echo):
    """The agent decides by what it sees when it is asked to close."""
    with older(lab, agent, *[(echo.declared.vip, 7000)] * 2) as (pod, (first, second)):
        rows = {row["source"]: row for row in unmanaged(agent, "late")}

        def ask(connection, **conditions):
            row = rows[source(connection)]
            query = {name: row[name] for name in ("uid", "source", "destination", "cookie")} | conditions
            return post(agent, "/adopt?" + "&".join(f"{name}={value}" for name, value in query.items()))

        assert ask(first, min_idle_ms=3_600_000) == (200, {"result": "active"})
        assert ask(first, active=1, cookie=rows[source(second)]["cookie"]) == (200, {"result": "gone"})
        agent.weirctl("bypass", "on", "--pod", "late")
        assert ask(first, active=1) == (200, {"result": "managed"})
        assert unmanaged(agent, "late") == []
        agent.weirctl("bypass", "off", "--pod", "late")
        assert echoes(first) and echoes(second)
        assert ask(first, active=1) == (200, {"result": "closed"})
        assert ask(first, active=1) == (200, {"result": "gone"})
        assert echoes(second)
        for wrong in ({"cookie": 0}, {"cookie": 2**64 - 1}, {"source": "x"}, {"min_idle_ms": 1, "active": 1}, {}):
            assert ask(second, **wrong)[0] == 400, wrong
        assert ask(second, active=1, uid="nobody") == (200, {"result": "gone"}), "its pod has ended"
        assert echoes(second)


def post(agent, target):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(agent.run_dir / "admin.sock"))
        connection.sendall(f"POST {target} HTTP/1.1\r\nHost: weir\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(None, 2)[1]), json.loads(body)


def test_every_family(lab, agent, echo):
    vip, vip6 = echo.declared.vip, echo.declared.vip6
    with older(lab, agent, (vip, 7000), (f"::ffff:{vip}", 7000), (vip6, 7000)) as (pod, connections):
        assert {row["source"] for row in unmanaged(agent, "late")} == {source(connection) for connection in connections}
        agent.wait(lambda: agent.metric(METRIC, source_pod="late") == 3, 5, "they are counted")
        assert set(adopt(agent, "--pod", "late", "--yes", "--active").values()) == {"closed"}
        assert all(was_aborted(connection) for connection in connections)
        with pod.connect(vip, 7000) as again:
            assert echoes(again)
        assert unmanaged(agent, "late") == []


def test_only_what_was_asked_for(lab, agent, service, echo):
    """Another service, another pod, addresses that are not diverted, a diverted connection: all of them live on."""
    with lab.service("echo2", ports=[Port("grpc", 7000, 7000)], pods=[echo.pod]) as second:
        agent.wait_applied()
        dialled = [(s.vip, 7000) for s in (echo.declared, second, echo.plain)] + [(echo.pod.ip, 7000)]
        with older(lab, agent, *dialled) as (pod, connections), older(lab, agent, *dialled[:1], name="neighbour") as (_, theirs):
            diverted = pod.connect(echo.declared.vip, 7000)
            assert echoes(diverted)
            meant, *others = connections
            assert adopt(agent, "--pod", "late", "--service", "echo", "--yes", "--active") == {source(meant): "closed"}
            assert was_aborted(meant)
            assert all(echoes(connection) for connection in [*others, *theirs, diverted])
            assert {row["pod"] for row in unmanaged(agent)} == {"late", "neighbour"}
            assert len(unmanaged(agent, "-n", "default", "--service", "echo2")) == 1
            assert unmanaged(agent, "-n", "elsewhere") == []
            diverted.close()


def test_half_closed_connections_go_first(lab, agent, echo):
    """Their server has ended them: the client loses least, however long others were idle."""
    pod_of_server = lab.pod("closing")
    listener = pod_of_server.listen(7001)
    with lab.service("closing", ports=[Port("grpc", 7001, 7001)], pods=[pod_of_server]) as service:
        with lab.pod("late") as pod:
            connections, accepted = [], []
            for _ in range(3):
                connections.append(pod.connect(service.vip, 7001))
                accepted.append(listener.accept()[0])
            half_closed = connections[1]
            time.sleep(0.3)
            accepted[1].sendall(b"bye")
            accepted[1].shutdown(socket.SHUT_WR)
            assert half_closed.recv(10) == b"bye" and half_closed.recv(10) == b""
            pod.labels["weir.dev/dataplane"] = "enabled"
            pod.publish()
            agent.wait_enrolled(pod)
            agent.wait_applied()
            found = {row["source"]: row["half_closed"] for row in unmanaged(agent, "late")}
            assert found == {source(connection): connection is half_closed for connection in connections}
            results = adopt(agent, "--pod", "late", "--yes", "--min-idle", "0s", "--limit", 1)
            assert results[source(half_closed)] == "closed"
            assert list(results.values()) == ["closed", "limit", "limit"]
            with pytest.raises(OSError):
                half_closed.sendall(b"x")
            for end in (0, 2):
                accepted[end].sendall(b"still here")
                assert connections[end].recv(20) == b"still here"
            for connection in (*connections, *accepted):
                connection.close()
    listener.close()
