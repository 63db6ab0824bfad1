"""A node of real Kubernetes components with weir's chart, as the tests use it."""

import json
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import oci
from cluster.node import Node
from lab import processes

REPOSITORY = Path(__file__).resolve().parents[2]
ARCHIVES = REPOSITORY / "build" / "image"
SYSTEM = "weir-system"
WEIR = "localhost/weir"
# An update is one to another tag; both are the same image.
TAGS = ("installed", "updated")
VALUES = {"image.repository": WEIR, "image.pullPolicy": "Never", "drainTimeout": "20s"}


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

    def python(self, namespace: str, pod: str, *arguments) -> str:
        """What Python in a pod's first container prints."""
        return self.kubectl("exec", f"--namespace={namespace}", pod, "--", "/usr/bin/python3", *arguments)

    def greet(self, namespace: str, pod: str, target: str, *arguments) -> dict:
        """The result of a greeter client that runs in the pod to its end."""
        printed = self.python(namespace, pod, "/apps/greeter_client.py", target, *arguments)
        return json.loads(printed.splitlines()[-1])

    def start_greet(self, namespace: str, pod: str, target: str, *arguments) -> subprocess.Popen:
        command = ["kubectl", "exec", f"--namespace={namespace}", pod, "--", "/usr/bin/python3", "/apps/greeter_client.py"]
        argv = self.node.enter_argv([*command, target, *map(str, arguments)])
        return processes.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def helm(self, *arguments) -> str:
        return self.node.run(self._helm, *arguments, f"--namespace={SYSTEM}", timeout=120).stdout

    def install(self, tag: str = TAGS[0]) -> None:
        """helm install, or upgrade; returns when the DaemonSet has rolled out."""
        values = [f"--set={name}={value}" for name, value in {**VALUES, "image.tag": tag}.items()]
        self.helm("upgrade", "--install", "weir", REPOSITORY / "charts" / "weir", *values)
        self.kubectl("rollout", "status", f"--namespace={SYSTEM}", "daemonset/weir", "--timeout=90s", timeout=100)

    def agents(self) -> list[dict]:
        """The agents' pods, the newest first; those that drain are among them."""
        pods = self.get("pods", f"--namespace={SYSTEM}", "--selector=app.kubernetes.io/component=node")["items"]
        return sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)

    def weirctl(self, *arguments) -> dict:
        """What `weirctl ...` says in the newest agent's container, as JSON."""
        agent = self.agents()[0]["metadata"]["name"]
        command = ["exec", f"--namespace={SYSTEM}", agent, "--container=weir-agent", "--", "weirctl", *arguments]
        return json.loads(self.kubectl(*command, "--output=json"))

    def enrolled(self) -> list[str]:
        """NAMESPACE/NAME of the pods that the kernel diverts."""
        return [row["pod"] for row in self.weirctl("bpf", "pods")]

    def wait_one_agent(self, timeout: float, before: str) -> dict:
        """Until the agent of the name `before` is gone and another one is there."""

        def only():
            agents = self.agents()
            return agents[0] if len(agents) == 1 and agents[0]["metadata"]["name"] != before else None

        return processes.wait_until(only, timeout, "another agent is the only one", interval=0.5)


def weir_archive() -> Path:
    version = oci.output(REPOSITORY / "build" / "release" / "weir-agent", "--version")
    return ARCHIVES / f"weir-{version}.tar"


def reference(archive: Path) -> str:
    return f"{WEIR}:{archive.stem.removeprefix('weir-')}"
