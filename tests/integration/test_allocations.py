"""In steady state a worker allocates nothing per RPC: 100,000 RPCs through a real agent whose heap is counted."""

import struct
import subprocess
import time
from pathlib import Path

import pytest

from lab.agent import Agent
from lab.service import Port

HERE = Path(__file__).resolve().parent
RPCS = 100_000
# What may grow besides: snapshots posted to the worker, tables and buffers that a burst finds too small. One in a hundred RPCs is no RPC.
SLACK = RPCS // 100
# Once a second a worker gives back half of what it did not need, and may find that it was too much.
HOUSEKEEPING = 50  # allocations a second


class CountedAgent(Agent):
    """An agent with malloc_counter.c preloaded."""

    def __init__(self, lab, library, counters, **options):
        super().__init__(lab, **options)
        self.counters = counters
        self._preload = ["env", f"LD_PRELOAD={library}", f"MALLOC_COUNTER_FILE={counters}"]

    @property
    def argv(self):
        return [*self._preload, *super().argv]

    def worker_allocations(self) -> int:
        threads = {
            int(task.name)
            for task in Path(f"/proc/{self.pid}/task").iterdir()
            if (task / "comm").read_text().startswith("worker-")
        }
        counts = dict(struct.iter_unpack("<QQ", self.counters.read_bytes()))
        assert threads and threads <= counts.keys(), "the preloaded library does not count the worker"
        return sum(counts[thread] for thread in threads)


@pytest.fixture
def counted(lab, tmp_path):
    library = tmp_path / "malloc_counter.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, HERE / "malloc_counter.c"], check=True)
    counters = tmp_path / "counters"
    counters.write_bytes(bytes(64 * 1024))
    agent = CountedAgent(lab, library, counters)
    agent.start()
    yield agent
    agent.stop()
    agent.uninstall()


@pytest.fixture
def backends(lab):
    pods = [lab.pod(f"h2-{i}") for i in range(3)]
    for pod in pods:
        pod.popen(["nghttpd", "--no-tls", "--trailer", "grpc-status: 0", "--echo-upload", "-d", "/tmp", "8080"])
    for pod in pods:
        pod.wait_listening(8080)
    yield pods
    for pod in pods:
        pod.remove()


def load(client, target, body, requests):
    output = client.run(
        ["h2load", "-c", 4, "-m", 25, "-n", requests, "-d", body, "-H", "content-type: application/grpc",
         "-H", "te: trailers", "-H", "grpc-timeout: 20S", f"http://{target}/lab.Echo/Say"],
        timeout=100,
    ).stdout  # fmt: skip
    assert f"{requests} 2xx" in output, output


def test_no_allocation_per_rpc(lab, counted, backends, tmp_path):
    client = lab.pod("counting-client", dataplane="enabled")
    service = lab.service("counted", [Port("grpc", 80, 8080)], backends)
    counted.wait_enrolled(client)
    counted.wait_applied()
    body = tmp_path / "body"
    body.write_bytes(b"\0\0\0\0\5hello")
    load(client, service.target, body, 20_000)  # tables and buffers grow to the traffic's size
    before = counted.worker_allocations()
    load(client, service.target, body, 100)
    connections = counted.worker_allocations() - before  # h2load dials anew each time
    before = counted.worker_allocations()
    begin = time.monotonic()
    load(client, service.target, body, RPCS)
    allocated = counted.worker_allocations() - before
    allowed = connections + SLACK + HOUSEKEEPING * (time.monotonic() - begin)
    assert allocated <= allowed, f"{allocated} allocations in {RPCS} RPCs ({connections} for the connections)"
