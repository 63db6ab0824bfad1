"""Lab: the node itself. It owns the pods, the services and the agents, and everything they leave."""

import atexit
import json
import re
import threading
from pathlib import Path

from . import cgroups, kube_proxy, manifests, processes, state
from .agent import Agent
from .pod import Pod
from .service import Port, Service


class Lab:
    """A node on this machine. Use as a context manager, or close() it.

    Labs are isolated from each other by the node's own network namespace, so every lab uses
    the same addresses: pods 10.244.0.0/16 and fd00:10:244::/64, services 10.96.0.0/16.
    """

    def __init__(self, name: str, ipv6=True, cgroup_driver="cgroupfs"):
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,29}", name):
            raise ValueError(f"lab name {name!r}: lower-case letters, digits and '-', at most 30")
        self.name = name
        self.ipv6 = ipv6
        self.cgroup_driver = cgroup_driver
        self.node_name = f"node-{name}"
        self.folder = state.ROOT / name
        self.manifests = self.folder / "manifests"
        # Where objects go. Replaced by whoever wants them elsewhere, before there are any but the namespace.
        self.objects = manifests.Directory(self.manifests)
        self.bpf_dir = state.bpf_dir(name)
        self.cgroup = state.cgroup_root(name)
        self.pods: list[Pod] = []
        self.services: list[Service] = []
        self._pod_count = 0
        self._changes = threading.RLock()
        self._lock: int | None = None
        self._node = None

    def __enter__(self) -> "Lab":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def netns(self) -> str:
        return processes.netns_of(self._node.pid)

    @property
    def kubepods(self) -> Path:
        return cgroups.kubepods(self.cgroup, self.cgroup_driver)

    @property
    def enter_command(self) -> str:
        return f"nsenter --net={self.netns} bash"

    def start(self) -> None:
        state.clean_stale()
        self._lock = state.claim(self.name)
        atexit.register(self.close)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        for folder in (self.manifests, self.folder / "logs"):
            folder.mkdir()
        (self.cgroup / "node").mkdir(parents=True)
        self.kubepods.mkdir()
        if self.cgroup_driver != "systemd":
            for qos in ("burstable", "besteffort"):
                (self.kubepods / qos).mkdir()
        self._node = self.hold_namespace()
        settings = {
            "ipv4/ip_forward": 1,
            "ipv4/conf/all/rp_filter": 0,
            "ipv4/conf/default/rp_filter": 0,
            "ipv6/conf/all/forwarding": 1,
            "ipv6/conf/default/accept_dad": 0,
        }
        if not self.ipv6:
            settings = {k: v for k, v in settings.items() if k.startswith("ipv4")}
        # The way out of the node: without a route, what is dialled would not reach the DNAT rules' reject.
        uplink = "ip link set lo up && ip link add uplink type veth peer name outside"
        uplink += " && ip link set uplink up && ip link set outside up && ip route add default dev uplink"
        if self.ipv6:
            uplink += " && ip -6 route add default dev uplink"
        script = uplink + "".join(f" && echo {v} > /proc/sys/net/{k}" for k, v in settings.items())
        processes.run(["sh", "-c", script], netns=self.netns)
        self.namespace("default")
        self.sync_kube_proxy()

    def hold_namespace(self, netns=None):
        """A process that holds a new network namespace, or `netns`, in the node's cgroup."""
        process = processes.spawn(
            [*([] if netns else ["unshare", "--net"]), "sh", "-c", "echo ready; exec sleep infinity >/dev/null"],
            netns,
            self.cgroup / "node",
            stdout=processes.subprocess.PIPE,
        )
        if process.stdout.readline() != b"ready\n":
            raise processes.CommandFailed("a network namespace could not be made (unshare --net)")
        process.stdout.close()
        return process

    def namespace(self, name: str, **labels) -> None:
        """Writes (or rewrites) a Namespace; labels by keyword, "weir.dev/dataplane" as dataplane."""
        translated = {"weir.dev/dataplane" if k == "dataplane" else k: v for k, v in labels.items()}
        self.objects.publish(f"namespace-{name}", manifests.namespace(name, translated))

    def pod(self, name, dataplane=None, namespace="default", labels=None, annotations=None, qos="burstable",
            containers=("app",), host_network=False) -> Pod:  # fmt: skip
        """Makes and starts a pod; `dataplane` becomes the label weir.dev/dataplane."""
        labels = dict(labels or {})
        if dataplane is not None:
            labels["weir.dev/dataplane"] = dataplane
        with self._changes:
            index = self._pod_count
            self._pod_count += 1
        pod = Pod(self, name, namespace, labels, annotations or {}, qos, index, list(containers), host_network=host_network)
        pod.start()
        with self._changes:
            self.pods.append(pod)
        return pod

    def forget(self, pod: Pod) -> None:
        with self._changes:
            self.pods.remove(pod)

    def greeters(self, count: int, prefix="greeter", *arguments) -> list[Pod]:
        """Pods that each run a greeter server on port 50051, started side by side."""
        pods = [self.pod(f"{prefix}-{i + 1}") for i in range(count)]
        for pod in pods:
            pod.start_greeter(*arguments)
        for pod in pods:
            pod.wait_listening(50051, timeout=20.0 + count)
        return pods

    def service(self, name, ports=None, pods=(), namespace="default", annotations=None, headless=False,
                external_ips=()) -> Service:  # fmt: skip
        """Makes a Service with a ClusterIP per family, or none. `ports`: Port objects, by default one named grpc on 50051."""
        with self._changes:
            index = len(self.services) + 10
            service = Service(
                self,
                name,
                namespace,
                None if headless else f"10.96.{index // 250}.{index % 250}",
                f"fd00:10:96::{index:x}" if self.ipv6 and not headless else None,
                list(ports or [Port("grpc", 50051, 50051)]),
                annotations or {},
                list(external_ips),
            )
            self.services.append(service)
            service.add(*pods)
        return service

    def remove_service(self, service: Service) -> None:
        with self._changes:
            self.objects.withdraw(service.key)
            self.objects.withdraw(service.slices_key)
            self.services.remove(service)
            self.sync_kube_proxy()

    def published_endpoints(self) -> dict:
        """What an agent should have: {cluster name: [addresses]}, usable endpoints of the Service's IP families."""

        def addresses(service: Service, port: Port):
            for endpoint in service.usable_endpoints():
                yield f"{endpoint.pod.ip}:{port.target_port}"
                if service.vip6:
                    yield f"[{endpoint.pod.ip6}]:{port.target_port}"

        with self._changes:
            return {
                f"outbound|{port.port}||{s.name}.{s.namespace}.svc.cluster.local": sorted(addresses(s, port))
                for s in self.services
                for port in s.ports
            }

    def sync_kube_proxy(self) -> None:
        with self._changes:
            processes.run(["nft", "-f", "-"], netns=self.netns, input=kube_proxy.ruleset(self.services))

    def agent(self, **options) -> Agent:
        return Agent(self, **options)

    def client_result(self, output: str) -> dict:
        """The greeter client's result: the last line it printed."""
        lines = output.strip().splitlines()
        if not lines:
            raise processes.CommandFailed(f"the client printed nothing; its log is in {self.folder / 'logs'}")
        return json.loads(lines[-1])

    def keep(self) -> None:
        """Leaves the lab running when this process ends; Lab.destroy(name) ends it."""
        state.keep(self.name)
        self._lock = None

    @staticmethod
    def destroy(name: str) -> bool:
        """Tears down a lab that was kept, or whose owner died; False if there is none of that name."""
        return state.destroy(name)

    def close(self) -> None:
        """Ends every process of the lab and removes everything it made. Harmless when called again."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        state.release(self.name, lock)
        for pod in self.pods:
            pod.reap()
        if self._node:
            self._node.wait(5)
        atexit.unregister(self.close)
