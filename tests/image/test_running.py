"""The image as a container: the agent in it does its job, and `weirctl` in it needs no flags to ask it."""

import json

import pytest

from lab import processes
from lab.agent import Agent

# The kernel's file systems as the pod has them, below the image's root; a bpffs of its own, which ends with the namespace.
CONTAINER = """set -e
root=$1; cgroups=$2; manifests=$3; shift 3
mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
for folder in "$cgroups" "$manifests"; do
  mkdir -p "$root/$folder"
  mount --rbind "$folder" "$root/$folder"
done
exec chroot "$root" "$@"
"""


class ContainerAgent(Agent):
    """An agent from the image, with its default folders."""

    def __init__(self, lab, image):
        super().__init__(lab)
        self._image = image
        self.run_dir = image.rootfs / "run/weir"

    @property
    def argv(self) -> list[str]:
        folders = [str(f) for f in (self._image.rootfs, self.lab.kubepods, self.lab.manifests)]
        command = ["/usr/local/bin/weir-agent", "node", "--manifests", str(self.lab.manifests), "--workers", "1"]
        command += ["--node-name", self.lab.node_name, "--cgroup-root", str(self.lab.kubepods)]
        return ["unshare", "--mount", "sh", "-c", CONTAINER, "sh", *folders, *command]

    def exec(self, *command) -> str:
        """What the command prints in the agent's container, as `kubectl exec` would run it."""
        enter = ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "chroot", str(self._image.rootfs)]
        return processes.run([*enter, *command]).stdout


@pytest.fixture(scope="module")
def agent(lab, image, service, client):
    started = ContainerAgent(lab, image)
    started.start()
    started.wait_enrolled(client)
    started.wait_applied()
    yield started
    assert started.stop() == 0


def test_rpcs_reach_every_server(agent, client, service, greeters):
    result = client.greet(service.target, "--rpcs", 300)
    assert result["errors"] == []
    assert set(result["backends"]) == {pod.uid for pod in greeters}


def test_weirctl_finds_the_agent_without_flags(agent, client):
    status = json.loads(agent.exec("weirctl", "status", "-o", "json"))
    assert status["pods"]["enrolled"] == 1
    rows = json.loads(agent.exec("weirctl", "bpf", "pods", "-o", "json"))
    assert [row["pod"] for row in rows] == [f"default/{client.name}"]
