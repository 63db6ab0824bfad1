"""Where the scenarios play: one lab with an agent, three gRPC servers and two client pods, made once for all of them."""

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import yaml
from lab import manifests
from lab.node import Lab
from lab.pod import Pod
from lab.service import Port, Service

HERE = Path(__file__).resolve().parent
# As the mission's author wrote them, slips included; HERE/manifests has corrected copies of those that can't work.
MISSION = HERE.parents[0] / "unit" / "kubernetes" / "data" / "mission"
CORRECTED = HERE / "manifests"
PYTHON = "/usr/bin/python3"


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


class World:
    def __init__(self, lab: Lab):
        self.lab = lab
        self.v1, self.v1_too, self.v2 = self.servers = [
            Server(lab, "server-1", "v1"),
            Server(lab, "server-2", "v1"),
            Server(lab, "server-3", "v2"),
        ]
        self.client = lab.pod("client", dataplane="enabled")
        self.other_client = lab.pod("other-client", dataplane="enabled")
        # The Service of the mission's rules.
        self.grpc_service = self.service("grpc-service", *self.servers, ports=mission_ports("service-grpc.yaml"))
        self.agent = lab.agent()
        self.agent.start()
        self.agent.wait_enrolled(self.client, self.other_client)
        self.agent.wait_applied()

    def service(self, name: str, *servers: Server, ports=None) -> Service:
        """Whose servers listen and answer."""
        for server in servers:
            server.pod.wait_listening(50051)
        return self.lab.service(name, ports=ports, pods=[server.pod for server in servers])

    @contextmanager
    def pool(self, name: str, *servers: Server, **traffic_policy):
        """A Service that nobody has called yet, so that all its connections are seen to come, with a DestinationRule."""
        for server in servers:
            server.behave()
        with self.service(name, *servers) as service, self.rules(destination_rule(name, trafficPolicy=traffic_policy)):
            self.agent.wait_applied()
            yield service

    @contextmanager
    def rules(self, *given: Path | dict):
        """Manifests in force: files as they are, and objects."""
        texts = {path.name: path.read_text() for path in given if isinstance(path, Path)}
        if objects := [manifests.to_yaml(value) for value in given if isinstance(value, dict)]:
            texts["rules.yaml"] = "---\n".join(objects)
        self.publish(texts)
        try:
            yield
        finally:
            self._change(lambda: [(self.lab.manifests / name).unlink() for name in texts])

    def publish(self, texts: dict) -> None:
        """Writes files, {name: text}, and returns when the agent has applied them."""
        self._change(lambda: [replace(self.lab.manifests / name, text) for name, text in texts.items()])

    def _change(self, act) -> None:
        before = self._dump()["revision"]
        act()
        self.agent.wait(lambda: self._dump()["revision"] > before, 5, "the agent has read the manifests")

    def _dump(self) -> dict:
        return json.loads(self.agent.admin("/config_dump")[1])

    def findings(self, file: str) -> list[dict]:
        """What the agent reports of a file that is in force."""
        return [finding for finding in self._dump()["findings"] if finding["file"].endswith(file)]

    def behave(self, **behaviour) -> None:
        for server in self.servers:
            server.behave(**behaviour)

    def requests(self) -> list[int]:
        """At each server, since behave()."""
        return [server.seen()["requests"] for server in self.servers]

    def greet(self, target: str, *arguments, pod: Pod | None = None) -> dict:
        """Runs lab/apps/greeter_client.py to its end; its result."""
        return (pod or self.client).greet(target, *arguments)


def mission_ports(file: str) -> list[Port]:
    ports = yaml.safe_load((MISSION / file).read_text())["spec"]["ports"]
    return [Port(port["name"], port["port"], port["targetPort"], port.get("appProtocol")) for port in ports]


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
