"""Starts and ends the node. Its programs are in one cgroup, its mounts in one namespace: ending both leaves nothing."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import oci
from lab import cgroups, processes

from . import credentials
from .programs import Programs, provide
from .settings import CONTAINERD, Settings

FOLDER = Path("/var/tmp/weir-cluster")
# The kubelet insists on these: it is shown what it wants to see, and the machine keeps its own.
SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
HOLDER = """set -e
folder=$1 address=$2; shift 2
mount --make-rshared /  # among the node's own namespaces, as pods with mount propagation want it
mount --bind "$folder/lib" /var/lib
mount --bind "$folder/log" /var/log
mount -t tmpfs -o mode=755 run /run
mount -t bpf bpf /sys/fs/bpf
mkdir /run/sysctl
for setting; do
  file=/run/sysctl/$(echo "${setting%=*}" | tr / .)
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done
ip link set lo up
ip link add node0 type veth peer name outside
ip address add "$address/24" dev node0
ip link set node0 up
ip link set outside up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
echo ready
exec sleep infinity >/dev/null
"""


class Node:
    def __init__(self):
        self.settings = Settings(FOLDER)
        self._cgroup = cgroups.cgroup2_mount() / "weir-cluster"
        self._running: dict[str, subprocess.Popen] = {}
        self._programs: Programs | None = None

    @property
    def up(self) -> bool:
        return self._cgroup.is_dir() and bool(cgroups.pids(self._cgroup))

    def start(self, images: list[Path], say=lambda text: None) -> None:
        """Returns when the node is Ready and has the images (OCI archives). What did start is ended when something does not."""
        if self.up:
            raise oci.Failed("a node is up already: tools/cluster/down ends it")
        self._programs = provide()
        self.stop()
        try:
            self._start(images, say)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the node and its pods and removes what they had. Harmless when there is none."""
        self._end_processes()
        shutil.rmtree(FOLDER, ignore_errors=True)

    def enter_argv(self, argv: list[str]) -> list[str]:
        """argv as run in the node's namespaces, with its programs found first and kubectl as the admin."""
        holder = (FOLDER / "holder.pid").read_text()
        variables = (FOLDER / "environment").read_text().splitlines()
        return ["nsenter", f"--target={holder}", "--net", "--mount", f"--wdns={os.getcwd()}", "env", *variables, *argv]

    def run(self, *argv, check=True, timeout=60.0) -> subprocess.CompletedProcess:
        return processes.run(self.enter_argv(list(map(str, argv))), check=check, timeout=timeout)

    def lose_power(self) -> None:
        """All that runs is gone at once, with the node's memory (/run, bpffs); what is on disk stays, for boot()."""
        self._end_processes()
        for process in self._running.values():
            process.wait(10)
        self._running.clear()

    def boot(self, images: list[Path] = (), say=lambda text: None) -> None:
        """The node with what is on its disk. Pods that it had before may need some more seconds."""
        self._cgroup.mkdir()
        self._hold_namespaces()
        say("namespaces")
        self._spawn(self.settings.etcd())
        self._spawn(self.settings.containerd())
        self._spawn(self.settings.api_server())
        self._wait_containerd()
        for image in images:
            self.run("ctr", "--address", CONTAINERD, "--namespace", "k8s.io", "images", "import", image, timeout=300.0)
        say("containerd and images")
        self._wait("kube-apiserver", lambda: self._says("kubectl", "get", "--raw", "/readyz") == "ok")
        say("API server")
        for program in ("controller_manager", "scheduler", "kubelet", "kube_proxy", "coredns"):
            self._spawn(getattr(self.settings, program)())
        ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        self._wait("kubelet", lambda: self._says("kubectl", "get", "node", self.settings.node, "--output", ready) == "True")
        self._wait("kube-controller-manager", lambda: self._says("kubectl", "get", "serviceaccount", "default"))
        self._wait("kube-proxy", lambda: self._says("nft", "list", "table", "ip", "kube-proxy"))
        say(f"{self.settings.node} is Ready")

    def restart(self, *programs: str) -> None:
        """SIGKILL for programs of the node ("containerd", "kubelet"), which are started again; pods are left alone."""
        for name in programs:
            killed = self._running.pop(name)
            killed.kill()
            killed.wait(10)
        for name in programs:
            self._spawn(getattr(self.settings, name)())
            if name == "containerd":  # a kubelet that does not find it ends, and here nobody starts it again
                self._wait_containerd()

    def _end_processes(self) -> None:
        cgroups.remove(self._cgroup)
        for hierarchy in _hierarchies():
            for name in ("kubepods", "k8s.io"):
                cgroups.remove(hierarchy / name)

    def _start(self, images: list[Path], say) -> None:
        for name in ("lib", "log", "log/programs"):
            (FOLDER / name).mkdir(parents=True)
        credentials.make(
            self.settings.credentials,
            self.settings.server,
            self.settings.node,
            [self.settings.address, "127.0.0.1", self.settings.first_service],
        )
        self.settings.write()
        say("credentials")
        self.boot([self._programs.pause, *images], say)

    def _hold_namespaces(self) -> None:
        values = [f"{name}={value}" for name, value in SYSCTLS.items()]
        holder = processes.spawn(
            ["unshare", "--net", "--mount", "sh", "-c", HOLDER, "sh", str(FOLDER), self.settings.address, *values],
            cgroup=self._cgroup,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if holder.stdout.readline() != b"ready\n":
            raise oci.Failed(f"the node's namespaces could not be made: {holder.communicate()[1].decode()}")
        holder.stdout.close()
        holder.stderr.close()
        (FOLDER / "holder.pid").write_text(str(holder.pid))
        (FOLDER / "environment").write_text(f"PATH={self._programs.path}\nKUBECONFIG={self.settings.kubeconfig('admin')}\n")

    def _spawn(self, argv: list[str]) -> None:
        log = FOLDER / "log" / "programs" / f"{argv[0]}.log"
        self._running[argv[0]] = processes.spawn(self.enter_argv(argv), cgroup=self._cgroup, log=log)

    def _says(self, *argv) -> str:
        """What a command prints; empty while it fails."""
        done = self.run(*argv, check=False)
        return done.stdout if done.returncode == 0 else ""

    def _wait_containerd(self) -> None:
        self._wait("containerd", lambda: self._says("ctr", "--address", CONTAINERD, "version"))

    def _wait(self, name: str, condition, timeout=90.0) -> None:
        """Until the condition holds; ends at once, with the log, when one of the programs does."""
        deadline = time.monotonic() + timeout
        while not condition():
            ended = [program for program, process in self._running.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise oci.Failed(f"{name} is not ready{_tails(ended or [name])}")
            time.sleep(0.1)


def _tails(programs: list[str]) -> str:
    """How the programs' logs end."""
    logs = [(name, FOLDER / "log" / "programs" / f"{name}.log") for name in programs]
    return "".join(f"\n{name}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-10:]) for name, log in logs)


def _hierarchies() -> list[Path]:
    """Where cgroups are mounted: one folder, on hybrid machines one for each controller besides. The one that can kill is first."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    found = [(kind, Path(where)) for _, where, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]
    return [where for _, where in sorted(found, reverse=True)]
