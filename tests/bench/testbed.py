"""The lab that everything is measured in: three backends, the clients' pods, the Service, a pod for the proxy.

Two cores: the proxy has one to itself, everything else shares the other.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass

from lab import processes
from lab.agent import binary
from lab.node import Lab
from lab.service import Endpoint, Port, Service


def tool(name: str):
    """rpc_load, rpc_backend, tcp_load or tcp_backend."""
    return binary("tests") / "bench" / "load" / name


@dataclass(frozen=True)
class Alias:
    """One more address of a backend, as an endpoint of its own."""

    name: str
    namespace: str
    uid: str
    ip: str
    ip6: None = None


class Testbed:
    """A context manager. Its process, and so everything it starts, runs on the core that is not the proxy's."""

    PROXY_CPU, OTHER_CPU = "0", "1"
    BACKEND_PORT = 8080
    BACKENDS = 3

    def __init__(self, pods: int):
        self._pods = pods
        self._stack = ExitStack()

    def __enter__(self) -> "Testbed":
        os.sched_setaffinity(0, {int(self.OTHER_CPU)})
        with ExitStack() as stack:
            self.lab = stack.enter_context(Lab(f"bench{os.getpid()}", ipv6=False))
            self.backends = [self.lab.pod(f"backend-{i}") for i in range(self.BACKENDS)]
            self.servers = [
                pod.popen([tool("rpc_backend"), self.BACKEND_PORT, number]) for number, pod in enumerate(self.backends)
            ]
            for pod in self.backends:
                pod.wait_listening(self.BACKEND_PORT)
            self.service = self.lab.service("bench", [Port("grpc", self.BACKEND_PORT, self.BACKEND_PORT)], self.backends)
            self.clients = [self.lab.pod(f"client-{i}", dataplane="enabled") for i in range(self._pods)]
            self.proxy_pod = self.lab.pod("proxy")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def backend_address(self, number: int, port: int | None = None) -> str:
        return f"{self.backends[number].ip}:{port or self.BACKEND_PORT}"

    @property
    def pods(self) -> list:
        return [*self.backends, *self.clients, self.proxy_pod]

    def segments(self) -> int:
        """TCP segments that the pods have sent."""
        return sum(_out_segments(pod.pid) for pod in self.pods)

    def wide_service(self, name: str, endpoints: int) -> Service:
        """A Service with so many endpoints: addresses out of 10.245.0.0/16, all of which the backends own."""
        # Every backend answers for a /18 of its own, without an address configured (AnyIP).
        for number, pod in enumerate(self.backends):
            network = f"10.245.{64 * number}.0/18"
            self._ip(pod.netns, f"route replace local {network} dev lo")
            self._ip(self.lab.netns, f"route replace {network} via {pod.ip} dev {pod.veth} onlink")
        service = self.lab.service(name, [Port("grpc", self.BACKEND_PORT, self.BACKEND_PORT)])
        aliases = [
            Alias(f"{name}-{i}", "default", f"{name}-{i}", _alias_address(i % self.BACKENDS, i // self.BACKENDS))
            for i in range(endpoints)
        ]
        service.endpoints = [Endpoint(alias) for alias in aliases]
        service.publish()
        return service

    @staticmethod
    def _ip(netns: str, arguments: str) -> None:
        processes.run(["ip", *arguments.split()], netns=netns)


def _alias_address(backend: int, number: int) -> str:
    number += 1  # not the network's own address
    return f"10.245.{64 * backend + number // 256}.{number % 256}"


def _out_segments(pid: int) -> int:
    """OutSegs of /proc/PID/net/snmp: of the network namespace that the process is in."""
    with open(f"/proc/{pid}/net/snmp") as file:
        names, values = (line.split() for line in file if line.startswith("Tcp:"))
    return int(values[names.index("OutSegs")])
