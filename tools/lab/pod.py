"""A pod: a network namespace held by a sandbox process, and containers that are cgroups."""

import secrets
import shlex
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path

from . import cgroups, manifests, processes

NODE_IP = "10.244.0.1"  # as pods see it


class Pod:
    """Made by Lab.pod(). Processes run in its namespace and in its container's cgroup. As a context
    manager it is removed at the end."""

    def __init__(self, lab, name, namespace, labels, annotations, qos, index, containers, uid=None, host_network=False):
        self.lab = lab
        self.name = name
        self.namespace = namespace
        self.labels = {"app": name, **labels}
        self.annotations = dict(annotations)
        self.containers = containers
        self.uid = uid or str(uuid.uuid4())
        self.host_network = host_network
        self.ip = NODE_IP if host_network else f"10.244.{index // 250}.{index % 250 + 2}"
        self.ip6 = f"fd00:10:244::{index + 2:x}" if lab.ipv6 else None
        self.veth = f"veth{index}"
        self._qos = qos
        self._container_id = secrets.token_hex(32)
        self._logs = 0
        self._processes: list[subprocess.Popen] = []
        self._sandbox: subprocess.Popen | None = None
        self._factory: socket.socket | None = None
        self._factory_lock = threading.Lock()

    def __enter__(self) -> "Pod":
        return self

    def __exit__(self, *_) -> None:
        self.remove()

    @property
    def netns(self) -> str:
        return processes.netns_of(self._sandbox.pid)

    @property
    def pid(self) -> int:
        """Of the sandbox process, which holds the network namespace."""
        return self._sandbox.pid

    @property
    def enter_command(self) -> str:
        """For people: a shell in the pod's namespace and cgroup, as a process of the pod has it."""
        return shlex.join(processes.enter_argv(["bash"], self.netns, self._container))

    @property
    def cgroup(self) -> Path:
        return cgroups.pod_cgroup(self.lab.cgroup, self.lab.cgroup_driver, self._qos, self.uid)

    @property
    def _container(self) -> Path:
        return cgroups.container_cgroup(self.cgroup, self.lab.cgroup_driver, self._container_id)

    @property
    def key(self) -> str:
        return f"pod-{self.namespace}-{self.name}"

    @property
    def manifest(self) -> Path:
        return self.lab.objects.file(self.key)

    def start(self) -> None:
        # As a container runtime does it: the manifest is known first, then the cgroup appears, then a
        # sandbox process whose network namespace is already complete.
        self.publish()
        self._sandbox = self.lab.hold_namespace(self.lab.netns if self.host_network else None)
        if not self.host_network:
            self._wire()
        sandbox = cgroups.container_cgroup(self.cgroup, self.lab.cgroup_driver, secrets.token_hex(32))
        sandbox.mkdir(parents=True)
        self._container.mkdir()
        (sandbox / "cgroup.procs").write_text(str(self._sandbox.pid))

    def publish(self) -> None:
        """Stores the Pod with its present labels and annotations. An API server gives it a uid of its own."""
        ips = [self.ip] + ([self.ip6] if self.ip6 else [])
        pod = manifests.pod(
            self.name, self.namespace, self.uid, ips, self.lab.node_name, self.labels, self.annotations, self.containers,
            self.host_network,
        )  # fmt: skip
        self.uid = self.lab.objects.publish(self.key, pod)[0]["metadata"]["uid"]

    def _wire(self) -> None:
        """A veth pair with a route each way, as the ptp CNI plugin makes it. Bridged pods would answer each
        other directly, past the node's conntrack, and DNATed connections would not come together."""
        v6 = self.ip6 is not None
        node = [
            f"link add {self.veth} type veth peer name eth0 netns {self._sandbox.pid}",
            f"address add {NODE_IP}/32 dev {self.veth}",
            f"link set {self.veth} up",
            f"route add {self.ip}/32 dev {self.veth}",
        ]
        pod = [
            "link set lo up",
            "link set eth0 up",
            f"address add {self.ip}/32 dev eth0",
            f"route add {NODE_IP}/32 dev eth0 scope link",
            f"route add default via {NODE_IP} dev eth0 src {self.ip}",
        ]
        if v6:
            node += [f"address add fe80::1/64 dev {self.veth} nodad", f"route add {self.ip6}/128 dev {self.veth}"]
            pod += [f"address add {self.ip6}/128 dev eth0 nodad", "route add default via fe80::1 dev eth0"]
        processes.run(["ip", "-batch", "-"], netns=self.lab.netns, input="\n".join(node) + "\n")
        processes.run(["ip", "-batch", "-"], netns=self.netns, input="\n".join(pod) + "\n")
        # Machines that prefer BBR pace every sender by timers, which run on the CPU that heard of its ACK: the agent's.
        processes.run(["sh", "-c", "echo reno > /proc/sys/net/ipv4/tcp_congestion_control"], netns=self.netns)

    def popen(self, argv, log=True, **kwargs) -> subprocess.Popen:
        """Starts a process of the pod; its output goes to a log of the lab unless stdout or stderr say otherwise."""
        self._logs += 1
        path = self.lab.folder / "logs" / f"{self.name}-{self._logs}.log" if log else None
        process = processes.spawn([str(a) for a in argv], self.netns, self._container, path, **kwargs)
        self._processes.append(process)
        return process

    def run(self, argv, **kwargs) -> subprocess.CompletedProcess:
        """Runs a command of the pod to its end."""
        return processes.run([str(a) for a in argv], self.netns, self._container, **kwargs)

    def app(self, script: str, *arguments, **kwargs) -> subprocess.Popen:
        """Starts one of tools/lab/apps with Debian's Python."""
        return self.popen(app_argv(script, *arguments), **kwargs)

    def open_socket(self, family=socket.AF_INET, multipath=False) -> socket.socket:
        """A TCP (or MPTCP) socket of the pod (its namespace, its cgroup) in the hands of this process."""
        with self._factory_lock:
            if self._factory is None:
                self._factory, theirs = socket.socketpair()
                with theirs:
                    self.app("socket_factory.py", theirs.fileno(), pass_fds=[theirs.fileno()])
                self._factory.settimeout(10)
            kind = b"4" if family == socket.AF_INET else b"6"
            self._factory.sendall(b"m" if multipath else kind)
            _, descriptors, _, _ = socket.recv_fds(self._factory, 1, 1)
        if not descriptors:
            raise processes.CommandFailed(f"pod {self.name} opens no socket; its log is in {self.lab.folder / 'logs'}")
        return socket.socket(fileno=descriptors[0])

    def connect(self, address: str, port: int, timeout=5.0) -> socket.socket:
        """A TCP connection from the pod."""
        connection = self.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        connection.settimeout(timeout)
        try:
            connection.connect((address, port))
        except OSError:
            connection.close()
            raise
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def listen(self, port: int, backlog=128) -> socket.socket:
        """A TCP listener of the pod, on all its addresses."""
        listener = self.open_socket(socket.AF_INET6 if self.ip6 else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::" if self.ip6 else "0.0.0.0", port))
        listener.listen(backlog)
        return listener

    def serve_greeter(self, *arguments, port=50051, timeout=20.0) -> subprocess.Popen:
        """Starts a greeter server in the pod and returns when it accepts connections."""
        process = self.start_greeter(*arguments, port=port)
        self.wait_listening(port, timeout)
        return process

    def start_greeter(self, *arguments, port=50051) -> subprocess.Popen:
        return self.app("greeter_server.py", "--address", f"[::]:{port}", "--uuid", self.uid, *arguments)

    def listens(self, port: int) -> bool:
        return any(local == port and state == "0A" for local, _, state in self._tcp_sockets())

    def connections_to(self, port: int) -> int:
        """How many established connections of the pod go to that port (as its own sockets see it)."""
        return sum(remote == port and state == "01" for _, remote, state in self._tcp_sockets())

    def _tcp_sockets(self):
        """(local port, remote port, state) of each TCP socket, from /proc/PID/net/tcp."""
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                _, local, remote, state, *_ = line.split()
                yield int(local.rsplit(":", 1)[1], 16), int(remote.rsplit(":", 1)[1], 16), state

    def wait_listening(self, port: int, timeout=20.0) -> None:
        processes.wait_until(lambda: self.listens(port), timeout, f"pod {self.name} listens on {port}")

    def greet(self, target: str, *arguments, timeout=60.0) -> dict:
        """Runs the greeter client in the pod to its end and returns its result."""
        return self.lab.client_result(self.run(app_argv("greeter_client.py", target, *arguments), timeout=timeout).stdout)

    def wait_backends(self, target: str, count: int, timeout=5.0) -> dict:
        """Returns the result of sixty RPCs that all succeeded and that so many servers answered. A server that the machine
        leaves no time just then, while it has another's RPC, gets none of the next (LEAST_REQUEST)."""

        def served():
            result = self.greet(target, "--rpcs", 60)
            if result["errors"]:
                raise AssertionError(result["errors"])
            return result if len(result["backends"]) == count else None

        return processes.wait_until(served, timeout, f"{count} servers answer at {target}")

    def start_greet(self, target: str, *arguments) -> subprocess.Popen:
        """Starts the greeter client; finish_greet() gives its result."""
        return self.app("greeter_client.py", target, *arguments, stdout=subprocess.PIPE, text=True)

    def finish_greet(self, process: subprocess.Popen, timeout=30.0, stop=True) -> dict:
        """Asks a client that runs until told to end (SIGTERM), and returns its result."""
        if stop and process.poll() is None:
            process.terminate()
        output, _ = process.communicate(timeout=timeout)
        return self.lab.client_result(output)

    def remove(self) -> None:
        """Ends the pod as kubelet does: processes, network, cgroup, and the manifest last."""
        cgroups.kill(self._container)
        if not self.host_network:
            processes.run(["ip", "link", "delete", self.veth], netns=self.lab.netns)
        cgroups.remove(self.cgroup)
        self.reap()
        self.lab.objects.withdraw(self.key)
        self.lab.forget(self)

    def reap(self) -> None:
        """Collects the processes, which have been killed, and what this process holds of theirs."""
        if self._factory:
            self._factory.close()
        for process in [*self._processes, self._sandbox]:
            process.wait(5)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()


def app_argv(script: str, *arguments) -> list[str]:
    # Debian's Python by its full name: a newer one from elsewhere in PATH lacks Debian's grpcio.
    apps = Path(__file__).resolve().parent / "apps"
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    return [python, str(apps / script), *map(str, arguments)]
