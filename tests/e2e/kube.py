"""A node of real Kubernetes components with weir's chart, as the tests use it."""

import json
import shlex
import time
from contextlib import contextmanager
from pathlib import Path

import oci
from cluster.node import Node
from lab import cgroups, processes
from objects import APP

REPOSITORY = Path(__file__).resolve().parents[2]
ARCHIVES = REPOSITORY / "build" / "image"
SYSTEM = "weir-system"
WEIR = "localhost/weir"
# An update is one to another tag; both are the same image.
TAGS = ("installed", "updated")
VALUES = {"image.repository": WEIR, "image.pullPolicy": "Never", "drainTimeout": "20s"}


GREETER_CLIENT = ["/usr/bin/python3", "/apps/greeter_client.py"]


@contextmanager
def timed(what: str):
    """Prints how long it took: where an end-to-end run's minutes go."""
    started = time.monotonic()
    yield
    print(f"\n{time.monotonic() - started:8.1f} s  {what}", flush=True)


class Cluster:
    """A node with the images, without weir. Use as a context manager."""

    def __init__(self):
        self.node = Node()
        self._helm = Path(oci.output(REPOSITORY / "tools" / "go_tool", "helm")) / "helm"

    def __enter__(self) -> "Cluster":
        archives = [weir_archive(), ARCHIVES / "lab-apps.tar"]
        with timed("a node is Ready, with images"):
            self.node.start(archives)
        try:
            for tag in TAGS:
                self.node.run("ctr", "--namespace", "k8s.io", "images", "tag", reference(archives[0]), f"{WEIR}:{tag}")
            self.kubectl("create", "namespace", SYSTEM)
        except BaseException:
            self.node.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        with timed("the node is gone"):
            self.node.stop()

    def kubectl(self, *arguments, **options) -> str:
        return self.node.run("kubectl", *arguments, **options).stdout

    def get(self, *arguments) -> dict:
        return json.loads(self.kubectl("get", "--output=json", *arguments))

    def apply(self, *objects: dict) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        processes.run(self.node.enter_argv(["kubectl", "apply", "--filename=-"]), input=json.dumps(listed), timeout=60)

    def exec(self, namespace: str, pod: str, *command, **options) -> str:
        """What a command prints in a pod's first container."""
        return self.kubectl("exec", f"--namespace={namespace}", pod, "--", *command, **options)

    def greet(self, namespace: str, pod: str, target: str, *arguments) -> dict:
        """The result of a greeter client that runs in the pod to its end."""
        printed = self.exec(namespace, pod, *GREETER_CLIENT, target, *arguments)
        return json.loads(printed.splitlines()[-1])

    def start_greet(self, namespace: str, pod: str, target: str, *arguments) -> "Greeting":
        """A greeter client in the background of the pod: it needs nobody outside while it runs."""
        return Greeting(self, namespace, pod, [*GREETER_CLIENT, target, *map(str, arguments)])

    def helm(self, *arguments) -> str:
        return self.node.run(self._helm, *arguments, f"--namespace={SYSTEM}", timeout=120).stdout

    def apply_chart(self, tag: str, **values: str | bool) -> None:
        """helm install, or upgrade; `values` with __ for . in their names."""
        chosen = {**VALUES, "image.tag": tag, **{name.replace("__", "."): value for name, value in values.items()}}
        settings = [
            f"--set={name}={str(value).lower()}" if isinstance(value, bool) else f"--set-string={name}={value}"
            for name, value in chosen.items()
        ]
        self.helm("upgrade", "--install", "weir", REPOSITORY / "charts" / "weir", *settings)

    def wait_rolled_out(self) -> None:
        self.kubectl("rollout", "status", f"--namespace={SYSTEM}", "daemonset/weir", "--timeout=90s", timeout=100)

    def install(self, tag: str = TAGS[0]) -> None:
        """helm install, or upgrade; returns when the DaemonSet has rolled out."""
        self.apply_chart(tag)
        self.wait_rolled_out()

    def agents(self) -> list[dict]:
        """The agents' pods, the newest first; those that drain are among them."""
        pods = self.get("pods", f"--namespace={SYSTEM}", "--selector=app.kubernetes.io/component=node")["items"]
        return sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)

    def weirctl(self, *arguments) -> dict:
        """What `weirctl ...` says in the newest agent's container, as JSON."""
        agent = self.agents()[0]["metadata"]["name"]
        command = ["exec", f"--namespace={SYSTEM}", agent, "--container=weir-agent", "--", "weirctl", *arguments]
        return json.loads(self.kubectl(*command, "--output=json"))

    def agent_processes(self) -> list[int]:
        """Of the newest agent, as the machine numbers them; none while its container does not run."""
        uid = self.agents()[0]["metadata"]["uid"]
        pods = (cgroups.cgroup2_mount() / "kubepods").glob(f"**/pod{uid}")
        pids = [pid for pod in pods for pid in cgroups.pids(pod)]
        return [pid for pid in pids if _command(pid) == "weir-agent"]

    def agent_log(self) -> str:
        return self.kubectl("logs", f"--namespace={SYSTEM}", self.agents()[0]["metadata"]["name"])

    def enrolled(self) -> list[str]:
        """NAMESPACE/NAME of the pods that the kernel diverts."""
        return [row["pod"] for row in self.weirctl("bpf", "pods")]

    def wait_enrolled(self, namespace: str, pod: str, timeout=30.0) -> None:
        def enrolled() -> bool:
            try:
                return f"{namespace}/{pod}" in self.enrolled()
            except processes.CommandFailed:  # the agent is about to come, or to go
                return False

        processes.wait_until(enrolled, timeout, f"{namespace}/{pod} is enrolled", interval=0.3)

    def listening(self, namespace: str, pod: str) -> list[str]:
        """Local addresses that listen in the pod."""
        rows = self.exec(namespace, pod, "cat", "/proc/net/tcp").splitlines()[1:]
        return [row.split()[1] for row in rows if row.split()[3] == "0A"]

    def wait_one_agent(self, timeout: float, before: str) -> dict:
        """Until the agent of the name `before` is gone and another one is there."""

        def only():
            agents = self.agents()
            return agents[0] if len(agents) == 1 and agents[0]["metadata"]["name"] != before else None

        return processes.wait_until(only, timeout, "another agent is the only one", interval=0.5)


