"""weir-agent in the lab: started, drained, killed and asked through its admin socket."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from . import processes

REPOSITORY = Path(__file__).resolve().parents[2]
METRICS_PORT = 15020


def binary(name: str) -> Path:
    """weir-agent or weirctl from WEIR_BUILD_DIR (build/release)."""
    return Path(os.environ.get("WEIR_BUILD_DIR", REPOSITORY / "build" / "release")).resolve() / name


class AgentFailed(Exception):
    """The agent ended, or said no; the message has the end of its log."""


class Agent:
    """One agent of a lab, in the node's network namespace and a cgroup outside kubepods. It reads the lab's
    manifests, or asks the API server that a kubeconfig names."""

    def __init__(self, lab, workers=1, arguments=(), drain_timeout="5s", kubeconfig: Path | None = None, metrics_port=METRICS_PORT):
        self.lab = lab
        self.run_dir = lab.folder / "run"
        self.log = lab.folder / "logs" / "agent.log"
        self.access_log = lab.folder / "logs" / "access.log"
        self._cgroup = lab.cgroup / "agent"
        self._source = ["--kubeconfig", str(kubeconfig)] if kubeconfig else ["--manifests", str(lab.manifests)]
        self.metrics_port = metrics_port
        self._options = ["--workers", str(workers), "--drain-timeout", drain_timeout, *arguments]
        self._process: subprocess.Popen | None = None

    @property
    def argv(self) -> list[str]:
        return [
            str(binary("weir-agent")),
            "node",
            *self._source,
            *("--node-name", self.lab.node_name),
            *("--bpf-dir", str(self.lab.bpf_dir)),
            *("--run-dir", str(self.run_dir)),
            *("--cgroup-root", str(self.lab.kubepods)),
            *("--metrics-address", f"127.0.0.1:{self.metrics_port}"),
            *("--log-level", "info"),
            *("--access-log", "failed", "--access-log-path", str(self.access_log)),
            *self._options,
        ]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, ready=True, timeout=10.0) -> None:
        """Starts the agent; returns when it is ready and every pod that wants it is enrolled."""
        self.run_dir.mkdir(exist_ok=True, mode=0o700)
        self._cgroup.mkdir(exist_ok=True)
        self._process = processes.spawn(self.argv, self.lab.netns, self._cgroup, self.log)
        if ready:
            self.wait(self.ready, timeout, "the agent is ready")

    def wait(self, condition, timeout: float, what: str):
        """As wait_until(), but ends at once, with the log, when the agent does."""

        def check():
            if not self.running:
                raise AgentFailed(f"weir-agent ended with status {self._process.returncode}\n{self.log_tail()}")
            return condition()

        try:
            return processes.wait_until(check, timeout, what)
        except TimeoutError as late:
            raise AgentFailed(f"{late}\n{self.log_tail()}") from late

    def ready(self) -> bool:
        try:
            # Another agent may answer, until this one has its socket there.
            return self.admin("/readyz")[0] == 200 and self.stats()["pid"] == self.pid
        except OSError:
            return False

    def enrolment(self, pod) -> dict:
        """What /pods says of the pod: {"state", "reason", "listener_port", "enrolment_ms", ...}; empty if nothing."""
        pods = json.loads(self.admin("/pods")[1])["pods"]
        return next((found for found in pods if found["uid"] == pod.uid), {})

    def wait_state(self, state: str, *pods, timeout=5.0) -> None:
        for pod in pods:
            self.wait(lambda: self.enrolment(pod).get("state") == state, timeout, f"pod {pod.name} is {state}")

    def wait_enrolled(self, *pods, timeout=5.0) -> None:
        self.wait_state("enrolled", *pods, timeout=timeout)

    def wait_withdrawn(self, *pods, timeout=5.0) -> None:
        """Returns when the pods' listeners are gone (seen in the pods' own namespaces)."""
        for pod in pods:
            self.wait(lambda: pod_listener(pod) is None, timeout, f"pod {pod.name} is not enrolled any more")

    def wait_applied(self, timeout=5.0) -> None:
        """Returns when the agent runs with the endpoints that the lab has published."""
        self.wait(lambda: self._endpoints() == self.lab.published_endpoints(), timeout, "the configuration is applied")

    def _endpoints(self) -> dict:
        status, body = self.admin("/config_dump")
        found = endpoints_of(json.loads(body)) if status == 200 else {}
        # A real API server makes a Service for itself.
        return {cluster: addresses for cluster, addresses in found.items() if "||kubernetes.default." not in cluster}

    def stop(self, timeout=15.0) -> int:
        """SIGTERM: drain and end."""
        return processes.stop(self._process, timeout)

    def signal_stop(self) -> None:
        """SIGTERM, without waiting for the end."""
        self._process.send_signal(signal.SIGTERM)

    def wait_ended(self, timeout=15.0) -> int:
        """The status of an agent that ends by itself, or was told to."""
        return self._process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def uninstall(self) -> None:
        processes.run([str(binary("weir-agent")), "uninstall", "--bpf-dir", str(self.lab.bpf_dir)])

    def admin(self, path: str, timeout=5.0) -> tuple[int, str]:
        """GET over the admin socket: status code and body."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(self.run_dir / "admin.sock"))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(None, 2)[1]), body.decode()

    def metrics(self) -> str:
        """The Prometheus text of the metrics port."""
        return processes.run(
            ["curl", "--silent", "--fail", "--max-time", "5", f"http://127.0.0.1:{self.metrics_port}/metrics"], netns=self.lab.netns
        ).stdout

    def metric(self, name: str, **labels) -> float:
        """The sum of a metric's series that carry the labels."""
        return sum(value for n, series, value in self.samples() if n == name and labels.items() <= series.items())

    def samples(self) -> list:
        """(name, labels, value) of every sample of the metrics port."""
        return list(parse_metrics(self.metrics()))

    def wait_rpcs(self, running: int, timeout=10.0) -> None:
        """Returns when that many RPCs are running."""
        self.wait(lambda: self.active_rpcs() == running, timeout, f"{running} RPCs are running")

    def wait_served(self, count: int, timeout=15.0) -> None:
        """Returns when that many more RPCs have been served."""
        before = self._rpcs_total()
        self.wait(lambda: self._rpcs_total() >= before + count, timeout, f"{count} RPCs have been served")

    def _rpcs_total(self) -> int:
        return sum(worker["rpcs_total"] for worker in self.stats()["workers"])

    def active_rpcs(self) -> int:
        return sum(worker["active_rpcs"] for worker in self.stats()["workers"])

    def weirctl(self, *arguments) -> str:
        return processes.run(
            [str(binary("weirctl")), "--run-dir", str(self.run_dir), "--bpf-dir", str(self.lab.bpf_dir), *arguments]
        ).stdout

    def bpf(self, table: str) -> list:
        """The rows of `weirctl bpf TABLE`."""
        return json.loads(self.weirctl("bpf", table, "-o", "json"))

    def bpf_stat(self, name: str) -> int:
        """A counter of the BPF programs, as the agent reads it."""
        return self.stats()["bpf"][name]

    def stats(self) -> dict:
        return json.loads(self.admin("/stats")[1])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def namespaces(self) -> int:
        """How many network namespaces it keeps alive."""
        folder = f"/proc/{self.pid}/fd"
        return sum(os.readlink(f"{folder}/{fd}").startswith("net:[") for fd in os.listdir(folder) if os.path.lexists(f"{folder}/{fd}"))

    def resident_kib(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AgentFailed("the agent has no VmRSS")

    def log_tail(self, lines=30) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"


def pod_listener(pod) -> int | None:
    """The agent's port in the pod: a listener on 127.0.0.1 in the range that is weir's."""
    for line in Path(f"/proc/{pod.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        address, port = fields[1].split(":")
        if address == "0100007F" and int(port, 16) >= 61000 and fields[3] == "0A":
            return int(port, 16)
    return None


def endpoints_of(dump: dict) -> dict:
    """{cluster name: [addresses]} from /config_dump."""
    return {
        port["cluster"]["name"]: sorted(e["address"] for e in port["cluster"]["endpoints"])
        for service in dump["services"]
        for port in service["ports"]
        if port.get("cluster")
    }


def parse_metrics(text: str):
    """(name, labels, value) of each sample in a Prometheus text."""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        head, _, value = line.rpartition(" ")
        name, _, rest = head.partition("{")
        labels = {}
        for pair in rest.rstrip("}").split('",') if rest else []:
            key, _, label = pair.partition("=")
            if key:
                labels[key.strip()] = label.strip('"')
        yield name, labels, float(value)
