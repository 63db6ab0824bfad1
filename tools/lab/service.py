"""A Service with its EndpointSlices, kept in step in the manifests and in the node's DNAT."""

from dataclasses import dataclass, field

from . import manifests
from .pod import Pod


@dataclass
class Port:
    name: str | None
    port: int
    target_port: int
    app_protocol: str | None = None
    protocol: str = "TCP"
    node_port: int | None = None


@dataclass
class Endpoint:
    pod: Pod
    ready: bool = True
    serving: bool = True
    terminating: bool = False


@dataclass
class Service:
    """Made by Lab.service(). Every change is published before the call returns. As a context manager it
    is removed at the end."""

    lab: object
    name: str
    namespace: str
    vip: str | None  # None: headless
    vip6: str | None
    ports: list[Port]
    annotations: dict = field(default_factory=dict)
    external_ips: list[str] = field(default_factory=list)
    endpoints: list[Endpoint] = field(default_factory=list)

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_) -> None:
        self.lab.remove_service(self)

    @property
    def target(self) -> str:
        """VIP:port of the first port."""
        return f"{self.vip}:{self.ports[0].port}"

    @property
    def target6(self) -> str:
        return f"[{self.vip6}]:{self.ports[0].port}"

    @property
    def mapped_target(self) -> str:
        """The VIP as a v4-mapped IPv6 address, as dual-stack sockets dial it."""
        return f"[::ffff:{self.vip}]:{self.ports[0].port}"

    @property
    def key(self) -> str:
        return f"service-{self.namespace}-{self.name}"

    @property
    def slices_key(self) -> str:
        return f"endpointslice-{self.namespace}-{self.name}"

    @property
    def manifest(self):
        return self.lab.objects.file(self.key)

    @property
    def slices_manifest(self):
        return self.lab.objects.file(self.slices_key)

    def usable_endpoints(self) -> list[Endpoint]:
        """Ready ones; when there is none, those that serve while they terminate (as kube-proxy)."""
        ready = [e for e in self.endpoints if e.ready]
        return ready or [e for e in self.endpoints if e.serving and e.terminating]

    def add(self, *pods: Pod) -> None:
        self.endpoints += [Endpoint(pod) for pod in pods]
        self.publish()

    def remove(self, *pods: Pod) -> None:
        self.endpoints = [e for e in self.endpoints if e.pod not in pods]
        self.publish()

    def set_ready(self, pod: Pod, ready: bool, terminating: bool | None = None) -> None:
        for endpoint in self.endpoints:
            if endpoint.pod is pod:
                endpoint.ready = ready
                endpoint.serving = ready or bool(terminating)
                endpoint.terminating = bool(terminating)
        self.publish()

    def publish(self) -> None:
        """Stores the Service and its slices, and writes the node's DNAT rules."""
        vips = [self.vip or "None"] + ([self.vip6] if self.vip6 else [])
        service = manifests.service(self.name, self.namespace, vips, self.ports, self.annotations, self.external_ips)
        self.lab.objects.publish(self.key, service)
        self.lab.objects.publish(self.slices_key, *self.slices())
        self.lab.sync_kube_proxy()

    def slices(self) -> list[dict]:
        """The EndpointSlices, one a family."""
        families = {"IPv4": "ip", "IPv6": "ip6"} if self.vip6 else {"IPv4": "ip"}
        return [
            manifests.endpoint_slice(
                self.name,
                self.namespace,
                family,
                self.ports,
                [(getattr(e.pod, attribute), e) for e in self.endpoints],
                self.lab.node_name,
            )
            for family, attribute in families.items()
        ]
