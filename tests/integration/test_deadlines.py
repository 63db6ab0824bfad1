"""Deadlines and cancellations reach the wire on the other side."""

import re
import time

import h2.errors
import pytest
from h2_peers import Backend, Client
from lab import processes
from lab.service import Port

UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def seconds(timeout: str) -> float:
    amount, unit = re.fullmatch(r"(\d{1,8})([HMSmun])", timeout).groups()
    return int(amount) * UNITS[unit]


class Script:
    """What both backends of a test do; `refuse` takes the first request of all after that many seconds."""

    def __init__(self):
        self.refuse = None

    def respond(self, request):
        if self.refuse is not None:
            delay, self.refuse = self.refuse, None
            time.sleep(delay)
            request.reset(h2.errors.ErrorCodes.REFUSED_STREAM)
        elif request.method == "HeadAndHang":
            request.head()
            request.message(b"one")
        elif request.method != "Hang":
            request.answer()


@pytest.fixture(scope="module")
def scripted(lab, agent):
    script = Script()
    pods = [lab.pod(f"scripted-{i}") for i in range(2)]
    backends = [Backend(pod, script.respond) for pod in pods]
    script.service = lab.service("scripted", ports=[Port("grpc", 50051, 50051)], pods=pods)
    script.requests = lambda: sorted((r for b in backends for r in b.requests), key=lambda r: r.at)
    agent.wait_applied()
    yield script
    for backend in backends:
        backend.close()


@pytest.fixture
def connection(client, scripted):
    with Client(client.connect(scripted.service.vip, 50051)) as made:
        yield made


def last(scripted, condition):
    """The newest request, once the condition holds for it."""
    return processes.wait_until(
        lambda: next((r for r in scripted.requests()[-1:] if condition(r)), None), 3, "the backend saw what it should"
    )


@pytest.mark.parametrize("timeout", ["5S", "2000m", "3000000u", "1H"])
def test_the_deadline_is_passed_on(connection, scripted, timeout):
    assert connection.call(headers=[("grpc-timeout", timeout)]).grpc_status == 0
    sent = seconds(scripted.requests()[-1].headers["grpc-timeout"])
    assert seconds(timeout) - 0.5 <= sent <= seconds(timeout)


def test_no_deadline_stays_none(connection, scripted):
    assert connection.call().grpc_status == 0
    assert "grpc-timeout" not in scripted.requests()[-1].headers


def test_the_time_that_a_refused_try_took_is_taken_off(connection, scripted):
    scripted.refuse = 0.3
    assert connection.call(headers=[("grpc-timeout", "5S")]).grpc_status == 0
    first, second = scripted.requests()[-2:]
    assert first.connection is not second.connection, "the second try goes to the other endpoint"
    assert seconds(first.headers["grpc-timeout"]) > 4.9
    assert 4.0 < seconds(second.headers["grpc-timeout"]) <= 4.7


def test_the_deadline_ends_the_rpc_on_both_sides(connection, scripted):
    started = time.monotonic()
    response = connection.call("Hang", headers=[("grpc-timeout", "300m")])
    assert response.grpc_status == 4
    assert 0.29 <= response.ended_at - started < 0.8
    request = last(scripted, lambda r: r.reset_at)
    assert request.reset_code == h2.errors.ErrorCodes.CANCEL
    assert 0.29 <= request.reset_at - started < 0.8


def test_a_deadline_after_the_head_ends_in_trailers(connection, scripted):
    response = connection.call("HeadAndHang", headers=[("grpc-timeout", "300m")])
    assert response.headers[":status"] == "200" and response.trailers["grpc-status"] == "4"
    assert last(scripted, lambda r: r.reset_at).reset_code == h2.errors.ErrorCodes.CANCEL


@pytest.mark.parametrize("method", ["Hang", "HeadAndHang"])
def test_a_cancellation_reaches_the_backend(connection, scripted, method):
    stream = connection.start(method)
    last(scripted, lambda r: r.method == method and r.ended_at)
    at = time.monotonic()
    connection.cancel(stream)
    request = last(scripted, lambda r: r.reset_at)
    assert request.reset_code == h2.errors.ErrorCodes.CANCEL
    assert request.reset_at - at < 0.2
    assert connection.call().grpc_status == 0, "the connection goes on"


@pytest.mark.parametrize("leave", ["close", "vanish"])
def test_a_client_that_leaves_cancels_its_rpcs(client, scripted, leave):
    connection = Client(client.connect(scripted.service.vip, 50051))
    before = len(scripted.requests())
    for _ in range(5):
        connection.start("Hang")
    processes.wait_until(lambda: len(scripted.requests()) == before + 5, 3, "five RPCs are running")
    getattr(connection, leave)()
    five = scripted.requests()[-5:]
    processes.wait_until(lambda: all(r.reset_at for r in five), 2, "the backend hears of all five")


def test_real_clients_deadline(agent, client, service):
    result = client.greet(
        service.target, "--rpcs", 8, "--concurrency", 8, "--method", "Sleep", "--request", '{"seconds": 5}', "--deadline", 0.05
    )
    assert {e["code"] for e in result["errors"]} == {"DEADLINE_EXCEEDED"} and len(result["errors"]) == 8
