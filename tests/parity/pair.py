"""weir and Envoy with the same manifests, and how an RPC ended in each."""

import json
from dataclasses import dataclass

import h2.errors
from envoy_peer import Envoy
from h2_peers import Client, Response, grpc_message
from lab import manifests
from lab.service import Port

PORT = 50051


@dataclass(frozen=True)
class Seen:
    """How an RPC ended: at the client (its status, or how its stream was reset), and in the proxy's access log."""

    client: str
    flags: frozenset = frozenset()
    rule: str = ""

    def __str__(self):
        return f"{self.client} {','.join(sorted(self.flags)) or '-'}"


class Pair:
    def __init__(self, lab):
        self.lab = lab
        self.envoy = Envoy(lab, PORT)
        self.agent = lab.agent(arguments=["--access-log-format", "json"])
        self.direct = lab.pod("direct")
        self.diverted = lab.pod("diverted", dataplane="enabled")
        self._places: dict[str, tuple] = {}

    def add(self, name: str, http: list[dict], policy: dict, pods) -> None:
        service = self.lab.service(name, [Port("grpc", PORT, PORT)], pods)
        host = f"{name}.default.svc.cluster.local"
        for rule in http:
            for route in rule["route"]:
                route["destination"]["host"] = host
            rule.setdefault("retries", {"attempts": 0})
        head = {"apiVersion": "networking.istio.io/v1", "metadata": {"name": name, "namespace": "default"}}
        manifests.write(
            self.lab.manifests / f"rules-{name}.yaml",
            head | {"kind": "VirtualService", "spec": {"hosts": [host], "http": http}},
            head | {"kind": "DestinationRule", "spec": {"host": host, "trafficPolicy": policy}},
        )
        self._places[name] = ((self.diverted, service.vip, PORT), (self.direct, self.envoy.pod.ip, self.envoy.add(name, http, policy, pods)))

    def start(self) -> None:
        self.agent.start()
        self.agent.wait_enrolled(self.diverted)
        self.agent.wait_applied()
        self.envoy.start()

    def connect(self, name: str) -> list[Client]:
        """To weir, to Envoy."""
        return [Client(pod.connect(host, port)) for pod, host, port in self._places[name]]

    def flags(self, path: str) -> tuple[list, list]:
        """What the access logs say of this path: weir's logs those that failed or have a flag."""
        lines = self.agent.access_log.read_text().splitlines()
        of_weir = [record for record in map(json.loads, lines) if record["path"] == path]
        return of_weir, self.envoy.records(path)


def begin(connection: Client, path: str, **more: str) -> int:
    """Begins a unary RPC with these fields instead of, or beside, the usual ones; returns its stream."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "greeter", "content-type": "application/grpc", "te": "trailers"}
    fields |= more
    with connection.changed:
        stream = connection.h2.get_next_available_stream_id()
        connection.responses[stream] = Response()
        connection.send(lambda c: c.send_headers(stream, list(fields.items())))
        connection.send(lambda c: c.send_data(stream, grpc_message(b"{}"), end_stream=True))
    return stream


def outcome(connection: Client, stream: int) -> str:
    response = connection.finish(stream, 10)
    if response.reset_code is not None:
        return f"reset {h2.errors.ErrorCodes(response.reset_code).name}"
    if response.grpc_status is not None:
        return f"grpc {response.grpc_status}"
    return f"http {response.headers.get(':status', '?')}" if response.ended_at else "closed"
