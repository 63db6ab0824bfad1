"""Where the scenarios play: one lab with an agent, three gRPC servers and two client pods, made once for all of them."""

import json
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import yaml
from lab import manifests
from lab.node import Lab
from lab.pod import Pod
from lab.service import Port

HERE = Path(__file__).resolve().parent
# As the mission's author wrote them, slips included; HERE/manifests has corrected copies of those that can't work.
MISSION = HERE.parents[0] / "unit" / "kubernetes" / "data" / "mission"
CORRECTED = HERE / "manifests"
PYTHON = "/usr/bin/python3"
AGED = ("grpc.max_connection_age_ms=1000", "grpc.max_connection_age_grace_ms=20000")


class Server:
    """server.py in a pod of its own."""

    def __init__(self, lab: Lab, name: str, version: str, *options: str):
        self.pod = lab.pod(name, labels={"app": "grpc-server", "version": version})
        argv = [PYTHON, HERE / "server.py", "--uuid", self.pod.uid, "--port", 50051, "--port", 9000]
        for option in options:
            argv += ["--option", option]
        self._process = self.pod.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def behave(self, **behaviour) -> None:
        """From now on; counts begin anew."""
        self._tell({"behave": behaviour})

    def seen(self) -> dict:
        """What it counted since behave(): server.py has the fields."""
        return self._tell({})

    def _tell(self, order: dict) -> dict:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Load:
    """A greeter client that runs until the end of the `with`; its result stands in `result` then."""

    def __init__(self, pod: Pod, target: str, *arguments):
        self._pod = pod
        self._process = pod.start_greet(target, *arguments)
        self.result = {}

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_) -> None:
        self.result = self._pod.finish_greet(self._process)


class World:
    def __init__(self, lab: Lab):
        self.lab = lab
        self.v1, self.v1_too, self.v2 = self.servers = [
            Server(lab, "server-1", "v1"),
            Server(lab, "server-2", "v1"),
            Server(lab, "server-3", "v2"),
        ]
        # Each of their connections ends a second after it came; calls have 20 s to finish.
        self.aged = [Server(lab, f"aged-{number}", "v1", *AGED) for number in (1, 2)]
        self.client = lab.pod("client", dataplane="enabled")
        self.other_client = lab.pod("other-client", dataplane="enabled")
        for server in (*self.servers, *self.aged):
            server.pod.wait_listening(50051)
        # The Service of the mission's rules.
        self.grpc_service = lab.service("grpc-service", mission_ports("service-grpc.yaml"), [s.pod for s in self.servers])
        self._failed: list[str] = []
        self.agent = lab.agent()
        self.agent.start()
        self.agent.wait_enrolled(self.client, self.other_client)
        self.agent.wait_applied()

    @contextmanager
    def service(self, name: str, *servers: Server, ports: list[Port] | None = None):
        """A Service that nobody has called yet, so that all its connections are seen to come."""
        for server in servers:
            server.behave()
        with self.lab.service(name, ports, [server.pod for server in servers]) as service:
            self.agent.wait_applied()
            yield service
        self.agent.wait_applied()

    @contextmanager
    def policed(self, name: str, *servers: Server, **traffic_policy):
        """A Service with a DestinationRule."""
        with self.service(name, *servers) as service, self.rules(destination_rule(name, trafficPolicy=traffic_policy)):
            yield service

    @contextmanager
    def mission_service(self, *servers: Server):
        """The mission's Service with these servers only."""
        others = [server.pod for server in self.servers if server not in servers]
        self.grpc_service.remove(*others)
        self.agent.wait_applied()
        try:
            yield self.grpc_service
        finally:
            self.grpc_service.add(*others)
            self.agent.wait_applied()

    @contextmanager
    def rules(self, *given: Path | dict):
        """Manifests in force: files as they are, and objects."""
        texts = {path.name: path.read_text() for path in given if isinstance(path, Path)}
        if objects := [manifests.to_yaml(value) for value in given if isinstance(value, dict)]:
            texts["rules.yaml"] = "---\n".join(objects)
        try:
            self.publish(texts)
            yield
        finally:
            self._change(lambda: [(self.lab.manifests / name).unlink(missing_ok=True) for name in texts])

    def publish(self, texts: dict) -> None:
        """Writes files, {name: text}, and returns when the agent has applied them."""
        self._change(lambda: [replace(self.lab.manifests / name, text) for name, text in texts.items()])

    def _change(self, act) -> None:
        before = self._dump()["revision"]
        act()
        self.agent.wait(lambda: self._dump()["revision"] > before, 5, "the agent has read the manifests")

    def _dump(self) -> dict:
        return json.loads(self.agent.admin("/config_dump")[1])

    def findings(self, file: str, code: str) -> list[dict]:
        """What the agent reports of a file that is in force; findings may come a moment later than what they are about."""
        deadline = time.monotonic() + 2
        while True:
            found = [f for f in self._dump()["findings"] if f["file"].endswith(file) and f["code"] == code]
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def behave(self, **behaviour) -> None:
        for server in self.servers:
            server.behave(**behaviour)

    def requests(self) -> list[int]:
        """At each server, since behave()."""
        return [server.seen()["requests"] for server in self.servers]

    def failed_rpcs(self) -> list[str]:
        """Lines of the agent's access log since this was asked last."""
        before, self._failed = self._failed, self.agent.access_log.read_text(errors="replace").splitlines()
        return self._failed[len(before) :]

    def greet(self, target: str, *arguments, pod: Pod | None = None) -> dict:
        """Runs lab/apps/greeter_client.py to its end; its result."""
        return (pod or self.client).greet(target, *arguments)


def mission_ports(file: str) -> list[Port]:
    ports = yaml.safe_load((MISSION / file).read_text())["spec"]["ports"]
    return [Port(port["name"], port["port"], port["targetPort"], port.get("appProtocol")) for port in ports]


def hold(seconds: float) -> list[str]:
    """For the greeter client: calls that last so long at the server."""
    return ["--request", f'{{"seconds": {seconds}}}']


def fqdn(service: str) -> str:
    return f"{service}.default.svc.cluster.local"


def virtual_service(host: str, *http: dict) -> dict:
    return _object("VirtualService", host, {"hosts": [fqdn(host)], "http": list(http)})


def destination_rule(host: str, **spec) -> dict:
    return _object("DestinationRule", host, {"host": fqdn(host), **spec})


def _object(kind: str, name: str, spec: dict) -> dict:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def to(host: str, subset: str | None = None, weight: int | None = None) -> dict:
    """An entry of `route`."""
    destination = {"host": fqdn(host)} | ({"subset": subset} if subset else {})
    return {"destination": destination} | ({"weight": weight} if weight is not None else {})


def replace(path: Path, text: str) -> None:
    """Readers see the old or the new file, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