class Greeting:
    """A greeter client that runs in a pod."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, command: list[str]):
        self._run = lambda script, **options: cluster.exec(namespace, pod, "/bin/bash", "-c", script, **options)
        self._file = f"/tmp/greeting-{time.monotonic_ns()}"
        self._run(f"{shlex.join(command)} >{self._file} 2>&1 </dev/null & echo $! >{self._file}.pid")

    def result(self, timeout=30.0) -> dict:
        """Once it has ended by itself."""
        printed = processes.wait_until(lambda: self._result(), timeout, "the greeter client has ended", interval=0.3)
        return json.loads(printed)

    def stop(self) -> None:
        self._run(f"kill $(<{self._file}.pid)", check=False)

    def _result(self) -> str:
        last = (self._run(f"cat {self._file}").splitlines() or [""])[-1]
        return last if last.startswith("{") else ""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it has just ended
        return ""


@contextmanager
def load(cluster: Cluster, target: str, *arguments):
    """RPCs on one channel for as long as the block takes; yields a function that ends them and returns the result."""
    greeting = cluster.start_greet(APP, "client", target, "--concurrency", 4, "--rate", 100, *arguments)

    def result() -> dict:
        greeting.stop()
        return greeting.result()

    try:
        time.sleep(2)
        yield result
    finally:
        greeting.stop()


def weir_archive() -> Path:
    version = oci.output(REPOSITORY / "build" / "release" / "weir-agent", "--version")
    return ARCHIVES / f"weir-{version}.tar"


def reference(archive: Path) -> str:
    return f"{WEIR}:{archive.stem.removeprefix('weir-')}"
